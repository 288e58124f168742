"""Monte Carlo doses in the random phantoms, kept in a folder: what the ray trace is fitted to and judged by.

python -m tests.sweeps.tissue_runs FOLDER --seeds 1 2 3 [--uncertainty 1]; half a minute to two minutes of two cores a phantom.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.dose.engine_dose import EngineDose
from iort_planner.dose.hu_curve import read_curve
from iort_planner.dose.montecarlo import run_montecarlo
from iort_planner.dose.spectrum import read_spectrum
from iort_planner.dose.tissue import TissueMap, materials_of, tissue_map
from iort_planner.geometry.needle import manual_needle
from iort_planner.imaging.volume import ImageGrid
from iort_planner.phantom import Phantom, build, find_spec, read_spec
from iort_planner.phantom.scan import canal_of
from tests.sweeps.phantom_cases import draw_case

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.units import FloatArray

SPACING_MM, REACH_MM = 2.0, 40.0  # a voxel of 2 mm needs an eighth of the histories of one of 1 mm
NEAR_MM, FAR_MM = 5.0, 30.0  # of the source: where the ray trace is judged
_SCAN_MM = (0.9, 1.2)
_SHADE_STEP_MM = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TissueRun:
    """A phantom's tissues, the Monte Carlo engine's dose in them, its canal's wall (N, 3) mm, and metal with its shadow."""

    seed: int
    tissue: TissueMap
    dose: EngineDose
    wall_lps_mm: FloatArray

    shadow: npt.NDArray[np.bool_]

    def judged(self) -> npt.NDArray[np.bool_]:
        """Voxels 5 to 30 mm from the source, without metal and its shadow."""
        away = self.tissue.grid.distances_mm(self.tissue.source_lps_mm)
        return np.asarray((away >= NEAR_MM) & (away <= FAR_MM) & ~self.shadow, dtype=np.bool_)

    def noise_percent(self) -> float:
        """Root mean square of the Monte Carlo's own uncertainty, k=1, in the voxels that are judged."""
        return float(np.sqrt(np.mean(self.dose.uncertainty_percent[self.judged()].astype(np.float64) ** 2)))


def phantom_of(seed: int) -> Phantom:
    """The random phantom of a seed, or the reference phantom for -1."""
    spec = read_spec(find_spec("reference"))
    return build(spec if seed < 0 else draw_case(spec, seed, _SCAN_MM).spec, 1)


def tissue_of(phantom: Phantom, spacing_mm: float, reach_mm: float) -> TissueMap:
    """Its tissues round the true source."""
    applicator = phantom.spec.applicator
    needle = manual_needle(phantom.volume, applicator, phantom.truth.tip_lps_mm, phantom.truth.axis_lps)
    return tissue_map(phantom.volume, read_curve(), needle, applicator, reach_mm=reach_mm, spacing_mm=spacing_mm)


def wall_of(phantom: Phantom, reach_mm: float) -> FloatArray:
    """Points of the true canal's wall within a distance of the source, a degree and half a millimetre apart."""
    canal, source = canal_of(phantom.spec), phantom.truth.source_lps_mm
    middle = phantom.truth.nearest_point_lps_mm
    along = np.arange(-200.0, 200.0, 0.5)
    line = canal.centre_line_lps_mm(along)
    along = along[np.linalg.norm(line - middle, axis=1) < reach_mm]
    points = canal.wall_lps_mm(np.deg2rad(np.arange(0.0, 360.0, 1.0))[:, None], along[None, :]).reshape(-1, 3)
    return np.asarray(points[np.linalg.norm(points - source, axis=1) < reach_mm], dtype=np.float64)


def metal_shadow(tissue: TissueMap) -> npt.NDArray[np.bool_]:
    """Voxels of metal (the last material) and those whose line of sight to the source meets a voxel of metal."""
    metal = tissue.material == len(tissue.materials) - 1
    if not metal.any():
        return np.zeros(metal.shape, np.bool_)
    grid, source = tissue.grid, tissue.source_lps_mm
    index = np.stack(list(np.indices(metal.shape))[::-1], axis=-1).reshape(-1, 3).astype(np.float64)
    start = grid.lps_to_index(source)
    steps = int(float(grid.distances_mm(source).max()) / _SHADE_STEP_MM) + 1
    shaded = metal.reshape(-1).copy()
    for part in np.linspace(0.0, 1.0, steps):
        i, j, k = np.rint(start + part * (index - start)).astype(np.int64).T
        shaded |= metal[k, j, i]
    return np.asarray(shaded.reshape(metal.shape))


def run_of(folder: Path, seed: int, *, spacing_mm: float, reach_mm: float, uncertainty_percent: float) -> TissueRun:
    """A run that is kept in the folder, or made and put there; the name holds the files it rests on.

    It does not hold the code: after a change to engine, curve reader or phantoms begin a new folder.
    """
    spectrum, curve = read_spectrum(), read_curve()
    name = (
        f"{seed}-{spacing_mm:g}mm-{reach_mm:g}mm-{uncertainty_percent:g}-{spectrum.sha256[:8]}-{curve.sha256[:8]}.npz"
    )
    path = folder / name
    if not path.is_file():
        phantom = phantom_of(seed)
        tissue = tissue_of(phantom, spacing_mm, reach_mm)
        dose = run_montecarlo(tissue, spectrum, uncertainty_percent=uncertainty_percent)
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(
            part,
            source=tissue.source_lps_mm,
            origin=tissue.grid.origin_lps_mm,
            direction=tissue.grid.direction,
            material=tissue.material,
            density=tissue.density_g_cm3,
            to_water=dose.to_water,
            to_medium=dose.to_medium,
            primary=dose.primary_to_water,
            uncertainty=dose.uncertainty_percent,
            histories=dose.histories,
            seconds=dose.seconds,
            wall=wall_of(phantom, reach_mm),
        )
        part.replace(path)
    return _read(path, seed, spacing_mm)


def _read(path: Path, seed: int, spacing_mm: float) -> TissueRun:
    curve, kept = read_curve(), np.load(path)
    nk, nj, ni = kept["material"].shape
    grid = ImageGrid(
        size_voxels=(ni, nj, nk),
        spacing_mm=np.full(3, spacing_mm),
        origin_lps_mm=kept["origin"],
        direction=kept["direction"],
    )
    tissue = TissueMap(
        grid=grid,
        source_lps_mm=kept["source"],
        materials=materials_of(curve),
        material=kept["material"],
        density_g_cm3=kept["density"],
    )
    dose = EngineDose(
        engine="montecarlo",
        grid=grid,
        source_lps_mm=kept["source"],
        to_water=kept["to_water"],
        to_medium=kept["to_medium"],
        primary_to_water=kept["primary"],
        uncertainty_percent=kept["uncertainty"],
        histories=int(kept["histories"]),
        seconds=float(kept["seconds"]),
    )
    return TissueRun(seed=seed, tissue=tissue, dose=dose, wall_lps_mm=kept["wall"], shadow=metal_shadow(tissue))


def main() -> None:
    """Make the runs that are missing; print each one's noise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--uncertainty", type=float, default=1.0, help="percent, k=1, within 20 mm")
    parser.add_argument("--spacing", type=float, default=SPACING_MM)
    args = parser.parse_args()
    for seed in args.seeds:
        run = run_of(
            args.folder, seed, spacing_mm=args.spacing, reach_mm=REACH_MM, uncertainty_percent=args.uncertainty
        )
        noise = run.noise_percent()
        line = (
            f"{seed}: {run.dose.histories / 1e6:.1f} million histories, {run.dose.seconds:.0f} s, noise {noise:.2f} %"
        )
        print(line, flush=True)  # noqa: T201 - what the command is for


if __name__ == "__main__":
    main()
