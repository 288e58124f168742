"""Whether values are HU: what headers promise, what contents show, and how large an error must be to be seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from pydicom.dataset import FileDataset

from iort_planner.imaging.dicom.pixels import Rescale
from iort_planner.imaging.hu import hu_from_content, hu_from_header
from iort_planner.imaging.series import load_series
from iort_planner.phantom import build, find_spec, read_spec

from .dicom_factory import CT, Scan, write_scan

sitk: Any = SimpleITK
Values = npt.NDArray[np.float32]
ENHANCED, LEGACY = f"{CT}.1", f"{CT}.2"
XA_3D = "1.2.840.10008.5.1.4.1.1.13.1.1"
HU = Rescale(type="HU", stated=True)
PLAIN = ("ORIGINAL", "PRIMARY", "AXIAL")


# --- header ---


@pytest.mark.parametrize(
    ("sop_class", "modality", "rescale", "calibrated"),
    [
        (CT, "CT", HU, True),
        (CT, "CT", Rescale(type=" hu", stated=True), True),
        (CT, "CT", Rescale(type="", stated=True), True),
        (ENHANCED, "CT", HU, True),
        (LEGACY, "CT", HU, True),
        (ENHANCED, "CT", Rescale(type="", stated=True), False),
        *(
            (CT, "CT", Rescale(type=t, stated=True), False)
            for t in ("US", "HU_MOD", "EDW", "ED", "Z_EFF", "MGML", "OD")
        ),
        (CT, "CT", Rescale(stated=False), False),
        (CT, "XA", HU, False),
        (CT, "PT", HU, False),
        (CT, "", HU, False),
        (XA_3D, "XA", HU, False),
        (XA_3D, "CT", HU, False),
        ("1.2.840.10008.5.1.4.1.1.4", "MR", HU, False),
    ],
)
def test_what_the_header_says_of_hu(sop_class: str, modality: str, rescale: Rescale, calibrated: bool) -> None:
    answer = hu_from_header(sop_class, modality, [HU, rescale], frame_types={PLAIN})
    assert answer.calibrated == calibrated
    assert bool(answer.reason) != calibrated


@pytest.mark.parametrize(
    ("frame_type", "calibrated"),
    [
        (PLAIN, True),
        (("ORIGINAL", "PRIMARY"), True),
        ((), True),
        (("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SEQ"), True),
        (("DERIVED", "PRIMARY", "VOLUME", "NONE"), True),
        (("DERIVED", "SECONDARY", "AXIAL", "VMI"), True),
        (("DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"), True),
        (("ORIGINAL", "PRIMARY", "PERFUSION", "NONE"), True),  # taken for a perfusion study, itself a plain slice
        (("DERIVED", "PRIMARY", "PERFUSION", "NONE"), False),
        (("DERIVED", "PRIMARY", "PERFUSION", "RCBF"), False),
        (("DERIVED", "PRIMARY", "AXIAL", "MAT_SPECIFIC", "IODINE"), False),
        (("DERIVED", "PRIMARY", "AXIAL", "eff_atomic_num"), False),
        (("DERIVED", "PRIMARY", "VOLUME", "SUBTRACTION"), False),
        (("ORIGINAL", "PRIMARY", "LOCALIZER"), False),
    ],
)
def test_maps_and_projections_are_not_hu(frame_type: tuple[str, ...], calibrated: bool) -> None:
    answer = hu_from_header(ENHANCED, "CT", [HU], frame_types=[PLAIN, frame_type])
    assert answer.calibrated == calibrated
    assert (
        calibrated or frame_type[-1].upper() in answer.reason or "PERFUSION" in answer.reason or "MAT" in answer.reason
    )


@pytest.mark.parametrize(
    ("photometric", "calibrated"),
    [("MONOCHROME1", True), ("MONOCHROME2", True), ("RGB", False), ("PALETTE COLOR", False), ("", False)],
)
def test_monochrome1_keeps_hu_and_colour_has_none(photometric: str, calibrated: bool) -> None:
    assert hu_from_header(CT, "CT", [HU], photometric=photometric).calibrated == calibrated


def test_a_c_arm_export_labelled_ct_is_not_hu(tmp_path: Path) -> None:
    def edit(k: int, data: FileDataset) -> None:
        data.RescaleType, data.RescaleIntercept = "US", "0"

    write_scan(tmp_path, edit=edit)
    image = load_series(tmp_path)
    assert not image.volume.hu_calibrated
    (problem,) = image.problems
    assert (problem.id, problem.status) == ("hu-not-calibrated", "warn")
    assert "Rescale Type is US" in problem.message


# --- content: small made volumes ---


def body(seed: int = 0, *, noise: float = 15.0, air: bool = True, size: int = 60) -> Values:
    """A trunk of muscle with a coat of fat and a ring of bone, in air or filling the image."""
    _, y, x = np.mgrid[0:size, 0:size, 0:size]
    r = np.hypot(y - size / 2, x - size / 2) * (60 / size)
    bone = np.interp(r, [0.0, 5.0, 8.0], [1000.0, 500.0, 200.0])  # the denser, the rarer
    hu = np.select([r < 8, r < 17, r < 24], [bone, 55.0, -100.0], -1000.0 if air else -95.0)
    result: Values = (hu + np.random.default_rng(seed).normal(0.0, noise, hu.shape)).astype(np.float32)
    return result


def test_values_that_cannot_be_hu_are_not_taken_for_hu() -> None:
    hu = Scan().hu()
    assert hu_from_content(hu.astype(np.int16)).calibrated
    for wrong in (
        hu + 1000,
        hu / 4,
        hu - 1000,
        np.clip(hu, -500, None),
        np.zeros_like(hu),
        np.full_like(hu, -1000),
    ):
        answer = hu_from_content(wrong.astype(np.float32))
        assert not answer.calibrated
        assert answer.reason


@pytest.mark.parametrize("padding", [-2000, -3024, -8192, -32768])
@pytest.mark.parametrize("shift", [0.0, 400.0])
def test_padding_neither_counts_as_air_nor_against_it(padding: int, shift: float) -> None:
    hu = np.clip(body(), -1024, 3071) + np.float32(shift)
    y, x = np.mgrid[0:60, 0:60]
    hu[:, np.hypot(y - 30, x - 30) > 29] = padding
    assert hu_from_content(hu).calibrated == (shift == 0.0)
    inside = np.clip(body(air=False), -1024, 3071) * 2.5 + 600  # grey values that only reach -1000 by their padding
    inside[:, np.hypot(y - 30, x - 30) > 29] = padding
    assert not hu_from_content(inside).calibrated


@pytest.mark.parametrize(
    ("noise", "air"),
    [(0.0, True), (15.0, True), (60.0, True), (100.0, True), (5.0, False), (15.0, False), (60.0, False)],
)
def test_noise_and_the_want_of_air_do_not_matter(noise: float, air: bool) -> None:
    hu = body(noise=noise, air=air)
    assert hu_from_content(hu).calibrated
    assert not hu_from_content(hu + 1024).calibrated
    assert not hu_from_content(hu - 1024).calibrated
    assert not hu_from_content(-hu).calibrated
    assert not hu_from_content(2047 - hu).calibrated  # a MONOCHROME1 scan really inverted: 4095 - stored


@pytest.mark.parametrize(("water", "wall"), [(0.0, 0.0), (0.0, 120.0), (118.0, 118.0)])
def test_water_and_plastic_phantoms_are_hu(water: float, wall: float) -> None:
    _, y, x = np.mgrid[0:50, 0:50, 0:50]
    r = np.hypot(y - 25, x - 25)
    hu = np.select([r < 15, r < 20], [water, wall], -1000.0) + np.random.default_rng(1).normal(0, 12, r.shape)
    assert hu_from_content(hu.astype(np.float32)).calibrated
    assert not hu_from_content((hu + 200).astype(np.float32)).calibrated
    assert not hu_from_content((hu - 700).astype(np.float32)).calibrated


@pytest.mark.parametrize("metal", [3071.0, 30000.0])
def test_metal_cut_off_or_on_the_extended_scale_disturbs_nothing(metal: float) -> None:
    hu = body()
    hu[20:40, 30:34, :] = metal
    hu[20:40, 34:38, 28:32] -= 700  # a dark band beside it
    assert hu_from_content(hu).calibrated


def test_nothing_but_padding_and_tiny_volumes_have_an_answer() -> None:
    assert not hu_from_content(np.full((3, 3, 3), -3024, np.int16)).calibrated
    assert not hu_from_content(np.zeros((1, 1, 1), np.int16)).calibrated
    assert not hu_from_content(np.full((20, 20, 20), 32767, np.int16)).calibrated


def test_the_answer_is_the_same_for_whole_numbers_and_floats() -> None:
    hu = np.rint(body())
    assert hu_from_content(hu.astype(np.int16)) == hu_from_content(hu)


# --- content: real scans and phantoms, and how large an error must be ---

CALIBRATED = (
    "lidc0314_lower_thoracic_1mm/ct",
    "lidc0314_lower_thoracic_1mm_needle/ct",
    "crlm1006_lumbar_5mm/ct",
    "totalseg_t11_t12_j2k/ct",
    "lidc0314_ct_needle_screws_streaks/ct",
    "lidc0314_enhanced_ct/enhanced_ct.dcm",
    "dicom_formats/frame_of_reference_per_slice",
    "tptbox_l3_1p5mm/sub-ct_label-22_ct.nii.gz",
)


def read(path: Path) -> Values:
    """Values by SimpleITK: neither our reader nor our decoders."""
    if path.is_dir():
        reader = sitk.ImageSeriesReader()
        names = (
            sorted(path.glob("*.dcm")) if path.name.startswith("frame_") else reader.GetGDCMSeriesFileNames(str(path))
        )
        reader.SetFileNames([str(n) for n in names])
        image = reader.Execute()
    else:
        image = sitk.ReadImage(str(path))
    values: Values = sitk.GetArrayFromImage(image).astype(np.float32)
    return values


@pytest.fixture(scope="module")
def phantoms() -> list[Values]:
    return [build(read_spec(find_spec(n)), 3).volume.values.astype(np.float32) for n in ("small", "oblique")]


@pytest.fixture(scope="module")
def scans(shared_data: Path) -> dict[str, Values]:
    return {name: read(shared_data / name) for name in CALIBRATED}


def offset(by: float) -> Callable[[Values], Values]:
    return lambda v: v + np.float32(by)


def scaled(by: float, then: float) -> Callable[[Values], Values]:
    return lambda v: v * np.float32(by) + np.float32(then)


def slope(factor: float) -> Callable[[Values], Values]:
    """A wrong slope with the right intercept, as in a header."""
    return lambda v: (v + np.float32(1024)) * np.float32(factor) - np.float32(1024)


ALWAYS_CAUGHT: dict[str, Callable[[Values], Values]] = {
    **{f"offset {b}": offset(b) for b in (-2048, -1024, -1000, -200, -150, -100, 100, 150, 200, 1000, 1024)},
    **{f"slope {f}": slope(f) for f in (0.25, 0.5, 0.8, 0.85, 0.88, 1.12, 1.2, 2.0, 4.0)},
    "sign": scaled(-1, 0),
    "inverted in 12 bits": scaled(-1, 2047),
}
NEVER_SEEN = {**{f"offset {b}": offset(b) for b in (-20, 20)}, **{f"slope {f}": slope(f) for f in (0.98, 1.02)}}


def test_phantoms_are_hu(phantoms: list[Values]) -> None:
    for values in phantoms:
        assert hu_from_content(values).reason == ""
        assert all(hu_from_content(change(values)).calibrated for change in NEVER_SEEN.values())
        assert [name for name, change in ALWAYS_CAUGHT.items() if hu_from_content(change(values)).calibrated] == []


@pytest.mark.shared
@pytest.mark.parametrize("name", CALIBRATED)
def test_real_scans_are_hu_and_stay_so_within_what_patients_differ_by(scans: dict[str, Values], name: str) -> None:
    values = scans[name]
    assert hu_from_content(values).reason == ""
    assert [n for n, change in NEVER_SEEN.items() if not hu_from_content(change(values)).calibrated] == []


@pytest.mark.shared
@pytest.mark.parametrize("name", CALIBRATED)
def test_wrong_offsets_and_slopes_of_real_scans_are_caught(scans: dict[str, Values], name: str) -> None:
    values = scans[name]
    assert [n for n, change in ALWAYS_CAUGHT.items() if hu_from_content(change(values)).calibrated] == []


@pytest.mark.shared
@pytest.mark.parametrize("name", CALIBRATED[:5])
def test_crops_inside_a_real_body_are_hu(scans: dict[str, Values], name: str) -> None:
    """Boxes of about 70 mm round the middle of the image, where the spine is."""
    values = scans[name]
    nk, nj, ni = values.shape
    rng = np.random.default_rng(7)
    for _ in range(6):
        k, j, i = (int(n * rng.uniform(0.0, 0.3)) for n in (nk, nj / 4, ni / 4))
        crop = values[
            k : k + max(nk // 2, 10), nj // 3 + j : nj // 3 + j + nj // 3, ni // 3 + i - ni // 8 : ni // 3 + i + ni // 4
        ]
        assert hu_from_content(crop).reason == ""


@pytest.mark.shared
@pytest.mark.parametrize("name", ["lidc0314_cbct_needle", "lidc0314_cbct_needle_screws"])
def test_c_arm_grey_values_are_not_hu_by_their_content_alone(shared_data: Path, name: str) -> None:
    values = read(shared_data / name / "ct_export")
    inner = values[:, 45:145, 45:145]  # nothing of the round field's edge
    for change in (
        offset(0),
        offset(-1024),
        offset(-700),
        scaled(3, -1024),
        scaled(2, -700),
        scaled(1, -310),
    ):
        assert not hu_from_content(change(values)).calibrated
        assert not hu_from_content(change(inner)).calibrated


@pytest.mark.shared
def test_pixels_that_were_replaced_by_noise_are_not_hu(shared_data: Path) -> None:
    values = read(shared_data / "dicom_formats" / "gantry_tilt")
    assert not hu_from_content(values).calibrated
