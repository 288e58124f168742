"""The centre line of a needle's visible shaft: straight until it is seen to bend."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.geometry.needle_model import Fit, Frame, Pose, centre_at, centre_line, fit, frame_from
from iort_planner.geometry.needle_profile import robust_polynomial
from iort_planner.geometry.needle_scene import build_scene
from iort_planner.geometry.needle_shaft import Shaft, start_pose

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

# The numbers below are our own choice from sweeps over scans with a known needle (tests/sweeps, tests/geometry).
WINDOW_MM = 30.0  # the distal part where end and cannula are fitted; a longer one dilutes what the end shows
_LINE_VOXELS = (1000, 12000)  # of the first rough fit and of the second
# The centre line ends short of the image's edge, which cuts an oblique needle on one side first and shifts its centre by
# 0.3 mm there, and short of a hub.
_EDGE_MM, _HUB_MM = 4.0, 2.0
_SEGMENT_MM = 6.0  # of the centre line: enough voxels for 0.05 mm even in 3 mm slices
# Needles are straight until they are seen to bend: a bend counts in full where segments scatter so much less about an
# arc than about a line and it is so large (mm), and not at all below the first of both. Of 62 straight phantoms one
# passes 1.65, and streaks bend that one by 0.23 mm; bends of 0.3 mm and more reach 2.2.
_BEND_RATIO, _BEND_MM = (1.6, 2.1), (0.2, 0.4)
_MOST_HEIGHT = 8.0  # of steel over what the scan shows: 25000 where it is cut at 3071; steel has about 8000 to 12000 HU
_LEAST_SEGMENTS, _MOST_SEGMENTS_SHORT = 5, 8  # a short shaft is cut into shorter ones
# Segments that scatter more than this about the line taken do not show its direction: 0.2 mm is the most on development
# seeds; one sweep had 0.8 mm, streaks along a bent needle, and an axis 4 degrees off.
_SCATTER_MM = 0.4
_LINE_STEP_MM = 4.0  # of points on a bent centre line: 0.01 mm off the curve for a bend of 4 mm over 80 mm
_BEND: tuple[str, ...] = ("side_bend", "up_bend")


def fit_centre_line(
    volume: Volume, shaft: Shaft, applicator: Applicator, step: float | None, noise: float
) -> tuple[Shaft, Fit, float | None, tuple[str, ...]]:
    """The shaft in the frame of its distal tangent, the line fitted to its voxels, the visible bending in mm, and doubts.

    The arc is fitted twice, because it is one of the model's only in the frame of its own tangent: a frame turned by a
    tenth makes a cubic of it, 0.5 mm at 80 mm for a bend of 4 mm. Then the bend is kept as far as the segments of
    the whole visible shaft show it, and the rest is fitted again.
    """
    bare = start_pose(shaft, applicator)
    # the cannula may begin at the step in the shaft's section, cover its distal end, or not be in view
    starts = [replace(bare, cannula_end=end) for end in (np.inf, 0.0, *(() if step is None else (step,)))]
    straight: tuple[str, ...] = ("side", "up", "side_slope", "up_slope", "end", "height", "blur", "radius")
    if not math.isnan(bare.inner):
        straight = (*straight, "inner")
    reach = shaft.visible_mm - (_EDGE_MM if shaft.cut and shaft.visible_mm > WINDOW_MM + _EDGE_MM else _HUB_MM)
    highest = _MOST_HEIGHT * abs(shaft.plateau)
    for most in _LINE_VOXELS:
        scene = build_scene(volume, shaft.frame, shaft.curvature, reach, most)
        found, start = min(
            ((fit(scene, start, (*straight, *_BEND), noise, highest), start) for start in starts),
            key=lambda pair: pair[0].cost,
        )
        shaft, start = _in_own_frame(shaft, found.pose, start)
        starts = [start]
    scene = build_scene(volume, shaft.frame, shaft.curvature, reach, most)
    model = replace(
        found.pose, side=0.0, up=0.0, side_slope=0.0, up_slope=0.0,
        side_bend=start.side_bend, up_bend=start.up_bend, radius=start.radius,
    )  # fmt: skip
    segments = centre_line(scene, model, min(_SEGMENT_MM, reach / _MOST_SEGMENTS_SHORT))
    share, bending_mm, scatter_mm = _seen_bend(segments, model, shaft.visible_mm)
    if share < 1.0:
        kept = replace(model, side_bend=share * model.side_bend, up_bend=share * model.up_bend)
        found = fit(scene, kept, straight, noise, highest)
        shaft, _ = _in_own_frame(shaft, found.pose, start)
    doubts = (
        (f"streaks: pieces of the shaft scatter by {scatter_mm:.1f} mm about its line, the direction may be off",)
        if scatter_mm > _SCATTER_MM
        else ()
    )
    return shaft, found, bending_mm, doubts


def _in_own_frame(shaft: Shaft, pose: Pose, start: Pose) -> tuple[Shaft, Pose]:
    """The shaft in the frame of the line's distal tangent, and where the next fit begins in that frame.

    Only the line is taken from a fit: its other parameters begin anew, so that one poor fit does not spoil the next.
    """
    frame = frame_from(point_on(shaft.frame, pose, 0.0), tangent_of(shaft.frame, pose))
    turn = np.stack([shaft.frame.side, shaft.frame.up]) @ np.stack([frame.side, frame.up], axis=1)
    curvature = np.array([pose.side_bend, pose.up_bend]) @ turn
    line = replace(start, side_bend=float(curvature[0]), up_bend=float(curvature[1]))
    return replace(shaft, frame=frame, curvature=curvature), line


def _seen_bend(segments: FloatArray, pose: Pose, visible_mm: float) -> tuple[float, float | None, float]:
    """How much of a bend the segments (N, 3) show, 0 to 1; the largest distance of their line from its chord, mm; their scatter.

    The distance is None where too little of the shaft is seen to tell; the scatter (rms, mm) is about the line taken.
    """
    if segments.shape[0] < _LEAST_SEGMENTS:
        return 0.0, None, 0.0
    along, across = segments[:, 2], segments[:, :2]
    line, parabola = (robust_polynomial(along, across, degree) for degree in (1, 2))
    scatter = [
        float(np.sqrt(np.sum((across - np.vander(along, len(c)) @ c) ** 2) / (along.size - len(c))))
        for c in (line, parabola)
    ]
    size_mm = float(np.linalg.norm(parabola[0])) * visible_mm**2 / 4.0
    seen = [(scatter[0] / max(scatter[1], 1e-6), _BEND_RATIO), (size_mm, _BEND_MM)]
    share = min(float(np.clip((value - low) / (high - low), 0.0, 1.0)) for value, (low, high) in seen)
    coefficients = share * parabola + (1.0 - share) * np.vstack([np.zeros(2), line])
    at = np.linspace(pose.end, visible_mm, 101)
    curve = np.column_stack([np.vander(at, 3) @ coefficients, at])
    chord = curve[-1] - curve[0]
    offset = curve - curve[0]
    away = offset - np.outer(offset @ chord / (chord @ chord), chord)
    bending_mm = float(np.max(np.linalg.norm(away, axis=1))) if share > 0.0 else 0.0
    left = across - np.vander(along, 3) @ coefficients
    return share, bending_mm, float(np.sqrt(np.sum(left**2) / (along.size - 3)))


def point_on(frame: Frame, pose: Pose, along: float) -> FloatArray:
    """LPS point on the model's centre line."""
    side, up = centre_at(pose, np.array(along))
    return frame.to_lps(np.array([float(side), float(up), along]))


def bent_line(frame: Frame, pose: Pose, visible_mm: float) -> FloatArray:
    """Points of the model's centre line from the metal's end to where the shaft leaves the image, (K, 3) LPS mm."""
    at = np.linspace(pose.end, visible_mm, max(2, math.ceil(visible_mm / _LINE_STEP_MM)))
    return frame.to_lps(np.column_stack([*centre_at(pose, at), at]))


def tangent_of(frame: Frame, pose: Pose) -> FloatArray:
    """Unit tangent of the model's centre line at its distal end, LPS."""
    axis = (
        frame.axis
        + (pose.side_slope + 2.0 * pose.end * pose.side_bend) * frame.side
        + (pose.up_slope + 2.0 * pose.end * pose.up_bend) * frame.up
    )
    result: FloatArray = axis / np.linalg.norm(axis)
    return result
