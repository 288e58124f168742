"""What stands in each voxel of a dose grid: HU to material and density, and where HU is not believed.

Metal, its artefacts, bone cement and the applicator are never read from HU:

* metal (`HuCurve.metal_from_hu`, or the scan's own highest value where it is cut off lower) becomes the curve's metal;
* round metal (``artefact_mm``), and darker than any tissue a little farther (``streak_mm``), a value is replaced by a mean
  of believed values near it, weighted by a Gaussian;
* brighter than any bone, where no metal is near, is bone cement if it is a lump and else dense bone;
* needle, cannula and plastic tip become water. The water table is measured with the applicator in place and gives the dose
  beside it: what the applicator does to the dose is in that table. An engine takes from the voxels only the ratio
  of the dose in this patient to the dose in water, and in both the applicator must be the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from iort_planner.dose.engine_dose import METAL, REPLACED
from iort_planner.dose.materials import Material, read_material
from iort_planner.dose.water import DOSE_GRID_REACH_MM, DOSE_GRID_SPACING_MM
from iort_planner.errors import TissueError

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.applicator import Applicator
    from iort_planner.dose.hu_curve import HuCurve
    from iort_planner.geometry.needle import Needle
    from iort_planner.imaging.volume import ImageGrid, Volume
    from iort_planner.units import FloatArray

_FILL_SIGMA_MM = 3.0  # of the mean that replaces artefacts: about their own reach
_FILL_HU = 0.0  # where nothing believed is near
_CUT_OFF_VOXELS = 100  # so many voxels with one and the same highest value: the scan is cut off there
_LEAST_METAL_HU = 1800.0  # no bone is mistaken for metal in a scan that is cut off low
_CEMENT_MM3 = 30.0  # a smaller lump is a dense spot of bone
_MARGIN_MM = 0.5  # the needle's pose and blur
_SUB_STEPS = 4  # of each axis of a dose voxel, for the mean HU in it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TissueMap:
    """Material and density of each voxel of a dose grid.

    Parameters
    ----------
    grid : ImageGrid
    source_lps_mm : ndarray of shape (3,), mm
    materials : tuple of Material
        The first one is water.
    material : ndarray of shape (nk, nj, ni), uint8
        Index into ``materials``.
    density_g_cm3 : ndarray of shape (nk, nj, ni), float32
    counts : tuple of (str, int)
        How many voxels got what, and how many were put in without believing the HU.
    curve : str
        Name of the HU curve; empty where none was used.

    Raises
    ------
    TissueError
        If an index has no material, a density is not positive, or the source lies outside the grid.
    """

    grid: ImageGrid
    source_lps_mm: FloatArray
    materials: tuple[Material, ...]
    material: npt.NDArray[np.uint8]
    density_g_cm3: npt.NDArray[np.float32]
    counts: tuple[tuple[str, int], ...] = ()
    curve: str = ""

    def __post_init__(self) -> None:
        for name, kind in (("material", np.uint8), ("density_g_cm3", np.float32)):
            array = np.ascontiguousarray(getattr(self, name), dtype=kind)
            if array.shape != self.grid.shape:
                raise TissueError(f"tissue map: {name} has shape {array.shape}, its grid {self.grid.shape}")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if not self.materials or int(self.material.max()) >= len(self.materials):
            raise TissueError(f"tissue map: {len(self.materials)} materials for indices up to {self.material.max()}")
        if not (np.all(np.isfinite(self.density_g_cm3)) and float(self.density_g_cm3.min()) > 0.0):
            raise TissueError("tissue map: densities must be finite and above 0")
        if not self.grid.contains(self.source_lps_mm):
            raise TissueError(
                f"tissue map: the source {np.round(self.source_lps_mm, 1).tolist()} lies outside its grid"
            )

    @classmethod
    def filled(cls, grid: ImageGrid, source_lps_mm: FloatArray, *materials: Material) -> TissueMap:
        """All water; ``materials`` are at hand for `with_part`."""
        water = read_material("water")
        return cls(
            grid=grid,
            source_lps_mm=np.array(source_lps_mm, dtype=np.float64),
            materials=(water, *materials),
            material=np.zeros(grid.shape, np.uint8),
            density_g_cm3=np.full(grid.shape, water.density_g_cm3, np.float32),
        )

    def with_part(self, part: npt.NDArray[np.bool_], index: int, density_g_cm3: float | None = None) -> TissueMap:
        """The same with material ``index`` in the voxels of ``part``, at its own density or the given one."""
        density = self.materials[index].density_g_cm3 if density_g_cm3 is None else density_g_cm3
        return TissueMap(
            grid=self.grid,
            source_lps_mm=self.source_lps_mm,
            materials=self.materials,
            material=np.where(part, np.uint8(index), self.material),
            density_g_cm3=np.where(part, np.float32(density), self.density_g_cm3),
            counts=self.counts,
            curve=self.curve,
        )

    @property
    def source_index(self) -> FloatArray:
        """Fractional index (i, j, k) of the source."""
        return self.grid.lps_to_index(self.source_lps_mm)


def require_hu(volume: Volume) -> None:
    """Stop where tissues cannot be told from an image.

    Raises
    ------
    TissueError
        If its values are no HU.
    """
    if not volume.hu_calibrated:
        raise TissueError(
            "this image has no calibrated HU, so that no tissue can be told from it; plan with --engine water, or take a CT "
            "whose values are HU (see inspect)"
        )


def materials_of(curve: HuCurve) -> tuple[Material, ...]:
    """What `tissue_map` tells apart, in its order: water, the curve's tissues, bone cement, and last metal."""
    return (read_material("water"), *curve.tissues, curve.cement, curve.metal)


def tissue_map(
    volume: Volume,
    curve: HuCurve,
    needle: Needle,
    applicator: Applicator,
    *,
    reach_mm: float = DOSE_GRID_REACH_MM,
    spacing_mm: float = DOSE_GRID_SPACING_MM,
) -> TissueMap:
    """Material and density round a needle's source, on a grid with axes parallel to the image's.

    The value of a voxel is the mean HU in it, so that a thin cortex keeps its share. What lies outside the image is water.

    Raises
    ------
    TissueError
        If the image's values are no HU.
    """
    require_hu(volume)
    grid = volume.grid.parallel_around(needle.source_lps_mm, reach_mm=reach_mm, spacing_mm=spacing_mm)
    near = volume.crop_around(grid.corners_lps_mm(), curve.streak_mm + 1.0)
    hu = near.values.astype(np.float32)
    cut = _metal_from(hu, curve)
    in_needle = _needle_mask(near.grid, needle, applicator)
    metal = (hu >= cut) & ~in_needle
    believed, hu, artefacts = _without_artefacts(hu, metal | (in_needle & (hu >= cut)), in_needle, near.grid, curve)
    cement = _lumps(believed & (hu > curve.bone_up_to_hu), near.grid)
    to_grid = _Averaging(near.grid, grid)
    mean_hu = to_grid(hu)
    material = (curve.tissue_at(mean_hu) + 1).astype(np.uint8)
    density = curve.density_at(np.minimum(mean_hu, curve.bone_up_to_hu)).astype(np.float32)
    of_cement, of_metal = len(curve.tissues) + 1, len(curve.tissues) + 2
    water = read_material("water")
    for mask, index, value in (
        (cement, of_cement, curve.cement.density_g_cm3),
        (metal, of_metal, curve.metal.density_g_cm3),
        (in_needle, 0, water.density_g_cm3),
    ):
        part = to_grid(mask.astype(np.float32)) >= 0.5
        material[part], density[part] = index, value
    outside = ~_inside(near.grid, grid)
    applicator_voxels = int(np.count_nonzero((material == 0) & ~outside))
    material[outside], density[outside] = 0, water.density_g_cm3
    counts = [  # each voxel once, but for the last row, which says of how many the HU were not believed
        *_tissue_counts(material, curve),
        ("bone cement", int(np.count_nonzero(material == of_cement))),
        (METAL, int(np.count_nonzero(material == of_metal))),
        ("applicator, as water", applicator_voxels),
        ("outside the image, as water", int(np.count_nonzero(outside))),
        (REPLACED, int(np.count_nonzero(to_grid(artefacts.astype(np.float32)) >= 0.5))),
    ]
    return TissueMap(
        grid=grid,
        source_lps_mm=needle.source_lps_mm,
        materials=materials_of(curve),
        material=material,
        density_g_cm3=density,
        counts=tuple(counts),
        curve=curve.name,
    )


def _metal_from(hu: npt.NDArray[np.float32], curve: HuCurve) -> float:
    """From where on a value is metal; lower than the curve says where the scan itself is cut off lower."""
    highest = float(hu.max())
    if _LEAST_METAL_HU <= highest < curve.metal_from_hu and np.count_nonzero(hu == highest) >= _CUT_OFF_VOXELS:
        return highest
    return curve.metal_from_hu


def _needle_mask(grid: ImageGrid, needle: Needle, applicator: Applicator) -> npt.NDArray[np.bool_]:
    """Voxels of the image whose centres lie in the applicator or in the cannula round it."""
    cannula = applicator.cannula_outer_diameter_mm or applicator.cannula_inner_diameter_mm + 1.0
    affine = grid.affine_lps_mm
    k, j, i = np.ogrid[0 : grid.shape[0], 0 : grid.shape[1], 0 : grid.shape[2]]
    along_step = needle.axis_lps @ affine[:, :3]
    start = affine[:, 3] - needle.tip_lps_mm
    along = (along_step[0] * i + along_step[1] * j + along_step[2] * k + needle.axis_lps @ start).astype(np.float32)
    square = np.zeros(grid.shape, np.float32)
    for n in range(3):
        part = affine[n, 0] * i + affine[n, 1] * j + affine[n, 2] * k + start[n]
        square += ((part - along * needle.axis_lps[n]) ** 2).astype(np.float32)
    # from the tip to the metal's end the applicator alone; behind it the cannula may be round it; a bent needle is wider
    shaft = cannula / 2.0 + _MARGIN_MM + (needle.bending_mm or 0.0)
    radius = np.where(along < applicator.radiolucent_tip_length_mm, applicator.outer_radius_mm, shaft)
    return np.asarray((along >= 0.0) & (along <= applicator.length_mm) & (square <= radius**2), dtype=np.bool_)


def _without_artefacts(
    hu: npt.NDArray[np.float32],
    metal: npt.NDArray[np.bool_],
    in_needle: npt.NDArray[np.bool_],
    grid: ImageGrid,
    curve: HuCurve,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Which voxels are believed, HU with the others replaced, and which of those are artefacts of metal."""
    artefacts = np.zeros(hu.shape, np.bool_)
    if np.any(metal):
        away = ndimage.distance_transform_edt(~metal, sampling=grid.spacing_mm[::-1])
        artefacts = (away > 0.0) & (
            (away <= curve.artefact_mm) | ((away <= curve.streak_mm) & (hu < curve.streak_below_hu))
        )
    believed = ~(metal | artefacts | in_needle)
    sigma = _FILL_SIGMA_MM / grid.spacing_mm[::-1]
    weight = ndimage.gaussian_filter(believed.astype(np.float32), sigma, mode="nearest")
    mean = ndimage.gaussian_filter(np.where(believed, hu, np.float32(0.0)), sigma, mode="nearest")
    fill = np.divide(mean, weight, out=np.full_like(mean, _FILL_HU), where=weight > 1e-4)
    return believed, np.where(believed, hu, fill), artefacts & ~in_needle


def _lumps(bright: npt.NDArray[np.bool_], grid: ImageGrid) -> npt.NDArray[np.bool_]:
    """The connected parts of a mask that are large enough to be bone cement."""
    labels, number = ndimage.label(bright)
    if number == 0:
        return bright
    least = _CEMENT_MM3 / float(np.prod(grid.spacing_mm))
    large = np.bincount(labels.ravel()) >= least
    large[0] = False
    return np.asarray(large[labels], dtype=np.bool_)


class _Averaging:
    """Mean over each voxel of a grid of values on another one with parallel axes, linear between its centres."""

    def __init__(self, image: ImageGrid, grid: ImageGrid) -> None:
        first = image.lps_to_index(grid.origin_lps_mm)
        sub = (np.arange(_SUB_STEPS) + 0.5) / _SUB_STEPS - 0.5
        self._matrices = []
        for axis in range(3):
            step = grid.spacing_mm[axis] / image.spacing_mm[axis]
            at = first[axis] + (np.arange(grid.size_voxels[axis])[:, None] + sub) * step
            at = np.clip(at, 0.0, image.size_voxels[axis] - 1.0)
            low = np.minimum(at.astype(int), max(image.size_voxels[axis] - 2, 0))
            rows = np.broadcast_to(np.arange(len(at))[:, None], at.shape)
            matrix = np.zeros((len(at), image.size_voxels[axis]), np.float32)
            np.add.at(matrix, (rows, low), (1.0 - (at - low)) / _SUB_STEPS)
            np.add.at(matrix, (rows, np.minimum(low + 1, image.size_voxels[axis] - 1)), (at - low) / _SUB_STEPS)
            self._matrices.append(matrix)

    def __call__(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        along_i, along_j, along_k = self._matrices
        result = values @ along_i.T
        result = np.einsum("kji,nj->kni", result, along_j, optimize=True)
        result = np.einsum("kji,nk->nji", result, along_k, optimize=True)
        return np.ascontiguousarray(result, dtype=np.float32)


def _inside(image: ImageGrid, grid: ImageGrid) -> npt.NDArray[np.bool_]:
    """Which voxel centres of ``grid`` lie in the image; by axes, as they are parallel."""
    first = image.lps_to_index(grid.origin_lps_mm)
    axes = []
    for axis in range(3):
        at = first[axis] + np.arange(grid.size_voxels[axis]) * grid.spacing_mm[axis] / image.spacing_mm[axis]
        axes.append((at >= -0.5) & (at <= image.size_voxels[axis] - 0.5))
    return np.asarray(axes[2][:, None, None] & axes[1][None, :, None] & axes[0][None, None, :], dtype=np.bool_)


def _tissue_counts(material: npt.NDArray[np.uint8], curve: HuCurve) -> list[tuple[str, int]]:
    found = np.bincount(material.ravel(), minlength=len(curve.tissues) + 1)
    return [(tissue.name, int(n)) for tissue, n in zip(curve.tissues, found[1:], strict=False) if n]
