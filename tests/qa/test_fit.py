"""Slip of the origin, scale factor and mix-up of scales, told from each other on tables whose cause is known."""

from __future__ import annotations

import numpy as np
import pytest

from iort_planner.qa.fit import Explanation, explain
from iort_planner.qa.mixups import mixups
from iort_planner.source.depth_dose import DepthDoseTable, Scale
from iort_planner.units import FloatArray
from tests.qa.tables import noise, three_exponentials

ROWS = np.arange(5.0, 31.0)


@pytest.fixture(scope="module")
def reference() -> DepthDoseTable:
    r = np.geomspace(2.0, 50.0, 200)
    return DepthDoseTable(
        name="reference",
        distance_mm=r,
        dose_rate_gy_per_min=three_exponentials(r),
        uncertainty_percent=np.full(r.size, 5.0),
        scale=Scale.V4,
        clinical=False,
        origin="closed form",
        trusted_range_mm=(5.0, 30.0),
    )


def best(rate: FloatArray, reference: DepthDoseTable, r: FloatArray = ROWS) -> Explanation:
    return explain(r, rate, reference, dict(mixups()))[0]


def test_equal_tables_need_no_explanation(reference: DepthDoseTable) -> None:
    for seed in range(20):
        assert best(three_exponentials(ROWS) * noise(seed, 0.4, ROWS.size), reference).name == "same"


@pytest.mark.parametrize("slip", [-0.5, -0.3, -0.1, 0.1, 0.3, 0.5, 3.0])
def test_a_slip_of_the_origin_is_found_with_its_size_and_sign(reference: DepthDoseTable, slip: float) -> None:
    found = best(three_exponentials(ROWS + slip) * noise(7, 0.3, ROWS.size), reference)

    assert found.name == "origin"
    assert found.slip_mm == pytest.approx(slip, abs=0.02)
    assert found.factor == 1.0


@pytest.mark.parametrize("factor", [0.9, 0.97, 1.03, 1.1])
def test_a_scale_factor_is_found_and_is_no_slip(reference: DepthDoseTable, factor: float) -> None:
    found = best(factor * three_exponentials(ROWS) * noise(8, 0.3, ROWS.size), reference)

    assert found.name == "scale"
    assert found.factor == pytest.approx(factor, rel=0.004)
    assert found.slip_mm == 0.0


def test_slip_and_factor_together_are_both_found(reference: DepthDoseTable) -> None:
    found = best(1.04 * three_exponentials(ROWS + 0.3) * noise(9, 0.3, ROWS.size), reference)

    assert found.name == "origin and scale"
    assert found.slip_mm == pytest.approx(0.3, abs=0.03)
    assert found.factor == pytest.approx(1.04, rel=0.01)


def test_an_outlier_moves_neither_slip_nor_factor(reference: DepthDoseTable) -> None:
    rate = three_exponentials(ROWS + 0.3) * noise(10, 0.3, ROWS.size)
    rate[0] *= 1.2
    found = best(rate, reference)

    assert found.name == "origin"
    assert found.slip_mm == pytest.approx(0.3, abs=0.02)
    assert found.residual_percent[0] == pytest.approx(20.0, abs=1.5)


def test_the_stated_uncertainties_cover_the_scatter_of_many_fits(reference: DepthDoseTable) -> None:
    pulls = []
    for seed in range(100):
        rate = 1.04 * three_exponentials(ROWS + 0.3) * noise(seed, 0.5, ROWS.size)
        found = next(e for e in explain(ROWS, rate, reference, {}) if e.name == "origin and scale")
        pulls.append((found.slip_mm - 0.3) / found.slip_uncertainty_mm)
    assert 0.7 < np.std(pulls) < 1.5
    assert abs(np.mean(pulls)) < 0.4


@pytest.mark.parametrize("name", mixups())
def test_each_mix_up_of_scales_is_named(reference: DepthDoseTable, name: str) -> None:
    rate = three_exponentials(ROWS) * mixups()[name](ROWS) * noise(11, 0.3, ROWS.size)

    assert best(rate, reference).name == name


def test_a_factor_as_large_as_a_mix_up_is_not_taken_for_one(reference: DepthDoseTable) -> None:
    assert best(1.3 * three_exponentials(ROWS), reference).name == "scale"


# Ratios of the same source on two scales, PMID 32795615 (2020): V4.0/TARGIT and CQ/TARGIT at 7.5 and 25 mm.
@pytest.mark.parametrize(
    ("name", "distance_mm", "ratio"),
    [
        ("v4.0 for targit", 7.5, 1.43),
        ("v4.0 for targit", 25.0, 1.16),
        ("cq for targit", 7.5, 1.585),
        ("cq for targit", 25.0, 1.26),
    ],
)
def test_the_ratios_of_scales_are_the_published_ones(name: str, distance_mm: float, ratio: float) -> None:
    assert float(mixups()[name](np.array([distance_mm]))[0]) == pytest.approx(ratio, abs=0.001)


# Watson et al. 2018 (Med Phys): V4.0 reads 14 to 80 % higher than TARGIT from 5 to 30 mm; within 2 % (1.60 at 5 mm is V4.0)
def test_the_ratio_at_30_mm_is_the_lower_end_of_what_watson_reports() -> None:
    assert float(mixups()["v4.0 for targit"](np.array([30.0]))[0]) == pytest.approx(1.14, abs=0.01)
