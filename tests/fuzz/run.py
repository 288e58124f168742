"""Fuzz the intake: mutated scans and structure files, read by watched worker processes.

    python -m tests.fuzz.run [--files N] [--seed S] [--seconds T] [--jobs J] [--only FAMILY] [--keep DIR] [--json]
    python -m tests.fuzz.run --seed S --number K --keep DIR      one case again, its files kept

An outcome is good if the package returns, or refuses with one line that does not show the patient's name, within 10 s and
500 MB beyond four times the volume, leaving no process, no open file and nothing written. Everything else is counted as
bad and makes the exit status 1. Needs Linux (/proc, address-space limits).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from tests.fuzz.seeds import FAMILIES, build

HANG_S = 45.0  # the judge itself measures 10 s a step; what it cannot end is ended from here
_MOST_SHOWN = 200


@dataclass(kw_only=True)
class Tally:
    """Counts of a whole run."""

    cases: int = 0
    files: int = 0
    commands: int = 0
    families: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    readings: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    findings: list[dict[str, Any]] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    largest: tuple[float, str] = (0.0, "")
    child_mb: float = 0.0

    def add(self, outcome: dict[str, Any]) -> None:
        label = f"{outcome['number']} ({outcome['seed_name']}: {'+'.join(outcome['mutators'])})"
        self.cases += 1
        self.files += outcome["mutated"]
        self.commands += outcome["command"]
        self.families[outcome["family"]] += outcome["mutated"]
        self.kinds[f"{outcome['kind']} {outcome['error'] if outcome['kind'] != 'loaded' else ''}".strip()] += 1
        if outcome["reading"]:
            self.readings[outcome["reading"].split(":")[0]] += 1
        self.slowest = max(self.slowest, (outcome["seconds"], label))
        self.largest = max(self.largest, (outcome["grown_mb"], label))
        self.child_mb = max(self.child_mb, outcome["child_mb"])
        for kind in dict.fromkeys(kind for kind, _ in outcome["bad"]):
            self.bad[kind] += 1
        if outcome["bad"]:
            self.findings.append(outcome)


class Worker:
    """A worker process, started again after the case that ended it."""

    def __init__(self, args: argparse.Namespace, area: Path, place: int) -> None:
        self._args, self._area, self._place = args, area, place
        self.number = args.number if args.number is not None else place
        self.since = 0.0
        self._buffer = b""
        self.process: subprocess.Popen[bytes]
        self._log: IO[bytes] = (area / f"stderr{place}").open("w+b")
        self.start()

    def start(self) -> None:
        args = self._args
        command = [sys.executable, "-m", "tests.fuzz.worker", "--area", str(self._area), "--name", f"w{self._place}"]
        command += ["--seed", str(args.seed), "--first", str(self.number), "--step", str(args.jobs)]
        command += ["--command-every", str(args.command_every)]
        command += ["--only", args.only] if args.only else []
        command += ["--keep", str(args.keep)] if args.keep else []
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "HOME": str(self._area / "home"),
        }
        environment["TMPDIR"] = str(self._area / "tmp")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            start_new_session=True,
        )
        self._buffer = b""
        self.ask()

    def ask(self) -> None:
        """Let it do its next case."""
        self.since = time.monotonic()
        if self.process.stdin is not None:
            try:
                self.process.stdin.write(b"next\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                return

    def lines(self) -> list[str] | None:
        """Whole lines that came; None at the end of the stream."""
        if self.process.stdout is None:
            return None
        data = os.read(self.process.stdout.fileno(), 1 << 20)
        if not data:
            return None
        *whole, self._buffer = (self._buffer + data).split(b"\n")
        return [line.decode() for line in whole]

    def end(self, *, hung: bool = False) -> str:
        """Stop it and its children; what it wrote about itself."""
        if hung:
            self.process.send_signal(signal.SIGUSR1)  # it writes its stack
            time.sleep(0.5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self._log.seek(0)
        said = self._log.read().decode(errors="replace")
        self._log.seek(0)
        self._log.truncate()
        return said[-2500:]


def run(args: argparse.Namespace) -> Tally:
    """The whole run; workers are stopped at its end, whatever happens."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="iort-fuzz-") as name:
        area = Path(name)
        _prepare(area)
        for place in range(args.jobs):  # all at once: a slow worker's folders are no news to the others
            (area / f"w{place}" / "deep" / "er" / "cases").mkdir(parents=True)
            (area / f"stderr{place}").touch()
        workers = [Worker(args, area, place) for place in range(args.jobs)]
        try:
            _watch(args, workers, tally)
        finally:
            for worker in workers:
                worker.end()
        leaked = sorted(p.name for p in (area / "tmp").iterdir()) + sorted(p.name for p in (area / "home").iterdir())
        imported = sorted(p.name for p in (area / "trap").glob("PWNED*"))
        if leaked or imported:
            tally.bad["write"] += 1
            tally.findings.append({"number": -1, "bad": [["write", f"left behind: {leaked + imported}"]]})
    return tally


def _prepare(area: Path) -> None:
    """Seeds; a bait outside of every case; modules in the working directory that must not be imported."""
    seeds = build()
    (area / "seeds.pickle").write_bytes(pickle.dumps(seeds))
    for folder in ("outside", "trap", "home", "tmp"):
        (area / folder).mkdir()
    classic = next(s for s in seeds.seeds if s.name == "explicit")
    for n, data in enumerate(classic.files.values()):
        (area / "outside" / f"bait{n}.dcm").write_bytes(data)
        (area / "outside" / "bait.dcm").write_bytes(data)
    for module in ("numpy", "pydicom", "gdcm", "zlib_", "dl", "struct_"):
        text = (
            f"import pathlib\npathlib.Path(__file__).with_name('PWNED-{module}').touch()\nraise ImportError('trap')\n"
        )
        (area / "trap" / f"{module}.py").write_text(text, encoding="ascii")


def _watch(args: argparse.Namespace, workers: list[Worker], tally: Tally) -> None:
    selector = selectors.DefaultSelector()

    def watch(worker: Worker) -> None:
        selector.register(worker.process.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]  # it is a pipe

    for worker in workers:
        watch(worker)
    end = time.monotonic() + args.seconds if args.seconds else None
    with tqdm(total=args.files, unit="file", file=sys.stderr, disable=args.quiet, mininterval=1.0) as bar:

        def done(worker: Worker, outcome: dict[str, Any], more: bool = True) -> None:
            tally.add(outcome)
            bar.update(outcome["mutated"])
            if tally.bad:
                bar.set_postfix(bad=sum(tally.bad.values()), refresh=False)
            worker.number += args.jobs
            if more:
                worker.ask()

        while tally.files < args.files and (end is None or time.monotonic() < end):
            for key, _ in selector.select(timeout=1.0):
                worker = key.data
                lines = worker.lines()
                if lines is None:
                    selector.unregister(key.fileobj)
                    code = worker.process.wait()
                    said = worker.end()
                    if "begin" not in said and tally.cases == 0 and worker.number < args.jobs:
                        raise RuntimeError(f"the worker does not start: {said}")
                    done(worker, _ended(worker.number, "crash", f"exit {code}: {said}"), more=False)
                    worker.start()
                    watch(worker)
                    continue
                for line in lines:
                    if line.startswith("{"):
                        done(worker, json.loads(line))
            for worker in workers:
                if time.monotonic() - worker.since > HANG_S + (3 * 10.0 if args.command_every else 0):
                    selector.unregister(worker.process.stdout)  # type: ignore[arg-type]  # it is a pipe
                    done(worker, _ended(worker.number, "hang", worker.end(hung=True)), more=False)
                    worker.start()
                    watch(worker)
            if args.number is not None and tally.cases:
                return


def _ended(number: int, kind: str, text: str) -> dict[str, Any]:
    """The outcome of a case that took its worker with it."""
    return {
        "number": number,
        "family": "unknown",
        "seed_name": "",
        "mutators": [],
        "mutated": 1,
        "kind": kind,
        "error": "",
        "reading": "",
        "seconds": 0.0,
        "grown_mb": 0.0,
        "child_mb": 0.0,
        "command": False,
        "bad": [[kind, text]],
    }


def report(tally: Tally, seconds: float, args: argparse.Namespace) -> dict[str, Any]:
    """The run as one document."""
    return {
        "seed": args.seed,
        "mutated_files": tally.files,
        "cases": tally.cases,
        "seconds": round(seconds, 1),
        "files_per_second": round(tally.files / seconds, 1),
        "command_line_runs": tally.commands,
        "mutated_files_by_family": dict(tally.families.most_common()),
        "outcomes": dict(tally.kinds.most_common()),
        "second_reading_of_loaded": dict(tally.readings.most_common()),
        "slowest_s": [round(tally.slowest[0], 2), tally.slowest[1]],
        "most_memory_grown_mb": [round(tally.largest[0], 1), tally.largest[1]],
        "largest_child_mb": round(tally.child_mb, 1),
        "bad": dict(tally.bad.most_common()),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000, help="mutated files to read at least")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after so long; 0: only after --files")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", choices=FAMILIES)
    parser.add_argument("--number", type=int, help="only this case of the run")
    parser.add_argument(
        "--command-every", type=int, default=50, help="every n-th case also through the command line; 0: none"
    )
    parser.add_argument("--keep", type=Path, help="keep the input of every bad case here")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(argv)
    if args.number is not None:
        args.files, args.jobs = 1 << 40, 1
    if args.keep is not None:
        args.keep = args.keep.absolute()
        args.keep.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    tally = run(args)
    result = report(tally, time.perf_counter() - start, args)
    for finding in tally.findings[:_MOST_SHOWN]:
        sys.stderr.write(json.dumps(finding, indent=1).replace("\\n", "\n    ") + "\n")
    if args.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(f"{key:<26} {value}" for key, value in result.items()) + "\n")
    return 1 if tally.bad else 0


if __name__ == "__main__":
    sys.exit(main())
