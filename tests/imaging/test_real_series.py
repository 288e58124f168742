"""Real folders beside the project: what of them can be planned (voxels and geometry: test_real_formats.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK

from iort_planner.errors import ImageError
from iort_planner.imaging.series import load_series
from iort_planner.imaging.structures.read import read_label_map
from iort_planner.imaging.survey import inspect_path
from iort_planner.imaging.volume import ImageGrid

sitk: Any = SimpleITK
DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not beside the project"),
]


EXPECTED = {
    "lidc0314_lower_thoracic_1mm": ({"ct"}, True, set()),
    "lidc0314_lower_thoracic_1mm_needle": ({"ct"}, True, set()),
    "crlm1006_lumbar_5mm": ({"ct"}, False, {"scan-coarse"}),
    "lidc0314_cbct_needle": ({"ct", "xa3d"}, True, set()),
    "lidc0314_cbct_needle_screws": ({"ct", "xa3d"}, True, set()),
    "lidc0314_ct_needle_screws_streaks": ({"ct"}, True, set()),
    "lidc0314_xa3d_needle": ({"xa3d"}, True, set()),
    "lidc0314_enhanced_ct": ({"ct-enhanced"}, True, set()),
    "totalseg_t11_t12_j2k": ({"ct"}, True, set()),
    "dicom_formats/gantry_tilt": ({"ct"}, False, {"tilted-stack"}),
    "dicom_formats/not_a_volume": ({"ct"}, False, {"duplicate-position"}),
    "dicom_formats/frame_of_reference_per_slice": ({"ct"}, False, {"frame-of-reference-mixed"}),
    "dicom_formats/enhanced_ct": ({"ct-enhanced"}, False, {"too-few-slices"}),
    "dicom_formats/transfer_syntaxes": ({"ct"}, False, {"not-supported", "duplicate-position", "mixed-acquisition"}),
    "dicompyler_rt": ({"ct"}, False, {"too-few-slices"}),
}


GRAY = {"lidc0314_cbct_needle", "lidc0314_cbct_needle_screws", "lidc0314_xa3d_needle"}
PERFUSION = {"dicom_formats/enhanced_ct"}  # a perfusion map by its frame type


@pytest.mark.parametrize("folder", EXPECTED)
def test_every_folder_is_plannable_or_refused_for_the_right_reason(folder: str) -> None:
    kinds, plannable, reasons = EXPECTED[folder]
    reports = inspect_path(DATA / folder)
    assert {r.kind for r in reports} == kinds
    assert any(r.plannable for r in reports) == plannable
    assert {p.id for r in reports for p in r.problems if p.status == "fail"} == reasons
    for report in reports:
        assert report.hu_calibrated == (folder not in GRAY and not reasons - {"scan-coarse"})
        assert ("hu-not-calibrated" in [p.id for p in report.problems]) == (folder in GRAY | PERFUSION)
    if sum(r.plannable for r in reports) > 1:
        with pytest.raises(ImageError, match=r"several series .* can be planned; choose one with --series UID"):
            load_series(DATA / folder)
    if not plannable and reasons != {"scan-coarse"}:
        with pytest.raises(ImageError):
            load_series(DATA / folder)


def test_labels_of_a_real_scan_land_where_simpleitk_puts_them() -> None:
    folder = DATA / "totalseg_t11_t12_j2k"
    labels = sitk.ReadImage(str(folder / "labels_from_source.nii.gz"))
    target = sitk.Image([250, 250, 30], sitk.sitkUInt8)
    target.SetSpacing([0.9, 1.1, 1.3])
    target.SetOrigin([-120.03, -200.07, -806.05])  # no voxel centre lies exactly between two labels
    theirs = sitk.GetArrayFromImage(sitk.Resample(labels, target, sitk.Transform(), sitk.sitkNearestNeighbor)) == 79
    grid = ImageGrid(
        size_voxels=target.GetSize(),
        spacing_mm=np.array(target.GetSpacing()),
        origin_lps_mm=np.array(target.GetOrigin()),
        direction=np.eye(3),
    )
    ours = read_label_map(folder / "labels_from_source.nii.gz", grid, "79").mask
    assert theirs.sum() > 1000
    assert np.array_equal(ours, theirs)
