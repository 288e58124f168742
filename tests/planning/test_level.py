"""The planned level in the plan: only shown, and what cannot be told is said to be unknown, with the reason."""

from __future__ import annotations

import dataclasses

import pytest

from iort_planner.cli.summary import summary
from iort_planner.planning.level import describe_level
from iort_planner.planning.plan import PlanLevel, PlanPathPart
from tests import planning_cases as cases
from tests.plan_factory import make_example_plan


def test_in_soft_tissue_the_way_adds_up_and_no_cortex_is_seen() -> None:
    level = describe_level(cases.image().volume, cases.needle(), cases.canal(12.0))

    assert {part.tissue for part in level.path} <= {"needle", "hidden", "soft"}
    assert sum(part.length_mm for part in level.path) == pytest.approx(12.0, abs=1e-9)
    assert level.wall == "lytic"
    assert level.wall_text.startswith("no cortex seen at the canal's wall")


def test_without_a_vertebra_the_hu_are_unknown_and_the_note_says_why() -> None:
    level = describe_level(cases.image().volume, cases.needle(), cases.canal(12.0))  # the canal is one wall point

    assert (level.lesion_mean_hu, level.lesion_median_hu, level.lesion_sd_hu) == (None, None, None)
    assert level.hu_text == "unknown"
    assert level.note


def test_without_hu_nothing_is_told_apart() -> None:
    level = describe_level(cases.image(hu_calibrated=False).volume, cases.needle(), cases.canal(12.0))

    assert (level.path, level.wall, level.lesion_mean_hu) == ((), "unknown", None)
    assert "not HU" in level.note
    assert (level.wall_text, level.path_text) == ("cortex at the canal's wall not clear", "unknown")


LEVEL = PlanLevel(
    lesion_mean_hu=48.4,
    lesion_median_hu=45.0,
    lesion_sd_hu=31.0,
    lesion_radius_mm=10.0,
    path=(PlanPathPart(tissue="needle", length_mm=2.2), PlanPathPart(tissue="soft", length_mm=7.16)),
    wall="lytic",
    note="",
)


@pytest.mark.parametrize(
    ("wall", "words"),
    [
        ("cortex", "cortex seen at the canal's wall"),
        ("lytic", "no cortex seen at the canal's wall (destroyed, or a vein's gap)"),
        ("metal", "metal at the canal's wall"),
        ("unknown", "cortex at the canal's wall not clear"),
    ],
)
def test_the_level_is_one_clear_line_each(wall: str, words: str) -> None:
    level = dataclasses.replace(LEVEL, wall=wall)

    assert level.wall_text == words
    assert level.path_text == "needle 2.2 mm, soft tissue 7.2 mm"
    assert level.hu_text.startswith("48 ± 31 HU (mean, SD) within 10 mm of the source centre")
    text = summary(make_example_plan(level=level))
    assert f"way to the canal     {words}" in text
    assert "HU at the source     48 ± 31 HU" in text
    assert "way to the canal" not in summary(make_example_plan(level=None))
