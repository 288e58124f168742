"""Stored pixels to voxel values: bits, sign, rescale.

A value is ``slope * stored + intercept`` of its own slice. It stays int16 where that is exact for every
slice, and becomes float32 for the whole volume otherwise. Padding (outside the field of view) is left as
the file has it: it lies below air in every CT that follows the standard, and a warning says so where not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from iort_planner.errors import ImageError
from iort_planner.imaging.volume import VoxelArray

Progress: TypeAlias = Callable[[int, int], None]

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
NATIVE_SYNTAXES = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED_LITTLE, EXPLICIT_BIG})
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelLayout:
    """How one slice's pixels are stored; ``offset`` is where they start in the file, if that is known."""

    transfer_syntax_uid: str
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    samples_per_pixel: int
    frames: int
    offset: int | None

    @property
    def byte_count(self) -> int:
        """Bytes of one frame."""
        return self.rows * self.columns * self.bits_allocated // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescale:
    """The linear step from stored to output values; ``type`` is Rescale Type, empty when absent."""

    slope: float = 1.0
    intercept: float = 0.0
    type: str = ""
    stated: bool = False

    @property
    def is_integer(self) -> bool:
        """Whether whole numbers stay whole."""
        return self.slope.is_integer() and self.intercept.is_integer()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSlice:
    """One slice to decode: the file, its name for messages, how pixels are stored, how they are rescaled."""

    path: Path
    name: str
    layout: PixelLayout
    rescale: Rescale
    padding: int | None = None


def unsupported_pixels(layout: PixelLayout) -> str | None:
    """Why these pixels cannot be read, by name; None if they can."""
    if layout.transfer_syntax_uid not in NATIVE_SYNTAXES:
        name = uid_name(layout.transfer_syntax_uid) or "no transfer syntax"
        return f"{name} is not supported yet; store the series uncompressed"
    if layout.photometric != "MONOCHROME2":
        return f"photometric interpretation {layout.photometric or 'none'} is not supported; MONOCHROME2 is"
    if layout.samples_per_pixel != 1:
        return f"{layout.samples_per_pixel} samples per pixel (colour) are not supported; give the original slices"
    if layout.frames > 1:
        return f"{layout.frames} frames in one CT Image Storage file are not supported; give single slices"
    if layout.bits_allocated not in (8, 16):
        return f"{layout.bits_allocated} bits allocated per pixel are not supported; 8 and 16 are"
    if not 1 <= layout.bits_stored <= layout.bits_allocated or layout.high_bit != layout.bits_stored - 1:
        return (
            f"bits stored {layout.bits_stored} with high bit {layout.high_bit} in {layout.bits_allocated} bits are not "
            "supported; the high bit must be bits stored - 1"
        )
    return None


def decode_slices(slices: Sequence[StoredSlice], progress: Progress | None = None) -> VoxelArray:
    """Read, clean and rescale all slices.

    Parameters
    ----------
    slices : sequence of StoredSlice
        In the order of the k axis; all of one size.
    progress : callable or None
        Called with (slices done, slices in all).

    Returns
    -------
    ndarray of shape (nk, nj, ni), int16 where exact, else float32

    Raises
    ------
    ImageError
        If a file holds fewer pixels than it says, or cannot be read.
    """
    shape = (len(slices), slices[0].layout.rows, slices[0].layout.columns)
    values: VoxelArray = np.empty(shape, dtype=np.int16)
    for k, stored in enumerate(slices):
        plane = values[k] if values.dtype == np.int16 else np.empty(shape[1:], dtype=np.int16)
        raw = _read_words(stored, plane)
        if values.dtype == np.int16 and not _rescale_exactly(raw, stored.rescale):
            # From here on the whole volume is float32; what was exact in int16 stays exact.
            floats = np.empty(shape, dtype=np.float32)
            floats[:k] = values[:k]
            values = floats
        if values.dtype == np.float32:
            values[k] = raw.astype(np.float64) * stored.rescale.slope + stored.rescale.intercept
        if progress is not None:
            progress(k + 1, len(slices))
    return values


def _read_words(stored: StoredSlice, plane: npt.NDArray[np.int16]) -> npt.NDArray[Any]:
    """Stored values of one slice in ``plane``'s memory, as int16 or uint16 by their sign."""
    layout = stored.layout
    if layout.bits_allocated == 8:
        small = np.empty(plane.shape, dtype=np.int8 if layout.signed else np.uint8)
        _read_bytes(stored, small)
        plane[...] = small
    else:
        _read_bytes(stored, plane)
        if (layout.transfer_syntax_uid == EXPLICIT_BIG) != (sys.byteorder == "big"):
            plane.byteswap(inplace=True)
    words: npt.NDArray[Any] = plane if layout.signed else plane.view(np.uint16)
    unused = 16 - layout.bits_stored
    if unused:  # bits above the stored ones may hold overlays or rubbish (DICOM PS3.5 8.1.1)
        if layout.signed:
            words <<= unused
            words >>= unused
        else:
            words &= np.uint16((1 << layout.bits_stored) - 1)
    return words


def _read_bytes(stored: StoredSlice, target: npt.NDArray[Any]) -> None:
    layout = stored.layout
    try:
        if layout.offset is not None:
            with stored.path.open("rb", buffering=0) as file:
                file.seek(layout.offset)
                count = file.readinto(target.data.cast("B")) or 0
        else:
            data = _pixel_data(stored.path)
            count = len(data)
            if count >= target.nbytes:
                target.reshape(-1).view(np.uint8)[...] = np.frombuffer(data, np.uint8, target.nbytes)
    except OSError as error:
        raise ImageError(f"cannot read {stored.name}: {error.strerror or error}; check the file") from error
    if count < target.nbytes:
        raise ImageError(
            f"{stored.name} holds {count} bytes of pixels where {layout.columns} x {layout.rows} pixels need "
            f"{target.nbytes}; the file is cut off, export it again"
        )


def _pixel_data(path: Path) -> bytes:
    """Pixel bytes where they cannot be read in place (deflated files)."""
    import pydicom

    data = pydicom.dcmread(path, specific_tags=["PixelData"]).get("PixelData")
    return data if isinstance(data, bytes) else b""


def _rescale_exactly(words: npt.NDArray[Any], rescale: Rescale) -> bool:
    """Rescale in place if every result is a whole number that int16 holds; else leave the words alone."""
    if not rescale.is_integer:
        return False
    slope, intercept = int(rescale.slope), int(rescale.intercept)
    ends = (slope * int(words.min()) + intercept, slope * int(words.max()) + intercept)
    if min(ends) < -32768 or max(ends) > 32767:
        return False
    # Sums and products modulo 2**16 are exact whenever the final value fits, whatever happens on the way.
    modular = words.view(np.uint16)
    if slope != 1:
        modular *= np.uint16(slope % 65536)
    if intercept:
        modular += np.uint16(intercept % 65536)
    return True


def uid_name(uid: str) -> str:
    """Name of a DICOM UID, the UID itself if it has none; empty for an empty one."""
    from pydicom import config
    from pydicom.uid import UID

    return str(UID(uid, validation_mode=config.IGNORE).name) if uid else ""
