"""A smooth curve through a table's rows, robust against rows that do not belong: the basis of outliers and slopes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from iort_planner.units import FloatArray

# Our own. Polynomials in ln r of degree 4 to a tenfold distance and 5 beyond follow 1/r**2, 1/r**3, exp(-r/20 mm)/r**2 and
# the shipped table's three exponentials over r**2 to 0.2 % (tests/qa/test_smooth.py). The lower the degree, the less a
# first or last row can pull the curve to itself.
DEGREE, DEGREE_BEYOND_TENFOLD = 4, 5
# Our own: what an honest table scatters, rated as if ten more rows had shown it. So a table of 8 rows can be judged, and
# one computed without any noise is not judged by its last digit. Chamber readings scatter 0.3 to 0.5 %.
USUAL_NOISE_PERCENT, USUAL_NOISE_ROWS = 0.4, 10
FEWEST_ROWS = 8  # below, four rows more than coefficients are not to be had with a curved fit
LEVEL = 0.002  # error probability of the outlier test for a whole table of clean rows: one false alarm in 500
MOST_OUTLIERS = 0.2  # of the rows; beyond, it is the curve that is strange and not a row


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SmoothFit:
    """A polynomial of ln y over ln r through all rows but the outliers.

    Parameters
    ----------
    distance_mm : ndarray of shape (N,), mm
    residual_percent : ndarray of shape (N,), percent
        Each row against the curve through all rows but the outliers.
    noise_percent : float
        Scatter of the rows that are no outliers about the curve, k=1 of one row.
    outliers : tuple of int
        Rows that do not belong, by index, the worst first.
    exponent, exponent_uncertainty : ndarray of shape (N,)
        Local n in y ~ r^-n of the curve at each row, with its k=1.
    """

    distance_mm: FloatArray
    residual_percent: FloatArray
    noise_percent: float
    outliers: tuple[int, ...]
    exponent: FloatArray
    exponent_uncertainty: FloatArray

    def __post_init__(self) -> None:
        for name in ("distance_mm", "residual_percent", "exponent", "exponent_uncertainty"):
            column = np.array(getattr(self, name), dtype=np.float64)
            column.setflags(write=False)
            object.__setattr__(self, name, column)


def smooth_fit(distance_mm: FloatArray, value: FloatArray, rounding_percent: FloatArray) -> SmoothFit | None:
    """Fit a smooth curve and test which rows do not belong to it.

    Parameters
    ----------
    distance_mm : ndarray of shape (N,), mm
        Increasing, above 0.
    value : ndarray of shape (N,)
        Above 0: dose rates, or a transfer function.
    rounding_percent : ndarray of shape (N,), percent
        k=1 of each value from its printed digits.

    Returns
    -------
    SmoothFit or None
        None where fewer than `FEWEST_ROWS` rows can tell nothing.

    Notes
    -----
    Outliers by the generalised extreme studentised deviate test, which finds several at once without one hiding the
    other (Rosner 1983, Technometrics 25:165, doi:10.1080/00401706.1983.10487848), on residuals of the regression.
    """
    count = distance_mm.size
    if count < FEWEST_ROWS:
        return None
    x, y = np.log(distance_mm), np.log(value)
    expected = np.hypot(USUAL_NOISE_PERCENT, rounding_percent) / 100.0
    centre, half = (x[0] + x[-1]) / 2.0, (x[-1] - x[0]) / 2.0
    highest = DEGREE if distance_mm[-1] <= 10.0 * distance_mm[0] else DEGREE_BEYOND_TENFOLD
    degree = min(highest, (count - 2) // 2)
    design = np.polynomial.chebyshev.chebvander((x - centre) / half, degree)

    kept = np.ones(count, dtype=bool)
    order: list[int] = []
    last = 0
    for step in range(1, min(int(MOST_OUTLIERS * count), count - degree - 3) + 1):
        residual, leverage, squares, freedom = _fit(design, y, expected, kept)
        share = np.where(kept, (residual / expected) ** 2 / (1.0 - leverage), 0.0)  # of each row in the squares
        others = (squares - share + USUAL_NOISE_ROWS) / (freedom - 1 + USUAL_NOISE_ROWS)
        deviate = np.sqrt(share / others)
        worst = int(np.argmax(deviate))
        if deviate[worst] > stats.t.isf(LEVEL / (2.0 * kept.sum()), freedom - 1 + USUAL_NOISE_ROWS):
            last = step
        order.append(worst)
        kept[worst] = False
    outliers = order[:last]
    kept = np.ones(count, dtype=bool)
    kept[outliers] = False
    residual, _, squares, freedom = _fit(design, y, expected, kept)

    weighted = design[kept] / expected[kept, None]
    slope_design = np.stack(
        [np.polynomial.chebyshev.chebval((x - centre) / half, np.polynomial.chebyshev.chebder(row)) / half
         for row in np.eye(degree + 1)], axis=1,
    )  # fmt: skip
    coefficients = np.linalg.lstsq(weighted, y[kept] / expected[kept], rcond=None)[0]
    inverse = np.linalg.pinv(weighted)
    spread = np.sqrt((squares + USUAL_NOISE_ROWS) / (freedom + USUAL_NOISE_ROWS))
    return SmoothFit(
        distance_mm=distance_mm,
        residual_percent=100.0 * np.expm1(residual),
        noise_percent=float(100.0 * np.sqrt(squares / freedom) * np.median(expected)),
        outliers=tuple(outliers),
        exponent=-slope_design @ coefficients,
        exponent_uncertainty=spread * np.linalg.norm(slope_design @ inverse, axis=1),
    )


def _fit(
    design: FloatArray, y: FloatArray, expected: FloatArray, kept: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
) -> tuple[FloatArray, FloatArray, float, int]:
    """Residuals of all rows from the fit to the kept ones, their leverages, sum of squares and degrees of freedom."""
    weighted = design[kept] / expected[kept, None]
    basis, triangle = np.linalg.qr(weighted)
    coefficients = np.linalg.solve(triangle, basis.T @ (y[kept] / expected[kept]))
    residual = y - design @ coefficients
    rows = np.linalg.solve(triangle.T, (design / expected[:, None]).T).T
    leverage = np.where(kept, np.minimum(np.sum(rows**2, axis=1), 1.0 - 1e-9), 0.0)
    squares = float(np.sum((residual[kept] / expected[kept]) ** 2))
    return residual, leverage, squares, int(kept.sum()) - design.shape[1]
