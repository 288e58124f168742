"""Image, needle, canal, table and prescription to a plan: the one place where a plan is computed."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from iort_planner import INTENDED_USE, __version__
from iort_planner.errors import DepthDoseRangeError
from iort_planner.geometry.distance import canal_distances
from iort_planner.planning import plan as p
from iort_planner.planning.checks import CanalFile, Evidence, run_checks
from iort_planner.planning.dwell import dose_at, dwell_time, isodose_radius
from iort_planner.planning.prescription import RBE_SOURCE
from iort_planner.planning.second_check import second_check
from iort_planner.units import AnyQuantity, FloatArray, Quantity, rbe_weighted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from iort_planner.applicator import Applicator
    from iort_planner.geometry.canal import SpinalCanal
    from iort_planner.geometry.distance import CanalDistances
    from iort_planner.geometry.needle import Needle
    from iort_planner.imaging.series import ScanImage
    from iort_planner.planning.prescription import Prescription
    from iort_planner.source.depth_dose import DepthDoseTable


def make_plan(
    *,
    image: ScanImage,
    needle: Needle,
    canal: SpinalCanal,
    table: DepthDoseTable,
    applicator: Applicator,
    prescription: Prescription,
    canal_file: CanalFile | None = None,
    canal_mask: npt.NDArray[np.uint8] | None = None,
    created: dt.datetime | None = None,
) -> p.Plan:
    """Compute distances, dwell time, doses and checks.

    Parameters
    ----------
    canal_file : CanalFile, optional
        What a canal of method ``file`` was read from.
    canal_mask : ndarray of shape (nk, nj, ni), uint8, optional
        The canal on the image's grid, as it will be written; the plan keeps its hash.
    created : datetime with offset, optional
        Default: now.

    Raises
    ------
    CanalNotFoundError
        If source centre or tip lie inside the canal.
    DepthDoseRangeError
        If the canal's or the prescription's distance lies outside the table.
    """
    created = created or dt.datetime.now().astimezone()
    distances = canal_distances(needle, applicator, canal)
    asked, dwells, result = _doses(prescription, table, applicator, needle, canal, distances)
    plan = p.Plan(
        schema=p.SCHEMA,
        verdict="fail",  # until the checks have run
        intended_use=INTENDED_USE,
        software=p.Software(name="iort_planner", version=__version__),
        created=created.isoformat(timespec="seconds"),
        patient=p.PlanPatient(id=image.patient.id, birth_date=image.patient.birth_date, sex=image.patient.sex),
        image=_image(image),
        needles=(_needle(needle),),
        canal=_canal(canal, distances, canal_file, canal_mask),
        source=_source(table, applicator),
        prescription=asked,
        dwells=dwells,
        result=result,
        checks=(),
        approval=None,
    )
    rows = list(zip(table.distance_mm.tolist(), table.dose_rate_gy_per_min.tolist(), strict=True))
    checks = run_checks(
        Evidence(plan=plan, image=image, needle=needle, canal=canal, table=table, canal_file=canal_file)
    )
    return replace(plan, verdict="pass").with_checks(*checks, second_check(plan, rows))


def _doses(
    prescription: Prescription,
    table: DepthDoseTable,
    applicator: Applicator,
    needle: Needle,
    canal: SpinalCanal,
    distances: CanalDistances,
) -> tuple[p.PlanPrescription, tuple[p.Dwell, ...], p.Result]:
    """Times, radii and doses: what of the plan depends on dose."""
    dose, limit = Quantity(prescription.dose_gy, "Gy"), Quantity(prescription.limit_gy, "Gy")
    rbe = prescription.rbe
    canal_distance = Quantity(distances.distance_from_source_mm, "mm")
    try:
        safe_time = dwell_time(table, limit, canal_distance)
    except DepthDoseRangeError as error:
        low, high = table.range_mm
        raise DepthDoseRangeError(
            f"the canal is {distances.distance_from_source_mm:.1f} mm from the source centre, outside the range "
            f"{low:g} to {high:g} mm of table {table.name!r}: its dose cannot be stated, dose is never extrapolated; "
            "check needle and canal, or give a longer table"
        ) from error
    depth: float | None
    if prescription.depth_mm is None:
        time, depth_from = safe_time, "canal-limit"
        depth = depth_from_source = _mm(isodose_radius(table, dose, time))
    else:
        depth, depth_from = prescription.depth_mm, prescription.depth_from.value
        depth_from_source = applicator.depth_from_source_mm(depth, prescription.depth_from)
        time = dwell_time(table, dose, Quantity(depth_from_source, "mm"))
    # With no depth the canal gets the limit by definition; nothing is gained by rounding there and back.
    canal_dose = limit if prescription.depth_mm is None else dose_at(table, time, canal_distance)
    surface_mm, first_mm = applicator.outer_radius_mm, table.range_mm[0]
    surface = dose_at(table, time, Quantity(surface_mm, "mm")) if surface_mm >= first_mm else None
    prescribed = prescription.dose_gy
    # Twice the dose as well: the tumour's hot part, and a third surface where prescription and limit are one.
    levels = {f"{gy:g}": gy for gy in (prescribed, prescribed / 2, prescription.limit_gy, 2 * prescribed)}
    uncertainty = _uncertainty(table, needle, canal, distances, canal_dose, time)
    asked = p.PlanPrescription(
        dose_gy=prescription.dose_gy,
        rbe=rbe,
        dose_gy_rbe=_gy_rbe(dose, rbe),
        depth_mm=depth,
        depth_from=depth_from,
        depth_from_source_mm=depth_from_source,
        limit_gy=prescription.limit_gy,
        limit_gy_rbe=_gy_rbe(limit, rbe),
    )
    dwell = p.Dwell(needle=needle.label, source_lps_mm=_vector(needle.source_lps_mm), time_s=_s(time))
    result = p.Result(
        dwell_time_s=_s(time),
        max_safe_dwell_time_s=_s(safe_time),
        isodose_radius_mm={key: _mm(isodose_radius(table, Quantity(gy, "Gy"), time)) for key, gy in levels.items()},
        canal_max_gy=_gy(canal_dose),
        canal_max_gy_rbe=_gy_rbe(canal_dose, rbe),
        applicator_surface_gy=None if surface is None else _gy(surface),
        nearest_table_radius_mm=first_mm,
        nearest_table_dose_gy=_gy(dose_at(table, time, Quantity(first_mm, "mm"))),
        engine="water",
        engines={
            "water": p.EngineResult(
                canal_max_gy=_gy(canal_dose),
                canal_max_gy_rbe=_gy_rbe(canal_dose, rbe),
                dose_at_prescription_gy=None if depth_from_source is None else prescription.dose_gy,
                dwell_time_for_limit_s=_s(safe_time),
                dose_to="water",
                uncertainty_percent=uncertainty.canal_dose_percent,
            )
        },
        target=None,
        biology=p.Biology(rbe=rbe, rbe_source=RBE_SOURCE if rbe == 1.3 else f"{rbe:g} given by the user (--rbe)"),
        uncertainty=uncertainty,
    )
    return asked, (dwell,), result


def _uncertainty(
    table: DepthDoseTable,
    needle: Needle,
    canal: SpinalCanal,
    distances: CanalDistances,
    canal_dose: AnyQuantity,
    time: AnyQuantity,
) -> p.Uncertainty:
    """Canal dose: table and position in quadrature in ln D, bands as exp(±k u): never below zero."""
    r = Quantity(distances.distance_from_source_mm, "mm")
    table_part = table.uncertainty_percent_at(r) / 100.0
    position_mm = math.hypot(needle.tip_uncertainty_mm, canal.uncertainty_mm)
    u = math.hypot(table_part, table.local_exponent(r) * position_mm / distances.distance_from_source_mm)
    return p.Uncertainty(
        table_percent=100.0 * table_part,
        tip_mm=needle.tip_uncertainty_mm,
        canal_mm=canal.uncertainty_mm,
        canal_dose_percent=100.0 * u,
        canal_dose_band_k2_gy=(_gy(canal_dose) * math.exp(-2 * u), _gy(canal_dose) * math.exp(2 * u)),
        dwell_time_band_k2_s=(_s(time) * math.exp(-2 * table_part), _s(time) * math.exp(2 * table_part)),
        isotropic_assumed=True,
    )


def _image(image: ScanImage) -> p.PlanImage:
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
        spacing_mm=_vector(grid.spacing_mm),
        hu_calibrated=image.volume.hu_calibrated,
        sha256=image.volume.sha256(),
    )


def _needle(needle: Needle) -> p.PlanNeedle:
    end = needle.cannula_end_lps_mm
    return p.PlanNeedle(
        label=needle.label,
        tip_lps_mm=_vector(needle.tip_lps_mm),
        axis_lps=_vector(needle.axis_lps),
        source_lps_mm=_vector(needle.source_lps_mm),
        method=needle.method,
        confidence=needle.confidence.value,
        tip_uncertainty_mm=float(needle.tip_uncertainty_mm),
        bending_mm=None if needle.bending_mm is None else float(needle.bending_mm),
        cannula_end_lps_mm=None if end is None else _vector(end),
    )


def _canal(
    canal: SpinalCanal,
    distances: CanalDistances,
    file: CanalFile | None,
    mask: npt.NDArray[np.uint8] | None,
) -> p.PlanCanal:
    points = canal.vertices_lps_mm if canal.method == "points" else ()
    drawn = f"canal drawn in {file.name} (structure {file.structure})" if file else "canal as given by the user"
    return p.PlanCanal(
        method=canal.method,
        confidence=canal.confidence.value,
        nearest_point_lps_mm=_vector(distances.nearest_point_lps_mm),
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
        points_lps_mm=tuple(_vector(point) for point in points),
    )


def _source(table: DepthDoseTable, applicator: Applicator) -> p.PlanSource:
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
        reference_point="source-centre",
        range_mm=table.range_mm,
        trusted_range_mm=table.trusted_range_mm,
    )


def _vector(array: FloatArray) -> p.Vector:
    x, y, z = (float(value) for value in array)
    return (x, y, z)


def _gy(dose: AnyQuantity) -> float:
    return float(dose.to("Gy").magnitude)


def _gy_rbe(dose: AnyQuantity, rbe: float) -> float:
    return float(rbe_weighted(dose, rbe).to("Gy_RBE").magnitude)


def _mm(length: AnyQuantity | None) -> float | None:
    return None if length is None else float(length.to("mm").magnitude)


def _s(time: AnyQuantity) -> float:
    return float(time.to("s").magnitude)
