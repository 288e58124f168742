"""Positive values over distance, interpolated as ln value over ln distance: once differentiable, exact at the rows."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from itertools import pairwise

import numpy as np

from iort_planner.units import FloatArray

_STENCIL = 5  # rows: slopes of fourth order, so that 2 mm between rows leave less than 1 % (tests/source)
_STEEPEST = 3.0  # times the flatter neighbouring secant: enough for monotony (Fritsch and Carlson 1980)
_STEPS = 100  # bisection alone needs 53


class LogLogCubic:
    """Cubic Hermite interpolation of ``ln value`` over ``ln distance`` with limited slopes of high order.

    Parameters
    ----------
    distance_mm : ndarray of shape (N,), mm
        Increasing, > 0, N >= 2.
    value : ndarray of shape (N,)
        Finite, > 0.

    Notes
    -----
    The slope at a row is that of the polynomial through it and its two neighbours on each side (at the ends: the five
    outermost rows), then limited to three times the smaller of the two neighbouring secants, and to 0 where those
    differ in sign. So the curve runs monotonically between two rows (no overshoot): Fritsch and Carlson 1980, SIAM J
    Numer Anal 17:238, doi:10.1137/0717021; the filter on high-order slopes: Hyman 1983, SIAM J Sci Stat Comput 4:645,
    doi:10.1137/0904045. A row reaches three intervals far (four at the ends), so a wrong
    row leaves no ripples.
    """

    __slots__ = ("_coefficients", "_error", "_r", "_value", "_x")

    def __init__(self, distance_mm: FloatArray, value: FloatArray) -> None:
        x, y = np.log(distance_mm), np.log(value)
        stencil = min(_STENCIL, x.size)
        slope, highest = _slopes(x, y, stencil)
        limited = _limited(x, y, slope)
        h, secant = np.diff(x), np.diff(y) / np.diff(x)
        left, right = limited[:-1], limited[1:]
        self._r: list[float] = distance_mm.tolist()
        self._value: list[float] = value.tolist()
        self._x: list[float] = x.tolist()
        self._coefficients: list[tuple[float, float, float, float]] = list(
            zip(
                y[:-1].tolist(),
                left.tolist(),
                ((3.0 * secant - 2.0 * left - right) / h).tolist(),
                ((left + right - 2.0 * secant) / h**2).tolist(),
                strict=True,
            )
        )
        self._error = self._error_terms(x, y, limited, highest, stencil)

    @staticmethod
    def _error_terms(
        x: FloatArray, y: FloatArray, slope: FloatArray, highest: FloatArray, stencil: int
    ) -> tuple[FloatArray, FloatArray, FloatArray] | None:
        if stencil < 3:
            return None
        lower = _limited(x, y, _slopes(x, y, min(3, stencil - 1))[0])
        h, doubt = np.diff(x), np.abs(slope - lower)
        # |f''''|/24 of the polynomial through five rows; fewer rows do not tell it
        fourth = np.maximum(highest[:-1], highest[1:]) if stencil == _STENCIL else np.zeros(h.shape)
        return h * doubt[:-1], h * doubt[1:], h**4 * fourth

    def _interval(self, r: float) -> int:
        return min(bisect_right(self._r, r) - 1, len(self._coefficients) - 1)

    def value(self, r: float) -> float:
        """Value at a distance inside the rows, mm; plain floats throughout."""
        k = self._interval(r)
        if r in (self._r[k], self._r[k + 1]):
            return self._value[k if r == self._r[k] else k + 1]
        a, b, c, d = self._coefficients[k]
        t = math.log(r) - self._x[k]
        return math.exp(a + t * (b + t * (c + t * d)))

    def inverse(self, value: float) -> float:
        """Distance in mm at which a value is reached that lies within those of the rows; the rows must fall.

        Newton's method, kept inside a bracket that shrinks: it ends at the spacing of floats.
        """
        after = bisect_left(self._value, -value, key=lambda rate: -rate)  # first row that is not higher
        if self._value[after] == value:
            return self._r[after]
        k = after - 1
        a, b, c, d = self._coefficients[k]
        target = math.log(value) - a
        low, high = 0.0, self._x[k + 1] - self._x[k]
        t = high * target / (math.log(self._value[k + 1]) - a)  # along the chord
        for _ in range(_STEPS):
            excess = t * (b + t * (c + t * d)) - target
            if excess > 0.0:
                low = t
            else:
                high = t
            slope = b + t * (2.0 * c + t * 3.0 * d)
            step = t - excess / slope if slope < 0.0 else math.nan
            following = step if low < step < high else 0.5 * (low + high)
            if abs(following - t) <= 4e-16 * max(1.0, abs(self._x[k])):
                t = following
                break
            t = following
        return math.exp(self._x[k] + t)

    def values(self, r: FloatArray) -> FloatArray:
        """Values at distances inside the rows, mm; same shape."""
        nodes, rows = np.array(self._r), np.array(self._value)
        k = np.minimum(np.searchsorted(nodes, r, side="right") - 1, nodes.size - 2)
        a, b, c, d = np.array(self._coefficients).T
        t = np.log(r) - np.array(self._x)[k]
        result: FloatArray = np.exp(a[k] + t * (b[k] + t * (c[k] + t * d[k])))
        for at in (k, k + 1):
            result = np.where(r == nodes[at], rows[at], result)
        return result

    def slope(self, r: float) -> float:
        """Derivative of ln value over ln distance at a distance inside the rows, mm."""
        k = self._interval(r)
        _, b, c, d = self._coefficients[k]
        t = math.log(r) - self._x[k]
        return b + t * (2.0 * c + t * 3.0 * d)

    def relative_error(self, r: float) -> float | None:
        """Estimated relative error of the value at a distance inside the rows; 0 at a row, None for two rows.

        The sum of what the slopes of third order (parabolas through three rows) would change and of the fourth
        derivative's share, without regard to signs: for a smooth curve an upper bound, since the slopes used are better.
        """
        if self._error is None:
            return None
        k = self._interval(r)
        t = (math.log(r) - self._x[k]) / (self._x[k + 1] - self._x[k])
        left, right, fourth = (float(term[k]) for term in self._error)
        return math.expm1(left * t * (1 - t) ** 2 + right * t**2 * (1 - t) + fourth * (t * (1 - t)) ** 2)


def _slopes(x: FloatArray, y: FloatArray, stencil: int) -> tuple[FloatArray, FloatArray]:
    """Derivative at each row of the polynomial through the ``stencil`` rows round it, and its highest coefficient."""
    slopes, highest = np.empty(x.size), np.empty(x.size)
    for i in range(x.size):
        first = min(max(i - stencil // 2, 0), x.size - stencil)
        near = [i, *(j for j in range(first, first + stencil) if j != i)]  # Newton's form about row i
        divided = y[near].astype(np.float64)
        for order in range(1, stencil):
            for j in range(stencil - 1, order - 1, -1):
                divided[j] = (divided[j] - divided[j - 1]) / (x[near[j]] - x[near[j - order]])
        slope, product = 0.0, 1.0
        for coefficient, j in zip(divided[1:], near[1:], strict=True):
            slope += coefficient * product
            product *= x[i] - x[j]
        slopes[i], highest[i] = slope, abs(divided[-1])
    return slopes, highest


def _limited(x: FloatArray, y: FloatArray, slope: FloatArray) -> FloatArray:
    """Slopes with which the cubic between two rows is monotone."""
    secants = (np.diff(y) / np.diff(x)).tolist()
    pairs = [(secants[0], secants[0]), *pairwise(secants), (secants[-1], secants[-1])]
    limited = []
    for value, (before, after) in zip(slope.tolist(), pairs, strict=True):
        if before * after <= 0.0 or value * before <= 0.0:
            limited.append(0.0)
        else:
            most = _STEEPEST * min(abs(before), abs(after))
            limited.append(math.copysign(min(abs(value), most), before))
    return np.array(limited)
