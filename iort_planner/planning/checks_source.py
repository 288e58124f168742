"""Checks of what the source gives: marks, acceptance and range of the table, output of the day (docs/checks.md)."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from iort_planner.dose.engine_dose import METAL, REPLACED
from iort_planner.planning.plan import Check, Plan, PlanSource, PlanTissue
from iort_planner.source.depth_dose import is_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iort_planner.imaging.geometry_checks import Status
    from iort_planner.planning.checks import Evidence

# Our own reading of what physicists use for constancy against baseline, 5 to 10 % (no printed tolerance was found): from 5 %
# on it is worth a look, from 10 % on table and source no longer belong together, and a factor does not mend that.
OUTPUT_WARN_PERCENT, OUTPUT_FAIL_PERCENT = 5.0, 10.0
MOST_STATISTICAL_PERCENT = 5.0  # our own: at k=2 the dose in bone is then 10 % uncertain by the computation alone
MOST_UNBELIEVED = 0.02  # our own: a needle alone is under 1 % of the voxels, screws and rods are more
OUTPUT_MAX_AGE_DAYS = 7  # our own: a reading of the day is one of this day; a week old it is none


def source_checks(e: Evidence) -> Iterator[Check]:
    """Table and applicator, acceptance and output of the day."""
    table = e.table
    clinical = e.plan.source.clinical
    yield Check(
        id="table-not-clinical",
        status="pass" if clinical else "warn",
        message=f"table {table.name!r} and applicator are marked clinical"
        if clinical
        else f"table {table.name!r} or its applicator is not marked clinical: not for treating patients",
    )
    yield _anisotropy_check(e)
    yield _acceptance_check(e.plan.source)
    yield _output_check(e)
    if e.plan.result.tissue is not None:
        yield _tissue_check(e.plan, e.plan.result.tissue)
    yield Check(
        id="table-applicator",
        status="pass" if is_for(table.applicator, e.plan.source.applicator) else "warn",
        message=f"the table is for {table.applicator!r}, the plan uses {e.plan.source.applicator!r}",
    )
    low, high = table.trusted_range_mm
    depth, canal = e.plan.prescription.depth_from_source_mm, e.plan.canal.distance_from_source_mm
    outside = [
        f"{name}: no such dose inside the table" if r is None else f"{name} at {r:.1f} mm"
        for name, r in (("prescription", depth), ("canal", canal))
        if r is None or not low <= r <= high
    ]
    yield Check(
        id="table-range",
        status="warn" if outside else "pass",
        message=(
            f"{' and '.join(outside)}: outside the table's trusted range {low:g} to {high:g} mm"
            if outside
            else f"prescription and canal lie inside the table's trusted range {low:g} to {high:g} mm"
        ),
    )


def _anisotropy_check(e: Evidence) -> Check:
    """What is known of the dose in other directions than sideways."""
    polar, asked = e.table.anisotropy, e.plan.prescription
    found: list[str] = []
    if polar is None:
        percent = e.plan.result.uncertainty.anisotropy_percent
        message = f"isotropic assumed: the table gives no polar anisotropy; {percent:.0f} % (k=1) in the budget for it"
    else:
        message = "the table gives a polar anisotropy; radii and depths are sideways, in the transverse plane"
        if polar.completed:
            found.append("its angles end at 90 degrees, forwards and backwards are taken as alike")
        if asked.depth_from == "tip" and asked.depth_from_source_mm is not None:
            forwards = float(polar.factor_at(asked.depth_from_source_mm, float(polar.theta_deg[0])))
            found.append(
                f"a depth from the tip is meant forwards, where that distance gets {forwards * asked.dose_gy:.2g} Gy "
                f"(at {polar.theta_deg[0]:g} degrees)"
            )
    return Check(id="polar-anisotropy", status="warn" if found else "pass", message="; ".join((message, *found)))


def _tissue_check(plan: Plan, tissue: PlanTissue) -> Check:
    """What bone does to this patient, and what that rests on."""
    engine = plan.result.engines[tissue.engine]
    replaced = sum(tissue.voxels.get(name, 0) for name in (METAL, REPLACED))
    found = [] if tissue.curve_clinical else [f"HU curve {tissue.curve!r} is not this scanner's (not clinical)"]
    if replaced > MOST_UNBELIEVED * sum(count for name, count in tissue.voxels.items() if name != REPLACED):
        found.append(f"in {replaced} voxels metal hides the tissue")
    if tissue.statistical_percent > MOST_STATISTICAL_PERCENT:
        remedy = "ask for less (--uncertainty)" if tissue.engine == "montecarlo" else "take --engine montecarlo"
        found.append(f"its own uncertainty at the canal is {tissue.statistical_percent:.1f} % (k=1); {remedy}")
    message = (
        f"{tissue.engine}: the canal gets {engine.canal_max_gy:#.3g} Gy where water says {plan.result.canal_max_gy:#.3g} Gy; the "
        "time follows the value in water, as clinical practice does"
    )
    return Check(id="dose-in-tissue", status="warn" if found else "pass", message="; ".join((message, *found)))


def _acceptance_check(source: PlanSource) -> Check:
    """Whether these bytes of a clinical table were accepted, and still are."""
    given, status = source.acceptance, "pass"
    message = f"table {source.name!r} {source.acceptance_text}"
    if given is None:
        message = f"table {source.name!r}: {source.acceptance_text}"
    elif given.state != "accepted" or given.sha256 != source.table_sha256:
        status = "fail"
        message = f"clinical table {source.name!r}: {source.acceptance_text}"
        if given.state != "unreadable":
            message += f"; check it and let it be accepted (iort-planner qa accept {source.table} --by NAME)"
    elif given.notes:  # a half-written line, or other bytes of this name accepted later: it counts, and is to be seen
        status = "warn"
    if given is not None and given.notes:
        message += f": {'; '.join(given.notes)}"
    return Check(id="table-not-accepted", status=status, message=message)


def _output_check(e: Evidence) -> Check:
    """How far the output of the day is from the table's, and of which day it is."""
    output = e.plan.source.output
    if output is None:
        clinical = e.table.clinical
        return Check(
            id="output-of-the-day",
            status="warn" if clinical else "pass",
            message="not measured: the table's dose rates are used as they are"
            + ("; measure it and give --output-measured and --output-date" if clinical else " (it is not clinical)"),
        )
    found: list[tuple[Status, str]] = []
    off_percent = 100.0 * (output.corrected_ratio - 1.0)
    limits = f"warns over {OUTPUT_WARN_PERCENT:g}, fails over {OUTPUT_FAIL_PERCENT:g} %"
    off: Status = _beyond(abs(off_percent), OUTPUT_WARN_PERCENT, OUTPUT_FAIL_PERCENT)
    found.append((off, f"{off_percent:+.1f} % against the table; {limits}"))
    measured, today = dt.date.fromisoformat(output.date), dt.datetime.fromisoformat(e.plan.created).date()
    age = (today - measured).days
    if age:
        old: Status = "fail" if age > OUTPUT_MAX_AGE_DAYS else "warn"
        found.append((old, f"not of this day, {age} day{'s' * (age > 1)} old; fails over {OUTPUT_MAX_AGE_DAYS} days"))
    if e.table.measured and not e.table.derived and output.date < e.table.measured:
        found.append(("warn", f"older than the table, which is of {e.table.measured}: it refers to another one"))
    worst = max((status for status, _ in found), key=("pass", "warn", "fail").index)
    remedy = "; measure again, or have the source checked" if worst == "fail" else ""
    return Check(
        id="output-of-the-day",
        status=worst,
        message=f"output {output.text}: {'; '.join(text for _, text in found)}{remedy}",
    )


def _beyond(value: float, warn: float, fail: float) -> Status:
    # 1e-9: what is typed as 1.05 is 5 % off, not more
    return "fail" if not value <= fail + 1e-9 else "warn" if value > warn + 1e-9 else "pass"
