"""Finished values (image, needle, canal, cord, source) as the parts of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iort_planner.planning import plan as p

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.applicator import Applicator
    from iort_planner.geometry.canal import SpinalCanal
    from iort_planner.geometry.distance import CanalDistances, Segment
    from iort_planner.geometry.needle import Needle
    from iort_planner.imaging.series import ScanImage
    from iort_planner.planning.given import CanalFile, Correction
    from iort_planner.planning.output_of_day import OutputOfDay
    from iort_planner.source.acceptance import AcceptanceStatus
    from iort_planner.source.depth_dose import DepthDoseTable
    from iort_planner.units import FloatArray


def plan_image(image: ScanImage) -> p.PlanImage:
    """The image that was planned on, with its hash."""
    grid = image.volume.grid
    return p.PlanImage(
        path=image.path,
        modality=image.modality,
        kind=image.kind,
        study_uid=image.study_uid,
        series_uid=image.series_uid,
        frame_of_reference_uid=image.volume.frame_of_reference_uid,
        acquired_at=image.acquired_at,
        patient_position=image.patient_position,
        size_voxels=grid.size_voxels,
        spacing_mm=vector(grid.spacing_mm),
        hu_calibrated=image.volume.hu_calibrated,
        sha256=image.volume.sha256(),
    )


def plan_needle(needle: Needle) -> p.PlanNeedle:
    """One needle."""
    end, spread, line = needle.cannula_end_lps_mm, needle.tip_covariance_lps_mm2, needle.centre_line_lps_mm
    return p.PlanNeedle(
        label=needle.label,
        tip_lps_mm=vector(needle.tip_lps_mm),
        axis_lps=vector(needle.axis_lps),
        source_lps_mm=vector(needle.source_lps_mm),
        method=needle.method,
        confidence=needle.confidence.value,
        tip_uncertainty_mm=float(needle.tip_uncertainty_mm),
        bending_mm=None if needle.bending_mm is None else float(needle.bending_mm),
        cannula_end_lps_mm=None if end is None else vector(end),
        centre_line_lps_mm=() if line is None else tuple(vector(point) for point in line),
        tip_covariance_lps_mm2=None if spread is None else (vector(spread[0]), vector(spread[1]), vector(spread[2])),
        content=needle.content.value,
    )


def plan_canal(
    canal: SpinalCanal,
    distances: CanalDistances,
    file: CanalFile | None,
    correction: Correction | None,
    mask: npt.NDArray[np.uint8] | None,
) -> p.PlanCanal:
    """The canal: what it is, how far, and how it was changed by hand."""
    points = canal.vertices_lps_mm if canal.method == "points" else ()
    wall, gap_mm = _wall_at(canal, distances.nearest_point_lps_mm)
    drawn = f"canal drawn in {file.name} (structure {file.structure})" if file else "canal as given by the user"
    moved = () if correction is None else zip(correction.points_lps_mm, correction.moved_mm, strict=True)
    return p.PlanCanal(
        method=canal.method,
        confidence=canal.confidence.value,
        nearest_point_lps_mm=vector(distances.nearest_point_lps_mm),
        distance_from_source_mm=distances.distance_from_source_mm,
        distance_from_tip_mm=distances.distance_from_tip_mm,
        distance_from_surface_mm=distances.distance_from_surface_mm,
        shaft_clearance_mm=distances.shaft_clearance_mm,
        polar_angle_deg=distances.polar_angle_deg,
        uncertainty_mm=float(canal.uncertainty_mm),
        structure="bony spinal canal" if canal.method == "auto" else drawn,
        file=file.name if file else None,
        file_sha256=file.sha256 if file else None,
        file_structure=file.structure if file else None,
        map_sha256=None if mask is None else p.map_sha256(mask),
        points_lps_mm=tuple(vector(point) for point in points),
        segments=p.PlanSegments(
            source=_segment(distances.source),
            tip=_segment(distances.tip),
            surface=_segment(distances.surface),
            shaft=_segment(distances.shaft),
        ),
        wall_nearest=wall,
        wall_nearest_gap_mm=gap_mm,
        corrections=tuple(p.PlanCorrection(point_lps_mm=vector(at), moved_mm=float(mm)) for at, mm in moved),
        uncorrected_distance_from_source_mm=None if correction is None else correction.distance_before_mm,
    )


def _wall_at(canal: SpinalCanal, nearest_lps_mm: FloatArray) -> tuple[str, float | None]:
    """What the wall rests on where it is nearest to the source, and how far from there bone was seen."""
    if canal.method == "points" or canal.moved_at(nearest_lps_mm):
        return "by hand", None
    if canal.method == "file" or canal.nearest_gap_mm is None:
        return "drawn", None
    return ("bone" if canal.nearest_on_bone else "interpolated"), float(canal.nearest_gap_mm)


def plan_source(
    table: DepthDoseTable,
    applicator: Applicator,
    acceptance: AcceptanceStatus | None,
    output: OutputOfDay | None,
) -> p.PlanSource:
    """Table and applicator with their hashes and origins, and what vouches for the dose rates."""
    return p.PlanSource(
        name=table.name,
        table=table.file,
        table_sha256=table.sha256,
        table_origin=table.origin,
        table_uncertainty_percent=float(max(table.uncertainty_percent)),
        applicator=applicator.name,
        applicator_sha256=applicator.sha256,
        applicator_origin=applicator.origin,
        outer_diameter_mm=float(applicator.outer_diameter_mm),
        radiolucent_tip_length_mm=float(applicator.radiolucent_tip_length_mm),
        tip_to_source_mm=float(applicator.tip_to_source_mm),
        applicator_length_mm=float(applicator.length_mm),
        cannula_outer_diameter_mm=applicator.cannula_outer_diameter_mm,
        cannula_length_mm=float(applicator.cannula_length_mm),
        clinical=table.clinical and applicator.clinical,
        scale=table.scale.value,
        reference_point=table.reference_point.value,
        table_notes=table.notes,
        range_mm=table.range_mm,
        trusted_range_mm=table.trusted_range_mm,
        acceptance=plan_acceptance(acceptance) if table.clinical else None,
        output=None if output is None else plan_output(output),
    )


def plan_acceptance(status: AcceptanceStatus | None) -> p.PlanAcceptance:
    """Where a clinical table stands; a record that nobody looked into vouches for nothing."""
    if status is None:
        return p.PlanAcceptance(
            state="never", sha256=None, by=None, accepted_on=None, until=None, notes=("the record was not looked into",)
        )
    entry, later = status.acceptance, status.later
    notes = status.notes
    if later is not None:
        notes = (*notes, f"other bytes of the same name were accepted after these, {later.text}")
    return p.PlanAcceptance(
        state=status.state,
        sha256=None if entry is None else entry.sha256,
        by=None if entry is None else entry.by,
        accepted_on=None if entry is None else entry.accepted_on.isoformat(),
        until=None if entry is None or entry.until is None else entry.until.isoformat(),
        notes=notes,
    )


def plan_output(output: OutputOfDay) -> p.PlanOutput:
    """The output of the day, with the ratio that was used."""
    return p.PlanOutput(
        ratio=float(output.ratio),
        date=output.date.isoformat(),
        temperature_c=output.temperature_c,
        pressure_hpa=output.pressure_hpa,
        corrected_ratio=float(output.corrected_ratio),
    )


def vector(array: FloatArray) -> p.Vector:
    """Three plain floats."""
    x, y, z = (float(value) for value in array)
    return (x, y, z)


def _segment(segment: Segment) -> p.PlanSegment:
    return p.PlanSegment(
        from_lps_mm=vector(segment.from_lps_mm),
        to_lps_mm=vector(segment.to_lps_mm),
        length_mm=float(segment.length_mm),
    )
