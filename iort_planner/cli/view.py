"""``iort-planner view``: a plan and its image in 3-D, in a window or as a picture."""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from iort_planner.cli import options
from iort_planner.errors import ImageError, OutputError, PlanError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from iort_planner.imaging.volume import ImageGrid, Volume
    from iort_planner.planning.plan import Plan

SCHEMA = "iort-planner/view/1"


def add_subparser(subparsers: options.Subparsers) -> None:
    parser = subparsers.add_parser(
        "view",
        help="needle, canal and isodoses of a plan in 3-D",
        description="Show a plan and the image it names (its hash is checked) in 3-D, or write the picture to a file.",
    )
    parser.add_argument("plan_dir", type=options.path, metavar="PLAN_DIR", help="folder that 'plan' wrote")
    parser.add_argument("--screenshot", type=options.path, metavar="FILE.png", help="write the picture, open no window")
    parser.add_argument("--image", type=options.path, metavar="PATH", help="the scan, when it has moved since the plan")
    options.add_output_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from iort_planner.planning.plan_file import read_plan

    if args.screenshot is not None:
        _check_target(args.screenshot)
    plan = read_plan(args.plan_dir / "plan.json")
    from iort_planner.viewer import render

    render.check_can_draw(window=args.screenshot is None)
    volume = _load_image(plan, args.plan_dir, args.image)
    mask = _read_mask(plan, args.plan_dir, volume.grid)
    from iort_planner.viewer.scene import build_scene

    scene = build_scene(plan, volume, mask)
    if args.screenshot is None:
        for number in (signal.SIGINT, signal.SIGTERM):  # VTK's loop never comes back to Python's handlers
            signal.signal(number, signal.SIG_DFL)
        render.show(scene)
    else:
        render.screenshot(scene, args.screenshot)
        if not args.json:
            options.emit(f"{args.screenshot}\n")
    if args.json:
        picture = None if args.screenshot is None else str(args.screenshot)
        options.emit(json.dumps({"schema": SCHEMA, "verdict": plan.verdict, "screenshot": picture}) + "\n")
    return 0


def _check_target(path: Path) -> None:
    """Refuse a picture's name that cannot work before anything slow is done."""
    if path.suffix.lower() != ".png":
        raise OutputError(f"--screenshot {str(path)!r} must end in .png; pictures are written as PNG only")
    if path.is_dir():
        raise OutputError(f"--screenshot {str(path)!r} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise OutputError(f"--screenshot {str(path)!r}: there is no folder {str(path.parent)!r}; make it first")


def _load_image(plan: Plan, plan_dir: Path, given: Path | None) -> Volume:
    """Load the image a plan names, and make sure by its hash that it is that one."""
    from iort_planner.imaging.series import load_again

    path = _find_image(plan, plan_dir) if given is None else given
    try:
        volume = load_again(path, plan.image.series_uid or None, {check.id for check in plan.checks}).volume
    except ImageError as error:
        raise PlanError(
            f"the image of the plan could not be read: {error} (or give another place with --image)"
        ) from error
    found = volume.sha256()
    if found != plan.image.sha256:
        raise PlanError(
            f"the image in {str(path)!r} is not the one of the plan: its voxels hash to {found[:12]}..., the plan "
            f"names {plan.image.sha256[:12]}...; give the planned scan with --image, or plan this one anew"
        )
    return volume


def _find_image(plan: Plan, plan_dir: Path) -> Path:
    """Place of the image: as the plan has it, else the same relative path from a folder above the plan's."""
    named = Path(plan.image.path)
    candidates = [named]
    if not named.is_absolute():
        candidates += [folder / named for folder in plan_dir.resolve().parents]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise PlanError(
        f"the image of the plan, {plan.image.path!r}, is not there any more; give its place with --image PATH"
    )


def _read_mask(plan: Plan, plan_dir: Path, grid: ImageGrid) -> npt.NDArray[np.uint8] | None:
    if plan.canal.method == "points":
        return None
    import numpy as np

    from iort_planner.imaging.structures.read import read_label_map
    from iort_planner.planning.plan import map_sha256

    path = plan_dir / "canal.nii.gz"
    if not path.is_file():
        raise PlanError(f"{str(path)!r} is missing: the plan folder is not whole; make the plan again")
    try:
        mask = read_label_map(path, grid).mask.astype(np.uint8)
    except ImageError as error:
        raise PlanError(f"the plan's canal cannot be used: {error}; make the plan again") from error
    if map_sha256(mask) != plan.canal.map_sha256:
        raise PlanError(f"{str(path)!r} is not the canal of the plan: its hash differs; make the plan again")
    return mask
