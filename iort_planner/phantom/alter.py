"""Faults made in a written phantom scan: what a network, an archive or another program may have done to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from iort_planner.errors import PhantomError

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ("drop", "repeat", "shift", "set", "delete", "truncate", "garbage", "empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alteration:
    """One fault.

    Parameters
    ----------
    kind : str
        ``drop``, ``repeat`` (once more, under another instance UID), ``shift`` along z by ``mm``, ``set`` or ``delete`` an
        attribute by its DICOM ``keyword``, ``truncate`` to ``bytes``, ``garbage`` (text in place of the file), ``empty``
        (no file is left).
    slices : tuple of int
        Which, from 0 in the order of the files; empty for all.
    keyword : str
    value : str, number or list
    mm : float, mm
    bytes : int

    Raises
    ------
    PhantomError
        If the kind is unknown or lacks what it needs.
    """

    kind: str
    slices: tuple[int, ...] = ()
    keyword: str = ""
    value: Any = None
    mm: float = 0.0
    bytes: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise PhantomError(f"alteration {self.kind!r} is unknown; there are {', '.join(KINDS)}")
        if self.kind in ("set", "delete") and pydicom.datadict.tag_for_keyword(self.keyword) is None:
            raise PhantomError(f"alteration {self.kind}: {self.keyword!r} is no DICOM keyword, like PixelSpacing")
        if self.kind == "set" and self.value is None:
            raise PhantomError(f"alteration set {self.keyword}: needs a value")
        if self.kind == "shift" and not self.mm:
            raise PhantomError("alteration shift: needs mm")


def alter(scan: Path, alterations: tuple[Alteration, ...]) -> None:
    """Make faults in the files of a folder, one after the other.

    Raises
    ------
    PhantomError
        If a slice that is named is not there.
    """
    for each in alterations:
        files = sorted(scan.glob("*.dcm"))
        missing = [n for n in each.slices if not -len(files) <= n < len(files)]
        if missing:
            raise PhantomError(f"alteration {each.kind}: there is no slice {missing[0]}, the scan has {len(files)}")
        for path in [files[n] for n in each.slices] if each.slices else files:
            _one(path, each)


def _one(path: Path, what: Alteration) -> None:
    if what.kind in ("drop", "empty"):
        path.unlink()
    elif what.kind == "truncate":
        path.write_bytes(path.read_bytes()[: what.bytes])
    elif what.kind == "garbage":
        path.write_text("this was a slice\n", encoding="utf-8")
    else:
        try:
            data = pydicom.dcmread(path)
        except InvalidDicomError as error:
            raise PhantomError(f"alteration {what.kind}: {path.name} was altered beyond reading before") from error
        if what.kind == "set":
            setattr(data, what.keyword, what.value)
        elif what.kind == "delete":
            if what.keyword in data:
                delattr(data, what.keyword)
        elif what.kind == "shift":
            x, y, z = (float(each) for each in data.ImagePositionPatient)
            data.ImagePositionPatient = [x, y, z + what.mm]
        else:  # repeat
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID(f"{data.SOPInstanceUID}.9")
            path = path.with_name(f"{path.stem}_again.dcm")
        data.save_as(path)
