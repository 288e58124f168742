"""The report: page 1 for a glance before the beam goes on, page 2 for whoever checks every input."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from iort_planner.report import tables
from iort_planner.viewer import palette

if TYPE_CHECKING:
    from iort_planner.planning.plan import Plan

_MARGIN_PT = 42.0  # 15 mm
_FOOT_PT = 40.0
_REGULAR, _BOLD = "IortSans", "IortSans-Bold"
_LINE_COLOUR = "#C3CCD4"
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
    from reportlab.lib.pagesizes import A4
    from reportlab.platypus import PageBreak, SimpleDocTemplate

    _register_fonts()
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=_MARGIN_PT,
        rightMargin=_MARGIN_PT,
        topMargin=34.0,
        bottomMargin=_FOOT_PT + 12.0,
        title="iort-planner report",
        author="",
        subject=palette.INTENDED_USE_SHORT,
        creator=f"{plan.software.name} {plan.software.version}",
        invariant=1,
    )
    width = document.width - 12.0  # the frame's own padding
    story = [
        *_first_page(plan, slices_png, scene_png, width),
        PageBreak(),
        *_second_page(plan, width, document.height - 12.0),
    ]
    document.build(story, canvasmaker=_numbered_canvas(plan))
    return buffer.getvalue()


def _numbered_canvas(plan: Plan) -> Any:
    """Canvas class that writes the foot of every page at the end, when the number of pages is known."""
    from reportlab.pdfgen.canvas import Canvas

    class NumberedCanvas(Canvas):  # type: ignore[misc]  # reportlab has no types
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._pages: list[dict[str, Any]] = []

        def showPage(self) -> None:  # noqa: N802  (reportlab's name)
            self._pages.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            pages = self._pages
            for number, page in enumerate(pages, start=1):
                self.__dict__.update(page)
                _draw_foot(self, plan, number, len(pages))
                super().showPage()
            super().save()

    return NumberedCanvas


@functools.cache
def _register_fonts() -> None:
    """DejaVu Sans as shipped with matplotlib: umlauts and Greek letters are right everywhere."""
    import matplotlib as mpl
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    pdfmetrics.registerFont(TTFont(_REGULAR, str(folder / "DejaVuSans.ttf")))
    pdfmetrics.registerFont(TTFont(_BOLD, str(folder / "DejaVuSans-Bold.ttf")))
    pdfmetrics.registerFontFamily(_REGULAR, normal=_REGULAR, bold=_BOLD, italic=_REGULAR, boldItalic=_BOLD)


def _text(text: str, size: float = 8.5, *, bold: bool = False, colour: str = palette.INK) -> Any:
    """Paragraph that wraps, long words too; the text is taken literally."""
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Paragraph

    style = ParagraphStyle(
        "text",
        fontName=_BOLD if bold else _REGULAR,
        fontSize=size,
        leading=1.25 * size,
        textColor=colour,
        splitLongWords=1,
    )
    return Paragraph(escape(text), style)


def _table(rows: list[list[Any]], widths: list[float], style: list[tuple[Any, ...]]) -> Any:
    from reportlab.platypus import Table

    usual = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 4),
        ("RIGHTPADDING", (0, 0), (-1, -1), 4),
        ("TOPPADDING", (0, 0), (-1, -1), 1.6),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.2),
    ]
    return Table(rows, colWidths=widths, style=[*usual, *style], hAlign="LEFT", splitInRow=1)


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
            ("BOX", (0, 0), (-1, -1), 0.7, HexColor(_LINE_COLOUR)),
            ("INNERGRID", (0, 0), (-1, -1), 0.7, HexColor(_LINE_COLOUR)),
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


def _check_table(checks: list[Any], width: float) -> Any:
    from reportlab.lib.colors import HexColor

    rows: list[list[Any]] = []
    style: list[tuple[Any, ...]] = [("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(_LINE_COLOUR))]
    for number, check in enumerate(checks):
        rows.append([_text(check.status.upper(), 8, bold=True), _text(check.id, 8, bold=True), _text(check.message, 8)])
        style.append(("BACKGROUND", (0, number), (0, number), HexColor(palette.VERDICT_COLOUR[check.status])))
    return _table(rows, [36.0, 142.0, width - 178.0], style)


def _picture(png: bytes, width: float) -> Any:
    from reportlab.lib.utils import ImageReader
    from reportlab.platypus import Image

    across, down = ImageReader(io.BytesIO(png)).getSize()
    return Image(io.BytesIO(png), width=width, height=width * down / across)


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
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(_LINE_COLOUR)),
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


def _second_page(plan: Plan, width: float, height: float) -> list[Any]:
    """One page, whatever the length of origins and messages: set wider, it shrinks rather than runs on."""
    from reportlab.platypus import Flowable

    shrunk_by, too_high_by = 1.0, 2.0
    while too_high_by > 1.0:
        parts = _second_page_parts(plan, shrunk_by * width)
        too_high_by = sum(part.wrap(shrunk_by * width, height)[1] for part in parts) / (shrunk_by * height)
        # text set k times wider needs 1/k of the height at most: this comes near from below
        shrunk_by *= max(1.03, 0.95 * too_high_by**0.5) if too_high_by > 1.0 else 1.0

    class Page(Flowable):  # type: ignore[misc]  # reportlab has no types
        def wrap(self, width: float, height: float) -> tuple[float, float]:
            return width, height

        def draw(self) -> None:
            self.canv.translate(0, height)
            self.canv.scale(1.0 / shrunk_by, 1.0 / shrunk_by)
            top = 0.0
            for part in parts:
                top -= part.wrap(shrunk_by * width, height)[1]
                part.drawOn(self.canv, 0, top)

    return [Page()]


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
                    ("LINEBELOW", (0, 0), (-1, -1), 0.3, HexColor(_LINE_COLOUR)),
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


def _draw_foot(canvas: Any, plan: Plan, page: int, pages: int) -> None:
    from reportlab.lib.pagesizes import A4

    canvas.saveState()
    canvas.setStrokeColor(_LINE_COLOUR)
    canvas.line(_MARGIN_PT, _FOOT_PT, A4[0] - _MARGIN_PT, _FOOT_PT)
    canvas.setFillColor(palette.INK)
    canvas.setFont(_BOLD, 8)
    canvas.drawString(_MARGIN_PT, _FOOT_PT - 11, plan.intended_use)
    canvas.setFont(_REGULAR, 7.5)
    canvas.drawString(
        _MARGIN_PT, _FOOT_PT - 22, f"{plan.software.name} {plan.software.version}, plan of {plan.created}"
    )
    canvas.drawRightString(A4[0] - _MARGIN_PT, _FOOT_PT - 22, f"page {page} of {pages}")
    canvas.restoreState()
