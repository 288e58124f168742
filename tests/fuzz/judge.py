"""What the package did with one case, and whether that was good: run in a worker process that is watched from outside."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import os
import random
import resource
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.cases import Case
from tests.fuzz.second_reading import compare
from tests.fuzz.seeds import SeedSet, structure_scan

LIMIT_S = 10.0  # issue 3: no hang over 10 s
LIMIT_BYTES = 500 << 20  # issue 3: four times the volume's size plus 500 MB
SECRET = "Secret"  # in the Patient's Name of every case
MOST_CHILDREN = 4  # compressed.py keeps so many idle decoders until the interpreter ends
_SPARE_FILES = 24  # their pipes
_READABLE = tuple(
    os.path.realpath(p) for p in (sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev/null", "/usr", "/lib", "/etc/ssl")
)
_CHANGING = (
    *("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chdir", "os.chmod"),
    *("os.system", "shutil.", "tempfile.", "socket.connect"),
)


@dataclass(kw_only=True)
class Outcome:
    """One line of the protocol between worker and parent."""

    number: int
    family: str = ""
    seed_name: str = ""
    mutators: list[str] = field(default_factory=list)
    mutated: int = 0
    kind: str = ""
    error: str = ""
    reading: str = ""
    seconds: float = 0.0
    grown_mb: float = 0.0
    child_mb: float = 0.0
    command: bool = False
    bad: list[tuple[str, str]] = field(default_factory=list)

    def line(self) -> str:
        return json.dumps(asdict(self))


class Watch:
    """Python's audit events while armed: writing, and reading outside the case's folder, are findings."""

    def __init__(self) -> None:
        self.armed = False
        self.root = ""
        self.findings: list[tuple[str, str]] = []
        self.package = os.path.realpath(Path(__file__).parents[2])
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event == "open":
            path, _, flags = args
            if not isinstance(path, (str, bytes, os.PathLike)):
                return
            name = os.path.realpath(os.fsdecode(path))
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
                if name not in ("/dev/null",):
                    self.findings.append(("write", f"opened for writing: {name!r}"))
            elif not name.startswith((self.root, self.package, *_READABLE)):
                self.findings.append(("outside-read", f"opened {name!r}"))
        elif event in {"os.listdir", "os.scandir"} and isinstance(args[0], (str, bytes)):
            name = os.path.realpath(os.fsdecode(args[0]))
            if not name.startswith((self.root, self.package, *_READABLE)):
                self.findings.append(("outside-read", f"listed {name!r}"))
        elif event.startswith(_CHANGING):
            self.findings.append(("write", f"{event} {args!r}"[:300]))


class _Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Judge:
    """Runs cases in this process; ``area`` is the run's own folder, everything else must stay as it is."""

    def __init__(self, seeds: SeedSet, area: Path, command_every: int) -> None:
        from iort_planner.errors import IortError
        from iort_planner.imaging import series, survey
        from iort_planner.imaging.structures import read as structures

        self._seeds, self._area, self._every = seeds, area, command_every
        self._iort_error, self._series, self._survey = IortError, series, survey
        self._structures = structures
        self._log = _Log()
        logging.getLogger().addHandler(self._log)
        self._grid, self._frame_uid = _structure_grid()
        self._files_open = self._peak = 0
        self.watch = Watch()
        self._known = self._elsewhere(area)

    def _elsewhere(self, area: Path) -> set[str]:
        """Everything in the run's folder that is not a case."""
        found = set()
        for folder, folders, names in os.walk(area):
            if folder.endswith("/cases"):
                folders.clear()
                continue
            found |= {f"{folder}/{name}" for name in (*names, *folders)}
        return found

    def run(self, case: Case, root: Path) -> Outcome:
        """Write the case under ``root``, let the package read it, look at what is left."""
        outcome = Outcome(number=case.number, family=case.family, seed_name=case.seed_name, mutators=case.mutators)
        outcome.mutated = case.mutated
        path = case.write(root)
        before = _listing(root)
        gc.collect(1)
        if not self._files_open:
            self._files_open = _open_files() + _SPARE_FILES
        threads = threading.active_count()
        self._log.lines.clear()
        start_bytes = _reset_peak()
        self.watch.root, self.watch.findings = os.path.realpath(root), []
        volume_bytes = self._peak = 0
        with _captured() as (caught, out):
            if case.family == "structure":
                self._structure(outcome, path)
            else:
                volume_bytes = self._scan(outcome, path, root)
        grown = (self._peak or _peak()) - start_bytes
        printed = out.getvalue()
        outcome.grown_mb, outcome.child_mb = grown / 2**20, _children_mb()
        for name, text in (("warning", "; ".join(str(w.message) for w in caught)), ("printed", printed)):
            if text.strip():
                outcome.bad.append((name, text[:600]))
        if any(SECRET in line for line in self._log.lines) or SECRET in printed:
            outcome.bad.append(("name-shown", "the patient's name reached a log"))
        outcome.bad += self.watch.findings[:3]
        if grown > 4 * volume_bytes + LIMIT_BYTES:
            outcome.bad.append(
                ("memory", f"grew by {grown / 2**20:.0f} MB for a volume of {volume_bytes / 2**20:.1f} MB")
            )
        if outcome.child_mb > 500:
            outcome.bad.append(("memory", f"a child took {outcome.child_mb:.0f} MB"))
        if len(_children()) > MOST_CHILDREN:
            outcome.bad.append(("child-left", f"{len(_children())} children"))
        if _open_files() > self._files_open:
            outcome.bad.append(("file-left-open", f"{_open_files()} open files"))
        if threading.active_count() > threads + MOST_CHILDREN:
            outcome.bad.append(("thread-left", f"{threading.active_count()} threads"))
        if _listing(root) != before:
            outcome.bad.append(("write", f"the case's folder changed: {sorted(_listing(root) ^ before)[:3]}"))
        new = self._elsewhere(self._area) - self._known
        if new:
            outcome.bad.append(("write", f"new outside: {sorted(new)[:3]}"))
            self._known |= new
        # Not every n-th number: one worker would get them all.
        chosen = self._every and random.Random(f"command:{case.number}").random() < 1 / self._every
        if chosen and case.family != "structure":
            self._command(outcome, path)
        return outcome

    def _scan(self, outcome: Outcome, path: Path, root: Path) -> int:
        """``inspect`` and ``load_series`` on one path; bytes of the largest volume that was or would be made."""
        survey = self._call(outcome, "survey", self._survey.survey_path, path)
        plannable = None
        volume_bytes = 0
        if survey is not None:
            reports = survey.series
            plannable = sum(r.plannable for r in reports)
            for r in reports:
                self._text(outcome, "report", [p.message for p in r.problems], lines=True)
                if r.size_voxels:
                    i, j, k = r.size_voxels
                    volume_bytes = max(volume_bytes, 4 * i * j * k)
            self._text(outcome, "ignored", [text for text, _ in survey.ignored], lines=True)
        outcome.kind = "surveyed" if survey is not None else outcome.kind
        image = self._call(outcome, "load", self._series.load_series, path)
        if image is None:
            if plannable == 1 and outcome.error:
                outcome.bad.append(("disagree", f"inspect calls one series plannable, load says {outcome.error}"))
            return volume_bytes
        outcome.kind = "loaded"
        self._text(outcome, "problem", [p.message for p in image.problems], lines=True)
        if survey is None:
            outcome.bad.append(("disagree", "load reads what inspect refuses"))
        self._peak = _peak()  # what follows is the harness's own work
        outcome.reading = compare(image, root, self._seeds)
        if outcome.reading.startswith("wrong"):
            outcome.bad.append(("wrong", outcome.reading))
        return max(volume_bytes, int(image.volume.values.nbytes))

    def _structure(self, outcome: Outcome, path: Path) -> None:
        read = getattr(self._structures, "read_structure", None)
        if read is not None:
            found = self._call(
                outcome, "load", read, path, self._grid, frames_of_reference=frozenset({self._frame_uid}), roi=None
            )
        else:
            found = self._call(outcome, "load", self._structures.read_label_map, path, self._grid)
        if found is None:
            return
        outcome.kind = "loaded"
        mask = found.mask
        self._text(outcome, "note", [str(n) for n in found.notes], lines=True)
        if mask.shape != self._grid.shape or mask.dtype != bool or not mask.any():
            outcome.bad.append(("wrong", f"mask {mask.shape} {mask.dtype}, {int(mask.sum())} voxels"))

    def _call(self, outcome: Outcome, step: str, function: Any, *args: Any, **options: Any) -> Any:
        """The function's value, or None with the outcome saying why."""
        start = time.perf_counter()
        self.watch.armed = True
        try:
            return function(*args, **options)
        except self._iort_error as error:
            outcome.kind, outcome.error = "refused", type(error).__name__
            self._text(outcome, "error", [str(error)], lines=False)
        except BaseException as error:  # noqa: BLE001  # this is what the harness looks for
            self.watch.armed = False
            outcome.kind, outcome.error = "traceback", type(error).__name__
            tail = "".join(traceback.format_exception(error))[-1800:]
            outcome.bad.append(("traceback", f"{step}: {tail}"))
        finally:
            self.watch.armed = False
            took = time.perf_counter() - start
            outcome.seconds = max(outcome.seconds, took)
            if took > LIMIT_S:
                outcome.bad.append(("slow", f"{step} took {took:.1f} s"))
        return None

    def _text(self, outcome: Outcome, what: str, texts: list[str], *, lines: bool) -> None:
        """Each message is one printable line that does not show the patient's name."""
        for text in texts:
            if SECRET in text.replace(f"{SECRET}^Name.dcm", ""):  # a file's own name may be shown, whatever it is
                outcome.bad.append(("name-shown", f"{what}: {text[:300]}"))
            if not text or len(text.splitlines()) > 1 or not all(c.isprintable() for c in text):
                outcome.bad.append(("not-one-line", f"{what}: {text[:300]!r}"))
            if len(text) > 3000:
                outcome.bad.append(("endless-line", f"{what}: {len(text)} characters, {text[:200]!r}"))

    def _command(self, outcome: Outcome, path: Path) -> None:
        """The same through the command line, as a user has it."""
        outcome.command = True
        code = "from iort_planner.cli.main import entry_point; entry_point()"
        command = [sys.executable, "-P", "-c", code, "inspect", os.fspath(path), "--json", "--quiet"]
        start = time.perf_counter()
        try:
            done = subprocess.run(command, capture_output=True, timeout=3 * LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            outcome.bad.append(("slow", "the command line did not end"))
            return
        took = time.perf_counter() - start
        out, err = (part.decode(errors="surrogateescape") for part in (done.stdout, done.stderr))
        if done.returncode not in (0, 1, 2):
            outcome.bad.append(("command", f"exit {done.returncode}: {err[-600:]}"))
        if SECRET in out or (SECRET in err and SECRET not in str(path)):
            outcome.bad.append(("name-shown", "command line"))
        if took > LIMIT_S:
            outcome.bad.append(("slow", f"command line took {took:.1f} s"))
        wanted = 1 if done.returncode == 2 else 0
        if len(err.splitlines()) != wanted or (wanted and not err.startswith("error: ")):
            outcome.bad.append(("command", f"exit {done.returncode}, stderr {err[-600:]!r}"))
        if done.returncode in (0, 1):
            try:
                json.loads(out)
            except ValueError:
                outcome.bad.append(("command", f"exit {done.returncode}, no JSON: {out[:300]!r}"))
        elif out:
            outcome.bad.append(("command", f"exit 2 and stdout {out[:300]!r}"))


@contextlib.contextmanager
def _captured() -> Iterator[tuple[list[warnings.WarningMessage], io.StringIO]]:
    """Warnings that would reach a user, and anything printed."""
    out = io.StringIO()
    with (
        warnings.catch_warnings(record=True) as caught,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
    ):
        warnings.simplefilter("always")
        yield caught, out


def _structure_grid() -> tuple[Any, str]:
    import numpy as np

    from iort_planner.imaging.volume import ImageGrid

    scan = structure_scan()
    axes = np.column_stack([scan.axes[0], scan.axes[1], scan.normal])
    grid = ImageGrid(
        size_voxels=scan.size,
        spacing_mm=np.array(scan.spacing_mm),
        origin_lps_mm=np.array(scan.origin_mm),
        direction=axes,
    )
    return grid, scan.frame_uid


def _listing(root: Path) -> set[str]:
    found = set()
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = os.path.join(folder, name)  # noqa: PTH118  # names may be no valid text
            found.add(f"{path} {os.lstat(path).st_size}")
    return found


def _status_bytes(key: str, process: str = "self") -> int:
    try:
        with open(f"/proc/{process}/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123  # fast
            for line in file:
                if line.startswith(key):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0


def _reset_peak() -> int:
    """Set the peak of resident memory back to what is resident now (proc(5), clear_refs); that value."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:  # noqa: PTH123  # fast
        file.write("5")
    return _status_bytes("VmRSS:")


def _peak() -> int:
    return _status_bytes("VmHWM:")


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _children() -> list[str]:
    found: list[str] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += (task / "children").read_text(encoding="ascii").split()
    return found


def _children_mb() -> float:
    """The largest child so far, those that ended and those that wait for work."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return max([ended, *(_status_bytes("VmHWM:", child) / 2**20 for child in _children())])
