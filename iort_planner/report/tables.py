"""What the report says, as plain words and numbers: it reads the plan and computes nothing."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from iort_planner.units import format_time
from iort_planner.viewer.palette import computed_text, dose_number, isodose_levels, level_text

if TYPE_CHECKING:
    from iort_planner.planning.plan import Plan, PlanCord, PlanTissue, Vector

Rows = list[tuple[str, str]]


def headline(plan: Plan) -> list[tuple[str, str, str]]:
    """The numbers for a glance: name, value, and a line of explanation."""
    result, canal, prescription = plan.result, plan.canal, plan.prescription
    rbe = prescription.rbe
    radii = {level.dose_gy: level for level in isodose_levels(plan)}
    level = next(v for v in radii.values() if "prescription" in v.role)
    radius = "outside the table" if level.radius_mm is None else f"{level.radius_mm:.1f} mm"
    percent = result.uncertainty.canal_dose_percent
    highest, weighted = computed_text(result.canal_max_gy, result.canal_max_gy_rbe, percent).split(" | ")
    return [
        ("Dwell time", plan.dwell_time_text, _how_set(plan)),
        (
            "Canal, highest dose",
            highest,
            f"{weighted}; limit {level_text(prescription.limit_gy, rbe)}",
        ),
        (
            "Source centre to canal",
            f"{canal.distance_from_source_mm:.1f} mm",
            f"nearest wall point ({canal.wall_nearest}); ± {canal.uncertainty_mm:.1f} mm (k=1)",
        ),
        ("Tip to canal", f"{canal.distance_from_tip_mm:.1f} mm", "from the outer distal end of the applicator"),
        (
            "Largest safe dwell time",
            plan.max_safe_dwell_time_text,
            f"canal then at its limit of {level_text(prescription.limit_gy, rbe)}",
        ),
        (f"Radius of {prescription.dose_gy:g} Gy", radius, f"{level.label}; from the source centre, transverse plane"),
        (
            "Shaft to canal",
            f"{canal.shaft_clearance_mm:.1f} mm",
            "least clearance of applicator and cannula"
            if canal.shaft_clearance_mm >= 0.0
            else "negative: the shaft stands in the canal",
        ),
        ("Applicator surface", surface_text(plan), "physical dose to water"),
    ]


def bands(plan: Plan) -> Rows:
    """The k=2 bands and what they stand on, the applicator included, for the first page."""
    bands_of, canal = plan.result.uncertainty, plan.canal
    shortest, longest = (format_time(time) for time in bands_of.dwell_time_band_k2_s)
    return [
        ("Canal dose, k=2 band", bands_of.canal_dose_text),
        ("Dwell time, k=2 of dose rate", f"{shortest} to {longest}"),
        ("Radiolucent surface to canal", f"{canal.distance_from_surface_mm:.1f} mm"),
        # a wrong applicator moves the tip and with it everything else
        ("Applicator", f"{plan.source.applicator}, tip to source {plan.source.tip_to_source_mm:.1f} mm"),
    ]


def named(plan: Plan) -> Rows:
    """What the numbers refer to, and what else was given or seen, one line each, for the first page."""
    rows: Rows = [("The limit refers to", plan.prescription.limit_structure)]
    canal, cord = plan.canal, plan.cord
    if canal.corrections:
        before = f"{canal.uncorrected_distance_from_source_mm:.1f} mm from the source centre"
        rows.append(("Canal corrected", f"by hand at {len(canal.corrections)} wall point(s); before that {before}"))
    if cord is not None:
        rows.append(
            (
                "Cord or sac",
                f"{cord.distance_from_source_mm:.1f} mm from the source centre, at most {cord_dose_text(plan, cord)} "
                f"({cord.structure} of {cord.file})",
            )
        )
    if plan.level is not None:
        rows.append(("Way to the canal", plan.level.wall_text))
    output = "not measured" if plan.source.output is None else plan.source.output.short_text
    second = plan.second_check.largest_text  # one line for all three: the page is full
    rows.append(("Table, output", f"{plan.source.acceptance_text}; output {output}; second check {second}"))
    return rows + [
        (
            f"Needle {other.label}",
            f"tip at {point_text(other.tip_lps_mm)}, {other.content_text}: metal in the way, no dwell in it",
        )
        for other in plan.needles[1:]
    ]


def surface_text(plan: Plan) -> str:
    """Dose at the applicator's surface, or the innermost value that the table gives."""
    result = plan.result
    if result.applicator_surface_gy is not None:
        return f"{dose_number(result.applicator_surface_gy)} Gy"
    return f"more than {dose_number(result.nearest_table_dose_gy)} Gy"


def _how_set(plan: Plan) -> str:
    prescription = plan.prescription
    if prescription.depth_from == "canal-limit":
        return "set by the canal's limit"
    if prescription.depth_mm is None:
        return f"for {prescription.dose_gy:g} Gy: no such dose inside the table"
    return f"for {prescription.dose_gy:g} Gy at {prescription.depth_mm:.1f} mm from the {prescription.depth_from}"


def time_of(stamp: str | None) -> str:
    """ISO 8601 for people: ``2026-11-22 10:30 +01:00``; ``an unknown time`` when there is none."""
    if not stamp:
        return "an unknown time"
    try:
        moment = dt.datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    zone = moment.strftime("%z")
    return moment.strftime("%Y-%m-%d %H:%M") + (f" {zone[:3]}:{zone[3:5]}" if zone else "")


def point_text(point: Vector) -> str:
    """Patient coordinates with their letters: ``12.3 L, 150.0 A, 430.0 I mm``."""
    letters = (("R", "L"), ("A", "P"), ("I", "S"))
    words = []
    for value, (negative, positive) in zip(point, letters, strict=True):
        rounded = round(value, 1)
        words.append(f"{abs(rounded):.1f} {positive if rounded > 0 else negative if rounded < 0 else positive}")
    return f"{', '.join(words)} mm   (LPS {_numbers(point)})"


def _numbers(point: Vector) -> str:
    return ", ".join(f"{value:.2f}" for value in point)


def sections(plan: Plan) -> list[tuple[str, Rows]]:
    """Titled tables with every input, its hash, every number and its origin."""
    return [
        ("Image", _image(plan)),
        ("Needle and canal", _geometry(plan)),
        ("Source, applicator and prescription", _source(plan)),
        ("Dose and time", _dose(plan)),
        ("Software", _software(plan)),
    ]


def _image(plan: Plan) -> Rows:
    image, patient = plan.image, plan.patient
    size = " × ".join(str(n) for n in image.size_voxels)
    spacing = " × ".join(f"{s:.3g}" for s in image.spacing_mm)
    return [
        ("patient ID, born, sex", f"{patient.id or '–'}, {patient.birth_date or '–'}, {patient.sex or '–'}"),
        ("read from", image.path),
        ("modality, kind", f"{image.modality}, {image.kind}; {'HU' if image.hu_calibrated else 'grey values, not HU'}"),
        ("acquired, position", f"{time_of(image.acquired_at)}, {image.patient_position or 'position unknown'}"),
        ("size, spacing", f"{size} voxels, {spacing} mm"),
        ("study UID", image.study_uid),
        ("series UID", image.series_uid),
        ("frame of reference UID", image.frame_of_reference_uid or "–"),
        ("SHA-256 of the voxels", image.sha256),
    ]


def _geometry(plan: Plan) -> Rows:
    rows: Rows = []
    for number, needle in enumerate(plan.needles):
        bent = "not seen" if needle.bending_mm is None else f"{needle.bending_mm:.1f} mm"
        how = (
            f"{needle.method}, {needle.confidence}; {needle.content_text}; tip ± {needle.tip_uncertainty_mm:.1f} mm (k=1); "
            f"bending {bent}"
        )
        rows += [
            (f"needle {needle.label}: how, confidence", how + ("; metal in the way, no dwell in it" if number else "")),
            ("tip", point_text(needle.tip_lps_mm)),
            ("source centre", point_text(needle.source_lps_mm)),
            ("axis, tip to hub (LPS)", ", ".join(f"{value:.4f}" for value in needle.axis_lps)),
        ]
        if needle.cannula_end_lps_mm is not None:
            rows.append(("cannula's distal end", point_text(needle.cannula_end_lps_mm)))
    canal = plan.canal
    rows += [
        ("canal: how, confidence", f"{canal.method}, {canal.confidence}; {canal.structure}"),
        ("wall nearest to the source", f"{canal.wall_nearest_text}, ± {canal.uncertainty_mm:.1f} mm (k=1)"),
        ("nearest point to the source", point_text(canal.nearest_point_lps_mm)),
        (
            "canal from source centre",
            f"{canal.distance_from_source_mm:.1f} mm at {canal.polar_angle_deg:.0f}° from the distal axis",
        ),
        *(
            (
                f"canal from {name}",
                f"{part.length_mm:.1f} mm, from LPS {_numbers(part.from_lps_mm)} to {_numbers(part.to_lps_mm)}",
            )
            for name, part in (
                ("tip", canal.segments.tip),
                ("radiolucent surface", canal.segments.surface),
                ("applicator, cannula", canal.segments.shaft),
            )
        ),
    ]
    for correction in canal.corrections:
        rows.append(
            (
                "canal corrected by hand",
                f"{point_text(correction.point_lps_mm)}; the wall lay {correction.moved_mm:.1f} mm away, "
                f"{canal.uncorrected_distance_from_source_mm:.1f} mm from the source centre",
            )
        )
    if canal.file is not None:
        rows += [
            ("canal file, structure", f"{canal.file}, {canal.file_structure}"),
            ("SHA-256 of the canal file", canal.file_sha256 or "–"),
        ]
    rows += [(f"canal point {n}", point_text(p)) for n, p in enumerate(canal.points_lps_mm, start=1)]
    if plan.level is not None:
        rows += [
            ("way to the canal", f"{plan.level.wall_text}: {plan.level.path_text}"),
            ("HU at the source", plan.level.hu_text),
        ]
        rows += [("why not known", plan.level.note)] if plan.level.note else []
    return rows + ([] if plan.cord is None else _cord(plan, plan.cord))


def _cord(plan: Plan, cord: PlanCord) -> Rows:
    return [
        (
            "cord or sac: file, structure",
            f"{cord.file}, {cord.structure}" + "".join(f"; {note}" for note in cord.notes),
        ),
        (
            "cord or sac: distances",
            f"from the source centre {cord.distance_from_source_mm:.1f} mm, from the tip {cord.distance_from_tip_mm:.1f} mm",
        ),
        ("its point nearest to the source", point_text(cord.nearest_point_lps_mm)),
        ("cord or sac, highest dose", cord_dose_text(plan, cord)),
        ("SHA-256 of its file", cord.sha256),
    ]


def cord_dose_text(plan: Plan, cord: PlanCord) -> str:
    """Highest dose of the cord, or that the table does not reach it."""
    if cord.max_dose_gy is None or cord.max_dose_gy_rbe is None:
        return "outside the table"
    return computed_text(cord.max_dose_gy, cord.max_dose_gy_rbe, plan.result.uncertainty.dose_rate_percent)


def _source(plan: Plan) -> Rows:
    source, prescription = plan.source, plan.prescription
    cannula = "unknown" if source.cannula_outer_diameter_mm is None else f"{source.cannula_outer_diameter_mm:g} mm"
    radius = prescription.depth_from_source_mm
    where = ": no such dose inside the table" if radius is None else f" at {radius:.1f} mm from the source centre"
    if prescription.depth_from == "canal-limit":
        where += " (time set by the canal's limit)"
    elif prescription.depth_mm is not None:
        where += f" (asked for: {prescription.depth_mm:.1f} mm from the {prescription.depth_from})"
    return [
        (
            "depth-dose table",
            f"{source.name} ({source.table}); {'clinical' if source.clinical else 'NOT for clinical use'}",
        ),
        ("its origin", source.table_origin),
        (
            "its scale, reference, range",
            f"scale {source.scale}; distances from {source.reference_point}; {source.range_mm[0]:g}–{source.range_mm[1]:g} mm, "
            f"trusted {source.trusted_range_mm[0]:g}–{source.trusted_range_mm[1]:g} mm; "
            f"uncertainty at most {source.table_uncertainty_percent:.0f} % (k=1)",
        ),
        ("SHA-256 of the table", source.table_sha256),
        (
            "its acceptance",
            source.acceptance_text
            + "".join(f"; {note}" for note in (source.acceptance.notes if source.acceptance else ())),
        ),
        ("output of the day", source.output_text),
        ("applicator", source.applicator),
        (
            "its geometry",
            f"outer diameter {source.outer_diameter_mm:g} mm, radiolucent tip {source.radiolucent_tip_length_mm:g} mm, "
            f"tip to source centre {source.tip_to_source_mm:g} mm, length {source.applicator_length_mm:g} mm, "
            f"cannula outer diameter {cannula}, length {source.cannula_length_mm:g} mm",
        ),
        ("its origin", source.applicator_origin),
        ("SHA-256 of the applicator", source.applicator_sha256),
        (
            "prescription",
            f"{level_text(prescription.dose_gy, prescription.rbe)}{where}; "
            f"canal limit {level_text(prescription.limit_gy, prescription.rbe)}",
        ),
        ("the limit refers to", prescription.limit_structure),
        ("RBE", f"{prescription.rbe:g}; {plan.result.biology.rbe_source}"),
    ]


def _dose(plan: Plan) -> Rows:
    result, bands = plan.result, plan.result.uncertainty
    rows: Rows = [
        (f"dwell, needle {dwell.needle}", f"{plan.dwell_time_text} ({dwell.time_s:.1f} s)") for dwell in plan.dwells
    ]
    rows += [
        (
            "largest safe dwell time",
            f"{plan.max_safe_dwell_time_text} ({result.max_safe_dwell_time_s:.1f} s)",
        ),
        ("canal, highest dose", computed_text(result.canal_max_gy, result.canal_max_gy_rbe, bands.canal_dose_percent)),
        (
            "canal dose, k=2 band",
            f"{bands.canal_dose_text}; over its limit with a probability of {100.0 * bands.probability_over_limit:.0f} %",
        ),
        (
            "its uncertainty, k=1",
            f"{bands.canal_dose_percent:.0f} %: {bands.parts_text} (tip {bands.tip_mm:.1f} mm, wall {bands.canal_mm:.1f} mm)",
        ),
        (
            "dwell time, k=2 of the dose rate",
            f"{format_time(bands.dwell_time_band_k2_s[0])} to {format_time(bands.dwell_time_band_k2_s[1])}",
        ),
        ("isodoses", ";  ".join(level.legend for level in isodose_levels(plan))),
        (
            "applicator surface",
            surface_text(plan)
            + (
                f" (the table begins at {result.nearest_table_radius_mm:g} mm from the source centre with "
                f"{dose_number(result.nearest_table_dose_gy)} Gy; nothing is extrapolated)"
                if result.applicator_surface_gy is None
                else ""
            ),
        ),
    ]
    rows += _biology(plan)
    checked = plan.second_check
    rows.append(
        (
            "second check",
            f"{checked.text}; warns above {checked.warn_percent:g} %, fails above {checked.fail_percent:g} %",
        )
    )
    for name, engine in result.engines.items():
        prescribed = (
            "–" if engine.dose_at_prescription_gy is None else f"{dose_number(engine.dose_at_prescription_gy)} Gy"
        )
        canal = computed_text(engine.canal_max_gy, engine.canal_max_gy_rbe, engine.uncertainty_percent)
        rows.append(
            (
                f"engine {name}" + (" (sets the time)" if name == result.engine else ""),
                f"canal {canal}; at the prescription {prescribed}; "
                f"time for the limit {format_time(engine.dwell_time_for_limit_s)}; dose to {engine.dose_to}; "
                f"± {engine.uncertainty_percent:.0f} % (k=1)",
            )
        )
    if result.tissue is not None:
        rows.append(("dose in tissue", _tissue_text(result.tissue)))
    return rows


def _tissue_text(tissue: PlanTissue) -> str:
    """What the dose in bone rests on; the time follows the value in water."""
    taken = ", ".join(f"{count} {name}" for name, count in tissue.voxels.items() if count)
    by = (
        f"{tissue.histories:.2g} histories, seed {tissue.seed}{', on a GPU' * (tissue.device == 'gpu')}, "
        if tissue.histories
        else ""
    )
    return (
        f"{tissue.engine}: canal {tissue.canal_ratio:.2f} of the dose in water; {by}{tissue.statistical_percent:.1f} % (k=1) "
        f"there; HU curve {tissue.curve}, spectrum {tissue.spectrum}; {tissue.spacing_mm:g} mm voxels taken for: {taken}. The "
        "dwell time follows the value in water, as clinical practice does"
    )


def _biology(plan: Plan) -> Rows:
    """BED, EQD2 and published limits of the cord beside the canal's dose."""
    biology = plan.result.biology
    rows: Rows = [
        (
            f"EQD2, {dose.tissue}",
            f"{dose.eqd2_gy_rbe:.0f} Gy(RBE), BED {dose.bed_gy_rbe:.0f} Gy(RBE), alpha/beta {dose.alpha_beta_gy:g} Gy "
            f"({dose.source})",
        )
        for dose in biology.canal
    ]
    notes = dict.fromkeys(dose.note for dose in biology.canal if dose.note)
    rows += [("linear-quadratic model", note) for note in notes]
    return rows + [
        ("published cord limit", f"{limit.text} ({limit.convention}; {limit.source})") for limit in biology.cord_limits
    ]


def _software(plan: Plan) -> Rows:
    return [
        ("made by", f"{plan.software.name} {plan.software.version} on {time_of(plan.created)}"),
        ("schema", plan.schema),
        ("intended use", plan.intended_use),
    ]
