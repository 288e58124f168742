"""``qa accept`` and what a plan makes of it, as a person and as a script would run them."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iort_planner.cli.main import main
from iort_planner.cli.plan import request_from
from iort_planner.planning.plan_file import read_plan
from tests.source.test_acceptance import table_file


@pytest.fixture(autouse=True)
def _empty_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IORT_PLANNER_HOME", str(tmp_path / "home"))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_what_was_signed_is_read_back_before_the_tray_is_closed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = table_file(tmp_path / "t.csv")
    until = dt.datetime.now().astimezone().date() + dt.timedelta(days=365)
    status, text, errors = run(capsys, "qa", "accept", table, "--by", "Dr. Änne Prüfer", "--until", until)
    import hashlib

    assert (status, errors) == (0, "")
    for words in (
        "XRS 1234",
        "v4.0",
        hashlib.sha256(table.read_bytes()).hexdigest(),
        "5 to 20 mm from the source centre",
        "dose rate at 8 mm    7.04 Gy/min in water",
        "dose rate at 13 mm   1.95 Gy/min in water",
        "Dr. Änne Prüfer",
        f"{until}, that day included",
        "not a medical device",
    ):
        assert words in text
    assert max(len(line) for line in text.splitlines()) <= 132


def test_json_has_the_form_of_the_other_qa_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, text, errors = run(capsys, "qa", "accept", table_file(tmp_path / "t.csv"), "--by", "A", "--json")
    document: dict[str, Any] = json.loads(text)

    assert (status, errors) == (0, "")
    assert (document["schema"], document["verdict"]) == ("iort-planner/qa-accept/1", "pass")
    assert {"id", "status", "line", "message"} == set(document["findings"][0])
    assert document["acceptance"]["by"] == "A"
    assert document["acceptance"]["until"] is None


def test_a_table_that_is_not_clinical_can_be_accepted_and_is_told_that_nobody_asks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, text, _ = run(capsys, "qa", "accept", "reference-needle-50kv", "--by", "A")

    assert status == 0
    assert "a plan asks for no acceptance of it" in text
    assert "no end was set" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--by", " "], "--by is ''"),
        ([], "--by"),
        (["--by", "A", "--until", "2020-01-01"], "--until 2020-01-01 lies in the past"),
        (["--by", "A", "--until", "soon"], "'soon' is no date; write it like 2026-11-30"),
    ],
)
def test_what_cannot_be_accepted_is_exit_status_2_and_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], words: str
) -> None:
    status, text, errors = run(capsys, "qa", "accept", table_file(tmp_path / "t.csv"), *options)

    assert (status, text, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("error: ")
    assert words in errors
    assert not (tmp_path / "home").exists()


def test_a_table_whose_form_fails_and_a_missing_one_are_exit_status_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = table_file(tmp_path / "t.csv", first_rate="-24.5")
    status, _, errors = run(capsys, "qa", "accept", table, "--by", "A")
    assert (status, "line 14" in errors, errors.count("\n")) == (2, True, 1)
    assert run(capsys, "qa", "accept", tmp_path / "none.csv", "--by", "A")[0] == 2


def test_a_record_that_was_changed_is_exit_status_2_and_one_cut_off_a_warning(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = table_file(tmp_path / "t.csv")
    run(capsys, "qa", "accept", table, "--by", "A")
    kept = tmp_path / "home" / "acceptances.jsonl"
    kept.write_bytes(kept.read_bytes() + b'{"cut o')
    status, _, errors = run(capsys, "qa", "accept", table, "--by", "B")
    assert (status, errors.startswith("warning: record "), "line 2: cut off" in errors) == (0, True, True)
    kept.write_bytes(kept.read_bytes().replace(b'"by": "A"', b'"by": "C"'))
    status, _, errors = run(capsys, "qa", "accept", table, "--by", "B")
    assert (status, "changed" in errors, "backup" in errors) == (2, True, True)


# --- in a plan --------------------------------------------------------------------------------------------------------


def by_hand(small_phantom: Path) -> list[object]:
    truth = json.loads((small_phantom / "truth.json").read_text(encoding="utf-8"))
    needle, point = truth["needles"][0], truth["canal"]["nearest_point_lps_mm"]
    return ["--tip", *needle["tip_lps_mm"], "--axis", *needle["axis_lps"], "--canal-point", *point]


def plan(
    capsys: pytest.CaptureFixture[str], small_phantom: Path, out: Path, *options: object
) -> tuple[int, dict[str, Any]]:
    status, text, errors = run(
        capsys, "plan", small_phantom / "scan", "--out", out, "--no-pictures", "--json", "--quiet",
        *by_hand(small_phantom), *options,
    )  # fmt: skip
    assert errors == ""
    return status, json.loads(text)


def check(document: dict[str, Any], check_id: str) -> tuple[str, str]:
    return next((c["status"], c["message"]) for c in document["checks"] if c["id"] == check_id)


def test_a_clinical_table_fails_the_plan_until_it_is_accepted_and_again_when_it_changes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path
) -> None:
    table, out = table_file(tmp_path / "t.csv"), tmp_path / "plan"
    status, document = plan(capsys, small_phantom, out, "--source", table)
    assert (status, document["verdict"]) == (1, "fail")
    assert check(document, "table-not-accepted")[0] == "fail"
    assert document["source"]["acceptance"]["state"] == "never"
    assert (out / "dose.nii.gz").exists()  # everything asked for is still written

    run(capsys, "qa", "accept", table, "--by", "A. Physicist")
    _, document = plan(capsys, small_phantom, out, "--source", table)
    assert check(document, "table-not-accepted")[0] == "pass"
    assert "accepted by A. Physicist on " in check(document, "table-not-accepted")[1]
    assert document["source"]["acceptance"]["by"] == "A. Physicist"
    assert document["source"]["acceptance"]["sha256"] == document["source"]["table_sha256"]
    assert read_plan(out / "plan.json").source.acceptance is not None

    table.write_text(table.read_text().replace("24.5", "24.6"))
    status, document = plan(capsys, small_phantom, out, "--source", table)
    assert (status, check(document, "table-not-accepted")[0]) == (1, "fail")
    assert "changed since it was accepted by A. Physicist" in check(document, "table-not-accepted")[1]


def test_the_output_of_the_day_enters_the_time_and_the_dose_file_but_not_the_doses_reached(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path
) -> None:
    import SimpleITK as sitk  # noqa: N813  (its usual name)

    today = dt.datetime.now().astimezone().date()
    _, before = plan(capsys, small_phantom, tmp_path / "before")
    _, after = plan(
        capsys, small_phantom, tmp_path / "after", "--output-measured", 0.98, "--output-date", today,
        "--output-temperature", 23, "--output-pressure", 1000,
    )  # fmt: skip
    output = 0.98 * 296.15 / 293.15 * 1013.25 / 1000.0

    assert before["source"]["output"] is None
    assert after["source"]["output"] == {
        "ratio": 0.98,
        "date": str(today),
        "temperature_c": 23.0,
        "pressure_hpa": 1000.0,
        "corrected_ratio": pytest.approx(output, rel=1e-12),
    }
    assert check(after, "output-of-the-day")[0] == "pass"
    time, time_before = after["result"]["dwell_time_s"], before["result"]["dwell_time_s"]
    assert time == pytest.approx(time_before / output, rel=1e-12)
    doses = [
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name / "dose.nii.gz"))) for name in ("before", "after")
    ]
    np.testing.assert_allclose(doses[1], doses[0], rtol=1e-5)  # less time, more output: the same dose


def test_an_output_far_off_fails_the_plan(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path
) -> None:
    today = dt.datetime.now().astimezone().date()
    options = ["--output-measured", 1.11, "--output-date", today]
    status, document = plan(capsys, small_phantom, tmp_path / "plan", *options)

    assert (status, check(document, "output-of-the-day")[0]) == (1, "fail")
    assert (tmp_path / "plan" / "dose.nii.gz").exists()


def test_stricter_limits_of_the_second_check_reach_the_plan(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_phantom: Path
) -> None:
    _, document = plan(capsys, small_phantom, tmp_path / "plan", "--second-check-warn", 1, "--second-check-fail", 2)

    assert document["second_check"]["warn_percent"] == 1.0
    assert document["second_check"]["fail_percent"] == 2.0
    assert max(document["second_check"]["differences_percent"].values()) < 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--output-measured", "1"], "--output-measured and --output-date belong together"),
        (["--output-date", "2026-01-01"], "--output-measured and --output-date belong together"),
        (["--output-temperature", "20"], "--output-measured and --output-date belong together"),
        (
            ["--output-measured", "98", "--output-date", "2026-01-01"],
            "give the ratio to reference, 1.00 = as in the table",
        ),
        (["--output-measured", "nan", "--output-date", "2026-01-01"], "--output-measured nan"),
        (["--output-measured", "1", "--output-date", "1.1.2026"], "'1.1.2026' is no date"),
        (["--output-measured", "1", "--output-date", "2999-01-01"], "--output-date 2999-01-01 lies in the future"),
        (
            ["--output-measured", "1", "--output-date", "2026-01-01", "--output-pressure", "1013"],
            "--output-temperature and --output-pressure belong together",
        ),
        (["--second-check-warn", "4"], "--second-check-warn 4 % must lie above 0 and up to 3 %"),
        (["--second-check-fail", "6"], "this tool's own limit, which can only be made stricter"),
    ],
)
def test_bad_options_are_exit_status_2_before_the_scan_is_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], words: str
) -> None:
    status, text, errors = run(capsys, "plan", tmp_path / "no-scan", "--out", tmp_path / "plan", *options)

    assert (status, text, errors.count("\n")) == (2, "", 1)
    assert words in errors
    assert list(tmp_path.iterdir()) == []


def test_without_the_options_nothing_is_measured_and_the_limits_are_the_tools_own() -> None:
    from iort_planner.cli.main import build_parser

    args = build_parser().parse_args(["plan", "scan", "--out", "plan"])
    request = request_from(args, args.input, args.series)

    assert request.output is None
    assert (request.second_check.warn_percent, request.second_check.fail_percent) == (3.0, 5.0)
