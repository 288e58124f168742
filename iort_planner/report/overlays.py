"""What is drawn over a slice: isodoses, needle, markers, the distance to the canal."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from iort_planner.units import FloatArray
from iort_planner.viewer import palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from iort_planner.planning.plan import Plan, PlanNeedle
    from iort_planner.report.planes import Plane

PALE = "#F2F5F7"
_SHADE = "#000000"
_NOTE = "#5FD3B0"  # the distance line's green, lighter for small letters on a dark ground
_WORD = {
    "L": "left of",
    "R": "right of",
    "A": "anterior of",
    "P": "posterior of",
    "S": "superior of",
    "I": "inferior of",
}
_IN_PLANE_MM = 1.0  # a point nearer to the plane than a usual slice is thick is drawn as lying in it
_LABEL_X_MM = 7.5  # leaves room for "11.25 Gy | 28.1 Gy(RBE)" up to the edge


def outlined(width_pt: float) -> list[Any]:
    """Path effects that give lines or letters a dark outline ``width_pt`` wide: readable on black and on white."""
    from matplotlib import patheffects

    return [patheffects.Stroke(linewidth=width_pt, foreground=_SHADE), patheffects.Normal()]


def draw_overlays(axes: Axes, plane: Plane, plan: Plan, reach_mm: float) -> None:
    """Draw a plan's isodoses, needles, markers and distance on a slice through the source centre.

    ``axes`` has its origin at the main needle's source centre and mm as its unit.
    """
    source = np.array(plan.needles[0].source_lps_mm)
    for needle in plan.needles:
        _draw_needle(axes, plane, plan, needle, source)
    _draw_isodoses(axes, plane, plan, reach_mm)
    _draw_canal_points(axes, plane, plan, source)
    _draw_distance(axes, plane, plan, source, reach_mm)
    for needle in plan.needles:
        x, y = plane.project(np.array(needle.tip_lps_mm) - source)
        axes.plot(x, y, marker="v", markersize=6, color=palette.TIP_LINE_COLOUR, markeredgecolor=_SHADE, zorder=8)
        x, y = plane.project(np.array(needle.source_lps_mm) - source)
        axes.plot(x, y, marker="+", markersize=10, color=_SHADE, markeredgewidth=3.2, zorder=8)
        axes.plot(x, y, marker="+", markersize=9, color=PALE, markeredgewidth=1.6, zorder=9)


def needle_outline(
    plane: Plane, from_source_mm: tuple[float, float], tip_mm: float, radius_mm: float, axis_lps: FloatArray
) -> list[FloatArray]:
    """Projected outline of a stretch of the needle, as lines in picture coordinates from the source centre.

    The outline of a cylinder seen from the side of the plane is a strip as wide as the cylinder; the tip's half
    ball ends it with a half circle.

    Parameters
    ----------
    from_source_mm : (start, end), mm
        The stretch along the axis, 0 at the source centre, positive towards the hub.
    tip_mm : float
        Where the tip lies on that scale (negative).
    radius_mm : float
    axis_lps : ndarray of shape (3,)
    """
    along = plane.project(axis_lps)
    length = float(np.hypot(*along))
    direction = along / length if length > 1e-9 else np.array([0.0, 1.0])
    across = np.array([-direction[1], direction[0]]) * radius_mm
    ball = tip_mm + radius_mm
    start, end = max(from_source_mm[0], ball), from_source_mm[1]
    lines = []
    if end > start:
        lines = [np.array([start * along + sign * across, end * along + sign * across]) for sign in (-1.0, 1.0)]
    if from_source_mm[0] < ball:
        turn = np.linspace(0.5 * np.pi, 1.5 * np.pi, 40)[:, None]
        lines.append(ball * along + radius_mm * np.cos(turn) * direction + np.sin(turn) * across)
    return lines


def _draw_needle(axes: Axes, plane: Plane, plan: Plan, needle: PlanNeedle, origin_lps_mm: FloatArray) -> None:
    axis, tip = np.array(needle.axis_lps), np.array(needle.tip_lps_mm)
    radius = plan.source.outer_diameter_mm / 2.0
    # everything on the scale along the axis that starts at this needle's point nearest the picture's origin
    shift = plane.project(tip - origin_lps_mm)
    off_plane, slope = plane.out_of_plane_mm(tip - origin_lps_mm), plane.out_of_plane_mm(axis)
    metal, hub = plan.source.radiolucent_tip_length_mm, plan.source.applicator_length_mm
    for part, colour in (((0.0, metal), palette.TIP_LINE_COLOUR), ((metal, hub), PALE)):
        for (start, end), solid in _split_by_plane(part, off_plane, slope, radius):
            for line in needle_outline(plane, (start, end), 0.0, radius, axis):
                moved = line + shift
                width = 1.6 if solid else 1.0
                style: dict[str, Any] = {} if solid else {"dashes": (4.0, 3.0), "dash_capstyle": "butt"}
                axes.plot(
                    moved[:, 0],
                    moved[:, 1],
                    color=colour,
                    linewidth=width,
                    path_effects=outlined(width + 1.4),
                    zorder=6,
                    **style,
                )


def _split_by_plane(
    part: tuple[float, float], off_plane_mm: float, slope: float, radius_mm: float
) -> list[tuple[tuple[float, float], bool]]:
    """Cut a stretch of the needle (mm from the tip) where it leaves the plane; True where the plane cuts it."""
    if abs(slope) < 1e-9:
        return [(part, abs(off_plane_mm) <= radius_mm)]
    first, last = sorted(((-radius_mm - off_plane_mm) / slope, (radius_mm - off_plane_mm) / slope))
    cuts = [part[0], *(c for c in (first, last) if part[0] < c < part[1]), part[1]]
    return [((a, b), first <= (a + b) / 2.0 <= last) for a, b in itertools.pairwise(cuts)]


def _draw_isodoses(axes: Axes, plane: Plane, plan: Plan, reach_mm: float) -> None:
    from matplotlib.patches import Circle

    levels = [level for level in palette.isodose_levels(plan) if level.radius_mm is not None]
    side = _free_side(plane, plan)
    for number, level in enumerate(levels):
        radius = level.radius_mm or 0.0
        style = (0.0, level.dashes) if level.dashes else "solid"
        axes.add_patch(
            Circle(
                (0.0, 0.0),
                radius,
                fill=False,
                edgecolor=level.colour,
                linewidth=1.7,
                linestyle=style,
                path_effects=outlined(3.0),
                zorder=5,
            )
        )
        # labels stacked in the free upper corner, each with a thin line to its circle
        label = np.array([side * _LABEL_X_MM, reach_mm - 5.0 - 4.0 * number])
        touch = radius * label / np.hypot(*label)
        axes.plot(
            [touch[0], label[0]],
            [touch[1], label[1]],
            color=level.colour,
            linewidth=0.8,
            path_effects=outlined(1.8),
            zorder=5,
        )
        axes.text(
            label[0] + side * 0.6,
            label[1],
            level.label,
            color=level.colour,
            fontsize=7.5,
            ha="left" if side > 0 else "right",
            va="center",
            zorder=10,
            path_effects=outlined(2.2),
        )


def _free_side(plane: Plane, plan: Plan) -> float:
    """Side of the picture, -1 left or 1 right, that neither needle nor nearest canal point takes."""
    source = np.array(plan.needles[0].source_lps_mm)
    hub = plane.project(np.array(plan.needles[0].axis_lps))[0]
    canal = plane.project(np.array(plan.canal.nearest_point_lps_mm) - source)[0] / 20.0
    return -1.0 if hub + canal > 0 else 1.0


def _draw_canal_points(axes: Axes, plane: Plane, plan: Plan, source_lps_mm: FloatArray) -> None:
    for point in plan.canal.points_lps_mm if plan.canal.method == "points" else ():
        x, y = plane.project(np.array(point) - source_lps_mm)
        axes.plot(
            x,
            y,
            marker="x",
            markersize=6,
            color=palette.CANAL_COLOUR,
            markeredgewidth=1.8,
            path_effects=outlined(3.4),
            zorder=7,
        )


def _draw_distance(axes: Axes, plane: Plane, plan: Plan, source_lps_mm: FloatArray, reach_mm: float) -> None:
    offset = np.array(plan.canal.nearest_point_lps_mm) - source_lps_mm
    x, y = plane.project(offset)
    out = plane.out_of_plane_mm(offset)
    in_plane = abs(out) <= _IN_PLANE_MM
    axes.plot(
        [0.0, x],
        [0.0, y],
        color=palette.NEAREST_COLOUR,
        linewidth=2.2,
        dashes=(None, None) if in_plane else (1.6, 1.2),
        path_effects=outlined(3.6),
        zorder=7,
    )
    axes.plot(x, y, marker="o", markersize=4.5, color=palette.NEAREST_COLOUR, markeredgecolor=_SHADE, zorder=8)
    if in_plane:
        axes.text(
            x + (1.2 if x >= 0 else -1.2),
            y - 1.2,
            f"{plan.canal.distance_from_source_mm:.1f} mm",
            color="white",
            fontsize=9,
            fontweight="bold",
            ha="left" if x >= 0 else "right",
            va="top",
            zorder=11,
            path_effects=outlined(2.4),
        )
    else:  # the projected line is shorter than the distance: no length beside it
        axes.text(
            reach_mm - 1.2,
            -reach_mm + 6.0,
            f"nearest canal point {abs(out):.1f} mm {_WORD[plane.side_of(offset)]} plane",
            color=_NOTE,
            fontsize=7.5,
            ha="right",
            va="bottom",
            zorder=11,
            path_effects=outlined(2.4),
        )
