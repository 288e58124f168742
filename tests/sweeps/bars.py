"""The bars of issue 4 over the outcomes of a sweep, each with the cases that it is computed over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.sweeps.scoring import Outcome


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One line of the table: what, over how many cases of which kind, the figure and the limit that it may reach."""

    what: str
    over: str
    count: int
    value: float
    limit: float
    unit: str

    @property
    def passed(self) -> bool:
        return self.count > 0 and self.value <= self.limit

    def line(self) -> str:
        """The bar in one line."""
        state = "PASS" if self.passed else "FAIL"
        return f"{state}  {self.what:<34}{self.value:8.2f}  <= {self.limit:5.2f} {self.unit:<8}{self.count:5d}  {self.over}"


ANSWERED = "every case with a needle, high or low"
MEASURED = "every case with needle and canal, high or low"


def _values(outcomes: Sequence[Outcome], key: str) -> list[float]:
    return [abs(value) for o in outcomes if (value := getattr(o, key)) is not None]


def low(outcome: Outcome) -> bool:
    """Whether an answer was given and needle or canal are of low confidence."""
    return not outcome.refused and not outcome.crashed and not (outcome.needle_high and outcome.canal_high)


def ordinary(outcome: Outcome) -> bool:
    """Neither a cannula over the plastic nor a breached wall."""
    return not {"overlap", "breach"} & set(outcome.groups)


def table(outcomes: Sequence[Outcome], *, fluoroscopy: bool = False) -> list[Bar]:
    """The bars; on C-arm scans the canal's confidence is low by rule, so only needle, silence and refusals count there."""

    def quantile(key: str, part: float, limit: float, unit: str, what: str, over: str) -> Bar:
        values = _values(outcomes, key)
        value = float(np.quantile(values, part)) if values else float("nan")
        name = "median" if part == 0.5 else "largest" if part == 1.0 else f"{part:.0%}"
        return Bar(what=f"{what}, {name}", over=over, count=len(values), value=value, limit=limit, unit=unit)

    def share(of: Sequence[Outcome], which: Callable[[Outcome], bool], limit: float, what: str, over: str) -> Bar:
        part = 100.0 * sum(map(which, of)) / len(of) if of else float("nan")
        return Bar(what=what, over=over, count=len(of), value=part, limit=limit, unit="%")

    silent = Bar(
        what="silent failures",
        over="every case",
        count=len(outcomes),
        value=float(sum(bool(o.silent) for o in outcomes)),
        limit=0.0,
        unit="",
    )
    refused = share(
        outcomes,
        lambda o: bool(o.refused or o.crashed),
        5.0,
        "refused (or crashed)",
        "every case, overlap and breach too",
    )
    if fluoroscopy:
        needle = share(outcomes, lambda o: o.tip_error_mm is None, 5.0, "no needle found", "every case")
        return [quantile("tip_error_mm", 0.95, 1.0, "mm", "tip error", ANSWERED), silent, needle]
    return [
        quantile("tip_error_mm", 0.5, 0.3, "mm", "tip error", ANSWERED),
        quantile("tip_error_mm", 0.95, 0.8, "mm", "tip error", ANSWERED),
        quantile("axis_error_deg", 0.95, 0.7, "degrees", "axis error", ANSWERED),
        quantile("distance_error_mm", 0.95, 1.0, "mm", "canal distance error", MEASURED),
        quantile("bending_error_mm", 0.95, 0.3, "mm", "bending error", ANSWERED),
        silent,
        refused,
        share([o for o in outcomes if ordinary(o)], low, 10.0, "low confidence", "cases without overlap or breach"),
    ]


_PANELS = (
    ("tip_error_mm", "tip error, mm", (0.3, 0.8), 2.0),
    ("axis_error_deg", "axis error, degrees", (0.7,), 2.0),
    ("distance_error_mm", "canal distance error, mm", (1.0,), 3.0),
    ("bending_error_mm", "bending error, mm", (0.3,), 1.0),
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
            values = np.sort(_values(chosen, key))
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
