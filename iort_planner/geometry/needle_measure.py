"""From a run of metal to the pose of the needle's distal metal end, by fitting the forward model to the voxels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.geometry.needle_model import Fit, Frame, Pose, centre_at, centre_line, fit, frame_from
from iort_planner.geometry.needle_profile import EndKind, Profile, bending
from iort_planner.geometry.needle_scene import build_scene

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator
    from iort_planner.geometry.needle_model import Scene
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

# The numbers below are our own choice from sweeps over scans with a known needle (tests/geometry/needle_scans.py).
WINDOW_MM = 40.0  # the distal part that is fitted: ten diameters fix a direction to 0.1 deg; a bent rest does not pull
_NOISE_SHARE = 0.03  # of the plateau: misfits beyond this count less (soft L1); about 100 HU at 3071
_DEFAULT_CANNULA_WALL_MM = 0.5  # start of the fit where the applicator file gives no outer diameter
_REFIT_SHARE = 0.8  # a free radius that fits so much better has found a better start for the known one
# A cannula's end is taken as seen where it lowers the misfit to this share (without one it stays at 1) ...
_STEP_SHARE = 0.9
# ... or, among streaks, to this one if the apparent area also grows by over half of what 4.4 to 5.4 mm gives (7.7).
_STEP_SHARE_STREAKS, _STEP_AREA_MM2 = 0.97, 4.0
_ALIKE_SHARE = 0.04  # two radii that fit within this are not told apart
_WALL_SHARE = 0.15  # of the metal's value, where a hollow cannula over the plastic would stand; blur leaves 0.02
_OVER_MM = 0.3  # a cannula end further distal than this stands over the plastic
_NEAR_MM = 1.5  # ends closer than two blurs do not show a step
_DIAMETER_MM = 0.35  # a third of the step from shaft to cannula; clean scans are within 0.1
_ROUGHLY_BENT_MM = 0.8  # centroids of sections of straight needles wobble by up to 0.7 mm in 3 mm slices
_SEGMENT_MM = 6.0  # of the centre line: enough voxels for 0.05 mm even in 3 mm slices
_BENT_MM, _BENT_SHARE = 0.12, 0.98  # from here a bend is tried, and kept where it lowers the misfit to this share ...
_BENT_RATIO = (
    2.5  # ... or, in noise, at all, if the segments' scatter about a parabola is so much less than about a line
)
_BEND_REACH_MM = 50.0  # the bend at the distal end is the bend of this much of the needle, not of its hub
_STRAIGHT: tuple[str, ...] = ("side", "up", "side_slope", "up_slope", "end", "height", "blur", "slice_share")
_BEND: tuple[str, ...] = ("side_bend", "up_bend")


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
    curvature : ndarray of shape (2,), 1/mm
        Rough quadratic term of the centre line in the frame; zero for a needle that looks straight.
    """

    frame: Frame
    visible_mm: float
    along_mm: FloatArray
    area_mm2: FloatArray
    plateau: float
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
    bending_mm : float
        Largest distance of the visible centre line from the chord between its ends.
    cannula_end_lps_mm : ndarray of shape (3,) or None
    cannula_over_plastic : bool
    reasons : tuple of str
        Doubts that the fit itself raises.
    """

    metal_end_lps_mm: FloatArray
    axis_lps: FloatArray
    diameter_mm: float
    end_sigma_mm: float
    angle_sigma_rad: float
    misfit: float
    end_doubt_mm: float
    bending_mm: float
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
    if bend > _ROUGHLY_BENT_MM:  # start the frame at the centre line's own end, not at the straight line's
        index = order[np.argmin(np.abs(along[order] - 2.0))]
        centre = np.nan_to_num(profile.centre_mm[index])
        frame = replace(frame, origin_lps_mm=profile.frame.to_lps(np.array([centre[0], centre[1], end])))
    return Shaft(
        frame=frame,
        visible_mm=visible,
        along_mm=along[keep],
        area_mm2=profile.area_mm2[keep],
        plateau=profile.plateau,
        curvature=quadratic @ turn if bend > _ROUGHLY_BENT_MM else np.zeros(2),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Reading:
    """Which of bare shaft, shaft with the cannula's end in view, and cannula up to the end the voxels show."""

    fit: Fit
    free: tuple[str, ...]
    over: bool
    doubt_mm: float
    reasons: tuple[str, ...]


def measure_end(volume: Volume, shaft: Shaft, applicator: Applicator) -> Measurement:
    """Fit shaft, end and cannula near the distal end; the applicator's diameter stands in for the unseen height."""
    step, growth = _area_step(shaft)
    reach = min(shaft.visible_mm - 2.0, max(WINDOW_MM, step + 8.0 if step is not None and step < 60.0 else 0.0))
    scene = build_scene(volume, shaft.frame, shaft.curvature, reach)
    noise = _NOISE_SHARE * abs(shaft.plateau)
    reading = _read(scene, shaft, applicator, step, growth, noise)
    whole = build_scene(volume, shaft.frame, shaft.curvature, shaft.visible_mm - 1.0)
    line = centre_line(whole, reading.fit.pose, _SEGMENT_MM)
    bending_mm = _from_chord(line)
    best, free = _straight_or_bent(scene, reading, line, bending_mm, noise)
    diameter = 2.0 * fit(scene, best.pose, (*free, "radius"), noise).pose.radius
    reasons = list(reading.reasons)
    if reading.over:
        reasons.append("the cannula stands over the metal's distal end: the tip may lie elsewhere")
    elif abs(diameter - applicator.outer_diameter_mm) > _DIAMETER_MM:
        reasons.append(
            f"the metal looks {diameter:.1f} mm thick, the applicator is {applicator.outer_diameter_mm:g} mm"
        )
    pose, frame = best.pose, shaft.frame
    axis = (
        frame.axis
        + (pose.side_slope + 2.0 * pose.end * pose.side_bend) * frame.side
        + (pose.up_slope + 2.0 * pose.end * pose.up_bend) * frame.up
    )
    return Measurement(
        metal_end_lps_mm=_point(frame, pose, pose.end),
        axis_lps=axis / np.linalg.norm(axis),
        diameter_mm=diameter,
        end_sigma_mm=best.sigma["end"],
        angle_sigma_rad=float(np.hypot(best.sigma["side_slope"], best.sigma["up_slope"])),
        misfit=best.residual_rms / abs(shaft.plateau),
        end_doubt_mm=reading.doubt_mm,
        bending_mm=bending_mm,
        cannula_end_lps_mm=_point(frame, pose, pose.cannula_end) if np.isfinite(pose.cannula_end) else None,
        cannula_over_plastic=reading.over,
        reasons=tuple(reasons),
    )


def _read(
    scene: Scene, shaft: Shaft, applicator: Applicator, step: float | None, growth: float, noise: float
) -> _Reading:
    """Fit the readings that the voxels allow and take the best."""
    radius = applicator.outer_radius_mm
    outer = applicator.cannula_outer_diameter_mm
    wall_radius = (
        applicator.cannula_inner_diameter_mm / 2.0 + _DEFAULT_CANNULA_WALL_MM if outer is None else outer / 2.0
    )
    tube = ("cannula_end", "cannula_radius") if outer is None else ("cannula_end",)
    start = Pose(
        radius=radius, cannula_radius=wall_radius, side=0.0, up=0.0, side_slope=0.0, up_slope=0.0,
        side_bend=float(shaft.curvature[0]), up_bend=float(shaft.curvature[1]), end=0.0, cannula_end=np.inf,
        height=shaft.plateau * (2.0 if np.isfinite(scene.ceiling) else 1.0), blur=0.65, slice_share=1.0,
    )  # fmt: skip
    free = (*_STRAIGHT, *_BEND) if np.any(shaft.curvature) else _STRAIGHT
    bare = fit(scene, start, free, noise)
    loose = fit(scene, bare.pose, (*free, "radius"), noise)
    thick = fit(scene, replace(loose.pose, radius=wall_radius), free, noise)
    if loose.cost < _REFIT_SHARE * bare.cost:  # the first start was too far off for the known radius
        bare = min(bare, fit(scene, replace(loose.pose, radius=radius), free, noise), key=lambda f: f.cost)
    starts = ([] if step is None else [step]) + ([-2.0] if scene.wall_beyond > _WALL_SHARE else [])
    tubed = min(
        (fit(scene, replace(bare.pose, cannula_end=at), (*free, *tube), noise) for at in starts),
        key=lambda f: f.cost,
        default=None,
    )
    apart_mm = abs(thick.pose.end - bare.pose.end)
    share = _STEP_SHARE_STREAKS if growth > _STEP_AREA_MM2 else _STEP_SHARE
    if tubed is not None and tubed.cost < share * min(bare.cost, thick.cost):
        past_mm = tubed.pose.end - tubed.pose.cannula_end
        near = abs(past_mm) < _NEAR_MM
        reasons = ("the cannula ends at the metal's distal end: the two ends cannot be told apart",) if near else ()
        return _Reading(
            fit=tubed, free=(*free, *tube), over=past_mm > _OVER_MM, doubt_mm=apart_mm if near else 0.0, reasons=reasons
        )
    if thick.cost < (1.0 - _ALIKE_SHARE) * bare.cost:  # the shaft's end is hidden: anywhere under the cannula
        return _Reading(fit=thick, free=free, over=True, doubt_mm=applicator.radiolucent_tip_length_mm, reasons=())
    alike = thick.cost < (1.0 + _ALIKE_SHARE) * bare.cost
    reasons = ("the bare shaft and the cannula cannot be told apart at the metal's end",) if alike else ()
    return _Reading(fit=bare, free=free, over=False, doubt_mm=apart_mm if alike else 0.0, reasons=reasons)


def _straight_or_bent(
    scene: Scene, reading: _Reading, line: FloatArray, bending_mm: float, noise: float
) -> tuple[Fit, tuple[str, ...]]:
    """The reading refitted with a bend where the whole visible centre line bends and the fit agrees, else straight."""
    pose, free = reading.fit.pose, tuple(name for name in reading.free if name not in _BEND)
    straight = reading.fit
    if free != reading.free:
        straight = fit(scene, replace(pose, side_bend=0.0, up_bend=0.0), free, noise)
    distal = line[line[:, 2] < _BEND_REACH_MM]
    if bending_mm <= _BENT_MM or distal.shape[0] < 4:
        return straight, free
    at, across = distal[:, 2], distal[:, :2]
    parabola, flat = np.polyfit(at, across, 2), np.polyfit(at, across, 1)
    scatter = [float(np.linalg.norm(across - np.vander(at, len(c)) @ c)) for c in (parabola, flat)]
    start = replace(pose, side_bend=float(parabola[0, 0]), up_bend=float(parabola[0, 1]))
    bent = fit(scene, start, (*free, *_BEND), noise)
    share = 1.0 if distal.shape[0] > 4 and scatter[1] > _BENT_RATIO * scatter[0] else _BENT_SHARE
    return (bent, (*free, *_BEND)) if bent.cost < share * straight.cost else (straight, free)


def _point(frame: Frame, pose: Pose, along: float) -> FloatArray:
    """LPS point on the model's centre line."""
    side, up = centre_at(pose, np.array(along))
    return frame.to_lps(np.array([float(side), float(up), along]))


def _from_chord(line: FloatArray) -> float:
    """Largest distance of points from the chord between the first and the last, mm."""
    if line.shape[0] < 3:
        return 0.0
    chord = line[-1] - line[0]
    offset = line - line[0]
    away = offset - np.outer(offset @ chord / (chord @ chord), chord)
    return float(np.max(np.linalg.norm(away, axis=1)))


def _area_step(shaft: Shaft) -> tuple[float | None, float]:
    """Where along the shaft the apparent area grows most (mm from the distal end, or None), and by how much.

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
