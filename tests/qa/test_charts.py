"""Control limits against the NIST handbook's example; drift and step on histories whose cause is known."""

from __future__ import annotations

import numpy as np
import pytest

from iort_planner.qa.charts import control_chart
from iort_planner.units import FloatArray


def days(count: int) -> FloatArray:
    return 10.0 * np.arange(count, dtype=np.float64)


def scatter(seed: int, count: int, percent: float = 0.4) -> FloatArray:
    values: FloatArray = np.random.default_rng(seed).normal(0.0, percent, count)
    return values


# NIST/SEMATECH e-Handbook of Statistical Methods, 6.3.2.2: flow rates of ten batches, centre 50.81, limits 45.8159, 55.8041
def test_limits_are_those_of_the_nist_handbook() -> None:
    chart = control_chart(days(10), np.array([49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1]))

    assert chart.centre == pytest.approx(50.81, abs=1e-9)
    assert chart.lower == pytest.approx(45.8159, abs=1e-4)
    assert chart.upper == pytest.approx(55.8041, abs=1e-4)
    assert chart.beyond == ()


def test_few_values_have_no_limits() -> None:
    chart = control_chart(days(7), scatter(1, 7))

    assert (chart.lower, chart.upper, chart.beyond) == (None, None, ())


def test_one_stray_value_is_beyond_and_does_not_widen_its_own_limits() -> None:
    value = scatter(4, 24)
    clean = control_chart(days(24), value)
    value[11] += 4.0
    chart = control_chart(days(24), value)

    assert chart.beyond == (11,)
    assert clean.lower is not None
    assert chart.lower is not None
    assert chart.centre - chart.lower == pytest.approx(clean.centre - clean.lower, rel=0.25)


@pytest.mark.parametrize("at", [6, 12, 18])
def test_a_step_is_told_from_a_drift_with_date_and_size(at: int) -> None:
    chart = control_chart(days(24), scatter(3, 24) + 1.5 * (np.arange(24) >= at))

    assert chart.change == "step"
    assert chart.step == pytest.approx(at, abs=1)
    assert chart.step_percent == pytest.approx(1.5, abs=0.45)


def test_a_drift_is_told_from_a_step_with_its_slope() -> None:
    years = days(60) / 365.25
    chart = control_chart(days(60), scatter(4, 60) + 2.0 * years)

    assert chart.change == "drift"
    assert chart.drift_percent_per_year is not None
    assert chart.drift_uncertainty_percent_per_year is not None
    assert abs(chart.drift_percent_per_year - 2.0) < 3.0 * chart.drift_uncertainty_percent_per_year


def test_steady_histories_show_a_change_in_about_2_of_100() -> None:
    changes = sum(control_chart(days(24), scatter(seed, 24)).change != "none" for seed in range(400))

    assert changes <= 16


def test_a_run_on_one_side_is_seen() -> None:
    value = np.where(np.arange(20) < 9, -0.3, 0.2) + scatter(5, 20, 0.02)

    assert control_chart(days(20), value).runs == ((0, 8), (9, 19))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_equal_values_have_no_change(count: int) -> None:
    chart = control_chart(days(count), np.full(count, 0.25))

    assert chart.change == "none"
    assert chart.beyond == ()
