"""The files: valid CT images, read back equal, and repeatable."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest

from iort_planner.errors import OutputError
from iort_planner.imaging.series import load_series
from iort_planner.phantom import Phantom, PhantomSpec, build, write_phantom

ACQUIRED = datetime(2026, 11, 22, 9, 30, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def written(small: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_phantom(small, folder, acquired_at=ACQUIRED)
    return folder


def dciodvfy() -> str:
    beside = Path(sys.executable).with_name("dciodvfy")
    found = str(beside) if beside.exists() else shutil.which("dciodvfy")
    assert found is not None, "dciodvfy comes with the test extra (dicom3tools)"
    return found


def test_dciodvfy_finds_no_error(written: Path) -> None:
    slices = sorted((written / "scan").glob("*.dcm"))
    for path in (slices[0], slices[len(slices) // 2], slices[-1]):
        result = subprocess.run([dciodvfy(), "-new", str(path)], capture_output=True, text=True, check=False)
        messages = result.stdout + result.stderr
        assert "CTImage" in messages  # it did recognise the file
        assert "Error" not in messages, messages


def test_dciodvfy_finds_no_error_in_an_oblique_series(oblique_spec: PhantomSpec, tmp_path: Path) -> None:
    grid = dataclasses.replace(oblique_spec.grid, size_voxels=(80, 80, 48))
    write_phantom(build(dataclasses.replace(oblique_spec, grid=grid)), tmp_path, acquired_at=ACQUIRED)
    result = subprocess.run(
        [dciodvfy(), "-new", str(tmp_path / "scan" / "slice_0040.dcm")], capture_output=True, text=True, check=False
    )
    assert "CTImage" in result.stderr + result.stdout
    assert "Error" not in result.stderr + result.stdout


def test_the_series_reads_back_equal(small: Phantom, written: Path) -> None:
    image = load_series(written / "scan")
    assert np.array_equal(image.volume.values, small.volume.values)
    assert image.volume.grid.same_as(small.volume.grid, tolerance_mm=1e-6)
    assert image.volume.hu_calibrated
    assert image.volume.frame_of_reference_uid == small.volume.frame_of_reference_uid
    assert image.patient_position == "HFP"
    assert image.patient.id == "PHANTOM"
    assert image.modality == "CT"


def test_slices_are_those_of_a_prone_patient_in_order(written: Path, small: Phantom) -> None:
    paths = sorted((written / "scan").glob("*.dcm"))
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    assert [int(h.InstanceNumber) for h in headers] == list(range(1, small.volume.grid.shape[0] + 1))
    assert np.all(np.diff([float(h.ImagePositionPatient[2]) for h in headers]) > 0)
    assert [float(c) for c in headers[0].ImageOrientationPatient] == [-1, 0, 0, 0, -1, 0]
    assert [float(d) for d in headers[0].PixelSpacing] == [1.1, 1.0]  # rows apart, then columns
    assert len({h.SOPInstanceUID for h in headers}) == len(headers)
    assert len({h.SeriesInstanceUID for h in headers}) == 1
    assert headers[0].AcquisitionDate == "20261122"
    assert headers[0].BitsStored == 12


def test_writing_again_gives_the_same_bytes(written: Path, small_spec: PhantomSpec, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_phantom(
        build(small_spec, seed=3), tmp_path, acquired_at=ACQUIRED, progress=lambda n, total: calls.append((n, total))
    )
    for path in sorted(written.rglob("*")):
        if path.is_file():
            assert (tmp_path / path.relative_to(written)).read_bytes() == path.read_bytes()
    assert calls == [(n, 48) for n in range(1, 49)]


def test_truth_json_is_the_truth(written: Path, small: Phantom) -> None:
    content = json.loads((written / "truth.json").read_text(encoding="utf-8"))
    assert content == json.loads(json.dumps(small.truth.to_dict()))


def test_a_folder_that_is_not_there_is_one_error(small: Phantom, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_phantom(small, tmp_path / "absent", acquired_at=ACQUIRED)
