"""Conversion between calibration scales.

Published values: Ayala Alvarez et al. 2020, PMID 32795615, dose at the surface of spheres of 1.5 and 5 cm for 20 Gy on
the TARGIT scale: V4.0 28.6 and 23.2 Gy, CQ 31.7 and 25.2 Gy. Over 5-30 mm V4.0 and CQ read 14 to 80 % higher than TARGIT
(Watson et al. 2018, doi:10.1088/1361-6560/aa9560).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from iort_planner.errors import DepthDoseRangeError, DepthDoseTableError
from iort_planner.source.depth_dose import DepthDoseTable, Scale
from iort_planner.source.polar import PolarAnisotropy
from iort_planner.source.scale import ScaleConversion, convert_scale, published_conversion, read_conversion
from iort_planner.units import Quantity
from tests.source.table_files import DAY, table

PUBLISHED = [(Scale.V4, 7.5, 1.430), (Scale.V4, 25.0, 1.160), (Scale.CQ, 7.5, 1.585), (Scale.CQ, 25.0, 1.260)]
INSIDE = {"distance_mm": [7.5, 10.0, 13.0, 20.0, 25.0]}


def inside(**changes: object) -> DepthDoseTable:
    return table(**{**INSIDE, **changes})


@pytest.mark.parametrize(("scale", "distance_mm", "ratio"), PUBLISHED)
def test_published_ratios_come_out(scale: Scale, distance_mm: float, ratio: float) -> None:
    bare = inside()
    converted = convert_scale(bare, published_conversion(Scale.TARGIT, scale), made=DAY)
    at = Quantity(distance_mm, "mm")

    assert float(converted.dose_rate_at(at) / bare.dose_rate_at(at)) == pytest.approx(ratio, abs=1e-12)


def test_between_the_pairs_the_factor_is_one_plus_a_power() -> None:
    # closed form through the two points, written down apart from the package
    for scale, near, far in ((Scale.V4, 0.43, 0.16), (Scale.CQ, 0.585, 0.26)):
        b = np.log(near / far) / np.log(25.0 / 7.5)
        r = np.linspace(7.5, 25.0, 50)
        expected = 1.0 + near * (r / 7.5) ** -b
        assert published_conversion(Scale.TARGIT, scale).factor_at(Quantity(r, "mm")) == pytest.approx(
            expected, rel=1e-12
        )
        assert np.all((expected >= 1.14) & (expected <= 1.80))  # Watson 2018
    # facts.md: 1.41 and 1.56 at 8 mm, 1.27 and 1.40 at 13 mm (2 decimals)
    for scale, values in ((Scale.V4, (1.41, 1.27)), (Scale.CQ, (1.56, 1.40))):
        got = published_conversion(Scale.TARGIT, scale).factor_at(Quantity([8.0, 13.0], "mm"))
        assert got == pytest.approx(values, abs=0.006)


@pytest.mark.parametrize("scale", [Scale.V4, Scale.CQ])
def test_there_and_back_is_the_same_table(scale: Scale) -> None:
    bare = inside()
    there = convert_scale(bare, published_conversion(Scale.TARGIT, scale), made=DAY)
    back = convert_scale(there, published_conversion(scale, Scale.TARGIT), made=DAY)

    assert back.dose_rate_gy_per_min == pytest.approx(bare.dose_rate_gy_per_min, rel=1e-14)
    assert back.scale is Scale.TARGIT
    assert back.scale_uncertainty_percent == pytest.approx(5.1 * 2**0.5)  # each way adds its own


def test_a_converted_table_is_marked() -> None:
    polar = PolarAnisotropy(
        theta_deg=np.array([0.0, 90.0, 180.0]), distance_mm=np.array([5.0]), factor=np.array([[0.5], [1.0], [0.2]])
    )
    bare = inside(sha256="a" * 64, file="bare.csv", anisotropy=polar, scale_uncertainty_percent=1.0)
    made = convert_scale(bare, published_conversion(Scale.TARGIT, Scale.V4), made=DAY)

    assert (made.scale, made.derived, made.measured, made.clinical) == (Scale.V4, True, "2026-11-01", False)
    assert made.uncertainty_percent.tolist() == bare.uncertainty_percent.tolist()
    assert made.scale_uncertainty_percent == pytest.approx((1.0 + 5.1**2) ** 0.5)
    assert made.origin.startswith("converted from scale targit: certificate 1")
    for word in ("a" * 64, "targit to v4.0", "PMID 32795615", "5.1 % (k=1)", "measured 2026-01-05"):
        assert word in made.notes[-1]
    assert made.anisotropy is polar  # a ratio at one distance: the factor cancels


def test_rows_outside_the_published_range_are_refused_or_cut() -> None:
    conversion = published_conversion(Scale.TARGIT, Scale.V4)
    with pytest.raises(DepthDoseTableError, match=r"rows at 5, 30 mm lie outside 7\.5 to 25 mm"):
        convert_scale(table(), conversion, made=DAY)
    made = convert_scale(table(), conversion, cut=True, made=DAY)

    assert made.range_mm == made.trusted_range_mm == (7.5, 25.0)
    assert "rows at 5, 30 mm of 'bare' were cut" in made.notes
    with pytest.raises(DepthDoseRangeError, match="never extrapolated"):
        conversion.factor_at(Quantity(5.0, "mm"))


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (Scale.OTHER, "'other' is no scale"),
        (Scale.V4, r"take its inverse\(\)"),
        (Scale.CQ, "a conversion that starts there"),
    ],
)
def test_a_table_on_another_scale_is_refused(scale: Scale, message: str) -> None:
    with pytest.raises(DepthDoseTableError, match=message):
        convert_scale(inside(scale=scale), published_conversion(Scale.TARGIT, Scale.V4), made=DAY)


@pytest.mark.parametrize("pair", [(Scale.V4, Scale.CQ), (Scale.TARGIT, Scale.OTHER), (Scale.TARGIT, Scale.TARGIT)])
def test_other_pairs_are_not_published(pair: tuple[Scale, Scale]) -> None:
    with pytest.raises(DepthDoseTableError, match="is published"):
        published_conversion(*pair)


CONVERSION = """# kind: scale-conversion
# reference_point: source-centre
# from_scale: targit
# to_scale: cq
# uncertainty: 6 % (k=2)
# clinical: yes
# origin: own comparison, 2026
distance_mm,factor
5,1.8
10,1.5
30,1.2
"""


def given(folder: Path, text: str) -> ScaleConversion:
    path = folder / "conversion.csv"
    path.write_text(text, encoding="utf-8")
    return read_conversion(path)


def test_a_users_own_conversion_is_read(tmp_path: Path) -> None:
    for text in (CONVERSION, CONVERSION.replace(",", ";").replace("comparison; 2026", "comparison, 2026")):
        conversion = given(tmp_path, text)
        made = convert_scale(table(), conversion, made=DAY)

        assert (made.scale, made.clinical, made.scale_uncertainty_percent) == (Scale.CQ, True, 3.0)
        assert float(made.dose_rate_at(Quantity(10, "mm")) / table().dose_rate_at(Quantity(10, "mm"))) == pytest.approx(
            1.5
        )
        assert conversion.sha256 in made.notes[-1]
        assert conversion.inverse().inverse().factor_at(Quantity(7.0, "mm")) == conversion.factor_at(
            Quantity(7.0, "mm")
        )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("from_scale: targit", "from_scale: other", "line 3: from_scale is 'other', must be one of targit, v4.0, cq"),
        ("to_scale: cq", "to_scale: targit", "it must lead from one to another"),
        ("# origin: own comparison, 2026\n", "", "the head lacks '# origin"),
        ("10,1.5", "3,1.5", "line 10: distance 3 mm does not increase"),
        ("10,1.5", "10,-1.5", "line 10: '10,-1.5': distance and factor must be above 0"),
        ("distance_mm,factor", "distance_cm,factor", "line 8: columns are"),
        ("kind: scale-conversion", "kind: depth-dose", "must be one of scale-conversion"),
    ],
)
def test_a_wrong_conversion_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(DepthDoseTableError) as caught:
        given(tmp_path, CONVERSION.replace(old, new))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"to_scale": Scale.OTHER},
        {"factor": np.array([1.5, 0.9]), "excess": True},
        {"factor": np.array([1.5, 0.0])},
        {"factor": np.array([1.5])},
        {"uncertainty_percent": 0.0},
    ],
)
def test_a_conversion_that_cannot_be_right_cannot_exist(changes: dict[str, object]) -> None:
    fields: dict[str, object] = {
        "from_scale": Scale.TARGIT,
        "to_scale": Scale.CQ,
        "distance_mm": np.array([5.0, 10.0]),
        "factor": np.array([1.5, 1.2]),
        "uncertainty_percent": 5.0,
        "origin": "test",
        "clinical": False,
        **changes,
    }
    with pytest.raises(DepthDoseTableError):
        ScaleConversion(**fields)  # type: ignore[arg-type]  # a test factory
