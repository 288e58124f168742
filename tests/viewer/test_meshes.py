"""Bodies of revolution and balls: volumes by the divergence theorem against closed forms, vertices on the surface."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iort_planner.units import FloatArray
from iort_planner.viewer.meshes import Mesh, needle_mesh, sphere_mesh, tube_mesh

AXES = st.tuples(*[st.floats(-1.0, 1.0)] * 3).filter(lambda v: math.hypot(*v) > 0.1)


def unit(vector: tuple[float, float, float]) -> FloatArray:
    result: FloatArray = np.array(vector) / np.linalg.norm(vector)
    return result


def volume_mm3(mesh: Mesh) -> float:
    """Positive where the triangles face outwards."""
    corners = mesh.vertices_lps_mm - mesh.vertices_lps_mm.mean(axis=0)
    a, b, c = (corners[mesh.faces[:, n]] for n in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6.0)


@pytest.mark.parametrize("radius_mm", [0.7, 8.3, 30.0])
def test_every_corner_of_a_ball_lies_at_its_radius_and_it_faces_outwards(radius_mm: float) -> None:
    centre = np.array([3.0, -200.0, 70.0])
    mesh = sphere_mesh(centre, radius_mm)
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices_lps_mm - centre, axis=1), radius_mm, rtol=1e-12)
    assert volume_mm3(mesh) == pytest.approx(4.0 / 3.0 * math.pi * radius_mm**3, rel=0.01)


@settings(max_examples=30, deadline=None)
@given(AXES, st.floats(0.3, 5.0), st.floats(1.0, 90.0))
def test_a_tube_in_any_direction_has_a_cylinders_volume(
    axis: tuple[float, float, float], radius_mm: float, length_mm: float
) -> None:
    start = np.array([10.0, 20.0, -30.0])
    mesh = tube_mesh(np.array([start, start + length_mm * unit(axis)]), radius_mm)
    assert volume_mm3(mesh) == pytest.approx(math.pi * radius_mm**2 * length_mm, rel=0.01)


@settings(max_examples=30, deadline=None)
@given(AXES)
def test_the_needle_is_a_half_ball_and_a_cylinder_that_begin_at_the_tip(axis: tuple[float, float, float]) -> None:
    tip, direction, radius, length = np.array([1.0, 2.0, 3.0]), unit(axis), 2.2, 6.0
    mesh = needle_mesh(tip, direction, radius, length)
    offset = mesh.vertices_lps_mm - tip
    along = offset @ direction
    across = np.linalg.norm(offset - along[:, None] * direction, axis=1)
    assert along.min() == pytest.approx(0.0, abs=1e-9)
    assert along.max() == pytest.approx(length)
    ball = along < radius
    np.testing.assert_allclose(np.hypot(along[ball] - radius, across[ball]), radius, atol=1e-9)
    expected = 2.0 / 3.0 * math.pi * radius**3 + math.pi * radius**2 * (length - radius)
    assert volume_mm3(mesh) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("turn_rad", [0.05, 0.4])
def test_a_bent_tube_has_the_volume_of_its_length_and_faces_outwards(turn_rad: float) -> None:
    angle = np.linspace(0.0, turn_rad, 40)
    bend_mm = 80.0 / turn_rad
    path = bend_mm * np.column_stack([1.0 - np.cos(angle), np.zeros(40), np.sin(angle)])
    mesh = tube_mesh(path, 2.2)
    assert volume_mm3(mesh) == pytest.approx(math.pi * 2.2**2 * 80.0, rel=0.01)
    from_path = np.min(np.linalg.norm(mesh.vertices_lps_mm[:, None] - path, axis=2), axis=1)
    assert np.all((from_path < 1e-9) | (abs(from_path - 2.2) < 0.02))
