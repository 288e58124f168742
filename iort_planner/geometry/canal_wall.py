"""The bony wall of the canal: rays across the centre line to the inner edge of cortical bone, joined smoothly."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.interpolate import make_smoothing_spline

from iort_planner.geometry._polar_fit import PolarSmoother, robust_fit, trusted
from iort_planner.geometry.canal_follow import follow
from iort_planner.geometry.canal_intensity import IntensityScale
from iort_planner.geometry.canal_plate import plate_edges
from iort_planner.geometry.canal_rays import (
    ANGLES,
    NOISY_HU,
    PLANE_STEP_MM,
    Frame,
    RayEdges,
    cast_rays,
    cross_section_mm2,
)
from iort_planner.geometry.canal_search import CanalPath
from iort_planner.imaging.volume import Volume
from iort_planner.units import FloatArray

# Smoothing spline's penalty, mm^3: with points every 1.25 to 2.5 mm it keeps bends longer than about 50 mm (kyphosis)
# and drops the sideways steps between levels, so that the planes don't tilt with each lamina.
_LINE_STIFFNESS = 3000.0
# (bend, stretch, scale_mm) from stiff to soft; tuned on the synthetic tubes and the real CTs of the tests
_COARSE_STEPS = ((300.0, 3.0, 4.0), (300.0, 3.0, 3.0), (100.0, 1.0, 2.5), (30.0, 0.3, 2.0))
_FINE_STEPS = ((30.0, 0.3, 2.0), (8.0, 0.1, 1.5), (2.0, 0.05, 1.5), (0.3, 0.05, 1.5))
# An edge outside the wall is often that of something behind it (facet joints, ribs beside an open foramen), one inside
# never: the fine steps let go of edges outside this much sooner (not among streaks, which make edges on both sides).
_OUTSIDE_FACTOR = 1.5
_NOISY_REACH_MM = 4.0  # in planes with streaks, edges this far inside the stiff wall are streaks
ON_BONE_RESIDUAL_MM = 1.0  # a wall this near to a bony edge was seen there
_HIDING_MM = 2.0  # metal this near behind the wall hides its peak
_EXTENSION_MM = 5.0  # the path ends up to two candidates short of the image's end
_INSIDE_PART = 0.7  # planes at the image's border with less of their wall in the image are dropped
_LEAST_PLANES = 8
NEAR_PART_MM = 36.0  # along the canal from the source's level: what the confidence is judged by
# Beyond that the tube ends where its wall is lost: seen on bone less than this, or another cross section 10 mm on
_WINDOW, _LEAST_SEEN_FAR, _MOST_CHANGE_FAR = 8, 0.3, 1.6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CanalWall:
    """The wall as radii in planes across a centre line.

    Parameters
    ----------
    frame : Frame
        P planes across the centre line.
    radius_mm : ndarray of shape (P, A), mm
    seen : ndarray of shape (P, A), bool
        Wall on a bony edge.
    edges : RayEdges
        What the rays met.
    """

    frame: Frame
    radius_mm: FloatArray
    seen: npt.NDArray[np.bool_]
    edges: RayEdges

    def points_lps_mm(self) -> FloatArray:
        """Wall points, shape (P, A, 3), mm."""
        return self.frame.points_lps_mm(self.radius_mm)

    def level_of(self, point_lps_mm: FloatArray) -> int:
        """The plane whose middle is nearest to a point."""
        return int(np.argmin(np.linalg.norm(self.frame.centre_lps_mm - point_lps_mm, axis=1)))

    def near(self, point_lps_mm: FloatArray) -> CanalWall:
        """The part within `NEAR_PART_MM` of a point's level."""
        level, reach = self.level_of(point_lps_mm), round(NEAR_PART_MM / PLANE_STEP_MM)
        return self.part(slice(max(level - reach, 0), level + reach + 1))

    def hidden(self) -> npt.NDArray[np.bool_]:
        """Where metal or the image's end hides the wall, shape (P, A)."""
        result: npt.NDArray[np.bool_] = ~self.seen & (self.edges.blocked_mm < self.radius_mm + _HIDING_MM)
        return result

    def refit(self, without: npt.NDArray[np.bool_]) -> FloatArray:
        """The wall's radii as the last step of the fit gives them without the edges in a mask, shape (P, A), mm."""
        bend, stretch, scale_mm = _FINE_STEPS[-1]
        edges = self.edges
        weight = trusted(edges.radius_mm, edges.weight, self.radius_mm, scale_mm, _outside_factor(edges))
        weight = np.where(without, 0.0, weight)
        return PolarSmoother(*self.radius_mm.shape).fit(edges.radius_mm, weight, bend, stretch)

    def part(self, span: slice) -> CanalWall:
        """Some of the planes."""
        return replace(
            self,
            frame=self.frame.part(span),
            radius_mm=self.radius_mm[span],
            seen=self.seen[span],
            edges=self.edges.part(span),
        )

    def area_mm2(self) -> FloatArray:
        """Area of each cross section, shape (P,), mm2."""
        return cross_section_mm2(self.radius_mm)


def find_wall(
    volume: Volume, scale: IntensityScale, path: CanalPath, source_lps_mm: FloatArray, axis_lps: FloatArray
) -> CanalWall | None:
    """Wall along a rough centre line: coarsely twice, each time moving the line to the middle, then finely.

    Returns
    -------
    CanalWall or None
        None if hardly any bony edge or length of canal remains.
    """

    def look(points: FloatArray, weight: FloatArray) -> tuple[Frame, RayEdges, FloatArray] | None:
        frame = centre_line(points, weight)
        if frame is None:
            return None
        rays = cast_rays(volume, scale, frame, source_lps_mm, axis_lps)
        edges = rays.edges(path.bone_above_content_hu)
        if not _enough(edges):
            return None
        stiff = _coarse(edges)
        noisy = rays.noise_hu > NOISY_HU
        if np.any(noisy):
            edges = rays.edges(path.bone_above_content_hu, np.where(noisy[:, None], stiff - _NOISY_REACH_MM, 0.0))
            stiff = _coarse(edges)
        return frame, edges, stiff

    points, weight = path.points_lps_mm, np.ones(path.points_lps_mm.shape[0])
    for _ in range(2):
        step = look(points, weight)
        if step is None:
            return None
        frame, edges, stiff = step
        points = frame.middles_lps_mm(stiff)
        weight = 0.1 + np.mean(_near(edges, stiff, 2.0), axis=1)
    before, after = follow(volume, scale, stiff, points, source_lps_mm, axis_lps, path.bone_above_content_hu)
    weight = np.concatenate([np.full(len(before), 0.6), weight, np.full(len(after), 0.6)])
    step = look(np.concatenate([before, points, after]), weight)
    if step is None:
        return None
    frame, edges, stiff = step
    wall = robust_fit(
        PolarSmoother(*edges.radius_mm.shape),
        edges.radius_mm,
        edges.weight,
        start_mm=stiff,
        steps=_FINE_STEPS,
        outside_factor=_outside_factor(edges),
    )
    half = CanalWall(
        frame=frame,
        radius_mm=wall,
        seen=_near(edges, wall, ON_BONE_RESIDUAL_MM),
        edges=edges,
    )
    whole = _inside_image(_on_plates(half, volume, scale), volume)
    return None if whole is None else _without_lost_ends(whole, source_lps_mm)


def _on_plates(wall: CanalWall, volume: Volume, scale: IntensityScale) -> CanalWall:
    """The wall through the fronts of the cortex instead of half maxima."""
    edges = wall.edges
    plates = plate_edges(volume, scale, wall.frame, wall.radius_mm, edges.radius_mm, wall.seen, edges.blocked_mm)
    if plates is None:
        return wall
    moved = replace(edges, radius_mm=np.where(wall.seen, plates.radius_mm, edges.radius_mm))
    found = replace(wall, edges=moved)
    radius = found.refit(np.zeros_like(wall.seen))
    return replace(found, radius_mm=radius, seen=_near(moved, radius, ON_BONE_RESIDUAL_MM))


def centre_line(points_lps_mm: FloatArray, weight: FloatArray) -> Frame | None:
    """Smooth line through points ordered along the canal, at equal steps, with a frame that doesn't turn.

    It is continued straight by `_EXTENSION_MM` at both ends.

    The frame's first direction is the patient's left as nearly as the plane allows.
    """
    step = np.linalg.norm(np.diff(points_lps_mm, axis=0), axis=1)
    chord = np.concatenate([[0.0], np.cumsum(step)])
    if points_lps_mm.shape[0] < 5 or np.any(step < 1e-3) or chord[-1] < _LEAST_PLANES * PLANE_STEP_MM:
        return None
    splines = [
        make_smoothing_spline(chord, points_lps_mm[:, n], w=weight / weight.mean(), lam=_LINE_STIFFNESS)
        for n in range(3)
    ]
    fine = np.linspace(-_EXTENSION_MM, chord[-1] + _EXTENSION_MM, 20 * points_lps_mm.shape[0])
    dense = np.stack([spline(fine) for spline in splines], axis=-1)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(dense, axis=0), axis=1))])
    at = np.arange(0.0, length[-1] + 1e-9, PLANE_STEP_MM)
    centre = np.stack([np.interp(at, length, dense[:, n]) for n in range(3)], axis=-1)
    tangent = np.gradient(centre, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    return Frame.across_line(centre, tangent)


def _outside_factor(edges: RayEdges) -> FloatArray:
    factor: FloatArray = np.where(edges.noise_hu > NOISY_HU, 1.0, _OUTSIDE_FACTOR)[:, None]
    return factor


def _enough(edges: RayEdges) -> bool:
    """Whether there is enough wall to fit anything: a quarter of all rays."""
    return edges.radius_mm.shape[0] >= _LEAST_PLANES and bool(np.mean(edges.weight > 0) > 0.25)


def _near(edges: RayEdges, wall: FloatArray, within_mm: float) -> npt.NDArray[np.bool_]:
    near: npt.NDArray[np.bool_] = (edges.weight > 0) & (np.abs(edges.radius_mm - wall) <= within_mm)
    return near


def _coarse(edges: RayEdges) -> FloatArray:
    """Stiff wall through the edges, from each angle's middle over the planes: foramina open in some planes only."""
    met = edges.weight > 0
    everywhere = float(np.median(edges.radius_mm[met]))
    typical = np.full(ANGLES, everywhere)
    for angle in np.flatnonzero(met.any(axis=0)):
        typical[angle] = np.median(edges.radius_mm[met[:, angle], angle])
    start = np.broadcast_to(ndimage.median_filter(typical, 9, mode="wrap"), edges.radius_mm.shape)
    smoother = PolarSmoother(*edges.radius_mm.shape)
    return robust_fit(smoother, edges.radius_mm, edges.weight, start_mm=start, steps=_COARSE_STEPS)


def _inside_image(wall: CanalWall, volume: Volume) -> CanalWall | None:
    """Without the planes at both ends whose wall lies largely outside the image."""
    part = volume.grid.contains(wall.points_lps_mm()).mean(axis=1)
    kept = np.flatnonzero(part >= _INSIDE_PART)
    if kept.size == 0 or kept[-1] - kept[0] + 1 < _LEAST_PLANES:
        return None
    return wall.part(slice(int(kept[0]), int(kept[-1]) + 1))


def _without_lost_ends(wall: CanalWall, source_lps_mm: FloatArray) -> CanalWall:
    """Without what lies beyond a place, far from the source, where bone no longer holds the wall."""
    planes = wall.radius_mm.shape[0]
    level = wall.level_of(source_lps_mm)
    seen = ndimage.uniform_filter1d(np.mean(wall.seen, axis=1), _WINDOW, mode="nearest")
    area = np.log(ndimage.gaussian_filter1d(wall.area_mm2(), 2.0, mode="nearest"))
    number = np.arange(planes)
    inner = np.clip(number - np.sign(number - level) * _WINDOW, 0, planes - 1)
    lost = (seen < _LEAST_SEEN_FAR) | (np.abs(area - area[inner]) > np.log(_MOST_CHANGE_FAR))
    lost &= np.abs(number - level) * PLANE_STEP_MM > NEAR_PART_MM
    below, above = np.flatnonzero(lost & (number < level)), np.flatnonzero(lost & (number > level))
    return wall.part(slice(int(below[-1]) + 1 if below.size else 0, int(above[0]) if above.size else planes))
