"""Output folders and files, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
import threading
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from iort_planner.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class OutputKind:
    """What one command writes into its folder, by which an earlier run's folder is told from any other.

    Parameters
    ----------
    key_file : str
        A JSON file that each finished run leaves.
    schema : str
        How the ``schema`` in that file starts.
    names : tuple of str
        Patterns of every name the command may write at the folder's top.
    """

    key_file: str
    schema: str
    names: tuple[str, ...]

    def made(self, folder: Path) -> bool:
        """Whether an earlier run made the folder and nothing else lies in it."""
        try:
            content = json.loads((folder / self.key_file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        ours = isinstance(content, dict) and str(content.get("schema", "")).startswith(self.schema)
        return ours and all(any(fnmatch(entry.name, name) for name in self.names) for entry in folder.iterdir())


PLAN_FOLDER = OutputKind(
    "plan.json",
    "iort-planner/plan/",
    ("plan.json", "report.pdf", "scene.png", "slices.png", "dose.nii.gz", "dose_*.nii.gz", "canal.nii.gz"),
)
PHANTOM_FOLDER = OutputKind("truth.json", "iort-planner/truth/", ("scan", "truth.json"))
QA_FOLDER = OutputKind("qa.json", "iort-planner/qa-", ("qa.json", "qa.png", "qa.pdf"))
VERIFICATION_FOLDER = OutputKind(
    "verification.json",
    "iort-planner/verification/",
    ("verification.json", "verification.html", "verification.xml", "certificate.pdf", "pictures"),
)
DEMO_FOLDER = OutputKind("truth.json", "iort-planner/truth/", ("scan", "truth.json", "plan"))


@contextlib.contextmanager
def whole_folder(target: Path, kind: OutputKind) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` that becomes ``target`` when the block ends well.

    An empty folder or one that an earlier run of the same command made is replaced whole. After an error or
    an interruption nothing is left and an earlier result still stands.

    Raises
    ------
    OutputError
        If ``target`` is a file, holds anything else, or cannot be written.
    """
    target = checked_folder(target, kind)
    created: list[Path] = []
    partial: Path | None = None
    try:
        try:
            with _signals_wait():  # an interrupt between a folder and its name here would leave it behind
                _make_parents(target.parent, created)
                partial = Path(tempfile.mkdtemp(prefix=".iort-planner-", suffix=".partial", dir=target.parent))
                partial.chmod(0o755)
        except OSError as error:
            raise OutputError(
                f"output folder {str(target)!r} cannot be written ({error.strerror}); give another --out"
            ) from error
        try:
            yield partial
            _put_in_place(partial, target)
        except OSError as error:
            if isinstance(error, OutputError) or error.errno is None:
                raise
            raise OutputError(
                f"writing to {str(target)!r} failed ({error.strerror}); nothing was kept: free space or give another "
                "--out"
            ) from error
    except BaseException:  # an interrupt too: nothing half written may stay; all is raised again
        with _signals_wait():
            if partial is not None:
                shutil.rmtree(partial, ignore_errors=True)
            for folder in reversed(created):
                with contextlib.suppress(OSError):
                    folder.rmdir()
        raise


def checked_folder(target: Path, kind: OutputKind) -> Path:
    """The folder's full path, if it may be written or replaced; OutputError if not."""
    if not target.name and not target.parts:
        raise OutputError("the output folder has no name; give --out DIR")
    try:
        full = target.absolute().resolve()
        if full in (here := Path.cwd().resolve(), *here.parents):
            raise OutputError(f"output folder {str(target)!r} is, or holds, the current folder; give a new one's name")
        if full.exists() and not full.is_dir():
            raise OutputError(f"output folder {str(target)!r} is a file; give another --out")
        if full.is_dir() and any(full.iterdir()) and not kind.made(full):
            raise OutputError(
                f"output folder {str(target)!r} is not empty and was not made by this command alone; "
                "nothing in it was touched: give another --out or empty it yourself"
            )
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, up to Python 3.12
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"output folder {str(target)!r} cannot be used ({error}); give another --out") from error
    return full


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` to write to; it becomes ``target`` when the block ends well.

    Raises
    ------
    OutputError
        If the folder is missing or cannot be written.
    """
    partial = None
    try:
        with _signals_wait():
            handle, name = tempfile.mkstemp(prefix=".iort-planner-", suffix=target.suffix, dir=target.parent)
            partial = Path(name)
            os.close(handle)
        partial.chmod(0o644)
        yield partial
        partial.replace(target)
    except OSError as error:
        if isinstance(error, OutputError) or error.errno is None:
            raise
        raise OutputError(f"file {str(target)!r} cannot be written ({error.strerror}); give another place") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def _make_parents(folder: Path, created: list[Path]) -> None:
    """Make missing parent folders; the ones made are appended, outermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir()
        created.append(each)


def _put_in_place(partial: Path, target: Path) -> None:
    """Exchange the folders; at no moment, whatever interrupts, is there neither the old nor the new one."""
    with _signals_wait():
        if not target.exists():
            partial.rename(target)
            return
        old = Path(tempfile.mkdtemp(prefix=".iort-planner-", suffix=".old", dir=target.parent))
        try:
            target.rename(old / "folder")
            partial.rename(target)
        except BaseException:  # an interrupt too: the old folder goes back to its name; all is raised again
            if not target.exists() and (old / "folder").exists():
                (old / "folder").rename(target)
            raise
        finally:
            if target.exists():
                shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Interrupts are delivered after the block.

    By the handler, not by the thread's signal mask: a signal that another thread receives still runs Python's
    handler here.
    """
    if threading.current_thread() is not threading.main_thread():  # only there does Python run handlers
        yield
        return
    arrived: list[int] = []
    before = {}
    try:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not None:  # None: not Python's to restore
                before[number] = signal.signal(number, lambda number, _frame: arrived.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in arrived:
            signal.raise_signal(number)
