"""A photon spectrum: lines and bins with the photons in each, read from a CSV or from the library."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from iort_planner import library
from iort_planner.dose.photon_tables import LEAST_KEV, MOST_KEV
from iort_planner.errors import SimulationError
from iort_planner.inputs import read_small

if TYPE_CHECKING:
    from pathlib import Path

    from iort_planner.units import FloatArray

COLUMNS = ("energy_low_kev", "energy_high_kev", "photons")
_NODE = 0.5 / math.sqrt(3.0)  # of the two-point Gauss rule, in widths from the middle
_NODE_STEP_KEV = 0.25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spectrum:
    """Photons by energy; within a bin they are spread evenly.

    Parameters
    ----------
    energy_low_kev, energy_high_kev : ndarray of shape (N,), keV
        Ends of each bin; equal for a line. Within 1 and 50 keV.
    photons : ndarray of shape (N,)
        Not negative, some of them positive; normalised to a sum of 1.
    name : str
        For messages.
    key, sha256 : str
        Library name or the file's, and the hash of its bytes; empty for one that is from no file.

    Raises
    ------
    SimulationError
        For columns of different length, energies outside the range or upside down, or no photons.
    """

    energy_low_kev: FloatArray
    energy_high_kev: FloatArray
    photons: FloatArray
    name: str
    key: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        low, high, photons = (
            np.array(a, np.float64) for a in (self.energy_low_kev, self.energy_high_kev, self.photons)
        )
        if low.ndim != 1 or not low.size or low.shape != high.shape or low.shape != photons.shape:
            raise SimulationError(
                f"{self.name}: energies and weights must be lists of one length of at least 1, got {low.size}, {high.size} "
                f"and {photons.size}"
            )
        for n in range(low.size):
            if not LEAST_KEV <= low[n] <= high[n] <= MOST_KEV:  # NaN fails too
                raise SimulationError(
                    f"{self.name}: energy {n + 1} ({low[n]:g} to {high[n]:g} keV) must rise and lie within {LEAST_KEV:g} and "
                    f"{MOST_KEV:g} keV, where the photon tables end"
                )
            if not (photons[n] >= 0.0 and math.isfinite(photons[n])):
                raise SimulationError(
                    f"{self.name}: photons or weight {n + 1} = {photons[n]:g} must be a number of at least 0"
                )
        if not photons.sum() > 0.0:
            raise SimulationError(f"{self.name}: there is no photon in it; give a positive weight")
        for key, column in zip(COLUMNS, (low, high, photons / photons.sum()), strict=True):
            column.setflags(write=False)
            object.__setattr__(self, key, column)

    @property
    def mean_kev(self) -> float:
        """Mean photon energy, keV."""
        return float(np.sum(self.photons * 0.5 * (self.energy_low_kev + self.energy_high_kev)))

    @property
    def middle_kev(self) -> FloatArray:
        """Middle of each bin (N,), keV: enough where bins are narrow and a spectrum is only weighed with."""
        return 0.5 * (self.energy_low_kev + self.energy_high_kev)

    def nodes(self) -> tuple[FloatArray, FloatArray]:
        """Energies (keV) and weights (sum 1) that stand for the spectrum in an integral: Gauss points, at least two a bin."""
        energies, weights = [], []
        for low, high, photons in zip(self.energy_low_kev, self.energy_high_kev, self.photons, strict=True):
            parts = max(1, math.ceil((high - low) / _NODE_STEP_KEV))
            width = (high - low) / parts
            middles = low + width * (np.arange(parts) + 0.5)
            nodes = [middles] if width == 0.0 else [middles - _NODE * width, middles + _NODE * width]
            energies += nodes
            weights += [np.full(parts, photons / parts / len(nodes))] * len(nodes)
        return self._kept(np.concatenate(energies), np.concatenate(weights))

    @staticmethod
    def _kept(energies: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        kept = weights > 0.0
        return energies[kept], weights[kept]


def line(*energies_kev: float) -> Spectrum:
    """A spectrum of one or more lines of the same strength."""
    ends = np.array(energies_kev, dtype=np.float64)
    return Spectrum(energy_low_kev=ends, energy_high_kev=ends, photons=np.ones(ends.size), name="lines")


def read_spectrum(name_or_path: str | Path = library.DEFAULT_SPECTRUM) -> Spectrum:
    """Read a spectrum by its library name or from a CSV: ``#`` comments, a header row, then a row a bin or line.

    Raises
    ------
    SimulationError
        If it cannot be read, has another header, or a row that is no three numbers.
    """
    path = library.find("spectra", name_or_path)
    try:
        data = read_small(path)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise SimulationError(
            f"spectrum {str(name_or_path)!r} cannot be read ({error.strerror}); give a CSV file or one of: "
            f"{', '.join(library.names('spectra'))}"
        ) from error
    except UnicodeDecodeError as error:
        raise SimulationError(f"spectrum {path.name} is no text in UTF-8; save it as CSV") from error
    rows = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#")]
    if not rows or [cell.strip() for cell in rows[0][1].split(",")] != list(COLUMNS):
        raise SimulationError(f"spectrum {path.name}: the first row after the comments must be {','.join(COLUMNS)}")
    values = []
    for number, line in rows[1:]:
        try:
            low, high, photons = (float(cell) for cell in line.split(","))
        except ValueError:
            raise SimulationError(f"spectrum {path.name}, line {number}: {line!r} must be three numbers") from None
        values.append((low, high, photons))
    columns = np.array(values, dtype=np.float64).reshape(-1, 3).T
    return Spectrum(
        energy_low_kev=columns[0],
        energy_high_kev=columns[1],
        photons=columns[2],
        name=f"spectrum {path.name}",
        key=path.stem,
        sha256=hashlib.sha256(data).hexdigest(),
    )
