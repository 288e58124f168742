"""Materials of the photon transport: density and elements by mass, from the library or given."""

from __future__ import annotations

import functools
import math
import tomllib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import xraylib

from iort_planner import library
from iort_planner.errors import MaterialError
from iort_planner.inputs import read_small

if TYPE_CHECKING:
    from collections.abc import Mapping

_LIBRARY_FILE = "materials"
SUM_TOLERANCE = 0.005  # printed compositions have three decimals and up to a dozen elements
MAX_DENSITY_G_CM3 = 25.0  # osmium, the densest element, has 22.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """A substance as photons see it.

    Parameters
    ----------
    name : str
    density_g_cm3 : float, g/cm3
        Over 0, at most `MAX_DENSITY_G_CM3`.
    mass_fractions : mapping of str to float
        Element symbol to its part of the mass. The sum must be 1 within `SUM_TOLERANCE`; it is then normalised.
    source : str
        Where the numbers come from.

    Raises
    ------
    MaterialError
        For an impossible density, an unknown element, a fraction that is not positive, or a wrong sum.
    """

    name: str
    density_g_cm3: float
    mass_fractions: Mapping[str, float]
    source: str

    def __post_init__(self) -> None:
        where = f"material {self.name!r}"
        if not self.name.strip():
            raise MaterialError("a material has an empty name; give one")
        if not (_is_number(self.density_g_cm3) and 0.0 < self.density_g_cm3 <= MAX_DENSITY_G_CM3):
            raise MaterialError(
                f"{where}: density_g_cm3 = {self.density_g_cm3!r} must be over 0 and at most {MAX_DENSITY_G_CM3:g} g/cm3"
            )
        if not self.mass_fractions:
            raise MaterialError(f"{where}: mass_fractions is empty; give each element's part of the mass")
        for symbol, fraction in self.mass_fractions.items():
            if atomic_number(symbol) is None:
                raise MaterialError(f"{where}: {symbol!r} is no chemical element; write symbols like H, O, Ca")
            if not (_is_number(fraction) and 0.0 < fraction <= 1.0 + SUM_TOLERANCE):
                raise MaterialError(f"{where}: mass fraction {symbol} = {fraction!r} must be over 0 and at most 1")
        total = math.fsum(self.mass_fractions.values())
        if abs(total - 1.0) > SUM_TOLERANCE:
            raise MaterialError(
                f"{where}: mass fractions add up to {total:.4f}, allowed is 1 within {SUM_TOLERANCE:g}; "
                "give parts of the mass, not of the number of atoms"
            )
        normalised = {symbol: float(part) / total for symbol, part in self.mass_fractions.items()}
        object.__setattr__(self, "mass_fractions", MappingProxyType(normalised))
        object.__setattr__(self, "density_g_cm3", float(self.density_g_cm3))

    @property
    def elements(self) -> tuple[tuple[int, float], ...]:
        """(atomic number, mass fraction) of each element."""
        return tuple((xraylib.SymbolToAtomicNumber(symbol), part) for symbol, part in self.mass_fractions.items())


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def atomic_number(symbol: str) -> int | None:
    """Atomic number of an element's symbol, None where there is no such element (or no data: beyond Z = 92)."""
    try:
        number = int(xraylib.SymbolToAtomicNumber(symbol))
    except (ValueError, TypeError):
        return None
    return number if 1 <= number <= 92 else None


def material_names() -> list[str]:
    """Names of the library's materials."""
    return sorted(_library())


def read_material(name: str) -> Material:
    """A material of the library by its name.

    Raises
    ------
    MaterialError
        If there is none of that name.
    """
    try:
        return _library()[name]
    except KeyError:
        raise MaterialError(
            f"there is no material {name!r}; give one of: {', '.join(material_names())}, or define it in a [[material]]"
        ) from None


def material_from(table: Mapping[str, Any], where: str, source: str | None = None) -> Material:
    """A `Material` from a TOML table with the keys name, density_g_cm3, mass_fractions and, if not given, source.

    Raises
    ------
    MaterialError
        If a key is missing or unknown, or a value is impossible; ``where`` starts the message.
    """
    known = {"name", "density_g_cm3", "mass_fractions", "source"}
    required = known if source is None else known - {"source"}
    missing, unknown = required - table.keys(), table.keys() - known
    if missing or unknown:
        what = f"lacks {', '.join(sorted(missing))}" if missing else f"has unknown keys {', '.join(sorted(unknown))}"
        raise MaterialError(f"{where}: {what}; known are name, density_g_cm3, mass_fractions, source")
    if not isinstance(table["name"], str) or not isinstance(table.get("source", source), str):
        raise MaterialError(f"{where}: name and source must be texts")
    if not isinstance(table["mass_fractions"], dict):
        raise MaterialError(f"{where}: mass_fractions must be a table like {{H = 0.1119, O = 0.8881}}")
    return Material(
        name=table["name"],
        density_g_cm3=table["density_g_cm3"],
        mass_fractions=table["mass_fractions"],
        source=table.get("source", source),
    )


@functools.cache
def _library() -> Mapping[str, Material]:
    path = library.find("materials", _LIBRARY_FILE)
    tables = tomllib.loads(read_small(path).decode("utf-8"))["material"]
    materials = [material_from(table, f"{path.name}, material {n}") for n, table in enumerate(tables, 1)]
    by_name = {material.name: material for material in materials}
    if len(by_name) != len(materials):
        raise MaterialError(f"{path.name}: a name occurs twice")
    return MappingProxyType(by_name)
