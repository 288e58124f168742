"""The second check: agrees on clean tables, sees what is planted in the first route, and never passes what is no number."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iort_planner.applicator import DepthReference
from iort_planner.errors import InputError
from iort_planner.geometry.distance import CanalDistances, Segment
from iort_planner.planning import doses, make, output_of_day
from iort_planner.planning.plan import Check, Plan, PlanSecondCheck
from iort_planner.planning.recompute import radius_mm, rate_gy_per_min
from iort_planner.planning.second_check import SecondCheckLimits, second_check
from iort_planner.source.depth_dose import DepthDoseTable
from iort_planner.units import AnyQuantity, Quantity
from tests import planning_cases as cases

Rows = list[tuple[float, float]]


def rows_of(table: DepthDoseTable) -> Rows:
    return list(zip(table.distance_mm.tolist(), table.dose_rate_gy_per_min.tolist(), strict=True))


ROWS = rows_of(cases.TABLE)
# Where needle, depth, output and cord all take part; the canal gets less than its limit.
SITUATIONS: list[dict[str, Any]] = [
    {},
    {"depth_mm": 11.0, "wall": cases.canal(13.0)},
    {"depth_mm": 10.0, "depth_from": DepthReference.TIP, "wall": cases.canal(15.0), "output": cases.output(1.08)},
    {"depth_mm": 9.0, "depth_from": DepthReference.SURFACE, "wall": cases.canal(15.0), "cord": cases.cord()},
    {"limit_gy": 5.0, "wall": cases.canal(9.3), "output": cases.output(0.93)},
]


def checked(plan: Plan, **changes: Any) -> Check:
    return second_check(dataclasses.replace(plan, **changes), ROWS)[1]


def result_with(plan: Plan, **changes: Any) -> dict[str, Any]:
    return {"result": dataclasses.replace(plan.result, **changes)}


def of(plan: Plan) -> Check:
    return next(check for check in plan.checks if check.id == "second-check")


# --- clean tables -----------------------------------------------------------------------------------------------------


def curve(name: str, r: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Dose rates by closed form: powers, and exponentials over r² with a decay length in mm."""
    if name.startswith("r^-"):
        return 500.0 * r ** -float(name[3:])
    length = float(name[4:])
    return np.asarray(3000.0 * np.exp(-r / length) / r**2)


@pytest.mark.parametrize("step_mm", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", ["r^-2", "r^-3", "exp 2", "exp 7", "exp 48"])
def test_clean_tables_agree_within_half_a_percent_strongly_curved_ones_and_2_mm_rows_too(
    name: str, step_mm: float
) -> None:
    r = np.arange(3.0, 50.0 + 1e-9, step_mm)
    table = dataclasses.replace(
        cases.TABLE,
        distance_mm=r,
        dose_rate_gy_per_min=curve(name, r),
        uncertainty_percent=np.full(r.shape, 2.0),
        trusted_range_mm=(5.0, float(r[-1])),
    )
    rows = rows_of(table)
    for at in np.linspace(3.0, r[-1], 500):
        first = float(table.dose_rate_at(Quantity(float(at), "mm")).to("Gy/min").magnitude)
        assert rate_gy_per_min(rows, float(at)) == pytest.approx(first, rel=0.005)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_clean_plan_agrees_within_half_a_percent_in_every_number(situation: dict[str, Any]) -> None:
    plan = cases.plan(**situation)

    assert of(plan).status == "pass"
    differences = plan.second_check.differences_percent
    assert max(value for value in differences.values() if value is not None) <= 0.5
    assert None not in differences.values()
    assert plan.second_check.largest[0] in of(plan).message
    expected = {"dwell time", "largest safe time", "canal dose", "canal from source centre", "radius of 8 Gy"}
    assert expected <= set(differences)
    assert ("output of the day" in differences) == ("output" in situation)
    assert ("cord dose" in differences) == ("cord" in situation)


@given(st.floats(3.0, 50.0))
def test_radius_and_rate_are_inverse(distance_mm: float) -> None:
    again = radius_mm(ROWS, rate_gy_per_min(ROWS, distance_mm))

    assert again == pytest.approx(distance_mm, rel=1e-12)


def test_outside_the_rows_there_is_neither_rate_nor_radius() -> None:
    assert all(math.isnan(rate_gy_per_min(ROWS, r)) for r in (2.99, 50.01, math.nan))
    assert [radius_mm(ROWS, rate) for rate in (93.21, 0.0476, math.nan)] == [None] * 3
    assert (radius_mm(ROWS, 93.2), radius_mm(ROWS, 0.04765)) == (3.0, 50.0)


@given(
    st.floats(3.5, 45.0),
    st.floats(0.1, 50.0),
    st.floats(0.1, 50.0),
    st.one_of(st.none(), st.floats(3.0, 50.0)),
    st.floats(0.5, 2.0),
)
def test_no_false_alarm_on_clean_plans(
    canal_mm: float, dose_gy: float, limit_gy: float, depth_mm: float | None, ratio: float
) -> None:
    plan = cases.plan(
        wall=cases.canal(canal_mm),
        dose_gy=dose_gy,
        limit_gy=limit_gy,
        depth_mm=depth_mm,
        output=cases.output(ratio),
        scan=IMAGE,
    )

    assert of(plan).status == "pass"


IMAGE = cases.image(size=21)  # small: its hash is the slow part


# --- planted errors ---------------------------------------------------------------------------------------------------


def of_doses(name: str) -> Callable[..., Any]:
    """A function of the first route, by the name under which `doses` calls it."""
    function: Callable[..., Any] = getattr(doses, name)
    return function


def scaled_time(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dwell_time", "time_for"):
        right = of_doses(name)
        monkeypatch.setattr(doses, name, lambda *args, right=right: right(*args) * factor)


def scaled_rate(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    right = DepthDoseTable.dose_rate_at

    def wrong(self: DepthDoseTable, distance: AnyQuantity) -> AnyQuantity:
        return Quantity(right(self, distance).to("Gy/min").magnitude * factor, "Gy/min")

    monkeypatch.setattr(DepthDoseTable, "dose_rate_at", wrong)


def scaled_output(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    right = output_of_day.table_of_the_day
    monkeypatch.setattr(
        make,
        "table_of_the_day",
        lambda table, output: right(
            dataclasses.replace(table, dose_rate_gy_per_min=factor * table.dose_rate_gy_per_min), output
        ),
    )


def scaled_correction(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    right = output_of_day.air_density_correction
    monkeypatch.setattr(output_of_day, "air_density_correction", lambda t, p: right(t, p) * factor)


def scaled_dose(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    right = of_doses("dose_in")
    monkeypatch.setattr(doses, "dose_in", lambda *args: right(*args) * factor)


def scaled_distance(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    right: Callable[..., Any] = make.canal_distances  # type: ignore[attr-defined]  # as `make` calls it

    def wrong(*args: Any) -> CanalDistances:
        distances: CanalDistances = right(*args)
        source = distances.source
        longer = Segment(
            from_lps_mm=source.from_lps_mm, to_lps_mm=source.to_lps_mm, length_mm=source.length_mm * factor
        )
        return dataclasses.replace(distances, source=longer)

    monkeypatch.setattr(make, "canal_distances", wrong)


def scaled_depth(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    right = type(cases.APPLICATOR).depth_from_source_mm
    monkeypatch.setattr(type(cases.APPLICATOR), "depth_from_source_mm", lambda self, *args: right(self, *args) * factor)


def scaled_radius(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    right = of_doses("isodose_radius")

    def wrong(*args: Any) -> AnyQuantity | None:
        radius = right(*args)
        return None if radius is None else radius * factor

    monkeypatch.setattr(doses, "isodose_radius", wrong)


PLACES: list[Callable[[float, pytest.MonkeyPatch], None]] = [
    scaled_time,
    scaled_rate,
    scaled_output,
    scaled_correction,
    scaled_dose,
    scaled_radius,
]
CORRECTED = output_of_day.OutputOfDay(ratio=0.95, date=cases.NOW.date(), temperature_c=24.0, pressure_hpa=980.0)


@pytest.mark.parametrize(("percent", "expected"), [(4.0, "warn"), (-4.0, "warn"), (6.0, "fail"), (-6.0, "fail")])
@pytest.mark.parametrize("plant", PLACES)
@pytest.mark.parametrize("depth_mm", [None, 11.0])
def test_an_error_of_4_percent_in_the_first_route_warns_and_one_of_6_fails(
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[float, pytest.MonkeyPatch], None],
    percent: float,
    expected: str,
    depth_mm: float | None,
) -> None:
    situation: dict[str, Any] = {"depth_mm": depth_mm, "wall": cases.canal(13.0), "output": CORRECTED, "scan": IMAGE}
    clean = cases.plan(**situation)
    with monkeypatch.context() as patched:
        plant(1.0 + percent / 100.0, patched)
        wrong = cases.plan(**situation)

    assert (of(clean).status, of(wrong).status) == ("pass", expected)
    assert wrong.verdict == ("fail" if expected == "fail" else wrong.verdict)


@pytest.mark.parametrize(("dose_percent", "expected"), [(4.0, "warn"), (6.0, "fail")])
@pytest.mark.parametrize("plant", [scaled_distance, scaled_depth])
def test_an_error_in_a_distance_counts_by_the_dose_it_makes(
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[float, pytest.MonkeyPatch], None],
    dose_percent: float,
    expected: str,
) -> None:
    exponent = cases.TABLE.local_exponent(Quantity(12.0, "mm"))
    plant((1.0 + dose_percent / 100.0) ** (1.0 / exponent), monkeypatch)
    plan = cases.plan(depth_mm=12.0, wall=cases.canal(12.0), scan=IMAGE)

    assert of(plan).status == expected


def test_a_distance_4_percent_too_long_is_over_10_percent_of_dose_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    scaled_distance(1.04, monkeypatch)

    assert of(cases.plan(scan=IMAGE)).status == "fail"


@pytest.mark.parametrize(
    "field", ["canal_max_gy", "canal_max_gy_rbe", "max_safe_dwell_time_s", "nearest_table_dose_gy"]
)
@pytest.mark.parametrize(("percent", "expected"), [(2.5, "pass"), (4.0, "warn"), (6.0, "fail")])
def test_a_number_that_was_changed_afterwards_is_seen(field: str, percent: float, expected: str) -> None:
    plan = cases.plan(depth_mm=11.0, wall=cases.canal(13.0))
    changed = getattr(plan.result, field) * (1.0 + percent / 100.0)

    assert checked(plan, **result_with(plan, **{field: changed})).status == expected


def test_a_dwell_that_is_not_the_results_time_is_seen() -> None:
    plan = cases.plan()
    dwell = dataclasses.replace(plan.dwells[0], time_s=plan.dwells[0].time_s * 1.06)

    assert checked(plan, dwells=(dwell,)).status == "fail"


def test_a_source_that_does_not_fit_the_applicator_is_seen() -> None:
    plan = cases.plan()
    x, y, z = plan.dwells[0].source_lps_mm
    check = checked(plan, dwells=(dataclasses.replace(plan.dwells[0], source_lps_mm=(x, y + 0.5, z)),))

    assert (check.status, "0.50 mm" in check.message) == ("fail", True)


def test_a_point_by_hand_nearer_than_the_stored_nearest_one_is_seen() -> None:
    plan = cases.plan()
    x, y, z = plan.canal.nearest_point_lps_mm
    canal = dataclasses.replace(plan.canal, points_lps_mm=((x, y, z), (x, y, z - 1.0)))

    assert checked(plan, canal=canal).status == "fail"


def test_a_radius_that_only_one_of_the_two_can_state_is_seen() -> None:
    plan = cases.plan()
    radii = {**plan.result.isodose_radius_mm, "8": None}

    assert checked(plan, **result_with(plan, isodose_radius_mm=radii)).status == "fail"
    assert checked(plan, **result_with(plan, applicator_surface_gy=400.0)).status == "fail"


@pytest.mark.parametrize(("depth_mm", "longer"), [(3.0, 1.0 - 1e-8), (50.0, 1.0 + 1e-8)])
def test_a_radius_at_the_tables_very_end_is_no_alarm_for_rounding(depth_mm: float, longer: float) -> None:
    """The time is off in its eighth digit, so that one route has the radius just inside, the other just outside."""
    plan = cases.plan(depth_mm=depth_mm, wall=cases.canal(13.0))
    dwell = dataclasses.replace(plan.dwells[0], time_s=plan.dwells[0].time_s / longer)
    radii = {**plan.result.isodose_radius_mm}

    assert checked(plan, dwells=(dwell,)).status == "pass"
    assert radii["8"] is not None
    assert checked(plan, **result_with(plan, isodose_radius_mm={**radii, "8": None})).status == "pass"


# --- what is no number ------------------------------------------------------------------------------------------------

WHOLE = cases.plan(
    depth_mm=9.0, depth_from=DepthReference.SURFACE, wall=cases.canal(15.0), cord=cases.cord(), output=CORRECTED
)
# Numbers that the second check looks at, as ways into the plan; points and axes may be negative, of course.
SIZES: list[tuple[Any, ...]] = [
    ("prescription", "dose_gy"),
    ("prescription", "dose_gy_rbe"),
    ("prescription", "limit_gy"),
    ("prescription", "limit_gy_rbe"),
    ("prescription", "rbe"),
    ("prescription", "depth_mm"),
    ("prescription", "depth_from_source_mm"),
    ("source", "outer_diameter_mm"),
    ("source", "tip_to_source_mm"),
    ("source", "output", "ratio"),
    ("source", "output", "pressure_hpa"),
    ("source", "output", "corrected_ratio"),
    ("canal", "distance_from_source_mm"),
    ("canal", "distance_from_tip_mm"),
    ("cord", "distance_from_source_mm"),
    ("cord", "max_dose_gy"),
    ("cord", "max_dose_gy_rbe"),
    ("dwells", 0, "time_s"),
    ("result", "dwell_time_s"),
    ("result", "max_safe_dwell_time_s"),
    ("result", "canal_max_gy"),
    ("result", "canal_max_gy_rbe"),
    ("result", "nearest_table_radius_mm"),
    ("result", "nearest_table_dose_gy"),
    ("result", "isodose_radius_mm", "8"),
    ("result", "isodose_radius_mm", "4"),
    ("result", "engines", "water", "canal_max_gy"),
    ("result", "engines", "water", "dwell_time_for_limit_s"),
    ("result", "engines", "water", "dose_at_prescription_gy"),
]
POINTS: list[tuple[Any, ...]] = [
    *(("needles", 0, name, i) for name in ("tip_lps_mm", "axis_lps") for i in range(3)),
    *(("dwells", 0, "source_lps_mm", i) for i in range(3)),
    *(("canal", "nearest_point_lps_mm", i) for i in range(3)),
    *(("canal", "segments", "tip", "to_lps_mm", i) for i in range(3)),
    *(("cord", "nearest_point_lps_mm", i) for i in range(3)),
    ("source", "output", "temperature_c"),
]


def changed_at(value: Any, way: tuple[Any, ...], new: float) -> Any:
    """``value`` with the number at the end of ``way`` replaced."""
    if not way:
        return new
    if isinstance(way[0], int):
        return tuple(changed_at(each, way[1:], new) if i == way[0] else each for i, each in enumerate(value))
    if isinstance(value, dict):
        return {**value, way[0]: changed_at(value[way[0]], way[1:], new)}
    return dataclasses.replace(value, **{way[0]: changed_at(getattr(value, way[0]), way[1:], new)})


@given(
    st.sampled_from(SIZES), st.one_of(st.sampled_from([math.nan, math.inf, -math.inf, 0.0]), st.floats(max_value=0.0))
)
def test_a_size_that_is_no_number_above_0_fails_wherever_it_stands(way: tuple[Any, ...], value: float) -> None:
    plan: Plan = changed_at(WHOLE, way, value)

    assert second_check(WHOLE, ROWS)[1].status == "pass"
    assert second_check(plan, ROWS)[1].status == "fail"


@given(st.sampled_from(POINTS), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_point_that_is_no_number_fails_wherever_it_stands(way: tuple[Any, ...], value: float) -> None:
    plan: Plan = changed_at(WHOLE, way, value)
    found, check = second_check(plan, ROWS)

    assert check.status == "fail"
    assert all(percent is None or math.isfinite(percent) for percent in found.differences_percent.values())


@given(
    st.integers(0, len(ROWS) - 1),
    st.integers(0, 1),
    st.one_of(st.sampled_from([math.nan, math.inf, -math.inf, 0.0]), st.floats(max_value=0.0)),
)
def test_a_row_that_is_no_number_above_0_fails(row: int, column: int, value: float) -> None:
    rows = [list(each) for each in ROWS]
    rows[row][column] = value

    assert second_check(WHOLE, [(r, rate) for r, rate in rows])[1].status == "fail"


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS[::-1], [*ROWS[:5], *ROWS[4:]], ROWS[8:]])
def test_rows_that_are_none_or_out_of_order_or_end_before_the_canal_fail(rows: Rows) -> None:
    found, check = second_check(cases.plan(), rows)

    assert check.status == "fail"
    assert isinstance(found, PlanSecondCheck)
    assert found.text


# --- limits -----------------------------------------------------------------------------------------------------------


def test_limits_can_be_made_stricter_and_are_stored() -> None:
    plan = cases.plan(depth_mm=11.0, wall=cases.canal(13.0))
    wrong = dataclasses.replace(plan, **result_with(plan, canal_max_gy=1.02 * plan.result.canal_max_gy))
    strict = SecondCheckLimits(warn_percent=0.6, fail_percent=1.5)

    assert second_check(wrong, ROWS)[1].status == "pass"
    found, check = second_check(wrong, ROWS, strict)
    assert (check.status, found.warn_percent, found.fail_percent) == ("fail", 0.6, 1.5)
    assert "fails above 1.5 %" in check.message
    stored = cases.plan(second_check_limits=strict)
    assert (stored.second_check.warn_percent, of(stored).status) == (0.6, "pass")


@pytest.mark.parametrize(
    ("given_limits", "words"),
    [
        ({"warn_percent": 3.01}, "--second-check-warn 3.01 % must lie above 0 and up to 3 %"),
        ({"fail_percent": 5.5}, "--second-check-fail 5.5 % must lie above 0 and up to 5 %"),
        ({"warn_percent": 0.0}, "--second-check-warn 0 %"),
        ({"fail_percent": -1.0}, "--second-check-fail -1 %"),
        ({"warn_percent": math.nan}, "--second-check-warn nan %"),
        ({"fail_percent": 2.0}, "--second-check-warn 3 % lies above --second-check-fail 2 %"),
    ],
)
def test_looser_limits_are_refused_with_their_origin(given_limits: dict[str, float], words: str) -> None:
    with pytest.raises(InputError) as caught:
        SecondCheckLimits(**given_limits)
    assert str(caught.value).startswith(words)
