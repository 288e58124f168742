"""Times, radii and doses of a plan: what depends on the dose rate, with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from iort_planner import biology as bio
from iort_planner.dose import tg43
from iort_planner.dose.points import max_rate_on_surface, rate_at_points
from iort_planner.errors import DepthDoseRangeError
from iort_planner.geometry.distance import distances_outside
from iort_planner.planning import describe
from iort_planner.planning import plan as p
from iort_planner.planning import uncertainty as unc
from iort_planner.planning.dwell import dose_in, dwell_time, isodose_radius, time_for
from iort_planner.units import AnyQuantity, Quantity, rbe_weighted

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.applicator import Applicator
    from iort_planner.geometry.canal import SpinalCanal
    from iort_planner.geometry.distance import CanalDistances
    from iort_planner.geometry.needle import Needle
    from iort_planner.planning.given import Cord
    from iort_planner.planning.prescription import Prescription
    from iort_planner.source.depth_dose import DepthDoseTable
    from iort_planner.source.tg43 import Tg43Source
    from iort_planner.units import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hottest:
    """The point of a wall with the highest dose rate; without a polar anisotropy it is the nearest one."""

    point_lps_mm: FloatArray
    rate: AnyQuantity


def hottest_on_canal(table: DepthDoseTable, needle: Needle, canal: SpinalCanal, distances: CanalDistances) -> Hottest:
    """Where the canal's wall gets most.

    Raises
    ------
    DepthDoseRangeError
        If that cannot be told, because the canal lies outside the table.
    """
    try:
        if table.anisotropy is None:
            rate = table.dose_rate_at(Quantity(distances.distance_from_source_mm, "mm"))
            return Hottest(point_lps_mm=distances.nearest_point_lps_mm, rate=rate)
        return _hottest(table, needle, canal.vertices_lps_mm, canal.faces)
    except DepthDoseRangeError as error:
        low, high = table.range_mm
        raise DepthDoseRangeError(
            f"the canal is {distances.distance_from_source_mm:.1f} mm from the source centre, and table {table.name!r} "
            f"reaches from {low:g} to {high:g} mm: its dose cannot be stated, dose is never extrapolated; "
            f"check needle and canal, or give a longer table ({error})"
        ) from error


def _hottest(table: DepthDoseTable, needle: Needle, points_lps_mm: FloatArray, faces: npt.NDArray[np.int64]) -> Hottest:
    if faces.size:
        point, rate = max_rate_on_surface(table, needle.source_lps_mm, needle.axis_lps, points_lps_mm, faces)
        return Hottest(point_lps_mm=point, rate=Quantity(rate, "Gy/min"))
    nearest_mm = float(np.min(np.linalg.norm(points_lps_mm - needle.source_lps_mm, axis=1)))
    table.dose_rate_at(Quantity(nearest_mm, "mm"))  # refuses what lies nearer than the table, or all beyond it
    rates = rate_at_points(table, needle.source_lps_mm, needle.axis_lps, points_lps_mm)
    best = int(np.nanargmax(rates))
    return Hottest(point_lps_mm=points_lps_mm[best], rate=Quantity(float(rates[best]), "Gy/min"))


def prescribe(
    prescription: Prescription,
    limit_of: str,
    table: DepthDoseTable,
    applicator: Applicator,
    needle: Needle,
    canal: SpinalCanal,
    distances: CanalDistances,
    *,
    output_measured: bool,
) -> tuple[p.PlanPrescription, tuple[p.Dwell, ...], p.Result]:
    """Prescription, dwells and result; ``table`` holds the dose rates of the day.

    Raises
    ------
    DepthDoseRangeError
        If the canal's or the prescription's distance lies outside the table.
    """
    dose, limit = Quantity(prescription.dose_gy, "Gy"), Quantity(prescription.limit_gy, "Gy")
    rbe = bio.Rbe.given(prescription.rbe)
    hottest = hottest_on_canal(table, needle, canal, distances)
    safe_time = time_for(limit, hottest.rate)
    depth: float | None
    if prescription.depth_mm is None:
        time, depth_from = safe_time, "canal-limit"
        depth = depth_from_source = _mm(isodose_radius(table, dose, time))
    else:
        depth, depth_from = prescription.depth_mm, prescription.depth_from.value
        depth_from_source = applicator.depth_from_source_mm(depth, prescription.depth_from)
        time = dwell_time(table, dose, Quantity(depth_from_source, "mm"))
    # With no depth the canal gets the limit by definition; nothing is gained by rounding there and back.
    canal_dose = limit if prescription.depth_mm is None else dose_in(time, hottest.rate)
    surface_mm, first_mm = applicator.outer_radius_mm, table.range_mm[0]
    surface = dose_in(time, table.dose_rate_at(Quantity(surface_mm, "mm"))) if surface_mm >= first_mm else None
    prescribed = prescription.dose_gy
    # Twice the dose as well: the tumour's hot part, and a third surface where prescription and limit are one.
    levels = {f"{gy:g}": gy for gy in (prescribed, prescribed / 2, prescription.limit_gy, 2 * prescribed)}
    uncertainty = _uncertainty(
        table, needle, canal, hottest, canal_dose, limit, dose, time, safe_time, output_measured=output_measured
    )
    asked = p.PlanPrescription(
        dose_gy=prescription.dose_gy,
        rbe=rbe.value,
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
        canal_max_point_lps_mm=describe.vector(hottest.point_lps_mm),
        applicator_surface_gy=None if surface is None else _gy(surface),
        nearest_table_radius_mm=first_mm,
        nearest_table_dose_gy=_gy(dose_in(time, table.dose_rate_at(Quantity(first_mm, "mm")))),
        engine="water",
        engines={
            "water": _engine(rbe, canal_dose, None if depth_from_source is None else dose, safe_time, uncertainty)
        },
        tissue=None,
        target=None,
        biology=_biology(canal_dose, rbe),
        uncertainty=uncertainty,
    )
    return asked, (dwell,), result


def tg43_engine(
    prescription: Prescription,
    asked: p.PlanPrescription,
    result: p.Result,
    source: Tg43Source,
    needle: Needle,
    output: float,
) -> p.EngineResult:
    """What the TG-43 formalism itself says in the time that the water engine set.

    The canal's dose is that of the water engine's point: the two agree within 0.05 % in every direction. ``output`` is the
    output of the day, a factor on every dose rate.
    """
    axis = np.array(needle.axis_lps)
    at_canal, at_depth = np.array(result.canal_max_point_lps_mm), None
    rate = Quantity(output * float(tg43.rate_at_points(source, needle.source_lps_mm, axis, at_canal)), "Gy/min")
    time = Quantity(result.dwell_time_s, "s")
    if asked.depth_from_source_mm is not None:
        sideways = tg43.dose_rate_at(source, Quantity(asked.depth_from_source_mm, "mm"), Quantity(90.0, "deg"))
        at_depth = dose_in(time, output * sideways)
    return _engine(
        bio.Rbe.given(prescription.rbe),
        dose_in(time, rate),
        at_depth,
        time_for(Quantity(prescription.limit_gy, "Gy"), rate),
        result.uncertainty,
    )


def cord_of(cord: Cord, needle: Needle, table: DepthDoseTable, result: p.Result) -> p.PlanCord:
    """Distances of the cord and its highest dose; whether it can lie there is a check's question."""
    source, tip = distances_outside(
        needle, cord.triangles_lps_mm, f"structure {cord.structure} of {cord.name} (--cord)"
    )
    notes, point, dose = list(cord.notes), source.to_lps_mm, None
    try:
        if table.anisotropy is None:
            rate = table.dose_rate_at(Quantity(source.length_mm, "mm"))
        else:
            corners = cord.triangles_lps_mm.reshape(-1, 3)
            hottest = _hottest(table, needle, corners, np.arange(len(corners)).reshape(-1, 3))
            point, rate = hottest.point_lps_mm, hottest.rate
        dose = dose_in(Quantity(result.dwell_time_s, "s"), rate)
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
        max_dose_point_lps_mm=None if dose is None else describe.vector(point),
        max_dose_gy=None if dose is None else _gy(dose),
        max_dose_gy_rbe=None if dose is None else _gy_rbe(dose, bio.Rbe.given(result.biology.rbe)),
        notes=tuple(notes),
    )


def _engine(
    rbe: bio.Rbe,
    canal_dose: AnyQuantity,
    at_depth: AnyQuantity | None,
    safe_time: AnyQuantity,
    uncertainty: p.Uncertainty,
) -> p.EngineResult:
    return p.EngineResult(
        canal_max_gy=_gy(canal_dose),
        canal_max_gy_rbe=_gy_rbe(canal_dose, rbe),
        dose_at_prescription_gy=None if at_depth is None else _gy(at_depth),
        dwell_time_for_limit_s=_s(safe_time),
        dose_to="water",
        uncertainty_percent=uncertainty.canal_dose_percent,
    )


def _biology(canal_dose: AnyQuantity, rbe: bio.Rbe) -> p.Biology:
    weighted = rbe_weighted(canal_dose, rbe.value)
    return p.Biology(
        rbe=rbe.value,
        rbe_source=rbe.source,
        canal=tuple(
            p.PlanBiologicalDose(
                bed_gy_rbe=found.bed_gy_rbe,
                eqd2_gy_rbe=found.eqd2_gy_rbe,
                alpha_beta_gy=ab.value_gy,
                tissue=ab.tissue,
                source=ab.source,
                note=found.note,
            )
            for ab in (bio.CORD_HYTEC, bio.CORD_QUANTEC)
            for found in (bio.biological_dose(weighted, ab),)
        ),
        cord_limits=tuple(
            p.PlanCordLimit(
                name=each.limit.name,
                low=each.limit.low,
                high=each.limit.high,
                unit=each.limit.unit,
                value=each.value,
                comparison=each.verdict,
                convention=each.limit.convention,
                source=each.limit.source,
            )
            for each in bio.compare_with_limits(canal_dose, rbe)
        ),
    )


def _uncertainty(
    table: DepthDoseTable,
    needle: Needle,
    canal: SpinalCanal,
    hottest: Hottest,
    canal_dose: AnyQuantity,
    limit: AnyQuantity,
    dose: AnyQuantity,
    time: AnyQuantity,
    safe_time: AnyQuantity,
    *,
    output_measured: bool,
) -> p.Uncertainty:
    """The budget at the wall's point with the highest dose, and the bands that follow from it."""
    covariance = needle.tip_covariance_lps_mm2
    if covariance is None:  # by hand: alike in all directions
        covariance = needle.tip_uncertainty_mm**2 / 3.0 * np.eye(3)
    r = Quantity(float(np.linalg.norm(hottest.point_lps_mm - needle.source_lps_mm)), "mm")
    causes = unc.Causes(
        table_percent=table.uncertainty_percent_at(r),
        scale_percent=table.scale_uncertainty_percent,
        output_percent=unc.OUTPUT_MEASURED_PERCENT if output_measured else unc.OUTPUT_NOT_MEASURED_PERCENT,
        interpolation_percent=table.interpolation_error_percent_at(r),
        anisotropy_percent=unc.ISOTROPY_ASSUMED_PERCENT if table.anisotropy is None else 0.0,
        tip_covariance_lps_mm2=covariance,
        canal_mm=canal.uncertainty_mm,
        source_lps_mm=needle.source_lps_mm,
        wall_lps_mm=hottest.point_lps_mm,
        axis_lps=needle.axis_lps,
    )
    canal_gy = _gy(canal_dose)
    found = unc.budget(
        causes,
        rate_gy_per_min=table.rate_gy_per_min,
        range_mm=table.range_mm,
        exponent=table.local_exponent(r),
        canal_dose_gy=canal_gy,
        limit_gy=_gy(limit),
    )
    sampled = unc.sampled_band_gy(
        causes, rate_gy_per_min=table.rate_gy_per_min, range_mm=table.range_mm, canal_dose_gy=canal_gy
    )
    less, more = unc.ln_normal_band(1.0, causes.ln_rate_sigma)
    low_gy, high_gy = found.band_k2_gy
    # the time that would give the limit at the wall is the planned one times limit / dose
    safe_s = _s(safe_time) * canal_gy
    return p.Uncertainty(
        table_percent=causes.table_percent,
        scale_percent=causes.scale_percent,
        output_percent=causes.output_percent,
        interpolation_percent=causes.interpolation_percent,
        anisotropy_percent=causes.anisotropy_percent,
        dose_rate_percent=found.dose_rate_percent,
        tip_mm=needle.tip_uncertainty_mm,
        canal_mm=canal.uncertainty_mm,
        tip_along_percent=found.tip_along_percent,
        tip_across_percent=found.tip_across_percent,
        canal_wall_percent=found.canal_wall_percent,
        canal_dose_percent=found.total_percent,
        canal_dose_band_k1_gy=found.band_k1_gy,
        canal_dose_band_k2_gy=found.band_k2_gy,
        canal_dose_band_95_gy=found.band_95_gy,
        canal_dose_band_95_sampled_gy=sampled,
        probability_over_limit=found.probability_over_limit,
        dwell_time_band_k2_s=unc.ln_normal_band(_s(time), causes.ln_rate_sigma),
        safe_time_band_k2_s=(
            None if high_gy is None else safe_s / high_gy,
            None if low_gy is None else safe_s / low_gy,
        ),
        isodose_radius_band_k2_mm=(
            _mm(isodose_radius(table, dose * more, time)),
            _mm(isodose_radius(table, dose * less, time)),
        ),
        isotropic_assumed=table.anisotropy is None,
    )


def _gy(dose: AnyQuantity) -> float:
    return float(dose.to("Gy").magnitude)


def _gy_rbe(dose: AnyQuantity, rbe: bio.Rbe) -> float:
    return float(rbe_weighted(dose, rbe.value).to("Gy_RBE").magnitude)


def _mm(length: AnyQuantity | None) -> float | None:
    return None if length is None else float(length.to("mm").magnitude)


def _s(time: AnyQuantity) -> float:
    return float(time.to("s").magnitude)
