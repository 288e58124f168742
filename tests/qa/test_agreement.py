"""Differences, gamma and distance to agreement on a power law, where each has a closed form, and against an oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest

from iort_planner.errors import InputError
from iort_planner.qa import CompareCriteria
from iort_planner.qa.agreement import distance_to_agreement_mm, gamma, local_difference_percent
from iort_planner.source.depth_dose import DepthDoseTable, Scale
from tests.qa.tables import power

R = np.arange(5.0, 31.0)


@pytest.fixture(scope="module")
def reference() -> DepthDoseTable:
    r = np.geomspace(2.0, 50.0, 60)
    return DepthDoseTable(
        name="power",
        distance_mm=r,
        dose_rate_gy_per_min=power(r),
        uncertainty_percent=np.full(r.size, 5.0),
        scale=Scale.V4,
        clinical=False,
        origin="closed form",
        trusted_range_mm=(5.0, 30.0),
    )


def test_a_shift_of_the_origin_is_its_own_distance_to_agreement(reference: DepthDoseTable) -> None:
    assert distance_to_agreement_mm(R, power(R + 0.3), reference) == pytest.approx(0.3, abs=1e-6)


def test_the_local_difference_of_a_power_law_is_closed(reference: DepthDoseTable) -> None:
    expected = 100.0 * ((1.0 + 0.3 / R) ** -2.65 - 1.0)

    assert local_difference_percent(R, power(R + 0.3), reference) == pytest.approx(expected, abs=1e-4)


def test_nothing_is_said_outside_the_reference(reference: DepthDoseTable) -> None:
    r = np.array([1.0, 8.0, 60.0])

    assert np.isnan(gamma(r, power(r), reference, CompareCriteria())).tolist() == [True, False, True]
    assert np.isnan(local_difference_percent(r, power(r), reference)).tolist() == [True, False, True]
    assert np.isnan(distance_to_agreement_mm(r, power(r), reference)).tolist() == [True, False, True]


def test_gamma_agrees_with_a_plain_search_along_the_curve(reference: DepthDoseTable) -> None:
    criteria = CompareCriteria(dose_percent=2.0, distance_mm=0.08)
    rate = power(R) * np.linspace(0.95, 1.06, R.size)
    found = gamma(R, rate, reference, criteria)
    for i in range(0, R.size, 5):
        here = 7.04 * (8.0 / R[i]) ** 2.65
        least = math.inf
        for step in range(-4000, 4001):
            moved = step / 4000 * 0.24
            there = 7.04 * (8.0 / (R[i] + moved)) ** 2.65
            least = min(least, math.hypot(100.0 * (rate[i] - there) / here / 2.0, moved / 0.08))
        assert found[i] == pytest.approx(least, abs=2e-3)


def test_in_a_steep_gradient_gamma_is_below_both_of_its_parts(reference: DepthDoseTable) -> None:
    index = float(gamma(np.array([8.0]), 1.03 * power(np.array([8.0])), reference, CompareCriteria())[0])
    # one over the distance from the origin to a straight line with intercepts 1 and 0.03/(2.65/8)/0.1
    across = 0.03 / (2.65 / 8.0) / 0.1

    assert index == pytest.approx(across / math.hypot(1.0, across), abs=0.01)


@pytest.mark.parametrize(
    "wrong",
    [
        {"dose_percent": 3.1},
        {"distance_mm": 0.3},
        {"slip_mm": 0.2},
        {"factor_percent": 6.0},
        {"slip_mm": 0.0},
        {"dose_percent": math.nan},
    ],
)
def test_criteria_can_only_be_made_stricter(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="stricter"):
        CompareCriteria(**wrong)
