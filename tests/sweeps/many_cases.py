"""A thousand small cases in one run, with kills: flat memory, no case lost, the same result as without.

    python -m tests.sweeps.many_cases [--cases 1000] [--jobs 2]

Runs ``verify`` on table QA cases three times: quietly; with `kill -9` of a worker now and then; and with `kill -9` of the
parent in the middle and a second start. Prints peak memory of parent and workers, and whether the three results are equal.
Exit status 1 if a case is lost, results differ, or the parent's memory grows by more than 10 %. A short form runs with the
tests (tests/verification/test_batch.py).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.verification.suites import table_suite
from tests.verification.test_batch import timeless

ROOT = Path(__file__).resolve().parents[2]
CODE = "from iort_planner.cli.main import entry_point; entry_point()"
# A case fails when its process died twice: kills must lie further apart than a process takes to start and to repeat its case,
# up to 2 s on a slow machine. Kills 2 s apart hit 10 of 1000 cases twice there.
KILL_EVERY_S = 5.0


def start(suite: Path, out: Path, jobs: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CODE, "verify", str(suite), "--out", str(out), "--jobs", str(jobs), "--quiet"]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task")
    found = []
    for task in path.glob("*/children"):
        try:
            found += [int(word) for word in task.read_text().split()]
        except OSError:
            continue
    return found


def resident_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def finished(out: Path) -> int:
    journal = out.with_name(f".{out.name}.unfinished") / "journal.jsonl"
    try:
        return journal.read_text(encoding="utf-8").count('"entry"')
    except OSError:
        return 0


def watch(
    run: subprocess.Popen[bytes], out: Path, cases: int, *, kill_every_s: float = 0.0, stop_at: int | None = None
) -> dict[str, Any]:
    """Memory of parent and largest worker at each look, and how many workers were killed."""
    rng, parents, workers, kills = random.Random(1), [], [], 0
    next_kill = time.monotonic() + kill_every_s
    while run.poll() is None:
        if (
            0 < finished(out) < cases
        ):  # before the first case libraries are loaded; after the last one the page is drawn
            parents.append(resident_mb(run.pid))
        alive = children(run.pid)
        workers.append(max((resident_mb(pid) for pid in alive), default=0.0))
        if kill_every_s and alive and time.monotonic() > next_kill:
            os.kill(rng.choice(alive), signal.SIGKILL)
            kills, next_kill = kills + 1, time.monotonic() + kill_every_s
        if stop_at is not None and finished(out) >= stop_at:
            run.kill()
            run.wait()
            break
        time.sleep(0.2)
    return {"parent": parents, "workers": workers, "kills": kills}


def growth_percent(values: list[float]) -> float:
    """Peak of the last quarter over that of the second: the first one loads libraries."""
    quarter = max(1, len(values) // 4)
    early, late = max(values[quarter : 2 * quarter] or values), max(values[-quarter:])
    return 100.0 * (late / early - 1.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suite = table_suite(folder / "suite", args.cases)
        results, good = {}, True
        for how in ("quiet", "workers killed", "parent killed"):
            out, begin = folder / how.replace(" ", "-"), time.perf_counter()
            if how == "parent killed":
                watch(start(suite, out, args.jobs), out, args.cases, stop_at=args.cases // 2)
                sys.stdout.write(f"parent killed after {finished(out)} cases\n")
            run = start(suite, out, args.jobs)
            seen = watch(run, out, args.cases, kill_every_s=KILL_EVERY_S if how == "workers killed" else 0.0)
            results[how] = json.loads((out / "verification.json").read_text(encoding="utf-8"))
            count, passed = len(results[how]["cases"]), results[how]["counts"]["passed"]
            growth = growth_percent(seen["parent"])
            good &= count == passed == args.cases and growth <= 10.0
            sys.stdout.write(
                f"{how}: {passed} of {count} passed in {time.perf_counter() - begin:.0f} s, {seen['kills']} kills; parent "
                f"at most {max(seen['parent']):.0f} MB (growth {growth:+.1f} %), worker at most {max(seen['workers']):.0f} MB\n"
            )
        same = all(timeless(each) == timeless(results["quiet"]) for each in results.values())
        sys.stdout.write(f"results equal but for times: {same}\n")
    return 0 if good and same else 1


if __name__ == "__main__":
    sys.exit(main())
