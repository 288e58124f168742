"""K-wires, clips, retractor blades, monitoring needles and trocars, as parts that `hardware` paints.

All shapes are our own choice: pointed ends taper over twice the diameter, a blade is a flat block, a clip a short bar, a
trocar a tube (with a bevel left out) or, with its stylet, a pointed bar. Cement is three balls that run together ahead of a
trocar's end. No handle or hub is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from iort_planner.phantom.solids import Ball, Blob, Block, Frustum, Tube, cylinder

if TYPE_CHECKING:
    from iort_planner.phantom.frame import SpineFrame
    from iort_planner.phantom.solids import Solid
    from iort_planner.phantom.spec_model import DeviceSpec
    from iort_planner.units import FloatArray

_TAPER = 2.0  # length of a pointed end over the diameter
# The cement's balls: centre along the trocar's axis and across it, radius; in radii of the blob.
_BALLS = ((-0.5, 0.0, 0.0, 1.0), (-0.9, 0.7, 0.2, 0.7), (-0.3, -0.5, 0.6, 0.7))


def device_parts(device: DeviceSpec, frame: SpineFrame) -> list[dict[str, Any]]:
    """What a device is made of: the fields of one `Implant` a part, in the order in which they are painted."""
    ends: FloatArray = frame.to_lps([device.start_mm, device.end_mm])
    axis = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    parts: list[dict[str, Any]] = []
    if device.cement_mm > 0.0:
        blob = _cement(ends[0], axis, frame.rotation[:, 2], device.cement_mm)
        parts.append(
            {
                "kind": "cement",
                "material": "cement",
                "solids": (blob,),
                "ends_lps_mm": np.stack([blob.balls[0].centre_lps_mm] * 2),
                "cement_hu": device.cement_hu,
            }
        )
    bore: tuple[Solid, ...] = ()
    solids: tuple[Solid, ...]
    if device.kind == "retractor":
        solids = (_blade(device, ends, axis, frame.rotation[:, 2]),)
    elif device.kind == "clip":
        solids = (cylinder(ends[0], ends[1], device.diameter_mm),)
    elif device.wall_mm > 0.0:
        inner = cylinder(ends[0], ends[1], device.diameter_mm - 2.0 * device.wall_mm)
        solids, bore = (Tube(outer=cylinder(ends[0], ends[1], device.diameter_mm), bore=inner),), (inner,)
    else:
        solids = _pointed(ends, axis, device.diameter_mm)
    return [
        *parts,
        {"kind": device.kind, "material": device.material, "solids": solids, "bore": bore, "ends_lps_mm": ends},
    ]


def _across(axis: FloatArray, direction: FloatArray) -> FloatArray:
    """Unit vector across the axis, as near to a direction as can be; where that is the axis, any."""
    for each in (direction, np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])):
        left = each - (each @ axis) * axis
        length = float(np.linalg.norm(left))
        if length > 0.1:
            result: FloatArray = left / length
            return result
    raise AssertionError("three directions cannot all lie along one axis")


def _pointed(ends: FloatArray, axis: FloatArray, diameter_mm: float) -> tuple[Solid, ...]:
    taper = min(_TAPER * diameter_mm, 0.5 * float(np.linalg.norm(ends[1] - ends[0])))
    shoulder = ends[0] + taper * axis
    return (
        Frustum(start_lps_mm=ends[0], end_lps_mm=shoulder, radius_mm=0.0, end_radius_mm=diameter_mm / 2.0),
        cylinder(shoulder, ends[1], diameter_mm),
    )


def _blade(device: DeviceSpec, ends: FloatArray, axis: FloatArray, cranial: FloatArray) -> Block:
    width = _across(axis, cranial)
    half = np.array([float(np.linalg.norm(ends[1] - ends[0])), device.width_mm, device.diameter_mm]) / 2.0
    return Block(
        centre_lps_mm=ends.mean(axis=0), directions=np.stack([axis, width, np.cross(axis, width)]), half_mm=half
    )


def _cement(end: FloatArray, axis: FloatArray, cranial: FloatArray, radius_mm: float) -> Blob:
    one = _across(axis, cranial)
    two = np.cross(axis, one)
    return Blob(
        balls=tuple(
            Ball(centre_lps_mm=end + radius_mm * (a * axis + b * one + c * two), radius_mm=r * radius_mm)
            for a, b, c, r in _BALLS
        )
    )
