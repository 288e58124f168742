"""What stands at a needle's distal metal end: bare shaft, a cannula's end in view, or a cannula over the plastic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.geometry.needle_model import Fit, fit
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
_SURE_SHARE = 0.9  # to this one before a cannula over the plastic is believed without a doubt
_OVER_START_MM = (
    -1.0,
    1.5,
)  # where a cannula over the plastic is looked for: its end, and the shaft's, from the rough end
_ALIKE_SHARE = 0.04  # two radii that fit within this are not told apart
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
    """Which of bare shaft, shaft with the cannula's end in view, and cannula up to the end the voxels show."""

    fit: Fit
    free: tuple[str, ...]
    hidden: bool
    doubt_mm: float
    reasons: tuple[str, ...]


def read_end(
    scene: Scene, shaft: Shaft, applicator: Applicator, step: float | None, growth: float, noise: float
) -> Reading:
    """Fit the readings that the voxels allow and take the best."""
    start = start_pose(shaft, applicator)
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
        at_end = abs(tubed.pose.end - tubed.pose.cannula_end) < _FLUSH_MM
        reasons: tuple[str, ...] = (_FLUSH,) if at_end else ()
        return Reading(fit=tubed, free=(*free, *tube), hidden=False, doubt_mm=0.0, reasons=reasons)
    if gain < (_STEP_SHARE_STREAKS if growth > _STEP_AREA_MM2 else _STEP_SHARE):
        over_mm = tubed.pose.end - tubed.pose.cannula_end
        sure = over_mm < _OVER_MM or gain < _SURE_SHARE
        reasons = (
            ()
            if sure
            else (f"the cannula seems to stand {over_mm:.1f} mm over the plastic: the tip may lie elsewhere",)
        )
        return Reading(
            fit=tubed, free=(*free, *tube), hidden=False, doubt_mm=0.0 if sure else 2.0 * over_mm, reasons=reasons
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
