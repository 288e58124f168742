"""Find the needle in a scan: candidates, choice, measurement, and how far the answer may be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iort_planner.errors import NeedleNotFoundError
from iort_planner.geometry.needle import STEEL_HU, Confidence, Needle
from iort_planner.geometry.needle_ahead import metal_ahead_mm
from iort_planner.geometry.needle_candidates import find_lines
from iort_planner.geometry.needle_measure import Measurement, measure_end
from iort_planner.geometry.needle_profile import air_level, measure_profile
from iort_planner.geometry.needle_shaft import Shaft, orient

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

# Relative images: shares of the way from the median to the highest value, from the top down (our own choice:
# C-arm metal is either cut flat, and then near the top, or uneven with hot spots at ends).
_RELATIVE_LEVELS = (0.93, 0.8, 0.6, 0.5, 0.4)
# ... and they count only this far above soft tissue (75 % quantile), in units of soft tissue over air (1 is 1000 HU,
# so this is the limit for calibrated scans) and of dense bone (97 % quantile) over soft tissue.
_RELATIVE_OVER_AIR, _RELATIVE_OVER_BONE = 2.5, 3.5
_SHORTEST_MM = 20.0  # with less shaft in view this is no needle that leaves the body; our own choice
_SHORT_MM = 25.0  # below, direction and diameter rest on few slices: low confidence
_AREA_MM2 = (7.0, 50.0)  # apparent section: half of a 4.4 mm disc to a 5.4 mm one with a wide halo
# Apparent section near the distal end over the applicator's own: blooming of a cut 4.4 mm shaft reaches 1.7, a cannula
# of 5.4 mm flush with the end 2.3; a file with another diameter by a third is beyond. Our own choice.
_AREA_RATIO = (0.5, 2.6)
_HUB_MARGIN_MM = 3.0  # where thick metal begins is seen to a few mm
_RIVAL_SHARE = (0.6, 0.75)  # of the longest: below the first a cut piece is no rival, beyond the second it is its equal
_MOST_LINES = 16
_SAME_COSINE, _SAME_MM = 0.99, 4.0  # 8 degrees; less than a cannula's diameter
_HINT_MM = 20.0  # a hint further than this from every needle is a mistake
_HINT_APART_MM = 5.0  # by so much must the needle that is meant be nearer to the hint than any other metal
_MOST_SIGMA_MM = 0.75  # k=1 of the tip for high confidence: twice it is the bound of a silent failure (interface.md)
_MISFIT = 0.24  # of the core's value; scans without streaks leave 0.03
# Errors per relative misfit: our own choice, not fitted; checked against 46 phantoms of tests/sweeps (seeds 0 to 45).
_MISFIT_ALONG_MM, _MISFIT_ACROSS_MM = 1.0, 2.0
_VOXEL_SHARE = 0.05  # of the voxel's extent along the axis
_LEVER_MM = 20.0
_FLOOR_MM = 0.07  # what the model itself leaves in noiseless scans, and how well an applicator's length is known


def _distance_mm(shaft: Shaft, point_lps_mm: FloatArray) -> float:
    """From a point to the visible metal."""
    local = shaft.frame.to_local(point_lps_mm)
    excess = local[2] - np.clip(local[2], 0.0, shaft.visible_mm)
    return float(np.hypot(np.hypot(local[0], local[1]), excess))


def detect(
    volume: Volume, applicator: Applicator, hint_lps_mm: FloatArray | None = None, *, others: bool = False
) -> tuple[Needle, ...]:
    """Find the needles and their poses.

    Parameters
    ----------
    volume : Volume
    applicator : Applicator
        Its diameter replaces what the scan cuts off; its lengths lead from the metal's end to tip and source.
    hint_lps_mm : ndarray of shape (3,), mm, optional
        A point on or near the needle, to choose among several.
    others : bool
        Whether to measure the other needles too.

    Returns
    -------
    tuple of Needle
        The one meant first, labels ``1``, ``2``, ... in order; ``method`` ``auto``; low confidence always with its
        reasons.

    Raises
    ------
    NeedleNotFoundError
        If no straight metal enters the body and ends in it, or several do and nothing tells which is meant.
    """
    candidates, seen = _candidates(volume, applicator)
    chosen, reasons = _choose(candidates, seen, hint_lps_mm, applicator)
    rest = [shaft for shaft in candidates if shaft is not chosen and not _screw(shaft, applicator)] if others else []
    return (
        _measured(volume, chosen, applicator, "1", reasons),
        *(_measured(volume, shaft, applicator, str(n), []) for n, shaft in enumerate(rest, start=2)),
    )


def _measured(volume: Volume, shaft: Shaft, applicator: Applicator, label: str, reasons: list[str]) -> Needle:
    measured = measure_end(volume, shaft, applicator)
    reasons = [*reasons, *measured.reasons, *_doubts(volume, shaft, measured, applicator)]
    axis = measured.axis_lps
    tip = applicator.tip_from_metal_end_lps_mm(measured.metal_end_lps_mm, axis)
    if not bool(volume.grid.contains(tip)):
        reasons.append("the tip lies outside the image")
    ahead_mm = metal_ahead_mm(volume, shaft.plateau, measured.metal_end_lps_mm, axis)
    if ahead_mm:
        reasons.append(
            f"metal goes on {ahead_mm:.0f} mm ahead of the found end of the shaft, in its line: is it interrupted by a streak?"
        )
    covariance = _covariance(volume, measured, ahead_mm)
    sigma_mm = float(np.sqrt(np.trace(covariance)))
    if sigma_mm > _MOST_SIGMA_MM and not reasons:
        reasons.append(f"the tip is uncertain by ±{sigma_mm:.1f} mm (k=1, limit {_MOST_SIGMA_MM:g} mm)")
    return Needle(
        label=label,
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
    )


def _thresholds(volume: Volume) -> list[float]:
    if volume.hu_calibrated:
        return [STEEL_HU]
    sample = volume.values[:: max(1, volume.values.shape[0] // 64), ::2, ::2]
    inside = sample[sample > sample.min()]
    if inside.size < 1000:
        return []
    air, middle, soft, dense = np.quantile(inside, [0.005, 0.5, 0.75, 0.97]).tolist()
    least = soft + max(_RELATIVE_OVER_AIR * (soft - air), _RELATIVE_OVER_BONE * (dense - soft))
    top = float(volume.values.max())
    levels = [middle + share * (top - middle) for share in _RELATIVE_LEVELS]
    return [level for level in levels if level > least]


def _candidates(volume: Volume, applicator: Applicator) -> tuple[list[Shaft], list[str]]:
    """Shafts that enter the body and end in it, longest first, and in words what else of straight metal was seen.

    Screws, known by their heads, come last.
    """
    air = air_level(volume)
    seen: list[str] = []
    for threshold in _thresholds(volume):
        found: list[Shaft] = []
        for line in find_lines(volume, threshold)[:_MOST_LINES]:
            profile = measure_profile(volume, line, air)
            if profile is None or profile.high_mm - profile.low_mm < _SHORTEST_MM:
                continue
            area = float(np.median(profile.area_mm2[profile.metal]))
            if not _AREA_MM2[0] <= area <= _AREA_MM2[1]:
                seen.append(f"straight metal of {area:.0f} mm2 section")
                continue
            if profile.distal[0] == profile.distal[1]:
                both = (
                    "ends in the body at both ends"
                    if profile.distal[0]
                    else "leaves the body or the image at both ends"
                )
                seen.append(f"straight metal of {profile.high_mm - profile.low_mm:.0f} mm {both}")
                continue
            shaft = orient(profile)
            if not any(_same(shaft, other) for other in found):
                found.append(shaft)
        if found:
            screws = [shaft for shaft in found if _screw(shaft, applicator)]
            seen += [f"a shaft of {shaft.visible_mm:.0f} mm with a head, like a screw's" for shaft in screws]
            needles = [shaft for shaft in found if not _screw(shaft, applicator)]
            return [*sorted(needles, key=lambda c: -c.visible_mm), *screws], seen
    return [], seen


def _screw(shaft: Shaft, applicator: Applicator) -> bool:
    """Whether thick metal stands nearer to the distal end than the hub of applicator or cannula can, or in the body."""
    shortest = min(applicator.length_mm, applicator.cannula_length_mm) - applicator.radiolucent_tip_length_mm
    return shaft.head and (shaft.visible_mm < shortest - _HUB_MARGIN_MM or shaft.within)


def _same(one: Shaft, other: Shaft) -> bool:
    """Whether two candidates are the same metal: one line, or one distal end (two cannulas cannot stand so near)."""
    local = other.frame.to_local(one.frame.origin_lps_mm)
    in_line = abs(one.frame.axis @ other.frame.axis) > _SAME_COSINE and np.hypot(local[0], local[1]) < _SAME_MM
    return bool(in_line or np.linalg.norm(local) < _SAME_MM)


def _choose(
    candidates: list[Shaft], seen: list[str], hint_lps_mm: FloatArray | None, applicator: Applicator
) -> tuple[Shaft, list[str]]:
    needles = [shaft for shaft in candidates if not _screw(shaft, applicator)]
    if not (candidates if hint_lps_mm is not None else needles):
        what = f" ({'; '.join(sorted(set(seen))[:3])})" if seen else ""
        raise NeedleNotFoundError(
            f"no needle found: no straight metal enters the body and ends in it{what}; give --tip and --axis"
        )
    if hint_lps_mm is not None:
        hint = np.asarray(hint_lps_mm, dtype=np.float64)
        nearest, *further = sorted(candidates, key=lambda c: _distance_mm(c, hint))
        distance = _distance_mm(nearest, hint)
        if not distance <= _HINT_MM:
            raise NeedleNotFoundError(
                f"no needle found within {_HINT_MM:g} mm of the hint {np.round(hint, 1).tolist()} (the nearest is "
                f"{distance:.0f} mm away); correct --needle-hint, or give --tip and --axis"
            )
        if _screw(nearest, applicator):
            raise NeedleNotFoundError(
                f"no needle found at the hint {np.round(hint, 1).tolist()}: the metal there has a head, like a screw; "
                "correct --needle-hint, or give --tip and --axis"
            )
        if further and _distance_mm(further[0], hint) < distance + _HINT_APART_MM:
            return nearest, ["the hint is about as near to another piece of metal"]
        return nearest, []
    first = needles[0]
    # beside a needle that is seen to leave the body, a short piece that the image's edge cuts is a screw whose head is
    # out of view; where the edge cuts both, the shorter may be the needle
    rivals = [c for c in needles[1:] if first.cut or not (c.cut and c.visible_mm < _RIVAL_SHARE[0] * first.visible_mm)]
    if not rivals:
        return first, []
    if rivals[0].visible_mm > _RIVAL_SHARE[1] * first.visible_mm:
        places = " and ".join(str(np.round(c.frame.origin_lps_mm).astype(int).tolist()) for c in (first, rivals[0]))
        raise NeedleNotFoundError(
            f"no needle found that stands out: {1 + len(rivals)} alike, ending near LPS {places} mm; "
            "choose one with --needle-hint, or give --tip and --axis"
        )
    return first, [f"{1 + len(rivals)} pieces of metal could be the needle; the longest was taken"]


def _doubts(volume: Volume, shaft: Shaft, measured: Measurement, applicator: Applicator) -> list[str]:
    doubts = []
    end = (shaft.along_mm > 1.0) & (shaft.along_mm < 8.0)
    seen_mm2 = float(np.median(shaft.area_mm2[end])) if np.any(end) else 0.0
    expected_mm2 = np.pi * applicator.outer_radius_mm**2
    if not _AREA_RATIO[0] <= seen_mm2 / expected_mm2 <= _AREA_RATIO[1]:
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
