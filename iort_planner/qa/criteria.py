"""What may differ between two tables, and why those limits."""

from __future__ import annotations

from dataclasses import dataclass

from iort_planner.errors import InputError

DIFFERENCE_WARN_PERCENT, DIFFERENCE_FAIL_PERCENT = 3.0, 5.0  # as the second check's (docs/checks.md)
# Gamma, 3 % of the local dose rate as above. The distance is our own: 0.1 mm is 3 % of the dose at 8 mm. Criteria for
# linacs (2 or 3 mm) pass any table here, and 0.3 mm passes the very slip of the origin that is looked for.
GAMMA_PERCENT, GAMMA_MM = 3.0, 0.1
GAMMA_LEAST_PERCENT = 95.0  # of the rows with gamma up to 1; AAPM TG-218 (2018, doi:10.1002/mp.12810) uses 95 %
# Our own: a slip of 0.1 mm is 3.3 % of the dose at 8 mm, as much as the second check lets pass; half of it warns.
SLIP_FAIL_MM, SLIP_WARN_PART = 0.1, 0.5
FACTOR_FAIL_PERCENT, FACTOR_WARN_PART = 5.0, 0.6  # 5 and 3 %, as for a difference
OUTLIER_WARN_PERCENT, OUTLIER_FAIL_PERCENT = 1.0, 2.0  # as in `qa check`


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareCriteria:
    """Limits of a comparison; each can be made stricter, never looser.

    Parameters
    ----------
    dose_percent, distance_mm : float
        Criteria of the 1-D gamma: percent of the reference's local dose rate, and mm.
    slip_mm, factor_percent : float
        Where a slip of the origin and a scale factor fail; they warn at half, and at three fifths.

    Raises
    ------
    InputError
        If a limit is not above 0 or is looser than the default.
    """

    dose_percent: float = GAMMA_PERCENT
    distance_mm: float = GAMMA_MM
    slip_mm: float = SLIP_FAIL_MM
    factor_percent: float = FACTOR_FAIL_PERCENT

    def __post_init__(self) -> None:
        for value, limit, unit, option in (
            (self.dose_percent, GAMMA_PERCENT, "%", "--dose-percent"),
            (self.distance_mm, GAMMA_MM, "mm", "--distance-mm"),
            (self.slip_mm, SLIP_FAIL_MM, "mm", "--slip-mm"),
            (self.factor_percent, FACTOR_FAIL_PERCENT, "%", "--factor-percent"),
        ):
            if not 0.0 < value <= limit:  # NaN is refused too
                raise InputError(
                    f"{option} is {value:g} {unit}, must lie above 0 and up to {limit:g} {unit} (docs/qa.md): "
                    "limits can only be made stricter"
                )
