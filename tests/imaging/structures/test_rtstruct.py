"""Contours of an RT Structure Set become the voxels whose centres they enclose, or are refused by name."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset

from iort_planner.errors import ImageError
from iort_planner.imaging.structures.contour_planes import sort_contours
from iort_planner.imaging.structures.contours import contour_mask
from iort_planner.imaging.structures.read import list_structures, read_structure
from iort_planner.imaging.volume import ImageGrid
from tests.imaging.dicom_factory import OBLIQUE, Scan
from tests.imaging.structure_factory import (
    FRAME,
    KNOWN,
    Contour,
    DrawnRoi,
    X,
    Y,
    axial_grid,
    closed,
    drawn,
    grid_of,
    lopsided,
    mask_contours,
    mutations,
    read,
    ring,
    square,
    survive,
    write_rtstruct,
)

# Which structure, which frame of reference


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    contours = closed(*(square(6.0, z) for z in (-1.0, 0.0, 1.0)))
    names = [(1, "BODY"), (2, "7"), (7, "SpinalCanal"), (9, "Cord\x07 left"), (12, "cord left")]
    rois = [DrawnRoi(number=n, name=name, contours=contours) for n, name in names]
    return write_rtstruct(tmp_path_factory.mktemp("rs") / "several.dcm", rois)


@pytest.mark.parametrize(
    ("roi", "shown"),
    [(None, "7 SpinalCanal"), ("1", "1 BODY"), ("spinalcanal", "7 SpinalCanal"), ("Cord? left", "9 Cord? left")],
)
def test_a_structure_is_chosen_by_number_name_or_preference(several: Path, roi: str | None, shown: str) -> None:
    assert read(several, axial_grid(), roi).roi == shown


def test_a_choice_that_is_not_clear_lists_what_there_is(several: Path) -> None:
    with pytest.raises(ImageError, match=r"no structure 'heart' in .*1 BODY, 2 7, 7 SpinalCanal, 9 Cord\? left, 12"):
        read(several, axial_grid(), "heart")
    with pytest.raises(ImageError, match=r"'7' fits 2 structures .*7 SpinalCanal, 2 7.*give the number"):
        read(several, axial_grid(), "7")
    with pytest.raises(ImageError, match="none with 'tumour' in its name"):
        read_structure(several, axial_grid(), frames_of_reference=KNOWN, preferred="tumour")
    with pytest.raises(ImageError, match="2 with 'cord' in their name"):
        read_structure(several, axial_grid(), frames_of_reference=KNOWN, preferred="cord")


def test_listing(several: Path) -> None:
    listing = list_structures(several)
    assert (listing.kind, listing.frame_of_reference_uids) == ("rtstruct", (FRAME,))
    assert listing.rois[2:4] == ((7, "SpinalCanal"), (9, "Cord? left"))


def test_another_frame_of_reference_is_a_stop(several: Path) -> None:
    with pytest.raises(ImageError, match=rf"another frame of reference .*{FRAME}, image 1\.2\.3"):
        read(several, axial_grid(), "1", frozenset({"1.2.3"}))
    assert read(several, axial_grid(), "1", frozenset()).frame_verified is False
    assert read(several, axial_grid(), "1", frozenset({FRAME, "1.2.3"})).frame_verified is False
    with pytest.raises(ImageError, match="another frame"):
        read(several, axial_grid(), "1", frozenset({"1.2.3", "1.2.4"}))


def test_the_structure_s_own_frame_of_reference_counts(tmp_path: Path) -> None:
    contours = closed(*(square(6.0, z) for z in (-1.0, 0.0, 1.0)))
    rois = [
        DrawnRoi(number=1, name="here", contours=contours),
        DrawnRoi(number=2, name="elsewhere", contours=contours, frame_uid="1.2.3"),
        DrawnRoi(number=3, name="unsaid", contours=contours, frame_uid=""),
    ]
    path = write_rtstruct(tmp_path / "rs.dcm", rois)
    assert read(path, axial_grid(), "here").frame_verified
    assert read(path, axial_grid(), "unsaid").frame_verified  # the file's only one holds for it
    with pytest.raises(ImageError, match="another frame of reference"):
        read(path, axial_grid(), "elsewhere")

    def nowhere(data: FileDataset) -> None:
        del data.ReferencedFrameOfReferenceSequence

    assert not read(write_rtstruct(tmp_path / "no.dcm", rois, edit=nowhere), axial_grid(), "unsaid").frame_verified


# How it is written


def _implicit(data: FileDataset, path: Path) -> None:
    data.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)


def _big(data: FileDataset, path: Path) -> None:
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    whole = pydicom.dataset.FileDataset("", dict(data), file_meta=data.file_meta, preamble=b"\0" * 128)
    pydicom.dcmwrite(path, whole, enforce_file_format=True)


def _deflated(data: FileDataset, path: Path) -> None:
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)


def _bare(data: FileDataset, path: Path) -> None:
    pydicom.dcmwrite(path, pydicom.Dataset(data), implicit_vr=True, little_endian=True, enforce_file_format=False)


def _no_preamble(data: FileDataset, path: Path) -> None:
    data.save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[132:])


def _open_ended(data: FileDataset, path: Path) -> None:
    for entry in data.ROIContourSequence:
        entry["ContourSequence"].is_undefined_length = True
        for item in entry.ContourSequence:
            item.is_undefined_length_sequence_item = True
    for name in ("ROIContourSequence", "StructureSetROISequence"):
        data[name].is_undefined_length = True
        for item in data[name].value:
            item.is_undefined_length_sequence_item = True
    data.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("write", [_implicit, _big, _deflated, _bare, _no_preamble, _open_ended])
def test_every_coding_reads_alike(tmp_path: Path, write: Callable[[FileDataset, Path], None]) -> None:
    scan = Scan(axes=OBLIQUE)
    path = write_rtstruct(tmp_path / "ein Kanal 管.x", drawn(mask_contours(lopsided(scan), scan)), write=write)
    assert np.array_equal(read(path, grid_of(scan)).mask, lopsided(scan))


def test_names_in_other_alphabets(tmp_path: Path) -> None:
    def cyrillic(data: FileDataset) -> None:
        data.SpecificCharacterSet = "ISO_IR 192"

    contours = closed(*(square(6.0, z) for z in (-1.0, 0.0, 1.0)))
    path = write_rtstruct(tmp_path / "rs.dcm", drawn(contours, name="спинной Kanal Ü"), edit=cyrillic)
    assert list_structures(path).rois == ((3, "спинной Kanal Ü"),)


# Refusals


def _change(n: int, **values: object) -> Callable[[FileDataset], None]:
    def edit(data: FileDataset) -> None:
        for name, value in values.items():
            setattr(data.ROIContourSequence[0].ContourSequence[n], name, value)

    return edit


def _raw_points(text: bytes) -> Callable[[FileDataset], None]:
    def edit(data: FileDataset) -> None:
        contour = data.ROIContourSequence[0].ContourSequence[0]
        contour[0x30060050] = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(0x30060050), "DS", len(text), text, 0, False, True, True
        )

    return edit


def _tilted(data: FileDataset) -> None:
    points = [(x, y, x) for x, y, _ in square(6.0, 0.0)]
    data.ROIContourSequence[0].ContourSequence[1].ContourData = [v for p in points for v in p]


NUMBERS = b"-6\\-6\\0\\6\\-6\\0\\6\\6\\0\\-6\\6\\"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_change(0, NumberOfContourPoints=5), "has 12 numbers where 5 points need 15"),
        (_change(0, NumberOfContourPoints=2), "has 2 points, a closed one has at least 3"),
        (_change(0, NumberOfContourPoints=99999999), "limit 100000 points"),
        (_change(0, ContourOffsetVector=[0, 0, 1]), "Contour Offset Vector"),
        (_raw_points(NUMBERS + b"nan "), "has no sound numbers"),
        (_raw_points(NUMBERS + b"1e999 "), "has no sound numbers"),
        (_raw_points(NUMBERS + b"1_0 "), "has no sound numbers"),
        (_raw_points(NUMBERS + b"1e9 "), "1e[+]09 mm from the origin"),
        (_raw_points(NUMBERS + b"0.5 "), r"contour 1 is not flat, a point lies 0\.\d\d mm"),
        (_raw_points(b""), "has no sound numbers"),
        (_tilted, "do not lie in parallel planes"),
    ],
)
def test_malformed_contours_are_named(tmp_path: Path, edit: Callable[[FileDataset], None], message: str) -> None:
    path = write_rtstruct(tmp_path / "rs.dcm", drawn(closed(*(square(6.0, z) for z in (0.0, 1.0, 2.0)))), edit=edit)
    with pytest.raises(ImageError, match=message) as stop:
        read(path, axial_grid())
    assert "\n" not in str(stop.value)
    assert "Secret" not in str(stop.value)


@pytest.mark.parametrize(
    ("contours", "message"),
    [
        ([], "has no contour"),
        ([("POINT", square(1.0, 0.0)[:1]), ("OPEN_PLANAR", square(1.0, 0.0))], "OPEN_PLANAR, POINT contours only"),
        (closed(square(6.0, 0.0)), "drawn in one plane only"),
        (closed(square(6.0, -20.0), square(6.0, 0.0)), r"planes 20\.0 mm apart, limit 10 mm"),
        (closed(square(6.0, 300.0), square(6.0, 301.0)), r"lies outside the image: it spans LPS .* 301\] mm"),
        (closed(square(0.01, 0.0), square(0.01, 1.0)), "so small that no voxel centre"),
        (closed(np.array([(0, 0, 0), (1, 0, 0), (2, 0, 0)])), "one plane only"),
        (closed(np.array([(0, 0, 0), (1, 2, 3), (2, 4, 6.0)])), "points lie on a line"),
    ],
)
def test_contours_that_make_no_structure(tmp_path: Path, contours: list[Contour], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read(write_rtstruct(tmp_path / "rs.dcm", drawn(contours)), axial_grid())


def test_open_contours_beside_closed_ones_are_left_out_with_a_note(tmp_path: Path) -> None:
    contours = closed(*(square(6.0, z) for z in (0.0, 1.0)))
    found = read(write_rtstruct(tmp_path / "rs.dcm", drawn([*contours, ("POINT", np.zeros((1, 3)))])), axial_grid())
    assert found.notes == ("1 contour(s) that are not closed were left out (POINT)",)


def test_a_structure_that_leaves_the_image_says_how_far(tmp_path: Path) -> None:
    grid = axial_grid()
    contours = closed(*(ring((14.0, 0, z), 5.0, X, Y, 100) for z in (0.0, 1.0)))
    found = read(write_rtstruct(tmp_path / "rs.dcm", drawn(contours)), grid)
    outside = np.mean(ring((14.0, 0, 0), 5.0, X, Y, 100)[:, 0] > 15.0 - 0.6)
    assert found.mask[:, :, -1].any()
    (note,) = found.notes
    assert note.endswith("% of its contour points lie outside the image")
    assert float(note.split()[0]) == pytest.approx(100 * outside, abs=5)
    # A structure that holds the whole image has all its points outside and fills it.
    whole = closed(*(square(100.0, z) for z in np.arange(-18.0, 18.1, 2.0)))
    assert read(write_rtstruct(tmp_path / "whole.dcm", drawn(whole)), grid).mask.all()


# Files at hand


@pytest.mark.shared
def test_the_canal_of_a_real_scan(shared_data: Path) -> None:
    folder = shared_data / "lidc0314_lower_thoracic_1mm"
    first = pydicom.dcmread(sorted((folder / "ct").iterdir())[0], stop_before_pixels=True)
    truth = json.loads((folder / "canal_truth.json").read_text())["slices"]
    spacing = np.array([*map(float, first.PixelSpacing), 1.0])
    origin = np.array([*map(float, first.ImagePositionPatient[:2]), truth[0]["z_mm"]])
    grid = ImageGrid(size_voxels=(224, 224, 100), spacing_mm=spacing, origin_lps_mm=origin, direction=np.eye(3))
    found = read(folder / "rtstruct_canal.dcm", grid, frames=frozenset({str(first.FrameOfReferenceUID)}))
    assert (found.roi, found.frame_verified, found.notes) == ("1 SpinalCanal_semi_auto", True, ())
    apart, area = [], []
    for k, one in enumerate(truth):
        x, y = np.array(one["polygon_xy_mm"]).T
        cross = x * np.roll(y, -1) - np.roll(x, -1) * y
        centre = np.array([np.sum((a + np.roll(a, -1)) * cross) / (3 * cross.sum()) for a in (x, y)])
        j, i = np.nonzero(found.mask[k])
        apart.append(np.linalg.norm(grid.index_to_lps([i.mean(), j.mean(), k])[:2] - centre))
        area.append(i.size * spacing[0] * spacing[1] / (0.5 * abs(cross.sum())))
    # Counting pixels of 0.78 mm in some 230 mm2: a few per cent a slice, no bias.
    assert max(apart) < 0.2
    assert max(abs(a - 1) for a in area) < 0.05
    assert np.mean(area) == pytest.approx(1, abs=0.002)


@pytest.mark.shared
def test_a_structure_set_of_a_planning_system(shared_data: Path) -> None:
    path = shared_data / "dicompyler_rt" / "rtss.dcm"
    listing = list_structures(path)
    assert len(listing.rois) == 10
    assert listing.rois[4] == (5, "Heart")
    frame = pydicom.dcmread(path.parent / "ct.0.dcm", stop_before_pixels=True).FrameOfReferenceUID
    assert listing.frame_of_reference_uids == (str(frame),)
    # Contours in planes 3 mm apart on slices of 1 mm; the volume from the polygons' areas.
    data = pydicom.dcmread(path)
    area = 0.0
    for contour in data.ROIContourSequence[4].ContourSequence:
        x, y, _ = np.array(contour.ContourData, dtype=float).reshape(-1, 3).T
        area += 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
    grid = ImageGrid(
        size_voxels=(300, 300, 120),
        spacing_mm=np.array([0.5, 0.5, 1.0]),
        origin_lps_mm=np.array([-72.0, -347.0, -110.3]),
        direction=np.eye(3),
    )
    found = read(path, grid, "Heart", frozenset({str(frame)}))
    assert found.frame_verified
    assert found.mask.sum() * 0.25 == pytest.approx(3.0 * area, rel=0.01)
    with pytest.raises(ImageError, match=r"structure 2 Areola of .* has no contour"):
        read(path, grid, "2", frozenset())


# Hostile files


def _implicit_element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


HEAD = _implicit_element(0x00080016, b"1.2.840.10008.5.1.4.1.1.481.3\0")
EMPTY_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (_implicit_element(0x30060020, EMPTY_ITEM * 2_000_000), "over 1500000"),
        (_implicit_element(0x30060020, EMPTY_ITEM * 3000), "holds 3000 structures, limit 2000"),
        (struct.pack("<HHI", 0x3006, 0x0020, 0xFFFFFFFF) + EMPTY_ITEM, "ends within a sequence"),
        (struct.pack("<HHIHHI", 0x3006, 0x20, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF) * 40, "more than 12 deep"),
        (struct.pack("<HHI", 0x3006, 0x0020, 0x7FFFFFFF), "says 2147483647 bytes"),
        (_implicit_element(0x00100010, b"Secret^Name "), "holds no structure"),
    ],
    ids=["items", "structures", "cut", "deep", "long", "none"],
)
def test_files_that_are_larger_deeper_or_shorter_than_they_say(tmp_path: Path, body: bytes, message: str) -> None:
    path = tmp_path / "rs.dcm"
    path.write_bytes(HEAD + body)
    start = time.perf_counter()
    with pytest.raises(ImageError, match=message) as stop:
        list_structures(path)
    assert time.perf_counter() - start < 10
    assert "Secret" not in str(stop.value)


def test_contours_that_zigzag_are_stopped(tmp_path: Path) -> None:
    up = np.tile([-14.0, 14.0], 45_000)
    across = np.linspace(-14.0, 14.0, up.size)
    contours = [np.stack([across, up, np.full(up.size, z)], axis=1) for z in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)]
    grid = axial_grid((0.3, 0.3, 0.3))
    start = time.perf_counter()
    with pytest.raises(ImageError, match="cross the image's rows over"):
        contour_mask(sort_contours(contours, grid, "it"), grid, "it")
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("write", [None, _implicit, _open_ended])
def test_damaged_files_end_in_a_mask_or_a_refusal(
    tmp_path: Path, write: Callable[[FileDataset, Path], None] | None
) -> None:
    scan = Scan(axes=OBLIQUE, size=(9, 8, 6))
    rois = drawn(mask_contours(lopsided(scan), scan), number=1)
    whole = write_rtstruct(tmp_path / "rs.dcm", rois, write=write).read_bytes()
    ends = survive(tmp_path / "damaged.dcm", grid_of(scan), mutations(whole, 400, 1))
    assert min(ends.values()) > 5  # the damage is neither always seen nor never


@pytest.mark.parametrize("second", ["other points", "one decimal", "a draft inside"])
def test_a_contour_drawn_twice_leaves_no_hole(tmp_path: Path, second: str) -> None:
    scan = Scan(size=(60, 60, 7), spacing_mm=(0.5, 0.5, 3.0), origin_mm=(-15.0, -15.0, -9.0))
    u, v = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)

    def at(z: float, radius: float = 8.0, count: int = 200) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return ring((0.0, 0.0, z), radius, u, v, count)

    twice = {"other points": at(0.0, count=199), "one decimal": np.round(at(0.0), 1), "a draft inside": at(0.0, 7.9)}
    contours = [("CLOSED_PLANAR", at(3.0 * n)) for n in range(-2, 3)] + [("CLOSED_PLANAR", twice[second])]
    path = write_rtstruct(tmp_path / "rt.dcm", [DrawnRoi(number=1, name="canal", contours=contours)])
    found = read_structure(path, grid_of(scan), frames_of_reference=frozenset({FRAME}))
    filled = found.mask.sum(axis=(1, 2))
    assert filled[1] == filled[3] == filled[5]
    assert any("twice" in note for note in found.notes)
