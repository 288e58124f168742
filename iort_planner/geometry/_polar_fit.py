"""A smooth closed wall r(plane, angle) through scattered, partly missing and partly wrong radii."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import solveh_banded

from iort_planner.units import FloatArray

_CUT = 3.0  # residuals beyond this many scales count nothing


class PolarSmoother:
    """Penalised least squares on a grid of planes by angles, periodic in the angle.

    Minimises ``sum w (r - r_obs)^2 + bend * (curvature)^2 + stretch * (slope)^2`` with second and first differences
    along both grid directions. Where ``w`` is 0 the wall is interpolated from its neighbours: a membrane that also
    resists bending, so it cannot follow a leak. Solved exactly (banded Cholesky).

    Parameters
    ----------
    planes, angles : int
        Size of the grid; at least 3 planes and 6 angles.
    """

    def __init__(self, planes: int, angles: int) -> None:
        self.planes, self.angles = planes, angles
        self._size = planes * angles
        self._bands = 2 * angles
        number = np.arange(self._size).reshape(planes, angles)
        around = [np.roll(number, -n, axis=1) for n in (-1, 0, 1)]
        self._stretch = self._normal([(number, around[2])], [(-1.0, 1.0)])
        self._stretch += self._normal([(number[:-1], number[1:])], [(-1.0, 1.0)])
        self._bend = self._normal([(around[0], around[1], around[2])], [(1.0, -2.0, 1.0)])
        self._bend += self._normal([(number[:-2], number[1:-1], number[2:])], [(1.0, -2.0, 1.0)])

    def _normal(self, terms: list[tuple[npt.NDArray[np.int64], ...]], factors: list[tuple[float, ...]]) -> FloatArray:
        """Lower banded storage of the normal matrix of differences."""
        banded = np.zeros((self._bands + 1, self._size))
        for numbers, factor in zip(terms, factors, strict=True):
            for a, fa in zip(numbers, factor, strict=True):
                for b, fb in zip(numbers, factor, strict=True):
                    lower = a >= b
                    np.add.at(banded, ((a - b)[lower], b[lower]), fa * fb)
        return banded

    def fit(self, radius_mm: FloatArray, weight: FloatArray, bend: float, stretch: float) -> FloatArray:
        """Wall (planes, angles) in mm from radii and their weights (0: not seen), same shape."""
        banded = bend * self._bend + stretch * self._stretch
        flat = weight.ravel()
        banded[0] += flat + 1e-9
        result: FloatArray = solveh_banded(banded, flat * radius_mm.ravel(), lower=True, overwrite_ab=True)
        return result.reshape(self.planes, self.angles)


def robust_fit(
    smoother: PolarSmoother,
    radius_mm: FloatArray,
    weight: FloatArray,
    *,
    start_mm: FloatArray,
    steps: tuple[tuple[float, float, float], ...],
    outside_factor: FloatArray | float = 1.0,
) -> FloatArray:
    """Fit from stiff to soft, each time trusting only the radii near the last wall.

    Parameters
    ----------
    smoother : PolarSmoother
    radius_mm, weight : ndarray of shape (planes, angles)
    start_mm : ndarray of shape (planes, angles)
        First guess.
    steps : tuple of (bend, stretch, scale_mm)
        Stiffness of each step, and the residual at which a radius counts a quarter (Geman-McClure weights, which
        let go of far outliers: rays that left through a foramen).

    outside_factor : ndarray of shape (planes, 1), or float
        Residuals of radii outside the wall count this much more.

    Returns
    -------
    ndarray of shape (planes, angles), mm
    """
    wall = start_mm
    for bend, stretch, scale_mm in steps:
        wall = smoother.fit(radius_mm, trusted(radius_mm, weight, wall, scale_mm, outside_factor), bend, stretch)
    return wall


def trusted(
    radius_mm: FloatArray, weight: FloatArray, wall_mm: FloatArray, scale_mm: float, outside_factor: FloatArray | float
) -> FloatArray:
    """Weights of radii by their distance from a wall; all as in `robust_fit`."""
    residual = (radius_mm - wall_mm) / scale_mm
    residual = np.where(residual > 0.0, residual * outside_factor, residual)
    result: FloatArray = np.where(np.abs(residual) < _CUT, weight / (1.0 + residual**2) ** 2, 0.0)
    return result
