"""What stands at a needle's distal metal end: bare shaft, a cannula's end in view, or a cannula over the plastic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.applicator import NeedleContent
from iort_planner.geometry.needle_model import PROBE_BORE_MM, Fit, Pose, fit
from iort_planner.geometry.needle_shaft import Shaft, start_pose

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator
    from iort_planner.geometry.needle_model import Scene

# The numbers below are our own choice from sweeps over scans with a known needle (tests/sweeps, tests/geometry).
_REFIT_SHARE = 0.8  # a free radius that fits so much better has found a better start for the known one
# A cannula's end is taken as seen where it lowers the misfit to this share (without one it stays at 1) ...
_STEP_SHARE = 0.95
# ... or, among streaks, to this one if the apparent area also grows by over half of what 4.4 to 5.4 mm gives (7.7).
_STEP_SHARE_STREAKS, _STEP_AREA_MM2 = 0.97, 4.0
_CLEAR = 0.08  # misfit below which a cannula flush with the shaft is told from a hollow one beyond it
_THIN_CANNULA_MM = 0.38
_SURE_SHARE = 0.9  # to this one before a cannula over the plastic is believed without a doubt
_OVER_START_MM = (
    -1.0,
    1.5,
)  # where a cannula over the plastic is looked for: its end, and the shaft's, from the rough end
_ALIKE_SHARE = 0.04  # two radii that fit within this are not told apart
# Of the metal's value: a middle as bright is metal. Hardened beams darken the inside of solid metal, which the fit then tells.
_SURELY_SOLID = 0.97
_PROBE_APART_MM = 0.55  # of a probe's end from the source that the file states, both as fitted; our own choice
_BORE = ("bore", "bore_radius", "bore_reach")
_DRILLED_SHARE = 0.97  # of the misfit, before a bore in the plastic is believed
# Ends this near to each other are one end of thick metal: a cannula flush with the shaft, or a rod or screw.
_FLUSH_MM = 0.3
_FLUSH = "the metal's end is as thick as the cannula: either it ends flush with the shaft, or this is no needle"
_OVER_MM = 0.3  # a cannula end further distal than this stands over the plastic
_UNSURE_MM = (
    0.8  # of a cannula's end against the source, besides misfit and the fit's own sigma: a thin ring shows poorly
)
# The direction comes from the long run: over a short one streaks turn it by up to 2 degrees.
_FREE: tuple[str, ...] = ("side", "up", "end", "height", "blur", "slice_share")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """Which of bare shaft, shaft with the cannula's end in view, and cannula up to the end the voxels show.

    ``gain`` is the cost with the cannula's end in view over that without, ``hollow_share`` that with air or a probe inside over
    that with metal.
    """

    fit: Fit
    free: tuple[str, ...]
    hidden: bool
    doubt_mm: float
    reasons: tuple[str, ...]
    gain: float = 1.0
    hollow_share: float = 1.0


def read_end(
    scene: Scene, shaft: Shaft, applicator: Applicator, step: float | None, growth: float, noise: float
) -> Reading:
    """Fit the readings that the voxels allow and take the best: what is inside first, then what stands at the end."""
    tube = ("cannula_end", "cannula_radius") if applicator.cannula_outer_diameter_mm is None else ("cannula_end",)
    begun = _inside(scene, shaft, applicator, step, tube, noise)
    reading = _at_end(scene, shaft, applicator, begun, step, growth, tube, noise)
    reading = _elsewhere(scene, _with_bore(scene, reading, applicator, noise), applicator, noise)
    pose = reading.fit.pose
    apart_mm = abs(pose.bore_reach - (applicator.radiolucent_tip_length_mm - applicator.tip_to_source_mm))
    if pose.probe and apart_mm > _PROBE_APART_MM:
        doubt = f"the probe ends {apart_mm:.1f} mm from where the applicator's file puts the source: the tip may lie elsewhere"
        reading = replace(reading, reasons=(*reading.reasons, doubt), doubt_mm=max(reading.doubt_mm, 2.0 * apart_mm))
    return replace(reading, hollow_share=begun.hollow_share)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Begun:
    """Where fits begin, what they leave free, the fit with a cannula's end at the step, and how it compares with metal inside."""

    pose: Pose
    free: tuple[str, ...]
    tubed: Fit | None = None
    hollow_share: float = 1.0


def _inside(
    scene: Scene, shaft: Shaft, applicator: Applicator, step: float | None, tube: tuple[str, ...], noise: float
) -> _Begun:
    """The inside that fits best: metal, air, or the probe."""
    ahead = scene.local_mm[:, 2] < 0.0
    start = replace(start_pose(shaft, applicator), inner=np.nan, plastic=float(np.median(scene.background[ahead])))
    reach = applicator.radiolucent_tip_length_mm - applicator.tip_to_source_mm
    air = replace(start, inner=max(shaft.core, scene.lowest + 1.0))
    probe = replace(air, probe=True, sheath_radius=air.bore_radius, bore_radius=PROBE_BORE_MM[1], bore_reach=reach)
    if not np.isfinite(scene.ceiling):
        start = replace(start, height=shaft.plateau)
    solid = (start, (*_FREE, "plastic"))
    hollow = [
        (air, (*_FREE, "plastic", "inner")),
        (probe, (*_FREE, "plastic", "inner", "bore_radius", "bore_reach")),
        (replace(probe, end=probe.end + reach), (*_FREE, "plastic", "inner", "bore_radius", "bore_reach")),
    ]
    if applicator.content is NeedleContent.SOLID or (
        applicator.content is NeedleContent.UNKNOWN and shaft.core >= _SURELY_SOLID * shaft.plateau
    ):
        return _Begun(pose=start, free=solid[1])
    found = []
    for pose, free in (solid, *(hollow[:1] if applicator.content is NeedleContent.AIR else hollow)):
        known = pose if step is None else replace(pose, cannula_end=step)
        found.append((fit(scene, known, free if step is None else (*free, *tube), noise), free))
    allowed = found if applicator.content is NeedleContent.UNKNOWN else found[1:]
    best, free = min(allowed, key=lambda pair: pair[0].cost)
    return _Begun(
        pose=replace(best.pose, cannula_end=np.inf, cannula_radius=start.cannula_radius),
        free=free,
        tubed=None if step is None else best,
        hollow_share=best.cost / found[0][0].cost,
    )


def _at_end(
    scene: Scene,
    shaft: Shaft,
    applicator: Applicator,
    begun: _Begun,
    step: float | None,
    growth: float,
    tube: tuple[str, ...],
    noise: float,
) -> Reading:
    """Bare shaft, the cannula's end in view, or a cannula up to the end."""
    start, free = begun.pose, begun.free
    radius, wall_radius = start.radius, start.cannula_radius
    bare = fit(scene, start, free, noise)
    loose = fit(scene, bare.pose, (*free, "radius"), noise)
    thick = fit(scene, replace(loose.pose, radius=wall_radius), free, noise)
    if loose.cost < _REFIT_SHARE * bare.cost:  # the first start was too far off for the known radius
        bare = min(bare, fit(scene, replace(loose.pose, radius=radius), free, noise), key=lambda f: f.cost)
    # a hollow cannula over the plastic, or its end in view further up
    starts = [(thick.pose.end + _OVER_START_MM[0], thick.pose.end + _OVER_START_MM[1])]
    if step is not None:
        starts.append((step, bare.pose.end))
    fits = [
        fit(scene, replace(bare.pose, cannula_end=cannula_end, end=end), (*free, *tube), noise)
        for cannula_end, end in starts
    ]
    tubed = min(fits if begun.tubed is None else [begun.tubed, *fits], key=lambda f: f.cost)
    gain = tubed.cost / min(bare.cost, thick.cost)
    if gain > _SURE_SHARE and tubed.pose.cannula_radius < start.radius + _THIN_CANNULA_MM and len(tube) > 1:
        gain = 1.0  # the thinnest cannula that the fit allows is none
    flush = thick.cost < (1.0 - _ALIKE_SHARE) * bare.cost and gain < 1.0 + _ALIKE_SHARE
    if flush and tubed.residual_rms < _CLEAR * abs(shaft.plateau):  # solid steel up to the end: both end there
        at_end = abs(tubed.pose.end - tubed.pose.cannula_end) < _FLUSH_MM
        reasons: tuple[str, ...] = (_FLUSH,) if at_end else ()
        return Reading(fit=tubed, free=(*free, *tube), hidden=False, doubt_mm=0.0, reasons=reasons, gain=gain)
    if gain < (_STEP_SHARE_STREAKS if growth > _STEP_AREA_MM2 else _STEP_SHARE):
        over_mm = tubed.pose.end - tubed.pose.cannula_end
        sure = over_mm < _OVER_MM or gain < _SURE_SHARE
        reasons = (
            ()
            if sure
            else (f"the cannula seems to stand {over_mm:.1f} mm over the plastic: the tip may lie elsewhere",)
        )
        return Reading(
            fit=tubed,
            free=(*free, *tube),
            hidden=False,
            doubt_mm=0.0 if sure else 2.0 * over_mm,
            reasons=reasons,
            gain=gain,
        )
    apart_mm = abs(thick.pose.end - bare.pose.end)
    if thick.cost < (1.0 - _ALIKE_SHARE) * bare.cost:
        reasons = ("the cannula hides the metal's distal end: the tip may lie elsewhere",)
        return Reading(
            fit=thick, free=free, hidden=True, doubt_mm=applicator.radiolucent_tip_length_mm, reasons=reasons
        )
    alike = thick.cost < (1.0 + _ALIKE_SHARE) * bare.cost
    reasons = ("the bare shaft and the cannula cannot be told apart at the metal's end",) if alike else ()
    return Reading(fit=bare, free=free, hidden=False, doubt_mm=apart_mm if alike else 0.0, reasons=reasons)


def _elsewhere(scene: Scene, reading: Reading, applicator: Applicator, noise: float) -> Reading:
    """The reading with its end where the probe's was taken for the sheath's, or the other way round, if that fits better."""
    best = reading.fit
    if np.isnan(best.pose.inner) or applicator.content is NeedleContent.AIR:
        return reading
    reach = applicator.radiolucent_tip_length_mm - applicator.tip_to_source_mm
    pose = best.pose
    if not pose.probe:
        pose = replace(
            pose,
            probe=True,
            sheath_radius=pose.bore_radius,
            bore_radius=PROBE_BORE_MM[1],
            bore=np.nan,
            bore_reach=reach,
        )
    free = tuple(name for name in reading.free if name not in _BORE)
    fits = [
        (
            fit(
                scene,
                replace(pose, end=pose.end + move, cannula_end=cannula),
                (*names, "bore_radius", "bore_reach"),
                noise,
            ),
            names,
        )
        for move in (-reach, reach)
        for cannula, names in {
            pose.cannula_end: free,
            np.inf: tuple(n for n in free if not n.startswith("cannula")),
        }.items()
    ]
    found, names = min(fits, key=lambda pair: pair[0].cost)
    if found.cost > (1.0 - _ALIKE_SHARE) * best.cost:
        return reading
    return replace(
        reading, fit=found, free=(*names, "bore_radius", "bore_reach"), hidden=False, doubt_mm=0.0, reasons=()
    )


def _with_bore(scene: Scene, reading: Reading, applicator: Applicator, noise: float) -> Reading:
    """The reading with a bore in the plastic that holds air, if that fits better."""
    best, free = reading.fit, reading.free
    if best.pose.probe:
        return reading
    reach = applicator.radiolucent_tip_length_mm - applicator.tip_to_source_mm
    start = replace(best.pose, bore=best.pose.plastic, bore_reach=reach)
    drilled = fit(scene, start, (*free, "bore", "bore_reach"), noise)
    if drilled.cost >= _DRILLED_SHARE * best.cost:
        return reading
    return replace(reading, fit=drilled, free=(*free, "bore", "bore_reach"))


def over_source(found: Fit, misfit: float, applicator: Applicator) -> tuple[bool, tuple[str, ...]]:
    """Whether the cannula's end lies distal of the source centre, and a reason where the fit cannot say."""
    if not np.isfinite(found.pose.cannula_end):
        return False, ()
    overlap_mm = found.pose.end - found.pose.cannula_end
    source_mm = applicator.radiolucent_tip_length_mm - applicator.tip_to_source_mm
    unsure_mm = _UNSURE_MM + misfit + 2.0 * float(np.hypot(found.sigma["end"], found.sigma["cannula_end"]))
    if abs(overlap_mm - source_mm) < unsure_mm:
        return overlap_mm > source_mm, ("it cannot be told whether the cannula's end stands over the source",)
    return overlap_mm > source_mm, ()
