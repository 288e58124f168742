"""The spectrum of a source: photons by energy, as they leave the applicator."""

from __future__ import annotations

import csv
import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from iort_planner import library
from iort_planner.dose.attenuation import RANGE_KEV
from iort_planner.errors import TissueError
from iort_planner.inputs import read_small

if TYPE_CHECKING:
    from pathlib import Path

    from iort_planner.units import FloatArray

_HEADER = ["energy_low_kev", "energy_high_kev", "photons"]
_MOST_ROWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spectrum:
    """Photons by energy.

    Parameters
    ----------
    name : str
    energy_kev : ndarray of shape (E,)
        Middle of each bin; all photons of a bin have it.
    photons : ndarray of shape (E,)
        In any unit; only their shares count.
    sha256 : str
        Of the file.

    Raises
    ------
    TissueError
        If an energy lies outside 1 to 60 keV, or a number of photons is not finite and 0 or more, or all are 0.
    """

    name: str
    energy_kev: FloatArray
    photons: FloatArray
    sha256: str = ""

    def __post_init__(self) -> None:
        for key in ("energy_kev", "photons"):
            array = np.array(getattr(self, key), dtype=np.float64)
            array.setflags(write=False)
            object.__setattr__(self, key, array)
        low, high = RANGE_KEV
        if self.energy_kev.ndim != 1 or self.energy_kev.shape != self.photons.shape or self.energy_kev.size == 0:
            raise TissueError(f"spectrum {self.name!r}: it needs one number of photons for each energy")
        if not np.all((self.energy_kev >= low) & (self.energy_kev <= high)):
            raise TissueError(f"spectrum {self.name!r}: energies must lie from {low:g} to {high:g} keV")
        if not np.all(np.isfinite(self.photons) & (self.photons >= 0)) or not self.photons.sum() > 0:
            raise TissueError(f"spectrum {self.name!r}: photons must be finite, 0 or more, and not all 0")


def line(*energies_kev: float) -> Spectrum:
    """A spectrum of one or more lines of the same strength."""
    return Spectrum(name="lines", energy_kev=np.array(energies_kev), photons=np.ones(len(energies_kev)))


def read_spectrum(name_or_path: str | Path = library.DEFAULT_SPECTRUM) -> Spectrum:
    """Read ``energy_low_kev,energy_high_kev,photons`` (equal ends: a line), by library name or from a file.

    Raises
    ------
    TissueError
        If the file cannot be read or holds impossible numbers.
    """
    path = library.find("spectra", name_or_path)
    try:
        data = read_small(path)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TissueError(
            f"spectrum {str(name_or_path)!r} cannot be read ({error}); give a CSV file or one of: "
            f"{', '.join(library.names('spectra'))}"
        ) from error
    rows = [row for row in csv.reader(t for t in text.splitlines() if not t.startswith("#")) if row]
    if not rows or [cell.strip() for cell in rows[0]] != _HEADER or not 1 < len(rows) <= _MOST_ROWS:
        raise TissueError(
            f"spectrum {path.name}: it needs the header row {','.join(_HEADER)} and 1 to {_MOST_ROWS - 1} rows"
        )
    energies, photons = [], []
    for number, row in enumerate(rows[1:], 1):
        try:
            low, high, count = (float(cell) for cell in row)
        except ValueError as error:
            raise TissueError(
                f"spectrum {path.name}: row {number} must be three numbers, got {','.join(row)!r}"
            ) from error
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise TissueError(f"spectrum {path.name}: row {number}: energy_low_kev {low} must not exceed {high}")
        energies.append((low + high) / 2.0)
        photons.append(count)
    return Spectrum(
        name=path.stem,
        energy_kev=np.array(energies),
        photons=np.array(photons),
        sha256=hashlib.sha256(data).hexdigest(),
    )
