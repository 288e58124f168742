"""Times, radii and doses of a plan against published numbers, closed forms and properties.

Sethi A et al. 2018, Front Oncol 8:74, doi:10.3389/fonc.2018.00074, Table 1: needle applicator, 8 Gy at D8 in 1.1 min,
2.2 Gy at D13.
Krauss et al. 2024 (single-centre series): 8 Gy at 10 mm from the tip of the applicator, 5 min radiation time; RBE 1.3,
8 Gy at 50 kV taken as isoeffective with about 10 Gy of 6 MV photons.
Series of 40 patients, 52 vertebrae (micro-invasive surgery with IORT): 9.2 Gy at 10.1 mm in 5 min 16 s.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iort_planner.applicator import DepthReference
from iort_planner.errors import DepthDoseRangeError, DepthDoseTableError, InputError
from iort_planner.planning.dwell import dose_at, dwell_time, isodose_radius
from iort_planner.planning.prescription import Prescription
from iort_planner.source.polar import PolarAnisotropy
from iort_planner.units import Quantity
from tests import planning_cases as cases

TABLE = cases.TABLE


def minutes(dose_gy: float, distance_mm: float) -> float:
    return float(dwell_time(TABLE, Quantity(dose_gy, "Gy"), Quantity(distance_mm, "mm")).to("min").magnitude)


def test_8_gy_at_8_mm_takes_the_time_of_sethi_2018_and_gives_its_2_2_gy_at_13_mm() -> None:
    plan = cases.plan(depth_mm=8.0, wall=cases.canal(13.0))

    assert 1.1 <= plan.result.dwell_time_s / 60 <= 1.2
    assert plan.result.canal_max_gy == pytest.approx(2.2, abs=0.05)  # printed to one decimal
    assert plan.result.isodose_radius_mm["8"] == pytest.approx(8.0, abs=1e-9)


@pytest.mark.parametrize(
    ("dose_gy", "depth_mm", "ours_min", "reported_s"),
    [
        (8.0, 10.0, 4.1, 300.0),  # Krauss et al. 2024
        (9.2, 10.1, 4.8, 316.0),  # 40 patients, 52 vertebrae
    ],
)
def test_times_from_the_tip_and_the_reported_ones_in_the_k_2_band(
    dose_gy: float, depth_mm: float, ours_min: float, reported_s: float
) -> None:
    plan = cases.plan(dose_gy=dose_gy, depth_mm=depth_mm, depth_from=DepthReference.TIP, limit_gy=20.0)
    low, high = plan.result.uncertainty.dwell_time_band_k2_s

    assert plan.result.dwell_time_s / 60 == pytest.approx(ours_min, abs=0.05)
    assert low <= reported_s <= high


def test_rbe_weighted_dose_is_shown_beside_physical_dose_as_in_krauss_2024() -> None:
    plan = cases.plan()

    assert plan.prescription.dose_gy_rbe == pytest.approx(10.4)  # about 10 Gy of 6 MV photons
    assert plan.prescription.limit_gy_rbe == pytest.approx(10.4)
    assert plan.result.canal_max_gy_rbe == pytest.approx(1.3 * plan.result.canal_max_gy)


@pytest.mark.parametrize(("reference", "from_source_mm"), [("source", 10.0), ("surface", 12.2), ("tip", 13.0)])
def test_the_origin_of_a_depth_changes_the_time(reference: str, from_source_mm: float) -> None:
    plan = cases.plan(depth_mm=10.0, depth_from=DepthReference(reference), limit_gy=50.0)

    assert plan.prescription.depth_from_source_mm == pytest.approx(from_source_mm)
    assert plan.prescription.depth_from == reference
    assert plan.result.dwell_time_s / 60 == pytest.approx(minutes(8.0, from_source_mm), rel=1e-12)


def test_without_a_depth_the_canal_limit_sets_the_time() -> None:
    plan = cases.plan(limit_gy=6.0, wall=cases.canal(11.0))

    assert plan.prescription.depth_from == "canal-limit"
    assert plan.result.dwell_time_s == plan.result.max_safe_dwell_time_s
    assert plan.result.canal_max_gy == 6.0
    assert plan.result.isodose_radius_mm["6"] == pytest.approx(11.0, abs=1e-9)
    assert plan.prescription.depth_from_source_mm == plan.result.isodose_radius_mm["8"]
    assert set(plan.result.isodose_radius_mm) == {"8", "4", "6", "16"}


def test_radius_and_time_agree_with_the_table_to_0_01_mm_and_0_1_percent() -> None:
    """By hand from the shipped rows: 8 Gy at the row of 12 mm (2.406 Gy/min) is 199.5 s."""
    plan = cases.plan(wall=cases.canal(12.0))

    assert plan.result.dwell_time_s == pytest.approx(60 * 8 / 2.406, rel=1e-3)
    assert plan.result.isodose_radius_mm["8"] == pytest.approx(12.0, abs=0.01)


@given(st.floats(0.1, 50.0), st.floats(3.0, 50.0), st.floats(1.1, 5.0))
def test_time_is_proportional_to_dose(dose_gy: float, distance_mm: float, factor: float) -> None:
    assert minutes(factor * dose_gy, distance_mm) == pytest.approx(factor * minutes(dose_gy, distance_mm), rel=1e-12)


@given(st.floats(0.1, 50.0), st.floats(3.0, 50.0))
def test_time_dose_and_radius_are_consistent_to_1e_9(dose_gy: float, distance_mm: float) -> None:
    dose, distance = Quantity(dose_gy, "Gy"), Quantity(distance_mm, "mm")
    time = dwell_time(TABLE, dose, distance)
    radius = isodose_radius(TABLE, dose, time)

    assert float(dose_at(TABLE, time, distance).to("Gy").magnitude) == pytest.approx(dose_gy, rel=1e-9)
    assert radius is not None
    assert float(radius.to("mm").magnitude) == pytest.approx(distance_mm, rel=1e-9)


@given(st.floats(4.0, 45.0), st.floats(0.01, 4.0))
@settings(max_examples=25, deadline=None)
def test_a_nearer_canal_never_allows_a_longer_time(distance_mm: float, nearer_mm: float) -> None:
    far = cases.plan(wall=cases.canal(distance_mm))
    near = cases.plan(wall=cases.canal(max(3.0, distance_mm - nearer_mm)))

    assert near.result.max_safe_dwell_time_s < far.result.max_safe_dwell_time_s


def test_a_radius_outside_the_table_is_null_and_never_a_number() -> None:
    plan = cases.plan(dose_gy=50.0, limit_gy=0.1, wall=cases.canal(20.0))

    assert plan.result.isodose_radius_mm["50"] is None
    assert plan.prescription.depth_from_source_mm is None
    assert plan.result.engines["water"].dose_at_prescription_gy is None
    assert isodose_radius(TABLE, Quantity(50.0, "Gy"), Quantity(1.0, "s")) is None


def test_the_hot_dose_is_told_as_far_in_as_the_table_goes() -> None:
    plan = cases.plan()

    assert plan.result.applicator_surface_gy is None  # 2.2 mm is nearer than the first row, 3 mm
    assert plan.result.nearest_table_radius_mm == 3.0
    assert plan.result.nearest_table_dose_gy == pytest.approx(93.2 * plan.result.dwell_time_s / 60)


@pytest.mark.parametrize("distance_mm", [2.9, 51.0])
def test_a_canal_outside_the_table_is_a_clear_stop(distance_mm: float) -> None:
    with pytest.raises(DepthDoseRangeError, match="never extrapolated"):
        cases.plan(wall=cases.canal(distance_mm))


def test_a_depth_beyond_the_table_is_a_clear_stop() -> None:
    with pytest.raises(DepthDoseRangeError, match="500 mm from the source is outside the range 3 to 50 mm"):
        cases.plan(depth_mm=500.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dose_gy": 0.0}, "--dose 0 Gy is outside 0.1 to 50 Gy"),
        ({"dose_gy": -8.0}, "--dose -8 Gy"),
        ({"dose_gy": math.nan}, "--dose nan Gy"),
        ({"dose_gy": 800.0}, "--dose 800 Gy"),
        ({"limit_gy": 50.1}, "--limit 50.1 Gy"),
        ({"rbe": 0.0}, "--rbe 0 is outside 0.5 to 3"),
        ({"depth_mm": 0.0}, "--depth 0 mm"),
        ({"depth_mm": math.inf}, "--depth inf mm"),
    ],
)
def test_an_impossible_prescription_cannot_exist(given: dict[str, float], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Prescription(**given)  # type: ignore[arg-type]  # one float of the fields at a time
    assert str(caught.value).startswith(message)


def test_the_uncertainty_of_the_canal_dose_is_that_of_table_and_position_in_ln_d() -> None:
    plan = cases.plan(wall=cases.canal(10.0))
    u = plan.result.uncertainty
    exponent = TABLE.local_exponent(Quantity(10.0, "mm"))
    expected = math.hypot(0.19, exponent * math.hypot(0.2, 0.3) / 10.0)

    assert u.canal_dose_percent == pytest.approx(100 * expected)
    np.testing.assert_allclose(u.canal_dose_band_k2_gy, 8.0 * np.exp([-2 * expected, 2 * expected]))


def test_a_polar_table_is_refused_rather_than_planned_as_if_it_were_isotropic() -> None:
    polar = PolarAnisotropy(
        theta_deg=np.array([0.0, 90.0, 180.0]), distance_mm=np.array([10.0]), factor=np.array([[1.3], [1.0], [0.5]])
    )
    with pytest.raises(DepthDoseTableError, match="polar anisotropy"):
        cases.plan(table=dataclasses.replace(cases.TABLE, anisotropy=polar))
