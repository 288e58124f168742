"""The exponents that the benchmarks state are least-squares fits with an honest standard error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import linregress

from tests.benchmarks import growth


def test_an_exact_power_law_is_found_exactly() -> None:
    size = np.array([50.0, 100.0, 200.0, 400.0, 800.0])

    assert growth.power_law(size, 0.003 * size**1.5) == pytest.approx((0.003, 1.5, 0.0), abs=1e-7)


def test_exponent_and_its_error_are_those_of_scipy_on_scattered_times() -> None:
    size = np.array([1.0, 3.0, 10.0, 30.0, 100.0])
    seconds = 0.01 * size * np.exp(np.random.default_rng(1).normal(0.0, 0.2, size.size))
    expected = linregress(np.log(size), np.log(seconds))

    a, b, error = growth.power_law(size, seconds)
    assert (a, b, error) == pytest.approx((np.exp(expected.intercept), expected.slope, expected.stderr), rel=1e-12)


def test_cases_of_ones_own_are_timed_and_drawn(tmp_path: Path) -> None:
    done: list[int] = []

    def work(count: int) -> None:
        done.append(count)
        growth.table_cases(count)

    (curve,) = growth.curves(("cases",), quick=True, work=work)

    assert set(done) == {1, 10, 100}
    assert 0.5 < curve.fit[1] < 1.2  # linear but for what is done once
    (picture,) = growth.draw([curve], tmp_path)
    assert picture.name == "benchmarks-cases.png"
    assert picture.stat().st_size > 5_000
