"""What is given by hand or as a file: the cord, corrections, further needles; and what the limit refers to."""

from __future__ import annotations

import math

import numpy as np
import pytest

from iort_planner.errors import CanalNotFoundError
from iort_planner.planning.dwell import dose_at
from iort_planner.planning.given import CanalFile, limit_structure
from iort_planner.planning.plan import Check, Plan
from iort_planner.units import Quantity
from tests import planning_cases as cases

FILE = CanalFile(name="rs.dcm", sha256="0" * 64, structure="1 SpinalCanal", frame_verified=True, notes=())


def check(plan: Plan, check_id: str) -> Check:
    return next(c for c in plan.checks if c.id == check_id)


@pytest.mark.parametrize(
    ("method", "file", "corrected", "words"),
    [
        ("auto", None, False, "bony canal wall (found automatically)"),
        ("points", None, False, "bony canal wall (points by hand)"),
        ("file", FILE, False, "bony canal wall (file rs.dcm, structure 1 SpinalCanal)"),
        ("auto", None, True, "bony canal wall (found automatically, corrected by hand at 1 wall point)"),
        (
            "file",
            FILE,
            True,
            "bony canal wall (file rs.dcm, structure 1 SpinalCanal, corrected by hand at 1 wall point)",
        ),
    ],
)
def test_the_structure_that_the_limit_refers_to_is_said_with_its_origin(
    method: str, file: CanalFile | None, corrected: bool, words: str
) -> None:
    assert limit_structure(method, file, cases.correction() if corrected else None) == words


def test_the_check_of_the_limit_says_what_it_refers_to() -> None:
    plan = cases.plan()

    assert plan.prescription.limit_structure == "bony canal wall (points by hand)"
    assert check(plan, "canal-over-limit").message.startswith(
        "bony canal wall (points by hand) gets 8 Gy = 10.4 Gy(RBE)"
    )


def test_a_cord_has_its_own_distances_and_dose_and_changes_no_time() -> None:
    without, plan = cases.plan(), cases.plan(cord=cases.cord(15.0))
    cord = plan.cord
    assert cord is not None

    assert plan.result == without.result
    assert cord.distance_from_source_mm == pytest.approx(15.0, abs=1e-12)
    assert cord.distance_from_tip_mm == pytest.approx(math.hypot(15.0, cases.APPLICATOR.tip_to_source_mm), abs=1e-12)
    assert cord.nearest_point_lps_mm == pytest.approx((1.0, 2.0, 18.0))
    dose = dose_at(cases.TABLE, Quantity(plan.result.dwell_time_s, "s"), Quantity(15.0, "mm"))
    assert cord.max_dose_gy == pytest.approx(float(dose.magnitude), rel=1e-12)
    assert cord.max_dose_gy_rbe == pytest.approx(1.3 * float(dose.magnitude), rel=1e-12)


@pytest.mark.parametrize("distance_mm", [2.0, 60.0])
def test_a_cord_outside_the_table_has_no_dose_and_says_why(distance_mm: float) -> None:
    plan = cases.plan(cord=cases.cord(distance_mm))
    assert plan.cord is not None

    assert (plan.cord.max_dose_gy, plan.cord.max_dose_gy_rbe) == (None, None)
    assert "never extrapolated" in plan.cord.notes[0]
    assert check(plan, "cord-file").status == "warn"


def test_a_cord_nearer_than_the_canals_wall_is_told_with_both_distances() -> None:
    message = check(cases.plan(cord=cases.cord(11.2)), "cord-outside-canal").message

    for words in (
        "11.2 mm from the source centre",
        "0.8 mm nearer than the canal's wall at 12.0 mm",
        "Gy(RBE) at most",
    ):
        assert words in message


def test_a_cord_around_the_needle_is_a_clear_stop() -> None:
    around = cases.cord(triangles_lps_mm=20 * (cases.cord(0.0).triangles_lps_mm - cases.SOURCE_LPS_MM - [0, 0, 2]))
    around.triangles_lps_mm[...] += cases.SOURCE_LPS_MM
    with pytest.raises(
        CanalNotFoundError, match=r"source centre .* lies inside structure 2 SpinalCord of rtstruct.dcm"
    ):
        cases.plan(cord=around)


def test_a_correction_stands_in_the_plan_with_what_it_changed() -> None:
    plan = cases.plan(correction=cases.correction())

    assert [c.moved_mm for c in plan.canal.corrections] == [1.5]
    assert plan.canal.corrections[0].point_lps_mm == pytest.approx((1.0, 2.0, 15.0))
    assert plan.canal.uncorrected_distance_from_source_mm == 13.5
    message = check(plan, "canal-corrected").message
    assert "13.5 mm from the source centre before, 12.0 mm now" in message
    assert "(1.0, 2.0, 15.0), wall 1.5 mm away before" in message


def test_further_needles_are_listed_without_a_dwell() -> None:
    shift = np.array([8.0, 0.0, 0.0])
    other = cases.needle(
        label="2", tip_lps_mm=cases.needle().tip_lps_mm + shift, source_lps_mm=cases.SOURCE_LPS_MM + shift
    )
    plan = cases.plan(other_needles=(other,))

    assert [needle.label for needle in plan.needles] == ["1", "2"]
    assert [dwell.needle for dwell in plan.dwells] == ["1"]


def test_each_distance_in_the_plan_has_both_ends() -> None:
    plan = cases.plan()
    parts, canal = plan.canal.segments, plan.canal

    for part, length in (
        (parts.source, canal.distance_from_source_mm),
        (parts.tip, canal.distance_from_tip_mm),
        (parts.surface, canal.distance_from_surface_mm),
        (parts.shaft, canal.shaft_clearance_mm),
    ):
        assert part.length_mm == length == pytest.approx(math.dist(part.from_lps_mm, part.to_lps_mm))
    assert parts.source.from_lps_mm == plan.needles[0].source_lps_mm
    assert parts.tip.from_lps_mm == plan.needles[0].tip_lps_mm
    assert parts.source.to_lps_mm == canal.nearest_point_lps_mm
