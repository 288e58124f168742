"""The Monte Carlo engine: dose in the tissues of a `TissueMap` over the dose in water.

The unscattered photons' dose is computed exactly, ray by ray and line by line of the spectrum; only the scattered photons' is
sampled (`_scatter_kernels`). The same is done with water in every voxel, and the result is the ratio of the two sums: what
the applicator, the spectrum's strength and the grid's limited size do is in both. In water all 48 turns and
mirror images of a cube give one and the same dose, so that their mean needs few histories.

Dose is collision kerma: at 50 kV an electron's range (40 um in water at 50 keV, 2 mm in lung's air at most) is below a voxel.

Histories run in batches of one size, each with a seed of its own, and are summed in the order of the batches: the result
does not depend on the number of threads. On a GPU (`_gpu_kernels`) it is the same within statistics.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from iort_planner.dose.engine_dose import EngineDose
from iort_planner.dose.voxel_physics import VoxelPhysics, voxel_physics
from iort_planner.errors import InputError, TissueError

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.dose.spectrum import Spectrum
    from iort_planner.dose.tissue import TissueMap
    from iort_planner.units import FloatArray

Progress: TypeAlias = Callable[[int, float], None]

BATCH_HISTORIES = 50_000
ROUND_PATIENT, ROUND_WATER = 14, 2  # batches between two looks at the uncertainty; 1 / sqrt(48) for water is best
MOST_HISTORIES = 2_000_000_000
WITHIN_MM = 20.0  # where the uncertainty that is asked for must hold
DEFAULT_UNCERTAINTY_PERCENT = 1.0
# Points along each axis of a voxel by its distance from the source in voxels: 1/r^2 over a voxel is then within 0.1 %
# beyond the source's own voxel; two up to 20 voxels, where bone's edges shade parts of voxels.
_SUB_POINTS = np.array([8, 6, 4, 4] + [2] * 17, dtype=np.int64)
# How histories are drawn, by trial on vertebrae: collisions fall slower than the true law by this factor, roulette below
# this weight, and lines in proportion to what is left of their scatter behind 10 mm of water, a fifth as they are.
_STRETCH, _ROULETTE, _LINES_AS_THEY_ARE, _LINES_BEHIND_CM = 0.7, 0.15, 0.2, 1.0
_NO_GPU = "leave out --gpu, or install the extra gpu (pip install 'iort-planner[gpu]') beside the device's driver"
_OUTER = (2.5, 0.4)  # beyond 25 mm fewer rays are followed, each for more


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sums:
    """Sums over batches of the scattered photons' kerma in water and in the medium, and of water's squares."""

    water: FloatArray
    medium: FloatArray
    squares: FloatArray

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> _Sums:
        return cls(water=np.zeros(shape), medium=np.zeros(shape), squares=np.zeros(shape))

    def add(self, score: npt.NDArray[np.float32], *, symmetric: bool) -> None:
        water = score[:, 0].reshape(self.water.shape).astype(np.float64)
        if symmetric:
            water = _of_all_turns(water)
        else:
            self.medium[...] += score[:, 1].reshape(self.medium.shape)
        self.water[...] += water
        self.squares[...] += water**2


def run_montecarlo(
    tissue: TissueMap,
    spectrum: Spectrum,
    *,
    histories: int | None = None,
    uncertainty_percent: float = DEFAULT_UNCERTAINTY_PERCENT,
    seed: int = 1,
    threads: int | None = None,
    gpu: bool = False,
    progress: Progress | None = None,
) -> EngineDose:
    """Dose in the tissues over the dose in water, with its statistical uncertainty.

    Parameters
    ----------
    tissue : TissueMap
        On a cube of cubic voxels with the source at the centre of its middle voxel.
    spectrum : Spectrum
    histories : int, optional
        In the tissues; rounded up to whole rounds of batches. Without it, as many as ``uncertainty_percent`` needs.
    uncertainty_percent : float
        k=1, root mean square over the voxels within 20 mm of the source; where 5 % of them have over 1.5 times as much, it
        goes on.
    gpu : bool
        Follow the scattered photons on a CUDA device.
    progress : callable, optional
        Called with (histories so far, uncertainty in percent so far) after each round.

    Raises
    ------
    InputError
        If the grid is of another form, or a number is out of its range.
    TissueError
        If a GPU is wanted and none can be used.
    """
    _require(tissue, histories, uncertainty_percent, seed)
    kernel = _kernel(tissue, gpu=gpu)
    begun = time.perf_counter()
    workers = max(1, threads if threads is not None else os.cpu_count() or 1)
    physics = voxel_physics(tissue, spectrum)
    in_water = physics.in_water()
    sums, water_sums = _Sums.empty(tissue.grid.shape), _Sums.empty(tissue.grid.shape)
    near = _near(tissue)

    def one_batch(job: tuple[VoxelPhysics, int]) -> npt.NDArray[np.float32]:
        return _batch(kernel, job[0], job[1], seed)

    done = rounds = 0
    with ThreadPoolExecutor(workers) as pool:
        primary_water, primary_medium = _primary(physics, pool, workers)
        primary = _primary_in_water(in_water, pool, workers)
        per_photon = 1.0 / (BATCH_HISTORIES * physics.voxel_cm3)
        while True:
            first = rounds * (ROUND_PATIENT + ROUND_WATER)
            jobs = [(physics if n < ROUND_PATIENT else in_water, first + n) for n in range(ROUND_PATIENT + ROUND_WATER)]
            at_once = 1 if gpu else workers
            for start in range(0, len(jobs), at_once):  # no more scores in memory than threads
                part = jobs[start : start + at_once]
                for (which, _), score in zip(part, pool.map(one_batch, part), strict=True):
                    symmetric = which is in_water
                    (water_sums if symmetric else sums).add(score, symmetric=symmetric)
            rounds += 1
            done = rounds * ROUND_PATIENT * BATCH_HISTORIES
            dose, spread = _mean(sums, rounds * ROUND_PATIENT, per_photon, primary_water)
            reference, reference_spread = _mean(water_sums, rounds * ROUND_WATER, per_photon, primary)
            relative = np.hypot(spread, reference_spread)
            values = relative[near]
            rms, most = float(np.sqrt(np.mean(values**2))), float(np.quantile(values, 0.95))
            if progress is not None:
                progress(done, 100.0 * rms)
            wanted = uncertainty_percent / 100.0
            if done >= (MOST_HISTORIES if histories is None else histories) or (
                histories is None and rms <= wanted and most <= 1.5 * wanted
            ):
                break
    medium = primary_medium + sums.medium * (per_photon / (rounds * ROUND_PATIENT))
    return EngineDose(
        engine="montecarlo",
        grid=tissue.grid,
        source_lps_mm=tissue.source_lps_mm,
        to_water=(dose / reference).astype(np.float32),
        to_medium=(medium / reference).astype(np.float32),
        primary_to_water=(primary_water / reference).astype(np.float32),
        uncertainty_percent=(100.0 * relative).astype(np.float32),
        histories=done,
        seconds=time.perf_counter() - begun,
        seed=seed,
        threads=workers,
        device="gpu" if gpu else "cpu",
    )


def _kernel(tissue: TissueMap, *, gpu: bool) -> Callable[..., None]:
    """What follows a batch of histories: on the CPU, or on a CUDA device."""
    if not gpu:
        from iort_planner.dose import _scatter_kernels

        return _scatter_kernels.scatter_batch
    try:
        from iort_planner.dose import _gpu_kernels
    except ImportError as e:
        raise TissueError(f"--gpu: numba's CUDA target is missing ({e}); {_NO_GPU}") from e
    if not _gpu_kernels.usable():
        raise TissueError(f"--gpu: no CUDA device answers; {_NO_GPU}")
    if len(tissue.materials) > _gpu_kernels.MOST_MATERIALS:
        raise TissueError(
            f"--gpu: {len(tissue.materials)} materials, where a GPU's thread holds {_gpu_kernels.MOST_MATERIALS}; leave out --gpu"
        )
    return _gpu_kernels.scatter_batch


def _require(tissue: TissueMap, histories: int | None, uncertainty_percent: float, seed: int) -> None:
    i, j, k = tissue.grid.size_voxels
    spacing = tissue.grid.spacing_mm
    middle = (np.array([i, j, k]) - 1) / 2.0
    if not (
        i == j == k and i % 2 == 1 and np.ptp(spacing) <= 1e-9 and np.allclose(tissue.source_index, middle, atol=1e-6)
    ):
        raise InputError(
            f"Monte Carlo dose: its grid must be a cube of an odd number of cubic voxels round the source, got {i} x {j} x {k} "
            f"of {np.round(spacing, 3).tolist()} mm; make it by `tissue_map`"
        )
    if histories is not None and not 1 <= histories <= MOST_HISTORIES:
        raise InputError(f"Monte Carlo dose: {histories} histories must be 1 to {MOST_HISTORIES}")
    if not 0.05 <= uncertainty_percent <= 20.0:
        raise InputError(f"Monte Carlo dose: an uncertainty of {uncertainty_percent:g} % must be 0.05 to 20 %")
    if not 0 <= seed < 2**31:
        raise InputError(f"Monte Carlo dose: seed {seed} must be 0 or more and below 2^31")


def _near(tissue: TissueMap) -> npt.NDArray[np.bool_]:
    away = tissue.grid.distances_mm(tissue.source_lps_mm)
    least = float(tissue.grid.spacing_mm[0]) * 0.5
    return np.asarray((away <= max(WITHIN_MM, 1.5 * least)) & (away > least), dtype=np.bool_)


def _batch(kernel: Callable[..., None], physics: VoxelPhysics, number: int, seed: int) -> npt.NDArray[np.float32]:
    """Score of one batch; its random numbers depend on the seed and its number alone."""
    generator = np.random.default_rng([seed, number])
    cells = physics.cells()
    kernel(
        cells,
        BATCH_HISTORIES,
        int(generator.integers(1, 2**62)),
        generator.random(4),
        physics.source_index,
        physics.spacing_cm,
        physics.material.shape,
        physics.drawn_lines(_LINES_AS_THEY_ARE, _LINES_BEHIND_CM),
        physics.tables,
        _STRETCH,
        _ROULETTE,
        _OUTER,
    )
    return cells[:, :2]


def _primary(physics: VoxelPhysics, pool: ThreadPoolExecutor, workers: int) -> tuple[FloatArray, FloatArray]:
    """Kerma of the unscattered photons in water and in the medium, keV/g per photon, [k, j, i]."""
    from iort_planner.dose import _voxel_kernels

    to_water, to_medium = np.zeros(physics.material.shape), np.zeros(physics.material.shape)
    weight, mu, mu_en = physics.lines()

    def fill(planes: npt.NDArray[np.int64]) -> None:
        _voxel_kernels.primary_dose(
            to_water,
            to_medium,
            planes,
            physics.source_index,
            physics.spacing_cm,
            physics.material,
            physics.density,
            weight,
            mu,
            mu_en,
            _SUB_POINTS,
        )

    planes = np.arange(physics.material.shape[0], dtype=np.int64)
    list(pool.map(fill, [planes[n :: 4 * workers].copy() for n in range(4 * workers)]))
    return to_water, to_medium


def _primary_in_water(in_water: VoxelPhysics, pool: ThreadPoolExecutor, workers: int) -> FloatArray:
    """The same in water, from an eighth of the cube."""
    half = in_water.material.shape[0] // 2
    eighth, _ = _primary(in_water.upper_eighth(), pool, workers)
    order = np.abs(np.arange(-half, half + 1))
    return np.ascontiguousarray(eighth[np.ix_(order, order, order)])


def _mean(sums: _Sums, batches: int, per_photon: float, primary: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Dose (primary and scattered) per photon, and its relative uncertainty, k=1."""
    mean = sums.water / batches
    variance = np.maximum(sums.squares / batches - mean**2, 0.0) / max(batches - 1, 1)
    dose = primary + mean * per_photon
    return dose, np.sqrt(variance) * per_photon / np.maximum(dose, np.finfo(np.float64).tiny)


def _of_all_turns(cube: FloatArray) -> FloatArray:
    """Mean of a cube's 48 turns and mirror images."""
    for axis in range(3):
        cube = (cube + np.flip(cube, axis)) / 2.0
    result = np.zeros_like(cube)
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        result += np.transpose(cube, order) / 6.0
    return result
