"""The TG-43 formalism against a numerical line source, closed forms, another program's points, and the water engine."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from iort_planner.dose.tg43 import depth_dose_table, dose_rate_at, geometry_function, radial_dose_at, rate_cgy_per_h_u
from iort_planner.errors import DepthDoseRangeError, DepthDoseTableError
from iort_planner.source.tg43 import Tg43Source, parse_tg43
from iort_planner.units import Quantity
from tests.tg43_texts import SHARED_TG43, consensus_text, tg43_text

SEED = parse_tg43(tg43_text())


def line_integral(r_mm: float, theta_deg: float, length_mm: float) -> float:
    """Mean of 1/d^2 over the points of a line source, by quadrature."""
    z, h = r_mm * math.cos(math.radians(theta_deg)), r_mm * math.sin(math.radians(theta_deg))
    value, _ = quad(
        lambda s: 1.0 / ((z - s) ** 2 + h**2), -length_mm / 2, length_mm / 2, epsabs=0, epsrel=1e-11, limit=400
    )
    return float(value) / length_mm


@given(st.floats(0.2, 5.0), st.floats(1.05, 40.0), st.floats(0.0, 180.0))
def test_the_geometry_function_is_the_line_integral_outside_the_source(
    length: float, ratio: float, theta: float
) -> None:
    r = ratio * length / 2
    expected = line_integral(r, theta, length)
    assert float(geometry_function(np.array(r), np.array(theta), length)) == pytest.approx(expected, rel=1e-6)


@given(st.floats(0.2, 0.95), st.floats(10.0, 170.0))
def test_the_geometry_function_is_the_line_integral_beside_the_source(ratio: float, theta: float) -> None:
    length = 3.0
    expected = line_integral(ratio * length / 2, theta, length)
    got = float(geometry_function(np.array(ratio * length / 2), np.array(theta), length))
    assert got == pytest.approx(expected, rel=1e-6)


def test_on_the_axis_it_is_the_limit_and_continuous_next_to_it() -> None:
    r, length = 7.0, 3.0
    expected = 1.0 / (r**2 - length**2 / 4)
    for theta in (0.0, 180.0):
        assert float(geometry_function(np.array(r), np.array(theta), length)) == pytest.approx(expected, rel=1e-14)
    near = geometry_function(np.array(r), np.logspace(-12, -1, 200), length)
    assert np.max(np.abs(near / expected - 1.0)) < 1e-6


@pytest.mark.parametrize("length", [0.0, 1e-300, 1e-12, 1e-6])
def test_a_short_line_goes_over_into_a_point(length: float) -> None:
    theta = np.linspace(0.0, 180.0, 37)
    np.testing.assert_allclose(geometry_function(np.array(8.0), theta, length), 1.0 / 64.0, rtol=1e-13)


def test_g_is_exact_at_its_rows_log_linear_between_and_nan_outside() -> None:
    np.testing.assert_allclose(radial_dose_at(SEED, SEED.radial_distance_mm), SEED.radial_dose, rtol=1e-14)
    # TG-43U1: ln g is linear in r, so half way it is the geometric mean
    assert float(radial_dose_at(SEED, np.array(35.0))) == pytest.approx(math.sqrt(0.7 * 0.2), rel=1e-14)
    linear = parse_tg43(tg43_text(radial_interpolation="linear"))
    assert float(radial_dose_at(linear, np.array(35.0))) == pytest.approx(0.45, rel=1e-14)
    assert np.all(np.isnan(radial_dose_at(SEED, np.array([1.99, 50.01, np.nan]))))


def test_a_point_by_hand() -> None:
    """TG-43U1, equation 1, written out at 20 mm and 60 degrees: F is bilinear between 30 and 90 degrees, 10 and 30 mm."""
    beta = math.atan((20 * math.cos(math.pi / 3) + 1.5) / (20 * math.sin(math.pi / 3))) - math.atan(
        (20 * math.cos(math.pi / 3) - 1.5) / (20 * math.sin(math.pi / 3))
    )
    geometry = beta / (3.0 * 20 * math.sin(math.pi / 3))
    reference = 2 * math.atan(1.5 / 10) / (3.0 * 10)
    anisotropy = ((0.85 + 1) / 2 + (0.9 + 1) / 2) / 2
    expected = 0.9 * geometry / reference * 0.7 * anisotropy
    assert float(rate_cgy_per_h_u(SEED, np.array(20.0), np.array(60.0))) == pytest.approx(expected, rel=1e-12)
    # 40000 U; 1 cGy/h is 1/6000 Gy/min
    rate = dose_rate_at(SEED, Quantity(2.0, "cm"), Quantity(60.0, "deg"))
    assert float(rate.to("Gy/min").magnitude) == pytest.approx(expected * 40000 / 6000, rel=1e-12)


def test_at_the_reference_point_it_is_the_dose_rate_constant() -> None:
    assert float(rate_cgy_per_h_u(SEED, np.array(10.0), np.array(90.0))) == pytest.approx(0.9, rel=1e-14)


@pytest.mark.parametrize(("r", "theta"), [(1.9, 90.0), (50.1, 90.0), (math.nan, 90.0)])
def test_outside_the_rows_there_is_no_dose(r: float, theta: float) -> None:
    assert np.isnan(rate_cgy_per_h_u(SEED, np.array(r), np.array(theta)))
    with pytest.raises(DepthDoseRangeError, match="never extrapolated"):
        dose_rate_at(SEED, Quantity(r, "mm"), Quantity(theta, "deg"))


def test_without_an_air_kerma_strength_there_is_no_absolute_dose_rate() -> None:
    source = parse_tg43(tg43_text(air_kerma_strength_u=None))
    with pytest.raises(DepthDoseTableError, match="add '# air_kerma_strength_u"):
        depth_dose_table(source)
    with pytest.raises(DepthDoseTableError, match="add '# air_kerma_strength_u"):
        dose_rate_at(source, Quantity(10.0, "mm"), Quantity(90.0, "deg"))


def worst_difference(source: Tg43Source, count: int = 60_000) -> float:
    """Largest relative difference of table and formalism over random distances and angles."""
    table = depth_dose_table(source)
    assert table.anisotropy is not None
    rng = np.random.default_rng(5)
    r = np.exp(rng.uniform(np.log(table.range_mm[0]), np.log(table.range_mm[1]), count))
    theta = rng.uniform(0.0, 180.0, count)
    theta[: count // 3] = 90.0
    got = table.rate_gy_per_min(r) * table.anisotropy.factor_at(r, theta)
    strength = source.air_kerma_strength_u
    assert strength is not None
    return float(np.max(np.abs(got / (rate_cgy_per_h_u(source, r, theta) * strength / 6000.0) - 1.0)))


@pytest.mark.parametrize("length", ["0", "0.5", "3"])
def test_the_depth_dose_table_gives_the_formalism_within_0_05_percent_in_every_direction(length: str) -> None:
    source = parse_tg43(tg43_text(active_length_mm=length))
    assert worst_difference(source) < 5e-4
    assert depth_dose_table(source).range_mm == (max(2.0, float(length)), 50.0)


def test_a_table_too_short_for_its_source_is_refused() -> None:
    with pytest.raises(DepthDoseTableError, match="within one active length"):
        depth_dose_table(parse_tg43(tg43_text(active_length_mm="50")))


@pytest.mark.shared
@pytest.mark.parametrize("file", ["125i_6711.csv", "192ir_mhdr_v1.csv"])
def test_the_consensus_sets_become_tables_within_0_05_percent(file: str) -> None:
    source = parse_tg43(consensus_text(file))
    table = depth_dose_table(source)
    assert table.anisotropy is not None
    assert worst_difference(source) < 5e-4
    assert table.anisotropy.completed == source.anisotropy.completed


@pytest.mark.shared
def test_another_programs_192ir_points_are_reproduced() -> None:
    """matRad's reference points for the 192Ir set: median under 0.1 %, 95 % within 1 %.

    Seen: median |difference| 0.03 %, 98.7 % of points within 1 %. The two beyond lie at 12.4 mm and 104 degrees (2.2 %)
    and 15.3 mm and 79 degrees (1.6 %), where the points ask for g F of 1.015: the rows round them hold at most 1.004,
    so no way of interpolating gives that.
    """
    source = parse_tg43(consensus_text("192ir_mhdr_v1.csv"))
    with (SHARED_TG43 / "192ir_reference_points.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert len(rows) == 150
    r, theta, expected = (
        np.array([float(v) for v in column]) for column in zip(*(row.values() for row in rows), strict=True)
    )
    difference = np.abs(rate_cgy_per_h_u(source, 10.0 * r, theta) / expected - 1.0)
    assert np.median(difference) < 0.001
    assert np.mean(difference < 0.01) >= 0.95
    assert np.max(difference) < 0.025
