"""Whether metal goes on ahead of a needle's found end: then a streak may have cut the shaft in two."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.geometry.needle_model import frame_from
from iort_planner.geometry.needle_profile import LEAST_SHARE, THIN_SHARE, robust_polynomial

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.geometry.needle_shaft import Shaft
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

_REACH_MM = 40.0  # the longest piece that a needle's distal end in a vertebra may be; our own choice
_BLUR_MM = 1.5  # of the metal's end itself
_STEP_MM = 0.5
_RADIUS_MM = 4.0  # a shaft's section with its blur
_WALL_MM = 2.4  # as in needle_profile
_AROUND_MM = (4.6, 6.6)
_LEAST_MM = 5.0  # of metal: less is a screw's tip or a marker beside the line
_GAP_MM = 3.0  # a streak across the shaft; a longer one is not bridged, but doubted
_LEAST_STEP_MM = 2.0  # less than that the fit finds by itself
_LEAST_SLOPE = 0.25  # metal that crosses the line more steeply (14 degrees) is a screw, not the shaft's other piece


def extended(volume: Volume, shaft: Shaft) -> Shaft:
    """The shaft with its distal end where its metal really ends, if that goes on with gaps of up to `_GAP_MM`.

    Sections are cut to a run by their centres, and streaks or a C-arm's uneven metal end such a run too early.
    """
    ahead, metal, _ = _sections(volume, shaft.plateau, shaft.frame.origin_lps_mm, shaft.frame.axis, 0.0)
    farthest = 0.0
    for at in ahead[metal]:
        if at - farthest > _GAP_MM:
            break
        farthest = float(at)
    if farthest < _LEAST_STEP_MM:
        return shaft
    origin = shaft.frame.origin_lps_mm - farthest * shaft.frame.axis
    return replace(
        shaft,
        frame=replace(shaft.frame, origin_lps_mm=origin),
        visible_mm=shaft.visible_mm + farthest,
        along_mm=shaft.along_mm + farthest,
    )


def metal_ahead_mm(volume: Volume, plateau: float, metal_end_lps_mm: FloatArray, axis_lps: FloatArray) -> float:
    """How far ahead of the metal's end metal in the needle's own line reaches, mm; 0 if there is none.

    Parameters
    ----------
    plateau : float
        Value of the shaft's core.
    axis_lps : ndarray of shape (3,)
        Towards the hub.
    """
    ahead, core, centre = _sections(volume, plateau, metal_end_lps_mm, axis_lps, _BLUR_MM)
    if np.count_nonzero(core) * _STEP_MM < _LEAST_MM:
        return 0.0
    slope = float(np.linalg.norm(robust_polynomial(ahead[core], centre[core], 1)[0]))
    return float(ahead[core].max()) if slope < _LEAST_SLOPE else 0.0


def _sections(
    volume: Volume, plateau: float, end_lps_mm: FloatArray, axis_lps: FloatArray, first_mm: float
) -> tuple[FloatArray, npt.NDArray[np.bool_], FloatArray]:
    """Sections ahead of an end: how far ahead (N,) mm, whether they are metal (N,), the metal's centre (N, 2) mm.

    A section is metal, solid or hollow, where the upper quartile within the shaft's radius stands out from what surrounds it.
    """
    frame = frame_from(end_lps_mm, -axis_lps)
    ahead = np.arange(first_mm, _REACH_MM, _STEP_MM)
    across = np.arange(-_AROUND_MM[1], _AROUND_MM[1] + 1e-6, _STEP_MM)
    x, y = np.meshgrid(across, across, indexing="ij")
    disc = np.hypot(x, y) <= _AROUND_MM[1]
    x, y = x[disc], y[disc]
    local = np.empty((ahead.size, x.size, 3))
    local[..., 0], local[..., 1], local[..., 2] = x, y, ahead[:, None]
    values = np.nan_to_num(volume.sample(frame.to_lps(local), outside=np.nan), nan=-1e9)
    radius = np.hypot(x, y)
    around = np.median(values[:, radius >= _AROUND_MM[0]], axis=1)
    least = np.maximum(around + THIN_SHARE * (plateau - around), LEAST_SHARE * plateau)
    found: npt.NDArray[np.bool_] = np.quantile(values[:, radius <= _WALL_MM], 0.75, axis=1) > least
    metal = (values > least[:, None]) & (radius <= _RADIUS_MM)
    count = np.maximum(metal.sum(axis=1), 1)
    centre = np.stack([(metal * x).sum(axis=1) / count, (metal * y).sum(axis=1) / count], axis=1)
    return ahead, found, centre
