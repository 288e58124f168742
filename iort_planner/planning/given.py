"""What the user gave about canal and cord, on its way into the plan: files, corrections; already read and placed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iort_planner.units import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class CanalFile:
    """Where a canal given as a file came from: the structure in it, and what was remarked on reading it.

    ``frame_verified``: whether it names the image's frame of reference.
    """

    name: str
    sha256: str
    structure: str
    frame_verified: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Automatic:
    """The canal that is found automatically, to compare a given or corrected one with.

    Parameters
    ----------
    distance_mm : float or None
        From the source centre to its wall, negative inside it; None where none is found.
    sure : bool
        Whether it is of high confidence.
    """

    distance_mm: float | None
    sure: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Correction:
    """Wall points by hand that a canal was made to pass through.

    Parameters
    ----------
    points_lps_mm : ndarray of shape (N, 3), mm
    moved_mm : tuple of N floats
        How far from each point the wall was before.
    distance_before_mm : float
        From the source centre to the uncorrected canal.
    """

    points_lps_mm: FloatArray
    moved_mm: tuple[float, ...]
    distance_before_mm: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cord:
    """A drawn cord or thecal sac on the way into the plan.

    Parameters
    ----------
    name, sha256, structure : str
        Of the file, and the structure in it.
    frame_verified : bool
        Whether the file names the image's frame of reference.
    notes : tuple of str
        What was remarked on reading it.
    triangles_lps_mm : ndarray of shape (M, 3, 3), mm
        Its closed surface, outward normals.
    """

    name: str
    sha256: str
    structure: str
    frame_verified: bool
    notes: tuple[str, ...]
    triangles_lps_mm: FloatArray


def limit_structure(method: str, file: CanalFile | None, correction: Correction | None) -> str:
    """The structure that a canal limit refers to and where it comes from, in words; one wording for every place."""
    if file is not None:
        origin = f"file {file.name}, structure {file.structure}"
    else:
        origin = {"auto": "found automatically", "points": "points by hand"}.get(method, "given by the user")
    if correction is not None:
        count = len(correction.points_lps_mm)
        origin += f", corrected by hand at {count} wall point{'s' if count > 1 else ''}"
    return f"bony canal wall ({origin})"
