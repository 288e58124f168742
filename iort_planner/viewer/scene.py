"""What the 3-D picture shows, as plain data in patient coordinates; drawing it is viewer/render.py's work."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from iort_planner.geometry.distance import arc_length_mm, needle_course, part_of_course
from iort_planner.units import FloatArray
from iort_planner.viewer import palette
from iort_planner.viewer.anatomy import Metal, bone_surface, canal_surface, planned_vertebra
from iort_planner.viewer.meshes import Mesh, needle_mesh, sphere_mesh, tube_mesh

if TYPE_CHECKING:
    from iort_planner.imaging.volume import Volume
    from iort_planner.planning.plan import Plan, PlanNeedle

# The camera: own choices, tried on the phantoms and on a real lower-thoracic scan. From the needle's side, round
# from behind and a little from above; of these directions the one in which the needle hides the canal least.
_CAMERA_AZIMUTHS_DEG = (68.0, 60.0, 76.0, 52.0)
_CAMERA_ELEVATIONS_DEG = (35.0, 28.0, 42.0, 20.0, 50.0)
_CAMERA_DISTANCE_MM = 300.0
_CAMERA_VIEW_ANGLE_DEG = 16.0
_CAMERA_SHIFT_MM = 12.0
# Tried on the same: the source and the isodoses show through the planned vertebra; its neighbours only frame it.
_VERTEBRA_OPACITY, _OTHER_BONE_OPACITY, _BONE_OPACITY = 0.45, 0.07, 0.3
_CLEAR_MM = 6.0  # the nearest canal point is free when it is seen this far from the needle's middle line


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surface:
    """One patch of the scene.

    Parameters
    ----------
    kind : str
        ``vertebra`` (the planned one), ``bone`` (the rest), ``shaft``, ``tip``, ``cannula``, ``canal``, ``isodose``,
        ``marker`` or ``distance``.
    label : str
        What the legend says; empty for what has no line of its own there.
    mesh : Mesh
    colour : str
        ``#rrggbb``.
    opacity : float
        0 to 1.
    """

    kind: str
    label: str
    mesh: Mesh
    colour: str
    opacity: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Camera:
    """Where the scene is looked at from: a perspective camera in patient space.

    Parameters
    ----------
    position_lps_mm, focus_lps_mm : ndarray of shape (3,), mm
    up_lps : ndarray of shape (3,)
        Unit vector that points up in the picture.
    view_angle_deg : float
        Full opening angle over the picture's height.
    """

    position_lps_mm: FloatArray
    focus_lps_mm: FloatArray
    up_lps: FloatArray
    view_angle_deg: float

    def project(self, points_lps_mm: npt.ArrayLike, size: tuple[int, int]) -> FloatArray:
        """Pixel (x from the left, y from the top) of patient points, (..., 3) -> (..., 2), for a picture's size."""
        forward = self.focus_lps_mm - self.position_lps_mm
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, self.up_lps)
        right /= np.linalg.norm(right)
        up = np.cross(right, forward)
        offset = np.asarray(points_lps_mm, dtype=np.float64) - self.position_lps_mm
        scale = size[1] / 2.0 / math.tan(math.radians(self.view_angle_deg) / 2.0) / (offset @ forward)
        pixel: FloatArray = np.stack(
            [size[0] / 2.0 + scale * (offset @ right), size[1] / 2.0 - scale * (offset @ up)], axis=-1
        )
        return pixel


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """Everything the 3-D picture shows.

    Parameters
    ----------
    surfaces : tuple of Surface
    camera : Camera
    title : tuple of str
        Verdict and headline numbers, one line each.
    verdict : str
        ``pass``, ``warn`` or ``fail``.
    notes : tuple of str
        Lines under the legend: what is not drawn and why.
    footer : str
        Intended use and version.
    """

    surfaces: tuple[Surface, ...]
    camera: Camera
    title: tuple[str, ...]
    verdict: str
    notes: tuple[str, ...]
    footer: str

    def of_kind(self, kind: str) -> tuple[Surface, ...]:
        """The surfaces of one kind."""
        return tuple(surface for surface in self.surfaces if surface.kind == kind)


def build_scene(plan: Plan, volume: Volume, canal_mask: npt.NDArray[np.uint8] | None) -> Scene:
    """Turn a plan, the image it names and its canal mask into a scene.

    Parameters
    ----------
    plan : Plan
    volume : Volume
        The image whose hash the plan holds; the caller has checked it.
    canal_mask : ndarray of shape (nk, nj, ni), uint8, or None
        The plan's canal on the image's grid; None for a plan on given points.
    """
    surfaces: list[Surface] = []
    notes: list[str] = []
    needle = plan.needles[0]
    source = np.array(needle.source_lps_mm)
    metal = [_metal(plan, each) for each in plan.needles]
    canal = canal_surface(volume.grid, canal_mask, source) if canal_mask is not None else None
    vertebra, why_not = planned_vertebra(volume, needle, canal_mask)
    bone = bone_surface(volume, source, metal, canal, vertebra)
    if vertebra is not None:
        mesh = Mesh(vertices_lps_mm=vertebra.vertices_lps_mm, faces=vertebra.faces)
        surfaces.append(
            Surface(
                kind="vertebra",
                label="planned vertebra",
                mesh=mesh,
                colour=palette.VERTEBRA_COLOUR,
                opacity=_VERTEBRA_OPACITY,
            )
        )
        notes.extend(f"vertebra: {reason}" for reason in vertebra.reasons)
    elif bone is not None:
        notes.append(why_not)
    if bone is not None:
        label = bone.label if vertebra is None else f"other {bone.label}"
        opacity = _BONE_OPACITY if vertebra is None else _OTHER_BONE_OPACITY
        colour = palette.BONE_COLOUR if vertebra is None else palette.OTHER_BONE_COLOUR
        surfaces.append(Surface(kind="bone", label=label, mesh=bone.mesh, colour=colour, opacity=opacity))
    elif vertebra is None:
        notes.append("no bone surface at this level: not drawn")
    if canal is not None:
        surfaces.append(
            Surface(kind="canal", label="spinal canal", mesh=canal, colour=palette.CANAL_COLOUR, opacity=0.75)
        )
    for point in plan.canal.points_lps_mm if plan.canal.method == "points" else ():
        ball = sphere_mesh(np.array(point), 1.0)
        label = "canal points, given by hand" if point == plan.canal.points_lps_mm[0] else ""
        surfaces.append(Surface(kind="canal", label=label, mesh=ball, colour=palette.CANAL_COLOUR, opacity=1.0))
    for number, each in enumerate(plan.needles):
        surfaces.extend(_needle_surfaces(plan, each, labelled=number == 0))
    for level in palette.isodose_levels(plan):
        if level.radius_mm is None:
            notes.append(f"{level.legend}: not drawn")
            continue
        ball = sphere_mesh(source, level.radius_mm)
        opacity = 0.2 if "prescription" in level.role else 0.12
        surfaces.append(Surface(kind="isodose", label=level.legend, mesh=ball, colour=level.colour, opacity=opacity))
    surfaces.extend(_markers(plan))
    return Scene(
        surfaces=tuple(surfaces),
        camera=_camera(source, np.array(needle.axis_lps), np.array(plan.canal.nearest_point_lps_mm)),
        title=_title(plan),
        verdict=plan.verdict,
        notes=tuple(notes),
        footer=f"{palette.INTENDED_USE_SHORT}  {plan.software.name} {plan.software.version}",
    )


def _metal(plan: Plan, needle: PlanNeedle) -> Metal:
    """What of the image is needle or cannula and therefore no bone."""
    widest = max(plan.source.outer_diameter_mm, plan.source.cannula_outer_diameter_mm or 0.0)
    course = part_of_course(_course(needle), 0.0, plan.source.applicator_length_mm + plan.source.cannula_length_mm)
    return Metal(course_lps_mm=course, radius_mm=widest / 2.0)


def _course(needle: PlanNeedle) -> FloatArray:
    line = np.array(needle.centre_line_lps_mm) if needle.centre_line_lps_mm else None
    return needle_course(np.array(needle.tip_lps_mm), np.array(needle.axis_lps), line)


def _needle_surfaces(plan: Plan, needle: PlanNeedle, *, labelled: bool) -> list[Surface]:
    tip, axis, course = np.array(needle.tip_lps_mm), np.array(needle.axis_lps), _course(needle)
    radius, metal_from = plan.source.outer_diameter_mm / 2.0, plan.source.radiolucent_tip_length_mm
    name = "needle" if len(plan.needles) == 1 else "needles"
    parts = [
        Surface(
            kind="tip",
            label=f"{name}: radiolucent tip" if labelled else "",
            mesh=needle_mesh(tip, axis, radius, metal_from),
            colour=palette.TIP_COLOUR,
            opacity=0.55,
        ),
        Surface(
            kind="shaft",
            label=f"{name}: metal shaft" if labelled else "",
            mesh=tube_mesh(part_of_course(course, metal_from, plan.source.applicator_length_mm - metal_from), radius),
            colour=palette.METAL_COLOUR,
            opacity=1.0,
        ),
    ]
    if needle.cannula_end_lps_mm is not None:
        start = arc_length_mm(course, np.array(needle.cannula_end_lps_mm))
        outer = plan.source.cannula_outer_diameter_mm
        # an unknown outer diameter is drawn just outside the needle, and the legend says so
        cannula_radius = outer / 2.0 if outer is not None else radius + 0.2
        label = "guide cannula" if outer is not None else "guide cannula (outer diameter not known)"
        parts.append(
            Surface(
                kind="cannula",
                label=label if labelled else "",
                mesh=tube_mesh(part_of_course(course, start, plan.source.cannula_length_mm), cannula_radius),
                colour=palette.CANNULA_COLOUR,
                opacity=1.0,
            )
        )
    return parts


def _markers(plan: Plan) -> list[Surface]:
    needle = plan.needles[0]
    source, tip = np.array(needle.source_lps_mm), np.array(needle.tip_lps_mm)
    nearest = np.array(plan.canal.nearest_point_lps_mm)
    distance = f"source centre to canal: {plan.canal.distance_from_source_mm:.1f} mm"
    items = [
        Surface(kind="marker", label="source centre", mesh=sphere_mesh(source, 0.9), colour=palette.INK, opacity=1.0),
        Surface(kind="marker", label="tip", mesh=sphere_mesh(tip, 0.7), colour=palette.TIP_LINE_COLOUR, opacity=1.0),
        Surface(kind="marker", label="", mesh=sphere_mesh(nearest, 0.9), colour=palette.NEAREST_COLOUR, opacity=1.0),
    ]
    if float(np.linalg.norm(nearest - source)) > 0.0:
        line = tube_mesh(np.array([source, nearest]), 0.35)
        items.append(Surface(kind="distance", label=distance, mesh=line, colour=palette.NEAREST_COLOUR, opacity=1.0))
    return items


def _title(plan: Plan) -> tuple[str, ...]:
    return palette.verdict_text(plan), f"dwell time {plan.dwell_time_text}", palette.canal_text(plan)


def _camera(source_lps_mm: FloatArray, axis_lps: FloatArray, nearest_lps_mm: FloatArray) -> Camera:
    """From behind, on the side the needle comes from, from above; superior is up."""
    side = 1.0 if axis_lps[0] >= 0.0 else -1.0  # +x is the patient's left
    directions = [_direction(side, azimuth, up) for azimuth in _CAMERA_AZIMUTHS_DEG for up in _CAMERA_ELEVATIONS_DEG]
    # the first is the best looking: others win only where they show more of the way to the canal
    direction = max(
        directions, key=lambda d: round(min(_seen_apart_mm(nearest_lps_mm - source_lps_mm, axis_lps, d), _CLEAR_MM), 1)
    )
    # Between source and canal, a little towards the hub so that the needle's way in is seen; then the view is
    # moved so that this point stands to the right of the middle, clear of the legend.
    focus = 0.5 * (source_lps_mm + nearest_lps_mm) + 6.0 * axis_lps
    right = np.cross(-direction, np.array([0.0, 0.0, 1.0]))
    focus = focus - _CAMERA_SHIFT_MM * right / np.linalg.norm(right)
    return Camera(
        position_lps_mm=focus + _CAMERA_DISTANCE_MM * direction,
        focus_lps_mm=focus,
        up_lps=np.array([0.0, 0.0, 1.0]),
        view_angle_deg=_CAMERA_VIEW_ANGLE_DEG,
    )


def _direction(side: float, azimuth_deg: float, elevation_deg: float) -> FloatArray:
    """Unit vector towards the camera: from posterior round to the side, then up."""
    azimuth, elevation = math.radians(azimuth_deg), math.radians(elevation_deg)
    across = np.array([side * math.sin(azimuth), math.cos(azimuth), 0.0])
    result: FloatArray = math.cos(elevation) * across + math.sin(elevation) * np.array([0.0, 0.0, 1.0])
    return result


def _seen_apart_mm(offset_mm: FloatArray, axis_lps: FloatArray, direction_lps: FloatArray) -> float:
    """How far from the needle's middle line a point is seen that lies ``offset_mm`` from the source."""
    line = axis_lps - (axis_lps @ direction_lps) * direction_lps
    point = offset_mm - (offset_mm @ direction_lps) * direction_lps
    length = float(np.linalg.norm(line))
    if length < 1e-6:
        return float(np.linalg.norm(point))
    return float(np.linalg.norm(np.cross(point, line / length)))
