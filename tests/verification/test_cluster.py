"""The same suite on a dask cluster of processes: equal results, and a worker that is killed loses no case."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from iort_planner.cli.main import main
from iort_planner.verification import verify
from iort_planner.verification.case import read_suite
from iort_planner.verification.cluster import run_packed
from tests.verification.suites import table_suite
from tests.verification.test_batch import timeless

distributed = pytest.importorskip("distributed")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[object]:
    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]))
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=str(tmp_path / "dask"),
        ) as made,
    ):
        yield made


# dask leaves sockets and loops to the garbage collector when it closes
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_cluster_gives_what_one_machine_gives_though_a_worker_is_killed(cluster: object, tmp_path: Path) -> None:
    suite = table_suite(tmp_path / "suite", 6)
    here = verify(suite, tmp_path / "here", jobs=1)
    victims = [worker.process.pid for worker in cluster.workers.values()]  # type: ignore[attr-defined]

    def kill() -> None:
        time.sleep(2.0)
        os.kill(victims[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    there = verify(suite, tmp_path / "there", scheduler=cluster.scheduler_address)  # type: ignore[attr-defined]
    thread.join()

    assert there["verdict"] == "pass"
    assert timeless(here) == timeless(there)


def test_a_scheduler_that_does_not_answer_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = table_suite(tmp_path / "suite", 1)
    status = main(["verify", str(suite), "--out", str(tmp_path / "out"), "--scheduler", "tcp://127.0.0.1:1", "--quiet"])

    assert status == 2
    assert "no scheduler answers there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_case_that_the_cluster_gives_up_fails_by_its_name_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = table_suite(tmp_path / "suite", 3)
    names = [case.name for case in read_suite(suite)]

    def fails_once(packed: bytes, name: str, outside: str | None, seconds: float) -> object:
        if name == names[1]:
            raise OSError("no space left on the worker")
        return run_packed(packed, name, outside, seconds)

    monkeypatch.setattr("iort_planner.verification.cluster.run_packed", fails_once)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, local_directory=str(tmp_path / "d")
    ) as made:
        document = verify(suite, tmp_path / "there", scheduler=made.scheduler_address)

    verdicts = {case["name"]: case["verdict"] for case in document["cases"]}
    assert verdicts == {names[0]: "pass", names[1]: "fail", names[2]: "pass"}
    assert "no space left on the worker" in document["cases"][1]["problem"]
