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
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iort_planner.applicator import DepthReference
from iort_planner.dose.points import rate_at_points
from iort_planner.errors import DepthDoseRangeError, InputError
from iort_planner.geometry.canal import SpinalCanal, canal_from_points
from iort_planner.geometry.needle import Needle
from iort_planner.planning import doses
from iort_planner.planning.dwell import dose_at, dwell_time, isodose_radius
from iort_planner.planning.prescription import Prescription
from iort_planner.source.depth_dose import DepthDoseTable
from iort_planner.source.polar import PolarAnisotropy
from iort_planner.units import FloatArray, Quantity
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


def test_the_uncertainty_of_the_canal_dose_is_that_of_its_parts_in_ln_d() -> None:
    plan = cases.plan(wall=cases.canal(10.0))
    u = plan.result.uncertainty
    exponent = TABLE.local_exponent(Quantity(10.0, "mm"))
    # 19 % table at 10 mm, 5 % output not measured, 10 % isotropy assumed; tip 0.2 mm over three directions, wall 0.3 mm
    per_mm = exponent / 10.0
    rate = math.hypot(0.19, 0.05, 0.10, u.interpolation_percent / 100.0)
    expected = math.hypot(rate, per_mm * 0.2 / math.sqrt(3.0), per_mm * 0.3)

    assert u.interpolation_percent < 0.02
    assert u.dose_rate_percent == pytest.approx(100 * rate)
    assert u.canal_dose_percent == pytest.approx(100 * expected)
    low, high = u.canal_dose_band_k2_gy
    assert low is not None
    assert high is not None
    # nearly ln-normal at so small a distance error: within 2 % of each end
    np.testing.assert_allclose([low, high], 8.0 * np.exp([-2 * expected, 2 * expected]), rtol=0.02)


POLAR = PolarAnisotropy(
    theta_deg=np.array([0.0, 60.0, 90.0, 120.0, 180.0]),
    distance_mm=np.array([10.0]),
    factor=np.array([[1.5], [1.3], [1.0], [0.8], [0.5]]),
)
DISTAL = -cases.AXIS_LPS


def wall_at(*angles_and_distances: tuple[float, float]) -> SpinalCanal:
    """Wall points at polar angles (degrees from the distal axis) and distances from the source (mm)."""
    side = np.array([0.0, 0.0, 1.0])
    points = [
        cases.SOURCE_LPS_MM + r * (math.cos(math.radians(a)) * DISTAL + math.sin(math.radians(a)) * side)
        for a, r in angles_and_distances
    ]
    return dataclasses.replace(canal_from_points(np.array(points)), uncertainty_mm=0.3)


def test_with_a_polar_table_the_time_keeps_the_hottest_point_of_the_wall_at_its_limit_not_the_nearest() -> None:
    wall = wall_at((120.0, 11.0), (60.0, 12.0))
    table = dataclasses.replace(TABLE, anisotropy=POLAR)
    plan = cases.plan(table=table, wall=wall)
    rate = float(TABLE.dose_rate_at(Quantity(12.0, "mm")).to("Gy/min").magnitude)

    assert plan.canal.distance_from_source_mm == pytest.approx(11.0)
    np.testing.assert_allclose(plan.result.canal_max_point_lps_mm, wall.vertices_lps_mm[1])
    assert plan.result.dwell_time_s == pytest.approx(60.0 * 8.0 / (1.3 * rate))
    assert not plan.result.uncertainty.isotropic_assumed
    assert plan.result.uncertainty.anisotropy_percent == 0.0
    assert {c.id: c.status for c in plan.checks}["second-check"] == "pass"


def test_a_polar_table_of_ones_changes_no_time() -> None:
    ones = PolarAnisotropy(theta_deg=np.array([0.0, 90.0, 180.0]), distance_mm=np.array([10.0]), factor=np.ones((3, 1)))
    wall = wall_at((120.0, 11.0), (60.0, 12.0))
    plain, polar = (cases.plan(table=t, wall=wall) for t in (TABLE, dataclasses.replace(TABLE, anisotropy=ones)))

    assert polar.result.dwell_time_s == pytest.approx(plain.result.dwell_time_s, rel=1e-12)


def test_a_depth_from_the_tip_with_a_polar_table_says_what_that_distance_gets_forwards() -> None:
    table = dataclasses.replace(TABLE, anisotropy=POLAR)
    plan = cases.plan(table=table, wall=wall_at((90.0, 20.0)), depth_mm=8.0, depth_from=DepthReference.TIP)
    check = next(c for c in plan.checks if c.id == "polar-anisotropy")

    assert check.status == "warn"
    assert "gets 12 Gy" in check.message  # 8 Gy times 1.5


def test_a_planted_hotter_point_fails_the_second_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first route takes the nearest point though another one gets more."""

    def nearest(
        table: DepthDoseTable, needle: Needle, points: FloatArray, faces: npt.NDArray[np.int64]
    ) -> doses.Hottest:
        point = points[0]
        return doses.Hottest(
            point_lps_mm=point,
            rate=Quantity(float(rate_at_points(table, needle.source_lps_mm, needle.axis_lps, point)), "Gy/min"),
        )

    monkeypatch.setattr(doses, "_hottest", nearest)
    table = dataclasses.replace(TABLE, anisotropy=POLAR)
    plan = cases.plan(table=table, wall=wall_at((120.0, 11.0), (60.0, 12.0)))

    check = next(c for c in plan.checks if c.id == "second-check")
    assert check.status == "fail"
    assert "another point of the canal gets" in check.message
