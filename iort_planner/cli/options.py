"""What several commands share: option types, progress on stderr, the result document on stdout."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """``--json`` and ``--quiet``, the same for every command."""
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else on stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


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


@contextlib.contextmanager
def progress(steps: int, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr, gone at the end; call it with the name of each step before it starts."""
    if quiet:
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
