"""Virtual needles in a real CT without one, through pedicles on both sides, against the canal's contour.

    python -m tests.sweeps.real_ct_needles [--cases 60] [--seed0 0] [--json]

That is the full form; it needs the shared data beside the project's root (shared/data/lidc0314_lower_thoracic_1mm).
The short form runs with the tests (test_sweeps.py). Repeatable for a seed. Exit status 1 with a silent failure.
About 1.5 s a case on one core.

The drawing shares no code with the package's phantom: shape on a grid three times as fine, Gaussian blur, mean over
the voxel, noise of its own, cut at 3071 HU; no streaks. The canal's contour is half-automatic (its README): about 0.5 mm
where its wall is bone, 1.5 mm where it is interpolated.
Groups by the nearest wall: ``on bone``, ``faint wall`` (no dense bone behind it, such as
where veins leave the body), ``interpolated`` (in a slice whose contour was seen on bone in less than 80 %).
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree
from tqdm import tqdm

from iort_planner.applicator import Applicator, read_applicator
from iort_planner.imaging.series import load_series
from iort_planner.imaging.volume import ImageGrid, Volume
from iort_planner.units import FloatArray
from tests.sweeps.scoring import Outcome, Truth, arguments, finish, score

CASE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "lidc0314_lower_thoracic_1mm"
FINER = 3
BLUR_MM = 0.6
CLIP_HU = 3071
PLASTIC_HU = 120.0
CANNULA_RADIUS_MM = 2.7
BONE_HU = 250.0  # denser than this behind the nearest wall is surely bone; a thin back wall may blur to less
LEAST_FRACTION_ON_BONE = 0.8  # of the nearest wall's slice; with less the contour there may well be interpolated
LEAST_CLEARANCE_MM = 0.4
END_MARGIN_MM = 14.0  # of the source from the first and last slice: the nearest wall must lie in the contour


@dataclass(frozen=True, kw_only=True, eq=False)
class Wall:
    """The contour as dense points, 0.4 mm apart, with the outward normal in the slice's plane."""

    points_lps_mm: FloatArray
    outward: FloatArray
    fraction_on_bone: FloatArray
    tree: Any
    centroids_lps_mm: FloatArray
    polygons: tuple[FloatArray, ...]

    def distance_mm(self, point: FloatArray) -> tuple[float, int]:
        distance, number = self.tree.query(point)
        return float(distance), int(number)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One virtual needle."""

    tip_lps_mm: tuple[float, float, float]
    axis_lps: tuple[float, float, float]
    cannula_end_mm: float | None
    metal_hu: float
    noise_hu: float
    side: str
    slice_fraction_on_bone: float


def read_wall(case: Path = CASE) -> Wall:
    """The contour's polygons, each resampled by arc length, joined linearly between slices (five steps a millimetre)."""
    slices = json.loads((case / "canal_truth.json").read_text(encoding="utf-8"))["slices"]
    angles = np.linspace(-np.pi, np.pi, 240, endpoint=False)
    rings, centroids, fractions, polygons = [], [], [], []
    for one in slices:
        polygon = np.array(one["polygon_xy_mm"])
        polygons.append(polygon)
        centre = np.array(one["centroid_lps_mm"])
        closed = np.vstack([polygon, polygon[:1]])
        dense = np.concatenate([np.linspace(a, b, 12, endpoint=False) for a, b in pairwise(closed)])
        offset = dense - centre[:2]
        polar = np.arctan2(offset[:, 1], offset[:, 0])
        order = np.argsort(polar)
        radius = np.interp(angles, polar[order], np.hypot(*offset[order].T), period=2 * np.pi)
        ring = centre[:2] + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        rings.append(np.column_stack([ring, np.full(angles.size, one["z_mm"])]))
        centroids.append(centre)
        fractions.append(one["fraction_of_wall_on_bone"])
    stack, steps = np.array(rings), np.arange(0.0, len(rings) - 1 + 1e-9, 0.2)
    points = np.array(
        [
            (1.0 - part) * stack[low] + part * stack[min(low + 1, len(rings) - 1)]
            for low, part in ((int(s), s - int(s)) for s in steps)
        ]
    )
    tangent = np.roll(points, -1, axis=1) - np.roll(points, 1, axis=1)
    outward = np.stack([tangent[..., 1], -tangent[..., 0], np.zeros_like(tangent[..., 0])], axis=-1)
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    flat = points.reshape(-1, 3)
    seen = np.interp(steps, np.arange(len(fractions)), fractions)
    return Wall(
        points_lps_mm=flat,
        outward=outward.reshape(-1, 3),
        fraction_on_bone=np.repeat(seen, angles.size),
        tree=cKDTree(flat),
        centroids_lps_mm=np.array(centroids),
        polygons=tuple(polygons),
    )


def clearance_mm(wall: Wall, tip: FloatArray, axis: FloatArray, applicator: Applicator, cannula: float | None) -> float:
    """Of the whole applicator and cannula from the contour's points: outside both, distance to the nearer one."""
    offset = wall.points_lps_mm - tip
    along = offset @ axis
    across = np.sqrt(np.maximum(np.einsum("nd,nd->n", offset, offset) - along**2, 0.0))
    r = applicator.outer_radius_mm
    ends = np.maximum(np.maximum(r - along, along - applicator.length_mm), 0.0)
    least = float(np.min(np.hypot(ends, across))) - r
    if cannula is not None:
        ends = np.maximum(np.maximum(cannula - along, along - cannula - applicator.cannula_length_mm), 0.0)
        least = min(least, float(np.min(np.hypot(ends, np.maximum(across - CANNULA_RADIUS_MM, 0.0)))))
    return least


def pedicles(volume: Volume, wall: Wall) -> list[tuple[FloatArray, float]]:
    """Points in the middle of pedicles, and their side (+1 left): bone beside the canal in 8 mm of slices."""
    found: list[tuple[FloatArray, float]] = []
    for side in (-1.0, 1.0):
        places, bone = [], []
        for centre, polygon in zip(wall.centroids_lps_mm, wall.polygons, strict=True):
            middle = polygon[np.abs(polygon[:, 1] - centre[1]) < 3.0]
            edge = float(np.max(side * middle[:, 0])) * side
            x, y = np.meshgrid(edge + side * np.arange(1.5, 7.1, 0.5), centre[1] + np.arange(-3.0, 3.1, 1.0))
            box = np.stack([x, y, np.full_like(x, centre[2])], axis=-1)
            places.append([edge + side * 4.5, centre[1], centre[2]])
            bone.append(float(np.mean(volume.sample(box) > BONE_HU * 0.7)))
        smooth = ndimage.gaussian_filter1d(np.array(bone), 2.0)
        for k in range(1, smooth.size - 1):
            if smooth[k] >= max(0.6, smooth[max(0, k - 8) : k + 9].max()):
                found.append((np.array(places[k]), side))
    return found


def inside_canal(wall: Wall, points: FloatArray) -> bool:
    """Whether a point lies within the contour: nearest wall point's outward normal points away from it."""
    _, number = wall.tree.query(points)
    return bool(np.any(np.einsum("nd,nd->n", points - wall.points_lps_mm[number], wall.outward[number]) < 0.0))


def draw_pose(volume: Volume, wall: Wall, applicator: Applicator, rng: np.random.Generator) -> Drawn:
    """A needle through a pedicle from behind, its source 7-16 mm from the wall in the body; by trial."""
    places = pedicles(volume, wall)
    low, high = wall.centroids_lps_mm[0, 2], wall.centroids_lps_mm[-1, 2]
    for _ in range(20000):
        pedicle, side = places[int(rng.integers(len(places)))]
        target = pedicle + np.array([side * rng.uniform(-1.5, 1.5), rng.uniform(-2.0, 2.0), rng.uniform(-2.5, 2.5)])
        sideways, down = rng.uniform(5.0, 40.0), rng.uniform(-22.0, 22.0)  # convergence and tilt of usual approaches
        axis = np.array([side * np.tan(np.radians(sideways)), 1.0, np.tan(np.radians(down))])
        axis /= np.linalg.norm(axis)
        tip = target - axis * rng.uniform(12.0, 34.0)
        source = applicator.source_lps_mm(tip, axis)
        cannula = float(rng.uniform(8.0, 20.0)) if rng.random() < 0.7 else None
        distance, nearest = wall.distance_mm(source)
        if not (7.0 <= distance <= 16.0 and low + END_MARGIN_MM <= source[2] <= high - END_MARGIN_MM):
            continue
        line = tip + np.linspace(0.0, applicator.length_mm, 200)[:, None] * axis
        if inside_canal(wall, line) or clearance_mm(wall, tip, axis, applicator, cannula) < LEAST_CLEARANCE_MM:
            continue
        ball = source + rng.normal(size=(200, 3))  # the tip lies in the vertebral body
        tip_bone = float(np.mean(volume.sample(tip + rng.normal(size=(200, 3)), outside=-1000.0)))
        if tip_bone < 120.0 or float(np.mean(volume.sample(ball, outside=-1000.0))) < 120.0:
            continue
        end = tip + applicator.length_mm * axis
        if volume.grid.contains(end) and float(volume.sample(end)) > -500.0:
            continue
        return Drawn(
            tip_lps_mm=tuple(tip.tolist()),
            axis_lps=tuple(axis.tolist()),
            cannula_end_mm=cannula,
            metal_hu=float(rng.uniform(4000.0, 10000.0)),
            noise_hu=float(rng.uniform(5.0, 25.0)),
            side="left" if side > 0 else "right",
            slice_fraction_on_bone=float(wall.fraction_on_bone[nearest]),
        )
    raise RuntimeError("no pose fits this CT")


def coverage(drawn: Drawn, grid: ImageGrid, applicator: Applicator) -> tuple[FloatArray, FloatArray]:
    """Blurred shares of plastic and metal of each voxel of a grid, shape (nk, nj, ni)."""
    step, (nk, nj, ni) = grid.spacing_mm / FINER, grid.shape
    fine = ImageGrid(
        size_voxels=(ni * FINER, nj * FINER, nk * FINER),
        spacing_mm=step,
        origin_lps_mm=grid.index_to_lps(np.full(3, 0.5 / FINER - 0.5)),
        direction=grid.direction,
    )
    tip, axis = np.array(drawn.tip_lps_mm), np.array(drawn.axis_lps)
    width = float(step.mean())
    shares = np.empty((2, *fine.shape), np.float32)
    i, j = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in fine.size_voxels[:2]))
    for k in range(fine.shape[0]):
        offset = fine.index_to_lps(np.stack([i, j, np.full(i.shape, float(k))], axis=-1)) - tip
        along = offset @ axis
        across = np.sqrt(np.maximum(np.einsum("...d,...d->...", offset, offset) - along**2, 0.0))
        r = applicator.outer_radius_mm
        ball = r - np.hypot(np.minimum(along - r, 0.0), across)  # depth in the half-ball-ended rod
        metal = _soft(
            np.minimum(ball, np.minimum(along - applicator.radiolucent_tip_length_mm, applicator.length_mm - along)),
            width,
        )
        rod = _soft(np.minimum(ball, applicator.length_mm - along), width)
        if drawn.cannula_end_mm is not None:
            start = drawn.cannula_end_mm
            tube = np.minimum(
                np.minimum(across - r, CANNULA_RADIUS_MM - across),
                applicator.cannula_length_mm / 2 - np.abs(along - start - applicator.cannula_length_mm / 2),
            )
            metal = np.minimum(metal + _soft(tube, width), 1.0)
        shares[0, k], shares[1, k] = np.maximum(rod - metal, 0.0), metal
    sigma = (0.0, BLUR_MM / step[1], BLUR_MM / step[0])  # across slices the profile is the mean over the slice
    result = [
        ndimage.gaussian_filter(share, sigma)
        .reshape(nk, FINER, nj, FINER, ni, FINER)
        .mean(axis=(1, 3, 5), dtype=np.float64)
        for share in shares
    ]
    return result[0], result[1]


def _soft(depth: FloatArray, width: float) -> FloatArray:
    share: FloatArray = np.clip(0.5 + depth / width, 0.0, 1.0)
    return share


def draw(volume: Volume, drawn: Drawn, applicator: Applicator, rng: np.random.Generator) -> Volume:
    """The CT with the needle in it."""
    tip, axis = np.array(drawn.tip_lps_mm), np.array(drawn.axis_lps)
    line = tip + np.linspace(-3.0, applicator.length_mm + 3.0, 200)[:, None] * axis
    low, high = volume.grid.box_around(line[volume.grid.contains(line)], CANNULA_RADIUS_MM + 4.0 * BLUR_MM)
    box = (slice(low[2], high[2]), slice(low[1], high[1]), slice(low[0], high[0]))
    plastic, metal = coverage(drawn, volume.grid.crop(low, high), applicator)
    values = volume.values.astype(np.float64)
    part = values[box]
    noise = rng.normal(0.0, drawn.noise_hu, part.shape) * (plastic + metal)
    values[box] = part * (1.0 - plastic - metal) + PLASTIC_HU * plastic + drawn.metal_hu * metal + noise
    cut: npt.NDArray[np.int16] = np.clip(np.rint(values), -1024, CLIP_HU).astype(np.int16)
    return replace(volume, values=cut)


def run_case(volume: Volume, wall: Wall, applicator: Applicator, seed: int) -> Outcome:
    """Draw one needle and score what is found."""
    rng = np.random.default_rng([seed, 314])
    drawn = draw_pose(volume, wall, applicator, rng)
    tip, axis = np.array(drawn.tip_lps_mm), np.array(drawn.axis_lps)
    source = applicator.source_lps_mm(tip, axis)
    distance, nearest = wall.distance_mm(source)
    truth = Truth(
        tip_lps_mm=tip,
        axis_lps=axis,
        source_lps_mm=source,
        distance_from_source_mm=distance,
        shaft_clearance_mm=clearance_mm(wall, tip, axis, applicator, drawn.cannula_end_mm),
    )
    behind = wall.points_lps_mm[nearest] + np.arange(0.0, 2.6, 0.5)[:, None] * wall.outward[nearest]
    group = "on bone" if float(np.max(volume.sample(behind))) > BONE_HU else "faint wall"
    if drawn.slice_fraction_on_bone < LEAST_FRACTION_ON_BONE:
        group = "interpolated"
    return score(f"seed {seed}", (group,), asdict(drawn), draw(volume, drawn, applicator, rng), applicator, truth)


def without_couch(volume: Volume) -> Volume:
    """The CT with air behind the patient, who lies on the couch there: a needle from behind would run through it."""
    body = ndimage.binary_opening(volume.values > -400, iterations=2)
    parts, count = ndimage.label(body)
    largest = 1 + int(np.argmax(ndimage.sum_labels(body, parts, range(1, count + 1))))
    skin = ndimage.binary_dilation(parts == largest, iterations=3)
    behind = np.flip(np.logical_and.accumulate(np.flip(~skin, axis=1), axis=1), axis=1)
    air = np.random.default_rng(0).normal(-990.0, 12.0, volume.values.shape)
    values: npt.NDArray[np.int16] = np.where(behind, np.rint(air), volume.values).astype(np.int16)
    return replace(volume, values=values)


@cache
def load(case: Path = CASE) -> tuple[Volume, Wall, Applicator]:
    """The CT, its contour and the reference applicator."""
    return without_couch(load_series(case / "ct").volume), read_wall(case), read_applicator()


def main() -> int:
    args = arguments(__doc__, 60).parse_args()
    if not CASE.is_dir():
        sys.stderr.write("error: shared/data/lidc0314_lower_thoracic_1mm is not beside the project's root\n")
        return 2
    volume, wall, applicator = load()
    seeds = range(args.seed0, args.seed0 + args.cases)
    outcomes = [run_case(volume, wall, applicator, seed) for seed in tqdm(seeds, file=sys.stderr, unit="needle")]
    return finish(outcomes, as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
