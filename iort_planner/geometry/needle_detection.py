"""Find the needle in a scan: candidates, choice, measurement, and how far the answer may be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.errors import NeedleNotFoundError
from iort_planner.geometry.needle import STEEL_HU, Confidence, Needle
from iort_planner.geometry.needle_candidates import find_lines
from iort_planner.geometry.needle_measure import Measurement, Shaft, measure_end, orient
from iort_planner.geometry.needle_profile import EndKind, Profile, air_level, measure_profile

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
_HINT_MM = 20.0  # a hint further than this from every needle is a mistake
# Of the core's value; scans without streaks leave 0.06. In 150 random phantoms (tests/sweeps) the tip was off by at
# most 0.25 mm below this, and by at most 0.65 mm above it.
_MISFIT = 0.20
_MISFIT_MM = 1.0  # own sweep over scans with simulated streaks: 0.2 mm where the misfit is 0.2
_FLOOR_MM = 0.1  # what the model itself leaves in noiseless scans and in how well an applicator's length is known


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Candidate:
    shaft: Shaft
    profile: Profile

    def distance_mm(self, point_lps_mm: FloatArray) -> float:
        """From a point to the visible metal."""
        local = self.shaft.frame.to_local(point_lps_mm)
        excess = local[2] - np.clip(local[2], 0.0, self.shaft.visible_mm)
        return float(np.hypot(np.hypot(local[0], local[1]), excess))


def detect(volume: Volume, applicator: Applicator, hint_lps_mm: FloatArray | None = None) -> Needle:
    """Find the needle and its pose.

    Parameters
    ----------
    volume : Volume
    applicator : Applicator
        Its diameter replaces what the scan cuts off; its lengths lead from the metal's end to tip and source.
    hint_lps_mm : ndarray of shape (3,), mm, optional
        A point on or near the needle, to choose among several.

    Returns
    -------
    Needle
        ``method`` ``auto``; low confidence always with its reasons.

    Raises
    ------
    NeedleNotFoundError
        If no straight metal enters the body and ends in it, or several do and nothing tells which is meant.

    Notes
    -----
    ``tip_uncertainty_mm`` (k=1) is the root of the sum of squares of: 0.1 mm (model, applicator's length);
    0.05 of the voxel's extent along the axis; 1 mm times the relative misfit (streaks); the fit's own sigma
    of the end; the fit's sigma of the direction times 20 mm (the fitted middle to the tip); half the
    distance between readings that fit alike.
    """
    candidates, seen = _candidates(volume)
    chosen, reasons = _choose(candidates, seen, hint_lps_mm)
    measured = measure_end(volume, chosen.shaft, applicator)
    reasons += [*measured.reasons, *_doubts(volume, chosen.shaft, measured, applicator)]
    axis = measured.axis_lps
    tip = applicator.tip_from_metal_end_lps_mm(measured.metal_end_lps_mm, axis)
    if not bool(volume.grid.contains(tip)):
        reasons.append("the tip lies outside the image")
    return Needle(
        label="1",
        tip_lps_mm=tip,
        axis_lps=axis,
        source_lps_mm=applicator.source_lps_mm(tip, axis),
        method="auto",
        confidence=Confidence.LOW if reasons else Confidence.HIGH,
        tip_uncertainty_mm=_uncertainty_mm(volume, measured),
        bending_mm=measured.bending_mm,
        cannula_end_lps_mm=measured.cannula_end_lps_mm,
        cannula_over_source=measured.cannula_over_plastic,
        reasons=tuple(reasons),
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


def _candidates(volume: Volume) -> tuple[list[_Candidate], list[str]]:
    """Needles that enter the body and end in it, and in words what else of straight metal was seen."""
    air = air_level(volume)
    seen: list[str] = []
    for threshold in _thresholds(volume):
        found: list[_Candidate] = []
        for line in find_lines(volume, threshold)[:12]:
            profile = measure_profile(volume, line, air)
            if profile is None or profile.high_mm - profile.low_mm < _SHORTEST_MM:
                continue
            area = float(np.median(profile.area_mm2[profile.metal]))
            if not _AREA_MM2[0] <= area <= _AREA_MM2[1]:
                seen.append(f"straight metal of {area:.0f} mm2 section")
                continue
            if (profile.low_end is EndKind.TISSUE) == (profile.high_end is EndKind.TISSUE):
                both = (
                    "ends in the body at both ends"
                    if profile.low_end is EndKind.TISSUE
                    else "leaves the body or the image at both ends"
                )
                seen.append(f"straight metal of {profile.high_mm - profile.low_mm:.0f} mm {both}")
                continue
            candidate = _Candidate(shaft=orient(profile), profile=profile)
            if not any(_same(candidate, other) for other in found):
                found.append(candidate)
        if found:
            return found, seen
    return [], seen


def _same(one: _Candidate, other: _Candidate) -> bool:
    """Whether two candidates are the same metal: the ends of one lie on the other."""
    local = other.shaft.frame.to_local(one.shaft.frame.origin_lps_mm)
    return bool(abs(one.shaft.frame.axis @ other.shaft.frame.axis) > 0.99 and np.hypot(local[0], local[1]) < 4.0)


def _choose(
    candidates: list[_Candidate], seen: list[str], hint_lps_mm: FloatArray | None
) -> tuple[_Candidate, list[str]]:
    if not candidates:
        what = f" ({'; '.join(sorted(set(seen))[:3])})" if seen else ""
        raise NeedleNotFoundError(
            f"no needle found: no straight metal enters the body and ends in it{what}; give --tip and --axis"
        )
    if hint_lps_mm is not None:
        hint = np.asarray(hint_lps_mm, dtype=np.float64)
        nearest = min(candidates, key=lambda c: c.distance_mm(hint))
        distance = nearest.distance_mm(hint)
        if not distance <= _HINT_MM:
            raise NeedleNotFoundError(
                f"no needle found within {_HINT_MM:g} mm of the hint {np.round(hint, 1).tolist()} (the nearest is "
                f"{distance:.0f} mm away); correct --needle-hint, or give --tip and --axis"
            )
        return nearest, []
    ordered = sorted(candidates, key=lambda c: -c.shaft.visible_mm)
    if len(ordered) == 1:
        return ordered[0], []
    first, second = ordered[0], ordered[1]
    if second.shaft.visible_mm > 0.6 * first.shaft.visible_mm:
        places = " and ".join(str(np.round(c.shaft.frame.origin_lps_mm).astype(int).tolist()) for c in ordered[:2])
        raise NeedleNotFoundError(
            f"no needle found that stands out: {len(ordered)} alike, ending near LPS {places} mm; "
            "choose one with --needle-hint, or give --tip and --axis"
        )
    return first, [f"{len(ordered)} pieces of metal could be the needle; the longest was taken"]


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


def _uncertainty_mm(volume: Volume, measured: Measurement) -> float:
    terms = (
        _FLOOR_MM,
        0.05 * volume.grid.voxel_extent_mm(measured.axis_lps),
        _MISFIT_MM * measured.misfit,
        measured.end_sigma_mm,
        20.0 * measured.angle_sigma_rad,
        0.5 * measured.end_doubt_mm,
    )
    return float(np.sqrt(np.sum(np.square(terms))))
