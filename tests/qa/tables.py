"""Depth-dose tables as text, for tests: sound ones, and the same with one thing changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.units import FloatArray

if TYPE_CHECKING:
    from collections.abc import Callable

GRID = np.arange(3.0, 31.0)
HEAD = {
    "name": "XRS 1234",
    "kind": "depth-dose",
    "medium": "water",
    "reference_point": "source-centre",
    "scale": "v4.0",
    "tube_voltage_kv": "50",
    "tube_current_ua": "40",
    "applicator": "needle applicator 4.4 mm",
    "measured": "2026-10-01",
    "uncertainty": "5 % (k=1)",
    "clinical": "no",
    "origin": "made for a test",
}


def power(r: FloatArray, exponent: float = 2.65) -> FloatArray:
    """7.04 Gy/min at 8 mm, the level of Sethi et al. 2018, falling like a power of the distance."""
    rate: FloatArray = 7.04 * (8.0 / r) ** exponent
    return rate


def attenuated(length_mm: float) -> Callable[[FloatArray], FloatArray]:
    """exp(-r/length)/r^2, the same level at 8 mm."""

    def rate(r: FloatArray) -> FloatArray:
        result: FloatArray = 7.04 * (8.0 / r) ** 2 * np.exp((8.0 - r) / length_mm)
        return result

    return rate


def three_exponentials(r: FloatArray) -> FloatArray:
    """The shape behind the shipped table, as its derivation gives it: three exponentials over r^2, Gy/min at mm."""
    rate: FloatArray = (948.9 * np.exp(-r / 2.148) + 436.9 * np.exp(-r / 7.184) + 334.8 * np.exp(-r / 48.16)) / r**2
    return rate


@dataclass
class Table:
    """A table about to be written; tests change what they want to be wrong."""

    r: FloatArray = field(default_factory=lambda: GRID.copy())
    rate: FloatArray = field(default_factory=lambda: power(GRID))
    uncertainty: FloatArray | None = None
    head: dict[str, str] = field(default_factory=lambda: dict(HEAD))
    header: str = ""
    form: str = "{:.6g}"
    separator: str = ","
    edits: list[tuple[str, str]] = field(
        default_factory=list
    )  # in the finished text; each must have something to change

    @property
    def first_row(self) -> int:
        """Line of the first row of numbers."""
        return len(self.head) + 2

    def text(self) -> str:
        columns = [self.r, self.rate] + ([] if self.uncertainty is None else [self.uncertainty])
        names = ["distance_mm", "dose_rate_gy_per_min", "uncertainty_percent"][: len(columns)]
        header = self.header or self.separator.join(names)
        lines = [f"# {key}: {value}" for key, value in self.head.items()] + [header]
        for row in zip(*columns, strict=True):
            cells = [f"{row[0]:g}", self.form.format(row[1]), *(f"{each:g}" for each in row[2:])]
            lines.append(self.separator.join(cells))
        text = "\n".join(lines) + "\n"
        for old, new in self.edits:
            assert old in text
            text = text.replace(old, new, 1)
        return text

    def write(self, path: Path) -> Path:
        path.write_text(self.text(), encoding="utf-8")
        return path


def noise(seed: int, percent: float, count: int) -> FloatArray:
    """Factors about 1, seeded."""
    factors: FloatArray = np.exp(np.random.default_rng(seed).normal(0.0, percent / 100.0, count))
    return factors
