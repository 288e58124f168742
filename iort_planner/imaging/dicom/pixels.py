"""Stored pixels to voxel values: bits, sign, rescale.

A value is ``slope * stored + intercept`` of its own slice. It stays int16 where that is exact for every
slice, and becomes float32 for the whole volume otherwise. Padding (outside the field of view) is left as
the file has it: it lies below air in every CT that follows the standard, and a warning says so where not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from iort_planner.errors import ImageError
from iort_planner.imaging.dicom.compressed import SUPPORTED_SYNTAXES, FrameDecoder, FrameFormat, FrameJob
from iort_planner.imaging.dicom.encapsulated import index_frames
from iort_planner.imaging.dicom.sources import READ_ERRORS, InflatingReader
from iort_planner.imaging.volume import VoxelArray

if TYPE_CHECKING:
    import io

    from iort_planner.imaging.dicom.sources import Source

Progress: TypeAlias = Callable[[int, int], None]

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
NATIVE_SYNTAXES = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED_LITTLE, EXPLICIT_BIG})
PIXEL_DATA = 0x7FE00010


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelLayout:
    """How the pixels of one file are stored.

    ``offset`` is where they start, in the file, or in the inflated data set of a deflated one, which starts at
    ``data_set_start`` of the file; None where there are none. ``length`` is None where they are encapsulated.
    """

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
    data_set_start: int = 0
    offset: int | None
    length: int | None = None
    extended_offsets: tuple[bytes, bytes] = (b"", b"")

    @property
    def byte_count(self) -> int:
        """Bytes of one frame."""
        return self.rows * self.columns * self.samples_per_pixel * self.bits_allocated // 8


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredSlice:
    """One slice to decode: the file, which of its frames, its name for messages, how pixels are stored and rescaled."""

    source: Source
    name: str
    layout: PixelLayout
    rescale: Rescale
    index: int = 0
    padding: int | None = None


def unsupported_pixels(layout: PixelLayout) -> str | None:
    """Why these pixels cannot be read, by name; None if they can."""
    if layout.transfer_syntax_uid not in NATIVE_SYNTAXES | SUPPORTED_SYNTAXES:
        name = uid_name(layout.transfer_syntax_uid) or "no transfer syntax"
        return f"{name} is not supported; store the series uncompressed"
    if layout.photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        return f"photometric interpretation {layout.photometric or 'none'} is not supported; give the original slices"
    if layout.samples_per_pixel != 1:
        return f"{layout.samples_per_pixel} samples per pixel (colour) are not supported; give the original slices"
    if layout.bits_allocated not in (8, 16):
        return f"{layout.bits_allocated} bits allocated per pixel are not supported; 8 and 16 are"
    if layout.transfer_syntax_uid == EXPLICIT_BIG and layout.bits_allocated == 8:
        return (
            "8-bit pixels in big endian order are not supported (they may lie in swapped pairs); store the series anew"
        )
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
        In the order of the k axis; all of one size, and of a kind that `unsupported_pixels` finds nothing against.
    progress : callable or None
        Called with (slices done, slices in all).

    Returns
    -------
    ndarray of shape (nk, nj, ni), int16 where exact, else float32

    Raises
    ------
    ImageError
        If a file holds fewer pixels than it says, is damaged, or cannot be read.
    """
    shape = (len(slices), slices[0].layout.rows, slices[0].layout.columns)
    try:
        values: VoxelArray = np.empty(shape, dtype=np.int16)
        for done, (k, words) in enumerate(_stored_words(slices, values), 1):
            rescale = slices[k].rescale
            if values.dtype == np.int16 and not _rescale_exactly(words, rescale):
                # From here on the whole volume is float32; what was exact in int16 stays exact.
                words = words.copy()
                values = values.astype(np.float32)
            if values.dtype == np.float32:
                values[k] = words.astype(np.float64) * rescale.slope + rescale.intercept
            elif words.base is not values:
                values[k] = words.view(np.int16)
            if progress is not None:
                progress(done, len(slices))
    except MemoryError:
        text = f"{shape[2]} x {shape[1]} x {shape[0]} voxels do not fit in this machine's memory; crop the scan"
        raise ImageError(text) from None
    return values


def _stored_words(slices: Sequence[StoredSlice], values: VoxelArray) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Stored values of every slice with its k, file by file, as int16 or uint16 by their sign; the order is free.

    ``values`` lends its planes as long as it is int16: what comes may be one of its planes, filled.
    """
    by_file: dict[int, list[int]] = {}
    for k, stored in enumerate(slices):
        by_file.setdefault(id(stored.source), []).append(k)
    compressed = []
    for members in by_file.values():
        first = slices[members[0]]
        if first.layout.transfer_syntax_uid in NATIVE_SYNTAXES:
            yield from _native_words(slices, sorted(members, key=lambda k: slices[k].index), values)
        else:
            compressed.append(members)
    if compressed:
        yield from _compressed_words(slices, compressed)


def _native_words(
    slices: Sequence[StoredSlice], members: list[int], values: VoxelArray
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Frames of one uncompressed file, in the file's order."""
    layout = slices[members[0]].layout
    swap = (layout.transfer_syntax_uid == EXPLICIT_BIG) != (sys.byteorder == "big")
    for k, plane in zip(members, _native_planes(slices, members, values), strict=True):
        if swap and layout.bits_allocated == 16:
            plane.byteswap(inplace=True)
        yield k, _clean(plane, layout)


def _native_planes(
    slices: Sequence[StoredSlice], members: list[int], values: VoxelArray
) -> Iterator[npt.NDArray[np.int16]]:
    first = slices[members[0]]
    layout = first.layout
    kind = np.int16 if layout.bits_allocated == 16 else np.int8 if layout.signed else np.uint8
    try:
        first.source.verify()
        with first.source.open() as file:
            stream: BinaryIO | InflatingReader = file
            if layout.transfer_syntax_uid == DEFLATED_LITTLE:
                file.seek(layout.data_set_start)
                stream = InflatingReader(file, keep=False)
            for k in members:
                target = values[k] if kind == np.int16 else np.empty(values.shape[1:], dtype=kind)
                stream.seek((layout.offset or 0) + slices[k].index * layout.byte_count)
                count = _read_into(stream, target)
                if count < target.nbytes:
                    raise ImageError(
                        f"{slices[k].name} holds {count} bytes of pixels where {layout.columns} x {layout.rows} pixels "
                        f"need {target.nbytes}; the file is cut off, export it again"
                    )
                yield target if kind == np.int16 else target.astype(np.int16)
            _check_end(stream, layout, first.source.name)
    except READ_ERRORS as error:
        raise _unreadable(first.name, error) from error


def _check_end(stream: BinaryIO | InflatingReader, layout: PixelLayout, name: str) -> None:
    """After the pixels, the file ends or a higher element follows; else bytes were put in among the pixels."""
    if layout.offset is None or layout.length is None:
        return
    stream.seek(layout.offset + layout.length)
    head = stream.read(4)
    order: Literal["little", "big"] = "big" if layout.transfer_syntax_uid == EXPLICIT_BIG else "little"
    tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:], order)
    if head and (len(head) < 4 or tag <= PIXEL_DATA):
        raise ImageError(
            f"{name}: after its pixels comes neither the end of the file nor another element; it is damaged, export it again"
        )


def _read_into(stream: BinaryIO | InflatingReader, target: npt.NDArray[Any]) -> int:
    if isinstance(stream, InflatingReader):
        data = stream.read(target.nbytes)
        target.reshape(-1).view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
        return len(data)
    return cast("io.BufferedReader", stream).readinto(target.data.cast("B"))


def _compressed_words(slices: Sequence[StoredSlice], files: list[list[int]]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Frames of compressed files, as the decoders hand them over."""
    with FrameDecoder() as decoder:
        for k, words in decoder.decode(_jobs(slices, files)):
            yield k, _clean(words.astype(np.int16) if words.itemsize == 1 else words.view(np.int16), slices[k].layout)


def _jobs(slices: Sequence[StoredSlice], files: list[list[int]]) -> Iterator[FrameJob]:
    for members in files:
        first = slices[members[0]]
        layout = first.layout
        how = FrameFormat(
            transfer_syntax_uid=layout.transfer_syntax_uid,
            rows=layout.rows,
            columns=layout.columns,
            bits_allocated=layout.bits_allocated,
            bits_stored=layout.bits_stored,
            signed=layout.signed,
        )
        try:
            first.source.verify()
            with first.source.open() as file:
                index = index_frames(
                    file,
                    offset=layout.offset or 0,
                    length_limit=first.source.size,
                    frames=layout.frames,
                    name=first.source.name,
                    transfer_syntax_uid=layout.transfer_syntax_uid,
                    extended_offsets=layout.extended_offsets if layout.extended_offsets[0] else None,
                )
                for k in sorted(members, key=lambda k: slices[k].index):
                    data = index.read(file, slices[k].index, at_most=how.most_compressed_bytes)
                    yield FrameJob(index=k, name=slices[k].name, format=how, data=data)
        except READ_ERRORS as error:
            raise _unreadable(first.name, error) from error


def _unreadable(name: str, error: Exception) -> ImageError:
    return ImageError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}; check the file")


def _clean(words: npt.NDArray[np.int16], layout: PixelLayout) -> npt.NDArray[Any]:
    """Stored values without what stands above the stored bits: overlays or rubbish (DICOM PS3.5 8.1.1)."""
    result: npt.NDArray[Any] = words if layout.signed else words.view(np.uint16)
    unused = 16 - layout.bits_stored
    if unused:
        if layout.signed:
            result <<= unused
            result >>= unused
        else:
            result &= np.uint16((1 << layout.bits_stored) - 1)
    return result


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
