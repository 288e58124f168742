"""Fits the ray trace's scatter model to the Monte Carlo engine on random vertebrae and writes it with what is left.

python -m tests.sweeps.raytrace_fit OUT.toml --fit 1 2 3 --test 101 102 [--histories 2000000]; an hour of CPU for thirty.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import least_squares

from iort_planner.dose.hu_curve import read_curve
from iort_planner.dose.montecarlo import run_montecarlo
from iort_planner.dose.raytrace import FEATURES, trace_rays
from iort_planner.dose.spectrum import read_spectrum
from iort_planner.dose.tissue import TissueMap, tissue_map
from iort_planner.geometry.needle import manual_needle
from iort_planner.imaging.volume import ImageGrid
from iort_planner.phantom import Phantom, build, find_spec, read_spec
from tests.sweeps.phantom_cases import draw_case

if TYPE_CHECKING:
    from iort_planner.units import FloatArray

SPACING_MM, REACH_MM = 2.0, 40.0  # a voxel of 2 mm needs an eighth of the histories of one of 1 mm
NEAR_MM, FAR_MM = 5.0, 30.0
_SCAN_MM = (0.9, 1.2)
_ROBUST = 0.05  # differences beyond 5 % count linearly


def phantom_of(seed: int) -> Phantom:
    """The random phantom of a seed, or the reference phantom for -1."""
    spec = read_spec(find_spec("reference"))
    return build(spec if seed < 0 else draw_case(spec, seed, _SCAN_MM).spec, 1)


def tissue_of(phantom: Phantom, spacing_mm: float, reach_mm: float) -> TissueMap:
    """Its tissues round the true source."""
    applicator = phantom.spec.applicator
    needle = manual_needle(phantom.volume, applicator, phantom.truth.tip_lps_mm, phantom.truth.axis_lps)
    return tissue_map(phantom.volume, read_curve(), needle, applicator, reach_mm=reach_mm, spacing_mm=spacing_mm)


def water_fraction(histories: int, threads: int) -> tuple[FloatArray, FloatArray]:
    """Distance and the unscattered photons' part of the dose in water, on a cube of 120 mm."""
    grid = phantom_grid(60.0)
    engine = run_montecarlo(TissueMap.filled(grid, np.zeros(3)), read_spectrum(), histories=histories, threads=threads)
    away = grid.distances_mm(np.zeros(3))
    distance = np.array([*np.arange(2.0, 31.0, 2.0), *np.arange(35.0, 61.0, 5.0)])
    reference = [engine.primary_to_water[np.abs(away - r) < 1.0].mean(dtype=np.float64) for r in distance]
    return np.array([0.0, *distance]), np.array([1.0, *reference])


def phantom_grid(reach_mm: float) -> ImageGrid:
    """Cube round the origin."""
    image = ImageGrid(size_voxels=(2, 2, 2), spacing_mm=np.ones(3), origin_lps_mm=np.zeros(3), direction=np.eye(3))
    return image.parallel_around(np.zeros(3), reach_mm=reach_mm, spacing_mm=SPACING_MM)


def rows_of(seed: int, histories: int, threads: int, water: tuple[FloatArray, FloatArray]) -> FloatArray:
    """Of each voxel between 5 and 30 mm: the features, the primary ratio, water's fraction, Monte Carlo's ratio."""
    tissue = tissue_of(phantom_of(seed), SPACING_MM, REACH_MM)
    engine = run_montecarlo(tissue, read_spectrum(), histories=histories, threads=threads)
    rays = trace_rays(tissue, read_spectrum())
    part = (rays.away_mm >= NEAR_MM) & (rays.away_mm <= FAR_MM)
    fraction = np.interp(rays.away_mm[part], *water)
    return np.stack([*rays.features[:, part], rays.primary[part], fraction, engine.to_water[part]]).astype(np.float64)


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


def spread(weights: FloatArray, rows: FloatArray) -> tuple[float, float, float]:
    """Median and 95th percentile of the size of the differences, and their median, percent."""
    d = 100.0 * (predicted(weights, rows) / rows[-1] - 1.0)
    return float(np.median(np.abs(d))), float(np.quantile(np.abs(d), 0.95)), float(np.median(d))


def main() -> None:
    """Fit, test, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fit", type=int, nargs="+", required=True)
    parser.add_argument("--test", type=int, nargs="+", required=True)
    parser.add_argument("--histories", type=int, default=2_000_000)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    water = water_fraction(args.histories, args.threads)
    made = [
        np.concatenate([rows_of(s, args.histories, args.threads, water) for s in seeds], axis=1)
        for seeds in (args.fit, args.test)
    ]
    weights = fitted(made[0])
    inside, left = spread(weights, made[0]), spread(weights, made[1])
    print(f"fitted {inside}, not fitted {left}")  # noqa: T201
    lines = [
        "# iort_planner ray trace, scatter model for spectrum needle-50kv; made by tests/sweeps/raytrace_fit.py",
        f'origin = "fitted to our Monte Carlo engine ({args.histories} histories at {SPACING_MM:g} mm) on random phantoms '
        f'{args.fit}, tested on {args.test}"',
        f'spectrum_sha256 = "{read_spectrum().sha256}"',
        "[weights]",
        *(f"{key} = {value:.4f}" for key, value in zip(FEATURES, weights, strict=True)),
        f"[differences]  # {NEAR_MM:g} to {FAR_MM:g} mm, cases not fitted, Monte Carlo's noise included; "
        f"fitted ones: {inside[0]:.2f}, {inside[1]:.2f}",
        f"median_percent = {left[0]:.2f}",
        f"p95_percent = {left[1]:.2f}",
        f"bias_percent = {left[2]:.2f}",
        "[water]",
        f"distance_mm = {np.round(water[0], 1).tolist()}",
        f"primary_fraction = {np.round(water[1], 4).tolist()}",
    ]
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
