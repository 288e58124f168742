"""The image in patient space: the one owner of index <-> patient coordinates (DICOM LPS, mm).

Two conventions, stated once. An *index* is (i, j, k): column, row, slice; it may be fractional, and
whole numbers are voxel centres. An *array* of voxel values is C-contiguous with shape (nk, nj, ni).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iort_planner.errors import GeometryError
from iort_planner.units import FloatArray

VoxelArray = npt.NDArray[Any]
_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))  # growing and falling x, y, z of LPS
COSINE_TOLERANCE = 1e-4  # DICOM prints cosines with 6 significant digits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageGrid:
    """A regular grid of voxels in patient space.

    Parameters
    ----------
    size_voxels : tuple of 3 int
        Number of voxels along i, j, k.
    spacing_mm : ndarray of shape (3,), mm
        Distance of neighbouring voxel centres along i, j, k; > 0.
    origin_lps_mm : ndarray of shape (3,), mm
        Centre of voxel (0, 0, 0).
    direction : ndarray of shape (3, 3)
        Column n is the unit vector of index axis n in LPS; orthonormal, of either handedness.

    Raises
    ------
    GeometryError
        If a number is not finite, a spacing or size is not positive, or the axes are not orthonormal.
    """

    size_voxels: tuple[int, int, int]
    spacing_mm: FloatArray
    origin_lps_mm: FloatArray
    direction: FloatArray

    def __post_init__(self) -> None:
        for name, shape in (("spacing_mm", (3,)), ("origin_lps_mm", (3,)), ("direction", (3, 3))):
            array = np.array(getattr(self, name), dtype=np.float64)
            if array.shape != shape or not np.all(np.isfinite(array)):
                raise GeometryError(f"image grid: {name} must be {shape} finite numbers, got {array.tolist()}")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if len(self.size_voxels) != 3 or min(self.size_voxels) < 1:
            raise GeometryError(f"image grid: size {self.size_voxels} must be three numbers of at least 1")
        if np.any(self.spacing_mm <= 0):
            raise GeometryError(f"image grid: spacing {self.spacing_mm.tolist()} mm must be above 0")
        if np.max(np.abs(self.direction.T @ self.direction - np.eye(3))) > COSINE_TOLERANCE:
            raise GeometryError(f"image grid: axes are not at right angles: {self.direction.tolist()}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a voxel array on this grid, (nk, nj, ni)."""
        i, j, k = self.size_voxels
        return (k, j, i)

    @property
    def affine_lps_mm(self) -> FloatArray:
        """Shape (3, 4): times (i, j, k, 1) gives patient coordinates, for compiled loops over voxels."""
        return np.column_stack([self.direction * self.spacing_mm, self.origin_lps_mm])

    @property
    def axis_letters(self) -> tuple[str, str, str]:
        """The patient direction (L, R, P, A, S, I) that each index axis runs nearest to."""
        nearest = np.argmax(np.abs(self.direction), axis=0)
        i, j, k = (_LETTERS[n][int(self.direction[n, axis] < 0)] for axis, n in enumerate(nearest))
        return (i, j, k)

    @property
    def obliquity_deg(self) -> float:
        """Largest angle between an index axis and the patient axis it is nearest to, degrees."""
        nearest = np.clip(np.max(np.abs(self.direction), axis=0), 0.0, 1.0)
        return float(np.degrees(np.arccos(np.min(nearest))))

    def index_to_lps(self, index: npt.ArrayLike) -> FloatArray:
        """Patient coordinates of (fractional) indices; ``index`` (..., 3) as i, j, k -> (..., 3) mm."""
        scaled = np.asarray(index, dtype=np.float64) * self.spacing_mm
        result: FloatArray = scaled @ self.direction.T + self.origin_lps_mm
        return result

    def lps_to_index(self, points_lps_mm: npt.ArrayLike) -> FloatArray:
        """Fractional indices i, j, k of patient points; (..., 3) mm -> (..., 3)."""
        offset = np.asarray(points_lps_mm, dtype=np.float64) - self.origin_lps_mm
        along = np.linalg.solve(self.direction, offset.reshape(-1, 3).T).T
        result: FloatArray = along.reshape(offset.shape) / self.spacing_mm
        return result

    def contains(self, points_lps_mm: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether points lie inside the image, its outer voxels' outer faces included; (..., 3) -> (...)."""
        index = self.lps_to_index(points_lps_mm)
        inside: npt.NDArray[np.bool_] = np.all((index >= -0.5) & (index <= np.array(self.size_voxels) - 0.5), axis=-1)
        return inside

    def corners_lps_mm(self) -> FloatArray:
        """The eight outer corners (of the outer voxels' faces), shape (8, 3)."""
        low, high = -0.5, np.array(self.size_voxels) - 0.5
        unit = np.array([(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)], dtype=np.float64)
        return self.index_to_lps(low + unit * (high - low))

    def voxel_centres_lps_mm(self) -> FloatArray:
        """All voxel centres, shape (nk, nj, ni, 3): large; meant for small grids."""
        k, j, i = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in self.shape), indexing="ij")
        return self.index_to_lps(np.stack([i, j, k], axis=-1))

    def box_around(
        self, points_lps_mm: npt.ArrayLike, margin_mm: float
    ) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Index box [low, high) that holds all points and ``margin_mm`` on each side, cut to the image."""
        index = self.lps_to_index(np.asarray(points_lps_mm, dtype=np.float64).reshape(-1, 3))
        margin = margin_mm / self.spacing_mm
        size = np.array(self.size_voxels)
        low = np.clip(np.floor(index.min(axis=0) - margin).astype(int), 0, size - 1)
        high = np.clip(np.ceil(index.max(axis=0) + margin).astype(int) + 1, low + 1, size)
        return (int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2]))

    def crop(self, low: tuple[int, int, int], high: tuple[int, int, int]) -> ImageGrid:
        """The part of the grid with indices low <= index < high (i, j, k)."""
        return ImageGrid(
            size_voxels=(high[0] - low[0], high[1] - low[1], high[2] - low[2]),
            spacing_mm=self.spacing_mm,
            origin_lps_mm=self.index_to_lps(np.array(low, dtype=np.float64)),
            direction=self.direction,
        )

    def distances_mm(self, point_lps_mm: npt.ArrayLike) -> FloatArray:
        """Distance of every voxel centre from one point, shape (nk, nj, ni), mm; by axes, so no points are stored."""
        i, j, k = self.lps_to_index(point_lps_mm)
        squares = [
            ((np.arange(n) - centre) * step) ** 2
            for n, centre, step in zip(self.shape, (k, j, i), self.spacing_mm[::-1], strict=True)
        ]
        result: FloatArray = np.sqrt(squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :])
        return result

    def room_mm(self, point_lps_mm: npt.ArrayLike) -> float:
        """Distance of a point from the nearest outer face of the image, mm; negative outside."""
        index = self.lps_to_index(point_lps_mm)
        faces = np.minimum(index + 0.5, np.array(self.size_voxels) - 0.5 - index)
        return float(np.min(faces * self.spacing_mm))

    def voxel_extent_mm(self, direction_lps: FloatArray) -> float:
        """How large a voxel is along a unit vector: the length of its components times the spacings, mm."""
        return float(np.linalg.norm((self.direction.T @ direction_lps) * self.spacing_mm))

    def parallel_around(self, points_lps_mm: npt.ArrayLike, *, reach_mm: float, spacing_mm: float) -> ImageGrid:
        """Own cubic grid with axes parallel to this one's that reaches ``reach_mm`` beyond each point.

        With one point, and a reach of whole voxels, a voxel centre lies on it.
        """
        along = np.asarray(points_lps_mm, dtype=np.float64).reshape(-1, 3) @ self.direction
        low, high = along.min(axis=0) - reach_mm, along.max(axis=0) + reach_mm
        i, j, k = (int(n) for n in np.ceil((high - low) / spacing_mm - 1e-9) + 1)
        return ImageGrid(
            size_voxels=(i, j, k),
            spacing_mm=np.full(3, spacing_mm),
            origin_lps_mm=self.direction @ low,
            direction=self.direction,
        )

    def same_as(self, other: ImageGrid, tolerance_mm: float = 0.01) -> bool:
        """Whether the two grids have the same size and all their corners agree within ``tolerance_mm``."""
        return self.size_voxels == other.size_voxels and bool(
            np.max(np.abs(self.corners_lps_mm() - other.corners_lps_mm())) <= tolerance_mm
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Volume:
    """Voxel values on an `ImageGrid`.

    Parameters
    ----------
    values : ndarray of shape (nk, nj, ni), int16 where that is exact, else float32
        HU when ``hu_calibrated``, else relative intensities. Made read-only, not copied.
    grid : ImageGrid
    hu_calibrated : bool
        Whether the values may be read as HU. Every step that needs HU asks this.
    frame_of_reference_uid : str
        DICOM Frame of Reference UID; empty if unknown.
    """

    values: VoxelArray
    grid: ImageGrid
    hu_calibrated: bool
    frame_of_reference_uid: str = ""

    def __post_init__(self) -> None:
        if self.values.dtype not in (np.dtype(np.int16), np.dtype(np.float32)):
            raise GeometryError(f"volume: voxel values must be int16 or float32, got {self.values.dtype}")
        if self.values.shape != self.grid.shape:
            raise GeometryError(f"volume: {self.values.shape} values on a grid of {self.grid.shape} (k, j, i)")
        values = self.values.view()
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    def sha256(self) -> str:
        """Hash of the voxel values in index order (i fastest, then j, k), little endian as stored."""
        little = np.ascontiguousarray(self.values).astype(self.values.dtype.newbyteorder("<"), copy=False)
        return hashlib.sha256(little.data).hexdigest()

    def sample(
        self, points_lps_mm: npt.ArrayLike, *, order: int = 1, outside: float = np.nan
    ) -> npt.NDArray[np.float32]:
        """Values at patient points by spline interpolation; (..., 3) mm -> (...), ``outside`` beyond the image."""
        points = np.asarray(points_lps_mm, dtype=np.float64)
        index = self.grid.lps_to_index(points)[..., ::-1]  # array axes are k, j, i
        coordinates = np.moveaxis(index, -1, 0).reshape(3, -1)
        result: npt.NDArray[np.float32] = ndimage.map_coordinates(
            self.values, coordinates, output=np.float32, order=order, mode="nearest"
        )
        result[~self.grid.contains(points).reshape(-1)] = outside
        return result.reshape(points.shape[:-1])

    def crop(self, low: tuple[int, int, int], high: tuple[int, int, int]) -> Volume:
        """The part with indices low <= index < high (i, j, k); shares the values."""
        return Volume(
            values=self.values[low[2] : high[2], low[1] : high[1], low[0] : high[0]],
            grid=self.grid.crop(low, high),
            hu_calibrated=self.hu_calibrated,
            frame_of_reference_uid=self.frame_of_reference_uid,
        )

    def crop_around(self, points_lps_mm: npt.ArrayLike, margin_mm: float) -> Volume:
        """The part around points with a margin, cut to the image; shares the values."""
        return self.crop(*self.grid.box_around(points_lps_mm, margin_mm))
