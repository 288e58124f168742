"""``qa check``: one table judged by its form, its head and its rows."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iort_planner.qa import shape
from iort_planner.qa.results import Status, by_weight, document, worst
from iort_planner.qa.smooth import SmoothFit, smooth_fit
from iort_planner.source import acceptance
from iort_planner.source.depth_dose import DepthDoseTable
from iort_planner.source.findings import Finding
from iort_planner.source.table_file import Examination, examine
from iort_planner.source.tg43 import Tg43Source
from iort_planner.units import FloatArray

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator

# Our own. Eaton 2012 (Med Phys 39:6908, doi:10.1118/1.4761865) proposes a yearly independent test: a table older than
# a year has missed one, older than two years two. A month is left for making the appointment.
AGE_WARN_DAYS, AGE_FAIL_DAYS = 365 + 31, 2 * 365 + 31
# k=1. Published: 5 to 6 % between methods (Watson et al. 2018, doi:10.1088/1361-6560/aa9560), 10 to 15 % in all (Hensley
# 2017, doi:10.1186/s13014-016-0754-z). Below 0.2 % a fraction is likely to stand where percent is asked. Our own limits.
UNCERTAINTY_LEAST_PERCENT, UNCERTAINTY_MOST_PERCENT = 0.2, 50.0
_TRANSFER = (0.3, 2.0)  # our own: published 0.85 (needle's plastic, 3 mm) to 1.35 (solid spheres), facts in docs/qa.md


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TableCheck:
    """The result of `check_table`.

    Parameters
    ----------
    examination : Examination
        The file as read, with its own findings.
    findings : tuple of Finding
        All findings, the worst first.
    rows : shape.Rows or None
        The rows that could be judged.
    fit : SmoothFit or None
        The smooth curve through them, where there are enough.
    today : datetime.date
        The day the age was judged on.
    """

    examination: Examination
    findings: tuple[Finding, ...]
    rows: shape.Rows | None
    fit: SmoothFit | None
    today: dt.date

    @property
    def verdict(self) -> Status:
        """The worst of the findings."""
        return worst(self.findings)

    def as_json(self) -> dict[str, Any]:
        """The document that ``qa check --json`` prints."""
        found, rows, fit = self.examination, self.rows, self.fit
        numbers: dict[str, Any] = {
            "file": found.file,
            "sha256": found.sha256,
            "kind": found.kind,
            "head": dict(found.head),
            "checked": self.today.isoformat(),
            "noise_percent": None if fit is None else fit.noise_percent,
            "rows": [],
        }
        if rows is not None:
            value = "transfer_function" if found.kind == "transfer-function" else "dose_rate_gy_per_min"
            for i in range(rows.line.size):
                row = {"line": rows.line[i], "distance_mm": rows.distance_mm[i], value: rows.value[i]}
                if fit is not None:
                    row |= {"residual_percent": fit.residual_percent[i], "local_exponent": fit.exponent[i]}
                numbers["rows"].append(row)
        return document("qa-check", self.findings, numbers)


def check_table(
    table: str | Path | Examination, *, applicator: Applicator | None = None, today: dt.date | None = None
) -> TableCheck:
    """Judge one depth-dose table, transfer function or TG-43 data set.

    Parameters
    ----------
    table : str, Path or Examination
        Library name, file, or what `iort_planner.source.table_file.examine` gave.
    applicator : Applicator, optional
        For a table whose distances start at the surface or tip.
    today : datetime.date, optional
        The day to judge the age on; the present one by default.

    Raises
    ------
    DepthDoseTableError
        If the file cannot be read as a table at all.
    """
    found = table if isinstance(table, Examination) else examine(table, applicator)
    today = today or dt.datetime.now(tz=dt.UTC).date()
    findings = [*found.findings, *_head(found, today)]
    rows, fit = None, None
    if found.kind in ("depth-dose", "transfer-function"):
        lines, distance, value = _columns(found)
        findings += shape.impossible(lines, distance, value)
        rows = shape.usable_rows(lines, distance, value)
        if rows.line.size < 2:
            rows = None
            text = "too few rows are numbers above 0: nothing can be said of their course"
            findings.append(Finding("smoothness", "fail", None, text))
        else:
            fit = smooth_fit(rows.distance_mm, rows.value, shape.rounding_percent(rows.value) / np.sqrt(3.0))
            findings += _course(found, rows, fit)
    if isinstance(found.table, Tg43Source):
        findings += _radial(found.table)
    return TableCheck(examination=found, findings=by_weight(findings), rows=rows, fit=fit, today=today)


def _columns(found: Examination) -> tuple[npt.NDArray[np.int64], FloatArray, FloatArray]:
    """Lines, distances and values as far as they can be read; empty without such columns."""
    name = "transfer_function" if found.kind == "transfer-function" else "dose_rate_gy_per_min"
    columns = found.columns
    if "distance_mm" not in columns or name not in columns:
        return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0)
    distance = columns["distance_mm"]
    if isinstance(found.table, DepthDoseTable):  # from the source centre, whatever the file counts from
        distance = found.table.distance_mm
    return columns["row_lines"].astype(np.int64), distance, columns[name]


def _course(found: Examination, rows: shape.Rows, fit: SmoothFit | None) -> list[Finding]:
    """Findings on the rows' course."""
    table = found.table
    findings: list[Finding] = []
    stated = _stated_percent(found)
    if found.kind == "transfer-function":
        findings += _transfer_level(rows)
        return findings + shape.smoothness(rows, fit, stated)
    findings += shape.units(rows, _positive(found.head.get("tube_current_ua", "")) or shape.LEVEL_UA)
    if fit is not None:
        findings += shape.slope(rows, fit)
    span = (float(rows.distance_mm[0]), float(rows.distance_mm[-1]))
    trusted = table.trusted_range_mm if isinstance(table, DepthDoseTable) else span
    return [
        *findings,
        *shape.smoothness(rows, fit, stated),
        *shape.rounding(rows, trusted),
        *shape.coverage(rows),
    ]


def _radial(source: Tg43Source) -> list[Finding]:
    """Rows of g(r) off a smooth curve; a warning only, because published sets have such rows (6711 at 4 cm: 2.7 %)."""
    outside = source.radial_distance_mm > 0.0
    r, g = source.radial_distance_mm[outside], source.radial_dose[outside]
    fit = smooth_fit(r, g, shape.rounding_percent(g) / np.sqrt(3.0))
    if fit is None:
        return [Finding("smoothness", "pass", None, f"{r.size} rows of g(r) are too few to judge single ones")]
    found = [
        Finding(
            "outlier",
            "warn",
            None,
            f"g = {g[i]:g} at r = {r[i] / 10.0:g} cm lies {abs(fit.residual_percent[i]):.1f} % "
            f"{'above' if fit.residual_percent[i] > 0 else 'below'} the curve through the other rows of g(r), which scatter "
            f"{fit.noise_percent:.2f} %: compare it with the publication",
        )
        for i in sorted(fit.outliers)
        if abs(fit.residual_percent[i]) >= shape.OUTLIER_WARN_PERCENT
    ]
    return [
        *found,
        Finding("smoothness", "pass", None, f"g(r) scatters {fit.noise_percent:.2f} % about a smooth curve"),
    ]


def _transfer_level(rows: shape.Rows) -> list[Finding]:
    low, high = float(rows.value.min()), float(rows.value.max())
    if _TRANSFER[0] <= low and high <= _TRANSFER[1]:
        return [Finding("units", "pass", None, f"values from {low:g} to {high:g} are those of a ratio")]
    at = int(np.argmax(np.abs(np.log(rows.value))))
    percent = ": it looks like percent, give a ratio" if low > 10.0 else ""
    text = f"a transfer function of {rows.value[at]:g} lies outside {_TRANSFER[0]:g} to {_TRANSFER[1]:g}{percent}"
    return [Finding("units", "fail", int(rows.line[at]), text)]


def _stated_percent(found: Examination) -> float | None:
    """Median k=1 that the table states, percent."""
    if isinstance(found.table, DepthDoseTable):
        return float(np.median(found.table.uncertainty_percent))
    return None


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 < value < float("inf") else None


def _head(found: Examination, today: dt.date) -> list[Finding]:
    """Findings on what the head says, beyond its form."""
    head = found.head
    findings = []
    if head.get("scale") == "other":
        text = "scale is 'other': the same source reads 14 to 80 % apart on targit and v4.0, so this table fits neither"
        findings.append(Finding("scale", "warn", None, text))
    if head.get("clinical") == "no":
        findings.append(Finding("not-clinical", "warn", None, "the table says that it is not for clinical use"))
    findings += _age(head, today)
    if isinstance(found.table, DepthDoseTable):
        findings += _uncertainty(found.table.uncertainty_percent, found.columns["row_lines"])
        findings += _acceptance(found.table, today)
    return findings


def _acceptance(table: DepthDoseTable, today: dt.date) -> list[Finding]:
    """Whether a clinical table's bytes are accepted; a warning, because accepting comes after checking."""
    if not table.clinical:
        return []
    stand = acceptance.status(table, today)
    by = f" (accepted {stand.acceptance.text})" if stand.acceptance is not None else ""
    if stand.state == "accepted":
        return [Finding("acceptance", "pass", None, f"these bytes are accepted{by}")]
    why = {
        "expired": "its acceptance is over",
        "changed": "other bytes of this name were accepted, these were not",
        "never": "it is not accepted",
        "unreadable": f"nothing counts as accepted: {'; '.join(stand.notes)}",
    }[stand.state]
    text = f"{why}{by}; a plan with it fails: when this check is good, 'iort-planner qa accept TABLE --by NAME'"
    return [Finding("acceptance", "warn", None, text)]


def _age(head: dict[str, str], today: dt.date) -> list[Finding]:
    try:
        measured = dt.date.fromisoformat(head.get("measured", ""))
    except ValueError:
        return []  # a finding of its own on reading
    days = (today - measured).days
    if head.get("derived") == "yes":
        return [Finding("age", "pass", None, f"derived, made {measured}: it was never measured and does not age")]
    status: Status = "fail" if days > AGE_FAIL_DAYS else "warn" if days > AGE_WARN_DAYS else "pass"
    text = f"measured {measured}, {days} days ago"
    if status != "pass":
        text += (
            " (warn over 13, fail over 25 months: an independent test is due every year, Eaton 2012): measure it again"
        )
    return [Finding("age", status, None, text)]


def _uncertainty(percent: FloatArray, lines: FloatArray) -> list[Finding]:
    low, high = int(np.argmin(percent)), int(np.argmax(percent))
    if percent[low] < UNCERTAINTY_LEAST_PERCENT:
        text = f"{percent[low]:g} % (k=1) is less than any chamber reads: is a fraction given where percent is asked?"
        return [Finding("uncertainty", "warn", int(lines[low]), text)]
    if percent[high] > UNCERTAINTY_MOST_PERCENT:
        text = f"{percent[high]:g} % (k=1) is no basis for a plan (published: 10 to 15 %)"
        return [Finding("uncertainty", "warn", int(lines[high]), text)]
    text = (
        f"{percent[low]:.3g} to {percent[high]:.3g} % (k=1)"
        if percent[low] < percent[high]
        else f"{percent[low]:.3g} % (k=1)"
    )
    return [Finding("uncertainty", "pass", None, text)]
