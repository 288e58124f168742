"""Compiled pieces of photon transport: random numbers, a turned direction, one scattering."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from iort_planner.dose._kernels import compiled
from iort_planner.units import FloatArray

_PER_ANGSTROM_KEV = 1.0 / 12.398419843  # 1/(h c), CODATA 2018
_ELECTRON_KEV = 510.99895  # CODATA 2018


@compiled
def seeded(seed: int) -> npt.NDArray[np.uint64]:
    """State of a generator from a seed: two words of splitmix64 (Steele et al. 2014, doi:10.1145/2660193.2660195)."""
    state = np.empty(2, np.uint64)
    z = np.uint64(seed)
    for n in range(2):
        z += np.uint64(0x9E3779B97F4A7C15)
        x = z
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state[n] = x ^ (x >> np.uint64(31))
    return state


@compiled
def next_uniform(state: npt.NDArray[np.uint64]) -> float:
    """Next number from 0 to below 1; xorshift128+ (Vigna 2017, doi:10.1016/j.cam.2016.11.006). Changes the state."""
    a, b = state[0], state[1]
    a ^= a << np.uint64(23)
    c = a ^ b ^ (a >> np.uint64(18)) ^ (b >> np.uint64(5))
    state[0], state[1] = b, c
    return float((c + b) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled
def turn(direction: FloatArray, cosine: float, phi: float) -> None:
    """Turn a unit vector (3,) by the angle of ``cosine``, at azimuth ``phi`` round itself; written in place."""
    sine = math.sqrt(max(0.0, 1.0 - cosine * cosine))
    x, y, z = direction[0], direction[1], direction[2]
    # a frame across the direction without a special case but one sign (Duff et al. 2017, JCGT 6:1)
    sign = 1.0 if z >= 0.0 else -1.0
    a = -1.0 / (sign + z)
    b = x * y * a
    u, v = sine * math.cos(phi), sine * math.sin(phi)
    direction[0] = u * (1.0 + sign * x * x * a) + v * b + cosine * x
    direction[1] = u * sign * b + v * (sign + y * y * a) + cosine * y
    direction[2] = -u * sign * x - v * y + cosine * z
    norm = math.sqrt(direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2)
    for n in range(3):
        direction[n] /= norm


@compiled
def _coherent_cosine(state: npt.NDArray[np.uint64], inverse: float, row: FloatArray, x_step: float) -> float:
    """Cosine of a coherent scattering: x^2 from the integral of F^2, kept with Thomson's (1 + cos^2) / 2."""
    at = min(inverse / x_step, row.size - 1.000001)
    low = int(at)
    most = row[low] + (at - low) * (row[low + 1] - row[low])
    while True:
        wanted = next_uniform(state) * most
        a, b = 0, low + 1
        while b - a > 1:
            middle = (a + b) // 2
            if row[middle] <= wanted:
                a = middle
            else:
                b = middle
        first, last = (a * x_step) ** 2, (b * x_step) ** 2
        square = first + (wanted - row[a]) / (row[b] - row[a]) * (last - first)
        cosine = max(1.0 - 2.0 * square / (inverse * inverse), -1.0)
        if 2.0 * next_uniform(state) < 1.0 + cosine * cosine:
            return float(cosine)


@compiled
def scatter_photon(
    state: npt.NDArray[np.uint64],
    kev: float,
    material: int,
    coherent: bool,
    tables: tuple[float, FloatArray, FloatArray],
) -> tuple[float, float]:
    """Energy (keV) after a scattering and the cosine of its angle.

    Incoherent: Klein and Nishina's cross-section times the incoherent scattering function, by rejection from equal cosines;
    an electron's motion within the atom (Doppler broadening) is left out. ``tables`` are x_step, ff_cum and sf of
    `PhotonTables`.
    """
    x_step, ff_cum, sf = tables
    inverse = kev * _PER_ANGSTROM_KEV
    if coherent:
        return kev, _coherent_cosine(state, inverse, ff_cum[material], x_step)
    ratio = kev / _ELECTRON_KEV
    while True:
        cosine = 2.0 * next_uniform(state) - 1.0
        left = 1.0 / (1.0 + ratio * (1.0 - cosine))
        if 2.0 * next_uniform(state) > left * left * (left + 1.0 / left - (1.0 - cosine * cosine)):
            continue
        at = min(inverse * math.sqrt(0.5 * (1.0 - cosine)) / x_step, sf.shape[1] - 1.000001)
        low = int(at)
        bound = sf[material, low] + (at - low) * (sf[material, low + 1] - sf[material, low])
        if next_uniform(state) < bound:
            return kev * left, cosine
