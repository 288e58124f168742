"""From a run of metal to the pose of the needle's distal metal end, by fitting the forward model to the voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.geometry.needle_model import Fit, Frame, Pose, centre_at, centre_line, fit, frame_from
from iort_planner.geometry.needle_profile import EndKind, Profile, robust_polynomial, rough_parabola
from iort_planner.geometry.needle_scene import build_scene

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator
    from iort_planner.geometry.needle_model import Scene
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

# The numbers below are our own choice from sweeps over scans with a known needle (tests/geometry/needle_scans.py).
WINDOW_MM = 30.0  # the distal part where end and cannula are fitted; a longer one dilutes what the end shows
_LINE_VOXELS = (1000, 12000)  # of the first rough fit and of the second
# The centre line ends short of the image's edge, which cuts an oblique needle on one side first and shifts its centre by
# 0.3 mm there, and short of a hub.
_EDGE_MM, _HUB_MM = 4.0, 2.0
_NOISE_SHARE = 0.03  # of the plateau: misfits beyond this count less (soft L1); about 100 HU at 3071
_DEFAULT_CANNULA_WALL_MM = 0.5  # start of the fit where the applicator file gives no outer diameter
_REFIT_SHARE = 0.8  # a free radius that fits so much better has found a better start for the known one
# A cannula's end is taken as seen where it lowers the misfit to this share (without one it stays at 1) ...
_STEP_SHARE = 0.95
# ... or, among streaks, to this one if the apparent area also grows by over half of what 4.4 to 5.4 mm gives (7.7).
_STEP_SHARE_STREAKS, _STEP_AREA_MM2 = 0.97, 4.0
_CLEAR = 0.08  # misfit below which a cannula flush with the shaft is told from a hollow one beyond it
_SURE_SHARE = 0.9  # to this one before a cannula over the plastic is believed without a doubt
_OVER_START_MM = (
    -1.0,
    1.5,
)  # where a cannula over the plastic is looked for: its end, and the shaft's, from the rough end
_ALIKE_SHARE = 0.04  # two radii that fit within this are not told apart
_OVER_MM = 0.3  # a cannula end further distal than this stands over the plastic
_UNSURE_MM = 0.15  # of a cannula's end against the source, besides misfit and the fit's own sigma
_LATEST_STEP_MM = 25.0  # a cannula's end further up changes nothing at the tip
# Of the diameter fitted freely: half the step from shaft to cannula, and more among streaks, which eat the edges of
# metal by a millimetre; a cannula taken for a shaft moves the tip, so there the limit is closer.
_DIAMETER_MM, _THIN_PER_MISFIT, _THICK_PER_MISFIT = 0.5, 4.0, 1.5
_BARE_MM = 2.0  # with less bare shaft than this before the cannula begins, the shaft's own diameter cannot be seen
_ROUGHLY_BENT_MM = 0.3  # centroids of sections of straight needles wobble by up to 0.7 mm in 3 mm slices
_SEGMENT_MM = 6.0  # of the centre line: enough voxels for 0.05 mm even in 3 mm slices
# Needles are straight until they are seen to bend: a bend counts in full where segments scatter so much less about an
# arc than about a line and it is so large (mm), and not at all below the first of both. Of 62 straight phantoms one
# passes 1.65, and streaks bend that one by 0.23 mm; bends of 0.3 mm and more reach 2.2.
_BEND_RATIO, _BEND_MM = (1.6, 2.1), (0.2, 0.4)
_LEAST_SEGMENTS = 5
_LINE_STEP_MM = 4.0  # of points on a bent centre line: 0.01 mm off the curve for a bend of 4 mm over 80 mm
# The direction comes from the long run: over a short one streaks turn it by up to 2 degrees.
_FREE: tuple[str, ...] = ("side", "up", "end", "height", "blur", "slice_share")
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
    head, cut, within : bool
        Whether it ends in much thicker metal (a screw's head, or the needle's hub), at the image's edge, in the body.
    plateau : float
        Value of the core.
    curvature : ndarray of shape (2,), 1/mm
        Rough quadratic term of the centre line in the frame; zero for a needle that looks straight.
    """

    frame: Frame
    visible_mm: float
    along_mm: FloatArray
    area_mm2: FloatArray
    head: bool
    cut: bool
    within: bool
    plateau: float
    curvature: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurement:
    """What the fit says of one needle.

    Parameters
    ----------
    metal_end_lps_mm, axis_lps : ndarray of shape (3,)
        Distal end of the shaft's metal, and the tangent there, towards the hub.
    end_sigma_mm, across_sigma_mm, angle_sigma_rad, misfit : float
        From the fit: along the axis, across it, of its direction, and rms residual over the core's value.
    end_doubt_mm : float
        How far the end moves between the readings that fit about equally well.
    bending_mm : float
        Largest distance of the visible centre line from the chord between its ends.
    centre_line_lps_mm : ndarray of shape (K, 3) or None, mm
        Of a bent shaft as far as it is seen, from the distal metal end towards the hub; None if it looks straight.
    cannula_end_lps_mm : ndarray of shape (3,) or None
    cannula_over_source : bool
    reasons : tuple of str
        Doubts that the fit itself raises.
    """

    metal_end_lps_mm: FloatArray
    axis_lps: FloatArray
    end_sigma_mm: float
    across_sigma_mm: float
    angle_sigma_rad: float
    misfit: float
    end_doubt_mm: float
    bending_mm: float
    centre_line_lps_mm: FloatArray | None
    cannula_end_lps_mm: FloatArray | None
    cannula_over_source: bool
    reasons: tuple[str, ...]


def orient(profile: Profile) -> Shaft:
    """Turn a profile so that it starts at its distal end, the one in the body."""
    flip = profile.distal[1]
    sign = -1.0 if flip else 1.0
    end = profile.high_mm if flip else profile.low_mm
    bend, parabola = rough_parabola(profile)
    bent = bend > _ROUGHLY_BENT_MM  # then the frame starts on the curve's own end and tangent, not the straight line's
    origin, axis = np.array([0.0, 0.0, end]), np.array([0.0, 0.0, 1.0])
    if bent:
        origin[:2] = np.array([end**2, end, 1.0]) @ parabola
        axis[:2] = np.array([2.0 * end, 1.0]) @ parabola[:2]
    start = profile.frame.to_lps(origin)
    frame = frame_from(start, sign * (profile.frame.to_lps(origin + axis) - start))
    turn = np.stack([profile.frame.side, profile.frame.up]) @ np.stack([frame.side, frame.up], axis=1)
    along = sign * (profile.along_mm - end)
    order = np.argsort(along)
    proximal = profile.low_end if flip else profile.high_end
    visible = profile.high_mm - profile.low_mm
    keep = order[(along[order] >= 0.0) & (along[order] <= visible)]
    return Shaft(
        frame=frame,
        visible_mm=visible,
        along_mm=along[keep],
        area_mm2=profile.area_mm2[keep],
        head=profile.low_head if flip else profile.high_head,
        cut=proximal is EndKind.EDGE,
        within=proximal is EndKind.TISSUE,
        plateau=profile.plateau,
        curvature=parabola[0] @ turn if bent else np.zeros(2),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Reading:
    """Which of bare shaft, shaft with the cannula's end in view, and cannula up to the end the voxels show."""

    fit: Fit
    free: tuple[str, ...]
    hidden: bool
    doubt_mm: float
    reasons: tuple[str, ...]


def measure_end(volume: Volume, shaft: Shaft, applicator: Applicator) -> Measurement:
    """Fit the centre line over the long run, then end and cannula near the distal end.

    The applicator's diameter stands in for the unseen height of metal that the scan cuts off.
    """
    step, growth = _area_step(shaft)
    noise = _NOISE_SHARE * abs(shaft.plateau)
    shaft, line, bending_mm = _centre_line(volume, shaft, applicator, step, noise)
    step = step if step is not None and step < _LATEST_STEP_MM else None
    scene = build_scene(volume, shaft.frame, shaft.curvature, min(shaft.visible_mm - 2.0, WINDOW_MM))
    reading = _read(scene, shaft, applicator, step, growth, noise)
    best, free = reading.fit, reading.free
    pose, frame = best.pose, shaft.frame
    misfit = best.residual_rms / abs(shaft.plateau)
    over, over_reasons = _over_source(best, misfit, applicator)
    reasons = [*reading.reasons, *over_reasons]
    if not reading.hidden and pose.cannula_end - pose.end > _BARE_MM:
        diameter = 2.0 * fit(scene, pose, (*free, "radius"), noise).pose.radius
        beyond = diameter - applicator.outer_diameter_mm
        if not -_DIAMETER_MM - _THIN_PER_MISFIT * misfit < beyond < _DIAMETER_MM + _THICK_PER_MISFIT * misfit:
            reasons.append(
                f"the metal looks {diameter:.1f} mm thick, the applicator is {applicator.outer_diameter_mm:g} mm"
            )
    return Measurement(
        metal_end_lps_mm=_point(frame, pose, pose.end),
        axis_lps=_tangent(frame, pose),
        end_sigma_mm=best.sigma["end"],
        across_sigma_mm=float(np.hypot(best.sigma["side"], best.sigma["up"])),
        angle_sigma_rad=float(np.hypot(line.sigma["side_slope"], line.sigma["up_slope"])),
        misfit=misfit,
        end_doubt_mm=reading.doubt_mm,
        bending_mm=bending_mm,
        centre_line_lps_mm=_bent_line(frame, pose, shaft.visible_mm) if np.any(shaft.curvature) else None,
        cannula_end_lps_mm=_point(frame, pose, pose.cannula_end) if np.isfinite(pose.cannula_end) else None,
        cannula_over_source=over,
        reasons=tuple(reasons),
    )


def _over_source(found: Fit, misfit: float, applicator: Applicator) -> tuple[bool, tuple[str, ...]]:
    """Whether the cannula's end lies distal of the source centre, and a reason where the fit cannot say."""
    if not np.isfinite(found.pose.cannula_end):
        return False, ()
    overlap_mm = found.pose.end - found.pose.cannula_end
    source_mm = applicator.radiolucent_tip_length_mm - applicator.tip_to_source_mm
    unsure_mm = _UNSURE_MM + misfit + 2.0 * float(np.hypot(found.sigma["end"], found.sigma["cannula_end"]))
    if abs(overlap_mm - source_mm) < unsure_mm:
        return overlap_mm > source_mm, ("it cannot be told whether the cannula's end stands over the source",)
    return overlap_mm > source_mm, ()


def _centre_line(
    volume: Volume, shaft: Shaft, applicator: Applicator, step: float | None, noise: float
) -> tuple[Shaft, Fit, float]:
    """The shaft in the frame of its distal tangent, the line fitted to its voxels, and the visible bending in mm.

    The arc is fitted twice, because it is one of the model's only in the frame of its own tangent: a frame turned by a
    tenth makes a cubic of it, 0.5 mm at 80 mm for a bend of 4 mm. Then the bend is kept as far as the segments of
    the whole visible shaft show it, and the rest is fitted again.
    """
    radius = applicator.outer_radius_mm
    start = _start(shaft, applicator)
    if step is not None:
        start = replace(start, cannula_end=step)
    straight: tuple[str, ...] = ("side", "up", "side_slope", "up_slope", "end", "height", "blur", "radius")
    reach = shaft.visible_mm - (_EDGE_MM if shaft.cut and shaft.visible_mm > WINDOW_MM + _EDGE_MM else _HUB_MM)
    for most in _LINE_VOXELS:
        scene = build_scene(volume, shaft.frame, shaft.curvature, reach, most)
        found = fit(scene, start, (*straight, *_BEND), noise)
        shaft, start = _in_own_frame(shaft, found.pose, radius)
    scene = build_scene(volume, shaft.frame, shaft.curvature, reach, most)
    share, bending_mm = _seen_bend(centre_line(scene, start, _SEGMENT_MM), start, shaft.visible_mm)
    if share < 1.0:
        kept = replace(start, side_bend=share * start.side_bend, up_bend=share * start.up_bend)
        found = fit(scene, kept, straight, noise)
        shaft, _ = _in_own_frame(shaft, found.pose, radius)
    return shaft, found, bending_mm


def _in_own_frame(shaft: Shaft, pose: Pose, radius: float) -> tuple[Shaft, Pose]:
    """The shaft in the frame of the line's distal tangent, and the line in that frame."""
    frame = frame_from(_point(shaft.frame, pose, 0.0), _tangent(shaft.frame, pose))
    turn = np.stack([shaft.frame.side, shaft.frame.up]) @ np.stack([frame.side, frame.up], axis=1)
    curvature = np.array([pose.side_bend, pose.up_bend]) @ turn
    line = replace(
        pose, side=0.0, up=0.0, side_slope=0.0, up_slope=0.0,
        side_bend=float(curvature[0]), up_bend=float(curvature[1]), radius=radius,
    )  # fmt: skip
    return replace(shaft, frame=frame, curvature=curvature), line


def _start(shaft: Shaft, applicator: Applicator) -> Pose:
    """Where fits begin: the bare shaft on the shaft's own frame."""
    outer = applicator.cannula_outer_diameter_mm
    wall_radius = (
        applicator.cannula_inner_diameter_mm / 2.0 + _DEFAULT_CANNULA_WALL_MM if outer is None else outer / 2.0
    )
    return Pose(
        radius=applicator.outer_radius_mm, cannula_radius=wall_radius, side=0.0, up=0.0, side_slope=0.0, up_slope=0.0,
        side_bend=float(shaft.curvature[0]), up_bend=float(shaft.curvature[1]), end=0.0, cannula_end=np.inf,
        height=shaft.plateau * 2.0, blur=0.65, slice_share=1.0,
    )  # fmt: skip


def _read(
    scene: Scene, shaft: Shaft, applicator: Applicator, step: float | None, growth: float, noise: float
) -> _Reading:
    """Fit the readings that the voxels allow and take the best."""
    start = _start(shaft, applicator)
    if not np.isfinite(scene.ceiling):
        start = replace(start, height=shaft.plateau)
    radius, wall_radius = start.radius, start.cannula_radius
    tube = ("cannula_end", "cannula_radius") if applicator.cannula_outer_diameter_mm is None else ("cannula_end",)
    free = _FREE
    bare = fit(scene, start, free, noise)
    loose = fit(scene, bare.pose, (*free, "radius"), noise)
    thick = fit(scene, replace(loose.pose, radius=wall_radius), free, noise)
    if loose.cost < _REFIT_SHARE * bare.cost:  # the first start was too far off for the known radius
        bare = min(bare, fit(scene, replace(loose.pose, radius=radius), free, noise), key=lambda f: f.cost)
    # a hollow cannula over the plastic, or its end in view further up
    starts = [(thick.pose.end + _OVER_START_MM[0], thick.pose.end + _OVER_START_MM[1])]
    if step is not None:
        starts.append((step, bare.pose.end))
    tubed = min(
        (
            fit(scene, replace(bare.pose, cannula_end=cannula_end, end=end), (*free, *tube), noise)
            for cannula_end, end in starts
        ),
        key=lambda f: f.cost,
    )
    gain = tubed.cost / min(bare.cost, thick.cost)
    flush = thick.cost < (1.0 - _ALIKE_SHARE) * bare.cost and gain < 1.0 + _ALIKE_SHARE
    if flush and tubed.residual_rms < _CLEAR * abs(shaft.plateau):  # solid steel up to the end: both end there
        return _Reading(fit=tubed, free=(*free, *tube), hidden=False, doubt_mm=0.0, reasons=())
    if gain < (_STEP_SHARE_STREAKS if growth > _STEP_AREA_MM2 else _STEP_SHARE):
        over_mm = tubed.pose.end - tubed.pose.cannula_end
        sure = over_mm < _OVER_MM or gain < _SURE_SHARE
        reasons = (
            ()
            if sure
            else (f"the cannula seems to stand {over_mm:.1f} mm over the plastic: the tip may lie elsewhere",)
        )
        return _Reading(
            fit=tubed, free=(*free, *tube), hidden=False, doubt_mm=0.0 if sure else 2.0 * over_mm, reasons=reasons
        )
    apart_mm = abs(thick.pose.end - bare.pose.end)
    if thick.cost < (1.0 - _ALIKE_SHARE) * bare.cost:
        reasons = ("the cannula hides the metal's distal end: the tip may lie elsewhere",)
        return _Reading(
            fit=thick, free=free, hidden=True, doubt_mm=applicator.radiolucent_tip_length_mm, reasons=reasons
        )
    alike = thick.cost < (1.0 + _ALIKE_SHARE) * bare.cost
    reasons = ("the bare shaft and the cannula cannot be told apart at the metal's end",) if alike else ()
    return _Reading(fit=bare, free=free, hidden=False, doubt_mm=apart_mm if alike else 0.0, reasons=reasons)


def _point(frame: Frame, pose: Pose, along: float) -> FloatArray:
    """LPS point on the model's centre line."""
    side, up = centre_at(pose, np.array(along))
    return frame.to_lps(np.array([float(side), float(up), along]))


def _bent_line(frame: Frame, pose: Pose, visible_mm: float) -> FloatArray:
    """Points of the model's centre line from the metal's end to where the shaft leaves the image, (K, 3) LPS mm."""
    at = np.linspace(pose.end, visible_mm, max(2, math.ceil(visible_mm / _LINE_STEP_MM)))
    return frame.to_lps(np.column_stack([*centre_at(pose, at), at]))


def _tangent(frame: Frame, pose: Pose) -> FloatArray:
    """Unit tangent of the model's centre line at its distal end, LPS."""
    axis = (
        frame.axis
        + (pose.side_slope + 2.0 * pose.end * pose.side_bend) * frame.side
        + (pose.up_slope + 2.0 * pose.end * pose.up_bend) * frame.up
    )
    result: FloatArray = axis / np.linalg.norm(axis)
    return result


def _seen_bend(segments: FloatArray, pose: Pose, visible_mm: float) -> tuple[float, float]:
    """How much of a bend the segments (N, 3) show, 0 to 1, and the largest distance of their line from its chord, mm."""
    if segments.shape[0] < _LEAST_SEGMENTS:
        return 0.0, 0.0
    along, across = segments[:, 2], segments[:, :2]
    line, parabola = (robust_polynomial(along, across, degree) for degree in (1, 2))
    scatter = [
        float(np.sqrt(np.sum((across - np.vander(along, len(c)) @ c) ** 2) / (along.size - len(c))))
        for c in (line, parabola)
    ]
    size_mm = float(np.linalg.norm(parabola[0])) * visible_mm**2 / 4.0
    seen = [(scatter[0] / max(scatter[1], 1e-6), _BEND_RATIO), (size_mm, _BEND_MM)]
    share = min(float(np.clip((value - low) / (high - low), 0.0, 1.0)) for value, (low, high) in seen)
    coefficients = share * parabola + (1.0 - share) * np.vstack([np.zeros(2), line])
    at = np.linspace(pose.end, visible_mm, 101)
    curve = np.column_stack([np.vander(at, 3) @ coefficients, at])
    chord = curve[-1] - curve[0]
    offset = curve - curve[0]
    away = offset - np.outer(offset @ chord / (chord @ chord), chord)
    return share, float(np.max(np.linalg.norm(away, axis=1)))


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
