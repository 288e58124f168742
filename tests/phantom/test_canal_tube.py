"""The canal's distances against dense samples of its wall."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iort_planner.phantom import PhantomSpec, canal_of
from iort_planner.phantom.canal_tube import CanalTube
from iort_planner.phantom.frame import SpineFrame, rotation_matrix
from iort_planner.units import FloatArray


def turned_frame(radius_mm: float, bend_plane_deg: float) -> SpineFrame:
    return SpineFrame(
        origin_lps_mm=np.array([5.0, -20.0, 300.0]),
        rotation=rotation_matrix((4.0, -7.0, 11.0)),
        radius_mm=radius_mm,
        bend_plane_deg=bend_plane_deg,
    )


def brute_force_distance(tube: CanalTube, point: FloatArray) -> float:
    """Least distance over wall samples in space: a dense grid, then a denser one round its best sample."""
    low, high = np.array([-np.pi, -90.0]), np.array([np.pi, 90.0])
    for samples in ((361, 361), (201, 201), (201, 201), (201, 201)):
        angle, along = np.meshgrid(*(np.linspace(a, b, n) for a, b, n in zip(low, high, samples, strict=True)))
        distance = np.linalg.norm(tube.wall_lps_mm(angle, along) - point, axis=-1)
        best = np.unravel_index(np.argmin(distance), distance.shape)
        step = 2.0 * (high - low) / (np.array(samples) - 1)
        centre = np.array([angle[best], along[best]])
        low, high = centre - step, centre + step
    return float(distance[best])


@settings(max_examples=40, deadline=None)
@given(
    lateral=st.floats(-50, 50),
    posterior=st.floats(-60, 50),
    along=st.floats(-40, 40),
    exponent=st.sampled_from([2.0, 2.2, 3.0]),
    radius=st.sampled_from([220.0, 300.0, 5000.0, -150.0, -400.0]),
    plane=st.sampled_from([0.0, 90.0, -35.0]),
)
def test_distance_agrees_with_dense_samples_in_space(
    lateral: float, posterior: float, along: float, exponent: float, radius: float, plane: float
) -> None:
    frame = turned_frame(radius, plane)
    tube = CanalTube(frame=frame, half_width_mm=9.0, half_depth_mm=8.0, exponent=exponent)
    point = frame.to_lps([lateral, posterior, along])
    distance = float(tube.signed_distance_mm(point))
    assert abs(distance) == pytest.approx(brute_force_distance(tube, point), abs=1e-6)
    assert (distance < 0) == (abs(lateral / 9.0) ** exponent + abs(posterior / 8.0) ** exponent < 1)


@pytest.mark.parametrize("name", ["reference_spec", "small_spec", "oblique_spec", "instrumented_spec"])
def test_nearest_point_is_on_the_wall_and_at_the_distance(name: str, request: pytest.FixtureRequest) -> None:
    spec: PhantomSpec = request.getfixturevalue(name)
    tube = canal_of(spec)
    generator = np.random.default_rng(1)
    points = tube.frame.to_lps(generator.uniform((-40, -50, -40), (40, 40, 40), (200, 3)))
    nearest = tube.nearest_point_lps_mm(points)
    gap = np.linalg.norm(points - nearest, axis=-1)
    np.testing.assert_allclose(gap, np.abs(tube.signed_distance_mm(points)), atol=1e-7)
    np.testing.assert_allclose(tube.signed_distance_mm(nearest), 0.0, atol=1e-7)


@pytest.mark.parametrize("radius", [220.0, 5000.0, -150.0, -400.0])
@pytest.mark.parametrize("plane", [0.0, 90.0, -35.0])
def test_spine_coordinates_come_back(radius: float, plane: float) -> None:
    frame = turned_frame(radius, plane)
    spine = np.random.default_rng(2).uniform(-80, 80, (100, 3))
    np.testing.assert_allclose(frame.to_spine(frame.to_lps(spine)), spine, atol=1e-9)


@pytest.mark.parametrize(
    ("radius", "plane", "towards"),
    [
        (300.0, 0.0, (0.0, -1.0)),  # kyphosis: both ends of the arc lie anterior of its middle
        (-300.0, 0.0, (0.0, 1.0)),
        (300.0, 90.0, (1.0, 0.0)),
        (-300.0, 90.0, (-1.0, 0.0)),
        (300.0, 30.0, (0.5, -np.sqrt(0.75))),
    ],
)
def test_the_centre_line_bends_towards_the_arcs_centre(
    radius: float, plane: float, towards: tuple[float, float]
) -> None:
    frame = SpineFrame(origin_lps_mm=np.zeros(3), rotation=np.eye(3), radius_mm=radius, bend_plane_deg=plane)
    sagitta = 300 * (1 - np.cos(0.1))
    for along in (-30.0, 30.0):
        point = frame.to_lps([0.0, 0.0, along])
        np.testing.assert_allclose(point[:2], np.multiply(sagitta, towards), atol=1e-9)
        assert point[2] == pytest.approx(np.copysign(300 * np.sin(0.1), along))


def test_spine_axes_point_left_posterior_and_cranial() -> None:
    frame = SpineFrame(origin_lps_mm=np.zeros(3), rotation=np.eye(3), radius_mm=300.0)
    np.testing.assert_allclose(frame.to_lps([[1, 0, 0], [0, 1, 0]]), [[1, 0, 0], [0, 1, 0]], atol=1e-12)
    up = frame.to_lps([0.0, 0.0, 30.0])
    # an arc that bends forwards (to -y) on its way up and down: 300 (1 - cos 0.1) and 300 sin 0.1
    np.testing.assert_allclose(up, [0.0, -300 * (1 - np.cos(0.1)), 300 * np.sin(0.1)], atol=1e-9)
