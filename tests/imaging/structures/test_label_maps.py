"""A label lands on the image's voxels where it lies in the patient, or is refused by name."""

from __future__ import annotations

import gzip
import json
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from iort_planner.errors import ImageError
from iort_planner.imaging.structures.read import Structure, list_structures, read_structure
from iort_planner.imaging.volume import ImageGrid
from tests.imaging.dicom_factory import OBLIQUE, Scan, slice_dataset
from tests.imaging.structure_factory import grid_of, lopsided, mutations, survive

sitk: Any = SimpleITK
DIRECTION = Rotation.from_euler("xyz", [7.0, -11.0, 28.0], degrees=True).as_matrix()


def read_label_map(path: Path, grid: ImageGrid, roi: str | None = None) -> Structure:
    return read_structure(path, grid, frames_of_reference=frozenset({"1.2.3"}), roi=roi)


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


def test_a_dicom_image_is_no_structure(tmp_path: Path) -> None:
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


# How the numbers are stored


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]),
    st.sampled_from(["nii", "nii.gz", "nrrd", "raw.nrrd"]),
    st.integers(0, 2**32 - 1),
)
def test_every_type_of_number_and_position_as_simpleitk_writes_them(
    tmp_path: Path, kind: str, ending: str, seed: int
) -> None:
    # An independent writer, random axes of either handedness, three spacings, sizes that differ.
    rng = np.random.default_rng(seed)
    axes = Rotation.random(None, rng).as_matrix()[:, rng.permutation(3)]
    grid = ImageGrid(
        size_voxels=(7, 6, 5),
        spacing_mm=rng.uniform(0.3, 3.0, 3),
        origin_lps_mm=rng.uniform(-300, 300, 3),
        direction=axes * rng.choice([-1.0, 1.0], size=3),
    )
    labels = rng.choice([0, 1, 100], size=grid.shape).astype(kind)
    labels[0, 0, 0] = 100
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.origin_lps_mm.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / f"a.{ending}"), ending != "raw.nrrd")
    found = read_label_map(tmp_path / f"a.{ending}", grid, "100")
    assert np.array_equal(found.mask, labels == 100)
    assert found.notes == ()  # the grids are the same, within a hundredth of a millimetre


def test_big_endian_and_scaled_nifti(tmp_path: Path) -> None:
    grid = image_grid(size=(7, 6, 5))
    labels = np.arange(210).reshape(5, 6, 7).astype("i2")
    whole = save(tmp_path / "a.nii", labels, grid).read_bytes()
    fields = struct.unpack("<i10s18sihcB8h3f4h8f3fhBB4f2i80s24s2h6f12f16s4s", whole[:348])
    big = struct.pack(">i10s18sihcB8h3f4h8f3fhBB4f2i80s24s2h6f12f16s4s", *fields) + bytes(4)
    (tmp_path / "big.nii").write_bytes(big + labels.astype(">i2").tobytes())
    assert np.array_equal(read_label_map(tmp_path / "big.nii", grid, "77").mask, labels == 77)
    scaled = bytearray(whole)
    scaled[112:120] = struct.pack("<2f", 2.0, -4.0)
    (tmp_path / "scaled.nii").write_bytes(scaled)
    assert np.array_equal(read_label_map(tmp_path / "scaled.nii", grid, "150").mask, labels == 77)
    metres = bytearray(whole)
    metres[123] = 1
    (tmp_path / "metres.nii").write_bytes(metres)
    with pytest.raises(ImageError, match="another unit than mm"):
        read_label_map(tmp_path / "metres.nii", grid, "77")


NRRD = """NRRD0004
# made by hand
type: short
dimension: 3
space: {space}
sizes: 4 3 2
space directions: (0,{sign}2,0) ({sign}0.5,0,0) (0,0,1.5)
kinds: domain domain domain
endian: big
encoding: raw
space origin: ({sign}10,{sign}20,30)
Segment0_Name:=Spinal canal
Segment0_LabelValue:=7
Segment1_Name:=Body
Segment1_LabelValue:=9
{more}
"""


@pytest.mark.parametrize(("space", "sign"), [("left-posterior-superior", ""), ("RAS", "-")])
def test_an_nrrd_by_hand_with_names_of_3d_slicer(tmp_path: Path, space: str, sign: str) -> None:
    labels = np.array([7, 0, 9, 9] * 6, dtype=">i2").reshape(2, 3, 4)
    path = tmp_path / "a.seg.nrrd"
    path.write_bytes(NRRD.format(space=space, sign=sign, more="").encode() + labels.tobytes())
    assert list_structures(path).rois == ((7, "Spinal canal"), (9, "Body"))
    axes = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
    grid = ImageGrid(
        size_voxels=(4, 3, 2),
        spacing_mm=np.array([2.0, 0.5, 1.5]),
        origin_lps_mm=np.array([10.0, 20.0, 30.0]),
        direction=axes,
    )
    found = read_label_map(path, grid)  # the only one with "canal" in its name
    assert (found.roi, found.kind) == ("7 Spinal canal", "label-map")
    assert np.array_equal(found.mask, labels == 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("type: short", "type: block"), "numbers of the type 'block'"),
        (("dimension: 3", "dimension: 4"), "4 dimensions"),
        (("encoding: raw", "encoding: bzip2"), "encoding 'bzip2'"),
        (("sizes: 4 3 2", "sizes: 4 3 0"), "sizes '4 3 0'"),
        (("sizes: 4 3 2", "sizes: 99999 99999 999"), "voxels, limit"),
        (("sizes: 4 3 2", "sizes: 4 3 3"), "it is cut off"),
        (("endian: big", "old: 1"), "no byte order"),
        (("(0,0,1.5)", "(0,0,nan)"), "no sound position"),
        (("(0,0,1.5)", "(0,0,1e300)"), "cannot place"),
        (("(0,0,1.5)", "(0,1,1.5)"), "not at right angles"),
        (("space: left", "space: scanner-left"), "not in patient axes"),
        (("endian: big", 'endian: big\nspace units: "m" "m" "m"'), "space units"),
        (("endian: big", "endian: big\nbyte skip: -1"), "skips part"),
        (("endian: big", "endian: big\ndata file: ../../secret.raw"), "not in one file beside it"),
        (("endian: big", "endian: big\ndata file: LIST"), "not in one file beside it"),
        (("endian: big", "endian: big\ndata file: link.raw"), "is not beside it"),
    ],
)
def test_nrrd_heads_that_do_not_fit_are_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    labels = np.array([7, 0, 9, 9] * 6, dtype=">i2")
    (tmp_path / "target.raw").write_bytes(labels.tobytes())
    (tmp_path / "link.raw").symlink_to(tmp_path / "target.raw")
    text = NRRD.format(space="left-posterior-superior", sign="", more="").replace(*change)
    (tmp_path / "a.nrrd").write_bytes(text.encode() + labels.tobytes())
    with pytest.raises(ImageError, match=message) as stop:
        list_structures(tmp_path / "a.nrrd")
    assert "\n" not in str(stop.value)


def test_an_image_is_no_label_map(tmp_path: Path) -> None:
    grid = image_grid()
    noise = np.random.default_rng(2).integers(-1000, 2000, grid.shape).astype(np.int16)
    with pytest.raises(ImageError, match="over 1000 different values: no label map"):
        read_label_map(save(tmp_path / "ct.nii.gz", noise, grid), grid, "1")
    with pytest.raises(ImageError, match=r"values from 0 to 70000: no label map"):
        read_label_map(save(tmp_path / "big.nii", np.full(grid.shape, 70000, np.int32) * (noise > 0), grid), grid)


# Real files


@pytest.mark.shared
@pytest.mark.parametrize("name", ["seg-subreg", "seg-vert"])
def test_labels_stored_sagittally(shared_data: Path, name: str) -> None:
    folder = shared_data / "tptbox_l3_1p5mm"
    image = sitk.ReadImage(str(folder / "sub-ct_label-22_ct.nii.gz"))
    grid = ImageGrid(
        size_voxels=image.GetSize(),
        spacing_mm=np.array(image.GetSpacing()),
        origin_lps_mm=np.array(image.GetOrigin()),
        direction=np.array(image.GetDirection()).reshape(3, 3),
    )
    path = folder / f"sub-ct_{name}_label-22_msk.nii.gz"
    listed = [number for number, _ in list_structures(path).rois]
    stored = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert listed == [int(v) for v in np.unique(stored) if v]
    for number in listed[:3]:
        assert np.array_equal(read_label_map(path, grid, str(number)).mask, stored == number)
    # The same label on an axial image of the same place: voxels of the file and of the image, by position.
    axial = ImageGrid(
        size_voxels=(60, 60, 60),
        spacing_mm=np.array([1.5, 1.5, 1.5]),
        origin_lps_mm=grid.corners_lps_mm().mean(axis=0) - 44.0,
        direction=np.eye(3),
    )
    found = read_label_map(path, axial, str(listed[0])).mask
    index = np.rint(grid.lps_to_index(axial.voxel_centres_lps_mm()[found])).astype(int)
    assert np.all(stored[index[:, 2], index[:, 1], index[:, 0]] == listed[0])


@pytest.mark.shared
def test_the_cord_of_totalsegmentator(shared_data: Path) -> None:
    folder = shared_data / "totalseg_t11_t12_j2k"
    truth = json.loads((folder / "cord_label_truth.json").read_text())["slices"]
    grid = ImageGrid(
        size_voxels=(120, 120, len(truth)),
        spacing_mm=np.array([0.9765625, 0.9765625, 2.0]),
        origin_lps_mm=np.array([*(np.array(truth[0]["centroid_lps_mm"][:2]) - 58.0), min(t["z_mm"] for t in truth)]),
        direction=np.eye(3),
    )
    found = read_label_map(folder / "labels_from_source.nii.gz", grid, "79")
    for one in truth:
        k = round((one["z_mm"] - grid.origin_lps_mm[2]) / 2.0)
        j, i = np.nonzero(found.mask[k])
        middle = grid.index_to_lps([i.mean(), j.mean(), k])
        assert np.linalg.norm(middle - one["centroid_lps_mm"]) < 0.5


# Hostile files


def _bomb(path: Path, unpacked: int) -> Path:
    grid = image_grid(size=(5, 5, 5))
    head = save(path.with_name("whole.nii"), np.ones(grid.shape, np.uint8), grid).read_bytes()
    path.write_bytes(gzip.compress(head + bytes(unpacked)))
    return path


def test_a_packed_file_that_unpacks_to_much_more_than_it_says(tmp_path: Path) -> None:
    start = time.perf_counter()
    with pytest.raises(ImageError, match="behind its voxels comes more"):
        read_label_map(_bomb(tmp_path / "bomb.nii.gz", 1 << 27), image_grid())
    assert time.perf_counter() - start < 5
    # An endless head of the packed data themselves.
    (tmp_path / "name.nii.gz").write_bytes(b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * (1 << 24))
    with pytest.raises(ImageError, match="longer than what they hold"):
        read_label_map(tmp_path / "name.nii.gz", image_grid())


def test_nothing_is_written_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = image_grid()
    path = save(tmp_path / "labels.nii.gz", ball(grid, CENTRE, 6.0), grid).rename(tmp_path / "labels")
    monkeypatch.setattr(tempfile, "mkdtemp", _never)
    monkeypatch.setattr(tempfile, "mkstemp", _never)
    before = sorted(tmp_path.iterdir())
    read_label_map(path, grid)
    assert sorted(tmp_path.iterdir()) == before


def _never(*_: object, **__: object) -> str:
    raise AssertionError("a temporary file was asked for")


def _plain(data: bytes) -> bytes:
    return data


@pytest.mark.parametrize(
    ("ending", "wrap", "unwrap"),
    [("nii", _plain, _plain), ("nii.gz", gzip.compress, gzip.decompress), ("nrrd", _plain, _plain)],
)
def test_damaged_label_maps_end_in_a_mask_or_a_refusal(
    tmp_path: Path, ending: str, wrap: Callable[[bytes], bytes], unwrap: Callable[[bytes], bytes]
) -> None:
    scan = Scan(axes=OBLIQUE)
    whole = unwrap(save(tmp_path / f"a.{ending}", lopsided(scan).astype(np.uint8), grid_of(scan)).read_bytes())
    head = 352 if ending != "nrrd" else whole.index(b"\n\n")
    damaged = [wrap(data + whole[head:]) for data in mutations(whole[:head], 250, 4)]
    damaged += mutations(wrap(whole), 150, 5)
    ends = survive(tmp_path / "damaged", grid_of(scan), damaged)
    assert min(ends.values()) > 20
