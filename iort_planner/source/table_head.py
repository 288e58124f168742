"""The head of a table file: which keys there are and what each may say. A fault is a finding of the key's name."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iort_planner.source.depth_dose import ReferencePoint, Scale
from iort_planner.source.findings import Finding
from iort_planner.source.number_form import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iort_planner.source.table_text import TableText

KINDS = ("depth-dose", "transfer-function", "tg43")
_REQUIRED = (
    "name",
    "kind",
    "medium",
    "reference_point",
    "scale",
    "tube_voltage_kv",
    "tube_current_ua",
    "applicator",
    "measured",
    "uncertainty",
    "clinical",
    "origin",
)
_OPTIONAL = (
    "derived",
    "trusted_range_mm",
    "scale_uncertainty",
    "dose_rate_constant_cgy_per_h_u",
    "active_length_mm",
    "air_kerma_strength_u",
    "radial_interpolation",
)
_NOTE = re.compile(r"note ([0-9]+)")
_UNCERTAINTY = re.compile(r"([0-9.]+(?:e-?[0-9]+)?)\s*%\s*\(\s*k\s*=\s*([0-9.]+)\s*\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableHead:
    """The head's values; text that is missing is empty, what is wrong has a finding and a value that is not used."""

    kind: str
    name: str
    reference_point: ReferencePoint
    scale: Scale
    tube_voltage_kv: float
    tube_current_ua: float
    applicator: str
    measured: str
    uncertainty_percent: float
    coverage: float
    clinical: bool
    origin: str
    derived: bool
    scale_uncertainty_percent: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HeadReader:
    """Reads keys one by one and collects what is wrong with them."""

    text: TableText
    findings: list[Finding] = field(default_factory=list)

    def fail(self, key: str, message: str) -> None:
        """A finding of the key's name at its line."""
        self.findings.append(Finding(key, "fail", self.text.head[key][0], message))

    def words(self, key: str) -> str:
        """The key's text; missing or empty is a finding."""
        if key not in self.text.head:
            self.findings.append(Finding(key, "fail", None, f"the head lacks '# {key}: ...'"))
            return ""
        if not self.text.head[key][1]:
            self.fail(key, f"{key} is empty")
        return self.text.head[key][1]

    def one_of(self, key: str, allowed: Sequence[str]) -> str:
        """One of a few words; the first one stands in for a wrong one."""
        value = self.words(key)
        if value and value not in allowed:
            self.fail(key, f"{key} is {value!r}, must be one of {', '.join(allowed)}")
        return value if value in allowed else allowed[0]

    def positive(self, key: str) -> float:
        """A number above 0; 1 stands in for a wrong one."""
        text = self.words(key)
        value = number(text)
        if text and value is None:
            self.fail(key, f"{key} is {text!r}, must be a number with a decimal point")
        elif value is not None and not 0.0 < value < float("inf"):
            self.fail(key, f"{key} is {text}, must be finite and above 0")
        return value if value is not None and value > 0.0 else 1.0

    def uncertainty(self, key: str) -> tuple[float, float]:
        """Percent and coverage factor, from like ``20 % (k=1)``."""
        text = self.words(key)
        match = _UNCERTAINTY.fullmatch(text)
        percent, coverage = (number(match[1]), number(match[2])) if match else (None, None)
        if percent is not None and coverage is not None and 0.0 < percent <= 100.0 and 0.5 <= coverage <= 4.0:
            return percent, coverage
        if text:
            limits = "above 0 and up to 100 %, its coverage factor k from 0.5 to 4"  # our own; usual are 1, 2 and 3
            self.fail(key, f"{key} is {text!r}, must be like '20 % (k=1)', {limits}")
        return 1.0, 1.0

    def date(self, key: str) -> str:
        """An ISO date that is not in the future."""
        text = self.words(key)
        try:
            date = dt.date.fromisoformat(text)
            iso = date.isoformat() == text
        except ValueError:
            iso = False
        if text and not iso:
            self.fail(key, f"{key} is {text!r}, must be a date like 2026-10-01")
        # a day of grace for time zones
        elif text and date > dt.datetime.now(tz=dt.UTC).date() + dt.timedelta(days=1):
            self.fail(key, f"{key} is {text}, a date in the future")
        return text


def read_head(text: TableText) -> tuple[TableHead, list[Finding]]:
    """Read and judge the keys that every kind of table has."""
    reader = HeadReader(text)
    _unknown_keys(reader)
    reader.one_of("medium", ["water"])
    percent, coverage = reader.uncertainty("uncertainty")
    added, added_coverage = reader.uncertainty("scale_uncertainty") if "scale_uncertainty" in text.head else (0.0, 1.0)
    numbered = sorted((int(match[1]), key) for key in text.head if (match := _NOTE.fullmatch(key)))
    head = TableHead(
        kind=reader.one_of("kind", KINDS),
        name=reader.words("name"),
        reference_point=ReferencePoint(reader.one_of("reference_point", list(ReferencePoint))),
        scale=Scale(reader.one_of("scale", list(Scale))),
        tube_voltage_kv=reader.positive("tube_voltage_kv"),
        tube_current_ua=reader.positive("tube_current_ua"),
        applicator=reader.words("applicator"),
        measured=reader.date("measured"),
        uncertainty_percent=percent / coverage,
        coverage=coverage,
        clinical=reader.one_of("clinical", ["yes", "no"]) == "yes",
        origin=reader.words("origin"),
        derived="derived" in text.head and reader.one_of("derived", ["yes", "no"]) == "yes",
        scale_uncertainty_percent=added / added_coverage,
        notes=tuple(text.head[key][1] for _, key in numbered),
    )
    return head, reader.findings


def _unknown_keys(reader: HeadReader) -> None:
    """A typing error must not pass for a free remark."""
    known = _REQUIRED + _OPTIONAL
    for key in reader.text.head:
        near = difflib.get_close_matches(key.casefold().replace(" ", "_"), known, n=1, cutoff=0.85)
        if key not in known and near:
            line = reader.text.head[key][0]
            problem = f"unknown key {key!r}, is {near[0]!r} meant?"
            reader.findings.append(Finding("unknown-key", "fail", line, problem))
