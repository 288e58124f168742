"""Small suites for the tests: cases of table QA take milliseconds, so that what is around them can be tried often."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path

import pytest

PHANTOMS = Path(__file__).resolve().parents[2] / "phantoms"

TABLE = (
    "".join(
        f"# {key}: {value}\n"
        for key, value in {
            "name": "XRS 1",
            "kind": "depth-dose",
            "medium": "water",
            "reference_point": "source-centre",
            "scale": "v4.0",
            "tube_voltage_kv": "50",
            "tube_current_ua": "40",
            "applicator": "none",
            "measured": "2026-10-01",
            "derived": "yes",
            "uncertainty": "5 % (k=1)",
            "clinical": "no",
            "origin": "1800 r^-2.66",
        }.items()
    )
    + "distance_mm,dose_rate_gy_per_min\n"
    + "".join(f"{r},{1800 * r**-2.66:.6g}\n" for r in range(3, 31))
)

CASE = """\
command = "qa check"
arguments = ["table.csv"]
exit_status = 0
[[expect]]
key = "findings.form"
value = "pass"
source = "closed-form"
reference = "the form is right"
"""


def table_case(suite: Path, name: str, text: str = CASE, table: str = TABLE) -> Path:
    folder = suite / name
    folder.mkdir(parents=True)
    (folder / "case.toml").write_text(text, encoding="utf-8")
    (folder / "table.csv").write_text(table, encoding="utf-8")
    return folder


def table_suite(suite: Path, count: int) -> Path:
    for n in range(count):
        table_case(suite, f"case-{n:04d}")
    return suite


def plant(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Run code at the start of every Python that is started from here on: how a fault comes into a worker."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(textwrap.dedent(code), encoding="utf-8")
    root = Path(__file__).resolve().parents[2]
    paths = [str(folder), str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    assert sys.executable
