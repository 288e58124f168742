"""Metal and carbon that is not the needle: screws, rods, rails and markers as signed distances, and their voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from iort_planner.phantom.needle_model import subsample_shifts

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
_STEEL_EQUIVALENT = {"steel": 1.0, "titanium": 0.38, "carbon": 0.0}


class Solid(Protocol):
    """A convex body in the patient."""

    def signed_distance_mm(self, points_lps_mm: FloatArray) -> FloatArray:
        """Distance to the surface, negative inside: its size never more than the true one; (..., 3) -> (...) mm."""

    def box_lps_mm(self) -> tuple[FloatArray, float]:
        """Points and a margin round them that hold the body."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frustum:
    """A cylinder or cut cone with flat ends.

    Parameters
    ----------
    start_lps_mm, end_lps_mm : ndarray of shape (3,), mm
        Centres of the two ends.
    radius_mm, end_radius_mm : float
        Radii there.
    """

    start_lps_mm: FloatArray
    end_lps_mm: FloatArray
    radius_mm: float
    end_radius_mm: float

    def signed_distance_mm(self, points_lps_mm: FloatArray) -> FloatArray:
        """Distance to the nearest of side and ends, each as if it went on for ever."""
        length = float(np.linalg.norm(self.end_lps_mm - self.start_lps_mm))
        axis = (self.end_lps_mm - self.start_lps_mm) / length
        offset = points_lps_mm - self.start_lps_mm
        along = offset @ axis
        radial = np.sqrt(np.maximum(np.sum(offset * offset, axis=-1) - along * along, 0.0))
        slope = (self.end_radius_mm - self.radius_mm) / length
        side = (radial - self.radius_mm - slope * along) / math.hypot(1.0, slope)
        result: FloatArray = np.maximum(side, np.maximum(-along, along - length))
        return result

    def box_lps_mm(self) -> tuple[FloatArray, float]:
        """Both ends, with the larger radius."""
        return np.stack([self.start_lps_mm, self.end_lps_mm]), max(self.radius_mm, self.end_radius_mm)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ball:
    """A ball.

    Parameters
    ----------
    centre_lps_mm : ndarray of shape (3,), mm
    radius_mm : float
    """

    centre_lps_mm: FloatArray
    radius_mm: float

    def signed_distance_mm(self, points_lps_mm: FloatArray) -> FloatArray:
        """Exact distance."""
        result: FloatArray = np.linalg.norm(points_lps_mm - self.centre_lps_mm, axis=-1) - self.radius_mm
        return result

    def box_lps_mm(self) -> tuple[FloatArray, float]:
        """Its centre, with its radius."""
        return self.centre_lps_mm[None], self.radius_mm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Implant:
    """One screw, rod, rail or marker.

    Parameters
    ----------
    kind : str
        ``screw``, ``rod``, ``rail`` or ``marker``.
    material : str
        ``titanium``, ``carbon`` or ``steel``.
    solids : tuple of Solid
        Its parts; they touch and do not overlap.
    """

    kind: str
    material: str
    solids: tuple[Solid, ...]

    def hu(self, hu: HuSpec) -> float:
        """Its nominal HU."""
        return float(getattr(hu, self.material))

    @property
    def steel_equivalent(self) -> float:
        """How much steel attenuates as much as the same volume of this; 0 where it makes no streaks."""
        return _STEEL_EQUIVALENT[self.material]


def implants_of(spec: PhantomSpec, frame: SpineFrame) -> tuple[Implant, ...]:
    """All that a specification puts into the patient or beside it, in the order in which it is painted."""
    found = [Implant(kind="screw", material=screw.material, solids=_screw(screw, frame)) for screw in spec.screws]
    for rod in spec.rods:
        ends = frame.to_lps(rod.start_mm), frame.to_lps(rod.end_mm)
        found.append(Implant(kind="rod", material=rod.material, solids=(_cylinder(*ends, rod.diameter_mm),)))
    for rail in spec.rails:
        ends = frame.origin_lps_mm + rail.start_offset_mm, frame.origin_lps_mm + rail.end_offset_mm
        found.append(Implant(kind="rail", material=rail.material, solids=(_cylinder(*ends, rail.diameter_mm),)))
    for marker in spec.markers:
        ball = Ball(centre_lps_mm=frame.to_lps(marker.centre_mm), radius_mm=marker.radius_mm)
        found.append(Implant(kind="marker", material=marker.material, solids=(ball,)))
    return tuple(found)


def _cylinder(start: FloatArray, end: FloatArray, diameter_mm: float) -> Frustum:
    return Frustum(start_lps_mm=start, end_lps_mm=end, radius_mm=diameter_mm / 2.0, end_radius_mm=diameter_mm / 2.0)


def _screw(screw: ScrewSpec, frame: SpineFrame) -> tuple[Solid, ...]:
    """A cone as long as the shaft is thick (our own choice), the shaft without its thread, and the head."""
    tip, through = frame.to_lps(screw.tip_mm), frame.to_lps(screw.through_mm)
    axis = (through - tip) / np.linalg.norm(through - tip)
    shoulder, neck = tip + screw.diameter_mm * axis, tip + screw.length_mm * axis
    return (
        Frustum(start_lps_mm=tip, end_lps_mm=shoulder, radius_mm=0.0, end_radius_mm=screw.diameter_mm / 2.0),
        _cylinder(shoulder, neck, screw.diameter_mm),
        _cylinder(neck, neck + screw.head_length_mm * axis, screw.head_diameter_mm),
    )


def coverage(implant: Implant, grid: ImageGrid) -> tuple[Box, npt.NDArray[np.float32]]:
    """Volume fraction of an implant in each voxel of a box round it.

    Returns
    -------
    tuple
        The box as slices of a [k, j, i] array, and the fraction (0-1).
    """
    parts = [solid.box_lps_mm() for solid in implant.solids]
    margin = max(m for _, m in parts) + float(grid.spacing_mm.max())
    low, high = grid.box_around(np.concatenate([points for points, _ in parts]), margin)
    box = (slice(low[2], high[2]), slice(low[1], high[1]), slice(low[0], high[0]))
    filled = np.zeros(tuple(s.stop - s.start for s in box), np.float32)
    for first in range(low[2], high[2], _SLAB):
        last = min(first + _SLAB, high[2])
        centres = grid.crop((*low[:2], first), (*high[:2], last)).voxel_centres_lps_mm().reshape(-1, 3)
        total = sum(_filled(solid, centres, grid) for solid in implant.solids)
        filled[first - low[2] : last - low[2]] = np.minimum(total, 1.0).reshape(-1, *filled.shape[1:])
    return box, filled


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
