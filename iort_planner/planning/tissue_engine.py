"""What an engine that knows tissues adds to a plan: its canal dose, prescribed dose and largest safe time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from iort_planner import biology as bio
from iort_planner import library
from iort_planner.dose.points import rate_at_points
from iort_planner.errors import DepthDoseRangeError, InputError
from iort_planner.planning import describe
from iort_planner.planning import plan as p
from iort_planner.units import Quantity, rbe_weighted

if TYPE_CHECKING:
    from collections.abc import Callable

    from iort_planner.applicator import Applicator
    from iort_planner.dose.engine_dose import EngineDose
    from iort_planner.dose.hu_curve import HuCurve
    from iort_planner.dose.spectrum import Spectrum
    from iort_planner.dose.tissue import TissueMap
    from iort_planner.geometry.canal import SpinalCanal
    from iort_planner.geometry.needle import Needle
    from iort_planner.imaging.volume import Volume
    from iort_planner.planning.prescription import Prescription
    from iort_planner.source.depth_dose import DepthDoseTable
    from iort_planner.units import FloatArray

TISSUE_ENGINES = ("raytrace", "montecarlo")
_DIRECTIONS = 72  # of the mean round the source at the prescription's distance


@dataclass(frozen=True, slots=True, kw_only=True)
class TissueInput:
    """What an engine that knows tissues reads, and how far the Monte Carlo goes.

    Parameters
    ----------
    curve, spectrum : str
        Library name or file.
    uncertainty_percent : float
        k=1 that the voxels within 20 mm shall reach.
    seed : int
        Of the random numbers.
    gpu : bool
        The Monte Carlo on a CUDA device.
    """

    curve: str = library.DEFAULT_CURVE
    spectrum: str = library.DEFAULT_SPECTRUM
    uncertainty_percent: float = 1.0
    seed: int = 1
    gpu: bool = False

    def require_for(self, engine: str) -> None:
        """Stop where something is given that an engine does not read.

        Raises
        ------
        InputError
        """
        if engine not in TISSUE_ENGINES and self != TissueInput():
            raise InputError(
                "--hu-curve, --spectrum, --uncertainty, --seed, --gpu are for engines raytrace and montecarlo; give --engine too"
            )
        if engine == "raytrace" and self != TissueInput(curve=self.curve, spectrum=self.spectrum):
            raise InputError(
                "--uncertainty, --seed and --gpu are for --engine montecarlo; the ray trace has none of them, leave them out"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TissueDose:
    """An engine's dose with what it rests on."""

    dose: EngineDose
    tissue: TissueMap
    curve: HuCurve
    spectrum: Spectrum


def run_tissue_engine(
    engine: str,
    volume: Volume,
    needle: Needle,
    applicator: Applicator,
    given: TissueInput,
    progress: Callable[[int, float], None] | None = None,
) -> TissueDose:
    """Ratio to the dose in water round a needle's source, by the engine of that name.

    Raises
    ------
    TissueError
        If the image has no HU, a file cannot be used, or the ray trace has no scatter model for the spectrum.
    """
    from iort_planner.dose.hu_curve import read_curve
    from iort_planner.dose.spectrum import read_spectrum
    from iort_planner.dose.tissue import tissue_map

    read, lines = read_curve(given.curve), read_spectrum(given.spectrum)
    tissue = tissue_map(volume, read, needle, applicator)
    if engine == "raytrace":
        from iort_planner.dose.raytrace import read_scatter_model, run_raytrace

        dose = run_raytrace(tissue, lines, read_scatter_model(lines))
    else:
        from iort_planner.dose.montecarlo import run_montecarlo

        dose = run_montecarlo(
            tissue,
            lines,
            uncertainty_percent=given.uncertainty_percent,
            seed=given.seed,
            gpu=given.gpu,
            progress=progress,
        )
    return TissueDose(dose=dose, tissue=tissue, curve=read, spectrum=lines)


def with_tissue(
    prescription: Prescription,
    asked: p.PlanPrescription,
    result: p.Result,
    table: DepthDoseTable,
    needle: Needle,
    canal: SpinalCanal,
    found: TissueDose,
) -> p.Result:
    """The result with doses to water in the tissues, in the time that the water engine set.

    ``table`` holds the dose rates of the day. The canal's dose is the highest one at a corner of its wall: behind bone the
    nearest point need not be the hottest one. At the prescription's distance it is the mean round the source in the
    transverse plane.

    Raises
    ------
    DepthDoseRangeError
        If no point of the canal lies within the engine's grid and the table.
    """
    source, axis, engine = needle.source_lps_mm, needle.axis_lps, found.dose
    wall = np.concatenate([canal.vertices_lps_mm, np.array(result.canal_max_point_lps_mm)[None]])
    rates = rate_at_points(table, source, axis, wall) * engine.ratio_at(wall)
    if not np.any(np.isfinite(rates)):
        raise DepthDoseRangeError(
            f"--engine {engine.engine}: no point of the canal lies within 50 mm of the source and the table's range; its dose "
            "cannot be stated: check needle and canal, or plan with --engine water"
        )
    hottest = int(np.nanargmax(rates))
    rate, statistical = float(rates[hottest]), float(engine.uncertainty_percent_at(wall[hottest]))
    at_depth: float | None = None
    of_water: float | None = None
    if asked.depth_from_source_mm is not None:
        around = source + asked.depth_from_source_mm * _across(axis)
        mean = float(np.mean(rate_at_points(table, source, axis, around) * engine.ratio_at(around)))
        if math.isfinite(mean):
            at_depth = mean * result.dwell_time_s / 60.0
            of_water = at_depth / prescription.dose_gy
    dose_gy = rate * result.dwell_time_s / 60.0
    weighted = rbe_weighted(Quantity(dose_gy, "Gy"), bio.Rbe.given(prescription.rbe).value)
    of_engine = p.EngineResult(
        canal_max_gy=dose_gy,
        canal_max_gy_rbe=float(weighted.to("Gy_RBE").magnitude),
        dose_at_prescription_gy=at_depth,
        dwell_time_for_limit_s=60.0 * prescription.limit_gy / rate,
        dose_to="water",
        uncertainty_percent=math.hypot(result.uncertainty.canal_dose_percent, statistical),
    )
    rests_on = p.PlanTissue(
        engine=engine.engine,
        curve=found.curve.name,
        curve_sha256=found.curve.sha256,
        curve_clinical=found.curve.clinical,
        spectrum=found.spectrum.key,
        spectrum_sha256=found.spectrum.sha256,
        spacing_mm=float(engine.grid.spacing_mm[0]),
        voxels=dict(found.tissue.counts),
        histories=engine.histories,
        seed=engine.seed,
        device=engine.device,
        canal_point_lps_mm=describe.vector(wall[hottest]),
        canal_ratio=dose_gy / result.canal_max_gy,
        prescription_ratio=of_water,
        statistical_percent=statistical,
    )
    return replace(result, engines={**result.engines, engine.engine: of_engine}, tissue=rests_on)


def _across(axis_lps: FloatArray) -> FloatArray:
    """Unit vectors across an axis, evenly round it, (N, 3)."""
    side = np.cross(axis_lps, np.eye(3)[int(np.argmin(np.abs(axis_lps)))])
    side /= np.linalg.norm(side)
    turn = 2.0 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    return np.asarray(np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * np.cross(axis_lps, side), dtype=np.float64)
