"""Structures that come as files, on the grid of the image they are meant for: label maps so far.

The kind of file is told by its first bytes. Where the file's own position in the patient is not stated
(or stated twice, differently), it is refused: a canal in the wrong place is worse than none.
"""

from __future__ import annotations

import gzip
import math
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iort_planner.errors import ImageError
from iort_planner.imaging.nifti_head import check_head, check_length, is_nifti
from iort_planner.imaging.pixels import uid_name
from iort_planner.imaging.volume import ImageGrid, VoxelArray
from iort_planner.units import FloatArray

# Nothing bigger is unpacked: 2**31 voxels are a 1000 x 1000 x 2000 image. Our own choice.
MAX_VOXELS = 2**31
_MOST_LISTED = 12
# The three spaces in patient axes that NRRD knows, in long and short form.
_NRRD_SPACES = frozenset(
    {"left-posterior-superior", "right-anterior-superior", "left-anterior-superior", "lps", "ras", "las"}
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelMap:
    """One structure as voxels of the image.

    Parameters
    ----------
    mask : ndarray of shape (nk, nj, ni), bool
        On the image's own grid; at least one voxel is set.
    roi : str
        The label's number.
    spacing_mm : ndarray of shape (3,), mm
        Voxel spacing of the file's own grid, in the order of its axes.
    frame_verified : bool
        Whether the file names the image's frame of reference. Label maps have none: False.
    notes : tuple of str
        What was done on the way: resampled, partly outside the image.
    """

    mask: npt.NDArray[np.bool_]
    roi: str
    spacing_mm: FloatArray
    frame_verified: bool
    notes: tuple[str, ...]


def read_label_map(path: Path, volume_grid: ImageGrid, roi: str | None = None) -> LabelMap:
    """Read one label of a NIfTI or NRRD label map onto the image's grid.

    Parameters
    ----------
    path : Path
    volume_grid : ImageGrid
        Of the image that is planned on.
    roi : str or None
        The label's number; may be left out where the file has only one value besides 0.

    Returns
    -------
    LabelMap
        By nearest neighbour where the two grids differ.

    Raises
    ------
    ImageError
        If the file cannot be read, is of another kind, says no position in the patient, has no such label or
        several and none named, or lies outside the image.
    """
    suffix = _suffix(path)
    labels, grid = _read(path, suffix)
    value = _chosen_value(labels, roi, path)
    mask = labels == value
    notes = []
    if grid.same_as(volume_grid):
        on_image = mask
    else:
        on_image, share_inside = _resample(mask, grid, volume_grid)
        if not on_image.any():
            raise ImageError(
                f"label {value} of {path} lies outside the image: it spans {_extent(_mask_grid(mask, grid))}, "
                f"the image {_extent(volume_grid)}; give a label map of this scan"
            )
        notes.append("label map resampled to the image's grid (nearest neighbour)")
        if share_inside < 0.999:
            notes.append(f"{100 * (1 - share_inside):.1f} % of the label's voxels lie outside the image")
    on_image.setflags(write=False)
    return LabelMap(mask=on_image, roi=str(value), spacing_mm=grid.spacing_mm, frame_verified=False, notes=tuple(notes))


def _suffix(path: Path) -> str:
    """Suffix for the kind of file, told by its content; refusals of kinds and of files without a position."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
        if head[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                inner = file.read(4096)
            if is_nifti(inner):
                check_head(inner, path)
                return ".nii.gz"
            raise ImageError(f"{path} is a gzip file without NIfTI inside; give a NIfTI or NRRD label map")
    except FileNotFoundError as error:
        raise ImageError(f"no such file: {path}; check the path") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"cannot read {path}: {reason}; check the file") from error
    if is_nifti(head):
        check_head(head, path)
        return ".nii"
    if head.startswith(b"NRRD"):
        _check_nrrd(head, path)
        return ".nhdr" if path.suffix.lower() == ".nhdr" else ".nrrd"
    if b"ElementDataFile" in head:
        # ITK's MetaImage reader overwrote memory and ended the process on damaged heads (ITK 5.4, our own trial).
        raise ImageError(f"{path} is MetaImage, which is not supported; store it as NIfTI or NRRD")
    if head[128:132] == b"DICM":
        raise ImageError(f"{path} is {_dicom_kind(path)}, which is not supported yet; give a NIfTI or NRRD label map")
    raise ImageError(f"{path} is no label map; give a NIfTI or NRRD file")


def _dicom_kind(path: Path) -> str:
    from pydicom import dcmread

    from iort_planner.imaging.headers import quiet_pydicom

    with quiet_pydicom():
        try:
            meta = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).file_meta
            return f"a DICOM file ({uid_name(str(meta.get('MediaStorageSOPClassUID', '')))})"
        except Exception:  # noqa: BLE001 - pydicom raises many kinds on damaged files; all end in one refusal
            return "a damaged DICOM file"


def _check_nrrd(head: bytes, path: Path) -> None:
    for line in head.split(b"\n\n")[0].decode("latin-1").splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() == "space":
            if value.strip().lower() in _NRRD_SPACES:
                return
            raise ImageError(f"{path} is in the space {value.strip()!r}, not in patient axes; save it as LPS or RAS")
    raise ImageError(
        f"{path} says no position in the patient (NRRD without 'space'); save it with its image's geometry"
    )


def _read(path: Path, suffix: str) -> tuple[VoxelArray, ImageGrid]:
    """Whole numbers and their grid."""
    import SimpleITK

    try:
        # SimpleITK chooses its reader by the name's ending, so give the content the ending it calls for.
        if suffix != ".nii.gz" and path.name.lower().endswith(suffix):
            if suffix == ".nii":
                check_length(path)
            image = _execute(path)
        else:
            with tempfile.TemporaryDirectory(prefix="iort-label-") as folder:
                plain = Path(folder) / f"label{suffix.removesuffix('.gz')}"
                if suffix == ".nii.gz":
                    _unpack(path, plain)
                else:
                    plain.write_bytes(path.read_bytes())
                if plain.suffix == ".nii":
                    check_length(plain)
                image = _execute(plain)
    except ImageError:
        raise
    except (OSError, EOFError, zlib.error, RuntimeError, ValueError, OverflowError) as error:
        reason = str(error).strip().splitlines()[-1].rpartition("ITK ERROR: ")[2]
        raise ImageError(f"cannot read {path}: {reason}; check the file") from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageError(f"{path} has {image.GetNumberOfComponentsPerPixel()} values a voxel; a label map has one")
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[..., 0]
    if image.GetDimension() != 3:
        raise ImageError(f"{path} has {image.GetDimension()} dimensions; a label map has three")
    grid = ImageGrid(
        size_voxels=image.GetSize(),
        spacing_mm=np.array(image.GetSpacing()),
        origin_lps_mm=np.array(image.GetOrigin()),
        direction=np.array(image.GetDirection()).reshape(3, 3),
    )
    labels: VoxelArray = SimpleITK.GetArrayFromImage(image)
    if labels.dtype.kind == "f":
        if not np.all(np.abs(labels) < 2**31) or np.any(labels != np.rint(labels)):  # NaN is refused too
            raise ImageError(
                f"{path} holds values that are not whole numbers: no label map; give one number a structure"
            )
        labels = labels.astype(np.int64)
    return labels, grid


def _unpack(path: Path, plain: Path) -> None:
    """Unpack a gzip file to its end: that checks its sum, which SimpleITK does not, and a cut file is noticed."""
    with gzip.open(path) as packed, plain.open("wb") as out:
        left = 8 * MAX_VOXELS
        while chunk := packed.read(1 << 22):
            left -= len(chunk)
            if left < 0:
                raise ImageError(f"{path} unpacks to more than {8 * MAX_VOXELS} bytes; crop it to the image")
            out.write(chunk)


def _execute(path: Path) -> Any:
    """Read with SimpleITK, its own warnings silenced; the size is looked at before voxels are unpacked."""
    import SimpleITK

    sitk: Any = SimpleITK  # its functions carry no types
    talks = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        voxels = math.prod(reader.GetSize())
        if voxels > MAX_VOXELS:
            raise ImageError(f"{path.name} has {voxels} voxels, limit {MAX_VOXELS}; crop it to the image")
        return reader.Execute()
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(talks)


def _chosen_value(labels: VoxelArray, roi: str | None, path: Path) -> int:
    values = [int(v) for v in np.unique(labels[labels != 0])]
    listing = ", ".join(map(str, values[:_MOST_LISTED])) + (" ..." if len(values) > _MOST_LISTED else "")
    if not values:
        raise ImageError(f"{path} holds no label: every voxel is 0; give the label map with the structure in it")
    if roi is None:
        if len(values) > 1:
            raise ImageError(f"{path} holds {len(values)} labels ({listing}); choose one with --canal-roi NUMBER")
        return values[0]
    try:
        value = int(roi)
    except ValueError as error:
        raise ImageError(f"labels in {path} are numbers ({listing}), not {roi!r}; give --canal-roi NUMBER") from error
    if value not in values:
        raise ImageError(f"no label {value} in {path}; it holds {listing}")
    return value


def _resample(mask: npt.NDArray[np.bool_], grid: ImageGrid, target: ImageGrid) -> tuple[npt.NDArray[np.bool_], float]:
    """The mask on another grid by nearest neighbour, and the share of its voxels whose centres lie inside it."""
    result = np.zeros(target.shape, dtype=np.bool_)
    box = _mask_grid(mask, grid)
    inside = float(np.mean(target.contains(grid.index_to_lps(np.argwhere(mask)[:, ::-1]))))
    first, end = target.box_around(box.corners_lps_mm(), 0.0)
    part = target.crop(first, end)
    # Where index (0, 0, 0) and one step along each axis of the part land in the label map: an affine map.
    landed = grid.lps_to_index(part.index_to_lps(np.vstack([np.zeros(3), np.eye(3)])))
    matrix = (landed[1:] - landed[0]).T[::-1, ::-1]  # arrays have their axes in the order k, j, i
    moved = ndimage.affine_transform(
        mask.view(np.uint8), matrix, landed[0][::-1], part.shape, order=0, mode="grid-constant", cval=0
    )
    result[first[2] : end[2], first[1] : end[1], first[0] : end[0]] = moved != 0
    return result, inside


def _mask_grid(mask: npt.NDArray[np.bool_], grid: ImageGrid) -> ImageGrid:
    """The part of the grid that just holds all voxels of the mask."""
    spans = []
    for axis in (2, 1, 0):
        filled = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        spans.append((int(filled[0]), int(filled[-1]) + 1))
    (i0, i1), (j0, j1), (k0, k1) = spans
    return grid.crop((i0, j0, k0), (i1, j1, k1))


def _extent(grid: ImageGrid) -> str:
    corners = grid.corners_lps_mm()
    low, high = np.round(corners.min(axis=0)).astype(int).tolist(), np.round(corners.max(axis=0)).astype(int).tolist()
    return f"LPS {low} to {high} mm"
