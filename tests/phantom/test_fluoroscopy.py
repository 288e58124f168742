"""The C-arm variant: same patient, other grey values; what a reader may rely on and what it may not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from iort_planner.errors import PhantomError
from iort_planner.imaging.volume import Volume
from iort_planner.phantom import PhantomSpec, canal_of, pose_of
from iort_planner.phantom.fluoroscopy import FIELD_RADIUS_MM, CArm, draw_c_arm, fluoroscopy, in_field

QUICK = dataclasses.replace(draw_c_arm(0), spacing_mm=1.5, cut_grey=1400)
PLAIN = dataclasses.replace(
    QUICK,
    streak_amplitude=0.0,
    noise_grey=0.0,
    cupping=0.0,
    shading_grey=(0.0, 0.0),
    scatter_grey=0.0,
    blur_mm=0.01,
    cut_grey=4095,
)


@pytest.fixture(scope="module")
def scan(small_spec: PhantomSpec) -> Volume:
    return fluoroscopy(small_spec, 3, QUICK)


def test_grey_values_are_no_hu_and_lie_in_twelve_bits(scan: Volume) -> None:
    inside = scan.values[scan.values > 0]

    assert not scan.hu_calibrated
    assert scan.values.min() == 0
    assert scan.values.max() == QUICK.cut_grey
    # soft tissue is the middle of what is seen: about 335 in the data that this is made after
    assert 290 < np.median(inside) < 380


def test_nothing_is_seen_outside_the_round_field(scan: Volume) -> None:
    points = scan.grid.voxel_centres_lps_mm()[::3, ::2, ::2]
    seen = in_field(scan.grid, points)

    assert np.array_equal(scan.values[::3, ::2, ::2] > 0, seen)
    area_mm2 = float(np.count_nonzero(scan.values[40])) * QUICK.spacing_mm**2
    assert area_mm2 == pytest.approx(np.pi * FIELD_RADIUS_MM**2, rel=0.01)


def test_the_same_seed_gives_the_same_voxels_and_another_seed_others(small_spec: PhantomSpec, scan: Volume) -> None:
    assert fluoroscopy(small_spec, 3, QUICK).sha256() == scan.sha256()
    assert fluoroscopy(small_spec, 4, QUICK).sha256() != scan.sha256()


def test_needle_and_canal_lie_where_the_ct_has_them(small_spec: PhantomSpec) -> None:
    """Without any disturbance grey is a straight line of HU: 90 for nothing, 310 for water."""
    plain = fluoroscopy(small_spec, 3, PLAIN)
    pose, canal = pose_of(small_spec), canal_of(small_spec)
    points = plain.grid.voxel_centres_lps_mm()
    along, radial = pose.cylinder_coordinates(points)
    steel = (along > 9.0) & (along < 30.0) & (radial < 1.2)
    in_canal = (canal.signed_distance_mm(points[30:40]) < -5.0) & (plain.values[30:40] > 0)

    assert plain.values[steel & (plain.values > 0)].min() > 1500
    assert np.median(plain.values[30:40][in_canal]) == pytest.approx(310.0 + 0.22 * small_spec.hu.thecal_sac, abs=15.0)


def test_a_needle_outside_the_field_is_refused(small_spec: PhantomSpec) -> None:
    aside: CArm = dataclasses.replace(QUICK, centre_offset_mm=(150.0, 0.0, 0.0))
    with pytest.raises(PhantomError, match="outside the C-arm's field of view"):
        fluoroscopy(small_spec, 3, aside)
