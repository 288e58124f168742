"""What several commands share: option types, progress on stderr, the result document on stdout."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
WIDTH, LABEL_WIDTH = 110, 15  # of what people read, and of what stands before it


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """``--json`` and ``--quiet``, the same for every command."""
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else on stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def add_scan_options(parser: argparse.ArgumentParser) -> None:
    """The scan, which series of it, and what is only read on request; the same for every command that reads one."""
    parser.add_argument("input", type=path, metavar="INPUT", help="folder, file, zip archive or DICOMDIR with the scan")
    parser.add_argument("--series", metavar="UID", help="which series, where there are several")
    parser.add_argument(
        "--resample-tilt",
        action="store_true",
        help="make a stack with gantry tilt straight instead of refusing it, with a warning",
    )
    parser.add_argument(
        "--accept-mixed-frames",
        action="store_true",
        help="take slices that name different frames of reference as one scan, with a warning",
    )


def finite(text: str) -> float:
    """A finite number; its range is the library's business."""
    value = number(text)
    if value - value != 0.0:  # inf and nan
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is not a finite number")
    return value


def number(text: str) -> float:
    """A number, NaN and infinities included: the library refuses those by name."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is not a number; write it like 12.5") from None


def date(text: str) -> dt.date:
    """A day, as ISO 8601 writes it."""
    try:
        return dt.date.fromisoformat(text.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is no date; write it like 2026-11-30") from None


def path(text: str) -> Path:
    """A path with a name: an empty text would silently mean the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty; give the name of a folder or file")
    return Path(text)


def emit(text: str) -> None:
    """Write a result to stdout; where that is closed or full, say so on stderr: the files are written all the same.

    Bytes are UTF-8 whatever the terminal claims, so that '±' and umlauts never stop a result.
    """
    try:
        if sys.stdout is None:
            raise OSError("stdout is closed")
        stream = getattr(sys.stdout, "buffer", None)
        if stream is None:
            sys.stdout.write(text)
        else:
            sys.stdout.flush()
            stream.write(text.encode("utf-8", "backslashreplace"))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_stdout()
        warn(f"warning: the result could not be printed ({error}); the files are written")


def plain(text: str) -> str:
    """Text from a file, made safe for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def wrapped(label: str, text: str, indent: int = LABEL_WIDTH) -> list[str]:
    """Lines of a labelled text for people, indented below its label."""
    lines = textwrap.wrap(plain(text), WIDTH - indent, break_long_words=False, break_on_hyphens=False) or [""]
    first = f"  {label}".ljust(indent)
    return [first + lines[0], *(" " * indent + line for line in lines[1:])]


def discard_stdout() -> None:
    """Let what is still buffered go nowhere, or the interpreter complains of it when it leaves."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(line: str) -> None:
    """Write one line to stderr, if there is one."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.write(line.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")


@contextlib.contextmanager
def slices(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar of slices read, on stderr and with the remaining time; shown only where reading takes a while."""
    if quiet or sys.stderr is None:
        yield lambda _done, _all: None
        return
    from tqdm import tqdm

    with tqdm(file=sys.stderr, leave=False, disable=None, delay=0.5, unit="slice", desc="reading", position=1) as bar:

        def read(done: int, total: int) -> None:
            if bar.total != total or done < bar.n:  # the next series
                bar.reset(total)
            bar.update(done - bar.n)

        yield read


@contextlib.contextmanager
def photons(*, quiet: bool, position: int = 0) -> Iterator[Callable[..., None]]:
    """A bar of photons on stderr with the remaining time; call it with (done, all, note): their number may change on the way.

    ``position`` 1 is the line below another bar.
    """
    if quiet or sys.stderr is None:
        yield lambda _done, _all, _note="": None
        return
    from tqdm import tqdm

    with tqdm(
        file=sys.stderr, leave=False, disable=None, unit="", unit_scale=True, desc="photons", position=position
    ) as bar:

        def done(count: int, total: int, note: str = "") -> None:
            bar.total = total
            bar.set_postfix_str(note, refresh=False)
            bar.update(count - bar.n)

        yield done


@contextlib.contextmanager
def histories(*, quiet: bool, wanted_percent: float) -> Iterator[Callable[[int, float], None]]:
    """The same for a Monte Carlo that says (done, its uncertainty in percent so far).

    The uncertainty falls with the root of the histories: the first ones tell how many it takes to ``wanted_percent``.
    """
    with photons(quiet=quiet, position=1) as bar:
        yield lambda done, percent: bar(
            done, max(int(done * (percent / wanted_percent) ** 2), done), f"{percent:.2f} % (k=1)"
        )


@contextlib.contextmanager
def progress(steps: int, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr, gone at the end; call it with the name of each step before it starts."""
    if quiet or sys.stderr is None:
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(
        total=steps,
        file=sys.stderr,
        leave=False,
        bar_format="{desc:<22}|{bar:30}| {n_fmt}/{total_fmt} [{elapsed}]",
        disable=None,  # nothing where stderr is no terminal
    ) as bar:

        def step(name: str) -> None:
            bar.set_description_str(name, refresh=False)
            bar.update(min(1, steps - bar.n))
            bar.refresh()

        yield step


@contextlib.contextmanager
def counted(*, quiet: bool, unit: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar of things done on stderr, with the remaining time; call it with (done, all, name of the last)."""
    if quiet or sys.stderr is None:
        yield lambda _done, _all, _name: None
        return
    from tqdm import tqdm

    with tqdm(file=sys.stderr, leave=False, disable=None, unit=unit, dynamic_ncols=True) as bar:

        def done(count: int, total: int, name: str) -> None:
            if bar.total != total:  # the first call: what an earlier run had finished costs no time
                bar.total, bar.initial = total, count
                bar.n = count
            bar.set_postfix_str(name, refresh=False)
            bar.update(count - bar.n)
            bar.refresh()

        yield done
