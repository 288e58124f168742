"""What is prescribed: dose, canal limit, RBE, and where the dose is to be reached."""

from __future__ import annotations

import math
from dataclasses import dataclass

from iort_planner.applicator import DepthReference
from iort_planner.biology import DEFAULT_RBE, RBE_RANGE
from iort_planner.errors import InputError

DOSE_RANGE_GY = (0.1, 50.0)  # interface.md: --dose and --limit
DEFAULT_DOSE_GY = 8.0  # Krauss et al. 2024: 8 Gy at the border, at most 8 Gy to the canal
DEFAULT_LIMIT_GY = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prescription:
    """Physical dose to water, the canal's limit, the RBE and the depth.

    Parameters
    ----------
    dose_gy, limit_gy : float, Gy
        Prescribed physical dose and the largest physical dose the canal may get.
    rbe : float
        Relative biological effectiveness of the source's X-rays.
    depth_mm : float or None, mm
        Where the dose is to be reached; None: the canal limit sets the time.
    depth_from : DepthReference
        Where the depth starts.

    Raises
    ------
    InputError
        If a number is not finite or outside its range.

    Examples
    --------
    >>> Prescription(dose_gy=800.0)
    Traceback (most recent call last):
    iort_planner.errors.InputError: --dose 800 Gy is outside 0.1 to 50 Gy (...
    """

    dose_gy: float = DEFAULT_DOSE_GY
    limit_gy: float = DEFAULT_LIMIT_GY
    rbe: float = DEFAULT_RBE
    depth_mm: float | None = None
    depth_from: DepthReference = DepthReference.SOURCE

    def __post_init__(self) -> None:
        for name, value, (low, high), unit in (
            ("dose", self.dose_gy, DOSE_RANGE_GY, " Gy"),
            ("limit", self.limit_gy, DOSE_RANGE_GY, " Gy"),
            ("rbe", self.rbe, RBE_RANGE, ""),
        ):
            if not low <= value <= high:  # written so that NaN is refused too
                raise InputError(
                    f"--{name} {value:g}{unit} is outside {low:g} to {high:g}{unit} (this tool's range for "
                    f"single-fraction 50 kV IORT); check the unit and the decimal point"
                )
        if self.depth_mm is not None and not (math.isfinite(self.depth_mm) and self.depth_mm > 0.0):
            raise InputError(f"--depth {self.depth_mm:g} mm must be a finite number above 0; give the depth in mm")
