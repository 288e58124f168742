"""A simulation's case: source, spheres, slabs and scores, from a TOML file (docs/simulate.md)."""

from __future__ import annotations

import itertools
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iort_planner.dose.attenuation import RANGE_KEV
from iort_planner.dose.materials import Material, read_material
from iort_planner.dose.spectrum import Spectrum, read_spectrum
from iort_planner.errors import IortError, SimulationError
from iort_planner.inputs import read_small

MOST_RADIUS_MM = 2000.0
MOST_PARTS = 200  # spheres, slabs and scores together: each costs time at every step
_SECTIONS = {"source", "material", "sphere", "slab", "score"}
_KEYS = {
    "material": {"name", "density_g_cm3", "mass_fractions"},
    "sphere": {"outer_radius_mm", "material"},
    "slab": {"x_min_mm", "x_max_mm", "material"},
    "shell": {"kind", "r_min_mm", "r_max_mm"},
    "disc": {"kind", "x_min_mm", "x_max_mm", "radius_mm"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Where dose is scored: between two radii, or in a disc on the +x axis between two x; mm."""

    kind: str
    low_mm: float
    high_mm: float
    radius_mm: float = 0.0

    @property
    def position_mm(self) -> float:
        """Its middle."""
        return (self.low_mm + self.high_mm) / 2.0

    @property
    def volume_cm3(self) -> float:
        """Its volume."""
        if self.kind == "shell":
            return 4.0 / 3.0 * math.pi * (self.high_mm**3 - self.low_mm**3) / 1000.0
        return math.pi * self.radius_mm**2 * (self.high_mm - self.low_mm) / 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sphere:
    """A material out to a radius from the sphere before it."""

    outer_radius_mm: float
    material: Material


@dataclass(frozen=True, slots=True, kw_only=True)
class Slab:
    """A material in the place of the spheres' between two planes of constant x, within the outermost sphere."""

    x_min_mm: float
    x_max_mm: float
    material: Material


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationCase:
    """An isotropic point source at the origin in concentric spheres, from the inside out, with slabs.

    Raises
    ------
    SimulationError
        If spheres do not grow, slabs overlap, or a score lies outside the outermost sphere.
    """

    spectrum: Spectrum
    spheres: tuple[Sphere, ...]
    slabs: tuple[Slab, ...] = ()
    scores: tuple[Score, ...]

    def __post_init__(self) -> None:
        radii = [sphere.outer_radius_mm for sphere in self.spheres]
        if not radii or not self.scores:
            raise SimulationError("a case needs at least one [[sphere]] and one [[score]]")
        if len(radii) + len(self.slabs) + len(self.scores) > MOST_PARTS:
            raise SimulationError(f"spheres, slabs and scores together must be at most {MOST_PARTS}")
        if not (radii[0] > 0.0 and radii[-1] <= MOST_RADIUS_MM) or any(np.diff(radii) <= 0.0):
            raise SimulationError(
                f"[[sphere]] outer_radius_mm {radii} must be above 0, grow from one to the next, and end by {MOST_RADIUS_MM:g} mm"
            )
        slabs = sorted(self.slabs, key=lambda slab: slab.x_min_mm)
        for slab in slabs:
            if not slab.x_min_mm < slab.x_max_mm:
                raise SimulationError(f"[[slab]] x_min_mm {slab.x_min_mm:g} must lie below x_max_mm {slab.x_max_mm:g}")
        for one, two in itertools.pairwise(slabs):
            if two.x_min_mm < one.x_max_mm:
                raise SimulationError(
                    f"slabs from x = {one.x_min_mm:g} and {two.x_min_mm:g} mm overlap; which material is there? Cut one of them"
                )
        for score in self.scores:
            self._require_inside(score)

    def _require_inside(self, score: Score) -> None:
        outer = self.spheres[-1].outer_radius_mm
        if score.kind == "shell":
            good, what = 0.0 <= score.low_mm < score.high_mm, f"r {score.low_mm:g} to {score.high_mm:g} mm"
            reach = score.high_mm
        else:
            good = 0.0 < score.low_mm < score.high_mm and score.radius_mm > 0.0
            what = f"x {score.low_mm:g} to {score.high_mm:g} mm, radius {score.radius_mm:g} mm"
            reach = math.hypot(score.high_mm, score.radius_mm)
        if not good:
            raise SimulationError(
                f"[[score]] {score.kind} {what}: bounds must be above 0 (a shell's r_min_mm may be 0) and grow"
            )
        if reach > outer:
            raise SimulationError(
                f"[[score]] {score.kind} {what} reaches beyond the outermost sphere ({outer:g} mm), where vacuum is"
            )

    def medium_of(self, score: Score) -> str:
        """Name of the material in a score; of several, joined by ``+``."""
        found: list[str] = []
        inner = 0.0
        far = score.high_mm if score.kind == "shell" else math.hypot(score.high_mm, score.radius_mm)
        low, high = (-score.high_mm, score.high_mm) if score.kind == "shell" else (score.low_mm, score.high_mm)
        slabs = [slab for slab in self.slabs if slab.x_min_mm < high and slab.x_max_mm > low]
        covered = any(slab.x_min_mm <= low and slab.x_max_mm >= high for slab in slabs)
        for sphere in self.spheres:
            if not covered and inner < far and sphere.outer_radius_mm > score.low_mm:
                found.append(sphere.material.name)
            inner = sphere.outer_radius_mm
        found += [slab.material.name for slab in slabs]
        return " + ".join(dict.fromkeys(found))


def read_case(path: Path) -> SimulationCase:
    """Read a case; a spectrum's file is looked for beside it.

    Raises
    ------
    SimulationError
        If the file is missing, is no TOML, lacks a key, has an unknown one, or holds impossible numbers.
    """
    try:
        content = tomllib.loads(read_small(path).decode("utf-8"))
    except OSError as error:
        raise SimulationError(f"case {path} cannot be read ({error.strerror or error}); give a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SimulationError(f"case {path.name}: not valid TOML ({error}); see docs/simulate.md") from error
    try:
        return _case(content, path.parent)
    except IortError as error:
        raise SimulationError(f"case {path.name}: {error}") from error


def _case(content: dict[str, Any], folder: Path) -> SimulationCase:
    unknown = content.keys() - _SECTIONS
    if unknown:
        raise SimulationError(f"unknown section {', '.join(sorted(unknown))}; known: {', '.join(sorted(_SECTIONS))}")
    own = {}
    for row in _rows(content, "material"):
        _only(row, _KEYS["material"], "[[material]]")
        if not isinstance(row["name"], str) or not isinstance(row["mass_fractions"], dict):
            raise SimulationError(
                "[[material]] needs a name and a table mass_fractions such as { H = 0.112, O = 0.888 }"
            )
        shares = {key: _number(row["mass_fractions"], key, "mass_fractions") for key in row["mass_fractions"]}
        density = _number(row, "density_g_cm3", "[[material]]")
        own[row["name"].lower()] = Material(
            name=row["name"], density_g_cm3=density, mass_fractions=shares, origin="the case"
        )

    def material(row: dict[str, Any]) -> Material:
        name = row["material"]
        if not isinstance(name, str):
            raise SimulationError(f"material = {name!r} must be a name")
        return own.get(name.lower()) or read_material(name)

    spheres, slabs = [], []
    for row in _rows(content, "sphere"):
        _only(row, _KEYS["sphere"], "[[sphere]]")
        spheres.append(Sphere(outer_radius_mm=_number(row, "outer_radius_mm", "[[sphere]]"), material=material(row)))
    for row in _rows(content, "slab"):
        _only(row, _KEYS["slab"], "[[slab]]")
        low, high = (_number(row, key, "[[slab]]") for key in ("x_min_mm", "x_max_mm"))
        slabs.append(Slab(x_min_mm=low, x_max_mm=high, material=material(row)))
    return SimulationCase(
        spectrum=_spectrum(content.get("source"), folder),
        spheres=tuple(spheres),
        slabs=tuple(slabs),
        scores=tuple(_score(row) for row in _rows(content, "score")),
    )


def _score(row: dict[str, Any]) -> Score:
    kind = row.get("kind")
    if kind not in ("shell", "disc"):
        raise SimulationError(f'[[score]] kind = {kind!r} must be "shell" or "disc"')
    _only(row, _KEYS[kind], f"[[score]] {kind}")
    if kind == "shell":
        return Score(
            kind=kind, low_mm=_number(row, "r_min_mm", "[[score]]"), high_mm=_number(row, "r_max_mm", "[[score]]")
        )
    low, high, radius = (_number(row, key, "[[score]]") for key in ("x_min_mm", "x_max_mm", "radius_mm"))
    return Score(kind=kind, low_mm=low, high_mm=high, radius_mm=radius)


def _spectrum(source: object, folder: Path) -> Spectrum:
    if not isinstance(source, dict):
        raise SimulationError("a case needs a [source] with energies_kev and weights, or with spectrum")
    if "spectrum" in source:
        _only(source, {"spectrum"}, "[source]")
        named = source["spectrum"]
        if not isinstance(named, str):
            raise SimulationError(f"[source] spectrum = {named!r} must be a file's or a shipped spectrum's name")
        beside = folder / named
        return read_spectrum(beside if beside.is_file() else named)
    _only(source, {"energies_kev", "weights"}, "[source]")
    columns = []
    for key in ("energies_kev", "weights"):
        values = source[key]
        if not isinstance(values, list) or not values:
            raise SimulationError(f"[source] {key} must be a list of numbers, one or more")
        columns.append(np.array([_number({key: value}, key, "[source]") for value in values]))
    low, high = RANGE_KEV
    if columns[0].size != columns[1].size:
        raise SimulationError("[source] energies_kev and weights must be of one length")
    if not np.all((columns[0] >= low) & (columns[0] <= high)):
        raise SimulationError(
            f"[source] energies_kev must lie from {low:g} to {high:g} keV (the cross-sections' range)"
        )
    return Spectrum(name="lines", energy_kev=columns[0], photons=columns[1])


def _rows(content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = content.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SimulationError(f"[[{key}]] must be tables, each under its own [[{key}]]")
    return rows


def _only(table: dict[str, Any], keys: set[str], where: str) -> None:
    missing, unknown = keys - table.keys(), table.keys() - keys
    if missing:
        raise SimulationError(f"{where} lacks {', '.join(sorted(missing))}")
    if unknown:
        raise SimulationError(
            f"{where} has unknown keys {', '.join(sorted(unknown))}; known: {', '.join(sorted(keys))}"
        )


def _number(table: dict[str, Any], key: str, where: str) -> float:
    value = table[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SimulationError(f"{where} {key} = {value!r} must be a finite number")
    return float(value)
