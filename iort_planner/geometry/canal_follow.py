"""The canal followed beyond the levels near the source, a piece at a time, as far as bone encloses it."""

from __future__ import annotations

import numpy as np

from iort_planner.geometry._polar_fit import PolarSmoother, robust_fit
from iort_planner.geometry.canal_intensity import IntensityScale
from iort_planner.geometry.canal_rays import PLANE_STEP_MM, Frame, cast_rays, cross_section_mm2
from iort_planner.imaging.volume import Volume
from iort_planner.units import FloatArray

# From the source's level, mm: the planned level and one each way is 1.5 lumbar levels (up to 40 mm each) from its
# middle, and a source lies within about 10 mm of that.
REACH_MM = 70.0
_PIECE = 8  # planes: 10 mm, a third of a level
_BACK = 16  # planes that give the direction
_LIKE_PLANES = 24  # the last level, whose wall is the first guess of the next piece
_STEPS = ((300.0, 3.0, 3.0), (100.0, 1.0, 2.5), (30.0, 0.3, 2.0))  # as the coarse wall's
_LEAST_SEEN = 0.35  # of a piece's rays, within `_SEEN_MM`; even a disc's level with both foramina has more
_SEEN_MM = 2.0
_MOST_SHIFT_MM = 3.5  # sideways within a piece: 20 degrees of bend
_MOST_CHANGE = 1.5  # of the cross section against the last level's
_LEAST_INSIDE = 0.7  # of the wall in the image


def follow(
    volume: Volume,
    scale: IntensityScale,
    wall_mm: FloatArray,
    middles_lps_mm: FloatArray,
    source_lps_mm: FloatArray,
    axis_lps: FloatArray,
    bone_above_content_hu: float,
) -> tuple[FloatArray, FloatArray]:
    """Points of the centre line beyond both ends of a part that was found.

    Parameters
    ----------
    wall_mm : ndarray of shape (P, A), mm
        The wall of the part that was found, P planes.
    middles_lps_mm : ndarray of shape (P, 3), mm
        The wall's middles.

    Returns
    -------
    tuple of ndarray of shape (M, 3) and (N, 3), mm
        Points before the first and after the last plane, in the order of the planes.
    """
    found = []
    level = middles_lps_mm[np.argmin(np.linalg.norm(middles_lps_mm - source_lps_mm, axis=1))]
    for backwards in (True, False):
        line = middles_lps_mm[::-1] if backwards else middles_lps_mm
        walls = wall_mm[::-1] if backwards else wall_mm
        typical = np.median(walls[-_LIKE_PLANES:], axis=0)
        turn = -1.0 if backwards else 1.0  # angles run the same way round in every piece
        start = line.shape[0]
        while float(np.linalg.norm(line[-1] - level)) < REACH_MM:
            piece = _next_piece(volume, scale, line, turn, typical, source_lps_mm, axis_lps, bone_above_content_hu)
            if piece is None:
                break
            middles, wall = piece
            line, walls = np.concatenate([line, middles]), np.concatenate([walls, wall])
            typical = np.median(walls[-_LIKE_PLANES:], axis=0)
            if middles.shape[0] < _PIECE:
                break
        new = line[start:]
        found.append(new[::-1] if backwards else new)
    return found[0], found[1]


def _next_piece(
    volume: Volume,
    scale: IntensityScale,
    line: FloatArray,
    turn: float,
    typical_mm: FloatArray,
    source_lps_mm: FloatArray,
    axis_lps: FloatArray,
    bone_above_content_hu: float,
) -> tuple[FloatArray, FloatArray] | None:
    """Middles and wall of the next few planes; None where there is no canal, or no image."""
    ahead = line[-1] - line[-min(_BACK, line.shape[0])]
    ahead = ahead / np.linalg.norm(ahead)
    centre = line[-1] + PLANE_STEP_MM * np.arange(1, _PIECE + 1)[:, None] * ahead
    frame = Frame.across_line(centre, np.broadcast_to(turn * ahead, centre.shape))
    inside = volume.grid.contains(frame.points_lps_mm(np.broadcast_to(typical_mm, (_PIECE, typical_mm.size))))
    kept = int(np.argmin(np.append(inside.mean(axis=1) >= _LEAST_INSIDE, False)))
    if kept < 3:
        return None
    frame = frame.part(slice(0, kept))
    edges = cast_rays(volume, scale, frame, source_lps_mm, axis_lps).edges(bone_above_content_hu)
    start = np.broadcast_to(typical_mm, edges.radius_mm.shape)
    wall = robust_fit(
        PolarSmoother(*edges.radius_mm.shape), edges.radius_mm, edges.weight, start_mm=start, steps=_STEPS
    )
    seen = np.mean((edges.weight > 0) & (np.abs(edges.radius_mm - wall) <= _SEEN_MM))
    if seen < _LEAST_SEEN:
        return None
    change = np.abs(np.log(cross_section_mm2(wall).mean() / cross_section_mm2(typical_mm)))
    middles = frame.middles_lps_mm(wall)
    shift = np.linalg.norm(middles - frame.centre_lps_mm, axis=1)
    if shift.max() > _MOST_SHIFT_MM or change > np.log(_MOST_CHANGE):
        return None
    return middles, wall
