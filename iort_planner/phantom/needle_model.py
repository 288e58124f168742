"""The applicator in its guide cannula: which part of each voxel is plastic and which is steel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.applicator import Applicator
    from iort_planner.imaging.volume import ImageGrid
    from iort_planner.units import FloatArray

_SUBSAMPLES = 5  # per axis: 125 points in a border voxel, a coverage step of 0.8 %


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NeedlePose:
    """Applicator and cannula in the patient.

    Parameters
    ----------
    applicator : Applicator
        With a known outer diameter of the cannula.
    tip_lps_mm : ndarray of shape (3,), mm
    axis_lps : ndarray of shape (3,)
        Unit vector from the tip towards the hub.
    cannula_end_mm : float
        Distal end of the cannula, along the axis from the tip.
    """

    applicator: Applicator
    tip_lps_mm: FloatArray
    axis_lps: FloatArray
    cannula_end_mm: float

    @property
    def cannula_radius_mm(self) -> float:
        """Outer radius of the cannula."""
        outer = self.applicator.cannula_outer_diameter_mm
        assert outer is not None  # `read_spec` refuses an applicator without it
        return outer / 2.0

    @property
    def hub_mm(self) -> float:
        """Proximal end of whatever is longer, along the axis from the tip."""
        return max(self.applicator.length_mm, self.cannula_end_mm + self.applicator.cannula_length_mm)

    def cylinder_coordinates(self, points_lps_mm: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Distance along the axis from the tip, and from the axis; (..., 3) -> two of (...), mm."""
        offset = np.asarray(points_lps_mm, dtype=np.float64) - self.tip_lps_mm
        along = offset @ self.axis_lps
        radial: FloatArray = np.sqrt(np.maximum(np.sum(offset * offset, axis=-1) - along * along, 0.0))
        return along, radial

    def is_plastic(self, along: FloatArray, radial: FloatArray) -> npt.NDArray[np.bool_]:
        """The radiolucent part: half ball of the outer radius, then a cylinder up to the metal."""
        r = self.applicator.outer_radius_mm
        inside: npt.NDArray[np.bool_] = (along < self.applicator.radiolucent_tip_length_mm) & (
            np.hypot(np.minimum(along - r, 0.0), radial) < r
        )
        return inside

    def is_steel(self, along: FloatArray, radial: FloatArray) -> npt.NDArray[np.bool_]:
        """Shaft and cannula."""
        a, start = self.applicator, self.cannula_end_mm
        shaft = (along >= a.radiolucent_tip_length_mm) & (along < a.length_mm) & (radial < a.outer_radius_mm)
        cannula = (along >= start) & (along < start + a.cannula_length_mm)
        inside: npt.NDArray[np.bool_] = shaft | (
            cannula & (radial >= a.cannula_inner_diameter_mm / 2.0) & (radial < self.cannula_radius_mm)
        )
        return inside


def coverage(
    pose: NeedlePose, grid: ImageGrid
) -> tuple[tuple[slice, slice, slice], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Volume fractions of plastic and steel in each voxel of a box round the needle.

    Returns
    -------
    tuple
        The box as slices of a [k, j, i] array, and the two fractions (0-1) in that box.
    """
    ends = pose.tip_lps_mm + np.array([[0.0], [pose.hub_mm]]) * pose.axis_lps
    low, high = grid.box_around(ends, pose.cannula_radius_mm + float(grid.spacing_mm.max()))
    box = (slice(low[2], high[2]), slice(low[1], high[1]), slice(low[0], high[0]))
    part = grid.crop(low, high)
    shape = part.shape
    centres = part.voxel_centres_lps_mm().reshape(-1, 3)
    along, radial = pose.cylinder_coordinates(centres)
    reach = float(np.linalg.norm(grid.spacing_mm)) / 2.0
    near = np.flatnonzero((radial < pose.cannula_radius_mm + reach) & (along > -reach) & (along < pose.hub_mm + reach))
    offsets = (np.arange(_SUBSAMPLES) + 0.5) / _SUBSAMPLES - 0.5
    steps = np.stack(np.meshgrid(offsets, offsets, offsets, indexing="ij"), axis=-1).reshape(-1, 3)
    shifts = grid.index_to_lps(steps) - grid.origin_lps_mm
    plastic, steel = np.zeros(len(centres), np.float32), np.zeros(len(centres), np.float32)
    for shift in shifts:
        along, radial = pose.cylinder_coordinates(centres[near] + shift)
        plastic[near] += pose.is_plastic(along, radial)
        steel[near] += pose.is_steel(along, radial)
    plastic /= len(shifts)
    steel /= len(shifts)
    return box, plastic.reshape(shape), steel.reshape(shape)
