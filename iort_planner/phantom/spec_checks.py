"""Limits that hold between the keys of a phantom's specification."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from iort_planner.errors import PhantomError

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator
    from iort_planner.phantom.spec_model import DeviceSpec, NeedleSpec, PhantomSpec, ScrewSpec


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
    for name, item in axes[: 1 + len(spec.extra_needles)]:
        _check_build(f"{where}: {name}", cast("NeedleSpec", item), spec.applicator)
    ends = [(f"rod {n}: start_mm and end_mm", rod.start_mm, rod.end_mm) for n, rod in enumerate(spec.rods, start=1)]
    ends += [
        (f"rail {n}: start_offset_mm and end_offset_mm", rail.start_offset_mm, rail.end_offset_mm)
        for n, rail in enumerate(spec.rails, start=1)
    ]
    ends += [(f"device {n}: start_mm and end_mm", d.start_mm, d.end_mm) for n, d in enumerate(spec.devices, start=1)]
    for name, start, end in ends:
        if math.dist(start, end) < 2.0:
            raise PhantomError(f"{where}: {name} must lie 2 mm or more apart")
    for n, device in enumerate(spec.devices, start=1):
        _check_device(f"{where}: device {n}", device)
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


def _check_build(where: str, needle: NeedleSpec, applicator: Applicator) -> None:
    """The probe must fit into the sheath, its walls into it, and what is named must be there."""
    if needle.parts == "cannula" and not needle.cannula:
        raise PhantomError(f"{where}cannula = false leaves nothing of parts = 'cannula'; use parts = 'none'")
    if needle.parts == "cannula" and needle.content == "probe":
        raise PhantomError(f"{where}content = 'probe' needs the needle; a cannula alone holds 'air' or is 'solid'")
    if needle.parts != "needle" or needle.content != "probe":
        return
    bore = applicator.outer_diameter_mm - 2.0 * needle.wall_mm
    if needle.probe_diameter_mm > bore + 1e-9:
        raise PhantomError(
            f"{where}probe_diameter_mm = {needle.probe_diameter_mm:g} does not fit into the bore of {bore:g} mm that "
            f"wall_mm = {needle.wall_mm:g} leaves"
        )


def _check_device(where: str, device: DeviceSpec) -> None:
    """Only a trocar is hollow or has cement, only a retractor a width."""
    if device.kind != "trocar" and (device.wall_mm or device.cement_mm):
        raise PhantomError(f"{where}: wall_mm and cement_mm are of a trocar, not of kind = {device.kind!r}")
    if not device.wall_mm < device.diameter_mm / 2.0:
        raise PhantomError(
            f"{where}: wall_mm = {device.wall_mm:g} must be less than half of diameter_mm = {device.diameter_mm:g}"
        )
    if (device.kind == "retractor") != (device.width_mm > 0.0):
        raise PhantomError(f"{where}: width_mm must be above 0 for a retractor and is of no other kind")


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
