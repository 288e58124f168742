"""Why two tables differ: a scale factor, a slip of the origin, both, or a mix-up of calibration scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.qa.mixups import CONVERSION_PERCENT
from iort_planner.units import FloatArray

if TYPE_CHECKING:
    from collections.abc import Callable

    from iort_planner.source.depth_dose import DepthDoseTable

# Our own: what two honest tables differ by from row to row, interpolation between the reference's rows included; rated
# as if ten more rows had shown it, so that a fit to noiseless tables does not explain their last digit.
USUAL_NOISE_PERCENT, USUAL_NOISE_ROWS = 0.3, 10
FEWEST_ROWS = 4  # two numbers are fitted; fewer rows tell no slip from a factor
LARGEST_SLIP_MM = 6.0  # from the tip or the surface instead of the source centre are 2 to 4 mm
STRONG_EVIDENCE = (
    6.0  # of 2 ln B, beyond Schwarz's ln(rows), for each number (Kass and Raftery 1995, J Am Stat Assoc 90:773)
)
_TUKEY = 6.0  # a biweight that leaves rows within 2 or 3 sigma nearly their whole weight
_STEPS, _CLOSE = 60, 1e-10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """One model of measured over reference: rate(r) = factor · conversion(r) · reference(r + slip).

    Parameters
    ----------
    name : str
        ``same``, ``scale``, ``origin``, ``origin and scale``, or ``calibration A for B``.
    slip_mm, slip_uncertainty_mm : float, mm
        How much farther from the source than its label says each measured row lies, with k=1; 0 where not fitted.
    factor, factor_uncertainty : float
        With k=1; 1 and 0 where not fitted.
    misfit : float
        Robust sum of squared residuals in units of the usual noise, on the rows that all models share.
    criterion : float
        Schwarz's criterion: the misfit, and for each fitted number ln(rows) and what strong evidence takes; the least
        explains best. A mix-up of scales also pays for the factor it needs beside the published ratio.
    noise_percent : float
        k=1 of a row that belongs, from the rows and the usual noise.
    residual_percent : ndarray of shape (N,), percent
        Measured over model at each row; NaN where the model leaves the reference's range.
    """

    name: str
    slip_mm: float
    slip_uncertainty_mm: float
    factor: float
    factor_uncertainty: float
    misfit: float
    criterion: float
    noise_percent: float
    residual_percent: FloatArray

    def __post_init__(self) -> None:
        column = np.array(self.residual_percent, dtype=np.float64)
        column.setflags(write=False)
        object.__setattr__(self, "residual_percent", column)


def explain(
    distance_mm: FloatArray,
    rate: FloatArray,
    reference: DepthDoseTable,
    conversions: dict[str, Callable[[FloatArray], FloatArray]],
) -> tuple[Explanation, ...]:
    """All models fitted, the best first.

    Parameters
    ----------
    distance_mm, rate : ndarray of shape (N,), mm and Gy/min
        The measured rows, inside the reference's range.
    conversions : dict of str to callable
        Ratios of two calibration scales by distance (mm), by the name of the mix-up.

    Notes
    -----
    Iteratively reweighted Gauss-Newton on ln(rate) with Tukey's biweight (Beaton and Tukey 1974, Technometrics
    16:147, doi:10.1080/00401706.1974.10489171) and the noise from the median absolute residual of the fullest
    model. Models are chosen by Schwarz's criterion (1978, Ann Stat 6:461, doi:10.1214/aos/1176344136) on the rows
    that every model can use; a slip needs the reference at r + slip, and it is never extrapolated.
    """
    models: list[tuple[str, bool, bool, FloatArray]] = [
        (name, slip, scale, np.zeros(distance_mm.size))
        for name, slip, scale in (
            ("same", False, False),
            ("scale", False, True),
            ("origin", True, False),
            ("origin and scale", True, True),
        )
    ]
    models += [(name, False, True, np.log(ratio(distance_mm))) for name, ratio in conversions.items()]
    fits = [_fit(distance_mm, np.log(rate), reference, *model[1:]) for model in models]
    shared = np.all([np.isfinite(fit.residual) for fit in fits], axis=0)
    noise = min(row_noise(fit.residual[shared], fit.numbers) for fit in fits)
    count = int(shared.sum()) + USUAL_NOISE_ROWS
    explanations = []
    for (name, slip, scale, _), fit in zip(models, fits, strict=True):
        misfit = float(np.sum(_loss(fit.residual[shared] / noise)))
        explanations.append(
            Explanation(
                name=name,
                slip_mm=fit.slip_mm,
                slip_uncertainty_mm=fit.slip_per_noise_mm * noise,
                factor=float(np.exp(fit.log_factor)),
                factor_uncertainty=float(np.exp(fit.log_factor)) * fit.log_factor_per_noise * noise,
                misfit=misfit,
                criterion=misfit
                + (slip + scale) * (float(np.log(count)) + STRONG_EVIDENCE)
                + (100.0 * fit.log_factor / CONVERSION_PERCENT) ** 2 * (name in conversions),
                noise_percent=100.0 * row_noise(fit.residual[shared], fit.numbers),
                residual_percent=100.0 * np.expm1(fit.residual),
            )
        )
    return tuple(sorted(explanations, key=lambda each: each.criterion))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Fit:
    residual: FloatArray
    slip_mm: float
    log_factor: float
    slip_per_noise_mm: float
    log_factor_per_noise: float
    numbers: int


def _fit(
    r: FloatArray, log_rate: FloatArray, reference: DepthDoseTable, slip: bool, scale: bool, log_ratio: FloatArray
) -> _Fit:
    """Robust fit of the wished numbers; residuals in ln, NaN where r + slip leaves the reference."""
    offset, log_factor = 0.0, 0.0
    use = np.array([slip, scale])
    inverse = np.zeros((2, 2))
    residual = log_rate - log_ratio - np.log(reference.rate_gy_per_min(r))
    if scale:
        log_factor = float(np.nanmedian(residual))  # a start that an outlier cannot move
    for _ in range(_STEPS if use.any() else 0):
        moved = r + offset
        residual = log_rate - log_ratio - log_factor - np.log(reference.rate_gy_per_min(moved))
        inside = np.isfinite(residual)
        if inside.sum() < FEWEST_ROWS:
            break
        weight = _weight(residual[inside] / row_noise(residual[inside], int(use.sum())))
        design = np.stack([_slope(reference, moved[inside]), np.ones(int(inside.sum()))], axis=1)[:, use]
        normal = design.T @ (weight[:, None] * design)
        step = np.zeros(2)
        step[use] = np.linalg.solve(normal, design.T @ (weight * residual[inside]))
        inverse[np.ix_(use, use)] = np.linalg.inv(normal)
        step[0] = float(np.clip(step[0], -0.5, 0.5))
        offset = float(np.clip(offset + step[0], -LARGEST_SLIP_MM, LARGEST_SLIP_MM))
        log_factor += float(step[1])
        if np.all(np.abs(step) < _CLOSE):
            break
    residual = log_rate - log_ratio - log_factor - np.log(reference.rate_gy_per_min(r + offset))
    return _Fit(
        residual=residual,
        slip_mm=offset,
        log_factor=log_factor,
        slip_per_noise_mm=float(np.sqrt(inverse[0, 0])),
        log_factor_per_noise=float(np.sqrt(inverse[1, 1])),
        numbers=int(use.sum()),
    )


def _slope(reference: DepthDoseTable, r: FloatArray) -> FloatArray:
    """Slope d ln D / dr of the reference, 1/mm, by a difference that stays inside its range."""
    low, high = reference.range_mm
    near, far = np.maximum(r - 0.01, low), np.minimum(r + 0.01, high)
    rates = reference.rate_gy_per_min(near), reference.rate_gy_per_min(far)
    slope: FloatArray = (np.log(rates[1]) - np.log(rates[0])) / (far - near)
    return slope


def row_noise(residual: FloatArray, numbers: int) -> float:
    """k=1 of a row from the median absolute residual, joined with the usual noise."""
    usual = USUAL_NOISE_PERCENT / 100.0
    freedom = max(residual.size - numbers, 0)
    seen = 1.4826 * float(np.median(np.abs(residual)))  # of a normal distribution
    return float(np.sqrt((USUAL_NOISE_ROWS * usual**2 + freedom * seen**2) / (USUAL_NOISE_ROWS + freedom)))


def _weight(deviate: FloatArray) -> FloatArray:
    return np.where(np.abs(deviate) < _TUKEY, (1.0 - (deviate / _TUKEY) ** 2) ** 2, 0.0)


def _loss(deviate: FloatArray) -> FloatArray:
    """Tukey's biweight loss: the square for small deviates, level for rows that do not belong."""
    part = np.minimum((deviate / _TUKEY) ** 2, 1.0)
    return _TUKEY**2 / 3.0 * (1.0 - (1.0 - part) ** 3)
