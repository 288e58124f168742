"""What is known of the wall nearest to the source where no bone was seen there: how far bone is, what a fit over it is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iort_planner.geometry.canal_rays import ANGLES, PLANE_STEP_MM
from iort_planner.geometry.canal_wall import CanalWall
from iort_planner.units import FloatArray

NEAR_MM = 1.0  # wall points at most this much farther than the nearest one compete with it
_PATCH_MM = 12.0  # unseen wall within this of the nearest point is hidden elsewhere too
_PLANE_SHIFTS = (8, -8, 12, -12, 16, -16, 20, -20, 24, -24, 28, -28)  # of 1.25 mm: within a level, and to the next
_ANGLE_SHIFTS = (0, 4, -4, 9, -9)  # of 5 degrees
_MOST_TRIALS, _LEAST_TRIALS = 12, 4
_LEAST_PATCH_SEEN = 0.7  # of the nearest wall's shifted place: there the truth must be known
# With too few places to try, a long gap or bone missing, the wall is taken to stray this much of its distance to bone.
_GAP_PART, _GAP_LEAST_MM = 0.25, 0.8
_BOUND_MM, _BOUND_ANGLES = 14.0, 4  # bone on both sides along the canal within this (a disc's or foramen's height)
_FRONT_ANGLES, _SIDE_ANGLES = 10, (12, 24)  # front: 50 degrees round the source's direction; sides: 60 to 120 degrees
_SIDE_PLANES, _SIDE_SEEN, _SIDE_OPEN = 2, 0.4, 0.3
_PEDICLE_PLANES = 4  # 5 mm of bone beside the canal: less is what a lesion left, not the pedicle beyond a foramen
# A seen patch this large is taken out and the wall drawn without it. Whole walls stand 0.3 mm
# before that or less (phantoms, real CTs), sclerotic rims in front of a destroyed wall 1.5 to 3.8 mm.
_BULGE_PATCH_MM = 12.0
# A smaller gap is that of a thin cortex; over more, a lesion has drawn walls off by 1 mm.
_SMALL_GAP_MM, _SMALL_HIDDEN_GAP_MM = 2.0, 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestWall:
    """The wall nearest to the source.

    Parameters
    ----------
    plane, angle : int
        Of the nearest wall point.
    distance_mm : float
        From the source.
    seen : float
        Part of the wall at that distance that was seen on bone.
    gap_mm : float
        From the nearest point to the nearest wall seen on bone; 0 if ``on_bone``.
    error_mm : float
        Root mean square error of walls interpolated over the same gap where bone was seen; 0 without a gap.
    enclosed : bool
        Bone was seen on both sides along the canal, within the height of a disc or foramen.
    bone_expected : bool
        The gap is in front and not known to be a disc's: a whole vertebra may have bone there (lytic lesion, soft mass).
    bulge_mm : float
        How much nearer to the source it stands than a wall drawn without it and its surroundings.
    """

    plane: int
    angle: int
    distance_mm: float
    seen: float
    gap_mm: float
    error_mm: float
    enclosed: bool
    bone_expected: bool
    bulge_mm: float

    @property
    def on_bone(self) -> bool:
        """Whether at least half of it was seen on bone."""
        return self.seen >= 0.5


def nearest_wall(wall: CanalWall, source_lps_mm: FloatArray) -> NearestWall:
    """Where the wall is nearest to the source, and what it rests on."""
    points = wall.points_lps_mm()
    distance = np.linalg.norm(points - source_lps_mm, axis=-1)
    plane, angle = (int(n) for n in np.unravel_index(int(distance.argmin()), distance.shape))
    rivals = distance <= distance.min() + NEAR_MM
    seen = float(np.mean(wall.seen[rivals]))
    away = np.linalg.norm(points - points[plane, angle], axis=-1)
    gap_mm = float(np.min(away[wall.seen])) if np.any(wall.seen) else float("inf")
    error_mm, bone_expected, enclosed = 0.0, False, _enclosed(wall, plane, angle)
    if seen < 0.5:
        # a little that metal hides says nothing about bone
        hidden = float(np.mean(wall.hidden()[rivals & ~wall.seen])) > 0.5
        small_mm = _SMALL_HIDDEN_GAP_MM if hidden else _SMALL_GAP_MM
        bone_expected = gap_mm > small_mm and _bone_expected(wall, plane, angle, source_lps_mm)
        errors = _errors_over_gap(wall, rivals & ~wall.seen, ~wall.seen & (away <= _PATCH_MM))
        error_mm = float(np.sqrt(np.mean(np.square(errors)))) if errors else 0.0
        # a lesion's own rim may draw the wall, as no natural gap does; and a long gap is not like a short patch
        if len(errors) < _LEAST_TRIALS or bone_expected or not enclosed:
            error_mm = max(error_mm, _GAP_LEAST_MM, _GAP_PART * min(gap_mm, 40.0))
    return NearestWall(
        plane=plane,
        angle=angle,
        distance_mm=float(distance.min()),
        seen=seen,
        gap_mm=gap_mm if seen < 0.5 else 0.0,
        error_mm=error_mm,
        enclosed=enclosed,
        bone_expected=bone_expected,
        bulge_mm=_bulge_mm(wall, source_lps_mm, float(distance.min()), away <= _BULGE_PATCH_MM),
    )


def _errors_over_gap(wall: CanalWall, nearest: npt.NDArray[np.bool_], patch: npt.NDArray[np.bool_]) -> list[float]:
    """Mean error at the nearest wall's place of fits with the same patch hidden elsewhere, where bone was seen; mm."""
    errors: list[float] = []
    for turn in _ANGLE_SHIFTS:
        for step in _PLANE_SHIFTS:
            here, hidden = _shifted(nearest, step, turn), _shifted(patch, step, turn)
            if np.count_nonzero(here) < np.count_nonzero(nearest):
                continue  # beyond an end
            known = here & wall.seen
            if np.count_nonzero(known) < _LEAST_PATCH_SEEN * np.count_nonzero(here):
                continue
            fitted = wall.refit(hidden)
            errors.append(float(np.mean((fitted - wall.edges.radius_mm)[known])))
            if len(errors) == _MOST_TRIALS:
                return errors
    return errors


def _shifted(mask: npt.NDArray[np.bool_], planes: int, angles: int) -> npt.NDArray[np.bool_]:
    """A mask moved along the canal (lost beyond its ends) and round it."""
    result = np.zeros_like(mask)
    turned = np.roll(mask, angles, axis=1)
    if planes >= 0:
        result[planes:] = turned[: mask.shape[0] - planes]
    else:
        result[:planes] = turned[-planes:]
    return result


def _enclosed(wall: CanalWall, plane: int, angle: int) -> bool:
    """Whether bone was seen up and down the canal from a place, within `_BOUND_MM`."""
    around = np.arange(angle - _BOUND_ANGLES, angle + _BOUND_ANGLES + 1) % ANGLES
    rows = np.mean(wall.seen[:, around], axis=1) >= 0.5
    reach = int(_BOUND_MM / PLANE_STEP_MM)
    below, above = rows[max(plane - reach, 0) : plane + 1], rows[plane : plane + reach + 1]
    return bool(np.any(below) and np.any(above))


def _bulge_mm(wall: CanalWall, source_lps_mm: FloatArray, distance_mm: float, patch: npt.NDArray[np.bool_]) -> float:
    """How much nearer to the source the wall stands than one drawn without a patch of it."""
    points = wall.frame.points_lps_mm(wall.refit(patch))
    return float(np.linalg.norm(points - source_lps_mm, axis=-1).min()) - distance_mm


def _bone_expected(wall: CanalWall, plane: int, angle: int, source_lps_mm: FloatArray) -> bool:
    """Whether the place lies in front and is not known to be a disc's: foramina beside it, pedicles below and above."""
    frame = wall.frame
    offset = source_lps_mm - frame.centre_lps_mm[plane]
    front = np.arctan2(offset @ frame.up[plane], offset @ frame.across[plane]) / (2 * np.pi) * ANGLES
    from_front = (np.arange(ANGLES) - front + ANGLES / 2) % ANGLES - ANGLES / 2
    if abs(from_front[angle]) > _FRONT_ANGLES:
        return False
    low, high = _SIDE_ANGLES
    sides = [(from_front >= low) & (from_front <= high), (-from_front >= low) & (-from_front <= high)]
    # the needle's own pedicle may be hidden by its metal: then the other one tells; if none does, it is no known disc
    foramina = [foramen for side in sides if (foramen := _foramen(wall, plane, side)) is not None]
    return not foramina or not all(foramina)


def _foramen(wall: CanalWall, plane: int, side: npt.NDArray[np.bool_]) -> bool | None:
    """Whether a side has no bone at a plane, and a pedicle's below and above; None where metal hides it."""
    seen, open_to_view = wall.seen[:, side], ~wall.hidden()[:, side]
    rows = slice(max(plane - _SIDE_PLANES, 0), plane + _SIDE_PLANES + 1)
    if float(np.mean(open_to_view[rows])) < _SIDE_OPEN:
        return None
    if float(np.mean(seen[rows][open_to_view[rows]])) >= _SIDE_SEEN:
        return False
    bone = np.sum(seen & open_to_view, axis=1) >= _SIDE_SEEN * np.maximum(np.sum(open_to_view, axis=1), 1)
    pedicle = ndimage.binary_opening(bone, np.ones(_PEDICLE_PLANES, dtype=np.bool_))
    reach = int(_BOUND_MM / PLANE_STEP_MM)
    below, above = pedicle[max(plane - reach, 0) : plane], pedicle[plane + 1 : plane + reach + 1]
    return bool(np.any(below) and np.any(above))
