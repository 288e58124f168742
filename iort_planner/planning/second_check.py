"""The second check: distance, dose rate, time and dose again, by code that shares nothing with the first route.

It takes the plan's stored points, the table's rows as read and the prescription; no numpy, no scipy, no pint.
Between rows it draws the cubic through the four nearest rows in log-log (Neville), not PCHIP.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from iort_planner.planning.plan import Check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iort_planner.planning.plan import Plan

WARN_PERCENT = 3.0  # issue 4, item 5: warn at 3 %, fail at 5 %
FAIL_PERCENT = 5.0


def recomputed_rate_gy_per_min(rows: Sequence[tuple[float, float]], distance_mm: float) -> float:
    """Dose rate between rows ``(distance mm, Gy/min)`` by Neville's cubic in ln-ln."""
    if not rows[0][0] <= distance_mm <= rows[-1][0]:
        return math.nan
    above = next(n for n, (r, _) in enumerate(rows) if r >= distance_mm)
    first = max(0, min(above - 2, len(rows) - 4))
    near = rows[first : first + 4]
    x = math.log(distance_mm)
    xs = [math.log(r) for r, _ in near]
    ys = [math.log(rate) for _, rate in near]
    for width in range(1, len(xs)):
        for n in range(len(xs) - width):
            ys[n] = ((x - xs[n + width]) * ys[n] + (xs[n] - x) * ys[n + 1]) / (xs[n] - xs[n + width])
    return math.exp(ys[0])


def second_check(plan: Plan, rows: Sequence[tuple[float, float]]) -> Check:
    """Compare canal dose, prescription dose and largest safe time with their recomputation."""
    source, nearest = plan.dwells[0].source_lps_mm, plan.canal.nearest_point_lps_mm
    minutes = sum(dwell.time_s for dwell in plan.dwells) / 60.0
    tip, needle = plan.needles[0].tip_lps_mm, plan.needles[0]
    expected_source = [t + plan.source.tip_to_source_mm * a for t, a in zip(tip, needle.axis_lps, strict=True)]
    slip_mm = math.dist(expected_source, source)
    canal_rate = recomputed_rate_gy_per_min(rows, math.dist(source, nearest))
    differences = {
        "canal dose": _percent(plan.result.canal_max_gy, canal_rate * minutes),
        "largest safe time": _percent(
            plan.result.max_safe_dwell_time_s, 60.0 * plan.prescription.limit_gy / canal_rate
        ),
    }
    depth = plan.prescription.depth_from_source_mm
    if depth is not None:
        rate = recomputed_rate_gy_per_min(rows, depth)
        differences["prescribed dose"] = _percent(plan.prescription.dose_gy, rate * minutes)
    name, worst = max(differences.items(), key=lambda item: math.inf if math.isnan(item[1]) else item[1])
    if slip_mm > 0.01:
        return Check(
            id="second-check",
            status="fail",
            message=f"source centre and tip are {slip_mm:.2f} mm at odds with the applicator's tip-to-source distance",
        )
    # 'not <=' so that NaN fails
    status = "fail" if not worst <= FAIL_PERCENT else "warn" if worst > WARN_PERCENT else "pass"
    return Check(
        id="second-check",
        status=status,
        message=f"recomputed from the stored points and the table's rows by other code: largest difference "
        f"{worst:.2f} % ({name}); warns above {WARN_PERCENT:g} %, fails above {FAIL_PERCENT:g} %",
    )


def _percent(first: float, second: float) -> float:
    return 100.0 * abs(first / second - 1.0)
