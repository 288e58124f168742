"""The one-page PDF of a QA result; the same bytes for the same result."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from iort_planner import INTENDED_USE, __version__
from iort_planner.report import sheet
from iort_planner.viewer import palette

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iort_planner.qa.results import Status
    from iort_planner.source.findings import Finding


def write_page(
    title: str, verdict: Status, facts: Sequence[tuple[str, str]], findings: Sequence[Finding], png: bytes
) -> bytes:
    """Verdict, what was looked at, picture, and every finding, on one page of A4.

    Parameters
    ----------
    title : str
        ``qa check of FILE``.
    facts : sequence of (str, str)
        Names and values: files with their hashes, dates, criteria.
    png : bytes
        The picture.
    """
    buffer = io.BytesIO()
    page = sheet.document(buffer, f"iort-planner {title}", f"iort-planner {__version__}")

    def parts(width: float) -> list[Any]:
        return _parts(title, verdict, facts, findings, png, width)

    story = [sheet.one_page(parts, page.width - 12.0, page.height - 12.0)]  # the frame's own padding
    page.build(story, canvasmaker=sheet.numbered_canvas(INTENDED_USE, f"iort-planner {__version__}, {title}"))
    return buffer.getvalue()


def _parts(
    title: str,
    verdict: Status,
    facts: Sequence[tuple[str, str]],
    findings: Sequence[Finding],
    png: bytes,
    width: float,
) -> list[Any]:
    from reportlab.lib.colors import HexColor
    from reportlab.platypus import Spacer

    banner = sheet.table(
        [[sheet.paragraph(f"{verdict.upper()}: {title}", 15, bold=True)]],
        [width],
        [
            ("BACKGROUND", (0, 0), (-1, -1), HexColor(palette.VERDICT_COLOUR[verdict])),
            ("TOPPADDING", (0, 0), (-1, -1), 5),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 8),
        ],
    )
    named = [[sheet.paragraph(name, 8, bold=True), sheet.paragraph(value, 8)] for name, value in facts]
    return [
        banner,
        Spacer(1, 5),
        sheet.table(named, [100.0, width - 100.0], []),
        Spacer(1, 5),
        sheet.picture(png, 0.86 * width),
        Spacer(1, 5),
        sheet.check_table([_located(each) for each in findings], width),
    ]


def _located(finding: Finding) -> Finding:
    """The finding with its line in the message, as the table of checks has no column for it."""
    if finding.line is None:
        return finding
    return replace(finding, message=f"line {finding.line}: {finding.message}")
