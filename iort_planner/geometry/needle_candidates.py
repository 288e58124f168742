"""Where long straight metal lies in a scan: rough lines, to be measured later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

if TYPE_CHECKING:
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

# More metal than this is no needle with some screws (a 4.4 mm shaft of 170 mm at 0.3 mm voxels is 1e5): the
# threshold lies in the tissue. Our own choice; it also bounds the time.
_MOST_VOXELS = 3_000_000
_SHORTEST_MM = 15.0  # below about four diameters a direction means little; our own choice
_REACH_MM = 2.6  # metal of one needle lies within this of its line: cannula radius 2.7, bent by a little
_LINES_PER_PIECE = 4  # a needle that touches screws and a rod
_POINTS = 4000
_TRIALS = 400


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoughLine:
    """A straight run of metal.

    Parameters
    ----------
    centre_lps_mm, direction : ndarray of shape (3,)
    low_mm, high_mm : float
        Ends of the run along the direction, from the centre.
    """

    centre_lps_mm: FloatArray
    direction: FloatArray
    low_mm: float
    high_mm: float

    @property
    def length_mm(self) -> float:
        """Length of the run."""
        return self.high_mm - self.low_mm


def find_lines(volume: Volume, threshold: float) -> list[RoughLine]:
    """Straight runs of voxels above ``threshold``, longest first; empty if there are none or far too many."""
    flat = np.flatnonzero(volume.values.reshape(-1) > threshold)
    if not 20 <= flat.size <= _MOST_VOXELS:
        return []
    lines: list[RoughLine] = []
    smallest = 20
    labels = _pieces(flat, volume.values.shape)
    counts = np.bincount(labels)
    generator = np.random.default_rng(0)
    for label in np.argsort(counts)[::-1][:30]:
        if counts[label] < smallest:
            break
        members = flat[labels == label]
        if members.size > _POINTS:
            members = np.sort(generator.choice(members, _POINTS, replace=False))
        k, j, i = np.unravel_index(members, volume.values.shape)
        points = volume.grid.index_to_lps(np.stack([i, j, k], axis=-1))
        lines += _lines_of_piece(points, float(np.max(volume.grid.spacing_mm)), generator)
    return sorted(lines, key=lambda line: -line.length_mm)


def _pieces(flat: npt.NDArray[np.intp], shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """Connected pieces (by faces and by edges within rows and slices) of sorted flat indices.

    Labelling only the metal's own voxels keeps this independent of the image's size.
    """
    ni, nij = shape[2], shape[1] * shape[2]
    rows, columns = [], []
    for step in (1, ni, nij, ni + 1, ni - 1, nij + 1, nij - 1, nij + ni, nij - ni):
        position = np.minimum(np.searchsorted(flat, flat + step), flat.size - 1)
        hit = np.flatnonzero(flat[position] == flat + step)
        rows.append(hit)
        columns.append(position[hit])
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = sparse.coo_array((np.ones(row.size, dtype=np.bool_), (row, column)), shape=(flat.size, flat.size))
    labels: npt.NDArray[np.int32] = csgraph.connected_components(graph, directed=False)[1]
    return labels


def _lines_of_piece(points: FloatArray, coarse_mm: float, generator: np.random.Generator) -> list[RoughLine]:
    """The one line of an elongated piece, else the lines that random pairs of its points agree on."""
    reach = _REACH_MM + 0.5 * coarse_mm
    line = _refine(points, points.mean(axis=0), _main_direction(points), np.inf)
    if line is None:
        return []
    if np.quantile(_distance(points, line), 0.98) <= reach + 0.5:
        return [line] if line.length_mm >= _SHORTEST_MM else []
    lines: list[RoughLine] = []
    for _ in range(_LINES_PER_PIECE):
        if points.shape[0] < 20:
            break
        best = _most_agreed(points, generator)
        found = _refine(points, best[0], best[1], reach) if best is not None else None
        if found is None or found.length_mm < _SHORTEST_MM:
            break
        lines.append(found)
        points = points[_distance(points, found) > reach + 0.5]
    return lines


def _most_agreed(points: FloatArray, generator: np.random.Generator) -> tuple[FloatArray, FloatArray] | None:
    """Line through two points with the longest filled run along it (random sample consensus)."""
    sample = points if points.shape[0] <= 1500 else generator.choice(points, 1500, replace=False)
    first, second = (sample[generator.integers(0, sample.shape[0], _TRIALS)] for _ in range(2))
    gap = second - first
    length = np.linalg.norm(gap, axis=1)
    useful = length > _SHORTEST_MM
    if not np.any(useful):
        return None
    first, unit = first[useful], gap[useful] / length[useful, None]
    best, best_run = None, 0
    for origin, direction in zip(first, unit, strict=True):
        offset = sample - origin
        along = offset @ direction
        near = np.einsum("nd,nd->n", offset, offset) - along**2 < 1.5**2
        bins = np.unique(np.floor(along[near] / 2.0).astype(int))
        run = max((part.size for part in np.split(bins, np.flatnonzero(np.diff(bins) > 1) + 1)), default=0)
        if run > best_run:
            best, best_run = (origin, direction), run
    return best


def _refine(points: FloatArray, centre: FloatArray, direction: FloatArray, reach: float) -> RoughLine | None:
    """Fit a line to the points within ``reach`` and keep the longest run without a gap of 4 mm."""
    for _ in range(3):
        offset = points - centre
        along = offset @ direction
        inside = np.sqrt(np.maximum(np.einsum("nd,nd->n", offset, offset) - along**2, 0.0)) <= reach
        if np.count_nonzero(inside) < 20:
            return None
        order = np.sort(along[inside])
        pieces = np.split(order, np.flatnonzero(np.diff(order) > 4.0) + 1)
        longest = max(pieces, key=lambda piece: float(piece[-1] - piece[0]))
        inside &= (along >= longest[0]) & (along <= longest[-1])
        chosen = points[inside]
        centre, direction = chosen.mean(axis=0), _main_direction(chosen)
    along = (chosen - centre) @ direction
    return RoughLine(centre_lps_mm=centre, direction=direction, low_mm=float(along.min()), high_mm=float(along.max()))


def _main_direction(points: FloatArray) -> FloatArray:
    offset = points - points.mean(axis=0)
    result: FloatArray = np.linalg.eigh(offset.T @ offset)[1][:, -1]
    return result


def _distance(points: FloatArray, line: RoughLine) -> FloatArray:
    offset = points - line.centre_lps_mm
    along = offset @ line.direction
    result: FloatArray = np.sqrt(np.maximum(np.einsum("nd,nd->n", offset, offset) - along**2, 0.0))
    return result
