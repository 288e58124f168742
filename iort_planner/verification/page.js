const table = document.getElementById("cases");
const rows = [...table.querySelectorAll(":scope > tbody")];
let last = -1, down = false;
table.querySelectorAll(":scope > thead button").forEach((button, n) => button.addEventListener("click", () => {
  down = n === last ? !down : false;
  last = n;
  rows.sort((a, b) => {
    const x = a.dataset["k" + n], y = b.dataset["k" + n];
    const order = button.dataset.number ? x - y : x.localeCompare(y);
    return down ? -order : order;
  });
  rows.forEach(row => table.appendChild(row));
}));
const word = document.getElementById("word"), which = document.getElementById("which"), count = document.getElementById("count");
function filter() {
  let shown = 0;
  rows.forEach(row => {
    const wanted = row.textContent.toLowerCase().includes(word.value.toLowerCase());
    row.hidden = !(wanted && (which.value === "" || row.dataset.k1 === which.value));
    shown += !row.hidden;
  });
  count.textContent = shown + " of " + rows.length + " cases";
}
word.addEventListener("input", filter);
which.addEventListener("change", filter);
filter();
