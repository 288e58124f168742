"""What the rows of one table say of themselves: units, slope, smoothness, digits, range. Each limit with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from iort_planner.qa.smooth import FEWEST_ROWS, SmoothFit
from iort_planner.source.findings import Finding
from iort_planner.units import FloatArray

if TYPE_CHECKING:
    from iort_planner.qa.results import Status

# 7.04 Gy/min at 8 mm (Sethi et al. 2018, doi:10.3389/fonc.2018.00074) with its exponent 2.65 is the level of this source.
# Scales differ by up to a factor of 2 (AAPM TG-292), 40 kV gives about half, spheres 1.3 times: our own corridor is a
# factor of 5, and 10 for a failure. Units that are mixed up are 17 to 6000 apart.
LEVEL_GY_PER_MIN, LEVEL_AT_MM, LEVEL_EXPONENT, LEVEL_UA = 7.04, 8.0, 2.65, 40.0
LEVEL_WARN, LEVEL_FAIL = 5.0, 10.0
_UNITS = {
    "Gy/s": 1.0 / 60.0,
    "mGy/s": 1000.0 / 60.0,
    "cGy/s": 100.0 / 60.0,
    "Gy/h": 60.0,
    "cGy/min": 100.0,
    "mGy/min": 1000.0,
    "cGy/h": 6000.0,
    "mGy/h": 60000.0,
}
_UNIT_WITHIN = 4.0  # the same corridor, about the level that the mixed-up unit would have
_CM = 10.0**-LEVEL_EXPONENT  # level of a table whose distances are centimetres
POSSIBLE = (1e-6, 1e7)  # our own: from metres to micrometres, from Gy/s to mGy/h
PROBE_RADIUS_MM, FARTHEST_MM = 1.6, 200.0  # probe of 3.2 mm; water phantoms end, and 1/r**2 alone is 1/625 of 8 mm

# Local n in D ~ r^-n. Published: 2.66 over 8 to 13 mm (Sethi 2018), 3 within 0.4 (Armoogum et al. 2007); models give
# 2.58 to 3.0 from 3 to 50 mm. A point source falls at least like 1/r**2. Our own corridor: 2 to 3.6.
SLOPE_WARN, SLOPE_FAIL = (1.95, 3.6), (1.8, 4.5)
SLOPE_RANGE_MM = (5.0, 30.0)  # where those numbers hold
_SLOPE_SIGMA = 3.0

OUTLIER_WARN_PERCENT, OUTLIER_FAIL_PERCENT = 1.0, 2.0  # our own: 2 % are 0.06 mm at 8 mm; positioning reaches that
SCATTER_WARN_PERCENT, SCATTER_FAIL_PERCENT = 1.5, 3.0  # our own: chamber readings scatter 0.3 to 0.5 %
ROUNDING_WARN_PERCENT, ROUNDING_FAIL_PERCENT = 0.5, 1.0  # half a last digit: three digits stay within 0.5 %
WIDEST_STEP = 1.7  # our own, far row over near: the shipped shape at 3, 5, 8, 10, 13 ... mm interpolates within 1 %
CLINICAL_RANGE_MM = (5.0, 30.0)  # what issue and literature ask of a needle table; prescriptions lie at 8 to 15 mm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Rows of a table that can be judged: finite, above 0, distances increasing.

    Parameters
    ----------
    line : ndarray of shape (N,), int
        Line in the file of each row.
    distance_mm, value : ndarray of shape (N,)
    """

    line: npt.NDArray[np.int64]
    distance_mm: FloatArray
    value: FloatArray


def usable_rows(line: npt.NDArray[np.int64], distance_mm: FloatArray, value: FloatArray) -> Rows:
    """Rows that can be judged, by distance; of those at one distance the first."""
    good = _possible(distance_mm) & _possible(value)
    line, distance_mm, value = line[good], distance_mm[good], value[good]
    _, first = np.unique(distance_mm, return_index=True)
    return Rows(line=line[first], distance_mm=distance_mm[first], value=value[first])


def _possible(values: FloatArray) -> npt.NDArray[np.bool_]:
    low, high = POSSIBLE
    return (values >= low) & (values <= high)  # False for NaN


def impossible(line: npt.NDArray[np.int64], distance_mm: FloatArray, value: FloatArray) -> list[Finding]:
    """Rows whose numbers are above 0 and finite, and still no distance or dose rate in any unit; they are not judged."""
    positive = (distance_mm > 0) & (value > 0) & np.isfinite(distance_mm) & np.isfinite(value)
    at = np.flatnonzero(positive & ~(_possible(distance_mm) & _possible(value)))
    if at.size == 0:
        return []
    i = int(at[0])
    text = (
        f"{distance_mm[i]:g} with {value[i]:g} cannot be measured in any unit ({POSSIBLE[0]:g} to {POSSIBLE[1]:g} can); "
        f"{at.size} such row{'s' * (at.size > 1)} left out here: correct it"
    )
    return [Finding("units", "fail", int(line[i]), text)]


def units(rows: Rows, tube_current_ua: float) -> list[Finding]:
    """Whether level and span are those of a 50 kV needle in Gy/min and mm."""
    r, rate = rows.distance_mm, rows.value
    known = (r >= SLOPE_RANGE_MM[0]) & (r <= SLOPE_RANGE_MM[1])
    if not known.any():
        known = np.ones(r.size, dtype=bool)
    level = float(np.median(rate[known] * (r[known] / LEVEL_AT_MM) ** LEVEL_EXPONENT)) * LEVEL_UA / tube_current_ua
    ratio = level / LEVEL_GY_PER_MIN
    found = []
    off = max(ratio, 1.0 / ratio)
    likely = _likely_units(ratio, r)
    if off > LEVEL_WARN:
        found.append(
            Finding(
                "units",
                "fail" if off > LEVEL_FAIL else "warn",
                None,
                f"the dose rates correspond to {level:.3g} Gy/min at 8 mm and 40 uA, a needle gives about 7 "
                f"(factor {LEVEL_FAIL:g} either way, docs/qa.md){likely}",
            )
        )
    if r[0] < PROBE_RADIUS_MM or r[-1] > FARTHEST_MM:
        at = 0 if r[0] < PROBE_RADIUS_MM else -1
        found.append(
            Finding(
                "units",
                "fail",
                int(rows.line[at]),
                f"{r[at]:g} mm {'lies inside the probe' if at == 0 else 'is no distance for this source'} (rows from "
                f"{PROBE_RADIUS_MM:g} to {FARTHEST_MM:g} mm can be){likely or '; check origin and unit of the distances'}",
            )
        )
    if not found:
        found.append(Finding("units", "pass", None, f"level of {level:.3g} Gy/min at 8 mm and span fit mm and Gy/min"))
    return found


def _likely_units(ratio: float, r: FloatArray) -> str:
    """Which unit the numbers would fit, or nothing."""
    if r[-1] < SLOPE_RANGE_MM[0] * 1.6 and 1.0 / _UNIT_WITHIN < ratio / _CM < _UNIT_WITHIN:
        return ": the distances look like cm, give mm"
    fits = [unit for unit, factor in _UNITS.items() if 1.0 / _UNIT_WITHIN < ratio / factor < _UNIT_WITHIN]
    fits.sort(key=lambda unit: abs(np.log(ratio / _UNITS[unit])))
    return f": the rates look like {' or '.join(fits[:2])}, give Gy/min" if fits else ""


def slope(rows: Rows, fit: SmoothFit) -> list[Finding]:
    """Local log-log slope against the corridor, from 5 to 30 mm, with the fit's own uncertainty."""
    r = rows.distance_mm
    inside = np.flatnonzero((r >= SLOPE_RANGE_MM[0]) & (r <= SLOPE_RANGE_MM[1]))
    if inside.size == 0:
        text = f"no rows between {SLOPE_RANGE_MM[0]:g} and {SLOPE_RANGE_MM[1]:g} mm, where the exponent is known"
        return [Finding("slope", "warn", None, text)]
    n, margin = fit.exponent[inside], _SLOPE_SIGMA * fit.exponent_uncertainty[inside]
    low, high = n + margin, n - margin  # what can be excluded
    corridors: tuple[tuple[Status, tuple[float, float]], ...] = (("fail", SLOPE_FAIL), ("warn", SLOPE_WARN))
    for status, (least, most) in corridors:
        if low.min() < least:
            at = int(inside[np.argmin(low)])
            cause = (
                "distance and dose rate look swapped"
                if 0.2 < np.median(n) < 0.6
                else "slower than 1/r^2: distances that start at the applicator's surface or tip look like this"
            )
        elif high.max() > most:
            at = int(inside[np.argmax(high)])
            cause = (
                "distances that are too long (counted from behind the source), or a lower tube voltage, look like this"
            )
        else:
            continue
        text = (
            f"dose falls like r^-{fit.exponent[at]:.2f} at {r[at]:g} mm, outside {SLOPE_WARN[0]:g} to {SLOPE_WARN[1]:g} "
            f"(fail outside {SLOPE_FAIL[0]:g} to {SLOPE_FAIL[1]:g}, docs/qa.md): {cause}"
        )
        return [Finding("slope", status, int(rows.line[at]), text)]
    return [Finding("slope", "pass", None, f"dose falls like r^-{n.min():.2f} to r^-{n.max():.2f} from 5 to 30 mm")]


def smoothness(rows: Rows, fit: SmoothFit | None, stated_percent: float | None) -> list[Finding]:
    """Rows that do not lie on the curve through the others, and the scatter of those that do."""
    if fit is None:
        text = f"{rows.distance_mm.size} rows are too few to judge slope and single rows; give at least {FEWEST_ROWS}"
        return [Finding("smoothness", "warn", None, text)]
    found = []
    for i in sorted(fit.outliers):
        off = float(fit.residual_percent[i])
        if abs(off) < OUTLIER_WARN_PERCENT:
            continue
        found.append(
            Finding(
                "outlier",
                "fail" if abs(off) >= OUTLIER_FAIL_PERCENT else "warn",
                int(rows.line[i]),
                f"the row at {rows.distance_mm[i]:g} mm ({rows.value[i]:g}) lies {abs(off):.1f} % "
                f"{'above' if off > 0 else 'below'} the curve through the others, which scatter {fit.noise_percent:.2f} % "
                f"(warn from {OUTLIER_WARN_PERCENT:g} %, fail from {OUTLIER_FAIL_PERCENT:g} %): correct or measure it again",
            )
        )
    noise = fit.noise_percent
    status: Status = "fail" if noise > SCATTER_FAIL_PERCENT else "warn" if noise > SCATTER_WARN_PERCENT else "pass"
    text = f"rows scatter {noise:.2f} % about a smooth curve"
    if status != "pass":
        text += (
            f", more than {SCATTER_WARN_PERCENT:g} % (fail over {SCATTER_FAIL_PERCENT:g} %): check digits and positions"
        )
    elif stated_percent is not None and noise > 2.0 * stated_percent and noise > OUTLIER_WARN_PERCENT:
        status = "warn"
        text += f", more than twice the stated uncertainty of {stated_percent:.2g} % (k=1): one of the two is wrong"
    return [*found, Finding("smoothness", status, None, text)]


def rounding_percent(value: FloatArray) -> FloatArray:
    """Half a last digit of each value, percent, (N,).

    Numbers lose their trailing zeros when read: a row is taken to have as many decimals as any row of larger values.
    """
    decimals = np.array([_decimals(v) for v in value])
    largest_first = np.argsort(-value, kind="stable")
    shown = np.empty(value.size)
    shown[largest_first] = np.maximum.accumulate(decimals[largest_first])
    result: FloatArray = 50.0 * 10.0**-shown / value
    return result


def _decimals(value: float) -> int:
    exponent = Decimal(repr(float(value))).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def rounding(rows: Rows, trusted_range_mm: tuple[float, float]) -> list[Finding]:
    """Whether the values have digits enough; outside the trusted range it is a warning at most."""
    half = rounding_percent(rows.value)
    low, high = trusted_range_mm
    trusted = (rows.distance_mm >= low) & (rows.distance_mm <= high)
    coarse = half > ROUNDING_WARN_PERCENT
    if not coarse.any():
        return [Finding("rounding", "pass", None, f"half a last digit is at most {half.max():.2g} % of a value")]
    status: Status = "fail" if np.any(trusted & (half > ROUNDING_FAIL_PERCENT)) else "warn"
    at = int(np.argmax(np.where(trusted, half, 0.0) if status == "fail" else half))
    text = (
        f"values are rounded: half a last digit of {rows.value[at]:g} at {rows.distance_mm[at]:g} mm is {half[at]:.1f} % "
        f"({int(coarse.sum())} rows over {ROUNDING_WARN_PERCENT:g} %; fail over {ROUNDING_FAIL_PERCENT:g} % in the trusted "
        "range): give four digits"
    )
    return [Finding("rounding", status, int(rows.line[at]), text)]


def coverage(rows: Rows) -> list[Finding]:
    """Whether the rows reach from 5 to 30 mm without wide gaps."""
    r = rows.distance_mm
    low, high = CLINICAL_RANGE_MM
    found = []
    if r[0] > low or r[-1] < high:
        text = (
            f"rows reach from {r[0]:g} to {r[-1]:g} mm, not from {low:g} to {high:g} mm: plans beyond them stop, "
            "dose is never extrapolated"
        )
        found.append(Finding("range", "warn", None, text))
    steps = r[1:] / r[:-1]
    if steps.max() > WIDEST_STEP:
        at = int(np.argmax(steps))
        text = (
            f"no row between {r[at]:g} and {r[at + 1]:g} mm: a step over {WIDEST_STEP:g}-fold is not interpolated to 1 %; "
            "add rows"
        )
        found.append(Finding("range", "warn", int(rows.line[at + 1]), text))
    return found or [Finding("range", "pass", None, f"rows reach from {r[0]:g} to {r[-1]:g} mm")]
