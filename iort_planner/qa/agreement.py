"""How far measured rows lie from a reference curve: local difference, distance to agreement, 1-D gamma."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iort_planner.errors import DepthDoseRangeError
from iort_planner.units import FloatArray, Quantity

if TYPE_CHECKING:
    from iort_planner.qa.criteria import CompareCriteria
    from iort_planner.source.depth_dose import DepthDoseTable

_REACH = 3.0  # gamma is looked for within three distance criteria; beyond, it is above 3 and a miss anyway
_STEPS = 1201


def local_difference_percent(distance_mm: FloatArray, rate: FloatArray, reference: DepthDoseTable) -> FloatArray:
    """Measured over reference less 1, percent, at each row (N,); NaN outside the reference."""
    return 100.0 * (rate / reference.rate_gy_per_min(distance_mm) - 1.0)


def distance_to_agreement_mm(distance_mm: FloatArray, rate: FloatArray, reference: DepthDoseTable) -> FloatArray:
    """How much farther the reference has each measured dose rate, mm, (N,); NaN where it has it nowhere."""
    result = np.full(distance_mm.shape, np.nan)
    for row, value in enumerate(rate):
        try:
            there = reference.distance_at(Quantity(float(value), "Gy/min"))
        except DepthDoseRangeError:
            continue
        result[row] = float(there.to("mm").magnitude) - distance_mm[row]
    return result


def gamma(
    distance_mm: FloatArray, rate: FloatArray, reference: DepthDoseTable, criteria: CompareCriteria
) -> FloatArray:
    """1-D gamma of each measured row against the reference curve, local, (N,); NaN outside the reference.

    Low DA et al. 1998, Med Phys 25:656, doi:10.1118/1.598248; the dose difference is relative to the reference's
    dose rate at the measured row. The curve is walked in steps of 1/200 of the distance criterion.
    """
    moved = np.linspace(-_REACH, _REACH, _STEPS)[None, :] * criteria.distance_mm
    here = reference.rate_gy_per_min(distance_mm)[:, None]
    there = reference.rate_gy_per_min(distance_mm[:, None] + moved)
    dose = 100.0 * (rate[:, None] - there) / here / criteria.dose_percent
    squared = dose**2 + (moved / criteria.distance_mm) ** 2
    result = np.full(distance_mm.shape, np.nan)
    inside = np.isfinite(here[:, 0])
    result[inside] = np.sqrt(np.nanmin(squared[inside], axis=1))
    return result
