"""What lies between the source and the canal, and the HU round the source: read from CT values, in words and mm.

Thresholds, HU. Air and lung below -300 (lung about -800, fat about -100). Soft tissue and lytic bone below 110, spongiosa
above: in L1, 110 HU and less are specific for osteoporosis, 160 HU and more usual (Pickhardt et al. 2013, Ann Intern
Med 158:588-595); metastases without ossification have 20 to 80 HU. So osteoporotic spongiosa may be read as soft.
Cortex is 0.5 to 1 mm thin at a body's back wall and blurred to 300 to 600 HU: it is found as a peak, and its
thickness by a fit of a plate of known density (see `_plate`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, optimize, signal
from scipy.special import ndtr

from iort_planner.errors import LevelError
from iort_planner.geometry.canal_search import METAL_HU
from iort_planner.geometry.vertebra import BONE, HIDDEN
from iort_planner.geometry.vertebra_frame import STEP_MM

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.geometry.needle import Needle
    from iort_planner.geometry.vertebra import Vertebra
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

NEEDLE, AIR, SOFT, SPONGIOSA = "needle", "air", "soft", "spongiosa"
CORTEX, METAL, HIDDEN_BY_METAL = "cortex", "metal", "hidden"
NEEDLE_RADIUS_MM = 2.2  # the applicator's outer diameter is 4.4 mm (interface.md)
_AIR_HU, _SOFT_HU = -300.0, 110.0
# A peak counts as cortex when it stands this far above both sides and is this high at all: a plate of 0.5 mm and 1050 HU
# behind a blur of 0.7 mm (sigma) reaches 330 HU over soft tissue.
_PEAK_HU, _PEAK_RISE_HU = 280.0, 110.0
_DENSE_HU = 450.0  # thick dense bone without a peak: sclerosis, an endplate along the path
# True HU of thin cortex, for its thickness from a peak's area; a peak above it is taken as it is. Own choice: the usual
# 1000 to 1200 HU; 20 % of it is 20 % of the thickness, 0.2 mm of 1 mm.
_CORTEX_HU = 1050.0
_STEP_MM = 0.1
_BUNDLE_MM = 0.6  # seven parallel lines are averaged: half the noise; a wall at 30 degrees blurs by 0.2 mm
_SIDE_MM = (1.6, 3.6)  # where the levels on both sides of a peak are read: clear of its blur
_BEYOND_MM = 5.0  # of the canal's wall, so that its peak is seen whole
_PLASTIC_EDGE_MM = 1.0  # beside the needle's plastic the voxels are shared: the next tissue is taken
_BLOOM_MM = 1.8  # from the nearest voxel of metal: three sigmas of the blur; streaks reach further
_DARK_STREAK_MM = 15.0  # what looks like air this near to metal is its dark streak
_SHORTEST_MM = 0.8  # shorter pieces of soft tissue or spongiosa are noise
_WALL_MM = (-3.0, 1.5)  # of the canal point along the path: an interpolated wall is 1 to 2 mm uncertain
_WALL_BONE_HU, _WALL_NONE_HU = 280.0, 150.0
BALL_MM = 10.0  # the dose falls to a tenth from 5 to 13 mm; a ball this large holds the tissue that is treated
# Inside a vertebra nothing but streaks and metal is darker than fatty marrow (-100) or brighter than its densest cortex.
_TISSUE_HU = (-150.0, 1500.0)
_STREAK_MARGIN_MM = 2.0
_LEAST_MM3 = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSegment:
    """One tissue on the path.

    ``needle`` (in the applicator), ``air``, ``soft`` (or lytic bone), ``spongiosa``, ``cortex``, ``metal``, or ``hidden``
    (beside metal, whose blur and streaks hide what is there).
    """

    tissue: str
    length_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TissuePath:
    """The straight way from the source to the canal.

    Parameters
    ----------
    segments : tuple of PathSegment
        From the source; their lengths add up to the distance.
    wall : str
        At the canal point: ``cortex`` (dense bone is seen), ``lytic`` (none is: destroyed, or a vein's natural gap in
        the middle of the back wall), ``metal``, or ``unknown`` (in between: thin, no brighter than
        the spongiosa before it, or hidden by metal).
    wall_peak_hu : float
        Highest HU at the wall.
    """

    segments: tuple[PathSegment, ...]
    wall: str
    wall_peak_hu: float

    def length_mm(self, tissue: str) -> float:
        """Total length of one tissue."""
        return sum(segment.length_mm for segment in self.segments if segment.tissue == tissue)


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionHu:
    """HU within ``radius_mm`` of the source centre, inside the vertebra's outline, without needle, metal and streaks.

    Whether that is tumour, spongiosa or both is not told apart.
    """

    mean_hu: float
    median_hu: float
    sd_hu: float
    percentile_10_hu: float
    percentile_90_hu: float
    radius_mm: float
    volume_mm3: float
    excluded_percent: float


def path_to_canal(
    volume: Volume, from_lps_mm: FloatArray, to_lps_mm: FloatArray, needle: Needle | None = None
) -> TissuePath:
    """Classify the straight path from the source centre to a point of the canal's wall.

    Parameters
    ----------
    volume : Volume
        Calibrated in HU.
    from_lps_mm, to_lps_mm : ndarray of shape (3,), mm
        Source centre and nearest point of the canal's wall (its bony inner edge).
    needle : Needle, optional
        What of the path lies in it is ``needle``; beside it, where its steel blurs, the next tissue is taken.

    Raises
    ------
    LevelError
        If the image has no HU, or the path leaves it or has no length.
    """
    if not volume.hu_calibrated:
        raise LevelError("tissues on the path are not told apart: the image's values are not HU")
    start, end = np.asarray(from_lps_mm, dtype=np.float64), np.asarray(to_lps_mm, dtype=np.float64)
    length = float(np.linalg.norm(end - start))
    if not 0.5 <= length <= 200.0:
        raise LevelError(f"tissues on the path are not told apart: it is {length:.1f} mm long")
    direction = (end - start) / length
    at = np.arange(0.0, length + _BEYOND_MM, _STEP_MM)
    hu = _bundle(volume, start, direction, at)
    inside = at < length
    if not np.all(np.isfinite(hu[inside])):
        raise LevelError("tissues on the path are not told apart: it leaves the image")
    hu = np.where(np.isfinite(hu), hu, hu[inside][-1])
    metal_mm = _from_metal_mm(volume, start, direction, at)
    covered = _covered(needle, start, direction, at)
    classes = _classes(hu, metal_mm, covered, int(np.count_nonzero(inside)))
    near = (at >= length + _WALL_MM[0]) & (at <= length + _WALL_MM[1])
    clear = near & (metal_mm >= _BLOOM_MM) & (covered == 0)
    peak = float(hu[clear].max()) if clear.any() else float(hu[near].max())
    wall = "unknown"
    if METAL in classes[near]:
        wall = "metal"
    elif peak >= _WALL_BONE_HU and clear.any():
        wall = "cortex"
    elif peak < _WALL_NONE_HU and np.array_equal(clear, near):
        wall = "lytic"
    return TissuePath(segments=_segments(_to_the_wall(classes[inside]), length), wall=wall, wall_peak_hu=peak)


def _bundle(volume: Volume, start: FloatArray, direction: FloatArray, at: FloatArray) -> FloatArray:
    """Mean HU of seven parallel lines."""
    helper = np.eye(3)[int(np.argmin(np.abs(direction)))]
    across = np.cross(direction, helper)
    across /= np.linalg.norm(across)
    other = np.cross(direction, across)
    turns = np.radians(np.arange(0.0, 360.0, 60.0))
    offsets = _BUNDLE_MM * (np.cos(turns)[:, None] * across + np.sin(turns)[:, None] * other)
    offsets = np.concatenate([np.zeros((1, 3)), offsets])
    points = start + at[:, None, None] * direction + offsets
    result: FloatArray = volume.sample(points).astype(np.float64).mean(axis=1)
    return result


def _from_metal_mm(volume: Volume, start: FloatArray, direction: FloatArray, at: FloatArray) -> FloatArray:
    """Distance of each sample from the nearest voxel of metal."""
    ends = start + at[[0, -1], None] * direction
    near = volume.crop_around(ends, 3.0 * _BLOOM_MM)
    metal = near.values > METAL_HU
    if not metal.any():
        return np.full(at.size, np.inf)
    distance = ndimage.distance_transform_edt(~metal, sampling=near.grid.spacing_mm[::-1])
    index = near.grid.lps_to_index(start + at[:, None] * direction)[:, ::-1]
    result: FloatArray = ndimage.map_coordinates(distance, index.T, order=1, mode="nearest")
    return result


def _covered(needle: Needle | None, start: FloatArray, direction: FloatArray, at: FloatArray) -> npt.NDArray[np.int64]:
    """2 inside the needle, 1 where its edge shares the voxels, 0 elsewhere."""
    result = np.zeros(at.size, dtype=np.int64)
    if needle is None:
        return result
    offset = start + at[:, None] * direction - needle.tip_lps_mm
    along = np.maximum(offset @ needle.axis_lps, NEEDLE_RADIUS_MM)  # the tip is a half ball
    distance = np.linalg.norm(offset - along[:, None] * needle.axis_lps, axis=-1)
    result[distance < NEEDLE_RADIUS_MM + _PLASTIC_EDGE_MM] = 1
    result[distance < NEEDLE_RADIUS_MM] = 2
    return result


def _classes(hu: FloatArray, metal_mm: FloatArray, covered: npt.NDArray[np.int64], end: int) -> npt.NDArray[np.str_]:
    """Tissue of each sample; the canal's wall stands at the sample ``end``."""
    hidden = metal_mm < _BLOOM_MM
    read = np.flatnonzero(~hidden & (covered == 0))
    classes = np.full(hu.size, HIDDEN_BY_METAL, dtype="U9")
    if read.size:
        values = hu[read[np.clip(np.searchsorted(read, np.arange(hu.size)), 0, read.size - 1)]]
        tissues = _tissues(values, end)
        streak = (tissues == AIR) & (metal_mm < _DARK_STREAK_MM)
        classes = np.where(hidden | streak, HIDDEN_BY_METAL, tissues)
        classes = _without_short(classes, CORTEX, HIDDEN_BY_METAL)  # the foot of metal's blur
    classes[hidden & (hu > METAL_HU)] = METAL
    classes[covered == 2] = NEEDLE
    return classes


def _tissues(values: FloatArray, end: int) -> npt.NDArray[np.str_]:
    """Tissue of each sample of a profile without metal."""
    smooth = ndimage.median_filter(values, round(1.0 / _STEP_MM) + 1, mode="nearest")
    classes = np.full(values.size, SPONGIOSA, dtype="U9")
    classes[smooth < _SOFT_HU] = SOFT
    classes[smooth < _AIR_HU] = AIR
    reach = round(_SIDE_MM[1] / _STEP_MM)
    peaks = []
    tops, _ = signal.find_peaks(values, height=_PEAK_HU, prominence=_PEAK_RISE_HU)
    for top in tops:
        before, after = _level(values, top, -1), _level(values, top, 1)
        # away from the wall the same height is a dense trabecula
        high = values[top] >= (_PEAK_HU if abs(top - end) <= reach else _DENSE_HU)
        if high and values[top] - max(before, after) >= _PEAK_RISE_HU:
            peaks.append((top, before, after))
    # what a peak's blur lifts is no tissue of its own: up to its middle the side's level goes on
    for top, before, after in peaks:
        for start, stop, level in ((max(0, top - reach), top, before), (top, min(values.size, top + reach), after)):
            lifted = smooth[start:stop] > level + 0.15 * (values[top] - level)
            classes[start:stop][lifted] = SOFT if level < _SOFT_HU else SPONGIOSA
    classes = _without_short(_without_short(classes, SOFT), SPONGIOSA)
    classes[(smooth > _DENSE_HU) & ~_near_peaks(values.size, [top for top, _, _ in peaks], reach)] = CORTEX
    for top, before, after in peaks:
        first, last = _plate(values, top, before, after)
        classes[first:last] = CORTEX
    return classes


def _to_the_wall(classes: npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
    """The path with its last cortex moved on to the end where less than 0.8 mm of soft tissue stands behind it.

    The end is the wall's inner edge by definition; what is left there is the two edges' disagreement.
    """
    soft = int(np.argmax(classes[::-1] != SOFT))
    if 0 < soft * _STEP_MM < _SHORTEST_MM and classes[-1 - soft] == CORTEX:
        cortex = int(np.argmax(classes[: classes.size - soft][::-1] != CORTEX))
        if 0 < cortex < classes.size - soft:
            before = classes[classes.size - soft - cortex - 1]
            return np.concatenate(
                [classes[: classes.size - soft - cortex], np.full(soft, before), np.full(cortex, CORTEX)]
            )
    return classes


def _near_peaks(size: int, tops: list[int], reach: int) -> npt.NDArray[np.bool_]:
    result = np.zeros(size, dtype=np.bool_)
    for top in tops:
        result[max(0, top - reach) : top + reach] = True
    return result


def _level(values: FloatArray, top: int, side: int) -> float:
    """Level on one side of a peak, clear of its blur."""
    low, high = (round(mm / _STEP_MM) for mm in _SIDE_MM)
    part = values[max(0, top - high) : max(1, top - low + 1)] if side < 0 else values[top + low : top + high + 1]
    return float(np.min(part)) if part.size else float(values[-1] if side > 0 else values[0])


def _plate(values: FloatArray, top: int, before: float, after: float) -> tuple[int, int]:
    """First and last sample of a dense plate that was blurred to a peak.

    A plate of known density between two levels, blurred by a Gaussian, is fitted to the profile: what a plate thinner
    than the blur keeps is its area, not its width (as in Treece et al. 2010, Med Image Anal 14:276-290).
    """
    reach = round(_SIDE_MM[1] / _STEP_MM)
    low, high = max(0, top - reach), min(values.size, top + reach + 1)
    x = (np.arange(low, high) - top) * _STEP_MM
    dense = max(_CORTEX_HU, float(values[top]))

    def misfit(parameters: FloatArray) -> FloatArray:
        middle, half, sigma = parameters
        model = before + (dense - before) * ndtr((x - middle + half) / sigma)
        model = model - (dense - after) * ndtr((x - middle - half) / sigma)
        result: FloatArray = model - values[low:high]
        return result

    bounds = ([-1.5, 0.05, 0.3], [1.5, _SIDE_MM[1], 1.6])
    middle, half, _ = optimize.least_squares(misfit, [0.0, 0.5, 0.7], bounds=bounds).x
    first, last = round(top + (middle - half) / _STEP_MM), round(top + (middle + half) / _STEP_MM)
    return max(0, first), min(values.size, max(last, first + 1))


def _without_short(classes: npt.NDArray[np.str_], tissue: str, beside: str | None = None) -> npt.NDArray[np.str_]:
    """Pieces of one tissue shorter than noise makes them (and ``beside`` another) take their neighbour's name."""
    result = classes.copy()
    pieces = [(name, len(list(group))) for name, group in groupby(classes.tolist())]
    start = 0
    for n, (name, count) in enumerate(pieces):
        around = [pieces[m][0] for m in (n - 1, n + 1) if 0 <= m < len(pieces)]
        if name == tissue and count * _STEP_MM < _SHORTEST_MM and around:
            if beside is None:
                result[start : start + count] = around[0]
            elif beside in around:
                result[start : start + count] = beside
        start += count
    return result


def _segments(classes: npt.NDArray[np.str_], length_mm: float) -> tuple[PathSegment, ...]:
    counts = [(tissue, len(list(group))) for tissue, group in groupby(classes.tolist())]
    scale = length_mm / classes.size
    return tuple(PathSegment(tissue=tissue, length_mm=count * scale) for tissue, count in counts)


def lesion_hu(volume: Volume, source_lps_mm: FloatArray, vertebra: Vertebra) -> LesionHu:
    """HU in the vertebra within 10 mm of the source centre.

    Left out: needle, cannula and other metal with 2 mm round them, and values that no tissue in a vertebra has
    (below -150 and above 1500 HU: streaks).

    Raises
    ------
    LevelError
        If the image has no HU, or less than 0.3 ml is left.
    """
    if not volume.hu_calibrated:
        raise LevelError("no HU near the source: the image's values are not HU")
    grid = vertebra.grid
    low, high = grid.box_around(np.asarray(source_lps_mm, dtype=np.float64), BALL_MM + _STREAK_MARGIN_MM + 1.0)
    mask = vertebra.mask[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    box = grid.crop(low, high)
    hidden = mask == HIDDEN
    ball = (box.distances_mm(source_lps_mm) <= BALL_MM) & (mask > 0)
    clear = ball & (mask == BONE)
    if hidden.any():
        clear &= ndimage.distance_transform_edt(~hidden, sampling=STEP_MM) > _STREAK_MARGIN_MM
    values = volume.sample(box.voxel_centres_lps_mm()[clear])
    values = values[np.isfinite(values) & (values >= _TISSUE_HU[0]) & (values <= _TISSUE_HU[1])].astype(np.float64)
    cubic_mm = float(values.size) * STEP_MM**3
    if cubic_mm < _LEAST_MM3:
        raise LevelError(f"no HU near the source: needle, metal and streaks leave {cubic_mm / 1000.0:.2f} ml")
    return LesionHu(
        mean_hu=float(values.mean()),
        median_hu=float(np.median(values)),
        sd_hu=float(values.std()),
        percentile_10_hu=float(np.percentile(values, 10.0)),
        percentile_90_hu=float(np.percentile(values, 90.0)),
        radius_mm=BALL_MM,
        volume_mm3=cubic_mm,
        excluded_percent=100.0 * (1.0 - values.size / float(np.count_nonzero(ball))),
    )
