"""The needle's forward model voxel by voxel, on plain arrays (numba)."""

from __future__ import annotations

import math

import numpy as np

from iort_planner.compiled import compiled
from iort_planner.units import FloatArray

_FAR = 5.0  # standard deviations beyond which a blurred edge is 0 or 1, to 3e-7
_ROOT_HALF = math.sqrt(0.5)


@compiled
def _edge(x: float) -> float:
    """Normal distribution function: what is left of a sharp edge at 0 after a blur of 1."""
    if x > _FAR:
        return 1.0
    if x < -_FAR:
        return 0.0
    return 0.5 * (1.0 + math.erf(x * _ROOT_HALF))


@compiled
def predict_values(
    local_mm: FloatArray,
    background: FloatArray,
    ceiling: float,
    nodes_mm: FloatArray,
    weights: FloatArray,
    line: FloatArray,
    ends_mm: FloatArray,
    values: FloatArray,
    blur_mm: float,
    sections: FloatArray,
    step_mm: float,
) -> FloatArray:
    """Values at voxels, shape (N,).

    Parameters
    ----------
    local_mm : ndarray of shape (N, 3), mm
        Voxel centres in the needle's frame: across, across, along.
    background : ndarray of shape (N,)
    ceiling : float
    nodes_mm, weights : ndarray of shape (M, 3), (M,)
        Shifts along the slice normal, in the frame, whose weighted mean is the slice's box.
    line : ndarray of shape (6,)
        side, up, side_slope, up_slope, side_bend, up_bend.
    ends_mm : ndarray of shape (5,)
        Shaft's end, cannula's ends, plastic's and bore's distal ends.
    values : ndarray of shape (4,)
        Of metal, inside of the shaft, plastic, and bore of the plastic; NaN for the plastic: as the background.
    sections : ndarray of shape (3, K)
        Blurred discs of shaft, bore and cannula at radii ``step_mm`` apart.
    """
    side, up, side_slope, up_slope, side_bend, up_bend = line
    end, cannula_end, cannula_stop, tip, bore_end = ends_mm
    metal, inner, plastic, bore = values
    has_plastic, has_cannula = not math.isnan(plastic), math.isfinite(cannula_end)
    bend = math.hypot(side_bend, up_bend)
    last = sections.shape[1] - 2
    result = np.empty(local_mm.shape[0])
    for n in range(local_mm.shape[0]):
        behind = background[n]
        total = 0.0
        for m in range(weights.size):
            along = local_mm[n, 2] - nodes_mm[m, 2]
            bow = 2.0 * along * along / (1.0 + math.sqrt(max(1.0 - (2.0 * bend * along) ** 2, 0.0)))
            x = local_mm[n, 0] - nodes_mm[m, 0] - side - along * side_slope - bow * side_bend
            y = local_mm[n, 1] - nodes_mm[m, 1] - up - along * up_slope - bow * up_bend
            position = math.sqrt(x * x + y * y) / step_mm
            low = min(int(position), last)
            part = min(position - low, 1.0)
            disc = sections[0, low] + part * (sections[0, low + 1] - sections[0, low])
            hole = sections[1, low] + part * (sections[1, low + 1] - sections[1, low])
            shaft = _edge((along - end) / blur_mm)
            change = shaft * ((disc - hole) * (metal - behind) + hole * (inner - behind))
            if has_cannula:
                tube = sections[2, low] + part * (sections[2, low + 1] - sections[2, low]) - disc
                covered = _edge((along - cannula_end) / blur_mm) - _edge((along - cannula_stop) / blur_mm)
                change += covered * tube * (metal - behind)
            if has_plastic:
                outer = _edge((along - tip) / blur_mm) - shaft
                drilled = _edge((along - bore_end) / blur_mm) - shaft
                change += outer * (disc - hole) * (plastic - behind)
                change += hole * ((outer - drilled) * (plastic - behind) + drilled * (bore - behind))
            total += weights[m] * change
        result[n] = min(behind + total, ceiling)
    return result
