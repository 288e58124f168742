"""Which structure of a file is meant: by number, by name, or the only one that can be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from iort_planner.errors import ImageError
from iort_planner.imaging.dicom.tags import printable

_MOST_LISTED = 12


class Roi(NamedTuple):
    """A structure's number and name as the file has them; the name may be empty."""

    number: int
    name: str

    @property
    def shown(self) -> str:
        """Number and name for people."""
        return f"{self.number} {self.name}".strip()


def choose_roi(rois: Sequence[Roi], roi: str | None, *, preferred: str, path: Path) -> Roi:
    """Find the structure that is meant.

    Parameters
    ----------
    rois : sequence of Roi
    roi : str or None
        A number or a name (exact, else with upper and lower case alike). None: the only structure, else
        the only one whose name contains ``preferred`` (``canal`` or ``cord``, as in the options' names).

    Raises
    ------
    ImageError
        If none fits or more than one does; lists what there is.
    """
    if not rois:
        raise ImageError(f"{path} holds no structure; export it again with the structure in it")
    if roi is None:
        if len(rois) == 1:
            return rois[0]
        fitting = [r for r in rois if preferred and preferred.lower() in r.name.lower()]
        if len(fitting) == 1:
            return fitting[0]
        which = (
            f"{len(fitting)} with {preferred!r} in their name" if fitting else f"none with {preferred!r} in its name"
        )
        if not any(r.name for r in rois):
            which = "without names"
        raise ImageError(
            f"{path} holds {len(rois)} structures, {which} ({_listing(fitting or rois)}); choose one with --{preferred}-roi"
        )
    wanted = roi.strip()
    found = [r for r in rois if wanted.isdecimal() and int(wanted[:12]) == r.number]
    found += [r for r in rois if r.name == wanted and r not in found]
    if not found:
        found = [r for r in rois if r.name.lower() == wanted.lower()]
    if not found:
        raise ImageError(f"no structure {printable(roi)[:64]!r} in {path}; it holds {_listing(rois)}")
    if len(found) > 1:
        raise ImageError(
            f"{printable(roi)[:64]!r} fits {len(found)} structures in {path} ({_listing(found)}); give the number of one"
        )
    return found[0]


def _listing(rois: Sequence[Roi]) -> str:
    return ", ".join(r.shown for r in rois[:_MOST_LISTED]) + (" ..." if len(rois) > _MOST_LISTED else "")
