"""``iort-planner simulate``: photon transport in spheres and slabs, to be checked against a table or another code."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from iort_planner import INTENDED_USE, __version__
from iort_planner.cli import options

if TYPE_CHECKING:
    from iort_planner.dose.simulate import Simulated

SCHEMA = "iort-planner/simulation/1"
_COLUMNS = "kind,position_mm,medium,dose_to_medium_gy_per_photon,dose_to_water_gy_per_photon,uncertainty_percent,primary_fraction"

_EPILOG = f"""\
a case:
  [source]
  energies_kev = [30.0]            or  spectrum = "FILE.csv" | "needle-50kv"
  weights = [1.0]
  [[sphere]]                       concentric, from the inside out; beyond the last one: vacuum
  outer_radius_mm = 13.0
  material = "spongiosa"           of the package, or your own [[material]]
  [[slab]]                         optional, between two planes of constant x
  x_min_mm = 5.0
  x_max_mm = 10.0
  material = "cortical bone"
  [[score]]
  kind = "shell"                   or "disc" on the +x axis: x_min_mm, x_max_mm, radius_mm
  r_min_mm = 9.95
  r_max_mm = 10.05

examples:
  iort-planner simulate CASE.toml --out TABLE.csv
  iort-planner simulate CASE.toml --out TABLE.csv --uncertainty 0.5 --threads 2

dose is per photon emitted; uncertainty k=1; the same seed gives the same table on any number of threads.

{INTENDED_USE}"""


def add_subparser(subparsers: options.Subparsers) -> None:
    parser = subparsers.add_parser(
        "simulate",
        help="photon transport (1 to 60 keV) in spheres and slabs",
        description="Simulates photons of an isotropic point source in concentric spheres with slabs, and scores dose to\n"
        "medium and to water: the transport of the engine montecarlo where it can be checked.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("case", type=options.path, metavar="CASE.toml", help="source, geometry and scores")
    parser.add_argument("--out", type=options.path, required=True, metavar="TABLE.csv", help="table to write")
    parser.add_argument("--histories", type=int, metavar="N", help="photons to follow (default 1000000)")
    parser.add_argument(
        "--uncertainty", type=options.finite, metavar="PERCENT", help="k=1 that every score shall reach, instead"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the random numbers (default 1)")
    parser.add_argument("--threads", type=int, metavar="N", help="default: one a core")
    options.add_output_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    import json

    from iort_planner.dose.simulate import simulate
    from iort_planner.dose.simulation_case import read_case
    from iort_planner.output import whole_file

    case = read_case(args.case)
    with whole_file(args.out) as file:
        with options.counted(quiet=args.quiet, unit="photon") as done:
            found = simulate(
                case,
                histories=args.histories,
                uncertainty_percent=args.uncertainty,
                seed=args.seed,
                threads=args.threads,
                progress=lambda photons, total: done(photons, total, ""),
            )
        file.write_text(_table(found), encoding="utf-8")
    if args.json:
        options.emit(json.dumps(_document(found), indent=1) + "\n")
    else:
        options.emit(_text(found) + f"written to {args.out}\n{INTENDED_USE}\n")
    return 0


def _table(found: Simulated) -> str:
    head = {
        "kind": "simulation",
        "software": f"iort_planner {__version__}",
        "intended_use": INTENDED_USE,
        "histories": found.histories,
        "seconds": f"{found.seconds:.3f}",
        "threads": found.threads,
        "seed": found.seed,
        "energy_balance": f"{(found.absorbed_kev + found.escaped_kev) / found.emitted_kev - 1.0:.1e}",
        "escaped_fraction": f"{found.escaped_kev / found.emitted_kev:.6g}",
    }
    rows = [
        f"{each.score.kind},{each.score.position_mm:.10g},{each.medium},{each.to_medium_gy:.8g},{each.to_water_gy:.8g},"
        f"{each.uncertainty_percent:.4g},{each.primary_fraction:.6g}"
        for each in found.doses
    ]
    return "\n".join([*(f"# {key}: {value}" for key, value in head.items()), _COLUMNS, *rows]) + "\n"


def _document(found: Simulated) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "intended_use": INTENDED_USE,
        "histories": found.histories,
        "seconds": found.seconds,
        "threads": found.threads,
        "seed": found.seed,
        "energy_emitted_kev": found.emitted_kev,
        "energy_absorbed_kev": found.absorbed_kev,
        "energy_escaped_kev": found.escaped_kev,
        "scores": [
            {
                "kind": each.score.kind,
                "position_mm": each.score.position_mm,
                "medium": each.medium,
                "dose_to_medium_gy_per_photon": each.to_medium_gy,
                "dose_to_water_gy_per_photon": each.to_water_gy,
                "primary_dose_to_water_gy_per_photon": each.to_water_gy * each.primary_fraction,
                "uncertainty_percent": each.uncertainty_percent,
                "primary_fraction": each.primary_fraction,
            }
            for each in found.doses
        ],
    }


def _text(found: Simulated) -> str:
    lines = [f"{'score':<22}{'medium':<22}{'Gy/photon, medium':>19}{'water':>13}{'k=1':>9}{'primary':>10}"]
    for each in found.doses:
        axis = "r" if each.score.kind == "shell" else "x"
        name = f"{each.score.kind}, {axis} = {each.score.position_mm:g} mm"
        lines.append(
            f"{name:<22}{each.medium:<22}{each.to_medium_gy:>19.5g}{each.to_water_gy:>13.5g}"
            f"{each.uncertainty_percent:>7.2g} %{100.0 * each.primary_fraction:>8.1f} %"
        )
    rate = found.histories / found.seconds
    lines.append(
        f"{found.histories} histories, seed {found.seed}, {found.seconds:.1f} s on {found.threads} threads ({rate:.2g}/s); "
        f"{100.0 * found.escaped_kev / found.emitted_kev:.2g} % of the energy escapes"
    )
    return "\n".join(lines) + "\n"
