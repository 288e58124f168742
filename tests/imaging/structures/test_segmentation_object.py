"""The frames of a DICOM segmentation land on the image's voxels where they lie in the patient."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset

from iort_planner.errors import ImageError
from iort_planner.imaging.structures.read import Structure, list_structures, read_structure
from iort_planner.imaging.volume import ImageGrid
from tests.imaging.dicom_factory import FLIPPED, OBLIQUE, ORIENTATIONS, SAGITTAL, Scan, ds, slice_dataset
from tests.imaging.structure_factory import (
    FRAME,
    KNOWN,
    Edit,
    Mask,
    SegFrame,
    frames_of,
    grid_of,
    lopsided,
    mutations,
    survive,
    write_seg,
)


def read(path: Path, scan: Scan, roi: str | None = None, frames: frozenset[str] = KNOWN) -> Structure:
    return read_structure(path, grid_of(scan), frames_of_reference=frames, roi=roi)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_frames_give_the_mask_back(tmp_path: Path, orientation: str, kind: str) -> None:
    # 13 x 11 pixels: a frame of bits does not end at a byte.
    scan = Scan(axes=ORIENTATIONS[orientation])
    mask = lopsided(scan)
    scale = 60 if kind == "FRACTIONAL" else 1
    frames = [replace(f, pixels=f.pixels.astype(np.uint8) * scale) for f in frames_of(mask, scan)]
    found = read(write_seg(tmp_path / "seg.dcm", frames, scan, kind=kind), scan)
    assert np.array_equal(found.mask, mask)
    assert (found.roi, found.kind, found.frame_verified) == ("1 canal", "seg", True)
    assert np.allclose(found.spacing_mm, scan.spacing_mm)
    assert not found.mask.flags.writeable


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(ORIENTATIONS)))
def test_sparse_frames_in_any_order_of_several_segments(tmp_path: Path, seed: int, orientation: str) -> None:
    rng = np.random.default_rng(seed)
    scan = Scan(axes=ORIENTATIONS[orientation])
    masks = [rng.random((8, 11, 13)) < 0.3 for _ in range(3)]  # they overlap
    for mask in masks:
        mask[rng.choice(8, size=3, replace=False)] = False
    masks[0][2:5, 3, 3] = True
    frames = [f for n, mask in enumerate(masks, start=1) for f in frames_of(mask, scan, n, sparse=True)]
    frames = [frames[n] for n in rng.permutation(len(frames))]
    path = write_seg(tmp_path / "seg.dcm", frames, scan, names=("a", "b", "c"))
    assert list_structures(path).rois == ((1, "a"), (2, "b"), (3, "c"))
    for n, mask in enumerate(masks, start=1):
        assert np.array_equal(read(path, scan, str(n)).mask, mask)


def test_another_orientation_than_the_image(tmp_path: Path) -> None:
    # Sagittal frames, on their own spacings, of a ball in an axial image.
    image = Scan(size=(40, 36, 30), spacing_mm=(0.5, 0.6, 0.8))
    centre = image.point(19.3, 17.2, 14.6)
    own = Scan(
        axes=SAGITTAL,
        size=(50, 48, 40),
        spacing_mm=(0.4, 0.45, 0.5),
        origin_mm=tuple(centre + np.array([9.7, -9.9, 10.8])),
    )

    def ball(scan: Scan, radius: float) -> Mask:
        inside: Mask = np.linalg.norm(grid_of(scan).voxel_centres_lps_mm() - centre, axis=-1) <= radius
        return inside

    path = write_seg(tmp_path / "seg.dcm", frames_of(ball(own, 6.0), own, sparse=True), own)
    found = read(path, image)
    reach = float(np.linalg.norm(own.spacing_mm)) / 2 + 1e-3
    assert found.mask[ball(image, 6.0 - reach)].all()
    assert not found.mask[~ball(image, 6.0 + reach)].any()
    assert found.mask.sum() == pytest.approx(ball(image, 6.0).sum(), rel=0.03)
    assert found.notes == ("resampled to the image's grid (nearest neighbour)",)
    assert np.allclose(found.spacing_mm, own.spacing_mm)


def test_frames_from_the_feet_up_or_down(tmp_path: Path) -> None:
    image = Scan()
    mask = lopsided(image)
    turned = replace(image, axes=FLIPPED, origin_mm=tuple(image.point(12, 0, 7)))
    frames = frames_of(mask[::-1, :, ::-1], turned, sparse=True)
    assert np.array_equal(read(write_seg(tmp_path / "seg.dcm", frames, turned), image).mask, mask)


def test_a_half_and_more_counts_in_a_fractional_one(tmp_path: Path) -> None:
    scan = Scan(size=(5, 1, 2))
    pixels = np.array([[0, 99, 100, 101, 200]])
    frames = [SegFrame(segment=1, position_mm=scan.point(0, 0, k), pixels=pixels) for k in (0, 1)]
    found = read(write_seg(tmp_path / "seg.dcm", frames, scan, kind="FRACTIONAL", largest=200), scan)
    assert found.mask.tolist() == [[[False, False, True, True, True]]] * 2


def test_positions_with_two_decimals_over_many_frames(tmp_path: Path) -> None:
    # The least gap is a hundredth short: counted in it, frame 150 would be one plane off.
    scan = Scan(size=(6, 5, 160), spacing_mm=(0.5, 0.8, 0.7143), origin_mm=(1.0, 2.0, 3.0))
    mask = np.zeros((160, 5, 6), dtype=np.bool_)
    mask[[*range(20), *range(148, 160)], 2, 1:4] = True
    frames = [replace(f, position_mm=np.round(f.position_mm, 2)) for f in frames_of(mask, scan, sparse=True)]
    assert np.array_equal(read(write_seg(tmp_path / "seg.dcm", frames, scan), scan).mask, mask)


# Written by others


def _highdicom_seg(scan: Scan, planes: np.ndarray[Any, Any], **options: Any) -> FileDataset:
    """A segmentation that highdicom makes from classic slices; ``planes`` are in the order of the slices."""
    hd = pytest.importorskip("highdicom")
    codes = pytest.importorskip("pydicom.sr.codedict").codes
    sources = []
    for k in range(scan.size[2]):
        source = slice_dataset(scan, k, instance=k + 1)
        source.StudyID, source.AccessionNumber, source.ReferringPhysicianName = "1", "", ""
        source.StudyDate, source.StudyTime, source.SeriesNumber = "20260102", "030405", 1
        source.PositionReferenceIndicator = ""
        sources.append(source)
    count = planes.shape[-1] if planes.ndim == 4 else 1
    described = [
        hd.seg.SegmentDescription(
            segment_number=n,
            segment_label=f"part {n}",
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.SpinalCord,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for n in range(1, count + 1)
    ]
    made: FileDataset = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=planes,
        segment_descriptions=described,
        series_instance_uid=f"{scan.series_uid}.5",
        series_number=5,
        sop_instance_uid=f"{scan.series_uid}.6",
        instance_number=1,
        manufacturer="tests",
        manufacturer_model_name="tests",
        software_versions="1",
        device_serial_number="1",
        **options,
    )
    return made


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("orientation", ["axial", "flipped", "oblique"])
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom", "ignore::DeprecationWarning")
def test_what_highdicom_writes(tmp_path: Path, orientation: str, kind: str) -> None:
    scan = Scan(axes=ORIENTATIONS[orientation])
    mask = lopsided(scan)
    planes = mask.astype(float) * 0.7 if kind == "FRACTIONAL" else mask.astype(np.uint8)
    _highdicom_seg(scan, planes, segmentation_type=kind).save_as(tmp_path / "seg.dcm")
    found = read(tmp_path / "seg.dcm", scan)
    assert np.array_equal(found.mask, mask)
    assert found.frame_verified


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom", "ignore::DeprecationWarning")
def test_overlapping_segments_of_highdicom(tmp_path: Path) -> None:
    scan = Scan(axes=OBLIQUE)
    first, second = lopsided(scan), np.roll(lopsided(scan), 2, axis=1)
    planes = np.stack([first, second], axis=-1).astype(np.uint8)
    _highdicom_seg(scan, planes, segmentation_type="BINARY").save_as(tmp_path / "two.dcm")
    assert np.array_equal(read(tmp_path / "two.dcm", scan, "part 1").mask, first)
    assert np.array_equal(read(tmp_path / "two.dcm", scan, "part 2").mask, second)


@pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
def test_rle(tmp_path: Path, kind: str) -> None:
    # Compressed by pydicom's own encoder: gdcm's ended the process on frames this small.
    scan = Scan(axes=OBLIQUE)

    def write(data: FileDataset, path: Path) -> None:
        data.compress(pydicom.uid.RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        data.save_as(path, enforce_file_format=True)

    frames = frames_of(lopsided(scan), scan)
    path = write_seg(tmp_path / "seg.dcm", frames, scan, kind=kind, largest=1, write=write)
    assert np.array_equal(read(path, scan).mask, lopsided(scan))
    whole = path.read_bytes()
    ends = survive(tmp_path / "damaged.dcm", grid_of(scan), mutations(whole, 200, 3))
    assert min(ends.values()) > 5


# Refusals


def test_the_frame_of_reference(tmp_path: Path) -> None:
    scan = Scan()
    path = write_seg(tmp_path / "seg.dcm", frames_of(lopsided(scan), scan), scan)
    with pytest.raises(ImageError, match=rf"another frame of reference .*{FRAME}, image 1\.2\.3"):
        read(path, scan, frames=frozenset({"1.2.3"}))
    assert not read(path, scan, frames=frozenset()).frame_verified
    assert list_structures(path).frame_of_reference_uids == (FRAME,)
    bare = write_seg(tmp_path / "bare.dcm", frames_of(lopsided(scan), scan), replace(scan, frame_uid=""))
    assert not read(bare, scan).frame_verified


def _set(**values: object) -> Edit:
    def edit(data: FileDataset) -> None:
        for name, value in values.items():
            setattr(data, name, value)

    return edit


def _per_frame(n: int, change: Callable[[Dataset], None]) -> Edit:
    return lambda data: change(data.PerFrameFunctionalGroupsSequence[n])


def _move(by: tuple[float, float, float]) -> Callable[[Dataset], None]:
    def change(group: Dataset) -> None:
        place = group.PlanePositionSequence[0]
        place.ImagePositionPatient = [ds(float(a) + b) for a, b in zip(place.ImagePositionPatient, by, strict=True)]

    return change


def _turn(group: Dataset) -> None:
    orientation = Dataset()
    orientation.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
    group.PlaneOrientationSequence = [orientation]


def _no_position(group: Dataset) -> None:
    del group.PlanePositionSequence


def _nan_position(group: Dataset) -> None:
    place = group.PlanePositionSequence[0]
    place[0x00200032] = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag(0x00200032), "DS", 8, b"0\\0\\nan ", 0, False, True, True
    )


def _syntax(data: FileDataset) -> None:
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    data.PixelData = pydicom.encaps.encapsulate([b"\0\0"] * 8)
    data["PixelData"].is_undefined_length = True


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_set(Rows=1100), "has 144 bytes of pixels where 8 frames of 13 x 1100 pixels need 14300"),
        (_set(Rows=65535, Columns=65535), "bytes of pixels where 8 frames of 65535 x 65535|spans .* voxels, limit"),
        (_set(Rows=0), "Rows, Columns or Number of Frames are missing or 0"),
        (_set(NumberOfFrames=1_000_000_000), "has 1000000000 frames, limit"),
        (_set(NumberOfFrames=7), "8 functional groups for 7 frames"),
        (_set(BitsAllocated=8), "8 bits a pixel, which is no BINARY"),
        (_set(SegmentationType="OTHER"), "segmentation type OTHER"),
        (_set(SegmentSequence=[]), "holds no segment"),
        (_per_frame(2, _move((0.0, 0.0, 0.5))), "whole multiples of"),
        (_per_frame(2, _move((0.3, 0.0, 0.0))), r"0\.30 mm aside of each other"),
        (_per_frame(2, _move((0.0, 0.0, -1.1))), "two frames at one position"),
        (_per_frame(2, _move((0.0, 0.0, 1e9))), "limits 0.01 to 100|whole multiples|limit 134217728"),
        (_per_frame(2, _turn), "different orientation"),
        (_per_frame(2, _no_position), "frame 3 has no sound position"),
        (_per_frame(2, _nan_position), "frame 3 has no sound position"),
        (_syntax, "JPEG 2000 Image Compression .* is not supported"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, edit: Edit, message: str) -> None:
    scan = Scan()
    path = write_seg(tmp_path / "seg.dcm", frames_of(lopsided(scan), scan), scan, edit=edit)
    with pytest.raises(ImageError, match=message) as stop:
        read(path, scan)
    assert "\n" not in str(stop.value)
    assert "Secret" not in str(stop.value)


def test_segments_without_a_voxel(tmp_path: Path) -> None:
    scan = Scan()
    frames = frames_of(lopsided(scan), scan)
    path = write_seg(
        tmp_path / "seg.dcm",
        [*frames, *frames_of(frames[0].pixels[None].repeat(8, 0) & False, scan, 3)],
        scan,
        names="abc",
    )
    with pytest.raises(ImageError, match=r"segment 2 b of .* has no frame"):
        read(path, scan, "b")
    with pytest.raises(ImageError, match=r"segment 3 c of .* is empty"):
        read(path, scan, "c")
    away = replace(scan, origin_mm=(500.0, 0.0, 0.0))
    with pytest.raises(ImageError, match=r"segment 1 a of .* lies outside the image"):
        read(path, away, "a")
    with pytest.raises(ImageError, match="one position only"):
        read(write_seg(tmp_path / "one.dcm", frames[2:3], scan), scan)


# Hostile files


def test_a_segmentation_of_thousands_of_frames_is_quick(tmp_path: Path) -> None:
    scan = Scan(size=(16, 16, 2000))
    mask = np.zeros((2000, 16, 16), dtype=np.bool_)
    mask[:, 4:9, 5:11] = True
    path = write_seg(tmp_path / "seg.dcm", frames_of(mask, scan), scan)
    start = time.perf_counter()
    assert np.array_equal(read(path, scan).mask, mask)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_damaged_files_end_in_a_mask_or_a_refusal(tmp_path: Path, kind: str) -> None:
    scan = Scan(axes=OBLIQUE, size=(9, 8, 6))
    whole = write_seg(tmp_path / "seg.dcm", frames_of(lopsided(scan), scan), scan, kind=kind, largest=1).read_bytes()
    grid: ImageGrid = grid_of(scan)
    ends = survive(tmp_path / "damaged.dcm", grid, mutations(whole, 900, 2))
    assert min(ends.values()) > 20
