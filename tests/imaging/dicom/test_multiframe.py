"""Multi-frame objects: Enhanced CT, Legacy Converted Enhanced CT, X-Ray 3D Angiographic; what is read, what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from iort_planner.errors import IortError
from iort_planner.imaging.series import ScanImage, load_series
from iort_planner.imaging.survey import inspect_path
from tests.imaging.dicom_factory import OBLIQUE, PRONE, Scan, ds, write_scan
from tests.imaging.multiframe_factory import (
    ENCAPSULATED,
    NATIVE,
    SOP_CLASSES,
    Frames,
    Kind,
    item,
    multiframe_dataset,
    save_as,
    write_concatenation,
    write_frames,
)

OBLIQUE_SCAN = Scan(axes=OBLIQUE)
SHUFFLED = (3, 0, 7, 5, 1, 6, 2, 4)
CODED: dict[Kind, str] = {"xa3d": "US", "xa-enhanced": "US"}


def agrees(image: ScanImage, scan: Scan) -> None:
    """Same values, voxel for voxel, at the same places."""
    grid = image.volume.grid
    assert grid.size_voxels == scan.size
    assert grid.spacing_mm == pytest.approx(scan.spacing_mm, abs=1e-6)
    last = tuple(n - 1 for n in scan.size)
    for index in ((0, 0, 0), (last[0], 0, 0), (0, last[1], 0), (0, 0, last[2]), last, (5, 3, 2)):
        assert grid.index_to_lps(index) == pytest.approx(scan.point(*index), abs=1e-4)
    np.testing.assert_array_equal(image.volume.values, scan.hu())


def refused(path: Path, *words: str) -> str:
    """Both ways in say no, in one line, with these words."""
    with pytest.raises(IortError) as caught:
        load_series(path)
    message = str(caught.value)
    assert "\n" not in message
    assert "Secret" not in message
    for word in words:
        assert word in message, message
    (report,) = inspect_path(path)
    assert not report.plannable
    return message


@pytest.mark.parametrize("kind", list(SOP_CLASSES))
def test_each_kind_is_read(tmp_path: Path, kind: Kind) -> None:
    write_frames(tmp_path / "image.dcm", OBLIQUE_SCAN, Frames(kind=kind, rescale_type=CODED.get(kind, "HU")))
    image = load_series(tmp_path)
    agrees(image, OBLIQUE_SCAN)
    assert image.kind == {"xa3d": "xa3d", "xa-enhanced": "other"}.get(kind, "ct-enhanced")
    assert image.modality == SOP_CLASSES[kind][1]
    assert image.volume.hu_calibrated == (kind in {"ct-enhanced", "ct-legacy"})
    assert image.patient_position == "HFS"
    assert image.volume.frame_of_reference_uid == OBLIQUE_SCAN.frame_uid
    (report,) = inspect_path(tmp_path)
    assert (report.kind, report.size_voxels, report.plannable) == (image.kind, OBLIQUE_SCAN.size, True)


@pytest.mark.parametrize(
    "how",
    [
        Frames(order=SHUFFLED),
        Frames(order=SHUFFLED[::-1], orientation="frame", measures="frame", transformation="frame"),
        Frames(orientation="both", measures="both", transformation="both"),
        Frames(order=SHUFFLED, defined_lengths=False),
        Frames(nested=12),
        Frames(nested=12, defined_lengths=False),
        Frames(signed=True, bits=12, kind="xa3d"),
        Frames(bits=12),
        Frames(stacks=3, order=SHUFFLED),  # Stack ID is no geometry: one regular stack is one volume
    ],
    ids=lambda how: ",".join(f"{k}={getattr(how, k)}" for k in how.__slots__) if hasattr(how, "__slots__") else None,
)
def test_order_and_place_of_the_groups_do_not_matter(tmp_path: Path, how: Frames) -> None:
    signed = Scan(axes=OBLIQUE, intercept=0.0) if how.signed else OBLIQUE_SCAN
    if how.signed:
        signed = Scan(axes=OBLIQUE, intercept=0.0, values=np.minimum(signed.hu(), 2000))
    write_frames(tmp_path / "image.dcm", signed, how)
    agrees(load_series(tmp_path), signed)


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("syntax", [*NATIVE, *ENCAPSULATED], ids=lambda uid: uid.name.replace(" ", ""))
def test_every_transfer_syntax(tmp_path: Path, syntax: UID, fragments: int) -> None:
    if fragments > 1 and syntax in (*NATIVE, ENCAPSULATED[0]):
        return  # nothing to cut in native pixels; RLE has one fragment a frame (DICOM PS3.5 A.4.2)
    write_frames(tmp_path / "image.dcm", OBLIQUE_SCAN, Frames(order=SHUFFLED), syntax=syntax, fragments=fragments)
    agrees(load_series(tmp_path), OBLIQUE_SCAN)


@pytest.mark.parametrize("table", ["empty", "extended"])
def test_frames_are_told_apart_without_a_basic_offset_table(
    tmp_path: Path, table: Literal["empty", "extended"]
) -> None:
    data = multiframe_dataset(OBLIQUE_SCAN, Frames(order=SHUFFLED))
    save_as(data, tmp_path / "image.dcm", ENCAPSULATED[3], offset_table=table)
    agrees(load_series(tmp_path), OBLIQUE_SCAN)


def test_rescale_of_each_frame_is_its_own(tmp_path: Path) -> None:
    how = Frames(order=SHUFFLED, transformation="frame", rescale=lambda k: (1.0 + k % 2, -1024.0 - 2 * k))
    scan = Scan(values=2 * np.rint(Scan().hu() / 2))
    write_frames(tmp_path / "image.dcm", scan, how)
    agrees(load_series(tmp_path), scan)


def test_fractional_rescale_of_each_frame(tmp_path: Path) -> None:
    slopes = [0.25 * (k + 1) for k in range(8)]
    how = Frames(transformation="frame", rescale=lambda k: (slopes[k], -1024.0), order=SHUFFLED)
    write_frames(tmp_path / "image.dcm", Scan(), how)
    image = load_series(tmp_path)
    for k, slope in enumerate(slopes):
        stored = np.rint((Scan().hu()[k] + 1024.0) / slope)
        np.testing.assert_allclose(image.volume.values[k], stored * slope - 1024.0, rtol=0, atol=1e-3)


@pytest.mark.parametrize("scheme", ["code", "code-srt"])
@pytest.mark.parametrize("name", ["HFS", "HFP", "HFDR", "HFDL", "FFS", "FFP", "FFDR", "FFDL"])
def test_patient_position_from_the_code_sequences(
    tmp_path: Path, name: str, scheme: Literal["code", "code-srt"]
) -> None:
    how = Frames(kind="xa3d", patient_position=scheme, position_name=name)
    write_frames(tmp_path / "image.dcm", Scan(axes=PRONE), how)
    image = load_series(tmp_path)
    assert image.patient_position == name
    assert not [p for p in image.problems if p.id == "patient-position-unknown"]
    agrees(image, Scan(axes=PRONE))


def test_absent_patient_position_warns(tmp_path: Path) -> None:
    write_frames(tmp_path / "image.dcm", Scan(), Frames(patient_position="absent"))
    image = load_series(tmp_path)
    assert [p.status for p in image.problems if p.id == "patient-position-unknown"] == ["warn"]


@pytest.mark.parametrize(
    ("kind", "rescale_type", "calibrated"),
    [("ct-enhanced", "HU", True), ("ct-enhanced", "US", False), ("ct-legacy", "HU", True), ("xa3d", "US", False)],
)
def test_hu_only_where_the_pixel_value_transformation_says_so(
    tmp_path: Path, kind: Kind, rescale_type: str, calibrated: bool
) -> None:
    how = Frames(kind=kind, rescale_type=rescale_type)
    write_frames(tmp_path / "image.dcm", Scan(), how)
    image = load_series(tmp_path)
    assert image.volume.hu_calibrated == calibrated
    assert bool([p for p in image.problems if p.id == "hu-not-calibrated"]) != calibrated


def test_without_a_pixel_value_transformation_nothing_is_hu(tmp_path: Path) -> None:
    write_frames(tmp_path / "image.dcm", Scan(), Frames(transformation="absent"))
    try:
        image = load_series(tmp_path)
    except IortError:
        return  # a named refusal is as safe
    assert not image.volume.hu_calibrated


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (Frames(position="absent"), ("image.dcm", "Position")),
        (Frames(orientation="absent"), ("image.dcm", "Orientation")),
        (Frames(measures="absent"), ("image.dcm", "Pixel Measures")),
    ],
)
def test_a_missing_group_is_named(tmp_path: Path, how: Frames, words: tuple[str, ...]) -> None:
    write_frames(tmp_path / "image.dcm", Scan(), how)
    refused(tmp_path, *words)


def _frame(data: FileDataset, number: int) -> FileDataset:
    group: FileDataset = data.PerFrameFunctionalGroupsSequence[number - 1]
    return group


def _no_position(data: FileDataset) -> None:
    del _frame(data, 4).PlanePositionSequence


def _empty_position(data: FileDataset) -> None:
    _frame(data, 4).PlanePositionSequence = []


def _short_position(data: FileDataset) -> None:
    _frame(data, 4).PlanePositionSequence[0].ImagePositionPatient = ["1", "2"]


def _far_position(data: FileDataset) -> None:
    position = _frame(data, 4).PlanePositionSequence[0]
    position.ImagePositionPatient = [ds(v + 5) for v in position.ImagePositionPatient]


def _same_position(data: FileDataset) -> None:
    _frame(data, 4).PlanePositionSequence = _frame(data, 6).PlanePositionSequence


def _turned(data: FileDataset) -> None:
    cosines = [ds(v) for axis in PRONE for v in axis]
    _frame(data, 4).PlaneOrientationSequence = [item(ImageOrientationPatient=cosines)]


def _other_spacing(data: FileDataset) -> None:
    _frame(data, 4).PixelMeasuresSequence = [item(PixelSpacing=[ds(1.3), ds(0.5)])]


@pytest.mark.parametrize(
    "edit", [_no_position, _empty_position, _short_position, _far_position, _same_position, _turned, _other_spacing]
)
def test_one_bad_frame_is_named(tmp_path: Path, edit: Callable[[FileDataset], None]) -> None:
    """Frame 4 (counted from 1, as DICOM counts) is wrong: the message names the file and a frame."""
    write_frames(tmp_path / "image.dcm", Scan(), Frames(orientation="frame", measures="frame"), edit=edit)
    message = refused(tmp_path, "image.dcm", "frame")
    assert any(number in message for number in ("4", "6", "1", "3", "5"))


def test_two_phases_are_refused_and_name_frames(tmp_path: Path) -> None:
    write_frames(tmp_path / "image.dcm", Scan(), Frames(phases=2))
    refused(tmp_path, "image.dcm", "frame", "position")


def test_fewer_groups_than_frames(tmp_path: Path) -> None:
    def edit(data: FileDataset) -> None:
        del data.PerFrameFunctionalGroupsSequence[-1]

    write_frames(tmp_path / "image.dcm", Scan(), edit=edit)
    refused(tmp_path, "image.dcm", "8", "7")


@pytest.mark.parametrize("frames", ["9", "2000000000", "-3", "0", "eight"])
def test_number_of_frames_that_does_not_fit(tmp_path: Path, frames: str) -> None:
    write_frames(tmp_path / "image.dcm", Scan())
    path = tmp_path / "image.dcm"
    right, wrong = b"\x28\0\x08\0IS\x02\x008 ", frames.encode() + b" " * (len(frames) % 2)
    data = path.read_bytes()
    assert data.count(right) == 1
    path.write_bytes(data.replace(right, right[:6] + len(wrong).to_bytes(2, "little") + wrong))
    refused(tmp_path, "image.dcm")


@pytest.mark.parametrize("parts", [2, 3])
def test_a_concatenation_is_one_volume(tmp_path: Path, parts: int) -> None:
    write_concatenation(tmp_path, OBLIQUE_SCAN, Frames(), parts)
    image = load_series(tmp_path)
    agrees(image, OBLIQUE_SCAN)
    (report,) = inspect_path(tmp_path)
    assert report.file_count == parts


def test_a_lost_part_of_a_concatenation_is_a_gap(tmp_path: Path) -> None:
    scan = Scan(size=(13, 11, 12))
    write_concatenation(tmp_path, scan, Frames(), 3)
    (tmp_path / "part1.dcm").unlink()
    refused(tmp_path, "missing")


def test_the_same_object_twice_is_one_volume_or_refused(tmp_path: Path) -> None:
    write_frames(tmp_path / "image.dcm", Scan())
    shutil.copy(tmp_path / "image.dcm", tmp_path / "copy.dcm")
    try:
        image = load_series(tmp_path)
    except IortError as error:
        message = str(error)
    else:
        agrees(image, Scan())  # identical copies may be left out
        return
    assert "copy.dcm" in message
    assert "\n" not in message


def test_classic_and_enhanced_beside_each_other_are_two_series(tmp_path: Path) -> None:
    classic = Scan(series_uid="1.2.3.4")
    write_scan(tmp_path / "a", classic)
    write_frames(tmp_path / "b" / "image.dcm", OBLIQUE_SCAN)
    assert {r.kind for r in inspect_path(tmp_path)} == {"ct", "ct-enhanced"}
    agrees(load_series(tmp_path, "1.2.3.4"), classic)
    agrees(load_series(tmp_path, OBLIQUE_SCAN.series_uid), OBLIQUE_SCAN)


def test_wrong_thickness_and_spacing_between_slices_are_not_read(tmp_path: Path) -> None:
    def edit(data: FileDataset) -> None:
        measures = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SliceThickness, measures.SpacingBetweenSlices = "0", "123456"

    write_frames(tmp_path / "image.dcm", OBLIQUE_SCAN, edit=edit)
    agrees(load_series(tmp_path), OBLIQUE_SCAN)


def test_a_single_file_is_enough(tmp_path: Path) -> None:
    write_frames(tmp_path / "Würbel 椎骨 1.dcm", OBLIQUE_SCAN)
    agrees(load_series(tmp_path / "Würbel 椎骨 1.dcm"), OBLIQUE_SCAN)
