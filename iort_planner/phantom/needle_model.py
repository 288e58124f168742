"""The applicator in its guide cannula: where it is, and which part of each voxel is plastic, steel or empty."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq

from iort_planner.phantom.needle_build import NeedleBuild, shares

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.applicator import Applicator
    from iort_planner.imaging.volume import ImageGrid
    from iort_planner.units import FloatArray

_STEEP = 0.99  # of an axis along the patient's: 8 degrees, where "towards the head" is no direction across any more
_SUBSAMPLES = 5  # per axis: 125 points in a border voxel, a coverage step of 0.8 %
_FINE_MM = 0.2  # between samples where walls may be thin, at most: well below any scanner's blur


@dataclass(frozen=True, kw_only=True, eq=False)  # no slots: it keeps what it has worked out
class NeedlePose:
    """Applicator and cannula in the patient.

    The plastic tip is straight. From the distal end of the metal on, shaft and cannula follow an arc of a circle
    whose tangent there is the axis; "along" is then measured along the arc.

    Parameters
    ----------
    applicator : Applicator
        With a known outer diameter of the cannula.
    tip_lps_mm : ndarray of shape (3,), mm
    axis_lps : ndarray of shape (3,)
        Unit vector from the tip towards the hub.
    cannula_end_mm : float
        Distal end of the cannula, along the axis from the tip.
    bend_mm : float
        Sagitta of the arc over the shaft's whole length, from the metal's distal end to the hub; 0 is straight.
    build : NeedleBuild
        What it is made of.
    bend_turn_deg : float
        Which way it bends: 0 is across the axis as nearly as can be towards the patient's head (for an axis that runs
        within 8 degrees of that: to the left), increasing right-handed about the axis.
    """

    applicator: Applicator
    tip_lps_mm: FloatArray
    axis_lps: FloatArray
    cannula_end_mm: float
    bend_mm: float = 0.0
    bend_turn_deg: float = 0.0
    build: NeedleBuild = field(default_factory=NeedleBuild)

    @property
    def cannula_radius_mm(self) -> float:
        """Outer radius of the cannula."""
        outer = self.applicator.cannula_outer_diameter_mm
        assert outer is not None  # `read_spec` refuses an applicator without it
        return outer / 2.0

    @property
    def hub_mm(self) -> float:
        """Proximal end of whatever is longer, along the axis from the tip."""
        if not self.build.cannula:
            return self.applicator.length_mm
        return max(self.applicator.length_mm, self.cannula_end_mm + self.applicator.cannula_length_mm)

    @cached_property
    def across_lps(self) -> FloatArray:
        """Unit vector across the axis towards which the shaft bends, shape (3,)."""
        start = np.array([0.0, 0.0, 1.0]) if abs(self.axis_lps[2]) < _STEEP else np.array([1.0, 0.0, 0.0])
        first = start - (start @ self.axis_lps) * self.axis_lps
        first /= np.linalg.norm(first)
        turn = math.radians(self.bend_turn_deg)
        result: FloatArray = math.cos(turn) * first + math.sin(turn) * np.cross(self.axis_lps, first)
        return result

    @cached_property
    def radius_of_bend_mm(self) -> float:
        """Radius of the shaft's arc; infinite for a straight needle."""
        if self.bend_mm == 0.0:
            return math.inf
        length = self.applicator.length_mm - self.applicator.radiolucent_tip_length_mm

        def excess(half_angle: float) -> float:  # sagitta over length, (1 - cos x) / 2x, rises up to x = 2.3
            return (1.0 - math.cos(half_angle)) / (2.0 * half_angle) - self.bend_mm / length

        return length / (2.0 * float(brentq(excess, 1e-9, math.pi / 2.0)))

    def sagitta_mm(self, length_mm: float) -> float:
        """Largest distance of the first ``length_mm`` of the shaft, from the metal's end on, from its chord."""
        if self.bend_mm == 0.0:
            return 0.0
        return self.radius_of_bend_mm * (1.0 - math.cos(length_mm / (2.0 * self.radius_of_bend_mm)))

    def points_lps_mm(
        self, along: npt.ArrayLike, first: npt.ArrayLike = 0.0, second: npt.ArrayLike = 0.0
    ) -> FloatArray:
        """Patient points from the distance along the centre line and two across it; (...) -> (..., 3), mm.

        ``first`` is measured in the plane of the bend, against `across_lps`, ``second`` at right angles to it.
        """
        along, one, two = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (along, first, second)))
        beyond = np.maximum(along - self.applicator.radiolucent_tip_length_mm, 0.0)
        straight = along - beyond
        angle = beyond / self.radius_of_bend_mm
        # sin x / x and (1 - cos x) / x, so that a straight needle needs no case of its own
        forwards = straight + beyond * np.sinc(angle / np.pi)
        sideways = beyond * np.sin(angle / 2.0) * np.sinc(angle / (2.0 * np.pi))
        normal = np.cross(self.axis_lps, self.across_lps)
        result: FloatArray = (
            self.tip_lps_mm
            + (forwards - one * np.sin(angle))[..., None] * self.axis_lps
            + (sideways + one * np.cos(angle))[..., None] * self.across_lps
            + two[..., None] * normal
        )
        return result

    def cylinder_coordinates(self, points_lps_mm: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Distance along the centre line from the tip, and from it; (..., 3) -> two of (...), mm."""
        offset = np.asarray(points_lps_mm, dtype=np.float64) - self.tip_lps_mm
        along = offset @ self.axis_lps
        radial: FloatArray = np.sqrt(np.maximum(np.sum(offset * offset, axis=-1) - along * along, 0.0))
        if self.bend_mm == 0.0:
            return along, radial
        metal, bend = self.applicator.radiolucent_tip_length_mm, self.radius_of_bend_mm
        in_plane = offset @ self.across_lps
        aside = np.sqrt(np.maximum(radial * radial - in_plane * in_plane, 0.0))
        forwards = along - metal
        angle = np.arctan2(forwards, bend - in_plane)
        around = np.hypot(bend - np.hypot(forwards, bend - in_plane), aside)
        beyond = forwards > 0.0
        return np.where(beyond, metal + bend * angle, along), np.where(beyond, around, radial)

    def is_plastic(self, along: FloatArray, radial: FloatArray) -> npt.NDArray[np.bool_]:
        """The radiolucent part: half ball of the outer radius, then a cylinder up to the metal."""
        r = self.applicator.outer_radius_mm
        inside: npt.NDArray[np.bool_] = (along < self.applicator.radiolucent_tip_length_mm) & (
            np.hypot(np.minimum(along - r, 0.0), radial) < r
        )
        return inside

    def is_steel(self, along: FloatArray, radial: FloatArray) -> npt.NDArray[np.bool_]:
        """Shaft and cannula of a needle without a bore."""
        a, start = self.applicator, self.cannula_end_mm
        shaft: npt.NDArray[np.bool_] = (
            (along >= a.radiolucent_tip_length_mm) & (along < a.length_mm) & (radial < a.outer_radius_mm)
        )
        if not self.build.cannula:
            return shaft
        cannula = (along >= start) & (along < start + a.cannula_length_mm)
        inside: npt.NDArray[np.bool_] = shaft | (
            cannula & (radial >= a.cannula_inner_diameter_mm / 2.0) & (radial < self.cannula_radius_mm)
        )
        return inside


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coverage:
    """What part of each voxel of a box the needle fills, by material; [k, j, i], 0-1.

    Parameters
    ----------
    box : tuple of 3 slice
        The box in the image's [k, j, i] array.
    plastic, steel, air : ndarray of shape (nk, nj, ni), float32
        ``air`` is also what is evacuated.
    steel_depth, air_depth : ndarray of the same shape, or None
        `iort_planner.phantom.needle_build.Shares`; None unless asked for.
    """

    box: tuple[slice, slice, slice]
    plastic: npt.NDArray[np.float32]
    steel: npt.NDArray[np.float32]
    air: npt.NDArray[np.float32]
    steel_depth: npt.NDArray[np.float32] | None = None
    air_depth: npt.NDArray[np.float32] | None = None


def subsample_shifts(grid: ImageGrid, counts: tuple[int, int, int] = (_SUBSAMPLES,) * 3) -> FloatArray:
    """Where the samples of a border voxel lie, from its centre; shape (product of ``counts``, 3), LPS mm."""
    offsets = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
    steps = np.stack(np.meshgrid(*offsets, indexing="ij"), axis=-1).reshape(-1, 3)
    return grid.index_to_lps(steps) - grid.origin_lps_mm


def coverage(pose: NeedlePose, grid: ImageGrid, *, depth: bool = False) -> Coverage:
    """Volume fractions of a needle's materials in each voxel of a box round it; ``depth`` asks for those of beam hardening."""
    ends = pose.points_lps_mm(np.linspace(0.0, pose.hub_mm, 2 if pose.bend_mm == 0.0 else 200))
    low, high = grid.box_around(ends, pose.cannula_radius_mm + float(grid.spacing_mm.max()))
    box = (slice(low[2], high[2]), slice(low[1], high[1]), slice(low[0], high[0]))
    part = grid.crop(low, high)
    centres = part.voxel_centres_lps_mm().reshape(-1, 3)
    along, radial = pose.cylinder_coordinates(centres)
    reach = float(np.linalg.norm(grid.spacing_mm)) / 2.0
    near = np.flatnonzero((radial < pose.cannula_radius_mm + reach) & (along > -reach) & (along < pose.hub_mm + reach))
    names = ["plastic", "steel", "air", *(("steel_depth", "air_depth") if depth else ())]
    filled = {name: np.zeros(len(centres), np.float32) for name in names}
    if pose.build.parts != "none" and near.size:
        plain = pose.build.plain and not depth
        found = _yes_or_no(pose, grid, centres[near]) if plain else _by_shares(pose, grid, centres[near], names)
        for name, values in found.items():
            filled[name][near] = values
    return Coverage(box=box, **{name: values.reshape(part.shape) for name, values in filled.items()})


def _yes_or_no(pose: NeedlePose, grid: ImageGrid, centres: FloatArray) -> dict[str, npt.NDArray[np.float32]]:
    """Of a needle without a bore: each of 125 samples lies in plastic, in steel, or in neither."""
    shifts = subsample_shifts(grid)
    plastic, steel = np.zeros(len(centres), np.float32), np.zeros(len(centres), np.float32)
    for shift in shifts:
        along, radial = pose.cylinder_coordinates(centres + shift)
        plastic += pose.is_plastic(along, radial)
        steel += pose.is_steel(along, radial)
    return {"plastic": plastic / np.float32(len(shifts)), "steel": steel / np.float32(len(shifts))}


def _by_shares(
    pose: NeedlePose, grid: ImageGrid, centres: FloatArray, names: list[str]
) -> dict[str, npt.NDArray[np.float32]]:
    """Of any needle: samples `_FINE_MM` apart or nearer, each with its share of every part (`needle_build`)."""
    i, j, k = (max(2, math.ceil(spacing / _FINE_MM)) for spacing in grid.spacing_mm)
    shifts = subsample_shifts(grid, (i, j, k))
    # a cell's extent in a direction: that of the flat layer with the same variance of depth
    sides = grid.direction * (grid.spacing_mm / np.array([i, j, k]))
    cell_along = float(np.linalg.norm(pose.axis_lps @ sides))
    squares = sides @ sides.T
    across = centres - pose.tip_lps_mm
    across -= (across @ pose.axis_lps)[:, None] * pose.axis_lps
    across /= np.maximum(np.linalg.norm(across, axis=1), 1e-9)[:, None]
    cell_across = np.maximum(np.sqrt(np.einsum("na,ab,nb->n", across, squares, across)), 1e-3)
    total = {name: np.zeros(len(centres)) for name in names}
    for shift in shifts:
        along, radial = pose.cylinder_coordinates(centres + shift)
        found = shares(pose.build, pose.applicator, pose.cannula_end_mm, along, radial, (cell_along, cell_across))
        for name in names:
            total[name] += getattr(found, name)
    return {name: (values / len(shifts)).astype(np.float32) for name, values in total.items()}
