"""Words of the report that could mislead: sides, times, how the depth is meant."""

from __future__ import annotations

import dataclasses

import pytest

from iort_planner.report import tables
from tests.plan_factory import example


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ((12.34, -150.0, -430.06), "12.3 L, 150.0 A, 430.1 I mm"),
        ((-12.34, 150.0, 430.06), "12.3 R, 150.0 P, 430.1 S mm"),
        ((0.0, -0.04, 0.04), "0.0 L, 0.0 P, 0.0 S mm"),
    ],
)
def test_coordinates_carry_the_letter_of_their_side(point: tuple[float, float, float], words: str) -> None:
    assert tables.point_text(point).startswith(words)


@pytest.mark.parametrize(
    ("stamp", "words"),
    [
        ("2026-11-22T10:30:00+01:00", "2026-11-22 10:30 +01:00"),
        ("2026-11-22T10:30:00", "2026-11-22 10:30"),
        (None, "an unknown time"),
        ("yesterday", "yesterday"),
    ],
)
def test_times_for_people(stamp: str | None, words: str) -> None:
    assert tables.time_of(stamp) == words


@pytest.mark.parametrize(
    ("depth_from", "words"),
    [
        ("canal-limit", "(time set by the canal's limit)"),
        ("tip", "(asked for: 10.0 mm from the tip)"),
        ("surface", "(asked for: 10.0 mm from the surface)"),
    ],
)
def test_a_depth_is_never_given_without_its_origin(depth_from: str, words: str) -> None:
    plan = example()[0]
    prescription = dataclasses.replace(
        plan.prescription, depth_mm=10.0, depth_from=depth_from, depth_from_source_mm=13.0
    )
    rows = dict(tables.sections(dataclasses.replace(plan, prescription=prescription))[2][1])
    assert rows["prescription"].startswith("8 Gy | 10.4 Gy(RBE) at 13.0 mm from the source centre " + words)


def test_a_shaft_in_the_canal_is_called_that() -> None:
    plan = example()[0]
    canal = dataclasses.replace(plan.canal, shaft_clearance_mm=-0.4)
    tile = next(t for t in tables.headline(dataclasses.replace(plan, canal=canal)) if t[0] == "Shaft to canal")
    assert "stands in the canal" in tile[2]
    tile = next(t for t in tables.headline(plan) if t[0] == "Shaft to canal")
    assert "stands in" not in tile[2]
