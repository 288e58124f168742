"""Find the needle in a scan: candidates, choice, measurement, and how far the answer may be trusted."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.applicator import NeedleContent
from iort_planner.errors import NeedleNotFoundError
from iort_planner.geometry.metal import MetalKind, MetalSurvey
from iort_planner.geometry.needle import Confidence, Needle
from iort_planner.geometry.needle_ahead import metal_ahead_mm
from iort_planner.geometry.needle_choice import Seen, at_hint, by_likelihood, choose, labelled
from iort_planner.geometry.needle_measure import Measurement, measure_end
from iort_planner.geometry.needle_pieces import Piece, find_pieces
from iort_planner.geometry.needle_plastic import Plastic, look_ahead
from iort_planner.geometry.needle_profile import air_level
from iort_planner.geometry.needle_shaft import Shaft

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

_MOST_MEASURED = 8  # shafts, the longest first: each takes half a second
_SHORT_MM = 25.0  # below, direction and diameter rest on few slices: low confidence
# Apparent section near the distal end over the applicator's own: blooming of a cut 4.4 mm shaft reaches 1.7, a cannula
# of 6.5 mm flush with the end 3.0; a file with another diameter by a third is beyond. Our own choice.
_AREA_RATIO = (0.5, 3.2)
# The cannula's end in view, or a bore, count where they lower the misfit to this share; the step not at the very end.
_STEP_GAIN, _STEP_MM, _STEP_DIAMETER_MM, _HOLLOW_GAIN = 0.95, 2.0, 0.6, 0.8
# Pedicle screws are up to 60 mm long; what is longer and just as thick as the applicator is it, where the scan is clean enough to
# tell 4.4 from 4.2 mm, a vertebroplasty trocar's, or something like plastic stands ahead of it.
_LONGEST_SCREW_MM, _EXACT_MM, _CLEAN = 62.0, (-0.1, 0.25), 0.15
_NEAR_MM, _HINTED_SIGMA = 0.5, 3.0
_MOST_SIGMA_MM = 0.75  # k=1 of the tip for high confidence: twice it is the bound of a silent failure (interface.md)
_ALONG_BODY = 0.85  # of an axis along the patient's: 32 degrees; a needle enters from behind
_AIR_SHARE = 0.5  # of the way from air to soft tissue: a blurred bore shows some of its wall
_OTHER_DIAMETER_MM = 0.8  # from the applicator's: other metal, not a doubt about this one
_MISFIT = 0.24  # of the core's value; scans without streaks leave 0.03
# Errors per relative misfit: our own choice, not fitted; checked against 46 phantoms of tests/sweeps (seeds 0 to 45).
_MISFIT_ALONG_MM, _MISFIT_ACROSS_MM = 1.0, 2.0
_VOXEL_SHARE = 0.05  # of the voxel's extent along the axis
_LEVER_MM = 20.0
_FLOOR_MM = 0.07  # what the model itself leaves in noiseless scans, and how well an applicator's length is known


def detect(
    volume: Volume, applicator: Applicator, hint_lps_mm: FloatArray | None = None, *, others: bool = False
) -> tuple[Needle, ...]:
    """Find the needles and their poses, the one to plan with first.

    Parameters
    ----------
    volume : Volume
    applicator : Applicator
        Its diameter replaces what the scan cuts off; its lengths lead from the metal's end to tip and source.
    hint_lps_mm : ndarray of shape (3,), mm, optional
        A point on or near the needle, to choose among several.
    others : bool
        Whether to return the other needles too.

    Returns
    -------
    tuple of Needle
        The one meant first; ``method`` ``auto``; low confidence always with its reasons.

    Raises
    ------
    NeedleNotFoundError
        If no straight metal enters the body and ends in it, or several do and nothing tells which is meant.
    """
    pieces = find_pieces(volume, applicator)
    shafts, doubts = _shafts(pieces), list[str]()
    if hint_lps_mm is not None:
        hint = np.asarray(hint_lps_mm, dtype=np.float64)
        shafts, doubts = at_hint(shafts, pieces, hint)
    # of several the hint has chosen the first; without one all are needed for the choice
    measured = shafts[: _MOST_MEASURED if others or hint_lps_mm is None else 1]
    found = _all_measured(volume, measured, applicator)
    if hint_lps_mm is not None and not (found and found[0].shaft is measured[0]):
        raise NeedleNotFoundError(
            f"no needle found at the hint {np.round(hint, 1).tolist()}: the metal there cannot be measured; give --tip and "
            "--axis"
        )
    chosen, reasons = choose(found, pieces, hinted=hint_lps_mm is not None)
    main, *rest = chosen
    first, *more = labelled([main.needle, *(s.needle for s in rest if s.kind is MetalKind.NEEDLE)])
    if reasons or doubts:
        first = replace(first, confidence=Confidence.LOW, reasons=(*doubts, *reasons, *first.reasons))
    return (first, *more) if others else (first,)


def survey(volume: Volume, applicator: Applicator) -> MetalSurvey:
    """All straight metal, measured and named, without a choice among needles."""
    pieces = find_pieces(volume, applicator)
    found = by_likelihood(_all_measured(volume, _shafts(pieces)[:_MOST_MEASURED], applicator))
    others = [piece.metal() for piece in pieces if piece.shaft is None]
    others += [
        replace(piece.metal(), kind=seen.kind, what=seen.what)
        for seen in found
        if seen.kind is not MetalKind.NEEDLE
        for piece in pieces
        if piece.shaft is seen.shaft
    ]
    return MetalSurvey(needles=labelled([n.needle for n in found if n.kind is MetalKind.NEEDLE]), others=tuple(others))


def _shafts(pieces: list[Piece]) -> list[Shaft]:
    """Those that may be needles, the longest first."""
    shafts = [piece.shaft for piece in pieces if piece.shaft is not None]
    return sorted(shafts, key=lambda shaft: -shaft.visible_mm)


def _all_measured(volume: Volume, shafts: list[Shaft], applicator: Applicator) -> list[Seen]:
    """Those of the shafts that can be measured."""
    found = []
    for shaft in shafts:
        with suppress(NeedleNotFoundError):  # metal at the image's very edge, or no straight shaft after all
            found.append(_measured(volume, shaft, applicator))
    return found


def _measured(volume: Volume, shaft: Shaft, applicator: Applicator) -> Seen:
    measured = measure_end(volume, shaft, applicator)
    axis = measured.axis_lps
    plastic = look_ahead(volume, applicator, measured.metal_end_lps_mm, axis, measured.pose.blur, shaft.plateau)
    kind, what = MetalKind.NEEDLE, ""
    reasons = [*measured.reasons, *_doubts(volume, shaft, measured, applicator)]
    if measured.cannula_alone:
        kind, what = MetalKind.CANNULA, "a guide cannula without an applicator in it has no tip to plan with"
    tip = applicator.tip_from_metal_end_lps_mm(measured.metal_end_lps_mm, axis)
    if not bool(volume.grid.contains(tip)):
        reasons.append("the tip lies outside the image")
    elif plastic.pointed and not measured.pose.probe:
        if shaft.visible_mm < _LONGEST_SCREW_MM:
            kind, what = MetalKind.SCREW, f"a shaft of {shaft.visible_mm:.0f} mm with a point, like a screw's"
        reasons.append("metal goes on ahead of the shaft where its plastic tip must be: is it a screw?")
    known = explained(shaft, measured, plastic)
    if not known:
        reasons.append(
            "nothing sure tells it from other metal: neither a plastic tip nor a cannula's end nor a bore is seen"
        )
        if kind is MetalKind.NEEDLE and abs(float(axis[2])) > _ALONG_BODY:
            kind, what = MetalKind.ROD, f"straight metal of {shaft.visible_mm:.0f} mm along the body, like a rod"
        elif kind is MetalKind.NEEDLE and not _fits(measured):
            kind, what = MetalKind.SHAFT, f"a shaft of {shaft.visible_mm:.0f} mm that does not fit the applicator"
    ahead_mm = metal_ahead_mm(volume, shaft.plateau, measured.metal_end_lps_mm, axis)
    if ahead_mm:
        reasons.append(
            f"metal goes on {ahead_mm:.0f} mm ahead of the found end of the shaft, in its line: is it interrupted by a streak?"
        )
    covariance = _covariance(volume, measured, ahead_mm)
    sigma_mm = float(np.sqrt(np.trace(covariance)))
    if sigma_mm > _MOST_SIGMA_MM and not reasons:
        reasons.append(f"the tip is uncertain by ±{sigma_mm:.1f} mm (k=1, limit {_MOST_SIGMA_MM:g} mm)")
    needle = Needle(
        label="1",
        tip_lps_mm=tip,
        axis_lps=axis,
        source_lps_mm=applicator.source_lps_mm(tip, axis),
        method="auto",
        confidence=Confidence.LOW if reasons else Confidence.HIGH,
        tip_uncertainty_mm=sigma_mm,
        tip_covariance_lps_mm2=covariance,
        bending_mm=measured.bending_mm,
        centre_line_lps_mm=measured.centre_line_lps_mm,
        cannula_end_lps_mm=measured.cannula_end_lps_mm,
        cannula_over_source=measured.cannula_over_source,
        reasons=tuple(reasons),
        end_reasons=measured.end_reasons,
        content=_content(measured, air_level(volume, _AIR_SHARE)),
    )
    return Seen(needle=needle, shaft=shaft, kind=kind, what=what, plastic=plastic, measured=measured, explained=known)


def explained(shaft: Shaft, measured: Measurement, plastic: Plastic) -> bool:
    """Whether more than its thickness makes it the applicator: its plastic, the cannula round it, a bore, or its length."""
    wide = measured.diameter_mm is None or abs(measured.diameter_mm - 2.0 * measured.pose.radius) > _STEP_DIAMETER_MM
    behind_mm = measured.pose.cannula_end - measured.pose.end
    cannula = measured.gain < _STEP_GAIN and _STEP_MM < behind_mm < np.inf and not wide
    beyond = None if measured.diameter_mm is None else measured.diameter_mm - 2.0 * measured.pose.radius
    exact = beyond is not None and _EXACT_MM[0] < beyond < _EXACT_MM[1]
    near = beyond is not None and abs(beyond) < _NEAR_MM and plastic.signal > _HINTED_SIGMA
    clean = measured.misfit < _CLEAN and not plastic.pointed
    long = shaft.visible_mm > _LONGEST_SCREW_MM and clean and (exact or near)
    return plastic.seen or cannula or measured.hollow_share < _HOLLOW_GAIN or long


def _content(measured: Measurement, air: float) -> NeedleContent:
    """What is inside the sheath, where the fit tells."""
    pose = measured.pose
    if pose.probe:
        return NeedleContent.PROBE
    if np.isnan(pose.inner):
        return NeedleContent.SOLID
    return NeedleContent.AIR if pose.inner < air else NeedleContent.UNKNOWN


def _fits(measured: Measurement) -> bool:
    """Whether thickness and shape are the applicator's, as far as they are seen."""
    diameter = measured.diameter_mm
    return measured.misfit < _MISFIT and (
        diameter is None or abs(diameter - 2.0 * measured.pose.radius) < _OTHER_DIAMETER_MM
    )


def _doubts(volume: Volume, shaft: Shaft, measured: Measurement, applicator: Applicator) -> list[str]:
    doubts = []
    end = (shaft.along_mm > 1.0) & (shaft.along_mm < 8.0)
    seen_mm2 = float(np.median(shaft.area_mm2[end])) if np.any(end) else 0.0
    expected_mm2 = np.pi * applicator.outer_radius_mm**2
    # the bare wall of a hollow sheath can be too thin to count as a section
    if np.isnan(measured.pose.inner) and not _AREA_RATIO[0] <= seen_mm2 / expected_mm2 <= _AREA_RATIO[1]:
        doubts.append(
            f"the metal's section of {seen_mm2:.0f} mm2 does not fit an applicator of {applicator.outer_diameter_mm:g} mm"
        )
    if not volume.hu_calibrated:
        doubts.append("the image is not calibrated in HU")
    if shaft.visible_mm < _SHORT_MM:
        doubts.append(f"only {shaft.visible_mm:.0f} mm of the shaft are visible")
    if measured.misfit > _MISFIT:
        doubts.append(f"streaks or other metal: the model misses by {100 * measured.misfit:.0f} % of the metal's value")
    coarse = float(np.max(volume.grid.spacing_mm))
    if coarse > 3.0:
        doubts.append(f"voxels of {coarse:.1f} mm are coarse")
    return doubts


def _covariance(volume: Volume, measured: Measurement, ahead_mm: float) -> FloatArray:
    """Of the tip, mm2, shape (3, 3): a part along the axis and an equal part for each direction across it.

    Along: the model and the applicator's length, a share of the voxel's extent, the misfit, the fit's sigma of the
    metal's end, half the distance between readings that fit alike, how far metal goes on ahead. Across (both together): the
    same with the fit's sigma across and that of the direction times its lever, from the middle of the run to the tip.
    """
    axis = measured.axis_lps
    along = (
        _FLOOR_MM,
        _VOXEL_SHARE * volume.grid.voxel_extent_mm(axis),
        _MISFIT_ALONG_MM * measured.misfit,
        measured.end_sigma_mm,
        0.5 * measured.end_doubt_mm,
        ahead_mm,
    )
    across = (
        _FLOOR_MM,
        _MISFIT_ACROSS_MM * measured.misfit,
        measured.across_sigma_mm,
        _LEVER_MM * measured.angle_sigma_rad,
    )
    outer = np.outer(axis, axis)
    result: FloatArray = float(np.sum(np.square(along))) * outer + 0.5 * float(np.sum(np.square(across))) * (
        np.eye(3) - outer
    )
    return result
