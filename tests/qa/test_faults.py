"""Forty faults planted in sound tables: each is found and named, by `qa check` or by `qa compare`.

The tables are seeded: honest noise of 0.2 % stands on each, so that a fault is found among what a measurement has.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from iort_planner.qa import check_table, compare_tables
from iort_planner.qa.mixups import mixups
from iort_planner.source.findings import Finding
from tests.qa.tables import GRID, Table, noise, power, three_exponentials

TODAY = dt.date(2026, 11, 26)
# id of the finding, words of its message, row (from 0) whose line it names, or a head key, or None
Named = tuple[str, str, int | str | None]


def measured(seed: int) -> Table:
    return Table(rate=three_exponentials(GRID) * noise(seed, 0.2, GRID.size))


def swap(table: Table) -> None:
    table.r, table.rate = table.rate, table.r


def reverse(table: Table) -> None:
    table.r, table.rate = table.r[::-1], table.rate[::-1]


def outlier(row: int, percent: float) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        table.rate[row] *= 1.0 + percent / 100.0

    return change


def times(factor: float) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        table.rate = table.rate * factor

    return change


def head(**changes: str) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        table.head |= changes

    return change


def without(key: str) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        del table.head[key]

    return change


def distances(
    function: Callable[[np.ndarray[tuple[int, ...], np.dtype[np.float64]]], object],
) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        table.r = np.asarray(function(table.r))

    return change


def cell(row: int, value: float) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        table.rate[row] = value

    return change


def repeat(row: int) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        table.r, table.rate = (np.insert(column, row, column[row]) for column in (table.r, table.rate))

    return change


def form(text: str) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        table.form = text

    return change


def header(text: str) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        table.header = text

    return change


def transposed(table: Table) -> None:
    table.rate[[11, 12]] = table.rate[[12, 11]]


def edit(old: str, new: str) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        table.edits.append((old, new))

    return change


def uncertainty(row: int, value: float) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        table.uncertainty = np.full(table.r.size, 5.0)
        table.uncertainty[row] = value

    return change


def truncated(table: Table) -> None:
    table.r, table.rate = table.r[:10], table.rate[:10]


def gap(table: Table) -> None:
    kept = (table.r < 9.0) | (table.r > 17.0)
    table.r, table.rate = table.r[kept], table.rate[kept]


CHECKED: dict[str, tuple[Callable[[Table], None], Named]] = {
    "rates in cGy/min": (times(100.0), ("units", "cGy/min", None)),
    "rates in mGy/min": (times(1000.0), ("units", "mGy/min", None)),
    "rates in Gy/s": (times(1.0 / 60.0), ("units", "Gy/s", None)),
    "distances in cm": (distances(lambda r: r / 10.0), ("units", "look like cm", 0)),
    "a negative rate": (cell(7, -5.0), ("positive", "-5", 7)),
    "a negative distance": (distances(lambda r: np.where(r == 3.0, -3.0, r)), ("positive", "-3", 0)),
    "a zero rate": (cell(27, 0.0), ("positive", "0", 27)),
    "rows from far to near": (reverse, ("order", "far to near", 1)),
    "two rates exchanged": (transposed, ("outlier", "lies .* % (above|below)", 11)),
    "columns swapped": (swap, ("order", "look swapped", 1)),
    "an outlier of +3 %": (outlier(12, 3.0), ("outlier", r"at 15 mm .* above", 12)),
    "an outlier of -3 %": (outlier(20, -3.0), ("outlier", r"at 23 mm .* below", 20)),
    "an outlier of 3 % near the source": (outlier(2, 3.0), ("outlier", r"at 5 mm .* above", 2)),
    "an outlier of 3 % far out": (outlier(25, -3.0), ("outlier", r"at 28 mm .* below", 25)),
    "a lost decimal point": (outlier(6, 900.0), ("outlier", r"at 9 mm .* above", 6)),
    "a repeated row": (repeat(9), ("repeated", "12 mm does not increase", 10)),
    "a column rounded to two digits": (form("{:.2g}"), ("rounding", "rounded", None)),
    "a column rounded to one decimal": (form("{:.1f}"), ("rounding", "rounded", None)),
    "not a number in a row": (cell(4, np.nan), ("number", "nan", 4)),
    "infinity in a row": (cell(4, np.inf), ("number", "inf", 4)),
    "an old date": (head(measured="2023-05-02"), ("age", "measured 2023-05-02", None)),
    "a date 18 months old": (head(measured="2025-05-02"), ("age", "measured 2025-05-02", None)),
    "a date in the future": (head(measured="2031-01-01"), ("measured", "future", "measured")),
    "no scale": (without("scale"), ("scale", "lacks", None)),
    "an unknown scale": (head(scale="v4"), ("scale", "v4", "scale")),
    "another medium": (head(medium="air"), ("medium", "air", "medium")),
    "a voltage in words": (head(tube_voltage_kv="fifty"), ("tube_voltage_kv", "fifty", "tube_voltage_kv")),
    "another column": (header("distance_cm,dose_rate_gy_per_min"), ("header", "distance_cm", -1)),
    "no uncertainty": (without("uncertainty"), ("uncertainty", "lacks", None)),
    "a fraction as uncertainty": (uncertainty(5, 0.05), ("uncertainty", "fraction", 5)),
    "a row without its uncertainty": (uncertainty(5, np.nan), ("number", "nan", 5)),
    "distances from the tip": (distances(lambda r: r - 3.0 + 1e-3), ("slope", "surface or tip", None)),
    "distances from behind the source": (distances(lambda r: r + 3.5), ("slope", "too long", None)),
    "rows only near the source": (truncated, ("range", "from 3 to 12 mm", None)),
    "decimal commas between commas": (edit("\n4,", "\n4,0,"), ("cells", "decimal commas", 1)),
    "a misspelt key": (edit("# clinical:", "# clincal:"), ("unknown-key", "is 'clinical' meant", "clinical")),
    "a date in another order": (head(measured="01.10.2026"), ("measured", "must be a date like", "measured")),
    "an uncertainty without its k": (head(uncertainty="5 %"), ("uncertainty", "must be like", "uncertainty")),
    "a gap in the rows": (gap, ("range", "no row between 8 and 18 mm", 6)),
}

RATIO = dict(mixups())
COMPARED: dict[str, tuple[Callable[[Table], None], Named]] = {
    "origin 0.3 mm too near": (
        lambda t: setattr(t, "rate", shifted(0.3)),
        ("origin-slip", r"slip of 0\.(29|30|31) mm.*too short", None),
    ),
    "origin 0.3 mm too far": (
        lambda t: setattr(t, "rate", shifted(-0.3)),
        ("origin-slip", r"slip of 0\.(29|30|31) mm.*too long", None),
    ),
    "all rates 6 % high": (times(1.06), ("scale-factor", r"factor of 1\.06", None)),
    "V4.0 numbers under a TARGIT head": (
        lambda t: mixed(t, "v4.0 for targit"),
        ("calibration-scale", "looks like v4.0, the reference like targit", None),
    ),
    "TARGIT numbers under a V4.0 head": (
        lambda t: mixed(t, "targit for v4.0"),
        ("calibration-scale", "looks like targit, the reference like v4.0", None),
    ),
    "CQ numbers under a V4.0 head": (
        lambda t: mixed(t, "cq for v4.0"),
        ("calibration-scale", "looks like cq, the reference like v4.0", None),
    ),
    "another scale": (head(scale="targit"), ("scale", "scale differs: measured 'targit', reference 'v4.0'", None)),
    "another tube voltage": (head(tube_voltage_kv="40"), ("tube_voltage_kv", "'40'", None)),
    "one row 3 % off the reference": (outlier(0, 3.0), ("outlier", r"at 3 mm .* above", 0)),
    "another shape": (lambda t: setattr(t, "rate", power(GRID, 3.0)), ("difference", "largest local difference", None)),
}


def shifted(slip: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return three_exponentials(GRID + slip) * noise(31, 0.2, GRID.size)


def mixed(table: Table, name: str) -> None:
    table.rate = table.rate * RATIO[name](GRID)


def line_of(table: Table, where: int | str | None) -> int | None:
    if isinstance(where, str):
        return list(table.head).index(where) + 1
    return None if where is None else table.first_row + where


def named(findings: tuple[Finding, ...], table: Table, wanted: Named) -> bool:
    identifier, words, where = wanted
    line = line_of(table, where)
    return any(
        each.id == identifier
        and each.status != "pass"
        and re.search(words, each.message) is not None
        and (line is None or each.line == line)
        for each in findings
    )


@pytest.mark.parametrize("fault", CHECKED)
def test_qa_check_names_the_fault(fault: str, tmp_path: Path) -> None:
    change, wanted = CHECKED[fault]
    table = measured(list(CHECKED).index(fault))
    change(table)
    result = check_table(table.write(tmp_path / "faulty.csv"), today=TODAY)

    assert result.verdict in ("warn", "fail")
    assert named(result.findings, table, wanted), [(f.id, f.line, f.message) for f in result.findings]


@pytest.mark.parametrize("fault", COMPARED)
def test_qa_compare_names_the_fault(fault: str, tmp_path: Path) -> None:
    change, wanted = COMPARED[fault]
    reference = Table(rate=three_exponentials(GRID))
    table = measured(100 + list(COMPARED).index(fault))
    change(table)
    result = compare_tables(table.write(tmp_path / "measured.csv"), reference.write(tmp_path / "reference.csv"))

    assert result.verdict == "fail"
    assert named(result.findings, table, wanted), [(f.id, f.line, f.message) for f in result.findings]


def test_there_are_at_least_40_faults() -> None:
    assert len(CHECKED) + len(COMPARED) >= 40
