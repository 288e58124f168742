"""A `TissueMap` and a spectrum as the plain arrays that the compiled voxel kernels read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.dose.photon_tables import MOST_KEV, KernelTables, PhotonTables, photon_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from iort_planner.dose.materials import Material
    from iort_planner.dose.spectrum import Spectrum
    from iort_planner.dose.tissue import TissueMap
    from iort_planner.units import FloatArray


_MADE: dict[tuple[object, ...], PhotonTables] = {}
_MOST_MADE = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VoxelPhysics:
    """Voxels, lines of the spectrum and interaction data, material 0 being water.

    Parameters
    ----------
    material, density : ndarray of shape (nk, nj, ni), uint8 and float32 (g/cm3)
    source_index : ndarray of shape (3,)
        Index (i, j, k) of the source.
    spacing_cm : ndarray of shape (3,)
    line_kev, line_share : ndarray of shape (E,)
        Energies and share of the photons, with a sum of 1.
    photons : PhotonTables
    """

    material: npt.NDArray[np.uint8]
    density: npt.NDArray[np.float32]
    source_index: FloatArray
    spacing_cm: FloatArray
    line_kev: FloatArray
    line_share: FloatArray
    photons: PhotonTables

    @property
    def voxel_cm3(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.spacing_cm))

    def cells(self) -> npt.NDArray[np.float32]:
        """Rows of `scatter_batch`, their scores 0."""
        rows = np.zeros((self.material.size, 4), np.float32)
        rows[:, 2], rows[:, 3] = self.density.ravel(), self.material.ravel()
        return rows

    @property
    def tables(self) -> KernelTables:
        """The interaction data as the kernels take them."""
        return self.photons.kernel()

    def at_lines(self, table: FloatArray) -> FloatArray:
        """A table (M, N) at the spectrum's lines, (M, E)."""
        return at_energies(self.photons, table, self.line_kev)

    def lines(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Share times energy (E,), keV, and attenuation and energy absorption (M, E), cm2/g."""
        return self.line_share * self.line_kev, self.at_lines(self.photons.mu_total), self.at_lines(self.photons.mu_en)

    def drawn_lines(self, as_they_are: float, behind_cm: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Energies, the cumulative share that they are drawn from, and the weight that makes up for it.

        A part ``as_they_are``, the rest in proportion to the scatter that is left behind water of ``behind_cm``.
        """
        mu = self.at_lines(self.photons.mu_total)[0]
        scatter = self.at_lines(self.photons.mu_coherent)[0] + self.at_lines(self.photons.mu_incoherent)[0]
        useful = self.line_share * scatter / mu * np.exp(-mu * behind_cm)
        drawn = as_they_are * self.line_share + (1.0 - as_they_are) * useful / useful.sum()
        return self.line_kev, np.cumsum(drawn), self.line_share / drawn

    def in_water(self) -> VoxelPhysics:
        """The same with water of 1 g/cm3 in every voxel."""
        return replace(self, material=np.zeros_like(self.material), density=np.ones_like(self.density))

    def upper_eighth(self) -> VoxelPhysics:
        """The voxels from the source's on in all three directions."""
        i, j, k = (round(float(n)) for n in self.source_index)
        part = (slice(k, None), slice(j, None), slice(i, None))
        return replace(
            self,
            material=np.ascontiguousarray(self.material[part]),
            density=np.ascontiguousarray(self.density[part]),
            source_index=self.source_index - np.array([i, j, k]),
        )


def at_energies(photons: PhotonTables, table: FloatArray, energy_kev: FloatArray) -> FloatArray:
    """A table (M, N) at energies (E,), (M, E); linear between steps, as the compiled loops do it."""
    return np.array([np.interp(energy_kev, photons.energy_kev, row) for row in table])


def tables_of(materials: Sequence[Material]) -> PhotonTables:
    """Photon tables that are made once for the same materials; characteristic photons stay where they start.

    Those of calcium have 3.7 keV and end within 0.1 mm of bone; those of barium in cement would reach a few mm.
    """
    key = tuple((m.name, m.density_g_cm3, *m.mass_fractions.items()) for m in materials)
    if key not in _MADE:
        if len(_MADE) >= _MOST_MADE:
            _MADE.clear()
        _MADE[key] = photon_tables(materials, least_line_kev=2.0 * MOST_KEV)
    return _MADE[key]


def voxel_physics(tissue: TissueMap, spectrum: Spectrum) -> VoxelPhysics:
    """Arrays for the kernels; tables only for the materials that occur, and for water."""
    present = np.union1d([0], np.unique(tissue.material))
    renumbered = np.searchsorted(present, np.arange(len(tissue.materials))).astype(np.uint8)
    share = spectrum.photons / spectrum.photons.sum()
    kept = share > 0.0
    return VoxelPhysics(
        material=renumbered[tissue.material],
        density=np.array(tissue.density_g_cm3),
        source_index=tissue.source_index,
        spacing_cm=tissue.grid.spacing_mm / 10.0,
        line_kev=spectrum.middle_kev[kept],
        line_share=share[kept],
        photons=tables_of([tissue.materials[n] for n in present]),
    )
