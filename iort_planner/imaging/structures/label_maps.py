"""Label maps (NIfTI-1, NRRD) read in pieces by code of our own.

The readers at hand trust the head: damaged files ended the process (MetaImage in ITK 5.4), cut ones were
filled with 0 without a word, and a packed file had to be unpacked on disk first. Both formats are a head
and plain numbers, so the numbers are streamed here, and a limit stands before each allocation.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from iort_planner.errors import ImageError
from iort_planner.imaging.structures import nifti_head, nrrd_head
from iort_planner.imaging.structures.gzip_stream import GzipStream
from iort_planner.imaging.structures.label_layout import LabelLayout
from iort_planner.imaging.structures.rois import Roi
from iort_planner.imaging.volume import ImageGrid

# 512 x 512 x 512: with the codes and the mask below this takes at most 400 MB. Our own choice.
MAX_VOXELS = 1 << 27
# Of different labels in one file; the richest atlases in use have some hundreds. Our own choice.
MAX_LABELS = 1000
# A label's number, so that a table of all of them stays small; atlases in use go up to some 14 000. Our own choice.
MAX_LABEL = 65_535
_PIECE_VOXELS = 1 << 20
# What may follow the voxels in a packed file; some writers pad. Our own choice.
_MAX_TAIL_BYTES = 1 << 24
_TOO_MUCH = "behind its voxels comes more: size or type of its voxels is not what it says"
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labels:
    """A label map as read.

    Parameters
    ----------
    codes : ndarray of shape (nk, nj, ni), uint8 or uint16
        0 for no label, n for the nth of ``rois``.
    rois : tuple of Roi
        The labels in use by rising number, with names where the file has them.
    grid : ImageGrid
    """

    codes: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    rois: tuple[Roi, ...]
    grid: ImageGrid


def is_label_map(head: bytes) -> bool:
    """Whether a file that starts with these bytes may be a label map that `read_labels` reads."""
    return head.startswith(_GZIP) or nifti_head.is_nifti(head) or nrrd_head.is_nrrd(head)


def read_labels(path: Path, *, image_voxels: int = 0) -> Labels:
    """Read a NIfTI-1 (also packed by gzip) or NRRD label map.

    Parameters
    ----------
    image_voxels : int
        Voxels of the image; a label map may have as many, and up to `MAX_VOXELS` in any case.

    Raises
    ------
    ImageError
        If the file is damaged, cut off, too large, says no position in the patient, or holds no labels.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path, max(MAX_VOXELS, image_voxels))
    except FileNotFoundError as error:
        raise ImageError(f"no such file: {path}; check the path") from error
    except (OSError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"cannot read {path}: {reason}; check the file") from error


def take_mask(labels: Labels, roi: Roi) -> npt.NDArray[np.bool_]:
    """Where one label is, shape (nk, nj, ni); made in the memory of the codes, which are lost by it."""
    codes = labels.codes.reshape(-1)
    mask = codes.view(np.bool_)[: codes.size]
    code = labels.rois.index(roi) + 1
    for start in range(0, codes.size, _PIECE_VOXELS):  # a code takes as many bytes as its answer, or more
        mask[start : start + _PIECE_VOXELS] = codes[start : start + _PIECE_VOXELS] == code
    return mask.reshape(labels.codes.shape)


def _read(file: BinaryIO, path: Path, most_voxels: int) -> Labels:
    head = file.read(nrrd_head.MAX_HEAD_BYTES)
    if nrrd_head.is_nrrd(head):
        layout = nrrd_head.read_head(head, path)
        _check_size(layout, path, most_voxels)
        if layout.data_file is None:
            return _collect(_stream(file, layout), layout, path)
        with layout.data_file.open("rb") as data:
            return _collect(_stream(data, layout), layout, path)
    if head.startswith(_GZIP):
        file.seek(0)
        packed = GzipStream(file)
        inner = packed.read(nifti_head.HEAD_BYTES)
        if not nifti_head.is_nifti(inner):
            raise ImageError(f"{path} is a gzip file without NIfTI inside; give a NIfTI or NRRD label map")
        layout = nifti_head.read_head(inner, path)
        _check_size(layout, path, most_voxels)
        packed.read(layout.offset - nifti_head.HEAD_BYTES)
        return _collect(_pieces(packed, layout), layout, path)
    layout = nifti_head.read_head(head[: nifti_head.HEAD_BYTES], path)
    _check_size(layout, path, most_voxels)
    return _collect(_stream(file, layout), layout, path)


def _check_size(layout: LabelLayout, path: Path, most_voxels: int) -> None:
    voxels = math.prod(layout.grid.size_voxels)
    if voxels > most_voxels:
        raise ImageError(f"{path} has {voxels} voxels, limit {most_voxels}; crop it to the image")


def _stream(file: BinaryIO, layout: LabelLayout) -> Iterator[npt.NDArray[np.generic]]:
    """Pieces of voxels that start at the layout's offset in a file."""
    if not layout.packed:
        there = file.seek(0, 2) - layout.offset
        needed = math.prod(layout.grid.size_voxels) * layout.dtype.itemsize
        if there < needed:
            raise OSError(f"it has {max(0, there)} bytes of voxels where {needed} are needed, it is cut off")
    file.seek(layout.offset)
    return _pieces(GzipStream(file) if layout.packed else file, layout)


def _pieces(source: BinaryIO | GzipStream, layout: LabelLayout) -> Iterator[npt.NDArray[np.generic]]:
    left = math.prod(layout.grid.size_voxels)
    while left:
        count = min(left, _PIECE_VOXELS)
        data = source.read(count * layout.dtype.itemsize)
        if len(data) < count * layout.dtype.itemsize:
            raise OSError("it holds fewer voxels than it says, it is cut off")
        left -= count
        yield np.frombuffer(data, dtype=layout.dtype)
    if isinstance(source, GzipStream):  # read to the end: that checks the sum
        for _ in range(_MAX_TAIL_BYTES // _PIECE_VOXELS):
            tail = source.read(_PIECE_VOXELS)
            if not tail:
                return
            if tail.strip(b"\0"):
                break
        raise OSError(_TOO_MUCH)
    if source.read(_MAX_TAIL_BYTES).strip(b"\0"):
        raise OSError(_TOO_MUCH)


def _collect(pieces: Iterator[npt.NDArray[np.generic]], layout: LabelLayout, path: Path) -> Labels:
    """Number the labels as they come, so that one byte (or two) a voxel is all that is kept."""
    voxels = math.prod(layout.grid.size_voxels)
    codes: npt.NDArray[np.uint8] | npt.NDArray[np.uint16] = np.zeros(voxels, dtype=np.uint8)
    code_of = {0: 0}
    done = 0
    for piece in pieces:
        whole = _whole_numbers(piece, layout.scale, path)
        present, places = _distinct(whole)
        for value in present:
            code_of.setdefault(value, len(code_of))
        if len(code_of) - 1 > MAX_LABELS:
            raise ImageError(
                f"{path} holds over {MAX_LABELS} different values: no label map; give one number a structure"
            )
        if len(code_of) > 256 and codes.dtype == np.uint8:
            codes = codes.astype(np.uint16)
        table = np.array([code_of[value] for value in present], dtype=codes.dtype)
        codes[done : done + whole.size] = table[places]
        done += whole.size
    values = sorted(value for value in code_of if value)
    if not values:
        raise ImageError(f"{path} holds no label: every voxel is 0; give the label map with the structure in it")
    rank = np.zeros(len(code_of), dtype=codes.dtype)
    for n, value in enumerate(values, start=1):
        rank[code_of[value]] = n
    for start in range(0, voxels, _PIECE_VOXELS):
        codes[start : start + _PIECE_VOXELS] = rank[codes[start : start + _PIECE_VOXELS]]
    names = dict(layout.names)
    return Labels(
        codes=codes.reshape(layout.grid.shape),
        rois=tuple(Roi(value, names.get(value, "")) for value in values),
        grid=layout.grid,
    )


def _whole_numbers(piece: npt.NDArray[np.generic], scale: tuple[float, float], path: Path) -> npt.NDArray[np.int64]:
    values: npt.NDArray[np.generic] = piece
    if scale != (1.0, 0.0) or piece.dtype.kind == "f":
        with np.errstate(all="ignore"):  # infinite and undefined values are refused below
            values = piece.astype(np.float64) * scale[0] + scale[1]
        if np.any(values != np.rint(values)):  # NaN is refused too
            raise ImageError(
                f"{path} holds values that are not whole numbers: no label map; give one number a structure"
            )
    low, high = values.min(), values.max()
    if low < -MAX_LABEL or high > MAX_LABEL:
        raise ImageError(
            f"{path} holds values from {low:g} to {high:g}: no label map; give one number a structure, "
            f"{MAX_LABEL} at most"
        )
    return values.astype(np.int64)


def _distinct(whole: npt.NDArray[np.int64]) -> tuple[list[int], npt.NDArray[np.intp]]:
    """The distinct values, and for each number which of them it is."""
    low, high = int(whole.min()), int(whole.max())
    seen = np.zeros(high - low + 1, dtype=np.bool_)
    seen[whole - low] = True
    values = np.flatnonzero(seen)
    place = np.zeros(high - low + 1, dtype=np.intp)
    place[values] = np.arange(values.size)
    return [int(v) + low for v in values], place[whole - low]
