"""``qa trend``: the history of a source's outputs and tables: control chart, drift, step."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iort_planner.errors import DepthDoseTableError, InputError
from iort_planner.qa import outputs
from iort_planner.qa.charts import FEWEST_FOR_LIMITS, RUN, ControlChart, control_chart
from iort_planner.qa.results import Status, by_weight, document, worst
from iort_planner.source.depth_dose import DepthDoseTable
from iort_planner.source.findings import Finding
from iort_planner.source.table_file import examine

ACTION_WARN_PERCENT, ACTION_FAIL_PERCENT = 3.0, 5.0  # as the second check's (docs/checks.md)
CHANGE_LEAST_PERCENT = 0.5  # our own: chamber readings scatter so much; a smaller change is not worth a warning
CHANGE_FAIL_PERCENT = 3.0  # over the history; our own: by then a table is 0.1 mm wrong at 8 mm
COMPARED_AT_MM = (8.0, 20.0)  # of two tables: level near the prescription, and far out, where the spectrum shows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """One history.

    Parameters
    ----------
    name : str
        ``outputs`` or what of the tables: ``dose rate at 8 mm``.
    label : str
        What its values are, for the chart's axis.
    date : tuple of datetime.date, of length N
    where : tuple of str
        File, and line, of each value.
    chart : ControlChart
    """

    name: str
    label: str
    date: tuple[dt.date, ...]
    where: tuple[str, ...]
    chart: ControlChart


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trend:
    """The result of `trend`.

    Parameters
    ----------
    folder : str
    findings : tuple of Finding
        The worst first.
    series : tuple of Series
    """

    folder: str
    findings: tuple[Finding, ...]
    series: tuple[Series, ...]

    @property
    def verdict(self) -> Status:
        """The worst of the findings."""
        return worst(self.findings)

    def as_json(self) -> dict[str, Any]:
        """The document that ``qa trend --json`` prints."""
        described = [
            {
                "name": each.name,
                "label": each.label,
                "centre_percent": each.chart.centre,
                "lower_percent": each.chart.lower,
                "upper_percent": each.chart.upper,
                "drift_percent_per_year": each.chart.drift_percent_per_year,
                "drift_uncertainty_percent_per_year": each.chart.drift_uncertainty_percent_per_year,
                "drift_probability": each.chart.drift_probability,
                "step_percent": each.chart.step_percent,
                "step_uncertainty_percent": each.chart.step_uncertainty_percent,
                "step_probability": each.chart.step_probability,
                "step_date": None if each.chart.step is None else each.date[each.chart.step].isoformat(),
                "change": each.chart.change,
                "values": [
                    {"date": date.isoformat(), "where": where, "value_percent": value, "beyond": i in each.chart.beyond}
                    for i, (date, where, value) in enumerate(zip(each.date, each.where, each.chart.value, strict=True))
                ],
            }
            for each in self.series
        ]
        return document("qa-trend", self.findings, {"folder": self.folder, "series": described})


def trend(folder: str | Path) -> Trend:
    """Judge the history in a folder: ``outputs.csv`` and depth-dose tables of one source.

    Raises
    ------
    InputError
        If there is no such folder, or neither outputs nor tables lie in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"history {str(folder)!r} is no folder; give one with outputs.csv and depth-dose tables (CSV)")
    findings: list[Finding] = []
    series: list[Series] = []
    history = folder / outputs.NAME
    files = sorted(path for path in folder.glob("*.csv") if path.name != outputs.NAME and path.is_file())
    if not history.exists() and not files:
        raise InputError(f"history {str(folder)!r} holds neither outputs.csv nor a depth-dose table; see docs/qa.md")
    if history.exists():
        series += _outputs(history, findings)
    if files:
        series += _tables(files, findings)
    for each in series:
        findings += judge(each)
    if not series:
        findings.append(Finding("history", "fail", None, "no value could be used; see the other findings"))
    return Trend(folder=str(folder), findings=by_weight(findings), series=tuple(series))


def _outputs(path: Path, findings: list[Finding]) -> list[Series]:
    history = outputs.read_outputs(path)
    findings += history.findings
    if not history.date:
        return []
    findings += outputs.air_density(history)
    return [
        _series(
            "outputs",
            "output against reference, %",
            history.date,
            [f"{history.file} line {line}" for line in history.line],
            [100.0 * (float(ratio) - 1.0) for ratio in history.output_ratio],
        )
    ]


def _series(name: str, label: str, dates: tuple[dt.date, ...], where: list[str], percent: list[float]) -> Series:
    days = np.array([(date - dates[0]).days for date in dates], dtype=np.float64)
    return Series(name=name, label=label, date=dates, where=tuple(where), chart=control_chart(days, np.array(percent)))


def _tables(files: list[Path], findings: list[Finding]) -> list[Series]:
    """Dose rates at stated distances of every sound table, against the oldest one."""
    sound: list[tuple[dt.date, str, DepthDoseTable]] = []
    for path in files:
        try:
            found = examine(path)
        except DepthDoseTableError as error:
            findings.append(Finding("table", "fail", None, f"{error}; it is left out"))
            continue
        if isinstance(found.table, DepthDoseTable):
            sound.append((dt.date.fromisoformat(found.table.measured), path.name, found.table))
            continue
        failing = next((each for each in found.findings if each.status == "fail"), None)
        if failing is None:  # a sound file of another kind has no place on this chart
            text, status = f"{path.name} is of kind {found.kind!r}; depth-dose tables are compared", "warn"
        else:
            text, status = f"{path.name}: {failing.message}; the table is left out (see qa check)", "fail"
        findings.append(
            Finding("table", "fail" if status == "fail" else "warn", failing.line if failing else None, text)
        )
    if not sound:
        return []
    sound.sort(key=lambda each: each[:2])
    first = sound[0][2]
    findings += _one_source([each[2] for each in sound])
    sound = [each for each in sound if each[2].scale == first.scale]
    series = []
    for at in COMPARED_AT_MM:
        there = [each for each in sound if bool(each[2].covers(np.array(at)))]
        if len(there) < 2:
            continue
        rates = [float(each[2].rate_gy_per_min(np.array([at]))[0]) for each in there]
        series.append(
            _series(
                f"dose rate at {at:g} mm",
                f"dose rate at {at:g} mm against {there[0][0]}, %",
                tuple(each[0] for each in there),
                [each[1] for each in there],
                [100.0 * (rate / rates[0] - 1.0) for rate in rates],
            )
        )
    if not series:
        text = "fewer than two sound tables of one scale reach 8 mm: there is no history of tables yet"
        findings.append(Finding("history", "warn", None, text))
    return series


def _one_source(tables: list[DepthDoseTable]) -> list[Finding]:
    findings = []
    names = sorted({table.name for table in tables})
    if len(names) > 1:
        text = f"the tables have several names ({', '.join(names[:4])}): a history is of one source; sort them into folders"
        findings.append(Finding("one-source", "warn", None, text))
    other = [table.file for table in tables if table.scale != tables[0].scale]
    if other:
        text = f"{', '.join(other[:4])}: another scale than {tables[0].file} ({tables[0].scale}); left out, convert them first"
        findings.append(Finding("scale", "fail", None, text))
    return findings


def judge(series: Series) -> list[Finding]:
    """Findings on one chart."""
    chart, name = series.chart, series.name
    latest = float(chart.value[-1])
    status: Status = (
        "fail" if abs(latest) > ACTION_FAIL_PERCENT else "warn" if abs(latest) > ACTION_WARN_PERCENT else "pass"
    )
    text = (
        f"{name}: the latest value ({series.date[-1]}) is {latest:+.2f} % (warn over {ACTION_WARN_PERCENT:g} %, fail over "
        f"{ACTION_FAIL_PERCENT:g} %)"
    )
    findings = [Finding("latest", status, None, text)]
    if chart.lower is None or chart.upper is None:
        text = f"{name}: {chart.value.size} values; control limits need {FEWEST_FOR_LIMITS}"
        findings.append(Finding("control-limits", "pass", None, text))
    else:
        findings += _limits(series, chart.lower, chart.upper)
    return [*findings, *_change(series)]


def _limits(series: Series, lower: float, upper: float) -> list[Finding]:
    chart, name = series.chart, series.name
    limits = f"{lower:+.2f} to {upper:+.2f} %"
    findings = []
    if chart.beyond:
        far = max(chart.beyond, key=lambda i: abs(float(chart.value[i]) - chart.centre))
        off = abs(float(chart.value[far]) - chart.centre)
        text = (
            f"{name}: {len(chart.beyond)} of {chart.value.size} values lie outside the control limits, {limits}; farthest "
            f"{chart.value[far]:+.2f} % on {series.date[far]} ({series.where[far]}): look for what was different that day"
        )
        findings.append(Finding("control-limits", "fail" if off > ACTION_FAIL_PERCENT else "warn", None, text))
    for start, end in chart.runs if chart.change == "none" else ():  # a step or drift has them anyway
        text = (
            f"{name}: {end - start + 1} values in a row on one side of the mean, {series.date[start]} to "
            f"{series.date[end]} ({RUN} or more are a sign of a change; {CHANGE_LEAST_PERCENT:g} % from the mean warns)"
        )
        findings.append(Finding("run", "warn" if _worth(series, start, end) else "pass", None, text))
    if not chart.beyond:
        findings.append(
            Finding("control-limits", "pass", None, f"{name}: all {chart.value.size} values lie within {limits}")
        )
    return findings


def _worth(series: Series, start: int, end: int) -> bool:
    """Whether the values of a run lie far enough from the mean to matter."""
    chart = series.chart
    return abs(float(np.mean(chart.value[start : end + 1])) - chart.centre) >= CHANGE_LEAST_PERCENT


def _change(series: Series) -> list[Finding]:
    chart, name = series.chart, series.name
    years = float(chart.days[-1]) / 365.25
    if chart.change == "step" and chart.step is not None and chart.step_percent is not None:
        size = abs(chart.step_percent)
        text = (
            f"{name}: a step of {chart.step_percent:+.2f} +- {chart.step_uncertainty_percent:.2f} % between "
            f"{series.date[chart.step - 1]} and {series.date[chart.step]} ({series.where[chart.step]}): look for what was "
            "changed then (service, chamber, source)"
        )
        return [Finding("step", _size(size), None, text)]
    if chart.change == "drift" and chart.drift_percent_per_year is not None:
        text = (
            f"{name}: a drift of {chart.drift_percent_per_year:+.2f} +- {chart.drift_uncertainty_percent_per_year:.2f} % a "
            f"year, {chart.drift_percent_per_year * years:+.2f} % over the history: measure the table again, have the "
            "source or the chamber looked at"
        )
        return [Finding("drift", _size(abs(chart.drift_percent_per_year * years)), None, text)]
    if chart.step_probability is None:
        return [Finding("change", "pass", None, f"{name}: too few values to tell a drift or a step")]
    return [Finding("change", "pass", None, f"{name}: neither a drift nor a step is seen")]


def _size(percent: float) -> Status:
    if percent < CHANGE_LEAST_PERCENT:
        return "pass"
    return "fail" if percent >= CHANGE_FAIL_PERCENT else "warn"
