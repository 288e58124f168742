"""Parts of a page that every PDF of this package shares: fonts, text, tables, pictures."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from iort_planner.viewer import palette

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MARGIN_PT = 42.0  # 15 mm
FOOT_PT = 40.0
REGULAR, BOLD = "IortSans", "IortSans-Bold"
LINE_COLOUR = "#C3CCD4"


@functools.cache
def register_fonts() -> None:
    """DejaVu Sans as shipped with matplotlib: umlauts and Greek letters are right everywhere."""
    import matplotlib as mpl
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    pdfmetrics.registerFont(TTFont(REGULAR, str(folder / "DejaVuSans.ttf")))
    pdfmetrics.registerFont(TTFont(BOLD, str(folder / "DejaVuSans-Bold.ttf")))
    pdfmetrics.registerFontFamily(REGULAR, normal=REGULAR, bold=BOLD, italic=REGULAR, boldItalic=BOLD)


def document(buffer: io.BytesIO, title: str, creator: str) -> Any:
    """A4 document with this package's margins into a buffer; the same content gives the same bytes."""
    from reportlab.lib.pagesizes import A4
    from reportlab.platypus import SimpleDocTemplate

    register_fonts()
    return SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=MARGIN_PT,
        rightMargin=MARGIN_PT,
        topMargin=34.0,
        bottomMargin=FOOT_PT + 12.0,
        title=title,
        author="",
        subject=palette.INTENDED_USE_SHORT,
        creator=creator,
        invariant=1,
    )


def paragraph(text: str, size: float = 8.5, *, bold: bool = False, colour: str = palette.INK) -> Any:
    """Paragraph that wraps, long words too; the text is taken literally."""
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Paragraph

    style = ParagraphStyle(
        "text",
        fontName=BOLD if bold else REGULAR,
        fontSize=size,
        leading=1.25 * size,
        textColor=colour,
        splitLongWords=1,
    )
    return Paragraph(escape(text), style)


def table(rows: list[list[Any]], widths: list[float], style: list[tuple[Any, ...]]) -> Any:
    """Table on the left with small paddings; ``style`` adds to them."""
    from reportlab.platypus import Table

    usual = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 4),
        ("RIGHTPADDING", (0, 0), (-1, -1), 4),
        ("TOPPADDING", (0, 0), (-1, -1), 1.6),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.2),
    ]
    return Table(rows, colWidths=widths, style=[*usual, *style], hAlign="LEFT", splitInRow=1)


def picture(png: bytes, width: float) -> Any:
    """A PNG, ``width`` points wide."""
    from reportlab.lib.utils import ImageReader
    from reportlab.platypus import Image

    across, down = ImageReader(io.BytesIO(png)).getSize()
    return Image(io.BytesIO(png), width=width, height=width * down / across)


def check_table(checks: Sequence[Any], width: float) -> Any:
    """Checks or findings: status on its colour, id, message."""
    from reportlab.lib.colors import HexColor

    rows: list[list[Any]] = []
    style: list[tuple[Any, ...]] = [("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(LINE_COLOUR))]
    for number, check in enumerate(checks):
        rows.append(
            [
                paragraph(check.status.upper(), 8, bold=True),
                paragraph(check.id, 8, bold=True),
                paragraph(check.message, 8),
            ]
        )
        style.append(("BACKGROUND", (0, number), (0, number), HexColor(palette.VERDICT_COLOUR[check.status])))
    return table(rows, [36.0, 142.0, width - 178.0], style)


def one_page(parts_at: Callable[[float], list[Any]], width: float, height: float) -> Any:
    """One flowable of one page, whatever the length of its texts: set wider, it shrinks rather than runs on.

    Parameters
    ----------
    parts_at : callable
        The page's parts for a width in points.
    """
    from reportlab.platypus import Flowable

    shrunk_by, too_high_by = 1.0, 2.0
    while too_high_by > 1.0:
        parts = parts_at(shrunk_by * width)
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

    return Page()


def numbered_canvas(intended_use: str, line: str) -> Any:
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
                _draw_foot(self, intended_use, line, f"page {number} of {len(pages)}")
                super().showPage()
            super().save()

    return NumberedCanvas


def _draw_foot(canvas: Any, intended_use: str, line: str, page: str) -> None:
    from reportlab.lib.pagesizes import A4

    canvas.saveState()
    canvas.setStrokeColor(LINE_COLOUR)
    canvas.line(MARGIN_PT, FOOT_PT, A4[0] - MARGIN_PT, FOOT_PT)
    canvas.setFillColor(palette.INK)
    canvas.setFont(BOLD, 8)
    canvas.drawString(MARGIN_PT, FOOT_PT - 11, intended_use)
    canvas.setFont(REGULAR, 7.5)
    canvas.drawString(MARGIN_PT, FOOT_PT - 22, line)
    canvas.drawRightString(A4[0] - MARGIN_PT, FOOT_PT - 22, page)
    canvas.restoreState()


def fixed_style() -> Any:
    """Matplotlib's own defaults, whatever the user's matplotlibrc says: same input, same bytes."""
    import matplotlib as mpl

    settings = {key: value for key, value in mpl.rcParamsDefault.items() if key not in ("backend", "backend_fallback")}
    return mpl.rc_context({**settings, "font.family": "DejaVu Sans", "axes.unicode_minus": True})
