"""Own arithmetic of the second check: interpolation, its inverse, and numbers of a plan once more, in plain Python.

Nothing of the first route is used: no numpy, scipy or pint, no table value, no time calculation. Between rows stands the
polynomial through five rows in ln-ln (Neville): four miss an exponential of 2 mm decay between rows of 2 mm by 0.4 %, five by
0.1 %; six follow a noise of 1 % in the rows off to 15 %. The first route draws a monotone cubic with slopes of its own.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iort_planner.planning.plan import Plan, Vector

# polar angles in degrees from the distal axis, distances in mm, a row of factors for each angle
Polar = tuple[list[float], list[float], list[list[float]]]


class Tg43(NamedTuple):
    """A TG-43 source as read; ``radial`` holds rows (mm, g), between which ln g is linear, or g if ``linear``."""

    gy_per_min: float  # at 10 mm and 90 degrees: dose-rate constant times air-kerma strength
    active_length_mm: float
    radial: list[tuple[float, float]]
    linear: bool
    polar: Polar


_ROWS = 5
_EDGE = 1e-9  # a radius that is a row's own comes back as that row


def rows_problem(rows: Sequence[tuple[float, float]]) -> str | None:
    """What is wrong with rows ``(distance mm, Gy/min)``; None if nothing."""
    if len(rows) < 2:
        return "fewer than two rows"
    if not all(math.isfinite(value) and value > 0.0 for row in rows for value in row):
        return "a number that is not finite and above 0"
    for (r, rate), (further, less) in itertools.pairwise(rows):
        if not (r < further and rate > less):
            return f"distance or dose rate out of order at {further:g} mm"
    return None


def rate_gy_per_min(rows: Sequence[tuple[float, float]], distance_mm: float) -> float:
    """Dose rate at a distance; NaN outside the rows."""
    if not rows[0][0] <= distance_mm <= rows[-1][0]:
        return math.nan
    above = next(n for n, (r, _) in enumerate(rows) if r >= distance_mm)
    # two rows nearer and three farther, which lie closer in ln r; the same ones between two rows, so that it is continuous
    first = max(0, min(above - 2, len(rows) - _ROWS))
    near = rows[first : first + _ROWS]
    x = math.log(distance_mm)
    xs = [math.log(r) for r, _ in near]
    ys = [math.log(rate) for _, rate in near]
    for width in range(1, len(xs)):
        for n in range(len(xs) - width):
            ys[n] = ((x - xs[n + width]) * ys[n] + (xs[n] - x) * ys[n + 1]) / (xs[n] - xs[n + width])
    return math.exp(ys[0])


def polar_factor(polar: Polar | None, plan: Plan, point: Vector) -> float:
    """Factor on the transverse plane's dose rate at a point: linear in angle and distance, held beyond the distances.

    NaN at angles that the rows do not reach; 1 for a table without a polar anisotropy.
    """
    return 1.0 if polar is None else _factor(polar, *distance_and_angle(plan, point))


def distance_and_angle(plan: Plan, point: Vector) -> tuple[float, float]:
    """Of a point from the first dwell's source centre: mm, and degrees from the distal axis."""
    source, axis = plan.dwells[0].source_lps_mm, plan.needles[0].axis_lps
    offset = [a - b for a, b in zip(point, source, strict=True)]
    forwards = -sum(a * b for a, b in zip(offset, axis, strict=True))
    length = math.hypot(*offset)
    return length, math.degrees(math.acos(max(-1.0, min(1.0, forwards / length))))


def tg43_gy_per_min(source: Tg43, distance_mm: float, angle_deg: float) -> float:
    """Dose rate by TG-43U1, equation 1 (Rivard et al. 2004, doi:10.1118/1.1646040); NaN outside the rows.

    The line's geometry function is written with the angle between the ways to its two ends.
    """
    rows = source.radial
    if not rows[0][0] <= distance_mm <= rows[-1][0]:
        return math.nan
    radii, values = [r for r, _ in rows], [g if source.linear else math.log(g) for _, g in rows]
    radial = _linear(radii, values, distance_mm)
    fall = _geometry(source.active_length_mm, distance_mm, angle_deg) / _geometry(source.active_length_mm, 10.0, 90.0)
    shape = fall * (radial if source.linear else math.exp(radial))
    return source.gy_per_min * shape * _factor(source.polar, distance_mm, angle_deg)


def _geometry(length_mm: float, distance_mm: float, angle_deg: float) -> float:
    along = distance_mm * math.cos(math.radians(angle_deg))
    across = distance_mm * math.sin(math.radians(angle_deg))
    if length_mm == 0.0:
        return 1.0 / distance_mm**2
    if across < 1e-6 * distance_mm:
        return 1.0 / (distance_mm**2 - 0.25 * length_mm**2)
    seen = math.atan2(across, along - 0.5 * length_mm) - math.atan2(across, along + 0.5 * length_mm)
    return seen / (length_mm * across)


def _factor(polar: Polar, distance_mm: float, angle_deg: float) -> float:
    angles, distances, factors = polar
    if not angles[0] - 1e-6 <= angle_deg <= angles[-1] + 1e-6:
        return math.nan
    return _linear(angles, [_linear(distances, row, distance_mm) for row in factors], angle_deg)


def _linear(nodes: Sequence[float], values: Sequence[float], at: float) -> float:
    if at <= nodes[0]:
        return values[0]
    for n in range(1, len(nodes)):
        if at <= nodes[n]:
            part = (at - nodes[n - 1]) / (nodes[n] - nodes[n - 1])
            return values[n - 1] + part * (values[n] - values[n - 1])
    return values[-1]


def radius_mm(rows: Sequence[tuple[float, float]], rate: float) -> float | None:
    """Distance at which a dose rate is reached, by bisection between two rows; None outside the rows."""
    most, least = rows[0][1], rows[-1][1]
    if not least * (1.0 - _EDGE) <= rate <= most * (1.0 + _EDGE):
        return None
    if rate >= most:
        return rows[0][0]
    if rate <= least:
        return rows[-1][0]
    n = next(n for n, (_, value) in enumerate(rows) if value <= rate)
    near, far = rows[n - 1][0], rows[n][0]
    for _ in range(60):  # 2^-60 of a row's step: the last bit of a float
        middle = 0.5 * (near + far)
        if rate_gy_per_min(rows, middle) > rate:
            near = middle
        else:
            far = middle
    return 0.5 * (near + far)


def output_factor(plan: Plan) -> float:
    """The output of the day from the reading and the air as stored; 1 where none was given."""
    output = plan.source.output
    if output is None:
        return 1.0
    if output.temperature_c is None or output.pressure_hpa is None:
        return output.ratio
    kelvin = output.temperature_c + 273.15
    return output.ratio * kelvin * 1013.25 / (293.15 * output.pressure_hpa)


def depth_from_source_mm(plan: Plan) -> float | None:
    """The prescription's depth from the source centre; None where the canal's limit sets the time."""
    asked, source = plan.prescription, plan.source
    start_mm = {"source": 0.0, "surface": 0.5 * source.outer_diameter_mm, "tip": source.tip_to_source_mm}
    if asked.depth_from not in start_mm or asked.depth_mm is None:
        return None
    return start_mm[asked.depth_from] + asked.depth_mm


def source_slip_mm(plan: Plan) -> float:
    """How far the dwell's source centre stands from where tip, axis and applicator put it."""
    needle = plan.needles[0]
    x, y, z = (t + plan.source.tip_to_source_mm * a for t, a in zip(needle.tip_lps_mm, needle.axis_lps, strict=True))
    return math.dist((x, y, z), plan.dwells[0].source_lps_mm)
