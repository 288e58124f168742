"""What users of comparable tools complain about, each as a fixture of its own: read right here, or stopped by name.

The numbers are those of the project's list of such complaints (section 2 of its notes on peers). Every series is oblique
and has three different spacings; truth is `Scan.point`, which writes out DICOM PS3.3 C.7.6.2.1.1. What is refused goes
through the command line: exit status 2, one line that names it, and nothing written.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from iort_planner.cli.main import main
from iort_planner.imaging.series import load_series
from iort_planner.imaging.structures.read import read_structure
from iort_planner.imaging.survey import inspect_path, survey_path

from .dicom_factory import FLIPPED, OBLIQUE, ROOT, SAGITTAL, Scan, ds, slice_dataset, store, write_scan
from .multiframe_factory import Frames, write_frames
from .reading import SCAN, TOLERANCE_MM, Stop, agrees, every
from .structure_factory import DrawnRoi, lopsided, mask_contours, write_rtstruct
from .test_position_matrix import TABLE_AXES, make_scan

ASKED = [*range(1, 15), *range(16, 20), 22, 24, *range(30, 34), 36, 39, 44]
# What a point asks beyond reading a scan, and where that is or why it is not yet.
ELSEWHERE = {
    3: "a second reader as reference: test_real_series.py and test_real_formats.py compare with SimpleITK",
    17: "all eight positions with every kind of object: test_position_matrix.py; here a short form",
    30: "the encoded scale factor of a dose: no dose is written as DICOM yet",
    31: "dose near 65535: no dose is read yet; here 16-bit pixels",
    32: "both forms of the frame offset vector: no dose is read yet, and the relative form is for the export to come",
    33: "dose type, summation and units on import: no dose is read yet",
}

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")
covered: dict[int, list[str]] = {}


def peers(*numbers: int) -> Callable[[Callable[_Args, _Result]], Callable[_Args, _Result]]:
    """Say which points a test is the fixture of."""

    def note(test: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
        for number in numbers:
            covered.setdefault(number, []).append(test.__name__)
        return test

    return note


def test_every_point_has_a_fixture() -> None:
    assert sorted(covered) == ASKED
    assert set(ELSEWHERE) <= set(ASKED)


# --- slice order, spacing, missing slices ---


@peers(1)
def test_missing_slice_is_not_bridged(tmp_path: Path, stopped: Stop) -> None:
    """From first to last slice the mean spacing would be 1.257 mm: wrong everywhere, and unnoticed."""
    write_scan(tmp_path / "in", SCAN)
    (tmp_path / "in" / "s004.dcm").unlink()
    stopped(tmp_path / "in", "1 slice missing between s003.dcm", "and s005.dcm", "2.200 mm apart, usual 1.100 mm")


@peers(2)
@pytest.mark.parametrize(("noise_mm", "readable"), [(1e-12, True), (1e-6, True), (0.004, True), (0.03, False)])
def test_rounding_of_positions_is_no_uneven_spacing(tmp_path: Path, noise_mm: float, readable: bool) -> None:
    """Positions with two decimals are normal; beyond that there is one finding, however many slices are off."""
    rng = np.random.default_rng(4)

    def edit(k: int, data: FileDataset) -> None:
        shift = SCAN.normal * noise_mm * rng.choice([-1, 1])
        data.ImagePositionPatient = [ds(v) for v in SCAN.point(0, 0, k) + shift]

    write_scan(tmp_path, SCAN, edit)
    (report,) = inspect_path(tmp_path)
    assert report.plannable == readable
    assert [p.id for p in report.problems] == ([] if readable else ["uneven-spacing"])
    if readable:
        agrees(load_series(tmp_path), SCAN)


@peers(3)
def test_grid_repeats_the_position_of_every_file(tmp_path: Path) -> None:
    write_scan(tmp_path, SCAN)
    grid = load_series(tmp_path).volume.grid
    for file in tmp_path.iterdir():
        stated = np.array([float(v) for v in dcmread(file).ImagePositionPatient])
        i, j, k = grid.lps_to_index(stated)
        assert (i, j) == pytest.approx((0, 0), abs=1e-4)
        assert k == pytest.approx(round(k), abs=1e-4)
        assert np.linalg.norm(grid.index_to_lps((0, 0, round(k))) - stated) <= TOLERANCE_MM


@peers(4)
def test_two_acquisitions_half_a_spacing_apart_are_not_one_volume(tmp_path: Path, stopped: Stop) -> None:
    """Every gap is alike, twice as fine as either scan: only the Acquisition Number tells."""
    fine = Scan(size=(13, 11, 16), spacing_mm=(0.5, 0.8, 0.55), axes=OBLIQUE)

    def edit(k: int, data: FileDataset) -> None:
        data.AcquisitionNumber = str(1 + k % 2)

    write_scan(tmp_path / "in", fine, edit)
    stopped(
        tmp_path / "in", "2 acquisitions lie between each other", "Acquisition Number is 1 in s000.dcm, 2 in s001.dcm"
    )


@peers(4)
def test_two_acquisitions_at_the_same_places_are_not_one_volume(tmp_path: Path, stopped: Stop) -> None:
    write_scan(tmp_path / "in" / "first", SCAN)
    write_scan(tmp_path / "in" / "second", SCAN, every(SOPInstanceUID=None, ContentTime="111111"))
    stopped(tmp_path / "in", "first/s000.dcm and second/s000.dcm lie at one position", "(8 such pairs)")


@peers(4)
def test_acquisitions_end_to_end_are_a_warning(tmp_path: Path) -> None:
    def edit(k: int, data: FileDataset) -> None:
        data.AcquisitionNumber = "1" if k < 3 else "2"

    write_scan(tmp_path, SCAN, edit)
    image = load_series(tmp_path)
    agrees(image, SCAN)
    assert [(p.id, p.status) for p in image.problems] == [("several-acquisitions", "warn")]


@peers(5, 6)
def test_uneven_slices_are_refused_with_files_and_spacings(tmp_path: Path, stopped: Stop) -> None:
    def edit(k: int, data: FileDataset) -> None:
        data.ImagePositionPatient = [ds(v) for v in SCAN.point(0, 0, k + 0.3 * (k > 4))]

    write_scan(tmp_path / "in", SCAN, edit)
    stopped(
        tmp_path / "in", "uneven slices between s004.dcm (at ", "and s005.dcm (at ", "1.430 mm apart, usual 1.100 mm"
    )


def capture(folder: Path, **values: object) -> None:
    """A picture of another orientation under the same series UID."""
    data = slice_dataset(SCAN, 3)
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID(f"{ROOT}.777")
    data.ImageOrientationPatient = ["0", "1", "0", "0", "0", "-1"]
    every(**values)(3, data)
    data.save_as(folder / "a capture.dcm", enforce_file_format=True)


@peers(5)
def test_stray_capture_of_another_orientation_does_not_turn_the_volume(tmp_path: Path, stopped: Stop) -> None:
    """As a slice of the series it is refused; as an object of another kind it is left out."""
    write_scan(tmp_path / "ct", SCAN)
    capture(tmp_path / "ct")
    stopped(tmp_path / "ct", "orientation differs", "a capture.dcm", "s000.dcm", "(0, 1, 0, 0, 0, -1)")
    write_scan(tmp_path / "other", SCAN)
    capture(
        tmp_path / "other", SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality="OT", ImageType=["DERIVED", "SECONDARY"]
    )
    agrees(load_series(tmp_path / "other"), SCAN)
    found = {report.kind: report.plannable for report in inspect_path(tmp_path / "other")}
    assert found == {"ct": True, "other": False}
    write_scan(tmp_path / "nowhere", SCAN)
    capture(tmp_path / "nowhere", ImageOrientationPatient=None, ImagePositionPatient=None, PixelSpacing=None)
    stopped(tmp_path / "nowhere", "a capture.dcm: Image Position (Patient) (0020,0032) is missing")
    write_scan(tmp_path / "localizer", SCAN)
    capture(tmp_path / "localizer", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    image = load_series(tmp_path / "localizer")
    agrees(image, SCAN)
    assert [(p.id, p.status) for p in image.problems] == [("localizer-ignored", "warn")]


@peers(7)
@pytest.mark.parametrize("value", ["-1.1", "0", "1e9"])
def test_spacing_between_slices_is_not_read(tmp_path: Path, value: str) -> None:
    write_scan(tmp_path, SCAN, every(SpacingBetweenSlices=value, SliceThickness=value))
    agrees(load_series(tmp_path), SCAN)


@peers(8)
def test_optional_tags_may_be_absent(tmp_path: Path) -> None:
    absent = ("SpacingBetweenSlices", "SliceThickness", "SliceLocation", "InstanceNumber", "SeriesDescription")
    more = ("AcquisitionDate", "AcquisitionTime", "ImageType", "RescaleType", "PatientBirthDate", "PatientSex")
    write_scan(tmp_path, SCAN, every(**dict.fromkeys((*absent, *more))))
    image = load_series(tmp_path)
    agrees(image, SCAN)
    assert image.acquired_at is None
    assert image.volume.hu_calibrated


@peers(9, 14)
@pytest.mark.parametrize("location", [None, "missing in some", "inverted", "constant"])
def test_slice_location_does_not_order_slices(tmp_path: Path, location: str | None) -> None:
    def edit(k: int, data: FileDataset) -> None:
        if location is None or (location == "missing in some" and k % 2):
            del data.SliceLocation
        else:
            data.SliceLocation = ds(7.0 if location == "constant" else -SCAN.point(0, 0, k)[2])

    names = random.Random(1).sample(range(8), 8)
    write_scan(tmp_path, SCAN, edit, name=lambda k: f"x{names[k]}")
    agrees(load_series(tmp_path), SCAN)


@peers(10)
@pytest.mark.parametrize("numbers", [(5, 0, 7, 2, 6, 1, 4, 3), (3,) * 8, tuple(range(7, -1, -1))])
def test_instance_number_does_not_order_slices(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    write_scan(tmp_path, SCAN, order=lambda k: numbers[k], name=lambda k: f"x{numbers[k]} {7 - k}.dcm")
    agrees(load_series(tmp_path), SCAN)


@peers(11)
def test_row_and_column_spacing_are_not_swapped(tmp_path: Path) -> None:
    """DICOM writes the distance between rows first. A swap would move the far corner by 2.5 mm here."""
    scan = Scan(size=(9, 9, 8), spacing_mm=(0.45, 0.9, 1.3), axes=OBLIQUE)
    write_scan(tmp_path, scan)
    image = load_series(tmp_path)
    agrees(image, scan)
    assert image.volume.grid.spacing_mm == pytest.approx((0.45, 0.9, 1.3), abs=1e-6)
    assert np.linalg.norm(scan.point(8, 0, 0) - scan.point(0, 8, 0)) > 2.5


@peers(12)
def test_multiframe_cone_beam_needs_the_places_of_its_frames(tmp_path: Path, stopped: Stop) -> None:
    """Spacing comes from the positions (the stated one is -9 here); without position or orientation there is none."""
    write_frames(tmp_path / "right" / "a.dcm", SCAN, Frames(kind="xa3d", rescale_type="US"))
    agrees(load_series(tmp_path / "right"), SCAN)
    write_frames(tmp_path / "unplaced" / "a.dcm", SCAN, Frames(kind="xa3d", position="absent"))
    stopped(tmp_path / "unplaced", "a.dcm frame 1: Plane Position Sequence (0020,9113) is missing")
    write_frames(tmp_path / "unturned" / "a.dcm", SCAN, Frames(kind="xa3d", orientation="absent"))
    stopped(tmp_path / "unturned", "a.dcm frame 1: Plane Orientation Sequence (0020,9116) is missing")
    write_frames(tmp_path / "unscaled" / "a.dcm", SCAN, Frames(measures="absent"))
    stopped(tmp_path / "unscaled", "a.dcm frame 1: Pixel Measures Sequence (0028,9110) is missing")


@peers(13)
@pytest.mark.parametrize("order", [(3, 0, 7, 5, 1, 6, 2, 4), tuple(range(7, -1, -1))])
def test_shuffled_frames_of_an_enhanced_ct(tmp_path: Path, order: tuple[int, ...]) -> None:
    write_frames(tmp_path / "a.dcm", SCAN, Frames(order=order))
    agrees(load_series(tmp_path), SCAN)


# --- orientation, sign, oblique ---


@peers(16)
@pytest.mark.parametrize("axes", [SAGITTAL, OBLIQUE], ids=["sagittal", "oblique"])
def test_structure_on_a_sagittal_or_oblique_series_keeps_its_place(
    tmp_path: Path, axes: tuple[tuple[float, ...], tuple[float, ...]]
) -> None:
    """Neither holes nor mirrored: the mask drawn on the slices comes back voxel for voxel."""
    scan = Scan(axes=axes)
    write_scan(tmp_path / "ct", scan)
    image = load_series(tmp_path / "ct")
    agrees(image, scan)
    mask = lopsided(scan)
    file = write_rtstruct(
        tmp_path / "rs.dcm",
        [DrawnRoi(number=1, name="canal", contours=mask_contours(mask, scan), frame_uid=scan.frame_uid)],
    )
    found = read_structure(file, image.volume.grid, frames_of_reference=image.frames_of_reference)
    np.testing.assert_array_equal(found.mask, mask)


@peers(16)
def test_tilted_series_is_refused_and_made_straight_on_request(tmp_path: Path, stopped: Stop) -> None:
    """A gantry tilt of 5 degrees: on request, what lies at one point of the patient is found at that point."""
    scan = Scan(size=(40, 36, 12), axes=OBLIQUE)
    k, j, i = np.meshgrid(*(np.arange(n, dtype=float) for n in reversed(scan.size)), indexing="ij")
    drift_mm = np.tan(np.radians(5.0)) * scan.spacing_mm[2]  # of each slice against the one before, down its columns
    row, column = np.array(scan.axes[0]), np.array(scan.axes[1])
    places = (
        np.array(scan.origin_mm)
        + i[..., None] * scan.spacing_mm[0] * row
        + (j * scan.spacing_mm[1] + k * drift_mm)[..., None] * column
        + k[..., None] * scan.spacing_mm[2] * scan.normal
    )
    centre = places[6, 18, 20]
    ball = np.exp(-np.sum((places - centre) ** 2, axis=-1) / (2 * 2.5**2))
    scan = Scan(size=scan.size, axes=scan.axes, values=np.rint(1500 * ball))

    def edit(n: int, data: FileDataset) -> None:
        data.ImagePositionPatient = [ds(float(v)) for v in places[n, 0, 0]]

    write_scan(tmp_path / "in", scan, edit)
    stopped(tmp_path / "in", "s000.dcm to s011.dcm they drift 1.06 mm sideways", "5.00 degrees", "--resample-tilt")
    image = load_series(tmp_path / "in", resample_tilt=True)
    assert [p.id for p in image.problems][:1] == ["stack-tilt-resampled"]
    inside = np.maximum(image.volume.values.astype(float), 0)
    seen = np.einsum("kji,kjix->x", inside, image.volume.grid.voxel_centres_lps_mm()) / inside.sum()
    assert np.linalg.norm(seen - centre) <= 0.05  # interpolated, so not exact


@peers(17, 18)
@pytest.mark.parametrize("position", TABLE_AXES)
def test_all_eight_patient_positions(tmp_path: Path, position: str) -> None:
    """Prone is the normal case in spine surgery, and no warning."""
    scan = make_scan(position, "oblique", size=(16, 14, 5))
    write_scan(tmp_path, scan, every(PatientPosition=position))
    image = load_series(tmp_path)
    agrees(image, scan)
    assert image.patient_position == position
    assert not [p for p in image.problems if p.id.startswith("patient-position")]


@peers(18)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, on writing small letters
@pytest.mark.parametrize("position", ["", None, "SITTING", "hfs"])
def test_position_that_is_not_known_is_a_warning(tmp_path: Path, position: str | None) -> None:
    write_scan(tmp_path, SCAN, every(PatientPosition=position))
    image = load_series(tmp_path)
    agrees(image, SCAN)
    assert [(p.id, p.status) for p in image.problems] == [("patient-position-unknown", "warn")]


@peers(19)
@pytest.mark.parametrize("position", ["HFS", "FFS", "HFP", "FFDL"])
def test_position_label_never_moves_the_image(tmp_path: Path, position: str) -> None:
    """Feet first with rows to the left and columns to the back is normal: how the patient lay is not how slices lie."""
    slightly = Scan(axes=((0.998629534754574, 0.052335956242944, 0.0), (-0.052335956242944, 0.998629534754574, 0.0)))
    write_scan(tmp_path, slightly, every(PatientPosition=position))
    image = load_series(tmp_path)
    agrees(image, slightly)
    assert image.problems == ()


@peers(22)
def test_cone_beam_with_negative_cosines_is_not_mirrored(tmp_path: Path) -> None:
    """As a C-arm labels it: Modality CT, gray values, rows to the right, slices from head to feet."""
    turn = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    row, column = (turn @ np.array(axis) for axis in FLIPPED)
    scan = Scan(axes=(tuple(row), tuple(column)), intercept=0.0, values=np.maximum(Scan().hu(), 0.0) + 100.0)
    assert scan.normal[2] < -0.9
    assert row[0] < -0.9
    write_scan(tmp_path, scan, every(RescaleType="US"))
    image = load_series(tmp_path)
    agrees(image, scan)
    assert np.linalg.det(image.volume.grid.direction) == pytest.approx(1.0)
    assert not image.volume.hu_calibrated


@peers(24)
def test_axes_are_printed_with_letters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = make_scan("FFP", "axial", size=(16, 14, 5))
    write_scan(tmp_path, scan)
    assert main(["inspect", str(tmp_path)]) == 0
    row, column = scan.axes
    letters = {(1, 0): "L", (-1, 0): "R", (1, 1): "P", (-1, 1): "A", (1, 2): "S", (-1, 2): "I"}
    named = []
    for axis in (row, column, scan.normal):
        n = int(np.argmax(np.abs(axis)))
        named.append(letters[int(np.sign(axis[n])), n])
    out = capsys.readouterr().out
    assert re.search(r"axes\s+i to {}, j to {}, k to {}".format(*named), out), out


# --- scaling ---


def rewrite(data: bytes, tag: bytes, text: str) -> bytes:
    """Put a decimal string of any length into an explicit little endian file; pydicom would refuse or round it."""
    start = data.index(tag + b"DS") + 6
    length = int.from_bytes(data[start : start + 2], "little")
    value = text.encode() + b" " * (len(text) % 2)
    return data[:start] + len(value).to_bytes(2, "little") + value + data[start + 2 + length :]


@peers(30)
def test_decimals_longer_than_sixteen_characters_are_read_exactly(tmp_path: Path) -> None:
    """Some writers print more digits than DICOM allows. Cut to 16 characters, this slope would be 1 for 1.5."""
    scan = Scan(axes=OBLIQUE, slope=1.5, intercept=-1024.0, values=np.rint((SCAN.hu() + 1024) / 1.5) * 1.5 - 1024)
    write_scan(tmp_path, scan)
    for k in range(8):
        file = tmp_path / f"s{k:03d}.dcm"
        numbers = "\\".join(f"{v:+024.9f}" for v in scan.point(0, 0, k))
        data = rewrite(file.read_bytes(), b"\x20\0\x32\0", numbers)
        data = rewrite(data, b"\x28\0\x53\x10", "+00000000000001.5")
        file.write_bytes(rewrite(data, b"\x28\0\x52\x10", "-00000000000001024.0"))
    agrees(load_series(tmp_path), scan)


@peers(31)
def test_unsigned_words_above_32767_stay_positive(tmp_path: Path) -> None:
    values = np.where(np.indices((8, 11, 13)).sum(axis=0) % 3 == 0, 65535.0 - 1024, -1000.0)
    scan = Scan(axes=OBLIQUE, values=values)
    write_scan(tmp_path, scan)
    image = load_series(tmp_path)
    agrees(image, scan)
    assert image.volume.values.max() == 64511


@peers(44)
@pytest.mark.parametrize("kind", ["classic", "multi-frame"])
def test_every_slice_has_its_own_slope(tmp_path: Path, kind: str) -> None:
    """Slope and intercept of the first slice alone would be wrong by up to a factor of 8."""
    slopes = [0.5 * (k + 1) for k in range(8)]
    intercepts = [-1024.0 - 8 * k for k in range(8)]
    stored = [np.rint((SCAN.hu()[k] - intercepts[k]) / slopes[k]) for k in range(8)]

    def edit(k: int, data: FileDataset) -> None:
        data.RescaleSlope, data.RescaleIntercept = ds(slopes[k]), ds(intercepts[k])
        store(data, stored[k])

    if kind == "classic":
        write_scan(tmp_path, SCAN, edit)
    else:
        how = Frames(
            transformation="frame", rescale=lambda k: (slopes[k], intercepts[k]), order=(3, 0, 7, 5, 1, 6, 2, 4)
        )
        write_frames(tmp_path / "a.dcm", SCAN, how)
    truth = np.stack([stored[k] * slopes[k] + intercepts[k] for k in range(8)])
    agrees(load_series(tmp_path), SCAN, truth)


# --- other objects, other frames of reference, several series ---


def rt_object(path: Path, sop_class: str, modality: str, *, pixels: bool) -> Path:
    """An RTDOSE (32 bits, offsets of both forms are possible) or an RTPLAN."""
    data = slice_dataset(SCAN, 0)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID(f"{ROOT}.{555 + pixels}")
    data.SeriesInstanceUID, data.Modality = f"{ROOT}.{556 + pixels}", modality
    if pixels:
        data.NumberOfFrames, data.DoseUnits, data.DoseType, data.DoseSummationType = "8", "GY", "PHYSICAL", "PLAN"
        data.GridFrameOffsetVector = [ds(1.1 * k) for k in range(8)]
        data.DoseGridScaling = "0.00012345"
        data.BitsAllocated = data.BitsStored = 32
        data.HighBit, data.PixelData = 31, bytes(13 * 11 * 8 * 4)
    else:
        del data.PixelData, data.Rows, data.Columns, data.BitsAllocated, data.BitsStored, data.HighBit
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


RT_DOSE, RT_PLAN = "1.2.840.10008.5.1.4.1.1.481.2", "1.2.840.10008.5.1.4.1.1.481.5"


@peers(32, 33)
def test_dose_is_not_taken_for_an_image(tmp_path: Path, stopped: Stop) -> None:
    """Its frames lie at offsets, not at positions: read as slices they would be 30 cm off."""
    dose = rt_object(tmp_path / "dose" / "rd.dcm", RT_DOSE, "RTDOSE", pixels=True)
    stopped(dose, "RT Dose Storage is not supported")
    stopped(dose.parent, "RT Dose Storage is not supported")
    write_scan(dose.parent / "ct", SCAN)
    agrees(load_series(dose.parent), SCAN)


@peers(33)
def test_plan_without_images_is_named(tmp_path: Path, stopped: Stop) -> None:
    plan = rt_object(tmp_path / "plan only" / "rp.dcm", RT_PLAN, "RTPLAN", pixels=False)
    stopped(plan, "rp.dcm holds no image: RT Plan Storage")
    stopped(plan.parent, "no DICOM image in", "1 x RT Plan Storage")


@peers(33, 39)
@pytest.mark.parametrize(
    ("sop_class", "modality", "name"),
    [
        ("1.2.840.10008.5.1.4.1.1.4", "MR", "MR Image Storage"),
        ("1.2.840.10008.5.1.4.1.1.128", "PT", "Positron Emission Tomography Image Storage"),
        ("1.2.840.10008.5.1.4.1.1.20", "NM", "Nuclear Medicine Image Storage"),
    ],
)
def test_images_of_other_kinds_are_refused_by_name(
    tmp_path: Path, stopped: Stop, sop_class: str, modality: str, name: str
) -> None:
    write_scan(tmp_path / "in", SCAN, every(SOPClassUID=sop_class, Modality=modality))
    stopped(tmp_path / "in", f"{name} is not supported; give a CT or 3-D fluoroscopy series")


@peers(36)
def test_structure_of_another_frame_of_reference_stops_the_plan(tmp_path: Path, stopped: Stop) -> None:
    """A second scan after moving the patient has other coordinates, even of the same anatomy."""
    scan = Scan(size=(60, 50, 20), axes=OBLIQUE)
    write_scan(tmp_path / "ct", scan)
    mask = lopsided(scan)
    needle = ("--tip", *(str(v) for v in scan.point(30, 25, 10)), "--axis", "0", "1", "0.3")
    other = f"{ROOT}.99"
    file = write_rtstruct(
        tmp_path / "rs.dcm", [DrawnRoi(number=1, name="canal", contours=mask_contours(mask, scan), frame_uid=other)]
    )
    stopped(tmp_path / "ct", "rs.dcm", other, scan.frame_uid, options=(*needle, "--canal", str(file)))
    # The same contours in the image's own frame are taken: what stopped it was the frame.
    own = write_rtstruct(
        tmp_path / "own.dcm",
        [DrawnRoi(number=1, name="canal", contours=mask_contours(mask, scan), frame_uid=scan.frame_uid)],
    )
    image = load_series(tmp_path / "ct")
    found = read_structure(own, image.volume.grid, frames_of_reference=image.frames_of_reference)
    np.testing.assert_array_equal(found.mask, mask)


@peers(36)
def test_slices_of_several_frames_of_reference_are_refused(tmp_path: Path, stopped: Stop) -> None:
    def edit(k: int, data: FileDataset) -> None:
        data.FrameOfReferenceUID = f"{ROOT}.9{k // 4}"

    write_scan(tmp_path / "in", SCAN, edit)
    stopped(tmp_path / "in", "frame of reference differs", f"{ROOT}.90 in s000.dcm", f"{ROOT}.91 in s004.dcm")
    image = load_series(tmp_path / "in", accept_mixed_frames=True)
    agrees(image, SCAN)
    assert image.volume.frame_of_reference_uid == ""
    assert image.frames_of_reference == {f"{ROOT}.90", f"{ROOT}.91"}


@peers(39)
def test_several_series_in_one_folder_are_kept_apart(tmp_path: Path, stopped: Stop) -> None:
    """Files of two scans, a capture, a dose and structures, all in one folder and alternating."""
    folder = tmp_path / "in"
    one = Scan(axes=OBLIQUE, series_uid=f"{ROOT}.41")
    two = Scan(
        size=(9, 12, 6),
        spacing_mm=(0.7, 0.6, 1.2),
        axes=SAGITTAL,
        series_uid=f"{ROOT}.42",
        frame_uid=f"{ROOT}.43",
        values=Scan(size=(9, 12, 6)).hu() + 7,
    )
    write_scan(folder, one, name=lambda k: f"IM{2 * k:03d}")
    write_scan(folder, two, name=lambda k: f"IM{2 * k + 1:03d}")
    rt_object(folder / "RD", RT_DOSE, "RTDOSE", pixels=True)
    rt_object(folder / "RP", RT_PLAN, "RTPLAN", pixels=False)
    contours = mask_contours(lopsided(one), one)
    write_rtstruct(folder / "RS", [DrawnRoi(number=1, name="canal", contours=contours, frame_uid=one.frame_uid)])
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    survey = survey_path(folder)
    counts = {(r.series_uid, r.file_count): r.plannable for r in survey.series}
    assert counts == {(f"{ROOT}.41", 8): True, (f"{ROOT}.42", 6): True, (f"{ROOT}.557", 1): False}
    assert [s.name for s in survey.structures] == ["RS"]
    assert dict(survey.ignored) == {"RT Plan Storage": 1, "not a DICOM file": 1}
    stopped(folder, "several series", "--series", f"{ROOT}.41", f"{ROOT}.42")
    for scan in (one, two):
        agrees(load_series(folder, scan.series_uid), scan)
