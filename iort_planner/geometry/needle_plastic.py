"""Whether a plastic tip is seen ahead of a shaft's metal end: it tells the applicator from other shafts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.geometry.needle_model import blurred_disc, bore_share, frame_from, table_at

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

_FROM_METAL_MM = 1.4  # past the metal's own blur
_BEYOND_TIP_MM = 4.0
_RADIUS_MM = 5.0
_ROUNDS = 4  # of damping what does not fit: cortex, the canal, other metal
_CORRELATED = (
    2.0  # noise of neighbouring voxels goes together: so much larger than independent voxels say. Our own choice
)
SEEN_SIGMA = 5.0
_MOST_METAL = 0.3  # of a screw whose tip goes on ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Plastic:
    """How what stands ahead of the metal differs from a smooth field of tissue and streaks.

    Parameters
    ----------
    wall, bore : float
        Step of value at the plastic's surface, and further inside a bore, in the scan's values.
    metal_share : float
        The larger step upwards, over that of metal.
    signal : float
        Both in standard deviations, together (the root of a chi-square with two degrees of freedom).
    """

    wall: float
    bore: float
    metal_share: float
    signal: float

    @property
    def pointed(self) -> bool:
        """Whether metal goes on ahead, getting thinner, like the tip of a screw."""
        return self.signal > SEEN_SIGMA and self.metal_share >= _MOST_METAL

    @property
    def seen(self) -> bool:
        """Whether it stands out, and is no metal."""
        return self.signal > SEEN_SIGMA and self.metal_share < _MOST_METAL


def look_ahead(
    volume: Volume,
    applicator: Applicator,
    metal_end_lps_mm: FloatArray,
    axis_lps: FloatArray,
    blur_mm: float,
    metal: float,
) -> Plastic:
    """Fit the blurred shape of the plastic, with and without a bore, on top of a smooth field to the voxels ahead.

    Streaks and tissue change slowly ahead of a shaft; the plastic begins and ends sharply, where the applicator's lengths
    and diameter say.
    """
    frame = frame_from(metal_end_lps_mm, -axis_lps)
    length, radius = applicator.radiolucent_tip_length_mm, applicator.outer_radius_mm
    reach = length + _BEYOND_TIP_MM
    box = volume.crop_around(frame.to_lps(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, reach]])), _RADIUS_MM + 0.5)
    k, j, i = np.meshgrid(*(np.arange(n) for n in box.values.shape), indexing="ij")
    local = frame.to_local(box.grid.index_to_lps(np.stack([i, j, k], axis=-1).reshape(-1, 3)))
    r = np.hypot(local[:, 0], local[:, 1])
    used = (r < _RADIUS_MM) & (local[:, 2] > _FROM_METAL_MM) & (local[:, 2] < reach)
    if np.count_nonzero(used) < 40:
        return Plastic(wall=0.0, bore=0.0, metal_share=0.0, signal=0.0)
    values, r = box.values.reshape(-1)[used].astype(np.float64), r[used]
    x, y, z = local[used].T
    inside = table_at(blurred_disc(radius, blur_mm), r)
    drilled = table_at(blurred_disc(bore_share(applicator) * radius, blur_mm), r)
    tip = 0.5 * (1.0 + np.tanh((length - radius / 3.0 - z) / blur_mm))
    bore_end = 0.5 * (1.0 + np.tanh((length - applicator.tip_to_source_mm - z) / blur_mm))
    u, v, w = x / _RADIUS_MM, y / _RADIUS_MM, z / reach
    near = 1.0 / (1.0 + z)
    smooth = [np.ones(r.size), u, v, w, u * u, v * v, w * w, u * v, u * w, v * w, near, near * (u * u + v * v)]
    design = np.stack([inside * tip, drilled * bore_end, *smooth], axis=1)
    weight = np.ones(r.size)
    for _ in range(_ROUNDS):
        root = np.sqrt(weight)
        solution = np.linalg.lstsq(design * root[:, None], values * root, rcond=None)[0]
        miss = values - design @ solution
        scale = max(1.48 * float(np.median(np.abs(miss))), 1e-6)
        weight = 1.0 / (1.0 + (miss / (2.0 * scale)) ** 2)
    covariance = np.linalg.pinv((design * weight[:, None]).T @ design)[:2, :2] * (_CORRELATED * scale) ** 2
    found = solution[:2]
    return Plastic(
        wall=float(found[0]),
        bore=float(found[1]),
        metal_share=float(max(found)) / metal,
        signal=float(np.sqrt(max(found @ np.linalg.pinv(covariance) @ found, 0.0))),
    )
