"""Closed planar contours to voxels: a voxel is in when its centre is inside.

Inside is even-odd over all contours of a plane, so a contour within another is a hole, and a keyhole's
channel of no width cancels. Between planes the shape is interpolated by signed distances (Raya and Udupa
1990, IEEE Trans Med Imaging 9:32); beyond an end, and at a gap that is not filled, a plane counts for half
the usual spacing.

The image's rows are laid across the planes' contours: crossings of a row with the edges of a contour are
exact numbers, for planes in any orientation, and cost grows with voxels and edges, not with their product.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from iort_planner.errors import ImageError
from iort_planner.imaging.structures.contour_planes import ContourPlanes
from iort_planner.imaging.volume import ImageGrid
from iort_planner.units import FloatArray

# A voxel centre this close to a contour's plane is in that plane: what lies in the next one cannot matter.
# Our own choice, a third of the rounding that positions with one decimal have.
_ON_PLANE_MM = 0.02
# Limits on work: a body drawn in 98 planes needs 0.4 million crossings and 0.8 million distances on an image of
# 512 x 512 x 400, and 3 million crossings on an oblique one; a canal a hundredth. Our own choice, 4 s at most.
MAX_CROSSINGS = 20_000_000
MAX_DISTANCES = 3_000_000
_CELLS_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of the image's part in the planes' coordinates; row r, voxel i: u0[r] + i su, v[r], d0[r] + i sd."""

    u0: FloatArray
    v: FloatArray
    d0: FloatArray
    u_step: float
    d_step: float
    length: int


def contour_mask(planes: ContourPlanes, grid: ImageGrid, what: str) -> tuple[npt.NDArray[np.bool_], list[str]]:
    """Voxels whose centres lie inside the structure.

    Returns
    -------
    mask : ndarray of shape (nk, nj, ni), bool
        May be empty.
    notes : list of str
        Gaps that were not filled.

    Raises
    ------
    ImageError
        If the contours need more work than any structure does.
    """
    mask = np.zeros(grid.shape, dtype=np.bool_)
    reach = 0.5 * planes.spacing_mm + _ON_PLANE_MM
    corners = _corners(planes, reach)
    index = grid.lps_to_index(corners)
    notes = _gap_notes(planes)
    if np.any(index.max(axis=0) < -0.5) or np.any(index.min(axis=0) > np.array(grid.size_voxels) - 0.5):
        return mask, notes
    low, high = grid.box_around(corners, 0.0)
    part = mask[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    by_rows = np.moveaxis(part, 2 - planes.row_axis, -1)
    rows = _rows(planes, grid.crop(low, high))
    _Painter(planes, rows, by_rows, what).paint()
    return mask, notes


def _corners(planes: ContourPlanes, reach_mm: float) -> FloatArray:
    """Corners, in LPS, of the box in the planes' coordinates that holds the structure."""
    points = np.concatenate([e[:, :2] for e in planes.edges_mm])
    (u0, v0), (u1, v1) = points.min(axis=0), points.max(axis=0)
    d0, d1 = planes.offsets_mm[0] - reach_mm, planes.offsets_mm[-1] + reach_mm
    box = np.array([(u, v, d) for u in (u0, u1) for v in (v0, v1) for d in (d0, d1)])
    result: FloatArray = box @ planes.axes
    return result


def _gap_notes(planes: ContourPlanes) -> list[str]:
    gaps = np.diff(planes.offsets_mm)[~planes.bridged]
    if not gaps.size:
        return []
    return [
        f"{gaps.size} gap(s) between contour planes were not filled (up to {gaps.max():.1f} mm wide, "
        f"usual {planes.spacing_mm:.1f} mm)"
    ]


def _rows(planes: ContourPlanes, part: ImageGrid) -> _Rows:
    origin, *along = part.index_to_lps(np.vstack([np.zeros(3), np.eye(3)])) @ planes.axes.T
    steps = [a - origin for a in along]
    axis = planes.row_axis
    others = [a for a in (2, 1, 0) if a != axis]  # in the order of the array's axes
    slow, fast = (np.arange(part.size_voxels[a], dtype=np.float64) for a in others)
    start = (origin + slow[:, None, None] * steps[others[0]] + fast[None, :, None] * steps[others[1]]).reshape(-1, 3)
    return _Rows(
        u0=start[:, 0].copy(),
        v=start[:, 1].copy(),
        d0=start[:, 2].copy(),
        u_step=float(steps[axis][0]),
        d_step=max(0.0, float(steps[axis][2])),
        length=part.size_voxels[axis],
    )


class _Painter:
    """Fills the mask slab by slab along the planes' normal; counts the work."""

    def __init__(self, planes: ContourPlanes, rows: _Rows, mask: npt.NDArray[np.bool_], what: str) -> None:
        self.planes, self.rows, self.mask, self.what = planes, rows, mask, what
        self.fast_count = mask.shape[1]
        self.by_depth = np.argsort(rows.d0, kind="stable")
        self.depths = rows.d0[self.by_depth]
        self.fall = rows.d_step * (rows.length - 1)
        self.crossings = self.distances = 0
        self.trees: dict[int, tuple[KDTree, npt.NDArray[np.intp]]] = {}

    def paint(self) -> None:
        offsets, half = self.planes.offsets_mm, 0.5 * self.planes.spacing_mm
        joined = self.planes.bridged
        for p, at in enumerate(offsets):
            on = _ON_PLANE_MM
            after = p + 1 < len(offsets) and bool(joined[p])
            before = p > 0 and bool(joined[p - 1])
            # Half a spacing beyond an end, its end included.
            self._slab(at - on if before else at - half - on, at + on if after else at + half + on, p, None)
            if after:
                self._slab(at + on, float(offsets[p + 1]) - on, p, p + 1)
            for old in [n for n in self.trees if n < p]:
                del self.trees[old]

    def _slab(self, low: float, high: float, p: int, q: int | None) -> None:
        """Voxels with low <= d < high: inside plane p, or between planes p and q."""
        rows = self.rows
        first, end = np.searchsorted(self.depths, [low - self.fall, high])
        if rows.d_step > 0:  # one more: the last voxel of a row may lie on the limit by rounding
            first = np.searchsorted(self.depths, low - self.fall - rows.d_step)
        if first >= end or high <= low:
            return
        chosen = self.by_depth[first:end]
        start, stop = self._windows(chosen, low, high)
        kept = stop > start
        chosen, start, stop = chosen[kept], start[kept], stop[kept]
        if not chosen.size:
            return
        width = int(np.max(stop - start))
        at_once = max(1, _CELLS_AT_ONCE // width)
        for n in range(0, chosen.size, at_once):
            some = slice(n, n + at_once)
            self._fill(chosen[some], start[some], stop[some], width, p, q)

    def _windows(
        self, chosen: npt.NDArray[np.intp], low: float, high: float
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """First and end voxel of each row in low <= d < high."""
        rows = self.rows
        if self.fall < 1e-6:  # a nanometre over a whole row: rows lie in the planes
            whole = (rows.d0[chosen] >= low) & (rows.d0[chosen] < high)
            return np.zeros(chosen.size, dtype=np.intp), np.where(whole, rows.length, 0)
        first, end = (np.ceil((limit - rows.d0[chosen]) / rows.d_step) for limit in (low, high))
        return np.clip(first, 0, rows.length).astype(np.intp), np.clip(end, 0, rows.length).astype(np.intp)

    def _fill(
        self,
        chosen: npt.NDArray[np.intp],
        start: npt.NDArray[np.intp],
        stop: npt.NDArray[np.intp],
        width: int,
        p: int,
        q: int | None,
    ) -> None:
        inside = self._inside(p, chosen, start, width)
        if q is not None:
            other = self._inside(q, chosen, start, width)
            r, w = np.nonzero((inside != other) & (np.arange(width) < (stop - start)[:, None]))
            if r.size:
                inside[r, w] = self._between(chosen[r], start[r] + w, p, q, inside[r, w])
        r, w = np.nonzero(inside & (np.arange(width) < (stop - start)[:, None]))
        slow, fast = np.divmod(chosen[r], self.fast_count)
        self.mask[slow, fast, start[r] + w] = True

    def _inside(
        self, p: int, chosen: npt.NDArray[np.intp], start: npt.NDArray[np.intp], width: int
    ) -> npt.NDArray[np.bool_]:
        """Even-odd inside of plane p for ``width`` voxels from ``start`` on, per row: crossings to the left."""
        rows, edges = self.rows, self.planes.edges_mm[p]
        # The lower end first: an edge and its reverse then cross at the very same number.
        up = np.where((edges[:, 1] <= edges[:, 3])[:, None], edges, edges[:, [2, 3, 0, 1]])
        order = np.argsort(rows.v[chosen], kind="stable")
        v = rows.v[chosen][order]
        first, end = np.searchsorted(v, up[:, 1]), np.searchsorted(v, up[:, 3])
        counts = end - first
        self.crossings += int(counts.sum())
        if self.crossings > MAX_CROSSINGS:
            raise ImageError(
                f"{self.what} has contours that cross the image's rows over {MAX_CROSSINGS} times; draw it simpler"
            )
        crossed = np.zeros((chosen.size, width + 1), dtype=np.bool_)
        for some in _portions(counts):
            count = counts[some]
            edge = np.repeat(up[some], count, axis=0)
            row = np.repeat(first[some], count) + np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            along = (v[row] - edge[:, 1]) / (edge[:, 3] - edge[:, 1])
            u = edge[:, 0] + along * (edge[:, 2] - edge[:, 0])
            row = order[row]
            voxel = np.ceil((u - rows.u0[chosen[row]]) / rows.u_step) - start[row]
            cell = row * (width + 1) + np.clip(voxel, 0, width).astype(np.intp)
            odd = np.bincount(cell, minlength=crossed.size) & 1
            crossed ^= odd.astype(np.bool_).reshape(crossed.shape)
        result: npt.NDArray[np.bool_] = np.logical_xor.accumulate(crossed, axis=1)[:, :width]
        return result

    def _between(
        self,
        row: npt.NDArray[np.intp],
        voxel: npt.NDArray[np.intp],
        p: int,
        q: int,
        in_p: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.bool_]:
        """Sign of the interpolated signed distance, for voxels that are inside one of the two planes only."""
        self.distances += 2 * row.size
        if self.distances > MAX_DISTANCES:
            raise ImageError(
                f"{self.what} has contours that differ too much from plane to plane (over {MAX_DISTANCES // 2} "
                "voxel centres lie in one of two neighbours only); draw it in more planes"
            )
        points = np.stack([self.rows.u0[row] + voxel * self.rows.u_step, self.rows.v[row]], axis=1)
        d = self.rows.d0[row] + voxel * self.rows.d_step
        low, high = self.planes.offsets_mm[p], self.planes.offsets_mm[q]
        weight = (d - low) / (high - low)
        to_p, to_q = (1 - weight) * self._distance(p, points), weight * self._distance(q, points)
        nearer: npt.NDArray[np.bool_] = np.where(in_p, to_p > to_q, to_q > to_p)
        return nearer

    def _distance(self, p: int, points: FloatArray) -> FloatArray:
        """Distance of points from the contours of plane p, mm."""
        edges = self.planes.edges_mm[p]
        if p not in self.trees:
            self.trees[p] = _sampled(edges, self.rows.u_step)
        tree, edge_of = self.trees[p]
        _, nearest = tree.query(points, k=2)
        best = np.full(len(points), np.inf)
        for n in range(2):
            edge = edges[edge_of[np.minimum(nearest[:, n], edge_of.size - 1)]]
            along = edge[:, 2:] - edge[:, :2]
            length = np.maximum(np.sum(along**2, axis=1), 1e-30)
            t = np.clip(np.sum((points - edge[:, :2]) * along, axis=1) / length, 0, 1)
            best = np.minimum(best, np.linalg.norm(edge[:, :2] + t[:, None] * along - points, axis=1))
        return best


def _portions(counts: npt.NDArray[np.intp]) -> list[slice]:
    """Runs of edges with about a million crossings each."""
    total = np.cumsum(counts)
    if not total.size or total[-1] <= _CELLS_AT_ONCE:
        return [slice(0, counts.size)] if total.size and total[-1] else []
    cuts = np.searchsorted(total, np.arange(_CELLS_AT_ONCE, total[-1], _CELLS_AT_ONCE)) + 1
    bounds = [0, *np.unique(cuts).tolist(), counts.size]
    return [slice(a, b) for a, b in pairwise(bounds) if b > a]


def _sampled(edges: FloatArray, step_mm: float) -> tuple[KDTree, npt.NDArray[np.intp]]:
    """Points along the edges, half a voxel apart (coarser on very long contours), and the edge of each."""
    lengths = np.hypot(edges[:, 2] - edges[:, 0], edges[:, 3] - edges[:, 1])
    step = max(0.5 * step_mm, float(lengths.sum()) / 20_000)
    counts = np.maximum(1, np.ceil(lengths / step).astype(np.intp))
    edge_of = np.repeat(np.arange(len(edges)), counts)
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    along = (place + 0.5) / counts[edge_of]
    points = edges[edge_of, :2] + along[:, None] * (edges[edge_of, 2:] - edges[edge_of, :2])
    return KDTree(points), edge_of
