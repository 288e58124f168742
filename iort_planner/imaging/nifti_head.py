"""The head of a NIfTI-1 file: what the readers at hand pass over in silence is checked here.

Layout of the 348 bytes: nifti1.h of the NIfTI Data Format Working Group (byte offsets in brackets below).
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from iort_planner.errors import ImageError
from iort_planner.units import FloatArray

HEAD_BYTES = 348
# qform and sform may differ by rounding to float32. Our own choice, far below a voxel.
AFFINE_TOLERANCE_MM = 0.05
# Data type codes with one real number a voxel, and their bits.
_BITS = {2: 8, 4: 16, 8: 32, 16: 32, 64: 64, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64}


def is_nifti(head: bytes) -> bool:
    """Whether a file that starts with these bytes is a NIfTI-1 or NIfTI-2 file in one piece."""
    one = head[344:348] == b"n+1\0" and HEAD_BYTES in (_unpack(head, "<i", 0)[0], _unpack(head, ">i", 0)[0])
    return one or head[4:8] == b"n+2\0"


def check_head(head: bytes, path: Path) -> None:
    """Refuse heads that make no sense, and files that say no position in the patient or two.

    NIfTI says the position in up to two ways (qform, sform): one must be there, and both must agree.

    Raises
    ------
    ImageError
    """
    if head[4:8] == b"n+2\0":
        raise ImageError(f"{path} is NIfTI-2, which is not supported; store it as NIfTI-1 or NRRD")
    order = _order(head)
    dimensions, *size = _unpack(head, f"{order}8h", 40)
    datatype, bits = _unpack(head, f"{order}2h", 70)
    if dimensions not in (3, 4) or min(size[:dimensions]) < 1 or (dimensions == 4 and size[3] != 1):
        shown = " x ".join(map(str, size[: max(0, min(7, dimensions))]))
        raise ImageError(f"{path} has {dimensions} dimensions ({shown}); a label map has three; check the file")
    if _BITS.get(datatype) != bits:
        raise ImageError(f"{path} has data type {datatype} with {bits} bits, no plain numbers; store whole numbers")
    qform_code, sform_code = _unpack(head, f"{order}2h", 252)
    if qform_code <= 0 and sform_code <= 0:
        raise ImageError(
            f"{path} says no position in the patient (qform and sform codes are 0); save it with its image's geometry"
        )
    if qform_code <= 0 or sform_code <= 0:
        return
    corners = np.array([(a, b, c, 1) for a in (0, size[0]) for b in (0, size[1]) for c in (0, size[2])], dtype=float)
    with np.errstate(all="ignore"):  # rubbish in the head ends as NaN, which is refused
        apart = float(np.max(np.linalg.norm(corners @ (_sform(head, order) - _qform(head, order)).T, axis=1)))
    if not apart <= AFFINE_TOLERANCE_MM:
        raise ImageError(
            f"{path} says two positions in the patient that differ by {apart:.2f} mm (qform and sform), limit "
            f"{AFFINE_TOLERANCE_MM:g} mm; save it again with one geometry"
        )


def check_length(path: Path) -> None:
    """Refuse an unpacked file that is cut off: SimpleITK reads its missing part as 0 without a word.

    Raises
    ------
    OSError
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    order = _order(head)
    dimensions, *size = _unpack(head, f"{order}8h", 40)
    (bits,) = _unpack(head, f"{order}h", 72)
    (offset,) = _unpack(head, f"{order}f", 108)
    length = path.stat().st_size
    needed = offset + math.prod(size[:dimensions]) * bits // 8
    if not (offset >= HEAD_BYTES and needed <= length):  # NaN is refused too
        raise OSError(f"it has {length} bytes where {needed:.0f} are needed, it is cut off")


def _unpack(head: bytes, form: str, offset: int) -> tuple[int, ...]:
    """Numbers at a byte offset; zeros where the head ends before."""
    need = offset + struct.calcsize(form)
    return struct.unpack_from(form, head.ljust(need, b"\0"), offset)


def _order(head: bytes) -> str:
    return "<" if _unpack(head, "<i", 0)[0] == HEAD_BYTES else ">"


def _sform(head: bytes, order: str) -> FloatArray:
    """Voxel index to RAS mm, (3, 4), as the sform has it [280]."""
    return np.array(_unpack(head, f"{order}12f", 280), dtype=np.float64).reshape(3, 4)


def _qform(head: bytes, order: str) -> FloatArray:
    """Voxel index to RAS mm, (3, 4), as the qform has it: spacings [76], unit quaternion and offset [256]."""
    handedness, *spacing = _unpack(head, f"{order}4f", 76)
    b, c, d, *offset = _unpack(head, f"{order}6f", 256)
    a = math.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    steps = np.array(spacing) * (1, 1, -1 if handedness < 0 else 1)
    return np.column_stack([rotation * steps, offset])
