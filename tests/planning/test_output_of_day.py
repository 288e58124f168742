"""The output of the day: the correction for air density against its closed form, and where the output enters a plan."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iort_planner.applicator import read_applicator
from iort_planner.errors import InputError
from iort_planner.planning.output_of_day import OutputOfDay, air_density_correction, table_of_the_day
from iort_planner.units import Quantity
from tests import planning_cases as cases

TODAY = cases.NOW.date()


def correction(celsius: float, hpa: float) -> float:
    return air_density_correction(Quantity(celsius, "degC"), Quantity(hpa, "hPa"))


def test_the_correction_is_one_at_its_reference_and_follows_the_ideal_gas() -> None:
    assert correction(20.0, 1013.25) == pytest.approx(1.0, abs=1e-15)
    # by hand: 295.15/293.15 * 1013.25/1000 = 1.0068224 * 1.01325
    assert correction(22.0, 1000.0) == pytest.approx(1.0201629, abs=1e-7)
    assert correction(20.0, 506.625 * 2.0) == pytest.approx(1.0)


@given(st.floats(10.0, 40.0), st.floats(600.0, 1100.0))
def test_warm_or_thin_air_reads_low_and_is_corrected_upwards(celsius: float, hpa: float) -> None:
    assert correction(celsius, hpa) == pytest.approx(correction(20.0, hpa) * correction(celsius, 1013.25), rel=1e-12)
    assert (correction(celsius, 1013.25) > 1.0) == (celsius > 20.0) or celsius == pytest.approx(20.0)


def test_other_units_give_the_same_correction_and_bare_numbers_are_refused() -> None:
    in_kelvin = air_density_correction(Quantity(295.15, "K"), Quantity(100.0, "kPa"))

    assert in_kelvin == pytest.approx(correction(22.0, 1000.0), rel=1e-12)
    with pytest.raises(TypeError, match="temperature needs a unit"):
        air_density_correction(22.0, Quantity(1000.0, "hPa"))  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"ratio": 98.0},
            "--output-measured 98 is outside 0.5 to 2: give the ratio to reference, 1.00 = as in the table",
        ),
        ({"ratio": 0.49}, "--output-measured 0.49"),
        ({"ratio": -1.0}, "--output-measured -1"),
        ({"ratio": math.nan}, "--output-measured nan"),
        ({"ratio": math.inf}, "--output-measured inf"),
        (
            {"ratio": 1.9, "temperature_c": 20.0, "pressure_hpa": 700.0},
            "--output-measured 2.75025 after its correction",
        ),
        ({"temperature_c": 20.0}, "--output-temperature and --output-pressure belong together"),
        ({"pressure_hpa": 1000.0}, "--output-temperature and --output-pressure belong together"),
        ({"temperature_c": 293.15, "pressure_hpa": 1000.0}, "--output-temperature 293.15 °C is outside 10 to 40 °C"),
        ({"temperature_c": 20.0, "pressure_hpa": 101.3}, "--output-pressure 101.3 hPa is outside 600 to 1100 hPa"),
        ({"temperature_c": 20.0, "pressure_hpa": math.nan}, "--output-pressure nan hPa"),
    ],
)
def test_an_impossible_output_cannot_exist(fields: dict[str, float], words: str) -> None:
    with pytest.raises(InputError) as caught:
        OutputOfDay(**{"ratio": 1.0, "date": TODAY, **fields})  # type: ignore[arg-type]  # the day and floats
    assert str(caught.value).startswith(words)


def test_an_output_of_tomorrow_is_refused() -> None:
    with pytest.raises(InputError, match=r"--output-date 2026-11-23 lies in the future \(today is 2026-11-22\)"):
        cases.plan(output=cases.output(days_ago=-1))
    assert cases.plan(output=cases.output()).source.output is not None


@given(st.floats(0.5, 2.0))
def test_the_table_of_the_day_is_the_table_times_the_output_everywhere(ratio: float) -> None:
    scaled = table_of_the_day(cases.TABLE, cases.output(ratio))
    r = np.linspace(3.0, 50.0, 100)

    np.testing.assert_allclose(scaled.rate_gy_per_min(r), ratio * cases.TABLE.rate_gy_per_min(r), rtol=1e-12)
    assert scaled.sha256 == cases.TABLE.sha256
    assert table_of_the_day(cases.TABLE, None) is cases.TABLE


@pytest.mark.parametrize("ratio", [0.9, 1.07])
@pytest.mark.parametrize("depth_mm", [None, 11.0])
def test_the_output_enters_the_time_and_leaves_what_is_reached_as_it_was(ratio: float, depth_mm: float | None) -> None:
    """A source that gives more is on for less: same doses and radii, time divided by the output."""
    before = cases.plan(depth_mm=depth_mm, wall=cases.canal(13.0), cord=cases.cord())
    after = cases.plan(depth_mm=depth_mm, wall=cases.canal(13.0), cord=cases.cord(), output=cases.output(ratio))

    for name in ("dwell_time_s", "max_safe_dwell_time_s"):
        assert getattr(after.result, name) == pytest.approx(getattr(before.result, name) / ratio, rel=1e-12)
    for name in ("canal_max_gy", "canal_max_gy_rbe", "nearest_table_dose_gy"):
        assert getattr(after.result, name) == pytest.approx(getattr(before.result, name), rel=1e-12)
    assert after.result.isodose_radius_mm == pytest.approx(before.result.isodose_radius_mm, rel=1e-9)
    assert after.cord is not None
    assert before.cord is not None
    assert after.cord.max_dose_gy == pytest.approx(before.cord.max_dose_gy, rel=1e-12)
    # a measured output is surer than one that nobody looked at
    assert (before.result.uncertainty.output_percent, after.result.uncertainty.output_percent) == (5.0, 2.0)
    assert after.result.uncertainty.canal_dose_percent < before.result.uncertainty.canal_dose_percent


def test_surface_dose_too_is_that_of_the_day() -> None:
    thick = dataclasses.replace(
        read_applicator(), outer_diameter_mm=7.0, cannula_inner_diameter_mm=7.0, cannula_outer_diameter_mm=8.0
    )
    plan = cases.plan(depth_mm=8.0, applicator=thick, output=cases.output(1.1))
    rate = float(cases.TABLE.dose_rate_at(Quantity(3.5, "mm")).to("Gy/s").magnitude)

    assert plan.result.applicator_surface_gy == pytest.approx(1.1 * rate * plan.result.dwell_time_s, rel=1e-12)


def test_the_plan_keeps_reading_air_and_corrected_output() -> None:
    given = OutputOfDay(ratio=0.95, date=TODAY - dt.timedelta(days=1), temperature_c=24.0, pressure_hpa=980.0)
    stored = cases.plan(output=given).source.output

    assert stored is not None
    assert (stored.ratio, stored.date, stored.temperature_c, stored.pressure_hpa) == (0.95, "2026-11-21", 24.0, 980.0)
    assert stored.corrected_ratio == pytest.approx(0.95 * 297.15 / 293.15 * 1013.25 / 980.0, rel=1e-12)
    assert "0.996 of the table, measured on 2026-11-21 (reading 0.950, air density at 24 °C and 980 hPa)" in stored.text
