"""Acceptance: of bytes, by someone, for a time; a bad record accepts nothing."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from iort_planner import record
from iort_planner.errors import DepthDoseTableError, InputError, RecordError
from iort_planner.source.acceptance import accept, acceptance_of, record_path, status
from iort_planner.source.depth_dose import DepthDoseTable
from iort_planner.source.table_file import read_table

ROOT = Path(__file__).resolve().parents[2]
NOW = dt.datetime(2026, 11, 22, 9, 30, 15, 250_000, tzinfo=dt.timezone(dt.timedelta(hours=1)))
TODAY = NOW.date()
DAY = dt.timedelta(days=1)


@pytest.fixture(autouse=True)
def _empty_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IORT_PLANNER_HOME", str(tmp_path / "home"))


def table_file(path: Path, *, name: str = "XRS 1234", first_rate: str = "24.5", clinical: str = "yes") -> Path:
    path.write_text(
        f"# name: {name}\n# kind: depth-dose\n# medium: water\n# reference_point: source-centre\n# scale: v4.0\n"
        "# tube_voltage_kv: 50\n# tube_current_ua: 40\n# applicator: needle\n# measured: 2026-10-01\n"
        f"# uncertainty: 5 % (k=1)\n# clinical: {clinical}\n# origin: certificate 1\n"
        f"distance_mm,dose_rate_gy_per_min\n5,{first_rate}\n8,7.04\n10,3.9\n13,1.95\n20,0.62\n",
        encoding="utf-8",
    )
    return path


def state(table: DepthDoseTable, today: dt.date = TODAY) -> str:
    return status(table, today).state


def test_what_is_accepted_is_the_bytes_and_who_and_when_come_back(tmp_path: Path) -> None:
    table = read_table(table_file(tmp_path / "t.csv"))
    assert state(table) == "never"
    done = accept(tmp_path / "t.csv", "  Dr. Änne Prüfer ", TODAY + DAY, now=NOW)
    found = acceptance_of(table.sha256)

    assert found == done.acceptance
    assert found is not None
    assert (found.name, found.scale, found.by, found.until) == ("XRS 1234", "v4.0", "Dr. Änne Prüfer", TODAY + DAY)
    assert found.accepted_on == NOW.replace(microsecond=0)
    assert found.accepted_on.utcoffset() == dt.timedelta(hours=1)
    assert state(table) == "accepted"
    assert status(table, TODAY).acceptance == found
    assert acceptance_of("0" * 64) is None


def test_the_last_day_counts_and_the_day_after_does_not(tmp_path: Path) -> None:
    table = read_table(table_file(tmp_path / "t.csv"))
    accept(tmp_path / "t.csv", "A", TODAY, now=NOW)

    assert [state(table, TODAY + n * DAY) for n in (0, 1)] == ["accepted", "expired"]
    accept(tmp_path / "t.csv", "A", now=NOW)  # without an end
    assert state(table, TODAY + 10_000 * DAY) == "accepted"


def test_the_latest_entry_of_the_same_bytes_counts_a_shorter_one_too(tmp_path: Path) -> None:
    table = read_table(table_file(tmp_path / "t.csv"))
    accept(tmp_path / "t.csv", "A", TODAY + 100 * DAY, now=NOW)
    accept(tmp_path / "t.csv", "B", TODAY, now=NOW)

    assert state(table, TODAY + DAY) == "expired"
    assert getattr(acceptance_of(table.sha256), "by", None) == "B"


@pytest.mark.parametrize("change", [("7.04", "7.05"), ("# origin", "#  origin"), ("certificate 1", "certificate 2")])
def test_a_changed_file_loses_its_acceptance_and_it_is_said_whose(tmp_path: Path, change: tuple[str, str]) -> None:
    path = table_file(tmp_path / "t.csv")
    accept(path, "A. Physicist", now=NOW)
    path.write_text(path.read_text().replace(*change))
    found = status(read_table(path), TODAY)

    assert (found.state, found.later) == ("changed", None)
    assert found.acceptance is not None
    assert found.acceptance.text == "by A. Physicist on 2026-11-22, without an end"
    assert acceptance_of(read_table(path).sha256) is None


def test_the_same_bytes_under_another_file_name_stay_accepted_and_another_name_in_the_head_is_another_table(
    tmp_path: Path,
) -> None:
    accept(table_file(tmp_path / "t.csv"), "A", now=NOW)

    assert state(read_table(table_file(tmp_path / "copy.csv"))) == "accepted"
    assert state(read_table(table_file(tmp_path / "other.csv", name="XRS 99"))) == "never"


def test_an_older_version_stays_accepted_but_the_later_one_is_named(tmp_path: Path) -> None:
    old, new = table_file(tmp_path / "old.csv"), table_file(tmp_path / "new.csv", first_rate="24.6")
    accept(old, "A", now=NOW)
    assert status(read_table(old), TODAY).later is None
    accept(new, "B", now=NOW)
    found = status(read_table(old), TODAY)

    assert found.state == "accepted"
    assert getattr(found.later, "by", None) == "B"
    assert status(read_table(new), TODAY).later is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"by": ""}, "--by is ''"),
        ({"by": " \t "}, "--by is ''"),
        ({"by": "A\nB"}, r"--by is 'A\\nB': needs 1 to 200 printable"),
        ({"by": "A\x1b[31m"}, "--by is"),
        ({"by": "A\u202eB"}, "--by is"),
        ({"by": "A" * 201}, "--by is"),
        ({"by": "A\udc80"}, "--by is"),
        ({"by": "A", "until": TODAY - DAY}, r"--until 2026-11-21 lies in the past \(today is 2026-11-22\)"),
    ],
)
def test_a_name_or_a_day_that_cannot_stand_is_refused_and_nothing_is_recorded(
    tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        accept(table_file(tmp_path / "t.csv"), **given, now=NOW)
    assert not record_path().exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("13,1.95", "13,3.95", "cannot be accepted, its form fails"),
        ("# scale: v4.0\n", "", "cannot be accepted, its form fails"),
        ("XRS 1234", "XRS\x07 1234", "name"),
    ],
)
def test_a_table_whose_form_fails_cannot_be_accepted(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = table_file(tmp_path / "t.csv")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises((DepthDoseTableError, InputError), match=words):
        accept(path, "A", now=NOW)
    assert not record_path().exists()


def test_a_table_that_is_not_there_is_a_clear_stop(tmp_path: Path) -> None:
    with pytest.raises(DepthDoseTableError, match="cannot be read"):
        accept(tmp_path / "none.csv", "A", now=NOW)


def test_a_transfer_function_is_accepted_like_a_table(tmp_path: Path) -> None:
    path = tmp_path / "tf.csv"
    text = table_file(tmp_path / "t.csv").read_text().split("distance_mm")[0]
    path.write_text(
        text.replace("kind: depth-dose", "kind: transfer-function") + "distance_mm,transfer_function\n5,0.9\n20,0.95\n"
    )
    done = accept(path, "A", now=NOW)

    assert done.examination.kind == "transfer-function"
    assert acceptance_of(done.acceptance.sha256) == done.acceptance


def test_a_record_that_was_changed_accepts_nothing_and_takes_nothing(tmp_path: Path) -> None:
    path = table_file(tmp_path / "t.csv")
    table = read_table(path)
    accept(path, "A", TODAY, now=NOW)
    record_path().write_bytes(record_path().read_bytes().replace(str(TODAY).encode(), b"2036-11-22"))
    found = status(table, TODAY)

    assert (found.state, found.acceptance) == ("unreadable", None)
    assert "changed or removed after it was written" in found.notes[0]
    with pytest.raises(RecordError):
        accept(path, "A", now=NOW)
    with pytest.raises(RecordError):
        acceptance_of(table.sha256)


def test_an_entry_of_a_later_version_accepts_nothing(tmp_path: Path) -> None:
    table = read_table(table_file(tmp_path / "t.csv"))
    record.append(record_path(), {"schema": "iort-planner/acceptance/2", "sha256": table.sha256})

    assert state(table) == "unreadable"


def test_a_home_that_cannot_be_used_accepts_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = read_table(table_file(tmp_path / "t.csv"))
    monkeypatch.setenv("IORT_PLANNER_HOME", "relative")
    assert state(table) == "unreadable"
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("IORT_PLANNER_HOME", str(tmp_path / "file"))
    assert state(table) == "unreadable"
    with pytest.raises(RecordError, match="cannot be written"):
        accept(tmp_path / "t.csv", "A", now=NOW)


def test_a_line_cut_off_by_a_crash_is_said_and_takes_no_acceptance_away(tmp_path: Path) -> None:
    path = table_file(tmp_path / "t.csv")
    accept(path, "A", now=NOW)
    with record_path().open("ab") as stream:
        stream.write(b'{"schema": "iort-planner/acc')
    found = status(read_table(path), TODAY)

    assert found.state == "accepted"
    assert "line 2: cut off" in found.notes[0]
    assert "line 2: cut off" in accept(path, "B", now=NOW).notes[0]
    assert getattr(acceptance_of(read_table(path).sha256), "by", None) == "B"


def test_the_record_is_plain_json_with_the_documented_keys(tmp_path: Path) -> None:
    accept(table_file(tmp_path / "t.csv"), "A", TODAY, now=NOW)
    documented = {
        "schema", "name", "sha256", "scale", "by", "accepted_on", "until", "version", "previous", "hash",
    }  # fmt: skip

    assert set(json.loads(record_path().read_text())) == documented


ACCEPTING = """
import sys
from iort_planner.source.acceptance import accept
for n in range(100_000):
    accept(sys.argv[1], f"{sys.argv[2]} {n}")
    print(n, flush=True)
"""


def test_kill_9_while_tables_are_accepted_loses_no_accepted_entry(tmp_path: Path) -> None:
    path, chance = table_file(tmp_path / "t.csv"), random.Random(7)
    confirmed: list[str] = []
    for run in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", ACCEPTING, str(path), f"run {run}"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.stdout is not None
        for _ in range(chance.randint(1, 30)):
            confirmed.append(f"run {run} {int(process.stdout.readline())}")
        process.kill()
        rest, _ = process.communicate(timeout=60)
        confirmed += [f"run {run} {line}" for line in rest.split()]
        names = [entry["by"] for entry in record.read(record_path()).entries]

        assert set(confirmed) <= set(names)
        assert len(names) <= len(confirmed) + run + 1
    accept(path, "the last", now=NOW)
    assert getattr(acceptance_of(read_table(path).sha256), "by", None) == "the last"
