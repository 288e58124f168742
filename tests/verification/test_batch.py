"""Batches: every case comes to an end, whatever happens to its process, and a run that was cut off goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from iort_planner.errors import InputError, OutputError
from iort_planner.verification import verify
from iort_planner.verification.batch import Journal
from iort_planner.verification.case import read_suite
from iort_planner.verification.workers import Worker, run_all
from tests.verification.suites import CASE, plant, table_case, table_suite

ROOT = Path(__file__).resolve().parents[2]


def timeless(found: dict[str, Any]) -> dict[str, Any]:
    """All but what time and machine put in."""
    cases = [{key: value for key, value in entry.items() if key != "seconds"} for entry in found["cases"]]
    return {key: value for key, value in found.items() if key not in ("created", "machine")} | {"cases": cases}


def test_one_worker_and_two_give_the_same_but_for_times(tmp_path: Path) -> None:
    suite = table_suite(tmp_path / "suite", 12)
    one, two = (verify(suite, tmp_path / f"out-{jobs}", jobs=jobs) for jobs in (1, 2))

    assert one["verdict"] == "pass"
    assert timeless(one) == timeless(two)
    assert json.loads((tmp_path / "out-2" / "verification.json").read_text(encoding="utf-8")) == two


def test_a_case_that_crashes_its_process_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = table_suite(tmp_path / "suite", 4)
    plant(
        monkeypatch,
        tmp_path / "fault",
        """
        import os, signal
        import iort_planner.verification.run_case as run_case
        real = run_case.run_case
        def faulty(case, *rest):
            if case.name == "case-0001":
                os.kill(os.getpid(), signal.SIGKILL)
            return real(case, *rest)
        run_case.run_case = faulty
        """,
    )
    found = verify(suite, tmp_path / "out", jobs=2)
    verdicts = {entry["name"]: entry["verdict"] for entry in found["cases"]}

    assert verdicts == {"case-0000": "pass", "case-0001": "fail", "case-0002": "pass", "case-0003": "pass"}
    assert "died 2 times" in next(entry for entry in found["cases"] if entry["verdict"] == "fail")["problem"]


def test_a_process_that_is_killed_once_costs_only_its_cases_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = table_suite(tmp_path / "suite", 6)
    plant(
        monkeypatch,
        tmp_path / "fault",
        f"""
        import os, signal, pathlib
        import iort_planner.verification.run_case as run_case
        real = run_case.run_case
        def faulty(case, *rest):
            mark = pathlib.Path({str(tmp_path / "killed")!r})
            if case.name == "case-0003" and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return real(case, *rest)
        run_case.run_case = faulty
        """,
    )
    found = verify(suite, tmp_path / "out", jobs=2)

    assert (tmp_path / "killed").exists()
    assert found["verdict"] == "pass"
    assert len(found["cases"]) == 6


def test_a_case_that_hangs_is_stopped_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = table_suite(tmp_path / "suite", 3)
    table_case(tmp_path / "suite", "slow", CASE.replace("[[expect]]", "[limits]\nseconds = 4\n[[expect]]", 1))
    plant(
        monkeypatch,
        tmp_path / "fault",
        """
        import time
        import iort_planner.verification.run_case as run_case
        real = run_case.run_case
        def faulty(case, *rest):
            if case.name == "slow":
                time.sleep(600)
            return real(case, *rest)
        run_case.run_case = faulty
        """,
    )
    found = verify(suite, tmp_path / "out", jobs=1)
    failed = [entry for entry in found["cases"] if entry["verdict"] == "fail"]

    assert [entry["name"] for entry in failed] == ["slow"]
    assert "no end after 4 s" in failed[0]["problem"]


def command(suite: Path, out: Path, **extra: str) -> subprocess.Popen[bytes]:
    code = "from iort_planner.cli.main import entry_point; entry_point()"
    arguments = [sys.executable, "-c", code, "verify", str(suite), "--out", str(out), "--jobs", "1", "--quiet"]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(arguments, env={**os.environ, "PYTHONPATH": paths, **extra}, start_new_session=True)


def finished(out: Path) -> int:
    journal = out.with_name(f".{out.name}.unfinished") / "journal.jsonl"
    return journal.read_text(encoding="utf-8").count('"entry"') if journal.is_file() else 0


def test_after_kill_9_a_second_start_goes_on_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, out = table_suite(tmp_path / "suite", 30), tmp_path / "out"
    ran = tmp_path / "ran"
    ran.mkdir()
    plant(
        monkeypatch,
        tmp_path / "slowly",
        f"""
        import time, uuid, pathlib
        import iort_planner.verification.run_case as run_case
        real = run_case.run_case
        def slow(case, *rest):
            (pathlib.Path({str(ran)!r}) / f"{{case.name}}.{{uuid.uuid4()}}").touch()
            time.sleep(0.15)
            return real(case, *rest)
        run_case.run_case = slow
        """,
    )
    first = command(suite, out)
    end = time.monotonic() + 60.0
    while finished(out) < 5 and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    done = finished(out)
    assert 5 <= done < 30
    assert not out.exists()
    second = command(suite, out)

    assert second.wait(timeout=120) == 0
    found = json.loads((out / "verification.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in found["cases"]] == [f"case-{n:04d}" for n in range(30)]
    runs = [path.name.split(".")[0] for path in ran.iterdir()]
    assert len(set(runs)) == 30
    assert len(runs) <= 32  # none of what was finished ran again; what was under way did
    assert not out.with_name(f".{out.name}.unfinished").exists()


def test_a_case_that_was_changed_meanwhile_runs_again(tmp_path: Path) -> None:
    suite = table_suite(tmp_path / "suite", 1)
    with Journal(tmp_path / "unfinished") as journal:
        from iort_planner.verification import read_suite

        (case,) = read_suite(suite)
        journal.add({"name": case.name, "sha256": case.sha256})
        assert journal.has(case)
        (suite / "case-0000" / "case.toml").write_text(CASE + "\n# changed\n", encoding="utf-8")
        assert not journal.has(read_suite(suite)[0])


def test_a_case_that_is_changed_while_the_suite_runs_fails_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = table_suite(tmp_path / "suite", 2)
    plant(
        monkeypatch,
        tmp_path / "fault",
        f"""
        import pathlib
        import iort_planner.verification.run_case as run_case
        real = run_case.case_in
        def edited(*args):
            with open({str(suite / "case-0001" / "case.toml")!r}, "a") as file:
                file.write("# edited\\n")
            return real(*args)
        run_case.case_in = edited
        """,
    )
    found = verify(suite, tmp_path / "out", jobs=1)

    assert "changed while the suite ran" in found["cases"][1]["problem"]


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "unfinished"),
        pytest.raises(OutputError, match="another run"),
        Journal(tmp_path / "unfinished"),
    ):
        pass


def test_a_folder_that_is_not_its_own_is_not_replaced(tmp_path: Path) -> None:
    suite = table_suite(tmp_path / "suite", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").touch()
    with pytest.raises(OutputError, match="not empty"):
        verify(suite, tmp_path / "out", jobs=1)
    assert (tmp_path / "out" / "thesis.txt").exists()


@pytest.mark.parametrize(("how", "words"), [({"jobs": 0}, "--jobs"), ({"timeout": 0.0}, "--timeout")])
def test_options_that_cannot_be_are_refused(tmp_path: Path, how: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        verify(table_suite(tmp_path / "suite", 1), tmp_path / "out", **how)


def test_an_interrupt_ends_every_process_also_one_that_was_started_for_a_dead_one(tmp_path: Path) -> None:
    suite = table_suite(tmp_path / "suite", 4)
    started: list[Worker] = []

    class Watched(Worker):
        def __init__(self) -> None:
            super().__init__()
            started.append(self)
            if len(started) == 1:
                os.kill(self.pid, signal.SIGKILL)  # another takes its place

    (tmp_path / "pictures").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iort_planner.verification.workers.Worker", Watched)
        entries = run_all(read_suite(suite), suite, tmp_path / "pictures", jobs=2, timeout=60.0)
        assert next(entries)["verdict"] == "pass"
        entries.close()  # what an interrupt does to it

    assert len(started) >= 2
    assert not any(worker.alive for worker in started)
