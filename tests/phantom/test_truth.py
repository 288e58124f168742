"""Truth against an oracle that goes the other way round: from dense samples of the canal's wall to the needle."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iort_planner.phantom import Phantom, PhantomSpec, canal_of, find_spec, grid_of, pose_of, read_spec
from iort_planner.phantom.needle_model import NeedlePose, coverage
from iort_planner.phantom.truth import make_truth
from iort_planner.units import FloatArray


def capsule(pose: NeedlePose, end_mm: float, points: FloatArray) -> FloatArray:
    """Distance to a half ball at the tip with a flat-ended cylinder up to ``end_mm`` (closed form, outside)."""
    r = pose.applicator.outer_radius_mm
    along, radial = pose.cylinder_coordinates(points)
    ball = np.hypot(along - r, radial) - r
    beyond = np.hypot(along - end_mm, np.maximum(radial - r, 0.0))
    return np.where(along < r, ball, np.where(along <= end_mm, radial - r, beyond))


def tube(pose: NeedlePose, points: FloatArray) -> FloatArray:
    """Distance to the cannula as a flat-ended cylinder (closed form, outside)."""
    along, radial = pose.cylinder_coordinates(points)
    end = pose.cannula_end_mm + pose.applicator.cannula_length_mm
    outside_along = np.maximum(np.maximum(pose.cannula_end_mm - along, along - end), 0.0)
    outside_radial = np.maximum(radial - pose.cannula_radius_mm, 0.0)
    inside = np.minimum(0.0, radial - pose.cannula_radius_mm)
    return np.where(outside_along + outside_radial > 0, np.hypot(outside_along, outside_radial), inside)


def oracle(spec: PhantomSpec, what: str) -> float:
    pose, canal = pose_of(spec), canal_of(spec)
    low, high = np.array([-np.pi, -90.0]), np.array([np.pi, 90.0])
    for samples in ((361, 361), (201, 201), (201, 201), (201, 201)):
        angle, along = np.meshgrid(*(np.linspace(a, b, n) for a, b, n in zip(low, high, samples, strict=True)))
        wall = canal.wall_lps_mm(angle, along)
        if what == "source":
            source = pose.tip_lps_mm + pose.applicator.tip_to_source_mm * pose.axis_lps
            distance = np.linalg.norm(wall - source, axis=-1)
        elif what == "tip":
            distance = np.linalg.norm(wall - pose.tip_lps_mm, axis=-1)
        elif what == "surface":
            distance = capsule(pose, pose.applicator.radiolucent_tip_length_mm, wall)
        else:
            distance = np.minimum(capsule(pose, pose.applicator.length_mm, wall), tube(pose, wall))
        best = np.unravel_index(np.argmin(distance), distance.shape)
        step = 2.0 * (high - low) / (np.array(samples) - 1)
        centre = np.array([angle[best], along[best]])
        low, high = centre - step, centre + step
    return float(distance[best])


@pytest.mark.parametrize("name", ["reference", "small", "oblique"])
def test_shipped_truth_agrees_with_dense_samples(name: str) -> None:
    spec = read_spec(find_spec(name))
    truth = make_truth(spec, 0, pose_of(spec), canal_of(spec), grid_of(spec))
    assert truth.distance_from_source_mm == pytest.approx(oracle(spec, "source"), abs=1e-6)
    assert truth.distance_from_tip_mm == pytest.approx(oracle(spec, "tip"), abs=1e-6)
    assert truth.distance_from_surface_mm == pytest.approx(oracle(spec, "surface"), abs=1e-6)
    assert truth.shaft_clearance_mm == pytest.approx(oracle(spec, "shaft"), abs=1e-6)


@settings(max_examples=6, deadline=None)
@given(
    tip=st.tuples(st.floats(-12, 12), st.floats(-30, -17), st.floats(-8, 8)),
    through=st.tuples(st.floats(17, 30), st.floats(-8, 12), st.floats(-15, 15)),
    cannula_end_mm=st.floats(0.0, 25.0),
)
def test_any_needle_clear_of_the_canal_agrees_with_dense_samples(
    small_spec: PhantomSpec,
    tip: tuple[float, float, float],
    through: tuple[float, float, float],
    cannula_end_mm: float,
) -> None:
    needle = dataclasses.replace(small_spec.needle, tip_mm=tip, through_mm=through, cannula_end_mm=cannula_end_mm)
    spec = dataclasses.replace(small_spec, needle=needle)
    truth = make_truth(spec, 0, pose_of(spec), canal_of(spec), grid_of(spec))
    shaft = oracle(spec, "shaft")
    assert truth.distance_from_surface_mm == pytest.approx(oracle(spec, "surface"), abs=1e-6)
    if shaft > 0.0:
        assert truth.shaft_clearance_mm == pytest.approx(shaft, abs=1e-6)
    else:
        assert truth.shaft_clearance_mm < 0.0


def bent(spec: PhantomSpec, bend_mm: float, turn_deg: float) -> PhantomSpec:
    return dataclasses.replace(spec, needle=dataclasses.replace(spec.needle, bend_mm=bend_mm, bend_turn_deg=turn_deg))


@given(
    bend_mm=st.floats(0.0, 8.0),
    turn_deg=st.floats(-360.0, 360.0),
    along=st.floats(0.0, 90.0),
    across=st.floats(0.1, 5.0),
    angle=st.floats(0.0, 6.28),
)
def test_points_and_coordinates_of_a_bent_needle_undo_each_other(
    small_spec: PhantomSpec, bend_mm: float, turn_deg: float, along: float, across: float, angle: float
) -> None:
    pose = pose_of(bent(small_spec, bend_mm, turn_deg))
    point = pose.points_lps_mm(along, across * np.cos(angle), across * np.sin(angle))
    assert np.allclose(pose.cylinder_coordinates(point), (along, across), atol=1e-6)


@pytest.mark.parametrize("turn_deg", [0.0, 90.0, 180.0, 270.0])
def test_a_bent_needle_has_its_sagitta_its_tangent_and_the_clearance_of_dense_samples(
    reference_spec: PhantomSpec, turn_deg: float
) -> None:
    spec = bent(reference_spec, 3.0, turn_deg)
    pose = pose_of(spec)
    truth = make_truth(spec, 0, pose, canal_of(spec), grid_of(spec))
    metal, end = pose.applicator.radiolucent_tip_length_mm, pose.applicator.length_mm
    line = pose.points_lps_mm(np.linspace(metal, end, 4001))
    chord = (line[-1] - line[0]) / np.linalg.norm(line[-1] - line[0])
    away = np.linalg.norm(np.cross(line - line[0], chord), axis=-1)
    seen = line[grid_of(spec).contains(line)]
    seen_chord = (seen[-1] - seen[0]) / np.linalg.norm(seen[-1] - seen[0])

    assert away.max() == pytest.approx(3.0, abs=1e-5)
    assert np.linalg.norm(np.diff(line, axis=0), axis=1).sum() == pytest.approx(end - metal, abs=1e-4)
    assert (line[1] - line[0]) @ truth.axis_lps == pytest.approx(np.linalg.norm(line[1] - line[0]), abs=1e-7)
    assert np.allclose(line[0], truth.metal_end_lps_mm)
    assert truth.bending_mm == pytest.approx(
        np.linalg.norm(np.cross(seen - seen[0], seen_chord), axis=-1).max(), abs=0.01
    )
    assert truth.shaft_clearance_mm == pytest.approx(oracle(spec, "shaft"), abs=1e-6)
    # the plastic is straight
    assert truth.distance_from_surface_mm == pytest.approx(oracle(reference_spec, "surface"), abs=1e-6)


def test_a_bent_needle_is_painted_where_its_truth_says(small_spec: PhantomSpec) -> None:
    """Centre of gravity of the steel in slabs across the axis, against the centre line: two descriptions of one body."""
    spec = bent(small_spec, 6.0, 30.0)
    pose, grid = pose_of(spec), grid_of(spec)
    filled = coverage(pose, grid)
    box, steel = filled.box, filled.steel
    low = (box[2].start, box[1].start, box[0].start)
    high = (box[2].stop, box[1].stop, box[0].stop)
    points = grid.crop(low, high).voxel_centres_lps_mm()
    for along in (12.0, 25.0, 35.0):
        centre = pose.points_lps_mm(along)
        tangent = pose.points_lps_mm(along + 0.01) - pose.points_lps_mm(along - 0.01)
        tangent /= np.linalg.norm(tangent)
        near = (np.abs((points - centre) @ tangent) < 2.0) & (np.linalg.norm(points - centre, axis=-1) < 6.0)
        gravity = np.average(points[near], axis=0, weights=steel[near])
        offset = gravity - centre
        assert np.linalg.norm(offset - (offset @ tangent) * tangent) < 0.1


def test_a_needle_through_the_canal_has_a_negative_clearance(small_spec: PhantomSpec) -> None:
    needle = dataclasses.replace(small_spec.needle, tip_mm=(0.0, -20.0, 0.0), through_mm=(0.0, 10.0, 0.0))
    spec = dataclasses.replace(small_spec, needle=needle)
    truth = make_truth(spec, 0, pose_of(spec), canal_of(spec), grid_of(spec))
    # straight through the middle: it gets to where the canal's wall is furthest, which is less than half its
    # lesser diameter and, for a shaft of 4.4 mm on the centre, at least that less the radius
    half_depth, radius = spec.canal.depth_mm / 2, spec.applicator.outer_radius_mm
    assert -half_depth <= truth.shaft_clearance_mm <= -(half_depth - radius)
    assert truth.distance_from_tip_mm == pytest.approx(20.0 - half_depth, abs=1e-9)


def test_reference_is_a_planable_case(reference_spec: PhantomSpec) -> None:
    truth = make_truth(reference_spec, 0, pose_of(reference_spec), canal_of(reference_spec), grid_of(reference_spec))
    assert 10.0 <= truth.distance_from_source_mm <= 12.0
    assert truth.shaft_clearance_mm > 1.0
    assert truth.axis_lps[1] > 0.8  # the hub is posterior of the tip
    assert 14.0 <= reference_spec.needle.cannula_end_mm <= 18.0


def test_truth_is_consistent_and_goes_to_json(small: Phantom) -> None:
    truth = small.truth
    content = json.loads(json.dumps(truth.to_dict(), allow_nan=False))
    needle, canal = content["needles"][0], content["canal"]
    tip, axis = np.array(needle["tip_lps_mm"]), np.array(needle["axis_lps"])
    applicator = content["applicator"]
    assert np.linalg.norm(axis) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(needle["source_lps_mm"], tip + applicator["tip_to_source_mm"] * axis, atol=1e-9)
    np.testing.assert_allclose(
        needle["metal_end_lps_mm"], tip + applicator["radiolucent_tip_length_mm"] * axis, atol=1e-9
    )
    gap = np.linalg.norm(np.array(canal["nearest_point_lps_mm"]) - needle["source_lps_mm"])
    assert gap == pytest.approx(canal["distance_from_source_mm"], abs=1e-9)
    assert needle["bending_mm"] == 0
    assert content["level"] == "T11"
    assert content["seed"] == 3
    assert content["hu"]["steel"] == 8000
