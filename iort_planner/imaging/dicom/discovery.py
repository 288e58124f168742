"""The files under a path: DICOM images with their headers, structure files, and what else lies there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from iort_planner.errors import ImageError
from iort_planner.imaging.dicom.containers import open_input
from iort_planner.imaging.dicom.headers import FileHeader, NotAnImageError, read_header
from iort_planner.imaging.dicom.sources import Source
from iort_planner.imaging.dicom.tags import quiet_pydicom

_MOST_LISTED = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Findings:
    """What lies under a path.

    Parameters
    ----------
    groups : tuple of tuple of FileHeader
        Image files that say they are of one series and one SOP class; not yet checked to fit together.
    ignored : tuple of (str, int)
        What the other files are, and how many of each.
    unreadable : tuple of str
        Files that are damaged or could not be opened, with the reason.
    structures : tuple of Source
        RT Structure Sets and segmentations.
    """

    groups: tuple[tuple[FileHeader, ...], ...]
    ignored: tuple[tuple[str, int], ...]
    unreadable: tuple[str, ...]
    structures: tuple[Source, ...]


@contextmanager
def find_images(path: Path) -> Iterator[Findings]:
    """Read the headers of all files under ``path``: a folder, a file, a zip archive or a DICOMDIR.

    The files can be read as long as the context is open.

    Raises
    ------
    ImageError
        If there is no such path or no image there.
    """
    with open_input(path) as found:
        groups: dict[tuple[str, str], list[FileHeader]] = defaultdict(list)
        ignored: dict[str, int] = defaultdict(int, found.ignored)
        unreadable: list[str] = list(found.missing)
        structures: list[Source] = []
        with quiet_pydicom():
            for source in found.sources:
                try:
                    header = read_header(source)
                except NotAnImageError as error:
                    if error.structures:
                        structures.append(source)
                        continue
                    ignored[str(error)] += 1
                    if error.damaged:
                        unreadable.append(f"{source.name} ({error})")
                except OSError as error:
                    ignored["unreadable file"] += 1
                    unreadable.append(f"{source.name} ({error.strerror or error})")
                else:
                    # Without a series UID, files of one folder are taken together; the geometry checks judge them.
                    groups[header.series_uid or source.folder, header.sop_class_uid].append(header)
        if not groups:
            if structures:
                ignored["structure file"] += len(structures)
            raise ImageError(_no_image(path, dict(ignored), unreadable))
        yield Findings(
            groups=tuple(tuple(groups[key]) for key in sorted(groups)),
            ignored=tuple(sorted(ignored.items())),
            unreadable=tuple(unreadable),
            structures=tuple(structures),
        )


def _no_image(path: Path, ignored: dict[str, int], unreadable: list[str]) -> str:
    remedy = "give the folder with the DICOM slices"
    if path.is_file() and sum(ignored.values()) == 1:
        return f"{path} holds no image: {next(iter(ignored))}; {remedy}"
    seen = ", ".join(f"{count} x {what}" for what, count in sorted(ignored.items())[:_MOST_LISTED])
    first = f"; first {unreadable[0]}" if unreadable else ""
    return f"no DICOM image in {path} (found: {seen or 'no file'}{first}); {remedy}"
