"""The head of a NIfTI-1 file: what common readers pass over in silence is checked here.

Layout of the 348 bytes: nifti1.h of the NIfTI Data Format Working Group (byte offsets in brackets below).
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from iort_planner.errors import ImageError
from iort_planner.imaging.structures.label_layout import LabelLayout, grid_from_affine
from iort_planner.units import FloatArray

HEAD_BYTES = 348
# qform and sform may differ by rounding to float32. Our own choice, far below a voxel.
AFFINE_TOLERANCE_MM = 0.05
# Data type codes [70] with one real number a voxel, as numpy has them; half and quadruple numbers are not used.
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
# Codes of xyzt_units [123], lower three bits: 0 unknown (mm is meant, by habit), 2 mm.
_MILLIMETRES = (0, 2)
# Voxels may start behind extensions; more than this is not skipped. Our own choice.
_MAX_OFFSET = 1 << 24


def is_nifti(head: bytes) -> bool:
    """Whether a file that starts with these bytes is a NIfTI-1 or NIfTI-2 file in one piece."""
    one = head[344:348] == b"n+1\0" and HEAD_BYTES in (_unpack(head, "<i", 0)[0], _unpack(head, ">i", 0)[0])
    return one or head[4:8] == b"n+2\0"


def read_head(head: bytes, path: Path) -> LabelLayout:
    """What the head says of grid and voxels.

    NIfTI says the position in the patient in up to two ways (qform, sform): one must be there, and both
    must agree.

    Raises
    ------
    ImageError
        For heads that make no sense, and for files that say no position or two.
    """
    if head[4:8] == b"n+2\0":
        raise ImageError(f"{path} is NIfTI-2, which is not supported; store it as NIfTI-1 or NRRD")
    order = "<" if _unpack(head, "<i", 0)[0] == HEAD_BYTES else ">"
    dimensions, *size = (int(n) for n in _unpack(head, f"{order}8h", 40))
    datatype, bits = (int(n) for n in _unpack(head, f"{order}2h", 70))
    if dimensions not in (3, 4) or min(size[:dimensions]) < 1 or (dimensions == 4 and size[3] != 1):
        shown = " x ".join(map(str, size[: max(0, min(7, dimensions))]))
        raise ImageError(f"{path} has {dimensions} dimensions ({shown}); a label map has three; check the file")
    if datatype not in _TYPES or 8 * int(_TYPES[datatype][1]) != bits:
        raise ImageError(f"{path} has data type {datatype} with {bits} bits, no plain numbers; store whole numbers")
    offset, slope, intercept = _unpack(head, f"{order}3f", 108)
    if not (HEAD_BYTES <= offset <= _MAX_OFFSET and float(offset).is_integer()):  # NaN is refused too
        raise ImageError(f"cannot read {path}: its voxels start at byte {offset:g}, no sound place; check the file")
    units = head[123] & 7
    if units not in _MILLIMETRES:
        raise ImageError(f"{path} has lengths in another unit than mm (code {units}); save it again in mm")
    affine = _affine(head, order, size, path)
    i, j, k = size[:3]
    return LabelLayout(
        grid=grid_from_affine((i, j, k), np.array([-1.0, -1.0, 1.0])[:, None] * affine, path),  # RAS to LPS
        dtype=np.dtype(order + _TYPES[datatype]),
        offset=int(offset),
        # nifti1.h: a slope of 0 means none; some writers leave NaN in an unused slope.
        scale=(slope, intercept) if math.isfinite(slope) and slope != 0 else (1.0, 0.0),
    )


def _affine(head: bytes, order: str, size: list[int], path: Path) -> FloatArray:
    """Voxel index to RAS mm, (3, 4)."""
    qform_code, sform_code = _unpack(head, f"{order}2h", 252)
    if qform_code <= 0 and sform_code <= 0:
        raise ImageError(
            f"{path} says no position in the patient (qform and sform codes are 0); save it with its image's geometry"
        )
    with np.errstate(all="ignore"):  # rubbish in the head ends as NaN, which is refused
        if qform_code <= 0:
            return _sform(head, order)
        if sform_code <= 0:
            return _qform(head, order)
        corners = np.array(
            [(a, b, c, 1) for a in (0, size[0]) for b in (0, size[1]) for c in (0, size[2])], dtype=float
        )
        apart = float(np.max(np.linalg.norm(corners @ (_sform(head, order) - _qform(head, order)).T, axis=1)))
    if not apart <= AFFINE_TOLERANCE_MM:
        raise ImageError(
            f"{path} says two positions in the patient that differ by {apart:.2f} mm (qform and sform), limit "
            f"{AFFINE_TOLERANCE_MM:g} mm; save it again with one geometry"
        )
    return _sform(head, order)


def _unpack(head: bytes, form: str, offset: int) -> tuple[float, ...]:
    """Numbers at a byte offset; zeros where the head ends before."""
    need = offset + struct.calcsize(form)
    return struct.unpack_from(form, head.ljust(need, b"\0"), offset)


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
