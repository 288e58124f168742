"""Steel cut at 3071 and steel on an extended CT scale give the same needle, through real DICOM files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from iort_planner.geometry.needle import locate_needle
from iort_planner.imaging.series import load_series
from tests.geometry.needle_scans import APPLICATOR, angle_deg, grid, needle, scan, unit

from .dicom_factory import Scan, ds, store, write_scan

TIP, AXIS, STEEL_HU = np.array([1.3, -8.2, 2.1]), unit(0.25, 1.0, -0.15), 12000.0
# How scanners store it: name -> (slope, intercept, bits stored, signed, largest HU).
SCALES = {
    "12 bits, cut at 3071": (1.0, -1024.0, 12, False, 3071.0),
    "extended, 12 bits in steps of 10 HU": (10.0, -10240.0, 12, False, 30710.0),
    "extended, 16 bits": (1.0, -8192.0, 16, False, 30000.0),
    "extended, signed": (1.0, 0.0, 16, True, 30000.0),
}


@pytest.mark.parametrize("name", SCALES)
def test_the_needle_is_found_on_every_metal_scale(tmp_path: Path, name: str) -> None:
    slope, intercept, bits, signed, ceiling = SCALES[name]
    volume = scan(grid(), needle(TIP, AXIS, hu=STEEL_HU), ceiling=ceiling)
    (si, sj, sk), (x, y, z) = volume.grid.spacing_mm.tolist(), volume.grid.origin_lps_mm.tolist()
    made = Scan(
        size=volume.grid.size_voxels,
        spacing_mm=(si, sj, sk),
        origin_mm=(x, y, z),
        slope=slope,
        intercept=intercept,
        values=volume.values.astype(np.float64),
    )

    def edit(k: int, data: FileDataset) -> None:
        store(data, np.rint((volume.values[k] - intercept) / slope), bits=bits, signed=signed)
        data.RescaleSlope, data.RescaleIntercept = ds(slope), ds(intercept)

    write_scan(tmp_path, made, edit)
    image = load_series(tmp_path)
    found = locate_needle(image.volume, APPLICATOR)

    assert image.volume.hu_calibrated, image.problems
    assert image.volume.values.max() > (2900 if ceiling < 4000 else 8000)
    assert np.linalg.norm(found.tip_lps_mm - TIP) < 0.3
    assert angle_deg(found.axis_lps, AXIS) < 0.5
