"""Photon transport in concentric spheres and slabs: the primary dose exactly, the scattered dose by Monte Carlo."""

from __future__ import annotations

import itertools
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.dose.photon_tables import PhotonTables, photon_tables
from iort_planner.errors import SimulationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from iort_planner.dose._simple_geometry import Geometry
    from iort_planner.dose.simulation_case import Score, SimulationCase
    from iort_planner.units import FloatArray

    Progress = Callable[[int, int], None]

GY_PER_KEV_PER_G = 1.602176634e-13  # CODATA 2018
_FROM_MM = 100.0  # keV mm cm2/g over mm3 is 100 keV/g
BATCH = 5_000
MOST_UNREACHED = 2_000_000  # photons after which a score that none of them reached is given up
LEAST_REACHED = 10  # batches with a scattered photon in a score
UNKNOWN_PERCENT = 100.0  # said of a score that too few scattered photons reached
LEAST_BATCHES = 20  # fewer say little about the spread
HISTORIES_RANGE = (100, 100_000_000_000)
UNCERTAINTY_RANGE_PERCENT = (0.001, 50.0)
MOST_THREADS = 256
_NEAR = 2.0  # of a disc's half diagonal; 3 and 5 take 1.1 and 2 times the photons for one uncertainty
_PANEL = 0.02  # widest panel of the integral over the cosine
_GAUSS_NODES, _GAUSS_WEIGHTS = np.polynomial.legendre.leggauss(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResult:
    """Dose in one score, per photon emitted.

    Parameters
    ----------
    score : Score
    medium : str
        Material, or several joined by ``+``.
    dose_to_medium_gy_per_photon, dose_to_water_gy_per_photon : float, Gy
        Collision kerma to the material that is there, and to a trace of water there, as a mean over the volume.
    uncertainty_percent : float
        k=1, the larger of the two; 100 where too few scattered photons reached the score to tell.
    primary_fraction : float
        Part of the dose to the medium by photons that had not interacted before; characteristic photons are not of them.
    """

    score: Score
    medium: str
    dose_to_medium_gy_per_photon: float
    dose_to_water_gy_per_photon: float
    uncertainty_percent: float
    primary_fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationResult:
    """Doses in every score, and how they came about.

    Parameters
    ----------
    scores : tuple of ScoreResult
        In the case's order.
    histories, threads, seed : int
    seconds : float
    emitted_kev, absorbed_kev, escaped_kev : float
        Mean energy per photon; what is absorbed and what leaves the outermost sphere add up to what is emitted.
    """

    scores: tuple[ScoreResult, ...]
    histories: int
    seconds: float
    threads: int
    seed: int
    emitted_kev: float
    absorbed_kev: float
    escaped_kev: float

    @property
    def balance_error(self) -> float:
        """(absorbed + escaped) / emitted - 1."""
        return (self.absorbed_kev + self.escaped_kev) / self.emitted_kev - 1.0


def simulate(
    case: SimulationCase,
    *,
    histories: int = 1_000_000,
    uncertainty_percent: float | None = None,
    seed: int = 1,
    threads: int = 1,
    most_scatters: int = 2**31,
    progress: Progress | None = None,
) -> SimulationResult:
    """Dose per photon in every score of a case.

    Parameters
    ----------
    case : SimulationCase
    histories : int
        Photons to follow; not used where ``uncertainty_percent`` is given.
    uncertainty_percent : float, optional
        Go on until every score is as certain as that (k=1).
    seed : int
        Of the random streams; one seed gives one result, to the last bit, on any number of threads.
    threads : int
    most_scatters : int
        End photons after that many interactions, to compare with an integral over the first ones; 0 leaves the primary.
    progress : callable, optional
        Called with (histories done, histories in all as far as is known).

    Raises
    ------
    SimulationError
        If an argument is outside its range, or the uncertainty asked for is out of reach.
    """
    _check(histories, uncertainty_percent, seed, threads)
    start = time.perf_counter()
    tables = photon_tables(case.materials)
    run = _Run(case, tables, seed, threads, most_scatters)
    primary = primary_tally(case, tables)
    if uncertainty_percent is None:
        size = max(1, min(BATCH, histories // LEAST_BATCHES))
        full, rest = divmod(histories, size)
        sizes = [size] * full + ([rest] if rest else [])
        for first in range(0, len(sizes), 64):
            run.add(sizes[first : first + 64])
            if progress:
                progress(run.histories, histories)
    else:
        _until(run, primary, uncertainty_percent, progress)
    return _result(case, run, primary, time.perf_counter() - start)


def _check(histories: int, uncertainty_percent: float | None, seed: int, threads: int) -> None:
    low, high = HISTORIES_RANGE
    if not low <= histories <= high:
        raise SimulationError(f"histories = {histories} must lie within {low} and {high}")
    least, most = UNCERTAINTY_RANGE_PERCENT
    if uncertainty_percent is not None and not least <= uncertainty_percent <= most:
        raise SimulationError(f"uncertainty = {uncertainty_percent:g} % must lie within {least:g} and {most:g} %")
    if not 0 <= seed < 2**63:
        raise SimulationError(f"seed = {seed} must lie within 0 and 2^63 - 1")
    if not 1 <= threads <= MOST_THREADS:
        raise SimulationError(f"threads = {threads} must lie within 1 and {MOST_THREADS}")


def geometry_arrays(case: SimulationCase, tables: PhotonTables) -> Geometry:
    """The case's geometry and scores as the kernels take them."""
    from iort_planner.dose._simple_geometry import Geometry

    planes = sorted({x for slab in case.slabs for x in (slab.x_min_mm, slab.x_max_mm)})
    ends = [-math.inf, *planes, math.inf]
    between = np.full(len(planes) + 1, -1, dtype=np.int64)
    for n, (left, right) in enumerate(itertools.pairwise(ends)):
        for slab in case.slabs:
            if slab.x_min_mm <= left and right <= slab.x_max_mm:
                between[n] = tables.index(slab.material)
    return Geometry(
        radii=np.array([each.outer_radius_mm for each in case.spheres]),
        sphere_material=np.array([tables.index(each.material) for each in case.spheres], dtype=np.int64),
        planes=np.array(planes, dtype=np.float64),
        between=between,
        density=tables.density_g_cm3,
        kind=np.array([0 if each.kind == "shell" else 1 for each in case.scores], dtype=np.int64),
        low=np.array([each.low_mm for each in case.scores]),
        high=np.array([each.high_mm for each in case.scores]),
        across=np.array([each.radius_mm for each in case.scores]),
        near=np.array([_NEAR * math.hypot(0.5 * (s.high_mm - s.low_mm), s.radius_mm) for s in case.scores]),
        volume=np.array([each.volume_mm3 for each in case.scores]),
    )


def primary_tally(case: SimulationCase, tables: PhotonTables) -> FloatArray:
    """Primary part of each score per photon, (scores, 3), keV mm cm2/g, see `_simple_kernels.primary`."""
    from iort_planner.dose._simple_kernels import primary

    energies, weights = case.source.nodes()
    tally = np.zeros((len(case.scores), 3))
    primary(tables.kernel(), geometry_arrays(case, tables), energies, weights, *_cosine_nodes(case), tally)
    return tally


def _cosine_nodes(case: SimulationCase) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights over the cosine from -1 to 1: Gauss panels that end wherever the integrand has a kink."""
    discs = [each for each in case.scores if each.kind == "disc"]
    if not case.slabs and not discs:  # the same in every direction
        return np.zeros(1), np.full(1, 2.0)
    planes = [x for slab in case.slabs for x in (slab.x_min_mm, slab.x_max_mm)]
    radii = [each.outer_radius_mm for each in case.spheres]
    radii += [r for each in case.scores if each.kind == "shell" for r in (each.low_mm, each.high_mm)]
    disc_planes = [x for each in discs for x in (each.low_mm, each.high_mm)]
    kinks = [x / r for x in planes + disc_planes for r in radii if r > abs(x)]
    across = [each.radius_mm for each in discs]
    kinks += [x / math.hypot(x, a) for x in planes + disc_planes for a in across]
    kinks += [
        sign * math.sqrt(max(0.0, 1.0 - (a / r) ** 2)) for a in across for r in radii if r > a for sign in (-1, 1)
    ]
    ends = np.unique(np.array([-1.0, 0.0, 1.0, *kinks]))
    panels = []
    for left, right in itertools.pairwise(ends):
        panels.append(np.linspace(left, right, math.ceil((right - left) / _PANEL) + 1))
    edges = np.unique(np.concatenate(panels))
    half, middle = 0.5 * np.diff(edges), 0.5 * (edges[1:] + edges[:-1])
    nodes = (middle[:, None] + half[:, None] * _GAUSS_NODES).ravel()
    return nodes, (half[:, None] * _GAUSS_WEIGHTS).ravel()


class _Run:
    """Batches and what they have scored; a batch's stream is its number, sums go in the order of the batches."""

    def __init__(self, case: SimulationCase, tables: PhotonTables, seed: int, threads: int, most_scatters: int) -> None:
        from iort_planner.dose._simple_kernels import Emission

        self.seed, self.threads = seed, threads
        self._tables, self._geometry = tables.kernel(), geometry_arrays(case, tables)
        source = case.source
        self._emission = Emission(source.energy_low_kev, source.energy_high_kev, np.cumsum(source.photons))
        self._most_scatters = most_scatters
        self._sizes: list[int] = []
        self._tallies: list[FloatArray] = []
        self.balance = np.zeros(3)

    @property
    def histories(self) -> int:
        """Photons followed so far."""
        return sum(self._sizes)

    def add(self, sizes: list[int]) -> None:
        """Follow one batch of each of these sizes."""
        numbered = list(enumerate(sizes, len(self._sizes)))
        if self.threads == 1:
            done = [self._batch(each) for each in numbered]
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                done = list(pool.map(self._batch, numbered))
        for size, (tally, balance) in zip(sizes, done, strict=True):
            self._sizes.append(size)
            self._tallies.append(tally)
            self.balance += balance

    def _batch(self, numbered: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        from iort_planner.dose._simple_kernels import run_batch

        number, size = numbered
        tally, balance = np.zeros((self._geometry.kind.size, 2)), np.zeros(3)
        where = self._tables, self._geometry, self._emission
        run_batch(self.seed, number, size, *where, tally, balance, self._most_scatters)
        return tally, balance

    def scattered(self) -> tuple[FloatArray, FloatArray]:
        """Mean scattered tally per photon and its standard uncertainty, both (scores, 2)."""
        sizes = np.array(self._sizes, dtype=np.float64)[:, None, None]
        per_photon = np.array(self._tallies) / sizes
        mean = np.sum(per_photon * sizes, axis=0) / np.sum(sizes)
        spread = np.sum(sizes * (per_photon - mean) ** 2, axis=0) / (len(sizes) - 1)
        sigma = np.sqrt(spread / np.sum(sizes))
        # where hardly a batch reached the score, the spread of the batches says nothing: call it as large as can be
        reached = np.count_nonzero(per_photon, axis=0)
        return mean, np.where(reached < LEAST_REACHED, math.inf, sigma)


def _relative_percent(run: _Run, primary: FloatArray) -> FloatArray:
    mean, sigma = run.scattered()
    total = primary[:, :2] + mean
    known = np.isfinite(sigma) & (total > 0.0)
    relative = np.full(total.shape, UNKNOWN_PERCENT)
    relative[known] = np.minimum(100.0 * sigma[known] / total[known], UNKNOWN_PERCENT)
    return np.asarray(relative.max(axis=1))


def _until(run: _Run, primary: FloatArray, wanted_percent: float, progress: Progress | None) -> None:
    """Add batches until every score is as certain as wanted; the same batches on any number of threads."""
    run.add([BATCH] * LEAST_BATCHES)
    while True:
        relative = _relative_percent(run, primary)
        worst = float(np.max(relative))
        done = run.histories
        if worst <= wanted_percent:
            return
        if worst >= UNKNOWN_PERCENT and done >= MOST_UNREACHED:
            raise SimulationError(
                f"hardly a scattered photon of {done:.1e} came to score {int(np.argmax(relative)) + 1}, so that its uncertainty "
                "cannot be told; leave it out, make it larger, or give --histories"
            )
        needed = 2.0 * done if worst >= UNKNOWN_PERCENT else done * (worst / wanted_percent) ** 2
        if needed > HISTORIES_RANGE[1]:
            raise SimulationError(
                f"an uncertainty of {wanted_percent:g} % would take about {needed:.2g} histories, over the limit of "
                f"{HISTORIES_RANGE[1]:.0e}; ask for less, or for larger scores"
            )
        if progress:
            progress(done, math.ceil(needed))
        run.add([BATCH] * max(4, min(math.ceil(1.02 * (needed - done) / BATCH), done // BATCH, 256)))


def _result(case: SimulationCase, run: _Run, primary: FloatArray, seconds: float) -> SimulationResult:
    mean, _sigma = run.scattered()
    relative = _relative_percent(run, primary)
    factor = GY_PER_KEV_PER_G * _FROM_MM
    scores = []
    for n, score in enumerate(case.scores):
        total = primary[n, :2] + mean[n]
        scores.append(
            ScoreResult(
                score=score,
                medium=case.media(score),
                dose_to_medium_gy_per_photon=float(total[0] * factor / score.volume_mm3),
                dose_to_water_gy_per_photon=float(total[1] * factor / score.volume_mm3),
                uncertainty_percent=float(relative[n]),
                primary_fraction=float(primary[n, 2] / total[0]) if total[0] > 0.0 else 0.0,
            )
        )
    emitted, absorbed, escaped = (float(value) for value in run.balance / run.histories)
    return SimulationResult(
        scores=tuple(scores),
        histories=run.histories,
        seconds=seconds,
        threads=run.threads,
        seed=run.seed,
        emitted_kev=emitted,
        absorbed_kev=absorbed,
        escaped_kev=escaped,
    )
