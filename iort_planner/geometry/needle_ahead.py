"""Whether metal goes on ahead of a needle's found end: then a streak or a gap may have cut the shaft in two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iort_planner.geometry.needle_model import frame_from
from iort_planner.geometry.needle_profile import robust_polynomial

if TYPE_CHECKING:
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

_REACH_MM = 40.0  # the longest piece that a needle's distal end in a vertebra may be; our own choice
_BLUR_MM = 1.5  # of the metal's end itself
_STEP_MM = 0.5
_RADIUS_MM = 4.0  # a shaft's section with its blur
_CORE_MM = 1.0
_METAL_SHARE = 0.6  # of the shaft's value: 1800 HU where it is cut at 3071, above bone
_LEAST_MM = 5.0  # of metal: less is a screw's tip or a marker beside the line
_LEAST_SLOPE = 0.25  # metal that crosses the line more steeply (14 degrees) is a screw, not the shaft's other piece


def metal_ahead_mm(volume: Volume, plateau: float, metal_end_lps_mm: FloatArray, axis_lps: FloatArray) -> float:
    """How far ahead of the metal's end metal in the needle's own line reaches, mm; 0 if there is none.

    Parameters
    ----------
    plateau : float
        Value of the shaft's core.
    axis_lps : ndarray of shape (3,)
        Towards the hub.
    """
    frame = frame_from(metal_end_lps_mm, -axis_lps)
    ahead = np.arange(_BLUR_MM, _REACH_MM, _STEP_MM)
    across = np.arange(-_RADIUS_MM, _RADIUS_MM + 1e-6, _STEP_MM)
    x, y = np.meshgrid(across, across, indexing="ij")
    disc = np.hypot(x, y) <= _RADIUS_MM
    x, y = x[disc], y[disc]
    local = np.empty((ahead.size, x.size, 3))
    local[..., 0], local[..., 1], local[..., 2] = x, y, ahead[:, None]
    values = volume.sample(frame.to_lps(local), outside=np.nan)
    metal = values > _METAL_SHARE * plateau  # False outside the image
    core = np.mean(metal[:, np.hypot(x, y) <= _CORE_MM], axis=1) >= 0.5
    if np.count_nonzero(core) * _STEP_MM < _LEAST_MM:
        return 0.0
    weight = metal[core]
    count = np.maximum(weight.sum(axis=1), 1)
    centre = np.stack([(weight * x).sum(axis=1) / count, (weight * y).sum(axis=1) / count], axis=1)
    slope = float(np.linalg.norm(robust_polynomial(ahead[core], centre, 1)[0]))
    return float(ahead[core].max()) if slope < _LEAST_SLOPE else 0.0
