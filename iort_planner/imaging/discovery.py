"""The files under a path: DICOM images with their headers, and what else lies there."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from iort_planner.errors import ImageError
from iort_planner.imaging.headers import NotAnImageError, SliceHeader, printable, quiet_pydicom, read_header

_MOST_LISTED = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Findings:
    """What lies under a path.

    Parameters
    ----------
    groups : tuple of tuple of SliceHeader
        Image files that say they are of one series and one SOP class; not yet checked to fit together.
    ignored : tuple of (str, int)
        What the other files are, and how many of each.
    unreadable : tuple of str
        DICOM files that are damaged or could not be opened, with the reason.
    """

    groups: tuple[tuple[SliceHeader, ...], ...]
    ignored: tuple[tuple[str, int], ...]
    unreadable: tuple[str, ...]


def find_images(path: Path) -> Findings:
    """Read the headers of all files under ``path``.

    Raises
    ------
    ImageError
        If there is no such path or no image there.
    """
    groups: dict[tuple[str, str], list[SliceHeader]] = defaultdict(list)
    ignored: dict[str, int] = defaultdict(int)
    unreadable: list[str] = []
    with quiet_pydicom():
        for file, name in _files(path):
            try:
                header = read_header(file, name)
            except NotAnImageError as error:
                ignored[str(error)] += 1
                if error.damaged:
                    unreadable.append(f"{name} ({error})")
            except OSError as error:
                ignored["unreadable file"] += 1
                unreadable.append(f"{name} ({error.strerror or error})")
            else:
                # Without a series UID, files of one folder are taken together; the geometry checks judge them.
                groups[header.series_uid or str(file.parent), header.sop_class_uid].append(header)
    if not groups:
        raise ImageError(_no_image(path, dict(ignored)))
    return Findings(
        groups=tuple(tuple(groups[key]) for key in sorted(groups)),
        ignored=tuple(sorted(ignored.items())),
        unreadable=tuple(unreadable),
    )


def _files(path: Path) -> list[tuple[Path, str]]:
    """Files under ``path`` with their names relative to it, in a fixed order."""
    if path.is_file():
        return [(path, printable(path.name))]
    if not path.exists():
        raise ImageError(f"no such file or folder: {path}; check the path")
    found = []
    for folder, folders, names in os.walk(path):
        folders.sort()
        found += [Path(folder) / name for name in sorted(names)]
    if not found:
        raise ImageError(f"the folder {path} is empty; give the folder with the DICOM slices")
    return [(file, printable(file.relative_to(path).as_posix())) for file in found]


def _no_image(path: Path, ignored: dict[str, int]) -> str:
    if path.is_file():
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == b"PK\x03\x04":
            return f"{path} is a zip archive, which is not supported yet; unpack it and give the folder"
        what = next(iter(ignored))
        if what == "Media Storage Directory Storage":
            return f"{path} is a DICOMDIR, which is not supported yet; give its folder"
        return f"{path} holds no image: {what}; give the folder with the DICOM slices"
    seen = ", ".join(f"{count} x {what}" for what, count in sorted(ignored.items())[:_MOST_LISTED])
    return f"no DICOM image in {path} (found: {seen}); give the folder with the DICOM slices"
