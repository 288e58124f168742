"""Photon physics as compiled functions, for the loops of `_simple_kernels.py` and of the voxel engine.

What is here, with ``state`` an array of 4 uint64 (own one for each thread), ``t`` a `KernelTables`, ``m`` a material
index and energies in keV:

- ``seed_state(state, seed, stream)``: start stream number ``stream``; one a batch (or a history), so that a result
  depends on the batches and not on who computes them.
- ``uniform(state)``: in (0, 1). ``isotropic(state)``: a unit vector (x, y, z).
- ``rotated(x, y, z, cosine, azimuth)``: the direction turned by a polar and an azimuthal angle.
- ``grid_place(t, energy)``: (i, f) of an energy; ``at(table, m, i, f)``: linear there, e.g. ``at(t.mu_total, m, i, f)``, cm2/g.
- ``interact(state, t, m, energy, i, f)``: one interaction: (kind, energy after, cosine). ``energy - energy after`` is
  absorbed on the spot. Kind `PHOTOELECTRIC` with energy after 0: the photon is gone; with an energy: a characteristic
  photon goes on, isotropically. After any kind an energy below ``t.least_kev`` is the caller's to absorb.

A caller turns the photon with ``rotated(x, y, z, cosine, 2 pi uniform(state))``. Polarisation, Doppler broadening and
the atom's excitation by a Compton scatter are left out.

- ``angular(t, m, energy, cosine)``: cross-sections per solid angle of a coherent and of an incoherent scatter, cm2/g/sr.

numba keeps compiled code by the file of the *calling* function: after a change here, remove ``__pycache__``.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from iort_planner.compiled import compiled
from iort_planner.dose.attenuation import ELECTRON_REST_KEV, KEV_ANGSTROM
from iort_planner.dose.photon_tables import KernelTables
from iort_planner.units import FloatArray

State = npt.NDArray[np.uint64]

PHOTOELECTRIC, INCOHERENT, COHERENT = 0, 1, 2
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_U7, _U11, _U17, _U19 = np.uint64(7), np.uint64(11), np.uint64(17), np.uint64(19)
_U27, _U30, _U31, _U45 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(45)
_HALF_AREA = 0.5 * 0.0794078711 * 0.602214076  # r_e^2 / 2 (barn; CODATA 2018) times Avogadro's number, cm2/mol
_TO_UNIT = 1.0 / 9007199254740992.0  # 2^-53


@compiled
def mixed(x: np.uint64) -> np.uint64:
    """Scramble the bits of a counter (the output function of SplitMix64)."""
    x = (x ^ (x >> _U30)) * _MIX_1
    x = (x ^ (x >> _U27)) * _MIX_2
    return x ^ (x >> _U31)


@compiled
def seed_state(state: State, seed: int, stream: int) -> None:
    """Start random stream ``stream`` of ``seed``: four words of SplitMix64 (Steele et al. 2014, OOPSLA, p. 453)."""
    counter = mixed(np.uint64(seed) + _GOLDEN) ^ mixed(mixed(np.uint64(stream) * _MIX_1 + _GOLDEN))
    for n in range(4):
        counter = counter + _GOLDEN
        state[n] = mixed(counter)


@compiled
def uniform(state: State) -> float:
    """A number in (0, 1): xoshiro256+ of Blackman and Vigna (2021, ACM TOMS 47:36), its upper 53 bits."""
    s0, s1, s2, s3 = state[0], state[1], state[2], state[3]
    drawn = s0 + s3
    shifted = s1 << _U17
    s2 = s2 ^ s0
    s3 = s3 ^ s1
    state[1] = s1 ^ s2
    state[0] = s0 ^ s3
    state[2] = s2 ^ shifted
    state[3] = (s3 << _U45) | (s3 >> _U19)
    return (float(drawn >> _U11) + 0.5) * _TO_UNIT


@compiled
def isotropic(state: State) -> tuple[float, float, float]:
    """A direction, all of them equally likely."""
    z = 2.0 * uniform(state) - 1.0
    azimuth = 2.0 * math.pi * uniform(state)
    across = math.sqrt(max(0.0, 1.0 - z * z))
    return across * math.cos(azimuth), across * math.sin(azimuth), z


@compiled
def rotated(x: float, y: float, z: float, cosine: float, azimuth: float) -> tuple[float, float, float]:
    """The unit vector (x, y, z) turned by the polar angle of ``cosine`` and by ``azimuth``; again of length 1."""
    sine = math.sqrt(max(0.0, 1.0 - cosine * cosine))
    a, b = sine * math.cos(azimuth), sine * math.sin(azimuth)
    across2 = x * x + y * y
    if across2 < 1e-12:  # along z: any frame will do
        up = 1.0 if z > 0.0 else -1.0
        return a, b, up * cosine
    across = math.sqrt(across2)
    u = x * cosine + (x * z * a - y * b) / across
    v = y * cosine + (y * z * a + x * b) / across
    w = z * cosine - across * a
    scale = 1.0 / math.sqrt(u * u + v * v + w * w)  # keep rounding from growing over many scatters
    return u * scale, v * scale, w * scale


@compiled
def grid_place(t: KernelTables, energy: float) -> tuple[int, float]:
    """Step i and part f within it of an energy on the tables' grid; the last step ends at the highest energy."""
    at_step = (energy - t.least_kev) * t.per_kev
    i = min(max(int(at_step), 0), t.mu_total.shape[1] - 2)
    return i, at_step - i


@compiled
def at(table: FloatArray, m: int, i: int, f: float) -> float:
    """Row m of a table at the place (i, f): linear."""
    return float(table[m, i] + f * (table[m, i + 1] - table[m, i]))


@compiled
def line_at(t: KernelTables, m: int, n: int, i: int, f: float) -> float:
    """Chance that a photoelectric absorption emits one of the lines 0 to n."""
    low = t.line_cumulative[m, n, i]
    return float(low + f * (t.line_cumulative[m, n, i + 1] - low))


@compiled
def interact(state: State, t: KernelTables, m: int, energy: float, i: int, f: float) -> tuple[int, float, float]:
    """Draw what happens to a photon where it interacts: (kind, energy after in keV, cosine of the turn)."""
    drawn = uniform(state) * at(t.mu_total, m, i, f)
    photo = at(t.mu_photo, m, i, f)
    if drawn < photo:
        emitted = uniform(state)
        lines = t.line_kev.shape[1]
        if emitted < line_at(t, m, lines - 1, i, f):
            n = 0
            while emitted >= line_at(t, m, n, i, f):
                n += 1
            if t.line_kev[m, n] < energy:
                return PHOTOELECTRIC, t.line_kev[m, n], 2.0 * uniform(state) - 1.0
        return PHOTOELECTRIC, 0.0, 1.0
    if drawn < photo + at(t.mu_incoherent, m, i, f):
        cosine, after = compton(state, t, m, energy)
        return INCOHERENT, after, cosine
    return COHERENT, energy, rayleigh(state, t, m, energy)


@compiled
def compton(state: State, t: KernelTables, m: int, energy: float) -> tuple[float, float]:
    """Cosine and energy of an incoherently scattered photon: Klein-Nishina times S(x), by rejection.

    The cosine is drawn evenly, which is quick below 50 keV, where Klein-Nishina is flat; S(x) rises with x, so that its
    value straight back is its largest.
    """
    back = energy / KEV_ANGSTROM * t.per_x
    most = linear(t.seen, m, back)
    while True:
        cosine = 2.0 * uniform(state) - 1.0
        ratio = 1.0 / (1.0 + energy / ELECTRON_REST_KEV * (1.0 - cosine))
        shape = 0.5 * ratio * ratio * (ratio + 1.0 / ratio - 1.0 + cosine * cosine)
        if uniform(state) * most <= shape * linear(t.seen, m, back * math.sqrt(0.5 * (1.0 - cosine))):
            return cosine, energy * ratio


@compiled
def linear(table: FloatArray, m: int, place: float) -> float:
    """Row m of a table at a place given in steps: linear."""
    n = min(int(place), table.shape[1] - 2)
    return float(table[m, n] + (place - n) * (table[m, n + 1] - table[m, n]))


@compiled
def rayleigh(state: State, t: KernelTables, m: int, energy: float) -> float:
    """Cosine of a coherent scatter: x^2 from the squared form factor, then Thomson's 1 + cos^2 by rejection."""
    row = t.coherent_cumulative[m]
    most = energy / KEV_ANGSTROM * t.per_x  # in steps of x
    last = min(int(most), row.size - 2)
    # between columns the squared form factor is even in x^2
    part = (most * most - last * last) / (2.0 * last + 1.0)
    whole = row[last] + part * (row[last + 1] - row[last])
    while True:
        wanted = uniform(state) * whole
        low, high = 0, last + 1
        while high - low > 1:
            middle = (low + high) // 2
            if row[middle] <= wanted:
                low = middle
            else:
                high = middle
        x2 = low * low + (wanted - row[low]) / (row[low + 1] - row[low]) * (2.0 * low + 1.0)
        cosine = float(1.0 - 2.0 * min(x2 / (most * most), 1.0))
        if uniform(state) <= 0.5 * (1.0 + cosine * cosine):
            return cosine


@compiled
def angular(t: KernelTables, m: int, energy: float, cosine: float) -> tuple[float, float]:
    """Thomson times F^2, and Klein-Nishina times S, of a material: cm2/g/sr."""
    place = energy / KEV_ANGSTROM * t.per_x * math.sqrt(max(0.0, 0.5 * (1.0 - cosine)))
    row = t.coherent_cumulative
    n = min(int(place), row.shape[1] - 2)
    squared = (row[m, n + 1] - row[m, n]) * t.per_x * t.per_x / (2.0 * n + 1.0)
    ratio = 1.0 / (1.0 + energy / ELECTRON_REST_KEV * (1.0 - cosine))
    klein_nishina = ratio * ratio * (ratio + 1.0 / ratio - 1.0 + cosine * cosine)
    return (
        _HALF_AREA * (1.0 + cosine * cosine) * squared,
        _HALF_AREA * klein_nishina * linear(t.seen, m, place) * t.electrons[m],
    )
