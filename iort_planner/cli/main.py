"""Entry point of ``iort-planner``: parse, run one command, turn errors into one line and an exit status.

Exit status: 0 done, 1 done but a safety check failed, 2 nothing could be done (one line on stderr).
"""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from iort_planner import INTENDED_USE, __version__
from iort_planner.cli import demo, inspect, needles, options, phantom, plan, qa, simulate, verify, view
from iort_planner.errors import IortError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_NEGATIVE_NUMBER = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|-(inf|nan)", re.IGNORECASE)

_DESCRIPTION = f"""\
Plans intraoperative 50 kV needle radiotherapy of the spine: finds the needle and the spinal
canal in a CT scan, measures, computes dwell time and isodose radii from depth-dose tables,
checks, and draws.

{INTENDED_USE}"""

_EPILOG = """\
examples:
  iort-planner demo                                   the whole job on a phantom, in one go
  iort-planner inspect SCAN                           what is there, and can it be planned?
  iort-planner needles SCAN                           which metal is in it, with points to paste
  iort-planner plan SCAN --out PLAN                   the canal limit (8 Gy) sets the time
  iort-planner plan SCAN --out PLAN --depth 10 --depth-from tip
  iort-planner view PLAN                              needle, canal and isodoses in 3-D
  iort-planner qa check TABLE.csv                     is this depth-dose table sound?
  iort-planner verify phantoms/                       does all of it still do what it should?

exit status: 0 done (checks passed or warned), 1 done but a check failed, 2 nothing done.
lengths mm, patient coordinates DICOM LPS (x left, y back, z head), dose Gy to water."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with exit status 2."""
        raise UsageError(f"{message}; see '{self.prog} --help'")


class UsageError(IortError, ValueError):
    """The command line could not be understood."""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; imports nothing heavy."""
    parser = Parser(
        prog="iort-planner",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"iort-planner {__version__}. {INTENDED_USE}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for module in (demo, inspect, needles, plan, view, phantom, qa, simulate, verify):
        module.add_subparser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # '±' must not stop a result on a terminal that is only ASCII
            stream.reconfigure(errors="backslashreplace")
    # argparse takes '-1e-05' for an option; a leading blank says that it is a number.
    arguments = [f" {a}" if _NEGATIVE_NUMBER.fullmatch(a) else a for a in arguments]
    try:
        args = build_parser().parse_args(arguments)
        status: int = args.func(args)
    except IortError as error:
        return _stop(str(error))
    except KeyboardInterrupt:
        options.warn("error: interrupted; nothing was written: run it again")
        return 130
    except BrokenPipeError:
        options.discard_stdout()
        return 0
    except MemoryError:
        return _stop("out of memory; close other programs or crop the scan")
    except Exception as error:  # the last stop: whatever it is, no traceback at the console
        if os.environ.get("IORT_PLANNER_DEBUG"):
            raise
        return _stop(
            f"internal error ({type(error).__name__}: {error}); please report it, with what IORT_PLANNER_DEBUG=1 shows"
        )
    return status


def entry_point() -> NoReturn:
    """Entry point of the console script: a termination request cleans up like an interrupt."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
    sys.exit(main())


def _stop(message: str) -> int:
    options.warn(f"error: {' '.join(message.split())}")
    return 2
