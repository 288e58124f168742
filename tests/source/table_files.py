"""Table files for the tests: a clean head and rows, each to be changed at will."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np

from iort_planner.source.depth_dose import DepthDoseTable, Scale

HEAD = {
    "name": "t",
    "kind": "depth-dose",
    "medium": "water",
    "reference_point": "source-centre",
    "scale": "targit",
    "tube_voltage_kv": "50",
    "tube_current_ua": "40",
    "applicator": "needle",
    "measured": "2026-10-01",
    "uncertainty": "20 % (k=1)",
    "clinical": "no",
    "origin": "test",
}
HEADER_LINE = len(HEAD) + 1
ROWS = "distance_mm,dose_rate_gy_per_min\n3,90.5\n5,24\n8,7\n13,1.9\n"
DAY = dt.date(2026, 11, 1)


def text(rows: str = ROWS, **changes: str | None) -> str:
    head = {key: value for key, value in {**HEAD, **changes}.items() if value is not None}
    return "".join(f"# {key}: {value}\n" for key, value in head.items()) + rows


def write(folder: Path, rows: str = ROWS, **changes: str | None) -> Path:
    path = folder / "table.csv"
    path.write_text(text(rows, **changes), encoding="utf-8")
    return path


def table(distance_mm: object = None, rate: object = None, **changes: object) -> DepthDoseTable:
    r = np.array([5.0, 7.5, 10.0, 15.0, 25.0, 30.0]) if distance_mm is None else np.asarray(distance_mm, dtype=float)
    fields: dict[str, object] = {
        "name": "bare",
        "distance_mm": r,
        "dose_rate_gy_per_min": 2000.0 / r**2.7 if rate is None else np.asarray(rate, dtype=np.float64),
        "uncertainty_percent": np.full(r.shape, 3.0),
        "scale": Scale.TARGIT,
        "clinical": True,
        "origin": "certificate 1",
        "trusted_range_mm": (float(r[0]), float(r[-1])),
        "applicator": "none",
        "measured": "2026-01-05",
        **changes,
    }
    return DepthDoseTable(**fields)  # type: ignore[arg-type]  # a test factory
