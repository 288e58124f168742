"""Distances against slow, obvious oracles and closed forms; rigid motion changes none of them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from iort_planner.applicator import Applicator, read_applicator
from iort_planner.errors import CanalNotFoundError
from iort_planner.geometry._kernels import Rod, closest_point_on_mesh, rod_to_triangles, winding_number
from iort_planner.geometry.canal import SpinalCanal, canal_from_points
from iort_planner.geometry.distance import CanalDistances, applicator_and_cannula, canal_distances
from iort_planner.geometry.needle import Confidence, Needle
from iort_planner.units import FloatArray

APPLICATOR = read_applicator()


def tube(radius_mm: float, half_length_mm: float, around: int = 96, along: int = 60) -> tuple[FloatArray, FloatArray]:
    """A closed tube along z with end caps: vertices and outward triangles."""
    angles = np.linspace(0, 2 * np.pi, around, endpoint=False)
    heights = np.linspace(-half_length_mm, half_length_mm, along)
    ring = radius_mm * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vertices = np.array([[x, y, z] for z in heights for x, y in ring])
    vertices = np.vstack([vertices, [[0, 0, -half_length_mm], [0, 0, half_length_mm]]])
    faces = []
    for k in range(along - 1):
        for a in range(around):
            b = (a + 1) % around
            p, q, r, s = k * around + a, k * around + b, (k + 1) * around + a, (k + 1) * around + b
            faces += [[p, q, s], [p, s, r]]
    bottom, top, last = len(vertices) - 2, len(vertices) - 1, (along - 1) * around
    for a in range(around):
        b = (a + 1) % around
        faces += [[bottom, b, a], [top, last + a, last + b]]
    return vertices, np.array(faces, dtype=np.int64)


def canal_of(vertices: FloatArray, faces: FloatArray) -> SpinalCanal:
    return SpinalCanal(
        vertices_lps_mm=vertices,
        faces=np.asarray(faces, dtype=np.int64),
        on_bone=np.ones(len(vertices), dtype=np.bool_),
        method="auto",
        confidence=Confidence.HIGH,
        uncertainty_mm=0.3,
    )


def needle_at(tip: FloatArray, axis: FloatArray, cannula_end_mm: float | None = None) -> Needle:
    axis = axis / np.linalg.norm(axis)
    return Needle(
        label="1",
        tip_lps_mm=tip,
        axis_lps=axis,
        source_lps_mm=APPLICATOR.source_lps_mm(tip, axis),
        method="manual",
        confidence=Confidence.HIGH,
        tip_uncertainty_mm=0.3,
        cannula_end_lps_mm=None if cannula_end_mm is None else tip + cannula_end_mm * axis,
    )


def dense_points(triangles: FloatArray, per_edge: int) -> FloatArray:
    """Slow oracle's material: many points on each triangle."""
    steps = [(i / per_edge, j / per_edge) for i in range(per_edge + 1) for j in range(per_edge + 1 - i)]
    weights = np.array([[1 - u - v, u, v] for u, v in steps])
    result: FloatArray = np.einsum("wk,mkd->mwd", weights, triangles).reshape(-1, 3)
    return result


def slow_point_triangle(p: FloatArray, triangle: FloatArray) -> float:
    """Least distance by quadratic programming over barycentric weights, with scipy: independent of the kernel."""
    from scipy.optimize import minimize

    start = np.full(3, 1 / 3)
    best = math.inf
    for guess in (start, *np.eye(3)):
        found = minimize(
            lambda w: float(np.sum((w @ triangle - p) ** 2)),
            guess,
            jac=lambda w: 2 * triangle @ (w @ triangle - p),
            bounds=[(0, 1)] * 3,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(3)},
            options={"ftol": 1e-15, "maxiter": 300},
        )
        best = min(best, math.sqrt(found.fun))
    return best


def test_point_to_triangle_agrees_with_quadratic_programming_to_1e_6() -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        triangle, point = rng.normal(size=(3, 3)) * 3, rng.normal(size=3) * 5
        distance, nearest = closest_point_on_mesh(point, triangle[None])

        assert distance == pytest.approx(slow_point_triangle(point, triangle), abs=1e-6)
        assert np.linalg.norm(nearest - point) == pytest.approx(distance)


def test_a_triangle_without_area_is_the_segment_or_point_it_is() -> None:
    segment = np.array([[[0.0, 0, 0], [2, 0, 0], [1, 0, 0]]])
    assert closest_point_on_mesh(np.array([1.5, 3.0, 0]), segment)[0] == pytest.approx(3.0)
    point = np.array([[[1.0, 1, 1]] * 3])
    assert closest_point_on_mesh(np.array([1.0, 1, 4]), point)[0] == pytest.approx(3.0)


def test_distance_to_a_tube_is_that_of_the_circle_it_approximates() -> None:
    vertices, faces = tube(8.0, 40.0)
    sagitta = 8.0 * (1 - math.cos(math.pi / 96))
    for angle in np.linspace(0, 2 * math.pi, 17):
        point = np.array([17.3 * math.cos(angle), 17.3 * math.sin(angle), 3.1])
        distance, _ = closest_point_on_mesh(point, vertices[faces])
        assert 9.3 - 1e-9 <= distance <= 9.3 + sagitta + 1e-9


@given(st.lists(st.floats(-12, 12), min_size=3, max_size=3))
@settings(max_examples=60, deadline=None)
def test_winding_number_tells_inside_from_outside(numbers: list[float]) -> None:
    vertices, faces = tube(8.0, 10.0, around=24, along=8)
    x, y, z = numbers
    rho = math.hypot(x, y)
    if abs(rho - 8.0) < 0.2 or abs(abs(z) - 10.0) < 0.1:
        return
    inside = rho < 8.0 and abs(z) < 10.0

    assert winding_number(np.array(numbers), vertices[faces]) == pytest.approx(float(inside), abs=1e-6)


def slow_rod_triangle(rod: Rod, triangle: FloatArray) -> float:
    """Least distance of a rod and a triangle by quadratic programming over barycentric weights, with scipy."""
    from scipy.optimize import minimize

    def way(w: FloatArray) -> FloatArray:
        point: FloatArray = w @ triangle
        result: FloatArray = point - rod.project(point[None])[0]
        return result

    found = minimize(
        lambda w: float(np.sum(way(w) ** 2)),
        np.full(3, 1 / 3),
        jac=lambda w: 2 * triangle @ way(w),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(3)},
        options={"ftol": 1e-18, "maxiter": 500},
    )
    return float(np.linalg.norm(way(found.x)))


@pytest.mark.parametrize("round_start", [True, False])
@pytest.mark.parametrize("tilt", [1.0, 1e-3, 0.0], ids=["askew", "nearly along", "along"])
def test_rod_to_triangles_agrees_with_quadratic_programming_to_1e_6(round_start: bool, tilt: float) -> None:
    vertices, faces = tube(8.0, 30.0, around=24, along=12)
    triangles = vertices[faces]
    rng = np.random.default_rng(5)
    for _ in range(4):
        axis = np.array([0.0, 0.0, 1.0]) + tilt * np.abs(rng.normal(size=3)) * [1, 1, 0]
        axis /= np.linalg.norm(axis)
        start = np.array([rng.uniform(10.25, 10.35) if tilt < 1 else rng.uniform(10.5, 20), 0.0, rng.uniform(-10, 10)])
        rod = Rod(start_mm=start, axis=axis, radius_mm=2.2, length_mm=6.0, round_start=round_start)
        distance, on_rod, on_mesh = rod_to_triangles(rod, triangles)
        close = triangles[np.min(np.linalg.norm(triangles - on_mesh, axis=2), axis=1) < 6.0]

        assert distance == pytest.approx(min(slow_rod_triangle(rod, t) for t in close), abs=1e-6)
        assert np.linalg.norm(on_rod - on_mesh) == pytest.approx(distance, abs=1e-12)


@pytest.mark.parametrize("round_start", [True, False])
def test_rod_to_mesh_agrees_with_dense_sampling(round_start: bool) -> None:
    vertices, faces = tube(8.0, 30.0, around=48, along=30)
    triangles = vertices[faces]
    rng = np.random.default_rng(2)
    for _ in range(12):
        axis = rng.normal(size=3)
        axis /= np.linalg.norm(axis)
        start = np.append(rng.uniform(13, 20) * np.array([1.0, 0.0]), rng.uniform(-10, 10))
        if axis[0] < 0:
            axis = -axis
        rod = Rod(start_mm=start, axis=axis, radius_mm=2.2, length_mm=6.0, round_start=round_start)
        distance, on_rod, on_mesh = rod_to_triangles(rod, triangles)
        samples = dense_points(triangles, 12)
        oracle = float(np.min(np.linalg.norm(rod.project(samples) - samples, axis=1)))

        assert distance <= oracle + 1e-9
        assert distance == pytest.approx(oracle, abs=0.01)  # the oracle's own step is 0.09 mm on a flat patch
        np.testing.assert_allclose(rod.project(on_rod[None])[0], on_rod, atol=1e-9)
        assert closest_point_on_mesh(on_mesh, triangles)[0] == pytest.approx(0.0, abs=1e-7)


def signed_distance_to_rod(rod: Rod, point: FloatArray) -> float:
    """Oracle for `Rod.project`: dense points of the rod's surface and core."""
    across = np.cross(rod.axis, [0.3, 0.5, 0.7])
    across /= np.linalg.norm(across)
    other = np.cross(rod.axis, across)
    angles = np.linspace(0, 2 * np.pi, 361)
    best = math.inf
    for z in np.linspace(0, rod.length_mm, 601):
        radius = rod.radius_mm
        if rod.round_start and z < rod.radius_mm:
            radius = math.sqrt(rod.radius_mm**2 - (rod.radius_mm - z) ** 2)
        for rho in np.linspace(0, radius, 45) if z in (0.0, rod.length_mm) else (radius,):
            ring = (
                rod.start_mm + z * rod.axis + rho * (np.cos(angles)[:, None] * across + np.sin(angles)[:, None] * other)
            )
            best = min(best, float(np.min(np.linalg.norm(ring - point, axis=1))))
    return best


@pytest.mark.parametrize("round_start", [True, False])
def test_projection_on_a_rod_agrees_with_its_sampled_surface(round_start: bool) -> None:
    rng = np.random.default_rng(3)
    axis = np.array([0.36, 0.48, 0.8])
    rod = Rod(start_mm=np.array([1.0, 2, 3]), axis=axis, radius_mm=2.2, length_mm=6.0, round_start=round_start)
    for _ in range(8):
        point = rod.start_mm + rng.normal(size=3) * 8
        distance = float(np.linalg.norm(rod.project(point[None])[0] - point))
        if distance > 1.0:
            assert distance == pytest.approx(signed_distance_to_rod(rod, point), abs=0.02)


def example_distances(move: Rotation | None = None, shift: FloatArray | None = None) -> CanalDistances:
    vertices, faces = tube(8.0, 40.0)
    tip, axis = np.array([17.0, 2.0, 5.0]), np.array([0.2, -0.9, 0.3])
    if move is not None and shift is not None:
        vertices, tip, axis = move.apply(vertices) + shift, move.apply(tip) + shift, move.apply(axis)
    return canal_distances(needle_at(tip, axis, 16.0), APPLICATOR, canal_of(vertices, faces))


@given(
    st.lists(st.floats(-math.pi, math.pi), min_size=3, max_size=3),
    st.lists(st.floats(-500, 500), min_size=3, max_size=3),
)
@settings(max_examples=15, deadline=None)
def test_rigid_motion_leaves_every_distance_unchanged(angles: list[float], shift: list[float]) -> None:
    still = example_distances()
    moved = example_distances(Rotation.from_rotvec(angles), np.array(shift))

    for name in (
        "distance_from_source_mm",
        "distance_from_tip_mm",
        "distance_from_surface_mm",
        "shaft_clearance_mm",
    ):
        assert getattr(moved, name) == pytest.approx(getattr(still, name), abs=1e-6)
    assert moved.polar_angle_deg == pytest.approx(still.polar_angle_deg, abs=1e-4)
    for name in ("source", "tip"):  # their end points move along; those of bodies may slide along a flat wall
        end = Rotation.from_rotvec(angles).apply(getattr(still, name).to_lps_mm) + shift
        np.testing.assert_allclose(getattr(moved, name).to_lps_mm, end, atol=1e-6)


PLACES = {
    "beside": ([17.0, 2.0, 5.0], [0.2, -0.9, 0.3]),
    "parallel": ([12.0, 0.0, 0.0], [0.0, 0.0, 1.0]),
    "grazing": ([9.5, -25.0, 0.0], [0.0, 1.0, 0.0]),
    "through": ([-20.0, 1.0, 0.0], [1.0, 0.0, 0.2]),
}


@pytest.mark.parametrize("place", PLACES)
def test_each_distance_has_its_ends_on_the_needles_part_and_on_the_wall(place: str) -> None:
    vertices, faces = tube(8.0, 40.0)
    tip, axis = (np.array(v) for v in PLACES[place])
    needle = needle_at(tip, axis, 16.0)
    result = canal_distances(needle, APPLICATOR, canal_of(vertices, faces))

    np.testing.assert_array_equal(result.source.from_lps_mm, needle.source_lps_mm)
    np.testing.assert_array_equal(result.tip.from_lps_mm, needle.tip_lps_mm)
    for part in (result.source, result.tip, result.surface, result.shaft):
        assert np.linalg.norm(part.from_lps_mm - part.to_lps_mm) == pytest.approx(abs(part.length_mm), abs=1e-9)
        assert closest_point_on_mesh(part.to_lps_mm, vertices[faces])[0] == pytest.approx(0.0, abs=1e-7)
    bodies = applicator_and_cannula(needle, APPLICATOR)
    for part in (result.surface, result.shaft):  # on the outside of the applicator or of the cannula
        at = part.from_lps_mm - needle.tip_lps_mm
        radius = float(np.linalg.norm(at - (at @ needle.axis_lps) * needle.axis_lps))
        assert any(radius <= rod.radius_mm + 1e-6 for rod in bodies)
        assert min(np.linalg.norm(r.project(part.from_lps_mm[None])[0] - part.from_lps_mm) for r in bodies) < 1e-6


SIDEWAYS = [(side, gap) for side in ("applicator", "cannula") for gap in (0.3, 0.01, -0.01, -0.3)]


@pytest.mark.parametrize(("part", "gap_mm"), [*SIDEWAYS, ("tip", 0.3), ("tip", 0.01)])
def test_a_clearance_goes_through_zero_without_a_jump(part: str, gap_mm: float) -> None:
    vertices, faces = tube(8.0, 60.0, around=720, along=40)
    tip_x, axis, cannula_end = {
        "applicator": (8.0 + 2.2, [0.0, 0, 1], None),
        "cannula": (8.0 + 2.7, [0.0, 0, 1], 16.0),
        "tip": (8.0, [1.0, 0, 0], None),
    }[part]
    needle = needle_at(np.array([tip_x + gap_mm, 0, 0]), np.array(axis), cannula_end)
    result = canal_distances(needle, APPLICATOR, canal_of(vertices, faces))

    assert result.shaft_clearance_mm == pytest.approx(gap_mm, abs=1e-3)


def test_each_origin_gives_its_own_distance_in_a_closed_form() -> None:
    # Needle parallel to the tube, 20 mm from its axis: source and tip see the wall sideways.
    vertices, faces = tube(8.0, 60.0, around=720, along=40)
    result = canal_distances(
        needle_at(np.array([20.0, 0, 0]), np.array([0.0, 0, 1]), 16.0), APPLICATOR, canal_of(vertices, faces)
    )

    assert result.distance_from_source_mm == pytest.approx(12.0, abs=1e-3)
    assert result.distance_from_tip_mm == pytest.approx(12.0, abs=1e-3)
    assert result.distance_from_surface_mm == pytest.approx(12.0 - 2.2, abs=1e-3)
    assert result.shaft_clearance_mm == pytest.approx(12.0 - 2.7, abs=1e-3)  # cannula, 5.4 mm outer diameter
    assert result.polar_angle_deg == pytest.approx(90.0, abs=0.1)


def test_without_a_seen_cannula_the_clearance_is_the_applicators() -> None:
    vertices, faces = tube(8.0, 60.0, around=720, along=40)
    result = canal_distances(
        needle_at(np.array([20.0, 0, 0]), np.array([0.0, 0, 1])), APPLICATOR, canal_of(vertices, faces)
    )

    assert result.shaft_clearance_mm == pytest.approx(12.0 - 2.2, abs=1e-3)


def test_straight_ahead_is_a_polar_angle_of_zero() -> None:
    result = canal_distances(
        needle_at(np.array([15.0, 0, 0]), np.array([1.0, 0, 0])), APPLICATOR, canal_of(*tube(8.0, 40.0))
    )

    assert result.polar_angle_deg == pytest.approx(0.0, abs=2.0)
    assert result.distance_from_source_mm - result.distance_from_tip_mm == pytest.approx(
        APPLICATOR.tip_to_source_mm, abs=0.01
    )


def test_a_shaft_through_the_canal_has_negative_clearance_and_a_grazing_one_its_depth() -> None:
    canal = canal_of(*tube(8.0, 40.0))
    through = canal_distances(needle_at(np.array([-20.0, 0, 0]), np.array([1.0, 0, 0])), APPLICATOR, canal)
    assert through.shaft_clearance_mm == pytest.approx(-(8.0 + 2.2), abs=0.1)
    grazing = canal_distances(needle_at(np.array([9.5, -25.0, 0]), np.array([0.0, 1, 0])), APPLICATOR, canal)
    assert grazing.shaft_clearance_mm == pytest.approx(9.5 - 8.0 - 2.2, abs=0.05)


@pytest.mark.parametrize(("start", "what"), [([-3.0, 0, 0], "source centre"), ([7.0, 0, 0], "tip")])
def test_a_source_or_tip_inside_the_canal_is_a_clear_stop(start: list[float], what: str) -> None:
    with pytest.raises(CanalNotFoundError, match=f"{what} .* lies inside the spinal canal"):
        canal_distances(needle_at(np.array(start), np.array([1.0, 0, 0])), APPLICATOR, canal_of(*tube(8.0, 40.0)))


def test_points_by_hand_give_the_distance_to_the_nearest_of_them() -> None:
    canal = canal_from_points(np.array([[0.0, 0, 10], [0, 12, 0]]))
    applicator: Applicator = APPLICATOR
    result = canal_distances(needle_at(np.array([0.0, 0, -3]), np.array([0.0, 0, 1])), applicator, canal)

    assert result.distance_from_source_mm == pytest.approx(10.0)
    np.testing.assert_allclose(result.nearest_point_lps_mm, [0, 0, 10])
    assert result.shaft_clearance_mm == pytest.approx(0.0, abs=1e-9)  # the point lies on the shaft's way


def test_an_open_surface_cannot_become_a_canal() -> None:
    vertices, faces = tube(8.0, 10.0, around=12, along=4)
    with pytest.raises(CanalNotFoundError, match="not closed"):
        canal_of(vertices, faces[:-1])


def arc(needle: Needle, radius_of_curvature_mm: float, length_mm: float = 60.0) -> FloatArray:
    """Centre line that starts at the metal's end along the axis and turns towards +x; (K, 3) mm."""
    start = APPLICATOR.metal_end_lps_mm(needle.tip_lps_mm, needle.axis_lps)
    towards = np.array([1.0, 0.0, 0.0])
    angle = np.linspace(0.0, length_mm / radius_of_curvature_mm, 200)[:, None]
    along = np.sin(angle) * needle.axis_lps + (1 - np.cos(angle)) * towards
    result: FloatArray = start + radius_of_curvature_mm * along
    return result


def to_line(points: FloatArray, line: FloatArray) -> FloatArray:
    """Oracle: distance of points from a polyline, by many points on it."""
    fine = np.concatenate([np.linspace(a, b, 20, endpoint=False) for a, b in itertools.pairwise(line)])
    result: FloatArray = np.min(np.linalg.norm(points[:, None] - fine, axis=2), axis=1)
    return result


def test_a_bent_needle_is_a_chain_of_rods_along_its_centre_line() -> None:
    needle = needle_at(np.array([15.0, 0, 0]), np.array([0.0, 0, 1]), 16.0)
    line = arc(needle, 300.0)
    bodies = applicator_and_cannula(replace(needle, centre_line_lps_mm=line), APPLICATOR)
    rng = np.random.default_rng(7)
    points = needle.tip_lps_mm + rng.uniform([-15, -15, 6], [25, 15, 50], size=(200, 3))
    from_line = to_line(points, np.vstack([needle.tip_lps_mm, line]))
    for radius, first in ((APPLICATOR.outer_radius_mm, 2.2), (2.7, 16.0)):
        rods = [rod for rod in bodies if rod.radius_mm == radius]
        found = np.min([np.linalg.norm(r.project(points) - points, axis=1) for r in rods], axis=0)
        beside = points[:, 2] > first + 6.0  # clear of the distal end, which is round or flat
        np.testing.assert_allclose(found[beside], np.maximum(from_line - radius, 0.0)[beside], atol=0.05)


def clearance(needle: Needle, line: FloatArray | None, triangles: FloatArray) -> float:
    bent = replace(needle, centre_line_lps_mm=line)
    return min(rod_to_triangles(rod, triangles)[0] for rod in applicator_and_cannula(bent, APPLICATOR))


def test_a_straight_centre_line_changes_nothing_and_a_bend_towards_the_canal_takes_clearance() -> None:
    vertices, faces = tube(8.0, 150.0, around=180, along=60)
    needle = needle_at(np.array([-16.0, 0, -20.0]), np.array([0.0, 0, 1]))
    metal_end = APPLICATOR.metal_end_lps_mm(needle.tip_lps_mm, needle.axis_lps)
    straight = metal_end + np.linspace(0, 60, 7)[:, None] * needle.axis_lps
    bent = arc(needle, 1000.0, APPLICATOR.length_mm - APPLICATOR.radiolucent_tip_length_mm)
    nearest_mm = float(np.min(np.hypot(bent[:, 0], bent[:, 1])))

    assert clearance(needle, None, vertices[faces]) == pytest.approx(16.0 - 8.0 - 2.2, abs=0.01)
    assert clearance(needle, straight, vertices[faces]) == pytest.approx(
        clearance(needle, None, vertices[faces]), abs=1e-6
    )
    assert nearest_mm < 13.0
    assert clearance(needle, bent, vertices[faces]) == pytest.approx(nearest_mm - 8.0 - 2.2, abs=0.05)
