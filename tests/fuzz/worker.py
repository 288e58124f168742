"""One worker of the fuzz run: makes, reads and judges every n-th case; the parent watches its lines and its time."""

from __future__ import annotations

import argparse
import faulthandler
import os
import pickle
import resource
import shutil
import signal
import sys
from pathlib import Path

from tests.fuzz.cases import make_case
from tests.fuzz.judge import Judge, _status_bytes
from tests.fuzz.seeds import SeedSet

# A runaway ends here instead of taking the machine: the bound of the issue (500 MB) and as much again.
ADDRESS_SPACE_BYTES = 1100 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--area", type=Path, required=True, help="the run's folder")
    parser.add_argument("--name", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--step", type=int, required=True)
    parser.add_argument("--only")
    parser.add_argument("--command-every", type=int, default=50)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)

    seeds: SeedSet = pickle.loads((args.area / "seeds.pickle").read_bytes())  # our own, written by the parent
    _warm_up()
    cases = args.area / args.name / "deep" / "er" / "cases"
    cases.mkdir(parents=True, exist_ok=True)
    for left in cases.iterdir():  # of a worker that was ended; the folder itself stays, others watch it
        shutil.rmtree(left, ignore_errors=True)
    judge = Judge(seeds, args.area, args.command_every)
    os.chdir(args.area / "trap")  # modules lie here that no process may import
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status_bytes("VmSize:") + ADDRESS_SPACE_BYTES, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    lines = os.fdopen(os.dup(1), "w", buffering=1)
    number = args.first
    for request in sys.stdin:
        if not request.strip():
            break
        try:
            case = make_case(seeds, args.seed, number, args.only, str(args.area / "outside"))
        except MemoryError:  # the making of it, under this worker's own limit; the package was not asked
            number += args.step
            case = make_case(seeds, args.seed, number, args.only, str(args.area / "outside"))
        lines.write(f"begin {number}\n")
        root = cases / str(number)
        outcome = judge.run(case, root)
        if os.getcwd() != os.path.realpath(args.area / "trap"):  # noqa: PTH109  # no Path is needed
            outcome.bad.append(("write", "the working directory changed"))
            os.chdir(args.area / "trap")
        if outcome.bad and args.keep is not None:
            target = args.keep / str(number)
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(root, target, symlinks=True, ignore=_pipes)
        lines.write(outcome.line() + "\n")
        _remove(root)
        number += args.step
    return 0


def _pipes(folder: str, names: list[str]) -> set[str]:
    """What cannot be copied: neither file nor folder."""
    return {name for name in names if not (Path(folder, name).is_file() or Path(folder, name).is_dir())}


def _remove(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)


def _warm_up() -> None:
    """Import what the loader imports late, so that memory and opened files of a case are its own."""
    import logging

    import pydicom
    import SimpleITK
    from pydicom.charset import decode_bytes
    from pydicom.pixels.decoders.base import get_decoder
    from scipy import ndimage, signal

    _ = (SimpleITK, ndimage, signal, get_decoder, logging, pydicom)
    decode_bytes(b"\x1b$B%F\x1b(B", ["iso8859", "iso2022_jp"], set())


if __name__ == "__main__":
    sys.exit(main())
