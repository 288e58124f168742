"""The one registry of units; physical dose and RBE-weighted dose are different dimensions.

Plain pint converts 8 Gy to 8 Sv without complaint, because both are J/kg. An RBE-weighted dose is
therefore a dimension of its own here, and adding Gy to Gy(RBE) is an error. So are BED and EQD2 (`biology`).
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pint

ureg: pint.UnitRegistry[Any] = pint.UnitRegistry()
ureg.define("gray_rbe = [rbe_weighted_dose] = Gy_RBE")
ureg.define("gray_bed = [biologically_effective_dose] = Gy_BED")
ureg.define("gray_eqd2 = [equivalent_dose_2gy_fractions] = Gy_EQD2")
Quantity = ureg.Quantity
AnyQuantity: TypeAlias = pint.Quantity[Any]
FloatArray: TypeAlias = npt.NDArray[np.float64]


def magnitude_in(value: AnyQuantity, unit: str, name: str) -> FloatArray:
    """Return ``value`` in ``unit`` as float64.

    Raises
    ------
    TypeError
        If ``value`` is a bare number: a quantity without its unit is refused.
    pint.DimensionalityError
        If ``value`` has another dimension (Gy(RBE) where Gy is asked, say).
    """
    if not isinstance(value, Quantity):
        raise TypeError(f"{name} needs a unit, e.g. Quantity({value!r}, {unit!r}).")
    return np.asarray(value.to(unit).magnitude, dtype=np.float64)


def rbe_weighted(dose: AnyQuantity, rbe: float) -> AnyQuantity:
    """Physical dose (Gy) times RBE as RBE-weighted dose, Gy(RBE): the one place where that happens."""
    return Quantity(magnitude_in(dose, "Gy", "dose") * rbe, "Gy_RBE")


def format_time(seconds: float) -> str:
    """Time for people, to the nearest second.

    >>> format_time(246.2)
    '4 min 06 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:d} min {rest:02d} s"


def decimals_for(sigma: float) -> int:
    """Digits after the point that a number with the uncertainty ``sigma`` (k=1) is printed with.

    The rule of the Particle Data Group (Review of Particle Physics, introduction, 5.3): of the uncertainty's first three
    digits, 100 to 354 keep two digits, 355 to 949 one, 950 to 999 count as 1000 with two.

    Raises
    ------
    ValueError
        If ``sigma`` is not finite and above 0.
    """
    if not (math.isfinite(sigma) and sigma > 0.0):
        raise ValueError(f"uncertainty {sigma} must be finite and above 0")
    place = math.floor(math.log10(sigma))
    three = round(sigma / 10.0 ** (place - 2))
    if three >= 950:
        place, three = place + 1, 100
    return max(0, -(place - 1) if three < 355 else -place)
