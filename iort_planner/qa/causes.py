"""Findings of a comparison: what the heads, the differences and the fitted models say, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from iort_planner.qa.criteria import (
    DIFFERENCE_FAIL_PERCENT,
    DIFFERENCE_WARN_PERCENT,
    FACTOR_WARN_PART,
    GAMMA_LEAST_PERCENT,
    OUTLIER_FAIL_PERCENT,
    OUTLIER_WARN_PERCENT,
    SLIP_WARN_PART,
    CompareCriteria,
)
from iort_planner.qa.fit import FEWEST_ROWS, Explanation
from iort_planner.qa.mixups import mixups
from iort_planner.source.findings import Finding

if TYPE_CHECKING:
    from iort_planner.qa.results import Status
    from iort_planner.source.depth_dose import DepthDoseTable
    from iort_planner.source.table_file import Examination
    from iort_planner.units import FloatArray

_OUTLIER_SIGMA = 4.5  # of the other rows: one false alarm in 5000 tables of 30 rows
_LISTED = 6


def heads(ours: Examination, theirs: Examination) -> list[Finding]:
    """What both heads must say alike before numbers may be compared."""
    findings = []
    for key, status, why in (
        ("scale", "fail", "the same source reads 14 to 80 % apart on two scales: convert one of them first"),
        ("reference_point", "warn", "both were converted to the source centre through the applicator's geometry"),
        ("tube_voltage_kv", "fail", "another voltage is another source"),
        ("tube_current_ua", "fail", "the dose rate follows the current"),
        ("applicator", "warn", "a table holds for its own applicator"),
    ):
        a, b = ours.head.get(key, ""), theirs.head.get(key, "")
        if _differ(a, b):
            text = f"{key} differs: measured {a!r}, reference {b!r}; {why}"
            findings.append(Finding(key, "fail" if status == "fail" else "warn", None, text))
    return findings


def _differ(a: str, b: str) -> bool:
    try:
        return float(a) != float(b)
    except ValueError:
        return a.casefold() != b.casefold()


def overlap(ours: Examination, reference: DepthDoseTable, inside: npt.NDArray[np.bool_]) -> list[Finding]:
    """Which measured rows could be compared."""
    low, high = reference.range_mm
    lines = ours.columns["row_lines"].astype(np.int64)[~inside]
    count = int(inside.sum())
    if count < FEWEST_ROWS:
        text = (
            f"{count} measured rows lie inside the reference ({low:g} to {high:g} mm), at least {FEWEST_ROWS} are needed "
            "to tell a slip from a factor"
        )
        return [Finding("overlap", "fail", None, text)]
    if lines.size == 0:
        return [Finding("overlap", "pass", None, f"all {count} measured rows lie inside the reference")]
    text = f"{lines.size} measured rows lie outside the reference ({low:g} to {high:g} mm) and were not compared"
    return [Finding("overlap", "warn", int(lines[0]), text)]


def agreement(
    line: npt.NDArray[np.int64],
    r: FloatArray,
    difference: FloatArray,
    index: FloatArray,
    agreement: FloatArray,
    criteria: CompareCriteria,
) -> list[Finding]:
    """Local difference, gamma and distance to agreement, each by its worst row."""
    at = int(np.argmax(np.abs(difference)))
    worst_percent = abs(float(difference[at]))
    status: Status = (
        "fail"
        if worst_percent > DIFFERENCE_FAIL_PERCENT
        else "warn"
        if worst_percent > DIFFERENCE_WARN_PERCENT
        else "pass"
    )
    text = (
        f"largest local difference {difference[at]:+.2f} % at {r[at]:g} mm, median {np.median(difference):+.2f} % "
        f"(warn over {DIFFERENCE_WARN_PERCENT:g} %, fail over {DIFFERENCE_FAIL_PERCENT:g} %)"
    )
    findings = [Finding("difference", status, int(line[at]), text)]
    passing = float(100.0 * np.mean(index <= 1.0))
    at = int(np.argmax(index))
    status = "fail" if passing < GAMMA_LEAST_PERCENT else "warn" if passing < 100.0 else "pass"
    text = (
        f"gamma ({criteria.dose_percent:g} % local, {criteria.distance_mm:g} mm) is up to 1 in {passing:.0f} % of the rows, "
        f"largest {index[at]:.2f} at {r[at]:g} mm (warn under 100 %, fail under {GAMMA_LEAST_PERCENT:g} %)"
    )
    findings.append(Finding("gamma", status, int(line[at]), text))
    known = np.isfinite(agreement)
    if known.any():
        at = int(np.argmax(np.where(known, np.abs(agreement), -1.0)))
        text = (
            f"largest distance to agreement {agreement[at]:+.3f} mm at {r[at]:g} mm (shown; judged by gamma and slip)"
        )
        findings.append(Finding("distance-to-agreement", "pass", int(line[at]), text))
    return findings


def causes(
    explanations: tuple[Explanation, ...], criteria: CompareCriteria, ours: Examination, theirs: Examination
) -> list[Finding]:
    """The best explanation in words, with both fitted numbers."""
    best = explanations[0]
    fullest = next(each for each in explanations if each.name == "origin and scale")
    if best.name in mixups():
        numerator, _, denominator = best.name.partition(" for ")
        heads = f"the heads say {ours.head.get('scale')} and {theirs.head.get('scale')}"
        text = (
            f"measured over reference follows {numerator.upper()}/{denominator.upper()} as published (1.43 at 7.5 and 1.16 "
            f"at 25 mm for V4.0/TARGIT), times {best.factor:.3f} +- {best.factor_uncertainty:.3f}: a mix-up of "
            f"calibration scales, the measured table looks like {numerator}, the reference like {denominator}; {heads}"
        )
        return [Finding("calibration-scale", "fail", None, text)]
    both = (
        f"with both free: slip {fullest.slip_mm:+.3f} +- {fullest.slip_uncertainty_mm:.3f} mm, factor {fullest.factor:.4f} "
        f"+- {fullest.factor_uncertainty:.4f} (k=1)"
    )
    if best.name == "same":
        return [Finding("fit", "pass", None, f"neither a slip of the origin nor a scale factor is seen; {both}")]
    findings = []
    slip, off = abs(best.slip_mm), 100.0 * abs(best.factor - 1.0)
    if "origin" in best.name:
        limit = criteria.slip_mm
        status: Status = "fail" if slip > limit else "warn" if slip > limit * SLIP_WARN_PART else "pass"
        at_8 = 100.0 * abs((1.0 + best.slip_mm / 8.0) ** -2.65 - 1.0)
        text = (
            f"origin slip of {slip:.2f} mm: the measured distances are {'too short' if best.slip_mm > 0 else 'too long'} "
            f"by {slip:.3f} +- {best.slip_uncertainty_mm:.3f} mm against the reference, {at_8:.0f} % of the dose at 8 mm "
            f"(fail over {limit:g} mm): check where the distances start; {both}"
        )
        findings.append(Finding("origin-slip", status, None, text))
    if "scale" in best.name:
        limit = criteria.factor_percent
        warn = limit * FACTOR_WARN_PART
        status = "fail" if off > limit else "warn" if off > warn else "pass"
        text = (
            f"scale factor of {best.factor:.3f}: all measured dose rates are {off:.1f} % {'high' if best.factor > 1 else 'low'} "
            f"(warn over {warn:g} %, fail over {limit:g} %): check output, chamber factor and air density; {both}"
        )
        findings.append(Finding("scale-factor", status, None, text))
    return findings


def outliers(best: Explanation, line: npt.NDArray[np.int64], r: FloatArray) -> list[Finding]:
    """Rows that the best explanation leaves unexplained."""
    off = best.residual_percent
    at = [
        i
        for i in range(off.size)
        if np.isfinite(off[i]) and abs(off[i]) > max(OUTLIER_WARN_PERCENT, _OUTLIER_SIGMA * best.noise_percent)
    ]
    many = len(at) > max(2, off.size // 5)
    findings = []
    for i in at[: 1 if many else _LISTED]:
        status: Status = "fail" if abs(off[i]) >= OUTLIER_FAIL_PERCENT else "warn"
        text = (
            f"the row at {r[i]:g} mm lies {abs(off[i]):.1f} % {'above' if off[i] > 0 else 'below'} what explains the others, "
            f"which scatter {best.noise_percent:.2f} % (warn from {OUTLIER_WARN_PERCENT:g} %, fail from "
            f"{OUTLIER_FAIL_PERCENT:g} %): correct or measure it again"
        )
        if many:
            text = (
                f"{len(at)} rows from {r[i]:g} mm on are explained neither by a slip of the origin, a scale factor nor a "
                f"mix-up of scales (off by up to {np.nanmax(np.abs(off)):.1f} %): the shapes differ"
            )
        findings.append(Finding("shape" if many else "outlier", status, int(line[i]), text))
    return findings
