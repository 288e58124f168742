"""From a run of metal to the pose of the needle's distal metal end, by fitting the forward model to the voxels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.geometry.needle_ahead import extended
from iort_planner.geometry.needle_end import over_source, read_end
from iort_planner.geometry.needle_line import WINDOW_MM, bent_line, fit_centre_line, point_on, tangent_of
from iort_planner.geometry.needle_model import Fit, Pose, Scene, fit
from iort_planner.geometry.needle_scene import build_scene
from iort_planner.geometry.needle_shaft import Shaft, area_step, looks_hollow

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

_NOISE_SHARE = 0.03  # of the plateau: misfits beyond this count less (soft L1); about 100 HU at 3071
_LATEST_STEP_MM = 25.0  # a cannula's end further up changes nothing at the tip
# Of the diameter fitted freely: half the step from shaft to cannula, and more among streaks, which eat the edges of
# metal by a millimetre; a cannula taken for a shaft moves the tip, so there the limit is closer.
_DIAMETER_MM, _THIN_PER_MISFIT, _THICK_PER_MISFIT = 0.5, 4.0, 1.5
_PAST_TIP_MM = 1.0  # a cannula's end so far beyond where the tip would be has no needle near it
_CANNULA_WALL_MM, _EMPTY_SHARE = 0.5, 0.85  # where that fit begins; how much better it must be
_BARE_MM = 2.0  # with less bare shaft than this before the cannula begins, the shaft's own diameter cannot be seen


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurement:
    """What the fit says of one needle.

    Parameters
    ----------
    pose : Pose
        As fitted near the distal end.
    diameter_mm : float or None
        Of the bare shaft, fitted freely; None where too little of it is bare.
    gain, hollow_share : float
        As in `Reading`.
    cannula_alone : bool
        Whether an empty cannula fits better than any needle.
    metal_end_lps_mm, axis_lps : ndarray of shape (3,)
        Distal end of the shaft's metal, and the tangent there, towards the hub.
    end_sigma_mm, across_sigma_mm, angle_sigma_rad, misfit : float
        From the fit: along the axis, across it, of its direction, and rms residual over the core's value.
    end_doubt_mm : float
        How far the end moves between the readings that fit about equally well.
    bending_mm : float or None
        Largest distance of the visible centre line from the chord between its ends; None where too little is seen.
    centre_line_lps_mm : ndarray of shape (K, 3) or None, mm
        Of a bent shaft as far as it is seen, from the distal metal end towards the hub; None if it looks straight.
    cannula_end_lps_mm : ndarray of shape (3,) or None
    cannula_over_source : bool
    end_reasons, reasons : tuple of str
        Doubts about what stands at the metal's end (shaft or cannula), and all that the fit itself raises.
    """

    pose: Pose
    diameter_mm: float | None
    gain: float
    hollow_share: float
    cannula_alone: bool
    metal_end_lps_mm: FloatArray
    axis_lps: FloatArray
    end_sigma_mm: float
    across_sigma_mm: float
    angle_sigma_rad: float
    misfit: float
    end_doubt_mm: float
    bending_mm: float | None
    centre_line_lps_mm: FloatArray | None
    cannula_end_lps_mm: FloatArray | None
    cannula_over_source: bool
    end_reasons: tuple[str, ...]
    reasons: tuple[str, ...]


def measure_end(volume: Volume, shaft: Shaft, applicator: Applicator) -> Measurement:
    """Fit the centre line over the long run, then end and cannula near the distal end.

    The applicator's diameter stands in for the unseen height of metal that the scan cuts off.
    """
    shaft = extended(volume, shaft)
    step, growth = area_step(shaft)
    noise = _NOISE_SHARE * abs(shaft.plateau)
    shaft, line, bending_mm, line_doubts = fit_centre_line(volume, shaft, applicator, step, noise)
    step = step if step is not None and step < _LATEST_STEP_MM else None
    plastic_mm = applicator.radiolucent_tip_length_mm
    reach_mm = min(shaft.visible_mm - 2.0, WINDOW_MM)
    scene = build_scene(volume, shaft.frame, shaft.curvature, reach_mm, plastic_mm=plastic_mm)
    reading = read_end(scene, shaft, applicator, step, growth, noise)
    best, free = reading.fit, reading.free
    pose, frame = best.pose, shaft.frame
    misfit = best.residual_rms / abs(shaft.plateau)
    over, over_reasons = over_source(best, misfit, applicator)
    end_reasons = (*reading.reasons, *over_reasons)
    reasons = [*end_reasons, *line_doubts]
    diameter = None
    if not reading.hidden and pose.cannula_end - pose.end > _BARE_MM:
        diameter = 2.0 * fit(scene, pose, (*free, "radius"), noise).pose.radius
        beyond = diameter - applicator.outer_diameter_mm
        if not -_DIAMETER_MM - _THIN_PER_MISFIT * misfit < beyond < _DIAMETER_MM + _THICK_PER_MISFIT * misfit:
            reasons.append(
                f"the metal looks {diameter:.1f} mm thick, the applicator is {applicator.outer_diameter_mm:g} mm"
            )
    return Measurement(
        pose=pose,
        diameter_mm=diameter,
        gain=reading.gain,
        hollow_share=reading.hollow_share,
        metal_end_lps_mm=point_on(frame, pose, pose.end),
        axis_lps=tangent_of(frame, pose),
        end_sigma_mm=best.sigma["end"],
        across_sigma_mm=float(np.hypot(best.sigma["side"], best.sigma["up"])),
        angle_sigma_rad=float(np.hypot(line.sigma["side_slope"], line.sigma["up_slope"])),
        misfit=misfit,
        end_doubt_mm=reading.doubt_mm,
        bending_mm=bending_mm,
        centre_line_lps_mm=bent_line(frame, pose, shaft.visible_mm) if np.any(shaft.curvature) else None,
        cannula_end_lps_mm=point_on(frame, pose, pose.cannula_end) if np.isfinite(pose.cannula_end) else None,
        cannula_over_source=over,
        cannula_alone=_cannula_alone(scene, best, shaft, applicator, noise),
        end_reasons=end_reasons,
        reasons=tuple(reasons),
    )


def _cannula_alone(scene: Scene, best: Fit, shaft: Shaft, applicator: Applicator, noise: float) -> bool:
    """Whether a tube of the cannula's bore without anything in it fits the voxels better than a needle does."""
    if best.pose.end - best.pose.cannula_end > applicator.radiolucent_tip_length_mm + _PAST_TIP_MM:
        return True
    if not looks_hollow(shaft, applicator):
        return False
    bore = applicator.cannula_inner_diameter_mm / 2.0
    empty = replace(
        best.pose, radius=max(best.pose.cannula_radius, bore + _CANNULA_WALL_MM), bore_radius=bore, cannula_end=np.inf,
        plastic=np.nan, bore=np.nan, probe=False, inner=max(shaft.core, scene.lowest + 1.0),
    )  # fmt: skip
    starts = {best.pose.end, min(best.pose.end, best.pose.cannula_end)}
    free = ("side", "up", "end", "height", "blur", "slice_share", "inner", "radius")
    return min(fit(scene, replace(empty, end=end), free, noise).cost for end in starts) < _EMPTY_SHARE * best.cost
