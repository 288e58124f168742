"""The safety checks: each looks at one thing and says pass, warn or fail with a sentence (docs/checks.md)."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iort_planner.imaging.geometry_checks import (
    COARSE_FAIL_MM,
    COARSE_WARN_MM,
    coarse_status,
    patient_position_known,
)
from iort_planner.planning.checks_geometry import geometry_checks
from iort_planner.planning.checks_source import source_checks
from iort_planner.planning.plan import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iort_planner.geometry.canal import SpinalCanal
    from iort_planner.geometry.needle import Needle
    from iort_planner.imaging.series import ScanImage
    from iort_planner.planning.given import Automatic, CanalFile, Cord
    from iort_planner.planning.plan import Plan
    from iort_planner.source.depth_dose import DepthDoseTable

EQUAL_TO_LIMIT = 1e-9  # interface.md: equal to the limit within 1e-9 is not over it
USUAL_TIME_S = (60.0, 600.0)  # interface.md: 1-10 min; the clinical series report 2-6
MAX_AGE = dt.timedelta(days=1)  # interface.md


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What the checks look at: the plan so far and what it was made from."""

    plan: Plan
    image: ScanImage
    needle: Needle
    canal: SpinalCanal
    table: DepthDoseTable
    canal_file: CanalFile | None
    automatic: Automatic | None
    cord: Cord | None


def run_checks(evidence: Evidence) -> tuple[Check, ...]:
    """All checks that exist, in the order a physicist reads them; each appears once, passed ones too."""
    checks = (
        *_dose_checks(evidence),
        *source_checks(evidence),
        *geometry_checks(evidence),
        *_image_checks(evidence),
    )
    known = {check.id for check in checks}
    found = (p for p in evidence.image.problems if p.id not in known)
    return (*checks, *(Check(id=p.id, status=p.status, message=p.message) for p in found))


def _dose_checks(e: Evidence) -> Iterator[Check]:
    result, prescription = e.plan.result, e.plan.prescription
    canal, limit = result.canal_max_gy, prescription.limit_gy
    doses = (
        f"{prescription.limit_structure} gets {canal:.4g} Gy = {result.canal_max_gy_rbe:.4g} Gy(RBE) "
        f"at {e.plan.canal.distance_from_source_mm:.1f} mm from the source centre; "
        f"its limit {limit:g} Gy = {prescription.limit_gy_rbe:g} Gy(RBE)"
    )
    over = canal > limit * (1.0 + EQUAL_TO_LIMIT)
    remedy = f"; shorten to at most {e.plan.max_safe_dwell_time_text}" if over else ""
    yield Check(id="canal-over-limit", status="fail" if over else "pass", message=doses + remedy)
    bands = result.uncertainty
    high = bands.canal_dose_band_k2_gy[1]
    yield Check(
        id="canal-margin",
        status="warn" if high is None or high >= limit else "pass",
        message=f"canal dose with k=2 uncertainty {bands.canal_dose_text}, limit {limit:g} Gy; it is over the limit with a "
        f"probability of {100.0 * bands.probability_over_limit:.0f} %",
    )
    time_s, (shortest, longest) = result.dwell_time_s, USUAL_TIME_S
    yield Check(
        id="dwell-time-unusual",
        status="pass" if shortest <= time_s <= longest else "warn",
        message=f"dwell time {e.plan.dwell_time_text}; usual 1 to 10 min (clinical series report 2 to 6)",
    )
    yield Check(
        id="surface-dose-outside-table",
        status="warn" if result.applicator_surface_gy is None else "pass",
        message=f"the applicator's surface gets more than {result.nearest_table_dose_gy:.0f} Gy: the table starts at "
        f"{result.nearest_table_radius_mm:g} mm from the source centre, the surface lies nearer"
        if result.applicator_surface_gy is None
        else f"applicator surface {result.applicator_surface_gy:.0f} Gy",
    )


def _image_checks(e: Evidence) -> Iterator[Check]:
    plan, grid = e.plan, e.image.volume.grid
    found = {problem.id: problem.message for problem in e.image.problems}
    yield Check(
        id="hu-not-calibrated",
        status="pass" if plan.image.hu_calibrated else "warn",
        message="voxel values are HU"
        if plan.image.hu_calibrated
        else found.get("hu-not-calibrated", "values are not HU"),
    )
    coarsest = max(plan.image.spacing_mm)
    yield Check(
        id="scan-coarse",
        status=coarse_status(coarsest),
        message=f"voxels {' x '.join(f'{s:g}' for s in plan.image.spacing_mm)} mm; warns over {COARSE_WARN_MM:g}, "
        f"fails over {COARSE_FAIL_MM:g} mm",
    )
    yield _age_check(plan.image.acquired_at, dt.datetime.fromisoformat(plan.created))
    position = found.get("patient-position-unknown")
    if position is None and not patient_position_known(plan.image.patient_position):
        position = "the image does not say how the patient lay"
    yield Check(
        id="patient-position-unknown",
        status="pass" if position is None else "warn",
        message=position or f"patient position {plan.image.patient_position}",
    )
    key = f"{plan.prescription.dose_gy:g}"
    radius = plan.result.isodose_radius_mm[key]
    room = grid.room_mm(plan.dwells[0].source_lps_mm)
    leaves = radius is not None and radius > room
    yield Check(
        id="isodose-leaves-image",
        status="warn" if leaves or radius is None else "pass",
        message=f"no {key} Gy radius inside the table to compare with the image"
        if radius is None
        else f"{key} Gy radius {radius:.1f} mm; the image ends {room:.1f} mm from the source centre",
    )


def _age_check(acquired_at: str | None, created: dt.datetime) -> Check:
    if acquired_at is None:
        return Check(id="scan-older-than-a-day", status="warn", message="the image does not say when it was acquired")
    acquired = dt.datetime.fromisoformat(acquired_at)
    if acquired.tzinfo is None:
        acquired = acquired.replace(tzinfo=created.tzinfo)
    age = created - acquired
    status = "pass" if -MAX_AGE <= age <= MAX_AGE else "warn"
    days = age / dt.timedelta(days=1)
    text = f"{abs(days):.1f} days old" if days > -0.05 else f"dated {-days:.1f} days in the future"
    when = acquired.isoformat(sep=" ", timespec="minutes")
    return Check(id="scan-older-than-a-day", status=status, message=f"acquired {when}, {text}")
