"""``iort-planner needles``: the metal in a scan, needles and other, with points to paste into ``plan``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
from collections import Counter
from typing import TYPE_CHECKING, Any

from iort_planner import INTENDED_USE
from iort_planner.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from iort_planner.applicator import Applicator
    from iort_planner.geometry.metal import Metal, MetalSurvey
    from iort_planner.geometry.needle import Needle
    from iort_planner.imaging.series import ScanImage
    from iort_planner.units import FloatArray

SCHEMA = "iort-planner/needles/1"
# The pasted hint lies on the steel, this far behind its distal end: tips of two needles at one level may lie closer together
# than a hint tells apart, and no needle is found with less than 20 mm of shaft in view. Our own choice.
HINT_BEHIND_MM = 10.0
_EPILOG = """\
what to do with it:
  choose one of several needles   iort-planner plan SCAN --out PLAN --needle-hint X Y Z
  take a needle as it stands      iort-planner plan SCAN --out PLAN --tip X Y Z --axis X Y Z

labels: 1 for one needle alone; of several the level counted from the head, and the side of entry (1L, 1R, 2L).
exit status: 0 a needle was found, 1 none was, 2 the scan cannot be read.

"""


def add_subparser(subparsers: options.Subparsers) -> None:
    parser = subparsers.add_parser(
        "needles",
        help="list the metal in a scan (needles, screws, rods) with points to paste",
        description="Lists the straight metal in a scan: each needle with tip, axis, source centre, what is inside and how "
        "far\nto trust it, and the options that make 'plan' take it; then screws, rods, wires and other metal.\n"
        "Chooses none and plans nothing.",
        epilog=_EPILOG + INTENDED_USE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.add_scan_options(parser)
    parser.add_argument("--applicator", metavar="NAME|FILE", help="applicator geometry (default: the shipped one)")
    options.add_output_options(parser)
    parser.set_defaults(func=run)


def command(args: argparse.Namespace) -> str:
    """The call of this command that reads the scan of ``args`` as ``plan`` was told to."""
    words = ["iort-planner", "needles", str(args.input)]
    for name in ("series", "applicator"):
        value = getattr(args, name)
        words += [] if value is None else [f"--{name}", str(value)]
    words += [f"--{name}" for name in ("resample-tilt", "accept-mixed-frames") if getattr(args, name.replace("-", "_"))]
    return shlex.join(options.plain(word) for word in words)


def run(args: argparse.Namespace) -> int:
    from iort_planner.applicator import read_applicator
    from iort_planner.geometry.metal import survey_metal
    from iort_planner.imaging.series import load_series

    with options.progress(2, quiet=args.quiet) as step, options.slices(quiet=args.quiet) as slices:
        applicator = read_applicator() if args.applicator is None else read_applicator(args.applicator)
        step("scan")
        image = load_series(
            args.input,
            args.series,
            slices,
            resample_tilt=args.resample_tilt,
            accept_mixed_frames=args.accept_mixed_frames,
        )
        step("metal")
        survey = survey_metal(image.volume, applicator)
    if args.json:
        options.emit(json.dumps(_document(survey, image, applicator), indent=2, allow_nan=False) + "\n")
    else:
        options.emit("\n".join(_for_people(survey, image, applicator, str(args.input))) + "\n")
    return 0 if survey.needles else 1


def _document(survey: MetalSurvey, image: ScanImage, applicator: Applicator) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "intended_use": INTENDED_USE,
        "image": {
            "series_uid": image.series_uid,
            "frame_of_reference_uid": image.volume.frame_of_reference_uid,
            "hu_calibrated": image.volume.hu_calibrated,
            "sha256": image.volume.sha256(),
            "problems": [{"id": p.id, "status": p.status, "message": p.message} for p in image.problems],
        },
        "applicator": applicator.name,
        "needles": [_needle_document(needle, applicator) for needle in survey.needles],
        "metal": [
            {
                "kind": metal.kind.value,
                "start_lps_mm": metal.start_lps_mm.tolist(),
                "end_lps_mm": metal.end_lps_mm.tolist(),
                "diameter_mm": float(metal.diameter_mm),
                "length_mm": float(metal.length_mm),
                "what": metal.what,
            }
            for metal in survey.others
        ],
    }


def _needle_document(needle: Needle, applicator: Applicator) -> dict[str, Any]:
    """The keys of a needle in plan.json, and what only a search knows."""
    from iort_planner.planning.describe import plan_needle

    return {
        **dataclasses.asdict(plan_needle(needle)),
        "cannula_over_source": needle.cannula_over_source,
        "reasons": list(needle.reasons),
        "hint_lps_mm": _hint_lps_mm(needle, applicator).tolist(),
    }


def _hint_lps_mm(needle: Needle, applicator: Applicator) -> FloatArray:
    """A point on the needle's steel that no other needle is likely to be near."""
    end = applicator.metal_end_lps_mm(needle.tip_lps_mm, needle.axis_lps)
    point: FloatArray = end + HINT_BEHIND_MM * needle.axis_lps
    return point


def _for_people(survey: MetalSurvey, image: ScanImage, applicator: Applicator, path: str) -> list[str]:
    count = len(survey.needles)
    found = f"{count} needle{'s' if count > 1 else ''} found" if count else "no needle found"
    lines = [f"{options.plain(path)}: {found}; other metal: {_counted(survey.others)}", ""]
    if image.problems:
        warned = ", ".join(dict.fromkeys(problem.id for problem in image.problems))
        lines += [*options.wrapped("", f"the scan itself has warnings, see inspect: {warned}", indent=2), ""]
    for needle in survey.needles:
        lines += _needle(needle, applicator)
    if survey.others:
        lines += _table(survey.others)
    about = f"lengths mm, points DICOM LPS (x left, y back, z head); applicator: {applicator.name}"
    return [*lines, *options.wrapped("", about, indent=2), f"  {INTENDED_USE}"]


def _counted(metal: Iterable[Metal]) -> str:
    counts = Counter(each.kind.value for each in metal)
    return ", ".join(f"{count} x {kind}" for kind, count in counts.items()) or "none"


def _needle(needle: Needle, applicator: Applicator) -> list[str]:
    from iort_planner.planning.describe import plan_needle

    cannula = (
        "not seen in the image" if needle.cannula_end_lps_mm is None else f"at {_point(needle.cannula_end_lps_mm)}"
    )
    over = ": distal of the source centre" if needle.cannula_over_source else ""
    bent = "not seen" if needle.bending_mm is None else f"{needle.bending_mm:.1f} mm"
    rows = [
        ("tip", f"{_point(needle.tip_lps_mm)}   ±{needle.tip_uncertainty_mm:.1f} mm (k=1)"),
        ("axis", f"{_direction(needle.axis_lps)}   from the tip towards the hub"),
        ("source", _point(needle.source_lps_mm)),
        ("inside", plan_needle(needle).content_text),
        ("cannula's end", cannula + over),
        ("bending", bent),
        *(("because" if number == 0 else "", reason) for number, reason in enumerate(needle.reasons)),
    ]
    # as they are, to be pasted: a line that is wrapped cannot be
    paste = [
        ("choose it", f"--needle-hint {_point(_hint_lps_mm(needle, applicator))}"),
        ("by hand", f"--tip {_point(needle.tip_lps_mm)} --axis {_direction(needle.axis_lps)}"),
    ]
    return [
        f"needle {needle.label}: confidence {needle.confidence.value}",
        *(line for label, text in rows for line in options.wrapped(label, text, indent=18)),
        *(f"  {label}".ljust(18) + text for label, text in paste),
        "",
    ]


def _table(others: Iterable[Metal]) -> list[str]:
    head = f"  {'other metal':<13}{'from':<24}{'to':<24}{'diameter':>9}{'length':>8}  "
    lines = [head.rstrip()]
    for metal in sorted(others, key=lambda each: (each.kind.value, -each.length_mm)):
        ends = f"{_point(metal.start_lps_mm, 1):<24}{_point(metal.end_lps_mm, 1):<24}"
        first = f"  {metal.kind.value:<13}{ends}{metal.diameter_mm:>9.1f}{metal.length_mm:>8.0f}"
        lines += [first, *options.wrapped("", metal.what, indent=15)]
    return [*lines, "  (diameters are apparent: metal that the scan cuts off looks up to 1 mm thicker)", ""]


def _point(point_lps_mm: FloatArray, digits: int = 2) -> str:
    return " ".join(f"{value:.{digits}f}" for value in point_lps_mm + 0.0)


def _direction(axis_lps: FloatArray) -> str:
    return _point(axis_lps, 5)
