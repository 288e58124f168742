"""How far an automatically found canal may be trusted: uncertainty of the nearest wall, and reasons for doubt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iort_planner.geometry.canal_gap import NearestWall, nearest_wall
from iort_planner.geometry.canal_rays import ANGLES, PLANE_STEP_MM
from iort_planner.geometry.canal_search import BONE_ABOVE_CONTENT, CanalPath
from iort_planner.geometry.canal_wall import CanalWall
from iort_planner.geometry.needle import Confidence
from iort_planner.imaging.volume import Volume
from iort_planner.units import FloatArray

# All limits are our own, set on the real CTs and on phantoms so that every error over 1.5 mm there is low.
_LEVEL_MM = 12.0  # planes this near to the source's level count as its level
_NEAREST_LEVEL_MM = 5.0  # and these as the nearest wall's
_LEAST_SEEN_LEVEL = 0.5
_LEAST_SEEN = 0.55
_WEAK_SCORE = 0.45  # mean score of the path; real canals without streaks 0.6 to 0.9, phantoms 0.5 and more
_RIVAL_MARGIN = 0.1
AREA_MM2 = (80.0, 620.0)  # narrow thoracic canals about 130, wide lumbar ones about 480 mm2
AREA_CHANGE = 1.6  # of neighbouring 10 mm
_MOST_TILT_DEG = 50.0
_MOST_NOISE_HU = 60.0  # inside the canal; 10 to 40 in clean scans
COARSE_SPACING_MM = 3.0
FAR_MM = 35.0
NOT_HU = "the image's values are not HU"
# By so much the wall must be nearer than the canal's end. Our own choice: 1.0 doubts the real CT with streaks.
_END_NEARER_MM = 0.8
_END_MARGIN_MM = 3.0  # at least this much of the canal beyond the source's level
# k=1 of the cortex' inner face. On phantoms 0.17 mm and a tenth of the voxel cover two thirds of the errors of a fitted plate
# (tests.sweeps.canal_bias), but real scans differ from their contours by up to 0.9 mm: not smaller until they confirm it.
_EDGE_UNCERTAINTY_MM = 0.3
_SPACING_PART = 0.25  # of the voxel spacing across the wall: localisation of an edge sampled once a voxel
_AROUND_MM = 4.0  # edges this near to the nearest point tell how well they fit
_MOST_UNCERTAINTY_MM = 0.9  # k=1: twice that stays below 2 mm
_MOST_BULGE_MM = 1.0  # whole walls up to 0.3, sclerotic rims taken for the wall 1.5 to 3.8
# Beyond these it is no canal at all, and there is no answer
_NO_CANAL_SEEN = 0.4
_NO_CANAL_AREA_MM2 = (70.0, 800.0)
_NO_CANAL_CHANGE = 2.4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trust:
    """Verdict on a canal wall; ``nearest_gap_mm`` as in `SpinalCanal`."""

    confidence: Confidence
    uncertainty_mm: float
    reasons: tuple[str, ...]
    nearest_gap_mm: float | None = None


def judge(volume: Volume, path: CanalPath, wall: CanalWall, source_lps_mm: FloatArray) -> Trust:
    """Uncertainty (k=1) of the wall nearest to the source, and whether something speaks against the result."""
    nearest = nearest_wall(wall, source_lps_mm)
    uncertainty = _uncertainty_mm(volume, wall, nearest, source_lps_mm)
    reasons = _reasons_nearest(wall, nearest, uncertainty)
    reasons += _reasons_shape(wall, source_lps_mm)
    reasons += _reasons_image(volume, wall, source_lps_mm, nearest.distance_mm)
    if path.bone_above_content_hu < BONE_ABOVE_CONTENT[0]:
        reasons.append(f"the bone is faint (about {path.bone_above_content_hu:.0f} HU over the canal's content)")
    if path.best_score < _WEAK_SCORE:
        reasons.append(f"bone encloses the canal poorly (score {path.best_score:.2f} of 1, limit {_WEAK_SCORE})")
    if path.runner_up_score > path.best_score - _RIVAL_MARGIN:
        reasons.append("something else nearby looks as much like a canal")
    return Trust(
        confidence=Confidence.LOW if reasons else Confidence.HIGH,
        uncertainty_mm=uncertainty,
        reasons=tuple(reasons),
        nearest_gap_mm=nearest.gap_mm,
    )


def why_no_canal(wall: CanalWall, source_lps_mm: FloatArray) -> str | None:
    """Why a wall cannot be a spinal canal's; None if it can."""
    seen = float(np.mean(wall.seen))
    if seen < _NO_CANAL_SEEN:
        return f"what is most like one has only {seen:.0%} of its wall on bone"
    area = float(np.median(wall.area_mm2()[_source_level(wall, source_lps_mm)]))
    if not _NO_CANAL_AREA_MM2[0] <= area <= _NO_CANAL_AREA_MM2[1]:
        return f"what is most like one has a cross section of {area:.0f} mm2"
    change = _area_change(wall)
    if change > _NO_CANAL_CHANGE:
        return f"what is most like one changes its cross section by a factor {change:.1f} within 10 mm"
    return None


def _reasons_nearest(wall: CanalWall, nearest: NearestWall, uncertainty_mm: float) -> list[str]:
    reasons = []
    if not nearest.on_bone:
        where = f"the wall nearest to the source is interpolated, {nearest.gap_mm:.1f} mm from the nearest seen bone"
        if nearest.bone_expected:
            reasons.append(f"{where}, where a whole vertebra has bone: it is not known to be a disc's gap")
        elif not nearest.enclosed:
            reasons.append(f"{where}, and bone does not enclose it above and below")
    if nearest.bulge_mm > _MOST_BULGE_MM:
        reasons.append(
            f"the wall nearest to the source stands {nearest.bulge_mm:.1f} mm before what the wall around it tells "
            f"(limit {_MOST_BULGE_MM} mm): another bony edge may have been taken for it"
        )
    if uncertainty_mm > _MOST_UNCERTAINTY_MM and not reasons:
        on = "is on bone" if nearest.on_bone else f"is interpolated, {nearest.gap_mm:.1f} mm from the nearest seen bone"
        limit = f"±{uncertainty_mm:.1f} mm, limit {_MOST_UNCERTAINTY_MM} mm"
        reasons.append(f"the wall nearest to the source {on}, and uncertain ({limit})")
    level = _near_plane(wall, nearest.plane)
    seen = float(np.mean(wall.seen[level]))
    if seen < _LEAST_SEEN_LEVEL:
        reasons.append(f"only {seen:.0%} of the wall at the source's level was seen on bone")
    seen = float(np.mean(wall.seen))
    if seen < _LEAST_SEEN:
        reasons.append(f"only {seen:.0%} of the canal's wall was seen on bone")
    noise = float(np.median(wall.edges.noise_hu[_near_plane(wall, nearest.plane, _NEAREST_LEVEL_MM)]))
    if noise > _MOST_NOISE_HU:
        reasons.append(f"noise or streaks of {noise:.0f} HU inside the canal near the source")
    return reasons


def _near_plane(wall: CanalWall, plane: int, within_mm: float = _LEVEL_MM) -> npt.NDArray[np.bool_]:
    number = np.arange(wall.radius_mm.shape[0])
    result: npt.NDArray[np.bool_] = np.abs(number - plane) * PLANE_STEP_MM <= within_mm
    return result


def _source_level(wall: CanalWall, source_lps_mm: FloatArray) -> npt.NDArray[np.bool_]:
    """Planes near the one whose middle is nearest to the source."""
    return _near_plane(wall, int(np.argmin(np.linalg.norm(wall.frame.centre_lps_mm - source_lps_mm, axis=1))))


def _area_change(wall: CanalWall) -> float:
    """Largest ratio of (smoothed) cross sections 10 mm apart."""
    smooth = ndimage.gaussian_filter1d(wall.area_mm2(), 2.0, mode="nearest")
    step = min(round(10.0 / PLANE_STEP_MM), smooth.size - 1)
    return float(np.exp(np.max(np.abs(np.log(smooth[step:] / smooth[:-step])))))


def _reasons_shape(wall: CanalWall, source_lps_mm: FloatArray) -> list[str]:
    reasons = []
    centre = wall.frame.centre_lps_mm
    area = wall.area_mm2()[_source_level(wall, source_lps_mm)]
    low, high = float(area.min()), float(area.max())
    if low < AREA_MM2[0] or high > AREA_MM2[1]:
        limits = f"{AREA_MM2[0]:.0f} to {AREA_MM2[1]:.0f}"
        reasons.append(f"its cross section of {low:.0f} to {high:.0f} mm2 is unusual (expected {limits})")
    change = _area_change(wall)
    if change > AREA_CHANGE:
        reasons.append(f"its cross section changes by a factor {change:.1f} within 10 mm")
    tangent = np.gradient(centre, axis=0)
    tilt = np.degrees(np.arccos(np.clip(np.abs(tangent[:, 2]) / np.linalg.norm(tangent, axis=1), 0.0, 1.0)))
    if float(tilt.max()) > _MOST_TILT_DEG:
        reasons.append(f"its centre line tilts by {tilt.max():.0f} degrees")
    return reasons


def _reasons_image(volume: Volume, wall: CanalWall, source_lps_mm: FloatArray, nearest_mm: float) -> list[str]:
    reasons = []
    if not volume.hu_calibrated:
        reasons.append(NOT_HU)
    coarsest = float(np.max(volume.grid.spacing_mm))
    if coarsest > COARSE_SPACING_MM:
        reasons.append(f"the voxel spacing of {coarsest:.1f} mm is coarse (limit {COARSE_SPACING_MM} mm)")
    centre = wall.frame.centre_lps_mm
    tangent = np.gradient(centre, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    for end, sign in ((0, -1.0), (-1, 1.0)):
        beyond = sign * float((source_lps_mm - centre[end]) @ tangent[end])
        if beyond > -_END_MARGIN_MM:
            reasons.append(f"the canal could not be followed past the source's level ({-beyond:.0f} mm remain)")
        elif _end_distance_mm(wall, end, source_lps_mm) < nearest_mm + _END_NEARER_MM:
            reasons.append("the canal's end in the image is as near to the source as its wall")
    if nearest_mm > FAR_MM:
        reasons.append(f"it is {nearest_mm:.0f} mm away from the source: not in the same vertebra?")
    if _is_inside(wall, source_lps_mm):
        reasons.append("the source lies inside the canal")
    return reasons


def _end_distance_mm(wall: CanalWall, end: int, source_lps_mm: FloatArray) -> float:
    """Distance of the source from a cap of the tube, beyond which the canal is unknown."""
    rim = wall.points_lps_mm()[end]
    part = np.linspace(0.0, 1.0, 8)[:, None, None]
    disc = wall.frame.centre_lps_mm[end] * (1.0 - part) + rim * part
    return float(np.min(np.linalg.norm(disc - source_lps_mm, axis=-1)))


def _is_inside(wall: CanalWall, source_lps_mm: FloatArray) -> bool:
    """Whether the source lies within the wall of the plane nearest to it."""
    plane = int(np.argmin(np.linalg.norm(wall.frame.centre_lps_mm - source_lps_mm, axis=1)))
    offset = source_lps_mm - wall.frame.centre_lps_mm[plane]
    x, y = float(offset @ wall.frame.across[plane]), float(offset @ wall.frame.up[plane])
    ray = round(np.arctan2(y, x) / (2 * np.pi) * ANGLES) % ANGLES
    return bool(np.hypot(x, y) < wall.radius_mm[plane, ray])


def _uncertainty_mm(volume: Volume, wall: CanalWall, nearest: NearestWall, source_lps_mm: FloatArray) -> float:
    """k=1 of the nearest wall: edge, voxel spacing towards the source, fit residual, interpolation, bulge."""
    points = wall.points_lps_mm()
    point = points[nearest.plane, nearest.angle]
    towards = point - source_lps_mm
    towards = towards / max(float(np.linalg.norm(towards)), 1e-6)
    parts = [_EDGE_UNCERTAINTY_MM, _SPACING_PART * volume.grid.voxel_extent_mm(towards), nearest.error_mm]
    if nearest.bulge_mm > _MOST_BULGE_MM:
        parts.append(nearest.bulge_mm)
    around = np.linalg.norm(points - point, axis=-1) <= _AROUND_MM
    used = around & (wall.edges.weight > 0) & (np.abs(wall.edges.radius_mm - wall.radius_mm) < 3.0)
    if np.any(used):
        parts.append(float(np.sqrt(np.mean((wall.edges.radius_mm - wall.radius_mm)[used] ** 2))))
    return float(np.sqrt(np.sum(np.square(parts))))
