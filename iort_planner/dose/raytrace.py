"""The ray trace engine: dose in the tissues over the dose in water in less than a second, its scatter fitted to our Monte Carlo.

Unscattered photons: each material's attenuation is written as a sum of water's and cortical bone's (two functions of the
energy suffice where no K edge lies in between: Alvarez and Macovski 1976, Phys Med Biol 21:733,
doi:10.1088/0031-9155/21/5/002). Two line integrals from the source to each voxel's centre then hold all that the spectrum
needs, and what is left of it is looked up in a table over both.

Scattered photons: their dose over that in water is a product of powers of the unscattered photons' ratio at the voxel and
its means over some mm round it (from there the scatter comes), and of factors for the mean bone and density round it
(which absorb it). Exponents and factors are fitted to the Monte Carlo engine on random vertebrae
(``library/raytrace``, tests/sweeps/raytrace_fit.py); what is left of differences stands beside them.
"""

from __future__ import annotations

import os
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from iort_planner import library
from iort_planner.dose.engine_dose import EngineDose
from iort_planner.dose.materials import read_material
from iort_planner.dose.voxel_physics import VoxelPhysics, at_energies, tables_of, voxel_physics
from iort_planner.errors import TissueError

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.dose.spectrum import Spectrum
    from iort_planner.dose.tissue import TissueMap
    from iort_planner.units import FloatArray

    Array32 = npt.NDArray[np.float32]

FEATURES = ("primary", "primary_4mm", "primary_8mm", "bone_2mm", "bone_6mm", "water_4mm")
_COARSE_MM = 2.0  # the means round a voxel are taken on voxels of this size
_FIT_DEPTH_CM = 1.0  # where materials are fitted to the two: behind so much water
_STEP_A, _MOST_A = 0.02, 12.0  # table over water (g/cm2)
_OFFSET_B, _STEP_LN_B, _MOST_B = 1.5, 0.02, 20.0  # and over ln(bone + offset); fat has less than no bone
_LEAST = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScatterModel:
    """What is fitted.

    Parameters
    ----------
    weights : ndarray of shape (6,)
        In the order of `FEATURES`.
    distance_mm, primary_fraction : ndarray of shape (R,)
        Unscattered photons' part of the dose in water by distance.
    median_percent, p95_percent : float
        Of the differences from the Monte Carlo engine on cases that were not fitted, 5 to 30 mm.
    origin : str
    """

    weights: FloatArray
    distance_mm: FloatArray
    primary_fraction: FloatArray
    median_percent: float
    p95_percent: float
    origin: str


def read_scatter_model(spectrum: Spectrum | None = None) -> ScatterModel:
    """The shipped model for a spectrum, found by the hash of the spectrum's file; by default the shipped one's.

    Raises
    ------
    TissueError
        If none was fitted with that spectrum.
    """
    for name in library.names("raytrace"):
        content = tomllib.loads(library.find("raytrace", name).read_text(encoding="utf-8"))
        if (spectrum is None and name == library.DEFAULT_SPECTRUM) or (
            spectrum is not None and content["spectrum_sha256"] == spectrum.sha256
        ):
            return _scatter_model(content)
    raise TissueError(
        f"ray trace: no scatter model was fitted with {'this spectrum' if spectrum is None else spectrum.name}; leave out "
        "--spectrum, or take --engine montecarlo"
    )


def _scatter_model(content: dict[str, Any]) -> ScatterModel:
    return ScatterModel(
        weights=np.array([content["weights"][key] for key in FEATURES]),
        distance_mm=np.array(content["water"]["distance_mm"], dtype=np.float64),
        primary_fraction=np.array(content["water"]["primary_fraction"], dtype=np.float64),
        median_percent=float(content["differences"]["median_percent"]),
        p95_percent=float(content["differences"]["p95_percent"]),
        origin=str(content["origin"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rays:
    """What the rays give, before scatter.

    Parameters
    ----------
    primary : ndarray of shape (nk, nj, ni), float32
        Unscattered photons' dose to water over that in water.
    medium : ndarray of the same shape, float32
        Dose to the medium over dose to water, for unscattered photons.
    features : ndarray of shape (6, nk, nj, ni), float32
        In the order of `FEATURES`.
    away_mm : ndarray of shape (nk, nj, ni)
        Distance from the source.
    """

    primary: Array32
    medium: Array32
    features: Array32
    away_mm: FloatArray


def run_raytrace(
    tissue: TissueMap, spectrum: Spectrum, model: ScatterModel | None = None, *, threads: int | None = None
) -> EngineDose:
    """Dose in the tissues over the dose in water; at most as good as ``model.p95_percent`` says.

    Raises
    ------
    TissueError
        If a material has no data.
    """
    begun = time.perf_counter()
    model = model or read_scatter_model()
    workers = max(1, threads if threads is not None else os.cpu_count() or 1)
    rays = trace_rays(tissue, spectrum, workers, weights=model.weights)
    fraction = np.interp(rays.away_mm, model.distance_mm, model.primary_fraction).astype(np.float32)
    primary = fraction * rays.primary
    to_water = primary + (1.0 - fraction) * np.exp(rays.features[0])
    return EngineDose(
        engine="raytrace",
        grid=tissue.grid,
        source_lps_mm=tissue.source_lps_mm,
        to_water=to_water,
        to_medium=to_water * rays.medium,
        primary_to_water=primary,
        uncertainty_percent=np.full(tissue.grid.shape, model.p95_percent / 2.0, np.float32),
        seconds=time.perf_counter() - begun,
        threads=workers,
    )


def trace_rays(tissue: TissueMap, spectrum: Spectrum, workers: int = 1, *, weights: FloatArray | None = None) -> Rays:
    """Line integrals to all voxels and what follows from them; with ``weights`` the features' weighted sum alone."""
    from iort_planner.dose import _ray_kernels

    physics = voxel_physics(tissue, spectrum)
    attenuation, absorption, bone_mu, bone_mu_en = _two_materials(physics)
    basis = (attenuation.astype(np.float32)[physics.material] * physics.density[..., None]).reshape(-1, 2)
    shape = physics.material.shape
    integrals, values = np.empty((*shape, 2), np.float32), np.empty((*shape, 2), np.float32)
    table, start_b = _table(physics, bone_mu, bone_mu_en)

    def fill(planes: npt.NDArray[np.int64]) -> None:
        _ray_kernels.line_integrals(integrals, planes, physics.source_index, physics.spacing_cm, basis)
        _ray_kernels.look_up(values, planes, integrals, table, 0.0, 1.0 / _STEP_A, start_b, 1.0 / _STEP_LN_B, _OFFSET_B)

    planes = np.arange(shape[0], dtype=np.int64)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(fill, [planes[n :: 2 * workers].copy() for n in range(2 * workers)]))
    away = tissue.grid.distances_mm(tissue.source_lps_mm)
    steps = np.arange(0.0, float(away.max()) + 20.0 * _STEP_A, 10.0 * _STEP_A)  # as the table: water then gives 1
    in_water = np.exp(np.interp(away, steps, np.log(_in_water(physics, steps)))).astype(np.float32)
    primary: Array32 = np.asarray(values[..., 0] / in_water, dtype=np.float32)
    part = absorption.astype(np.float32)[physics.material]
    medium = np.asarray(part[..., 0] + part[..., 1] * values[..., 1] / values[..., 0], dtype=np.float32)
    density_of = basis.reshape(*shape, 2)
    features = _features(primary, density_of, float(tissue.grid.spacing_mm[0]), weights)
    return Rays(primary=primary, medium=medium, features=features, away_mm=away)


def _two_materials(physics: VoxelPhysics) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Each material's attenuation and energy absorption as parts of water's and bone's (M, 2), and those of bone (E,)."""
    weight, mu, mu_en = physics.lines()
    bone = tables_of([read_material("cortical bone")])
    bone_mu, bone_mu_en = (at_energies(bone, t, physics.line_kev)[0] for t in (bone.mu_total, bone.mu_en))
    left = np.sqrt(weight * np.exp(-mu[0] * _FIT_DEPTH_CM))

    def parts(table: FloatArray, bone_row: FloatArray) -> FloatArray:
        scale = left / np.sqrt(table[0])  # relative and absolute differences count alike
        columns = np.stack([table[0], bone_row], axis=1) * scale[:, None]
        found = np.linalg.lstsq(columns, (table * scale).T, rcond=None)[0].T
        return np.asarray(found, dtype=np.float64)

    return parts(mu, bone_mu), parts(mu_en, bone_mu_en), bone_mu, bone_mu_en


def _table(physics: VoxelPhysics, bone_mu: FloatArray, bone_mu_en: FloatArray) -> tuple[FloatArray, float]:
    """Ln of what is left of the kerma in water and in bone behind water (rows) and bone (columns), and the first ln."""
    weight, mu, mu_en = physics.lines()
    water = np.arange(0.0, _MOST_A + _STEP_A / 2, _STEP_A)
    start = np.log(_OFFSET_B) - 55 * _STEP_LN_B  # a bone integral of -1; none of bone is a step
    bone = np.exp(np.arange(start, np.log(_MOST_B + _OFFSET_B), _STEP_LN_B)) - _OFFSET_B
    behind_water, behind_bone = np.exp(-np.outer(water, mu[0])), np.exp(-np.outer(bone, bone_mu))
    left = [np.maximum((behind_water * (weight * row)) @ behind_bone.T, 1e-300) for row in (mu_en[0], bone_mu_en)]
    return np.log(np.stack(left, axis=-1)), float(start)


def _in_water(physics: VoxelPhysics, distance_mm: FloatArray) -> FloatArray:
    """Kerma left behind water of those lengths, without 1/r^2."""
    weight, mu, mu_en = physics.lines()
    result: FloatArray = np.exp(-np.outer(distance_mm / 10.0, mu[0])) @ (weight * mu_en[0])
    return result


def _features(primary: Array32, basis: Array32, spacing_mm: float, weights: FloatArray | None) -> Array32:
    """The features, or their weighted sum as the only one; means on coarse voxels, linear between them."""
    factor = max(1, round(_COARSE_MM / spacing_mm))
    coarse_mm = factor * spacing_mm
    ratio, bone, water = (_coarse(part, factor) for part in (primary, basis[..., 1], basis[..., 0]))

    def mean(values: Array32, sigma_mm: float) -> Array32:
        return np.asarray(ndimage.gaussian_filter(values, sigma_mm / coarse_mm, mode="nearest", truncate=3.0))

    smooth = [
        np.log(np.maximum(mean(ratio, 4.0), _LEAST)),
        np.log(np.maximum(mean(ratio, 8.0), _LEAST)),
        mean(bone, 2.0),
        mean(bone, 6.0),
        mean(water, 4.0) - 1.0,
    ]
    own = np.log(np.maximum(primary, _LEAST))
    if weights is None:
        return np.stack([own, *(_fine(part, factor, primary.shape) for part in smooth)])
    total = sum((np.float32(w) * part for w, part in zip(weights[1:], smooth, strict=True)), np.zeros_like(ratio))
    return np.asarray(np.float32(weights[0]) * own + _fine(total, factor, primary.shape))[None]


def _coarse(values: Array32, factor: int) -> Array32:
    """Means of blocks of voxels; the last ones are filled up with the outermost voxels."""
    if factor == 1:
        return values
    padded = np.pad(values, [(0, -n % factor) for n in values.shape], mode="edge")
    k, j, i = (n // factor for n in padded.shape)
    return np.asarray(padded.reshape(k, factor, j, factor, i, factor).mean(axis=(1, 3, 5)), dtype=np.float32)


def _fine(values: Array32, factor: int, shape: tuple[int, ...]) -> Array32:
    """Linear between the blocks' centres, axis by axis."""
    if factor == 1:
        return values
    for axis, size in enumerate(shape):
        at = np.clip((np.arange(size) - (factor - 1) / 2.0) / factor, 0.0, values.shape[axis] - 1.0)
        low = np.minimum(at.astype(int), max(values.shape[axis] - 2, 0))
        part = (at - low).astype(np.float32).reshape([-1 if n == axis else 1 for n in range(3)])
        high = np.minimum(low + 1, values.shape[axis] - 1)
        values = np.take(values, low, axis) * (1 - part) + np.take(values, high, axis) * part
    return values
