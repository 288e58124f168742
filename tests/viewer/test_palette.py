"""Isodose levels and the wording of doses that all pictures share."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iort_planner.planning.plan import Check, Plan
from iort_planner.viewer import palette
from tests.plan_factory import example, make_example_plan


def plan_with(radii: dict[str, float | None], dose_gy: float = 8.0, limit_gy: float = 8.0) -> Plan:
    plan = example()[0]
    return dataclasses.replace(
        plan,
        result=dataclasses.replace(plan.result, isodose_radius_mm=radii),
        prescription=dataclasses.replace(plan.prescription, dose_gy=dose_gy, limit_gy=limit_gy),
    )


def test_the_prescription_keeps_its_colour_whatever_stands_beside_it() -> None:
    alone = palette.isodose_levels(plan_with({"8": 10.0, "4": 14.0}))
    among = palette.isodose_levels(plan_with({"8": 10.0, "4": 14.0, "12": 8.0}, limit_gy=12.0))
    assert [level.dose_gy for level in among] == [12.0, 8.0, 4.0]
    assert alone[0].colour == among[1].colour
    assert [level.role for level in among] == ["limit", "prescription", ""]
    assert len({level.colour for level in among}) == 3
    assert len({level.dashes for level in among}) == 3


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


def _luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255.0 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return math.fsum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_verdict_colours_carry_dark_letters_readably() -> None:
    # WCAG 2.1, 1.4.3: contrast of at least 4.5 for normal text
    for colour in palette.VERDICT_COLOUR.values():
        contrast = (_luminance(colour) + 0.05) / (_luminance(palette.INK) + 0.05)
        assert contrast >= 4.5
