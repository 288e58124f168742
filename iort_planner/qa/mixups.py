"""Mix-ups of two calibration scales: what measured over reference then is, by distance."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from itertools import permutations
from types import MappingProxyType

import numpy as np

from iort_planner.units import FloatArray

# Ratios to TARGIT at 7.5 and 25 mm: PMID 32795615 (2020). Between, ratio - 1 is a power of r through both pairs; from 3 to
# 30 mm that also gives the 14 %, 80 % (Watson et al. 2018) and factor 2 (AAPM TG-292) in print.
_AT_MM = (7.5, 25.0)
_TO_TARGIT = {"targit": (1.0, 1.0), "v4.0": (1.43, 1.16), "cq": (1.585, 1.26)}


@functools.cache
def mixups() -> Mapping[str, Callable[[FloatArray], FloatArray]]:
    """Ratio by distance (mm) of each pair, named ``A for B``: the measured table is on A, the reference on B."""
    return MappingProxyType({f"{a} for {b}": functools.partial(_ratio, a, b) for a, b in permutations(_TO_TARGIT, 2)})


def _ratio(a: str, b: str, distance_mm: FloatArray) -> FloatArray:
    ratio: FloatArray = _to_targit(a, distance_mm) / _to_targit(b, distance_mm)
    return ratio


def _to_targit(scale: str, distance_mm: FloatArray) -> FloatArray:
    near, far = (ratio - 1.0 for ratio in _TO_TARGIT[scale])
    if near == 0.0:
        return np.ones(np.shape(distance_mm))
    power = np.log(near / far) / np.log(_AT_MM[1] / _AT_MM[0])
    result: FloatArray = 1.0 + near * (np.asarray(distance_mm) / _AT_MM[0]) ** -power
    return result
