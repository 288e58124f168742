"""The command that lists metal: what it says, what can be pasted, and how a refused plan leads to it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iort_planner.applicator import NeedleContent
from iort_planner.cli.main import build_parser, main
from iort_planner.cli.needles import command
from iort_planner.cli.summary import summary
from iort_planner.phantom.dicom_series import write_phantom
from iort_planner.phantom.scan import build
from iort_planner.phantom.spec import find_spec, read_spec
from iort_planner.phantom.spec_model import RodSpec
from iort_planner.planning.plan import PlanNeedle
from iort_planner.planning.plan_file import read_plan
from iort_planner.report.tables import sections
from tests import planning_cases as cases


def listed(capsys: pytest.CaptureFixture[str], scan: Path, *options: str) -> tuple[int, dict[str, Any]]:
    status = main(["needles", str(scan), "--json", "--quiet", *options])
    captured = capsys.readouterr()
    assert captured.err == ""
    document: dict[str, Any] = json.loads(captured.out)
    return status, document


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes the small phantom with ``changes`` of its specification; the folder with scan and truth."""

    def write(**changes: Any) -> Path:
        folder = tmp_path_factory.mktemp("phantom")
        built = build(replace(read_spec(find_spec("small")), **changes), 1)
        write_phantom(built, folder, acquired_at=dt.datetime.now().astimezone())
        return folder

    return write


@pytest.fixture(scope="module")
def two_needles(phantom: Callable[..., Path]) -> Path:
    """A second needle from the right at the same level, and a rod beside the spine."""
    needle = read_spec(find_spec("small")).needle
    (x, y, z), (u, v, w) = needle.tip_mm, needle.through_mm
    other = replace(needle, tip_mm=(-x, y, z), through_mm=(-u, v, w))
    rod = RodSpec(start_mm=(-25.0, 25.0, -24.0), end_mm=(-25.0, 25.0, 24.0), diameter_mm=5.5, material="titanium")
    return phantom(extra_needles=(other,), rods=(rod,)) / "scan"


def test_the_needle_stands_there_with_what_a_plan_says_of_it(
    capsys: pytest.CaptureFixture[str], small_phantom: Path
) -> None:
    status, document = listed(capsys, small_phantom / "scan")
    true = json.loads((small_phantom / "truth.json").read_text(encoding="utf-8"))["needles"][0]
    (needle,) = document["needles"]

    assert status == 0
    assert document["schema"] == "iort-planner/needles/1"
    assert document["metal"] == []
    assert {field.name for field in dataclasses.fields(PlanNeedle)} < set(needle)
    assert math.dist(needle["tip_lps_mm"], true["tip_lps_mm"]) < 0.5
    assert (needle["label"], needle["method"], needle["content"]) == ("1", "auto", "solid")
    assert (needle["confidence"] == "low") == bool(needle["reasons"])


def test_people_get_lines_that_plan_understands_when_they_are_pasted(
    capsys: pytest.CaptureFixture[str], small_phantom: Path
) -> None:
    scan = small_phantom / "scan"
    _, document = listed(capsys, scan)
    assert main(["needles", str(scan), "--quiet"]) == 0
    text = capsys.readouterr().out
    pasted = [line.split("  ")[-1].strip() for line in text.splitlines() if " --" in line]
    hint, by_hand = (
        build_parser().parse_args(
            ["plan", "S", "--out", "P", *(f" {w}" if w[1].isdigit() else w for w in shlex.split(line))]
        )
        for line in pasted
    )
    (needle,) = document["needles"]

    assert text.splitlines()[0] == f"{scan}: 1 needle found; other metal: none"
    assert "needle 1: confidence" in text
    assert "inside          solid" in text
    assert "not a medical device" in text
    assert by_hand.tip == pytest.approx(needle["tip_lps_mm"], abs=0.01)
    assert by_hand.axis == pytest.approx(needle["axis_lps"], abs=1e-5)
    assert hint.needle_hint == pytest.approx(needle["hint_lps_mm"], abs=0.01)
    behind = np.array(hint.needle_hint) - needle["tip_lps_mm"]
    assert np.linalg.norm(np.cross(behind, needle["axis_lps"])) < 0.02  # on the needle, and on its steel
    assert behind @ needle["axis_lps"] == pytest.approx(cases.APPLICATOR.radiolucent_tip_length_mm + 10.0, abs=0.02)
    assert max(map(len, text.splitlines()[1:])) <= 132


def test_several_needles_and_a_rod_are_told_apart(capsys: pytest.CaptureFixture[str], two_needles: Path) -> None:
    status, document = listed(capsys, two_needles)
    rods = [metal for metal in document["metal"] if metal["kind"] == "rod"]

    assert status == 0
    assert sorted(needle["label"] for needle in document["needles"]) == ["1L", "1R"]
    assert len(rods) == 1
    assert rods[0]["length_mm"] == pytest.approx(math.dist(rods[0]["start_lps_mm"], rods[0]["end_lps_mm"]), abs=0.1)
    assert rods[0]["diameter_mm"] == pytest.approx(5.5, abs=1.0)
    assert set(rods[0]) == {"kind", "start_lps_mm", "end_lps_mm", "diameter_mm", "length_mm", "what"}
    main(["needles", str(two_needles), "--quiet"])
    text = capsys.readouterr().out
    assert "2 needles found; other metal: 1 x rod" in text
    assert "leaves the body or the image at both ends" in text


def test_a_plan_that_cannot_choose_leads_here_and_a_pasted_hint_makes_it(
    capsys: pytest.CaptureFixture[str], two_needles: Path, tmp_path: Path
) -> None:
    plan = ["plan", str(two_needles), "--out", str(tmp_path / "plan"), "--no-pictures", "--quiet", "--json"]
    assert main(plan) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: no needle found that stands out: 2 alike")
    assert captured.err.endswith(f"see what metal there is: iort-planner needles {two_needles}\n")
    assert captured.err.count("\n") == 1

    _, document = listed(capsys, two_needles)
    meant = document["needles"][1]
    main([*plan, "--needle-hint", *map(str, meant["hint_lps_mm"])])
    made = json.loads(capsys.readouterr().out)

    assert [needle["label"] for needle in made["needles"]] == [meant["label"], document["needles"][0]["label"]]
    assert math.dist(made["needles"][0]["tip_lps_mm"], meant["tip_lps_mm"]) < 0.1
    assert [dwell["needle"] for dwell in made["dwells"]] == [meant["label"]]
    assert read_plan(tmp_path / "plan" / "plan.json").needles[1].label == document["needles"][0]["label"]


def test_without_a_needle_one_line_says_so_and_the_status_is_1(
    capsys: pytest.CaptureFixture[str], phantom: Callable[..., Path], tmp_path: Path
) -> None:
    needle = read_spec(find_spec("small")).needle
    scan = phantom(needle=replace(needle, parts="none")) / "scan"

    assert main(["needles", str(scan), "--quiet"]) == 1
    assert capsys.readouterr().out.splitlines()[0] == f"{scan}: no needle found; other metal: none"
    assert listed(capsys, scan)[0] == 1
    assert main(["plan", str(scan), "--out", str(tmp_path / "plan"), "--quiet"]) == 2
    assert f"see what metal there is: iort-planner needles {scan}\n" in capsys.readouterr().err


def test_what_cannot_be_read_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "applicator.toml").write_text("name = 3\n", encoding="utf-8")
    for options in (
        [str(tmp_path)],
        [str(tmp_path / "none")],
        [".", "--applicator", str(tmp_path / "applicator.toml")],
    ):
        assert main(["needles", *options, "--json"]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1


def test_the_call_that_a_refused_plan_shows_reads_the_same_scan_in_the_same_way() -> None:
    plan = ["plan", "a scan", "--out", "P", "--series", "1.2", "--applicator", "mine.toml", "--resample-tilt"]
    shown = command(build_parser().parse_args(plan))

    assert shown == "iort-planner needles 'a scan' --series 1.2 --applicator mine.toml --resample-tilt"
    again = build_parser().parse_args(shlex.split(shown)[1:])
    assert (again.series, again.applicator, again.resample_tilt) == ("1.2", "mine.toml", True)
    assert not again.accept_mixed_frames


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (NeedleContent.AIR, "hollow, air inside"),
        (NeedleContent.PROBE, "hollow, the probe inside"),
        (NeedleContent.SOLID, "solid"),
        (NeedleContent.UNKNOWN, "inside not known"),
    ],
)
def test_summary_and_report_say_what_is_inside_and_which_needle(content: NeedleContent, words: str) -> None:
    shift = np.array([8.0, 0.0, 0.0])
    first = cases.needle(label="1L")
    other = replace(
        first,
        label="1R",
        tip_lps_mm=first.tip_lps_mm + shift,
        source_lps_mm=first.source_lps_mm + shift,
        content=content,
    )
    plan = cases.plan(at=replace(first, content=content), other_needles=(other,))

    assert f"confidence high; {words}" in summary(plan)
    assert "tip of needle 1L" in summary(plan)
    assert f"mm, {words}: metal in the way, no dwell in it" in summary(plan)
    rows = dict(next(rows for title, rows in sections(plan) if title == "Needle and canal"))
    assert rows["needle 1L: how, confidence"].startswith(f"auto, high; {words}; tip ±")
    assert rows["needle 1R: how, confidence"].startswith(f"auto, high; {words}; tip ±")


def test_help_says_what_can_be_done_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["needles", "--help"])
    text = capsys.readouterr().out

    assert left.value.code == 0
    assert "--needle-hint" in text
    assert "not a medical device" in text
