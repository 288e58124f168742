"""What cannot be placed is refused, with the files and the numbers; `inspect` says the same."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset

from iort_planner.errors import GeometryError, ImageError
from iort_planner.imaging.geometry_checks import SlicePlane, coarse_status, patient_position_known, stack_slices
from iort_planner.imaging.series import load_series
from iort_planner.imaging.survey import inspect_path

from .dicom_factory import OBLIQUE, ROOT, Edit, Scan, ds, slice_dataset, write_scan


def at_slice(k: int, keyword: str, value: object) -> Edit:
    """Change one tag of slice k; None removes it."""

    def edit(n: int, data: FileDataset) -> None:
        if n == k and value is None:
            delattr(data, keyword)
        elif n == k:
            setattr(data, keyword, value)

    return edit


def moved(k: int, offset_mm: tuple[float, float, float], scan: Scan | None = None) -> Edit:
    """Move slice k in the patient."""
    where = (scan or Scan()).point(0, 0, k) + offset_mm
    return at_slice(k, "ImagePositionPatient", [ds(v) for v in where])


def two_frames(k: int, data: FileDataset) -> None:
    data.NumberOfFrames, data.PixelData = "2", data.PixelData * 2


def narrower(k: int, data: FileDataset) -> None:
    if k == 2:
        data.Columns, data.PixelData = 12, data.PixelData[: 12 * 11 * 2]


def without_rescale(k: int, data: FileDataset) -> None:
    if k == 3:
        del data.RescaleSlope, data.RescaleIntercept


def two_acquisitions(k: int, data: FileDataset) -> None:
    data.AcquisitionNumber = str(1 + k % 2)


REFUSALS: dict[str, tuple[Edit, str, str]] = {
    "uneven": (moved(4, (0, 0, 0.2)), "uneven-spacing", r"s004\.dcm.*1\.300 mm.*usual 1\.100|s003.*s004.*1\.300"),
    "duplicate": (moved(4, (0, 0, -1.1)), "duplicate-position", r"s003\.dcm and s004\.dcm .*-137\.450 and -137\.450"),
    "shifted": (moved(4, (3.0, 0, 0)), "shifted-slice", r"s004\.dcm lies 3\.00 mm sideways of s000\.dcm"),
    "size": (narrower, "mixed-size", r"13 x 11 in s000\.dcm, 12 x 11 in s002\.dcm"),
    "spacing": (
        at_slice(2, "PixelSpacing", ["0.8", "0.6"]),
        "mixed-pixel-spacing",
        r"0\.5 x 0\.8 mm in s000\.dcm, 0\.6 x 0\.8 mm in s002\.dcm",
    ),
    "orientation": (
        at_slice(5, "ImageOrientationPatient", ["0", "1", "0", "-1", "0", "0"]),
        "mixed-orientation",
        r"\(1, 0, 0, 0, 1, 0\) in s000\.dcm, \(0, 1, 0, -1, 0, 0\) in s005\.dcm",
    ),
    "frame": (
        at_slice(5, "FrameOfReferenceUID", f"{ROOT}.99"),
        "frame-of-reference-mixed",
        rf"{re.escape(ROOT)}\.9 in s000\.dcm, {re.escape(ROOT)}\.99 in s005\.dcm",
    ),
    "no position": (at_slice(1, "ImagePositionPatient", None), "missing-tag", r"s001\.dcm.*\(0020,0032\) is missing"),
    "no orientation": (at_slice(1, "ImageOrientationPatient", None), "missing-tag", r"s001\.dcm.*\(0020,0037\)"),
    "no spacing": (at_slice(1, "PixelSpacing", None), "missing-tag", r"s001\.dcm.*\(0028,0030\) is missing"),
    "no slope": (at_slice(1, "RescaleSlope", None), "missing-tag", r"s001\.dcm.*\(0028,1053\) is missing"),
    "zero slope": (at_slice(1, "RescaleSlope", "0"), "malformed-tag", r"s001\.dcm.*\(0028,1053\) is 0"),
    "zero spacing": (
        at_slice(1, "PixelSpacing", ["0", "1"]),
        "malformed-tag",
        r"s001\.dcm: Pixel Spacing \(0028,0030\) is 0, .*not",
    ),
    "another patient": (
        at_slice(6, "PatientID", "ID8"),
        "mixed-patient",
        r"Patient ID differs .*s000\.dcm and s006\.dcm",
    ),
    "another modality": (
        at_slice(4, "Modality", "XA"),
        "mixed-modality",
        r"Modality is CT in s000\.dcm, XA in s004\.dcm",
    ),
    "another birth date": (
        at_slice(6, "PatientBirthDate", "19600131"),
        "mixed-patient",
        r"Patient's Birth Date differs .*s000\.dcm and s006\.dcm",
    ),
    "every second slice of another day": (
        lambda k, data: setattr(data, "AcquisitionDate", "20260102" if k % 2 else "20260101"),
        "mixed-acquisition",
        r"Acquisition Date is 20260101 in s000\.dcm, 20260102 in s001\.dcm",
    ),
    "every second slice of another kernel": (
        lambda k, data: setattr(data, "ConvolutionKernel", "B30f" if k % 2 else "B70f"),
        "mixed-acquisition",
        r"Convolution Kernel is B70f in s000\.dcm, B30f in s001\.dcm",
    ),
    "another study": (at_slice(6, "StudyInstanceUID", f"{ROOT}.3"), "mixed-patient", r"s000\.dcm and s006\.dcm"),
    "palette": (
        at_slice(3, "PhotometricInterpretation", "PALETTE COLOR"),
        "not-supported",
        r"s003\.dcm: photometric interpretation PALETTE COLOR",
    ),
    "colour": (at_slice(0, "SamplesPerPixel", 3), "not-supported", r"s000\.dcm: 3 samples per pixel"),
    "wide pixels": (at_slice(0, "BitsAllocated", 32), "not-supported", r"s000\.dcm: 32 bits allocated"),
    "shifted bits": (at_slice(0, "HighBit", 14), "not-supported", r"s000\.dcm: bits stored 16 with high bit 14"),
    "frames for too few pixels": (
        at_slice(2, "NumberOfFrames", "4"),
        "pixel-data-short",
        r"s002\.dcm: 286 bytes of pixels where 1144 are needed",
    ),
    "frames without places": (two_frames, "missing-tag", r"s000\.dcm: 2 frames without functional groups"),
    "no number of frames": (
        at_slice(2, "NumberOfFrames", "0"),
        "malformed-tag",
        r"s002\.dcm: Number of Frames \(0028,0008\) is '0', not a number above 0",
    ),
    "lookup table": (at_slice(4, "ModalityLUTSequence", [Dataset()]), "not-supported", r"s004\.dcm: a Modality LUT"),
    "one slice without rescale": (
        without_rescale,
        "mixed-rescale",
        r"only one of s000\.dcm and s003\.dcm has a Rescale Slope",
    ),
    "interleaved acquisitions": (
        two_acquisitions,
        "mixed-acquisition",
        r"2 acquisitions lie between each other \(Acquisition Number is 1 in s000\.dcm, 2 in s001\.dcm\)",
    ),
    "few pixels": (
        at_slice(3, "PixelData", b"\0" * 100),
        "pixel-data-short",
        r"s003\.dcm: 100 bytes .* 286 are needed",
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, on writing values that are wrong on purpose
@pytest.mark.parametrize("case", REFUSALS)
def test_refused_by_name_with_files_and_numbers(tmp_path: Path, case: str) -> None:
    edit, problem_id, pattern = REFUSALS[case]
    write_scan(tmp_path, edit=edit)
    with pytest.raises(ImageError, match=pattern) as refusal:
        load_series(tmp_path)
    assert "\n" not in str(refusal.value)
    assert isinstance(refusal.value, GeometryError) == (problem_id != "not-supported")
    (report,) = inspect_path(tmp_path)
    assert not report.plannable
    assert (problem_id, "fail") in [(p.id, p.status) for p in report.problems]


@pytest.mark.parametrize("text", [b"1\\nan\\3 ", b"1\\inf\\3 ", b"1\\2", b"a\\b\\c ", b"1,5\\2\\3 ", b"1_0\\2\\3 "])
def test_positions_that_are_no_three_finite_numbers_are_refused(tmp_path: Path, text: bytes) -> None:
    """Written as bytes: pydicom would not write them."""
    write_scan(tmp_path)
    file = tmp_path / "s002.dcm"
    data = file.read_bytes()
    start = data.index(b"\x20\x00\x32\x00DS") + 8
    length = int.from_bytes(data[start - 2 : start], "little")
    text += b" " * (len(text) % 2)
    head = data[: start - 2] + len(text).to_bytes(2, "little")
    file.write_bytes(head + text + data[start + length :])
    with pytest.raises(GeometryError, match=r"s002\.dcm: Image Position .* not 3 finite numbers"):
        load_series(tmp_path)


def test_a_missing_slice_is_named_between_its_neighbours(tmp_path: Path) -> None:
    write_scan(tmp_path)
    (tmp_path / "s004.dcm").unlink()
    with pytest.raises(
        GeometryError, match=r"1 slice missing between s003\.dcm .* and s005\.dcm .*2\.200 mm apart, usual 1\.1"
    ):
        load_series(tmp_path)


def test_a_tilted_stack_is_named_with_its_angle(tmp_path: Path) -> None:
    scan = Scan()

    def sheared(k: int, data: FileDataset) -> None:
        along = np.tan(np.radians(5.0)) * scan.spacing_mm[2] * k
        data.ImagePositionPatient = [ds(v) for v in scan.point(0, 0, k) + np.array(scan.axes[1]) * along]

    write_scan(tmp_path, scan, sheared)
    with pytest.raises(
        GeometryError, match=r"s000\.dcm to s007\.dcm they drift 0\.67 mm .* over 7\.70 mm, 5\.00 degrees"
    ):
        load_series(tmp_path)
    (report,) = inspect_path(tmp_path)
    assert [p.id for p in report.problems] == ["tilted-stack"]


@pytest.mark.parametrize(
    "cosines", [["1", "0", "0", "0", "1.001", "0"], ["1", "0", "0", "0.001", "1", "0"], ["0"] * 6, ["1", "0", "0"] * 2]
)
def test_axes_that_are_not_orthonormal_are_refused(tmp_path: Path, cosines: list[str]) -> None:
    def edit(k: int, data: FileDataset) -> None:
        data.ImageOrientationPatient = cosines

    write_scan(tmp_path, edit=edit)
    with pytest.raises(GeometryError, match=r"s000\.dcm are no unit vectors at right angles"):
        load_series(tmp_path)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_slices(tmp_path: Path, count: int) -> None:
    write_scan(tmp_path, Scan(size=(9, 10, count)))
    with pytest.raises(GeometryError, match=f"only {count} slice.* at least 3"):
        load_series(tmp_path)


def test_one_file_of_a_series_is_one_slice(tmp_path: Path) -> None:
    write_scan(tmp_path)
    with pytest.raises(GeometryError, match=r"only 1 slice .*folder"):
        load_series(tmp_path / "s003.dcm")


def test_paths_without_an_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no such file or folder: .*nowhere"):
        load_series(tmp_path / "nowhere")
    with pytest.raises(ImageError, match=r"is empty"):
        load_series(tmp_path)
    (tmp_path / "a.txt").write_text("no image")
    with pytest.raises(ImageError, match=r"no DICOM image in .*1 x not a DICOM file"):
        load_series(tmp_path)
    with pytest.raises(ImageError, match=r"a\.txt holds no image: not a DICOM file"):
        load_series(tmp_path / "a.txt")
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04" + bytes(200))
    with pytest.raises(ImageError, match=r"b\.zip is a damaged zip archive"):
        load_series(tmp_path / "b.zip")


def test_unknown_and_ambiguous_series_are_listed(tmp_path: Path) -> None:
    write_scan(tmp_path / "a", Scan(series_uid=f"{ROOT}.11"))
    write_scan(tmp_path / "b", Scan(series_uid=f"{ROOT}.12"))
    both = rf"{re.escape(ROOT)}\.11 .*8 files.*{re.escape(ROOT)}\.12"
    with pytest.raises(ImageError, match=rf"no series 1\.2\.3 in .*{both}"):
        load_series(tmp_path, "1.2.3")
    with pytest.raises(ImageError, match=rf"several series .*--series UID: {both}"):
        load_series(tmp_path)


def test_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    write_scan(tmp_path)
    file = tmp_path / "s005.dcm"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(GeometryError, match=r"s005\.dcm: 266 bytes of pixels where 286 are needed"):
        load_series(tmp_path)


@pytest.mark.parametrize("length", [132, 140, 200, 333, 400])
def test_a_file_cut_off_in_its_header_never_raises_anything_else(tmp_path: Path, length: int) -> None:
    write_scan(tmp_path)
    file = tmp_path / "s007.dcm"
    file.write_bytes(file.read_bytes()[:length])
    try:
        image = load_series(tmp_path)
    except ImageError:
        return
    assert image.volume.grid.size_voxels[2] == 7  # the damaged last slice is not in it


def test_damaged_files_are_told_of(tmp_path: Path) -> None:
    write_scan(tmp_path)
    (tmp_path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 60)
    image = load_series(tmp_path)
    (problem,) = image.problems
    assert (problem.id, problem.status) == ("unreadable-file", "warn")
    assert "broken.dcm" in problem.message


# --- the checks by themselves, at their limits ---


def planes(scan: Scan) -> list[SlicePlane]:
    row, column = scan.axes
    return [
        SlicePlane(
            name=f"n{k}",
            rows=scan.size[1],
            columns=scan.size[0],
            spacing_ij_mm=scan.spacing_mm[:2],
            row_lps=(row[0], row[1], row[2]),
            column_lps=(column[0], column[1], column[2]),
            position_lps_mm=tuple(scan.point(0, 0, k)),
            frame_of_reference_uid="1",
        )
        for k in range(scan.size[2])
    ]


def move(plane: SlicePlane, offset_mm: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> SlicePlane:
    x, y, z = np.array(plane.position_lps_mm) + offset_mm
    return replace(plane, position_lps_mm=(float(x), float(y), float(z)))


@pytest.mark.parametrize(
    ("shift_mm", "accepted"), [(0.0, True), (0.009, True), (0.03, False), (-0.03, False), (0.3, False)]
)
def test_uneven_slices_are_refused_above_one_percent(shift_mm: float, accepted: bool) -> None:
    scan = Scan(axes=OBLIQUE)
    stack = planes(scan)
    stack[3] = move(stack[3], scan.normal * shift_mm)
    assert (stack_slices(stack).grid is not None) == accepted


def test_gaps_that_each_pass_must_not_add_up() -> None:
    """200 slices whose spacing creeps by less than the tolerance a gap would sit 0.5 mm off in the middle."""
    scan = Scan(size=(9, 9, 200))
    stack = [move(p, scan.normal * 0.005 * min(k, 199 - k)) for k, p in enumerate(planes(scan))]
    (problem,) = stack_slices(stack).problems
    assert problem.id == "uneven-spacing"
    assert "drift" in problem.message


@pytest.mark.parametrize(("degrees", "accepted"), [(0.0, True), (0.2, True), (1.0, False)])
def test_sideways_drift_is_refused_above_its_limit(degrees: float, accepted: bool) -> None:
    scan = Scan(axes=OBLIQUE)
    step = np.array(scan.axes[0]) * np.tan(np.radians(degrees)) * scan.spacing_mm[2]
    stack = stack_slices([move(p, step * k) for k, p in enumerate(planes(scan))])
    assert (stack.grid is not None) == accepted
    assert [p.id for p in stack.problems] == ([] if accepted else ["tilted-stack"])


def test_thresholds_of_the_interface() -> None:
    assert [coarse_status(s) for s in (0.3, 1.25, 1.2501, 3.0, 3.001, 5.0)] == [
        "pass",
        "pass",
        "warn",
        "warn",
        "fail",
        "fail",
    ]
    assert patient_position_known("HFP")
    assert not patient_position_known("")
    assert not patient_position_known("hfs?")


@pytest.mark.parametrize("value", ["", "XYZ"])
def test_an_unknown_patient_position_is_a_warning_only(tmp_path: Path, value: str) -> None:
    def edit(k: int, data: FileDataset) -> None:
        data.PatientPosition = value

    write_scan(tmp_path, edit=edit)
    assert [(p.id, p.status) for p in load_series(tmp_path).problems] == [("patient-position-unknown", "warn")]


def test_reading_odd_values_writes_no_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scan = Scan()
    data = slice_dataset(scan, 0)
    data.AcquisitionTime = "030405"
    write_scan(tmp_path, scan)
    for file in tmp_path.iterdir():  # an impossible UID and an impossible date of the right lengths
        changed = file.read_bytes().replace(
            f"{ROOT}.2".encode(), b"not a uid at all, really, but text"[: len(f"{ROOT}.2")]
        )
        file.write_bytes(changed.replace(b"20260102", b"2026ABCD"))
    assert load_series(tmp_path).acquired_at is None
    assert capfd.readouterr() == ("", "")
