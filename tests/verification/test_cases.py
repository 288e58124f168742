"""The form of a case: what is read, what is refused before anything runs, and how values are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iort_planner.errors import InputError
from iort_planner.verification import read_suite
from iort_planner.verification.case import Expectation
from iort_planner.verification.run_case import _judge
from tests.verification.suites import CASE, PHANTOMS, table_case

PLAN = """\
exit_status = 0
[input]
phantom = "small"
seed = 1
[[expect]]
key = "result.dwell_time_s"
value = 1.0
tolerance = 0.1
unit = "s"
source = "literature"
reference = "somebody"
"""


def test_the_shipped_suite_is_read_and_has_every_kind_of_case() -> None:
    cases = read_suite(PHANTOMS)
    words = " ".join(case.name for case in cases)
    sources = {each.source for case in cases for each in case.expectations}

    assert len(cases) >= 100
    assert len({case.name for case in cases}) == len(cases)
    for what in (
        "level-",
        "position-",
        "spacing-",
        "turned-",
        "bent-",
        "lesion",
        "instrumented",
        "c-arm",
        "refused-",
        "table-",
        "needle-air",
        "needle-probe",
        "needle-solid",
        "two-needles",
    ):
        assert what in words, what
    assert {"closed-form", "literature"} <= sources
    assert {case.exit_status for case in cases} == {0, 1, 2}
    assert all(case.description and case.expectations for case in cases)


def test_names_are_those_of_the_folders_and_the_hash_follows_every_file(tmp_path: Path) -> None:
    folder = table_case(tmp_path / "suite", "a/b")
    (before,) = read_suite(tmp_path / "suite")
    (folder / "table.csv").write_text("other", encoding="utf-8")
    (after,) = read_suite(tmp_path / "suite")

    assert before.name == "a/b"
    assert before.sha256 != after.sha256


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("exit_status = 0", "exit_status = 3", "0, 1 or 2"),
        ("exit_status = 0", "exit_stats = 0", "unknown keys exit_stats"),
        ('phantom = "small"', 'phantom = "small"\npath = "x"', "one of them"),
        ('phantom = "small"', "", "one of them"),
        ("tolerance = 0.1", "", "needs a tolerance"),
        ("tolerance = 0.1", "tolerance = -1", "not negative"),
        ('source = "literature"', 'source = "hearsay"', "closed-form, literature"),
        ('reference = "somebody"', "", "lacks reference"),
        ("seed = 1", "seed = -1", "whole number"),
        ("seed = 1", 'seed = 1\n[[input.alter]]\nkind = "melt"', "'melt' is unknown"),
        ("seed = 1", 'seed = 1\n[[input.alter]]\nkind = "set"\nkeyword = "Nonsense"\nvalue = 1', "no DICOM keyword"),
        ("exit_status = 0", 'exit_status = 0\ncommand = "demo"', "must be one of plan"),
        ("exit_status = 0", "exit_status = ", "not valid TOML"),
        ("[input]", "[limits]\nseconds = 0\n[input]", "above 0"),
    ],
)
def test_a_case_that_cannot_be_right_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "case.toml").write_text(PLAN.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=words) as stop:
        read_suite(tmp_path)
    assert "case one" in str(stop.value)


def test_a_suite_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no case\.toml"):
        read_suite(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        read_suite(tmp_path / "none")


def test_a_qa_case_names_its_tables(tmp_path: Path) -> None:
    table_case(tmp_path, "one", CASE.replace('["table.csv"]', "[]"))
    with pytest.raises(InputError, match="takes 1 arguments"):
        read_suite(tmp_path)


DOCUMENT = {
    "result": {"dwell_time_s": 61.0, "radii": {"8": 10.0}},
    "needles": [{"tip_lps_mm": [1.0, 2.0, 3.0]}],
    "checks": [{"id": "a", "status": "pass"}, {"id": "b", "status": "warn"}],
    "clinical": False,
}


@pytest.mark.parametrize(
    ("key", "value", "tolerance", "verdict", "difference"),
    [
        ("result.dwell_time_s", 60.0, 1.0, "pass", 1.0),
        ("result.dwell_time_s", 60.0, 0.9, "fail", 1.0),
        ("result.radii.8", 10.0, 0.0, "pass", 0.0),
        ("result.nothing", 10.0, 1.0, "fail", None),
        ("needles.0.tip_lps_mm", [1.0, 2.0, 3.4], 0.5, "pass", 0.4),
        ("needles.0.tip_lps_mm", [1.0, 2.0], 5.0, "fail", None),
        ("needles.0.tip_lps_mm", "truth:tip", 0.1, "pass", 0.0),
        ("needles.0.tip_lps_mm", "truth:tap", 0.1, "fail", None),
        ("needles.1.tip_lps_mm", [1.0, 2.0, 3.0], 0.5, "fail", None),
        ("checks.b", "warn", None, "pass", None),
        ("checks.c", "warn", None, "fail", None),
        ("clinical", False, None, "pass", None),
        ("clinical", 0, 1.0, "fail", None),
        ("error", "no needle", None, "pass", None),
        ("error", "no canal", None, "fail", None),
    ],
)
def test_values_are_compared_as_their_kind_asks(
    tmp_path: Path, key: str, value: Any, tolerance: float | None, verdict: str, difference: float | None
) -> None:
    expected = Expectation(key=key, value=value, tolerance=tolerance, unit="", source="closed-form", reference="here")
    found = _judge(expected, DOCUMENT, {"tip": [1.0, 2.0, 3.0]}, "error: no needle found", tmp_path)

    assert found["verdict"] == verdict
    assert found["difference"] == (None if difference is None else pytest.approx(difference))
