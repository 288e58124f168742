"""A table file as text taken apart, before anything in it is judged: separators, decimal mark, head, header, rows.

The dialects of spreadsheets are known here and nowhere else. What can mean two things is not guessed: it is a finding
with the reason, and the text stays as it is.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from dataclasses import dataclass

from iort_planner.errors import DepthDoseTableError
from iort_planner.source.findings import Finding
from iort_planner.source.number_form import NumberForm, decide, with_point

HELP = "see docs/file-formats.md"
_SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas"}
_NUMERIC_KEYS = (  # head keys whose value holds numbers: they share the rows' decimal mark
    "tube_voltage_kv",
    "tube_current_ua",
    "uncertainty",
    "scale_uncertainty",
    "trusted_range_mm",
    "active_length_mm",
    "dose_rate_constant_cgy_per_h_u",
    "air_kerma_strength_u",
)
_MARKED = (  # byte order marks of what is no UTF-8; the longer ones first
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_UNITS = {  # unit in a column's name: how a unit row may write it
    "_mm": ("mm",),
    "_cm": ("cm",),
    "_gy_per_min": ("gy/min", "gy min-1", "gy·min-1", "gy min^-1", "gy·min⁻¹", "gy min⁻¹"),
    "_percent": ("%", "percent"),
    "_deg": ("deg", "°"),
}
_NO_UNIT = ("-", "1", "–")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableText:
    """What a table file says.

    Parameters
    ----------
    file : str
        Name of the file.
    sha256 : str
        Of its bytes.
    head : dict of str to (int, str)
        Value of each ``# key: value`` line with its line; a key given twice has its first value.
    header : (int, list of str)
        Line and cells of the header row.
    rows : list of (int, list of str)
        Line and cells of each further row; numbers with a decimal point.
    notes : tuple of str
        What was read otherwise than it stands there: separators, decimal comma, unit row.
    findings : tuple of Finding
        What is wrong with the text as such; empty for a good file.
    """

    file: str
    sha256: str
    head: dict[str, tuple[int, str]]
    header: tuple[int, list[str]]
    rows: list[tuple[int, list[str]]]
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def split_table(file: str, data: bytes) -> TableText:
    """Take a table file's bytes apart.

    Read besides commas and points: a UTF-8 byte order mark, semicolons or tabs between cells, quoted cells, decimal
    commas, a row of units under the header, separators at the end of head lines, Windows and old Mac line ends.

    Raises
    ------
    DepthDoseTableError
        If the file is no UTF-8 text, or has no header row with a row under it.
    """
    lines, notes = _lines(file, data)
    body = [(number, line) for number, line in lines if not _is_head(line)]
    separator, findings = _separator(body[0]) if body else (",", [])
    if separator != ",":
        notes.append(f"cells are separated by {_SEPARATORS[separator]}")
    head, remarks = _head([(number, line) for number, line in lines if _is_head(line)], separator)
    rows = []
    for number, line in body:
        cells, problem = _cells(line, separator)
        if problem:
            remarks.append(_fail("quotes", number, problem))
        if any(cells):  # a spreadsheet writes an empty row as bare separators
            rows.append((number, cells))
    if len(rows) < 2:
        raise DepthDoseTableError(
            f"table {file}: found {max(len(rows) - 1, 0)} rows, needs a header row and at least 2 rows of numbers; {HELP}"
        )
    header_line, header = rows[0][0], _without_padding(rows[0][1], 1)
    rows = [(number, _without_padding(cells, len(header))) for number, cells in rows[1:]]
    rows, unit_notes, unit_findings = _take_unit_row(header, rows)
    form = decide([*_head_numbers(head), *((n, cell) for n, cells in rows for cell in cells)], separator)
    if form.problem:
        findings.append(_fail("decimal-mark", form.line, form.problem))
    if form.comma:
        notes.append("numbers have a decimal comma")
    return TableText(
        file=file,
        sha256=hashlib.sha256(data).hexdigest(),
        head={key: (n, _pointed(text, form) if key in _NUMERIC_KEYS else text) for key, (n, text) in head.items()},
        header=(header_line, header),
        rows=[(n, [with_point(cell, form) for cell in cells]) for n, cells in rows],
        notes=(*notes, *unit_notes),
        findings=tuple(sorted([*findings, *remarks, *unit_findings], key=lambda finding: finding.line or 0)),
    )


def _fail(identifier: str, line: int | None, message: str) -> Finding:
    return Finding(id=identifier, status="fail", line=line, message=message)


def _lines(file: str, data: bytes) -> tuple[list[tuple[int, str]], list[str]]:
    """Numbered lines that hold something."""
    for mark, coding in _MARKED:
        if data.startswith(mark):
            raise DepthDoseTableError(f"table {file}: it is {coding} text; save it as CSV UTF-8; {HELP}")
    if b"\x00" in data:
        raise DepthDoseTableError(
            f"table {file}: it holds zero bytes, so it is no UTF-8 text (a spreadsheet's own file, or UTF-16?); "
            f"save it as CSV UTF-8; {HELP}"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DepthDoseTableError(
            f"table {file}: not a UTF-8 text file ({error.reason} at byte {error.start}); save it as CSV UTF-8; {HELP}"
        ) from error
    notes = ["a UTF-8 byte order mark was left out"] if data.startswith(b"\xef\xbb\xbf") else []
    numbered = enumerate((line.strip("\n") for line in io.StringIO(text, newline=None)), start=1)
    return [(number, line) for number, line in numbered if line.strip()], notes


def _is_head(line: str) -> bool:
    return line.lstrip().removeprefix('"').lstrip().startswith("#")


def _separator(header: tuple[int, str]) -> tuple[str, list[Finding]]:
    """The one separator in the header row; a column's name holds none."""
    number, line = header
    found = [separator for separator in _SEPARATORS if separator in line.strip(" ")]
    if len(found) > 1:
        names = " and ".join(_SEPARATORS[separator] for separator in found)
        return found[0], [_fail("separator", number, f"the header row has {names}; separate cells by one of them")]
    return (found[0] if found else ","), []


def _head(lines: list[tuple[int, str]], separator: str) -> tuple[dict[str, tuple[int, str]], list[Finding]]:
    head: dict[str, tuple[int, str]] = {}
    findings = []
    for number, raw in lines:
        line = raw.strip().rstrip(separator + " ")
        if line.startswith('"'):  # a spreadsheet quotes a cell that holds the separator or a quote
            cells, problem = _cells(line, separator)
            if problem:
                findings.append(_fail("quotes", number, problem))
            line = separator.join(cells)
        key, colon, value = line.strip().lstrip("# ").partition(":")
        if not colon:
            continue
        if key.strip() in head:
            findings.append(_fail("key-twice", number, f"{key.strip()!r} is given twice"))
            continue
        head[key.strip()] = (number, value.strip())
    return head, findings


def _cells(line: str, separator: str) -> tuple[list[str], str]:
    """Cells of a line, and what is wrong with its quotes."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, strict=True))], ""
    except csv.Error as error:
        cells = [cell.strip() for cell in line.split(separator)]
        return cells, f"a quoted cell cannot be read ({error}); close each quote on its line"


def _without_padding(cells: list[str], least: int) -> list[str]:
    """Cells without the empty ones with which a spreadsheet fills a row up to the sheet's width."""
    end = len(cells)
    while end > least and not cells[end - 1]:
        end -= 1
    return cells[:end]


def _take_unit_row(
    header: list[str], rows: list[tuple[int, list[str]]]
) -> tuple[list[tuple[int, list[str]]], list[str], list[Finding]]:
    """Leave out a row of units under the header; a unit that the column's name does not say is a fault."""
    line, cells = rows[0]
    if header[0] == "section" or not cells[0] or any(character.isdigit() for character in cells[0]):
        return rows, [], []
    findings = []
    for name, cell in zip(header, cells, strict=False):
        unit = cell.strip("[]() ").casefold()
        allowed = next((units for ending, units in _UNITS.items() if name.endswith(ending)), _NO_UNIT)
        if unit and unit not in allowed:
            findings.append(
                _fail(
                    "unit-row", line, f"the row under the header says {cell!r} under {name}, which is in {allowed[0]}"
                )
            )
    return rows[1:], [f"a row of units, {', '.join(cells)!r}, was left out"], findings


def _head_numbers(head: dict[str, tuple[int, str]]) -> list[tuple[int, str]]:
    return [(head[key][0], word) for key in _NUMERIC_KEYS if key in head for word in _words(head[key][1])]


def _words(text: str) -> list[str]:
    return re.findall(r"[0-9.,]+", text)


def _pointed(text: str, form: NumberForm) -> str:
    return re.sub(r"[0-9.,]+", lambda match: with_point(match[0], form), text)
