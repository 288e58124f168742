"""Every check is triggered at least once, and passes when all is well."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iort_planner.geometry.needle import Confidence
from iort_planner.imaging.geometry_checks import Problem
from iort_planner.planning.given import Automatic, CanalFile
from iort_planner.planning.output_of_day import OutputOfDay
from iort_planner.planning.plan import Plan
from iort_planner.source.acceptance import AcceptanceStatus
from iort_planner.source.polar import PolarAnisotropy
from iort_planner.units import Quantity
from tests import planning_cases as cases

CLINICAL = dataclasses.replace(
    cases.TABLE, clinical=True, uncertainty_percent=np.full(cases.TABLE.distance_mm.shape, 2.0)
)
ACCEPTED = cases.accepted(CLINICAL)
MEASURED_YESTERDAY = dataclasses.replace(CLINICAL, derived=False, measured="2026-11-21")
CLINICAL_APPLICATOR = dataclasses.replace(cases.APPLICATOR, clinical=True)


def status(plan: Plan, check_id: str) -> str:
    found = [check for check in plan.checks if check.id == check_id]
    assert len(found) == 1, f"{check_id} stands {len(found)} times in the plan"
    return found[0].status


def good(**changes: Any) -> Plan:
    """A plan in which all is well, 6 Gy to the canal in 3.5 min, but for what is changed."""
    usual: dict[str, Any] = {
        "depth_mm": 11.0,
        "wall": cases.canal(13.0),
        "table": CLINICAL,
        "applicator": CLINICAL_APPLICATOR,
        "acceptance": cases.accepted(CLINICAL),
        "output": cases.output(),
    }
    return cases.plan(**{**usual, **changes})


def low(**fields: Any) -> dict[str, Any]:
    return {"confidence": Confidence.LOW, "reasons": ("a reason",), **fields}


def cannula_at(from_tip_mm: float) -> dict[str, Any]:
    """The cannula's end so far from the tip; the plastic is 6 mm long, the source 3 mm from the tip."""
    return {"cannula_end_lps_mm": cases.needle().tip_lps_mm + from_tip_mm * cases.AXIS_LPS}


LABEL_MAP = CanalFile(name="canal.nii.gz", sha256="0" * 64, structure="1", frame_verified=False, notes=())

HALF_POLAR = dataclasses.replace(
    CLINICAL,
    anisotropy=PolarAnisotropy(theta_deg=np.array([0.0, 90.0]), distance_mm=np.array([10.0]), factor=np.ones((2, 1))),
)

TRIGGERS: list[tuple[str, str, dict[str, Any]]] = [
    ("canal-over-limit", "fail", {"wall": cases.canal(9.0)}),
    ("canal-margin", "warn", {"depth_mm": 12.95}),
    ("dwell-time-unusual", "warn", {"depth_mm": 5.0}),
    ("dwell-time-unusual", "warn", {"depth_mm": 19.0, "limit_gy": 50.0}),
    ("surface-dose-outside-table", "warn", {}),
    ("polar-anisotropy", "warn", {"table": HALF_POLAR}),
    ("table-not-clinical", "warn", {"table": cases.TABLE}),
    ("table-not-clinical", "warn", {"applicator": cases.APPLICATOR}),
    ("dose-in-tissue", "warn", {"tissue": cases.tissue(clinical=False)}),
    ("dose-in-tissue", "warn", {"tissue": cases.tissue(metal=30)}),
    ("dose-in-tissue", "warn", {"tissue": cases.tissue(percent=5.5)}),
    ("table-applicator", "warn", {"table": dataclasses.replace(CLINICAL, applicator="balloon 40 mm")}),
    ("table-range", "warn", {"depth_mm": 4.0}),
    ("table-range", "warn", {"wall": cases.canal(31.0)}),
    ("table-not-accepted", "fail", {"acceptance": None}),
    ("table-not-accepted", "fail", {"acceptance": AcceptanceStatus(state="never")}),
    ("table-not-accepted", "fail", {"acceptance": AcceptanceStatus(state="unreadable", notes=("it was changed",))}),
    ("table-not-accepted", "fail", {"acceptance": dataclasses.replace(ACCEPTED, state="changed")}),
    ("table-not-accepted", "fail", {"acceptance": dataclasses.replace(ACCEPTED, state="expired")}),
    ("table-not-accepted", "fail", {"acceptance": cases.accepted(CLINICAL, sha256="f" * 64)}),
    ("table-not-accepted", "warn", {"acceptance": dataclasses.replace(ACCEPTED, later=ACCEPTED.acceptance)}),
    ("table-not-accepted", "warn", {"acceptance": dataclasses.replace(ACCEPTED, notes=("line 3: cut off",))}),
    ("output-of-the-day", "warn", {"output": None}),
    ("output-of-the-day", "warn", {"output": cases.output(1.051)}),
    ("output-of-the-day", "warn", {"output": cases.output(0.949)}),
    ("output-of-the-day", "fail", {"output": cases.output(1.101)}),
    ("output-of-the-day", "fail", {"output": cases.output(0.899)}),
    ("output-of-the-day", "warn", {"output": cases.output(days_ago=1)}),
    ("output-of-the-day", "warn", {"output": cases.output(days_ago=7)}),
    ("output-of-the-day", "fail", {"output": cases.output(days_ago=8)}),
    ("output-of-the-day", "warn", {"output": cases.output(days_ago=2), "table": MEASURED_YESTERDAY}),
    ("needle-confidence", "warn", {"at": cases.needle(**low())}),
    ("needle-confidence", "fail", {"at": cases.needle(**low(tip_uncertainty_mm=1.6))}),
    ("cannula-over-source", "fail", {"at": cases.needle(**low(cannula_over_source=True))}),
    ("cannula-over-source", "fail", {"at": cases.needle(**low(cannula_over_source=True, end_reasons=("unsure",)))}),
    ("cannula-over-source", "warn", {"at": cases.needle(**low(**cannula_at(4.5)))}),
    ("cannula-over-source", "warn", {"at": cases.needle(**cannula_at(5.6))}),
    ("cannula-over-source", "fail", {"at": cases.needle(**low(cannula_over_source=True, **cannula_at(3.9)))}),
    ("cannula-over-source", "warn", {"at": cases.needle(**low(end_reasons=("the cannula hides the metal's end",)))}),
    ("needle-bent", "warn", {"at": cases.needle(bending_mm=1.1)}),
    ("needle-bent", "warn", {"at": cases.needle(method="manual", bending_mm=None)}),
    ("cannula-over-source", "warn", {"at": cases.needle(method="manual", bending_mm=None)}),
    ("needle-bent", "fail", {"at": cases.needle(bending_mm=3.1)}),
    ("canal-confidence", "warn", {"wall": cases.canal(13.0, **low())}),
    ("canal-confidence", "fail", {"wall": cases.canal(13.0, **low(uncertainty_mm=2.1))}),
    ("shaft-clearance", "warn", {"wall": cases.canal(3.1), "depth_mm": 3.05}),
    ("frame-unverified", "warn", {"canal_file": LABEL_MAP}),
    ("canal-file", "warn", {"canal_file": dataclasses.replace(LABEL_MAP, notes=("12.0 % of it lies outside",))}),
    ("canal-automatic", "warn", {"automatic": Automatic(distance_mm=15.1, sure=True)}),
    ("canal-automatic", "warn", {"automatic": Automatic(distance_mm=9.0, sure=False)}),
    ("canal-automatic", "fail", {"automatic": Automatic(distance_mm=9.0, sure=True)}),
    ("canal-automatic", "fail", {"automatic": Automatic(distance_mm=-0.5, sure=False)}),
    ("canal-file", "warn", {"canal_file": dataclasses.replace(LABEL_MAP, structure="3 SpinalCord")}),
    ("canal-corrected", "warn", {"correction": cases.correction()}),
    ("cord-file", "warn", {"cord": cases.cord(notes=("12.0 % of it lies outside",))}),
    ("cord-outside-canal", "warn", {"cord": cases.cord(12.9)}),
    ("frame-unverified", "warn", {"cord": cases.cord(frame_verified=False)}),
    ("hu-not-calibrated", "warn", {"scan": cases.image(hu_calibrated=False)}),
    ("scan-coarse", "warn", {"scan": cases.image(spacing_mm=1.3)}),
    ("scan-coarse", "fail", {"scan": cases.image(spacing_mm=3.1)}),
    ("scan-older-than-a-day", "warn", {"scan": cases.image(acquired_at="2026-11-21T09:00:00+00:00")}),
    ("scan-older-than-a-day", "warn", {"scan": cases.image(acquired_at="2026-12-24T09:00:00+00:00")}),
    ("scan-older-than-a-day", "warn", {"scan": cases.image(acquired_at=None)}),
    ("patient-position-unknown", "warn", {"scan": cases.image(patient_position="")}),
    ("isodose-leaves-image", "warn", {"scan": cases.image(size=21)}),
]


@pytest.mark.parametrize(("check_id", "expected", "changes"), TRIGGERS)
def test_each_check_is_triggered_by_its_cause_and_counts_in_the_verdict(
    check_id: str, expected: str, changes: dict[str, Any]
) -> None:
    plan = good(**changes)

    assert status(plan, check_id) == expected
    assert plan.verdict == "fail" if expected == "fail" else plan.verdict in ("warn", "fail")


def test_when_all_is_well_only_the_unknown_surface_dose_warns() -> None:
    plan = good()

    assert [check.id for check in plan.checks if check.status != "pass"] == ["surface-dose-outside-table"]
    assert plan.verdict == "warn"


def message_of(plan: Plan, check_id: str) -> str:
    return next(check.message for check in plan.checks if check.id == check_id)


def test_an_acceptance_says_by_whom_when_and_until_when() -> None:
    until = good(acceptance=cases.accepted(CLINICAL, until=cases.NOW.date()))
    changed = good(acceptance=dataclasses.replace(cases.accepted(CLINICAL, sha256="f" * 64), state="changed"))

    assert "accepted by A. Physicist on 2026-10-23, until 2026-11-22" in message_of(until, "table-not-accepted")
    assert "by A. Physicist on 2026-10-23, without an end" in message_of(good(), "table-not-accepted")
    assert "changed since it was accepted by A. Physicist on 2026-10-23" in message_of(changed, "table-not-accepted")
    assert "qa accept reference-needle-50kv.csv" in message_of(changed, "table-not-accepted")


def test_of_a_table_that_is_not_clinical_neither_acceptance_nor_output_is_asked() -> None:
    plan = cases.plan()

    assert status(plan, "table-not-accepted") == status(plan, "output-of-the-day") == "pass"
    assert "not clinical, no acceptance asked" in message_of(plan, "table-not-accepted")
    assert plan.source.acceptance is None


def test_an_acceptance_of_a_clinical_table_is_asked_with_any_applicator() -> None:
    assert status(good(acceptance=None, applicator=cases.APPLICATOR), "table-not-accepted") == "fail"


def test_an_output_at_its_limits_passes_and_says_how_far_off_it_is() -> None:
    for ratio, words in ((1.05, "+5.0 % against the table"), (0.95, "-5.0 % against the table")):
        plan = good(output=cases.output(ratio))
        assert status(plan, "output-of-the-day") == "pass"
        assert words in message_of(plan, "output-of-the-day")
    assert status(good(output=cases.output(1.10)), "output-of-the-day") == "warn"
    assert status(good(output=cases.output(0.90)), "output-of-the-day") == "warn"


def test_it_is_the_corrected_output_that_is_judged() -> None:
    """At 950 hPa and 20 °C a chamber reads 6.2 % less at the same output."""
    reading = OutputOfDay(ratio=950.0 / 1013.25, date=cases.NOW.date(), temperature_c=20.0, pressure_hpa=950.0)

    assert (
        status(good(output=dataclasses.replace(reading, temperature_c=None, pressure_hpa=None)), "output-of-the-day")
        == "warn"
    )
    assert status(good(output=reading), "output-of-the-day") == "pass"
    assert "+0.0 %" in message_of(good(output=reading), "output-of-the-day")


def test_the_surface_dose_is_told_when_the_table_reaches_it() -> None:
    thick = dataclasses.replace(
        CLINICAL_APPLICATOR, outer_diameter_mm=7.0, cannula_inner_diameter_mm=7.0, cannula_outer_diameter_mm=8.0
    )
    plan = good(applicator=thick)

    assert status(plan, "surface-dose-outside-table") == "pass"
    assert plan.verdict == "pass"
    rate = float(CLINICAL.dose_rate_at(Quantity(3.5, "mm")).to("Gy/s").magnitude)
    assert plan.result.applicator_surface_gy == pytest.approx(rate * plan.result.dwell_time_s)


def test_findings_on_the_scans_files_are_carried_into_the_plan_once() -> None:
    found = Problem(id="padding-above-air", status="warn", message="padding of 0 lies above air")
    coarse = Problem(id="scan-coarse", status="warn", message="said by the loader as well")
    plan = good(scan=cases.image(spacing_mm=1.3, problems=(found, coarse)))

    assert status(plan, "padding-above-air") == "warn"
    assert status(plan, "scan-coarse") == "warn"


def test_a_cord_behind_the_canals_wall_and_a_canal_named_so_pass() -> None:
    named = dataclasses.replace(LABEL_MAP, structure="4 SpinalCordCanal")
    plan = good(cord=cases.cord(13.1), canal_file=named)

    assert [status(plan, check_id) for check_id in ("cord-outside-canal", "cord-file", "canal-file")] == ["pass"] * 3


def test_steel_over_plastic_says_by_how_much_and_a_cannula_that_stands_back_passes() -> None:
    over = good(at=cases.needle(**cannula_at(4.5)))
    message = next(check.message for check in over.checks if check.id == "cannula-over-source")

    assert "1.5 mm over the plastic tip, 1.5 mm short of the source centre" in message
    assert status(good(at=cases.needle(**cannula_at(6.2))), "cannula-over-source") == "pass"


def test_a_dose_equal_to_the_limit_is_not_over_it() -> None:
    assert status(cases.plan(), "canal-over-limit") == "pass"
    assert status(cases.plan(depth_mm=12.0), "canal-over-limit") == "pass"  # 8 Gy at the canal itself
    assert status(cases.plan(depth_mm=12.0 + 1e-6), "canal-over-limit") == "fail"


def test_every_check_in_a_plan_is_documented_and_every_documented_one_exists() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "checks.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([a-z-]+)` \|", text, flags=re.MULTILINE))
    triggered = {check_id for check_id, _, _ in TRIGGERS} | {"second-check", "no-renderer"}
    given = good(
        canal_file=LABEL_MAP,
        automatic=Automatic(distance_mm=None, sure=False),
        correction=cases.correction(),
        cord=cases.cord(),
        tissue=cases.tissue(),
    )
    in_plan = {check.id for check in given.checks} | {"no-renderer"}

    assert in_plan == documented
    assert triggered == documented
