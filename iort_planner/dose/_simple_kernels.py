"""Compiled loops of the transport in concentric spheres and slabs: histories, and the primary dose without chance.

The geometry as arrays: `_simple_geometry.py`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from iort_planner.compiled import compiled
from iort_planner.dose._disc_kernels import expect_in_discs, force_near_discs
from iort_planner.dose._photon_kernels import (
    PHOTOELECTRIC,
    at,
    grid_place,
    interact,
    isotropic,
    rotated,
    seed_state,
    uniform,
)
from iort_planner.dose._simple_geometry import PER_MM, Geometry, below, medium_of, next_border, overlap
from iort_planner.dose.photon_tables import KernelTables
from iort_planner.units import FloatArray

_FAR = 1e30


class Emission(NamedTuple):
    """Lines and bins: their ends in keV, and the cumulative chance of each."""

    low_kev: FloatArray
    high_kev: FloatArray
    cumulative: FloatArray


@compiled
def score_shells(
    g: Geometry,
    x: float,
    y: float,
    z: float,
    u: float,
    v: float,
    w: float,
    length: float,
    value: float,
    water: float,
    tally: FloatArray,
) -> None:
    """Add ``value`` and ``water`` times the track length within each shell to ``tally`` (scores, 2)."""
    near = x * u + y * v + z * w  # place along the line, counted from its point nearest to the origin
    off2 = max(0.0, x * x + y * y + z * z - near * near)
    for n in range(g.kind.size):
        half2 = g.high[n] * g.high[n] - off2
        if g.kind[n] != 0 or half2 <= 0.0:
            continue
        half = math.sqrt(half2)
        inside = overlap(near, near + length, -half, half)
        half2 = g.low[n] * g.low[n] - off2
        if half2 > 0.0:
            half = math.sqrt(half2)
            inside -= overlap(near, near + length, -half, half)
        if inside > 0.0:
            tally[n, 0] += value * inside
            tally[n, 1] += water * inside


@compiled
def run_batch(
    seed: int,
    batch: int,
    histories: int,
    t: KernelTables,
    g: Geometry,
    e: Emission,
    tally: FloatArray,
    balance: FloatArray,
    most_scatters: int,
) -> None:
    """Follow photons one by one; analogue, with a track-length estimate of collision kerma by scattered photons.

    Discs are small and rarely met: what scatters send there is expected instead (`_disc_kernels.py`).
    The first flight of each photon is followed and not scored: `primary` gives that part exactly.

    Parameters
    ----------
    seed, batch, histories : int
        Random stream, and how many photons start.
    tally : ndarray of shape (scores, 2)
        Added to: keV mm cm2/g to the medium and to water.
    balance : ndarray of shape (3,), keV
        Added to: emitted, absorbed, escaped.
    most_scatters : int
        A photon ends where it would be scattered once more; counted as absorbed there.
    """
    state = np.empty(4, dtype=np.uint64)
    seed_state(state, seed, batch)
    last = g.radii.size - 1
    discs = False
    for n in range(g.kind.size):
        discs = discs or g.kind[n] == 1
    for _ in range(histories):
        n = min(below(e.cumulative, uniform(state)), e.cumulative.size - 1)
        energy = e.low_kev[n] + (e.high_kev[n] - e.low_kev[n]) * uniform(state)
        balance[0] += energy
        x, y, z = 0.0, 0.0, 0.0
        u, v, w = isotropic(state)
        s = 0
        b = 0
        while b < g.planes.size and (g.planes[b] < 0.0 or (g.planes[b] == 0.0 and u > 0.0)):
            b += 1
        scatters = 0
        depth = -math.log(uniform(state))  # mean free paths to go
        i, f = grid_place(t, energy)
        if discs and most_scatters > 0:
            force_near_discs(state, g, t, (x, y, z), (u, v, w), s, b, energy, tally)
        while True:
            m = medium_of(g, s, b)
            border, next_s, next_b = next_border(g, x, y, z, u, v, w, s, b)
            mu = at(t.mu_total, m, i, f) * g.density[m] * PER_MM
            flight = min(border, depth / mu)
            if scatters > 0:
                medium, water = energy * at(t.mu_en, m, i, f), energy * at(t.mu_en, 0, i, f)
                score_shells(g, x, y, z, u, v, w, flight, medium, water, tally)
            x += flight * u
            y += flight * v
            z += flight * w
            if depth / mu >= border:
                depth -= border * mu
                s, b = next_s, next_b
                if s > last:
                    balance[2] += energy
                    break
                continue
            if discs and scatters < most_scatters:
                expect_in_discs(state, g, t, (x, y, z), (u, v, w), s, b, energy, False, tally)
            kind, after, cosine = interact(state, t, m, energy, i, f)
            if after < t.least_kev or scatters == most_scatters:
                balance[1] += energy
                break
            if discs and kind == PHOTOELECTRIC:
                expect_in_discs(state, g, t, (x, y, z), (u, v, w), s, b, after, True, tally)
            balance[1] += energy - after
            energy = after
            u, v, w = rotated(u, v, w, cosine, 2.0 * math.pi * uniform(state))
            scatters += 1
            depth = -math.log(uniform(state))
            i, f = grid_place(t, energy)
            if discs and scatters < most_scatters:
                force_near_discs(state, g, t, (x, y, z), (u, v, w), s, b, energy, tally)


@compiled
def primary(
    t: KernelTables,
    g: Geometry,
    energies_kev: FloatArray,
    weights: FloatArray,
    cosines: FloatArray,
    cosine_weights: FloatArray,
    tally: FloatArray,
) -> None:
    """Collision kerma by photons before their first interaction, integrated along rays: no chance in it.

    Everything is symmetric about the x axis, so a ray is given by the cosine of its angle with it. Along a ray the
    attenuation is exponential from border to border and integrated in closed form.

    Parameters
    ----------
    energies_kev, weights : ndarray of shape (E,)
        Nodes of the spectrum; the weights add up to 1.
    cosines, cosine_weights : ndarray of shape (C,)
        Nodes over -1 to 1; the weights add up to 2.
    tally : ndarray of shape (scores, 3)
        Added to, per photon: keV mm cm2/g to the medium, to water, and to the medium without the characteristic photons
        that are absorbed on the spot (they are no primary photons).
    """
    scores = g.kind.size
    cuts = np.empty(2 + g.radii.size + g.planes.size + 2 * scores)
    within = np.empty((cuts.size, scores), dtype=np.bool_)
    media = np.empty(cuts.size, dtype=np.int64)
    world = g.radii[-1]
    for c in range(cosines.size):
        cosine = cosines[c]
        sine = math.sqrt(max(0.0, 1.0 - cosine * cosine))
        for n in range(cuts.size):
            cuts[n] = world
        cuts[0] = 0.0
        for n in range(g.radii.size):
            cuts[1 + n] = g.radii[n]
        place = 1 + g.radii.size
        for n in range(g.planes.size):
            if cosine * g.planes[n] > 0.0:
                cuts[place + n] = min(g.planes[n] / cosine, world)
        place += g.planes.size
        for n in range(scores):
            start, end = scored(g, n, cosine, sine)
            cuts[place + 2 * n] = min(start, world)
            cuts[place + 2 * n + 1] = min(end, world)
        for n in range(1, cuts.size):  # by insertion: few, and compiled in a tenth of the time of a call of sort
            value = cuts[n]
            k = n
            while k > 0 and cuts[k - 1] > value:
                cuts[k] = cuts[k - 1]
                k -= 1
            cuts[k] = value
        for n in range(cuts.size - 1):
            middle = 0.5 * (cuts[n] + cuts[n + 1])
            m = g.between[below(g.planes, middle * cosine)]
            media[n] = m if m >= 0 else g.sphere_material[min(below(g.radii, middle), g.radii.size - 1)]
            for k in range(scores):
                start, end = scored(g, k, cosine, sine)
                within[n, k] = start <= middle <= end
        for k in range(energies_kev.size):
            i, f = grid_place(t, energies_kev[k])
            left = 0.5 * cosine_weights[c] * weights[k] * energies_kev[k]
            water = at(t.mu_en, 0, i, f)
            for n in range(cuts.size - 1):
                length = cuts[n + 1] - cuts[n]
                if length <= 0.0:
                    continue
                m = media[n]
                mu = at(t.mu_total, m, i, f) * g.density[m] * PER_MM
                gone = -math.expm1(-mu * length)
                track = left * gone / mu
                left -= left * gone
                medium = at(t.mu_en, m, i, f)
                for score in range(scores):
                    if within[n, score]:
                        tally[score, 0] += track * medium
                        tally[score, 1] += track * water
                        tally[score, 2] += track * (medium - at(t.mu_stay, m, i, f))


@compiled
def scored(g: Geometry, n: int, cosine: float, sine: float) -> tuple[float, float]:
    """Distances at which a ray from the origin enters and leaves a score; beyond everything where it misses it."""
    if g.kind[n] == 0:
        return g.low[n], g.high[n]
    if cosine <= 0.0:
        return _FAR, _FAR
    start, end = g.low[n] / cosine, g.high[n] / cosine
    if sine > 0.0:
        end = min(end, g.across[n] / sine)
    if end <= start:
        return _FAR, _FAR
    return start, end
