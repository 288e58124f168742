"""The plan folder: what is in it, with and without a renderer."""

from __future__ import annotations

from pathlib import Path

import pytest

from iort_planner.planning.plan_file import read_plan
from iort_planner.workflow import PlanRequest, plan_scan

PROBLEM = "no 3-D renderer can start here; install an OpenGL library"


def test_without_a_renderer_everything_else_is_written_and_the_plan_says_which_picture_is_missing(
    small_phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iort_planner.viewer.render.renderer_problem", lambda: PROBLEM)
    steps: list[str] = []
    plan = plan_scan(tmp_path / "plan", PlanRequest(path=small_phantom / "scan"), step=steps.append)
    check = next(check for check in plan.checks if check.id == "no-renderer")

    assert (check.status, check.message) == ("warn", f"scene.png is missing: {PROBLEM}")
    assert sorted(entry.name for entry in (tmp_path / "plan").iterdir()) == [
        "canal.nii.gz",
        "dose.nii.gz",
        "plan.json",
        "report.pdf",
        "slices.png",
    ]
    assert read_plan(tmp_path / "plan" / "plan.json") == plan
    assert steps == [
        "tables",
        "scan",
        "needle",
        "canal",
        "level",
        "dose and checks",
        "3-D picture",
        "slices",
        "report",
        "dose and canal files",
    ]


def test_plan_and_view_draw_the_same_picture(small_phantom: Path, tmp_path: Path) -> None:
    from iort_planner.cli.main import main
    from iort_planner.viewer.render import renderer_problem

    if (problem := renderer_problem()) is not None:
        pytest.skip(problem)
    plan_scan(tmp_path / "plan", PlanRequest(path=small_phantom / "scan"))
    assert main(["view", str(tmp_path / "plan"), "--screenshot", str(tmp_path / "again.png"), "--quiet"]) == 0

    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "plan" / "scene.png").read_bytes()
