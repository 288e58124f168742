"""``iort-planner verify``: a suite of cases, each with what is expected of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from iort_planner import INTENDED_USE
from iort_planner.cli import options

_DESCRIPTION = """\
Runs every case below a folder and compares what comes out with what is expected: how a hospital
commissions this tool, and looks at an update before using it. Each case runs in a process of its
own kind: one that crashes or hangs fails alone. A run that was cut off goes on where it was.
Writes verification.json, verification.html (open it), verification.xml (JUnit), certificate.pdf."""
_EPILOG = """\
a case is a folder with case.toml (docs/verification.md):
  exit_status = 0
  [input]
  phantom = "reference"
  seed = 1
  [plan]
  options = ["--no-pictures"]
  [[expect]]
  key = "canal.distance_from_source_mm"
  value = "truth:canal.distance_from_source_mm"
  tolerance = 1.0
  unit = "mm"
  source = "closed-form"
  reference = "the phantom's analytic surfaces"

examples:
  iort-planner verify phantoms/                              the shipped suite
  iort-planner verify SUITE --out RESULTS --jobs 8
  iort-planner verify SUITE --against OLD/verification.json  what an update changes, in numbers
  iort-planner verify SUITE --scheduler tcp://host:8786      on the workers of a dask scheduler

exit status: 0 every case passed, 1 one failed, 2 nothing was run.

"""
_MOST_SHOWN = 20


def add_subparser(subparsers: options.Subparsers) -> None:
    parser = subparsers.add_parser(
        "verify",
        help="run a suite of cases against expected values",
        description=_DESCRIPTION,
        epilog=_EPILOG + INTENDED_USE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("suite", type=options.path, metavar="SUITE", help="folder with a folder for each case")
    parser.add_argument(
        "--out", type=options.path, default=Path("verification"), metavar="DIR", help="results (default ./verification)"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="cases at once (default: one for each core)")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="run on the workers of this dask scheduler (extra 'cluster')"
    )
    parser.add_argument(
        "--against", type=options.path, metavar="OLD.json", help="an earlier verification.json: say what changed"
    )
    parser.add_argument(
        "--timeout", type=options.number, metavar="S", help="longest time of a case, in place of each case's own"
    )
    parser.add_argument("--fresh", action="store_true", help="start anew where an earlier run was cut off")
    options.add_output_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from iort_planner.verification.batch import verify
    from iort_planner.verification.results import as_text, failures

    with options.counted(quiet=args.quiet, unit="case") as progress:
        found = verify(
            args.suite,
            args.out,
            jobs=args.jobs,
            scheduler=args.scheduler,
            against=args.against,
            timeout=args.timeout,
            fresh=args.fresh,
            progress=progress,
        )
    if args.json:
        options.emit(as_text(found))
        return 0 if found["verdict"] == "pass" else 1
    counts = found["counts"]
    lines = [f"VERDICT  {found['verdict'].upper()}   ({counts['passed']} of {found['suite']['cases']} cases passed)"]
    lines += [
        f"  {source}: {each['passed']} expected values met, {each['failed']} not"
        for source, each in counts["expectations"].items()
    ]
    failed = [entry for entry in found["cases"] if entry["verdict"] != "pass"]
    for entry in failed[:_MOST_SHOWN]:
        lines += [f"FAIL  {entry['name']}", *(f"      {line}" for line in failures(entry))]
    if len(failed) > _MOST_SHOWN:
        lines.append(f"and {len(failed) - _MOST_SHOWN} more")
    if "against" in found:
        lines += ["", f"against version {found['against']['software'].get('version', '?')}:"]
        lines += [f"  {line}" for line in found["against"]["lines"]]
    lines += ["", f"written to {args.out}: open {args.out / 'verification.html'}", INTENDED_USE, ""]
    options.emit("\n".join(lines))
    return 0 if found["verdict"] == "pass" else 1
