"""Bad input: exit status 2, one line that names the thing and the remedy, no traceback, nothing left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from iort_planner.cli.main import main

TABLE_HEAD = (
    "# name: t\n# kind: depth-dose\n# medium: water\n# reference_point: source-centre\n# scale: other\n"
    "# tube_voltage_kv: 50\n# tube_current_ua: 40\n# applicator: n\n# measured: 2026-10-01\n"
    "# uncertainty: 20 % (k=1)\n# clinical: no\n# origin: test\n"
)


@pytest.fixture(scope="module")
def truth(small_phantom: Path) -> dict[str, list[float]]:
    needle = json.loads((small_phantom / "truth.json").read_text(encoding="utf-8"))["needles"][0]
    return {"tip": needle["tip_lps_mm"], "axis": needle["axis_lps"]}


def stop(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object) -> str:
    """Run ``plan``, which must stop; its line."""
    out = folder / "plan"
    before = sorted(folder.rglob("*"))
    status = main(["plan", *map(str, arguments), "--out", str(out), "--quiet"])
    captured = capsys.readouterr()

    assert status == 2
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    assert sorted(folder.rglob("*")) == before
    return captured.err


def pose(truth: dict[str, list[float]]) -> list[object]:
    return ["--tip", *truth["tip"], "--axis", *truth["axis"]]


def test_a_path_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no-such-place" in stop(capsys, tmp_path, tmp_path / "no-such-place")


def test_an_empty_folder_and_one_without_images(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in stop(capsys, tmp_path, tmp_path / "empty")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("Dear colleague,", encoding="utf-8")
    assert "letters" in stop(capsys, tmp_path, tmp_path / "letters")


def test_a_series_with_a_missing_slice(capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path) -> None:
    gap = tmp_path / "Lücke 脊柱"
    shutil.copytree(small_phantom / "scan", gap)
    files = sorted(gap.iterdir())
    files[len(files) // 2].unlink()
    line = stop(capsys, tmp_path, gap)

    assert "mm" in line
    assert files[len(files) // 2 - 1].name in line or files[len(files) // 2 + 1].name in line


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ("distance_cm,dose_rate_gy_per_min\n0.3,90\n5.0,24\n", "unit"),
        ("distance_mm,dose_rate_gy_per_min\n8,7\n5,24\n", "does not increase"),
    ],
)
def test_a_table_in_the_wrong_unit_or_unsorted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path, rows: str, what: str
) -> None:
    (tmp_path / "table.csv").write_text(TABLE_HEAD + rows, encoding="utf-8")
    line = stop(capsys, tmp_path, small_phantom / "scan", "--source", tmp_path / "table.csv")

    assert "table.csv, line 1" in line
    assert what in line


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--dose", "0"], "--dose 0 Gy is outside 0.1 to 50 Gy"),
        (["--dose", "-8"], "--dose -8 Gy"),
        (["--dose", "nan"], "--dose nan"),
        (["--dose", "800"], "--dose 800 Gy"),
        (["--dose", "eight"], "'eight' is not a number"),
        (["--limit", "-1e-3"], "--limit -0.001 Gy"),
        (["--rbe", "0"], "--rbe 0 is outside 0.5 to 3"),
        (["--depth", "-inf"], "--depth -inf mm"),
        (["--depth-from", "skin"], "--depth-from"),
        (["--depth-from", "tip"], "give --depth too"),
        (["--canal", ""], "the path is empty"),
        (["--source", "no-table.csv"], "no-table.csv"),
        (["--applicator", "no-applicator.toml"], "no-applicator.toml"),
        (["--canal", "no-canal.nii.gz"], "no-canal.nii.gz"),
        (["--canal-roi", "1"], "--canal-roi"),
        (["--canal-point", "0", "0", "9999"], "--canal-point"),
        (["--needle-hint", "0", "0", "9999"], "--needle-hint"),
        (["--tip", "0", "0", "0"], "--tip and --axis belong together"),
        (["--axis", "0", "0", "1"], "--tip and --axis belong together"),
        (["--tip", "9999", "0", "0", "--axis", "0", "0", "1"], "lies outside the image, which spans LPS"),
        (["--tip", "nan", "0", "0", "--axis", "0", "0", "1"], "lies outside the image"),
        (["--series", "1.2.3"], "1.2.3"),
        (["--engine", "pencil-beam"], "--engine"),
        (["--no-such-option"], "--no-such-option"),
        (["--dep", "8"], "unrecognized arguments: --dep"),
    ],
)
def test_bad_options(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path, options: list[str], what: str
) -> None:
    assert what in stop(capsys, tmp_path, small_phantom / "scan", *options)


def test_a_depth_beyond_the_table_and_an_axis_without_length(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path, truth: dict[str, list[float]]
) -> None:
    assert "never extrapolated" in stop(capsys, tmp_path, small_phantom / "scan", *pose(truth), "--depth", 500)
    assert "length above zero" in stop(
        capsys, tmp_path, small_phantom / "scan", "--tip", *truth["tip"], "--axis", 0, 0, 0
    )


def test_an_output_folder_that_cannot_be_written_or_holds_something_else(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path
) -> None:
    assert main(["plan", str(small_phantom / "scan"), "--out", "/proc/nowhere/plan", "--quiet"]) == 2
    assert "/proc/nowhere/plan" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert main(["plan", str(small_phantom / "scan"), "--out", str(tmp_path), "--quiet"]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    "arguments", [[], ["plan"], ["nonsense"], ["plan", "x"], ["qa"], ["qa", "check"], ["console", "x"]]
)
def test_bad_usage_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert "--help" in captured.err


def test_an_unforeseen_error_is_still_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("iort_planner.imaging.survey.survey_path", broken)
    monkeypatch.delenv("IORT_PLANNER_DEBUG", raising=False)
    assert main(["inspect", str(tmp_path)]) == 2
    assert "internal error (ZeroDivisionError: a fault of ours)" in capsys.readouterr().err
