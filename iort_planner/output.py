"""Output folders and files, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
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


PLAN_FOLDER = OutputKind("plan.json", "iort-planner/plan/", ("plan.json", "report.pdf", "*.png", "*.nii.gz"))
PHANTOM_FOLDER = OutputKind("truth.json", "iort-planner/truth/", ("scan", "truth.json"))
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
    target = Path(os.path.abspath(target)).resolve()  # noqa: PTH100  (resolve alone keeps '..' of absent folders)
    try:
        if target.exists() and not target.is_dir():
            raise OutputError(f"output folder {target.name!r} is a file; give another --out")
        if target.is_dir() and any(target.iterdir()) and not kind.made(target):
            raise OutputError(
                f"output folder {str(target)!r} is not empty and was not made by this command alone; "
                "nothing in it was touched: give another --out or empty it yourself"
            )
        created = _make_parents(target.parent)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"output folder {str(target)!r} cannot be used ({error.strerror}); give another --out"
        ) from error
    partial = None
    try:
        try:
            partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        except OSError as error:
            raise OutputError(
                f"output folder {str(target)!r} cannot be written ({error.strerror}); give another --out"
            ) from error
        partial.chmod(0o755)
        try:
            yield partial
            _put_in_place(partial, target)
        except OSError as error:
            if isinstance(error, OutputError) or error.errno is None:
                raise
            raise OutputError(
                f"writing to {str(target)!r} failed ({error.strerror}); nothing was kept: free space or give another --out"
            ) from error
    except BaseException:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        for folder in created:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


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
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        partial = Path(name)
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


def _make_parents(folder: Path) -> list[Path]:
    """Make missing parent folders; the ones made, innermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir()
    return missing


def _put_in_place(partial: Path, target: Path) -> None:
    if not target.exists():
        partial.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    target.rename(old / target.name)
    try:
        partial.rename(target)
    except OSError:
        (old / target.name).rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
