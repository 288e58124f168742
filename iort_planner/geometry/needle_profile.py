"""Cross-sections along a run of metal: its centre line, thickness, ends, and what lies beyond them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from iort_planner.geometry.needle_model import Frame, frame_from

if TYPE_CHECKING:
    from iort_planner.geometry.needle_candidates import RoughLine
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

# Distance of sections and pixel within them, mm: coarse to find the axis, then across it, about a slice and under
# the finest blur of a CT (0.5 mm).
_ROUNDS = ((2.0, 0.6), (1.0, 0.45))
_HALF_WIDTH_MM = 8.0
_BEYOND_MM = 8.0
_CORE_MM = 1.0
_WALL_MM = (
    2.4  # the shaft's radius and a little of its blur: the upper quartile in it is metal, wherever the metal stands
)
# Of the way from the surroundings to the metal's value, and of that value: the bare wall of a sheath beside the thicker one with
# its cannula shows a half of it, dense bone in which it stands a third. Our own choice.
THIN_SHARE, LEAST_SHARE = 0.3, 0.36
_THIN_MM = 3.0  # a shorter part is the end's own blur
_SEARCH_MM = 3.2  # ... before the centre is known well
# A section that nearly fills the window (72 mm2) is a hub, a screw's head or a plate: the shaft ends there. A cannula of
# 6.5 mm has 33, cut flat and blooming up to 50.
_SOLID_MM2 = 62.0
_HEAD_SHARE, _HEAD_MM = 0.85, 6.0  # thick metal beyond an end is a head if most of so many mm are nearly as solid
_LEAST_SECTIONS = 10  # for a parabola
_RING_STEP_MM = 0.5
_RINGS_MM = np.arange(0.0, 3.0, _RING_STEP_MM)  # the wall of a cannula of 6.5 mm lies within
_CLOSED_WALL = 0.6  # of a ring's mean weight: a wall that goes round, against metal that lies beside the centre
_WINDOW_MM = 4.8  # cannula radius 3.25 + twice a blur of 0.75


class EndKind(Enum):
    """What lies beyond an end of the metal."""

    TISSUE = "in the body"
    AIR = "in air"
    EDGE = "at the image's edge"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profile:
    """Sections of one run of metal, from one end to the other.

    Parameters
    ----------
    frame : Frame
        Its axis is the line fitted to the section centres.
    along_mm : ndarray of shape (N,), mm
        Where the sections lie along the axis.
    centre_mm : ndarray of shape (N, 2), mm
        Their centres across the axis; NaN where there is no metal.
    core, wall, around : ndarray of shape (N,)
        Median value within 1 mm of the centre; value of the metal, inside or in a wall (upper quartile within 2.4 mm); and
        median on a ring 5.5 to 8 mm from it (NaN outside the image).
    area_mm2 : ndarray of shape (N,), mm2
        Apparent area of the metal and of what it surrounds, at about half of the plateau.
    plateau, air : float
        Value of the metal, and that below which a voxel counts as air.
    low_mm, high_mm : float
        First and last section with metal.
    low_end, high_end : EndKind
    low_head, high_head : bool
        Whether much thicker metal stands beyond that end: a screw's head, or the needle's hub.
    """

    frame: Frame
    along_mm: FloatArray
    centre_mm: FloatArray
    core: FloatArray
    wall: FloatArray
    around: FloatArray
    area_mm2: FloatArray
    plateau: float
    air: float
    low_mm: float
    high_mm: float
    low_end: EndKind
    high_end: EndKind
    low_head: bool
    high_head: bool

    @property
    def distal(self) -> tuple[bool, bool]:
        """Whether the low and the high end could be a needle's distal one: thin metal that ends in the body."""
        return (
            self.low_end is EndKind.TISSUE and not self.low_head,
            self.high_end is EndKind.TISSUE and not self.high_head,
        )

    @property
    def metal(self) -> npt.NDArray[np.bool_]:
        """Sections between the two ends that show metal, shape (N,)."""
        result: npt.NDArray[np.bool_] = (
            (self.along_mm >= self.low_mm) & (self.along_mm <= self.high_mm) & np.isfinite(self.centre_mm[:, 0])
        )
        return result


def air_level(volume: Volume, share: float = 0.2) -> float:
    """Value below which a voxel counts as air: -400 HU, or in relative values ``share`` of the way up to the median.

    In relative values the middle of what is inside the field of view stands for soft tissue.
    """
    if volume.hu_calibrated:
        return -400.0  # between air (-1000) and fat (-100), above lung; our own choice
    sample = volume.values[:: max(1, volume.values.shape[0] // 32), ::4, ::4]
    inside = sample[sample > sample.min()]
    if inside.size == 0:
        return float(sample.min())
    low, middle = np.quantile(inside, [0.005, 0.5]).tolist()
    return float(low + share * (middle - low))


def measure_profile(volume: Volume, line: RoughLine, air: float) -> Profile | None:
    """Cut the metal along ``line`` into sections, twice: the second time across the axis of the first.

    Returns None where the line shows no run of sections with metal.
    """
    frame = frame_from(line.centre_lps_mm, line.direction)
    low, high = line.low_mm, line.high_mm
    box = volume.crop_around(
        frame.to_lps(np.array([[0.0, 0.0, low], [0.0, 0.0, high]])), _BEYOND_MM + 1.5 * _HALF_WIDTH_MM
    )
    last, run = frame, (0, 0)
    for step, pixel in _ROUNDS:
        across = np.arange(-_HALF_WIDTH_MM, _HALF_WIDTH_MM + 1e-6, pixel)
        x, y = np.meshgrid(across, across, indexing="ij")
        along = np.arange(np.floor(low - _BEYOND_MM), high + _BEYOND_MM + 1e-6, step)
        local = np.empty((along.size, *x.shape, 3))
        local[..., 0], local[..., 1], local[..., 2] = x, y, along[:, None, None]
        values = box.sample(frame.to_lps(local), outside=np.nan).astype(np.float64)
        middle = (along > low + 3.0) & (along < high - 3.0)
        walls = _wall(values, x, y, np.zeros((along.size, 2)), _SEARCH_MM)[middle]
        if not np.any(np.isfinite(walls)):
            return None
        plateau = float(np.nanmedian(walls))
        near = np.hypot(x, y)
        ring = (near > 5.5) & (near < 8.0)
        around = _median_of(values[:, ring])
        centre, area = _centres(values, x, y, pixel**2, plateau, around)
        core = _core(values, x, y, np.nan_to_num(centre))
        wall = _wall(values, x, y, np.nan_to_num(centre), _WALL_MM)
        metal = np.isfinite(centre[:, 0]) & (wall > 0.5 * plateau) & (area < _SOLID_MM2)
        run = _longest_run(metal)
        # on from there while a thinner wall stands out: a bare sheath beside the part that its cannula makes thicker
        least = np.maximum(around + THIN_SHARE * (plateau - around), LEAST_SHARE * plateau)
        thin = (np.nan_to_num(wall, nan=-np.inf) > np.nan_to_num(least, nan=np.inf)) & (area < _SOLID_MM2)
        run = _grown(run, thin, round(_THIN_MM / step)) if run[1] > run[0] else run
        if (run[1] - run[0]) * step < 10.0:
            return None
        low, high = float(along[run[0]]), float(along[run[1] - 1])
        part = slice(run[0] + 1, run[1] - 1)
        slope, offset = robust_polynomial(along[part], centre[part], 1)
        shifted = frame.to_lps(np.array([offset[0], offset[1], 0.0]))
        tilted = frame.axis + slope[0] * frame.side + slope[1] * frame.up
        last, frame = frame, frame_from(shifted, tilted)
    # the last sections were cut in the frame before the last correction, which is a small one
    frame = last
    blank = float(box.values.min())
    ends, heads = [], []
    thick = (wall > 0.5 * plateau) & (area > _HEAD_SHARE * _SOLID_MM2)
    for index, sign in ((run[0], -1.0), (run[1] - 1, 1.0)):
        inner = int(np.clip(index - 4 * sign, run[0], run[1] - 1))
        end = frame.to_lps(np.array([*np.nan_to_num(centre[index]), along[index]]))
        ends.append(_end_kind(volume, frame_from(end, sign * frame.axis), float(around[inner]), air, plateau, blank))
        beyond = sign * (along - along[index])
        near = (beyond > 0.0) & (beyond <= _HEAD_MM)
        heads.append(2 * int(np.sum(thick[near])) >= max(int(np.sum(near)), 1))
    return Profile(
        frame=frame, along_mm=along, centre_mm=centre, core=core, wall=wall, around=around, area_mm2=area,
        plateau=plateau, air=air,
        low_mm=low, high_mm=high, low_end=ends[0], high_end=ends[1], low_head=heads[0], high_head=heads[1],
    )  # fmt: skip


def rough_parabola(profile: Profile) -> tuple[float, FloatArray]:
    """Parabola through the section centres: its largest distance from its chord (mm), and its coefficients (3, 2)."""
    use = profile.metal & (profile.along_mm > profile.low_mm + 1.5) & (profile.along_mm < profile.high_mm - 1.5)
    if np.count_nonzero(use) < _LEAST_SECTIONS:
        return 0.0, np.zeros((3, 2))
    along = profile.along_mm[use]
    coefficients = robust_polynomial(along, profile.centre_mm[use], 2)
    return float(np.linalg.norm(coefficients[0])) * float(np.ptp(along)) ** 2 / 4.0, coefficients


def _core(values: FloatArray, x: FloatArray, y: FloatArray, centre: FloatArray) -> FloatArray:
    result = np.full(values.shape[0], np.nan)
    for n in range(values.shape[0]):
        inside = np.hypot(x - centre[n, 0], y - centre[n, 1]) < _CORE_MM
        picked = values[n][inside]
        if np.count_nonzero(np.isfinite(picked)) > 0.5 * picked.size:
            result[n] = np.nanmedian(picked)
    return result


def _wall(values: FloatArray, x: FloatArray, y: FloatArray, centre: FloatArray, within_mm: float) -> FloatArray:
    """Value of the metal in each section, solid or hollow: the upper quartile within ``within_mm`` of the centre."""
    result = np.full(values.shape[0], np.nan)
    for n in range(values.shape[0]):
        picked = values[n][np.hypot(x - centre[n, 0], y - centre[n, 1]) < within_mm]
        if np.count_nonzero(np.isfinite(picked)) > 0.5 * picked.size:
            result[n] = np.nanquantile(picked, 0.75)
    return result


def _median_of(rows: FloatArray) -> FloatArray:
    """Median of each row's finite values; NaN where over half of it is outside the image."""
    result = np.full(rows.shape[0], np.nan)
    good = np.count_nonzero(np.isfinite(rows), axis=1) > 0.5 * rows.shape[1]
    if np.any(good):
        result[good] = np.nanmedian(rows[good], axis=1)
    return result


def _centres(
    values: FloatArray, x: FloatArray, y: FloatArray, pixel_mm2: float, plateau: float, around: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Centre and area of the metal in each section; the window follows from one section to the next."""
    count = values.shape[0]
    centre, area = np.full((count, 2), np.nan), np.zeros(count)
    base = np.clip(np.nan_to_num(around, nan=0.0), 0.0, 0.6 * plateau)
    low = base + 0.3 * (plateau - base)
    weight = np.clip(
        (np.nan_to_num(values, nan=-1e9) - low[:, None, None]) / (0.6 * (plateau - low))[:, None, None], 0, 1
    )
    start = count // 2
    for order in (range(start, count), range(start - 1, -1, -1)):
        guess = np.zeros(2)
        for n in order:
            found = guess
            for _ in range(3):
                w = _filled(weight[n], np.hypot(x - found[0], y - found[1]))
                total = float(w.sum())
                if total * pixel_mm2 < 4.0:  # a quarter of the shaft's section
                    break
                found = np.array([float((w * x).sum()), float((w * y).sum())]) / total
            else:
                if np.hypot(*found) < 6.0:
                    centre[n], guess = found, found
                    area[n] = total * pixel_mm2
    return centre, area


def _filled(weight: FloatArray, radius: FloatArray) -> FloatArray:
    """Metal in the window round a centre, and what a wall of metal surrounds: all within the ring of most metal."""
    rings = [weight[(radius >= r) & (radius < r + _RING_STEP_MM)] for r in _RINGS_MM]
    means = np.array([float(ring.mean()) if ring.size else 0.0 for ring in rings])
    ring = int(means.argmax())
    hollow = means[ring] > _CLOSED_WALL and ring > 0
    inside = radius < _RINGS_MM[ring]
    result: FloatArray = np.where(hollow & inside, 1.0, weight) * (radius < _WINDOW_MM)
    return result


def _longest_run(flags: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """[first, last) of the longest run of True, (0, 0) without any; gaps of one section are bridged."""
    bridged = flags.copy()
    bridged[1:-1] |= flags[:-2] & flags[2:]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], bridged.astype(np.int8), [0]])))
    if edges.size == 0:
        return 0, 0
    starts, stops = edges[::2], edges[1::2]
    best = int(np.argmax(stops - starts))
    return int(starts[best]), int(stops[best])


def _grown(run: tuple[int, int], flags: npt.NDArray[np.bool_], least: int) -> tuple[int, int]:
    """A run with what follows it at both ends, gaps of one section bridged; less than ``least`` sections is its own blur."""
    first, last = run
    while first > 0 and (flags[first - 1] or (first > 1 and flags[first - 2])):
        first -= 1 if flags[first - 1] else 2
    while last < flags.size and (flags[last] or (last + 1 < flags.size and flags[last + 1])):
        last += 1 if flags[last] else 2
    return first if run[0] - first >= least else run[0], last if last - run[1] >= least else run[1]


def robust_polynomial(along: FloatArray, centre: FloatArray, degree: int) -> FloatArray:
    """Coefficients (degree + 1, 2) of the centre line across the axis, highest power first; outliers damped (Cauchy)."""
    good = np.isfinite(centre[:, 0])
    along, centre = along[good], centre[good]
    weight = np.ones(along.size)
    design = np.vander(along, degree + 1)
    for _ in range(8):
        solution = np.linalg.lstsq(design * weight[:, None], centre * weight[:, None], rcond=None)[0]
        miss = np.linalg.norm(centre - design @ solution, axis=1)
        scale = max(0.02, 1.5 * float(np.median(miss)))
        weight = 1.0 / np.sqrt(1.0 + (miss / scale) ** 2)
    result: FloatArray = np.asarray(solution, dtype=np.float64)
    return result


def _commonest(values: npt.NDArray[np.floating]) -> float:
    found, count = np.unique(values[np.isfinite(values)], return_counts=True)
    return float(found[count.argmax()]) if found.size else float("nan")


def _end_kind(volume: Volume, frame: Frame, ring: float, air: float, plateau: float, blank: float) -> EndKind:
    """What lies 2 to 8 mm beyond an end, where ``frame`` starts and points outwards.

    ``ring`` is what surrounds the metal just before its end, ``blank`` the image's padding, if it has any.
    """
    radius = np.linspace(0.0, 6.0, 7)
    angle = np.linspace(0.0, 2.0 * np.pi, 12, endpoint=False)
    r, a, d = np.meshgrid(radius, angle, np.arange(2.0, 8.1, 1.0), indexing="ij")
    beyond = np.stack([r * np.cos(a), r * np.sin(a), d], axis=-1)
    values = volume.sample(frame.to_lps(beyond), outside=np.nan)
    outside = ~np.isfinite(values)
    # padding: exactly one value, over and over; noise never does that, and metal that is cut is brighter
    commonest = _commonest(values)
    padding = (values == blank) | ((values == commonest) if commonest < 0.5 * plateau else False)
    blind = outside | padding
    # ... but the dark streak ahead of a metal end does: it is narrow, and padding fills the whole neighbourhood
    if np.mean(outside[r <= 2.0]) > 0.3 or (np.mean(blind[r <= 2.0]) > 0.5 and np.mean(blind[r >= 4.0]) > 0.3):
        return EndKind.EDGE
    seen = values[~outside & ~padding]
    beyond_value = float(np.median(seen)) if seen.size else air
    if ring < air and (beyond_value < air or beyond_value > 0.5 * plateau):  # ends in air, or in a hub that is in air
        return EndKind.AIR
    return EndKind.TISSUE
