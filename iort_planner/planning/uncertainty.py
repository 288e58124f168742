"""How far canal dose, time and radius may be off: a budget of k=1 parts, and bands by two routes (docs/uncertainty.md).

The dose rate's errors multiply, so they are normal in ln D. The distance's error is normal in mm, and what it does to ln D
follows the table's own curve: 1 mm at 8 mm is -27 or +42 %, not 33 % both ways. `budget` folds the two numerically;
`sampled_band_gy` draws the same causes in three dimensions with a seed. Neither ever extrapolates: what lies nearer than the
table's first row counts as more than any dose, what lies beyond its last row as less than any.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from iort_planner.errors import InputError
from iort_planner.units import FloatArray

# The isotropy of the needle's dose is not published; azimuthally the bare probe is within 2 % (Xiao 2015), and the maker's
# limit for isotropy is about 10 % as remembered. Our own reading: 10 % as k=1 for any direction.
ISOTROPY_ASSUMED_PERCENT = 10.0
# Constancy checks allow 5 to 10 % against baseline, as remembered: our own reading of 10 % as k=2 where nothing was measured;
# 2 % is our own for a chamber's reading of the day with its air density.
OUTPUT_NOT_MEASURED_PERCENT, OUTPUT_MEASURED_PERCENT = 5.0, 2.0

SEED, DRAWS = 20261126, 200_000
_NODES, _REACH = 801, 7.0  # of the fold over the distance, within 7 standard deviations
_K1, _K2, _P95 = float(ndtr(1.0)), float(ndtr(2.0)), 0.975

Band = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Causes:
    """What may be off, each k=1.

    Parameters
    ----------
    table_percent, scale_percent, output_percent, interpolation_percent, anisotropy_percent : float, percent
        Of the dose rate, independent of each other.
    tip_covariance_lps_mm2 : ndarray of shape (3, 3), mm2
        Of the source's position: the tip's, as the axis moves with it.
    canal_mm : float, mm
        Of the wall along the way from the source.
    source_lps_mm, wall_lps_mm, axis_lps : ndarray of shape (3,)
        Source centre, the wall's point with the highest dose, and the unit axis from the tip towards the hub.

    Raises
    ------
    InputError
        If a number is not finite or negative, or source and wall coincide.
    """

    table_percent: float
    scale_percent: float
    output_percent: float
    interpolation_percent: float
    anisotropy_percent: float
    tip_covariance_lps_mm2: FloatArray
    canal_mm: float
    source_lps_mm: FloatArray
    wall_lps_mm: FloatArray
    axis_lps: FloatArray

    def __post_init__(self) -> None:
        parts = (*self.dose_rate_parts, self.canal_mm)
        if not all(math.isfinite(part) and part >= 0.0 for part in parts):
            raise InputError(f"uncertainties {parts} must be finite and not negative")
        for name in ("tip_covariance_lps_mm2", "source_lps_mm", "wall_lps_mm", "axis_lps"):
            array = np.array(getattr(self, name), dtype=np.float64)
            if not np.all(np.isfinite(array)):
                raise InputError(f"uncertainty: {name} must hold finite numbers")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if self.distance_mm <= 0.0 or float(np.min(np.linalg.eigvalsh(self.tip_covariance_lps_mm2))) < -1e-12:
            raise InputError("uncertainty: the wall must lie off the source, and a covariance has no negative variance")

    @property
    def dose_rate_parts(self) -> tuple[float, ...]:
        """The parts that multiply the dose rate, percent."""
        return (
            self.table_percent,
            self.scale_percent,
            self.output_percent,
            self.interpolation_percent,
            self.anisotropy_percent,
        )

    @property
    def ln_rate_sigma(self) -> float:
        """Of ln dose rate: for factors near 1 a percent is a hundredth of ln."""
        return math.hypot(*self.dose_rate_parts) / 100.0

    @property
    def distance_mm(self) -> float:
        """From the source to the wall's point."""
        return float(np.linalg.norm(self.wall_lps_mm - self.source_lps_mm))

    @property
    def towards(self) -> FloatArray:
        """Unit vector from the source to the wall's point."""
        result: FloatArray = (self.wall_lps_mm - self.source_lps_mm) / self.distance_mm
        return result

    @property
    def tip_along_mm(self) -> float:
        """How far an error of the tip along the needle's axis moves the source towards the wall."""
        part = float(self.axis_lps @ self.towards)
        return abs(part) * math.sqrt(max(float(self.axis_lps @ self.tip_covariance_lps_mm2 @ self.axis_lps), 0.0))

    @property
    def tip_mm(self) -> float:
        """How far any error of the tip moves the source towards the wall."""
        return math.sqrt(max(float(self.towards @ self.tip_covariance_lps_mm2 @ self.towards), 0.0))

    @property
    def tip_across_mm(self) -> float:
        """What is left of `tip_mm` beside `tip_along_mm`."""
        return math.sqrt(max(self.tip_mm**2 - self.tip_along_mm**2, 0.0))

    @property
    def distance_sigma_mm(self) -> float:
        """Of the distance to the wall. The wall is taken as flat: what moves along it changes the distance in second order."""
        return math.hypot(self.tip_mm, self.canal_mm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What the causes do to the canal's dose.

    The ``*_percent`` are each cause alone, k=1, linear in ln D (percent of the dose). Bands are central intervals of the
    whole distribution: 68.3 % (k=1), 95.4 % (k=2) and 95 %; an end is None where it lies outside the table.
    """

    dose_rate_percent: float
    tip_along_percent: float
    tip_across_percent: float
    canal_wall_percent: float
    total_percent: float
    band_k1_gy: Band
    band_k2_gy: Band
    band_95_gy: Band
    probability_over_limit: float


def budget(
    causes: Causes,
    *,
    rate_gy_per_min: Callable[[FloatArray], FloatArray],
    range_mm: tuple[float, float],
    exponent: float,
    canal_dose_gy: float,
    limit_gy: float,
) -> Budget:
    """Budget and bands of the canal's dose.

    Parameters
    ----------
    causes : Causes
    rate_gy_per_min : callable
        Dose rate at distances in mm, shape kept, inside ``range_mm`` (`DepthDoseTable.rate_gy_per_min`).
    range_mm : (float, float), mm
        Of the table.
    exponent : float
        N in D ~ r^-n at the wall.
    canal_dose_gy, limit_gy : float, Gy
    """
    per_mm = 100.0 * exponent / causes.distance_mm
    parts = {
        "dose_rate_percent": 100.0 * causes.ln_rate_sigma,
        "tip_along_percent": per_mm * causes.tip_along_mm,
        "tip_across_percent": per_mm * causes.tip_across_mm,
        "canal_wall_percent": per_mm * causes.canal_mm,
    }
    fold = _Fold(causes, rate_gy_per_min, range_mm, canal_dose_gy)
    return Budget(
        **parts,
        total_percent=math.hypot(*parts.values()),
        band_k1_gy=fold.band(_K1),
        band_k2_gy=fold.band(_K2),
        band_95_gy=fold.band(_P95),
        probability_over_limit=fold.share_above(limit_gy),
    )


class _Fold:
    """Distribution of ln dose: a normal in ln rate round each distance, weighted by a normal in the distance."""

    def __init__(
        self,
        causes: Causes,
        rate: Callable[[FloatArray], FloatArray],
        range_mm: tuple[float, float],
        canal_dose_gy: float,
    ) -> None:
        r0, sigma_mm = causes.distance_mm, causes.distance_sigma_mm
        self.sigma = max(causes.ln_rate_sigma, 1e-9)
        if sigma_mm <= 0.0:
            r, weight = np.array([r0]), np.array([1.0])
        else:
            edges = np.clip(r0 + sigma_mm * np.linspace(-_REACH, _REACH, _NODES + 1), *range_mm)
            weight = np.diff(ndtr((edges - r0) / sigma_mm))
            r = 0.5 * (edges[1:] + edges[:-1])
        # distances nearer than the first row: more than any dose; beyond the last row: less than any
        low, high = range_mm
        self.beyond = float(1.0 - ndtr((high - r0) / sigma_mm)) if sigma_mm > 0.0 else 0.0
        self.nearer = float(ndtr((low - r0) / sigma_mm)) if sigma_mm > 0.0 else 0.0
        used = weight > 0.0
        self.weight = weight[used] * (1.0 - self.nearer - self.beyond) / float(np.sum(weight[used]))
        at_r0 = float(rate(np.array([r0]))[0])
        self.ln_dose = math.log(canal_dose_gy) + np.log(rate(r[used]) / at_r0)

    def share_below(self, ln_gy: float) -> float:
        """Probability of less than a dose."""
        return self.beyond + float(self.weight @ ndtr((ln_gy - self.ln_dose) / self.sigma))

    def share_above(self, dose_gy: float) -> float:
        """Probability of more than a dose, Gy."""
        return min(max(1.0 - self.share_below(math.log(dose_gy)), 0.0), 1.0)

    def band(self, upper: float) -> Band:
        """Central interval whose upper end is the quantile ``upper``, Gy."""
        return self._quantile(1.0 - upper), self._quantile(upper)

    def _quantile(self, part: float) -> float | None:
        if not self.beyond < part < 1.0 - self.nearer:
            return None
        low = float(self.ln_dose.min()) - 9.0 * self.sigma
        high = float(self.ln_dose.max()) + 9.0 * self.sigma
        return math.exp(brentq(lambda y: self.share_below(y) - part, low, high, xtol=1e-10))


def sampled_band_gy(
    causes: Causes,
    *,
    rate_gy_per_min: Callable[[FloatArray], FloatArray],
    range_mm: tuple[float, float],
    canal_dose_gy: float,
    seed: int = SEED,
    draws: int = DRAWS,
) -> Band:
    """The 95 % band of the canal's dose by drawing every cause; parameters as in `budget`. Repeatable for a seed.

    The tip moves in three dimensions, the wall (flat) along its normal, and each part of the dose rate has a draw of its own.
    """
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(causes.tip_covariance_lps_mm2)
    moved = rng.standard_normal((draws, 3)) * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    wall = causes.wall_lps_mm - causes.source_lps_mm + rng.normal(0.0, causes.canal_mm, draws)[:, None] * causes.towards
    r = (wall - moved) @ causes.towards
    ln_factor = np.sum([rng.normal(0.0, part / 100.0, draws) for part in causes.dose_rate_parts], axis=0)
    low, high = range_mm
    at_wall = float(rate_gy_per_min(np.array([causes.distance_mm]))[0])
    with np.errstate(divide="ignore"):
        rate = rate_gy_per_min(np.clip(r, low, high))
    dose = canal_dose_gy * rate / at_wall * np.exp(ln_factor)
    dose[r < low], dose[r > high] = np.inf, 0.0
    first, last = np.quantile(dose, [1.0 - _P95, _P95], method="nearest")
    return (float(first) if 0.0 < first < np.inf else None), (float(last) if 0.0 < last < np.inf else None)


def ln_normal_band(value: float, sigma: float, k: float = 2.0) -> tuple[float, float]:
    """``value`` times and divided by e to the ``k sigma``: of what depends on the dose rate alone."""
    return value * math.exp(-k * sigma), value * math.exp(k * sigma)
