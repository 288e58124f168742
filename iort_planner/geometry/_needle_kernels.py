"""The needle's forward model voxel by voxel, on plain arrays (numba)."""

from __future__ import annotations

import math

import numpy as np

from iort_planner.compiled import compiled
from iort_planner.units import FloatArray

_FAR = 5.0  # standard deviations beyond which a blurred edge is 0 or 1, to 3e-7
_ROOT_HALF, _ROOT_TWO_PI = math.sqrt(0.5), 1.0 / math.sqrt(2.0 * math.pi)


@compiled
def _edge(x: float) -> float:
    """Normal distribution function: what is left of a sharp edge at 0 after a blur of 1."""
    if x > _FAR:
        return 1.0
    if x < -_FAR:
        return 0.0
    return 0.5 * (1.0 + math.erf(x * _ROOT_HALF))


@compiled
def _bell(x: float) -> float:
    """Slope of `_edge`."""
    if x > _FAR or x < -_FAR:
        return 0.0
    return _ROOT_TWO_PI * math.exp(-0.5 * x * x)


# Columns of the slopes.
SIDE, UP, SIDE_SLOPE, UP_SLOPE, SIDE_BEND, UP_BEND, END, CANNULA_END, HEIGHT, INNER, PLASTIC, BORE, BORE_REACH = range(
    13
)
SLOPES = 13


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
    cap_mm: float,
    step_mm: float,
    slopes: FloatArray,
) -> FloatArray:
    """Values at voxels, shape (N,), and by how much they change with each parameter.

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
    sections : ndarray of shape (5, K)
        Blurred discs of shaft, bore, cannula, probe and the sheath's bore round the probe at radii ``step_mm`` apart.
    cap_mm : float
        Length of the dense end of a probe that stands in the plastic's bore; NaN where that holds no probe.
    slopes : ndarray of shape (N, SLOPES) or (0, SLOPES)
        Filled with the slopes, if it has rows; zero where the scan is cut.
    """
    side, up, side_slope, up_slope, side_bend, up_bend = line
    end, cannula_end, cannula_stop, tip, bore_end = ends_mm
    metal, inner, plastic, bore = values
    has_plastic, has_cannula = not math.isnan(plastic), math.isfinite(cannula_end)
    has_probe = not math.isnan(cap_mm)
    wanted = slopes.shape[0] > 0
    bend = math.hypot(side_bend, up_bend)
    last = sections.shape[1] - 2
    result = np.empty(local_mm.shape[0])
    for n in range(local_mm.shape[0]):
        behind = background[n]
        total = 0.0
        if wanted:
            for c in range(slopes.shape[1]):
                slopes[n, c] = 0.0
        for m in range(weights.size):
            along = local_mm[n, 2] - nodes_mm[m, 2]
            bow = 2.0 * along * along / (1.0 + math.sqrt(max(1.0 - (2.0 * bend * along) ** 2, 0.0)))
            x = local_mm[n, 0] - nodes_mm[m, 0] - side - along * side_slope - bow * side_bend
            y = local_mm[n, 1] - nodes_mm[m, 1] - up - along * up_slope - bow * up_bend
            radius = math.sqrt(x * x + y * y)
            position = radius / step_mm
            low = min(int(position), last)
            part = min(position - low, 1.0)
            disc_step = sections[0, low + 1] - sections[0, low]
            hole_step = sections[1, low + 1] - sections[1, low]
            disc = sections[0, low] + part * disc_step
            hole = sections[1, low] + part * hole_step
            shaft = _edge((along - end) / blur_mm)
            probe, probe_step, empty, empty_step = hole, hole_step, hole, hole_step
            if has_probe:  # then what is empty is the probe's inside and the gap round it
                probe_step = sections[3, low + 1] - sections[3, low]
                probe = sections[3, low] + part * probe_step
                gap_step = sections[4, low + 1] - sections[4, low] - probe_step
                empty += sections[4, low] + part * (gap_step + probe_step) - probe
                empty_step += gap_step
            filled = (disc - empty) * (metal - behind) + empty * (inner - behind)
            change = shaft * filled
            steep = shaft * ((disc_step - empty_step) * (metal - behind) + empty_step * (inner - behind))
            tube, covered = 0.0, 0.0
            if has_cannula:
                tube_step = sections[2, low + 1] - sections[2, low] - disc_step
                tube = sections[2, low] + part * (tube_step + disc_step) - disc
                covered = _edge((along - cannula_end) / blur_mm) - _edge((along - cannula_stop) / blur_mm)
                change += covered * tube * (metal - behind)
                steep += covered * tube_step * (metal - behind)
            outer, drilled, cap = 0.0, 0.0, 0.0
            if has_plastic:
                outer = _edge((along - tip) / blur_mm) - shaft
                at_bore = _edge((along - bore_end) / blur_mm)
                drilled = at_bore - shaft
                change += outer * disc * (plastic - behind) + drilled * hole * (bore - plastic)
                steep += outer * disc_step * (plastic - behind) + drilled * hole_step * (bore - plastic)
                if has_probe:
                    cap = at_bore - _edge((along - bore_end - cap_mm) / blur_mm)
                    change += drilled * (probe - hole) * (metal - plastic) + cap * hole * (metal - bore)
                    steep += drilled * (probe_step - hole_step) * (metal - plastic) + cap * hole_step * (metal - bore)
            total += weights[m] * change
            if wanted:
                w = weights[m]
                if radius > 1e-9 and position < last + 1:
                    steep *= w / (step_mm * radius)
                    slopes[n, SIDE] -= steep * x
                    slopes[n, UP] -= steep * y
                    slopes[n, SIDE_SLOPE] -= steep * x * along
                    slopes[n, UP_SLOPE] -= steep * y * along
                    slopes[n, SIDE_BEND] -= steep * x * bow
                    slopes[n, UP_BEND] -= steep * y * bow
                at_end = _bell((along - end) / blur_mm) / blur_mm
                moved = -at_end * filled
                slopes[n, HEIGHT] += w * (shaft * (disc - empty) + covered * tube)
                slopes[n, INNER] += w * shaft * empty
                if has_cannula:
                    slopes[n, CANNULA_END] -= (
                        w * tube * (metal - behind) * _bell((along - cannula_end) / blur_mm) / blur_mm
                    )
                if has_plastic:
                    at_tip = _bell((along - tip) / blur_mm) / blur_mm
                    at_bore = _bell((along - bore_end) / blur_mm) / blur_mm
                    inside = hole * (bore - plastic) + (probe - hole) * (metal - plastic)
                    at_cap = 0.0
                    if has_probe:
                        slopes[n, HEIGHT] += w * (drilled * (probe - hole) + cap * hole)
                        at_cap = at_bore - _bell((along - bore_end - cap_mm) / blur_mm) / blur_mm
                    ahead = inside * at_bore + hole * (metal - bore) * at_cap
                    moved += disc * (plastic - behind) * (at_end - at_tip) + inside * at_end - ahead
                    slopes[n, BORE_REACH] += w * ahead
                    slopes[n, PLASTIC] += w * (outer * disc - drilled * probe)
                    slopes[n, BORE] += w * (drilled - cap) * hole
                slopes[n, END] += w * moved
        value = behind + total
        if value > ceiling:
            value = ceiling
            if wanted:
                for c in range(slopes.shape[1]):
                    slopes[n, c] = 0.0
        result[n] = value
    return result
