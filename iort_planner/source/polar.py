"""Polar anisotropy: how the dose rate changes with the angle to the source's axis, at one distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iort_planner.errors import DepthDoseRangeError, DepthDoseTableError
from iort_planner.units import FloatArray

_RIGHT_ANGLE_DEG = 90.0
_NORMALISED = 1e-3  # the printed factors have three decimals
_NORMALISED_BETWEEN = 1e-2  # our own: 90 degrees is no row, a chord between its neighbours lies a little off 1
_WIDEST_STEP_TO_90_DEG = 10.0  # our own: the 125-I 6711 consensus table ends at 80 degrees


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolarAnisotropy:
    """Factor on the transverse plane's dose rate, by polar angle and distance.

    Parameters
    ----------
    theta_deg : ndarray of shape (M,), degrees
        Angle from the distal axis: 0 forwards, 180 along the shaft towards the hub; increasing, in 0 to 180.
    distance_mm : ndarray of shape (N,), mm
        From the effective source point; increasing, >= 0.
    factor : ndarray of shape (M, N)
        Finite, > 0; 1 at 90 degrees within 0.001 (0.01 where 90 degrees is no row).

    completed : bool
        The rows were mirrored at 90 degrees: forwards and backwards are alike by assumption, which whoever shows the
        table has to say. Rows that end at 90 degrees (or within 10 degrees before, where the factor is 1 by its
        definition) are mirrored here, and the stored arrays hold the completed table.

    Raises
    ------
    DepthDoseTableError
        If shapes, order, values or the normalisation are wrong.

    Notes
    -----
    Linear in angle and distance, which is the rule for the anisotropy function of AAPM TG-43U1 (Rivard et al. 2004,
    Med Phys 31:633, doi:10.1118/1.1646040). Nearer than the first distance and beyond the last one the nearest
    distance's factors hold, as the supplement TG-43U1S1 rules (Rivard et al. 2007, Med Phys 34:2187,
    doi:10.1118/1.2736790): the factor is a ratio near 1 that changes slowly, and the dose rate itself still ends with
    its own table. Angles outside the rows are refused.
    """

    theta_deg: FloatArray
    distance_mm: FloatArray
    factor: FloatArray
    completed: bool = False

    def __post_init__(self) -> None:
        theta = np.array(self.theta_deg, dtype=np.float64)
        distance = np.array(self.distance_mm, dtype=np.float64)
        factor = np.array(self.factor, dtype=np.float64)
        if theta.ndim != 1 or distance.ndim != 1 or theta.size < 2 or factor.shape != (theta.size, distance.size):
            raise DepthDoseTableError(
                f"polar anisotropy: need at least 2 angles and a factor for each angle and distance, "
                f"got {theta.shape} angles, {distance.shape} distances, {factor.shape} factors"
            )
        if not distance.size or not np.all(np.isfinite(distance) & (distance >= 0)) or np.any(np.diff(distance) <= 0):
            raise DepthDoseTableError("polar anisotropy: distances must be finite, not negative and increasing")
        if not np.all((theta >= 0) & (theta <= 180)) or np.any(np.diff(theta) <= 0):
            raise DepthDoseTableError("polar anisotropy: angles must lie in 0 to 180 degrees and increase")
        if not np.all(np.isfinite(factor) & (factor > 0)):
            raise DepthDoseTableError("polar anisotropy: factors must be finite and above 0")
        if theta[-1] <= _RIGHT_ANGLE_DEG:
            theta, factor = _mirrored(theta, factor)
            object.__setattr__(self, "completed", True)
        _check_normalised(theta, distance, factor)
        for name, array in (("theta_deg", theta), ("distance_mm", distance), ("factor", factor)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def covers(self, theta_deg: FloatArray) -> npt.NDArray[np.bool_]:
        """Whether the rows reach an angle; same shape, False for NaN."""
        reached: npt.NDArray[np.bool_] = (theta_deg >= self.theta_deg[0]) & (theta_deg <= self.theta_deg[-1])
        return reached

    def factor_at(self, distance_mm: FloatArray | float, theta_deg: FloatArray | float) -> FloatArray:
        """Factor at distances (mm) and angles (degrees) that broadcast together; NaN for NaN distances.

        Raises
        ------
        DepthDoseRangeError
            If an angle lies outside the rows.
        """
        theta = np.asarray(theta_deg, dtype=np.float64)
        if not np.all(self.covers(theta)):
            raise DepthDoseRangeError(
                f"polar angle {np.min(theta):.4g} to {np.max(theta):.4g} degrees is outside the rows, "
                f"{self.theta_deg[0]:g} to {self.theta_deg[-1]:g} degrees, of the polar anisotropy; it is never "
                f"extrapolated: give a table that reaches further"
            )
        row, up = _bracket(self.theta_deg, theta)
        column, out = _bracket(self.distance_mm, np.asarray(distance_mm, dtype=np.float64))
        next_column = np.minimum(column + 1, self.distance_mm.size - 1)
        f = self.factor
        near = f[row, column] * (1.0 - up) + f[row + 1, column] * up
        far = f[row, next_column] * (1.0 - up) + f[row + 1, next_column] * up
        result: FloatArray = near * (1.0 - out) + far * out
        return result


def _bracket(nodes: FloatArray, values: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Index of the node below and the fraction of the way to the next one; the end nodes hold beyond them."""
    held = np.clip(values, nodes[0], nodes[-1])
    below = np.clip(np.searchsorted(nodes, held, side="right") - 1, 0, max(nodes.size - 2, 0))
    if nodes.size == 1:
        return below, held - nodes[0]  # 0; NaN stays NaN
    return below, (held - nodes[below]) / (nodes[below + 1] - nodes[below])


def _mirrored(theta: FloatArray, factor: FloatArray) -> tuple[FloatArray, FloatArray]:
    if _RIGHT_ANGLE_DEG - theta[-1] > _WIDEST_STEP_TO_90_DEG:
        raise DepthDoseTableError(
            f"polar anisotropy: the angles end at {theta[-1]:g} degrees; give them to 90 (they are then mirrored) or 180"
        )
    if theta[-1] < _RIGHT_ANGLE_DEG:
        theta = np.append(theta, _RIGHT_ANGLE_DEG)
        factor = np.vstack([factor, np.ones(factor.shape[1])])
    return np.append(theta, 180.0 - theta[-2::-1]), np.vstack([factor, factor[-2::-1]])


def _check_normalised(theta: FloatArray, distance: FloatArray, factor: FloatArray) -> None:
    if theta[0] > _RIGHT_ANGLE_DEG:
        raise DepthDoseTableError(
            f"polar anisotropy: the angles start at {theta[0]:g} degrees; the factor is 1 at 90 degrees, which is missing"
        )
    tolerance = _NORMALISED if _RIGHT_ANGLE_DEG in theta else _NORMALISED_BETWEEN
    for r, column in zip(distance, factor.T, strict=True):
        sideways = float(np.interp(_RIGHT_ANGLE_DEG, theta, column))
        if abs(sideways - 1.0) > tolerance:
            raise DepthDoseTableError(
                f"polar anisotropy: the factor at 90 degrees and {r:g} mm is {sideways:.4g}, must be 1 within "
                f"{tolerance:g}: divide each column by its value at 90 degrees"
            )
