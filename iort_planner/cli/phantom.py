"""``iort-planner phantom``: a scan with a known truth from a specification."""

from __future__ import annotations

import argparse

from iort_planner import INTENDED_USE
from iort_planner.cli import options


def add_subparser(subparsers: options.Subparsers) -> None:
    parser = subparsers.add_parser(
        "phantom",
        help="build a phantom scan (DICOM) with a known truth",
        description="Builds a digital phantom of the spine with a needle in it: DIR/scan/ is a DICOM CT series,\n"
        "DIR/truth.json says exactly where needle and canal are.",
        epilog="examples:\n  iort-planner phantom reference --out PHANTOM\n  iort-planner phantom my-spec.toml --out PHANTOM "
        f"--seed 7\n\n{INTENDED_USE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("spec", metavar="SPEC", help="TOML file, or the name of a shipped one (reference, ...)")
    parser.add_argument(
        "--out", type=options.path, required=True, metavar="DIR", help="folder to write; replaced whole"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the noise (default 1)")
    options.add_output_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    import datetime as dt

    from iort_planner.output import PHANTOM_FOLDER, whole_folder
    from iort_planner.phantom.spec import find_spec, read_spec

    spec = read_spec(find_spec(args.spec))
    with options.progress(2, quiet=args.quiet) as step, whole_folder(args.out, PHANTOM_FOLDER) as folder:
        from iort_planner.phantom.dicom_series import write_phantom
        from iort_planner.phantom.scan import build

        step("building the phantom")
        phantom = build(spec, args.seed)
        step("writing DICOM")
        write_phantom(phantom, folder, acquired_at=dt.datetime.now().astimezone())
        truth = (folder / "truth.json").read_text(encoding="utf-8")
    if args.json:
        options.emit(truth)
    else:
        grid = phantom.volume.grid
        size = " x ".join(str(n) for n in grid.size_voxels)
        spacing = " x ".join(f"{s:g}" for s in grid.spacing_mm)
        options.emit(
            f"phantom {args.spec}, seed {args.seed}: {size} voxels of {spacing} mm\n"
            f"scan in {args.out / 'scan'}, truth in {args.out / 'truth.json'}\n{INTENDED_USE}\n"
        )
    return 0
