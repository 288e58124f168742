"""One case of a sweep through needle, canal and distances, scored against its truth; and what many of them say together."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Protocol

import numpy as np

from iort_planner.applicator import Applicator
from iort_planner.errors import IortError, NeedleNotFoundError
from iort_planner.geometry.canal import SpinalCanal, segment_canal
from iort_planner.geometry.distance import canal_distances
from iort_planner.geometry.needle import Confidence, Needle, locate_needle, locate_needles
from iort_planner.imaging.volume import Volume
from iort_planner.planning.uncertainty import Causes
from iort_planner.units import FloatArray
from tests.sweeps.outcome import Outcome, Truth

__all__ = ["Outcome", "Truth", "angle_deg", "arguments", "finish", "report", "score", "spread", "summary"]


class Printable(Protocol):
    """A line of the table of bars (`tests.sweeps.bars.Bar`)."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def passed(self) -> bool:
        """Whether the limit is kept."""

    def line(self) -> str:
        """In one line."""


def angle_deg(one: FloatArray, other: FloatArray) -> float:
    """Angle between two vectors, exact for small ones too."""
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(one, other))), float(one @ other)))


def score(
    name: str,
    groups: tuple[str, ...],
    case: dict[str, Any],
    volume: Volume,
    applicator: Applicator,
    truth: Truth,
    *,
    hint_lps_mm: FloatArray | None = None,
    needles: int = 1,
) -> Outcome:
    """Needle, canal and distances of one scan against its truth; a refusal is an outcome too.

    ``needles`` is how many there are; where there are several, all that are listed are counted.
    """
    start = time.perf_counter()
    known: dict[str, Any] = {
        "name": name,
        "groups": groups,
        "case": case,
        "bending_mm": truth.bending_mm,
        "over_source": truth.over_source,
        "distance_mm": truth.distance_from_source_mm,
        "clearance_mm": truth.shaft_clearance_mm,
        "needles": needles,
        "hinted": hint_lps_mm is not None,
    }
    try:
        if needles > 1:
            needle, *others = locate_needles(volume, applicator, hint_lps_mm)
            known["needles_found"] = 1 + len(others)
        else:
            needle = locate_needle(volume, applicator, hint_lps_mm)
        known |= _needle_score(needle, truth)
        canal = segment_canal(volume, needle.source_lps_mm, needle.axis_lps)
        known |= _canal_score(canal)
        found = canal_distances(needle, applicator, canal)
        known |= {
            "distance_error_mm": found.distance_from_source_mm - truth.distance_from_source_mm,
            "clearance_error_mm": found.shaft_clearance_mm - truth.shaft_clearance_mm,
            "wall_error_mm": _wall_error_mm(canal, truth),
            "distance_sigma_mm": distance_sigma_mm(needle, canal, found.nearest_point_lps_mm),
        }
    except IortError as error:
        known["refused"] = f"{type(error).__name__}: {error}"
        # which of several is meant cannot be known without a hint: the refusal must then ask for one
        known["asked"] = (
            needles > 1
            and hint_lps_mm is None
            and isinstance(error, NeedleNotFoundError)
            and "--needle-hint" in str(error)
        )
    return Outcome(**known, seconds=time.perf_counter() - start)


def _needle_score(needle: Needle, truth: Truth) -> dict[str, Any]:
    offset = needle.tip_lps_mm - truth.tip_lps_mm
    return {
        "needle_high": needle.confidence is Confidence.HIGH,
        "needle_reasons": needle.reasons,
        "tip_error_mm": float(np.linalg.norm(offset)),
        "tip_along_mm": float(offset @ truth.axis_lps),
        "axis_error_deg": angle_deg(needle.axis_lps, truth.axis_lps),
        "source_error_mm": float(np.linalg.norm(needle.source_lps_mm - truth.source_lps_mm)),
        "tip_uncertainty_mm": needle.tip_uncertainty_mm,
        **tip_parts(needle, offset),
        "over_source_found": needle.cannula_over_source,
        "bending_found_mm": needle.bending_mm,
        "bending_error_mm": None
        if truth.bending_mm is None or needle.bending_mm is None
        else needle.bending_mm - truth.bending_mm,
    }


def _covariance_mm2(needle: Needle) -> FloatArray:
    """Of the tip; of a pose by hand alike in all directions, as a plan takes it."""
    if needle.tip_covariance_lps_mm2 is None:
        return needle.tip_uncertainty_mm**2 / 3.0 * np.eye(3)
    return needle.tip_covariance_lps_mm2


def tip_parts(needle: Needle, offset_mm: FloatArray) -> dict[str, Any]:
    """The tip's error along the found axis and in two directions across it, with the stated k=1 of each."""
    axis, covariance = needle.axis_lps, _covariance_mm2(needle)
    first = np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
    first /= np.linalg.norm(first)
    directions = (axis, first, np.cross(axis, first))
    return {
        "tip_parts_mm": tuple(float(offset_mm @ d) for d in directions),
        "tip_sigmas_mm": tuple(math.sqrt(max(float(d @ covariance @ d), 0.0)) for d in directions),
    }


def distance_sigma_mm(needle: Needle, canal: SpinalCanal, wall_lps_mm: FloatArray) -> float:
    """Stated k=1 of the distance from source to wall: the plan's own budget (`iort_planner.planning.uncertainty`)."""
    return Causes(
        table_percent=0.0,
        scale_percent=0.0,
        output_percent=0.0,
        interpolation_percent=0.0,
        anisotropy_percent=0.0,
        tip_covariance_lps_mm2=_covariance_mm2(needle),
        canal_mm=canal.uncertainty_mm,
        source_lps_mm=needle.source_lps_mm,
        wall_lps_mm=wall_lps_mm,
        axis_lps=needle.axis_lps,
    ).distance_sigma_mm


def _canal_score(canal: SpinalCanal) -> dict[str, Any]:
    return {
        "canal_high": canal.confidence is Confidence.HIGH,
        "canal_reasons": canal.reasons,
        "canal_uncertainty_mm": canal.uncertainty_mm,
    }


def _wall_error_mm(canal: SpinalCanal, truth: Truth) -> float:
    """Distance from the true source to the nearest of the found wall's vertices (they lie close), minus the true one."""
    triangles = canal.vertices_lps_mm[canal.faces]
    weights = np.array([(a, b, 6 - a - b) for a in range(7) for b in range(7 - a)]) / 6.0
    near = np.argsort(np.linalg.norm(triangles.mean(axis=1) - truth.source_lps_mm, axis=1))[:400]
    points = np.einsum("wc,tcd->twd", weights, triangles[near])
    return float(np.min(np.linalg.norm(points - truth.source_lps_mm, axis=-1))) - truth.distance_from_source_mm


_MEASURES = (
    ("tip_error_mm", "tip error, mm"),
    ("axis_error_deg", "axis error, degrees"),
    ("source_error_mm", "source error, mm"),
    ("bending_error_mm", "bending error, mm"),
    ("distance_error_mm", "canal distance error, mm"),
    ("wall_error_mm", "of that the canal's, mm"),
    ("clearance_error_mm", "shaft clearance error, mm"),
)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 95 % and largest of the absolute values, and the mean with its sign."""
    if not values:
        return {"count": 0}
    size = np.abs(values)
    return {
        "count": len(values),
        "median": float(np.median(size)),
        "p95": float(np.quantile(size, 0.95)),
        "max": float(size.max()),
        "mean_signed": float(np.mean(values)),
    }


def _measured(outcomes: Iterable[Outcome], key: str) -> list[float]:
    return [value for o in outcomes if (value := getattr(o, key)) is not None]


def _trusted(outcome: Outcome) -> bool:
    return outcome.needle_high and outcome.canal_high and not outcome.refused and not outcome.crashed


def _kind(reason: str) -> str:
    """A reason without its numbers, to count how often each fires."""
    return "".join("#" if c.isdigit() else c for c in reason)


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Distributions, rates, reasons and silent failures of a sweep."""
    groups = sorted({group for o in outcomes for group in o.groups})
    reasons = Counter(f"needle: {_kind(r)}" for o in outcomes for r in o.needle_reasons)
    reasons.update(f"canal: {_kind(r)}" for o in outcomes for r in o.canal_reasons)
    return {
        "cases": len(outcomes),
        "errors_all": {key: spread(_measured(outcomes, key)) for key, _ in _MEASURES},
        "errors_high": {key: spread(_measured(filter(_trusted, outcomes), key)) for key, _ in _MEASURES},
        "within_2_sigma": {
            "tip": _within(outcomes, "tip_error_mm", "tip_uncertainty_mm"),
            "canal": _within(outcomes, "wall_error_mm", "canal_uncertainty_mm"),
        },
        "groups": {g: _rates([o for o in outcomes if g in o.groups]) for g in groups} | {"all": _rates(outcomes)},
        "reasons": dict(reasons.most_common()),
        "refusals": [f"{o.name}: {o.refused or o.crashed}" for o in outcomes if o.refused or o.crashed],
        "silent": [{"name": o.name, "what": o.silent, **asdict(o)} for o in outcomes if o.silent],
    }


def _within(outcomes: Sequence[Outcome], error: str, sigma: str) -> float | None:
    """Share of the cases with high confidence whose error is at most twice the stated k=1."""
    pairs = [(getattr(o, error), getattr(o, sigma)) for o in outcomes if _trusted(o)]
    return None if not pairs else sum(abs(e) <= 2.0 * s for e, s in pairs) / len(pairs)


def _rates(outcomes: Sequence[Outcome]) -> dict[str, int]:
    return {
        "cases": len(outcomes),
        "refused": sum(bool(o.refused or o.crashed) and not o.asked for o in outcomes),
        "asked": sum(o.asked for o in outcomes),
        "needle_low": sum(o.tip_error_mm is not None and not o.needle_high for o in outcomes),
        "canal_low": sum(o.canal_uncertainty_mm is not None and not o.canal_high for o in outcomes),
        "both_high": sum(_trusted(o) for o in outcomes),
        "silent": sum(bool(o.silent) for o in outcomes),
    }


def report(outcomes: Sequence[Outcome], write: Callable[[str], object]) -> None:
    """The sweep as text: a line a case, then the summary."""
    for outcome in outcomes:
        write(outcome.line() + "\n")
    found = summary(outcomes)
    for title, key in (("all cases", "errors_all"), ("both confidences high", "errors_high")):
        write(f"\n{title:<30}{'n':>6}{'median':>9}{'95 %':>9}{'max':>9}{'mean':>9}\n")
        for name, label in _MEASURES:
            s = found[key][name]
            if s["count"]:
                numbers = "".join(f"{s[k]:9.2f}" for k in ("median", "p95", "max"))
                write(f"{label:<30}{s['count']:6d}{numbers}{s['mean_signed']:+9.2f}\n")
    tip, canal = found["within_2_sigma"]["tip"], found["within_2_sigma"]["canal"]
    if tip is not None and canal is not None:
        write(f"\nwithin twice the stated uncertainty (high): tip {tip:.0%}, canal wall {canal:.0%}\n")
    write(f"\n{'group':<17}" + "".join(f"{k:>12}" for k in _rates(())) + "\n")
    # the groups overlap: a case may be bent and instrumented
    for group, rates in found["groups"].items():
        write(f"{group:<17}" + "".join(f"{v:12d}" for v in rates.values()) + "\n")
    write("\nreasons for low confidence\n")
    for reason, count in found["reasons"].items():
        write(f"{count:5d}  {reason}\n")
    for outcome in outcomes:
        if outcome.silent:
            write(f"\nSILENT {outcome.name}: {', '.join(outcome.silent)}\n  {outcome.case}\n")
    write(f"\n{found['groups']['all']['silent']} silent failure(s)\n")


def arguments(description: str | None, cases: int) -> argparse.ArgumentParser:
    """Options that every sweep has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=cases)
    parser.add_argument("--seed0", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    return parser


def finish(outcomes: list[Outcome], *, as_json: bool, bars: Sequence[Printable] = ()) -> int:
    """Print a sweep, with bars if it has some; the exit status is 1 on a silent failure."""
    if as_json:
        cases = [asdict(outcome) for outcome in outcomes]
        content = {
            "summary": summary(outcomes),
            "bars": [asdict(bar) | {"passed": bar.passed} for bar in bars],
            "cases": cases,
        }
        sys.stdout.write(json.dumps(content, indent=1) + "\n")
    else:
        report(outcomes, sys.stdout.write)
    for bar in bars:
        (sys.stderr if as_json else sys.stdout).write(bar.line() + "\n")
    return 1 if any(outcome.silent for outcome in outcomes) else 0
