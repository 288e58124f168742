"""Spreadsheet dialects: read where they mean one thing, refused with the reason where they can mean two."""

from __future__ import annotations

import codecs

import pytest

from iort_planner.errors import DepthDoseTableError
from iort_planner.source.depth_dose import DepthDoseTable
from iort_planner.source.table_file import examine_bytes
from iort_planner.source.table_text import split_table
from tests.source.table_files import ROWS, text

PLAIN = text(ROWS, trusted_range_mm="5.5 8", origin="certificate 7; page 2")


def exported(separator: str, comma: bool, unit_row: bool = True, padding: bool = True) -> str:
    """The plain table as a spreadsheet writes it."""
    lines = []
    for line in PLAIN.splitlines():
        head = line.startswith("#")
        cells = [line] if head else line.split(",")
        if comma:
            numeric = not head or line.startswith("# trusted")
            cells = [cell.replace(".", ",") if numeric else cell for cell in cells]
        if any(separator in cell or '"' in cell for cell in cells):
            doubled = [cell.replace('"', '""') for cell in cells]
            cells = [f'"{cell}"' for cell in doubled]
        if padding:
            cells += [""] * (3 - len(cells))
        lines.append(separator.join(cells))
        if line.startswith("distance_mm") and unit_row:
            lines.append(separator.join(["mm", "Gy/min"]))
    return "\r\n".join(lines) + "\r\n"


def read(data: bytes | str) -> DepthDoseTable:
    found = examine_bytes("table.csv", data.encode("utf-8") if isinstance(data, str) else data)
    assert isinstance(found.table, DepthDoseTable), found.findings
    return found.table


def problems(data: bytes | str) -> list[tuple[str, int | None, str]]:
    found = examine_bytes("table.csv", data.encode("utf-8") if isinstance(data, str) else data)
    assert found.table is None
    return [(f.id, f.line, f.message) for f in found.findings if f.status == "fail"]


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["plain", "BOM"])
@pytest.mark.parametrize("padding", [True, False], ids=["padded", "bare"])
@pytest.mark.parametrize("unit_row", [True, False], ids=["units", "no-units"])
@pytest.mark.parametrize(("separator", "comma"), [(";", True), (";", False), ("\t", True), ("\t", False), (",", False)])
def test_exports_of_one_table_read_as_that_table(
    separator: str, comma: bool, unit_row: bool, padding: bool, mark: bytes
) -> None:
    plain, table = read(PLAIN), read(mark + exported(separator, comma, unit_row, padding).encode("utf-8"))

    assert table.distance_mm.tolist() == plain.distance_mm.tolist() == [3.0, 5.0, 8.0, 13.0]
    assert table.dose_rate_gy_per_min.tolist() == plain.dose_rate_gy_per_min.tolist() == [90.5, 24.0, 7.0, 1.9]
    assert table.trusted_range_mm == plain.trusted_range_mm == (5.5, 8.0)
    assert table.origin == plain.origin


def test_what_was_read_otherwise_than_it_stands_there_is_noted() -> None:
    note = read(codecs.BOM_UTF8 + exported(";", comma=True).encode("utf-8")).notes[0]

    for word in ("byte order mark", "semicolons", "decimal comma", "'mm, Gy/min'"):
        assert word in note
    assert read(PLAIN).notes == ()


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_machine(ending: str) -> None:
    assert read(PLAIN.replace("\n", ending)).distance_mm.size == 4


def test_quoted_decimal_commas_between_commas_are_read() -> None:
    assert read(text('distance_mm,dose_rate_gy_per_min\n"3,0","90,5"\n5,24\n')).dose_rate_gy_per_min[0] == 90.5


@pytest.mark.parametrize(
    ("rows", "identifier", "line", "reason"),
    [
        # 1,234 can be a thousand or one and a bit, and nothing else in the file tells
        ("distance_mm;dose_rate_gy_per_min\n3;1,234\n5;1,001\n", "decimal-mark", 14, "can be 1.234 or 1234"),
        ("distance_mm;dose_rate_gy_per_min\n3;9.320\n5;2.447\n", "decimal-mark", 14, "can be 9.320 or 9320"),
        (
            "distance_mm;dose_rate_gy_per_min\n3;90,5\n5;24.1\n",
            "decimal-mark",
            14,
            "a comma and '24.1' (line 15) a point",
        ),
        ("distance_mm;dose_rate_gy_per_min\n3;1.234,5\n5;24,1\n", "decimal-mark", 14, "separators of thousands"),
        ("distance_mm;dose_rate_gy_per_min\n3;1,234,567\n5;24,1\n", "decimal-mark", 14, "separators of thousands"),
        ("distance_mm,dose_rate_gy_per_min\n3,5,90,5\n5,24\n", "cells", 14, "decimal commas?"),
        ("distance_mm,dose_rate_gy_per_min\n3,1,234\n5,24\n", "cells", 14, "3 cells under 2 columns"),
        ("distance_mm;dose_rate_gy_per_min,x\n3;90\n5;24\n", "separator", 13, "semicolons and commas"),
        ("distance_mm;dose_rate_gy_per_min\ncm;Gy/min\n3;90\n5;24\n", "unit-row", 14, "'cm' under distance_mm"),
        ("distance_mm;dose_rate_gy_per_min\nmm;cGy/min\n3;90\n5;24\n", "unit-row", 14, "'cGy/min' under dose_rate"),
        ("distance_mm;dose_rate_gy_per_min\nmm;mGy/min\n3;90\n5;24\n", "unit-row", 14, "'mGy/min' under dose_rate"),
        ('distance_mm;dose_rate_gy_per_min\n3;"90\n5;24\n', "quotes", 14, "close each quote"),
        ("distance_mm;dose_rate_gy_per_min\n3;1\u00a0234,5\n5;24,5\n", "number", 14, "must be a number"),
        ("distance_mm;dose_rate_gy_per_min\n3;1'234\n5;24\n", "number", 14, "must be a number"),
        ("distance_mm,dose_rate_gy_per_min\n3,1_000\n5,24\n", "number", 14, "must be a number"),
        ("distance_mm,dose_rate_gy_per_min\n3,\u0669\n5,2\n", "number", 14, "must be a number"),
    ],
)
def test_what_can_mean_two_things_is_refused_with_the_reason(
    rows: str, identifier: str, line: int, reason: str
) -> None:
    found = problems(text(rows))

    assert any(f[:2] == (identifier, line) and reason in f[2] for f in found), found


def test_one_decimal_comma_that_is_no_thousand_tells_the_others() -> None:
    table = read(text("distance_mm;dose_rate_gy_per_min\n3;90,125\n5;24,47\n"))

    assert table.dose_rate_gy_per_min.tolist() == [90.125, 24.47]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (PLAIN.encode("utf-16"), "UTF-16"),
        (codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"), "UTF-16"),
        (PLAIN.encode("utf-16-le"), "zero bytes"),
        (PLAIN.encode("utf-32"), "UTF-32"),
        (PLAIN.replace("test", "gemäß").replace("certificate", "Prüfung").encode("latin-1"), "not a UTF-8 text file"),
        (b"PK\x03\x04\x14\x00\x06\x00", "zero bytes"),
        (b"", "found 0 rows"),
        (b"\xef\xbb\xbf", "found 0 rows"),
        (b"# name: x\n", "found 0 rows"),
        (b"distance_mm,dose_rate_gy_per_min\n;;\n", "found 1 rows"),
    ],
    ids=["utf-16", "utf-16-be", "utf-16 without a mark", "utf-32", "latin-1", "zip", "empty", "BOM", "head", "header"],
)
def test_what_is_no_utf8_table_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    if reason == "found 1 rows":
        assert ("rows", None) in [f[:2] for f in problems(data)]
        return
    with pytest.raises(DepthDoseTableError, match=reason):
        split_table("table.csv", data)


def test_a_key_given_twice_is_named() -> None:
    assert ("key-twice", 13, "'scale' is given twice") in problems(text("# scale: v4.0\n" + ROWS))


def test_a_row_of_units_in_brackets_is_one_too() -> None:
    assert read(text("distance_mm;dose_rate_gy_per_min\n[mm];[Gy/min]\n3;90\n5;24\n")).distance_mm.size == 2
