"""What every curve over distance must fulfil, whatever it holds: the rules in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iort_planner.errors import DepthDoseRangeError, DepthDoseTableError
from iort_planner.units import FloatArray

if TYPE_CHECKING:
    import numpy.typing as npt


def sound_columns(
    what: str,
    distance_mm: npt.ArrayLike,
    values: tuple[str, npt.ArrayLike],
    uncertainty_percent: npt.ArrayLike | None = None,
    trusted_range_mm: tuple[float, float] | None = None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Own, read-only copies of a curve's columns: distances, values, uncertainties (of zeros where none are given).

    Parameters
    ----------
    what : str
        How an error names the curve.
    values : (str, array-like)
        What they are called in the plural, and the numbers.

    Raises
    ------
    DepthDoseTableError
        If the columns differ in length, hold fewer than two rows or a value that is not finite and above 0, if distances
        do not increase, or the trusted range does not lie inside the rows.
    """
    name, given = values
    r, value = np.array(distance_mm, dtype=np.float64), np.array(given, dtype=np.float64)
    uncertainty = np.zeros(r.shape) if uncertainty_percent is None else np.array(uncertainty_percent, dtype=np.float64)
    if r.ndim != 1 or r.size < 2 or value.shape != r.shape or uncertainty.shape != r.shape:
        raise DepthDoseTableError(
            f"{what}: need columns of one length of at least 2 rows, got {r.shape}, {value.shape}, {uncertainty.shape}"
        )
    if not all(np.all(np.isfinite(x) & (x > 0)) for x in (r, value)) or np.any(np.diff(r) <= 0):
        raise DepthDoseTableError(f"{what}: distances and {name} must be finite and above 0, distances increasing")
    if not np.all(np.isfinite(uncertainty) & (uncertainty >= 0)):
        raise DepthDoseTableError(f"{what}: uncertainties must be finite and not negative")
    if trusted_range_mm is not None:
        low, high = trusted_range_mm
        if not r[0] <= low < high <= r[-1]:
            raise DepthDoseTableError(
                f"{what}: trusted range {low:g} to {high:g} mm must lie inside the rows, {r[0]:g} to {r[-1]:g} mm"
            )
    for column in (r, value, uncertainty):
        column.setflags(write=False)
    return r, value, uncertainty


def require_within(r_mm: FloatArray, range_mm: tuple[float, float], whose: str) -> None:
    """Refuse distances outside a curve's rows; NaN too.

    Raises
    ------
    DepthDoseRangeError
        It reads ``distance ... is outside 5 to 30 mm <whose>; it is never extrapolated``.
    """
    low, high = range_mm
    if not np.all((r_mm >= low) & (r_mm <= high)):
        raise DepthDoseRangeError(
            f"distance {np.min(r_mm):.4g} to {np.max(r_mm):.4g} mm is outside {low:g} to {high:g} mm{whose}; it is never "
            "extrapolated"
        )
