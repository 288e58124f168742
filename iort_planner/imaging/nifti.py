"""Arrays on an image grid as NIfTI files: same input, same bytes."""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from iort_planner.errors import OutputError
from iort_planner.imaging.volume import ImageGrid, VoxelArray

# Level 1: a mostly empty mask shrinks nearly as far as with level 6, in a third of the time.
_GZIP_LEVEL = 1


def write_nifti(path: Path, array: VoxelArray, grid: ImageGrid, scale: float | None = None) -> None:
    """Write an array as ``.nii.gz`` (or ``.nii``), whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in ``.nii.gz`` or ``.nii``; an existing file is replaced.
    array : ndarray of shape (nk, nj, ni), float32 or uint8 (bool is written as uint8)
        NaN is kept.
    grid : ImageGrid
        Where the array lies. NIfTI has its x and y axes the other way round (RAS); SimpleITK turns them.
    scale : float or None
        Factor on the values before writing; the result is float32.

    Raises
    ------
    OutputError
        If the array does not fit the grid, has another type, or the file cannot be written.
    """
    if array.shape != grid.shape:
        raise OutputError(f"{path.name}: array of shape {array.shape} on a grid of {grid.shape} (k, j, i)")
    if not path.name.endswith((".nii", ".nii.gz")):
        raise OutputError(f"{path.name}: the name of a NIfTI file ends in .nii.gz or .nii")
    if scale is not None:
        array = array.astype(np.float32) * np.float32(scale)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.dtype not in (np.dtype(np.uint8), np.dtype(np.float32)):
        raise OutputError(f"{path.name}: {array.dtype} is not written; give float32 or uint8")
    try:
        with tempfile.TemporaryDirectory(prefix="iort-nifti-") as folder:
            plain = Path(folder) / "image.nii"  # a name of our own: nothing of it goes into the file
            _write_plain(plain, array, grid)
            _pack(plain, path)
    except (OSError, RuntimeError) as error:
        raise OutputError(f"cannot write {path}: {error}; check the folder and the space on the disk") from error


def _write_plain(path: Path, array: VoxelArray, grid: ImageGrid) -> None:
    import SimpleITK

    sitk: Any = SimpleITK  # its functions carry no types
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.origin_lps_mm.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("NiftiImageIO")
    writer.SetFileName(str(path))
    writer.Execute(image)


def _pack(plain: Path, path: Path) -> None:
    """Copy to ``path`` through a neighbour, with a gzip header that holds neither name nor time."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    neighbour = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            data = plain.read_bytes()
            out.write(gzip.compress(data, compresslevel=_GZIP_LEVEL, mtime=0) if path.suffix == ".gz" else data)
        umask = os.umask(0)
        os.umask(umask)
        neighbour.chmod(0o666 & ~umask)  # mkstemp makes files for the owner alone
        neighbour.replace(path)
    except BaseException:
        neighbour.unlink(missing_ok=True)
        raise
