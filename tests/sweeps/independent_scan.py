"""A second renderer of metal in a scan, which shares nothing with the phantoms' own painting, blur and streaks.

It guards against agreement by construction: metal on cells of its own with analytic borders, an in-plane point spread
given by a reconstruction kernel's modulation transfer (with overshoot at edges, no Gaussian), triangular or trapezoid
slice profiles, and errors of a polychromatic beam from projections (`independent_beam`). Only the anatomy without metal
is the project's (`iort_planner.phantom.scan.tissue_image`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, sparse

from iort_planner.imaging.volume import ImageGrid
from iort_planner.units import FloatArray
from tests.sweeps.independent_beam import (
    Beam,
    Water,
    back_project,
    error_sinogram,
    filtered,
    frequencies_per_mm,
    project,
    shifted,
)
from tests.sweeps.independent_shapes import Body, Stuff

_STEP_MM = 0.22  # cells in which a border's coverage is linear
_CELL_MM = (0.55, 0.45)  # coarser pixels are split in two; slices in as many layers as it takes: our own choice
_PIECE_MM = 5.0
Values = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Modulation transfer in the plane: a flat part with a boost, cut off by a power of frequency or by a cosine bell.

    Parameters
    ----------
    half_per_mm : float
        Frequency at which the cut-off alone is 1/2.
    boost : float
        Height of the bump below the cut-off: makes edges overshoot.
    order : int
        Of a Butterworth cut-off; 0 for a cosine bell (Hann), which ends at twice ``half_per_mm``.
    flat : float
        Top of the slice profile over its width at half height: 0 a triangle, towards 1 a box.
    """

    half_per_mm: float
    boost: float
    order: int
    flat: float

    def transfer(self, frequency_per_mm: FloatArray) -> FloatArray:
        """Share of each spatial frequency that is kept; 1 at 0."""
        f = np.asarray(frequency_per_mm) / self.half_per_mm
        cut = 0.5 + 0.5 * np.cos(0.5 * np.pi * np.minimum(f, 2.0))
        if self.order > 0:
            cut = 1.0 / (1.0 + f ** (2 * self.order))
        result: FloatArray = cut * (1.0 + self.boost * f * f * np.exp(1.0 - f * f))
        return result

    def profile(self, offset: FloatArray) -> FloatArray:
        """Of the slice, at offsets in units of its thickness (width at half height); not normed."""
        ramp = 1.0 - self.flat
        result: FloatArray = np.clip((0.5 + 0.5 * ramp - np.abs(offset)) / max(ramp, 1e-6), 0.0, 1.0)
        return result


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """Small cells that metal and what belongs to it fill.

    Parameters
    ----------
    index : ndarray of shape (N,), int64
        Flat, in an array [layer, row, column] of ``shape``.
    share : ndarray of shape (N, len(Stuff)), float32
    shape : tuple of 3 int
    split : tuple of 3 int
        Cells a voxel, along k, j, i.
    """

    index: npt.NDArray[np.int64]
    share: Values
    shape: tuple[int, int, int]
    split: tuple[int, int, int]


def split_of(grid: ImageGrid) -> tuple[int, int, int]:
    """Cells a voxel along k, j, i."""
    pixel, thick = float(grid.spacing_mm[0]), float(grid.spacing_mm[2])
    plane = 1 if pixel <= _CELL_MM[0] else 2
    return (int(np.ceil(thick / _CELL_MM[1])), plane, plane)


def cells_of(bodies: Sequence[Body], grid: ImageGrid) -> Cells:
    """What the bodies fill; later ones replace earlier ones."""
    split = split_of(grid)
    n, m = np.array(split, dtype=np.int64), np.array(grid.shape, dtype=np.int64)
    shape = (int(n[0] * m[0]), int(n[1] * m[1]), int(n[2] * m[2]))
    found = [
        (index, _filled(body, grid, index, split, shape)) for body in bodies for index in [_near(body, grid, split)]
    ]
    every = _sorted_once([index for index, _ in found])
    share = np.zeros((every.size, len(Stuff)), np.float32)
    for index, own in found:
        at = np.searchsorted(every, index)
        share[at] = share[at] * (1.0 - own.sum(axis=1, keepdims=True)) + own
    keep = share.sum(axis=1) > 0.0
    return Cells(index=every[keep], share=share[keep], shape=shape, split=split)


def _near(body: Body, grid: ImageGrid, split: tuple[int, int, int]) -> npt.NDArray[np.int64]:
    """Flat indices of the cells that a body may touch, piece by piece along it."""
    cell_mm = grid.spacing_mm / np.array(split[::-1])
    margin = body.reach_mm + float(np.linalg.norm(cell_mm))
    size = np.array(grid.size_voxels) * np.array(split[::-1])
    low_mm, high_mm = body.span_mm
    result = []
    for start in np.arange(low_mm, high_mm, _PIECE_MM):
        ends = body.points_lps_mm(np.array([start, min(start + _PIECE_MM, high_mm)]))
        at = (grid.lps_to_index(ends) + 0.5) * np.array(split[::-1])
        low = np.clip(np.floor(at.min(axis=0) - margin / cell_mm), 0, size).astype(int)
        high = np.clip(np.ceil(at.max(axis=0) + margin / cell_mm), 0, size).astype(int)
        if np.any(high <= low):
            continue
        k, j, i = np.ogrid[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
        x, y, z = ((axis + 0.5 - at[0, n]) * cell_mm[n] for n, axis in enumerate((i, j, k)))
        along = (at[1] - at[0]) * cell_mm
        length2 = max(float(along @ along), 1e-9)
        t = np.clip((x * along[0] + y * along[1] + z * along[2]) / length2, 0.0, 1.0)
        near = (x - t * along[0]) ** 2 + (y - t * along[1]) ** 2 + (z - t * along[2]) ** 2 < margin**2
        result.append(((k * size[1] + j) * size[0] + i)[near])
    return _sorted_once(result)


def _sorted_once(parts: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """All numbers in order, each once; several times as fast as ``np.unique``, which hashes."""
    if not parts:
        return np.zeros(0, np.int64)
    every = np.sort(np.concatenate(parts).astype(np.int64))
    result: npt.NDArray[np.int64] = every[np.append(True, np.diff(every) > 0)] if every.size else every
    return result


def _filled(
    body: Body, grid: ImageGrid, index: npt.NDArray[np.int64], split: tuple[int, int, int], shape: tuple[int, int, int]
) -> Values:
    """Share of each cell by material, as means over points at most ``_STEP_MM`` apart."""
    cell_mm = grid.spacing_mm / np.array(split[::-1])
    finer = np.maximum(np.ceil(cell_mm / _STEP_MM), 1).astype(int)
    step = float(np.prod(cell_mm / finer) ** (1.0 / 3.0))
    to_mm = (grid.direction * cell_mm).astype(np.float64)
    corner = grid.origin_lps_mm - grid.direction @ (0.5 * grid.spacing_mm) - body.origin_lps_mm
    k, j, i = np.unravel_index(index, shape)
    base = np.stack([i, j, k], axis=1) @ to_mm.T + corner
    total = np.zeros((index.size, len(Stuff)), np.float32)
    places = [(a, b, c) for a in range(finer[0]) for b in range(finer[1]) for c in range(finer[2])]
    for place in places:
        u, x, y = body.local((base + to_mm @ ((np.array(place) + 0.5) / finer)).astype(np.float32))
        share = np.zeros((index.size, len(Stuff)), np.float32)
        for part in body.parts:
            touched = np.flatnonzero((u > part.low_mm - step) & (u < part.high_mm + step))
            own = part.cover(u[touched], x[touched], y[touched], step)
            share[touched] *= (1.0 - own)[:, None]
            share[touched, part.stuff] += own
        total += share
    return total / np.float32(len(places))


def slice_weights(kernel: Kernel, slices: int, layers: int) -> sparse.csr_array:
    """Weights of the layers in each slice, shape (slices, slices * layers); each row sums to 1 away from the ends."""
    reach = int(np.ceil(layers * 1.0)) + 1
    offset = np.arange(-reach, layers + reach)
    weight = kernel.profile((offset + 0.5) / layers - 0.5)
    weight = weight / weight.sum()
    row = np.repeat(np.arange(slices), offset.size)
    column = row * layers + np.tile(offset, slices)
    inside = (column >= 0) & (column < slices * layers)
    values = np.tile(weight, slices)[inside].astype(np.float32)
    return sparse.csr_array((values, (row[inside], column[inside])), shape=(slices, slices * layers))


def blurred(values: Values, pixel_mm: float, kernel: Kernel, split: int = 1) -> Values:
    """Slices [k, j, i] through the kernel, sampled at the centres of blocks of ``split`` pixels; borders are mirrored."""
    margin = int(np.ceil(6.0 / pixel_mm))
    padded = np.pad(values, ((0, 0), (margin, margin), (margin, margin)), mode="symmetric")
    rows, columns = (fft.next_fast_len(n, real=True) for n in padded.shape[1:])
    fy, fx = fft.fftfreq(rows, pixel_mm)[:, None], fft.rfftfreq(columns, pixel_mm)[None, :]
    response = kernel.transfer(np.hypot(fx, fy)).astype(np.complex64)
    # the centre of a block of two pixels lies half a pixel on
    shift = (split - 1) / 2.0 * pixel_mm
    response = (response * np.exp(2j * np.pi * shift * (fx + fy))).astype(np.complex64)
    result = np.empty((values.shape[0], values.shape[1] // split, values.shape[2] // split), np.float32)
    for k in range(values.shape[0]):
        spread = fft.irfft2(fft.rfft2(padded[k], (rows, columns)) * response, (rows, columns))
        inner = spread[margin : margin + values.shape[1], margin : margin + values.shape[2]]
        result[k] = inner[::split, ::split]
    return result


def noise(shape: tuple[int, int, int], pixel_mm: float, kernel: Kernel, seed: int) -> Values:
    """Noise of standard deviation 1 with the power of filtered back projection: frequency times the square of the transfer."""
    rng = np.random.default_rng([seed, 32])
    rows, columns = (fft.next_fast_len(n, real=True) for n in shape[1:])
    f = np.hypot(fft.fftfreq(rows, pixel_mm)[:, None], fft.rfftfreq(columns, pixel_mm)[None, :])
    response = (np.sqrt(f + 0.02) * kernel.transfer(f)).astype(np.float32)
    result = np.empty(shape, np.float32)
    for k in range(shape[0]):
        white = fft.rfft2(rng.standard_normal((rows, columns), dtype=np.float32)) * response
        result[k] = fft.irfft2(white, (rows, columns))[: shape[1], : shape[2]]
    return result / np.float32(result.std(dtype=np.float64))


def rendered(tissue_hu: Values, cells: Cells, stuff_hu: dict[Stuff, float], grid: ImageGrid, kernel: Kernel) -> Values:
    """Anatomy with the bodies in it, blurred, without noise and without errors of the beam; [k, j, i]."""
    layers, split = cells.split[0], cells.split[1]
    pixel = float(grid.spacing_mm[0])
    through = slice_weights(kernel, grid.shape[0], 4)
    coarse = through @ sparse.kron(sparse.eye_array(grid.shape[0]), np.ones((4, 1), np.float32), format="csr")
    flat = (coarse @ tissue_hu.reshape(grid.shape[0], -1)).reshape(grid.shape).astype(np.float32)
    image = blurred(flat, pixel, kernel)
    if cells.index.size == 0:
        return image
    k, j, i = np.unravel_index(cells.index, cells.shape)
    under = tissue_hu[k // layers, j // split, i // split]
    value = cells.share @ np.array([stuff_hu[s] for s in Stuff], np.float32) - cells.share.sum(axis=1) * under
    box = tuple(slice(int(a.min()) // split, int(a.max()) // split + 1) for a in (j, i))
    rows, columns = ((b.stop - b.start) * split for b in box)
    place = (j - box[0].start * split) * columns + (i - box[1].start * split)
    dense = sparse.csr_array((value, (k, place)), shape=(cells.shape[0], rows * columns))
    change = (slice_weights(kernel, grid.shape[0], layers) @ dense).toarray().reshape(grid.shape[0], rows, columns)
    margin = int(np.ceil(6.0 / pixel)) * split
    wide = np.pad(change.astype(np.float32), ((0, 0), (margin, margin), (margin, margin)))
    spread = blurred(wide, pixel / split, kernel, split)
    start = [b.start - margin // split for b in box]
    low = [max(-s, 0) for s in start]
    high = [min(spread.shape[n + 1], grid.shape[n + 1] - start[n]) for n in (0, 1)]
    part = image[:, start[0] + low[0] : start[0] + high[0], start[1] + low[1] : start[1] + high[1]]
    part += spread[:, low[0] : high[0], low[1] : high[1]]
    return image


def beam_error_hu(
    cells: Cells, stuff_hu: dict[Stuff, float], grid: ImageGrid, kernel: Kernel, beam: Beam, water: Water, seed: int
) -> Values:
    """What the beam adds to each voxel, HU; [k, j, i]."""
    layers, split = cells.split[0], cells.split[1]
    pixel = float(grid.spacing_mm[0])
    result = np.zeros(grid.shape, np.float32)
    steel = cells.share[:, Stuff.STEEL] + cells.share[:, Stuff.DENSE] * np.float32(
        stuff_hu[Stuff.DENSE] / stuff_hu[Stuff.STEEL]
    )
    titanium = cells.share[:, Stuff.TITANIUM]
    metal = np.flatnonzero(steel + titanium > 0.0)
    if metal.size == 0 or beam.strength == 0.0:
        return result
    layer, plane = np.divmod(cells.index[metal], cells.shape[1] * cells.shape[2])
    through = slice_weights(kernel, grid.shape[0], layers)
    counts = (cells.shape[0], cells.shape[1] * cells.shape[2])
    maps = [through @ sparse.csr_array((v[metal], (layer, plane)), shape=counts) for v in (steel, titanium)]
    cell = pixel / split
    bin_mm = max(cell, 0.45)
    across = float(np.hypot(*grid.shape[1:])) * pixel
    bins = int(np.ceil(across / bin_mm)) + 5
    angles = (np.arange(beam.views) + 0.5) * np.pi / beam.views
    cosine, sine = np.cos(angles), np.sin(angles)
    offset: FloatArray = np.asarray((np.arange(bins) - (bins - 1) / 2.0) * bin_mm, dtype=np.float64)
    chords = np.stack([water.chord_mm(angle, offset) for angle in angles])
    transfer = kernel.transfer(frequencies_per_mm(bins, bin_mm))
    hu = (stuff_hu[Stuff.STEEL], stuff_hu[Stuff.TITANIUM])
    shift = beam.shifts_mm(seed) / bin_mm
    for k in range(grid.shape[0]):
        paths = []
        for sheet in maps:
            row = sheet[[k]].tocoo()
            j, i = np.divmod(row.coords[1], cells.shape[2])
            x = ((i + 0.5) - cells.shape[2] / 2.0) * cell
            y = ((j + 0.5) - cells.shape[1] / 2.0) * cell
            area = row.data * np.float32(cell * cell)
            paths.append(project(x.astype(np.float32), y.astype(np.float32), area, cosine, sine, bins, bin_mm))
        if not any(np.any(path) for path in paths):
            continue
        moved = [shifted(path, shift) for path in paths]
        wrong = error_sinogram(moved[0], moved[1], chords, hu, beam, seed + 7919 * k)
        # what the shaken metal would read without errors, minus where it stands
        for path, there, value in zip(paths, moved, hu, strict=True):
            wrong += (there - path) * value / 1000.0
        rows = filtered(wrong, bin_mm, transfer)
        result[k] = back_project(rows, cosine, sine, bin_mm, grid.shape[1:], pixel)
    # equivalent mm of water a mm are water's attenuation: times 1000 it is HU
    return result * np.float32(1000.0 * beam.strength)
