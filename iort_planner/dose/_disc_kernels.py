"""Scattered dose in small discs by expected values, since few photons ever meet one.

A scatter that lies further from a disc's middle than ``near`` adds what it is expected to send to a random point of the
disc (next-event estimate). Nearer scatters would add rare, large values in that way. There each flight that passes near
is made to scatter once on its way, weighted with the chance of it, and some photons from there are followed.
"""

from __future__ import annotations

import math

from iort_planner.compiled import compiled
from iort_planner.dose._photon_kernels import State, angular, at, grid_place, interact, rotated, uniform
from iort_planner.dose._simple_geometry import PER_MM, Geometry, medium_of, next_border
from iort_planner.dose.attenuation import ELECTRON_REST_KEV
from iort_planner.dose.photon_tables import KernelTables
from iort_planner.units import FloatArray

FOLLOWED = 8  # photons from each forced scatter


@compiled
def expect_in_discs(
    state: State,
    g: Geometry,
    t: KernelTables,
    place: tuple[float, float, float],
    heading: tuple[float, float, float],
    s: int,
    b: int,
    energy: float,
    line: bool,
    tally: FloatArray,
) -> None:
    """Add what a scatter at ``place`` is expected to send to each disc that is not near: the dose at a random point of it.

    With ``line`` a characteristic photon of ``energy`` starts there, in any direction; else a photon on ``heading``
    interacts, and the coherent and incoherent cross-sections say how likely it turns towards the point.
    """
    m = medium_of(g, s, b)
    i, f = grid_place(t, energy)
    mu_here = at(t.mu_total, m, i, f)
    for n in range(g.kind.size):
        if g.kind[n] == 0:
            continue
        apart = place[0] - 0.5 * (g.low[n] + g.high[n])
        if apart * apart + place[1] * place[1] + place[2] * place[2] < g.near[n] * g.near[n]:
            continue
        azimuth, across = 2.0 * math.pi * uniform(state), g.across[n] * math.sqrt(uniform(state))
        u = g.low[n] + (g.high[n] - g.low[n]) * uniform(state) - place[0]
        v, w = across * math.cos(azimuth) - place[1], across * math.sin(azimuth) - place[2]
        left = math.sqrt(u * u + v * v + w * w)
        per_area = g.volume[n] / (left * left)
        u, v, w = u / left, v / left, w / left
        after = energy
        first, second = 0.25 / math.pi, 0.0
        if not line:
            cosine = min(max(u * heading[0] + v * heading[1] + w * heading[2], -1.0), 1.0)
            first, second = angular(t, m, energy, cosine)
            first, second = first / mu_here, second / mu_here
            after = energy / (1.0 + energy / ELECTRON_REST_KEV * (1.0 - cosine))
        i2, f2 = grid_place(t, after)
        x, y, z = place
        now_s, now_b = s, b
        depth, depth2 = 0.0, 0.0
        while True:
            now = medium_of(g, now_s, now_b)
            border, next_s, next_b = next_border(g, x, y, z, u, v, w, now_s, now_b)
            step = min(border, left)
            depth += step * at(t.mu_total, now, i, f) * g.density[now] * PER_MM
            depth2 += step * at(t.mu_total, now, i2, f2) * g.density[now] * PER_MM
            left -= step
            if left <= 0.0 or next_s == g.radii.size:
                break
            x, y, z = x + step * u, y + step * v, z + step * w
            now_s, now_b = next_s, next_b
        first *= per_area * math.exp(-depth) * energy
        second *= per_area * math.exp(-depth2) * after
        tally[n, 0] += first * at(t.mu_en, now, i, f) + second * at(t.mu_en, now, i2, f2)
        tally[n, 1] += first * at(t.mu_en, 0, i, f) + second * at(t.mu_en, 0, i2, f2)


@compiled
def track_in_disc(
    g: Geometry, n: int, x: float, y: float, z: float, u: float, v: float, w: float, length: float
) -> float:
    """Track length of a flight within disc ``n``, mm."""
    start, end = 0.0, length
    if u != 0.0:
        first, last = (g.low[n] - x) / u, (g.high[n] - x) / u
        start, end = max(start, min(first, last)), min(end, max(first, last))
    elif x < g.low[n] or x > g.high[n]:
        return 0.0
    slope2 = v * v + w * w
    room = g.across[n] * g.across[n] - y * y - z * z
    if slope2 > 0.0:
        middle = -(y * v + z * w)
        under = middle * middle + slope2 * room
        if under <= 0.0:
            return 0.0
        root = math.sqrt(under)
        start, end = max(start, (middle - root) / slope2), min(end, (middle + root) / slope2)
    elif room <= 0.0:
        return 0.0
    return max(0.0, end - start)


@compiled
def force_near_discs(
    state: State,
    g: Geometry,
    t: KernelTables,
    place: tuple[float, float, float],
    heading: tuple[float, float, float],
    s: int,
    b: int,
    energy: float,
    tally: FloatArray,
) -> None:
    """Make the flight that starts at ``place`` scatter once near each disc that it passes, and score what reaches it."""
    u, v, w = heading
    for n in range(g.kind.size):
        if g.kind[n] == 0:
            continue
        x, y, z = place
        apart = 0.5 * (g.low[n] + g.high[n]) - x
        along = apart * u - y * v - z * w
        off2 = apart * apart + y * y + z * z - along * along
        if off2 >= g.near[n] * g.near[n]:
            continue
        half = math.sqrt(g.near[n] * g.near[n] - off2)
        first, last = max(0.0, along - half), along + half
        if last <= first:
            continue
        left = first + (last - first) * uniform(state)
        i, f = grid_place(t, energy)
        now_s, now_b, depth, mu = s, b, 0.0, 0.0
        while True:
            m = medium_of(g, now_s, now_b)
            mu = at(t.mu_total, m, i, f) * g.density[m] * PER_MM
            border, next_s, next_b = next_border(g, x, y, z, u, v, w, now_s, now_b)
            step = min(border, left)
            depth += step * mu
            left -= step
            x, y, z = x + step * u, y + step * v, z + step * w
            if left <= 0.0 or next_s == g.radii.size:
                break
            now_s, now_b = next_s, next_b
        if left > 0.0:  # it would scatter in the vacuum
            continue
        weight = mu * (last - first) * math.exp(-depth) / FOLLOWED
        for _ in range(FOLLOWED):
            _kind, after, cosine = interact(state, t, m, energy, i, f)
            if after >= t.least_kev:
                azimuth = 2.0 * math.pi * uniform(state)
                away = rotated(u, v, w, cosine, azimuth)
                follow_to_disc(state, g, t, n, (x, y, z), away, now_s, now_b, after, weight, tally)


@compiled
def follow_to_disc(
    state: State,
    g: Geometry,
    t: KernelTables,
    n: int,
    place: tuple[float, float, float],
    heading: tuple[float, float, float],
    s: int,
    b: int,
    energy: float,
    weight: float,
    tally: FloatArray,
) -> None:
    """Follow one flight within the near region of disc ``n`` to its end and score its track in the disc."""
    x, y, z = place
    u, v, w = heading
    left = 2.0 * g.near[n]  # the disc lies within
    if track_in_disc(g, n, x, y, z, u, v, w, left) <= 0.0:
        return
    i, f = grid_place(t, energy)
    free = -math.log(uniform(state))
    while left > 0.0 and s < g.radii.size:
        m = medium_of(g, s, b)
        mu = at(t.mu_total, m, i, f) * g.density[m] * PER_MM
        border, next_s, next_b = next_border(g, x, y, z, u, v, w, s, b)
        step = min(border, left, free / mu)
        track = weight * energy * track_in_disc(g, n, x, y, z, u, v, w, step)
        tally[n, 0] += track * at(t.mu_en, m, i, f)
        tally[n, 1] += track * at(t.mu_en, 0, i, f)
        if free / mu <= border:
            return
        free -= border * mu
        left -= step
        x, y, z = x + step * u, y + step * v, z + step * w
        s, b = next_s, next_b
