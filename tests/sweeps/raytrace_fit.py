"""Fits the ray trace's scatter model to the Monte Carlo engine in random phantoms, and judges it in others.

python -m tests.sweeps.raytrace_fit RUNS --test $(seq 201 230) [--spacing 1 --uncertainty 1]   judges the shipped model
python -m tests.sweeps.raytrace_fit RUNS --test $(seq 201 230) --fit -1 $(seq 1 30) --out OUT.toml   fits and judges a new one

A minute of two cores for each phantom that is not in the folder RUNS yet (`tests.sweeps.tissue_runs`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import least_squares

from iort_planner.dose.montecarlo import run_montecarlo
from iort_planner.dose.points import rate_at_points
from iort_planner.dose.raytrace import FEATURES, ScatterModel, read_scatter_model, run_raytrace, trace_rays
from iort_planner.dose.spectrum import read_spectrum
from iort_planner.dose.tissue import TissueMap
from iort_planner.imaging.volume import ImageGrid
from iort_planner.source.table_file import read_table
from tests.sweeps.tissue_runs import FAR_MM, NEAR_MM, REACH_MM, SPACING_MM, TissueRun, run_of

if TYPE_CHECKING:
    from iort_planner.dose.engine_dose import EngineDose
    from iort_planner.units import FloatArray

FIT_UNCERTAINTY, TEST_UNCERTAINTY = 0.8, 0.4  # percent within 20 mm: with 2 mm voxels 1.7 and 0.9 from 5 to 30 mm
_ROBUST = 0.05  # differences beyond 5 % count linearly
_WATER_HISTORIES = 6_000_000


def water_fraction() -> tuple[FloatArray, FloatArray]:
    """Distance and the unscattered photons' part of the dose in water, on a cube of 120 mm."""
    image = ImageGrid(size_voxels=(2, 2, 2), spacing_mm=np.ones(3), origin_lps_mm=np.zeros(3), direction=np.eye(3))
    grid = image.parallel_around(np.zeros(3), reach_mm=60.0, spacing_mm=SPACING_MM)
    engine = run_montecarlo(TissueMap.filled(grid, np.zeros(3)), read_spectrum(), histories=_WATER_HISTORIES)
    away = grid.distances_mm(np.zeros(3))
    distance = np.array([*np.arange(2.0, 31.0, 2.0), *np.arange(35.0, 61.0, 5.0)])
    reference = [engine.primary_to_water[np.abs(away - r) < 1.0].mean(dtype=np.float64) for r in distance]
    return np.array([0.0, *distance]), np.array([1.0, *reference])


def rows_of(run: TissueRun, water: tuple[FloatArray, FloatArray]) -> FloatArray:
    """Of each voxel that is judged: the features, the primary ratio, water's fraction, Monte Carlo's ratio."""
    rays, part = trace_rays(run.tissue, read_spectrum()), run.judged()
    fraction = np.interp(rays.away_mm[part], *water)
    return np.stack([*rays.features[:, part], rays.primary[part], fraction, run.dose.to_water[part]]).astype(np.float64)


def predicted(weights: FloatArray, rows: FloatArray) -> FloatArray:
    """Ratio of the ray trace."""
    features, primary, fraction = rows[:-3], rows[-3], rows[-2]
    result: FloatArray = fraction * primary + (1.0 - fraction) * np.exp(weights @ features)
    return result


def fitted(rows: FloatArray) -> FloatArray:
    """Weights of the features with the least relative differences."""
    start = np.array([1.0] + [0.0] * (len(FEATURES) - 1))
    found = least_squares(lambda w: predicted(w, rows) / rows[-1] - 1.0, start, loss="soft_l1", f_scale=_ROBUST)
    return np.asarray(found.x, dtype=np.float64)


def canal_rate(run: TissueRun, dose: EngineDose) -> float:
    """Highest dose rate at the canal's true wall, Gy/min; the wall in metal's shadow left out, like the voxels."""
    table = read_table("reference-needle-50kv")
    axis = np.array([0.0, 0.0, 1.0])  # the table has no anisotropy
    index = np.rint(run.tissue.grid.lps_to_index(run.wall_lps_mm)).astype(np.int64)
    lit = ~run.shadow[tuple(index.T[::-1])]
    wall = run.wall_lps_mm[lit]
    return float(np.nanmax(rate_at_points(table, run.tissue.source_lps_mm, axis, wall) * dose.ratio_at(wall)))


def judged(model: ScatterModel, runs: list[TissueRun]) -> tuple[FloatArray, FloatArray]:
    """Differences of the ray trace from the Monte Carlo, percent: of all voxels, and of each canal's dose; a line each."""
    voxels, canals = [], []
    for run in runs:
        rays, part = run_raytrace(run.tissue, read_spectrum(), model), run.judged()
        each = 100.0 * (rays.to_water[part] / run.dose.to_water[part].astype(np.float64) - 1.0)
        voxels.append(each)
        canals.append(100.0 * (canal_rate(run, rays) / canal_rate(run, run.dose) - 1.0))
        say(
            f"{run.seed:4d}: {part.sum()} voxels, Monte Carlo's noise {run.noise_percent():.2f} %, {spread(each)}, "
            f"canal {canals[-1]:+.1f} %"
        )
    return np.concatenate(voxels), np.array(canals)


def spread(percent: FloatArray) -> str:
    """Median and 95th percentile of the size of differences, and their median."""
    size = np.abs(percent)
    return f"median {np.median(size):.2f} %, 95 % {np.quantile(size, 0.95):.2f} %, bias {np.median(percent):+.2f} %"


def say(text: str) -> None:
    """A line on stdout, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Fit, test, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--test", type=int, nargs="+", required=True, help="seeds of random phantoms")
    parser.add_argument("--fit", type=int, nargs="+", default=[], help="the same; with --out")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--spacing", type=float, default=SPACING_MM, help="mm, of the phantoms that are judged")
    parser.add_argument("--uncertainty", type=float, default=TEST_UNCERTAINTY, help="percent within 20 mm in them")
    args = parser.parse_args()
    if bool(args.fit) != bool(args.out):
        parser.error("--fit and --out belong together")

    def made(seeds: list[int], spacing_mm: float, uncertainty: float) -> list[TissueRun]:
        return [
            run_of(args.runs, n, spacing_mm=spacing_mm, reach_mm=REACH_MM, uncertainty_percent=uncertainty)
            for n in seeds
        ]

    test = made(args.test, args.spacing, args.uncertainty)
    model = read_scatter_model()
    if args.fit:
        water = water_fraction()
        rows = np.concatenate([rows_of(run, water) for run in made(args.fit, SPACING_MM, FIT_UNCERTAINTY)], axis=1)
        weights = fitted(rows)
        inside = spread(100.0 * (predicted(weights, rows) / rows[-1] - 1.0))
        model = ScatterModel(
            weights=np.round(weights, 4),
            distance_mm=np.round(water[0], 1),
            primary_fraction=np.round(water[1], 4),
            median_percent=0.0,
            p95_percent=0.0,
            origin=f"fitted to our Monte Carlo engine at {SPACING_MM:g} mm on random phantoms "
            f"({_seeds(args.fit)}), tested on others ({_seeds(args.test)})",
        )
        say(f"fitted phantoms, with the Monte Carlo's noise of about 1.7 %: {inside}")
    voxels, canals = judged(model, test)
    say(
        f"{len(test)} phantoms, not fitted: {spread(voxels)}; canals: {spread(canals)}, largest {np.abs(canals).max():.1f} %"
    )
    if args.fit:
        args.out.write_text(_toml(model, voxels, canals, inside, args.spacing), encoding="utf-8")


def _seeds(seeds: list[int]) -> str:
    """How many, and which."""
    whole = sorted(seeds) == list(range(min(seeds), max(seeds) + 1))
    return f"{len(seeds)}: seeds {f'{min(seeds)} to {max(seeds)}' if whole else ' '.join(map(str, seeds))}"


def _toml(model: ScatterModel, voxels: FloatArray, canals: FloatArray, inside: str, spacing_mm: float) -> str:
    lines = [
        f"# iort_planner ray trace, scatter model for spectrum {read_spectrum().key}; made by tests/sweeps/raytrace_fit.py",
        f'origin = "{model.origin}"',
        f'spectrum_sha256 = "{read_spectrum().sha256}"',
        "[weights]",
        *(f"{key} = {value:.4f}" for key, value in zip(FEATURES, model.weights, strict=True)),
        f"[differences]  # {NEAR_MM:g} to {FAR_MM:g} mm, phantoms not fitted, metal's shadow left out,",
        f"# Monte Carlo's noise included; in the fitted ones: {inside}",
        f"median_percent = {np.median(np.abs(voxels)):.2f}",
        f"p95_percent = {np.quantile(np.abs(voxels), 0.95):.2f}",
        f"bias_percent = {np.median(voxels):.2f}",
        f"canal_most_percent = {np.abs(canals).max():.2f}  # with voxels of {spacing_mm:g} mm",
        "[water]",
        f"distance_mm = {model.distance_mm.tolist()}",
        f"primary_fraction = {model.primary_fraction.tolist()}",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
