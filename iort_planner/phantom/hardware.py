"""Metal and carbon that is not the needle: screws, rods, rails, markers and devices, and their voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from iort_planner.phantom.devices import device_parts
from iort_planner.phantom.needle_build import cupping
from iort_planner.phantom.needle_model import subsample_shifts
from iort_planner.phantom.solids import Ball, Frustum, Solid, cylinder

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.imaging.volume import ImageGrid
    from iort_planner.phantom.frame import SpineFrame
    from iort_planner.phantom.spec_model import HuSpec, PhantomSpec, ScrewSpec
    from iort_planner.units import FloatArray

Box: TypeAlias = tuple[slice, slice, slice]
_SLAB = 8  # slices worked on at once: bounds the memory that a long oblique rail takes

# Attenuation of Ti-6Al-4V (4.43 g/cm3, as titanium) over that of steel (7.9 g/cm3, as iron), mean over the streak
# model's three energies, which lie between 0.36 and 0.41 (NIST XCOM tables, Hubbell and Seltzer 1996).
# Those of cement are left out.
_STEEL_EQUIVALENT = {"steel": 1.0, "titanium": 0.38, "carbon": 0.0, "cement": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Implant:
    """One screw, rod, rail, marker or part of a device.

    Parameters
    ----------
    kind : str
        ``screw``, ``rod``, ``rail``, ``marker``, ``cement``, or the kind of a device.
    material : str
        ``titanium``, ``carbon``, ``steel`` or ``cement``.
    solids : tuple of Solid
        Its parts; they touch and do not overlap.
    ends_lps_mm : ndarray of shape (2, 3), mm
        Of its axis, the distal end first; of a ball its centre, twice.
    bore : tuple of Solid
        What is empty in it.
    cement_hu : float
    """

    kind: str
    material: str
    solids: tuple[Solid, ...]
    ends_lps_mm: FloatArray
    bore: tuple[Solid, ...] = ()
    cement_hu: float = 0.0

    def value_hu(self, hu: HuSpec) -> float:
        """Its nominal HU."""
        return self.cement_hu if self.material == "cement" else float(getattr(hu, self.material))

    @property
    def steel_equivalent(self) -> float:
        """How much steel attenuates as much as the same volume of this; 0 where it makes no streaks."""
        return _STEEL_EQUIVALENT[self.material]


def implants_of(spec: PhantomSpec, frame: SpineFrame) -> tuple[Implant, ...]:
    """All that a specification puts into the patient or beside it, in the order in which it is painted."""
    found = [_screw(screw, frame) for screw in spec.screws]
    found += [
        _straight("rod", rod.material, frame.to_lps([rod.start_mm, rod.end_mm]), rod.diameter_mm) for rod in spec.rods
    ]
    for rail in spec.rails:
        ends = frame.origin_lps_mm + np.array([rail.start_offset_mm, rail.end_offset_mm])
        found.append(_straight("rail", rail.material, ends, rail.diameter_mm))
    for marker in spec.markers:
        centre = frame.to_lps(marker.centre_mm)
        ball = Ball(centre_lps_mm=centre, radius_mm=marker.radius_mm)
        found.append(
            Implant(kind="marker", material=marker.material, solids=(ball,), ends_lps_mm=np.stack([centre, centre]))
        )
    for device in spec.devices:
        found += [Implant(**part) for part in device_parts(device, frame)]
    return tuple(found)


def _straight(kind: str, material: str, ends: FloatArray, diameter_mm: float) -> Implant:
    return Implant(kind=kind, material=material, solids=(cylinder(ends[0], ends[1], diameter_mm),), ends_lps_mm=ends)


def _screw(screw: ScrewSpec, frame: SpineFrame) -> Implant:
    """A cone as long as the shaft is thick (our own choice), the shaft without its thread, and the head."""
    tip, through = frame.to_lps(screw.tip_mm), frame.to_lps(screw.through_mm)
    axis = (through - tip) / np.linalg.norm(through - tip)
    shoulder, neck = tip + screw.diameter_mm * axis, tip + screw.length_mm * axis
    end = neck + screw.head_length_mm * axis
    parts = (
        Frustum(start_lps_mm=tip, end_lps_mm=shoulder, radius_mm=0.0, end_radius_mm=screw.diameter_mm / 2.0),
        cylinder(shoulder, neck, screw.diameter_mm),
        cylinder(neck, end, screw.head_diameter_mm),
    )
    return Implant(kind="screw", material=screw.material, solids=parts, ends_lps_mm=np.stack([tip, end]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Filled:
    """Volume fractions (0-1) of an implant in each voxel of a box round it, [k, j, i].

    Parameters
    ----------
    box : tuple of 3 slice
        The box in the image's [k, j, i] array.
    solid, bore : ndarray of shape (nk, nj, ni), float32
    depth : ndarray of the same shape, or None
        `iort_planner.phantom.needle_build.cupping` of the depth inside it, as steel of the same attenuation; None unless
        asked for.
    """

    box: Box
    solid: npt.NDArray[np.float32]
    bore: npt.NDArray[np.float32]
    depth: npt.NDArray[np.float32] | None = None


def coverage(implant: Implant, grid: ImageGrid, *, depth: bool = False) -> Filled:
    """Volume fraction of an implant in each voxel of a box round it; ``depth`` asks for what beam hardening takes."""
    parts = [solid.box_lps_mm() for solid in implant.solids]
    margin = max(m for _, m in parts) + float(grid.spacing_mm.max())
    low, high = grid.box_around(np.concatenate([points for points, _ in parts]), margin)
    box = (slice(low[2], high[2]), slice(low[1], high[1]), slice(low[0], high[0]))
    shape = (high[2] - low[2], high[1] - low[1], high[0] - low[0])
    solid, bore = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    deep = np.zeros(shape, np.float32) if depth else None
    for first in range(low[2], high[2], _SLAB):
        last = min(first + _SLAB, high[2])
        centres = grid.crop((*low[:2], first), (*high[:2], last)).voxel_centres_lps_mm().reshape(-1, 3)
        part, slab = slice(first - low[2], last - low[2]), (last - first, *shape[1:])
        for values, solids in ((solid, implant.solids), (bore, implant.bore)):
            if solids:
                total = sum(_filled(each, centres, grid) for each in solids)
                values[part] = np.minimum(total, 1.0).reshape(slab)
        if deep is not None:
            inside = np.max([-each.signed_distance_mm(centres) for each in implant.solids], axis=0)
            deep[part] = cupping(inside * implant.steel_equivalent).reshape(slab)
    return Filled(box=box, solid=solid, bore=bore, depth=deep)


def _filled(solid: Solid, centres: FloatArray, grid: ImageGrid) -> FloatArray:
    """Part of the voxels round ``centres`` that a solid fills; only those that its surface may cut are sampled."""
    distance = solid.signed_distance_mm(centres)
    reach = float(np.linalg.norm(grid.spacing_mm)) / 2.0
    result = (distance < 0.0).astype(np.float64)
    border = np.flatnonzero(np.abs(distance) < reach)
    shifts = subsample_shifts(grid)
    count = np.zeros(border.size)
    for shift in shifts:
        count += solid.signed_distance_mm(centres[border] + shift) < 0.0
    result[border] = count / len(shifts)
    return result
