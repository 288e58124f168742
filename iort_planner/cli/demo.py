"""``iort-planner demo``: the main job on a phantom, with the truth beside the estimate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iort_planner import INTENDED_USE
from iort_planner.cli import options
from iort_planner.cli.plan import PLAN_STEPS

if TYPE_CHECKING:
    from iort_planner.planning.plan import Plan


def add_subparser(subparsers: options.Subparsers) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="the whole job on a phantom: scan, plan, pictures, truth beside the estimate",
        description="Makes the reference phantom as DICOM, plans it like a real scan and prints the plan beside the\n"
        "truth: DIR/scan/, DIR/truth.json, DIR/plan/. Ends in 'warn': its table is not clinical.",
        epilog=INTENDED_USE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--out",
        type=options.path,
        default=Path("iort-planner-demo"),
        metavar="DIR",
        help="default ./iort-planner-demo/",
    )
    options.add_output_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    import datetime as dt
    import json

    from iort_planner.output import DEMO_FOLDER, whole_folder
    from iort_planner.phantom.dicom_series import write_phantom
    from iort_planner.phantom.scan import build
    from iort_planner.phantom.spec import find_spec, read_spec
    from iort_planner.workflow import PlanRequest, plan_into

    with options.progress(2 + PLAN_STEPS, quiet=args.quiet) as step, whole_folder(args.out, DEMO_FOLDER) as folder:
        step("building the phantom")
        phantom = build(read_spec(find_spec("reference")), 1)
        step("writing DICOM")
        now = dt.datetime.now().astimezone()
        write_phantom(phantom, folder, acquired_at=now)
        (folder / "plan").mkdir()
        request = PlanRequest(path=folder / "scan")
        plan = plan_into(folder / "plan", request, shown_path=args.out / "scan", created=now, step=step)
        truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    from iort_planner.cli.summary import print_plan

    status = print_plan(plan, args.out, as_json=args.json)
    if not args.json:
        options.emit(beside_truth(plan, truth))
    return status


def beside_truth(plan: Plan, truth: dict[str, Any]) -> str:
    """A table of estimate, truth and difference."""
    import math

    needle, true = plan.needles[0], truth["needles"][0]
    cosine = sum(a * b for a, b in zip(needle.axis_lps, true["axis_lps"], strict=True))
    angle = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
    lines = ["", f"{'against the phantom’s truth':<30}{'estimate':>10}{'truth':>10}{'difference':>12}"]
    for name, key in (
        ("canal from source centre, mm", "distance_from_source_mm"),
        ("canal from tip, mm", "distance_from_tip_mm"),
        ("canal from surface, mm", "distance_from_surface_mm"),
        ("canal from shaft/cannula, mm", "shaft_clearance_mm"),
    ):
        estimate, exact = getattr(plan.canal, key), truth["canal"][key]
        lines.append(f"{name:<30}{estimate:>10.2f}{exact:>10.2f}{estimate - exact:>+12.2f}")
    for name, apart in (
        ("tip, mm apart", math.dist(needle.tip_lps_mm, true["tip_lps_mm"])),
        ("source centre, mm apart", math.dist(needle.source_lps_mm, true["source_lps_mm"])),
        ("axis, degrees apart", angle),
    ):
        lines.append(f"{name:<50}{apart:>12.2f}")
    return "\n".join(lines) + "\n"
