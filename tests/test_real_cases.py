"""The real CT with a virtual needle (shared data): needle, axis and canal distance against its truth, through the whole job."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from iort_planner.planning.plan import Plan
from iort_planner.planning.prescription import Prescription
from iort_planner.workflow import PlanRequest, plan_scan

pytestmark = pytest.mark.shared

# The virtual needle of the shared data is an applicator of its own (its README).
VIRTUAL_NEEDLE = """
name = "virtual needle of the test data"
outer_diameter_mm = 4.4
radiolucent_tip_length_mm = 4.0
tip_to_source_mm = 2.2
length_mm = 94.0
cannula_inner_diameter_mm = 4.4
cannula_length_mm = 55.0
origin = "shared data"
clinical = false
"""


@pytest.fixture(scope="module")
def case(shared_data: Path) -> Path:
    return shared_data / "lidc0314_lower_thoracic_1mm_needle"


@pytest.fixture(scope="module")
def truth(case: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((case / "needle_truth.json").read_text(encoding="utf-8"))
    return document


@pytest.fixture(scope="module")
def applicator(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("applicator") / "virtual.toml"
    path.write_text(VIRTUAL_NEEDLE, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def plan(case: Path, applicator: str, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    out = tmp_path_factory.mktemp("real") / "plan"
    return plan_scan(out, PlanRequest(path=case / "ct", applicator=applicator, pictures=False))


def test_tip_within_1_mm_and_axis_within_1_5_degrees_of_the_virtual_needle(plan: Plan, truth: dict[str, Any]) -> None:
    needle = plan.needles[0]
    distal = truth["axis_direction_distal_lps"]
    cosine = -sum(a * b for a, b in zip(needle.axis_lps, distal, strict=True))

    assert needle.confidence == "high"
    assert math.dist(needle.tip_lps_mm, truth["tip_lps_mm"]) <= 1.0
    assert math.dist(needle.source_lps_mm, truth["source_centre_lps_mm"]) <= 1.0
    assert math.degrees(math.acos(min(1.0, cosine))) <= 1.5


def test_canal_distance_within_1_5_mm_of_the_contour(plan: Plan, truth: dict[str, Any]) -> None:
    contour_mm = truth["distance_source_centre_to_nearest_canal_wall_mm"]

    assert plan.canal.distance_from_source_mm == pytest.approx(contour_mm, abs=1.5)
    assert plan.canal.shaft_clearance_mm == pytest.approx(
        truth["min_clearance_needle_surface_to_canal_wall_mm"], abs=1.5
    )


def test_the_canal_limit_sets_the_time_and_only_the_known_warnings_stand(plan: Plan) -> None:
    assert plan.prescription.depth_from == "canal-limit"
    assert plan.result.dwell_time_s == plan.result.max_safe_dwell_time_s
    assert {check.id for check in plan.checks if check.status != "pass"} == {
        "canal-margin",
        "table-not-clinical",
        "table-applicator",
        "surface-dose-outside-table",
        "scan-older-than-a-day",
    }


def test_8_gy_at_8_mm_on_the_real_scan_takes_1_14_min(case: Path, truth: dict[str, Any], tmp_path: Path) -> None:
    x, y, z = truth["axis_direction_distal_lps"]
    request = PlanRequest(
        path=case / "ct",
        tip=tuple(truth["tip_lps_mm"]),
        axis=(-x, -y, -z),
        prescription=Prescription(depth_mm=8.0),
        pictures=False,
    )
    plan = plan_scan(tmp_path / "plan", request)

    assert plan.result.dwell_time_s / 60 == pytest.approx(1.14, abs=0.01)
    assert plan.result.isodose_radius_mm["8"] == pytest.approx(8.0, abs=0.01)
