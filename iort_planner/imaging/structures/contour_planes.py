"""Contours sorted into the parallel planes they were drawn on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from iort_planner.errors import ImageError
from iort_planner.imaging.volume import ImageGrid
from iort_planner.units import FloatArray

# Points may lie this far from their common plane, and planes nearer than this are one: contours are written
# with two decimals as a rule, and a tenth of a millimetre is far below any distance claimed here. Our own choice.
PLANE_TOLERANCE_MM = 0.1
# Contours this close to the image's own planes are taken to lie in them exactly: the fitted normal of small
# contours then needs no trust. Our own choice, the rounding of two decimals.
_IMAGE_PLANE_TOLERANCE_MM = 0.01
# Between planes further apart than this nothing is known of a canal of some 15 mm. Our own choice.
MAX_PLANE_SPACING_MM = 10.0
# A gap between planes is filled up to this many usual spacings; a wider one is where nothing was drawn, and
# may lie between two parts of a structure. Our own choice: one plane left out (2) is seen, uneven spacing is not.
BRIDGED_GAP = 1.5
# A line crosses another where its ends lie further than this to either side: touching is none. Our own choice.
_CROSSING_MM = 0.05
# The look for crossings serves a note alone, so its work is limited: edges compared, contours of a plane.
_MOST_PAIRS = 2_000_000
_MOST_COMPARED = 50
# Gaps over this many times the median say nothing of the usual spacing: contours on every third slice of a
# part of the structure are usual, further apart is a gap. Our own choice.
_OUTLYING_GAP = 3.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ContourPlanes:
    """Closed contours as edges in parallel planes.

    Parameters
    ----------
    axes : ndarray of shape (3, 3)
        Rows are unit vectors u, v (in the planes) and n (their normal) in LPS.
    row_axis : int
        The image's index axis (0 i, 1 j, 2 k) that lies nearest to the planes; u follows it.
    offsets_mm : ndarray of shape (P,), mm
        Where each plane lies along n, rising.
    edges_mm : tuple of P ndarrays of shape (E, 4), mm
        Edges u1, v1, u2, v2 of all contours of a plane.
    spacing_mm : float
        The usual distance of neighbouring planes.
    point_spacing_mm : float
        Median length of the edges.
    notes : tuple of str
    """

    axes: FloatArray
    row_axis: int
    offsets_mm: FloatArray
    edges_mm: tuple[FloatArray, ...]
    spacing_mm: float
    point_spacing_mm: float
    notes: tuple[str, ...]

    @property
    def bridged(self) -> npt.NDArray[np.bool_]:
        """Whether the gap after each plane but the last is filled."""
        return np.diff(self.offsets_mm) <= BRIDGED_GAP * self.spacing_mm


def sort_contours(contours: Sequence[FloatArray], grid: ImageGrid, what: str) -> ContourPlanes:
    """Find the planes of closed contours.

    Parameters
    ----------
    contours : sequence of ndarrays of shape (n, 3), mm
        Points of each contour in LPS; at least 3 each.
    grid : ImageGrid
        Of the image; its axes are preferred where the contours lie in its planes.
    what : str
        What to call the structure in messages.

    Raises
    ------
    ImageError
        If contours are not flat, not parallel, without area, in one plane only, or too far apart.
    """
    normal = _normal(contours, grid, what)
    row_axis = int(np.argmin(np.abs(normal @ grid.direction).round(9)))
    along_row = grid.direction[:, row_axis]
    if normal @ grid.direction[:, row_axis] < 0:
        normal = -normal
    u = along_row - (along_row @ normal) * normal
    u /= np.linalg.norm(u)
    axes = np.stack([u, np.cross(normal, u), normal])

    placed = [np.asarray(c, dtype=np.float64) @ axes.T for c in contours]
    placed.sort(key=lambda c: float(np.mean(c[:, 2])))
    planes: list[list[FloatArray]] = []
    starts: list[float] = []
    for contour in placed:
        offset = float(np.mean(contour[:, 2]))
        if not starts or offset - starts[-1] > PLANE_TOLERANCE_MM:
            starts.append(offset)
            planes.append([])
        planes[-1].append(contour)
    notes = []
    doubled = sum(_drop_doubles(plane) for plane in planes)
    if doubled:
        notes.append(f"{doubled} contour(s) that were there twice were taken once")
    crossing = _crossed_planes(planes)
    if crossing:
        notes.append(f"contours cross each other in {crossing} plane(s); what lies in two of them counts as outside")
    offsets = np.array([np.mean([np.mean(c[:, 2]) for c in plane]) for plane in planes])
    spacing = _usual_spacing(offsets, what)
    edges = tuple(np.concatenate([_edges(c) for c in plane]) for plane in planes)
    lengths = np.concatenate([np.hypot(e[:, 2] - e[:, 0], e[:, 3] - e[:, 1]) for e in edges])
    return ContourPlanes(
        axes=axes,
        row_axis=row_axis,
        offsets_mm=offsets,
        edges_mm=edges,
        spacing_mm=spacing,
        point_spacing_mm=float(np.median(lengths[lengths > 0])),
        notes=tuple(notes),
    )


def _normal(contours: Sequence[FloatArray], grid: ImageGrid, what: str) -> FloatArray:
    """The common normal of all contours: of the image's axes if one fits, else by least squares."""
    centred = np.concatenate([c - c.mean(axis=0) for c in contours])
    for axis in grid.direction.T[::-1]:
        if np.max(np.abs(centred @ axis)) <= _IMAGE_PLANE_TOLERANCE_MM:
            normal: FloatArray = axis / np.linalg.norm(axis)
            break
    else:
        strengths, vectors = np.linalg.eigh(centred.T @ centred)
        normal = vectors[:, 0]
        if strengths[1] <= PLANE_TOLERANCE_MM**2 * len(centred):
            raise ImageError(f"{what} has contours without area: their points lie on a line; draw it again")
    away = np.abs(centred @ normal)
    if np.max(away) > PLANE_TOLERANCE_MM:
        start = 0
        for n, contour in enumerate(contours, start=1):
            own = centred[start : start + len(contour)]
            start += len(contour)
            bent = float(np.max(np.abs(own @ np.linalg.eigh(own.T @ own)[1][:, 0])))
            if bent > PLANE_TOLERANCE_MM:
                raise ImageError(
                    f"{what}: contour {n} is not flat, a point lies {bent:.2f} mm out of its plane, limit "
                    f"{PLANE_TOLERANCE_MM:g} mm; draw it again"
                )
        raise ImageError(
            f"{what}: its contours do not lie in parallel planes ({np.max(away):.2f} mm apart from them, limit "
            f"{PLANE_TOLERANCE_MM:g} mm); export it drawn in one orientation"
        )
    return normal


def _usual_spacing(offsets: FloatArray, what: str) -> float:
    if offsets.size < 2:
        raise ImageError(f"{what} is drawn in one plane only, so its thickness is unknown; draw it in at least two")
    gaps = np.sort(np.diff(offsets))
    gaps = gaps[gaps <= _OUTLYING_GAP * np.median(gaps)]
    # Half of the length lies in gaps up to this one: contours drawn densely in a short part do not count for all.
    usual = float(gaps[np.searchsorted(np.cumsum(gaps), 0.5 * np.sum(gaps))])
    if usual > MAX_PLANE_SPACING_MM:
        raise ImageError(
            f"{what} has its planes {usual:.1f} mm apart, limit {MAX_PLANE_SPACING_MM:g} mm; draw it in more planes"
        )
    return usual


def _drop_doubles(plane: list[FloatArray]) -> int:
    """Leave out contours that repeat another of the plane, nearly or point by point: by even and odd, both would vanish."""
    if len(plane) < 2:
        return 0
    kept: list[FloatArray] = []
    shapes: list[FloatArray] = []
    for contour in plane:
        shape = _shape(contour)
        if not any(_alike(shape, other) for other in shapes):
            shapes.append(shape)
            kept.append(contour)
    dropped = len(plane) - len(kept)
    plane[:] = kept
    return dropped


def _shape(contour: FloatArray) -> FloatArray:
    """Area in mm2, and the box (low u, low v, high u, high v) in mm."""
    u, v = contour[:, 0], contour[:, 1]
    area = 0.5 * abs(float(np.dot(u, np.roll(v, -1)) - np.dot(v, np.roll(u, -1))))
    return np.array([area, u.min(), v.min(), u.max(), v.max()])


def _alike(one: FloatArray, other: FloatArray) -> bool:
    """Whether two contours are the same but for how they were drawn: area within 10 %, box within 0.5 mm. Our own choice.

    A hole this large would leave a wall thinner than anything in the body that is drawn.
    """
    larger = max(one[0], other[0])
    return bool(abs(one[0] - other[0]) <= 0.1 * larger and np.max(np.abs(one[1:] - other[1:])) <= 0.5)


def _crossed_planes(planes: list[list[FloatArray]]) -> int:
    """Planes in which the lines of two contours cross: by even and odd, what both enclose is then left out."""
    left, found = _MOST_PAIRS, 0
    for plane in planes:
        if not 2 <= len(plane) <= _MOST_COMPARED:
            continue
        boxes = [(c[:, :2].min(axis=0), c[:, :2].max(axis=0)) for c in plane]
        for m, n in combinations(range(len(plane)), 2):
            if np.any(boxes[m][0] > boxes[n][1]) or np.any(boxes[n][0] > boxes[m][1]):
                continue
            left -= len(plane[m]) * len(plane[n])
            if left < 0:
                return found
            a, b = _edges(plane[m]), _edges(plane[n])
            if np.any(_apart(a, b) & _apart(b, a).T):
                found += 1
                break
    return found


def _apart(edges: FloatArray, others: FloatArray) -> npt.NDArray[np.bool_]:
    """For each of ``edges`` (rows) and ``others`` (columns): the other's ends lie on different sides of its line."""
    along = edges[:, 2:] - edges[:, :2]
    length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)
    side = [
        (
            along[:, None, 0] * (others[None, :, n + 1] - edges[:, None, 1])
            - along[:, None, 1] * (others[None, :, n] - edges[:, None, 0])
        )
        / length[:, None]
        for n in (0, 2)
    ]
    result: npt.NDArray[np.bool_] = (np.minimum(*side) < -_CROSSING_MM) & (np.maximum(*side) > _CROSSING_MM)
    return result


def _edges(contour: FloatArray) -> FloatArray:
    points = contour[:, :2]
    return np.concatenate([points, np.roll(points, -1, axis=0)], axis=1)
