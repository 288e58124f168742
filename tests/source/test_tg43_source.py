"""Reading a TG-43 table: what it holds comes out as it stands; what is wrong is refused with its line."""

from __future__ import annotations

import math
import re

import pytest

from iort_planner.errors import DepthDoseTableError
from iort_planner.source.depth_dose import Scale
from iort_planner.source.tg43 import RadialInterpolation, parse_tg43
from tests.tg43_texts import BODY, consensus_text, tg43_text


def test_every_cell_and_key_comes_out_in_millimetres() -> None:
    source = parse_tg43(tg43_text())

    assert source.radial_distance_mm.tolist() == [2.0, 5.0, 10.0, 20.0, 50.0]
    assert source.radial_dose.tolist() == [1.3, 1.2, 1.0, 0.7, 0.2]
    assert source.anisotropy.distance_mm.tolist() == [5.0, 10.0, 30.0]
    assert source.anisotropy.theta_deg.tolist() == [0.0, 30.0, 90.0, 150.0, 180.0]
    assert source.anisotropy.factor[4].tolist() == [0.3, 0.4, 0.5]
    assert not source.anisotropy.completed
    assert (source.active_length_mm, source.dose_rate_constant_cgy_per_h_u) == (3.0, 0.9)
    assert source.air_kerma_strength_u == 40000.0
    assert source.uncertainty_percent == 3.0  # 6 % (k=2)
    assert source.radial_interpolation is RadialInterpolation.LOG_LINEAR
    assert (source.scale, source.clinical, source.derived) == (Scale.OTHER, False, False)


@pytest.mark.shared
def test_the_125i_consensus_set_is_read_and_mirrored_because_it_ends_at_80_degrees() -> None:
    source = parse_tg43(consensus_text("125i_6711.csv", air_kerma_strength_u=None))

    assert source.range_mm == (1.0, 100.0)
    assert source.anisotropy.completed
    assert float(source.anisotropy.factor_at(10.0, 100.0)) == 1.0  # 80 degrees
    assert float(source.anisotropy.factor_at(50.0, 180.0)) == 0.55
    assert source.air_kerma_strength_u is None


@pytest.mark.shared
def test_the_192ir_consensus_set_is_read_with_its_rows_at_the_centre() -> None:
    source = parse_tg43(consensus_text("192ir_mhdr_v1.csv", radial_interpolation="linear"))

    assert source.range_mm == (0.0, 100.0)
    assert source.anisotropy.factor.shape == (47, 10)
    assert not source.anisotropy.completed
    assert float(source.anisotropy.factor_at(20.0, 177.0)) == 0.586
    assert source.radial_interpolation is RadialInterpolation.LINEAR


@pytest.mark.parametrize("key", ["dose_rate_constant_cgy_per_h_u", "active_length_mm", "name", "scale", "origin"])
def test_a_missing_key_is_named(key: str) -> None:
    text = tg43_text()
    del text.head[key]
    with pytest.raises(DepthDoseTableError, match=f"lacks '# {key}: "):
        parse_tg43(text)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("active_length_mm", "-1", "active length is -1"),
        ("active_length_mm", "3 mm", "'3 mm', must be a number"),
        ("dose_rate_constant_cgy_per_h_u", "0", "dose-rate constant is 0"),
        ("air_kerma_strength_u", "inf", "must be finite"),
        ("air_kerma_strength_u", "", "must not be empty"),
        ("scale", "tg43", "must be one of targit"),
        ("uncertainty", "5 %", "must be like"),
        ("radial_interpolation", "cubic", "must be one of log-linear, linear"),
        ("reference_point", "tip", "must be source-centre"),
    ],
)
def test_a_wrong_key_is_refused(key: str, value: str, problem: str) -> None:
    with pytest.raises(DepthDoseTableError, match=r"table seed.csv, line \d+: .*" + re.escape(problem)):
        parse_tg43(tg43_text(**{key: value}))


FIRST_LINE = 16  # of the body: 15 keys stand above it


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("section,r_cm,g\n", "section,r_mm,g\n", 0, "must be 'section,r_cm,g'"),
        ("g,0.5,1.2\n", "g,0.1,1.2\n", 2, "r_cm 0.1 does not increase"),
        ("g,1,1\n", "g,1,1.01\n", 0, "g at 10 mm is 1.01"),
        ("g,1,1\n", "g,1,one\n", 3, "'one', must be a number"),
        ("g,1,1\n", "g,1,nan\n", 3, "must be finite"),
        ("g,1,1\n", "g,1,1,1\n", 3, "4 cells under 3 columns"),
        ("g,1,1\n", "F,1,1\n", 3, "section is 'F', must be 'g'"),
        ("g,0.2,1.3\n", "g,0.2,0\n", 0, "above 0"),
        ("r0.5cm", "r5mm", 6, "must be like"),
        ("section,theta_deg,r0.5cm,r1cm,r3cm\n", "", 10, "no second header"),
        ("F,30,", "F,0,", 8, "theta_deg 0 does not increase"),
        ("F,90,1,1,1", "F,90,1,1.1,1", 6, "factor at 90 degrees and 10 mm is 1.1"),
        ("F,30,0.8", "F,30,-0.8", 6, "above 0"),
        ("F,150,0.7,0.75,0.8\n", "F,150,0.7,0.75\n", 10, "4 cells under 5 columns"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line(old: str, new: str, line: int, problem: str) -> None:
    assert BODY.count(old) == 1
    with pytest.raises(DepthDoseTableError, match=f"line {FIRST_LINE + line}: .*{re.escape(problem)}"):
        parse_tg43(tg43_text(BODY.replace(old, new)))


def test_a_table_without_rows_of_f_is_refused() -> None:
    body = BODY[: BODY.index("F,0,")]
    with pytest.raises(DepthDoseTableError, match="at least 2 angles"):
        parse_tg43(tg43_text(body))


def test_g_that_does_not_reach_its_reference_point_is_refused() -> None:
    body = BODY.replace("g,1,1\ng,2,0.7\ng,5,0.2\n", "")
    with pytest.raises(DepthDoseTableError, match="must cover its reference point"):
        parse_tg43(tg43_text(body))


def test_uncertainty_is_stored_at_one_standard_deviation() -> None:
    assert math.isclose(parse_tg43(tg43_text(uncertainty="4 % (k=1)")).uncertainty_percent, 4.0)
