"""What is written: JUnit that a reader understands, a page and a certificate that say the same, and what an update changed."""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pypdf
import pytest

from iort_planner.cli.main import main
from iort_planner.verification import changes_since, verify
from tests.verification.suites import CASE, table_case, table_suite


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("results")
    suite = table_suite(folder / "suite", 3)
    table_case(suite, "wrong", CASE.replace('value = "pass"', 'value = "<fail> & \\u0001"'))
    return folder / "out", verify(suite, folder / "out", jobs=1)


def test_the_counts_and_the_verdict_are_those_of_the_cases(done: tuple[Path, dict[str, Any]]) -> None:
    _, found = done

    assert found["verdict"] == "fail"
    assert found["counts"] == {"passed": 3, "failed": 1, "expectations": {"closed-form": {"passed": 3, "failed": 1}}}
    assert "not a medical device" in found["intended_use"]
    assert found["machine"]["libraries"]["numpy"] != "absent"


def test_junit_says_which_case_failed_and_why(done: tuple[Path, dict[str, Any]]) -> None:
    suite = ET.parse(done[0] / "verification.xml").getroot().find("testsuite")
    assert suite is not None
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    reason = suite.find("testcase/failure")

    assert (suite.get("tests"), suite.get("failures")) == ("4", "1")
    assert failed == ["wrong"]
    assert reason is not None
    assert "findings.form: pass, expected <fail>" in str(reason.text)


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.text = ""
        self.bodies = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value is not None]
        self.bodies += tag == "tbody"

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_holds_every_case_and_needs_no_network(done: tuple[Path, dict[str, Any]]) -> None:
    page = Page()
    page.feed((done[0] / "verification.html").read_text(encoding="utf-8"))

    assert page.bodies == 4
    assert all(address.startswith(("data:", "pictures/")) for address in page.addresses)
    for words in ("wrong", "case-0002", "FAIL: verification of suite", "3 of 4 cases passed", "not a medical device"):
        assert words in page.text


def test_the_certificate_is_one_page_with_verdict_versions_and_hashes(done: tuple[Path, dict[str, Any]]) -> None:
    reader = pypdf.PdfReader(done[0] / "certificate.pdf")
    text = " ".join(reader.pages[0].extract_text().split())

    assert len(reader.pages) == 1
    for words in (
        "FAIL: verification of suite",
        "3 passed, 1 failed, 4 in all",
        "numpy",
        "not a medical device",
        "wrong:",
    ):
        assert words in text
    assert done[1]["suite"]["sha256"] in "".join(text.split())


def entry(name: str, **figures: float) -> dict[str, Any]:
    return {
        "name": name,
        "verdict": "pass",
        "sha256": "a",
        "figures": {key.replace("_", " "): v for key, v in figures.items()},
    }


def test_what_moved_is_said_in_numbers() -> None:
    before = [entry(name, canal_dose=8.0, dwell_time=100.0, tip_x=0.001) for name in ("a", "b", "c", "d")]
    now = copy.deepcopy(before)
    for n, factor in ((0, 1.001), (1, 0.996), (2, 1.002)):
        now[n]["figures"]["canal dose"] *= factor
    now[3]["figures"]["tip x"] += 0.5
    now[3]["verdict"] = "fail"
    now.append(entry("e"))
    found = changes_since({"cases": before, "software": {"version": "0"}}, now)

    assert "canal dose of 3 of 4 cases moved by up to 0.4 % (-0.032 Gy): b, c, a" in found["lines"]
    assert "tip x of 1 of 4 cases moved by up to +0.5 mm: d" in found["lines"]
    assert "d: pass before, fail now" in found["lines"]
    assert any(line.startswith("1 cases are new: e") for line in found["lines"])
    assert not any(line.startswith("dwell time") for line in found["lines"])


def test_the_same_run_again_moved_nothing(done: tuple[Path, dict[str, Any]]) -> None:
    assert changes_since(done[1], done[1]["cases"])["lines"] == ["no figure of 4 cases moved"]


def test_the_command_prints_the_verdict_and_ends_with_1_where_a_case_fails(
    done: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = done[0].parent / "suite"
    old = done[0] / "verification.json"
    status = main(
        ["verify", str(suite), "--out", str(tmp_path / "out"), "--jobs", "1", "--quiet", "--against", str(old)]
    )
    printed = capsys.readouterr().out

    assert status == 1
    assert printed.startswith("VERDICT  FAIL   (3 of 4 cases passed)")
    assert "FAIL  wrong" in printed
    assert "no figure of 4 cases moved" in printed
    assert "not a medical device" in printed


def test_json_is_the_document_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = table_suite(tmp_path / "suite", 1)
    assert main(["verify", str(suite), "--out", str(tmp_path / "out"), "--json", "--quiet"]) == 0
    assert capsys.readouterr().out == (tmp_path / "out" / "verification.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["{}", "no json", json.dumps({"schema": "iort-planner/plan/1"})])
def test_an_earlier_run_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    suite = table_suite(tmp_path / "suite", 1)
    (tmp_path / "old.json").write_text(text, encoding="utf-8")

    assert main(["verify", str(suite), "--out", str(tmp_path / "out"), "--against", str(tmp_path / "old.json")]) == 2
    assert "--against" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
