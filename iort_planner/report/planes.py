"""The three planes of the slices in patient space: which direction is where in the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iort_planner.units import FloatArray

# (negative, positive) end of each LPS axis
_LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plane:
    """A picture's directions in patient space.

    Parameters
    ----------
    name : str
    across_lps, up_lps : ndarray of shape (3,)
        Patient directions that point right and up in the picture, along patient axes.
    """

    name: str
    across_lps: FloatArray
    up_lps: FloatArray

    @property
    def normal_axis(self) -> int:
        """Number of the patient axis the plane is square to."""
        return int(np.argmin(np.abs(self.across_lps) + np.abs(self.up_lps)))

    @property
    def right(self) -> str:
        """Letter of the patient's side on the right of the picture."""
        return _letter(self.across_lps)

    @property
    def left(self) -> str:
        """Letter on the left of the picture."""
        return _letter(-self.across_lps)

    @property
    def top(self) -> str:
        """Letter at the top of the picture."""
        return _letter(self.up_lps)

    @property
    def bottom(self) -> str:
        """Letter at the bottom of the picture."""
        return _letter(-self.up_lps)

    def position_text(self, point_lps_mm: FloatArray) -> str:
        """Where the plane through a point lies, for people: ``z = -670.4 mm (LPS)``."""
        return f"{'xyz'[self.normal_axis]} = {point_lps_mm[self.normal_axis]:.1f} mm (LPS)"

    def points_lps_mm(self, centre_lps_mm: FloatArray, offsets_mm: FloatArray) -> FloatArray:
        """Patient points of a square picture, shape (n, n, 3): rows from the bottom up, columns to the right."""
        across = offsets_mm[None, :, None] * self.across_lps
        up = offsets_mm[:, None, None] * self.up_lps
        points: FloatArray = centre_lps_mm + across + up
        return points

    def project(self, vectors_lps_mm: npt.ArrayLike) -> FloatArray:
        """Picture coordinates (right, up) in mm of patient vectors, (..., 3) -> (..., 2)."""
        vectors = np.asarray(vectors_lps_mm, dtype=np.float64)
        result: FloatArray = np.stack([vectors @ self.across_lps, vectors @ self.up_lps], axis=-1)
        return result

    def out_of_plane_mm(self, vector_lps_mm: FloatArray) -> float:
        """Component of a patient vector along the patient axis the plane is square to, mm."""
        return float(vector_lps_mm[self.normal_axis])

    def side_of(self, vector_lps_mm: FloatArray) -> str:
        """Letter of the side of the plane that a patient vector points to."""
        return _LETTERS[self.normal_axis][int(self.out_of_plane_mm(vector_lps_mm) > 0)]


def _letter(direction_lps: FloatArray) -> str:
    axis = int(np.argmax(np.abs(direction_lps)))
    return _LETTERS[axis][int(direction_lps[axis] > 0)]


_LEFT, _POSTERIOR, _SUPERIOR = np.eye(3)
# Radiological convention: the patient's right on the left of the picture, seen from the feet and from the front.
PLANES = (
    Plane(name="axial", across_lps=_LEFT, up_lps=-_POSTERIOR),
    Plane(name="sagittal", across_lps=_POSTERIOR, up_lps=_SUPERIOR),
    Plane(name="coronal", across_lps=_LEFT, up_lps=_SUPERIOR),
)
