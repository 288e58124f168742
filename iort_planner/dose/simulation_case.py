"""A case of the transport on simple geometry, read from a TOML file (its form: docs/simulate.md)."""

from __future__ import annotations

import itertools
import math
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from iort_planner import library
from iort_planner.dose.materials import Material, material_from, read_material
from iort_planner.dose.spectrum import Spectrum, read_spectrum
from iort_planner.errors import SimulationError
from iort_planner.inputs import read_small

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MOST_MM = 10_000.0
MOST_SCORES = 1000
_KEYS = {
    "source": {"energies_kev", "weights", "spectrum"},
    "sphere": {"outer_radius_mm", "material"},
    "slab": {"x_min_mm", "x_max_mm", "material"},
    "shell": {"kind", "r_min_mm", "r_max_mm"},
    "disc": {"kind", "x_min_mm", "x_max_mm", "radius_mm"},
}


@dataclass(frozen=True, slots=True)
class Sphere:
    """All that lies within ``outer_radius_mm`` (mm) of the origin and not in a smaller sphere."""

    outer_radius_mm: float
    material: str


@dataclass(frozen=True, slots=True)
class Slab:
    """What lies between two planes of constant x (mm), within the outermost sphere; it replaces the spheres there."""

    x_min_mm: float
    x_max_mm: float
    material: str


@dataclass(frozen=True, slots=True)
class Score:
    """Where dose is scored: a shell between two radii, or a disc between two planes of constant x on the x axis.

    Parameters
    ----------
    kind : str
        ``shell`` or ``disc``.
    low_mm, high_mm : float, mm
        Inner and outer radius, or least and largest x.
    radius_mm : float, mm
        Of the disc; 0 for a shell.
    """

    kind: Literal["shell", "disc"]
    low_mm: float
    high_mm: float
    radius_mm: float = 0.0

    @property
    def position_mm(self) -> float:
        """Middle radius, or middle x, mm."""
        return 0.5 * (self.low_mm + self.high_mm)

    @property
    def volume_mm3(self) -> float:
        """Volume, mm3."""
        if self.kind == "disc":
            return math.pi * self.radius_mm**2 * (self.high_mm - self.low_mm)
        return (
            4.0
            / 3.0
            * math.pi
            * (self.high_mm - self.low_mm)
            * (self.high_mm**2 + self.high_mm * self.low_mm + self.low_mm**2)
        )

    @property
    def reach_mm(self) -> float:
        """Largest distance from the origin, mm."""
        return math.hypot(self.high_mm, self.radius_mm)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationCase:
    """Source, geometry and scores.

    Parameters
    ----------
    source : Spectrum
        Of the isotropic point source at the origin.
    materials : tuple of Material
        Those that occur, water first (the dose to water needs it).
    spheres : tuple of Sphere
        Concentric, from the inside out.
    slabs : tuple of Slab
        May touch, not overlap.
    scores : tuple of Score
        Within the outermost sphere.

    Raises
    ------
    SimulationError
        If there is no sphere or no score, radii do not rise, slabs overlap, or a score reaches into the vacuum.
    """

    source: Spectrum
    materials: tuple[Material, ...]
    spheres: tuple[Sphere, ...]
    slabs: tuple[Slab, ...]
    scores: tuple[Score, ...]

    def __post_init__(self) -> None:
        if not self.spheres:
            raise SimulationError("there is no [[sphere]]; give at least one around the source")
        if not 1 <= len(self.scores) <= MOST_SCORES:
            raise SimulationError(f"there are {len(self.scores)} [[score]]; give 1 to {MOST_SCORES}")
        before = 0.0
        for n, sphere in enumerate(self.spheres, 1):
            if not before < sphere.outer_radius_mm:
                raise SimulationError(
                    f"sphere {n}: outer_radius_mm = {sphere.outer_radius_mm:g} must be over the one before ({before:g}); "
                    "spheres go from the inside out"
                )
            before = sphere.outer_radius_mm
        ordered = sorted(self.slabs, key=lambda slab: slab.x_min_mm)
        for near, far in itertools.pairwise(ordered):
            if far.x_min_mm < near.x_max_mm:
                raise SimulationError(
                    f"slabs overlap: {near.x_min_mm:g} to {near.x_max_mm:g} mm and {far.x_min_mm:g} to {far.x_max_mm:g} mm"
                )
        for n, score in enumerate(self.scores, 1):
            if score.reach_mm > before:
                raise SimulationError(
                    f"score {n} reaches {score.reach_mm:g} mm from the source, beyond the last sphere ({before:g} mm), where "
                    "there is vacuum and no dose"
                )

    def material_at(self, x_mm: float, r_mm: float) -> str:
        """Name of the material at a place, by its x and its distance from the source, within the outermost sphere."""
        for slab in self.slabs:
            if slab.x_min_mm <= x_mm < slab.x_max_mm:
                return slab.material
        return next(each.material for each in self.spheres if r_mm < each.outer_radius_mm)

    def media(self, score: Score) -> str:
        """The materials within a score, by a regular sample of places; more than one joined by ``+``."""
        parts = (np.arange(32) + 0.5) / 32
        along = score.low_mm + parts * (score.high_mm - score.low_mm)
        if score.kind == "shell":
            cosines = 2.0 * parts - 1.0 if self.slabs else np.zeros(1)
            places = [(r * cosine, r) for r in along for cosine in cosines]
        else:
            places = [(x, math.hypot(x, score.radius_mm * part)) for x in along for part in parts]
        return "+".join(dict.fromkeys(self.material_at(float(x), float(r)) for x, r in places))


def read_case(path: Path) -> SimulationCase:
    """Read a case file.

    Raises
    ------
    SimulationError, MaterialError
        If it cannot be read, is no TOML, lacks a key, has an unknown one, or holds an impossible value.
    """
    try:
        content = tomllib.loads(read_small(path).decode("utf-8"))
    except OSError as error:
        raise SimulationError(f"case file {str(path)!r} cannot be read ({error.strerror}); give a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SimulationError(f"case file {path.name}: not valid TOML ({error}); see docs/simulate.md") from error
    try:
        return case_from(content, path.parent)
    except SimulationError as error:
        raise SimulationError(f"case file {path.name}: {error}") from error


def case_from(content: Mapping[str, Any], folder: Path) -> SimulationCase:
    """The case in a parsed TOML document; a spectrum's file is looked for in ``folder``.

    Raises
    ------
    SimulationError, MaterialError
        As `read_case`.
    """
    unknown = content.keys() - {"source", "material", "sphere", "slab", "score"}
    if unknown:
        raise SimulationError(f"unknown {', '.join(sorted(unknown))}; known are source, material, sphere, slab, score")
    own = [material_from(t, f"material {n}", "the case file") for n, t in enumerate(_tables(content, "material"), 1)]
    by_name = {material.name: material for material in own}
    if len(by_name) != len(own):
        raise SimulationError("two [[material]] have one name; rename one")
    spheres = tuple(
        Sphere(_length(t, "outer_radius_mm", where, positive=True), _text(t, "material", where))
        for t, where in _checked(content, "sphere")
    )
    slabs = tuple(
        Slab(*_interval(t, "x_min_mm", "x_max_mm", where), _text(t, "material", where))
        for t, where in _checked(content, "slab")
    )
    names = dict.fromkeys(["water", *(each.material for each in spheres), *(each.material for each in slabs)])
    return SimulationCase(
        source=_source(content, folder),
        materials=tuple(by_name.get(name) or read_material(name) for name in names),
        spheres=spheres,
        slabs=slabs,
        scores=tuple(_score(t, f"score {n}") for n, t in enumerate(_tables(content, "score"), 1)),
    )


def _source(content: Mapping[str, Any], folder: Path) -> Spectrum:
    table = content.get("source")
    if not isinstance(table, dict):
        raise SimulationError("[source] is missing; give it energies_kev and weights, or a spectrum")
    _known(table, "source", {"energies_kev", "weights"} if "energies_kev" in table else {"spectrum"}, "source")
    if "spectrum" in table:
        if "energies_kev" in table:
            raise SimulationError("source: give energies_kev with weights, or a spectrum, not both")
        name = _text(table, "spectrum", "source")
        return read_spectrum(name if name in library.names("spectra") else folder / name)
    lists = []
    for key in ("energies_kev", "weights"):
        if not isinstance(table[key], list) or not all(_is_number(value) for value in table[key]):
            raise SimulationError(f"source: {key} = {table[key]!r} must be a list of numbers")
        lists.append(np.array(table[key], dtype=np.float64))
    return Spectrum(energy_low_kev=lists[0], energy_high_kev=lists[0], photons=lists[1], name="source")


def _score(table: Mapping[str, Any], where: str) -> Score:
    kind = table.get("kind")
    if kind not in ("shell", "disc"):
        raise SimulationError(f"{where}: kind = {kind!r} must be 'shell' or 'disc'")
    _known(table, where, _KEYS[kind], kind)
    low, high = ("r_min_mm", "r_max_mm") if kind == "shell" else ("x_min_mm", "x_max_mm")
    ends = _interval(table, low, high, where)
    if ends[0] < 0.0:
        raise SimulationError(f"{where}: {low} = {ends[0]:g} must be at least 0")
    if kind == "shell":
        return Score("shell", *ends)
    return Score("disc", *ends, _length(table, "radius_mm", where, positive=True))


def _tables(content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    tables = content.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SimulationError(f"write each {key} as [[{key}]]")
    return tables


def _checked(content: Mapping[str, Any], key: str) -> list[tuple[dict[str, Any], str]]:
    pairs = [(table, f"{key} {n}") for n, table in enumerate(_tables(content, key), 1)]
    for table, where in pairs:
        _known(table, where, _KEYS[key], key)
    return pairs


def _known(table: Mapping[str, Any], where: str, required: set[str], kind: str) -> None:
    missing, unknown = required - table.keys(), table.keys() - _KEYS[kind]
    if missing or unknown:
        what = f"lacks {', '.join(sorted(missing))}" if missing else f"has unknown keys {', '.join(sorted(unknown))}"
        raise SimulationError(f"{where}: {what}; known are {', '.join(sorted(_KEYS[kind]))}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _length(table: Mapping[str, Any], key: str, where: str, *, positive: bool = False) -> float:
    value = table[key]
    if not _is_number(value) or abs(value) > MOST_MM or (positive and value <= 0.0):
        least = "over 0" if positive else f"at least {-MOST_MM:g}"
        raise SimulationError(f"{where}: {key} = {value!r} must be a number {least} and at most {MOST_MM:g} mm")
    return float(value)


def _interval(table: Mapping[str, Any], low: str, high: str, where: str) -> tuple[float, float]:
    ends = _length(table, low, where), _length(table, high, where)
    if not ends[0] < ends[1]:
        raise SimulationError(f"{where}: {low} = {ends[0]:g} must be under {high} = {ends[1]:g}")
    return ends


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    if not isinstance(table[key], str) or not table[key]:
        raise SimulationError(f"{where}: {key} = {table[key]!r} must be a name")
    return str(table[key])
