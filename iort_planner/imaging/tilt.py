"""A tilted stack (gantry tilt) to a volume with right angles: each slice is moved within its own plane.

A CT gantry that leans over while the table moves level takes slices that are all parallel but stacked askew: the
volume is sheared, and no `ImageGrid` can describe it. Moving every slice by its own drift, within its own plane, makes
the stack straight without mixing slices: nothing is interpolated along the normal.

Interpolation is linear. It stays between its neighbours and makes up nothing; a cubic spline makes tissue beside steel
some 200 HU darker than it is. The price of linear, measured in tests/imaging/test_tilt.py on a steel rod and a ball of
4.4 mm with pixels of 0.7 mm: their half-height edge moves by 0.01 mm on average and 0.02 mm at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from iort_planner.errors import GeometryError
from iort_planner.imaging.volume import ImageGrid, VoxelArray
from iort_planner.units import FloatArray

# Gantries lean by up to 30 degrees. Our own limit leaves room; beyond it, slices no longer are what they seem.
MAX_TILT_DEG = 45.0
# A long stack grows as it is made straight. Our own limit: together with the scan itself, three times its memory.
MAX_GROWTH = 2.0
# A drift below a millionth of a pixel is rounding, and must not cost a row of voxels.
_PIXEL_SLACK = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tilt:
    """An evenly tilted stack: what must be known to make it straight.

    Parameters
    ----------
    size_voxels : tuple of 3 int
        Columns, rows, slices.
    spacing_mm : ndarray of shape (3,), mm
        Pixel spacings along i and j, and the distance of neighbouring slices along their normal.
    shift_ij_mm : ndarray of shape (2,), mm
        How far each slice is moved against the one before it, along its rows and down its columns.
    origin_lps_mm : ndarray of shape (3,), mm
        Centre of the first pixel of the first slice.
    direction : ndarray of shape (3, 3)
        Unit vectors of row, column and normal in LPS, one a column.

    Raises
    ------
    GeometryError
        If a number is not finite, a spacing or size is not positive, or the axes are not at right angles.
    """

    size_voxels: tuple[int, int, int]
    spacing_mm: FloatArray
    shift_ij_mm: FloatArray
    origin_lps_mm: FloatArray
    direction: FloatArray

    def __post_init__(self) -> None:
        grid = ImageGrid(
            size_voxels=self.size_voxels,
            spacing_mm=self.spacing_mm,
            origin_lps_mm=self.origin_lps_mm,
            direction=self.direction,
        )
        shift = np.array(self.shift_ij_mm, dtype=np.float64)
        if shift.shape != (2,) or not np.all(np.isfinite(shift)):
            raise GeometryError(f"tilted stack: the drift a slice must be two finite numbers, got {shift.tolist()}")
        shift.setflags(write=False)
        object.__setattr__(self, "shift_ij_mm", shift)
        for name in ("spacing_mm", "origin_lps_mm", "direction"):
            object.__setattr__(self, name, getattr(grid, name))

    @property
    def angle_deg(self) -> float:
        """Angle between the line of the slices' first pixels and their normal, degrees."""
        return float(np.degrees(np.arctan2(np.linalg.norm(self.shift_ij_mm), self.spacing_mm[2])))

    def straight_grid(self) -> ImageGrid:
        """The straight grid that holds every pixel of every slice; those of slice 0 lie on voxel centres.

        Raises
        ------
        GeometryError
            If the tilt is above 45 degrees, or the grid would be more than twice as large as the stack.
        """
        if self.angle_deg > MAX_TILT_DEG:
            raise GeometryError(
                f"the stack is tilted by {self.angle_deg:.1f} degrees, at most {MAX_TILT_DEG:g} can be resampled (a CT "
                "gantry leans by up to 30); the positions of the slices are not those of a tilted CT"
            )
        before, after = self._margins()
        i, j, k = self.size_voxels
        size = (i + before[0] + after[0], j + before[1] + after[1], k)
        growth = size[0] * size[1] / (i * j)
        if growth > MAX_GROWTH:
            raise GeometryError(
                f"resampling the tilted stack would make it {growth:.1f} times as large ({size[0]} x {size[1]} x {k} "
                f"voxels), limit {MAX_GROWTH:g}; give fewer slices of it"
            )
        shift = np.array([*before, 0]) * self.spacing_mm
        return ImageGrid(
            size_voxels=size,
            spacing_mm=self.spacing_mm,
            origin_lps_mm=self.origin_lps_mm - self.direction @ shift,
            direction=self.direction,
        )

    def _margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Whole pixels to add before and after, along i and j."""
        drift = self.shift_ij_mm / self.spacing_mm[:2] * (self.size_voxels[2] - 1)
        before = np.ceil(np.maximum(-drift, 0.0) - _PIXEL_SLACK).astype(int)
        after = np.ceil(np.maximum(drift, 0.0) - _PIXEL_SLACK).astype(int)
        return (int(before[0]), int(before[1])), (int(after[0]), int(after[1]))


def resample_tilt(values: VoxelArray, tilt: Tilt, *, outside: float) -> tuple[VoxelArray, ImageGrid]:
    """Make a tilted stack straight.

    Parameters
    ----------
    values : ndarray of shape (nk, nj, ni), int16 or float32
        Voxel values, slices in the order of the tilt's normal.
    tilt : Tilt
    outside : float
        Value of voxels that no slice reaches, such as -1024.

    Returns
    -------
    (ndarray, ImageGrid)
        Values of the same type (int16: rounded) and the straight grid. A voxel up to half a pixel beyond a slice's
        outermost pixel centres, so still within its pixels, has the value of the nearest one.

    Raises
    ------
    GeometryError
        If the tilt or the growth is beyond its limit, or the values do not fit the tilt.
    """
    grid = tilt.straight_grid()
    if values.shape != tilt.size_voxels[::-1] or values.dtype not in (np.dtype(np.int16), np.dtype(np.float32)):
        raise GeometryError(
            f"tilted stack: {values.dtype} values of shape {values.shape} do not fit its size {tilt.size_voxels} (i, j, k) "
            "in int16 or float32"
        )
    before, _ = tilt._margins()
    pixels = tilt.shift_ij_mm / tilt.spacing_mm[:2]
    result = np.full(grid.shape, outside, dtype=values.dtype)
    for k, plane in enumerate(values):
        rows, j = _moved(plane, before[1] + k * float(pixels[1]))
        moved, i = _moved(rows.T, before[0] + k * float(pixels[0]))
        target = result[k, j, i]
        if values.dtype == np.int16:
            moved = np.rint(moved)
        target[...] = moved.T
    return result, grid


def _moved(plane: npt.NDArray[Any], by: float) -> tuple[npt.NDArray[np.float32], slice]:
    """Lines of ``plane`` moved down by ``by`` lines, and where the result has them."""
    count = plane.shape[0]
    whole = round(by) if abs(by - round(by)) < _PIXEL_SLACK else int(np.floor(by))
    part = np.float32(by - whole)
    source = plane.astype(np.float32)
    if abs(float(part)) < _PIXEL_SLACK:
        return source, slice(whole, whole + count)
    # Line n of the result lies ``part`` of a pixel before line n of the source: between lines n - 1 and n.
    inner = source[:-1] + (np.float32(1.0) - part) * (source[1:] - source[:-1])
    first = [source[:1]] if part <= 0.5 else []
    last = [source[-1:]] if part >= 0.5 else []
    start = whole if first else whole + 1
    lines = np.concatenate([*first, inner, *last])
    return lines, slice(start, start + len(lines))
