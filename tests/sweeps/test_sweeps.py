"""A few cases of each sweep: no error without a warning; and that the sweeps' own drawing and scoring can be trusted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iort_planner.applicator import read_applicator
from iort_planner.imaging.volume import ImageGrid
from iort_planner.phantom import build, canal_of, find_spec, grid_of, pose_of, read_spec
from iort_planner.phantom.scan import spine_frame
from iort_planner.phantom.truth import make_truth
from tests.sweeps import bars, phantom_sweep, real_ct_needles
from tests.sweeps.phantom_cases import LEAST_CLEARANCE_MM, LEAST_GAP_MM, draw_case
from tests.sweeps.scoring import Outcome, Truth, score, summary

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


def outcome(**known: Any) -> Outcome:
    start: dict[str, Any] = {
        "name": "seed 0",
        "groups": ("plain",),
        "case": {},
        "distance_mm": 10.0,
        "clearance_mm": 1.0,
    }
    right = {"tip_error_mm": 0.1, "axis_error_deg": 0.1, "distance_error_mm": -0.2, "bending_error_mm": 0.1}
    return Outcome(**(start | right | {"needle_high": True, "canal_high": True} | known))


@pytest.mark.parametrize(
    ("bar", "spoilt"),
    [
        ("tip error, median", {"tip_error_mm": 0.4}),
        ("tip error, 95%", {"tip_error_mm": 0.9}),
        ("axis error, 95%", {"axis_error_deg": 0.8}),
        ("canal distance error, 95%", {"distance_error_mm": -1.1}),
        ("bending error, 95%", {"bending_error_mm": -0.4}),
        ("silent failures", {"tip_error_mm": 1.6}),
        ("silent failures", {"distance_error_mm": -2.1}),
        ("silent failures", {"over_source": True}),
        ("refused (or crashed)", {"crashed": "ValueError"}),
        ("refused (or crashed)", {"refused": "no canal found"}),
        ("low confidence", {"canal_high": False}),
    ],
)
def test_each_bar_fails_by_what_it_stands_for(bar: str, spoilt: dict[str, Any]) -> None:
    right = bars.table([outcome() for _ in range(20)])
    wrong = {b.what: b for b in bars.table([outcome(**spoilt) for _ in range(20)])}

    assert all(b.passed for b in right)
    assert not wrong[bar].passed


def test_overlap_and_breach_do_not_count_as_low_confidence_but_everywhere_else() -> None:
    others = [
        outcome(groups=("overlap",), canal_high=False, tip_error_mm=5.0),
        outcome(groups=("breach",), needle_high=False),
    ]
    found = {b.what: b for b in bars.table([outcome(), *others])}

    assert found["low confidence"].count == 1
    assert found["low confidence"].passed
    assert found["tip error, 95%"].count == 3
    assert found["silent failures"].value == 1.0  # the tip that the cannula has moved, with high confidence
    assert not bars.table([])[0].passed


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
