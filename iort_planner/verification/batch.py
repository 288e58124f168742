"""A suite from its folder to a folder of results: on processes here or on a cluster, and on from where it was cut off."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import iort_planner
from iort_planner import __version__
from iort_planner.errors import InputError, OutputError
from iort_planner.output import VERIFICATION_FOLDER, checked_folder, whole_folder
from iort_planner.verification import results
from iort_planner.verification.case import read_suite
from iort_planner.verification.workers import run_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from iort_planner.verification.case import Case

MOST_JOBS = 256


def verify(
    suite: Path,
    out: Path,
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    against: Path | None = None,
    timeout: float | None = None,
    fresh: bool = False,
    progress: Callable[[int, int, str], None] = lambda _done, _all, _name: None,
) -> dict[str, Any]:
    """Run every case below a folder and write what came of it.

    Parameters
    ----------
    suite, out : Path
        Folder of cases; folder of results, replaced whole at the end.
    jobs : int, optional
        Processes at once; by default as many as there are cores.
    scheduler : str, optional
        Address of a dask scheduler, whose workers run the cases instead.
    against : Path, optional
        verification.json of an earlier run, of this or another version, to compare with.
    timeout : float, optional, s
        Longest time of a case, in the place of each case's own.
    fresh : bool
        Start anew where an earlier run was cut off; without it, what it had finished is kept.
    progress : callable
        Told (done, all, name of the case) after each case.

    Returns
    -------
    dict
        The content of verification.json.

    Raises
    ------
    InputError
        If a case cannot be right, an option cannot be, or the scheduler cannot be reached. Nothing runs then.
    OutputError
        If the results cannot be written.
    """
    if jobs is not None and not 1 <= jobs <= MOST_JOBS:
        raise InputError(f"--jobs {jobs} must lie within 1 to {MOST_JOBS}")
    if timeout is not None and not 0.0 < timeout <= 86400.0:
        raise InputError(f"--timeout {timeout:g} s must lie above 0 and up to 86400")
    cases = read_suite(suite)
    old = None if against is None else results.read_results(against)
    checked_folder(out, VERIFICATION_FOLDER)
    unfinished = out.with_name(f".{out.name}.unfinished")
    if fresh:
        shutil.rmtree(unfinished, ignore_errors=True)
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(Journal(unfinished))
        left = [case for case in cases if not journal.has(case)]
        done = len(cases) - len(left)
        progress(done, len(cases), "")
        if scheduler is not None:
            from iort_planner.verification.cluster import run_on_cluster

            entries: Iterator[dict[str, Any]] = run_on_cluster(left, journal.pictures, scheduler, timeout)
        else:
            entries = run_all(left, suite, journal.pictures, jobs or min(os.cpu_count() or 1, 16), timeout)
        for entry in entries:
            journal.add(entry)
            done += 1
            progress(done, len(cases), str(entry["name"]))
        document = results.document(suite, cases, journal.entries(cases), old)
        with whole_folder(out, VERIFICATION_FOLDER) as folder:
            results.write_results(folder, document, journal.pictures)
    shutil.rmtree(unfinished, ignore_errors=True)
    return document


class Journal:
    """What is finished of a run, on disk after each case: a line of JSON each, under a key of the case and of this software.

    The key holds the case's files and every line of this package: after a change of either the case runs again.

    Raises
    ------
    OutputError
        If it cannot be written, or another run writes it at the moment.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.pictures = folder / "pictures"
        self._found: dict[str, dict[str, Any]] = {}
        self._software = software_hash()

    def __enter__(self) -> Journal:
        try:
            self.pictures.mkdir(parents=True, exist_ok=True)
            path = self._folder / "journal.jsonl"
            if path.is_file():
                for line in path.read_text(encoding="utf-8").splitlines():
                    with contextlib.suppress(
                        ValueError, KeyError
                    ):  # the last line of a run that was cut off may be torn
                        record = json.loads(line)
                        self._found[record["key"]] = record["entry"]
            with contextlib.ExitStack() as undone:
                self._stream = undone.enter_context(path.open("a", encoding="utf-8"))
                _lock(self._stream.fileno(), self._folder)
                undone.pop_all()
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                f"{self._folder} cannot be written ({error.strerror}); give another --out, or --fresh"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def has(self, case: Case) -> bool:
        """Whether a case is finished."""
        return self._key(case.name, case.sha256) in self._found

    def add(self, entry: dict[str, Any]) -> None:
        """Keep a finished case, durably."""
        key = self._key(str(entry["name"]), str(entry["sha256"]))
        self._found[key] = entry
        self._stream.write("\n" + json.dumps({"key": key, "entry": entry}) + "\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def entries(self, cases: Sequence[Case]) -> list[dict[str, Any]]:
        """The entries of cases, in their order."""
        return [self._found[self._key(case.name, case.sha256)] for case in cases]

    def _key(self, name: str, sha256: str) -> str:
        return hashlib.sha256(f"{name}\0{sha256}\0{self._software}".encode()).hexdigest()


def _lock(descriptor: int, folder: Path) -> None:
    """Two runs into one folder would write over each other; not on systems without such locks."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise OutputError(f"another run is writing {folder.name}; wait for it, or give another --out") from error


def software_hash() -> str:
    """Of the version and every module of this package."""
    package = Path(iort_planner.__file__).parent
    digest = hashlib.sha256(__version__.encode())
    for file in sorted(package.rglob("*.py")):
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
