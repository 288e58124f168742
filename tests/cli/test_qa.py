"""``iort-planner qa`` as a person and as a script would run it."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pypdf import PdfReader

from iort_planner import INTENDED_USE
from iort_planner.cli.main import main
from tests.qa.tables import GRID, Table, noise, power


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return Table().write(tmp_path / "good.csv")


@pytest.fixture
def worse(tmp_path: Path) -> Path:
    table = Table()
    table.rate[9] *= 1.05
    return table.write(tmp_path / "worse.csv")


@pytest.fixture
def history(tmp_path: Path) -> Path:
    folder = tmp_path / "history"
    folder.mkdir()
    rows = [f"2026-{month:02d}-15,{ratio:.4f}" for month, ratio in zip(range(1, 11), noise(0, 0.4, 10), strict=True)]
    (folder / "outputs.csv").write_text("\n".join(["date,output_ratio", *rows]) + "\n", encoding="utf-8")
    return folder


def qa_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    status = main(["qa", *map(str, arguments), "--json", "--quiet"])
    captured = capsys.readouterr()
    assert captured.err == ""
    document: dict[str, Any] = json.loads(captured.out)
    return status, document


def test_a_sound_table_is_exit_0_and_a_row_5_percent_off_is_exit_1(
    capsys: pytest.CaptureFixture[str], good: Path, worse: Path
) -> None:
    assert qa_json(capsys, "check", good)[0] == 0
    status, document = qa_json(capsys, "check", worse)

    assert (status, document["verdict"]) == (1, "fail")
    assert document["schema"] == "iort-planner/qa-check/1"
    assert [list(each) for each in document["findings"]] == [["id", "status", "line", "message"]] * len(
        document["findings"]
    )
    assert [each["line"] for each in document["findings"] if each["id"] == "outlier"] == [23]
    assert document["sha256"] == hashlib.sha256(worse.read_bytes()).hexdigest()
    assert qa_json(capsys, "compare", worse, good)[0] == 1
    assert qa_json(capsys, "compare", good, good)[0] == 0


def test_what_is_no_table_is_exit_2_with_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, good: Path
) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\x00\x01\x02\xff")
    for arguments in (
        ["check", tmp_path / "no.csv"],
        ["check", tmp_path / "binary.csv"],
        ["check", tmp_path],
        ["compare", tmp_path / "no.csv", good],
        ["compare", good, tmp_path / "binary.csv"],
        ["trend", tmp_path / "nowhere"],
        ["check", good, "--on", "yesterday"],
        ["compare", good, good, "--slip-mm", "0.5"],
    ):
        assert main(["qa", *map(str, arguments)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1


def test_the_text_puts_the_verdict_first_then_what_fails_with_its_line(
    capsys: pytest.CaptureFixture[str], worse: Path
) -> None:
    assert main(["qa", "check", str(worse), "--quiet"]) == 1
    lines = capsys.readouterr().out.splitlines()

    assert lines[0].split()[:2] == ["VERDICT", "FAIL"]
    assert lines[3].startswith("FAIL  outlier")
    assert "line 23:" in lines[3]
    assert lines[-1] == INTENDED_USE
    assert max(map(len, lines)) <= 112


@pytest.mark.parametrize("command", ["check", "compare", "trend"])
def test_out_writes_json_picture_and_a_one_page_pdf_the_same_bytes_twice(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, good: Path, worse: Path, history: Path, command: str
) -> None:
    arguments = {"check": [worse], "compare": [worse, good], "trend": [history]}[command]
    out = tmp_path / "out"
    written = []
    for _ in range(2):  # the second run replaces the first one's folder
        _, document = qa_json(capsys, command, *arguments, "--out", out)
        assert sorted(path.name for path in out.iterdir()) == ["qa.json", "qa.pdf", "qa.png"]
        assert json.loads((out / "qa.json").read_text(encoding="utf-8")) == document
        written.append((out / "qa.png").read_bytes() + (out / "qa.pdf").read_bytes())
    assert written[0] == written[1]

    pages = PdfReader(io.BytesIO((out / "qa.pdf").read_bytes())).pages
    assert len(pages) == 1
    text = pages[0].extract_text()
    assert INTENDED_USE in " ".join(text.split())
    for finding in document["findings"]:
        assert finding["id"] in text


def test_a_folder_with_other_things_in_it_is_not_touched(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, good: Path
) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "letter.txt").write_text("keep", encoding="utf-8")

    assert main(["qa", "check", str(good), "--out", str(out)]) == 2
    assert [path.name for path in out.iterdir()] == ["letter.txt"]
    capsys.readouterr()


def test_stricter_limits_are_used(capsys: pytest.CaptureFixture[str], tmp_path: Path, good: Path) -> None:
    slipped = Table(rate=power(GRID + 0.06) * noise(3, 0.1, GRID.size)).write(tmp_path / "slipped.csv")
    found = {each["id"]: each["status"] for each in qa_json(capsys, "compare", slipped, good)[1]["findings"]}
    assert found["origin-slip"] == "warn"
    status, document = qa_json(capsys, "compare", slipped, good, "--slip-mm", "0.05", "--dose-percent", "1")
    assert status == 1
    assert {each["id"]: each["status"] for each in document["findings"]}["origin-slip"] == "fail"
    assert document["criteria"]["dose_percent"] == 1.0


def test_a_long_file_name_and_many_findings_still_fit_one_page(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = Table(rate=power(GRID) * np.where(np.arange(GRID.size) % 6 == 3, 1.08, 1.0), form="{:.2g}")
    table.head |= {"measured": "2020-01-01", "name": "a long name " * 30}
    path = table.write(tmp_path / ("long-" * 30 + ".csv"))
    main(["qa", "check", str(path), "--out", str(tmp_path / "out"), "--quiet"])
    capsys.readouterr()

    assert len(PdfReader(tmp_path / "out" / "qa.pdf").pages) == 1


@pytest.mark.parametrize("command", [[], ["check"], ["compare"], ["trend"]])
def test_help_teaches_with_examples(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["qa", *command, "--help"])
    text = capsys.readouterr().out

    assert stop.value.code == 0
    assert f"iort-planner qa {command[0] if command else 'check'}" in text
    assert "examples:" in text
    assert INTENDED_USE in text
