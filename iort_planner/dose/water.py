"""The water engine: dose of one or more dwells from a depth-dose table, on a grid."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from iort_planner.dose.points import distal_direction
from iort_planner.errors import DepthDoseTableError, InputError
from iort_planner.imaging.volume import ImageGrid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iort_planner.source.depth_dose import DepthDoseTable
    from iort_planner.units import FloatArray

DOSE_GRID_SPACING_MM = 1.0  # interface.md: dose.nii.gz
DOSE_GRID_REACH_MM = 50.0
_STEP_ERROR = (
    1e-6  # largest relative error half way between equal steps of D r^2; our own, a fifth of float32's 24 bits
)
_MOST_STEPS = 2**22
_VOXELS_A_THREAD = 2**20  # a thread's start costs less than a tenth of their time


def dose_grid(sources_lps_mm: Sequence[FloatArray], like: ImageGrid) -> ImageGrid:
    """Grid of the dose file: axes parallel to the image's, 1 mm, 50 mm round each source.

    With one source a voxel centre lies on it.
    """
    return like.parallel_around(np.array(sources_lps_mm), reach_mm=DOSE_GRID_REACH_MM, spacing_mm=DOSE_GRID_SPACING_MM)


def dose_on_grid(
    table: DepthDoseTable,
    sources_lps_mm: Sequence[FloatArray],
    times_s: Sequence[float],
    grid: ImageGrid,
    axes_lps: Sequence[FloatArray] | None = None,
) -> npt.NDArray[np.float32]:
    """Physical dose to water (Gy), shape (nk, nj, ni); NaN exactly where the table has no value for a source.

    ``axes_lps`` holds each dwell's axis, from the tip towards the hub, which a table with a polar anisotropy needs.
    Between the table's rows the error of the grid's own look-up is at most 3.3e-6, relative.

    Raises
    ------
    InputError
        If the table has a polar anisotropy and no axes are given, or sources, times and axes differ in number.
    """
    # numba is imported where a grid is computed and not before: `--help` and reading a plan do without it
    from iort_planner.dose import _kernels

    sources = np.array(sources_lps_mm, dtype=np.float64).reshape(-1, 3)
    minutes = np.array(times_s, dtype=np.float64) / 60.0
    if len(minutes) != len(sources) or (axes_lps is not None and len(axes_lps) != len(sources)):
        raise InputError(
            f"dose on a grid: {len(sources)} sources need as many times and axes, got {len(minutes)} times"
            + ("" if axes_lps is None else f" and {len(axes_lps)} axes")
        )
    polar = (np.empty(0), np.empty(0), np.empty((0, 0)))
    distal = np.zeros_like(sources)
    if table.anisotropy is not None:
        if axes_lps is None:
            raise InputError(
                f"table {table.name!r} has a polar anisotropy: give the axis of each dwell, or its dose has no direction"
            )
        f = table.anisotropy
        polar = (f.theta_deg.copy(), f.distance_mm.copy(), f.factor.copy())  # writable like the empty ones: one type
        distal = np.array([distal_direction(axis) for axis in axes_lps]).reshape(-1, 3)
    dose = np.empty(grid.shape, dtype=np.float32)
    range_mm, rate_r2 = np.array(table.range_mm), _rate_r2(table)
    i, j, k = grid.size_voxels
    workers = max(1, min(os.cpu_count() or 1, dose.size // _VOXELS_A_THREAD, k))
    cuts = np.linspace(0, k, workers + 1).astype(int).tolist()

    def fill(begin: int, end: int) -> None:
        affine = grid.crop((0, 0, begin), (i, j, end)).affine_lps_mm
        _kernels.fill_dose(dose[begin:end], affine, sources, distal, minutes, range_mm, rate_r2, polar)

    if workers == 1:
        fill(0, k)
    else:
        with ThreadPoolExecutor(workers) as pool:  # the loop gives up Python's lock
            list(pool.map(fill, cuts[:-1], cuts[1:]))
    return dose


def _rate_r2(table: DepthDoseTable) -> FloatArray:
    """Dose rate times r^2 at as many equal steps of r as the error between them needs.

    D r^2 is nearly flat, so that a linear look-up suffices; equal steps of r^2 would be wrong by several times near the
    source.
    """
    low, high = table.range_mm
    steps = 1024
    while steps <= _MOST_STEPS:
        r = np.linspace(low, high, 2 * steps + 1)
        rate_r2 = table.rate_gy_per_min(r) * r**2
        between = (rate_r2[:-2:2] + rate_r2[2::2]) / 2.0
        if np.max(np.abs(between / rate_r2[1::2] - 1.0)) <= _STEP_ERROR:
            return rate_r2[::2].copy()
        steps *= 2
    raise DepthDoseTableError(
        f"table {table.name!r}: from {low:g} to {high:g} mm its dose rate changes too much for a dose grid; "
        f"let it start farther from the source"
    )
