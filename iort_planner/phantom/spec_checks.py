"""Limits that hold between the keys of a phantom's specification."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from iort_planner.errors import PhantomError

if TYPE_CHECKING:
    from iort_planner.phantom.spec_model import NeedleSpec, PhantomSpec, ScrewSpec


def check_together(where: str, spec: PhantomSpec) -> None:
    """Refuse a specification whose keys contradict each other; ``where`` names the file.

    Raises
    ------
    PhantomError
    """
    canal, needle = spec.canal, spec.needle
    for inner, outer in (("sac_", ""), ("cord_", "sac_")):
        for side in ("width_mm", "depth_mm"):
            a, b = getattr(canal, inner + side), getattr(canal, outer + side)
            if not a < b:
                raise PhantomError(
                    f"{where}: canal.{inner}{side} = {a:g} must be less than canal.{outer}{side} = {b:g}"
                )
    if (canal.cord_width_mm, canal.cord_depth_mm) != (0.0, 0.0) and min(canal.cord_width_mm, canal.cord_depth_mm) < 4.0:
        raise PhantomError(
            f"{where}: canal.cord_width_mm and canal.cord_depth_mm must be 4 or more, or both 0 (no cord)"
        )
    _check_curve(where, spec)
    axes: list[tuple[str, NeedleSpec | ScrewSpec]] = [("needle.", needle)]
    axes += [(f"needle_extra {n}.", extra) for n, extra in enumerate(spec.extra_needles, start=1)]
    axes += [(f"screw {n}.", screw) for n, screw in enumerate(spec.screws, start=1)]
    for name, item in axes:
        if math.dist(item.tip_mm, item.through_mm) < 5.0:
            raise PhantomError(
                f"{where}: {name}tip_mm and {name}through_mm must lie 5 mm or more apart: they give the axis"
            )
    ends = [(f"rod {n}: start_mm and end_mm", rod.start_mm, rod.end_mm) for n, rod in enumerate(spec.rods, start=1)]
    ends += [
        (f"rail {n}: start_offset_mm and end_offset_mm", rail.start_offset_mm, rail.end_offset_mm)
        for n, rail in enumerate(spec.rails, start=1)
    ]
    for name, start, end in ends:
        if math.dist(start, end) < 2.0:
            raise PhantomError(f"{where}: {name} must lie 2 mm or more apart")
    for n, screw in enumerate(spec.screws, start=1):
        if screw.head_diameter_mm < screw.diameter_mm:
            raise PhantomError(
                f"{where}: screw {n}.head_diameter_mm = {screw.head_diameter_mm:g} must be diameter_mm = "
                f"{screw.diameter_mm:g} or more"
            )
    if spec.applicator.cannula_outer_diameter_mm is None:
        raise PhantomError(
            f"{where}: applicator {spec.applicator.name!r} has no cannula_outer_diameter_mm; the phantom draws the cannula"
        )


def _check_curve(where: str, spec: PhantomSpec) -> None:
    """No part of the trunk may reach the curve's centre: there the model would fold."""
    radius, plane, width = spec.spine.kyphosis_radius_mm, spec.spine.bend_plane_deg, spec.body.width_mm
    if -150.0 < radius < 220.0:
        raise PhantomError(
            f"{where}: spine.kyphosis_radius_mm = {radius:g} must be 220 or more (kyphosis) or -150 or less (lordosis)"
        )
    aside = abs(math.sin(math.radians(plane))) * width / 2.0
    if abs(radius) < aside + 20.0:
        raise PhantomError(
            f"{where}: spine.bend_plane_deg = {plane:g} puts the centre of kyphosis_radius_mm = {radius:g} into the "
            f"trunk of body.width_mm = {width:g}; use a larger radius"
        )
