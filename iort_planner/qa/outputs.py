"""``outputs.csv``: the history of the output of the day, as docs/file-formats.md describes it."""

from __future__ import annotations

import csv
import datetime as dt
import io
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from iort_planner.errors import InputError
from iort_planner.inputs import read_small
from iort_planner.source.findings import Finding
from iort_planner.units import FloatArray

NAME = "outputs.csv"
_REQUIRED, _OPTIONAL = ("date", "output_ratio"), ("temperature_c", "pressure_hpa")
# What can be at all, our own: a ratio beyond is another quantity (a percentage, a reading); rooms and weather beyond are
# other units (kPa, mmHg, F). 800 hPa is a town at 1900 m.
_LIMITS = {"output_ratio": (0.5, 1.5), "temperature_c": (10.0, 40.0), "pressure_hpa": (800.0, 1080.0)}
_AIR_LEVEL, _AIR_SPAN = 0.001, 0.01  # error probability, and how far the air must have changed, to speak of air density


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutputHistory:
    """Outputs of the day, oldest first.

    Parameters
    ----------
    file : str
    date : tuple of datetime.date, of length N
    line : ndarray of shape (N,), int
    output_ratio : ndarray of shape (N,)
        Measured over reference, air density corrected.
    air_factor : ndarray of shape (N,)
        (273.15 + T)/293.15 · 1013.25/p; NaN where temperature or pressure is not given.
    findings : tuple of Finding
        On rows that could not be used; those are left out.
    """

    file: str
    date: tuple[dt.date, ...]
    line: npt.NDArray[np.int64]
    output_ratio: FloatArray
    air_factor: FloatArray
    findings: tuple[Finding, ...]


def read_outputs(path: Path) -> OutputHistory:
    """Read ``outputs.csv``; a row that cannot be used is a failing finding with its line.

    Raises
    ------
    InputError
        If the file cannot be read as such a table at all.
    """
    try:
        text = read_small(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} cannot be read as UTF-8 text ({error}); see docs/file-formats.md") from error
    rows = [
        (number, [cell.strip() for cell in next(csv.reader([line]))])
        for number, line in enumerate(io.StringIO(text), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    header = rows[0][1] if rows else []
    if (
        header[:2] != list(_REQUIRED)
        or any(name not in _OPTIONAL for name in header[2:])
        or len(set(header)) < len(header)
    ):
        raise InputError(
            f"{path.name}: the header is {','.join(header)!r}, must be 'date,output_ratio[,temperature_c,pressure_hpa]'; "
            "see docs/file-formats.md"
        )
    good: list[tuple[dt.date, int, float, float]] = []
    findings = []
    for line, cells in rows[1:]:
        try:
            good.append(_row(line, header, cells))
        except ValueError as error:
            findings.append(Finding("outputs-row", "fail", line, f"{path.name}: {error}; the row is left out"))
    good.sort(key=lambda row: row[:2])
    for before, after in itertools.pairwise(good):
        if before[0] == after[0] and before[2] == after[2]:
            text = f"{path.name}: {after[0]} with {after[2]:g} repeats line {before[1]}: remove one of them"
            findings.append(Finding("repeated-row", "warn", after[1], text))
    return OutputHistory(
        file=path.name,
        date=tuple(row[0] for row in good),
        line=np.array([row[1] for row in good], dtype=np.int64),
        output_ratio=np.array([row[2] for row in good]),
        air_factor=np.array([row[3] for row in good]),
        findings=tuple(findings),
    )


def _row(line: int, header: list[str], cells: list[str]) -> tuple[dt.date, int, float, float]:
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} cells under {len(header)} columns")
    cell = dict(zip(header, cells, strict=True))
    try:
        date = dt.date.fromisoformat(cell["date"])
    except ValueError:
        raise ValueError(f"date is {cell['date']!r}, must be like 2026-10-01") from None
    if date > dt.datetime.now(tz=dt.UTC).date() + dt.timedelta(days=1):
        raise ValueError(f"{date} lies in the future")
    values = {}
    for name in header[1:]:
        if not cell[name] and name in _OPTIONAL:
            continue
        try:
            values[name] = float(cell[name])
        except ValueError:
            raise ValueError(f"{name} is {cell[name]!r}, must be a number with a decimal point") from None
        low, high = _LIMITS[name]
        if not low <= values[name] <= high:  # NaN is refused too
            raise ValueError(f"{name} is {cell[name]}, must lie from {low:g} to {high:g}: check its unit")
    air = math.nan
    if "temperature_c" in values and "pressure_hpa" in values:
        air = (273.15 + values["temperature_c"]) / 293.15 * 1013.25 / values["pressure_hpa"]
    return date, line, values["output_ratio"], air


def air_density(history: OutputHistory) -> list[Finding]:
    """Whether the outputs follow the air density: its correction was then forgotten, or made twice."""
    known = np.isfinite(history.air_factor)
    if known.sum() < 8 or np.ptp(history.air_factor[known]) < _AIR_SPAN:
        return []
    line = stats.linregress(np.log(history.air_factor[known]), np.log(history.output_ratio[known]))
    if line.pvalue > _AIR_LEVEL or abs(line.slope) < 0.5:
        text = f"outputs do not follow the air density (exponent {line.slope:+.2f} +- {line.stderr:.2f})"
        return [Finding("air-density", "pass", None, text)]
    why = "not corrected for it" if line.slope < 0 else "corrected for it twice"
    text = (
        f"outputs follow the air density (exponent {line.slope:+.2f} +- {line.stderr:.2f} of the correction factor): they "
        f"look {why}; give ratios that are corrected once"
    )
    return [Finding("air-density", "fail", None, text)]
