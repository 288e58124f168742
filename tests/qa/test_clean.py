"""Forty and more sound variants of a table: no finding fails, and only what is declared warns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from iort_planner.qa import check_table, compare_tables
from iort_planner.units import FloatArray
from tests.qa.tables import GRID, Table, attenuated, noise, power, three_exponentials

TODAY = dt.date(2026, 11, 26)
DECLARED = {"not-clinical", "scale"}  # what the head itself says: not clinical, scale 'other'

SHAPES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "r^-2": lambda r: power(r, 2.0),
    "r^-2.3": lambda r: power(r, 2.3),
    "r^-2.65": power,
    "r^-3": lambda r: power(r, 3.0),
    "exp(-r/50)/r^2": attenuated(50.0),
    "exp(-r/25)/r^2": attenuated(25.0),
    "three exponentials": three_exponentials,
    "half the level": lambda r: 0.5 * three_exponentials(r),
    "twice the level": lambda r: 2.0 * three_exponentials(r),
}
GRIDS: dict[str, FloatArray] = {
    "1 mm": GRID,
    "0.5 mm": np.arange(4.0, 40.1, 0.5),
    "as shipped": np.array(
        [3, 3.5, 4, 4.5, *range(5, 17), 18, 20, 22.5, 25, 27.5, 30, 35, 40, 45, 50], dtype=np.float64
    ),
    "coarse": np.array([3, 5, 8, 10, 13, 15, 20, 25, 30, 40, 50], dtype=np.float64),
    "logarithmic": np.round(np.geomspace(2.5, 60.0, 32), 3),
}
NOISE = (0.0, 0.3, 0.5)


def variants() -> list[tuple[str, Table]]:
    """Every shape on some grid, every grid with some shape, each noise among them, with and without an own column."""
    made = []
    for i, (shape, rate) in enumerate(SHAPES.items()):
        for j, (grid, r) in enumerate(GRIDS.items()):
            percent = NOISE[(i + j) % 3]
            own = np.full(r.size, max(percent, 2.0)) if (i + 2 * j) % 4 == 0 else None
            table = Table(r=r.copy(), rate=rate(r) * noise(2000 + 10 * i + j, percent, r.size), uncertainty=own)
            table.form = ("{:.6g}", "{:.4g}", "{:.5e}")[j % 3]
            table.head["uncertainty"] = f"{max(percent, 0.5):g} % (k=1)" if own is None else "5 % (k=2)"
            table.head["scale"] = ("targit", "v4.0", "cq", "other")[(i + j) % 4]
            made.append((f"{shape}, {grid}, noise {percent:g} %", table))
    return made


VARIANTS = dict(variants())


def alarms(path: Path) -> list[tuple[str, str, str]]:
    findings = check_table(path, today=TODAY).findings
    return [
        (f.id, f.status, f.message)
        for f in findings
        if f.status == "fail" or (f.status == "warn" and f.id not in DECLARED)
    ]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_sound_table_gives_no_false_alarm(name: str, tmp_path: Path) -> None:
    assert alarms(VARIANTS[name].write(tmp_path / "sound.csv")) == []


def test_there_are_at_least_40_sound_variants() -> None:
    assert len(VARIANTS) >= 40


@pytest.mark.parametrize(
    "dialect", ["semicolons", "decimal commas", "byte order mark", "windows lines", "tabs", "unit row"]
)
def test_a_spreadsheets_dialect_is_no_alarm(dialect: str, tmp_path: Path) -> None:
    table = Table(rate=three_exponentials(GRID) * noise(5, 0.3, GRID.size))
    text = table.text()
    if dialect in ("semicolons", "decimal commas", "tabs"):
        head, _, rows = text.partition("distance_mm")
        rows = ("distance_mm" + rows).replace(",", "\t" if dialect == "tabs" else ";")
        text = head + (rows.replace(".", ",") if dialect == "decimal commas" else rows)
    if dialect == "windows lines":
        text = text.replace("\n", "\r\n")
    if dialect == "unit row":
        text = text.replace("gy_per_min\n", "gy_per_min\nmm,Gy/min\n")
    path = tmp_path / "sheet.csv"
    path.write_bytes((b"\xef\xbb\xbf" if dialect == "byte order mark" else b"") + text.encode())

    assert alarms(path) == []


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("grid", ["1 mm", "0.5 mm"])
def test_a_second_honest_measurement_agrees_with_the_first(seed: int, grid: str, tmp_path: Path) -> None:
    r = GRIDS[grid]
    r = r[(r >= 3.0) & (r <= 30.0)]
    percent = 0.3 if seed % 2 else 0.5
    second = Table(r=r, rate=three_exponentials(r) * noise(seed, percent, r.size))
    first = Table(rate=three_exponentials(GRID) * noise(500 + seed, 0.2, GRID.size))
    result = compare_tables(second.write(tmp_path / "second.csv"), first.write(tmp_path / "first.csv"))

    assert [(f.id, f.status, f.message) for f in result.findings if f.status != "pass"] == []


def test_the_shipped_table_only_says_that_it_is_not_clinical_and_on_no_known_scale() -> None:
    result = check_table("reference-needle-50kv", today=TODAY)

    assert {f.id for f in result.findings if f.status != "pass"} == DECLARED
