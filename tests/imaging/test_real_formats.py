"""Every file of the shared data: read as another program reads it, or refused for the right reason.

`CASES` is the one table of what happens; `docs/scan-formats.md` shows it, and a test compares the two.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
import SimpleITK

from iort_planner.errors import ImageError
from iort_planner.imaging.dicom.candidates import Slice
from iort_planner.imaging.dicom.compressed import SUPPORTED_SYNTAXES
from iort_planner.imaging.dicom.headers import FileHeader, read_header
from iort_planner.imaging.dicom.pixels import NATIVE_SYNTAXES, decode_slices, uid_name
from iort_planner.imaging.dicom.sources import FileSource
from iort_planner.imaging.dicom.tags import quiet_pydicom
from iort_planner.imaging.geometry_checks import Problem
from iort_planner.imaging.series import ScanImage, load_series
from iort_planner.imaging.structures.read import list_structures, read_structure
from iort_planner.imaging.survey import inspect_path, survey_path
from iort_planner.imaging.volume import ImageGrid

sitk: Any = SimpleITK
ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / ".." / "shared" / "data"
PAGE = ROOT / "docs" / "scan-formats.md"
shared = pytest.mark.shared
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not beside the project")

How: TypeAlias = Literal["volume", "slice", "structures", "refused", "no image"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One file or series; ``finding`` is a problem id, ``says`` a part of the message."""

    path: str
    holds: str
    how: How
    finding: str = ""
    says: str = ""
    options: dict[str, bool] | None = None  # what reads it all the same
    largest_loss_hu: float = 0.0  # of a single slice against its lossless original

    @property
    def outcome(self) -> str:
        """The cell of the table."""
        if self.how == "slice":
            same = f"differs by up to {self.largest_loss_hu:g} HU (lossy)" if self.largest_loss_hu else "exact"
            return f"pixels read, {same}; alone no volume: `too-few-slices`"
        if self.how == "volume":
            return "read" + (f", {self.says}" if self.says else "") + (f": `{self.finding}`" if self.finding else "")
        if self.how == "structures":
            return f"read with `--canal`: {self.says}"
        if self.how == "no image":
            return f"refused as a scan: {self.says}"
        remedy = "".join(f"; read with `--{name.replace('_', '-')}`" for name in self.options or ())
        return f"refused, {self.says}: `{self.finding}`{remedy}"


def slices(folder: str, names: dict[str, tuple[str, float | None]]) -> list[Case]:
    """The files of one slice in many codings; a loss of None means refused."""
    made = []
    for name, (coding, loss) in names.items():
        path = f"{folder}/CTImage.dcm{name}"
        if loss is None:
            made.append(
                Case(path=path, holds=coding, how="refused", finding="not-supported", says="retired, no decoder for it")
            )
        else:
            made.append(Case(path=path, holds=coding, how="slice", finding="too-few-slices", largest_loss_hu=loss))
    return made


CASES = [
    Case(path="lidc0314_lower_thoracic_1mm/ct", holds="CT series, 1 mm", how="volume", says="HU"),
    Case(path="lidc0314_lower_thoracic_1mm/rtstruct_canal.dcm", holds="RTSTRUCT", how="structures", says="1 structure"),
    Case(path="lidc0314_lower_thoracic_1mm_needle/ct", holds="CT series, 1 mm, needle", how="volume", says="HU"),
    Case(
        path="lidc0314_lower_thoracic_1mm_needle/rtstruct_canal.dcm",
        holds="RTSTRUCT",
        how="structures",
        says="1 structure",
    ),
    Case(
        path="lidc0314_ct_needle_screws_streaks/ct",
        holds="CT series, 1 mm, JPEG 2000 lossless",
        how="volume",
        says="HU",
    ),
    Case(path="lidc0314_enhanced_ct/enhanced_ct.dcm", holds="Enhanced CT, 60 frames", how="volume", says="HU"),
    Case(
        path="lidc0314_xa3d_needle/xa3d.dcm",
        holds="X-Ray 3D Angiographic, 120 frames",
        how="volume",
        says="grey values, patient position not stated",
        finding="hu-not-calibrated",
    ),
    Case(
        path="lidc0314_cbct_needle/xa3d.dcm",
        holds="X-Ray 3D Angiographic, 228 frames, JPEG 2000 lossless",
        how="volume",
        says="grey values",
        finding="hu-not-calibrated",
    ),
    Case(
        path="lidc0314_cbct_needle/ct_export",
        holds="C-arm scan labelled CT, JPEG lossless",
        how="volume",
        says="grey values",
        finding="hu-not-calibrated",
    ),
    Case(
        path="lidc0314_cbct_needle_screws/xa3d.dcm",
        holds="X-Ray 3D Angiographic, 172 frames, JPEG 2000 lossless",
        how="volume",
        says="grey values",
        finding="hu-not-calibrated",
    ),
    Case(
        path="lidc0314_cbct_needle_screws/ct_export",
        holds="C-arm scan labelled CT, JPEG 2000 lossless",
        how="volume",
        says="grey values",
        finding="hu-not-calibrated",
    ),
    Case(path="phantom_hollow_needle_ct/scan", holds="CT series, 0.75 mm, hollow needle", how="volume", says="HU"),
    Case(
        path="phantom_hollow_needle_xa3d/scan/volume.dcm",
        holds="X-Ray 3D Angiographic, 120 frames, hollow needle",
        how="volume",
        says="grey values",
        finding="hu-not-calibrated",
    ),
    Case(
        path="phantom_hollow_needle_screws_ct/scan",
        holds="CT series, 0.8 mm, hollow needle and screws",
        how="volume",
        says="HU",
    ),
    Case(
        path="totalseg_t11_t12_j2k/ct",
        holds="CT series, 2 mm, JPEG 2000 lossless, SOP class and series UID empty",
        how="volume",
        says="HU, with warnings",
        finding="series-uid-missing",
    ),
    Case(
        path="totalseg_t11_t12_j2k/labels_from_source.nii.gz",
        holds="NIfTI label map",
        how="structures",
        says="31 labels",
    ),
    Case(
        path="crlm1006_lumbar_5mm/ct",
        holds="CT series, 5 mm",
        how="volume",
        says="HU, but no plan of it passes",
        finding="scan-coarse",
    ),
    Case(
        path="tptbox_l3_1p5mm/sub-ct_label-22_ct.nii.gz",
        holds="NIfTI image",
        how="no image",
        says="not a DICOM file",
    ),
    Case(
        path="tptbox_l3_1p5mm/sub-ct_seg-vert_label-22_msk.nii.gz",
        holds="NIfTI label map",
        how="structures",
        says="3 labels",
    ),
    Case(
        path="tptbox_l3_1p5mm/sub-ct_seg-subreg_label-22_msk.nii.gz",
        holds="NIfTI label map",
        how="structures",
        says="10 labels",
    ),
    Case(
        path="dicompyler_rt/ct.0.dcm",
        holds="one CT slice",
        how="refused",
        finding="too-few-slices",
        says="one slice is no volume",
    ),
    Case(path="dicompyler_rt/rtss.dcm", holds="RTSTRUCT", how="structures", says="10 structures"),
    Case(path="dicompyler_rt/rtplan.dcm", holds="RTPLAN", how="no image", says="RT Plan Storage"),
    Case(
        path="dicom_formats/enhanced_ct",
        holds="Enhanced CT, 2 frames, perfusion",
        how="refused",
        finding="too-few-slices",
        says="two frames are no volume",
    ),
    Case(
        path="dicom_formats/gantry_tilt",
        holds="4 CT slices, gantry tilt 14 degrees",
        how="refused",
        finding="tilted-stack",
        says="slices stacked askew and nearly 5 mm apart",
        options={"resample_tilt": True},
    ),
    Case(
        path="dicom_formats/not_a_volume",
        holds="4 CT slices at one position",
        how="refused",
        finding="duplicate-position",
        says="slices at one position",
    ),
    Case(
        path="dicom_formats/frame_of_reference_per_slice",
        holds="8 CT slices, each with a frame of reference of its own",
        how="refused",
        finding="frame-of-reference-mixed",
        says="several frames of reference",
        options={"accept_mixed_frames": True},
    ),
    *slices(
        "dicom_formats/transfer_syntaxes",
        {
            "": ("CT slice, implicit VR little endian", 0),
            "_LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2.dcm": ("implicit VR little endian", 0),
            "_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm": ("explicit VR little endian", 0),
            "_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm": ("explicit VR big endian", 0),
            "_DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99.dcm": ("deflated", 0),
            "_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm": ("RLE", 0),
            "_JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57.dcm": ("JPEG lossless, process 14", 0),
            "_JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70.dcm": ("JPEG lossless, process 14 SV1", 0),
            "_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm": ("JPEG-LS lossless", 0),
            "_JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81.dcm": ("JPEG-LS near-lossless", 1),
            "_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm": ("JPEG 2000 lossless", 0),
            "_JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91.dcm": ("JPEG 2000", 5),
            "_JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50.dcm": ("JPEG baseline, 8 bits", 65),
            "_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm": ("JPEG extended, 12 bits", 36),
            "_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm": ("JPEG process 6 and 8", None),
            "_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm": ("JPEG process 10 and 12", None),
        },
    ),
]


def of(*how: How) -> list[Any]:
    """The cases that end like this, as parameters."""
    return [pytest.param(case, id=case.path.rpartition("/")[2] or case.path) for case in CASES if case.how in how]


def table(lines: Iterable[str], head: str) -> list[list[str]]:
    """The rows of the page's table that starts with ``head``."""
    rows, inside = [], False
    for line in lines:
        if line.startswith(f"| {head} |"):
            inside = True
        elif inside and not line.startswith("|"):
            break
        elif inside and not line.startswith("|---"):
            rows.append([cell.strip() for cell in line.strip("|\n").split(" | ")])
    return rows


# --- the page says what the tests and the code say ---


def test_page_shows_the_table_of_real_files() -> None:
    rows = table(PAGE.read_text(encoding="utf-8").splitlines(), "real file or folder")
    assert rows == [[f"`{case.path}`", case.holds, case.outcome] for case in CASES]


def test_page_explains_every_problem_id_of_the_code() -> None:
    """Every string in the code of imaging that looks like an id, less those that are something else."""
    others = {"ct-enhanced", "label-map", "grid-constant"}
    others |= {"left-anterior-superior", "left-posterior-superior", "right-anterior-superior"}
    found: set[str] = set()
    for file in (ROOT / "iort_planner" / "imaging").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(r"\A(?:[a-z]+(?:-[a-z]+)+|localizer)\Z", node.value))
    rows = table(PAGE.read_text(encoding="utf-8").splitlines(), "id")
    ids = [row[0].strip("`") for row in rows]
    assert len(set(ids)) == len(ids)
    assert set(ids) == found - others
    assert {row[1] for row in rows} <= {"warn", "fail", "warn or fail"}


def page_allows(problems: Iterable[Problem]) -> bool:
    """Whether the page gives each finding the status it was seen with."""
    rows = table(PAGE.read_text(encoding="utf-8").splitlines(), "id")
    return all(p.status in next(row[1] for row in rows if row[0] == f"`{p.id}`").split() for p in problems)


def test_page_names_every_transfer_syntax_that_is_read() -> None:
    rows = table(PAGE.read_text(encoding="utf-8").splitlines(), "transfer syntax")
    assert {row[1].strip("`") for row in rows} == NATIVE_SYNTAXES | SUPPORTED_SYNTAXES
    for name, uid, _ in rows:
        assert uid_name(uid.strip("`")).startswith(name.split(" (")[0])


@shared
@needs_data
def test_no_file_of_the_shared_data_is_left_out() -> None:
    truth = {"truth.json", "canal_truth.json", "needle_truth.json", "cord_label_truth.json"}
    no_case = {"README.md", "SHA256SUMS", "applicator.toml", *truth}
    known = {case.path for case in CASES}
    files = [file.relative_to(DATA) for file in DATA.rglob("*") if file.is_file() and file.name not in no_case]
    left = [file.as_posix() for file in files if not {file.as_posix(), *map(str, file.parents)} & known]
    assert left == []
    assert [case.path for case in CASES if not (DATA / case.path).exists()] == []


# --- what is read ---


def theirs(path: Path) -> Any:
    """The same through SimpleITK."""
    if path.is_file():
        return sitk.ReadImage(str(path))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
    return reader.Execute()


def same_places(image: ScanImage, other: Any) -> None:
    grid = image.volume.grid
    assert grid.size_voxels == other.GetSize()
    last = np.array(grid.size_voxels) - 1
    for corner in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)):
        index = (last * corner).tolist()
        assert other.TransformIndexToPhysicalPoint(index) == pytest.approx(grid.index_to_lps(index), abs=0.01)


@shared
@needs_data
@pytest.mark.parametrize("case", of("volume"))
def test_volume_is_read_as_simpleitk_reads_it(case: Case) -> None:
    image = load_series(DATA / case.path)
    other = theirs(DATA / case.path)
    if (
        np.linalg.det(np.reshape(other.GetDirection(), (3, 3))) < 0.0
    ):  # frames stored against the normal: left in that order
        other = sitk.Flip(other, (False, False, True))
    np.testing.assert_array_equal(image.volume.values, sitk.GetArrayFromImage(other))
    same_places(image, other)
    assert page_allows(image.problems)
    ids = {p.id for p in image.problems}
    assert image.volume.hu_calibrated == case.says.startswith("HU")
    assert not case.finding or case.finding in ids
    assert ("patient-position-unknown" in ids) == ("position" in case.says)


def header_of(path: Path) -> FileHeader:
    with quiet_pydicom():
        return read_header(FileSource(path=path, name=path.name, size=path.stat().st_size))


def decoded(path: Path) -> npt.NDArray[Any]:
    header = header_of(path)
    with quiet_pydicom():
        return decode_slices([Slice(file=header, frame=frame).stored for frame in header.frames])


@shared
@needs_data
@pytest.mark.parametrize("case", of("slice"))
def test_single_slice_has_the_pixels_that_simpleitk_finds(case: Case) -> None:
    path = DATA / case.path
    ours = decoded(path)[0]
    other = sitk.ReadImage(str(path))
    np.testing.assert_allclose(ours, sitk.GetArrayFromImage(other)[0], rtol=0, atol=1e-3)
    original = sitk.GetArrayFromImage(sitk.ReadImage(str(path.parent / "CTImage.dcm")))[0]
    loss = float(np.max(np.abs(ours.astype(float) - original)))
    assert case.largest_loss_hu - 1 < loss <= case.largest_loss_hu
    (frame,) = header_of(path).frames
    assert frame.plane is not None
    assert frame.plane.position_lps_mm == pytest.approx(other.GetOrigin(), abs=1e-4)
    assert frame.plane.spacing_ij_mm == pytest.approx(other.GetSpacing()[:2], abs=1e-6)
    (report,) = inspect_path(path)
    ids = {p.id: p.status for p in report.problems}
    assert ids.pop("too-few-slices") == "fail"
    assert ids == ({"lossy-compression": "warn"} if case.largest_loss_hu else {})


@shared
@needs_data
@pytest.mark.parametrize("folder", ["enhanced_ct", "not_a_volume", "gantry_tilt"])
def test_pixels_of_what_is_refused_for_its_geometry_are_right(folder: str) -> None:
    for path in sorted((DATA / "dicom_formats" / folder).iterdir()):
        data = pydicom.dcmread(path)
        stored = data.pixel_array.reshape(-1, data.Rows, data.Columns).astype(float)
        groups = data.get("PerFrameFunctionalGroupsSequence") or [data]
        shared_groups = (data.get("SharedFunctionalGroupsSequence") or [data])[0]
        for n, ours in enumerate(decoded(path)):
            place = groups[n] if "PixelValueTransformationSequence" in groups[n] else shared_groups
            rescale = place.get("PixelValueTransformationSequence", [data])[0]
            truth = stored[n] * float(rescale.RescaleSlope) + float(rescale.RescaleIntercept)
            np.testing.assert_array_equal(ours, truth)


# --- what is refused ---


@shared
@needs_data
@pytest.mark.parametrize("case", of("refused"))
def test_refused_for_the_right_reason(case: Case) -> None:
    path = DATA / case.path
    (report,) = inspect_path(path)
    assert not report.plannable
    assert page_allows(report.problems)
    assert case.finding in {p.id for p in report.problems if p.status == "fail"}
    with pytest.raises(ImageError) as refusal:
        load_series(path)
    first = next(p for p in report.problems if p.status == "fail")
    assert first.id == case.finding
    assert first.message in str(refusal.value)


@shared
@needs_data
@pytest.mark.parametrize("case", [p for p in of("refused") if p.values[0].options])
def test_read_on_request(case: Case) -> None:
    path = DATA / case.path
    asked = case.options or {}
    image = load_series(
        path,
        resample_tilt=asked.get("resample_tilt", False),
        accept_mixed_frames=asked.get("accept_mixed_frames", False),
    )
    assert {p.id for p in image.problems if p.status == "fail"} <= {"scan-coarse"}
    assert page_allows(image.problems)
    if case.options == {"accept_mixed_frames": True}:
        other = theirs(path)
        np.testing.assert_array_equal(image.volume.values, sitk.GetArrayFromImage(other))
        same_places(image, other)
        assert len(image.frames_of_reference) == 8
        return
    # Tilted: every slice is found in the volume where its file says it lies, and worse 0.2 mm beside that place.
    for file in sorted(path.iterdir()):
        plane = header_of(file).frames[0].plane
        assert plane is not None
        row, column = np.array(plane.row_lps), np.array(plane.column_lps)
        j, i = np.mgrid[20 : plane.rows - 20 : 5, 20 : plane.columns - 20 : 5]
        values = decoded(file)[0][j, i].astype(float)
        i_mm, j_mm = i[..., None] * plane.spacing_ij_mm[0], j[..., None] * plane.spacing_ij_mm[1]
        places = np.array(plane.position_lps_mm) + i_mm * row + j_mm * column

        def agreement(
            offset_mm: npt.NDArray[np.float64],
            places: npt.NDArray[np.float64] = places,
            values: npt.NDArray[np.float64] = values,
        ) -> float:
            seen = image.volume.sample(places + offset_mm, outside=-5000.0)
            return float(np.corrcoef(seen.ravel(), values.ravel())[0, 1])

        right = agreement(np.zeros(3))
        assert right > 0.85  # the slices hold noise, which interpolation smooths
        assert all(agreement(offset) < right for offset in (0.2 * row, -0.2 * row, 0.2 * column, -0.2 * column))


@shared
@needs_data
@pytest.mark.parametrize("case", of("no image"))
def test_no_image_is_named(case: Case) -> None:
    with pytest.raises(ImageError, match=rf"{re.escape(Path(case.path).name)} holds no image: {case.says}"):
        survey_path(DATA / case.path)


# --- structures ---


@shared
@needs_data
@pytest.mark.parametrize("case", of("structures"))
def test_structures_are_listed(case: Case) -> None:
    found = list_structures(DATA / case.path)
    word = "label" if found.kind == "label-map" else "structure"
    count = len(found.rois)
    assert case.says == f"{count} {word}{'s' * (count > 1)}"


@shared
@needs_data
@pytest.mark.parametrize("name", ["lidc0314_lower_thoracic_1mm", "lidc0314_lower_thoracic_1mm_needle"])
def test_contours_are_placed_on_their_series(name: str) -> None:
    image = load_series(DATA / name / "ct")
    found = read_structure(
        DATA / name / "rtstruct_canal.dcm", image.volume.grid, frames_of_reference=image.frames_of_reference
    )
    assert found.frame_verified
    assert found.mask.sum() > 1000


@shared
@needs_data
@pytest.mark.parametrize(("name", "label"), [("vert", 22), ("subreg", 45)])
def test_label_map_with_turned_axes_is_placed_as_simpleitk_does(name: str, label: int) -> None:
    path = DATA / "tptbox_l3_1p5mm" / f"sub-ct_seg-{name}_label-22_msk.nii.gz"
    other = sitk.ReadImage(str(path))
    grid = ImageGrid(
        size_voxels=other.GetSize(),
        spacing_mm=np.array(other.GetSpacing()),
        origin_lps_mm=np.array(other.GetOrigin()),
        direction=np.array(other.GetDirection()).reshape(3, 3),
    )
    found = read_structure(path, grid, frames_of_reference=frozenset({"1.2.3"}), roi=str(label))
    truth = sitk.GetArrayFromImage(other) == label
    assert truth.sum() > 300
    np.testing.assert_array_equal(found.mask, truth)
    assert not found.frame_verified
