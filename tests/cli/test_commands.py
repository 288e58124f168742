"""The commands on a phantom, as a person and as a script would run them."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from iort_planner.cli.main import main
from iort_planner.planning.plan_file import read_plan

COMMAND = [sys.executable, "-c", "from iort_planner.cli.main import entry_point; entry_point()"]


def plan_json(
    capsys: pytest.CaptureFixture[str], scan: Path, out: Path, *options: object
) -> tuple[int, dict[str, Any]]:
    status = main(["plan", str(scan), "--out", str(out), "--no-pictures", "--json", "--quiet", *map(str, options)])
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out == (out / "plan.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(captured.out)
    return status, document


@pytest.fixture(scope="module")
def truth(small_phantom: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((small_phantom / "truth.json").read_text(encoding="utf-8"))
    return document


def test_plan_finds_needle_and_canal_of_the_small_phantom(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path, truth: dict[str, Any]
) -> None:
    status, plan = plan_json(capsys, small_phantom / "scan", tmp_path / "plan")
    needle, true = plan["needles"][0], truth["needles"][0]

    assert status == (1 if plan["verdict"] == "fail" else 0)
    assert math.dist(needle["tip_lps_mm"], true["tip_lps_mm"]) <= 0.8
    assert plan["canal"]["distance_from_source_mm"] == pytest.approx(truth["canal"]["distance_from_source_mm"], abs=1.0)
    assert sorted(entry.name for entry in (tmp_path / "plan").iterdir()) == ["canal.nii.gz", "dose.nii.gz", "plan.json"]
    assert read_plan(tmp_path / "plan" / "plan.json").verdict == plan["verdict"]


def test_a_needle_and_canal_points_by_hand_are_taken_as_they_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path, truth: dict[str, Any]
) -> None:
    true = truth["needles"][0]
    axis = [1e-5 * component for component in true["axis_lps"]]  # any length, and minus signs with exponents
    point = truth["canal"]["nearest_point_lps_mm"]
    _, plan = plan_json(
        capsys, small_phantom / "scan", tmp_path / "plan",
        "--tip", *true["tip_lps_mm"], "--axis", *axis, "--canal-point", *point, "--depth", 10, "--depth-from", "tip",
    )  # fmt: skip

    assert plan["needles"][0]["method"] == "manual"
    assert plan["needles"][0]["source_lps_mm"] == pytest.approx(true["source_lps_mm"], abs=1e-9)
    assert plan["canal"]["method"] == "points"
    assert plan["canal"]["distance_from_source_mm"] == pytest.approx(
        truth["canal"]["distance_from_source_mm"], abs=1e-6
    )
    assert plan["prescription"]["depth_from_source_mm"] == pytest.approx(13.0)
    assert not (tmp_path / "plan" / "canal.nii.gz").exists()


@pytest.fixture
def by_hand(truth: dict[str, Any]) -> list[object]:
    """Options with needle and canal wall from the truth: nothing is searched for, which is quick."""
    true = truth["needles"][0]
    point = truth["canal"]["nearest_point_lps_mm"]
    return ["--tip", *true["tip_lps_mm"], "--axis", *true["axis_lps"], "--canal-point", *point]


def write_ball(path: Path, scan: Path, centre_lps_mm: list[float], radius_mm: float) -> None:
    """A label map on the scan's grid with a ball in it."""
    import numpy as np

    from iort_planner.imaging.nifti import write_nifti
    from iort_planner.imaging.series import load_series

    grid = load_series(scan).volume.grid
    from_centre = np.linalg.norm(grid.voxel_centres_lps_mm() - np.array(centre_lps_mm), axis=-1)
    write_nifti(path, (from_centre <= radius_mm).astype(np.uint8), grid)


def test_a_cord_is_reported_beside_the_canal_and_limits_nothing(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    small_phantom: Path,
    truth: dict[str, Any],
    by_hand: list[object],
) -> None:
    source, wall = truth["needles"][0]["source_lps_mm"], truth["canal"]["nearest_point_lps_mm"]
    gap = math.dist(source, wall)
    centre = [s + (w - s) * (gap + 2.0 + 4.0) / gap for s, w in zip(source, wall, strict=True)]  # 2 mm behind the wall
    write_ball(tmp_path / "cord.nii.gz", small_phantom / "scan", centre, 4.0)
    _, without = plan_json(capsys, small_phantom / "scan", tmp_path / "without", *by_hand)
    _, plan = plan_json(capsys, small_phantom / "scan", tmp_path / "plan", *by_hand, "--cord", tmp_path / "cord.nii.gz")

    assert without["cord"] is None
    assert plan["result"] == without["result"]
    assert plan["cord"]["distance_from_source_mm"] == pytest.approx(gap + 2.0, abs=0.3)
    assert plan["cord"]["max_dose_gy"] < plan["result"]["canal_max_gy"]
    found = {c["id"]: c["status"] for c in plan["checks"]}
    assert (found["cord-outside-canal"], found["cord-file"], found["frame-unverified"]) == ("pass", "pass", "warn")
    assert read_plan(tmp_path / "plan" / "plan.json").cord is not None
    from iort_planner.cli.summary import summary

    text = summary(read_plan(tmp_path / "plan" / "plan.json"))
    assert "limit refers to      bony canal wall (points by hand)" in text
    assert "cord or sac" in text


def test_a_wall_point_beside_a_canal_that_is_said_corrects_it(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    small_phantom: Path,
    truth: dict[str, Any],
    by_hand: list[object],
) -> None:
    source, wall = truth["needles"][0]["source_lps_mm"], truth["canal"]["nearest_point_lps_mm"]
    gap = math.dist(source, wall)
    nearer = [s + (w - s) * (gap - 2.0) / gap for s, w in zip(source, wall, strict=True)]
    _, plan = plan_json(
        capsys, small_phantom / "scan", tmp_path / "plan", *by_hand[:-4], "--canal", "auto", "--canal-point", *nearer
    )
    canal = plan["canal"]

    assert canal["method"] == "auto"
    assert canal["distance_from_source_mm"] == pytest.approx(gap - 2.0, abs=0.1)
    assert canal["uncorrected_distance_from_source_mm"] == pytest.approx(gap, abs=1.0)
    assert [c["point_lps_mm"] for c in canal["corrections"]] == [pytest.approx(nearer)]
    assert canal["wall_nearest"] == "by hand"
    assert "corrected by hand at 1 wall point" in plan["prescription"]["limit_structure"]
    assert {c["id"]: c["status"] for c in plan["checks"]}["canal-corrected"] == "warn"
    assert (tmp_path / "plan" / "canal.nii.gz").exists()


def test_a_cord_file_with_several_structures_asks_for_its_own_option(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path, by_hand: list[object]
) -> None:
    import numpy as np

    from iort_planner.imaging.nifti import write_nifti
    from iort_planner.imaging.series import load_series

    grid = load_series(small_phantom / "scan").volume.grid
    labels = np.zeros(grid.shape, dtype=np.uint8)
    labels[2:4, 2:4, 2:4], labels[6:8, 6:8, 6:8] = 1, 2
    write_nifti(tmp_path / "two.nii.gz", labels, grid)
    command = ["plan", str(small_phantom / "scan"), "--out", str(tmp_path / "plan"), *map(str, by_hand)]

    assert main([*command, "--cord", str(tmp_path / "two.nii.gz")]) == 2
    assert "choose one with --cord-roi" in capsys.readouterr().err
    assert not (tmp_path / "plan").exists()


def test_a_canal_from_a_label_map_gives_the_automatic_distances_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path
) -> None:
    _, automatic = plan_json(capsys, small_phantom / "scan", tmp_path / "auto")
    _, given = plan_json(
        capsys, small_phantom / "scan", tmp_path / "file", "--canal", tmp_path / "auto" / "canal.nii.gz"
    )

    assert given["canal"]["method"] == "file"
    assert given["canal"]["file"] == "canal.nii.gz"
    assert given["canal"]["distance_from_source_mm"] == pytest.approx(
        automatic["canal"]["distance_from_source_mm"], abs=0.4
    )
    assert {"canal-file", "canal-automatic", "frame-unverified"} == {c["id"] for c in given["checks"]} - {
        c["id"] for c in automatic["checks"]
    }


def test_a_canal_over_its_limit_fails_with_exit_status_1_and_everything_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path
) -> None:
    status, plan = plan_json(capsys, small_phantom / "scan", tmp_path / "plan", "--depth", 20)

    assert (status, plan["verdict"]) == (1, "fail")
    assert (tmp_path / "plan" / "dose.nii.gz").exists()


def test_the_dose_file_is_in_the_images_frame(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path
) -> None:
    import numpy as np
    import SimpleITK as sitk  # noqa: N813  (its usual name)

    _, plan = plan_json(capsys, small_phantom / "scan", tmp_path / "plan")
    dose = sitk.ReadImage(str(tmp_path / "plan" / "dose.nii.gz"))
    source = np.array(plan["dwells"][0]["source_lps_mm"])
    for direction in np.eye(3):
        index = dose.TransformPhysicalPointToIndex((source + 10.0 * direction).tolist())
        centre = np.array(dose.TransformIndexToPhysicalPoint(index))
        r = float(np.linalg.norm(centre - source))
        value = dose.GetPixel(index)
        radius = plan["result"]["isodose_radius_mm"]["8"]
        assert (value > 8.0) == (r < radius)


def test_the_summary_tells_a_tired_physicist_the_essentials(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path
) -> None:
    main(["plan", str(small_phantom / "scan"), "--out", str(tmp_path / "plan"), "--no-pictures", "--quiet"])
    text = capsys.readouterr().out
    plan = read_plan(tmp_path / "plan" / "plan.json")

    assert text.splitlines()[0].split() == ["VERDICT", plan.verdict.upper()]
    assert plan.dwell_time_text in text
    assert "Gy(RBE)" in text
    assert "from the source centre" in text
    assert "not a medical device" in text
    assert max(len(line) for line in text.splitlines()) <= 132


def test_two_runs_give_the_same_plan_but_for_the_time_of_day(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path
) -> None:
    _, first = plan_json(capsys, small_phantom / "scan", tmp_path / "one")
    _, second = plan_json(capsys, small_phantom / "scan", tmp_path / "two")
    for plan in (first, second):
        plan["created"] = ""
        plan["checks"] = [check for check in plan["checks"] if check["id"] != "scan-older-than-a-day"]

    assert first == second
    for name in ("dose.nii.gz", "canal.nii.gz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_phantom_writes_scan_and_truth(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["phantom", "small", "--out", str(tmp_path / "p"), "--seed", "3", "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    truth = json.loads(captured.out)

    assert captured.err == ""
    assert truth["seed"] == 3
    assert sorted(entry.name for entry in (tmp_path / "p").iterdir()) == ["scan", "truth.json"]
    assert main(["phantom", "small", "--out", str(tmp_path / "p"), "--quiet"]) == 0  # replaced whole
    assert "seed 1" in capsys.readouterr().out
    assert main(["phantom", "no-such-spec", "--out", str(tmp_path / "q")]) == 2
    assert "reference" in capsys.readouterr().err


def test_a_termination_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    process = subprocess.Popen([*COMMAND, "demo", "--out", str(out)], stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)

    assert process.returncode == 130
    assert stderr == "error: interrupted; nothing was written: run it again\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["demo", "inspect", "plan", "view", "phantom"])
def test_help_of_each_command_teaches(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("redirect", "environment"),
    [("", {"PYTHONIOENCODING": "ascii"}), (">&-", {}), (">/dev/full", {}), ("2>&-", {}), ("2>/dev/full", {})],
)
def test_a_poor_terminal_never_stops_a_plan(
    tmp_path: Path, small_phantom: Path, redirect: str, environment: dict[str, str]
) -> None:
    command = f'"$0" -c "$1" plan "$2" --out "$3" --no-pictures {redirect}'
    arguments = [sys.executable, COMMAND[2], str(small_phantom / "scan"), str(tmp_path / "plan")]
    done = subprocess.run(
        ["sh", "-c", command, *arguments], capture_output=True, check=False, env={**os.environ, **environment}
    )

    assert done.returncode == 0, done.stderr
    assert b"internal error" not in done.stderr
    assert read_plan(tmp_path / "plan" / "plan.json").verdict == "warn"


def test_a_stop_without_stderr_still_has_exit_status_2(tmp_path: Path) -> None:
    command = '"$0" -c "$1" inspect "$2" 2>&-'
    done = subprocess.run(["sh", "-c", command, sys.executable, COMMAND[2], str(tmp_path / "none")], check=False)

    assert done.returncode == 2
