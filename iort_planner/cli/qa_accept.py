"""``iort-planner qa accept``: sign a table's bytes, after reading what they are."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING, Any

from iort_planner import INTENDED_USE, __version__
from iort_planner.cli import options

if TYPE_CHECKING:
    from iort_planner.source.acceptance import Accepted

_DESCRIPTION = """\
Records who accepts which bytes of a table, when, and until when. A plan with a clinical table
fails until its bytes are accepted, after any change of the file, and after the last day.
The record is append-only (acceptances.jsonl in IORT_PLANNER_HOME); nothing in it is ever changed.
Run 'qa check' and 'qa compare' first: accepting judges the form of the file and nothing else."""
_EXAMPLES = """\
examples:
  iort-planner qa check XRS-1234.csv && iort-planner qa accept XRS-1234.csv --by "A. Physicist"
  iort-planner qa accept XRS-1234.csv --by "A. Physicist" --until 2027-11-30

exit status: 0 recorded, 2 nothing was recorded (the file's form fails, a name is empty, the record was changed).

"""
_WIDTH = 110
_SHOWN_MM = (8.0, 13.0)  # the two distances of the published needle data (Sethi et al. 2018, D8 and D13)


def add_subparser(subparsers: options.Subparsers) -> None:
    parser = subparsers.add_parser(
        "accept",
        help="record who accepts a table",
        description=_DESCRIPTION,
        epilog=_EXAMPLES + INTENDED_USE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("table", metavar="TABLE", help="CSV file, or the name of a shipped table")
    parser.add_argument("--by", required=True, metavar="NAME", help="who accepts it")
    parser.add_argument("--until", type=options.date, metavar="DATE", help="last day it counts (default: no end)")
    parser.add_argument("--applicator", metavar="NAME|FILE", help="for distances that start at its tip or surface")
    options.add_output_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from iort_planner.applicator import read_applicator
    from iort_planner.source.acceptance import accept

    applicator = None if args.applicator is None else read_applicator(args.applicator)
    done = accept(args.table, args.by, args.until, applicator=applicator)
    for note in done.notes:
        options.warn(f"warning: {note}")
    options.emit(json.dumps(_document(done), indent=2, ensure_ascii=False) + "\n" if args.json else _for_people(done))
    return 0


def _facts(done: Accepted) -> list[tuple[str, str]]:
    """What was signed, as a physicist reads it before signing."""
    from iort_planner.source.depth_dose import DepthDoseTable
    from iort_planner.units import Quantity

    found, entry = done.examination, done.acceptance
    head, table = found.head, found.table
    rows = [
        ("table", f"{entry.name}, kind {found.kind}"),
        ("file", found.file),
        ("SHA-256", entry.sha256),
        ("scale", entry.scale),
        ("measured", head.get("measured", "–")),
        ("applicator", head.get("applicator", "–")),
        (
            "clinical",
            f"{head.get('clinical', '–')}" + ("" if _clinical(done) else " (a plan asks for no acceptance of it)"),
        ),
        ("origin", head.get("origin", "–")),
    ]
    if isinstance(table, DepthDoseTable):
        low, high = table.range_mm
        rows.append(("distances", f"{low:g} to {high:g} mm from the source centre"))
        rows += [
            (
                f"dose rate at {r:g} mm",
                f"{float(table.dose_rate_at(Quantity(r, 'mm')).to('Gy/min').magnitude):.4g} Gy/min in water"
                if low <= r <= high
                else "outside the table",
            )
            for r in _SHOWN_MM
        ]
    rows += [
        ("accepted by", entry.by),
        ("on", entry.accepted_on.isoformat(sep=" ")),
        (
            "until",
            f"{entry.until}, that day included" if entry.until else "no end was set: give --until DATE to set one",
        ),
    ]
    return rows


def _clinical(done: Accepted) -> bool:
    return done.examination.head.get("clinical") == "yes"


def _for_people(done: Accepted) -> str:
    from iort_planner.source.acceptance import record_path

    lines = ["ACCEPTED"]
    for label, text in _facts(done):
        lines += textwrap.wrap(text, _WIDTH, initial_indent=f"{label:<20} ", subsequent_indent=" " * 21)
    return "\n".join([*lines, "", f"recorded in {record_path()}", INTENDED_USE, ""])


def _document(done: Accepted) -> dict[str, Any]:
    """The JSON document, in the form of the other QA commands."""
    found, entry = done.examination, done.acceptance
    findings = [{"id": f.id, "status": f.status, "line": f.line, "message": f.message} for f in found.findings]
    findings += [{"id": "record", "status": "warn", "line": None, "message": note} for note in done.notes]
    return {
        "schema": "iort-planner/qa-accept/1",
        "verdict": "warn" if any(each["status"] == "warn" for each in findings) else "pass",
        "findings": findings,
        "intended_use": INTENDED_USE,
        "software": {"name": "iort-planner", "version": __version__},
        "file": found.file,
        "kind": found.kind,
        "clinical": _clinical(done),
        "acceptance": entry.as_json(),
    }
