"""The budget of the canal dose: closed forms, a plain second route, and the two routes of the package against each other."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from iort_planner.errors import InputError
from iort_planner.planning.uncertainty import Band, Budget, Causes, budget, ln_normal_band, sampled_band_gy
from iort_planner.source.table_file import read_table
from iort_planner.units import FloatArray, Quantity

TABLE = read_table()
AXIS = np.array([0.0, 0.6, 0.8])
EXPONENT = 2.65  # of the shipped table at 8 to 15 mm


def causes(distance_mm: float = 8.0, **changes: Any) -> Causes:
    """A wall on the x axis; nothing is off but what ``changes`` says."""
    given: dict[str, Any] = {
        "table_percent": 0.0,
        "scale_percent": 0.0,
        "output_percent": 0.0,
        "interpolation_percent": 0.0,
        "anisotropy_percent": 0.0,
        "tip_covariance_lps_mm2": np.zeros((3, 3)),
        "canal_mm": 0.0,
        "source_lps_mm": np.zeros(3),
        "wall_lps_mm": np.array([distance_mm, 0.0, 0.0]),
        "axis_lps": AXIS,
    }
    return Causes(**(given | changes))


def power(r_mm: FloatArray) -> FloatArray:
    """1000 r^-2.65 Gy/min."""
    result: FloatArray = 1000.0 * np.asarray(r_mm) ** -EXPONENT
    return result


def of(
    found: Causes, canal_dose_gy: float = 8.0, limit_gy: float = 8.0, range_mm: tuple[float, float] = (0.5, 200.0)
) -> Budget:
    return budget(
        found,
        rate_gy_per_min=power,
        range_mm=range_mm,
        exponent=EXPONENT,
        canal_dose_gy=canal_dose_gy,
        limit_gy=limit_gy,
    )


def ends(band: Band) -> FloatArray:
    assert None not in band
    return np.array(band, dtype=np.float64)


# --- closed forms -----------------------------------------------------------------------------------------------------


def test_dose_rate_alone_gives_ln_normal_bands() -> None:
    found = of(causes(table_percent=12.0, output_percent=5.0, anisotropy_percent=8.0))
    sigma = math.hypot(0.12, 0.05, 0.08)

    np.testing.assert_allclose(ends(found.band_k1_gy), ln_normal_band(8.0, sigma, 1.0), rtol=1e-6)
    np.testing.assert_allclose(ends(found.band_k2_gy), ln_normal_band(8.0, sigma, 2.0), rtol=1e-6)
    np.testing.assert_allclose(ends(found.band_95_gy), ln_normal_band(8.0, sigma, stats.norm.ppf(0.975)), rtol=1e-6)
    assert found.total_percent == pytest.approx(100 * sigma)


def test_1_mm_at_8_mm_is_minus_27_or_plus_42_percent_not_33_both_ways() -> None:
    found = of(causes(8.0, canal_mm=1.0))
    low, high = ends(found.band_k1_gy)

    half_a_node = (
        0.3  # percent: with no spread of the rate at all, an end is known to half of the 0.0175 sigma between nodes
    )
    assert found.total_percent == pytest.approx(33.1, abs=0.05)  # linear
    assert 100 * (low / 8.0 - 1) == pytest.approx(100 * ((8 / 9) ** EXPONENT - 1), abs=half_a_node)
    assert 100 * (high / 8.0 - 1) == pytest.approx(100 * ((8 / 7) ** EXPONENT - 1), abs=half_a_node)
    assert (round(100 * (low / 8.0 - 1)), round(100 * (high / 8.0 - 1))) == (-27, 42)


def test_the_probability_over_a_limit_is_the_normals_share() -> None:
    found = of(causes(table_percent=20.0), canal_dose_gy=6.0, limit_gy=8.0)

    assert found.probability_over_limit == pytest.approx(float(stats.norm.sf(math.log(8 / 6) / 0.2)), abs=1e-9)
    assert of(causes(table_percent=20.0)).probability_over_limit == pytest.approx(0.5)


def test_the_tip_counts_by_what_moves_the_source_towards_the_wall() -> None:
    long = 0.8**2 * np.outer(AXIS, AXIS)  # off along the needle, which runs across the way to the wall
    assert of(causes(tip_covariance_lps_mm2=long)).total_percent == pytest.approx(0.0, abs=1e-6)

    towards = of(causes(tip_covariance_lps_mm2=np.diag([0.25, 0.0, 0.0]), axis_lps=np.array([1.0, 0.0, 0.0])))
    assert towards.tip_along_percent == pytest.approx(100 * EXPONENT * 0.5 / 8.0)
    assert towards.tip_across_percent == pytest.approx(0.0, abs=1e-6)
    across = of(causes(tip_covariance_lps_mm2=np.diag([0.25, 0.0, 0.0])))
    assert across.tip_along_percent == 0.0
    assert across.tip_across_percent == pytest.approx(100 * EXPONENT * 0.5 / 8.0)


# --- the two routes ---------------------------------------------------------------------------------------------------

DISTANCES, TIPS, WALLS, RATES = (6.0, 8.0, 12.0, 20.0), (0.15, 1.2), (0.2, 0.8, 1.6), (5.0, 25.0)


@pytest.mark.parametrize(("distance_mm", "tip_mm"), list(itertools.product(DISTANCES, TIPS)))
def test_folded_and_sampled_95_percent_bands_agree_within_3_percent_of_their_width(
    distance_mm: float, tip_mm: float
) -> None:
    turned = np.array([0.48, 0.6, 0.64])
    covariance = tip_mm**2 * (np.outer(turned, turned) + 0.1 * np.eye(3))  # mostly along the needle
    r = Quantity(distance_mm, "mm")
    told = 0
    for canal_mm, percent in itertools.product(WALLS, RATES):
        found = causes(
            distance_mm,
            table_percent=0.8 * percent,
            anisotropy_percent=0.6 * percent,
            tip_covariance_lps_mm2=covariance,
            canal_mm=canal_mm,
            axis_lps=turned,
        )
        common: dict[str, Any] = {
            "rate_gy_per_min": TABLE.rate_gy_per_min,
            "range_mm": TABLE.range_mm,
            "canal_dose_gy": 8.0,
        }
        folded = budget(found, exponent=TABLE.local_exponent(r), limit_gy=8.0, **common).band_95_gy
        sampled = sampled_band_gy(found, **common)
        assert (folded[1] is None) == (sampled[1] is None)
        assert folded[0] is not None
        assert sampled[0] is not None
        if folded[1] is None or sampled[1] is None:  # more than 2.5 % nearer than the table's first row: both say so
            continue
        told += 1
        width = folded[1] - folded[0]
        assert abs(sampled[0] - folded[0]) <= 0.03 * width
        assert abs(sampled[1] - folded[1]) <= 0.03 * width
    assert told >= 2


def test_a_flat_wall_is_good_enough_for_a_round_canal() -> None:
    """The distance to a canal of 8 mm radius, drawn in full, against the flat wall of both routes."""
    rng = np.random.default_rng(7)
    n, tip_mm, wall_mm, radius_mm, distance_mm = 400_000, 0.6, 0.5, 8.0, 10.0
    moved = rng.normal(0.0, tip_mm, (n, 3))
    centre = distance_mm + radius_mm
    to_axis = np.hypot(centre - moved[:, 0], moved[:, 1])  # the canal runs along z
    r = to_axis - radius_mm + rng.normal(0.0, wall_mm, n)
    dose = 8.0 * power(r) / power(np.array(distance_mm))
    low, high = np.quantile(dose, [0.025, 0.975])

    band = ends(of(causes(distance_mm, tip_covariance_lps_mm2=tip_mm**2 * np.eye(3), canal_mm=wall_mm)).band_95_gy)
    np.testing.assert_allclose([low, high], band, atol=0.03 * (band[1] - band[0]))


def test_sampling_is_repeatable_for_a_seed() -> None:
    found = causes(table_percent=20.0, canal_mm=0.4)
    common: dict[str, Any] = {"rate_gy_per_min": power, "range_mm": (0.5, 200.0), "canal_dose_gy": 8.0, "draws": 5000}
    assert sampled_band_gy(found, seed=3, **common) == sampled_band_gy(found, seed=3, **common)
    assert sampled_band_gy(found, seed=3, **common) != sampled_band_gy(found, seed=4, **common)


# --- the table's ends, properties, errors -----------------------------------------------------------------------------


def test_near_the_first_row_the_band_has_no_upper_end_and_what_lies_nearer_counts_as_over_the_limit() -> None:
    found = of(causes(4.0, canal_mm=1.0), canal_dose_gy=8.0, limit_gy=1e6, range_mm=(3.0, 50.0))

    assert found.band_k2_gy[1] is None  # 16 % lie nearer than 3 mm
    assert found.band_k2_gy[0] is not None
    assert found.probability_over_limit == pytest.approx(float(stats.norm.cdf(-1.0)), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.floats(6.0, 20.0), st.floats(0.05, 0.8), st.floats(1.0, 25.0), st.floats(0.1, 0.5), st.floats(4.0, 9.0))
def test_more_uncertainty_widens_the_band_and_its_ends_hold_the_dose(
    distance_mm: float, wall_mm: float, percent: float, more: float, dose_gy: float
) -> None:
    narrow = ends(of(causes(distance_mm, canal_mm=wall_mm, table_percent=percent), dose_gy).band_95_gy)
    wide = ends(of(causes(distance_mm, canal_mm=wall_mm + more, table_percent=percent), dose_gy).band_95_gy)

    assert narrow[0] < dose_gy < narrow[1]
    assert wide[0] < narrow[0]
    assert wide[1] > narrow[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"table_percent": math.nan},
        {"canal_mm": -0.1},
        {"wall_lps_mm": np.zeros(3)},
        {"tip_covariance_lps_mm2": -np.eye(3)},
        {"axis_lps": np.array([math.inf, 0.0, 0.0])},
    ],
)
def test_impossible_causes_cannot_exist(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        causes(**changes)
