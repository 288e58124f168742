"""Needles and other metal as bodies of analytic parts, for the independent renderer; nothing of `iort_planner.phantom` in it.

A body has a straight (or slightly bent) axis with a coordinate u along it from its distal end, and x, y across. Its parts
replace each other in order. A part is bounded along u and by an outer and an inner radius; a border's coverage of a small
cell is linear in the signed distance over the cell's size, which keeps the volume of straight walls however thin they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeAlias

import numpy as np

from iort_planner.units import FloatArray

# Radius at (u, polar angle about the axis), mm.
Radius: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]


class Stuff(IntEnum):
    """Materials that a body is made of; the number is the column of its share of a cell."""

    STEEL = 0
    TITANIUM = 1
    PLASTIC = 2
    VOID = 3
    CEMENT = 4
    DENSE = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One piece of a body.

    Parameters
    ----------
    stuff : Stuff
    low_mm, high_mm : float
        Along the axis.
    outer_mm : float or callable
    inner_mm : float
        0 for no bore.
    centre_mm : tuple of 2 float
        Of the part's own axis across the body's.
    slot_mm : float
        Only what is further than half of this from the plane x = 0; 0 for all of it (a screw's tulip, open for the rod).
    half_mm : tuple of 2 float or None
        A bar of these half widths in x and y in place of a round part.
    """

    stuff: Stuff
    low_mm: float
    high_mm: float
    outer_mm: float | Radius
    inner_mm: float = 0.0
    centre_mm: tuple[float, float] = (0.0, 0.0)
    slot_mm: float = 0.0
    half_mm: tuple[float, float] | None = None

    def cover(self, u: FloatArray, x: FloatArray, y: FloatArray, step_mm: float) -> FloatArray:
        """Share of cells of ``step_mm`` about points that the part fills, 0 to 1."""

        def ramp(inward: FloatArray) -> FloatArray:
            result: FloatArray = np.clip(0.5 + inward / np.float32(step_mm), 0.0, 1.0)
            return result

        x, y = x - np.float32(self.centre_mm[0]), y - np.float32(self.centre_mm[1])
        share = ramp(u - np.float32(self.low_mm)) * ramp(np.float32(self.high_mm) - u)
        if self.half_mm is not None:
            a, b = (np.float32(v) for v in self.half_mm)
            return share * ramp(a - np.abs(x)) * ramp(b - np.abs(y))
        r = np.hypot(x, y)
        outer = self.outer_mm(u, np.arctan2(y, x)) if callable(self.outer_mm) else np.float32(self.outer_mm)
        across = ramp(outer - r)
        if self.inner_mm > 0.0:
            across = across - np.minimum(ramp(np.float32(self.inner_mm) - r), across)
        if self.slot_mm > 0.0:
            across = across * ramp(np.abs(x) - np.float32(self.slot_mm / 2.0))
        return share * across


@dataclass(frozen=True, kw_only=True, eq=False)
class Body:
    """Parts about one axis.

    Parameters
    ----------
    parts : tuple of Part
        Later ones replace earlier ones.
    origin_lps_mm, axis_lps, across_lps : ndarray of shape (3,)
        Distal end, unit vector along u, unit vector along x.
    reach_mm : float
        Largest distance of any part from the axis.
    bow_per_mm : float
        Bend: the axis leaves its tangent at u = ``bow_from_mm`` along x by this times the square of the distance from there.
    bow_from_mm : float
    """

    parts: tuple[Part, ...]
    origin_lps_mm: FloatArray
    axis_lps: FloatArray
    across_lps: FloatArray
    reach_mm: float
    bow_per_mm: float = 0.0
    bow_from_mm: float = 0.0

    @property
    def span_mm(self) -> tuple[float, float]:
        """Where it begins and ends along u."""
        return min(p.low_mm for p in self.parts), max(p.high_mm for p in self.parts)

    def points_lps_mm(self, u: FloatArray) -> FloatArray:
        """Of the axis, (N,) -> (N, 3)."""
        result: FloatArray = self.origin_lps_mm + u[:, None] * self.axis_lps + self._bow(u)[:, None] * self.across_lps
        return result

    def local(self, offset_mm: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """u, x, y of offsets from the origin, (N, 3) float32."""
        frame = np.stack([self.axis_lps, self.across_lps, np.cross(self.axis_lps, self.across_lps)]).astype(np.float32)
        u, x, y = (offset_mm @ frame.T).T
        return u, x - self._bow(u).astype(np.float32), y

    def _bow(self, u: FloatArray) -> FloatArray:
        result: FloatArray = self.bow_per_mm * np.square(np.maximum(u - self.bow_from_mm, 0.0))
        return result


def body(parts: list[Part], origin: FloatArray, towards: FloatArray, reach_mm: float, turn_rad: float = 0.0) -> Body:
    """A straight body from its distal end through a second point; ``turn_rad`` turns it about its axis."""
    axis = np.asarray(towards, dtype=np.float64) - origin
    axis /= np.linalg.norm(axis)
    x = np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
    x /= np.linalg.norm(x)
    across = np.cos(turn_rad) * x + np.sin(turn_rad) * np.cross(axis, x)
    return Body(
        parts=tuple(parts),
        origin_lps_mm=np.asarray(origin, dtype=np.float64),
        axis_lps=axis,
        across_lps=across,
        reach_mm=reach_mm,
    )


def round_nose(radius_mm: float) -> Radius:
    """Half a ball at u = 0."""

    def outer(u: FloatArray, _angle: FloatArray) -> FloatArray:
        short = np.clip(radius_mm - u, 0.0, radius_mm)
        result: FloatArray = np.sqrt(radius_mm**2 - short * short)
        return result

    return outer


def ball(radius_mm: float) -> Radius:
    """A ball about u = 0."""

    def outer(u: FloatArray, _angle: FloatArray) -> FloatArray:
        result: FloatArray = np.sqrt(np.maximum(radius_mm**2 - u * u, 0.0))
        return result

    return outer


def cone(length_mm: float, radius_mm: float) -> Radius:
    """A point at u = 0 that widens over ``length_mm``."""

    def outer(u: FloatArray, _angle: FloatArray) -> FloatArray:
        result: FloatArray = radius_mm * np.clip(u / length_mm, 0.0, 1.0)
        return result

    return outer


def thread(core_mm: float, crest_mm: float, pitch_mm: float, cone_mm: float) -> Radius:
    """A helical ridge of triangular section on a core whose first ``cone_mm`` are a cone; radii."""

    def outer(u: FloatArray, angle: FloatArray) -> FloatArray:
        phase = u / pitch_mm - angle / (2.0 * np.pi)
        ridge = 2.0 * np.abs(phase - np.floor(phase) - 0.5)
        result: FloatArray = (core_mm + (crest_mm - core_mm) * ridge) * np.clip(0.15 + 0.85 * u / cone_mm, 0.15, 1.0)
        return result

    return outer


@dataclass(frozen=True, kw_only=True)
class Build:
    """What a needle is made like; lengths from its tip, mm.

    ``content`` is ``solid``, ``air``, ``probe`` or ``none`` (a cannula without a needle in it); ``cannula_mm`` the distal end
    of the guide cannula, None for none; ``dense_mm`` half the length of the probe's dense end; ``hub`` what hubs of needle and
    cannula are made of, None for none.
    """

    content: str
    radius_mm: float
    tip_mm: float
    source_mm: float
    length_mm: float
    wall_mm: float
    hollow_tip_mm: float
    probe_wall_mm: float
    probe_aside_mm: tuple[float, float]
    dense_mm: float
    cannula_mm: float | None
    cannula_inner_mm: float
    cannula_outer_mm: float
    cannula_length_mm: float
    hub: Stuff | None = None


PROBE_RADIUS_MM = 1.6  # probe of the miniature source: 3.2 mm (Dinsmore et al. 1996, Med Phys 23:45)
_CAP_MM = 1.2  # plastic before a hollow tip's bore: our own choice
HUB_MM = (7.0, 12.0)  # radius and length: our own choice


def needle(build: Build, tip_lps_mm: FloatArray, towards_lps_mm: FloatArray, turn_rad: float = 0.0) -> Body:
    """A needle applicator of any build, with its cannula."""
    r, end = build.radius_mm, build.length_mm
    parts: list[Part] = []
    if build.content != "none":
        parts.append(Part(stuff=Stuff.PLASTIC, low_mm=0.0, high_mm=build.tip_mm, outer_mm=round_nose(r)))
        if build.hollow_tip_mm > 0.0:
            bore = Part(stuff=Stuff.VOID, low_mm=_CAP_MM, high_mm=build.tip_mm, outer_mm=build.hollow_tip_mm)
            parts.append(bore)
        parts.append(Part(stuff=Stuff.STEEL, low_mm=build.tip_mm, high_mm=end, outer_mm=r))
    if build.content in ("air", "probe"):
        parts.append(Part(stuff=Stuff.VOID, low_mm=build.tip_mm, high_mm=end, outer_mm=r - build.wall_mm))
    if build.content == "probe":
        front, wall = build.source_mm - build.dense_mm, build.probe_wall_mm
        at = build.probe_aside_mm
        parts += [
            Part(stuff=Stuff.STEEL, low_mm=front, high_mm=end, outer_mm=PROBE_RADIUS_MM, centre_mm=at),
            Part(stuff=Stuff.VOID, low_mm=front + wall, high_mm=end, outer_mm=PROBE_RADIUS_MM - wall, centre_mm=at),
            Part(
                stuff=Stuff.DENSE,
                low_mm=front,
                high_mm=front + 2.0 * build.dense_mm,
                outer_mm=PROBE_RADIUS_MM,
                centre_mm=at,
            ),
        ]
    reach = r
    if build.cannula_mm is not None:
        tube = Part(
            stuff=Stuff.STEEL,
            low_mm=build.cannula_mm,
            high_mm=build.cannula_mm + build.cannula_length_mm,
            outer_mm=build.cannula_outer_mm / 2.0,
            inner_mm=build.cannula_inner_mm / 2.0,
        )
        if build.content == "none":  # the way to the tissue is open, and holds air
            parts.append(replace(tube, stuff=Stuff.VOID, outer_mm=tube.inner_mm, inner_mm=0.0))
        parts.append(tube)
        reach = build.cannula_outer_mm / 2.0
        if build.hub is not None:
            parts.append(
                replace(
                    tube,
                    stuff=build.hub,
                    low_mm=tube.high_mm,
                    high_mm=tube.high_mm + HUB_MM[1],
                    outer_mm=HUB_MM[0],
                )
            )
            reach = HUB_MM[0]
    if build.hub is not None and build.content != "none":
        parts.append(Part(stuff=build.hub, low_mm=end, high_mm=end + HUB_MM[1], outer_mm=HUB_MM[0]))
        reach = HUB_MM[0]
    return body(parts, tip_lps_mm, towards_lps_mm, reach, turn_rad)
