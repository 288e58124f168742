"""``iort-planner qa``: depth-dose tables checked, compared and followed."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING, Any

from iort_planner import INTENDED_USE
from iort_planner.cli import options, qa_accept, qa_derive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from iort_planner.applicator import Applicator
    from iort_planner.source.findings import Finding

_WIDTH = 110
_EXAMPLES = """\
examples:
  iort-planner qa check XRS-1234.csv                        form, units, slope, single rows, age ...
  iort-planner qa check XRS-1234.csv --out CHECK            the same with a picture and a one-page PDF
  iort-planner qa compare MEASURED.csv XRS-1234.csv         and the cause: origin slip, factor, mix-up of scales
  iort-planner qa trend HISTORY                             outputs.csv and tables of one source: drift, step

exit status: 0 passed or warned, 1 a finding fails, 2 a file cannot be read as a table at all.
What each finding means and where its limit comes from: docs/qa.md.

"""
_CHECK = """\
Reads a table and judges it: the form of head and rows, units by their level, order, the local
log-log slope, rows off the curve through the others, scatter, digits, range, uncertainty, age
and acceptance. Every finding names the line and what to do."""
_CHECK_EXAMPLES = """\
examples:
  iort-planner qa check reference-needle-50kv               the table that is shipped
  iort-planner qa check XRS-1234.csv --out CHECK            writes CHECK/qa.json, qa.png, qa.pdf
  iort-planner qa check XRS-1234.csv --json | jq .verdict   for scripts
  iort-planner qa check TIP.csv --applicator MINE.toml      distances that start at the tip or surface

"""
_COMPARE = """\
Compares the rows of MEASURED with the curve of REFERENCE: local difference, 1-D gamma, distance
to agreement; and says why they differ: a slip of the origin, a scale factor, both, or a mix-up of
calibration scales, each with its uncertainty; rows that nothing explains are named."""
_COMPARE_EXAMPLES = """\
examples:
  iort-planner qa compare MEASURED.csv XRS-1234.csv
  iort-planner qa compare MEASURED.csv XRS-1234.csv --dose-percent 2 --slip-mm 0.05     stricter

limits can only be made stricter than the defaults. Tables on two calibration scales, or with two
reference points and no --applicator, fail: convert one of them first.

"""
_TREND = """\
Judges the history in FOLDER: outputs.csv (date,output_ratio[,temperature_c,pressure_hpa]) and
depth-dose tables (CSV) of one source, by their date 'measured'. Control chart with limits, drift
with its uncertainty, step, and whether outputs follow the air density."""
_TREND_EXAMPLES = """\
examples:
  iort-planner qa trend HISTORY
  iort-planner qa trend HISTORY --out TREND --quiet         a sheet for the month's folder

"""


def add_subparser(subparsers: options.Subparsers) -> None:
    parser = subparsers.add_parser(
        "qa",
        help="check, compare and follow depth-dose tables, accept them, make one of others",
        description="Quality assurance of depth-dose tables: check one, compare two, follow a history, accept one, make one of\n"
        "others.",
        epilog=_EXAMPLES + INTENDED_USE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="qa_command", required=True)
    check = _command(commands, "check", "judge one table", _CHECK, _CHECK_EXAMPLES, run_check)
    check.add_argument("table", metavar="TABLE", help="CSV file, or the name of a shipped table")
    check.add_argument(
        "--on", type=options.date, metavar="DATE", help="judge the age on this day, like 2026-11-30 (default today)"
    )
    compare = _command(
        commands, "compare", "compare two tables and name the cause", _COMPARE, _COMPARE_EXAMPLES, run_compare
    )
    compare.add_argument("measured", metavar="MEASURED", help="CSV file with the measured rows")
    compare.add_argument("reference", metavar="REFERENCE", help="CSV file, or the name of a shipped table")
    for name, unit, text in (
        ("--dose-percent", "PERCENT", "dose criterion of gamma, local (default and most 3)"),
        ("--distance-mm", "MM", "distance criterion of gamma (default and most 0.1)"),
        ("--slip-mm", "MM", "origin slip that fails, warns at half (default and most 0.1)"),
        ("--factor-percent", "PERCENT", "scale factor that fails, warns at 3/5 (default and most 5)"),
    ):
        compare.add_argument(name, type=options.number, metavar=unit, help=text)
    for each in (check, compare):
        each.add_argument("--applicator", metavar="NAME|FILE", help="for distances that start at its tip or surface")
    trend = _command(commands, "trend", "judge a history", _TREND, _TREND_EXAMPLES, run_trend)
    qa_accept.add_subparser(commands)
    qa_derive.add_subparser(commands)
    trend.add_argument("folder", type=options.path, metavar="FOLDER", help="outputs.csv and tables of one source")


def _command(
    commands: options.Subparsers,
    name: str,
    text: str,
    description: str,
    examples: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=text,
        description=description,
        epilog=examples + INTENDED_USE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--out", type=options.path, metavar="DIR", help="folder for qa.json, qa.png and qa.pdf; replaced whole"
    )
    options.add_output_options(parser)
    parser.set_defaults(func=run)
    return parser


def run_check(args: argparse.Namespace) -> int:
    from iort_planner.qa import check_table

    with options.progress(1 + 2 * bool(args.out), quiet=args.quiet) as step:
        step("checking")
        result = check_table(args.table, applicator=_applicator(args), today=args.on)
        found = result.examination
        facts = [
            ("file", f"{found.file}, SHA-256 {found.sha256}"),
            ("table", f"{found.head.get('name', '-')}, kind {found.kind}, scale {found.head.get('scale', '-')}"),
            ("measured, checked", f"{found.head.get('measured', '-')}, {result.today}"),
        ]
        if args.out:
            from iort_planner.qa.figures import draw_check

            _write(args.out, f"qa check of {found.file}", result, facts, draw_check, step)
    return _print(args, f"{found.file}: {found.head.get('name', 'no name')}", result)


def run_compare(args: argparse.Namespace) -> int:
    from iort_planner.qa import CompareCriteria, compare_tables

    given = {name: getattr(args, name) for name in ("dose_percent", "distance_mm", "slip_mm", "factor_percent")}
    given = {name: value for name, value in given.items() if value is not None}
    criteria = CompareCriteria(**given)
    with options.progress(1 + 2 * bool(args.out), quiet=args.quiet) as step:
        step("comparing")
        result = compare_tables(args.measured, args.reference, applicator=_applicator(args), criteria=criteria)
        measured, reference = result.measured, result.reference
        facts = [
            ("measured", f"{measured.file}, SHA-256 {measured.sha256}"),
            ("reference", f"{reference.file}, SHA-256 {reference.sha256}"),
            (
                "criteria",
                f"gamma {criteria.dose_percent:g} % local, {criteria.distance_mm:g} mm; slip fails over "
                f"{criteria.slip_mm:g} mm, factor over {criteria.factor_percent:g} %",
            ),
        ]
        title = f"{measured.file} against {reference.file}"
        if args.out:
            from iort_planner.qa.figures import draw_compare

            _write(args.out, f"qa compare, {title}", result, facts, draw_compare, step)
    return _print(args, title, result)


def run_trend(args: argparse.Namespace) -> int:
    from iort_planner.qa import trend

    with options.progress(1 + 2 * bool(args.out), quiet=args.quiet) as step:
        step("reading the history")
        result = trend(args.folder)
        facts = [("folder", result.folder)]
        facts += [(each.name, f"{len(each.date)} values, {each.date[0]} to {each.date[-1]}") for each in result.series]
        if args.out:
            from iort_planner.qa.figures import draw_trend

            _write(args.out, f"qa trend of {args.folder.name}", result, facts, draw_trend, step)
    return _print(args, str(args.folder), result)


def _applicator(args: argparse.Namespace) -> Applicator | None:
    if args.applicator is None:
        return None
    from iort_planner.applicator import read_applicator

    return read_applicator(args.applicator)


def _write(
    folder: Path,
    title: str,
    result: Any,
    facts: Sequence[tuple[str, str]],
    draw: Callable[[Any], bytes],
    step: Callable[[str], None],
) -> None:
    """qa.json, qa.png and qa.pdf, whole or not at all."""
    from iort_planner.output import QA_FOLDER, whole_folder
    from iort_planner.qa.page import write_page

    with whole_folder(folder, QA_FOLDER) as inside:
        step("drawing")
        png = draw(result)
        (inside / "qa.png").write_bytes(png)
        step("writing the page")
        (inside / "qa.pdf").write_bytes(write_page(title, result.verdict, facts, result.findings, png))
        (inside / "qa.json").write_text(_as_text(result), encoding="utf-8")


def _as_text(result: Any) -> str:
    return json.dumps(result.as_json(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _print(args: argparse.Namespace, title: str, result: Any) -> int:
    if args.json:
        options.emit(_as_text(result))
    else:
        options.emit(_for_people(title, result.verdict, result.findings))
        if args.out:
            options.emit(f"written to {args.out}\n")
        options.emit(INTENDED_USE + "\n")
    return 1 if result.verdict == "fail" else 0


def _for_people(title: str, verdict: str, findings: Sequence[Finding]) -> str:
    """Verdict first, then what fails, warns and passes; lines of the file where there are some."""
    counts = [(status, sum(each.status == status for each in findings)) for status in ("fail", "warn", "pass")]
    words = ", ".join(f"{count} {status}" for status, count in counts if count)
    lines = [f"VERDICT  {verdict.upper()}   ({words})", " ".join(title.split()), ""]
    for each in findings:
        where = f"line {each.line}: " if each.line is not None else ""
        label = f"{each.status.upper():<6}{each.id:<22}"
        lines += textwrap.wrap(
            f"{where}{each.message}",
            _WIDTH,
            initial_indent=label,
            subsequent_indent=" " * 28,
            break_on_hyphens=False,
        )
    return "\n".join(lines) + "\n\n"
