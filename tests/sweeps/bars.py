"""The bars of issue 7 over the outcomes of a sweep, each with the cases that it is computed over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.sweeps.needle_cases import BUILDS, KINDS
from tests.sweeps.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One line of the table: what, over how many cases of which kind, the figure and the limits that it may reach.

    ``low`` is its least value where it has one.
    """

    what: str
    over: str
    count: int
    value: float
    limit: float
    unit: str
    low: float | None = None

    @property
    def passed(self) -> bool:
        enough = self.low is None or self.value >= self.low
        return self.count > 0 and enough and self.value <= self.limit

    def line(self) -> str:
        """The bar in one line."""
        state = "PASS" if self.passed else "FAIL" if self.count else "NONE"
        allowed = f"<= {self.limit:g}" if self.low is None else f"{self.low:g} to {self.limit:g}"
        return f"{state}  {self.what:<40}{self.value:8.2f}  {allowed:>16} {self.unit:<8}{self.count:5d}  {self.over}"


def _values(outcomes: Iterable[Outcome], key: str) -> list[float]:
    return [value for o in outcomes if (value := getattr(o, key)) is not None]


def low(outcome: Outcome) -> bool:
    """Whether an answer was given and needle or canal are of low confidence."""
    return not outcome.refused and not outcome.crashed and not (outcome.needle_high and outcome.canal_high)


def ordinary(outcome: Outcome) -> bool:
    """On CT, neither with a cannula over the plastic nor with a breached wall."""
    return not {"overlap", "breach", "C-arm"} & set(outcome.groups)


def _quantile(of: Sequence[Outcome], key: str, part: float, limit: float, unit: str, what: str, over: str) -> Bar:
    values = np.abs(_values(of, key))
    value = float(np.quantile(values, part)) if values.size else float("nan")
    name = "median" if part == 0.5 else f"{part:.0%}"
    return Bar(what=f"{what}, {name}", over=over, count=int(values.size), value=value, limit=limit, unit=unit)


def _mean(of: Sequence[Outcome], key: str, least: float, most: float, what: str, over: str) -> Bar:
    values = _values(of, key)
    value = float(np.mean(values)) if values else float("nan")
    return Bar(what=f"{what}, mean", over=over, count=len(values), value=value, low=least, limit=most, unit="mm")


def _share(of: Sequence[Outcome], which: Callable[[Outcome], bool], limit: float, what: str, over: str) -> Bar:
    part = 100.0 * sum(map(which, of)) / len(of) if of else float("nan")
    return Bar(what=what, over=over, count=len(of), value=part, limit=limit, unit="%")


def _coverage(pairs: Sequence[tuple[float, float]], what: str, over: str) -> list[Bar]:
    """Shares of errors within once and twice their stated uncertainty."""
    bars = []
    for k, wanted, within in ((1, 68.0, 5.0), (2, 95.0, 3.0)):
        part = 100.0 * sum(abs(e) <= k * s for e, s in pairs) / len(pairs) if pairs else float("nan")
        bars.append(
            Bar(
                what=f"{what} within k={k}",
                over=over,
                count=len(pairs),
                value=part,
                low=wanted - within,
                limit=wanted + within,
                unit="%",
            )
        )
    return bars


def table(outcomes: Sequence[Outcome]) -> list[Bar]:
    """The bars over all cases, then by build, and by scanner and slices.

    Errors are those of every answer, of high confidence or low. On a C-arm the canal's confidence is low by rule, so low
    confidence counts on CT only.
    """
    single = [o for o in outcomes if o.needles == 1]
    several = [o for o in outcomes if o.needles > 1]
    plain = [o for o in outcomes if ordinary(o)]
    silent = Bar(
        what="silent failures",
        over="every case",
        count=len(outcomes),
        value=float(sum(bool(o.silent) for o in outcomes)),
        limit=0.0,
        unit="",
    )
    bars = [
        silent,
        _share(single, _refused, 2.0, "refused (or crashed)", "every case with one needle"),
        _share(plain, low, 10.0, "low confidence", "CT without overlap or breach"),
        _quantile(outcomes, "axis_error_deg", 0.95, 0.6, "degrees", "axis error", "every answer"),
    ]
    if several:
        bars.insert(2, _share(several, _refused, 5.0, "refused, not asked for a hint", "every case with two needles"))
    for build in BUILDS:
        bars += _of_build([o for o in outcomes if build in o.groups], build)
    for kind in KINDS:
        bars += _of_kind([o for o in outcomes if kind in o.groups], kind)
    return bars


def _refused(outcome: Outcome) -> bool:
    return bool(outcome.refused or outcome.crashed) and not outcome.asked


def _of_build(of: Sequence[Outcome], build: str) -> list[Bar]:
    if not of:
        return []
    bars = [
        _quantile(of, "tip_error_mm", 0.5, 0.15, "mm", "tip error", build),
        _quantile(of, "tip_error_mm", 0.95, 0.45, "mm", "tip error", build),
        _quantile(of, "axis_error_deg", 0.95, 0.6, "degrees", "axis error", build),
    ]
    for streaks in ("clean", "streaked"):
        part = [o for o in of if streaks in o.groups]
        if part:
            bars.append(_mean(part, "tip_along_mm", -0.05, 0.05, "tip along the axis", f"{build}, {streaks}"))
    plain = [o for o in of if ordinary(o)]
    if plain:
        bars.append(_share(plain, low, 10.0, "low confidence", f"{build}, CT without overlap or breach"))
    return bars


def _of_kind(of: Sequence[Outcome], kind: str) -> list[Bar]:
    if not of:
        return []
    limit = 0.40 if kind == "CT fine" else 0.70
    bars = [
        _quantile(of, "distance_error_mm", 0.95, limit, "mm", "canal distance error", kind),
        _mean(of, "distance_error_mm", -0.10, 0.02, "canal distance error", kind),
    ]
    # what is stated of an answer that is called uncertain for another reason is no promise; C-arm answers are by rule
    sure = [o for o in of if o.needle_high or kind == "C-arm"]
    parts = [(o.tip_parts_mm, o.tip_sigmas_mm) for o in sure if o.tip_parts_mm and o.tip_sigmas_mm]
    bars += _coverage([(e[0], s[0]) for e, s in parts], "tip along the axis", kind)
    bars += _coverage([(e[n], s[n]) for e, s in parts for n in (1, 2)], "tip across the axis", f"{kind}, two a case")
    distances = [
        (o.distance_error_mm, o.distance_sigma_mm)
        for o in sure
        if (o.canal_high or kind == "C-arm") and o.distance_error_mm is not None and o.distance_sigma_mm is not None
    ]
    return bars + _coverage(distances, "canal distance", kind)


_PANELS = (
    ("tip_error_mm", "tip error, mm", (0.15, 0.45), 1.5),
    ("axis_error_deg", "axis error, degrees", (0.6,), 2.0),
    ("distance_error_mm", "canal distance error, mm", (0.4, 0.7), 2.0),
    ("bending_error_mm", "bending error, mm", (), 1.0),
)


def plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Cumulative distributions of the absolute errors by confidence, with the bars; written as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 7.0), layout="constrained")
    axes = figure.subplots(2, 2)
    kinds = (
        ("all answers", outcomes, "black"),
        ("high confidence", [o for o in outcomes if o.needle_high and o.canal_high], "tab:blue"),
        ("low confidence", [o for o in outcomes if low(o)], "tab:orange"),
    )
    for axis, (key, label, limits, end) in zip(axes.flat, _PANELS, strict=True):
        for name, chosen, colour in kinds:
            values = np.sort(np.abs(_values(chosen, key)))
            if values.size == 0:
                continue
            part = np.arange(1, values.size + 1) / values.size
            axis.step(
                np.minimum(values, end), 100.0 * part, where="post", color=colour, label=f"{name} ({values.size})"
            )
        for limit in limits:
            axis.axvline(limit, color="tab:red", linestyle=":")
        axis.axhline(95.0, color="grey", linewidth=0.5)
        axis.set(xlabel=label, ylabel="cases, %", xlim=(0.0, end), ylim=(0.0, 101.0))
        axis.legend(loc="lower right", fontsize="small")
    figure.suptitle(f"{len(outcomes)} random phantoms; dotted: the bars (last value: and beyond)")
    figure.savefig(path, dpi=110)
