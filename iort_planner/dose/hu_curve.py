"""The calibration of a scanner: HU to density and composition, from a file that a site replaces by its own."""

from __future__ import annotations

import hashlib
import itertools
import math
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from iort_planner import library
from iort_planner.dose.materials import Material
from iort_planner.errors import IortError, TissueError
from iort_planner.inputs import read_small

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from iort_planner.units import FloatArray

SCHEMA = "iort-planner/hu-curve/1"
_MOST_TISSUES = 200  # indices are uint8
_LIMITS = ("bone_up_to_hu", "metal_from_hu", "artefact_mm", "streak_mm", "streak_below_hu", "tube_voltage_kv")
_KEYS = frozenset({"schema", "name", "clinical", "origin", "density", "tissue", "metal", "cement", *_LIMITS})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HuCurve:
    """HU to density (straight lines between points) and to a tissue's composition (steps).

    Parameters
    ----------
    name, origin : str
    clinical : bool
        True only for a curve that a site has measured on its own scanner.
    tube_voltage_kv : float
        The scanner's; bone has another HU at another voltage.
    hu, density_g_cm3 : ndarray of shape (N,)
        Points of the density; held beyond the first and the last one.
    from_hu : ndarray of shape (M,)
        From where on each tissue holds; increasing. The first one holds below, too.
    tissues : tuple of M Material
        Their own densities are those at the middle of their range and serve for showing.
    metal, cement : Material
        What is put in where HU cannot tell.
    bone_up_to_hu : float
        Highest HU that is believed to be bone.
    metal_from_hu : float
        What is metal, whatever the curve says.
    artefact_mm, streak_mm, streak_below_hu : float
        Round metal no HU is believed (mm); a little farther, none that is darker than ``streak_below_hu``.
    file, sha256 : str
        Of the file that it was read from.

    Raises
    ------
    TissueError
        If the points or tissues do not increase, a density is not positive, or a limit is impossible.
    """

    name: str
    origin: str
    clinical: bool
    tube_voltage_kv: float
    hu: FloatArray
    density_g_cm3: FloatArray
    from_hu: FloatArray
    tissues: tuple[Material, ...]
    metal: Material
    cement: Material
    bone_up_to_hu: float
    metal_from_hu: float
    artefact_mm: float
    streak_mm: float
    streak_below_hu: float
    file: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        where = f"HU curve {self.name!r}"
        for key in ("hu", "density_g_cm3", "from_hu"):
            array = np.array(getattr(self, key), dtype=np.float64)
            if array.ndim != 1 or not np.all(np.isfinite(array)):
                raise TissueError(f"{where}: {key} must be finite numbers")
            array.setflags(write=False)
            object.__setattr__(self, key, array)
        if len(self.hu) < 2 or self.hu.shape != self.density_g_cm3.shape or np.any(np.diff(self.hu) <= 0):
            raise TissueError(f"{where}: its density needs two points or more, in order of growing hu")
        if np.any(self.density_g_cm3 <= 0) or np.any(np.diff(self.density_g_cm3) < 0):
            raise TissueError(f"{where}: its densities must be above 0 and must not fall with growing hu")
        if not 1 <= len(self.tissues) <= _MOST_TISSUES or len(self.from_hu) != len(self.tissues):
            raise TissueError(f"{where}: it needs 1 to {_MOST_TISSUES} tissues, got {len(self.tissues)}")
        names = ["water", *(tissue.name for tissue in self.tissues), self.cement.name, self.metal.name]
        if len(set(names)) != len(names):
            raise TissueError(f"{where}: its tissues, metal and cement must have names of their own, and none 'water'")
        if np.any(np.diff(self.from_hu) <= 0):
            raise TissueError(f"{where}: its tissues must stand in order of growing from_hu")
        for key in _LIMITS:
            if not math.isfinite(getattr(self, key)):
                raise TissueError(f"{where}: {key} must be a finite number")
        if not self.from_hu[-1] < self.bone_up_to_hu < self.metal_from_hu:
            raise TissueError(
                f"{where}: bone_up_to_hu = {self.bone_up_to_hu:g} must lie above the last tissue's from_hu "
                f"({self.from_hu[-1]:g}) and below metal_from_hu = {self.metal_from_hu:g}"
            )
        if not 0.0 <= self.artefact_mm <= self.streak_mm <= 30.0:
            raise TissueError(
                f"{where}: 0 <= artefact_mm = {self.artefact_mm:g} <= streak_mm = {self.streak_mm:g} <= 30 mm is required"
            )

    def density_at(self, hu: npt.ArrayLike) -> FloatArray:
        """Density in g/cm3, same shape."""
        return np.asarray(np.interp(np.asarray(hu, dtype=np.float64), self.hu, self.density_g_cm3), dtype=np.float64)

    def tissue_at(self, hu: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """Index into ``tissues``, same shape."""
        found = np.searchsorted(self.from_hu, np.asarray(hu), side="right") - 1
        return np.asarray(np.maximum(found, 0), dtype=np.intp)


def read_curve(name_or_path: str | Path = library.DEFAULT_CURVE) -> HuCurve:
    """Read a HU curve by its library name or from a TOML file; its form: docs/file-formats.md.

    Raises
    ------
    TissueError
        If the file is missing, is no TOML, lacks a key, has an unknown one, or holds impossible numbers.
    """
    path = library.find("curves", name_or_path)
    try:
        data = read_small(path)
    except OSError as error:
        raise TissueError(
            f"HU curve {str(name_or_path)!r} cannot be read ({error.strerror}); give a TOML file or one of: "
            f"{', '.join(library.names('curves'))}"
        ) from error
    try:
        content: dict[str, Any] = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TissueError(f"HU curve {path.name}: not valid TOML ({error}); see docs/file-formats.md") from error
    try:
        return _curve(content, path.name, hashlib.sha256(data).hexdigest())
    except IortError as error:
        raise TissueError(f"{path.name}: {error}; see docs/file-formats.md") from error


def _curve(content: dict[str, Any], file: str, sha256: str) -> HuCurve:
    _only(content, _KEYS, "the file")
    if content["schema"] != SCHEMA:
        raise TissueError(f"schema = {content['schema']!r} must be {SCHEMA!r}")
    for key, kind in (("name", str), ("origin", str), ("clinical", bool)):
        if not isinstance(content[key], kind) or content[key] == "":
            raise TissueError(f"{key} = {content[key]!r} must be a {kind.__name__}")
    points = _tables(content, "density", {"hu", "density_g_cm3"})
    rows = _tables(content, "tissue", {"name", "from_hu", "mass_fractions"})
    hu = np.array([_number(point, "hu", "[[density]]") for point in points])
    density = np.array([_number(point, "density_g_cm3", "[[density]]") for point in points])
    start = [_number(row, "from_hu", "[[tissue]]") for row in rows]
    limits = {key: _number(content, key, "the file") for key in _LIMITS}
    ends = [*start[1:], limits["bone_up_to_hu"]]
    middle = np.interp([(a + b) / 2.0 for a, b in zip(start, ends, strict=True)], hu, density)
    for row, at in zip(rows, middle, strict=True):
        row["density_g_cm3"] = float(at)
    return HuCurve(
        name=content["name"],
        origin=content["origin"],
        clinical=content["clinical"],
        hu=hu,
        density_g_cm3=density,
        from_hu=np.array(start),
        tissues=tuple(_material(row, "[[tissue]]", content["origin"]) for row in rows),
        metal=_material(_table(content, "metal"), "[metal]", content["origin"]),
        cement=_material(_table(content, "cement"), "[cement]", content["origin"]),
        **limits,
        file=file,
        sha256=sha256,
    )


def _only(table: dict[str, Any], keys: frozenset[str] | set[str], where: str) -> None:
    missing, unknown = keys - table.keys(), table.keys() - keys
    if missing or unknown:
        what = f"lacks {', '.join(sorted(missing))}" if missing else f"has unknown keys {', '.join(sorted(unknown))}"
        raise TissueError(f"{where} {what}")


def _tables(content: dict[str, Any], key: str, keys: set[str]) -> list[dict[str, Any]]:
    rows = content[key]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise TissueError(f"[[{key}]] must be tables, one or more")
    for number, row in enumerate(rows, 1):
        _only(row, keys, f"[[{key}]] number {number}")
    return [dict(row) for row in rows]


def _table(content: dict[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(content[key], dict):
        raise TissueError(f"[{key}] must be a table")
    _only(content[key], {"name", "density_g_cm3", "mass_fractions"}, f"[{key}]")
    return dict(content[key])


def _number(table: dict[str, Any], key: str, where: str) -> float:
    value = table[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TissueError(f"{where}: {key} = {value!r} must be a finite number")
    return float(value)


def _material(table: dict[str, Any], where: str, origin: str) -> Material:
    name, fractions = table["name"], table["mass_fractions"]
    if not isinstance(name, str) or not name:
        raise TissueError(f"{where}: name = {name!r} must be a text")
    if not isinstance(fractions, dict):
        raise TissueError(
            f"{where} {name!r}: mass_fractions must be a table of elements, e.g. {{ H = 0.11, O = 0.89 }}"
        )
    for element in fractions:
        _number(fractions, element, f"{where} {name!r}")
    density = _number(table, "density_g_cm3", f"{where} {name!r}")
    return Material(name=name, density_g_cm3=density, mass_fractions=_normalised(fractions, where, name), source=origin)


def _normalised(fractions: dict[str, float], where: str, name: str) -> dict[str, float]:
    """Published rows are rounded and add up to 0.998 to 1.003; more than that is a mistake."""
    total = math.fsum(fractions.values())
    if not abs(total - 1.0) <= 0.005:
        raise TissueError(f"{where} {name!r}: mass_fractions add up to {total:.4g}, not to 1 within 0.005")
    return {element: value / total for element, value in fractions.items()}


def ranges(curve: HuCurve) -> tuple[tuple[float, float], ...]:
    """From and up to which HU each tissue of a curve holds, for showing."""
    return tuple(itertools.pairwise([*curve.from_hu.tolist(), curve.bone_up_to_hu]))
