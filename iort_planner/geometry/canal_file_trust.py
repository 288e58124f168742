"""How far a canal given as a label map may be trusted: whether it is a whole canal at the source's level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iort_planner.geometry._kernels import closest_point_on_mesh
from iort_planner.geometry.canal_gap import NEAR_MM
from iort_planner.geometry.canal_trust import AREA_CHANGE, AREA_MM2, COARSE_SPACING_MM, FAR_MM, NOT_HU, Trust
from iort_planner.geometry.needle import Confidence
from iort_planner.units import FloatArray

# Hand-drawn bony canal contours: about 0.5 mm where the wall is seen (k=1); our own figure, as in the test data's notes.
_CONTOUR_UNCERTAINTY_MM = 0.5
_AROUND_MM = 30.0  # one level up and down: near enough to be straight
_WINDOW_MM = float(np.hypot(_AROUND_MM, 35.0))  # holds all of a canal up to 35 mm wide that near
_BEYOND_MM = 10.0  # the canal must be known this far past the source's level; half a vertebra's height. Our own choice
# Length over width from which a piece shows its own direction: below, cuts aslant turn its principal axis (with 1.2,
# obliquely cut pieces of the phantoms were over 1 mm wrong unnoticed).
_ELONGATION = 1.5
# How much nearer the wall may come to the source's line beside its level than at it: a bend of 120 mm radius (strong
# kyphosis) makes 1.7 mm within 20 mm, a whole real canal had up to 2.5 mm (34 sources), a ball bitten out 7 mm. Our own
# choice.
_STRAIGHT_MM, _MOST_BACK_MM = 20.0, 3.5
_SECTION_MM = 5.0  # cross sections are averaged over this
_LEAST_VOLUME_MM3 = AREA_MM2[0] * 2.0 * _BEYOND_MM  # the narrowest canal over the least length
_PATIENT_AXIS = np.array([0.0, 0.0, 1.0])
_FACING_PART = 0.5  # wall points at least this part of the radius towards the source face it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledPiece:
    """A label map's voxels and the surface made from them.

    Parameters
    ----------
    voxels_lps_mm : ndarray of shape (V, 3), mm
        Centres of the voxels, at least one.
    spacing_mm : ndarray of shape (3,), mm
        Of these voxels.
    triangles_lps_mm : ndarray of shape (M, 3, 3), mm
    file_spacing_mm : ndarray of shape (3,), mm
        Of the file's own voxels.
    """

    voxels_lps_mm: FloatArray
    spacing_mm: FloatArray
    triangles_lps_mm: FloatArray
    file_spacing_mm: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Course:
    """How the piece runs near the source: its middle and unit axis."""

    origin_lps_mm: FloatArray
    axis: FloatArray

    def along_mm(self, points_lps_mm: FloatArray) -> FloatArray:
        result: FloatArray = (points_lps_mm - self.origin_lps_mm) @ self.axis
        return result

    def across_mm(self, points_lps_mm: FloatArray) -> FloatArray:
        offset = points_lps_mm - self.origin_lps_mm
        result: FloatArray = offset - (offset @ self.axis)[..., None] * self.axis
        return result


def judge_file(
    piece: LabelledPiece, source_lps_mm: FloatArray, *, hu_calibrated: bool, remarks: tuple[str, ...]
) -> Trust:
    """Uncertainty (k=1) of the wall nearest to the source, and what speaks against the label map.

    Parameters
    ----------
    piece : LabelledPiece
    source_lps_mm : ndarray of shape (3,), mm
    hu_calibrated : bool
        Of the image.
    remarks : tuple of str
        Reasons for doubt that were found on the way.

    Returns
    -------
    Trust

    Notes
    -----
    The uncertainty is the root of the sum of the squares of

    - 0.5 mm for the drawing and the image's rounding to voxels, spacing / sqrt(12);
    - half of the file's coarsest voxel, where its voxels are coarser than the image's;
    - where the piece may not be whole at the source's level: by how much its wall would come nearer to the source if it
      went on straight along its axis or the patient's, whichever is more;
    - where its cross section is no canal's: half the difference between its diameter and that of the widest canal, and
      where it changes too much: the difference of the diameters.
    """
    nearest_mm, nearest = closest_point_on_mesh(source_lps_mm, piece.triangles_lps_mm)
    surface = piece.triangles_lps_mm.reshape(-1, 3)
    surface = surface[np.linalg.norm(surface - nearest, axis=1) <= _WINDOW_MM]
    voxels = piece.voxels_lps_mm[np.linalg.norm(piece.voxels_lps_mm - nearest, axis=1) <= _WINDOW_MM]
    course, straight = _course(surface[np.linalg.norm(surface - nearest, axis=1) <= _AROUND_MM])
    # a ball holds more of the near wall than of the far one, which tilts the axis near an end: once more between planes
    surface = surface[np.abs(course.along_mm(surface) - float(course.along_mm(nearest))) <= _AROUND_MM]
    course, straight = _course(surface)
    ends = _reasons_ends(course, surface, source_lps_mm, nearest, nearest_mm, float(np.max(piece.spacing_mm)))
    section_mm, unusual = _reasons_section(piece, course, voxels, nearest)
    reasons = [*remarks, *straight, *ends, *unusual]
    coarsest = float(np.max(piece.file_spacing_mm))
    if coarsest > COARSE_SPACING_MM:
        reasons.append(f"the given canal's voxels of {coarsest:.1f} mm are coarse (limit {COARSE_SPACING_MM} mm)")
    if nearest_mm > FAR_MM:
        reasons.append(f"it is {nearest_mm:.0f} mm away from the source: not in the same vertebra?")
    if not hu_calibrated:
        reasons.append(NOT_HU)
    parts = [_CONTOUR_UNCERTAINTY_MM, float(np.max(piece.spacing_mm)) / np.sqrt(12.0)]
    if np.any(np.sort(piece.file_spacing_mm) > 1.01 * np.sort(piece.spacing_mm)):
        parts.append(0.5 * coarsest)
    if remarks or straight or ends:
        parts.append(
            max(_missing_mm(surface, source_lps_mm, axis, nearest_mm) for axis in (course.axis, _PATIENT_AXIS))
        )
    parts.append(section_mm)
    return Trust(
        confidence=Confidence.LOW if reasons else Confidence.HIGH,
        uncertainty_mm=float(np.sqrt(np.sum(np.square(parts)))),
        reasons=tuple(reasons),
    )


def _missing_mm(surface: FloatArray, source_lps_mm: FloatArray, axis: FloatArray, nearest_mm: float) -> float:
    """By how much the wall would come nearer to the source if the piece went on straight along an axis."""
    offset = surface - source_lps_mm
    offset = offset - (offset @ axis)[:, None] * axis
    return max(0.0, nearest_mm - float(np.min(np.linalg.norm(offset, axis=1))))


def _diameter_mm(area_mm2: float) -> float:
    """Of the circle of the same area."""
    return float(2.0 * np.sqrt(area_mm2 / np.pi))


def _course(surface: FloatArray) -> tuple[_Course, list[str]]:
    """Principal axis of a piece's surface points (N, 3), mm; that of the patient where the piece is too short."""
    origin = 0.5 * (surface.min(axis=0) + surface.max(axis=0))
    _, vectors = np.linalg.eigh(np.cov((surface - origin).T))
    extent = np.ptp((surface - origin) @ vectors, axis=0)
    if extent[2] >= _ELONGATION * max(extent[0], extent[1]):
        axis = vectors[:, 2] * (1.0 if vectors[2, 2] >= 0 else -1.0)
        return _Course(origin_lps_mm=origin, axis=axis), []
    length, width = float(np.ptp(surface[:, 2])), float(np.max(np.ptp(surface[:, :2], axis=0)))
    why = f"the given canal near the source is too short for a canal ({length:.0f} mm long, {width:.0f} mm wide)"
    return _Course(origin_lps_mm=origin, axis=_PATIENT_AXIS), [why]


def _reasons_ends(
    course: _Course,
    surface: FloatArray,
    source_lps_mm: FloatArray,
    nearest_lps_mm: FloatArray,
    nearest_mm: float,
    voxel_mm: float,
) -> list[str]:
    """Whether the wall that faces the source is known far enough past its level."""
    towards = course.across_mm(source_lps_mm)
    towards /= max(float(np.linalg.norm(towards)), 1e-9)
    part = course.across_mm(surface) @ towards
    facing = surface[part >= _FACING_PART * np.percentile(part, 95.0)]
    along, level = course.along_mm(facing), float(course.along_mm(source_lps_mm))
    beyond = min(float(along.max()) - level, level - float(along.min()))
    if beyond < _BEYOND_MM:
        known = f"{beyond:.0f} mm past" if beyond >= 0 else f"{-beyond:.0f} mm short of"
        return [f"the given canal ends {known} the source's level (at least {_BEYOND_MM:.0f} mm past it are needed)"]
    off = abs(float(course.along_mm(nearest_lps_mm)) - level)
    if off > _BEYOND_MM:
        return [f"the given canal is nearest {off:.0f} mm away from the source's level: not whole there?"]
    whole = course.along_mm(surface)
    back = _missing_mm(surface[np.abs(whole - level) <= _STRAIGHT_MM], source_lps_mm, course.axis, nearest_mm)
    if back > _MOST_BACK_MM:
        return [
            f"its wall stands back by {back:.1f} mm at the source's level (limit {_MOST_BACK_MM} mm): not whole there?"
        ]
    ends = surface[(whole > whole.max() - voxel_mm) | (whole < whole.min() + voxel_mm)]
    if float(np.min(np.linalg.norm(ends - source_lps_mm, axis=1))) < nearest_mm + NEAR_MM:
        return ["the given canal's end is as near to the source as its wall"]
    return []


def _reasons_section(
    piece: LabelledPiece, course: _Course, voxels: FloatArray, nearest_lps_mm: FloatArray
) -> tuple[float, list[str]]:
    """Whether cross section near the nearest point and volume can be a canal's, and the uncertainty in mm if not."""
    voxel_mm3 = float(np.prod(piece.spacing_mm))
    coarsest = float(np.max(piece.spacing_mm))
    # whole numbers of slices, so that sections of a coarse map are not uneven by counting
    step = coarsest * np.ceil(_SECTION_MM / coarsest)
    along = course.along_mm(voxels) - float(course.along_mm(nearest_lps_mm))
    along = along[np.abs(along) <= _BEYOND_MM + step]
    low, high = (float(along.min()) - 0.5 * coarsest, float(along.max()) + 0.5 * coarsest) if along.size else (0.0, 0.0)
    count = int((high - low) / step)
    sections = np.array([along.size * voxel_mm3 / max(high - low, coarsest)])
    if count > 2:  # without those at the ends, which may be cut aslant
        sections = np.histogram(along, bins=low + step * np.arange(count + 1))[0][1:-1] * voxel_mm3 / step
    least, most = float(sections.min()), float(sections.max())
    uncertainty_mm, reasons = 0.0, []
    if least < AREA_MM2[0] or most > AREA_MM2[1]:
        limits = f"{AREA_MM2[0]:.0f} to {AREA_MM2[1]:.0f}"
        reasons.append(f"its cross section of {least:.0f} to {most:.0f} mm2 is unusual for a canal (expected {limits})")
        section = least if least < AREA_MM2[0] else most
        uncertainty_mm = 0.5 * abs(_diameter_mm(AREA_MM2[1]) - _diameter_mm(section))
    lag = max(1, round(_BEYOND_MM / step))
    change = [max(a, b) / max(min(a, b), 1e-9) for a, b in zip(sections[lag:], sections[:-lag], strict=True)]
    if change and max(change) > AREA_CHANGE:
        reasons.append(f"its cross section changes between {least:.0f} and {most:.0f} mm2 within {_BEYOND_MM:.0f} mm")
        uncertainty_mm = max(uncertainty_mm, _diameter_mm(most) - _diameter_mm(least))
    volume = piece.voxels_lps_mm.shape[0] * voxel_mm3
    if volume < _LEAST_VOLUME_MM3:
        reasons.append(f"its volume of {volume:.0f} mm3 is tiny (limit {_LEAST_VOLUME_MM3:.0f} mm3)")
    return uncertainty_mm, reasons
