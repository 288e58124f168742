"""The water engine: dose of one or more dwells from a depth-dose table, isotropic, on points and on a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from iort_planner.imaging.volume import ImageGrid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iort_planner.source.depth_dose import DepthDoseTable
    from iort_planner.units import FloatArray

DOSE_GRID_SPACING_MM = 1.0  # interface.md: dose.nii.gz
DOSE_GRID_REACH_MM = 50.0


def dose_grid(sources_lps_mm: Sequence[FloatArray], like: ImageGrid) -> ImageGrid:
    """Grid of the dose file: axes parallel to the image's, 1 mm, 50 mm round each source.

    With one source a voxel centre lies on it.
    """
    return like.parallel_around(np.array(sources_lps_mm), reach_mm=DOSE_GRID_REACH_MM, spacing_mm=DOSE_GRID_SPACING_MM)


def dose_on_grid(
    table: DepthDoseTable, sources_lps_mm: Sequence[FloatArray], times_s: Sequence[float], grid: ImageGrid
) -> npt.NDArray[np.float32]:
    """Physical dose to water (Gy), shape (nk, nj, ni); NaN exactly where the table has no value for a source."""
    dose = np.zeros(grid.shape)
    for source, time_s in zip(sources_lps_mm, times_s, strict=True):
        # A voxel centre meant to lie at a row's distance must not fall out of the table by rounding.
        r = np.round(grid.distances_mm(source), 9)
        dose += table.rate_gy_per_min(r) * (time_s / 60.0)
    return dose.astype(np.float32)
