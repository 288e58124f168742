"""RBE, BED, EQD2 and the published cord limits: closed forms, literature values, and that units never mix."""

from __future__ import annotations

import math

import pint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iort_planner.biology import (
    ALPHA_BETAS,
    CORD_HYTEC,
    CORD_LIMITS,
    CORD_QUANTEC,
    LQ_NOTE,
    TUMOUR,
    AlphaBeta,
    LimitComparison,
    Rbe,
    bed,
    biological_dose,
    compare_with_limits,
    eqd2,
)
from iort_planner.errors import InputError
from iort_planner.planning.prescription import Prescription
from iort_planner.units import Quantity, rbe_weighted


def by_name(canal_gy: float, rbe: Rbe | None = None) -> dict[str, LimitComparison]:
    return {each.limit.name: each for each in compare_with_limits(Quantity(canal_gy, "Gy"), rbe or Rbe())}


# Closed forms


@pytest.mark.parametrize(
    ("dose", "fractions", "alpha_beta", "bed_expected", "eqd2_expected"),
    [
        (20.0, 10, 10.0, 24.0, 20.0),  # 10 x 2 Gy: EQD2 is the dose itself
        (30.0, 10, 10.0, 39.0, 32.5),  # 10 x 3 Gy: EQD2 32.5 Gy also printed in PMC6884857 (spinal metastases)
        (10.4, 1, 2.0, 64.48, 32.24),  # 8 Gy at RBE 1.3, by hand: 10.4 * (1 + 5.2)
        (42.0, 18, 2.0, 91.0, 45.5),  # 18 x 2.33 Gy: cord EQD2 45.5 Gy in PMC6884857
    ],
)
def test_bed_and_eqd2_by_hand_and_in_print(
    dose: float, fractions: int, alpha_beta: float, bed_expected: float, eqd2_expected: float
) -> None:
    ratio = AlphaBeta(value_gy=alpha_beta, tissue="test", source="test")
    total = Quantity(dose, "Gy_RBE")
    assert bed(total, ratio, fractions).to("Gy_BED").magnitude == pytest.approx(bed_expected, rel=1e-12)
    assert eqd2(total, ratio, fractions).to("Gy_EQD2").magnitude == pytest.approx(eqd2_expected, rel=1e-12)


def test_the_ratios_are_the_published_ones_and_memory_is_called_memory() -> None:
    assert (CORD_HYTEC.value_gy, CORD_QUANTEC.value_gy, TUMOUR.value_gy) == (2.0, 0.87, 10.0)
    assert "memory" in TUMOUR.source
    assert all("doi:" in each.source for each in ALPHA_BETAS if each.tissue == "spinal cord")


# Units


@pytest.mark.parametrize("function", [bed, eqd2, biological_dose])
def test_physical_dose_is_a_type_error(function: object) -> None:
    assert callable(function)
    with pytest.raises(pint.DimensionalityError) as caught:
        function(Quantity(8.0, "Gy"), CORD_HYTEC)
    assert isinstance(caught.value, TypeError)
    with pytest.raises(TypeError, match="needs a unit"):
        function(8.0, CORD_HYTEC)


def test_rbe_weighted_dose_is_not_weighted_twice() -> None:
    with pytest.raises(TypeError):
        compare_with_limits(Quantity(10.4, "Gy_RBE"), Rbe())


@pytest.mark.parametrize("unit", ["Gy", "Gy_RBE"])
def test_neither_bed_nor_eqd2_is_added_to_a_dose_or_to_each_other(unit: str) -> None:
    dose = Quantity(10.4, "Gy_RBE")
    effective, equivalent = bed(dose, CORD_HYTEC), eqd2(dose, CORD_HYTEC)
    for first, second in ((effective, Quantity(1.0, unit)), (equivalent, Quantity(1.0, unit)), (effective, equivalent)):
        with pytest.raises(TypeError):
            first + second
        with pytest.raises(TypeError):
            first > second  # noqa: B015


# The model's range


def test_the_note_starts_at_8_gy_rbe_in_one_fraction() -> None:
    assert biological_dose(Quantity(7.99, "Gy_RBE"), TUMOUR).note == ""
    assert biological_dose(Quantity(8.0, "Gy_RBE"), TUMOUR).note == LQ_NOTE
    assert biological_dose(Quantity(30.0, "Gy_RBE"), TUMOUR, 10).note == ""
    for citation in ("PMC2750078", "10.1016/j.semradonc.2008.04.005", "too high"):
        assert citation in LQ_NOTE


# Limits


def test_limits_are_those_of_the_publications_in_their_own_dose() -> None:
    found = [(each.name, round(each.low, 1), round(each.high, 1), each.unit) for each in CORD_LIMITS]
    assert found == [
        ("HyTEC", 12.4, 14.0, "Gy(RBE)"),
        ("QUANTEC", 13.0, 13.0, "Gy(RBE)"),
        ("kypho-IORT protocol", 8.6, 8.6, "Gy"),
    ]
    assert "unconfirmed" in CORD_LIMITS[2].convention


def test_photon_limits_meet_gy_rbe_and_the_protocol_meets_gy() -> None:
    # 8 Gy at RBE 1.3 is 10.4 Gy(RBE).
    seen = by_name(8.0)
    assert seen["HyTEC"].value == pytest.approx(10.4)
    assert seen["kypho-IORT protocol"].value == pytest.approx(8.0)
    assert [each.verdict for each in seen.values()] == ["below", "below", "below"]


@pytest.mark.parametrize(
    ("canal_gy", "verdicts"),
    [
        (9.0, ("below", "below", "above")),  # 11.7 Gy(RBE), 9.0 Gy
        (9.6, ("within", "below", "above")),  # 12.48 Gy(RBE): a comparison in Gy would say below
        (10.0, ("within", "within", "above")),  # 13.0 Gy(RBE): equal is not above
        (10.5, ("within", "above", "above")),  # 13.65
        (11.0, ("above", "above", "above")),  # 14.3
        (12.0 / 1.4, ("below", "below", "within")),
    ],
)
def test_verdicts(canal_gy: float, verdicts: tuple[str, ...]) -> None:
    assert tuple(each.verdict for each in by_name(canal_gy).values()) == verdicts


def test_a_line_says_value_limit_unit_and_convention() -> None:
    line = by_name(9.6)["HyTEC"].text
    assert "canal 12.5 Gy(RBE), within HyTEC 12.4 to 14.0 Gy(RBE)" in line
    assert "RBE 1" in line
    assert "doi:10.1016/j.ijrobp.2019.09.038" in line
    assert "8.6 Gy (" in by_name(9.6)["kypho-IORT protocol"].text


# Refusals


def test_an_rbe_has_a_range_and_a_source() -> None:
    assert Rbe.given(1.3) == Rbe()
    assert "Krauss" in Rbe.given(1.3).source
    assert "user" in Rbe.given(1.5).source
    assert Prescription().rbe == Rbe().value
    for bad in (0.4, 3.1, math.nan):
        with pytest.raises(InputError, match=r"outside 0\.5 to 3"):
            Rbe(value=bad, source="test")
    with pytest.raises(InputError, match="source"):
        Rbe(value=1.2, source=" ")


@pytest.mark.parametrize("bad", [0.0, -2.0, math.nan, math.inf])
def test_alpha_beta_must_be_above_zero(bad: float) -> None:
    with pytest.raises(InputError, match="alpha/beta"):
        AlphaBeta(value_gy=bad, tissue="cord", source="test")


@pytest.mark.parametrize(("dose", "fractions"), [(-1.0, 1), (math.nan, 1), (math.inf, 1), (8.0, 0), (8.0, -1)])
def test_what_has_no_bed_is_refused(dose: float, fractions: int) -> None:
    for function in (bed, eqd2, biological_dose):
        with pytest.raises(InputError):
            function(Quantity(dose, "Gy_RBE"), TUMOUR, fractions)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_a_canal_dose_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match="canal dose"):
        compare_with_limits(Quantity(bad, "Gy"), Rbe())


# Properties


@given(st.floats(0.0, 50.0), st.integers(1, 30), st.floats(0.5, 20.0))
def test_fractions_of_two_are_their_own_eqd2_and_splitting_spares(dose: float, n: int, ratio: float) -> None:
    tissue = AlphaBeta(value_gy=ratio, tissue="test", source="test")
    assert eqd2(Quantity(2.0 * n, "Gy_RBE"), tissue, n).magnitude == pytest.approx(2.0 * n, rel=1e-12)
    once, split = bed(Quantity(dose, "Gy_RBE"), tissue), bed(Quantity(dose, "Gy_RBE"), tissue, n)
    assert once.magnitude >= split.magnitude >= dose


@given(st.floats(0.1, 20.0), st.floats(0.5, 3.0))
def test_weighted_value_is_the_one_conversion(canal_gy: float, rbe: float) -> None:
    expected = rbe_weighted(Quantity(canal_gy, "Gy"), rbe).to("Gy_RBE").magnitude
    assert by_name(canal_gy, Rbe(value=rbe, source="test"))["QUANTEC"].value == pytest.approx(expected)
