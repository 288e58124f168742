"""A label lands on the image's voxels where it lies in the patient, or is refused by name."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from iort_planner.errors import ImageError
from iort_planner.imaging.structures import read_label_map
from iort_planner.imaging.volume import ImageGrid

from .dicom_factory import Scan, slice_dataset

sitk: Any = SimpleITK
DIRECTION = Rotation.from_euler("xyz", [7.0, -11.0, 28.0], degrees=True).as_matrix()


def image_grid(
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), size: tuple[int, int, int] = (40, 36, 30)
) -> ImageGrid:
    return ImageGrid(
        size_voxels=size,
        spacing_mm=np.array(spacing),
        origin_lps_mm=np.array([-9.0, 22.0, -140.0]),
        direction=DIRECTION,
    )


def ball(grid: ImageGrid, centre_mm: npt.NDArray[np.float64], radius_mm: float) -> npt.NDArray[np.uint8]:
    """Drawn from the patient coordinates alone, so it is the same ball on every grid."""
    inside: npt.NDArray[np.bool_] = np.linalg.norm(grid.voxel_centres_lps_mm() - centre_mm, axis=-1) <= radius_mm
    return inside.astype(np.uint8)


def save(path: Path, labels: npt.NDArray[Any], grid: ImageGrid) -> Path:
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.origin_lps_mm.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


CENTRE = image_grid().index_to_lps([18.3, 21.1, 12.4])


@pytest.mark.parametrize("kind", ["nii.gz", "nii", "nrrd", "nhdr"])
def test_the_same_grid_gives_the_same_voxels(tmp_path: Path, kind: str) -> None:
    grid = image_grid()
    labels = ball(grid, CENTRE, 6.0)
    found = read_label_map(save(tmp_path / f"labels.{kind}", labels, grid), grid)
    assert np.array_equal(found.mask, labels == 1)
    assert (found.roi, found.frame_verified, found.notes) == ("1", False, ())
    assert np.allclose(found.spacing_mm, grid.spacing_mm)
    assert not found.mask.flags.writeable


@pytest.mark.parametrize("spacing", [(0.4, 0.6, 0.7), (0.7, 0.9, 0.5)])
def test_another_grid_is_resampled_to_where_the_label_lies(tmp_path: Path, spacing: tuple[float, float, float]) -> None:
    turned = ImageGrid(
        size_voxels=(70, 64, 60),
        spacing_mm=np.array(spacing),
        origin_lps_mm=CENTRE - DIRECTION[:, [1, 2, 0]] @ (np.array(spacing) * [35, 32, 30]),
        direction=DIRECTION[:, [1, 2, 0]],
    )
    path = save(tmp_path / "labels.nii.gz", ball(turned, CENTRE, 6.0), turned)
    grid = image_grid()
    label_map = read_label_map(path, grid)
    assert np.allclose(label_map.spacing_mm, spacing)  # of the file, not of the image
    found = label_map.mask
    expected = ball(grid, CENTRE, 6.0) == 1
    # Nearest neighbour may move the surface by half a voxel diagonal of the label's grid, and no further.
    reach = float(np.linalg.norm(spacing)) / 2 + 1e-3
    sure_inside, sure_outside = ball(grid, CENTRE, 6.0 - reach) == 1, ball(grid, CENTRE, 6.0 + reach) == 0
    assert found[sure_inside].all()
    assert not found[sure_outside].any()
    assert found.sum() == pytest.approx(expected.sum(), rel=0.05)


def test_permuted_and_flipped_axes_lose_no_voxel(tmp_path: Path) -> None:
    grid = image_grid()
    labels = ball(grid, CENTRE, 6.0)
    flipped = ImageGrid(
        size_voxels=(30, 40, 36),
        spacing_mm=np.ones(3),
        origin_lps_mm=grid.index_to_lps([0, 35, 0]),
        direction=np.column_stack([DIRECTION[:, 2], DIRECTION[:, 0], -DIRECTION[:, 1]]),
    )
    stored = labels[:, ::-1, :].transpose(1, 2, 0)  # axes of the file: k, i, reversed j
    found = read_label_map(save(tmp_path / "a.nrrd", np.ascontiguousarray(stored), flipped), grid)
    assert np.array_equal(found.mask, labels == 1)


def test_a_label_is_chosen_by_its_number(tmp_path: Path) -> None:
    grid = image_grid()
    labels = ball(grid, CENTRE, 8.0) * 3
    labels[ball(grid, CENTRE, 4.0) == 1] = 79
    path = save(tmp_path / "a.nii.gz", labels, grid)
    assert np.array_equal(read_label_map(path, grid, "79").mask, labels == 79)
    with pytest.raises(ImageError, match=r"2 structures, without names \(3, 79\); choose one with --canal-roi"):
        read_label_map(path, grid)
    with pytest.raises(ImageError, match=r"no structure '4' in .*it holds 3, 79"):
        read_label_map(path, grid, "4")
    with pytest.raises(ImageError, match=r"no structure 'canal' in .*it holds 3, 79"):
        read_label_map(path, grid, "canal")


def test_the_kind_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    grid = image_grid()
    labels = ball(grid, CENTRE, 6.0)
    for kind in ("nii.gz", "nii", "nrrd"):
        wrong = save(tmp_path / f"right.{kind}", labels, grid).rename(tmp_path / f"{kind[:3]} canal 管.dat")
        assert np.array_equal(read_label_map(wrong, grid).mask, labels == 1), kind


def test_outside_and_partly_outside(tmp_path: Path) -> None:
    grid = image_grid()
    away = ImageGrid(
        size_voxels=grid.size_voxels,
        spacing_mm=grid.spacing_mm,
        origin_lps_mm=grid.origin_lps_mm + DIRECTION[:, 2] * 500,
        direction=DIRECTION,
    )
    labels = ball(grid, CENTRE, 6.0)
    with pytest.raises(ImageError, match=r"lies outside the image: it spans LPS \[.* the image LPS \["):
        read_label_map(save(tmp_path / "far.nii.gz", labels, away), grid)
    half = grid.crop((0, 0, 12), grid.size_voxels)
    found = read_label_map(save(tmp_path / "half.nii.gz", labels, grid), half)
    assert np.array_equal(found.mask, labels[12:] == 1)
    assert any("% of its voxels lie outside" in note for note in found.notes)


def test_files_that_are_no_label_map(tmp_path: Path) -> None:
    grid = image_grid()
    with pytest.raises(ImageError, match="no such file"):
        read_label_map(tmp_path / "none.nii.gz", grid)
    with pytest.raises(ImageError, match="every voxel is 0"):
        read_label_map(save(tmp_path / "zero.nii", np.zeros(grid.shape, np.uint8), grid), grid)
    fractions = ball(grid, CENTRE, 6.0).astype(np.float32) * 0.5
    with pytest.raises(ImageError, match="not whole numbers"):
        read_label_map(save(tmp_path / "f.nii", fractions, grid), grid)
    with pytest.raises(ImageError, match="is MetaImage, which is not supported"):
        read_label_map(save(tmp_path / "a.mha", ball(grid, CENTRE, 6.0), grid), grid)
    (tmp_path / "text.nii.gz").write_text("hello")
    with pytest.raises(ImageError, match="is no structure file"):
        read_label_map(tmp_path / "text.nii.gz", grid)
    (tmp_path / "other.nii.gz").write_bytes(gzip.compress(b"hello" * 100))
    with pytest.raises(ImageError, match="gzip file without NIfTI"):
        read_label_map(tmp_path / "other.nii.gz", grid)


@pytest.mark.parametrize("kind", ["nii.gz", "nii", "nrrd"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
def test_a_cut_off_file_is_never_read_as_far_as_it_goes(tmp_path: Path, kind: str, share: float) -> None:
    grid = image_grid()
    noise = np.random.default_rng(1).integers(0, 2, grid.shape).astype(np.uint8)
    path = save(tmp_path / f"cut.{kind}", noise, grid)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ImageError, match=r"cannot read .*cut\."):
        read_label_map(path, grid)


def test_an_image_is_no_structure(tmp_path: Path) -> None:
    slice_dataset(Scan(), 0).save_as(tmp_path / "rt.dcm", enforce_file_format=True)
    with pytest.raises(ImageError, match=r"CT Image Storage\) without structures"):
        read_label_map(tmp_path / "rt.dcm", image_grid())


def test_a_label_map_must_say_where_it_lies_once(tmp_path: Path) -> None:
    grid = image_grid()
    whole = bytearray(save(tmp_path / "a.nii", ball(grid, CENTRE, 6.0), grid).read_bytes())
    nowhere = whole.copy()
    nowhere[252:256] = bytes(4)
    (tmp_path / "nowhere.nii").write_bytes(nowhere)
    with pytest.raises(ImageError, match="says no position in the patient"):
        read_label_map(tmp_path / "nowhere.nii", grid)
    twice = whole.copy()
    (x,) = struct.unpack("<f", twice[268:272])
    twice[268:272] = struct.pack("<f", x + 3.0)  # the qform's offset alone
    (tmp_path / "twice.nii").write_bytes(twice)
    with pytest.raises(ImageError, match=r"two positions .* differ by 3\.00 mm"):
        read_label_map(tmp_path / "twice.nii", grid)
    text = save(tmp_path / "a.nrrd", ball(grid, CENTRE, 6.0), grid).read_bytes()
    (tmp_path / "nospace.nrrd").write_bytes(text.replace(b"space: left-posterior-superior\n", b"space dimension: 3\n"))
    with pytest.raises(ImageError, match="NRRD without 'space'"):
        read_label_map(tmp_path / "nospace.nrrd", grid)
