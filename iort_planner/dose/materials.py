"""A material: density and composition by mass; those that the package knows by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from iort_planner.errors import TissueError

# Elements that library/photons holds data of
ELEMENTS = frozenset(
    [
        "H",
        "C",
        "N",
        "O",
        "F",
        "Na",
        "Mg",
        "Al",
        "Si",
        "P",
        "S",
        "Cl",
        "Ar",
        "K",
        "Ca",
        "Ti",
        "Cr",
        "Mn",
        "Fe",
        "Co",
        "Ni",
        "Cu",
        "Zn",
        "Zr",
        "Mo",
        "Ag",
        "I",
        "Ba",
        "W",
        "Au",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Something photons go through.

    Parameters
    ----------
    name : str
    density_g_cm3 : float
    mass_fractions : mapping of str to float
        By element symbol; their sum is 1 within 0.5 %.
    origin : str
        Where the numbers come from.

    Raises
    ------
    TissueError
        If an element has no data, a fraction is not from 0 to 1, they do not add up to 1, or the density is impossible.
    """

    name: str
    density_g_cm3: float
    mass_fractions: Mapping[str, float]
    origin: str = ""

    def __post_init__(self) -> None:
        where = f"material {self.name!r}"
        unknown = sorted(self.mass_fractions.keys() - ELEMENTS)
        if unknown:
            raise TissueError(
                f"{where}: no photon data for element {', '.join(unknown)}; known: {', '.join(sorted(ELEMENTS))}"
            )
        values = list(self.mass_fractions.values())
        if not all(math.isfinite(v) and 0.0 <= v <= 1.0 for v in values) or abs(math.fsum(values) - 1.0) > 0.005:
            raise TissueError(f"{where}: mass fractions must lie from 0 to 1 and add up to 1, got {values}")
        if not (math.isfinite(self.density_g_cm3) and 0.0 < self.density_g_cm3 <= 25.0):
            raise TissueError(f"{where}: density {self.density_g_cm3} must lie above 0 and up to 25 g/cm3")
        object.__setattr__(self, "mass_fractions", MappingProxyType(dict(self.mass_fractions)))


_ICRU_44 = "ICRU Report 44 (1989), as NIST reproduces it (X-ray mass attenuation coefficients, table 2)"
_LIBRARY = (
    Material(name="water", density_g_cm3=1.0, mass_fractions={"H": 0.111894, "O": 0.888106}, origin="H2O; 1 g/cm3 as NIST"),
    Material(
        name="cortical bone",
        density_g_cm3=1.92,
        mass_fractions={
            "H": 0.034, "C": 0.155, "N": 0.042, "O": 0.435, "Na": 0.001, "Mg": 0.002, "P": 0.103, "S": 0.003, "Ca": 0.225,
        },
        origin=_ICRU_44,
    ),
    Material(
        name="spongiosa",
        density_g_cm3=1.18,
        mass_fractions={
            "H": 0.085, "C": 0.404, "N": 0.028, "O": 0.367, "Na": 0.001, "Mg": 0.001, "P": 0.034, "S": 0.002, "Cl": 0.002,
            "K": 0.001, "Ca": 0.074, "Fe": 0.001,
        },
        origin="ICRU Report 46 (1992)",
    ),
)  # fmt: skip


def read_material(name: str) -> Material:
    """A material of the package by its name.

    Raises
    ------
    TissueError
        If there is none of that name.
    """
    for material in _LIBRARY:
        if material.name == name:
            return material
    raise TissueError(f"no material {name!r}; known: {', '.join(m.name for m in _LIBRARY)}")
