"""Stored values of one DICOM data set, parsed here from their bytes.

A malformed value becomes a fault with the file's name and the tag, never an exception or a warning of the
DICOM library; sequences are parsed only within the bounds of `sources.BoundedReader`.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_sequence
from pydicom.multival import MultiValue

from iort_planner.imaging.dicom.sources import BoundedReader, Budget, CutOffError
from iort_planner.imaging.geometry_checks import Problem

TAG_NAMES = {
    0x00200032: "Image Position (Patient) (0020,0032)",
    0x00200037: "Image Orientation (Patient) (0020,0037)",
    0x00280030: "Pixel Spacing (0028,0030)",
    0x00280010: "Rows (0028,0010)",
    0x00280011: "Columns (0028,0011)",
    0x00281053: "Rescale Slope (0028,1053)",
    0x00281052: "Rescale Intercept (0028,1052)",
    0x00280100: "Bits Allocated (0028,0100)",
    0x00280101: "Bits Stored (0028,0101)",
    0x00280103: "Pixel Representation (0028,0103)",
    0x00280008: "Number of Frames (0028,0008)",
}
# Where values of real scanners end, so that nothing overflows on the way and no slip passes. Our own choice: positions
# within 100 m (tables count from their own zero), pixels up to 50 mm, values up to a million HU.
_LARGEST = {
    0x00200032: 1e5,
    0x00200037: 2.0,
    0x00280030: 50.0,
    0x00281052: 1e6,
    0x00281053: 1e6,
}
_MOST_CHARACTERS = 64  # DICOM PS3.5 table 6.2-1: LO, UI
_MOST_TEXT_BYTES = 1024
_CODE = re.compile(r"[A-Za-z0-9_ .-]{0,16}")
_UID = re.compile(r"[0-9.]{1,64}")
_DIGITS = re.compile(r"[0-9eE+\-.:, \\naifNAIF_]{0,1024}")
# Nested deeper than this, nothing that an image needs is found; deeper nesting is somebody's attack. Our own choice.
_DEEPEST = 16


def printable(text: str) -> str:
    """Text from a file or a file's name for messages of one line: control characters become ``?``."""
    text = text.strip()
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from writing warnings and log lines about odd values; they are judged here instead."""
    mode = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.IGNORE
    logger = logging.getLogger("pydicom")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was_disabled
        config.settings.reading_validation_mode = mode


class Tags:
    """Access to the stored bytes of one data set.

    Parameters
    ----------
    dataset : Dataset
    name : str
        File (and frame) for messages.
    budget : Budget
        What is left for parsing sequences; shared with their items.
    faults : list of Problem, optional
        Where to collect what is missing or malformed; shared with the items of sequences.
    """

    def __init__(
        self,
        dataset: Dataset,
        name: str,
        *,
        little_endian: bool,
        budget: Budget,
        faults: list[Problem] | None = None,
        depth: int = 0,
    ) -> None:
        self._dataset = dataset
        self.name = name
        self._little_endian = little_endian
        self._budget = budget
        self._byteorder: Literal["little", "big"] = "little" if little_endian else "big"
        self._depth = depth
        self.faults: list[Problem] = [] if faults is None else faults

    def fault(self, problem_id: str, what: str) -> None:
        """Note that something is wrong with this file."""
        self.faults.append(
            Problem(id=problem_id, status="fail", message=f"{self.name}: {what}; export the series again")
        )

    def has(self, tag: int) -> bool:
        """Whether the element is there, empty or not."""
        return tag in self._dataset

    def _bytes(self, tag: int) -> bytes:
        if tag not in self._dataset:
            return b""
        value = self._dataset.get_item(tag).value
        return value if isinstance(value, bytes) else str(value or "").encode()

    def text(self, tag: int) -> str:
        """A free text (LO, SH) in the file's character set; empty when absent, or when it cannot be a text of this kind.

        A damaged length makes a value swallow what follows, the patient's name perhaps: such a value is not shown.
        """
        raw = self._bytes(tag).rstrip(b"\0 ")
        if len(raw) > _MOST_TEXT_BYTES:
            return ""
        if raw.isascii() and b"\x1b" not in raw:
            text = raw.decode("ascii").strip()
        else:
            value = self._dataset[tag].value  # pydicom knows the character sets
            text = "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value).strip()
        return text if text.isprintable() and len(text) <= _MOST_CHARACTERS else ""

    def file_id(self, tag: int) -> str | None:
        """A File ID: names of folders and file, separated by backslashes; None when absent, empty when unusable."""
        raw = self._bytes(tag).strip(b" \0")
        if not raw:
            return None
        text = raw.decode("utf-8", "replace") if len(raw) <= _MOST_TEXT_BYTES else ""
        return text if text.isprintable() and "\ufffd" not in text else ""

    def codes(self, tag: int) -> tuple[str, ...]:
        """Coded terms (CS), ``?`` for each that is malformed; none when absent: the two must not be mixed up."""
        raw = self._bytes(tag).strip(b" \0")
        if not raw:
            return ()
        if len(raw) > _MOST_TEXT_BYTES:
            return ("?",)
        parts = (part.strip() for part in raw.decode("ascii", "replace").split("\\"))
        return tuple(part if _CODE.fullmatch(part) else "?" for part in parts)

    def code(self, tag: int) -> str:
        """One coded term (CS); empty when absent, ``?`` when malformed or several."""
        found = self.codes(tag)
        return "" if not found else found[0] if len(found) == 1 else "?"

    def uid(self, tag: int) -> str:
        """A UID; one that is malformed becomes a stand-in of its own, so that it is neither shown nor mixed up."""
        raw = self._bytes(tag).strip(b" \0")
        plain = self._plain(tag)
        if not raw or _UID.fullmatch(plain):
            return plain
        return f"malformed-{hashlib.sha256(raw).hexdigest()[:8]}"

    def digits(self, tag: int) -> str:
        """A number, date or time as it is written; empty when absent, ``?`` when it holds anything else."""
        if not self._bytes(tag).strip(b" \0"):
            return ""
        plain = self._plain(tag)
        return plain if plain and _DIGITS.fullmatch(plain) else "?"

    def _plain(self, tag: int) -> str:
        """Ascii text without control characters; empty when absent or when it is not that."""
        raw = self._bytes(tag).strip(b" \0")
        if len(raw) > _MOST_TEXT_BYTES or not raw.isascii():
            return ""
        text = raw.decode("ascii")
        return text if text.isprintable() else ""

    def whole(self, tag: int, *, signed: bool = False) -> int | None:
        """A US or SS value."""
        raw = self._bytes(tag)
        if len(raw) < 2:
            return None
        return int.from_bytes(raw[:2], self._byteorder, signed=signed)

    def binary(self, tag: int) -> bytes | None:
        """An OV or OB value as it is stored; None when absent or empty."""
        return self._bytes(tag) or None

    def numbers(self, tag: int, count: int) -> tuple[float, ...] | None:
        """A DS value of ``count`` finite numbers; a fault and None otherwise."""
        if not self._bytes(tag).strip(b" \0"):
            self.fault("missing-tag", f"{TAG_NAMES[tag]} is missing")
            return None
        text = self.digits(tag)
        try:
            values = tuple(float(part) for part in text.replace("_", "?").split("\\"))
        except ValueError:
            values = ()
        if len(values) != count or not all(map(math.isfinite, values)):
            self.fault("malformed-tag", f"{TAG_NAMES[tag]} is {text[:60]!r}, not {count} finite numbers")
            return None
        wrong = max(values, key=abs)
        if abs(wrong) > _LARGEST[tag]:
            text = f"{TAG_NAMES[tag]} is {wrong:.6g}, larger than any scanner's ({_LARGEST[tag]:g})"
            self.fault("malformed-tag", text)
            return None
        return values

    def items(self, tag: int) -> list[Tags]:
        """The items of a sequence; none when it is absent or no sequence.

        Raises
        ------
        HeaderTooLargeError
            If the sequence asks for more work than any image needs.
        CutOffError
            If it ends before its time.
        """
        if tag not in self._dataset or self._depth >= _DEEPEST:
            return []
        element: Any = self._dataset.get_item(tag)  # raw or already parsed
        if isinstance(element, RawDataElement):  # of explicit length, still to be parsed
            data = element.value or b""
            if len(data) < element.length:
                raise CutOffError
            found = read_sequence(
                cast("io.BytesIO", BoundedReader(io.BytesIO(data), self._budget)),
                element.is_implicit_VR,
                element.is_little_endian,
                len(data),
                "iso8859",
            )
        else:
            found = element.value if element.VR == "SQ" else []
        return [
            Tags(
                item,
                self.name,
                little_endian=self._little_endian,
                budget=self._budget,
                faults=self.faults,
                depth=self._depth + 1,
            )
            for item in found
            if isinstance(item, Dataset)
        ]
