"""Distances from the needle to the spinal canal, each with both of its end points and its origin in its name."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.errors import CanalNotFoundError
from iort_planner.geometry._kernels import (
    Rod,
    closest_point_on_mesh,
    rod_to_triangles,
    winding_number,
)

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator
    from iort_planner.geometry.canal import SpinalCanal
    from iort_planner.geometry.needle import Needle
    from iort_planner.units import FloatArray


_LEAST_PIECE_MM = 3.0  # at either end of a part: more than a radius, so that joints stay inside
_PIECE_MM = 8.0  # of a bent shaft: an arc of 5 mm sagitta over 90 mm leaves its chord by 0.04 mm within it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """A distance with its two ends.

    Parameters
    ----------
    from_lps_mm : ndarray of shape (3,), mm
        On the needle's part: the source centre, the tip, or the point of the body's surface.
    to_lps_mm : ndarray of shape (3,), mm
        On the canal's wall.
    length_mm : float
        Between them; negative where the body stands in the canal: by how deep its surface reaches behind the wall.
    """

    from_lps_mm: FloatArray
    to_lps_mm: FloatArray
    length_mm: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CanalDistances:
    """How far the canal's wall is from the parts of one needle; each the least distance there is.

    Parameters
    ----------
    source, tip : Segment
        From the effective source point and from the outer distal end.
    surface : Segment
        From the outer surface of the radiolucent part (half ball and cylinder up to the metal).
    shaft : Segment
        From the outer surface of the whole applicator, and of the cannula where it was seen; negative when
        it stands in the canal.
    polar_angle_deg : float
        Direction of the source's nearest point, measured from the distal axis: 0 straight ahead.
    """

    source: Segment
    tip: Segment
    surface: Segment
    shaft: Segment
    polar_angle_deg: float

    @property
    def nearest_point_lps_mm(self) -> FloatArray:
        """Point of the canal's wall nearest to the source centre, shape (3,), mm."""
        return self.source.to_lps_mm

    @property
    def distance_from_source_mm(self) -> float:
        """From the effective source point."""
        return self.source.length_mm

    @property
    def distance_from_tip_mm(self) -> float:
        """From the outer distal end."""
        return self.tip.length_mm

    @property
    def distance_from_surface_mm(self) -> float:
        """From the outer surface of the radiolucent part."""
        return self.surface.length_mm

    @property
    def shaft_clearance_mm(self) -> float:
        """From the whole applicator and the cannula where it was seen; negative inside the canal."""
        return self.shaft.length_mm


def canal_distances(needle: Needle, applicator: Applicator, canal: SpinalCanal) -> CanalDistances:
    """Least distances from a needle to the canal.

    Raises
    ------
    CanalNotFoundError
        If the tip or the source centre lies inside the canal: no dose to the canal could be stated.
    """
    triangles, solid = wall_triangles(canal), bool(canal.faces.size)
    if solid:
        remedy = "or give --canal FILE or --canal-point"
        source, tip = distances_outside(needle, triangles, f"the spinal canal as found (method {canal.method})", remedy)
    else:
        source, tip = (point_to_wall(p, triangles) for p in (needle.source_lps_mm, needle.tip_lps_mm))
    to_nearest = (source.to_lps_mm - source.from_lps_mm) / max(source.length_mm, 1e-12)
    tip_part = Rod(
        start_mm=needle.tip_lps_mm,
        axis=needle.axis_lps,
        radius_mm=applicator.outer_radius_mm,
        length_mm=applicator.radiolucent_tip_length_mm,
        round_start=True,
    )
    bodies = applicator_and_cannula(needle, applicator)
    return CanalDistances(
        source=source,
        tip=tip,
        surface=_clearance(tip_part, triangles, solid=solid),
        shaft=min((_clearance(rod, triangles, solid=solid) for rod in bodies), key=lambda s: s.length_mm),
        polar_angle_deg=math.degrees(math.acos(float(np.clip(to_nearest @ -needle.axis_lps, -1.0, 1.0)))),
    )


def distances_outside(
    needle: Needle, triangles: FloatArray, what: str, remedy: str = "or give another file"
) -> tuple[Segment, Segment]:
    """From source centre and tip to a closed surface (M, 3, 3) mm that neither may lie in; ``what`` names it.

    Raises
    ------
    CanalNotFoundError
        If one of them lies inside.
    """
    for name, point in (("source centre", needle.source_lps_mm), ("tip", needle.tip_lps_mm)):
        if winding_number(point, triangles) > 0.5:
            raise CanalNotFoundError(
                f"the needle's {name} {np.round(point, 1).tolist()} lies inside {what}; check both, {remedy}"
            )
    return point_to_wall(needle.source_lps_mm, triangles), point_to_wall(needle.tip_lps_mm, triangles)


def point_to_wall(point_lps_mm: FloatArray, triangles: FloatArray) -> Segment:
    """From a point to the nearest point of a wall, whichever side of it the point is on."""
    distance, nearest = closest_point_on_mesh(point_lps_mm, triangles)
    return Segment(from_lps_mm=point_lps_mm, to_lps_mm=nearest, length_mm=distance)


def signed_distance_mm(point_lps_mm: FloatArray, triangles: FloatArray) -> float:
    """Of a point from a closed surface (M, 3, 3) mm; negative inside."""
    distance = point_to_wall(point_lps_mm, triangles).length_mm
    return -distance if winding_number(point_lps_mm, triangles) > 0.5 else distance


def applicator_and_cannula(needle: Needle, applicator: Applicator) -> list[Rod]:
    """The solid bodies of a needle: the whole applicator, and the cannula where its end was seen.

    A bent needle becomes a chain of rods along its centre line, straight on beyond where it is seen.
    """
    course = needle_course(needle.tip_lps_mm, needle.axis_lps, needle.centre_line_lps_mm)
    rods = _chain(course, 0.0, applicator.length_mm, applicator.outer_radius_mm, round_start=True)
    outer = applicator.cannula_outer_diameter_mm
    if needle.cannula_end_lps_mm is not None and outer is not None:
        start = arc_length_mm(course, needle.cannula_end_lps_mm)
        rods += _chain(course, start, applicator.cannula_length_mm, outer / 2.0, round_start=False)
    return rods


def needle_course(tip_lps_mm: FloatArray, axis_lps: FloatArray, centre_line_lps_mm: FloatArray | None) -> FloatArray:
    """Polyline (K, 3) mm that a needle follows from its tip; it goes on straight beyond its last point."""
    if centre_line_lps_mm is None:
        return np.array([tip_lps_mm, tip_lps_mm + axis_lps])
    return np.vstack([tip_lps_mm, centre_line_lps_mm])


def part_of_course(course: FloatArray, start_mm: float, length_mm: float) -> FloatArray:
    """Points (K, 3) mm of a needle's course from an arc length on, about `_PIECE_MM` apart where it bends."""
    end_mm = start_mm + length_mm
    last = course[-1] - course[-2]
    line = np.vstack([course, course[-1] + end_mm * last / np.linalg.norm(last)])
    at = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    bent_mm = float(at[-2] - at[1])  # from the metal's end, before which the needle is straight; 0 for a straight line
    joints = np.linspace(at[1], at[-2], round(bent_mm / _PIECE_MM) + 2) if bent_mm > 0.0 else ()
    stops = [start_mm, *(j for j in joints if start_mm + _LEAST_PIECE_MM < j < end_mm - _LEAST_PIECE_MM), end_mm]
    return np.stack([np.interp(stops, at, line[:, n]) for n in range(3)], axis=1)


def _chain(course: FloatArray, start_mm: float, length_mm: float, radius_mm: float, *, round_start: bool) -> list[Rod]:
    """Rods along a needle's course from an arc length on.

    Each rod after the first has a half ball at its joint, so that the chain has no gap on the outside of a bend.
    """
    rods = []
    for number, (a, b) in enumerate(itertools.pairwise(part_of_course(course, start_mm, length_mm))):
        length = float(np.linalg.norm(b - a))
        along = (b - a) / length
        overlap = radius_mm if number else 0.0
        rods.append(
            Rod(
                start_mm=a - overlap * along,
                axis=along,
                radius_mm=radius_mm,
                length_mm=length + overlap,
                round_start=round_start or number > 0,
            )
        )
    return rods


def arc_length_mm(line: FloatArray, point: FloatArray) -> float:
    """Arc length along a polyline, straight on beyond its end, at its place nearest to a point."""
    steps = np.diff(line, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    along = np.einsum("nd,nd->n", point - line[:-1], steps) / lengths
    along[:-1] = np.minimum(along[:-1], lengths[:-1])
    along = np.maximum(along, 0.0)
    apart = np.linalg.norm(line[:-1] + along[:, None] * steps / lengths[:, None] - point, axis=1)
    best = int(np.argmin(apart))
    return float(np.sum(lengths[:best]) + along[best])


def wall_triangles(canal: SpinalCanal) -> FloatArray:
    """The wall as triangles, shape (M, 3, 3) mm; points given by hand become triangles without area."""
    if canal.faces.size:
        triangles: FloatArray = canal.vertices_lps_mm[canal.faces]
        return triangles
    return np.repeat(canal.vertices_lps_mm[:, None, :], 3, axis=1)


def _clearance(rod: Rod, triangles: FloatArray, *, solid: bool) -> Segment:
    """Between a rod's surface and the wall; negative where the rod stands in the canal (``solid`` walls only).

    The depth is the rod's radius less the distance of its core line from the wall; where the core itself runs in
    the canal, the radius plus the core's own depth (its deepest point to 0.0125 mm).
    """
    distance, on_rod, on_wall = rod_to_triangles(rod, triangles)
    outside = Segment(from_lps_mm=on_rod, to_lps_mm=on_wall, length_mm=distance)
    if not solid:
        return outside
    core = rod.core()
    deepest = _deepest_inside(core, triangles)
    if deepest is not None:
        return _through_the_wall(rod, deepest.from_lps_mm, deepest.to_lps_mm, -deepest.length_mm)
    if distance > 0.0:
        return outside
    from_core, on_core, on_wall = rod_to_triangles(core, triangles)
    # else touched by no more than a flat end's edge
    return _through_the_wall(rod, on_core, on_wall, from_core) if from_core < rod.radius_mm else outside


def _through_the_wall(rod: Rod, on_core: FloatArray, on_wall: FloatArray, core_mm: float) -> Segment:
    """From the rod's surface behind the wall back to the wall; ``core_mm`` is negative for a core inside the canal."""
    if abs(core_mm) > 1e-9:
        into_canal = (on_wall - on_core) / core_mm
    else:  # the wall runs through the core line: any direction across will do
        into_canal = np.cross(rod.axis, np.eye(3)[int(np.argmin(np.abs(rod.axis)))])
        into_canal /= np.linalg.norm(into_canal)
    depth = rod.radius_mm - core_mm
    return Segment(from_lps_mm=on_wall + depth * into_canal, to_lps_mm=on_wall, length_mm=-depth)


def _deepest_inside(core: Rod, triangles: FloatArray) -> Segment | None:
    """From the deepest point of a core line in the canal to the wall; None where it does not run in the canal."""
    step_mm = 0.5
    points = core.points(step_mm)
    low, high = triangles.min(axis=(0, 1)), triangles.max(axis=(0, 1))
    within = np.all((points >= low) & (points <= high), axis=1)
    inside = [p for p in points[within] if winding_number(p, triangles) > 0.5]
    if not inside:
        return None
    deepest = max((point_to_wall(p, triangles) for p in inside), key=lambda s: s.length_mm)
    finer = core.project(deepest.from_lps_mm + np.linspace(-step_mm, step_mm, 41)[:, None] * core.axis)
    return max((deepest, *(point_to_wall(p, triangles) for p in finer)), key=lambda s: s.length_mm)
