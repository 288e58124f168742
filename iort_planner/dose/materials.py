"""A material: density and composition by mass; those that the package knows by name (library/materials)."""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from iort_planner import library
from iort_planner.errors import TissueError

# Elements by atomic number up to uranium; photon data of all of them: attenuation.py
SYMBOLS = (  # noqa: SIM905 - a column of 92 quoted symbols reads worse
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru "
    "Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At "
    "Rn Fr Ra Ac Th Pa U"
).split()
DENSEST_G_CM3 = 25.0
_SUM_TOLERANCE = 0.005  # published rows are rounded; more than that is a mistake


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Something photons go through.

    Parameters
    ----------
    name : str
    density_g_cm3 : float
    mass_fractions : mapping of str to float
        By element symbol; normalised to a sum of 1.
    origin : str
        Where the numbers come from.

    Raises
    ------
    TissueError
        If an element is unknown, a fraction is not from 0 to 1, they do not add up to 1 within 0.005, or the density is
        impossible.
    """

    name: str
    density_g_cm3: float
    mass_fractions: Mapping[str, float]
    origin: str = ""

    def __post_init__(self) -> None:
        where = f"material {self.name!r}"
        unknown = sorted(self.mass_fractions.keys() - set(SYMBOLS))
        if unknown:
            raise TissueError(f"{where}: {', '.join(unknown)} is no element; give symbols such as H, C, Ca")
        values = list(self.mass_fractions.values())
        total = math.fsum(values)
        if not all(math.isfinite(v) and 0.0 <= v <= 1.0 for v in values):
            raise TissueError(
                f"{where}: mass fractions must lie from 0 to 1, got {values}; percent must be divided by 100"
            )
        if not abs(total - 1.0) <= _SUM_TOLERANCE:
            raise TissueError(f"{where}: mass fractions add up to {total:.4g}, not to 1 within {_SUM_TOLERANCE}")
        if not (math.isfinite(self.density_g_cm3) and 0.0 < self.density_g_cm3 <= DENSEST_G_CM3):
            raise TissueError(
                f"{where}: density {self.density_g_cm3} must lie above 0 and up to {DENSEST_G_CM3:g} g/cm3"
            )
        shares = {element: value / total for element, value in self.mass_fractions.items() if value > 0.0}
        object.__setattr__(self, "mass_fractions", MappingProxyType(shares))


@functools.cache
def _library() -> Mapping[str, Material]:
    text = library.find("materials", "materials").read_text(encoding="utf-8")
    return {row["name"].lower(): Material(**row) for row in tomllib.loads(text)["material"]}


def material_names() -> tuple[str, ...]:
    """Names of the package's materials."""
    return tuple(material.name for material in _library().values())


def read_material(name: str) -> Material:
    """A material of the package by its name, in upper or lower case.

    Raises
    ------
    TissueError
        If there is none of that name.

    Examples
    --------
    >>> read_material("cortical bone").density_g_cm3
    1.92
    """
    found = _library().get(name.lower())
    if found is None:
        raise TissueError(f"no material {name!r}; known: {', '.join(material_names())}, or give a composition")
    return found
