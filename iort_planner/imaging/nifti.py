"""Arrays on an image grid as NIfTI files: same input, same bytes."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from iort_planner import __version__
from iort_planner.errors import OutputError
from iort_planner.imaging.volume import ImageGrid, VoxelArray
from iort_planner.output import whole_file

# Level 1: a mostly empty mask shrinks nearly as far as with level 6, in a third of the time.
_GZIP_LEVEL = 1
# The header's description holds 79 characters: the intended use in short.
_DESCRIPTION = f"iort_planner {__version__}; research and education; not for treating patients"


def write_nifti(path: Path, array: VoxelArray, grid: ImageGrid) -> None:
    """Write an array as ``.nii.gz`` (or ``.nii``), whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in ``.nii.gz`` or ``.nii``; an existing file is replaced.
    array : ndarray of shape (nk, nj, ni), float32 or uint8 (bool is written as uint8)
        NaN is kept.
    grid : ImageGrid
        Where the array lies. NIfTI has its x and y axes the other way round (RAS); SimpleITK turns them.

    Raises
    ------
    OutputError
        If the array does not fit the grid, has another type, or the file cannot be written.
    """
    if array.shape != grid.shape:
        raise OutputError(f"{path.name}: array of shape {array.shape} on a grid of {grid.shape} (k, j, i)")
    if not path.name.endswith((".nii", ".nii.gz")):
        raise OutputError(f"{path.name}: the name of a NIfTI file ends in .nii.gz or .nii")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.dtype not in (np.dtype(np.uint8), np.dtype(np.float32)):
        raise OutputError(f"{path.name}: {array.dtype} is not written; give float32 or uint8")
    try:
        with tempfile.TemporaryDirectory(prefix="iort-nifti-") as folder:
            plain = Path(folder) / "image.nii"  # a name of our own: nothing of it goes into the file
            _write_plain(plain, array, grid)
            data = plain.read_bytes()
    except RuntimeError as error:
        raise OutputError(f"cannot write {path}: {error}; check the space on the disk") from error
    if path.suffix == ".gz":  # its header then holds neither name nor time
        data = gzip.compress(data, compresslevel=_GZIP_LEVEL, mtime=0)
    with whole_file(path) as neighbour:
        neighbour.write_bytes(data)


def _write_plain(path: Path, array: VoxelArray, grid: ImageGrid) -> None:
    import SimpleITK

    sitk: Any = SimpleITK  # its functions carry no types
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.origin_lps_mm.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    image.SetMetaData("ITK_FileNotes", _DESCRIPTION)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("NiftiImageIO")
    writer.SetFileName(str(path))
    writer.Execute(image)
