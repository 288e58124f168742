"""The safety checks: each looks at one thing and says pass, warn or fail with a sentence (docs/checks.md)."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iort_planner.imaging.geometry_checks import (
    COARSE_FAIL_MM,
    COARSE_WARN_MM,
    Status,
    coarse_status,
    patient_position_known,
)
from iort_planner.planning.plan import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iort_planner.geometry.canal import SpinalCanal
    from iort_planner.geometry.needle import Needle
    from iort_planner.imaging.series import ScanImage
    from iort_planner.planning.plan import Plan
    from iort_planner.source.depth_dose import DepthDoseTable

EQUAL_TO_LIMIT = 1e-9  # interface.md: equal to the limit within 1e-9 is not over it
BEND_WARN_MM, BEND_FAIL_MM = 1.0, 3.0  # interface.md
USUAL_TIME_S = (60.0, 600.0)  # interface.md: 1-10 min; the clinical series report 2-6
MAX_AGE = dt.timedelta(days=1)  # interface.md
# Our own: the error bounds a silent failure is defined by (issue 3: 1.5 mm tip, 2 mm distance), as k=1 values.
TIP_UNCERTAINTY_FAIL_MM, CANAL_UNCERTAINTY_FAIL_MM = 1.5, 2.0
# Our own: hand-drawn and automatic canals of the real cases differ by up to 0.7 mm. A given canal that lies farther away
# than a sure automatic one allows too long a time: at 10 mm, 3 mm doubles it.
CANALS_APART_WARN_MM, CANALS_APART_FAIL_MM = 2.0, 3.0
SHAFT_CLEARANCE_WARN_MM = 1.0  # our own: about the k=2 uncertainty of tip and wall in a 1 mm scan


@dataclass(frozen=True, slots=True, kw_only=True)
class CanalFile:
    """Where a canal given as a file came from: the structure in it, and what was remarked on reading it.

    ``frame_verified``: whether it names the image's frame of reference. ``automatic_mm``: distance from the source centre
    to the canal that is found automatically; None where none is. ``automatic_sure``: whether that one is of high confidence.
    """

    name: str
    sha256: str
    structure: str
    frame_verified: bool
    notes: tuple[str, ...]
    automatic_mm: float | None = None
    automatic_sure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What the checks look at: the plan so far and what it was made from."""

    plan: Plan
    image: ScanImage
    needle: Needle
    canal: SpinalCanal
    table: DepthDoseTable
    canal_file: CanalFile | None


def run_checks(evidence: Evidence) -> tuple[Check, ...]:
    """All checks that exist, in the order a physicist reads them; each appears once, passed ones too."""
    checks = (
        *_dose_checks(evidence),
        *_source_checks(evidence),
        *_geometry_checks(evidence),
        *_image_checks(evidence),
    )
    known = {check.id for check in checks}
    found = (p for p in evidence.image.problems if p.id not in known)
    return (*checks, *(Check(id=p.id, status=p.status, message=p.message) for p in found))


def _dose_checks(e: Evidence) -> Iterator[Check]:
    result, prescription = e.plan.result, e.plan.prescription
    canal, limit = result.canal_max_gy, prescription.limit_gy
    doses = (
        f"canal gets {canal:.4g} Gy = {result.canal_max_gy_rbe:.4g} Gy(RBE) "
        f"at {e.plan.canal.distance_from_source_mm:.1f} mm from the source centre; "
        f"limit {limit:g} Gy = {prescription.limit_gy_rbe:g} Gy(RBE)"
    )
    over = canal > limit * (1.0 + EQUAL_TO_LIMIT)
    remedy = f"; shorten to at most {e.plan.max_safe_dwell_time_text}" if over else ""
    yield Check(id="canal-over-limit", status="fail" if over else "pass", message=doses + remedy)
    low, high = result.uncertainty.canal_dose_band_k2_gy
    yield Check(
        id="canal-margin",
        status="warn" if high >= limit else "pass",
        message=f"canal dose with k=2 uncertainty {low:.2g} to {high:.2g} Gy, limit {limit:g} Gy",
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


def _source_checks(e: Evidence) -> Iterator[Check]:
    table = e.table
    clinical = e.plan.source.clinical
    yield Check(
        id="table-not-clinical",
        status="pass" if clinical else "warn",
        message=f"table {table.name!r} and applicator are marked clinical"
        if clinical
        else f"table {table.name!r} or its applicator is not marked clinical: not for treating patients",
    )
    named, used = table.applicator.casefold(), e.plan.source.applicator.casefold()
    fits = named in used or used in named
    yield Check(
        id="table-applicator",
        status="pass" if fits else "warn",
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


def _geometry_checks(e: Evidence) -> Iterator[Check]:
    needle, canal = e.needle, e.canal
    low = needle.confidence == "low"
    failed = low and needle.tip_uncertainty_mm > TIP_UNCERTAINTY_FAIL_MM
    yield Check(
        id="needle-confidence",
        status="fail" if failed else "warn" if low else "pass",
        message=f"needle {needle.method}, confidence {needle.confidence}, tip ±{needle.tip_uncertainty_mm:.1f} mm (k=1)"
        + _because(needle.reasons),
    )
    by_hand = needle.method == "manual"  # what was not looked at must not read like a good answer
    yield Check(
        id="cannula-over-source",
        status="fail" if needle.cannula_over_source else "warn" if by_hand else "pass",
        message="steel of the guide cannula stands over the plastic tip: pull it back and scan again"
        if needle.cannula_over_source
        else "not looked for, the needle was given by hand: see in the slices that the plastic tip stands clear"
        if by_hand
        else "no cannula seen over the plastic tip",
    )
    bend = needle.bending_mm
    if bend is None:
        bent, text = "warn", "bending not measured, the needle was given by hand: see in the slices that it is straight"
    else:
        bent = "pass" if bend <= BEND_WARN_MM else "warn" if bend <= BEND_FAIL_MM else "fail"
        text = f"bending {bend:.1f} mm from the chord; warns over {BEND_WARN_MM:g}, fails over {BEND_FAIL_MM:g} mm"
    yield Check(id="needle-bent", status=bent, message=text)
    low = canal.confidence == "low"
    failed = low and canal.uncertainty_mm > CANAL_UNCERTAINTY_FAIL_MM
    yield Check(
        id="canal-confidence",
        status="fail" if failed else "warn" if low else "pass",
        message=f"canal {canal.method}, confidence {canal.confidence}, wall ±{canal.uncertainty_mm:.1f} mm (k=1)"
        + _because(canal.reasons),
    )
    clearance = e.plan.canal.shaft_clearance_mm
    seen = "" if needle.cannula_end_lps_mm is not None else " (cannula not seen: the applicator alone)"
    yield Check(
        id="shaft-clearance",
        status="fail" if clearance < 0 else "warn" if clearance < SHAFT_CLEARANCE_WARN_MM else "pass",
        message=f"applicator and cannula stand {-clearance:.1f} mm inside the canal{seen}"
        if clearance < 0
        else f"applicator and cannula pass the canal at {clearance:.1f} mm{seen}",
    )
    if e.canal_file is not None:
        yield from _canal_file_checks(e.canal_file, e.plan.canal.distance_from_source_mm)


def _canal_file_checks(file: CanalFile, given_mm: float) -> Iterator[Check]:
    status: Status = "warn" if file.notes else "pass"
    compared = "; no canal was found automatically to compare it with"
    if file.automatic_mm is not None:
        farther = given_mm - file.automatic_mm
        compared = f"; it lies {given_mm:.1f} mm from the source centre, the one found automatically {file.automatic_mm:.1f} mm"
        if abs(farther) > CANALS_APART_WARN_MM:
            status = "fail" if farther > CANALS_APART_FAIL_MM and file.automatic_sure else "warn"
            compared += ": look at both before believing one"
    yield Check(
        id="canal-file",
        status=status,
        message=f"canal is structure {file.structure} of {file.name}{compared}" + _because(file.notes),
    )
    if not file.frame_verified:
        yield Check(
            id="frame-unverified",
            status="warn",
            message=f"nothing says that {file.name} has the image's frame of reference (one of them names none, or the image "
            "several): that it fits this image was taken on trust",
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


def _because(reasons: tuple[str, ...]) -> str:
    return f": {'; '.join(reasons)}" if reasons else ""
