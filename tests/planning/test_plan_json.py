"""plan.json: written, checked by its schema, read back equal."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from iort_planner.applicator import NeedleContent
from iort_planner.errors import PlanError
from iort_planner.planning.plan import Check
from iort_planner.planning.plan_file import json_schema, read_plan, schema_problem
from tests import planning_cases as cases


def test_a_plan_is_read_back_equal(tmp_path: Path) -> None:
    for plan in (
        cases.plan(),
        cases.plan(depth_mm=8.0),
        cases.plan(dose_gy=50.0, limit_gy=0.1, wall=cases.canal(20.0)),
        cases.plan(cord=cases.cord(), correction=cases.correction()),
        cases.plan(cord=cases.cord(60.0)),
        cases.plan(at=cases.needle(content=NeedleContent.AIR), other_needles=(cases.needle(label="1R"),)),
        cases.plan(at=cases.needle(tip_covariance_lps_mm2=[[0.1, 0.01, 0.0], [0.01, 0.03, 0.0], [0.0, 0.0, 0.03]])),
    ):
        path = tmp_path / "plan.json"
        path.write_bytes(plan.to_json().encode("utf-8"))

        assert read_plan(path) == plan
        assert read_plan(path).to_json() == plan.to_json()


def test_the_schema_in_the_package_is_that_of_the_types() -> None:
    shipped = (resources.files("iort_planner.planning") / "plan.schema.json").read_text(encoding="utf-8")

    assert json.loads(shipped) == json_schema()


def test_the_plan_holds_no_name_and_says_what_it_is_not_for() -> None:
    text = cases.plan().to_json()

    assert "not a medical device" in text
    assert "Prüfkörper 1" in text  # the ID, readable
    assert "patient_name" not in text


def test_the_verdict_is_the_worst_check() -> None:
    plan = cases.plan()

    assert plan.verdict == "warn"
    assert plan.with_checks(Check(id="x", status="fail", message="m")).verdict == "fail"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"verdict": "fine"}, "verdict"),
        ({"needles": []}, None),
        ({"schema": "iort-planner/plan/2"}, "schema"),
        ({"extra": 1}, "extra"),
        ({"created": None}, "created"),
    ],
)
def test_what_does_not_fit_the_schema_is_named(change: dict[str, object], where: str | None) -> None:
    content = {**json.loads(cases.plan().to_json()), **change}
    problem = schema_problem(content)

    assert (problem is None) if where is None else (problem is not None and where in problem)


@pytest.mark.parametrize("content", list(NeedleContent))
def test_what_is_inside_the_needle_stands_in_the_plan(content: NeedleContent) -> None:
    plan = json.loads(cases.plan(at=cases.needle(content=content)).to_json())

    assert plan["needles"][0]["content"] == content.value
    assert schema_problem(plan) is None


def test_a_plan_of_an_earlier_version_without_a_key_is_refused_by_its_name(tmp_path: Path) -> None:
    content = json.loads(cases.plan().to_json())
    del content["needles"][0]["content"]
    (tmp_path / "plan.json").write_text(json.dumps(content), encoding="utf-8")

    with pytest.raises(PlanError, match="'content' is a required property; make the plan again with this version"):
        read_plan(tmp_path / "plan.json")


def test_a_missing_or_broken_plan_is_a_clear_stop(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no plan at"):
        read_plan(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text('{"schema": ', encoding="utf-8")
    with pytest.raises(PlanError, match=r"is not a plan\.json"):
        read_plan(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text("[]", encoding="utf-8")
    with pytest.raises(PlanError, match="does not fit"):
        read_plan(tmp_path / "plan.json")


def test_times_for_people_are_never_rounded_up_past_the_safe_time() -> None:
    by_limit = cases.plan(wall=cases.canal(12.3))  # 212.9 s: the nearest second would exceed the limit
    assert by_limit.result.max_safe_dwell_time_s % 1 > 0.5
    assert by_limit.dwell_time_text == by_limit.max_safe_dwell_time_text == "3 min 32 s"
    by_depth = cases.plan(depth_mm=12.3, wall=cases.canal(16.0))
    assert by_depth.dwell_time_text == "3 min 33 s"


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("result", "dwell_time_s"), 1000.0, "disagree"),
        (("verdict",), "pass", "worst check"),
        (("checks",), [], "worst check"),
        (("needles",), [], "no needle"),
        (("needles", 1, "label"), "1", "two needles have one label"),
        (("needles", 0, "label"), "2L", "disagree"),
        (("needles", 0, "axis_lps"), [0.0, 5.0, 0.0], "unit vector"),
        (("needles", 0, "tip_lps_mm"), [0.0, 0.0, 0.0], "do not fit the applicator"),
        (("canal", "nearest_point_lps_mm"), [0.0, 0.0, 0.0], "does not fit its nearest point"),
        (("canal", "segments", "shaft", "length_mm"), 1.0, "distance from the shaft does not fit its two ends"),
        (("canal", "segments", "tip", "to_lps_mm"), [0.0, 0.0, 0.0], "distance from the tip does not fit its two ends"),
        (("canal", "uncorrected_distance_from_source_mm"), 1.0, "corrections"),
        (("cord", "nearest_point_lps_mm"), [0.0, 0.0, 0.0], "cord's distance does not fit"),
        (("cord", "max_dose_gy"), None, "alone"),
        (("cord", "max_dose_gy_rbe"), 1.0, "cord dose"),
        (("prescription", "dose_gy"), 80.0, "RBE"),
    ],
)
def test_a_plan_changed_by_hand_is_refused(
    tmp_path: Path, where: tuple[str | int, ...], value: object, message: str
) -> None:
    other = cases.needle(label="1R")
    content = json.loads(cases.plan(cord=cases.cord(), other_needles=(other,)).to_json())
    inner = content
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(PlanError, match=message):
        read_plan(path)


def test_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    text = cases.plan().to_json().replace('"dwell_time_s": ', '"dwell_time_s": NaN, "was": ')
    (tmp_path / "plan.json").write_text(text, encoding="utf-8")
    with pytest.raises(PlanError, match="NaN is no number"):
        read_plan(tmp_path / "plan.json")
