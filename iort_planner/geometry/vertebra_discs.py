"""The discs above and below the planned level, as planes across the column of the vertebral bodies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iort_planner.errors import LevelError
from iort_planner.geometry.vertebra_frame import STEP_MM

if TYPE_CHECKING:
    from iort_planner.geometry.vertebra_frame import Surroundings
    from iort_planner.units import FloatArray

# The column that is searched: before the canal's front wall, the middle of the bodies.
_ASIDE_MM, _FRONT_MM, _BACK_MM = 10.0, 24.0, 5.0
# Aside: scoliosis and wedge-shaped bodies. Along: lordosis between L4 and S1 has 15 to 25 degrees.
_SLOPES = np.array(
    [
        (np.tan(np.radians(aside)), np.tan(np.radians(along)))
        for aside in range(-20, 21, 5)
        for along in range(-30, 31, 5)
    ]
)
_SLOPE_COST = 0.6  # own choice: of two planes as good the flatter one
_PEDICLE_WEIGHT = 0.6  # a disc lies at the height of the foramina: a lesion between the pedicles is none
# A disc is darker than what lies this far above and below it: discs are 3 to 14 mm high, bodies 17 mm and more.
_RIM_MM = (2.0, 8.0)
_CAP_HU = 500.0
_ONE_RIM = 0.35  # at the image's end only one rim is seen: it counts for less
_MOST_VALLEY_HU = 300.0
# From the source to a disc's middle, and from disc to disc: T3 has about 18 + 4 mm, L4 28 + 12 mm (own margins).
_TO_DISC_MM = (1.5, 34.0)
_PITCH_MM = (18.0, 46.0)
# A needle stands well within a body, and its dark streaks lie at its own height: a disc near the source counts less.
_NEAR_MM, _NEAR_WORTH = (2.0, 8.0), 0.15
_MOST_WEDGE = 0.45  # 24 degrees: more than a fracture of half the front height makes
_END_WORTH = 0.4  # a disc beyond the image's end counts as this share of the one that is seen
_END_SLACK_MM = 8.0  # the image may end at a slant across the canal
_LEAST_VALLEY_HU = 35.0  # mean over the plane; noise of 60 HU leaves 20, the flattest disc of the tests 60


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscPlane:
    """Middle of a disc: cranial = height + aside * left + along * posterior (mm in the level's frame).

    ``seen`` is False where the image ends before a disc was seen: then the plane lies at the image's end.
    """

    height_mm: float
    aside: float
    along: float
    seen: bool
    valley_hu: float

    def cranial_mm(self, left_mm: FloatArray, posterior_mm: FloatArray) -> FloatArray:
        """Height of the plane at places across the spine."""
        result: FloatArray = self.height_mm + self.aside * left_mm + self.along * posterior_mm
        return result

    def middle_mm(self, posterior_mm: float) -> float:
        """Height of the plane in the midline."""
        return self.height_mm + self.along * posterior_mm


def find_discs(area: Surroundings, source_lps_mm: FloatArray) -> tuple[DiscPlane, DiscPlane]:
    """The disc below and the one above the source; the image's end where it ends before a disc is seen.

    Raises
    ------
    LevelError
        If there is neither disc nor image's end where one must be.
    """
    left, posterior, cranial = area.left_mm.ravel(), area.posterior_mm.ravel(), area.cranial_mm.ravel()
    front = front_wall_mm(area)
    columns_l = np.flatnonzero(np.abs(left) <= _ASIDE_MM)
    columns_p = np.flatnonzero((posterior >= front - _FRONT_MM) & (posterior <= front - _BACK_MM))
    cut = np.ix_(np.arange(cranial.size), columns_p, columns_l)
    values = ndimage.gaussian_filter(np.clip(area.hu, -100.0, _CAP_HU), 0.7)[cut]
    # the blur takes in what lies beyond the image's end
    known = ndimage.binary_erosion(area.inside, iterations=2)[cut] & ~area.needle[cut]
    valley = _valley(np.where(known, values, np.nan))
    source = area.frame_mm(source_lps_mm)
    middle_p = float(posterior[columns_p].mean())
    local_l, local_p = left[columns_l], posterior[columns_p] - middle_p
    score = _score(valley, local_l, local_p)
    score *= 1.0 - _PEDICLE_WEIGHT * _pedicle_share(area)[None, :]
    from_source = cranial[None, :] - (source[2] - _SLOPES[:, :1] * source[0] - _SLOPES[:, 1:] * (source[1] - middle_p))
    closeness = np.clip((np.abs(from_source) - _NEAR_MM[0]) / (_NEAR_MM[1] - _NEAR_MM[0]), 0.0, 1.0)
    at_source = float(score[closeness == 0.0].max(initial=0.0))
    score *= _NEAR_WORTH + (1.0 - _NEAR_WORTH) * closeness
    ends = _image_ends_mm(area, cut, cranial)
    options = [
        _options(score, sign * from_source, cranial, middle_p) + _end_option(sign, ends, source[2])
        for sign in (-1.0, 1.0)
    ]
    best: tuple[float, DiscPlane, DiscPlane] | None = None
    for low in options[0]:
        for high in options[1]:
            pitch = high.middle_mm(middle_p) - low.middle_mm(middle_p)
            whole = low.seen and high.seen
            wedge = max(abs(low.along - high.along), abs(low.aside - high.aside))
            slack = _END_SLACK_MM * ((not low.seen) + (not high.seen))
            if pitch > _PITCH_MM[1] + slack or (whole and (pitch < _PITCH_MM[0] or wedge > _MOST_WEDGE)):
                continue
            valleys = low.valley_hu, high.valley_hu
            total = sum(valleys) if whole else (1.0 + _END_WORTH) * max(valleys)
            if best is None or total > best[0]:
                best = (total, low, high)
    if best is None:
        raise LevelError("the vertebra is not told apart: no disc was seen above or below the source")
    if at_source > max(best[1].valley_hu, best[2].valley_hu):
        raise LevelError("the vertebra is not told apart: a disc, or a streak of metal, runs through the source")
    return best[1], best[2]


def front_wall_mm(area: Surroundings) -> float:
    """Posterior coordinate of the canal's front wall at the source's height, in the midline."""
    near = (np.abs(area.cranial_mm) <= 6.0) & (np.abs(area.left_mm) <= 3.0) & (area.canal_mm < 0.0)
    rows = np.flatnonzero(near.any(axis=(0, 2)))
    return float(area.posterior_mm.ravel()[rows[0]]) if rows.size else -8.0


def _valley(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """How much darker a voxel is than the brightest ones a rim's distance above and below it; NaN where unknown."""
    bright = np.nan_to_num(values, nan=-1e4)
    low, high = _RIM_MM
    width = round(high - low) + 1
    best = ndimage.maximum_filter1d(bright, width, axis=0, mode="constant", cval=-1e4)
    shift = round(0.5 * (low + high))
    above, below = np.full_like(best, -1e4), np.full_like(best, -1e4)
    above[:-shift], below[shift:] = best[shift:], best[:-shift]
    rim, other = np.minimum(above, below), np.maximum(above, below)
    whole = np.where(rim > -1e3, np.clip(rim - bright, 0.0, _MOST_VALLEY_HU), np.nan)
    half = np.where(other > -1e3, _ONE_RIM * np.clip(other - bright, 0.0, _MOST_VALLEY_HU), np.nan)
    result: npt.NDArray[np.float32] = np.where(np.isfinite(values), np.where(np.isfinite(whole), whole, half), np.nan)
    return result


def _score(valley: npt.NDArray[np.float32], left: FloatArray, posterior: FloatArray) -> FloatArray:
    """Mean valley on each plane, shape (slopes, heights); 0 where less than half of a plane is known."""
    known = np.isfinite(valley)
    filled = np.where(known, valley, 0.0)
    heights = np.arange(valley.shape[0])
    p, c = np.meshgrid(np.arange(posterior.size), np.arange(left.size), indexing="ij")
    result = np.zeros((_SLOPES.shape[0], heights.size))
    for n, (aside, along) in enumerate(_SLOPES):
        rise = np.rint((aside * left[None, :] + along * posterior[:, None]) / STEP_MM).astype(int)
        at = heights[:, None, None] + rise[None]
        inside = (at >= 0) & (at < heights.size)
        at = np.clip(at, 0, heights.size - 1)
        count = (known[at, p, c] & inside).sum(axis=(1, 2))
        total = np.where(inside, filled[at, p, c], 0.0).sum(axis=(1, 2))
        result[n] = np.where(count >= 0.5 * p.size, total / np.maximum(count, 1), 0.0)
    result *= 1.0 - _SLOPE_COST * (np.abs(_SLOPES[:, :1]) + np.abs(_SLOPES[:, 1:]))
    return result


def _pedicle_share(area: Surroundings) -> FloatArray:
    """How much of both side walls of the canal is bone, 0 to 1, by height: 1 at pedicles, 0 at foramina."""
    beside = (area.canal_mm > 0.0) & (area.canal_mm < 6.0) & area.inside
    beside &= (np.abs(area.left_mm) > 5.0) & (np.abs(area.posterior_mm) < 5.0)
    bone = np.where(beside, np.clip((area.hu - 100.0) / 300.0, 0.0, 1.0), 0.0)
    count = beside.sum(axis=(1, 2))
    share = np.where(count > 20, bone.sum(axis=(1, 2)) / np.maximum(count, 1), 0.5)
    share = ndimage.gaussian_filter1d(share, 1.5)
    low, high = np.percentile(share, [10.0, 90.0])
    result: FloatArray = np.clip((share - low) / max(high - low, 1e-6), 0.0, 1.0)
    return result


def _options(score: FloatArray, from_source_mm: FloatArray, cranial: FloatArray, middle_p: float) -> list[DiscPlane]:
    """The best plane at each height that has a local maximum there."""
    near = (from_source_mm >= _TO_DISC_MM[0]) & (from_source_mm <= _TO_DISC_MM[1])
    allowed = np.where(near, score, 0.0)
    best = allowed.max(axis=0)
    peaks = np.flatnonzero((best >= _LEAST_VALLEY_HU) & (best == ndimage.maximum_filter1d(best, 7)))
    result = []
    for k in peaks:
        aside, along = _SLOPES[int(np.argmax(allowed[:, k]))]
        result.append(
            DiscPlane(
                height_mm=float(cranial[k] - along * middle_p),
                aside=float(aside),
                along=float(along),
                seen=True,
                valley_hu=float(best[k]),
            )
        )
    return result


def _image_ends_mm(
    area: Surroundings, cut: tuple[npt.NDArray[np.int64], ...], cranial: FloatArray
) -> tuple[float, float]:
    """Lowest and highest place where most of the column lies in the image."""
    held = np.flatnonzero(area.inside[cut].mean(axis=(1, 2)) > 0.5)
    return (float(cranial[held[0]]), float(cranial[held[-1]])) if held.size else (0.0, 0.0)


def _end_option(sign: float, ends: tuple[float, float], source_height: float) -> list[DiscPlane]:
    end = ends[0] if sign < 0 else ends[1]
    if sign * (end - source_height) > _TO_DISC_MM[1] + _RIM_MM[1]:
        return []
    return [DiscPlane(height_mm=end + _END_SLACK_MM * sign, aside=0.0, along=0.0, seen=False, valley_hu=0.0)]
