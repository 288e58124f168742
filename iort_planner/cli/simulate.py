"""``iort-planner simulate``: photon transport on simple geometry."""

from __future__ import annotations

import argparse

from iort_planner import INTENDED_USE
from iort_planner.cli import options

_DESCRIPTION = """\
Follows photons of 1 to 50 keV from a point source through concentric spheres and slabs, and writes the dose per photon
to the medium and to water in shells and discs. The part by photons that have not interacted is computed exactly, the
scattered part by Monte Carlo. One seed gives one table on any number of threads."""


def add_subparser(subparsers: options.Subparsers) -> None:
    parser = subparsers.add_parser(
        "simulate",
        help="photon transport in spheres and slabs (Monte Carlo)",
        description=_DESCRIPTION,
        epilog="examples:\n  iort-planner simulate CASE.toml --out DOSE.csv\n  iort-planner simulate CASE.toml --out DOSE.csv "
        f"--uncertainty 0.5 --threads 2\n\nThe form of CASE.toml: docs/simulate.md\n\n{INTENDED_USE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("case", type=options.path, metavar="CASE.toml", help="source, spheres, slabs and scores")
    parser.add_argument(
        "--out", type=options.path, required=True, metavar="TABLE.csv", help="file to write; an older one is replaced"
    )
    stop = parser.add_mutually_exclusive_group()
    stop.add_argument("--histories", type=int, default=1_000_000, metavar="N", help="photons (default 1000000)")
    stop.add_argument(
        "--uncertainty", type=options.finite, metavar="PERCENT", help="go on until every score is that certain (k=1)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the random numbers (default 1)")
    parser.add_argument(
        "--threads", type=int, default=None, metavar="N", help="threads (default: one a core); changes no digit"
    )
    options.add_output_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    import json
    import os

    from iort_planner.dose.simulate import simulate
    from iort_planner.dose.simulation_case import read_case
    from iort_planner.dose.simulation_table import document, table
    from iort_planner.output import whole_file

    case = read_case(args.case)
    with options.photons(quiet=args.quiet) as progress:
        result = simulate(
            case,
            histories=args.histories,
            uncertainty_percent=args.uncertainty,
            seed=args.seed,
            threads=args.threads or os.cpu_count() or 1,
            progress=progress,
        )
    contents = document(result, args.case.name, case.source.mean_kev)
    with whole_file(args.out) as file:
        file.write_text(table(contents), encoding="utf-8")
    if args.json:
        options.emit(json.dumps(contents, indent=2) + "\n")
    else:
        lines = [f"{'score':<22}{'medium':<16}{'Gy to medium':>14}{'Gy to water':>14}{'k=1 %':>8}{'primary':>9}"]
        for each in result.scores:
            ends = f"{each.score.kind} {each.score.low_mm:g}-{each.score.high_mm:g} mm"
            lines.append(
                f"{ends:<22}{each.medium:<16}{each.dose_to_medium_gy_per_photon:14.4e}"
                f"{each.dose_to_water_gy_per_photon:14.4e}{each.uncertainty_percent:8.2f}{each.primary_fraction:9.3f}"
            )
        lines.append(
            f"dose per photon emitted; {result.histories} photons in {result.seconds:.1f} s; table in {args.out}"
        )
        options.emit("\n".join([*lines, INTENDED_USE]) + "\n")
    return 0
