"""``iort-planner qa derive``: a table made of others, with what was done to it written in its head."""

from __future__ import annotations

import argparse
import json
import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from iort_planner import INTENDED_USE, __version__
from iort_planner.cli import options
from iort_planner.errors import InputError

if TYPE_CHECKING:
    from iort_planner.source.depth_dose import DepthDoseTable

_DESCRIPTION = """\
Makes a depth-dose table of another one: times a transfer function (bare probe to applicator), or
taken to another calibration scale, or both in that order; with neither, a spreadsheet's export or
distances from the tip or surface are written in the plain form. What was done, with the hashes of
all files and the added uncertainty, stands in the new file's head. It is marked derived, is
clinical only if all of its parts are, and is accepted by nobody: check it, then 'qa accept' it."""
_EXAMPLES = """\
examples:
  iort-planner qa derive BARE.csv --transfer NEEDLE.csv --out XRS-1234-needle.csv
  iort-planner qa derive XRS-1234.csv --to-scale v4.0 --cut --out XRS-1234-v4.csv          the published pairs
  iort-planner qa derive XRS-1234.csv --to-scale v4.0 --conversion OURS.csv --out XRS-1234-v4.csv
  iort-planner qa derive EXPORT.csv --applicator MINE.toml --out PLAIN.csv

exit status: 0 written, 2 nothing was written (scales, reference points, tube or distances do not fit).

"""
_WIDTH = 110
_SHOWN_MM = (5.0, 8.0, 10.0, 13.0, 20.0, 30.0)


def add_subparser(subparsers: options.Subparsers) -> None:
    parser = subparsers.add_parser(
        "derive",
        help="make a table: times a transfer function, on another scale",
        description=_DESCRIPTION,
        epilog=_EXAMPLES + INTENDED_USE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("table", metavar="TABLE", help="CSV file, or the name of a shipped table")
    parser.add_argument("--out", type=options.path, required=True, metavar="FILE", help="new CSV file; must not exist")
    parser.add_argument(
        "--transfer", type=options.path, metavar="FILE", help="transfer function: dose with applicator over bare probe"
    )
    parser.add_argument("--to-scale", choices=["targit", "v4.0", "cq"], help="calibration scale to take it to")
    parser.add_argument(
        "--conversion", type=options.path, metavar="FILE", help="your own factors for --to-scale (default: published)"
    )
    parser.add_argument("--cut", action="store_true", help="leave out rows that function or factors do not cover")
    parser.add_argument("--applicator", metavar="NAME|FILE", help="for distances that start at its tip or surface")
    options.add_output_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from iort_planner.applicator import read_applicator
    from iort_planner.source.depth_dose import Scale
    from iort_planner.source.scale import convert_scale, published_conversion, read_conversion
    from iort_planner.source.table_file import read_table, read_transfer_function
    from iort_planner.source.table_write import write_table
    from iort_planner.source.transfer import apply_transfer

    if args.conversion is not None and args.to_scale is None:
        raise InputError("--conversion gives the factors for --to-scale; say the scale too")
    if args.out.exists():
        raise InputError(f"--out {args.out} is there already; a table is not overwritten: give a new name")
    applicator = None if args.applicator is None else read_applicator(args.applicator)
    given = table = read_table(args.table, applicator)
    if args.transfer is not None:
        table = apply_transfer(table, read_transfer_function(args.transfer, applicator), cut=args.cut)
    if args.to_scale is not None:
        scale = Scale(args.to_scale)
        factors = (
            published_conversion(table.scale, scale) if args.conversion is None else read_conversion(args.conversion)
        )
        if factors.to_scale is not scale:
            raise InputError(
                f"--conversion {args.conversion} leads to the scale {factors.to_scale.value}, --to-scale says "
                f"{scale.value}; give the one that leads there"
            )
        table = convert_scale(table, factors, cut=args.cut)
    write_table(table, args.out)
    options.emit(_document(table, args.out) if args.json else _for_people(given, table, args.out))
    return 0


def _for_people(given: DepthDoseTable, made: DepthDoseTable, path: Path) -> str:
    import numpy as np

    low, high = made.range_mm
    rows = [
        ("table", made.name),
        ("scale", made.scale.value + ("" if made.scale is given.scale else f", was {given.scale.value}")),
        ("applicator", made.applicator),
        ("clinical", "yes" if made.clinical else "no"),
        ("distances", f"{low:g} to {high:g} mm from the source centre"),
        (
            "uncertainty",
            f"at most {max(made.uncertainty_percent):.2g} % (k=1)"
            + (f", and {made.scale_uncertainty_percent:.2g} % of the scale" if made.scale_uncertainty_percent else ""),
        ),
    ]
    rows += [("done", note) for note in made.notes] or [("done", "written in the plain form, numbers unchanged")]
    lines = []
    for name, text in rows:
        lines += textwrap.wrap(text, _WIDTH, initial_indent=f"{name:<13}", subsequent_indent=" " * 13)
    lines += ["", "distance, mm   given, Gy/min    made, Gy/min   made/given"]
    for r, *rates in zip(
        _SHOWN_MM, *(table.rate_gy_per_min(np.array(_SHOWN_MM)) for table in (given, made)), strict=True
    ):
        before, after = rates
        if math.isfinite(before) and math.isfinite(after):  # both tables reach there
            lines.append(f"{r:12g}{before:16.4g}{after:16.4g}{after / before:13.4f}")
    return "\n".join(
        [*lines, "", f"written to {path}; nobody has accepted it: qa check, then qa accept", INTENDED_USE, ""]
    )


def _document(made: DepthDoseTable, path: Path) -> str:
    from iort_planner.source.table_file import examine

    found = examine(path)
    document = {
        "schema": "iort-planner/qa-derive/1",
        "verdict": "pass",
        "findings": [{"id": f.id, "status": f.status, "line": f.line, "message": f.message} for f in found.findings],
        "intended_use": INTENDED_USE,
        "software": {"name": "iort-planner", "version": __version__},
        "file": str(path),
        "sha256": found.sha256,
        "name": made.name,
        "scale": made.scale.value,
        "notes": list(made.notes),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
