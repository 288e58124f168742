"""The second check: every distance, time, dose and radius of a plan again, by code that shares nothing with the first route.

It takes the plan's stored points, the table's rows as read and the prescription.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iort_planner.errors import InputError
from iort_planner.planning import recompute
from iort_planner.planning.plan import Check, PlanSecondCheck

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from iort_planner.planning.plan import Plan

WARN_PERCENT, FAIL_PERCENT = 3.0, 5.0  # issue 4, item 5; clean tables agree within 0.5 %
_SLIP_MM = 0.01  # points are stored to the last bit; this much is no rounding
_HOTTER = 1e-3  # the highest dose on a wall is found to 0.05 %
_SAME_EDGE = (
    1e-5  # of a dose rate: so near to a table's end, inside or outside is rounding; radii's keys have six digits
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondCheckLimits:
    """From which difference on the second check warns and fails, percent; stricter than the defaults, never looser.

    Raises
    ------
    InputError
        If a limit is not above 0, looser than the default, or the check would fail before it warns.
    """

    warn_percent: float = WARN_PERCENT
    fail_percent: float = FAIL_PERCENT

    def __post_init__(self) -> None:
        for name, value, most in (
            ("warn", self.warn_percent, WARN_PERCENT),
            ("fail", self.fail_percent, FAIL_PERCENT),
        ):
            if not 0.0 < value <= most:  # written so that NaN is refused too
                raise InputError(
                    f"--second-check-{name} {value:g} % must lie above 0 and up to {most:g} % (this tool's own limit, which "
                    "can only be made stricter)"
                )
        if self.warn_percent > self.fail_percent:
            raise InputError(
                f"--second-check-warn {self.warn_percent:g} % lies above --second-check-fail {self.fail_percent:g} %: "
                "give a smaller one"
            )


DEFAULT_LIMITS = SecondCheckLimits()


@dataclass(frozen=True, slots=True)
class _Pair:
    """One number of the plan and its recomputation; None where one of them says that there is no value."""

    kind: str
    name: str
    first: float | None
    second: float | None

    @property
    def percent(self) -> float:
        """The difference in percent of the second; infinite where either is no number above 0."""
        if self.first is None or self.second is None:
            return 0.0 if self.first is self.second else math.inf
        if not all(math.isfinite(value) and value > 0.0 for value in (self.first, self.second)):
            return math.inf
        return 100.0 * abs(self.first / self.second - 1.0)


def second_check(
    plan: Plan,
    rows: Sequence[tuple[float, float]],
    limits: SecondCheckLimits = DEFAULT_LIMITS,
    polar: recompute.Polar | None = None,
    tg43: recompute.Tg43 | None = None,
) -> tuple[PlanSecondCheck, Check]:
    """Recompute a plan and compare.

    Parameters
    ----------
    plan : Plan
    rows : sequence of (float, float), (mm, Gy/min)
        Of the table as read, distances from the source centre, without the output of the day.
    limits : SecondCheckLimits
    polar : tuple of lists or None
        The table's polar anisotropy as read.
    tg43 : Tg43 or None
        The TG-43 source as read, where rows and polar anisotropy were computed from one: doses are recomputed from it too.

    Returns
    -------
    PlanSecondCheck
        Each difference in percent.
    Check
        ``second-check``.
    """
    problem = recompute.rows_problem(rows)
    pairs: list[_Pair] = []
    if problem is not None:
        problem = f"the table's rows cannot be used: {problem}"
    else:
        try:
            problem = _contradiction(plan) or _hotter_elsewhere(plan, rows, polar)
            pairs = [*_pairs(plan, rows, polar), *([] if tg43 is None else _tg43_pairs(plan, tg43))]
        except (ArithmeticError, ValueError) as error:
            problem = f"the plan's numbers cannot be recomputed ({error})"
    percents = {pair.name: pair.percent for pair in pairs}
    found = PlanSecondCheck(
        warn_percent=limits.warn_percent,
        fail_percent=limits.fail_percent,
        differences_percent={name: value if math.isfinite(value) else None for name, value in percents.items()},
    )
    worst = max(percents.values(), default=math.inf)
    if problem is not None:
        return found, Check(id="second-check", status="fail", message=problem)
    status = "fail" if worst > limits.fail_percent else "warn" if worst > limits.warn_percent else "pass"
    kinds = {pair.kind: max(other.percent for other in pairs if other.kind == pair.kind) for pair in pairs}
    return found, Check(
        id="second-check",
        status=status,
        message=f"{found.text}, from the stored points, the table's rows and the prescription; largest by kind: "
        + ", ".join(f"{kind} {percent:.2f} %" for kind, percent in kinds.items())
        + f"; warns above {limits.warn_percent:g} %, fails above {limits.fail_percent:g} %",
    )


def _contradiction(plan: Plan) -> str | None:
    """What cannot be put in percent: an input that is no number, or a source that does not fit the applicator."""
    asked, source = plan.prescription, plan.source
    inputs = {
        "prescribed dose": asked.dose_gy,
        "limit": asked.limit_gy,
        "RBE": asked.rbe,
        "applicator's diameter": source.outer_diameter_mm,
        "tip-to-source distance": source.tip_to_source_mm,
        "output of the day": recompute.output_factor(plan),
        **{f"dwell {n}": dwell.time_s for n, dwell in enumerate(plan.dwells, start=1)},
    }
    for name, value in inputs.items():
        if not (math.isfinite(value) and value > 0.0):
            return f"{name} is {value:g}, must be finite and above 0"
    slip_mm = recompute.source_slip_mm(plan)
    if not slip_mm <= _SLIP_MM:  # NaN too
        return f"source centre and tip are {slip_mm:.2f} mm at odds with the applicator's tip-to-source distance"
    return None


def _hotter_elsewhere(plan: Plan, rows: Sequence[tuple[float, float]], polar: recompute.Polar | None) -> str | None:
    """Whether a point of the canal that the plan stores gets more than the one it calls the hottest."""
    source = plan.dwells[0].source_lps_mm
    hottest, *others = (
        recompute.rate_gy_per_min(rows, math.dist(source, point)) * recompute.polar_factor(polar, plan, point)
        for point in (plan.result.canal_max_point_lps_mm, plan.canal.nearest_point_lps_mm, *plan.canal.points_lps_mm)
    )
    more = [100.0 * (rate / hottest - 1.0) for rate in others if rate > hottest * (1.0 + _HOTTER)]
    return f"another point of the canal gets {max(more):.2f} % more than the plan's highest dose" if more else None


def _pairs(plan: Plan, rows: Sequence[tuple[float, float]], polar: recompute.Polar | None) -> Iterator[_Pair]:
    """Every number that is looked at."""
    asked, result, canal = plan.prescription, plan.result, plan.canal
    factor = recompute.output_factor(plan)
    minutes = sum(dwell.time_s for dwell in plan.dwells) / 60.0

    def rate(distance_mm: float) -> float:
        return factor * recompute.rate_gy_per_min(rows, distance_mm)

    source, tip = plan.dwells[0].source_lps_mm, plan.needles[0].tip_lps_mm
    to_canal = math.dist(source, canal.nearest_point_lps_mm)
    to_tip = math.dist(tip, canal.segments.tip.to_lps_mm)
    hottest = result.canal_max_point_lps_mm
    canal_rate = rate(math.dist(source, hottest)) * recompute.polar_factor(polar, plan, hottest)
    yield _Pair("distances", "canal from source centre", canal.distance_from_source_mm, to_canal)
    yield _Pair("distances", "canal from tip", canal.distance_from_tip_mm, to_tip)
    if canal.points_lps_mm:  # the wall of a found or drawn canal is not in the plan
        nearest = min(math.dist(source, point) for point in canal.points_lps_mm)
        yield _Pair("distances", "nearest of the points by hand", to_canal, nearest)
    depth = recompute.depth_from_source_mm(plan)
    if depth is None:
        time_s = 60.0 * asked.limit_gy / canal_rate
        radius = recompute.radius_mm(rows, asked.dose_gy / minutes / factor)
        yield _radius(
            "depth from source centre", asked.depth_from_source_mm, radius, rows, asked.dose_gy, minutes * factor
        )
        depth = radius
    else:
        time_s = 60.0 * asked.dose_gy / rate(depth)
        yield _Pair("distances", "depth from source centre", asked.depth_from_source_mm, depth)
    if plan.source.output is not None:
        yield _Pair("output", "output of the day", plan.source.output.corrected_ratio, factor)

    safe_s = 60.0 * asked.limit_gy / canal_rate
    yield _Pair("times", "dwell time", result.dwell_time_s, time_s)
    yield _Pair("times", "dwells in all", 60.0 * minutes, time_s)
    yield _Pair("times", "largest safe time", result.max_safe_dwell_time_s, safe_s)

    canal_gy = canal_rate * minutes
    yield _Pair("doses", "canal dose", result.canal_max_gy, canal_gy)
    if depth is not None:
        yield _Pair("doses", "prescribed dose", asked.dose_gy, rate(depth) * minutes)
    first_mm, surface_mm = rows[0][0], 0.5 * plan.source.outer_diameter_mm
    surface = rate(surface_mm) * minutes if surface_mm >= first_mm else None
    yield _Pair("doses", "surface dose", result.applicator_surface_gy, surface)
    yield _Pair("distances", "first row", result.nearest_table_radius_mm, first_mm)
    yield _Pair("doses", "dose at the first row", result.nearest_table_dose_gy, rate(first_mm) * minutes)
    water = result.engines.get("water")
    if water is not None:
        yield _Pair("doses", "water engine, canal dose", water.canal_max_gy, canal_gy)
        yield _Pair("times", "water engine, largest safe time", water.dwell_time_for_limit_s, safe_s)
        if depth is not None:
            at_depth = rate(depth) * minutes
            yield _Pair("doses", "water engine, prescribed dose", water.dose_at_prescription_gy, at_depth)
    for key, radius in result.isodose_radius_mm.items():
        again = recompute.radius_mm(rows, float(key) / minutes / factor)
        yield _radius(f"radius of {key} Gy", radius, again, rows, float(key), minutes * factor)

    yield _Pair("Gy(RBE)", "canal dose, RBE-weighted", result.canal_max_gy_rbe, canal_gy * asked.rbe)
    yield _Pair("Gy(RBE)", "prescribed dose, RBE-weighted", asked.dose_gy_rbe, asked.dose_gy * asked.rbe)
    yield _Pair("Gy(RBE)", "limit, RBE-weighted", asked.limit_gy_rbe, asked.limit_gy * asked.rbe)
    cord = plan.cord
    if cord is not None:
        to_cord = math.dist(source, cord.nearest_point_lps_mm)
        yield _Pair("distances", "cord from source centre", cord.distance_from_source_mm, to_cord)
        hot = cord.max_dose_point_lps_mm or cord.nearest_point_lps_mm
        inside = rows[0][0] <= to_cord <= rows[-1][0]
        cord_gy = None
        if inside:
            cord_gy = rate(math.dist(source, hot)) * recompute.polar_factor(polar, plan, hot) * minutes
        yield _Pair("doses", "cord dose", cord.max_dose_gy, cord_gy)
        weighted = None if cord_gy is None else cord_gy * asked.rbe
        yield _Pair("Gy(RBE)", "cord dose, RBE-weighted", cord.max_dose_gy_rbe, weighted)


def _tg43_pairs(plan: Plan, source: recompute.Tg43) -> Iterator[_Pair]:
    """Both engines against the formalism's own tables."""
    asked, result = plan.prescription, plan.result
    factor, minutes = recompute.output_factor(plan), sum(dwell.time_s for dwell in plan.dwells) / 60.0
    at_canal = recompute.distance_and_angle(plan, result.canal_max_point_lps_mm)
    canal_rate = factor * recompute.tg43_gy_per_min(source, *at_canal)
    engine = result.engines["tg43"]
    yield _Pair("TG-43", "canal dose, from the TG-43 tables", result.canal_max_gy, canal_rate * minutes)
    yield _Pair("TG-43", "tg43 engine, canal dose", engine.canal_max_gy, canal_rate * minutes)
    yield _Pair(
        "TG-43", "tg43 engine, largest safe time", engine.dwell_time_for_limit_s, 60.0 * asked.limit_gy / canal_rate
    )
    depth = recompute.depth_from_source_mm(plan)
    depth = asked.depth_from_source_mm if depth is None else depth
    if depth is not None:
        at_depth = factor * recompute.tg43_gy_per_min(source, depth, 90.0) * minutes
        yield _Pair("TG-43", "prescribed dose, from the TG-43 tables", asked.dose_gy, at_depth)
        yield _Pair("TG-43", "tg43 engine, prescribed dose", engine.dose_at_prescription_gy, at_depth)


def _radius(
    name: str,
    first: float | None,
    second: float | None,
    rows: Sequence[tuple[float, float]],
    dose_gy: float,
    minutes_at_table_output: float,
) -> _Pair:
    """A radius that one of the two puts outside the table; at the table's very end that is rounding."""
    if (first is None) != (second is None):
        rate = dose_gy / minutes_at_table_output
        if any(abs(rate / end - 1.0) < _SAME_EDGE for _, end in (rows[0], rows[-1])):
            first = second = None
    return _Pair("radii", name, first, second)
