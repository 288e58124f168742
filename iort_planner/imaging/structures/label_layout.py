"""What the head of a label map says: its grid, and how its voxels are stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from iort_planner.errors import GeometryError, ImageError
from iort_planner.imaging.structures.rois import Roi
from iort_planner.imaging.volume import ImageGrid
from iort_planner.units import FloatArray

# Numbers beyond these are damage: no scanner has such voxels, and none is 10 m from its isocentre. Our own choice.
SPACINGS_MM = (0.01, 100.0)
FAR_MM = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelLayout:
    """A label map before its voxels are read.

    Parameters
    ----------
    grid : ImageGrid
    dtype : numpy.dtype
        Of one stored number, with its byte order.
    offset : int
        Bytes before the first voxel, in the unpacked data.
    scale : tuple of 2 float
        A voxel's value is ``scale[0] * stored + scale[1]``.
    packed : bool
        Whether the voxels are gzip data of their own (NRRD); a file packed as a whole is none of this.
    data_file : Path or None
        Where the voxels lie, if not behind the head.
    names : tuple of Roi
        Names of labels, as far as the head has them.
    """

    grid: ImageGrid
    dtype: np.dtype[np.generic]
    offset: int
    scale: tuple[float, float] = (1.0, 0.0)
    packed: bool = False
    data_file: Path | None = None
    names: tuple[Roi, ...] = field(default=())


def grid_from_affine(size: tuple[int, int, int], affine_lps: FloatArray, path: Path) -> ImageGrid:
    """Grid of voxel centres from index to LPS mm as an affine map, (3, 4).

    Raises
    ------
    ImageError
        If the map is not finite, has a spacing of 0, or its axes are not at right angles.
    """
    affine = np.asarray(affine_lps, dtype=np.float64)
    with np.errstate(all="ignore"):
        spacing: npt.NDArray[np.float64] = np.linalg.norm(affine[:, :3], axis=0)
        direction = affine[:, :3] / spacing
    if not (
        np.all((spacing >= SPACINGS_MM[0]) & (spacing <= SPACINGS_MM[1])) and np.all(np.abs(affine[:, 3]) <= FAR_MM)
    ):
        raise ImageError(
            f"cannot place {path}: spacing {_shown(spacing)} mm, first voxel at {_shown(affine[:, 3])} mm, limits "
            f"{SPACINGS_MM[0]:g} to {SPACINGS_MM[1]:g} mm and {FAR_MM:g} mm; save it with its image's geometry"
        )
    try:
        return ImageGrid(size_voxels=size, spacing_mm=spacing, origin_lps_mm=affine[:, 3], direction=direction)
    except GeometryError as error:
        raise ImageError(f"cannot place {path}: {error}; save it with its image's geometry") from error


def _shown(numbers: FloatArray) -> str:
    return ", ".join(f"{n:.4g}" for n in numbers)
