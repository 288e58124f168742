"""Text of TG-43 tables for the tests: the shared consensus files under a head, and one that is made up."""

from __future__ import annotations

from pathlib import Path

from iort_planner.source.table_text import TableText, split_table

SHARED_TG43 = Path(__file__).resolve().parents[1].parent / "shared" / "physics" / "tg43"

HEAD = {
    "name": "made-up seed",
    "kind": "tg43",
    "medium": "water",
    "reference_point": "source-centre",
    "scale": "other",
    "tube_voltage_kv": "50",
    "tube_current_ua": "40",
    "applicator": "none",
    "measured": "2026-01-05",
    "uncertainty": "6 % (k=2)",
    "clinical": "no",
    "origin": "made up for the tests",
    "dose_rate_constant_cgy_per_h_u": "0.9",
    "active_length_mm": "3",
    "air_kerma_strength_u": "40000",
}
# (dose-rate constant, active length): the second remark line of each shared file
CONSENSUS = {"125i_6711.csv": ("0.965", "3"), "192ir_mhdr_v1.csv": ("1.116", "3.5")}
BODY = """section,r_cm,g
g,0.2,1.3
g,0.5,1.2
g,1,1
g,2,0.7
g,5,0.2
section,theta_deg,r0.5cm,r1cm,r3cm
F,0,0.5,0.6,0.7
F,30,0.8,0.85,0.9
F,90,1,1,1
F,150,0.7,0.75,0.8
F,180,0.3,0.4,0.5
"""


def tg43_text(body: str = BODY, **changes: str | None) -> TableText:
    head = "".join(f"# {key}: {value}\n" for key, value in {**HEAD, **changes}.items() if value is not None)
    lines = [line for line in body.splitlines() if not line.startswith("#")]
    text = split_table("seed.csv", (head + "\n".join(lines) + "\n").encode())
    assert not text.findings
    return text


def consensus_text(file: str, **changes: str | None) -> TableText:
    constant, length = CONSENSUS[file]
    body = (SHARED_TG43 / file).read_text(encoding="utf-8")
    return tg43_text(body, name=file, dose_rate_constant_cgy_per_h_u=constant, active_length_mm=length, **changes)
