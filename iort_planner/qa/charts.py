"""Control chart of single values, drift and step: the numbers under `trend`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from iort_planner.units import FloatArray

# Individuals chart: limits at the mean plus or minus 2.66 (3/1.128) mean moving ranges, 3 sigma of a normal
# distribution (NIST/SEMATECH e-Handbook of Statistical Methods, section 6.3.2.2).
MOVING_RANGE_FACTOR = 3.0 / 1.128
_LARGEST_MOVING_RANGE = 3.267  # D4 of pairs: a moving range beyond 3.267 means is itself out of control (6.3.2.1)
FEWEST_FOR_LIMITS = 8  # our own: seven moving ranges give sigma to about 30 %
RUN = 8  # points in a row on one side of the centre (Western Electric 1956, rule 4)
LEVEL = 0.01  # error probability of the tests for a drift and for a step
_SHORTEST_SIDE = 3  # points before and after a step


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ControlChart:
    """An individuals chart over a history, oldest first.

    Parameters
    ----------
    days : ndarray of shape (N,), days since the first value
    value : ndarray of shape (N,), percent
        Deviation from the reference value.
    centre, lower, upper : float, percent
        Mean and control limits; limits are None below `FEWEST_FOR_LIMITS` values.
    beyond : tuple of int
        Points outside the limits.
    runs : tuple of (int, int)
        First and last point of each run of `RUN` or more on one side of the centre.
    drift_percent_per_year, drift_uncertainty_percent_per_year : float or None
        Slope of the least-squares line, with k=1; None below 4 values.
    drift_probability : float or None
        Of so large a slope without a drift.
    step : int or None
        First point after the most likely step; None below 6 values.
    step_percent, step_uncertainty_percent : float or None
        Mean after less mean before, with k=1.
    step_probability : float or None
        Of so clear a step in a steady history: of Student's t, times the number of splits looked at (Bonferroni).
    change : {'none', 'drift', 'step'}
        Which of the two explains the history better (least squares), where one is significant at `LEVEL`.
    """

    days: FloatArray
    value: FloatArray
    centre: float
    lower: float | None
    upper: float | None
    beyond: tuple[int, ...]
    runs: tuple[tuple[int, int], ...]
    drift_percent_per_year: float | None
    drift_uncertainty_percent_per_year: float | None
    drift_probability: float | None
    step: int | None
    step_percent: float | None
    step_uncertainty_percent: float | None
    step_probability: float | None
    change: str

    def __post_init__(self) -> None:
        for name in ("days", "value"):
            column = np.array(getattr(self, name), dtype=np.float64)
            column.setflags(write=False)
            object.__setattr__(self, name, column)


def control_chart(days: FloatArray, value: FloatArray) -> ControlChart:
    """Chart of values (N,) in percent over days (N,), not falling."""
    centre = float(np.mean(value))
    lower = upper = None
    beyond: tuple[int, ...] = ()
    runs: list[tuple[int, int]] = []
    if value.size >= FEWEST_FOR_LIMITS:
        spread = _mean_moving_range(value) * MOVING_RANGE_FACTOR
        lower, upper = centre - spread, centre + spread
        beyond = tuple(int(i) for i in np.flatnonzero((value < lower) | (value > upper)))
        runs = _runs(np.sign(value - centre))
    slope, slope_error, slope_p, line_squares = _drift(days, value)
    step, size, error, step_p, step_squares = _step(value)
    change = "none"
    drifts, steps = slope_p is not None and slope_p < LEVEL, step_p is not None and step_p < LEVEL
    if drifts or steps:
        change = "drift" if line_squares <= step_squares else "step"
    return ControlChart(
        days=days,
        value=value,
        centre=centre,
        lower=lower,
        upper=upper,
        beyond=beyond,
        runs=tuple(runs),
        drift_percent_per_year=slope,
        drift_uncertainty_percent_per_year=slope_error,
        drift_probability=slope_p,
        step=step,
        step_percent=size,
        step_uncertainty_percent=error,
        step_probability=step_p,
        change=change,
    )


def _mean_moving_range(value: FloatArray) -> float:
    """Mean moving range, without those that one jump or one stray point makes (taken out once)."""
    ranges = np.abs(np.diff(value))
    usual = ranges[ranges <= _LARGEST_MOVING_RANGE * np.mean(ranges)]
    return float(np.mean(usual)) if usual.size else float(np.mean(ranges))


def _runs(side: FloatArray) -> list[tuple[int, int]]:
    found, start = [], 0
    for i in range(1, side.size + 1):
        if i == side.size or side[i] != side[start]:
            if side[start] != 0 and i - start >= RUN:
                found.append((start, i - 1))
            start = i
    return found


def _drift(days: FloatArray, value: FloatArray) -> tuple[float | None, float | None, float | None, float]:
    """Slope a year, its k=1, its probability without a drift, and the squares left."""
    if value.size < 4 or np.ptp(days) == 0.0:
        return None, None, None, np.inf
    years = (days - np.mean(days)) / 365.25
    spread = float(np.sum(years**2))
    slope = float(np.sum(years * value)) / spread
    squares = float(np.sum((value - np.mean(value) - slope * years) ** 2))
    error = np.sqrt(squares / (value.size - 2) / spread)
    if error == 0.0:
        return slope, 0.0, 0.0 if slope else 1.0, squares
    return slope, float(error), float(2.0 * stats.t.sf(abs(slope) / error, value.size - 2)), squares


def _step(value: FloatArray) -> tuple[int | None, float | None, float | None, float | None, float]:
    """The split that leaves the least squares, its size with k=1, its probability without a step, the squares left."""
    count = value.size
    if count < 2 * _SHORTEST_SIDE:
        return None, None, None, None, np.inf
    splits = np.arange(_SHORTEST_SIDE, count - _SHORTEST_SIDE + 1)
    squares = np.array(
        [sum(float(np.sum((part - np.mean(part)) ** 2)) for part in np.split(value, [at])) for at in splits]
    )
    best = int(np.argmin(squares))
    at, left = int(splits[best]), float(squares[best])
    size = float(np.mean(value[at:]) - np.mean(value[:at]))
    error = float(np.sqrt(left / (count - 2) * (1.0 / at + 1.0 / (count - at))))
    if error == 0.0:
        return at, size, 0.0, 0.0 if size else 1.0, left
    one = 2.0 * stats.t.sf(abs(size) / error, count - 2)
    return at, size, error, min(1.0, float(one) * splits.size), left
