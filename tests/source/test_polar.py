"""Polar anisotropy: exact at its nodes, bilinear between, held beyond the distances, refused beyond the angles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iort_planner.errors import DepthDoseRangeError, DepthDoseTableError
from iort_planner.source.polar import PolarAnisotropy

THETA = np.array([0.0, 30.0, 90.0, 150.0, 180.0])
DISTANCE = np.array([5.0, 10.0, 20.0])
FACTOR = np.array([[0.7, 0.8, 0.9], [0.9, 0.92, 0.94], [1.0, 1.0, 1.0], [0.8, 0.82, 0.84], [0.5, 0.6, 0.7]])
TABLE = PolarAnisotropy(theta_deg=THETA, distance_mm=DISTANCE, factor=FACTOR)


def plain_bilinear(r: float, theta: float) -> float:
    """The rule by hand: the cell is searched for, the four corners are weighted by the opposite areas."""
    r = min(max(r, DISTANCE[0]), DISTANCE[-1])
    m = max(n for n in range(len(THETA) - 1) if THETA[n] <= theta)
    n = max(k for k in range(len(DISTANCE) - 1) if DISTANCE[k] <= r)
    area = (THETA[m + 1] - THETA[m]) * (DISTANCE[n + 1] - DISTANCE[n])
    total = 0.0
    for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
        total += FACTOR[m + a, n + b] * abs(THETA[m + 1 - a] - theta) * abs(DISTANCE[n + 1 - b] - r)
    return float(total / area)


def test_each_node_gives_its_own_factor() -> None:
    np.testing.assert_array_equal(TABLE.factor_at(DISTANCE[None, :], THETA[:, None]), FACTOR)


@given(st.floats(0.1, 60.0), st.floats(0.0, 180.0))
def test_between_nodes_it_is_bilinear_and_beyond_the_distances_the_nearest_column_holds(r: float, theta: float) -> None:
    assert float(TABLE.factor_at(r, theta)) == pytest.approx(plain_bilinear(r, theta), rel=1e-12)


@pytest.mark.parametrize("last_row", [90.0, 80.0])
def test_rows_up_to_90_degrees_are_mirrored_and_the_table_says_so(last_row: float) -> None:
    half = PolarAnisotropy(
        theta_deg=np.array([0.0, 45.0, last_row]),
        distance_mm=np.array([10.0]),
        factor=np.array([[0.5], [0.8], [1.0]]),
    )
    assert half.completed
    assert not TABLE.completed
    assert half.theta_deg[[0, -1]].tolist() == [0.0, 180.0]
    theta = np.linspace(0.0, 90.0, 31)
    np.testing.assert_allclose(half.factor_at(10.0, 180.0 - theta), half.factor_at(10.0, theta), rtol=1e-12)
    assert float(half.factor_at(10.0, 90.0)) == 1.0


def test_an_angle_outside_the_rows_is_refused_and_nan_too() -> None:
    part = PolarAnisotropy(
        theta_deg=np.array([20.0, 90.0, 160.0]), distance_mm=np.array([5.0]), factor=np.array([[0.9], [1.0], [0.8]])
    )
    for theta in (19.9, 160.1, math.nan):
        with pytest.raises(DepthDoseRangeError, match="never extrapolated"):
            part.factor_at(5.0, theta)


BAD: list[tuple[dict[str, npt.ArrayLike], str]] = [
    ({"theta_deg": [0, 30, 20, 150, 180]}, "increase"),
    ({"theta_deg": [0, 30, 90, 150, 181]}, "0 to 180"),
    ({"distance_mm": [5, 5, 20]}, "increasing"),
    ({"distance_mm": [-5, 10, 20]}, "not negative"),
    ({"factor": FACTOR.T}, "factor for each"),
    ({"factor": FACTOR * np.where(FACTOR == 0.92, 0.0, 1.0)}, "above 0"),
    ({"factor": FACTOR * np.where(FACTOR == 0.92, np.nan, 1.0)}, "finite"),
    ({"factor": FACTOR * 1.002}, "must be 1 within 0.001"),
    ({"theta_deg": [0, 30, 80, 150, 180], "factor": FACTOR * 1.2}, "must be 1 within 0.01"),
    ({"theta_deg": [0, 30, 40, 50, 60]}, "end at 60 degrees"),
    ({"theta_deg": [100, 110, 120, 150, 180]}, "start at 100 degrees"),
]


@pytest.mark.parametrize(("changes", "problem"), BAD)
def test_what_cannot_be_a_polar_table_is_refused(changes: dict[str, Any], problem: str) -> None:
    given_values = {"theta_deg": THETA, "distance_mm": DISTANCE, "factor": FACTOR} | changes
    with pytest.raises(DepthDoseTableError, match=problem):
        PolarAnisotropy(**given_values)


def test_the_arrays_are_own_copies_and_read_only() -> None:
    factor = FACTOR.copy()
    table = PolarAnisotropy(theta_deg=THETA, distance_mm=DISTANCE, factor=factor)
    factor[:] = 7.0
    np.testing.assert_array_equal(table.factor, FACTOR)
    with pytest.raises(ValueError, match="read-only"):
        table.factor[0, 0] = 2.0
