"""Bare-probe table times transfer function: closed forms, and each mismatch by its name."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from iort_planner.errors import DepthDoseRangeError, DepthDoseTableError
from iort_planner.source.depth_dose import ReferencePoint, Scale
from iort_planner.source.polar import PolarAnisotropy
from iort_planner.source.transfer import TransferFunction, apply_transfer
from iort_planner.units import Quantity
from tests.source.table_files import DAY, table


def transfer(distance_mm: object = (3.0, 8.0, 20.0, 40.0), **changes: object) -> TransferFunction:
    r = np.asarray(distance_mm, dtype=np.float64)
    fields: dict[str, object] = {
        "name": "needle over bare",
        "distance_mm": r,
        "factor": 0.8 * r**0.05,  # a power: the log-log cubic draws it exactly
        "uncertainty_percent": np.full(r.shape, 4.0),
        "scale": Scale.TARGIT,
        "applicator": "needle applicator 4.4 mm",
        "clinical": True,
        "origin": "certificate 2",
        "trusted_range_mm": (float(r[0]), float(r[-1])),
        "measured": "2026-01-06",
        "sha256": "b" * 64,
        "file": "tf.csv",
        **changes,
    }
    return TransferFunction(**fields)  # type: ignore[arg-type]  # a test factory


def test_dose_rates_are_multiplied_row_by_row() -> None:
    bare = table()
    made = apply_transfer(bare, transfer(), made=DAY)

    assert made.distance_mm.tolist() == bare.distance_mm.tolist()
    expected = bare.dose_rate_gy_per_min * 0.8 * bare.distance_mm**0.05
    assert made.dose_rate_gy_per_min == pytest.approx(expected, rel=1e-13)
    assert made.uncertainty_percent == pytest.approx(np.full(bare.distance_mm.shape, 5.0))  # 3 and 4 in quadrature


def test_the_result_says_where_it_comes_from() -> None:
    made = apply_transfer(table(sha256="a" * 64, file="bare.csv", scale_uncertainty_percent=2.0), transfer(), made=DAY)

    assert (made.derived, made.measured, made.clinical) == (True, "2026-11-01", True)
    assert (made.applicator, made.scale) == ("needle applicator 4.4 mm", Scale.TARGIT)
    assert made.scale_uncertainty_percent == 2.0
    assert "certificate 1" in made.origin
    assert "certificate 2" in made.origin
    for word in ("a" * 64, "b" * 64, "bare.csv", "tf.csv", "2026-01-05", "2026-01-06"):
        assert word in " ".join(made.notes)
    assert not apply_transfer(table(clinical=False), transfer(), made=DAY).clinical
    assert not apply_transfer(table(), transfer(clinical=False), made=DAY).clinical
    today = dt.datetime.now(tz=dt.UTC).date()
    assert abs(dt.date.fromisoformat(apply_transfer(table(), transfer()).measured) - today) <= dt.timedelta(days=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": Scale.V4}, "scale: table 'bare' has targit, transfer function 'needle over bare' has v4.0"),
        ({"reference_point": ReferencePoint.TIP}, "reference point: table 'bare' has source-centre"),
        ({"tube_voltage_kv": 40.0}, "tube voltage: table 'bare' has 50 kV"),
        ({"tube_current_ua": 20.0}, "tube current: table 'bare' has 40 uA"),
        ({"distance_mm": (6.0, 20.0)}, "its rows at 5, 25, 30 mm lie outside 6 to 20 mm"),
        ({"distance_mm": (26.0, 29.0)}, "its rows at 5, 7.5, 10, 15, 25, 30 mm lie outside"),
    ],
)
def test_each_mismatch_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DepthDoseTableError, match=r"must be the same|never extrapolated") as caught:
        apply_transfer(table(), transfer(**changes), made=DAY)
    assert message in str(caught.value)


def test_rows_that_are_not_covered_are_cut_on_request_only() -> None:
    made = apply_transfer(table(), transfer((6.0, 20.0)), cut=True, made=DAY)

    assert made.distance_mm.tolist() == [7.5, 10.0, 15.0]
    assert made.trusted_range_mm == (7.5, 15.0)
    assert "rows at 5, 25, 30 mm of 'bare' were cut" in made.notes
    with pytest.raises(DepthDoseTableError, match="fewer than 2 rows"):
        apply_transfer(table(), transfer((26.0, 29.0)), cut=True, made=DAY)


def test_only_what_both_trust_is_trusted() -> None:
    made = apply_transfer(table(trusted_range_mm=(5.0, 20.0)), transfer(trusted_range_mm=(8.0, 40.0)), made=DAY)

    assert made.trusted_range_mm == (8.0, 20.0)
    with pytest.raises(DepthDoseTableError, match="no part of the rows"):
        apply_transfer(table(trusted_range_mm=(5.0, 7.0)), transfer(trusted_range_mm=(8.0, 40.0)), made=DAY)


def test_the_bare_probes_anisotropy_is_not_the_applicators() -> None:
    polar = PolarAnisotropy(
        theta_deg=np.array([0.0, 90.0, 180.0]), distance_mm=np.array([5.0]), factor=np.array([[0.5], [1.0], [0.2]])
    )
    made = apply_transfer(table(anisotropy=polar), transfer(), made=DAY)

    assert made.anisotropy is None
    assert any("anisotropy was left out" in note for note in made.notes)


def test_a_transfer_function_that_makes_the_dose_rise_makes_no_table() -> None:
    with pytest.raises(DepthDoseTableError, match="must fall"):
        apply_transfer(table(), transfer((5.0, 30.0), factor=np.array([0.01, 100.0])), made=DAY)


def test_factors_are_not_extrapolated() -> None:
    assert float(transfer().factor_at(Quantity(8.0, "mm"))) == pytest.approx(0.8 * 8**0.05, rel=1e-14)
    for r in (2.9, 40.1, float("nan")):
        with pytest.raises(DepthDoseRangeError, match="never extrapolated"):
            transfer().factor_at(Quantity(r, "mm"))


@pytest.mark.parametrize(
    "changes",
    [
        {"factor": np.array([0.9, 0.0, 0.9, 0.9])},
        {"factor": np.array([0.9, np.nan, 0.9, 0.9])},
        {"factor": np.array([0.9, 0.9])},
        {"distance_mm": np.array([3.0, 3.0, 20.0, 40.0])},
        {"uncertainty_percent": np.array([1.0, -1.0, 1.0, 1.0])},
        {"trusted_range_mm": (1.0, 5.0)},
    ],
)
def test_a_transfer_function_that_cannot_be_right_cannot_exist(changes: dict[str, object]) -> None:
    with pytest.raises(DepthDoseTableError):
        transfer(**{"factor": np.full(4, 0.9), **changes})
