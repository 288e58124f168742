"""The report: page 1 for a glance before the beam goes on, page 2 for whoever checks every input."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from iort_planner.report import sheet, tables
from iort_planner.report.sheet import check_table as _check_table
from iort_planner.report.sheet import paragraph as _text
from iort_planner.report.sheet import picture as _picture
from iort_planner.report.sheet import table as _table
from iort_planner.viewer import palette

if TYPE_CHECKING:
    from iort_planner.planning.plan import Plan

_HEAD_COLOUR = "#EDF1F4"
_SMALLEST_SCENE_PT = 150.0
_SIDE_WIDTH_PT = 186.0


def write_pdf(plan: Plan, slices_png: bytes, scene_png: bytes | None) -> bytes:
    """The plan's report as PDF (A4); the same bytes for the same input.

    Parameters
    ----------
    plan : Plan
    slices_png : bytes
        What `iort_planner.report.slices.draw_slices` gave for the plan.
    scene_png : bytes or None
        The 3-D picture; None where no renderer could start, which the report then says.
    """
    from reportlab.platypus import PageBreak

    buffer = io.BytesIO()
    document = sheet.document(buffer, "iort-planner report", f"{plan.software.name} {plan.software.version}")
    width = document.width - 12.0  # the frame's own padding
    story = [
        *_first_page(plan, slices_png, scene_png, width),
        PageBreak(),
        sheet.one_page(lambda wide: _second_page_parts(plan, wide), width, document.height - 12.0),
    ]
    foot = f"{plan.software.name} {plan.software.version}, plan of {plan.created}"
    document.build(story, canvasmaker=sheet.numbered_canvas(plan.intended_use, foot))
    return buffer.getvalue()


def _first_page(plan: Plan, slices_png: bytes, scene_png: bytes | None, width: float) -> list[Any]:
    from reportlab.platypus import Spacer

    parts = [
        _banner(plan, width),
        Spacer(1, 5),
        _tiles(plan, width),
        Spacer(1, 3),
        _lines(tables.named(plan), width),
        Spacer(1, 5),
        _findings(plan, width),
        Spacer(1, 5),
    ]
    parts.append(_picture(slices_png, width))
    parts.append(Spacer(1, 5))
    if scene_png is None:
        parts.append(_side_table(plan, width))
        parts.append(Spacer(1, 5))
        parts.append(_text("No 3-D picture: no renderer could start on this machine (check no-renderer)."))
    else:
        parts.append(_scene_beside(scene_png, _side_table(plan, _SIDE_WIDTH_PT), _SIDE_WIDTH_PT))
    return parts


def _banner(plan: Plan, width: float) -> Any:
    from reportlab.lib.colors import HexColor

    patient = plan.patient
    who = f"Patient {patient.id or 'without ID'}, born {patient.birth_date or '–'}, sex {patient.sex or '–'}"
    rows = [
        [_text(palette.verdict_text(plan), 17, bold=True)],
        [
            _text(
                f"{who}.  Plan of {tables.time_of(plan.created)}, image of {tables.time_of(plan.image.acquired_at)}.",
                8.5,
            )
        ],
    ]
    return _table(
        rows,
        [width],
        [
            ("BACKGROUND", (0, 0), (-1, -1), HexColor(palette.VERDICT_COLOUR[plan.verdict])),
            ("TOPPADDING", (0, 0), (-1, 0), 6),
            ("BOTTOMPADDING", (0, 0), (-1, 0), 7),
            ("LEFTPADDING", (0, 0), (-1, -1), 8),
        ],
    )


def _tiles(plan: Plan, width: float) -> Any:
    """The numbers a surgeon asks for, large."""
    from reportlab.lib.colors import HexColor

    cells = [
        [_text(name, 7.5), _text(value, 14 if len(value) < 16 else 11, bold=True), _text(more, 7.5)]
        for name, value, more in tables.headline(plan)
    ]
    per_row = 4
    rows = [cells[n : n + per_row] for n in range(0, len(cells), per_row)]
    return _table(
        rows,
        [width / per_row] * per_row,
        [
            ("BOX", (0, 0), (-1, -1), 0.7, HexColor(sheet.LINE_COLOUR)),
            ("INNERGRID", (0, 0), (-1, -1), 0.7, HexColor(sheet.LINE_COLOUR)),
            ("TOPPADDING", (0, 0), (-1, -1), 3),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 4),
        ],
    )


def _lines(rows: tables.Rows, width: float) -> Any:
    """Names and values, one line each."""
    return _table([[_text(name, 8, bold=True), _text(value, 8)] for name, value in rows], [110.0, width - 110.0], [])


def _findings(plan: Plan, width: float) -> Any:
    """Every failing and warning check in words, the failing ones first."""
    found = [c for status in ("fail", "warn") for c in plan.checks if c.status == status]
    if not found:
        return _text("No check fails or warns.", 9, bold=True)
    return _check_table(found, width)


def _scene_beside(png: bytes, side: Any, side_width: float) -> Any:
    """The 3-D picture, as large as the rest of the page allows, with a table on its right.

    Where less than ``_SMALLEST_SCENE_PT`` is left, both go to a page of their own.
    """
    from reportlab.lib.utils import ImageReader
    from reportlab.platypus import Flowable

    picture = ImageReader(io.BytesIO(png))
    across, down = picture.getSize()

    class Scene(Flowable):  # type: ignore[misc]  # reportlab has no types
        def wrap(self, width: float, height: float) -> tuple[float, float]:
            _, needed = side.wrap(side_width, height)
            fitting = min(height - 1.0, (width - side_width - 8.0) * down / across)
            self.height = max(fitting, needed, _SMALLEST_SCENE_PT)
            self.width = width
            return width, self.height

        def draw(self) -> None:
            wide = min(self.height * across / down, self.width - side_width - 8.0)
            tall = wide * down / across
            self.canv.drawImage(picture, 0, self.height - tall, width=wide, height=tall)
            _, high = side.wrap(side_width, self.height)
            side.drawOn(self.canv, wide + 8.0, self.height - high)

    return Scene()


def _side_table(plan: Plan, width: float) -> Any:
    """Isodose radii with the colours of the pictures, and the bands of uncertainty."""
    from reportlab.lib.colors import HexColor

    rows: list[list[Any]] = [["", _text("Isodoses: radius from the source", 7.5, bold=True)]]
    style: list[tuple[Any, ...]] = [
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(sheet.LINE_COLOUR)),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.6),
    ]
    for number, level in enumerate(palette.isodose_levels(plan), start=1):
        radius = "outside the table" if level.radius_mm is None else f"{level.radius_mm:.1f} mm"
        role = f" ({level.role})" if level.role else ""
        rows.append(["", _text(f"{radius}: {level.label}{role}", 8, bold="prescription" in level.role)])
        style.append(("BACKGROUND", (0, number), (0, number), HexColor(level.colour)))
    for name, value in tables.bands(plan):
        rows.append(["", _text(f"{name}: {value}", 7.5)])
    return _table(rows, [10.0, width - 10.0], style)


def _second_page_parts(plan: Plan, width: float) -> list[Any]:
    from reportlab.lib.colors import HexColor
    from reportlab.platypus import Spacer

    parts: list[Any] = []
    for title, rows in tables.sections(plan):
        parts.append(_text(title, 10, bold=True))
        parts.append(Spacer(1, 2))
        parts.append(
            _table(
                [[_text(name, 7.5), _text(value, 7.5)] for name, value in rows],
                [140.0, width - 140.0],
                [
                    ("LINEBELOW", (0, 0), (-1, -1), 0.3, HexColor(sheet.LINE_COLOUR)),
                    ("BACKGROUND", (0, 0), (0, -1), HexColor(_HEAD_COLOUR)),
                    ("TOPPADDING", (0, 0), (-1, -1), 0.8),
                    ("BOTTOMPADDING", (0, 0), (-1, -1), 1.4),
                ],
            )
        )
        parts.append(Spacer(1, 5))
    parts.append(_text("All checks", 10, bold=True))
    parts.append(Spacer(1, 2))
    parts.append(_check_table(list(plan.checks), width))
    return parts
