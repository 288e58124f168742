"""Mix-ups of two calibration scales: what measured over reference then is, by distance."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from itertools import permutations
from types import MappingProxyType

import numpy as np

from iort_planner.source.depth_dose import Scale
from iort_planner.source.scale import published_conversion
from iort_planner.units import FloatArray

_SCALES = (Scale.TARGIT, Scale.V4, Scale.CQ)
_PUBLISHED = {scale: published_conversion(Scale.TARGIT, scale) for scale in (Scale.V4, Scale.CQ)}
CONVERSION_PERCENT = max(each.uncertainty_percent for each in _PUBLISHED.values())  # k=1


@functools.cache
def mixups() -> Mapping[str, Callable[[FloatArray], FloatArray]]:
    """Ratio by distance (mm) of each pair, named ``A for B``: the measured table is on A, the reference on B."""
    return MappingProxyType(
        {f"{a.value} for {b.value}": functools.partial(_ratio, a, b) for a, b in permutations(_SCALES, 2)}
    )


def _ratio(a: Scale, b: Scale, distance_mm: FloatArray) -> FloatArray:
    ratio: FloatArray = _to_targit(a, distance_mm) / _to_targit(b, distance_mm)
    return ratio


def _to_targit(scale: Scale, distance_mm: FloatArray) -> FloatArray:
    """1 + a r^-b through the published pairs, beyond them too: to recognise a mix-up by its course, never for a dose.

    From 3 to 30 mm that also gives the 14 %, 80 % (Watson et al. 2018) and factor 2 (AAPM TG-292) in print.
    """
    if scale is Scale.TARGIT:
        return np.ones(np.shape(distance_mm))
    (r_near, r_far), (near, far) = _PUBLISHED[scale].distance_mm, _PUBLISHED[scale].factor - 1.0
    power = np.log(near / far) / np.log(r_far / r_near)
    result: FloatArray = 1.0 + near * (np.asarray(distance_mm) / r_near) ** -power
    return result
