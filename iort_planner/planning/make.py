"""Image, needle, canal, table and prescription to a plan: the one place where a plan is computed."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from iort_planner import INTENDED_USE, __version__
from iort_planner.biology import RBE_SOURCE
from iort_planner.errors import DepthDoseRangeError, DepthDoseTableError
from iort_planner.geometry.distance import canal_distances, distances_outside
from iort_planner.planning import describe
from iort_planner.planning import plan as p
from iort_planner.planning.checks import Evidence, run_checks
from iort_planner.planning.dwell import dose_at, dwell_time, isodose_radius
from iort_planner.planning.given import Automatic, CanalFile, Cord, Correction, limit_structure
from iort_planner.planning.output_of_day import OutputOfDay, table_of_the_day
from iort_planner.planning.second_check import DEFAULT_LIMITS, SecondCheckLimits, second_check
from iort_planner.units import AnyQuantity, Quantity, rbe_weighted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from iort_planner.applicator import Applicator
    from iort_planner.geometry.canal import SpinalCanal
    from iort_planner.geometry.distance import CanalDistances
    from iort_planner.geometry.needle import Needle
    from iort_planner.imaging.series import ScanImage
    from iort_planner.planning.prescription import Prescription
    from iort_planner.source.acceptance import AcceptanceStatus
    from iort_planner.source.depth_dose import DepthDoseTable


def make_plan(
    *,
    image: ScanImage,
    needle: Needle,
    canal: SpinalCanal,
    table: DepthDoseTable,
    applicator: Applicator,
    prescription: Prescription,
    output: OutputOfDay | None = None,
    acceptance: AcceptanceStatus | None = None,
    second_check_limits: SecondCheckLimits = DEFAULT_LIMITS,
    canal_file: CanalFile | None = None,
    automatic: Automatic | None = None,
    correction: Correction | None = None,
    canal_mask: npt.NDArray[np.uint8] | None = None,
    cord: Cord | None = None,
    level: p.PlanLevel | None = None,
    other_needles: Sequence[Needle] = (),
    created: dt.datetime | None = None,
) -> p.Plan:
    """Compute distances, dwell time, doses and checks.

    Parameters
    ----------
    table : DepthDoseTable
        As read; the output of the day is applied here.
    output : OutputOfDay, optional
        Output of the day, which every dose rate is multiplied by.
    acceptance : AcceptanceStatus, optional
        Where a clinical table stands in the record of acceptances; none given counts as never accepted.
    second_check_limits : SecondCheckLimits
        When the second check warns and fails.
    canal_file : CanalFile, optional
        What a canal of method ``file`` was read from.
    automatic : Automatic, optional
        The canal found automatically, where another one is used.
    correction : Correction, optional
        What was changed on ``canal`` by hand.
    canal_mask : ndarray of shape (nk, nj, ni), uint8, optional
        The canal on the image's grid, as it will be written; the plan keeps its hash.
    cord : Cord, optional
        Cord or thecal sac, reported beside the canal; no limit refers to it.
    level : PlanLevel, optional
        What `iort_planner.planning.level.describe_level` found; shown, and a warning where it sees no cortex.
    other_needles : sequence of Needle
        Further needles in the image: listed, without dwell.
    created : datetime with offset, optional
        Default: now.

    Raises
    ------
    CanalNotFoundError
        If source centre or tip lie inside the canal or the cord.
    DepthDoseRangeError
        If the canal's or the prescription's distance lies outside the table.
    InputError
        If the output of the day is dated after ``created``.
    DepthDoseTableError
        If the table has a polar anisotropy.
    """
    created = created or dt.datetime.now().astimezone()
    if output is not None:
        output.require_past(created.date())
    if table.anisotropy is not None:
        raise DepthDoseTableError(
            f"table {table.name!r} has a polar anisotropy, with which the highest dose need not be at the canal's nearest "
            "point: plans do not compute that yet; give a table without that section"
        )
    as_read, table = table, table_of_the_day(table, output)
    distances = canal_distances(needle, applicator, canal)
    limit_of = limit_structure(canal.method, canal_file, correction)
    asked, dwells, result = _doses(prescription, limit_of, table, applicator, needle, canal, distances)
    plan = p.Plan(
        schema=p.SCHEMA,
        verdict="fail",  # until the checks have run
        intended_use=INTENDED_USE,
        software=p.Software(name="iort_planner", version=__version__),
        created=created.isoformat(timespec="seconds"),
        patient=p.PlanPatient(id=image.patient.id, birth_date=image.patient.birth_date, sex=image.patient.sex),
        image=describe.plan_image(image),
        needles=tuple(describe.plan_needle(each) for each in (needle, *other_needles)),
        canal=describe.plan_canal(canal, distances, canal_file, correction, canal_mask),
        cord=None if cord is None else _cord(cord, needle, table, result),
        level=level,
        source=describe.plan_source(as_read, applicator, acceptance, output),
        prescription=asked,
        dwells=dwells,
        result=result,
        second_check=p.PlanSecondCheck(
            warn_percent=second_check_limits.warn_percent,
            fail_percent=second_check_limits.fail_percent,
            differences_percent={},
        ),
        checks=(),
        approval=None,
    )
    rows = list(zip(as_read.distance_mm.tolist(), as_read.dose_rate_gy_per_min.tolist(), strict=True))
    checks = run_checks(
        Evidence(
            plan=plan,
            image=image,
            needle=needle,
            canal=canal,
            table=table,
            canal_file=canal_file,
            automatic=automatic,
            cord=cord,
        )
    )
    differences, second = second_check(plan, rows, second_check_limits)
    return replace(plan, verdict="pass", second_check=differences).with_checks(*checks, second)


def _doses(
    prescription: Prescription,
    limit_of: str,
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
        limit_structure=limit_of,
    )
    dwell = p.Dwell(needle=needle.label, source_lps_mm=describe.vector(needle.source_lps_mm), time_s=_s(time))
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


def _cord(cord: Cord, needle: Needle, table: DepthDoseTable, result: p.Result) -> p.PlanCord:
    """Distances of the cord and the dose at its nearest point; whether it can lie there is a check's question."""
    source, tip = distances_outside(
        needle, cord.triangles_lps_mm, f"structure {cord.structure} of {cord.name} (--cord)"
    )
    notes, dose = list(cord.notes), None
    try:
        dose = dose_at(table, Quantity(result.dwell_time_s, "s"), Quantity(source.length_mm, "mm"))
    except DepthDoseRangeError:
        low, high = table.range_mm
        notes.append(
            f"its dose cannot be stated: the table reaches from {low:g} to {high:g} mm, dose is never extrapolated"
        )
    return p.PlanCord(
        file=cord.name,
        sha256=cord.sha256,
        structure=cord.structure,
        distance_from_source_mm=source.length_mm,
        distance_from_tip_mm=tip.length_mm,
        nearest_point_lps_mm=describe.vector(source.to_lps_mm),
        max_dose_gy=None if dose is None else _gy(dose),
        max_dose_gy_rbe=None if dose is None else _gy_rbe(dose, result.biology.rbe),
        notes=tuple(notes),
    )


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


def _gy(dose: AnyQuantity) -> float:
    return float(dose.to("Gy").magnitude)


def _gy_rbe(dose: AnyQuantity, rbe: float) -> float:
    return float(rbe_weighted(dose, rbe).to("Gy_RBE").magnitude)


def _mm(length: AnyQuantity | None) -> float | None:
    return None if length is None else float(length.to("mm").magnitude)


def _s(time: AnyQuantity) -> float:
    return float(time.to("s").magnitude)
