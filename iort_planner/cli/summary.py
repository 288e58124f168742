"""A plan for people at the console: what a tired physicist must see, in that order."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from iort_planner.cli import options
from iort_planner.dose.engine_dose import REPLACED
from iort_planner.units import decimals_for, format_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from iort_planner.planning.plan import Plan, Vector

_WIDTH = 100


def print_plan(plan: Plan, folder: Path, *, as_json: bool) -> int:
    """Print plan.json's bytes or the summary; the exit status (1 when a check failed)."""
    for check in plan.checks:
        if check.id == "no-renderer":
            options.warn(f"warning: {check.message}")
    if as_json:
        options.emit(plan.to_json())
    else:
        options.emit(summary(plan) + f"\nwritten to {folder}\n{plan.intended_use}\n")
    return 1 if plan.verdict == "fail" else 0


def summary(plan: Plan) -> str:
    """The plan in some twenty lines."""
    result, asked, canal, needle = plan.result, plan.prescription, plan.canal, plan.needles[0]
    if asked.depth_from == "canal-limit":
        why = f"as long as the canal's limit of {asked.limit_gy:g} Gy allows"
    else:
        why = f"{asked.dose_gy:g} Gy at {asked.depth_mm:g} mm from the {asked.depth_from}"
    low, high = result.uncertainty.dwell_time_band_k2_s
    bands = result.uncertainty
    digits = decimals_for(bands.canal_dose_percent / 100.0 * result.canal_max_gy)
    radii = ", ".join(
        f"{gy} Gy: {'outside the table' if r is None else f'{r:.1f} mm'}" for gy, r in result.isodose_radius_mm.items()
    )
    rows = [
        ("VERDICT", plan.verdict.upper()),
        ("dwell time", f"{plan.dwell_time_text}   ({why})"),
        ("", f"k=2 band of the dose rate: {format_time(low)} to {format_time(high)}"),
        ("largest safe time", f"{plan.max_safe_dwell_time_text}   (canal at {asked.limit_gy:g} Gy)"),
        (
            "canal, maximum",
            f"{result.canal_max_gy:.{digits}f} Gy = {result.canal_max_gy_rbe:.{digits}f} Gy(RBE), RBE {asked.rbe:g}; "
            f"limit {asked.limit_gy:g} Gy = {asked.limit_gy_rbe:g} Gy(RBE)",
        ),
        (
            "",
            f"with k=2 uncertainty {bands.canal_dose_text}; over its limit: {100.0 * bands.probability_over_limit:.0f} %",
        ),
        ("", f"k=1 {bands.canal_dose_percent:.0f} %: {bands.parts_text}"),
        *(("published for cords" if not n else "", limit.text) for n, limit in enumerate(result.biology.cord_limits)),
        ("limit refers to", asked.limit_structure),
        (
            "canal, distance",
            f"{canal.distance_from_source_mm:.1f} mm from the source centre, {canal.distance_from_tip_mm:.1f} mm from the "
            f"tip, {canal.distance_from_surface_mm:.1f} mm from the applicator's surface",
        ),
        *_given_by_hand(plan),
        *_level(plan),
        *_tissue(plan),
        ("isodose radii", f"{radii}   (from the source centre)"),
        (
            "near the applicator",
            f"more than {result.nearest_table_dose_gy:.0f} Gy (at {result.nearest_table_radius_mm:g} mm from the source "
            "centre, the table's first row)"
            if result.applicator_surface_gy is None
            else f"{result.applicator_surface_gy:.0f} Gy at its surface",
        ),
        (
            "tip" if len(plan.needles) == 1 else f"tip of needle {needle.label}",
            f"LPS {_lps(needle.tip_lps_mm)} mm, "
            f"±{needle.tip_uncertainty_mm:.1f} mm (k=1), {needle.method}, confidence {needle.confidence}; "
            f"{needle.content_text}",
        ),
        *(
            (
                f"needle {other.label}",
                f"tip LPS {_lps(other.tip_lps_mm)} mm, {other.content_text}: metal in the way, no dwell in it",
            )
            for other in plan.needles[1:]
        ),
        (
            "canal wall",
            f"±{canal.uncertainty_mm:.1f} mm (k=1), {canal.method}, confidence {canal.confidence}; nearest to the source: "
            f"{canal.wall_nearest_text}",
        ),
        (
            "applicator",
            f"{plan.source.applicator}: plastic {plan.source.radiolucent_tip_length_mm:g} mm, tip to source "
            f"{plan.source.tip_to_source_mm:g} mm",
        ),
        (
            "table",
            f"{plan.source.name}, scale {plan.source.scale}, clinical: {'yes' if plan.source.clinical else 'no'}",
        ),
        ("its acceptance", plan.source.acceptance_text),
        ("output of the day", plan.source.output_text),
        ("second check", plan.second_check.text),
    ]
    lines = [f"{label:<20} {text}".rstrip() for label, text in rows]
    lines.append("checks")
    for check in sorted(plan.checks, key=lambda c: ("fail", "warn", "pass").index(c.status)):
        if check.status != "pass":
            text = f"  {check.status.upper():<5} {check.id}: {check.message}"
            lines.extend(textwrap.wrap(text, _WIDTH, subsequent_indent=" " * 8))
    passed = sum(check.status == "pass" for check in plan.checks)
    lines.append(f"  {passed} of {len(plan.checks)} checks passed (all of them in plan.json and report.pdf)")
    return "\n".join(lines)


def _level(plan: Plan) -> Iterator[tuple[str, str]]:
    if plan.level is not None:
        yield "way to the canal", plan.level.wall_text
        yield "", plan.level.path_text
        yield "HU at the source", plan.level.hu_text


def _tissue(plan: Plan) -> Iterator[tuple[str, str]]:
    """What bone does to this patient, beside what water says."""
    result, tissue = plan.result, plan.result.tissue
    if tissue is None:
        return
    water, found = result.engines["water"], result.engines[tissue.engine]
    yield (
        f"in bone ({tissue.engine})",
        f"canal {found.canal_max_gy:#.2g} Gy where water says {water.canal_max_gy:#.2g} Gy; the limit would allow "
        f"{format_time(math.floor(found.dwell_time_for_limit_s))} where water says {plan.max_safe_dwell_time_text}",
    )
    if found.dose_at_prescription_gy is not None and water.dose_at_prescription_gy is not None:
        yield (
            "",
            f"at the prescription {found.dose_at_prescription_gy:#.2g} Gy, the mean round the source, where water says "
            f"{water.dose_at_prescription_gy:#.2g} Gy",
        )
    yield "", "the time follows the value in water, as clinical practice does"
    counts = {name: count for name, count in tissue.voxels.items() if name != REPLACED}
    shown = sorted(((count, name) for name, count in counts.items() if count), reverse=True)[:4]
    total = sum(counts.values())
    yield "", f"taken for: {', '.join(f'{100.0 * count / total:.0f} % {name}' for count, name in shown)}"


def _given_by_hand(plan: Plan) -> Iterator[tuple[str, str]]:
    """Corrections of the canal, and the cord."""
    canal, cord = plan.canal, plan.cord
    if canal.corrections:
        before = f"{canal.uncorrected_distance_from_source_mm:.1f} mm from the source centre before"
        yield "canal, corrected", f"by hand at {len(canal.corrections)} wall point(s); {before}"
    if cord is not None:
        dose = (
            "dose outside the table"
            if cord.max_dose_gy is None
            else f"at most {cord.max_dose_gy:.3g} Gy = {cord.max_dose_gy_rbe:.3g} Gy(RBE)"
        )
        yield (
            "cord or sac",
            f"{cord.distance_from_source_mm:.1f} mm from the source centre, {cord.distance_from_tip_mm:.1f} mm from the tip; "
            f"{dose}",
        )
        yield "", f"structure {cord.structure} of {cord.file}; no limit refers to it"


def _lps(point: Vector) -> str:
    return f"({', '.join(f'{x:.1f}' for x in point)})"
