"""What is true of a case, what was found in it, and when that is wrong though nothing says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from iort_planner.units import FloatArray

# An error beyond these with high confidence is a silent failure: bounds of issue 7 for tip and distance, our own for the others.
SILENT_TIP_MM = 1.0
SILENT_AXIS_DEG = 3.0  # moves the shaft 1 mm at the pedicle, 20 mm from the tip
SILENT_DISTANCE_MM = 1.2
SILENT_CLEARANCE_MM = 2.0
BENT_MM = (
    1.0  # a needle found to bend more than this is a warning in the plan (`needle-bent`): the shaft is not trusted
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What is true of a case; distances as in `iort_planner.geometry.distance.CanalDistances`.

    ``bending_mm`` is None where it is not known, ``over_source`` whether steel of the cannula stands over the source.
    """

    tip_lps_mm: FloatArray
    axis_lps: FloatArray
    source_lps_mm: FloatArray
    distance_from_source_mm: float
    shaft_clearance_mm: float
    bending_mm: float | None = None
    over_source: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One case; errors are found minus true, and None where an earlier step refused."""

    name: str
    groups: tuple[str, ...]
    case: dict[str, Any]
    distance_mm: float
    clearance_mm: float
    refused: str = ""
    crashed: str = ""
    needle_high: bool = False
    canal_high: bool = False
    needle_reasons: tuple[str, ...] = ()
    canal_reasons: tuple[str, ...] = ()
    tip_error_mm: float | None = None
    tip_along_mm: float | None = None
    axis_error_deg: float | None = None
    source_error_mm: float | None = None
    distance_error_mm: float | None = None
    wall_error_mm: float | None = None  # of the distance from the true source: the canal's share of the error
    clearance_error_mm: float | None = None
    bending_mm: float | None = None  # true
    bending_found_mm: float | None = None
    bending_error_mm: float | None = None
    over_source: bool = False  # true
    over_source_found: bool = False
    tip_uncertainty_mm: float | None = None
    canal_uncertainty_mm: float | None = None
    # errors of the tip along the found axis and in two directions across it, and the stated k=1 of each
    tip_parts_mm: tuple[float, float, float] | None = None
    tip_sigmas_mm: tuple[float, float, float] | None = None
    distance_sigma_mm: float | None = None  # stated k=1 of the distance, as a plan has it
    needles: int = 1  # true
    needles_found: int | None = None  # None where not all were asked for
    hinted: bool = False
    asked: bool = False  # it was refused because several needles stand there and nothing told which is meant: right
    seconds: float = field(default=0.0, compare=False)

    @property
    def silent(self) -> tuple[str, ...]:
        """What is wrong though nothing says so."""
        wrong = []
        if self.needle_high:
            if _beyond(self.tip_error_mm, SILENT_TIP_MM):
                wrong.append(f"tip off by {self.tip_error_mm:.2f} mm")
            if _beyond(self.axis_error_deg, SILENT_AXIS_DEG):
                wrong.append(f"axis off by {self.axis_error_deg:.1f} degrees")
            if self.over_source and not self.over_source_found:
                wrong.append("steel of the cannula over the source not seen")
            if self.canal_high:
                if _beyond(self.distance_error_mm, SILENT_DISTANCE_MM):
                    wrong.append(f"distance off by {self.distance_error_mm:+.2f} mm of {self.distance_mm:.1f}")
                bent = self.bending_found_mm is not None and self.bending_found_mm > BENT_MM
                if not bent and _beyond(self.clearance_error_mm, SILENT_CLEARANCE_MM):
                    wrong.append(f"clearance off by {self.clearance_error_mm:+.2f} mm of {self.clearance_mm:.1f}")
        return tuple(wrong)

    def line(self) -> str:
        """The case in one line."""
        start = f"{self.name:<11} {'+'.join(self.groups):<30}"
        if self.crashed or (self.refused and self.tip_error_mm is None):
            state = "CRASHED" if self.crashed else "asked" if self.asked else "refused"
            return f"{start} {state}: {self.crashed or self.refused}"
        numbers = (
            f"tip {_shown(self.tip_error_mm)} (along {_shown(self.tip_along_mm, '+')}) axis {_shown(self.axis_error_deg)} "
            f"bend {_shown(self.bending_error_mm, '+')} (true {_shown(self.bending_mm)}) "
            f"dist {_shown(self.distance_error_mm, '+')} wall {_shown(self.wall_error_mm, '+')} "
            f"clear {_shown(self.clearance_error_mm, '+')} "
            f"(true {self.distance_mm:.1f}, {self.clearance_mm:.1f})"
        )
        steel = " steel over source" if self.over_source_found else ""
        trust = f"needle {'high' if self.needle_high else 'LOW'} canal {'high' if self.canal_high else 'LOW'}{steel}"
        more = "; ".join((*self.needle_reasons, *self.canal_reasons, *([self.refused] if self.refused else [])))
        return f"{start} {numbers} {trust}{' | ' + more if more else ''}"


def _beyond(error: float | None, limit: float) -> bool:
    return error is not None and not abs(error) <= limit


def _shown(value: float | None, sign: str = "") -> str:
    return "   -" if value is None else f"{value:{sign}.2f}"
