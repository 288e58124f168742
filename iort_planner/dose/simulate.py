"""Photon transport in spheres and slabs: the transport of the voxel engine where a closed form or another code can check it.

What is scored is collision kerma, which is dose here: electrons of 50 keV reach 0.04 mm. Unscattered photons are followed along
rays without a random number: all of the geometry is round about the x axis, so that one angle is integrated over. What has
scattered comes from histories, by track length.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.dose.materials import Material, read_material
from iort_planner.dose.photon_tables import PhotonTables, photon_tables
from iort_planner.errors import SimulationError

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.dose.simulation_case import Score, SimulationCase
    from iort_planner.units import FloatArray

GY_PER_KEV_G = 1.602176634e-13  # CODATA 2018
DEFAULT_HISTORIES = 1_000_000
MOST_HISTORIES = 2_000_000_000
BATCHES = 20  # a round; the spread between batches is the uncertainty
_BATCH_HISTORIES = 20_000
_RAYS = 20_000
_DISC_RAYS = 4000

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredDose:
    """Dose per emitted photon in one score; uncertainty k=1 of the larger of the two.

    ``once_scattered_gy`` is the part of the dose to water whose photons have scattered once.
    """

    score: Score
    medium: str
    to_medium_gy: float
    to_water_gy: float
    once_scattered_gy: float
    uncertainty_percent: float
    primary_fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What a simulation gives.

    Parameters
    ----------
    doses : tuple of ScoredDose
        In the order of the case's scores.
    emitted_kev, absorbed_kev, escaped_kev : float
        Energy of all histories; the last two add up to the first.
    """

    doses: tuple[ScoredDose, ...]
    histories: int
    seconds: float
    threads: int
    seed: int
    emitted_kev: float
    absorbed_kev: float
    escaped_kev: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Arrays:
    """A case as the compiled loops read it; material 0 is water."""

    geometry: tuple[FloatArray, FloatArray, npt.NDArray[np.int64], npt.NDArray[np.int64]]
    scores: tuple[npt.NDArray[np.int64], FloatArray, FloatArray, FloatArray]
    density: FloatArray
    photons: PhotonTables
    energies: FloatArray
    shares: FloatArray


def simulate(
    case: SimulationCase,
    *,
    histories: int | None = None,
    uncertainty_percent: float | None = None,
    seed: int = 1,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Simulated:
    """Dose in the scores of a case.

    Parameters
    ----------
    histories : int, optional
        Rounded up to whole batches; default 1 000 000.
    uncertainty_percent : float, optional
        k=1 that every score shall reach; in the place of ``histories``.
    seed, threads : int
        The seed alone decides the result; threads (default: one a core) do not.
    progress : callable, optional
        Called with (histories done, histories in all as far as known) after each round.

    Raises
    ------
    SimulationError
        If a number is out of its range, or the uncertainty is not reached with 2 000 000 000 histories.
    """
    _require(histories, uncertainty_percent, seed, threads)
    begun = time.perf_counter()
    workers = threads or os.cpu_count() or 1
    arrays = _arrays(case)
    primary = _primary(case, arrays)
    wanted = DEFAULT_HISTORIES if histories is None else histories
    size = min(_BATCH_HISTORIES, max(1, math.ceil(wanted / BATCHES)))
    volume = np.array([score.volume_cm3 for score in case.scores])[:, None]
    sums, squares, balance = np.zeros_like(primary), np.zeros_like(primary), np.zeros(3)
    batches = 0
    with ThreadPoolExecutor(workers) as pool:
        while True:
            numbers = range(batches, batches + BATCHES)
            for out, energies in pool.map(lambda n: _batch(arrays, size, seed, n), numbers):  # in their order
                sums += out
                squares += out**2
                balance += energies
            batches += BATCHES
            done = batches * size
            mean = sums / batches
            spread = np.sqrt(np.maximum(squares / batches - mean**2, 0.0) / (batches - 1)) / size
            total = primary + mean / size
            percent = 100.0 * np.max(
                np.divide(spread, total, out=np.ones_like(total), where=total > 0.0)[:, :2], axis=1
            )
            if uncertainty_percent is not None:
                worst = float(percent.max())
                wanted = max(done, math.ceil(done * (worst / uncertainty_percent) ** 2))
                if worst > uncertainty_percent and done >= MOST_HISTORIES:
                    raise SimulationError(
                        f"{worst:.2g} % and not {uncertainty_percent:g} % after {done} histories; widen the scores or ask less"
                    )
            if progress is not None:
                progress(done, wanted)
            if done >= wanted:
                break
    dose = total / volume * GY_PER_KEV_G
    rows = [
        ScoredDose(
            score=score,
            medium=case.medium_of(score),
            to_medium_gy=float(dose[n, 0]),
            to_water_gy=float(dose[n, 1]),
            once_scattered_gy=float(dose[n, 2]),
            uncertainty_percent=float(percent[n]),
            primary_fraction=float(primary[n, 1] / total[n, 1]) if total[n, 1] > 0.0 else 0.0,
        )
        for n, score in enumerate(case.scores)
    ]
    return Simulated(
        doses=tuple(rows),
        histories=done,
        seconds=time.perf_counter() - begun,
        threads=workers,
        seed=seed,
        emitted_kev=float(balance[0]),
        absorbed_kev=float(balance[1]),
        escaped_kev=float(balance[2]),
    )


def _require(histories: int | None, uncertainty_percent: float | None, seed: int, threads: int | None) -> None:
    if histories is not None and uncertainty_percent is not None:
        raise SimulationError("give --histories or --uncertainty, not both")
    if histories is not None and not 1 <= histories <= MOST_HISTORIES:
        raise SimulationError(f"--histories {histories} must be 1 to {MOST_HISTORIES}")
    if uncertainty_percent is not None and not 0.01 <= uncertainty_percent <= 50.0:
        raise SimulationError(f"--uncertainty {uncertainty_percent:g} % must be 0.01 to 50 %")
    if not 0 <= seed < 2**31:
        raise SimulationError(f"--seed {seed} must be 0 or more and below 2^31")
    if threads is not None and not 1 <= threads <= 256:
        raise SimulationError(f"--threads {threads} must be 1 to 256")


def _arrays(case: SimulationCase) -> _Arrays:
    water = read_material("water")
    used = [sphere.material for sphere in case.spheres] + [slab.material for slab in case.slabs]
    materials: list[Material] = [water]
    for material in used:
        if material not in materials:
            materials.append(material)
    shells = [value for score in case.scores if score.kind == "shell" for value in (score.low_mm, score.high_mm)]
    discs = [value for score in case.scores if score.kind == "disc" for value in (score.low_mm, score.high_mm)]
    radii = np.unique([*(sphere.outer_radius_mm for sphere in case.spheres), *(r for r in shells if r > 0.0)])
    planes = np.unique([*(x for slab in case.slabs for x in (slab.x_min_mm, slab.x_max_mm)), *discs])
    bounds = [sphere.outer_radius_mm for sphere in case.spheres]
    rows = np.empty((radii.size, planes.size + 1), np.int64)
    ends = np.concatenate([[-np.inf], planes, [np.inf]])
    for shell, (low, high) in enumerate(zip([0.0, *radii[:-1]], radii, strict=True)):
        own = case.spheres[int(np.searchsorted(bounds, (low + high) / 2.0))].material
        for layer, (left, right) in enumerate(itertools.pairwise(ends)):
            here = [slab.material for slab in case.slabs if slab.x_min_mm <= left and right <= slab.x_max_mm]
            rows[shell, layer] = materials.index(here[0] if here else own)
    scores = (
        np.array([0 if score.kind == "shell" else 1 for score in case.scores], np.int64),
        np.array([score.low_mm / 10.0 for score in case.scores]),
        np.array([score.high_mm / 10.0 for score in case.scores]),
        np.array([score.radius_mm / 10.0 for score in case.scores]),
    )
    used_lines = case.spectrum.photons > 0.0
    photons = case.spectrum.photons[used_lines]
    return _Arrays(
        geometry=(radii / 10.0, planes / 10.0, rows.ravel(), np.arange(len(materials))),
        scores=scores,
        density=np.array([material.density_g_cm3 for material in materials]),
        photons=photon_tables(materials),
        energies=case.spectrum.energy_kev[used_lines],
        shares=photons / photons.sum(),
    )


def _primary(case: SimulationCase, arrays: _Arrays) -> FloatArray:
    """Kerma of unscattered photons per emitted photon times volume, keV/g cm3, (S, 3)."""
    whole = _rays(-1.0, 1.0, _RAYS if case.slabs else 1)
    found = np.zeros((len(case.scores), 3))
    for n, score in enumerate(case.scores):
        directions, share = whole, 1.0
        if score.kind == "disc":
            least = math.cos(math.atan2(score.radius_mm, score.low_mm))
            directions, share = _rays(least, 1.0, _DISC_RAYS), (1.0 - least) / 2.0
        found[n] = _along(arrays, directions, n) * share
    return found


def _rays(least: float, most: float, number: int) -> FloatArray:
    """Directions in the x-y plane whose cosines with x stand in the middle of equal parts."""
    cosine = least + (np.arange(number) + 0.5) / number * (most - least)
    return np.ascontiguousarray(np.stack([cosine, np.sqrt(1.0 - cosine**2), np.zeros(number)], axis=1))


def _along(arrays: _Arrays, directions: FloatArray, score: int) -> FloatArray:
    from iort_planner.dose import _simple_kernels

    kind, low, high, radius = arrays.scores
    here = slice(score, score + 1)
    only = (kind[here], low[here], high[here], radius[here])
    photons = arrays.photons
    mu = photons.at(photons.mu, arrays.energies) * arrays.density[:, None]
    out = np.zeros((1, 3))
    _simple_kernels.primary_rays(
        out,
        directions,
        arrays.shares * arrays.energies,
        arrays.geometry,
        only,
        np.ascontiguousarray(mu),
        np.ascontiguousarray(photons.at(photons.mu_en, arrays.energies)),
    )
    return np.asarray(out[0] / len(directions))


def _batch(arrays: _Arrays, size: int, seed: int, number: int) -> tuple[FloatArray, FloatArray]:
    """One batch; its random numbers depend on the seed and its number alone."""
    from iort_planner.dose import _simple_kernels

    photons = arrays.photons
    out, balance = np.zeros((len(arrays.scores[0]), 3)), np.zeros(3)
    own_seed = int(np.random.default_rng([seed, number]).integers(1, 2**62))
    _simple_kernels.scatter_histories(
        out,
        balance,
        size,
        own_seed,
        arrays.energies,
        np.cumsum(arrays.shares),
        arrays.geometry,
        arrays.scores,
        arrays.density,
        (photons.first_kev, photons.per_kev, photons.mu, photons.mu_en, photons.coherent, photons.incoherent),
        (photons.x_step, photons.ff_cum, photons.sf),
    )
    return out, balance
