"""From a run of metal to the pose of the needle's distal metal end, by fitting the forward model to the voxels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.geometry.needle_model import Fit, Frame, Pose, fit, frame_from
from iort_planner.geometry.needle_profile import EndKind, Profile, bending
from iort_planner.geometry.needle_scene import build_scene

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

WINDOW_MM = 40.0  # the distal part that is fitted: ten diameters fix a direction to 0.1 deg; a bent rest does not pull
_BENT_MM = 0.6  # over this the centre line's quadratic term is used: below it is the noise of sections (our own sweep)
# A cannula's end is taken as seen where it lowers the misfit to this share (without one it stays at 1) ...
_STEP_SHARE = 0.9
# ... or, among streaks, to this one if the apparent area also grows by over half of what 4.4 to 5.4 mm gives (7.7).
_STEP_SHARE_STREAKS, _STEP_AREA_MM2 = 0.97, 4.0
_ALIKE_SHARE = 0.04  # two radii that fit within this are not told apart; our own choice
_DEFAULT_CANNULA_WALL_MM = 0.5  # start of the fit where the applicator file gives no outer diameter
_NOISE_SHARE = 0.03  # of the plateau: misfits beyond this count less (soft L1); about 100 HU at 3071


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shaft:
    """A run of metal with its distal end chosen.

    Parameters
    ----------
    frame : Frame
        Starts at the rough distal end; its axis points to the hub.
    visible_mm : float
        Length of metal seen.
    along_mm, area_mm2 : ndarray of shape (N,)
        Sections: position in the frame and apparent area.
    plateau : float
        Value of the core.
    bending_mm : float
    curvature : ndarray of shape (2,), 1/mm
        Quadratic term of the centre line in the frame; zero for a straight needle.
    """

    frame: Frame
    visible_mm: float
    along_mm: FloatArray
    area_mm2: FloatArray
    plateau: float
    bending_mm: float
    curvature: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurement:
    """What the fit says of one needle.

    Parameters
    ----------
    metal_end_lps_mm, axis_lps : ndarray of shape (3,)
        Distal end of the shaft's metal, and the tangent there, towards the hub.
    diameter_mm : float
        Of the metal near the distal end, fitted freely.
    end_sigma_mm, angle_sigma_rad, misfit : float
        From the fit: along the axis, of the axis, and rms residual over the core's value.
    end_doubt_mm : float
        How far the end moves between the readings that fit about equally well.
    cannula_end_lps_mm : ndarray of shape (3,) or None
    cannula_over_plastic : bool
    reasons : tuple of str
        Doubts that the fit itself raises.
    """

    metal_end_lps_mm: FloatArray
    axis_lps: FloatArray
    diameter_mm: float
    blur_mm: float
    end_sigma_mm: float
    angle_sigma_rad: float
    misfit: float
    end_doubt_mm: float
    cannula_end_lps_mm: FloatArray | None
    cannula_over_plastic: bool
    reasons: tuple[str, ...]


def orient(profile: Profile) -> Shaft:
    """Turn a profile so that it starts at its distal end, the one in the body."""
    flip = profile.high_end is EndKind.TISSUE
    sign = -1.0 if flip else 1.0
    end = profile.high_mm if flip else profile.low_mm
    bend, quadratic = bending(profile)
    frame = frame_from(profile.frame.to_lps(np.array([0.0, 0.0, end])), sign * profile.frame.axis)
    turn = np.stack([profile.frame.side, profile.frame.up]) @ np.stack([frame.side, frame.up], axis=1)
    along = sign * (profile.along_mm - end)
    order = np.argsort(along)
    visible = profile.high_mm - profile.low_mm
    keep = order[(along[order] >= 0.0) & (along[order] <= visible)]
    if bend > _BENT_MM:  # start the frame at the centre line's own end, not at the straight line's
        index = order[np.argmin(np.abs(along[order] - 2.0))]
        centre = np.nan_to_num(profile.centre_mm[index])
        frame = replace(frame, origin_lps_mm=profile.frame.to_lps(np.array([centre[0], centre[1], end])))
    return Shaft(
        frame=frame,
        visible_mm=visible,
        along_mm=along[keep],
        area_mm2=profile.area_mm2[keep],
        plateau=profile.plateau,
        bending_mm=bend,
        curvature=quadratic @ turn if bend > _BENT_MM else np.zeros(2),
    )


def measure_end(volume: Volume, shaft: Shaft, applicator: Applicator) -> Measurement:
    """Fit shaft, end and cannula near the distal end; the applicator's diameter stands in for the unseen height."""
    radius = applicator.outer_radius_mm
    outer = applicator.cannula_outer_diameter_mm
    wall_radius = (
        outer / 2.0 if outer is not None else applicator.cannula_inner_diameter_mm / 2.0 + _DEFAULT_CANNULA_WALL_MM
    )
    step, growth = _area_step(shaft)
    reach = min(shaft.visible_mm - 2.0, max(WINDOW_MM, step + 8.0 if step is not None and step < 60.0 else 0.0))
    scene = build_scene(volume, shaft.frame, shaft.curvature, reach)
    noise = _NOISE_SHARE * abs(shaft.plateau)
    cut = np.isfinite(scene.ceiling)
    start = Pose(
        radius=radius, cannula_radius=wall_radius, side=0.0, up=0.0, side_slope=0.0, up_slope=0.0, end=0.0,
        cannula_end=np.inf, height=shaft.plateau * (2.0 if cut else 1.0), blur=0.65, slice_share=1.0,
    )  # fmt: skip
    free = ("side", "up", "side_slope", "up_slope", "end", "height", "blur", "slice_share")
    bare = fit(scene, start, free, noise)
    thick = fit(scene, replace(bare.pose, radius=wall_radius, height=0.6 * bare.pose.height), free, noise)
    best, doubt, reasons = bare, 0.0, []
    tube_free = (*free, "cannula_end", *(("cannula_radius",) if outer is None else ()))
    starts = [step] if step is not None else []
    if scene.wall_beyond > 0.15:
        starts.append(-3.0)
    stepped = [fit(scene, replace(bare.pose, cannula_end=c), tube_free, noise) for c in starts]
    with_step = min(stepped, key=lambda f: f.cost, default=None)
    cannula_end: float | None = None
    over = False
    share = _STEP_SHARE_STREAKS if growth > _STEP_AREA_MM2 else _STEP_SHARE
    if with_step is not None and with_step.cost < share * min(bare.cost, thick.cost):
        best, cannula_end = with_step, with_step.pose.cannula_end
        over = cannula_end < best.pose.end - 0.3
    elif thick.cost < (1.0 - _ALIKE_SHARE) * bare.cost:
        best, over = thick, True
        doubt = abs(thick.pose.end - bare.pose.end)
    elif thick.cost < (1.0 + _ALIKE_SHARE) * bare.cost:
        doubt = abs(thick.pose.end - bare.pose.end)
        reasons.append("the bare shaft and the cannula cannot be told apart at the metal's end")
    loose = fit(scene, best.pose, (*free, "radius"), noise)
    return _measurement(shaft, best, loose, cannula_end, over, doubt, reasons, applicator)


def _measurement(
    shaft: Shaft, best: Fit, loose: Fit, cannula_end: float | None, over: bool, doubt: float, reasons: list[str],
    applicator: Applicator,
) -> Measurement:  # fmt: skip
    pose, frame = best.pose, shaft.frame

    def centre(along: float) -> FloatArray:
        across = (
            pose.side + along * (pose.side_slope + along * shaft.curvature[0]),
            pose.up + along * (pose.up_slope + along * shaft.curvature[1]),
        )
        return frame.to_lps(np.array([*across, along]))

    slope = (
        pose.side_slope + 2.0 * pose.end * shaft.curvature[0],
        pose.up_slope + 2.0 * pose.end * shaft.curvature[1],
    )
    axis = frame.axis + slope[0] * frame.side + slope[1] * frame.up
    diameter = 2.0 * loose.pose.radius
    if over:
        reasons.append("the cannula stands over the metal's distal end: the tip may lie elsewhere")
    elif abs(diameter - applicator.outer_diameter_mm) > 0.35:
        reasons.append(
            f"the metal looks {diameter:.1f} mm thick, the applicator is {applicator.outer_diameter_mm:g} mm"
        )
    return Measurement(
        metal_end_lps_mm=centre(pose.end),
        axis_lps=axis / np.linalg.norm(axis),
        diameter_mm=diameter,
        blur_mm=pose.blur,
        end_sigma_mm=best.sigma["end"],
        angle_sigma_rad=float(np.hypot(best.sigma["side_slope"], best.sigma["up_slope"])),
        misfit=best.residual_rms / abs(shaft.plateau),
        end_doubt_mm=doubt,
        cannula_end_lps_mm=None if cannula_end is None else centre(cannula_end),
        cannula_over_plastic=over,
        reasons=tuple(reasons),
    )


def _area_step(shaft: Shaft) -> tuple[float | None, float]:
    """Where the apparent area grows most from one side to the other, mm from the distal end, and by how much; None if it does not.

    Compares medians over up to 8 mm on both sides; the fit decides whether it really is a cannula's end.
    """
    best, where = 1.0, None
    for at in np.arange(2.0, shaft.visible_mm - 4.0, 1.0):
        distal = (shaft.along_mm >= max(1.0, at - 8.0)) & (shaft.along_mm < at)
        proximal = (shaft.along_mm > at) & (shaft.along_mm <= min(at + 8.0, shaft.visible_mm - 2.0))
        if np.count_nonzero(distal) and np.count_nonzero(proximal) >= 2:
            growth = float(np.median(shaft.area_mm2[proximal]) - np.median(shaft.area_mm2[distal]))
            if growth > best:
                best, where = growth, float(at)
    return where, best
