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
    axes_mm = np.array([like.direction.T @ np.asarray(source) for source in sources_lps_mm])
    low = axes_mm.min(axis=0) - DOSE_GRID_REACH_MM
    high = axes_mm.max(axis=0) + DOSE_GRID_REACH_MM
    i, j, k = (int(n) for n in np.ceil((high - low) / DOSE_GRID_SPACING_MM - 1e-9) + 1)
    return ImageGrid(
        size_voxels=(i, j, k),
        spacing_mm=np.full(3, DOSE_GRID_SPACING_MM),
        origin_lps_mm=like.direction @ low,
        direction=like.direction,
    )


def dose_on_grid(
    table: DepthDoseTable, sources_lps_mm: Sequence[FloatArray], times_s: Sequence[float], grid: ImageGrid
) -> npt.NDArray[np.float32]:
    """Physical dose to water (Gy), shape (nk, nj, ni); NaN exactly where the table has no value for a source."""
    dose = np.zeros(grid.shape)
    for source, time_s in zip(sources_lps_mm, times_s, strict=True):
        i, j, k = grid.lps_to_index(source)
        squares = [
            ((np.arange(n) - centre) * step) ** 2
            for n, centre, step in zip(grid.shape, (k, j, i), grid.spacing_mm[::-1], strict=True)
        ]
        r = np.sqrt(squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :])
        # A voxel centre meant to lie at a row's distance must not fall out of the table by rounding.
        r = np.round(r, 9)
        dose += table.rate_gy_per_min(r) * (time_s / 60.0)
    return dose.astype(np.float32)
