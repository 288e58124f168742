"""A source as AAPM TG-43 tabulates it: g(r), F(r, theta), active length, dose-rate constant; read from its CSV form."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from iort_planner.errors import DepthDoseTableError
from iort_planner.source.depth_dose import Scale
from iort_planner.source.polar import PolarAnisotropy
from iort_planner.units import FloatArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iort_planner.source.table_text import TableText

REFERENCE_DISTANCE_MM = 10.0  # r0 = 1 cm, theta0 = 90 degrees: TG-43U1, section III
_MM_PER_CM = 10.0
_NORMALISED = 1e-3  # g has three decimals in print
_HEADER = ["section", "r_cm", "g"]
_COLUMN = re.compile(r"r([0-9]*\.?[0-9]+)cm")
_UNCERTAINTY = re.compile(r"([0-9.]+)\s*%\s*\(k\s*=\s*([0-9.]+)\)")
_HELP = "see docs/file-formats.md, TG-43 source"


class RadialInterpolation(StrEnum):
    """How g(r) runs between its rows."""

    LOG_LINEAR = "log-linear"  # ln g over r: TG-43U1 for sources of low energy, and every source that does not say
    LINEAR = "linear"  # g over r: the AAPM/ESTRO report on sources above 50 keV (Perez-Calatayud et al. 2012)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tg43Source:
    """Dosimetry parameters of the two-dimensional TG-43 formalism.

    Parameters
    ----------
    name : str
    radial_distance_mm : ndarray of shape (N,), mm
        Rows of the radial dose function; increasing, >= 0, on both sides of 10 mm.
    radial_dose : ndarray of shape (N,)
        g(r) for the geometry function of ``active_length_mm``; finite, > 0, 1 at 10 mm within 0.001.
    anisotropy : PolarAnisotropy
        F(r, theta), which does not contain the geometry function.
    active_length_mm : float, mm
        Of the line source; 0 for a point source.
    dose_rate_constant_cgy_per_h_u : float, cGy/h per U
        1 U is 1 cGy cm^2/h of air-kerma strength.
    air_kerma_strength_u : float or None, U
        Needed for an absolute dose rate only.
    radial_interpolation : RadialInterpolation
    uncertainty_percent : float, percent
        k=1 of the dose rate.
    scale, clinical, origin, applicator, tube_voltage_kv, tube_current_ua, measured, derived, file, sha256
        As in `DepthDoseTable`.

    Raises
    ------
    DepthDoseTableError
        If a value is missing, not finite, out of order or not normalised.

    Notes
    -----
    Rivard et al. 2004, Med Phys 31:633, doi:10.1118/1.1646040 (TG-43U1).
    """

    name: str
    radial_distance_mm: FloatArray
    radial_dose: FloatArray
    anisotropy: PolarAnisotropy
    active_length_mm: float
    dose_rate_constant_cgy_per_h_u: float
    uncertainty_percent: float
    scale: Scale
    clinical: bool
    origin: str
    air_kerma_strength_u: float | None = None
    radial_interpolation: RadialInterpolation = RadialInterpolation.LOG_LINEAR
    applicator: str = ""
    tube_voltage_kv: float = 50.0
    tube_current_ua: float = 40.0
    measured: str = ""
    derived: bool = False
    file: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        r = np.array(self.radial_distance_mm, dtype=np.float64)
        g = np.array(self.radial_dose, dtype=np.float64)
        if r.ndim != 1 or r.size < 2 or g.shape != r.shape:
            self._stop(f"g(r) needs two columns of one length of at least 2 rows, got {r.shape}, {g.shape}")
        if not np.all(np.isfinite(r) & (r >= 0)) or np.any(np.diff(r) <= 0):
            self._stop("the distances of g(r) must be finite, not negative and increasing")
        if not np.all(np.isfinite(g) & (g > 0)):
            self._stop("g(r) must be finite and above 0")
        if not (np.isfinite(self.active_length_mm) and self.active_length_mm >= 0):
            self._stop(f"the active length is {self.active_length_mm} mm, must be finite and not negative (0: a point)")
        for what, value in (
            ("dose-rate constant", self.dose_rate_constant_cgy_per_h_u),
            ("air-kerma strength", self.air_kerma_strength_u),
            ("uncertainty", self.uncertainty_percent),
        ):
            if value is not None and not (np.isfinite(value) and value > 0):
                self._stop(f"the {what} is {value}, must be finite and above 0")
        if not r[0] <= REFERENCE_DISTANCE_MM <= r[-1]:
            self._stop(f"g(r) covers {r[0]:g} to {r[-1]:g} mm; it must cover its reference point, 10 mm")
        at_reference = float(np.interp(REFERENCE_DISTANCE_MM, r, g))
        if abs(at_reference - 1.0) > _NORMALISED:
            self._stop(f"g at 10 mm is {at_reference:.4g}, must be 1 within {_NORMALISED:g}")
        for name, array in (("radial_distance_mm", r), ("radial_dose", g)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def _stop(self, problem: str) -> NoReturn:
        raise DepthDoseTableError(f"TG-43 source {self.name!r}: {problem}")

    @property
    def range_mm(self) -> tuple[float, float]:
        """Distance of the first and the last row of g(r), mm: beyond them there is no dose rate."""
        return float(self.radial_distance_mm[0]), float(self.radial_distance_mm[-1])


def parse_tg43(text: TableText) -> Tg43Source:
    """Make a TG-43 source of a table file's text (``kind: tg43``).

    Raises
    ------
    DepthDoseTableError
        If a key, section or cell is missing or wrong; the message names the line.
    """
    reader = _Reader(text)
    line, header = text.header
    if header != _HEADER:
        reader.stop(line, f"the header is {','.join(header)!r}, must be {','.join(_HEADER)!r}")
    if reader.key("reference_point") != "source-centre":
        reader.stop_at("reference_point", "must be source-centre: TG-43 counts distances from the source's centre")
    second = next((n for n, (_, cells) in enumerate(text.rows) if cells[0] == "section"), None)
    if second is None:
        reader.stop(text.rows[-1][0] if text.rows else line, "no second header 'section,theta_deg,r...cm,...' for F")
    radial = [reader.numbers(row, ["section", *_HEADER[1:]], "g") for row in text.rows[:second]]
    reader.increasing([row[0] for row in text.rows[:second]], [r for r, _ in radial], "r_cm")
    f_line, f_header = text.rows[second]
    columns = [_COLUMN.fullmatch(name) for name in f_header[2:]]
    if f_header[1:2] != ["theta_deg"] or not columns or not all(columns):
        reader.stop(f_line, f"the header of F is {','.join(f_header)!r}, must be like 'section,theta_deg,r0.5cm,r1cm'")
    polar = [reader.numbers(row, f_header, "F") for row in text.rows[second + 1 :]]
    reader.increasing([row[0] for row in text.rows[second + 1 :]], [row[0] for row in polar], "theta_deg")
    try:
        anisotropy = PolarAnisotropy(
            theta_deg=np.array([row[0] for row in polar]),
            distance_mm=_MM_PER_CM * np.array([float(match[1]) for match in columns if match]),
            factor=np.array([row[1:] for row in polar]),
        )
    except DepthDoseTableError as error:
        reader.stop(f_line, f"F: {error}")
    strength = "air_kerma_strength_u"
    try:
        return Tg43Source(
            name=reader.key("name"),
            radial_distance_mm=_MM_PER_CM * np.array([r for r, _ in radial]),
            radial_dose=np.array([g for _, g in radial]),
            anisotropy=anisotropy,
            active_length_mm=reader.number("active_length_mm"),
            dose_rate_constant_cgy_per_h_u=reader.number("dose_rate_constant_cgy_per_h_u"),
            air_kerma_strength_u=reader.number(strength) if strength in text.head else None,
            radial_interpolation=RadialInterpolation(
                reader.one_of("radial_interpolation", list(RadialInterpolation), default=RadialInterpolation.LOG_LINEAR)
            ),
            uncertainty_percent=reader.uncertainty_percent(),
            scale=Scale(reader.one_of("scale", list(Scale))),
            clinical=reader.one_of("clinical", ["yes", "no"]) == "yes",
            origin=reader.key("origin"),
            applicator=reader.key("applicator"),
            tube_voltage_kv=reader.number("tube_voltage_kv"),
            tube_current_ua=reader.number("tube_current_ua"),
            measured=reader.key("measured"),
            derived=reader.one_of("derived", ["yes", "no"], default="no") == "yes",
            file=text.file,
            sha256=text.sha256,
        )
    except DepthDoseTableError as error:
        if str(error).startswith(f"table {text.file}"):
            raise
        reader.stop(line, str(error))


class _Reader:
    """Keys and rows of a table's text as numbers, or a stop that names the line."""

    def __init__(self, text: TableText) -> None:
        self._text = text

    def stop(self, line: int, problem: str) -> NoReturn:
        raise DepthDoseTableError(f"table {self._text.file}, line {line}: {problem}; {_HELP}")

    def stop_at(self, key: str, problem: str) -> NoReturn:
        line, value = self._text.head[key]
        self.stop(line, f"{key} is {value!r}, {problem}")

    def key(self, name: str) -> str:
        if name not in self._text.head:
            raise DepthDoseTableError(f"table {self._text.file}: the head lacks '# {name}: ...'; {_HELP}")
        if not self._text.head[name][1]:
            self.stop_at(name, "must not be empty")
        return str(self._text.head[name][1])

    def one_of(self, name: str, allowed: Sequence[str], default: str | None = None) -> str:
        if default is not None and name not in self._text.head:
            return default
        if self.key(name) not in allowed:
            self.stop_at(name, f"must be one of {', '.join(allowed)}")
        return self.key(name)

    def number(self, name: str) -> float:
        return self._number(self._text.head[name][0] if name in self._text.head else 0, name, self.key(name))

    def uncertainty_percent(self) -> float:
        """k=1, from like ``20 % (k=1)``."""
        match = _UNCERTAINTY.fullmatch(self.key("uncertainty"))
        percent, coverage = (float(match[1]), float(match[2])) if match else (0.0, 1.0)
        if not (0 < percent <= 100 and coverage > 0):
            self.stop_at("uncertainty", "must be like '5 % (k=1)'")
        return percent / coverage

    def numbers(self, row: tuple[int, list[str]], header: list[str], section: str) -> list[float]:
        line, cells = row
        if cells[0] != section:
            self.stop(line, f"the row's section is {cells[0]!r}, must be {section!r} here")
        if len(cells) != len(header):
            self.stop(line, f"{len(cells)} cells under {len(header)} columns")
        return [self._number(line, name, cell) for name, cell in zip(header[1:], cells[1:], strict=True)]

    def increasing(self, lines: list[int], values: list[float], name: str) -> None:
        for line, (before, value) in zip(lines[1:], itertools.pairwise(values), strict=True):
            if value <= before:
                self.stop(line, f"{name} {value:g} does not increase (the row before has {before:g})")

    def _number(self, line: int, name: str, cell: str) -> float:
        try:
            value = float(cell)
        except ValueError:
            self.stop(line, f"{name} is {cell!r}, must be a number with a decimal point")
        if not math.isfinite(value):
            self.stop(line, f"{name} is {cell!r}, must be finite")
        return value
