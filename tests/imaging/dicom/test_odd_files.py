"""Names of any characters, headers with parts missing, copies; and the patient's name, which nothing repeats."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileDataset
from pydicom.uid import UID, ImplicitVRLittleEndian

from iort_planner.cli.main import main
from iort_planner.errors import ImageError
from iort_planner.imaging.series import load_series
from tests.imaging.dicom_factory import CT, OBLIQUE, Edit, Scan, write_scan
from tests.imaging.multiframe_factory import Frames, write_frames
from tests.imaging.reading import SCAN, Stop, agrees, every

PROGRAM = (sys.executable, "-c", "from iort_planner.cli.main import entry_point; entry_point()")


@pytest.mark.parametrize("name", ["with two  spaces", "Müller Größe", "脊柱 扫描", "d'Arc & Söhne; $x", "скан"])
def test_paths_with_any_characters(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / name / "CT"
    write_scan(folder, SCAN, name=lambda k: f"{name} {k}.dcm")
    agrees(load_series(tmp_path / name), SCAN)
    with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as made:
        for file in folder.iterdir():
            made.write(file, f"{name}/{file.name}")
    agrees(load_series(tmp_path / f"{name}.zip"), SCAN)
    (folder / f"{name} 3.dcm").unlink()
    assert main(["plan", str(tmp_path / name), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert " ".join(f"CT/{name} 2.dcm".split()) in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="names there are Unicode")
def test_name_that_is_no_utf8(tmp_path: Path) -> None:
    write_scan(tmp_path / "in", SCAN, name=lambda k: f"sch\udcf6n {k}.dcm")  # a byte of Latin-1
    command = [*PROGRAM, "inspect", str(tmp_path / "in"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["series"][0]["plannable"]


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("preamble", [False, True])
def test_transfer_syntax_or_preamble_missing(tmp_path: Path, implicit: bool, preamble: bool) -> None:
    """Data sets as old systems store them: from the first element on, without meta header or without its head."""
    write_scan(tmp_path, SCAN)
    for file in tmp_path.iterdir():
        data = dcmread(file)
        if implicit:
            data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        data.save_as(file, implicit_vr=implicit, little_endian=True)
        written = file.read_bytes()
        start = 144 + int.from_bytes(written[140:144], "little")
        file.write_bytes((bytes(128) + b"DICM" if preamble else b"") + written[start:])
    image = load_series(tmp_path)
    agrees(image, SCAN)
    assert [(p.id, p.status) for p in image.problems] == [("transfer-syntax-missing", "warn")]
    name = "Implicit VR Little Endian" if implicit else "Explicit VR Little Endian"
    assert name in image.problems[0].message


def test_no_preamble_before_the_meta_header(tmp_path: Path) -> None:
    write_scan(tmp_path, SCAN)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[132:])
    image = load_series(tmp_path)
    agrees(image, SCAN)
    assert image.problems == ()


def test_empty_sop_class(tmp_path: Path, stopped: Stop) -> None:
    """One real source has it in the meta header alone. Nowhere, nobody can say what the file is."""
    write_scan(tmp_path / "meta", SCAN)
    write_scan(tmp_path / "in", SCAN)
    for file in [*(tmp_path / "meta").iterdir(), *(tmp_path / "in").iterdir()]:
        data = dcmread(file)
        data.SOPClassUID = data.SOPInstanceUID = ""
        if file.parent.name == "in":
            data.file_meta.MediaStorageSOPClassUID = UID("")
        data.save_as(file, enforce_file_format=False)
    agrees(load_series(tmp_path / "meta"), SCAN)
    stopped(tmp_path / "in", "an image without SOP class is not supported")


def written(**values: str) -> Edit:
    """Set tags to text that their kind of value does not allow."""

    def edit(k: int, data: FileDataset) -> None:
        data.SpecificCharacterSet = "ISO_IR 192"
        for keyword, value in values.items():
            data.add_new(tag_for_keyword(keyword) or 0, "LT", value)

    return edit


@pytest.mark.parametrize("term", ["mg/ml", "HU (norm)", "US*", "10^3 ED", "µSv", "x" * 70, "x" * 3000])
def test_rescale_type_of_odd_characters_is_not_taken_for_absent(tmp_path: Path, term: str) -> None:
    """Absent means HU in a CT. What is there and is not HU must not become absent on the way."""
    write_scan(tmp_path, SCAN, written(RescaleType=term))
    image = load_series(tmp_path)
    assert not image.volume.hu_calibrated
    assert [(p.id, p.status) for p in image.problems] == [("hu-not-calibrated", "warn")]


@pytest.mark.parametrize("more", ["", "\\a/b", "\\longer than 16 characters", "\\µ"])
def test_image_type_of_odd_characters_keeps_its_other_terms(tmp_path: Path, more: str) -> None:
    write_scan(tmp_path / "map", SCAN, written(ImageType=f"DERIVED\\PRIMARY\\PERFUSION\\RCBV{more}"))
    assert not load_series(tmp_path / "map").volume.hu_calibrated
    write_scan(tmp_path / "overview", SCAN, written(ImageType=f"ORIGINAL\\PRIMARY\\LOCALIZER{more}"))
    with pytest.raises(ImageError, match=r"s000\.dcm is a localizer"):
        load_series(tmp_path / "overview")


def test_identical_duplicates_are_dropped_with_a_warning(tmp_path: Path) -> None:
    write_scan(tmp_path / "in", SCAN)
    for k in (2, 5):
        copy = tmp_path / "in" / f"Copy of s00{k}.dcm"
        copy.write_bytes((tmp_path / "in" / f"s00{k}.dcm").read_bytes())
    image = load_series(tmp_path / "in")
    agrees(image, SCAN)
    (problem,) = image.problems
    assert (problem.id, problem.status) == ("copies-ignored", "warn")
    assert "2 file(s)" in problem.message
    assert "s002.dcm" in problem.message


def test_duplicates_that_differ_are_refused(tmp_path: Path, stopped: Stop) -> None:
    write_scan(tmp_path / "in", SCAN)
    data = dcmread(tmp_path / "in" / "s002.dcm")
    data.ContentTime = "121212"
    data.save_as(tmp_path / "in" / "again.dcm")
    stopped(tmp_path / "in", "again.dcm and s002.dcm lie at one position")


def test_patient_name_is_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """In no message, log, listing or file of a plan, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    scan = Scan(size=(60, 50, 20), axes=OBLIQUE)
    names = {"OtherPatientNames": "Secret^Other", "PatientBirthName": "Secret^Born", "ResponsiblePerson": "Secret^Kin"}
    write_scan(tmp_path / "right", scan, every(**names))
    write_scan(tmp_path / "mixed", scan, every(**names))
    for file in (tmp_path / "mixed" / "s003.dcm", tmp_path / "mixed" / "s004.dcm"):
        data = dcmread(file)
        data.PatientName, data.PatientID = "Secret^Second", "ID8"
        data.save_as(file)
    shot = tmp_path / "mixed" / "s005.dcm"
    shot.write_bytes(shot.read_bytes()[:-400])
    write_frames(tmp_path / "frames" / "a.dcm", SCAN, Frames(position="absent"))
    needle = ("--tip", *(str(v) for v in scan.point(30, 25, 10)), "--axis", "0", "1", "0.3")
    needle += ("--canal-point", *(str(v) for v in scan.point(54, 25, 10)))
    for name, status in (("right", 0), ("mixed", 2), ("frames", 2)):
        out = tmp_path / "out" / name
        assert main(["plan", str(tmp_path / name), "--out", str(out), "--no-pictures", *needle]) == status
        main(["inspect", str(tmp_path / name)])
        main(["inspect", str(tmp_path / name), "--json"])
    printed = capsys.readouterr()
    assert "s003.dcm" in printed.out
    assert "s005.dcm" in printed.err
    for text in (printed.out, printed.err, caplog.text):
        assert "Secret" not in text
    written = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert written
    for file in written:
        assert b"Secret" not in file.read_bytes()
    assert (tmp_path / "right" / "s000.dcm").read_bytes().count(b"Secret") == 4


def test_bad_input_stops_the_real_program_in_one_line(tmp_path: Path) -> None:
    """The same in a process of its own, as a script sees it."""
    write_scan(tmp_path / "in", SCAN, every(SOPClassUID="1.2.840.10008.5.1.4.1.1.4", Modality="MR"))
    command = [*PROGRAM, "plan", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert "MR Image Storage is not supported" in line
    assert "Traceback" not in done.stderr
    assert CT not in line
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("value", [None, 2])
def test_whether_values_have_a_sign_must_be_said(tmp_path: Path, value: int | None) -> None:
    def edit(k: int, data: FileDataset) -> None:
        if k >= 4 and value is None:
            del data.PixelRepresentation
        elif k >= 4:
            data.PixelRepresentation = value

    write_scan(tmp_path, edit=edit)
    with pytest.raises(ImageError, match=r"s00\d\.dcm: Pixel Representation .* is not 0 or 1"):
        load_series(tmp_path)


def test_derived_slices_between_original_ones_are_two_scans(tmp_path: Path) -> None:
    def edit(k: int, data: FileDataset) -> None:
        if k % 2:
            data.ImageType = ["DERIVED", "SECONDARY", "AXIAL", "AVERAGE"]

    write_scan(tmp_path, edit=edit)
    with pytest.raises(ImageError, match=r"Image Type is ORIGINAL/PRIMARY/AXIAL in s000\.dcm, DERIVED"):
        load_series(tmp_path)


def test_a_patient_position_that_changes_within_the_series_warns(tmp_path: Path) -> None:
    write_scan(tmp_path, edit=lambda k, data: setattr(data, "PatientPosition", "HFS" if k < 4 else "HFP"))
    found = {p.id: p.message for p in load_series(tmp_path).problems}
    assert "HFS in s000.dcm, HFP in s004.dcm" in found["patient-position-unknown"]
