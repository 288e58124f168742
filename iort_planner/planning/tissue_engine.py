"""What an engine that knows tissues adds to a plan: its canal dose, prescribed dose and largest safe time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from iort_planner import biology as bio
from iort_planner.dose.points import rate_at_points
from iort_planner.errors import DepthDoseRangeError, TissueError
from iort_planner.planning import plan as p
from iort_planner.units import Quantity, rbe_weighted

if TYPE_CHECKING:
    from collections.abc import Callable

    from iort_planner.applicator import Applicator
    from iort_planner.dose.engine_dose import EngineDose
    from iort_planner.geometry.canal import SpinalCanal
    from iort_planner.geometry.needle import Needle
    from iort_planner.imaging.volume import Volume
    from iort_planner.planning.prescription import Prescription
    from iort_planner.source.depth_dose import DepthDoseTable
    from iort_planner.units import FloatArray

TISSUE_ENGINES = ("raytrace", "montecarlo")
_DIRECTIONS = 72  # of the mean round the source at the prescription's distance


def require_hu(volume: Volume, engine: str) -> None:
    """Stop where an engine needs HU and the image has none.

    Raises
    ------
    TissueError
    """
    if not volume.hu_calibrated:
        raise TissueError(
            f"--engine {engine} reads tissues from HU, and this image's values are not calibrated HU; plan with --engine "
            "water, or take a CT whose values are HU (see inspect)"
        )


def run_tissue_engine(
    engine: str, volume: Volume, needle: Needle, applicator: Applicator, progress: Callable[[int, float], None] | None
) -> EngineDose:
    """Ratio to the dose in water round a needle's source, by the engine of that name, with the shipped curve and spectrum."""
    from iort_planner.dose.hu_curve import read_curve
    from iort_planner.dose.spectrum import read_spectrum
    from iort_planner.dose.tissue import tissue_map

    require_hu(volume, engine)
    tissue, spectrum = tissue_map(volume, read_curve(), needle, applicator), read_spectrum()
    if engine == "raytrace":
        from iort_planner.dose.raytrace import run_raytrace

        return run_raytrace(tissue, spectrum)
    from iort_planner.dose.montecarlo import run_montecarlo

    return run_montecarlo(tissue, spectrum, progress=progress)


def tissue_engine(
    prescription: Prescription,
    asked: p.PlanPrescription,
    result: p.Result,
    table: DepthDoseTable,
    needle: Needle,
    canal: SpinalCanal,
    engine: EngineDose,
) -> p.EngineResult:
    """Doses to water in the tissues, in the time that the water engine set; ``table`` holds the dose rates of the day.

    The canal's dose is the highest one at a corner of its wall: behind bone the nearest point need not be the hottest one.
    At the prescription's distance it is the mean round the source in the transverse plane.

    Raises
    ------
    DepthDoseRangeError
        If no point of the canal lies within the engine's grid and the table.
    """
    source, axis = needle.source_lps_mm, needle.axis_lps

    def rates(points: FloatArray) -> FloatArray:
        return rate_at_points(table, source, axis, points) * engine.ratio_at(points)

    wall = np.concatenate([canal.vertices_lps_mm, np.array(result.canal_max_point_lps_mm)[None]])
    found = rates(wall)
    if not np.any(np.isfinite(found)):
        raise DepthDoseRangeError(
            f"--engine {engine.engine}: no point of the canal lies within 50 mm of the source and the table's range; its dose "
            "cannot be stated: check needle and canal, or plan with --engine water"
        )
    hottest = int(np.nanargmax(found))
    rate, statistical = float(found[hottest]), float(engine.uncertainty_percent_at(wall[hottest]))
    at_depth = None
    if asked.depth_from_source_mm is not None:
        around = float(np.mean(rates(source + asked.depth_from_source_mm * _across(axis))))
        at_depth = around * result.dwell_time_s / 60.0 if math.isfinite(around) else None
    dose_gy = rate * result.dwell_time_s / 60.0
    weighted = rbe_weighted(Quantity(dose_gy, "Gy"), bio.Rbe.given(prescription.rbe).value)
    return p.EngineResult(
        canal_max_gy=dose_gy,
        canal_max_gy_rbe=float(weighted.to("Gy_RBE").magnitude),
        dose_at_prescription_gy=at_depth,
        dwell_time_for_limit_s=60.0 * prescription.limit_gy / rate,
        dose_to="water",
        uncertainty_percent=math.hypot(result.uncertainty.canal_dose_percent, statistical),
    )


def _across(axis_lps: FloatArray) -> FloatArray:
    """Unit vectors across an axis, evenly round it, (N, 3)."""
    side = np.cross(axis_lps, np.eye(3)[int(np.argmin(np.abs(axis_lps)))])
    side /= np.linalg.norm(side)
    turn = 2.0 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    return np.asarray(np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * np.cross(axis_lps, side), dtype=np.float64)
