"""Each example is a script under 80 lines that runs, says what it shows, and stops with one line on bad input."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
DATA = EXAMPLES / "data"


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    # numpy 2.5 warns of scikit-image 0.26's marching cubes, see pyproject.toml
    warnings = ["-W", "error", "-W", "ignore::DeprecationWarning:skimage.measure._marching_cubes_lewiner"]
    command = [sys.executable, *warnings, str(EXAMPLES / name), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def assert_stopped(done: subprocess.CompletedProcess[str]) -> None:
    """Exit status 2 and one line that says why."""
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "error: " in done.stderr


@pytest.fixture(scope="module")
def planned(small_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plan in it, without pictures."""
    from iort_planner import PlanRequest, plan_scan

    folder = tmp_path_factory.mktemp("plans")
    plan_scan(folder / "one", PlanRequest(path=small_phantom / "scan", pictures=False))
    return folder


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_an_example_is_short_says_how_to_run_it_and_what_it_is_not_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert len(text.splitlines()) < 80
    assert f"python examples/{path.name}" in text
    assert "print(INTENDED_USE)" in text
    assert "not for treating patients" in text


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_wrong_command_line_is_one_line(path: Path) -> None:
    assert_stopped(run(path.name, "--no-such-option"))


def test_plan_a_scan_plans_the_small_phantom_and_stops_clearly_on_nothing(small_phantom: Path, tmp_path: Path) -> None:
    done = run("plan_a_scan.py", small_phantom / "scan", tmp_path / "plan")
    assert (done.returncode, done.stderr) == (0, "")
    assert "8 Gy at" in done.stdout
    assert (tmp_path / "plan" / "report.pdf").stat().st_size > 10_000

    assert_stopped(run("plan_a_scan.py", tmp_path / "nothing", tmp_path / "plan-2"))
    assert_stopped(run("plan_a_scan.py", small_phantom / "scan", tmp_path / "plan-2", "--dose", "800"))
    assert not (tmp_path / "plan-2").exists()


def test_what_a_tip_error_does_shows_the_steepness_and_draws_it(tmp_path: Path) -> None:
    from PIL import Image

    done = run("what_a_tip_error_does.py", tmp_path / "tip.png")

    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    row = next(words for words in lines if words[:1] == ["8.0"])
    assert float(row[3]) == pytest.approx(11.4, abs=0.1)  # 8 Gy times (8/7)^2.65
    # the 95 % band: 1.96 of 0.5 mm nearer and farther than 10 mm, in the table's own curve near r^-2.75
    row = next(words for words in lines if words[:1] == ["0.50"])
    for low, high in ((row[1], row[3]), (row[4], row[6])):  # folded, drawn
        assert float(low) == pytest.approx(8.0 * (10 / 10.98) ** 2.75, abs=0.15)
        assert float(high.strip(",")) == pytest.approx(8.0 * (10 / 9.02) ** 2.65, abs=0.15)
    with Image.open(tmp_path / "tip.png") as picture:
        colours = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
    assert len(colours) > 100

    assert_stopped(run("what_a_tip_error_does.py", tmp_path / "tip.png", tmp_path / "none.csv"))


def test_monthly_table_qa_names_an_origin_slip_and_stops_on_nothing(tmp_path: Path) -> None:
    from tests.qa.tables import GRID, Table, noise, power

    (tmp_path / "history").mkdir()
    accepted = Table().write(tmp_path / "history" / "accepted.csv")
    slipped = Table(rate=power(GRID + 0.3) * noise(1, 0.2, GRID.size)).write(tmp_path / "measured.csv")
    outputs = "".join(
        f"2026-{month:02d}-01,{ratio:.4f}\n" for month, ratio in zip(range(1, 11), noise(2, 0.3, 10), strict=True)
    )
    (tmp_path / "history" / "outputs.csv").write_text("date,output_ratio\n" + outputs, encoding="utf-8")

    done = run("monthly_table_qa.py", slipped, accepted, tmp_path / "history", tmp_path / "out")
    assert (done.returncode, done.stderr) == (1, "")
    assert "the tables differ by: origin (slip +0.30 mm" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["check.json", "compare.json", "trend.json"]

    assert_stopped(run("monthly_table_qa.py", tmp_path / "none.csv", accepted, tmp_path / "history", tmp_path / "out"))


def test_commissioning_multiplies_the_spreadsheets_and_signs_in_a_record_of_its_own(tmp_path: Path) -> None:
    done = run(
        "commission_a_source.py", DATA / "bare-probe.csv", DATA / "needle-over-bare.csv", tmp_path / "out", "A. B"
    )

    assert (done.returncode, done.stderr) == (0, "")
    # read by hand: decimal commas to points; the row at 8 mm, and the rows that the transfer function covers
    bare = dict(row.split(";")[:2] for row in (DATA / "bare-probe.csv").read_text("utf-8-sig").splitlines()[14:])
    factor = dict(
        row.split(";")[:2] for row in (DATA / "needle-over-bare.csv").read_text("utf-8-sig").splitlines()[12:]
    )
    rows = [
        line.split(",") for line in (tmp_path / "out" / "table.csv").read_text("utf-8").splitlines() if line[0] != "#"
    ]
    made = {r: float(rate) for r, rate, _ in rows[1:]}
    for r in ("4", "8", "30"):
        expected = float(bare[r].replace(",", ".")) * float(factor[r].replace(",", "."))
        assert made[r] == pytest.approx(expected, rel=1e-12)
    assert [float(r) for r in made] == [r for r in sorted(float(r) for r in bare) if 4.0 <= r <= 30.0]
    entries = (tmp_path / "out" / "record" / "acceptances.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(entry)["by"] for entry in entries] == ["A. B"]
    assert not (Path(os.environ["IORT_PLANNER_HOME"]) / "acceptances.jsonl").exists()

    assert_stopped(run("commission_a_source.py", DATA / "bare-probe.csv", DATA / "bare-probe.csv", tmp_path / "out-2"))


def test_another_needle_moves_the_source_by_what_its_drawing_says(small_phantom: Path, tmp_path: Path) -> None:
    done = run("a_custom_applicator.py", DATA / "other-needle.toml", small_phantom / "scan", tmp_path / "out")

    assert (done.returncode, done.stderr) == (0, "")
    plans = {
        name: json.loads((tmp_path / "out" / name / "plan.json").read_text("utf-8")) for name in ("reference", "own")
    }
    tips, sources = (
        {name: np.array(plan["needles"][0][key]) for name, plan in plans.items()}
        for key in ("tip_lps_mm", "source_lps_mm")
    )
    assert tips["own"] == pytest.approx(tips["reference"], abs=0.05)
    assert np.linalg.norm(sources["own"] - sources["reference"]) == pytest.approx(0.8, abs=0.05)

    wrong = tmp_path / "wrong.toml"
    wrong.write_text((DATA / "other-needle.toml").read_text("utf-8").replace("= 2.2", "= 7.0"), encoding="utf-8")
    assert_stopped(run("a_custom_applicator.py", wrong, small_phantom / "scan", tmp_path / "out-2"))


def test_a_folder_of_phantoms_is_planned_and_compared_with_its_truth(small_phantom: Path, tmp_path: Path) -> None:
    shutil.copytree(small_phantom, tmp_path / "cases" / "good")
    shutil.copytree(small_phantom, tmp_path / "cases" / "holed")
    slices = sorted((tmp_path / "cases" / "holed" / "scan").iterdir())
    slices[len(slices) // 2].unlink()

    done = run("plan_a_folder_of_phantoms.py", tmp_path / "cases", tmp_path / "out")

    assert (done.returncode, done.stderr) == (1, "")  # one of the two cannot be planned
    with (tmp_path / "out" / "cases.csv").open(encoding="utf-8", newline="") as file:
        good, holed = csv.DictReader(file)
    truth = json.loads((small_phantom / "truth.json").read_text("utf-8"))
    assert good["verdict"] in ("pass", "warn")
    assert float(good["canal_true_mm"]) == pytest.approx(truth["canal"]["distance_from_source_mm"], abs=0.005)
    assert abs(float(good["canal_mm"]) - float(good["canal_true_mm"])) < 1.0
    assert float(good["tip_error_mm"]) < 1.0
    assert (holed["case"], holed["verdict"]) == ("holed", "none")
    assert "slice" in holed["problem"]

    assert_stopped(run("plan_a_folder_of_phantoms.py", tmp_path / "out", tmp_path / "out-2"))


def test_plans_become_rows_and_one_changed_by_hand_is_left_out(planned: Path, tmp_path: Path) -> None:
    shutil.copytree(planned / "one", tmp_path / "plans" / "one")
    content = json.loads((planned / "one" / "plan.json").read_text("utf-8"))
    content["result"]["dwell_time_s"] += 60.0
    (tmp_path / "plans" / "changed").mkdir()
    (tmp_path / "plans" / "changed" / "plan.json").write_text(json.dumps(content), encoding="utf-8")

    done = run("plans_to_a_table.py", tmp_path / "plans", tmp_path / "plans.csv")

    assert done.returncode == 1
    assert done.stderr.startswith("left out: ")
    assert "changed" in done.stderr
    with (tmp_path / "plans.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["plan"] == "one"
    assert float(row["dwell_time_s"]) == content["result"]["dwell_time_s"] - 60.0

    done = run("plans_to_a_table.py", planned, tmp_path / "all.csv")
    assert (done.returncode, done.stderr) == (0, "")

    assert_stopped(run("plans_to_a_table.py", tmp_path / "plans" / "nothing", tmp_path / "none.csv"))
    assert not (tmp_path / "none.csv").exists()
