"""Each example is a script under 80 lines that runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    # numpy 2.5 warns of scikit-image 0.26's marching cubes, see pyproject.toml
    warnings = ["-W", "error", "-W", "ignore::DeprecationWarning:skimage.measure._marching_cubes_lewiner"]
    command = [sys.executable, *warnings, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short_and_says_how_to_run_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert len(text.splitlines()) < 80
    assert f"python examples/{path.name}" in text


def test_plan_a_scan_plans_the_small_phantom_and_stops_clearly_on_nothing(small_phantom: Path, tmp_path: Path) -> None:
    done = run("plan_a_scan.py", small_phantom / "scan", tmp_path / "plan")
    assert (done.returncode, done.stderr) == (0, "")
    assert "8 Gy at" in done.stdout
    assert (tmp_path / "plan" / "report.pdf").stat().st_size > 10_000

    done = run("plan_a_scan.py", tmp_path / "nothing", tmp_path / "plan-2")
    assert (done.returncode, done.stderr) == (2, "")
    assert "cannot plan:" in done.stdout


def test_what_a_tip_error_does_shows_the_steepness() -> None:
    done = run("what_a_tip_error_does.py")

    assert (done.returncode, done.stderr) == (0, "")
    row = next(line for line in done.stdout.splitlines() if line.strip().startswith("8.0"))
    assert float(row.split()[3]) == pytest.approx(11.4, abs=0.1)  # 8 Gy times (8/7)^2.65


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

    done = run("monthly_table_qa.py", tmp_path / "none.csv", accepted, tmp_path / "history", tmp_path / "out")
    assert (done.returncode, done.stderr) == (2, "")
    assert "cannot be judged:" in done.stdout
