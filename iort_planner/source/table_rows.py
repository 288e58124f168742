"""The rows of a table file: numbers under their columns, in order. Every fault is a finding with its line."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.errors import DepthDoseTableError
from iort_planner.source.findings import Finding
from iort_planner.source.number_form import number
from iort_planner.source.polar import PolarAnisotropy
from iort_planner.units import FloatArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iort_planner.source.table_text import TableText

DISTANCE, RATE, TRANSFER, UNCERTAINTY = (
    "distance_mm",
    "dose_rate_gy_per_min",
    "transfer_function",
    "uncertainty_percent",
)
FACTOR = "factor"  # of a conversion between calibration scales
_WORDS = {RATE: ("dose rate", " Gy/min"), TRANSFER: ("transfer function", ""), FACTOR: ("factor", "")}
_POLAR = re.compile(r"r([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)mm")
_Row = tuple[int, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRows:
    """Columns by name, as far as they can be read, with the line of each row in ``row_lines``; NaN for a bad cell."""

    columns: dict[str, FloatArray]
    anisotropy: PolarAnisotropy | None
    findings: list[Finding]


def read_rows(text: TableText, value: str) -> TableRows:
    """Read the rows under ``distance_mm,<value>[,uncertainty_percent]`` and a section of polar anisotropy after them."""
    line, header = text.header
    findings = _header_findings(line, header, value)
    section = next((n for n, (_, cells) in enumerate(text.rows) if cells[0] == "theta_deg"), len(text.rows))
    rows = text.rows[:section]
    table = [_numbers(row, header, text, findings) for row in rows]
    columns = {name: np.array([row[n] for row in table]) for n, name in enumerate(header)}
    columns["row_lines"] = np.array([n for n, _ in rows], dtype=np.float64)
    if len(rows) < 2:
        findings.append(Finding("rows", "fail", None, f"found {len(rows)} rows, needs at least 2 rows of numbers"))
    if DISTANCE in columns and value in columns:
        findings += _course(rows, columns[DISTANCE], columns[value], value)
    for (row_line, _), percent in zip(rows, columns.get(UNCERTAINTY, ()), strict=False):
        if not (math.isnan(percent) or 0.0 < percent <= 100.0):
            problem = f"uncertainty of {percent:g} % must lie above 0 and up to 100 %"
            findings.append(Finding("uncertainty", "fail", row_line, problem))
    anisotropy = None
    if section < len(text.rows):
        anisotropy = _anisotropy(text, section, findings)
    return TableRows(columns=columns, anisotropy=anisotropy, findings=findings)


def _header_findings(line: int, header: list[str], value: str) -> list[Finding]:
    if header in ([DISTANCE, value], [DISTANCE, value, UNCERTAINTY]):
        return []
    problem = f"columns are {','.join(header)!r}, must be '{DISTANCE},{value}[,{UNCERTAINTY}]'"
    if set(header) in ({DISTANCE, value}, {DISTANCE, value, UNCERTAINTY}):
        return [Finding("header", "fail", line, f"{problem} in this order: they look swapped")]
    near = {name: _stem(name) for name in (DISTANCE, value, UNCERTAINTY)}
    other_unit = [name for name in header if name not in near and _stem(name) in near.values()]
    hint = f": {other_unit[0]} names another unit" if other_unit else ""
    return [Finding("header", "fail", line, f"{problem} (the unit is part of the name){hint}")]


def _stem(name: str) -> str:
    """A column's name without its unit."""
    return re.sub(r"_(?:[a-z]*m|[a-z]?gy(?:_per_[a-z]+)?|percent)$", "", name)


def _numbers(row: _Row, header: Sequence[str], text: TableText, findings: list[Finding]) -> list[float]:
    """One number a column; NaN with a finding where there is none."""
    line, cells = row
    if len(cells) != len(header):
        hint = ""
        if len(cells) > len(header):
            hint = " (decimal commas? then separate cells by semicolons, or write decimal points)"
        findings.append(Finding("cells", "fail", line, f"{len(cells)} cells under {len(header)} columns{hint}"))
        return [math.nan] * len(header)
    told = any(finding.id == "decimal-mark" for finding in text.findings)  # once for the file is enough
    numbers = []
    for name, cell in zip(header, cells, strict=True):
        parsed = number(cell)
        if parsed is None and not (told and "," in cell):
            problem = f"{name} is {cell!r}, must be a number with a decimal point"
            findings.append(Finding("number", "fail", line, problem))
        elif parsed is not None and not math.isfinite(parsed):
            findings.append(Finding("number", "fail", line, f"{name} is {cell!r}, must be finite"))
        numbers.append(parsed if parsed is not None and math.isfinite(parsed) else math.nan)
    return numbers


def _course(rows: list[_Row], distance: FloatArray, value: FloatArray, name: str) -> list[Finding]:
    """Signs and order; each row is compared with the readable row before it."""
    what, unit = _WORDS[name]
    findings, good = [], []
    for (line, cells), r, v in zip(rows, distance.tolist(), value.tolist(), strict=True):
        if r <= 0 or v <= 0:
            findings.append(
                Finding("positive", "fail", line, f"{','.join(cells)!r}: distance and {what} must be above 0")
            )
        elif math.isfinite(r) and math.isfinite(v):
            good.append((line, r, v))
    if len(good) > 2 and all(far[1] < near[1] for near, far in pairwise(good)):
        return [*findings, _backwards(good, what)]
    for (_, r_before, v_before), (line, r, v) in pairwise(good):
        if r <= r_before:
            identifier = "repeated" if r == r_before else "order"
            problem = f"distance {r:g} mm does not increase (the row before has {r_before:g} mm)"
            findings.append(Finding(identifier, "fail", line, problem))
        elif name == RATE and v >= v_before:
            problem = f"{what} {v:g}{unit} does not fall (the row before has {v_before:g}{unit})"
            findings.append(Finding("falling", "fail", line, problem))
    return findings


def _backwards(good: list[tuple[int, float, float]], what: str) -> Finding:
    """Rows from far to near, or the two columns in each other's place: dose spans more than distance does."""
    (line, r, _), (_, r_first, _) = good[1], good[0]
    values = [v for _, _, v in good]
    spans = r_first / good[-1][1] > max(values) / min(values)
    likely = (
        f"the columns look swapped ({what} before distance)"
        if spans and what == _WORDS[RATE][0] and all(b > a for a, b in pairwise(values))
        else "the rows run from far to near: sort them"
    )
    problem = f"distance {r:g} mm does not increase (the row before has {r_first:g} mm), nor does any other: {likely}"
    return Finding("order", "fail", line, problem)


def _anisotropy(text: TableText, section: int, findings: list[Finding]) -> PolarAnisotropy | None:
    """The section ``theta_deg,r5mm,r10mm,...`` after the rows."""
    line, names = text.rows[section]
    names = [name for name in names if name]
    matches = [_POLAR.fullmatch(name) for name in names[1:]]
    if not matches or not all(matches):
        problem = f"the header of the anisotropy is {','.join(names)!r}, must be like 'theta_deg,r5mm,r10mm'"
        findings.append(Finding("anisotropy", "fail", line, problem))
        return None
    before = len(findings)
    rows = [
        _numbers((n, cells[: max(len(names), len([c for c in cells if c]))]), names, text, findings)
        for n, cells in text.rows[section + 1 :]
    ]
    if len(findings) > before:
        return None
    try:
        return PolarAnisotropy(
            theta_deg=np.array([row[0] for row in rows]),
            distance_mm=np.array([float(match[1]) for match in matches if match]),
            factor=np.array([row[1:] for row in rows]),
        )
    except DepthDoseTableError as error:
        findings.append(Finding("anisotropy", "fail", line, str(error)))
        return None
