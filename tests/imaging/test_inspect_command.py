"""``inspect`` prints one JSON document, or a report for people; its exit status says what can be planned."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset

from iort_planner import INTENDED_USE
from iort_planner.cli import inspect as command
from iort_planner.errors import ImageError

from .dicom_factory import OBLIQUE, ROOT, Scan, write_scan
from .structure_factory import DrawnRoi, lopsided, mask_contours, write_rtstruct


def inspect(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_subparser(parser.add_subparsers())
    args = parser.parse_args(["inspect", *arguments])
    status = args.func(args)
    assert isinstance(status, int)
    return status


def test_json_is_one_document_with_the_keys_of_the_interface(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scan(tmp_path)
    assert inspect(str(tmp_path), "--json") == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    assert document["schema"] == "iort-planner/inspect/1"
    (series,) = document["series"]
    assert series["series_uid"] == f"{ROOT}.1"
    assert (series["kind"], series["modality"]) == ("ct", "CT")
    assert (series["size_voxels"], series["spacing_mm"]) == ([13, 11, 8], [0.5, 0.8, 1.1])
    assert (series["hu_calibrated"], series["plannable"], series["problems"]) == (True, True, [])


def test_exit_status_says_whether_one_can_be_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scan(tmp_path / "thick", Scan(spacing_mm=(0.5, 0.8, 4.0), series_uid=f"{ROOT}.5"))
    assert inspect(str(tmp_path), "--json") == 1
    (series,) = json.loads(capsys.readouterr().out)["series"]
    assert [(p["id"], p["status"]) for p in series["problems"]] == [("scan-coarse", "fail")]
    write_scan(tmp_path / "thin")
    assert inspect(str(tmp_path)) == 0
    with pytest.raises(ImageError):
        inspect(str(tmp_path / "nowhere"))


def test_the_report_for_people_is_aligned_and_ends_with_the_intended_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scan(tmp_path, Scan(spacing_mm=(0.5, 0.8, 2.0)))
    assert inspect(str(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    text = "\n".join(lines)
    for part in (
        f"{ROOT}.1",
        "13 x 11 x 8",
        "0.5 x 0.8 x 2 mm",
        "HFS",
        "2026-01-02T03:04:05",
        "scan-coarse",
        "made for tests",
    ):
        assert part in text
    assert lines[0] == f"{tmp_path}: 1 image series, 1 can be planned"
    assert lines[2] == "[1] can be planned"
    columns = {len(line) - len(line[15:].lstrip()) for line in lines[3:14]}
    assert columns == {15}
    assert "axes         i to L, j to P, k to S" in text
    assert "HFS (head first, supine)" in text
    assert f"iort-planner plan {tmp_path} --out PLAN" in text
    assert lines[-1] == INTENDED_USE
    assert "Secret" not in text


def test_what_can_be_planned_comes_first_and_failures_before_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scan(tmp_path / "a", Scan(series_uid=f"{ROOT}.1", spacing_mm=(0.5, 0.8, 4.0), frame_uid=""))
    write_scan(tmp_path / "b", Scan(series_uid=f"{ROOT}.2", axes=OBLIQUE))
    assert inspect(str(tmp_path)) == 0
    text = capsys.readouterr().out
    assert text.index(f"{ROOT}.2\n") < text.index(f"{ROOT}.1\n")
    assert "oblique by" in text
    assert text.index("FAIL         scan-coarse") < text.index("WARN         frame-of-reference-unknown")


def test_structure_files_are_listed_with_the_series_they_are_drawn_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = write_scan(tmp_path)
    write_rtstruct(
        tmp_path / "rt.dcm", [DrawnRoi(number=3, name="SpinalCanal", contours=mask_contours(lopsided(scan), scan))]
    )
    assert inspect(str(tmp_path), "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["structures"]
    assert found == {
        "name": "rt.dcm",
        "kind": "rtstruct",
        "rois": [{"number": 3, "name": "SpinalCanal"}],
        "series_uids": [f"{ROOT}.1"],
        "problem": "",
    }
    assert inspect(str(tmp_path)) == 0
    assert "holds        3 SpinalCanal\n  drawn on     the frame of reference of series 1" in capsys.readouterr().out


def test_text_from_a_file_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def edit(k: int, data: FileDataset) -> None:
        data.add_new(0x0008103E, "LO", "red\x07 \x9b31m")
        data.SpecificCharacterSet = "ISO_IR 192"

    write_scan(tmp_path, edit=edit)
    inspect(str(tmp_path))
    out = capsys.readouterr().out
    assert "\x07" not in out
    assert "\x9b" not in out


def test_importing_the_command_loads_no_imaging_library() -> None:
    code = (
        "import sys, iort_planner.cli.inspect; "
        "print([m for m in ('numpy', 'pydicom', 'SimpleITK', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
