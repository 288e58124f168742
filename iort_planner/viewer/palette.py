"""Colours and wording that scene, slices and report share, so that one thing looks the same everywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iort_planner.units import Quantity, decimals_for, rbe_weighted

if TYPE_CHECKING:
    from iort_planner.planning.plan import Plan

# Yellow, sky blue, purple and green of Okabe and Ito's set (Color Universal Design, 2008; jfly.uni-koeln.de/color);
# vermillion, violet and the tip's light green are our own choice, found by search: all isodoses and the tip differ in
# CIELAB by more than 25 for normal eyes and for protan, deutan and tritan ones, and letters in each keep a contrast of
# 4.5 on the slices' dark ground (tests/viewer/test_palette.py). Lines differ in their dashes too.
_PRESCRIPTION = ("#F0E442", ())
_LIMIT = ("#A173FF", (5.0, 1.5, 1.2, 1.5))
_HIGHER = ("#FF6A3D", (6.0, 2.0))
_LOWER = ("#56B4E9", (1.8, 1.6))
CANAL_COLOUR = "#CC79A7"
NEAREST_COLOUR = "#009E73"
BONE_COLOUR = "#E8DCC4"
VERTEBRA_COLOUR = "#E4D3B0"
OTHER_BONE_COLOUR = "#A9B4BE"
METAL_COLOUR = "#9AA3AD"
TIP_COLOUR = "#E6EDF2"
TIP_LINE_COLOUR = "#AAFF99"
CANNULA_COLOUR = "#5F6B78"
INK = "#14202B"
# the same set's green, yellow and vermillion, lightened or darkened so that dark letters on them keep a contrast
# of 4.5 and that warn and fail differ in lightness too
VERDICT_COLOUR = {"pass": "#35B893", "warn": "#F3CB3F", "fail": "#E8732E"}
INTENDED_USE_SHORT = "Research and education; not a medical device; not for treating patients."


@dataclass(frozen=True, slots=True, kw_only=True)
class IsodoseLevel:
    """One isodose of a plan as it is drawn.

    Parameters
    ----------
    dose_gy : float
        Physical dose, Gy.
    radius_mm : float or None
        From the source centre, in the transverse plane; None where the table gives no value.
    label : str
        ``8 Gy | 10.4 Gy(RBE)``.
    role : str
        ``prescription``, ``limit``, ``prescription = limit``, or empty.
    colour : str
        ``#rrggbb``.
    dashes : tuple of float
        Line pattern in points, (on, off, ...); empty for a solid line.
    """

    dose_gy: float
    radius_mm: float | None
    label: str
    role: str
    colour: str
    dashes: tuple[float, ...]

    @property
    def legend(self) -> str:
        """Label with the radius, or with the reason why there is none."""
        size = f"r = {self.radius_mm:.1f} mm" if self.radius_mm is not None else "outside the table"
        return f"{self.label}, {size}" + (f" ({self.role})" if self.role else "")


def verdict_text(plan: Plan) -> str:
    """The verdict in words: ``WARN: 2 checks warn``."""
    fails, warns = (sum(check.status == status for check in plan.checks) for status in ("fail", "warn"))
    if plan.verdict == "pass":
        return f"PASS: all {len(plan.checks)} checks passed"
    words = [
        f"{count} check{'s' * (count != 1)} {verb}{'s' * (count == 1)}"
        for count, verb in ((fails, "fail"), (warns, "warn"))
    ]
    return f"{plan.verdict.upper()}: " + ", ".join(
        word for word, count in zip(words, (fails, warns), strict=True) if count
    )


def isodose_levels(plan: Plan) -> tuple[IsodoseLevel, ...]:
    """The isodoses of a plan from the highest dose down.

    Prescription and limit have colours of their own; the others go by their side of the prescription (a plan has
    its double and its half).
    """
    prescription = plan.prescription
    radii = {float(key): radius for key, radius in plan.result.isodose_radius_mm.items()}
    doses = sorted(radii, reverse=True)
    levels = []
    for dose in doses:
        roles = [
            name
            for name, value in (("prescription", prescription.dose_gy), ("limit", prescription.limit_gy))
            if _same(dose, value)
        ]
        style: tuple[str, tuple[float, ...]] = _HIGHER if dose > prescription.dose_gy else _LOWER
        if roles:
            style = _PRESCRIPTION if "prescription" in roles else _LIMIT
        levels.append(
            IsodoseLevel(
                dose_gy=dose,
                radius_mm=radii[dose],
                label=level_text(dose, prescription.rbe),
                role=" = ".join(roles),
                colour=style[0],
                dashes=style[1],
            )
        )
    return tuple(levels)


def _same(dose_gy: float, other_gy: float) -> bool:
    """Whether two doses have the same key in plan.json, which has the 6 digits of %g."""
    return math.isclose(dose_gy, other_gy, rel_tol=1e-5)


def level_text(dose_gy: float, rbe: float) -> str:
    """A dose that was asked for, as it was asked for: ``8 Gy | 10.4 Gy(RBE)``."""
    weighted = float(rbe_weighted(Quantity(dose_gy, "Gy"), rbe).magnitude)
    return f"{dose_gy:g} Gy | {weighted:.3g} Gy(RBE)"


def dose_number(dose: float) -> str:
    """A computed dose with three significant digits, trailing zeros kept: ``7.96``, ``8.00``, ``123``."""
    if dose == 0.0:
        return "0"
    exponent = int(f"{dose:.2e}".split("e")[1])  # of the rounded number: 9.996 is 10.0
    return f"{dose:.{max(0, 2 - exponent)}f}"


def computed_text(dose_gy: float, dose_gy_rbe: float, percent: float) -> str:
    """A computed dose and its RBE-weighted twin from the plan, with no more digits than ``percent`` (k=1) justifies."""
    texts = (
        f"{dose:.{decimals_for(percent / 100.0 * dose)}f}" if dose > 0.0 and percent > 0.0 else dose_number(dose)
        for dose in (dose_gy, dose_gy_rbe)
    )
    return "{} Gy | {} Gy(RBE)".format(*texts)


def canal_text(plan: Plan) -> str:
    """The canal's highest dose, called nominal since the k=2 band goes beyond it, with its limit."""
    result, prescription = plan.result, plan.prescription
    highest = computed_text(result.canal_max_gy, result.canal_max_gy_rbe, result.uncertainty.canal_dose_percent)
    return f"canal maximum {highest}, nominal  (limit {level_text(prescription.limit_gy, prescription.rbe)})"
