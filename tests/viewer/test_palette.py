"""Isodose levels and the wording of doses that all pictures share."""

from __future__ import annotations

import dataclasses
import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iort_planner.planning.plan import Check, Plan
from iort_planner.report.slices import _BACKGROUND
from iort_planner.units import FloatArray
from iort_planner.viewer import palette
from tests.plan_factory import example, make_example_plan


def plan_with(radii: dict[str, float | None], dose_gy: float = 8.0, limit_gy: float = 8.0) -> Plan:
    plan = example()[0]
    return dataclasses.replace(
        plan,
        result=dataclasses.replace(plan.result, isodose_radius_mm=radii),
        prescription=dataclasses.replace(plan.prescription, dose_gy=dose_gy, limit_gy=limit_gy),
    )


def four_levels() -> dict[float, tuple[str, tuple[float, ...]]]:
    """Colour and dashes of double, dose, limit and half."""
    levels = palette.isodose_levels(plan_with({"16": 8.3, "8": 10.9, "6": 12.3, "4": 14.6}, limit_gy=6.0))
    return {level.dose_gy: (level.colour, level.dashes) for level in levels}


def test_the_prescription_keeps_its_colour_whatever_stands_beside_it() -> None:
    alone = palette.isodose_levels(plan_with({"8": 10.0, "4": 14.0}))
    among = palette.isodose_levels(plan_with({"8": 10.0, "4": 14.0, "12": 8.0}, limit_gy=12.0))
    assert [level.dose_gy for level in among] == [12.0, 8.0, 4.0]
    assert alone[0].colour == among[1].colour
    assert [level.role for level in among] == ["limit", "prescription", ""]


@pytest.mark.parametrize("limit", [3.0, 6.0, 12.0, 20.0])
def test_dose_double_half_and_limit_are_four_colours_and_four_dashes(limit: float) -> None:
    levels = palette.isodose_levels(plan_with({"16": 8.3, "8": 10.9, "4": 14.6, f"{limit:g}": 9.0}, limit_gy=limit))
    assert len({level.colour for level in levels}) == 4
    assert len({level.dashes for level in levels}) == 4
    style = {level.dose_gy: (level.colour, level.dashes) for level in levels}
    assert style[limit] == four_levels()[6.0]


def test_a_limit_equal_to_the_prescription_is_one_level_with_both_names() -> None:
    levels = palette.isodose_levels(plan_with({"8": 10.0, "4": 14.0}))
    assert [level.role for level in levels] == ["prescription = limit", ""]
    assert levels[0].legend == "8 Gy | 10.4 Gy(RBE), r = 10.0 mm (prescription = limit)"


def test_a_key_of_six_digits_still_finds_its_dose() -> None:
    dose = 100.0 / 12.0
    levels = palette.isodose_levels(plan_with({f"{dose:g}": 10.0, f"{dose / 2:g}": 14.0}, dose_gy=dose))
    assert levels[0].role == "prescription"


def test_a_level_without_radius_says_so() -> None:
    assert "outside the table" in palette.isodose_levels(plan_with({"8": None, "4": 14.0}))[0].legend


@given(st.floats(0.01, 5000.0))
def test_computed_doses_show_three_digits_and_stay_true(dose: float) -> None:
    text = palette.dose_number(dose)
    assert re.fullmatch(r"\d+(\.\d+)?", text)
    assert len(text.lstrip("0.").replace(".", "")) >= 3
    assert float(text) == pytest.approx(dose, rel=0.0051)


@pytest.mark.parametrize(
    ("dose", "text"), [(7.96, "7.96"), (8.0, "8.00"), (9.996, "10.0"), (0.0, "0"), (245.4, "245"), (0.0123, "0.0123")]
)
def test_computed_doses_as_people_write_them(dose: float, text: str) -> None:
    assert palette.dose_number(dose) == text


@pytest.mark.parametrize(
    ("statuses", "words"),
    [
        ("pp", "PASS: all 2 checks passed"),
        ("pw", "WARN: 1 check warns"),
        ("ffwp", "FAIL: 2 checks fail, 1 check warns"),
        ("fp", "FAIL: 1 check fails"),
    ],
)
def test_the_verdict_in_words(statuses: str, words: str) -> None:
    names = {"p": "pass", "w": "warn", "f": "fail"}
    plan = make_example_plan(checks=()).with_checks(*(Check(id="x", status=names[s], message="m") for s in statuses))
    assert palette.verdict_text(plan) == words


def _linear(colour: str) -> FloatArray:
    parts = [int(colour[n : n + 2], 16) / 255.0 for n in (1, 3, 5)]
    return np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts])


def _luminance(colour: str) -> float:
    return float(_linear(colour) @ (0.2126, 0.7152, 0.0722))


# Machado, Oliveira and Fernandes 2009 (IEEE Trans Vis Comput Graph 15:1291), table 1 at severity 1.0, on linear RGB.
EYES = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# IEC 61966-2-1: linear sRGB to CIE XYZ (D65)
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.119192, 0.9503041]]
)


def _lab(colour: str, eyes: str) -> FloatArray:
    """CIELAB of a colour as eyes see it."""
    seen = np.clip(np.array(EYES[eyes]) @ _linear(colour), 0.0, 1.0)
    t = TO_XYZ @ seen / TO_XYZ.sum(axis=1)
    x, y, z = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)])


@pytest.mark.parametrize("eyes", EYES)
def test_isodoses_and_tip_differ_for_every_kind_of_eyes(eyes: str) -> None:
    colours = [*(colour for colour, _ in four_levels().values()), palette.TIP_LINE_COLOUR]
    for one, two in itertools.combinations(colours, 2):
        assert np.linalg.norm(_lab(one, eyes) - _lab(two, eyes)) > 25.0, (one, two)


def test_isodose_labels_are_readable_on_the_slices_dark_ground() -> None:
    for colour, _ in four_levels().values():  # WCAG 2.1, 1.4.3
        assert (_luminance(colour) + 0.05) / (_luminance(_BACKGROUND) + 0.05) >= 4.5


def test_verdict_colours_carry_dark_letters_readably() -> None:
    # WCAG 2.1, 1.4.3: contrast of at least 4.5 for normal text
    for colour in palette.VERDICT_COLOUR.values():
        contrast = (_luminance(colour) + 0.05) / (_luminance(palette.INK) + 0.05)
        assert contrast >= 4.5
