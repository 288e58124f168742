"""Writing a depth-dose table in the form that `table_file` reads, whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iort_planner.errors import DepthDoseTableError
from iort_planner.output import whole_file
from iort_planner.source.table_file import examine_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from iort_planner.source.depth_dose import DepthDoseTable
    from iort_planner.source.polar import PolarAnisotropy


def write_table(table: DepthDoseTable, path: Path) -> None:
    """Write a depth-dose table as CSV; read back, it is equal to the last digit.

    Distances are written from the source centre, whatever file they came from: ``reference_point`` reads back as
    ``source-centre``, and the notes say how they got there. Uncertainties are written as k=1.

    Raises
    ------
    DepthDoseTableError
        If the table lacks what a file must say (applicator, date, origin ...), or a text of it has a line break or
        spaces at its ends; nothing is written then.
    OutputError
        If the file cannot be written.
    """
    data = table_bytes(table)
    found = examine_bytes(path.name, data)
    for finding in found.findings:
        if finding.status == "fail":
            raise DepthDoseTableError(f"table {table.name!r} cannot be written as a table file: {finding.message}")
    with whole_file(path) as partial:
        partial.write_bytes(data)


def table_bytes(table: DepthDoseTable) -> bytes:
    """The bytes that `write_table` writes; not yet checked.

    Raises
    ------
    DepthDoseTableError
        If a text has a line break or spaces at its ends.
    """
    head = {
        "name": table.name,
        "kind": "depth-dose",
        "medium": "water",
        "reference_point": "source-centre",
        "scale": table.scale.value,
        "tube_voltage_kv": _number(table.tube_voltage_kv),
        "tube_current_ua": _number(table.tube_current_ua),
        "applicator": table.applicator,
        "measured": table.measured,
        "derived": "yes" if table.derived else "no",
        "uncertainty": f"{_number(float(table.uncertainty_percent.max()))} % (k=1)",
        "clinical": "yes" if table.clinical else "no",
        "trusted_range_mm": " ".join(_number(end) for end in table.trusted_range_mm),
        "origin": table.origin,
    }
    if table.scale_uncertainty_percent:
        head["scale_uncertainty"] = f"{_number(table.scale_uncertainty_percent)} % (k=1)"
    head |= {f"note {n}": note for n, note in enumerate(table.notes, start=1)}
    for key, text in head.items():
        if len(text.splitlines()) > 1 or text != text.strip():
            raise DepthDoseTableError(f"table {table.name!r}: {key} has a line break or spaces at its ends: {text!r}")
    lines = [_head_line(key, text) for key, text in head.items()]
    lines.append("distance_mm,dose_rate_gy_per_min,uncertainty_percent")
    columns = (table.distance_mm, table.dose_rate_gy_per_min, table.uncertainty_percent)
    lines += [",".join(_number(value) for value in row) for row in zip(*(c.tolist() for c in columns), strict=True)]
    if table.anisotropy is not None:
        lines += _anisotropy_lines(table.anisotropy)
    return ("\n".join(lines) + "\n").encode("utf-8")


def _head_line(key: str, text: str) -> str:
    line = f"# {key}: {text}"
    if not text.endswith(","):
        return line
    doubled = line.replace('"', '""')  # in quotes a comma at the end is no spreadsheet's padding
    return f'"{doubled}"'


def _number(value: float) -> str:
    """The shortest text that reads back as the same number."""
    return repr(float(value)).removesuffix(".0")


def _anisotropy_lines(polar: PolarAnisotropy) -> list[str]:
    """The section after the rows; a mirrored table is written up to 90 degrees, so that reading mirrors it again."""
    lines = [",".join(["theta_deg", *(f"r{_number(r)}mm" for r in polar.distance_mm.tolist())])]
    for theta, row in zip(polar.theta_deg.tolist(), polar.factor.tolist(), strict=True):
        if not (polar.completed and theta > 90.0):
            lines.append(",".join(_number(value) for value in (theta, *row)))
    return lines
