"""Straight metal in a scan that is no needle, named: screws, rods, rails, wires, a cannula without an applicator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator
    from iort_planner.geometry.needle import Needle
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray


class MetalKind(StrEnum):
    """What a piece of metal looks like."""

    NEEDLE = "needle"
    CANNULA = "cannula"  # a guide cannula without an applicator in it
    SCREW = "screw"
    ROD = "rod"
    RAIL = "rail"  # outside the body
    WIRE = "wire"  # a K-wire, a monitoring needle
    SHAFT = "shaft"  # ends in the body like a needle, but its thickness fits neither applicator nor cannula
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metal:
    """One straight piece of metal.

    Parameters
    ----------
    kind : MetalKind
    start_lps_mm, end_lps_mm : ndarray of shape (3,), mm
        Its ends as they are seen; the first is the one in the body, where only one is.
    diameter_mm : float
        Apparent; metal that the scan cuts off looks up to 1 mm thicker than it is.
    length_mm : float
        As far as it is seen.
    what : str
        In words.
    """

    kind: MetalKind
    start_lps_mm: FloatArray
    end_lps_mm: FloatArray
    diameter_mm: float
    length_mm: float
    what: str

    def __post_init__(self) -> None:
        for name in ("start_lps_mm", "end_lps_mm"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MetalSurvey:
    """All straight metal that was found.

    Parameters
    ----------
    needles : tuple of Needle
        What could be a needle, in the order in which it would be planned with; none of them chosen.
    others : tuple of Metal
    """

    needles: tuple[Needle, ...]
    others: tuple[Metal, ...]


def survey_metal(volume: Volume, applicator: Applicator) -> MetalSurvey:
    """Find and name the straight metal of a scan; see `iort_planner.geometry.needle_detection.survey`."""
    from iort_planner.geometry.needle_detection import survey

    return survey(volume, applicator)
