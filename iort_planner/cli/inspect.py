"""``iort-planner inspect``: the image series under a path, their geometry, and every problem."""

from __future__ import annotations

import argparse
import json
import shlex
from typing import TYPE_CHECKING, Any

from iort_planner import INTENDED_USE
from iort_planner.cli import options

if TYPE_CHECKING:
    from pathlib import Path

    from iort_planner.imaging.survey import SeriesReport, StructureReport, Survey

SCHEMA = "iort-planner/inspect/1"
MOST_LISTED = 20
OBLIQUE_DEG = 0.05  # below, the axes are the patient's to what anybody could see
_LYING = {"S": "supine", "P": "prone", "DR": "right side down", "DL": "left side down"}


def add_subparser(subparsers: options.Subparsers) -> None:
    parser = subparsers.add_parser(
        "inspect",
        help="list the image series under a folder, file, zip or DICOMDIR, their geometry and every problem",
        description="List the image series under a folder, file, zip archive or DICOMDIR, their geometry and every problem. "
        "Exit status: 0 one can be planned, 1 none can, 2 there is no image.",
    )
    parser.add_argument(
        "input",
        type=options.path,
        metavar="INPUT",
        help="DICOM folder (searched with its subfolders), file, zip or DICOMDIR",
    )
    options.add_output_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from iort_planner.imaging.survey import survey_path

    with options.slices(quiet=args.quiet) as slices:
        survey = survey_path(args.input, slices)
    if args.json:
        document = {
            "schema": SCHEMA,
            "intended_use": INTENDED_USE,
            "series": [_as_json(report) for report in survey.series],
            "structures": [
                {
                    "name": found.name,
                    "kind": found.kind,
                    "rois": [{"number": number, "name": name} for number, name in found.rois],
                    "series_uids": found.series_uids,
                    "problem": found.problem,
                }
                for found in survey.structures
            ],
        }
        options.emit(json.dumps(document, indent=2, allow_nan=False) + "\n")
    else:
        options.emit("\n".join(_for_people(survey, args.input)) + "\n")
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
        "axes": report.axes,
        "obliquity_deg": report.obliquity_deg,
        "description": report.description,
        "patient_position": report.patient_position,
        "acquired_at": report.acquired_at,
        "file_count": report.file_count,
    }


def _for_people(survey: Survey, path: Path) -> list[str]:
    """The series, those that can be planned first, and what else lies there."""
    reports = sorted(survey.series, key=lambda report: not report.plannable)
    plannable = sum(report.plannable for report in reports)
    count = f"{len(reports)} image series" + (f", {plannable} can be planned" if plannable else ", none can be planned")
    lines = [f"{options.plain(str(path))}: {count}", ""]
    for number, report in enumerate(reports, 1):
        lines += _series(number, report, path, alone=plannable == 1)
    for number, structures in enumerate(survey.structures, 1):
        lines += _structures(number, structures, reports)
    ignored = ", ".join(f"{count} x {options.plain(what)}" for what, count in survey.ignored)
    if ignored:
        lines += [*options.wrapped("", f"not image series: {ignored}", indent=2), ""]
    return [*lines, INTENDED_USE]


def _series(number: int, report: SeriesReport, path: Path, *, alone: bool) -> list[str]:
    size = " x ".join(map(str, report.size_voxels)) + " voxels" if report.size_voxels else "not known"
    spacing = " x ".join(f"{v:.6g}" for v in report.spacing_mm) + " mm" if report.spacing_mm else "not known"
    rows = [
        ("series", report.series_uid or "(no UID)"),
        ("description", report.description or "-"),
        ("image", f"{report.kind}, modality {report.modality or 'none'}, {report.file_count} file(s)"),
        ("size", size),
        ("spacing", spacing),
        ("axes", _axes(report)),
        ("position", _position(report.patient_position)),
        ("acquired", report.acquired_at or "-"),
        ("HU", "yes" if report.hu_calibrated else "no" if report.plannable else "not known"),
        *((p.status.upper(), f"{p.id}: {p.message}") for p in sorted(report.problems, key=lambda p: p.status)),
    ]
    choice = "" if alone else f" --series {report.series_uid}"
    command = [f"  plan it      iort-planner plan {shlex.quote(options.plain(str(path)))}{choice} --out PLAN"]
    if not (alone or report.series_uid):
        command = ["  plan it      give its own folder or file: it has no UID to choose it by"]
    failed = [p.id for p in report.problems if p.status == "fail"]
    verdict = "can be planned" if report.plannable else f"cannot be planned: {', '.join(dict.fromkeys(failed))}"
    lines = [line for label, text in rows for line in options.wrapped(label, text)]
    return [f"[{number}] {verdict}", *lines, *(command if report.plannable else ()), ""]


def _structures(number: int, found: StructureReport, reports: list[SeriesReport]) -> list[str]:
    numbers = [str(n) for n, report in enumerate(reports, 1) if report.series_uid in found.series_uids]
    rois = ", ".join(f"{n} {name}".strip() for n, name in found.rois[:MOST_LISTED])
    more = len(found.rois) - MOST_LISTED
    drawn_on = "no frame of reference that a series here names"
    if numbers:
        drawn_on = f"the frame of reference of series {', '.join(numbers)}"
    rows = [
        ("file", f"{found.name}, {found.kind}" if found.kind else found.name),
        ("holds", rois + (f" and {more} more" if more > 0 else "")) if found.rois else ("", ""),
        ("drawn on", drawn_on),
    ]
    if found.problem:
        rows = [rows[0], ("FAIL", found.problem)]
    title = f"structures {number}" + ("" if found.problem else ": give it with --canal FILE --canal-roi NAME|NUMBER")
    return [title, *(line for label, text in rows if label for line in options.wrapped(label, text)), ""]


def _axes(report: SeriesReport) -> str:
    """Where i, j, k run, always with letters."""
    if report.axes is None or report.obliquity_deg is None:
        return "not known"
    named = ", ".join(f"{index} to {letter}" for index, letter in zip("ijk", report.axes, strict=True))
    return named if report.obliquity_deg < OBLIQUE_DEG else f"{named}, oblique by {report.obliquity_deg:.1f} degrees"


def _position(term: str) -> str:
    """Patient Position in words."""
    words = {"HF": "head first", "FF": "feet first"}.get(term[:2]), _LYING.get(term[2:])
    return f"{term} ({words[0]}, {words[1]})" if all(words) else term or "-"
