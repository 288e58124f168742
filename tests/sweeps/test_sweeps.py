"""A few cases of each sweep: no error without a warning; and that the sweeps' own drawing and scoring can be trusted."""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iort_planner.applicator import NeedleContent, read_applicator
from iort_planner.geometry.canal import canal_from_points
from iort_planner.geometry.needle import Confidence, Needle
from iort_planner.imaging.volume import ImageGrid
from iort_planner.phantom import build, canal_of, find_spec, grid_of, pose_of, read_spec
from iort_planner.phantom.hardware import implants_of
from iort_planner.phantom.scan import spine_frame
from iort_planner.phantom.truth import make_truth
from tests.sweeps import bars, negatives, phantom_sweep, real_ct_needles, scoring
from tests.sweeps.needle_cases import BUILDS, HINT_MM, draw_built
from tests.sweeps.outcome import Outcome, Truth
from tests.sweeps.phantom_cases import LEAST_CLEARANCE_MM, LEAST_GAP_MM, draw_case, gap_mm
from tests.sweeps.processes import refuse_proof_seeds
from tests.sweeps.scoring import score, summary

QUICK_SPACING_MM = (1.0, 1.4)


def assert_right_and_sure(outcome: Outcome) -> None:
    assert outcome.silent == ()
    assert outcome.refused == ""
    assert outcome.needle_high, outcome.needle_reasons
    assert outcome.canal_high, outcome.canal_reasons


@pytest.mark.parametrize("seed", [8])
def test_random_phantoms_have_no_silent_failure(seed: int) -> None:
    outcome = phantom_sweep.run_case(seed, spacing_mm=QUICK_SPACING_MM)

    assert outcome.silent == ()


def test_a_seed_gives_the_same_case_and_another_seed_another() -> None:
    base = phantom_sweep.base_spec()

    assert draw_case(base, 8) == draw_case(base, 8)
    assert draw_case(base, 8).spec.needle != draw_case(base, 9).spec.needle


def test_a_case_is_what_it_says() -> None:
    """Bent as far as told over the part that is seen, clear of the canal and of other metal; and every special kind turns up."""
    base, kinds = phantom_sweep.base_spec(), set[str]()
    for seed in range(12):
        case = draw_case(base, seed)
        kinds |= set(case.groups)
        truth = make_truth(case.spec, 0, pose_of(case.spec), canal_of(case.spec), grid_of(case.spec))
        frame = spine_frame(case.spec)
        line = pose_of(case.spec).points_lps_mm(np.arange(0.0, 94.0, 1.0))
        assert truth.bending_mm == pytest.approx(case.bending_mm, abs=0.05)
        assert truth.shaft_clearance_mm >= LEAST_CLEARANCE_MM
        assert case.over_source == (case.spec.needle.cannula_end_mm < case.spec.applicator.tip_to_source_mm)
        for screw in case.spec.screws:
            tip, through = frame.to_lps(screw.tip_mm), frame.to_lps(screw.through_mm)
            axis = (through - tip) / np.linalg.norm(through - tip)
            shaft = tip + np.arange(0.0, screw.length_mm, 1.0)[:, None] * axis
            gap = np.linalg.norm(shaft[:, None] - line, axis=-1).min()
            assert gap > LEAST_GAP_MM + screw.diameter_mm / 2.0 + 2.2
    assert kinds >= {"overlap", "breach", "bent", "instrumented", "coarse"}


def test_a_built_case_is_what_it_says() -> None:
    """Every build, scanner and special turns up; needles and devices keep clear; the finder is told all or nothing."""
    base, groups = phantom_sweep.base_spec(), Counter[str]()
    cases = [draw_built(base, seed) for seed in range(12)]
    for case in cases:
        groups.update(case.groups)
        spec, needle, told = case.spec, case.spec.needle, case.applicator
        poses = [pose_of(spec, each) for each in (needle, *spec.extra_needles)]
        for pose in poses:
            truth = make_truth(spec, 0, pose, canal_of(spec), grid_of(spec))
            assert truth.shaft_clearance_mm >= LEAST_CLEARANCE_MM - 1e-6
        for pose in poses[1:]:
            line = pose.points_lps_mm(np.arange(0.0, pose.hub_mm, 0.5))
            assert gap_mm(poses[0], line, pose.cannula_radius_mm) > LEAST_GAP_MM
        for part in implants_of(replace(spec, screws=(), rods=()), spine_frame(spec)):
            line = poses[0].points_lps_mm(np.arange(0.0, poses[0].hub_mm, 0.5))
            gap = min(float(solid.signed_distance_mm(line).min()) for solid in part.solids)
            assert gap >= LEAST_GAP_MM + poses[0].cannula_radius_mm - 1e-6
        assert 5.4 <= (spec.applicator.cannula_outer_diameter_mm or 0.0) <= 6.5
        assert needle.content != "probe" or needle.wall_mm <= 0.6
        assert needle.hollow_tip == (case.build == "hollow tip")
        if told.content is NeedleContent.UNKNOWN:
            assert (told.inner_diameter_mm, told.cannula_outer_diameter_mm) == (None, None)
        else:
            assert told.content.value == needle.content
            assert needle.content == "solid" or told.inner_diameter_mm == pytest.approx(4.4 - 2.0 * needle.wall_mm)
        if case.hint_lps_mm is not None:
            assert case.needles == 2
            assert np.linalg.norm(np.array(case.hint_lps_mm) - poses[0].tip_lps_mm) <= HINT_MM + 0.02
    wanted = {
        *BUILDS,
        "CT fine",
        "C-arm",
        "clean",
        "streaked",
        "two needles",
        "no cannula",
        "stated",
        "sharp",
        "soft_tailed",
    }
    assert wanted <= groups.keys()
    assert draw_built(base, 6) == cases[6]
    assert draw_built(base, 6, kind="C-arm").spec.needle == cases[6].spec.needle


def test_seeds_of_the_proof_are_not_run_by_mistake() -> None:
    parser = argparse.ArgumentParser()
    for seeds in (range(9000, 9001), range(8990, 9010), range(9999, 10010), range(8000, 12000)):
        with pytest.raises(SystemExit):
            refuse_proof_seeds(parser, seeds, proof=False)
        refuse_proof_seeds(parser, seeds, proof=True)
    for seeds in (range(9000), range(10000, 10001)):
        refuse_proof_seeds(parser, seeds, proof=False)


def outcome(**known: Any) -> Outcome:
    start: dict[str, Any] = {
        "name": "seed 0",
        "groups": ("probe", "CT fine", "clean"),
        "case": {},
        "distance_mm": 10.0,
        "clearance_mm": 1.0,
    }
    right = {
        "tip_error_mm": 0.1,
        "tip_along_mm": 0.01,
        "axis_error_deg": 0.1,
        "distance_error_mm": -0.02,
        "bending_error_mm": 0.1,
    }
    return Outcome(**(start | right | {"needle_high": True, "canal_high": True} | known))


def normal_outcomes(scale: float = 1.0) -> list[Outcome]:
    """A thousand whose errors are as large as stated, or ``scale`` times that."""
    rng = np.random.default_rng(5)
    parts, distance = (
        rng.standard_normal((1000, 3)) * scale * (0.1, 0.05, 0.07),
        0.2 * scale * rng.standard_normal(1000),
    )
    return [
        outcome(
            tip_parts_mm=tuple(p.tolist()),
            tip_sigmas_mm=(0.1, 0.05, 0.07),
            distance_error_mm=float(d) - 0.03,
            distance_sigma_mm=0.2,
        )
        for p, d in zip(parts, distance, strict=True)
    ]


@pytest.mark.parametrize(
    ("bar", "over", "spoilt"),
    [
        ("tip error, median", "probe", {"tip_error_mm": 0.2}),
        ("tip error, 95%", "probe", {"tip_error_mm": 0.5}),
        ("axis error, 95%", "every answer", {"axis_error_deg": 0.7}),
        ("tip along the axis, mean", "probe, clean", {"tip_along_mm": 0.06}),
        ("tip along the axis, mean", "probe, clean", {"tip_along_mm": -0.06}),
        ("canal distance error, 95%", "CT fine", {"distance_error_mm": -0.5}),
        ("canal distance error, mean", "CT fine", {"distance_error_mm": -0.11}),
        ("canal distance error, mean", "CT fine", {"distance_error_mm": 0.03}),
        ("silent failures", "every case", {"tip_error_mm": 1.1}),
        ("silent failures", "every case", {"distance_error_mm": -1.3}),
        ("silent failures", "every case", {"over_source": True}),
        ("refused (or crashed)", "every case with one needle", {"crashed": "ValueError"}),
        ("refused (or crashed)", "every case with one needle", {"refused": "no canal found"}),
        ("refused, not asked for a hint", "every case with two needles", {"refused": "no needle", "needles": 2}),
        ("low confidence", "CT without overlap or breach", {"canal_high": False}),
    ],
)
def test_each_bar_fails_by_what_it_stands_for(bar: str, over: str, spoilt: dict[str, Any]) -> None:
    def found(outcomes: list[Outcome]) -> dict[tuple[str, str], bars.Bar]:
        return {(b.what, b.over): b for b in bars.table(outcomes) if "within" not in b.what}

    right = found([outcome(needles=spoilt.get("needles", 1)), *[outcome()] * 19])
    wrong = found([outcome(**spoilt) for _ in range(20)])

    assert all(b.passed for b in right.values())
    assert not wrong[bar, over].passed


@pytest.mark.parametrize(("scale", "passed"), [(1.0, True), (1.4, False), (0.7, False)])
def test_coverage_is_judged_by_component_both_ways(scale: float, passed: bool) -> None:
    """Errors as large as stated pass; larger ones fail, and so do uncertainties that are stated too large."""
    found = [b for b in bars.table(normal_outcomes(scale)) if "within" in b.what]

    assert len(found) == 6
    assert {b.passed for b in found} == {passed}
    assert {b.count for b in found} == {1000, 2000}


def test_the_stated_uncertainties_of_tip_and_distance_are_those_of_the_covariance() -> None:
    """Against the quadratic form: a tip that is uncertain along its axis moves the distance by its part towards the wall."""
    axis, across = np.array([0.6, 0.8, 0.0]), np.array([-0.8, 0.6, 0.0])
    covariance = 0.04 * np.outer(axis, axis) + 0.01 * (np.eye(3) - np.outer(axis, axis))
    needle = Needle(
        label="1",
        tip_lps_mm=np.zeros(3),
        axis_lps=axis,
        source_lps_mm=3.0 * axis,
        method="auto",
        confidence=Confidence.HIGH,
        tip_uncertainty_mm=math.sqrt(0.06),
        tip_covariance_lps_mm2=covariance,
    )
    found = scoring.tip_parts(needle, np.array([0.3, 0.4, 0.0]))
    canal = canal_from_points(np.array([[0.0, 0.0, 5.0]]), uncertainty_mm=0.3)

    assert found["tip_parts_mm"] == pytest.approx((0.5, 0.0, 0.0))
    assert found["tip_sigmas_mm"] == pytest.approx((0.2, 0.1, 0.1))
    towards = scoring.distance_sigma_mm(needle, canal, needle.source_lps_mm - 8.0 * axis)
    beside = scoring.distance_sigma_mm(needle, canal, needle.source_lps_mm + 8.0 * across)
    assert (towards, beside) == pytest.approx((math.hypot(0.2, 0.3), math.hypot(0.1, 0.3)))


def test_asking_for_a_hint_among_two_needles_is_no_refusal() -> None:
    asked = outcome(refused="no needle found that stands out", asked=True, needles=2, tip_error_mm=None)
    found = {b.what: b for b in bars.table([outcome(), asked])}

    assert found["refused, not asked for a hint"].value == 0.0
    assert found["refused (or crashed)"].value == 0.0
    assert summary([asked])["groups"]["all"]["asked"] == 1
    assert "asked" in asked.line()


def test_overlap_and_breach_do_not_count_as_low_confidence_but_everywhere_else() -> None:
    others = [
        outcome(groups=("overlap", "probe", "CT fine", "clean"), canal_high=False, tip_error_mm=5.0),
        outcome(groups=("breach",), needle_high=False),
        outcome(groups=("C-arm",), needle_high=False),
    ]
    found = {(b.what, b.over): b for b in bars.table([outcome(), *others])}

    assert found["low confidence", "CT without overlap or breach"].count == 1
    assert found["low confidence", "CT without overlap or breach"].passed
    assert found["tip error, 95%", "probe"].count == 2
    assert (
        found["silent failures", "every case"].value == 1.0
    )  # the tip that the cannula has moved, with high confidence
    assert not bars.table([])[0].passed


def test_negatives_have_other_metal_and_no_needle() -> None:
    base, kinds, cannulas = negatives.base_spec(), set[str](), 0
    for seed in range(10):
        spec = negatives.draw_negative(base, seed)
        kinds |= {device.kind for device in spec.devices}
        cannulas += spec.needle.parts == "cannula"
        assert spec.needle.parts != "needle"
        assert spec.extra_needles == ()
        assert spec.screws or spec.devices
    assert len(kinds) >= 4
    assert 1 <= cannulas <= 6


def test_a_negative_that_is_answered_surely_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = negatives.Negative(name="seed 1", metal=("trocar",), said="", found="high")
    right = negatives.Negative(name="seed 2", metal=("clip",), said="no needle found")

    assert negatives.counts([wrong, right])["found_high"] == 1
    assert "FOUND (high)" in wrong.line()
    for outcomes, status in (([wrong, right], 1), ([right], 0)):
        monkeypatch.setattr(negatives, "in_processes", lambda *_, answer=outcomes, **__: answer)
        monkeypatch.setattr("sys.argv", ["negatives", "--cases", "2"])
        assert negatives.main() == status


def test_a_case_that_crashes_is_an_outcome_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> Outcome:
        raise ZeroDivisionError("of some kind")

    monkeypatch.setattr(phantom_sweep, "run_case", breaks)

    assert phantom_sweep.attempt(7, None).crashed == "ZeroDivisionError: of some kind"
    assert "CRASHED" in phantom_sweep.attempt(7, None).line()


def test_the_distributions_become_a_picture(tmp_path: Path) -> None:
    bars.plot([outcome(tip_error_mm=0.01 * n) for n in range(30)], tmp_path / "cdf.png")

    assert (tmp_path / "cdf.png").stat().st_size > 10_000


def test_an_answer_that_is_wrong_by_more_than_the_limits_counts_as_silent_failure() -> None:
    spec = read_spec(find_spec("small"))
    phantom = build(spec, 3)
    true = phantom.truth
    truth = Truth(
        tip_lps_mm=true.tip_lps_mm,
        axis_lps=true.axis_lps,
        source_lps_mm=true.source_lps_mm,
        distance_from_source_mm=true.distance_from_source_mm,
        shaft_clearance_mm=true.shaft_clearance_mm,
    )
    wrong = replace(truth, tip_lps_mm=truth.tip_lps_mm + 2.0 * truth.axis_lps, distance_from_source_mm=99.0)
    right, flagged = (score("small", ("usual",), {}, phantom.volume, spec.applicator, t) for t in (truth, wrong))

    assert_right_and_sure(right)
    assert len(flagged.silent) == 2
    assert replace(flagged, needle_high=False).silent == ()
    assert [s["name"] for s in summary([right, flagged])["silent"]] == ["small"]


@pytest.mark.shared
def test_contour_distances_agree_with_those_published_with_the_shared_needle(shared_data: Path) -> None:
    """Two ways to the same contour: theirs and the sweep's."""
    path = shared_data / "lidc0314_lower_thoracic_1mm_needle" / "needle_truth.json"
    published = json.loads(path.read_text(encoding="utf-8"))
    _, wall, applicator = real_ct_needles.load()
    tip, axis = np.array(published["tip_lps_mm"]), -np.array(published["axis_direction_distal_lps"])

    distance, _ = wall.distance_mm(np.array(published["source_centre_lps_mm"]))
    clearance = real_ct_needles.clearance_mm(wall, tip, axis, applicator, None)

    assert distance == pytest.approx(published["distance_source_centre_to_nearest_canal_wall_mm"], abs=0.1)
    assert clearance == pytest.approx(published["min_clearance_needle_surface_to_canal_wall_mm"], abs=0.1)


def test_drawn_plastic_and_metal_have_the_volume_of_their_bodies() -> None:
    """Closed form: half a ball and cylinders; oblique to the voxels, which are larger than the walls."""
    applicator = replace(read_applicator(), length_mm=26.0, cannula_length_mm=10.0)
    axis = np.array([0.36, 0.8, 0.48])
    drawn = real_ct_needles.Drawn(
        tip_lps_mm=tuple((-12.0 * axis).tolist()),
        axis_lps=tuple(axis.tolist()),
        cannula_end_mm=12.0,
        metal_hu=5000.0,
        noise_hu=0.0,
        side="left",
        slice_fraction_on_bone=1.0,
    )
    grid = ImageGrid(
        size_voxels=(36, 48, 30),
        spacing_mm=np.array([0.78, 0.78, 1.0]),
        origin_lps_mm=np.array([-14.0, -18.0, -14.5]),
        direction=np.eye(3),
    )
    voxel_mm3 = float(np.prod(grid.spacing_mm))

    plastic, metal = real_ct_needles.coverage(drawn, grid, applicator)

    r, length = applicator.outer_radius_mm, applicator.radiolucent_tip_length_mm
    half_ball_and_cylinder = math.pi * r**2 * (2.0 / 3.0 * r + length - r)
    shaft_and_cannula = math.pi * (r**2 * (26.0 - length) + (2.7**2 - r**2) * 10.0)
    assert float(plastic.sum()) * voxel_mm3 == pytest.approx(half_ball_and_cylinder, rel=0.02)
    assert float(metal.sum()) * voxel_mm3 == pytest.approx(shaft_and_cannula, rel=0.01)


@pytest.mark.shared
@pytest.mark.parametrize("seed", [0, 2])
def test_virtual_needles_in_the_real_ct_are_found_right_and_surely(seed: int, shared_data: Path) -> None:
    outcome = real_ct_needles.run_case(*real_ct_needles.load(), seed)

    assert_right_and_sure(outcome)
