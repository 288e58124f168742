"""Compressed frames made in the tests, and the items that encapsulate them, written out by hand."""

from __future__ import annotations

import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.encaps import generate_fragments
from pydicom.pixels.encoders.base import get_encoder

sys.modules.setdefault("dl", None)  # type: ignore[arg-type]  # what the decoding child does, for the encoder here
import gdcm  # noqa: E402  # only after the line above

from iort_planner.imaging.dicom.compressed import FrameFormat  # noqa: E402  # stands below gdcm, which must come late

RLE = "1.2.840.10008.1.2.5"
JPEG_BASELINE, JPEG_EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS_ANY, JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
JPEG_LS, JPEG_LS_LOSSY = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS, JPEG_2000 = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
LOSSLESS = (RLE, JPEG_LOSSLESS_ANY, JPEG_LOSSLESS, JPEG_LS, JPEG_2000_LOSSLESS)
DELIMITER = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def form(syntax: str, words: npt.NDArray[Any], bits: int | None = None) -> FrameFormat:
    """The format that a right header would state for ``words``."""
    return FrameFormat(
        transfer_syntax_uid=syntax,
        rows=words.shape[0],
        columns=words.shape[1],
        bits_allocated=words.dtype.itemsize * 8,
        bits_stored=bits or words.dtype.itemsize * 8,
        signed=words.dtype.kind == "i",
    )


def some_words(dtype: str, bits: int, shape: tuple[int, int] = (38, 53), seed: int = 1) -> npt.NDArray[Any]:
    """A ramp with noise over the whole range of ``bits``, both ends included."""
    rng = np.random.default_rng(seed)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype.startswith("i") else (0, 2**bits - 1)
    ramp = np.linspace(low, high, shape[0] * shape[1]).reshape(shape)
    words = np.clip(np.rint(ramp + rng.normal(0, 2 ** (bits - 6), shape)), low, high).astype(dtype)
    words[0, 0], words[-1, -1], words[3, 5], words[7, 2] = low, high, high, low
    return words


def encode(words: npt.NDArray[Any], syntax: str, bits: int | None = None, *, signed: bool | None = None) -> bytes:
    """One frame; ``bits`` and ``signed`` is what the encoder is told of the words."""
    bits = bits or words.dtype.itemsize * 8
    if syntax == RLE:
        stream: bytes = get_encoder(RLE).encode(
            words.tobytes(),
            rows=words.shape[0],
            columns=words.shape[1],
            samples_per_pixel=1,
            bits_allocated=words.dtype.itemsize * 8,
            bits_stored=bits,
            pixel_representation=int(words.dtype.kind == "i"),
            photometric_interpretation="MONOCHROME2",
            number_of_frames=1,
            encoding_plugin="pydicom",  # gdcm would come first, and abort at odd sizes
        )
        return stream
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetByteStringValue(words.tobytes())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((words.shape[1], words.shape[0], 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ExplicitVRLittleEndian))
    sign = words.dtype.kind == "i" if signed is None else signed
    image.SetPixelFormat(gdcm.PixelFormat(1, words.dtype.itemsize * 8, bits, bits - 1, int(sign)))
    change = gdcm.ImageChangeTransferSyntax()
    change.SetInput(image)
    image.this.disown()  # `change` deletes it
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    if not change.Change():
        raise ValueError(f"gdcm cannot encode {words.dtype} {bits} bits as {syntax}")
    # gdcm's own access to the fragments frees them twice; a file is the way out.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoded.dcm"
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(path))
        writer.SetImage(change.GetOutput())
        if not writer.Write():
            raise ValueError("gdcm cannot write")
        data: bytes = dcmread(path).PixelData
    return b"".join(generate_fragments(data[8 + int.from_bytes(data[4:8], "little") :]))


def item(value: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


def encapsulate(frames: list[list[bytes]], *, table: list[int] | str = "empty") -> bytes:
    """Fragments of frames as items, with the right, an empty or a given basic offset table."""
    offsets, position = [], 0
    for fragments in frames:
        offsets.append(position)
        position += sum(8 + len(fragment) for fragment in fragments)
    values = {"empty": [], "right": offsets}[table] if isinstance(table, str) else table
    body = b"".join(item(fragment) for fragments in frames for fragment in fragments)
    return item(struct.pack(f"<{len(values)}I", *values)) + body + DELIMITER
