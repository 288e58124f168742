"""Processes that run cases: started, given one case after another, stopped when one hangs, replaced when one dies."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iort_planner.verification.run_case import failed_case

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from iort_planner.verification.case import Case

Entry = dict[str, Any]
CASES_A_PROCESS = 50  # then it is replaced: whatever leaks in a library cannot grow
TRIES = 2  # a case whose process died is tried once more: the machine may have killed it for another's memory
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class Worker:
    """One process that runs cases."""

    def __init__(self) -> None:
        environment = {**os.environ, **dict.fromkeys(_ONE_THREAD, "1")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "iort_planner.cli.verify_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # with its own children it can be ended as a group
        )
        self.cases = 0

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def run(self, case: Case, suite: Path, work: Path, seconds: float) -> Entry | str:
        """The case's entry, or why there is none: ``timeout`` or ``crash``; the process is of no use after that."""
        self.cases += 1
        job = {"folder": str(case.folder.resolve()), "suite": str(suite.resolve()), "work": str(work)}
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:  # never: both are pipes
            return "crash"
        answer = b""
        end = time.monotonic() + seconds
        try:
            stdin.write(json.dumps(job).encode() + b"\n")
            stdin.flush()
            with selectors.DefaultSelector() as waiting:
                waiting.register(stdout, selectors.EVENT_READ)
                while not answer.endswith(b"\n"):
                    left = end - time.monotonic()
                    if left <= 0.0:
                        return "timeout"
                    if waiting.select(left):
                        piece = os.read(stdout.fileno(), 1 << 20)
                        if not piece:
                            return "crash"
                        answer += piece
        except OSError:
            return "crash"
        entry: Entry = json.loads(answer)
        return entry

    def kill(self) -> None:
        """End the process and whatever it started; the thread that reads from it sees its end."""
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the process and close what led to it."""
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()


class _Started:
    """Every process of a run, also one that takes the place of another: an interrupt ends all, and none is started after it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: list[Worker] = []
        self.ended = False

    def new(self) -> Worker:
        """Start a process."""
        with self._lock:
            if self.ended:
                raise InterruptedError("the run has ended")
            worker = Worker()
            self._workers = [each for each in self._workers if each.alive] + [worker]
            return worker

    def end(self) -> None:
        """End all of them."""
        with self._lock:
            self.ended = True
            for worker in self._workers:
                worker.kill()


def run_one(
    worker: Worker | None,
    case: Case,
    suite: Path,
    pictures: Path,
    seconds: float,
    start_worker: Callable[[], Worker] = Worker,
) -> tuple[Worker | None, Entry]:
    """Run a case on a worker, a new one where there is none or it died; the worker to go on with, and the entry."""
    start, why = time.perf_counter(), ""
    for _ in range(TRIES):
        worker = worker or start_worker()
        with tempfile.TemporaryDirectory(prefix="iort-verify-", ignore_cleanup_errors=True) as folder:
            found = worker.run(case, suite, Path(folder) / "work", seconds)
            if isinstance(found, dict):
                if found["sha256"] != case.sha256:
                    found = failed_case(
                        case, "its files were changed while the suite ran: run it again", found["seconds"]
                    )
                picture = Path(folder) / "work" / "picture.png"
                if picture.is_file():
                    target = pictures / f"{picture_name(case.name)}.png"
                    shutil.copyfile(picture, target)
                if worker.cases >= CASES_A_PROCESS:
                    worker.stop()
                    worker = None
                return worker, found
        worker.stop()
        worker, why = None, found
        if why == "timeout":
            break
    problem = (
        f"no end after {seconds:g} s: stopped (raise [limits] seconds or --timeout if that was too short)"
        if why == "timeout"
        else f"its process died {TRIES} times (killed, or a library crashed)"
    )
    return None, failed_case(case, problem, time.perf_counter() - start)


def run_all(
    cases: Sequence[Case], suite: Path, pictures: Path, jobs: int, timeout: float | None
) -> Generator[Entry, None, None]:
    """Entries as they come, in any order, on ``jobs`` processes."""
    waiting: queue.SimpleQueue[Case] = queue.SimpleQueue()
    for case in cases:
        waiting.put(case)
    done: queue.SimpleQueue[Entry | BaseException] = queue.SimpleQueue()
    started = _Started()

    def serve() -> None:
        worker: Worker | None = None
        try:
            while not started.ended:
                try:
                    case = waiting.get_nowait()
                except queue.Empty:
                    return
                worker, entry = run_one(worker, case, suite, pictures, timeout or case.seconds, started.new)
                done.put(entry)
        except BaseException as error:  # noqa: BLE001 - handed to the caller, which raises it
            done.put(error)
        finally:
            if worker is not None:
                worker.stop()

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(min(jobs, len(cases)))]
    for thread in threads:
        thread.start()
    try:
        for _ in cases:
            found = done.get()
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        started.end()


def picture_name(case: str) -> str:
    """A file name for a case's picture."""
    return case.replace("/", "__")
