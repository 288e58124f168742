"""What an interpolated wall is worth: told from the same gap where bone was seen, on walls drawn without an image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iort_planner.geometry.canal_gap import nearest_wall
from iort_planner.geometry.canal_rays import ANGLES, PLANE_STEP_MM, Frame, RayEdges
from iort_planner.geometry.canal_wall import CanalWall
from iort_planner.units import FloatArray

PLANES = 57
MIDDLE = PLANES // 2
FRONT = 54  # 270 degrees: the patient's front, as up is posterior
SOURCE = np.array([0.0, -18.0, MIDDLE * PLANE_STEP_MM])


def frame() -> Frame:
    """A straight canal along z."""
    middles = np.column_stack([np.zeros((PLANES, 2)), PLANE_STEP_MM * np.arange(PLANES)])
    return Frame.across_line(middles, np.broadcast_to(np.array([0.0, 0.0, 1.0]), (PLANES, 3)))


def wall_with_gap(radius_mm: FloatArray, gap: npt.NDArray[np.bool_], blocked: npt.NDArray[np.bool_]) -> CanalWall:
    """The wall fitted to a true one whose edges are seen outside the gap only."""
    edges = RayEdges(
        radius_mm=np.where(gap, 0.0, radius_mm),
        weight=(~gap).astype(np.float64),
        blocked_mm=np.where(blocked, 8.0, np.inf),
        noise_hu=np.full(PLANES, 10.0),
    )
    start = CanalWall(frame=frame(), radius_mm=radius_mm, seen=~gap, edges=edges)
    fitted = start.refit(gap)
    return CanalWall(frame=start.frame, radius_mm=fitted, seen=~gap, edges=edges)


def patch(planes: int, angles: int, at: int = FRONT) -> npt.NDArray[np.bool_]:
    """A gap round the wall nearest to the source, half sizes in planes and angles."""
    gap = np.zeros((PLANES, ANGLES), dtype=np.bool_)
    around = np.arange(at - angles, at + angles + 1) % ANGLES
    gap[MIDDLE - planes : MIDDLE + planes + 1, around] = True
    return gap


def disc_level(planes: int) -> npt.NDArray[np.bool_]:
    """The front open over a disc, and both foramina beside it."""
    return patch(planes, 9) | patch(planes, 9, at=0) | patch(planes, 9, at=36)


NOWHERE = np.zeros((PLANES, ANGLES), dtype=np.bool_)
ROUND = np.full((PLANES, ANGLES), 8.0)


def test_wall_on_bone_has_no_gap() -> None:
    nearest = nearest_wall(wall_with_gap(ROUND, NOWHERE, NOWHERE), SOURCE)
    assert (nearest.on_bone, nearest.gap_mm, nearest.error_mm, nearest.bone_expected) == (True, 0.0, 0.0, False)
    assert nearest.distance_mm == pytest.approx(10.0, abs=0.01)


@pytest.mark.parametrize("planes", [2, 4, 6])
def test_a_gap_in_a_round_wall_costs_nothing_and_its_size_is_told(planes: int) -> None:
    nearest = nearest_wall(wall_with_gap(ROUND, disc_level(planes), NOWHERE), SOURCE)
    assert not nearest.on_bone
    assert nearest.error_mm < 0.05
    assert nearest.gap_mm == pytest.approx((planes + 1) * PLANE_STEP_MM, abs=0.1)  # to the first seen plane
    assert nearest.enclosed


@settings(max_examples=15, deadline=None)
@given(
    wave_mm=st.floats(12.0, 30.0), height_mm=st.floats(0.0, 1.5), phase=st.floats(0.0, 6.28), planes=st.integers(2, 5)
)
def test_the_stated_error_bounds_the_true_one_on_wavy_walls(
    wave_mm: float, height_mm: float, phase: float, planes: int
) -> None:
    """The wall behind the gap waves as the seen one does: what leaving out tells must hold there."""
    z = PLANE_STEP_MM * np.arange(PLANES)[:, None]
    radius = 8.0 + height_mm * np.sin(2 * np.pi * z / wave_mm + phase) * np.ones(ANGLES)
    wall = wall_with_gap(radius, disc_level(planes), NOWHERE)
    nearest = nearest_wall(wall, SOURCE)
    if nearest.on_bone:
        return  # the wave brought a seen place nearest
    true_error = wall.radius_mm[nearest.plane, nearest.angle] - radius[nearest.plane, nearest.angle]
    assert abs(true_error) <= 2.5 * nearest.error_mm + 0.1


def test_without_seen_wall_to_try_the_error_grows_with_the_gap() -> None:
    gap = np.ones((PLANES, ANGLES), dtype=np.bool_)
    gap[:8], gap[-8:] = False, False
    nearest = nearest_wall(wall_with_gap(ROUND, gap, NOWHERE), SOURCE)
    assert nearest.error_mm >= 0.25 * nearest.gap_mm > 4.0
    assert not nearest.enclosed


def test_a_gap_between_seen_pedicles_is_where_bone_belongs() -> None:
    nearest = nearest_wall(wall_with_gap(ROUND, patch(4, 8), NOWHERE), SOURCE)
    assert nearest.bone_expected
    assert nearest.error_mm >= 0.25 * nearest.gap_mm  # what a lesion does to the wall is not learnt elsewhere


def test_a_gap_at_disc_level_with_open_foramina_is_natural() -> None:
    assert not nearest_wall(wall_with_gap(ROUND, disc_level(4), NOWHERE), SOURCE).bone_expected


def test_a_pedicle_hidden_by_the_needle_leaves_the_other_one_to_tell() -> None:
    hidden = patch(6, 10, at=0)
    assert nearest_wall(wall_with_gap(ROUND, patch(4, 8) | hidden, hidden), SOURCE).bone_expected
    assert not nearest_wall(wall_with_gap(ROUND, disc_level(4) | hidden, hidden), SOURCE).bone_expected


def test_what_no_side_can_tell_is_no_natural_gap() -> None:
    hidden = patch(6, 10, at=0) | patch(6, 10, at=36)  # needle and screw
    nearest = nearest_wall(wall_with_gap(ROUND, patch(4, 8) | hidden, hidden), SOURCE)
    assert nearest.bone_expected
    assert nearest.error_mm >= 0.25 * nearest.gap_mm


@pytest.mark.parametrize("left_mm", [0.0, 2.5])
def test_destroyed_pedicles_are_no_foramina(left_mm: float) -> None:
    """Beyond a foramen is a pedicle; beyond a destroyed pedicle at most a rim of it, and then the next foramen."""
    sides = patch(14, 9, at=0) | patch(14, 9, at=36)
    if left_mm:
        rim = patch(6 + round(left_mm / PLANE_STEP_MM), 40) & ~patch(6, 40)
        sides &= ~rim
    assert nearest_wall(wall_with_gap(ROUND, patch(6, 9) | sides, NOWHERE), SOURCE).bone_expected


@pytest.mark.parametrize("angles", [5, 8, 12])
def test_a_rim_before_the_wall_bulges(angles: int) -> None:
    rim = patch(7, angles)
    bulging = wall_with_gap(np.where(rim, 11.0, 8.0), NOWHERE, NOWHERE)
    assert nearest_wall(bulging, SOURCE).bulge_mm > 2.0
    assert abs(nearest_wall(wall_with_gap(ROUND, rim, NOWHERE), SOURCE).bulge_mm) < 0.05


def test_a_wall_of_which_most_was_seen_has_no_gap_even_if_its_nearest_point_was_not() -> None:
    nearest = nearest_wall(wall_with_gap(ROUND, patch(0, 0), NOWHERE), SOURCE)
    assert nearest.on_bone
    assert nearest.gap_mm == 0.0
