"""Reading a depth-dose table: the one place where its CSV form is known (docs/file-formats.md)."""

from __future__ import annotations

import csv
import datetime as dt
import difflib
import hashlib
import io
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from iort_planner import library
from iort_planner.errors import DepthDoseTableError
from iort_planner.inputs import require_regular
from iort_planner.source.depth_dose import DepthDoseTable, ReferencePoint, Scale

if TYPE_CHECKING:
    from pathlib import Path

_REQUIRED = (
    "name",
    "kind",
    "medium",
    "reference_point",
    "scale",
    "tube_voltage_kv",
    "tube_current_ua",
    "applicator",
    "measured",
    "uncertainty",
    "clinical",
    "origin",
)
_OPTIONAL = ("derived", "trusted_range_mm")
_COLUMNS = ["distance_mm", "dose_rate_gy_per_min"]
_UNCERTAINTY = re.compile(r"([0-9.]+)\s*%\s*\(k\s*=\s*([0-9.]+)\)")
_HELP = "see docs/file-formats.md"
_LARGEST_FILE = 10_000_000  # bytes; a table has some hundred rows


@dataclass(frozen=True, slots=True)
class _Lines:
    """A table file taken apart: head keys with their line, the header row, the data rows with their lines."""

    file: str
    head: dict[str, tuple[int, str]]
    header: tuple[int, list[str]]
    rows: list[tuple[int, list[str]]]

    def stop(self, line: int, problem: str) -> NoReturn:
        raise DepthDoseTableError(f"table {self.file}, line {line}: {problem}; {_HELP}")

    def key(self, name: str) -> str:
        if name not in self.head:
            raise DepthDoseTableError(f"table {self.file}: the head lacks '# {name}: ...'; {_HELP}")
        if not self.head[name][1]:
            self.stop(self.head[name][0], f"{name} is empty")
        return self.head[name][1]

    def one_of(self, name: str, allowed: list[str]) -> str:
        value = self.key(name)
        if value not in allowed:
            self.stop(self.head[name][0], f"{name} is {value!r}, must be one of {', '.join(allowed)}")
        return value

    def positive(self, name: str) -> float:
        value = _number(self, self.head[name][0] if name in self.head else 0, name, self.key(name))
        if value <= 0:
            self.stop(self.head[name][0], f"{name} is {value:g}, must be above 0")
        return value


def read_table(name_or_path: str | Path = library.DEFAULT_TABLE) -> DepthDoseTable:
    """Read a depth-dose table by its library name or from a CSV file.

    Raises
    ------
    DepthDoseTableError
        If the file is missing, lacks a key or a column, names another unit, or holds a row that is not
        increasing in distance and falling in dose rate; the message names the line.
    """
    path = library.find("tables", name_or_path)
    try:
        size = require_regular(path)
        data = path.read_bytes() if size <= _LARGEST_FILE else b""
    except OSError as error:
        raise DepthDoseTableError(
            f"table {str(name_or_path)!r} cannot be read ({error.strerror}); give a CSV file or one of: "
            f"{', '.join(library.names('tables'))}"
        ) from error
    if size > _LARGEST_FILE:
        raise DepthDoseTableError(
            f"table {path.name}: {size} bytes are more than {_LARGEST_FILE}: no depth-dose table; {_HELP}"
        )
    lines = _take_apart(path.name, data)
    lines.one_of("kind", ["depth-dose"])
    lines.one_of("medium", ["water"])
    for name in _REQUIRED:
        lines.key(name)
    if lines.one_of("reference_point", [p.value for p in ReferencePoint]) != ReferencePoint.SOURCE_CENTRE:
        lines.stop(
            lines.head["reference_point"][0],
            f"distances from the {lines.key('reference_point')} are not supported; give them from the source-centre",
        )
    scale = Scale(lines.one_of("scale", [s.value for s in Scale]))
    try:
        measured = dt.date.fromisoformat(lines.key("measured"))
    except ValueError:
        lines.stop(lines.head["measured"][0], f"measured is {lines.key('measured')!r}, must be a date like 2026-10-01")
    if measured > dt.datetime.now(tz=dt.UTC).date() + dt.timedelta(days=1):
        lines.stop(lines.head["measured"][0], f"measured is {measured}, a date in the future")
    distances, rates, uncertainties = _columns(lines)
    trusted = (distances[0], distances[-1])
    if "trusted_range_mm" in lines.head:
        line, text = lines.head["trusted_range_mm"]
        parts = [_number(lines, line, "trusted_range_mm", part) for part in text.split()]
        if len(parts) != 2 or not distances[0] <= parts[0] < parts[1] <= distances[-1]:
            lines.stop(line, f"trusted_range_mm is {text!r}, must be two distances inside the rows, like 5 30")
        trusted = (parts[0], parts[1])
    return DepthDoseTable(
        name=lines.key("name"),
        distance_mm=np.array(distances),
        dose_rate_gy_per_min=np.array(rates),
        uncertainty_percent=np.array(uncertainties),
        scale=scale,
        clinical=lines.one_of("clinical", ["yes", "no"]) == "yes",
        origin=lines.key("origin"),
        trusted_range_mm=trusted,
        applicator=lines.key("applicator"),
        tube_voltage_kv=lines.positive("tube_voltage_kv"),
        tube_current_ua=lines.positive("tube_current_ua"),
        measured=lines.key("measured"),
        derived="derived" in lines.head and lines.one_of("derived", ["yes", "no"]) == "yes",
        file=path.name,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _take_apart(file: str, data: bytes) -> _Lines:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DepthDoseTableError(
            f"table {file}: not a UTF-8 text file ({error.reason}); see docs/file-formats.md"
        ) from error
    head: dict[str, tuple[int, str]] = {}
    body: list[tuple[int, list[str]]] = []
    for number, line in enumerate(io.StringIO(text), start=1):
        stripped = line.strip()
        if stripped.startswith("#"):
            key, colon, value = stripped[1:].partition(":")
            key = key.strip()
            if not colon:
                continue
            if key in head:
                raise DepthDoseTableError(
                    f"table {file}, line {number}: {key!r} is given twice; see docs/file-formats.md"
                )
            near = difflib.get_close_matches(key, _REQUIRED + _OPTIONAL, n=1, cutoff=0.85)
            if key not in _REQUIRED + _OPTIONAL and near:  # a typing error must not pass for a free remark
                raise DepthDoseTableError(
                    f"table {file}, line {number}: unknown key {key!r}, is {near[0]!r} meant?; see docs/file-formats.md"
                )
            head[key] = (number, value.strip())
        elif stripped:
            body.append((number, [cell.strip() for cell in next(csv.reader([stripped]))]))
    if len(body) < 3:
        raise DepthDoseTableError(
            f"table {file}: found {max(len(body) - 1, 0)} rows, needs a header row and at least 2 rows of numbers; "
            f"{_HELP}"
        )
    return _Lines(file, head, body[0], body[1:])


def _columns(lines: _Lines) -> tuple[list[float], list[float], list[float]]:
    line, header = lines.header
    if header not in (_COLUMNS, [*_COLUMNS, "uncertainty_percent"]):
        expected = "distance_mm,dose_rate_gy_per_min[,uncertainty_percent]"
        lines.stop(line, f"columns are {','.join(header)!r}, must be {expected!r} (the unit is part of the name)")
    match = _UNCERTAINTY.fullmatch(lines.key("uncertainty"))
    if match is None or float(match[2]) <= 0:
        lines.stop(
            lines.head["uncertainty"][0], f"uncertainty is {lines.key('uncertainty')!r}, must be like '20 % (k=1)'"
        )
    coverage = float(match[2])
    table: list[tuple[float, float, float]] = []
    for line, cells in lines.rows:
        if len(cells) != len(header):
            lines.stop(line, f"{len(cells)} cells under {len(header)} columns")
        numbers = [_number(lines, line, name, cell) for name, cell in zip(header, cells, strict=True)]
        distance, rate = numbers[:2]
        uncertainty = numbers[2] if len(numbers) == 3 else float(match[1])
        if distance <= 0 or rate <= 0:
            lines.stop(line, f"{','.join(cells)!r}: distance and dose rate must be above 0")
        if not 0 < uncertainty <= 100:
            lines.stop(line, f"uncertainty of {uncertainty:g} % must lie above 0 and up to 100 %")
        if table and distance <= table[-1][0]:
            lines.stop(line, f"distance {distance:g} mm does not increase (the row before has {table[-1][0]:g} mm)")
        if table and rate >= table[-1][1]:
            lines.stop(line, f"dose rate {rate:g} Gy/min does not fall (the row before has {table[-1][1]:g} Gy/min)")
        table.append((distance, rate, uncertainty / coverage))
    distances, rates, uncertainties = (list(column) for column in zip(*table, strict=True))
    return distances, rates, uncertainties


def _number(lines: _Lines, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        lines.stop(line, f"{name} is {text!r}, must be a number with a decimal point")
    if not math.isfinite(value):
        lines.stop(line, f"{name} is {text!r}, must be finite")
    return value
