"""Random phantoms through needle, canal and distances, against their exact truth.

    python -m tests.sweeps.phantom_sweep [--cases 120] [--seed0 0] [--json]

That is the full form; the short one runs with the tests (test_sweeps.py). Case n is the same whatever the range it is run in.
Exit status 1 with a silent failure. About 3 s a case on one core.

What varies: seed, spacing, turn and place of the grid, pose of the spine, kyphosis, sizes of canal and vertebra, lesion, needle
through either pedicle, cannula's end, blur, noise, streaks. Groups: ``usual`` is what a clean intraoperative CT with metal
correction looks like; ``hard`` has coarse voxels, strong noise or streaks; in ``open wall`` there is no bone at the wall
nearest to the source: disc or foramen, or (one case in six) a soft mass that has taken it, drawn here.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from iort_planner.imaging.volume import ImageGrid, Volume
from iort_planner.phantom import Label, Phantom, PhantomSpec, build, canal_of, find_spec, pose_of, read_spec
from iort_planner.phantom.truth import make_truth
from iort_planner.units import FloatArray
from tests.sweeps.scoring import Outcome, Truth, arguments, finish, score

FIELD_MM = (105.0, 118.0, 76.0)
USUAL_SPACING_MM, USUAL_NOISE_HU, USUAL_STREAKS = 1.25, 30.0, 0.4
LEAST_CLEARANCE_MM = 0.3
SOURCE_DISTANCE_MM = (5.0, 20.0)


def vary(base: PhantomSpec, seed: int, spacing_mm: tuple[float, float] | None = None) -> PhantomSpec:
    """A random specification; ``spacing_mm`` (in plane, across slices) fixes the spacing for a quick case."""
    rng = np.random.default_rng([seed, 1106])

    def between(low: float, high: float) -> float:
        return round(float(rng.uniform(low, high)), 2)

    def three(*half: float) -> tuple[float, float, float]:
        a, b, c = (between(-h, h) for h in half)
        return (a, b, c)

    clean = rng.random() < 0.4
    thickest, noisiest, streakiest = (USUAL_SPACING_MM, USUAL_NOISE_HU, USUAL_STREAKS) if clean else (2.0, 50.0, 1.0)
    pixel = round(float(np.exp(rng.uniform(np.log(0.3), np.log(1.0)))), 3)
    thick = round(float(np.exp(rng.uniform(np.log(0.6), np.log(thickest)))), 3)
    if spacing_mm is not None:
        pixel, thick = spacing_mm
    spacing = (pixel, pixel, thick)
    columns, rows, slices = (round(f / s) for f, s in zip(FIELD_MM, spacing, strict=True))
    canal_width, canal_depth = between(14.0, 22.0), between(12.0, 18.0)
    spec = replace(
        base,
        name=f"sweep {seed}",
        grid=replace(
            base.grid,
            size_voxels=(columns, rows, slices),
            spacing_mm=spacing,
            centre_offset_mm=(between(-6.0, 6.0), between(-2.0, 6.0), between(-6.0, 6.0)),
            rotation_deg=three(20.0, 20.0, 20.0) if rng.random() < 0.6 else (0.0, 0.0, 0.0),
        ),
        spine=replace(base.spine, rotation_deg=three(12.0, 8.0, 8.0), kyphosis_radius_mm=between(220.0, 900.0)),
        canal=replace(
            base.canal,
            width_mm=canal_width,
            depth_mm=canal_depth,
            exponent=between(2.0, 2.6),
            sac_width_mm=canal_width - 3.0,
            sac_depth_mm=canal_depth - 3.0,
            cord_width_mm=canal_width * 0.5,
            cord_depth_mm=canal_depth * 0.42,
        ),
        vertebra=replace(
            base.vertebra,
            body_width_mm=between(32.0, 46.0),
            body_depth_mm=between(26.0, 34.0),
            body_height_mm=between(20.0, 28.0),
            disc_height_mm=between(4.0, 9.0),
            cortex_mm=between(0.7, 1.4),
            pedicle_width_mm=between(7.0, 12.0),
            pedicle_height_mm=between(13.0, 17.0),
        ),
        scanner=replace(
            base.scanner,
            psf_sigma_mm=between(0.45, 0.8),
            slice_sigma_mm=round(0.4 * thick, 3),
            noise_hu=between(15.0, noisiest),
            streak_amplitude=between(0.0, streakiest),
        ),
    )
    return _with_lesion_and_needle(spec, rng)


def _with_lesion_and_needle(spec: PhantomSpec, rng: np.random.Generator) -> PhantomSpec:
    """Lesion in the body; needle through a pedicle into the body, clear of the canal, by trial."""
    canal, vertebra = spec.canal, spec.vertebra
    a, b = canal.width_mm / 2.0, canal.depth_mm / 2.0
    deep, half = vertebra.body_depth_mm, vertebra.body_width_mm / 2.0
    rx, ry, rz = np.round(rng.uniform((3.0, 3.0, 3.0), (12.0, 10.0, 9.0)), 2).tolist()
    centre = rng.uniform((-0.5 * half, -b - 0.8 * deep, -4.0), (0.5 * half, -b - 0.25 * deep, 4.0))
    spec = replace(
        spec, lesion=replace(spec.lesion, centre_mm=tuple(np.round(centre, 2).tolist()), radii_mm=(rx, ry, rz))
    )
    for _ in range(2000):
        side = -1.0 if rng.random() < 0.5 else 1.0
        tip = rng.uniform((-0.3 * half, -b - 0.85 * deep, -6.0), (0.65 * half, -b - 4.0, 6.0))
        through = np.array([a + vertebra.pedicle_width_mm / 2.0, 0.0, 3.5]) + rng.uniform(-1.2, 1.2, 3)
        tip[0], through[0] = side * tip[0], side * through[0]
        drawn = replace(
            spec,
            needle=replace(
                spec.needle,
                tip_mm=tuple(np.round(tip, 2).tolist()),
                through_mm=tuple(np.round(through, 2).tolist()),
                cannula_end_mm=round(float(rng.uniform(8.0, 25.0)), 2),
            ),
        )
        if not _surely_unfit(drawn):
            truth = make_truth(drawn, 0, pose_of(drawn), canal_of(drawn))
            if truth.shaft_clearance_mm >= LEAST_CLEARANCE_MM:
                return drawn
    raise RuntimeError(f"{spec.name}: no needle fits")


def _surely_unfit(spec: PhantomSpec) -> bool:
    """Quickly, whether the source is too near or far, or the bare shaft already too near the canal."""
    pose, canal, applicator = pose_of(spec), canal_of(spec), spec.applicator
    source = float(canal.signed_distance_mm(applicator.source_lps_mm(pose.tip_lps_mm, pose.axis_lps)))
    along = np.arange(applicator.outer_radius_mm, applicator.length_mm, 0.5)
    least = float(np.min(canal.signed_distance_mm(pose.tip_lps_mm + along[:, None] * pose.axis_lps)))
    low, high = SOURCE_DISTANCE_MM
    return not low <= source <= high or least - applicator.outer_radius_mm < LEAST_CLEARANCE_MM - 0.05


def _labels_at(phantom: Phantom, points_lps_mm: FloatArray) -> list[int]:
    grid: ImageGrid = phantom.volume.grid
    index = np.rint(grid.lps_to_index(points_lps_mm)).astype(int)
    i, j, k = np.clip(index, 0, np.array(grid.size_voxels) - 1).T
    return [int(v) for v in phantom.labels[k, j, i]]


def group_of(phantom: Phantom) -> str:
    """``usual``, ``hard`` or ``open wall``."""
    truth, spec = phantom.truth, phantom.spec
    outward = truth.source_lps_mm - truth.nearest_point_lps_mm
    outward /= np.linalg.norm(outward)
    behind = truth.nearest_point_lps_mm + np.arange(0.25, 2.6, 0.25)[:, None] * outward
    if not {Label.TARGET_VERTEBRA, Label.OTHER_VERTEBRA} & set(_labels_at(phantom, behind)):
        return "open wall"
    usual = (
        max(spec.grid.spacing_mm) <= USUAL_SPACING_MM
        and spec.scanner.noise_hu <= USUAL_NOISE_HU
        and spec.scanner.streak_amplitude <= USUAL_STREAKS
    )
    return "usual" if usual else "hard"


def breach_radius_mm(seed: int) -> float:
    """Radius of a mass round the wall nearest to the source; 0 for most seeds."""
    rng = np.random.default_rng([seed, 77])
    return round(float(rng.uniform(3.0, 8.0)), 2) if rng.random() < 1 / 6 else 0.0


def breached(phantom: Phantom, radius_mm: float, seed: int) -> Volume:
    """The scan with a ball of soft tissue round the wall point nearest to the source; needle and canal stay."""
    volume, truth, spec = phantom.volume, phantom.truth, phantom.spec
    (i0, j0, k0), (i1, j1, k1) = volume.grid.box_around(truth.nearest_point_lps_mm, radius_mm + 3.0)
    points = volume.grid.crop((i0, j0, k0), (i1, j1, k1)).voxel_centres_lps_mm()
    soft_edge = 2.0 * spec.scanner.psf_sigma_mm
    ball = radius_mm - np.linalg.norm(points - truth.nearest_point_lps_mm, axis=-1)
    offset = points - truth.tip_lps_mm
    along = offset @ truth.axis_lps
    across = np.linalg.norm(offset - along[..., None] * truth.axis_lps, axis=-1)
    needle = np.where(along > -2.0, across - 4.5, 9.0)
    outside = phantom.canal.signed_distance_mm(points) + 0.5 * soft_edge
    share = np.clip(0.5 + np.minimum(np.minimum(ball, needle), outside) / soft_edge, 0.0, 1.0)
    noise = np.random.default_rng([seed, 78]).normal(0.0, spec.scanner.noise_hu, share.shape)
    values = volume.values.copy()
    part = values[k0:k1, j0:j1, i0:i1]
    part[...] = np.rint(part * (1.0 - share) + share * (spec.hu.lesion + noise)).astype(np.int16)
    return replace(volume, values=values)


def told(spec: PhantomSpec) -> dict[str, Any]:
    """What was varied, so that a case can be built again."""
    parts = ("grid", "spine", "canal", "vertebra", "lesion", "needle", "scanner")
    return {part: asdict(getattr(spec, part)) for part in parts}


def run_case(base: PhantomSpec, seed: int, spacing_mm: tuple[float, float] | None = None) -> Outcome:
    """Build one phantom and score what is found in it."""
    spec = vary(base, seed, spacing_mm)
    phantom = build(spec, seed)
    truth = Truth(
        tip_lps_mm=phantom.truth.tip_lps_mm,
        axis_lps=phantom.truth.axis_lps,
        source_lps_mm=phantom.truth.source_lps_mm,
        distance_from_source_mm=phantom.truth.distance_from_source_mm,
        shaft_clearance_mm=phantom.truth.shaft_clearance_mm,
    )
    radius = breach_radius_mm(seed)
    volume = breached(phantom, radius, seed) if radius else phantom.volume
    group = "open wall" if radius else group_of(phantom)
    case = told(spec) | {"breach_radius_mm": radius}
    return score(f"seed {seed}", group, case, volume, spec.applicator, truth)


def main() -> int:
    args = arguments(__doc__, 120)
    base = read_spec(find_spec("reference"))
    seeds = range(args.seed0, args.seed0 + args.cases)
    outcomes = [run_case(base, seed) for seed in tqdm(seeds, file=sys.stderr, unit="phantom")]
    return finish(outcomes, as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
