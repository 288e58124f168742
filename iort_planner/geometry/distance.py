"""Distances from the needle to the spinal canal, each with the origin in its name."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CanalDistances:
    """How far the canal's wall is from the parts of one needle.

    Parameters
    ----------
    nearest_point_lps_mm : ndarray of shape (3,), mm
        Point of the canal's wall nearest to the source centre.
    distance_from_source_mm, distance_from_tip_mm : float
        From the effective source point and from the outer distal end.
    distance_from_surface_mm : float
        From the outer surface of the radiolucent part (half ball and cylinder up to the metal).
    shaft_clearance_mm : float
        From the outer surface of the whole applicator, and of the cannula where it was seen; negative when
        it stands in the canal, by how deep.
    polar_angle_deg : float
        Direction of the nearest point from the source, measured from the distal axis: 0 straight ahead.
    """

    nearest_point_lps_mm: FloatArray
    distance_from_source_mm: float
    distance_from_tip_mm: float
    distance_from_surface_mm: float
    shaft_clearance_mm: float
    polar_angle_deg: float


def canal_distances(needle: Needle, applicator: Applicator, canal: SpinalCanal) -> CanalDistances:
    """Least distances from a needle to the canal.

    Raises
    ------
    CanalNotFoundError
        If the tip or the source centre lies inside the canal: no dose to the canal could be stated.
    """
    triangles = wall_triangles(canal)
    for name, point in (("source centre", needle.source_lps_mm), ("tip", needle.tip_lps_mm)):
        if canal.faces.size and winding_number(point, triangles) > 0.5:
            raise CanalNotFoundError(
                f"the needle's {name} {np.round(point, 1).tolist()} lies inside the spinal canal as found "
                f"(method {canal.method}); check tip and canal, or give --canal FILE or --canal-point"
            )
    from_source, nearest = closest_point_on_mesh(needle.source_lps_mm, triangles)
    from_tip, _ = closest_point_on_mesh(needle.tip_lps_mm, triangles)
    to_nearest = (nearest - needle.source_lps_mm) / max(from_source, 1e-12)
    tip_part = Rod(
        start_mm=needle.tip_lps_mm,
        axis=needle.axis_lps,
        radius_mm=applicator.outer_radius_mm,
        length_mm=applicator.radiolucent_tip_length_mm,
        round_start=True,
    )
    return CanalDistances(
        nearest_point_lps_mm=nearest,
        distance_from_source_mm=from_source,
        distance_from_tip_mm=from_tip,
        distance_from_surface_mm=_clearance_mm(tip_part, canal, triangles),
        shaft_clearance_mm=min(
            _clearance_mm(rod, canal, triangles) for rod in applicator_and_cannula(needle, applicator)
        ),
        polar_angle_deg=math.degrees(math.acos(float(np.clip(to_nearest @ -needle.axis_lps, -1.0, 1.0)))),
    )


def applicator_and_cannula(needle: Needle, applicator: Applicator) -> list[Rod]:
    """The solid bodies of a needle: the whole applicator, and the cannula where its end was seen."""
    rods = [
        Rod(
            start_mm=needle.tip_lps_mm,
            axis=needle.axis_lps,
            radius_mm=applicator.outer_radius_mm,
            length_mm=applicator.length_mm,
            round_start=True,
        )
    ]
    outer = applicator.cannula_outer_diameter_mm
    if needle.cannula_end_lps_mm is not None and outer is not None:
        rods.append(
            Rod(
                start_mm=needle.cannula_end_lps_mm,
                axis=needle.axis_lps,
                radius_mm=outer / 2.0,
                length_mm=applicator.cannula_length_mm,
                round_start=False,
            )
        )
    return rods


def wall_triangles(canal: SpinalCanal) -> FloatArray:
    """The wall as triangles, shape (M, 3, 3) mm; points given by hand become triangles without area."""
    if canal.faces.size:
        triangles: FloatArray = canal.vertices_lps_mm[canal.faces]
        return triangles
    return np.repeat(canal.vertices_lps_mm[:, None, :], 3, axis=1)


def _clearance_mm(rod: Rod, canal: SpinalCanal, triangles: FloatArray) -> float:
    """Distance of a rod's surface from the wall; negative when the rod stands in the canal.

    The depth is that of the deepest wall point inside the rod, or where the axis itself runs in the canal,
    the radius plus the axis' own depth.
    """
    distance, _, _ = rod_to_triangles(rod, triangles)
    if not canal.faces.size:
        return distance
    axis = rod.core_points()
    inside = [p for p in axis if winding_number(p, triangles) > 0.5] if _may_be_inside(axis, triangles) else []
    if inside:
        return -(rod.radius_mm + max(closest_point_on_mesh(p, triangles)[0] for p in inside))
    if distance > 0.0:
        return distance
    return min(0.0, min(closest_point_on_mesh(p, triangles)[0] for p in axis) - rod.radius_mm)


def _may_be_inside(points: FloatArray, triangles: FloatArray) -> bool:
    low, high = triangles.min(axis=(0, 1)), triangles.max(axis=(0, 1))
    return bool(np.any(np.all((points >= low) & (points <= high), axis=1)))
