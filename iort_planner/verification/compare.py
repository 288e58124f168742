"""Two runs of a suite against each other: what an update changes, in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from iort_planner.verification.run_case import FIGURES

_SAME = 1e-9  # relative, or absolute in the figure's unit: rounding of another machine
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure over all cases that both runs have.

    Parameters
    ----------
    figure, unit : str
    cases : tuple of str
        In which it moved, the most moved first.
    largest : float
        Largest move, in the unit; with its sign.
    largest_percent : float or None
        The same in percent of the old value; None for coordinates, which have no zero of their own.
    compared : int
        Cases in which both runs have it.
    """

    figure: str
    unit: str
    cases: tuple[str, ...]
    largest: float
    largest_percent: float | None
    compared: int

    @property
    def text(self) -> str:
        """``canal dose of 3 of 40 cases moved by up to 0.4 % (+0.032 Gy): a, b, c``."""
        if not self.cases:
            return f"{self.figure} of {self.compared} cases is the same"
        size = f"{self.largest:+.3g} {self.unit}"
        if self.largest_percent is not None:
            size = f"{abs(self.largest_percent):.2g} % ({size})"
        names = ", ".join(self.cases[:_MOST_NAMED]) + (", ..." if len(self.cases) > _MOST_NAMED else "")
        return f"{self.figure} of {len(self.cases)} of {self.compared} cases moved by up to {size}: {names}"


def changes_since(old: dict[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    """What changed from an earlier run's verification.json to these entries.

    Returns
    -------
    dict
        ``lines`` for people, ``figures`` (`Change` each), ``verdicts``, ``new``, ``removed`` and ``edited`` cases.
    """
    before = {entry["name"]: entry for entry in old["cases"]}
    now = {entry["name"]: entry for entry in entries}
    both = [name for name in now if name in before]
    edited = [name for name in both if before[name].get("sha256") != now[name]["sha256"]]
    verdicts = [
        {"name": name, "before": before[name]["verdict"], "now": now[name]["verdict"]}
        for name in both
        if before[name]["verdict"] != now[name]["verdict"]
    ]
    figures = [_change(name, unit, before, now, both) for name, (_, unit) in FIGURES.items()]
    new, removed = sorted(now.keys() - before.keys()), sorted(before.keys() - now.keys())
    lines = [f"{each['name']}: {each['before']} before, {each['now']} now" for each in verdicts]
    lines += [change.text for change in figures if change.cases]
    if not any(change.cases for change in figures):
        lines.append(f"no figure of {len(both)} cases moved")
    for what, names in (("new", new), ("no longer there", removed), ("themselves changed", edited)):
        if names:
            lines.append(
                f"{len(names)} cases are {what}: {', '.join(names[:_MOST_NAMED])}{', ...' * (len(names) > _MOST_NAMED)}"
            )
    return {
        "software": old.get("software", {}),
        "lines": lines,
        "figures": [asdict(change) for change in figures],
        "verdicts": verdicts,
        "new": new,
        "removed": removed,
        "edited": edited,
    }


def _change(
    figure: str, unit: str, before: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]], both: list[str]
) -> Change:
    moved: list[tuple[float, float, str]] = []
    compared = 0
    for name in both:
        old, new = before[name].get("figures", {}).get(figure), now[name]["figures"].get(figure)
        if (old is None) != (new is None):
            moved.append((float("inf"), 0.0, name))
        elif old is not None and new is not None:
            compared += 1
            if abs(new - old) > _SAME * max(1.0, abs(old)):
                moved.append((abs(new - old), new - old, name))
    moved.sort(key=lambda each: (-each[0], each[2]))
    measured = [each for each in moved if each[0] < float("inf")]
    largest = measured[0][1] if measured else 0.0
    percent = None
    if measured and not figure.startswith("tip "):
        percents = [
            100.0 * off / abs(before[name]["figures"][figure])
            for _, off, name in measured
            if before[name]["figures"][figure]
        ]
        percent = max(percents, key=abs, default=None)
    return Change(
        figure=figure,
        unit=unit,
        cases=tuple(name for _, _, name in moved),
        largest=largest,
        largest_percent=percent,
        compared=compared,
    )
