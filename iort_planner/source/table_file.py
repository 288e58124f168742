"""Reading a table: the one place where its CSV form becomes a value (docs/file-formats.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import numpy as np

from iort_planner import library
from iort_planner.errors import DepthDoseTableError
from iort_planner.inputs import require_regular
from iort_planner.source.depth_dose import DepthDoseTable, ReferencePoint, is_for
from iort_planner.source.findings import Finding
from iort_planner.source.number_form import number
from iort_planner.source.table_head import KINDS, TableHead, read_head
from iort_planner.source.table_rows import DISTANCE, RATE, TRANSFER, UNCERTAINTY, TableRows, read_rows
from iort_planner.source.table_text import HELP, TableText, split_table
from iort_planner.source.tg43 import Tg43Source, parse_tg43
from iort_planner.source.transfer import TransferFunction

if TYPE_CHECKING:
    from pathlib import Path

    from iort_planner.applicator import Applicator
    from iort_planner.units import FloatArray

Table: TypeAlias = DepthDoseTable | TransferFunction | Tg43Source
_LARGEST_FILE = 10_000_000  # bytes; a table has some hundred rows
_MOST_FINDINGS = 100  # a file that is no table has one in every line
_LINE = re.compile(r"table .*?, line ([0-9]+): ")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examination:
    """Everything that a table file says and all that is wrong with it.

    Parameters
    ----------
    file, sha256 : str
        Name of the file and hash of its bytes.
    kind : str
        As the file says, known or not.
    head : dict of str to str
        Every key with its text.
    columns : dict of str to ndarray of shape (N,)
        As far as they can be read, by the header's names, NaN for a bad cell; ``row_lines`` holds each row's line. As
        in the file: distances start at its reference point. Empty for ``kind: tg43``.
    table : DepthDoseTable, TransferFunction, Tg43Source or None
        The finished value; None if a finding fails.
    findings : tuple of Finding
        In the order of lines; findings on the file as a whole come first.
    """

    file: str
    sha256: str
    kind: str
    head: dict[str, str]
    columns: dict[str, FloatArray]
    table: Table | None
    findings: tuple[Finding, ...]


def examine(name_or_path: str | Path = library.DEFAULT_TABLE, applicator: Applicator | None = None) -> Examination:
    """Read a table by its library name or from a CSV file, and find all that is wrong with it.

    Parameters
    ----------
    name_or_path : str or Path
    applicator : Applicator, optional
        Needed for distances that start at the applicator's surface or its tip.

    Raises
    ------
    DepthDoseTableError
        If the file cannot be read as a table at all: missing, too large, no text, no header row with a row under it.
    """
    path = library.find("tables", name_or_path)
    return examine_bytes(path.name, read_bytes(path, name_or_path), applicator)


def read_bytes(path: Path, given: str | Path) -> bytes:
    """Bytes of a table's file, as ``given`` by a user.

    Raises
    ------
    DepthDoseTableError
        If it cannot be read or is too large.
    """
    try:
        size = require_regular(path)
        data = path.read_bytes() if size <= _LARGEST_FILE else b""
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise DepthDoseTableError(
            f"table {str(given)!r} cannot be read ({reason}); give a CSV file or one of: "
            f"{', '.join(library.names('tables'))}"
        ) from error
    if size > _LARGEST_FILE:
        raise DepthDoseTableError(
            f"table {path.name}: {size} bytes are more than {_LARGEST_FILE}: no depth-dose table; {HELP}"
        )
    return data


def examine_bytes(file: str, data: bytes, applicator: Applicator | None = None) -> Examination:
    """`examine` for the bytes of a file of that name."""
    text = split_table(file, data)
    head, findings = read_head(text)
    findings = [*text.findings, *findings]
    kind = text.head.get("kind", (0, ""))[1]
    columns: dict[str, FloatArray] = {}
    table: Table | None = None
    if kind == "tg43":
        table = _tg43(text, findings)
    else:  # an unknown kind is a finding already; its rows are judged by what their header looks like
        of_transfer = kind == "transfer-function" or (kind not in KINDS and TRANSFER in text.header[1])
        rows = read_rows(text, TRANSFER if of_transfer else RATE)
        findings += rows.findings
        columns = rows.columns
        findings += _applicator_findings(text, head, rows, applicator)
        trusted = _trusted(text, rows, findings)
        if not any(finding.status == "fail" for finding in findings):
            table = _build(text, head, rows, trusted, applicator, findings)
    if text.notes:
        findings.append(Finding("dialect", "pass", None, f"read as a spreadsheet writes it: {'; '.join(text.notes)}"))
    if table is not None:
        findings.append(Finding("form", "pass", None, f"keys, columns, units and order are those of a {kind} table"))
    findings.sort(key=lambda finding: finding.line or 0)
    if len(findings) > _MOST_FINDINGS:
        more = f"{len(findings) - _MOST_FINDINGS} findings more; correct these first"
        findings = [*findings[:_MOST_FINDINGS], Finding("more", "fail", None, more)]
    return Examination(
        file=file,
        sha256=text.sha256,
        kind=kind,
        head={key: value for key, (_, value) in text.head.items()},
        columns=columns,
        table=table,
        findings=tuple(findings),
    )


def read_source(
    name_or_path: str | Path = library.DEFAULT_TABLE, applicator: Applicator | None = None
) -> DepthDoseTable | Tg43Source:
    """Read what a plan's dose rates come from, a depth-dose table or a TG-43 source, by its library name or from a file.

    Parameters
    ----------
    name_or_path : str or Path
    applicator : Applicator, optional
        Needed for distances that start at the applicator's surface or its tip.

    Raises
    ------
    DepthDoseTableError
        If the file is missing, is of another kind, or anything in it fails (`examine`); the message names the first
        such line.
    """
    return _read(examine(name_or_path, applicator))


def read_table(
    name_or_path: str | Path = library.DEFAULT_TABLE, applicator: Applicator | None = None
) -> DepthDoseTable:
    """`read_source` for a depth-dose table: a TG-43 source is refused.

    Examples
    --------
    >>> table = read_table()
    >>> table.clinical, table.range_mm
    (False, (3.0, 50.0))
    """
    found = examine(name_or_path, applicator)
    table = None if found.kind == "tg43" else _read(found)
    if not isinstance(table, DepthDoseTable):
        _stop(found, "kind", "no depth-dose rows: it is for the engine tg43 (--engine tg43)")
    return table


def _read(found: Examination) -> DepthDoseTable | Tg43Source:
    if found.kind == "transfer-function":
        _stop(
            found,
            "kind",
            "no dose rates: multiply its bare-probe table by it (apply_transfer, write_table) and give that",
        )
    _require_no_failure(found)
    if not isinstance(found.table, DepthDoseTable | Tg43Source):
        _stop(found, "kind", f"must be one of {', '.join(KINDS)}")
    return found.table


def read_transfer_function(name_or_path: str | Path, applicator: Applicator | None = None) -> TransferFunction:
    """Read a transfer function from a CSV file; arguments and errors as for `read_table`."""
    found = examine(name_or_path, applicator)
    _require_no_failure(found)
    if not isinstance(found.table, TransferFunction):
        _stop(found, "kind", "must be transfer-function here")
    return found.table


def _stop(found: Examination, key: str, problem: str) -> NoReturn:
    raise DepthDoseTableError(f"table {found.file}: {key} is {found.head.get(key, '')!r}, {problem}; {HELP}")


def _require_no_failure(found: Examination) -> None:
    for finding in found.findings:
        if finding.status == "fail":
            line = f", line {finding.line}" if finding.line is not None else ""
            raise DepthDoseTableError(f"table {found.file}{line}: {finding.message}; {HELP}")


def _tg43(text: TableText, findings: list[Finding]) -> Tg43Source | None:
    """The TG-43 parameters; what their own parser stops at is one more finding."""
    try:
        source = parse_tg43(text)
    except DepthDoseTableError as error:
        match = _LINE.match(str(error))
        line = int(match[1]) if match else None
        message = str(error)[match.end() if match else 0 :].split("; see docs/")[0]
        lines = {finding.line for finding in findings if finding.status == "fail"}
        missing = any(finding.line is None and finding.message in message for finding in findings)
        if not missing and (line is None or line not in lines):
            findings.append(Finding("tg43", "fail", line, message))
        return None
    return None if any(finding.status == "fail" for finding in findings) else source


def _applicator_findings(
    text: TableText, head: TableHead, rows: TableRows, applicator: Applicator | None
) -> list[Finding]:
    """Whether distances can be taken to the source centre, and whether the applicator is the table's."""
    findings = []
    line = text.head.get("reference_point", (None, ""))[0]
    elsewhere = head.reference_point is not ReferencePoint.SOURCE_CENTRE
    if elsewhere and applicator is None:
        problem = (
            f"distances start at the {head.reference_point}: they are taken to the source centre only with the "
            f"applicator's geometry; give the applicator file, or distances from the source-centre"
        )
        findings.append(Finding("reference_point", "fail", line, problem))
    if elsewhere and rows.anisotropy is not None:
        problem = f"a polar anisotropy needs distances from the source-centre, not from the {head.reference_point}"
        findings.append(Finding("reference_point", "fail", line, problem))
    if applicator is not None and not is_for(head.applicator, applicator.name):
        problem = f"the table is for {head.applicator!r}, the applicator given is {applicator.name!r}"
        findings.append(Finding("table-applicator", "warn", text.head.get("applicator", (None, ""))[0], problem))
    return findings


def _trusted(text: TableText, rows: TableRows, findings: list[Finding]) -> tuple[float, float] | None:
    """The trusted range as the file says it; None where it says nothing."""
    if "trusted_range_mm" not in text.head:
        return None
    line, words = text.head["trusted_range_mm"]
    parts = [number(word) for word in words.split()]
    distance = rows.columns.get(DISTANCE, np.empty(0))
    distance = distance[np.isfinite(distance)]
    ends = (float(distance.min()), float(distance.max())) if distance.size else (-np.inf, np.inf)
    if len(parts) == 2 and parts[0] is not None and parts[1] is not None and ends[0] <= parts[0] < parts[1] <= ends[1]:
        return parts[0], parts[1]
    problem = f"trusted_range_mm is {words!r}, must be two distances inside the rows, like 5 30"
    findings.append(Finding("trusted_range_mm", "fail", line, problem))
    return None


def _build(
    text: TableText,
    head: TableHead,
    rows: TableRows,
    trusted: tuple[float, float] | None,
    applicator: Applicator | None,
    findings: list[Finding],
) -> DepthDoseTable | TransferFunction | None:
    """The finished value; its distances start at the source centre."""
    columns = rows.columns
    distance, notes = _from_source_centre(columns[DISTANCE], head, applicator)
    if text.notes:
        notes = [f"{text.file} was read as a spreadsheet writes it: {'; '.join(text.notes)}", *notes]
    notes += [f.message for f in findings if f.id == "table-applicator" and head.reference_point != "source-centre"]
    ends = columns[DISTANCE][[0, -1]] if trusted is None else np.array(trusted)
    low, high = _from_source_centre(ends, head, applicator)[0].tolist()
    common = {
        "name": head.name,
        "distance_mm": distance,
        "uncertainty_percent": columns[UNCERTAINTY] / head.coverage
        if UNCERTAINTY in columns
        else np.full(distance.shape, head.uncertainty_percent),
        "scale": head.scale,
        "clinical": head.clinical,
        "origin": head.origin,
        "trusted_range_mm": (low, high),
        "applicator": head.applicator,
        "tube_voltage_kv": head.tube_voltage_kv,
        "tube_current_ua": head.tube_current_ua,
        "measured": head.measured,
        "derived": head.derived,
        "file": text.file,
        "sha256": text.sha256,
        "reference_point": head.reference_point,
        "notes": (*head.notes, *notes),
    }
    try:
        if TRANSFER in columns:
            return TransferFunction(factor=columns[TRANSFER], **common)  # type: ignore[arg-type]  # fields of both
        return DepthDoseTable(
            dose_rate_gy_per_min=columns[RATE],
            anisotropy=rows.anisotropy,
            scale_uncertainty_percent=head.scale_uncertainty_percent,
            **common,  # type: ignore[arg-type]  # fields of both
        )
    except DepthDoseTableError as error:
        findings.append(Finding("table", "fail", None, str(error)))
        return None


def _from_source_centre(
    distance_mm: FloatArray, head: TableHead, applicator: Applicator | None
) -> tuple[FloatArray, list[str]]:
    """Distances from the source centre, by the applicator's own arithmetic, and what was done."""
    if head.reference_point is ReferencePoint.SOURCE_CENTRE or applicator is None:
        return distance_mm, []
    reference = head.reference_point.depth_reference
    moved = np.array([applicator.depth_from_source_mm(r, reference) for r in distance_mm.tolist()])
    file = f", file {applicator.file} sha256 {applicator.sha256}" if applicator.sha256 else ""
    note = (
        f"distances from the {head.reference_point} were taken to the source centre, "
        f"{applicator.depth_from_source_mm(0.0, reference):+g} mm, with the applicator {applicator.name!r}{file}"
    )
    return moved, [note]
