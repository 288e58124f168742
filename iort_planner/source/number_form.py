"""Which mark stands before the decimals in a file: point or comma, or a reason why that cannot be told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_END = r"(?:[eE][+-]?[0-9]+)?"
_NUMBER = re.compile(rf"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+){_END}")
_WITH_POINT = re.compile(rf"[+-]?[0-9]*\.[0-9]*{_END}")
_WITH_COMMA = re.compile(rf"[+-]?[0-9]*,[0-9]*{_END}")
_GROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:[.,][0-9]{3})+")  # can be read as thousands: 1,234 or 12.345
_WITH_BOTH = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+){2,}")  # 1.234,5 or 1,234,567


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberForm:
    """How numbers are written: ``comma`` before the decimals, else a point; ``problem`` (with its line) if not told."""

    comma: bool = False
    problem: str = ""
    line: int | None = None


def decide(numbers: Sequence[tuple[int, str]], separator: str) -> NumberForm:
    """Find the decimal mark of a file from its numbers ``(line, text)``; other text among them is passed over.

    One mark holds for the whole file. A comma counts as decimal only where some number cannot be one with
    thousands; so does a point between semicolons, which spreadsheets write where the comma is the decimal mark.
    """
    remedy = "write numbers with a decimal point and no thousands separator"
    both = next(((line, text) for line, text in numbers if _WITH_BOTH.fullmatch(text)), None)
    if both:
        return NumberForm(problem=f"{both[1]!r} has separators of thousands; {remedy}", line=both[0])
    commas = [(line, text) for line, text in numbers if _WITH_COMMA.fullmatch(text) and text != ","]
    points = [(line, text) for line, text in numbers if _WITH_POINT.fullmatch(text) and text != "."]
    if commas and points:
        (line, first), (other, second) = commas[0], points[0]
        return NumberForm(problem=f"{first!r} has a comma and {second!r} (line {other}) a point; {remedy}", line=line)
    marked = commas or (points if separator == ";" else [])
    if marked and all(_GROUPED.fullmatch(text) for _, text in marked):
        line, text = marked[0]
        plain = re.sub("[.,]", "", text)
        return NumberForm(
            problem=f"{text!r} can be {text.replace(',', '.')} or {plain}, and no other number in the file tells which; "
            f"{remedy}, cells separated by commas",
            line=line,
        )
    return NumberForm(comma=bool(commas))


def with_point(text: str, form: NumberForm) -> str:
    """The number with a decimal point; other text, and all text of a file whose mark is not known, as it is."""
    return text.replace(",", ".") if form.comma and _WITH_COMMA.fullmatch(text) else text


def number(text: str) -> float | None:
    """Value of a plain decimal number (``nan`` and ``inf`` too, for the reader to refuse), None for other text.

    Stricter than `float`, which also takes 1_000 and the digits of other scripts.
    """
    if _NUMBER.fullmatch(text) or text.lstrip("+-").casefold() in ("nan", "inf", "infinity"):
        return float(text)
    return None
