"""Bodies in the patient as signed distances: cylinders, cones, tubes, blocks, balls and blobs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from iort_planner.units import FloatArray


class Solid(Protocol):
    """A body in the patient."""

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
class Tube:
    """A cylinder with a bore from end to end.

    Parameters
    ----------
    outer, bore : Frustum
        Of the same axis and ends.
    """

    outer: Frustum
    bore: Frustum

    def signed_distance_mm(self, points_lps_mm: FloatArray) -> FloatArray:
        """Inside the outer cylinder and outside the bore."""
        outer, bore = (solid.signed_distance_mm(points_lps_mm) for solid in (self.outer, self.bore))
        result: FloatArray = np.maximum(outer, -bore)
        return result

    def box_lps_mm(self) -> tuple[FloatArray, float]:
        """As of the outer cylinder."""
        return self.outer.box_lps_mm()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """A rectangular block.

    Parameters
    ----------
    centre_lps_mm : ndarray of shape (3,), mm
    directions : ndarray of shape (3, 3)
        Unit vectors of its edges, in rows, at right angles.
    half_mm : ndarray of shape (3,), mm
        Half of its size along them.
    """

    centre_lps_mm: FloatArray
    directions: FloatArray
    half_mm: FloatArray

    def signed_distance_mm(self, points_lps_mm: FloatArray) -> FloatArray:
        """Distance to the nearest side, each as if it went on for ever."""
        result: FloatArray = np.max(
            np.abs((points_lps_mm - self.centre_lps_mm) @ self.directions.T) - self.half_mm, axis=-1
        )
        return result

    def box_lps_mm(self) -> tuple[FloatArray, float]:
        """Its corners."""
        signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
        return self.centre_lps_mm + (signs * self.half_mm) @ self.directions, 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blob:
    """Balls that run together.

    Parameters
    ----------
    balls : tuple of Ball
    """

    balls: tuple[Ball, ...]

    def signed_distance_mm(self, points_lps_mm: FloatArray) -> FloatArray:
        """Exact outside."""
        result: FloatArray = np.min([ball.signed_distance_mm(points_lps_mm) for ball in self.balls], axis=0)
        return result

    def box_lps_mm(self) -> tuple[FloatArray, float]:
        """Their centres, with the largest radius."""
        return np.stack([ball.centre_lps_mm for ball in self.balls]), max(ball.radius_mm for ball in self.balls)


def cylinder(start_lps_mm: FloatArray, end_lps_mm: FloatArray, diameter_mm: float) -> Frustum:
    """A cylinder between two points."""
    radius = diameter_mm / 2.0
    return Frustum(start_lps_mm=start_lps_mm, end_lps_mm=end_lps_mm, radius_mm=radius, end_radius_mm=radius)
