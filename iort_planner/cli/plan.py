"""``iort-planner plan``: a scan to a plan folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from iort_planner import INTENDED_USE
from iort_planner.cli import needles, options
from iort_planner.errors import InputError, NeedleNotFoundError

if TYPE_CHECKING:
    from iort_planner.planning.output_of_day import OutputOfDay
    from iort_planner.workflow import PlanRequest

PLAN_STEPS = 10  # steps that workflow.plan_into announces with pictures; only the bar's length

_EPILOG = """\
where a depth starts (--depth-from):
  source   from the effective source point; this is what depth-dose tables count from
  surface  from the applicator's surface, sideways: adds half its outer diameter
  tip      from the outer distal end, forwards: adds the applicator's tip-to-source distance
without --depth the canal limit sets the time: as long as the canal allows.

what the limit (--limit) refers to:
  always the wall of the bony canal, found automatically, drawn (--canal FILE) or given as points;
  a cord or thecal sac (--cord) lies inside it and is reported beside it. A cord nearer to the
  source than the canal's wall is a contradiction that the plan warns of.

examples:
  iort-planner plan SCAN --out PLAN
  iort-planner plan SCAN --out PLAN --dose 8 --depth 10 --depth-from tip --limit 8
  iort-planner plan SCAN --out PLAN --tip -3.9 213.6 -670.7 --axis 0.46 0.88 0.14 --canal canal.nii.gz
  iort-planner plan SCAN.zip --out PLAN --canal rtstruct.dcm --canal-roi SpinalCanal
  iort-planner plan SCAN --out PLAN --canal auto --canal-point 3.1 224.0 -671.5    the automatic canal, corrected there
  iort-planner plan SCAN --out PLAN --source XRS-1234.csv --output-measured 0.98 --output-date 2026-11-30
  iort-planner plan SCAN --out PLAN --cord rtstruct.dcm --cord-roi SpinalCord      its dose beside the canal's

"""


def add_subparser(subparsers: options.Subparsers) -> None:
    parser = subparsers.add_parser(
        "plan",
        help="locate needle and canal in a scan, compute dwell time and isodoses, check, write the plan folder",
        description="Loads a CT scan, locates the needle, segments the spinal canal, computes, checks, and writes\n"
        "plan.json, report.pdf, scene.png, slices.png, dose.nii.gz and canal.nii.gz into a folder.",
        epilog=_EPILOG + INTENDED_USE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.add_scan_options(parser)
    parser.add_argument(
        "--out", type=options.path, required=True, metavar="DIR", help="plan folder to write; replaced whole"
    )
    add_plan_options(parser)
    options.add_output_options(parser)
    parser.set_defaults(func=run)


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    needle = parser.add_argument_group("needle (default: found automatically)")
    _add_point(needle, "--tip", "outer distal end of the applicator by hand, LPS mm; with --axis")
    _add_point(needle, "--axis", "direction from the tip towards the hub, any length; with --tip")
    _add_point(
        needle,
        "--needle-hint",
        "a point on or near the needle, for the automatic search: chooses among several ('iort-planner needles' lists them)",
    )
    canal = parser.add_argument_group("spinal canal (default: found automatically)")
    canal.add_argument(
        "--canal",
        metavar="auto|FILE",
        help="found automatically (default), or drawn elsewhere: RTSTRUCT, DICOM SEG, NIfTI or NRRD",
    )
    canal.add_argument(
        "--canal-roi",
        metavar="NAME|NUMBER",
        help="structure in that file (default: the only one, or the only one named like canal)",
    )
    _add_point(
        canal,
        "--canal-point",
        "a point of the canal's wall, LPS mm: with --canal (auto or FILE) that canal is corrected to pass through it; "
        "without --canal there is no canal but the points, distances go to the nearest",
        repeatable=True,
    )
    canal.add_argument(
        "--cord",
        metavar="FILE",
        type=options.path,
        help="cord or thecal sac drawn elsewhere, files as for --canal: its distances and highest dose are reported; "
        "the limit stays that of the canal's wall",
    )
    canal.add_argument(
        "--cord-roi",
        metavar="NAME|NUMBER",
        help="structure in that file (default: the only one, or the only one named like cord)",
    )
    dose = parser.add_argument_group("source and dose")
    dose.add_argument("--source", metavar="NAME|FILE", help="depth-dose table (default: the shipped, non-clinical one)")
    dose.add_argument("--applicator", metavar="NAME|FILE", help="applicator geometry (default: the shipped one)")
    dose.add_argument("--dose", type=options.number, metavar="GY", help="prescribed dose, 0.1-50 Gy (default 8)")
    dose.add_argument(
        "--limit", type=options.number, metavar="GY", help="most the canal's wall may get, 0.1-50 Gy (default 8)"
    )
    dose.add_argument("--rbe", type=options.number, metavar="R", help="RBE of the X-rays, 0.5-3 (default 1.3)")
    dose.add_argument("--depth", type=options.number, metavar="MM", help="where the dose is to be reached, mm")
    dose.add_argument(
        "--depth-from",
        choices=["source", "surface", "tip"],
        help="where that depth starts (default source); with --depth; see below",
    )
    dose.add_argument(
        "--engine",
        choices=["water", "tg43", "raytrace", "montecarlo"],
        default="water",
        help="dose engine (default water); tg43, with a --source of that kind: dose by that formalism beside it; "
        "raytrace (a second) or montecarlo (a minute), on a scan in HU: dose in bone and other tissues beside it",
    )
    dose.add_argument(
        "--hu-curve",
        metavar="NAME|FILE",
        help="raytrace, montecarlo: your scanner's HU to density and tissue (default: a published curve, not clinical)",
    )
    dose.add_argument(
        "--spectrum",
        metavar="NAME|FILE",
        help="montecarlo: photons of your source by energy (default: the shipped fit)",
    )
    dose.add_argument(
        "--uncertainty",
        type=options.finite,
        metavar="PERCENT",
        help="montecarlo: k=1 that its voxels within 20 mm shall reach, 0.05-20 (default 1)",
    )
    dose.add_argument("--seed", type=int, metavar="N", help="montecarlo: of its random numbers (default 1)")
    dose.add_argument(
        "--gpu",
        action="store_true",
        help="montecarlo: on a CUDA device (extra gpu); as on the CPU within statistics, not bit by bit",
    )
    output = parser.add_argument_group("output of the day (the dwell time follows it)")
    output.add_argument(
        "--output-measured",
        type=options.number,
        metavar="R",
        help="the source's output as a ratio to reference, 0.5-2; 1.00 = as in the table",
    )
    output.add_argument(
        "--output-date", type=options.date, metavar="DATE", help="its day, like 2026-11-30; both or none"
    )
    output.add_argument(
        "--output-temperature",
        type=options.number,
        metavar="C",
        help="of the air in the chamber, °C: R is then corrected for air density (20 °C, 1013.25 hPa); with the pressure. "
        "Leave both out where R is corrected already",
    )
    output.add_argument("--output-pressure", type=options.number, metavar="HPA", help="of that air, hPa")
    check = parser.add_argument_group("second check (can only be made stricter)")
    for name, percent in (("warn", 3), ("fail", 5)):
        check.add_argument(
            f"--second-check-{name}",
            type=options.number,
            metavar="PERCENT",
            help=f"difference from which on it {name}s (default and most {percent})",
        )
    parser.add_argument("--no-pictures", action="store_true", help="write no png and no pdf")


def _add_point(group: argparse._ArgumentGroup, name: str, text: str, *, repeatable: bool = False) -> None:
    group.add_argument(
        name,
        nargs=3,
        type=options.number,
        metavar=("X", "Y", "Z"),
        action="append" if repeatable else "store",
        default=[] if repeatable else None,
        help=text + ("; repeatable" if repeatable else ""),
    )


def request_from(args: argparse.Namespace, path: Path, series: str | None) -> PlanRequest:
    """The parsed options as a request; only what was given overrides the library's defaults."""
    from iort_planner.applicator import DepthReference
    from iort_planner.planning.prescription import Prescription
    from iort_planner.planning.second_check import SecondCheckLimits
    from iort_planner.planning.tissue_engine import TissueInput
    from iort_planner.workflow import PlanRequest

    if args.depth is None and args.depth_from is not None:
        raise InputError("--depth-from says where a depth starts; give --depth too, or leave both out")
    doses = {
        name: value
        for name, value in (("dose_gy", args.dose), ("limit_gy", args.limit), ("rbe", args.rbe))
        if value is not None
    }
    limits = {
        name: value
        for name, value in (("warn_percent", args.second_check_warn), ("fail_percent", args.second_check_fail))
        if value is not None
    }
    points = tuple(tuple(point) for point in args.canal_point)
    files = {name: value for name in ("source", "applicator") if (value := getattr(args, name)) is not None}
    given = {
        "curve": args.hu_curve,
        "spectrum": args.spectrum,
        "uncertainty_percent": args.uncertainty,
        "seed": args.seed,
        "gpu": args.gpu or None,
    }
    tissue = {name: value for name, value in given.items() if value is not None}
    return PlanRequest(
        path=path,
        series=series,
        resample_tilt=args.resample_tilt,
        accept_mixed_frames=args.accept_mixed_frames,
        tip=None if args.tip is None else tuple(args.tip),
        axis=None if args.axis is None else tuple(args.axis),
        needle_hint=None if args.needle_hint is None else tuple(args.needle_hint),
        canal_file=None if args.canal in (None, "auto") else options.path(args.canal),
        canal_roi=args.canal_roi,
        canal_points=points if args.canal is None else (),
        canal_corrections=() if args.canal is None else points,
        cord_file=args.cord,
        cord_roi=args.cord_roi,
        prescription=Prescription(depth_mm=args.depth, depth_from=DepthReference(args.depth_from or "source"), **doses),
        engine=args.engine,
        tissue=TissueInput(**tissue),
        output=_output(args),
        second_check=SecondCheckLimits(**limits),
        pictures=not args.no_pictures,
        **files,
    )


def _output(args: argparse.Namespace) -> OutputOfDay | None:
    """The output of the day, where it was given whole."""
    from iort_planner.planning.output_of_day import OutputOfDay

    air = (args.output_temperature, args.output_pressure)
    if args.output_measured is None and args.output_date is None and air == (None, None):
        return None
    if args.output_measured is None or args.output_date is None:
        raise InputError(
            "--output-measured and --output-date belong together (temperature and pressure correct that reading); give "
            "both, or none of them"
        )
    return OutputOfDay(
        ratio=args.output_measured,
        date=args.output_date,
        temperature_c=args.output_temperature,
        pressure_hpa=args.output_pressure,
    )


def run(args: argparse.Namespace) -> int:
    from iort_planner.workflow import plan_scan

    request = request_from(args, args.input, args.series)
    with (
        options.progress(PLAN_STEPS, quiet=args.quiet) as step,
        options.slices(quiet=args.quiet) as slices,
        options.histories(quiet=args.quiet, wanted_percent=request.tissue.uncertainty_percent) as histories,
    ):
        try:
            plan = plan_scan(args.out, request, step=step, slices=slices, histories=histories)
        except NeedleNotFoundError as error:
            raise NeedleNotFoundError(f"{error}; see what metal there is: {needles.command(args)}") from error
    from iort_planner.cli.summary import print_plan

    return print_plan(plan, args.out, as_json=args.json)
