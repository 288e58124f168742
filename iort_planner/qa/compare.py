"""``qa compare``: a measured table against a reference, and the cause of the difference by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iort_planner.qa import causes, shape
from iort_planner.qa.agreement import distance_to_agreement_mm, gamma, local_difference_percent
from iort_planner.qa.criteria import CompareCriteria
from iort_planner.qa.fit import FEWEST_ROWS, Explanation, explain
from iort_planner.qa.mixups import mixups
from iort_planner.qa.results import Status, by_weight, document, worst
from iort_planner.source.depth_dose import DepthDoseTable
from iort_planner.source.findings import Finding
from iort_planner.source.table_file import Examination, examine
from iort_planner.units import FloatArray

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TableComparison:
    """The result of `compare_tables`.

    Parameters
    ----------
    measured, reference : Examination
    findings : tuple of Finding
        The worst first; a line is one of the measured file, unless the message says otherwise.
    line : ndarray of shape (N,), int
        Lines of the measured rows that lie inside the reference.
    distance_mm, rate_gy_per_min : ndarray of shape (N,)
    difference_percent, gamma, agreement_mm : ndarray of shape (N,)
        Local difference, 1-D gamma, and how much farther the reference has the measured dose rate.
    explanations : tuple of Explanation
        Models of the difference, the best first; empty with too few rows.
    criteria : CompareCriteria
    """

    measured: Examination
    reference: Examination
    findings: tuple[Finding, ...]
    line: npt.NDArray[np.int64]
    distance_mm: FloatArray
    rate_gy_per_min: FloatArray
    difference_percent: FloatArray
    gamma: FloatArray
    agreement_mm: FloatArray
    explanations: tuple[Explanation, ...]
    criteria: CompareCriteria

    @property
    def verdict(self) -> Status:
        """The worst of the findings."""
        return worst(self.findings)

    @property
    def gamma_pass_percent(self) -> float:
        """Rows with gamma up to 1, percent; NaN without rows."""
        return float(100.0 * np.mean(self.gamma <= 1.0)) if self.gamma.size else float("nan")

    def as_json(self) -> dict[str, Any]:
        """The document that ``qa compare --json`` prints."""
        return document(
            "qa-compare",
            self.findings,
            {
                "measured": {"file": self.measured.file, "sha256": self.measured.sha256},
                "reference": {"file": self.reference.file, "sha256": self.reference.sha256},
                "criteria": {
                    "dose_percent": self.criteria.dose_percent,
                    "distance_mm": self.criteria.distance_mm,
                    "slip_mm": self.criteria.slip_mm,
                    "factor_percent": self.criteria.factor_percent,
                },
                "gamma_pass_percent": self.gamma_pass_percent,
                "explanations": [
                    {
                        "name": each.name,
                        "slip_mm": each.slip_mm,
                        "slip_uncertainty_mm": each.slip_uncertainty_mm,
                        "factor": each.factor,
                        "factor_uncertainty": each.factor_uncertainty,
                        "criterion": each.criterion,
                    }
                    for each in self.explanations
                ],
                "rows": [
                    {
                        "line": line,
                        "distance_mm": r,
                        "dose_rate_gy_per_min": rate,
                        "difference_percent": difference,
                        "gamma": index,
                        "distance_to_agreement_mm": agreement,
                    }
                    for line, r, rate, difference, index, agreement in zip(
                        self.line,
                        self.distance_mm,
                        self.rate_gy_per_min,
                        self.difference_percent,
                        self.gamma,
                        self.agreement_mm,
                        strict=True,
                    )
                ],
            },
        )


def compare_tables(
    measured: str | Path | Examination,
    reference: str | Path | Examination,
    *,
    applicator: Applicator | None = None,
    criteria: CompareCriteria | None = None,
) -> TableComparison:
    """Compare a measured depth-dose table with a reference, and say why they differ.

    Parameters
    ----------
    measured, reference : str, Path or Examination
        Library names, files, or what `iort_planner.source.table_file.examine` gave.
    applicator : Applicator, optional
        For tables whose distances start at the surface or tip.
    criteria : CompareCriteria, optional

    Raises
    ------
    DepthDoseTableError
        If either file cannot be read as a table at all.
    """
    ours = measured if isinstance(measured, Examination) else examine(measured, applicator)
    theirs = reference if isinstance(reference, Examination) else examine(reference, applicator)
    criteria = criteria or CompareCriteria()
    findings = [
        Finding(each.id, each.status, each.line, f"{role} {found.file}: {each.message}")
        for role, found in (("measured", ours), ("reference", theirs))
        for each in found.findings
        if each.status != "pass"
    ]
    line = np.zeros(0, dtype=np.int64)
    r = rate = difference = index = agreement = np.zeros(0)
    explanations: tuple[Explanation, ...] = ()
    problems = [*_unfit("measured", ours), *_unfit("reference", theirs)]
    findings += problems
    if not problems and isinstance(ours.table, DepthDoseTable) and isinstance(theirs.table, DepthDoseTable):
        findings += causes.heads(ours, theirs)
        inside = theirs.table.covers(ours.table.distance_mm)
        findings += causes.overlap(ours, theirs.table, inside)
        line = ours.columns["row_lines"].astype(np.int64)[inside]
        r, rate = ours.table.distance_mm[inside], ours.table.dose_rate_gy_per_min[inside]
        if r.size:
            difference = local_difference_percent(r, rate, theirs.table)
            index = gamma(r, rate, theirs.table, criteria)
            agreement = distance_to_agreement_mm(r, rate, theirs.table)
            findings += causes.agreement(line, r, difference, index, agreement, criteria)
        if r.size >= FEWEST_ROWS:
            explanations = explain(r, rate, theirs.table, dict(mixups()))
            findings += causes.causes(explanations, criteria, ours, theirs)
            findings += causes.outliers(explanations[0], line, r)
    return TableComparison(
        measured=ours,
        reference=theirs,
        findings=by_weight(findings),
        line=line,
        distance_mm=r,
        rate_gy_per_min=rate,
        difference_percent=difference,
        gamma=index,
        agreement_mm=agreement,
        explanations=explanations,
        criteria=criteria,
    )


def _unfit(role: str, found: Examination) -> list[Finding]:
    """Why a file cannot be compared at all."""
    table = found.table
    if not isinstance(table, DepthDoseTable):
        why = "has failing findings" if found.kind == "depth-dose" else f"is of kind {found.kind!r}"
    elif shape.impossible(found.columns["row_lines"].astype(np.int64), table.distance_mm, table.dose_rate_gy_per_min):
        why = "holds rows that cannot be measured in any unit (see qa check)"
    else:
        return []
    text = f"nothing was compared: the {role} file {found.file} {why}; two sound depth-dose tables are needed"
    return [Finding("comparable", "fail", None, text)]
