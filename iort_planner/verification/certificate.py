"""One page that says what was verified, with what, and how it came out."""

from __future__ import annotations

import io
from typing import Any

from iort_planner.report import sheet
from iort_planner.verification.results import as_text, failures

_MOST_FAILURES = 12


def certificate(found: dict[str, Any]) -> bytes:
    """The page as PDF; the same run gives the same bytes."""
    import hashlib

    buffer = io.BytesIO()
    title = f"verification of {found['suite']['name']}"
    made_by = f"{found['software']['name']} {found['software']['version']}"
    document = sheet.document(buffer, f"iort-planner {title}", made_by)
    digest = hashlib.sha256(as_text(found).encode()).hexdigest()

    def parts(width: float) -> list[Any]:
        return _parts(found, title, digest, width)

    story = [sheet.one_page(parts, document.width - 12.0, document.height - 12.0)]
    document.build(story, canvasmaker=sheet.numbered_canvas(found["intended_use"], f"{made_by}, {title}"))
    return buffer.getvalue()


def _parts(found: dict[str, Any], title: str, digest: str, width: float) -> list[Any]:
    from reportlab.lib.colors import HexColor
    from reportlab.platypus import Spacer

    from iort_planner.viewer import palette

    counts, machine = found["counts"], found["machine"]
    verdict = sheet.table(
        [[sheet.paragraph(f"{found['verdict'].upper()}: {title}", 16, bold=True)]],
        [width],
        [
            ("BACKGROUND", (0, 0), (-1, -1), HexColor(palette.VERDICT_COLOUR[found["verdict"]])),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 8),
        ],
    )
    told = [
        ("Cases", f"{counts['passed']} passed, {counts['failed']} failed, {found['suite']['cases']} in all"),
        *(
            (f"Expected by {source}", f"{each['passed']} met, {each['failed']} not met")
            for source, each in counts["expectations"].items()
        ),
        ("Software", f"{found['software']['name']} {found['software']['version']}"),
        ("Run", found["created"]),
        (
            "Machine",
            f"{machine['system']}, {machine['processor']}, {machine['cores']} cores, Python {machine['python']}",
        ),
        ("Libraries", ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())),
        ("Suite, SHA-256", found["suite"]["sha256"]),
        ("verification.json, SHA-256", digest),
    ]
    rows = [[sheet.paragraph(name, 8.5, bold=True), sheet.paragraph(value, 8.5)] for name, value in told]
    parts: list[Any] = [verdict, Spacer(1, 8), sheet.table(rows, [150.0, width - 150.0], [])]
    failed = [entry for entry in found["cases"] if entry["verdict"] != "pass"]
    if failed:
        lines = [f"{entry['name']}: {failures(entry)[0]}" for entry in failed[:_MOST_FAILURES]]
        if len(failed) > _MOST_FAILURES:
            lines.append(f"and {len(failed) - _MOST_FAILURES} more, in verification.html")
        parts += [
            Spacer(1, 10),
            sheet.paragraph("What failed", 11, bold=True),
            *(sheet.paragraph(line, 8.5) for line in lines),
        ]
    if "against" in found:
        version = found["against"]["software"].get("version", "?")
        parts += [
            Spacer(1, 10),
            sheet.paragraph(f"Against the run of version {version}", 11, bold=True),
            *(sheet.paragraph(line, 8.5) for line in found["against"]["lines"][:20]),
        ]
    parts += [
        Spacer(1, 10),
        sheet.paragraph(
            "Literature values, closed forms, independent code and the tool's own baselines are counted apart: a baseline "
            "shows that nothing changed, not that it is right. Phantoms are no patients.",
            8.5,
        ),
        Spacer(1, 24),
        sheet.table(
            [[sheet.paragraph("Looked at by", 8.5), sheet.paragraph("Date", 8.5)]],
            [0.6 * width, 0.4 * width],
            [("LINEABOVE", (0, 0), (-1, -1), 0.6, HexColor("#8899AA"))],
        ),
    ]
    return parts
