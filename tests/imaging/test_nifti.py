"""NIfTI files say the same of every voxel as the grid does, and are the same bytes each time."""

from __future__ import annotations

import gzip
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from iort_planner import __version__
from iort_planner.errors import OutputError
from iort_planner.imaging.nifti import write_nifti
from iort_planner.imaging.volume import ImageGrid

sitk: Any = SimpleITK


def grid(*, left_handed: bool = False, size: tuple[int, int, int] = (7, 6, 5)) -> ImageGrid:
    direction = Rotation.from_euler("xyz", [17.0, -31.0, 48.0], degrees=True).as_matrix()
    direction[:, 2] *= -1 if left_handed else 1
    return ImageGrid(
        size_voxels=size,
        spacing_mm=np.array([0.5, 0.8, 1.1]),
        origin_lps_mm=np.array([-99.4, 36.3, -679.8]),
        direction=direction,
    )


@pytest.mark.parametrize("left_handed", [False, True])
@pytest.mark.parametrize("name", ["a.nii.gz", "b.nii", "Größe 片.nii.gz"])
def test_another_reader_finds_every_voxel_at_its_place(tmp_path: Path, name: str, left_handed: bool) -> None:
    where = grid(left_handed=left_handed)
    values = np.random.default_rng(3).normal(size=where.shape).astype(np.float32)
    write_nifti(tmp_path / name, values, where)
    image = sitk.ReadImage(str(tmp_path / name))
    assert np.array_equal(sitk.GetArrayFromImage(image), values)
    for index in ((0, 0, 0), (6, 0, 0), (0, 5, 0), (0, 0, 4), (3, 2, 4)):
        # single precision in the file's head
        assert image.TransformIndexToPhysicalPoint(index) == pytest.approx(where.index_to_lps(index), abs=1e-3)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_nan_is_kept_in_the_file(tmp_path: Path) -> None:
    """Read from the bytes: SimpleITK itself reads NaN of a NIfTI file as 0."""
    values = np.full(grid().shape, np.nan, dtype=np.float32)
    values[1, 2, 3] = 8.0
    write_nifti(tmp_path / "a.nii.gz", values, grid())
    data = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    (offset,) = struct.unpack("<f", data[108:112])
    assert np.array_equal(np.frombuffer(data, "<f4", offset=int(offset)), values.ravel(), equal_nan=True)


def test_same_input_same_bytes_whatever_the_name_and_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.zeros(grid().shape, dtype=bool)
    mask[1:3, 2:4, 3:5] = True
    write_nifti(tmp_path / "a.nii.gz", mask, grid())
    monkeypatch.setattr(time, "time", lambda: 4e9)
    write_nifti(tmp_path / "b.nii.gz", mask.astype(np.uint8), grid())
    first, second = (tmp_path / "a.nii.gz").read_bytes(), (tmp_path / "b.nii.gz").read_bytes()
    assert first == second
    assert first[3:8] == bytes(5)  # gzip: no name, time 0
    assert sitk.ReadImage(str(tmp_path / "a.nii.gz")).GetPixelIDTypeAsString() == "8-bit unsigned integer"


def test_the_header_says_what_made_the_file_and_what_it_is_not_for(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii", np.full(grid().shape, 3, dtype=np.uint8), grid())
    description = (tmp_path / "a.nii").read_bytes()[148:228].rstrip(b"\0").decode("ascii")  # NIfTI-1: descrip

    assert description.startswith(f"iort_planner {__version__}")
    assert description.endswith("not for treating patients")


def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"shape \(7, 6, 5\) on a grid of \(5, 6, 7\)"):
        write_nifti(tmp_path / "a.nii", np.zeros((7, 6, 5), dtype=np.uint8), grid())
    with pytest.raises(OutputError, match="float64 is not written"):
        write_nifti(tmp_path / "a.nii", np.zeros((5, 6, 7)), grid())
    with pytest.raises(OutputError, match="name of a NIfTI file"):
        write_nifti(tmp_path / "a.mha", np.zeros((5, 6, 7), dtype=np.uint8), grid())
    with pytest.raises(OutputError, match="cannot be written"):
        write_nifti(tmp_path / "missing" / "a.nii.gz", np.zeros((5, 6, 7), dtype=np.uint8), grid())
    assert list(tmp_path.iterdir()) == []
