"""Triangle meshes of simple bodies in patient space: ball, tube, needle tip."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull

from iort_planner.units import FloatArray

# Corners round a ball or tube: the chord's middle then lies 0.14 % of the radius inside the true circle.
_ROUND = 60
_BALL_QUARTERINGS = 4  # 5120 triangles


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mesh:
    """Triangles in patient space.

    Parameters
    ----------
    vertices_lps_mm : ndarray of shape (N, 3), mm
    faces : ndarray of shape (M, 3), int
        Vertex numbers, outward normals.
    """

    vertices_lps_mm: FloatArray
    faces: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, kind in (("vertices_lps_mm", np.float64), ("faces", np.int64)):
            array = np.array(getattr(self, name), dtype=kind).reshape(-1, 3)
            array.setflags(write=False)
            object.__setattr__(self, name, array)


def sphere_mesh(centre_lps_mm: FloatArray, radius_mm: float) -> Mesh:
    """Ball of a radius round a point: an icosahedron whose triangles are quartered, evenly fine everywhere."""
    vertices, faces = _unit_ball()
    return Mesh(vertices_lps_mm=centre_lps_mm + radius_mm * vertices, faces=faces)


def tube_mesh(path_lps_mm: FloatArray, radius_mm: float) -> Mesh:
    """Closed tube along the points of a path, (K, 3) mm; for two points a cylinder."""
    steps = np.diff(path_lps_mm, axis=0)
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    tangents = np.vstack([steps[:1], steps[:-1] + steps[1:], steps[-1:]])
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    across, _ = _perpendicular(tangents[0])
    rings = [np.repeat(path_lps_mm[:1], _ROUND, axis=0)]
    for point, tangent in zip(path_lps_mm, tangents, strict=True):
        across = across - (across @ tangent) * tangent  # carried along, so that the rings do not turn
        across /= np.linalg.norm(across)
        rings.append(point + radius_mm * _ring(across, np.cross(tangent, across)))
    rings.append(np.repeat(path_lps_mm[-1:], _ROUND, axis=0))
    return Mesh(vertices_lps_mm=np.stack(rings), faces=_ring_faces(len(rings)))


def needle_mesh(tip_lps_mm: FloatArray, axis_lps: FloatArray, radius_mm: float, length_mm: float) -> Mesh:
    """Needle from its tip over ``length_mm``: a half ball of the outer radius, then a cylinder."""
    angle = np.linspace(0.0, np.pi / 2.0, _ROUND // 4 + 1)
    along = np.concatenate([radius_mm * (1.0 - np.cos(angle)), [length_mm, length_mm]])
    radii = np.concatenate([radius_mm * np.sin(angle), [radius_mm, 0.0]])
    return _revolved(tip_lps_mm, axis_lps, along, radii)


def _revolved(start_lps_mm: FloatArray, axis_lps: FloatArray, along_mm: FloatArray, radii_mm: FloatArray) -> Mesh:
    """Body of revolution: ``radii_mm`` at ``along_mm`` behind ``start`` in the direction of ``axis``."""
    across, other = _perpendicular(axis_lps)
    ring = _ring(across, other)
    vertices = start_lps_mm + along_mm[:, None, None] * axis_lps + radii_mm[:, None, None] * ring
    return Mesh(vertices_lps_mm=vertices, faces=_ring_faces(along_mm.size))


def _ring(across: FloatArray, other: FloatArray) -> FloatArray:
    turn = np.linspace(0.0, 2.0 * np.pi, _ROUND, endpoint=False)
    result: FloatArray = np.cos(turn)[:, None] * across + np.sin(turn)[:, None] * other
    return result


@functools.cache
def _unit_ball() -> tuple[FloatArray, npt.NDArray[np.int64]]:
    golden = (1.0 + 5.0**0.5) / 2.0
    near = [(-1.0, golden, 0.0), (1.0, golden, 0.0), (-1.0, -golden, 0.0), (1.0, -golden, 0.0)]
    corners = np.array([np.roll(corner, turn) for turn in range(3) for corner in near])
    faces = ConvexHull(corners).simplices.astype(np.int64)
    inward = np.einsum("ij,ij->i", corners[faces[:, 0]], np.cross(corners[faces[:, 1]], corners[faces[:, 2]])) < 0
    faces[inward] = faces[inward][:, ::-1]
    for _ in range(_BALL_QUARTERINGS):
        edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        pairs, number = np.unique(edges, axis=0, return_inverse=True)
        middle = (corners.shape[0] + number).reshape(-1, 3)  # of the sides 0-1, 1-2, 2-0
        corners = np.concatenate([corners, corners[pairs].mean(axis=1)])
        (a, b, c), (ab, bc, ca) = faces.T, middle.T
        parts = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        faces = np.concatenate([np.stack(part, axis=-1) for part in parts])
    return corners / np.linalg.norm(corners, axis=1, keepdims=True), faces


@functools.cache
def _ring_faces(rings: int) -> npt.NDArray[np.int64]:
    number = np.arange(rings * _ROUND).reshape(rings, _ROUND)
    here, there = number[:-1], number[1:]
    here_next, there_next = np.roll(here, -1, axis=1), np.roll(there, -1, axis=1)
    faces = np.concatenate(
        [np.stack([here, here_next, there_next], axis=-1), np.stack([here, there_next, there], axis=-1)]
    )
    result: npt.NDArray[np.int64] = faces.reshape(-1, 3).astype(np.int64)
    return result


def _perpendicular(axis_lps: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Two unit vectors that complete a unit axis to a right-handed frame (across, other, axis)."""
    helper = np.zeros(3)
    helper[int(np.argmin(np.abs(axis_lps)))] = 1.0
    across = np.cross(helper, axis_lps)
    across /= np.linalg.norm(across)
    return across, np.cross(axis_lps, across)
