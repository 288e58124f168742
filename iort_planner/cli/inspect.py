"""``iort-planner inspect``: the image series under a path, their geometry, and every problem."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from iort_planner.cli import options

if TYPE_CHECKING:
    from iort_planner.imaging.series import SeriesReport

SCHEMA = "iort-planner/inspect/1"


def add_subparser(subparsers: options.Subparsers) -> None:
    parser = subparsers.add_parser(
        "inspect",
        help="list the image series under a folder, file, zip or DICOMDIR, their geometry and every problem",
        description="List the image series under a folder, file, zip archive or DICOMDIR, their geometry and every problem. "
        "Exit status: 0 one can be planned, 1 none can, 2 there is no image.",
    )
    parser.add_argument(
        "input", type=options.path, metavar="INPUT", help="DICOM folder (searched with its subfolders), file, zip or DICOMDIR"
    )
    options.add_output_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from iort_planner import INTENDED_USE
    from iort_planner.imaging.series import survey_path

    with options.slices(quiet=args.quiet) as slices:
        survey = survey_path(args.input, slices)
    if args.json:
        document = {
            "schema": SCHEMA,
            "intended_use": INTENDED_USE,
            "series": [_as_json(report) for report in survey.series],
        }
        options.emit(json.dumps(document, indent=2, allow_nan=False) + "\n")
    else:
        lines = [line for report in survey.series for line in _for_people(report)]
        ignored = ", ".join(f"{count} x {_plain(what)}" for what, count in survey.ignored)
        if ignored:
            lines += [f"Not image series: {ignored}"]
        options.emit("\n".join([*lines, INTENDED_USE]) + "\n")
    return 0 if any(report.plannable for report in survey.series) else 1


def _as_json(report: SeriesReport) -> dict[str, Any]:
    return {
        "series_uid": report.series_uid,
        "kind": report.kind,
        "modality": report.modality,
        "size_voxels": report.size_voxels,
        "spacing_mm": report.spacing_mm,
        "hu_calibrated": report.hu_calibrated,
        "plannable": report.plannable,
        "problems": [{"id": p.id, "status": p.status, "message": p.message} for p in report.problems],
        "description": report.description,
        "patient_position": report.patient_position,
        "acquired_at": report.acquired_at,
        "file_count": report.file_count,
    }


def _for_people(report: SeriesReport) -> list[str]:
    size = " x ".join(map(str, report.size_voxels)) if report.size_voxels else "not known"
    spacing = " x ".join(f"{v:.6g}" for v in report.spacing_mm) + " mm" if report.spacing_mm else "not known"
    failed = sum(p.status == "fail" for p in report.problems)
    rows = [
        ("Series", report.series_uid or "(no UID)"),
        ("description", report.description or "-"),
        ("image", f"{report.kind}, modality {report.modality or 'none'}, {report.file_count} file(s)"),
        ("size", size),
        ("spacing", spacing),
        ("position", report.patient_position or "-"),
        ("acquired", report.acquired_at or "-"),
        ("HU", "yes" if report.hu_calibrated else "no"),
        ("plannable", "yes" if report.plannable else f"no ({failed} reason{'s' * (failed != 1)} below)"),
        *((p.status, f"{p.id}: {p.message}") for p in report.problems),
    ]
    return [f"{'' if label == 'Series' else '  '}{label}".ljust(15) + _plain(text) for label, text in rows] + [""]


def _plain(text: str) -> str:
    """Text from a file, made safe for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
