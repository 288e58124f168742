"""The head of an NRRD file (teem's "Definition of NRRD file format", magic NRRD0001 to NRRD0005).

Label maps as 3D Slicer and SimpleITK write them: three axes, raw or gzip data behind the head or in one
file beside it. 3D Slicer adds names of the labels (``Segment0_Name:=...``).
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from iort_planner.errors import ImageError
from iort_planner.imaging.dicom.tags import printable
from iort_planner.imaging.structures.label_layout import LabelLayout, grid_from_affine
from iort_planner.imaging.structures.rois import Roi
from iort_planner.units import FloatArray

# 3D Slicer writes some 1 KB a segment. Our own choice.
MAX_HEAD_BYTES = 1 << 20

# What turns the three spaces in patient axes that NRRD knows into LPS.
_TO_LPS = {
    "left-posterior-superior": (1.0, 1.0, 1.0),
    "lps": (1.0, 1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0, 1.0),
    "ras": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0),
    "las": (1.0, -1.0, 1.0),
}
_TYPES = {
    "i1": "signed char,int8,int8_t",
    "u1": "uchar,unsigned char,uint8,uint8_t",
    "i2": "short,short int,signed short,signed short int,int16,int16_t",
    "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
    "i4": "int,signed int,int32,int32_t",
    "u4": "uint,unsigned int,uint32,uint32_t",
    "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
    "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
    "f4": "float",
    "f8": "double",
}
_TYPE_BY_NAME = {name: code for code, names in _TYPES.items() for name in names.split(",")}
_VECTOR = re.compile(r"\(([^()]*)\)")


def is_nrrd(head: bytes) -> bool:
    """Whether a file that starts with these bytes is NRRD."""
    return head.startswith(b"NRRD000")


def read_head(data: bytes, path: Path) -> LabelLayout:
    """What the head says of grid and voxels; ``data`` are the first `MAX_HEAD_BYTES` of the file.

    Raises
    ------
    ImageError
    """
    length, fields, keys = _parse(data, path)
    dimension = fields.get("dimension", "")
    if dimension != "3":
        raise ImageError(
            f"{path} has {printable(dimension)[:20] or 'no'} dimensions; a label map has three "
            "(overlapping segments are stored in a fourth: export the one that is needed)"
        )
    code = _TYPE_BY_NAME.get(fields.get("type", "").lower())
    if code is None:
        raise ImageError(f"{path} has numbers of the type {_shown(fields, 'type')}; store whole numbers")
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise ImageError(f"{path} has the encoding {_shown(fields, 'encoding')}, raw and gzip are read; store it so")
    endian = fields.get("endian", "").lower()
    if endian not in ("little", "big") and code[1] != "1":
        raise ImageError(f"{path} says no byte order (field endian); save it again")
    for name in ("line skip", "lineskip", "byte skip", "byteskip"):
        if fields.get(name, "0") != "0":
            raise ImageError(f"{path} skips part of its data ({name}), which is not supported; save it again")
    data_file = fields.get("data file", fields.get("datafile"))
    return LabelLayout(
        grid=grid_from_affine(_sizes(fields, path), _affine(fields, path), path),
        dtype=np.dtype((">" if endian == "big" else "<") + code),
        offset=length if data_file is None else 0,
        packed=encoding != "raw",
        data_file=None if data_file is None else _beside(path, data_file),
        names=_names(keys),
    )


def _parse(data: bytes, path: Path) -> tuple[int, dict[str, str], dict[str, str]]:
    """Length of the head in bytes, its fields, and its key/value pairs."""
    end = re.search(rb"\r?\n\r?\n", data)
    if end is None and len(data) >= MAX_HEAD_BYTES:
        raise ImageError(f"{path} has a head of over {MAX_HEAD_BYTES} bytes; save it without further entries")
    # A head that is the whole file (its voxels lie beside it) may end without an empty line.
    text = (data if end is None else data[: end.start()]).decode("utf-8", "replace")
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    for line in text.split("\n")[1:]:
        if line.startswith("#"):
            continue
        name, mark, value = line.rstrip("\r").partition(":")
        if value.startswith("="):
            keys[name] = value[1:]
        elif mark:
            fields.setdefault(name.strip().lower(), value.strip())
    return len(data) if end is None else end.end(), fields, keys


def _sizes(fields: dict[str, str], path: Path) -> tuple[int, int, int]:
    parts = fields.get("sizes", "").split()
    if len(parts) != 3 or not all(p.isdecimal() and len(p) <= 9 and int(p) > 0 for p in parts):
        raise ImageError(f"{path} has the sizes {_shown(fields, 'sizes')}, not three whole numbers; save it again")
    i, j, k = map(int, parts)
    return i, j, k


def _affine(fields: dict[str, str], path: Path) -> FloatArray:
    space = fields.get("space")
    if space is None:
        raise ImageError(
            f"{path} says no position in the patient (NRRD without 'space'); save it with its image's geometry"
        )
    signs = _TO_LPS.get(space.lower())
    if signs is None:
        raise ImageError(
            f"{path} is in the space {_shown(fields, 'space')}, not in patient axes; save it as LPS or RAS"
        )
    units = re.findall(r'"([^"]*)"', fields.get("space units", '"mm"'))
    if any(unit.lower() not in ("mm", "millimeter", "millimetre", "") for unit in units):
        raise ImageError(f"{path} has the space units {_shown(fields, 'space units')}; save it in mm")
    directions = [_vector(text) for text in _VECTOR.findall(fields.get("space directions", ""))]
    origin = [_vector(text) for text in _VECTOR.findall(fields.get("space origin", ""))]
    vectors = [v for v in (*directions, *origin) if v is not None]
    if len(directions) != 3 or len(origin) != 1 or len(vectors) != 4:
        raise ImageError(
            f"{path} has no sound position: three space directions and one space origin of three numbers are needed; "
            "save it with its image's geometry"
        )
    result: FloatArray = np.array(signs)[:, None] * np.array(vectors, dtype=np.float64).T
    return result


def _vector(text: str) -> list[float] | None:
    parts = text.replace("_", "?").split(",")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        return None
    return values if len(values) == 3 and all(map(math.isfinite, values)) else None


def _beside(path: Path, name: str) -> Path:
    """The one file beside the head that holds the voxels; anything else could lead out of the folder."""
    if not name or name.upper().startswith("LIST") or re.search(r"[/\\%:\0]|^\.", name):
        raise ImageError(
            f"{path} keeps its voxels in {printable(name)[:64]!r}, not in one file beside it; save it in one"
        )
    beside = path.parent / name
    if beside.is_symlink() or not beside.is_file():
        raise ImageError(f"cannot read {path}: its data file {printable(name)[:64]!r} is not beside it; copy it there")
    return beside


def _names(keys: dict[str, str]) -> tuple[Roi, ...]:
    """Names of labels as 3D Slicer writes them."""
    names = []
    for key, value in keys.items():
        match = re.fullmatch(r"Segment(\d{1,6})_LabelValue", key)
        if match and re.fullmatch(r"\d{1,9}", value.strip()):
            names.append(Roi(int(value), printable(keys.get(f"Segment{match[1]}_Name", ""))[:64]))
    return tuple(names)


def _shown(fields: dict[str, str], name: str) -> str:
    return repr(printable(fields.get(name, ""))[:64])
