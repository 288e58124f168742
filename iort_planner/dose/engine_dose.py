"""What an engine that knows tissues says: on a grid, the dose there over the dose that the water engine states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from iort_planner.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.imaging.volume import ImageGrid
    from iort_planner.units import FloatArray

METAL, REPLACED = "metal", "HU replaced near metal"  # rows of voxel counts; the second one overlaps the others


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EngineDose:
    """Ratios to the dose in water, so that the site's own table stays what the absolute dose rests on.

    Parameters
    ----------
    engine : str
        ``montecarlo`` or ``raytrace``.
    grid : ImageGrid
    source_lps_mm : ndarray of shape (3,), mm
    to_water, to_medium : ndarray of shape (nk, nj, ni), float32
        Dose to water in the tissues, and dose to the tissues themselves, over the dose in water; means of the voxels.
    primary_to_water : ndarray of shape (nk, nj, ni), float32
        The unscattered photons' part of ``to_water``.
    uncertainty_percent : ndarray of shape (nk, nj, ni), float32
        k=1, statistical for a Monte Carlo; for the ray trace the spread of its differences from one.
    histories, threads, seed : int
        0 where there are none.
    seconds : float
        What the computation took.
    device : str
        ``cpu`` or ``gpu``: what followed the scattered photons.
    """

    engine: str
    grid: ImageGrid
    source_lps_mm: FloatArray
    to_water: npt.NDArray[np.float32]
    to_medium: npt.NDArray[np.float32]
    primary_to_water: npt.NDArray[np.float32]
    uncertainty_percent: npt.NDArray[np.float32]
    histories: int = 0
    seconds: float = 0.0
    seed: int = 0
    threads: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("to_water", "to_medium", "primary_to_water", "uncertainty_percent"):
            array = np.ascontiguousarray(getattr(self, name), dtype=np.float32)
            if array.shape != self.grid.shape:
                raise InputError(f"dose of engine {self.engine}: {name} has shape {array.shape}, not {self.grid.shape}")
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def ratio_at(self, points_lps_mm: npt.ArrayLike, *, medium: bool = False) -> FloatArray:
        """The ratio at points (..., 3) mm, linear between voxel centres; NaN outside the grid.

        A ratio, because the dose itself falls too fast to be interpolated. To the medium it steps where tissues meet:
        there a value between voxels is a mean of both.
        """
        return self._sampled(self.to_medium if medium else self.to_water, points_lps_mm)

    def uncertainty_percent_at(self, points_lps_mm: npt.ArrayLike) -> FloatArray:
        """k=1 at points (..., 3) mm; no less than of the voxels round it, as neighbours' errors go together."""
        return self._sampled(self.uncertainty_percent, points_lps_mm)

    def spread_percent(self, within_mm: float) -> tuple[float, float]:
        """Root mean square and 95th percentile of the uncertainty within a distance of the source, without its voxel."""
        away = self.grid.distances_mm(self.source_lps_mm)
        part = (away <= within_mm) & (away > float(np.max(self.grid.spacing_mm)) * 0.5)
        values = self.uncertainty_percent[part].astype(np.float64)
        return float(np.sqrt(np.mean(values**2))), float(np.quantile(values, 0.95))

    def _sampled(self, values: npt.NDArray[np.float32], points_lps_mm: npt.ArrayLike) -> FloatArray:
        points = np.asarray(points_lps_mm, dtype=np.float64)
        index = self.grid.lps_to_index(points)[..., ::-1]
        found = ndimage.map_coordinates(
            values, np.moveaxis(index, -1, 0).reshape(3, -1), output=np.float64, order=1, mode="nearest"
        )
        found[~self.grid.contains(points).reshape(-1)] = np.nan
        return np.asarray(found.reshape(points.shape[:-1]), dtype=np.float64)
