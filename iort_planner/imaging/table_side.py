"""On which side of the patient the CT table lies, when the image shows it; and whether the label agrees.

A table is a thin sheet (or two, with foam between) outside the body that is flat or slightly curved, wide, and the same
in every slice, because the patient lies along it. It is looked for in a projection along the patient's axis, which
keeps only what stays in place from slice to slice. Whatever is less than convincing gives no answer: most intraoperative
scans are cut too close to show a table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iort_planner.imaging.volume import Volume
from iort_planner.units import FloatArray

# Cells of the projection; carbon shells of 1 to 2 mm still fill half of one.
CELL_MM = 2.0
_SUBSAMPLES = 2  # voxels looked at in a cell along x and along y
_LEVEL = 0.05  # index steps over the whole image that are rounding
_MOST_SLICES = 16
_LEAST_LENGTH_MM = 20.0  # along the patient's axis; a shorter stack cannot show that something stays in place
_LEAST_SLICES = 4
# What stays in place: as bright in three of four slices. Own choice; drapes and wires move by more than a cell.
_PERSISTENT_PERCENTILE = 25.0
# Carbon shells of five real tables measure -320 to 800 HU, their foam and the cushions on them -990 to -830.
_SOLID_HU = -600.0
# Own choices below. A shell, or two close together, is at most this thick; a body wall is thicker.
_SHEET_MM = 12.0
_GAP_MM = 4.0  # of foam or air between the sheet and what comes next
_BODY_MM = 30.0
_WIDTH_MM = 100.0
_BODY_SHARE = 0.6  # the sheet spans at least this share of the body's width in the image
_COVERED, _CLEAR = 0.9, 0.6  # of the columns within its span it is there; and thin, with nothing touching it
_OFF_MM = 3.0  # from a parabola
_LEAST_RADIUS_MM = 200.0  # the real ones: 240 mm and flatter; a blanket follows the body, 100 to 200 mm
_STEEPEST = 0.27  # 15 degrees
_TRIALS, _REFINED, _LEAST_COLUMNS = 200, 6, 10

# DICOM PS3.3 C.7.3.1.1.2: supine, prone, decubitus right and left (that side down), whichever end goes in first.
_DOWN = {"P": (0.0, -1.0), "S": (0.0, 1.0), "DR": (-1.0, 0.0), "DL": (1.0, 0.0)}
_SIDES = {(0.0, 1.0): "posterior", (0.0, -1.0): "anterior", (-1.0, 0.0): "right", (1.0, 0.0): "left"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TableSide:
    """Where the table is.

    Parameters
    ----------
    direction_lps : ndarray of shape (3,)
        Unit axis of the patient from the body towards the table: one of +x, -x, +y, -y.
    evidence : str
        What was seen, for people.
    """

    direction_lps: FloatArray
    evidence: str

    @property
    def name(self) -> str:
        """``posterior``, ``anterior``, ``left`` or ``right``."""
        return _SIDES[(float(self.direction_lps[0]), float(self.direction_lps[1]))]


def table_side(volume: Volume) -> TableSide | None:
    """Find the CT table in a calibrated CT.

    Parameters
    ----------
    volume : Volume
        HU; of any orientation.

    Returns
    -------
    TableSide or None
        None when no table is seen, or not on exactly one side; and for values that are not HU.
    """
    if not volume.hu_calibrated:
        return None
    projection = _projection(volume)
    if projection is None:
        return None
    found = []
    for x, y in _SIDES:
        # depth grows from the outer edge of this side towards the body
        view = projection if y else projection.T
        view = view[::-1] if x + y > 0 else view
        evidence = _sheet(view)
        if evidence is not None:
            found.append(TableSide(direction_lps=np.array([x, y, 0.0]), evidence=evidence))
    return found[0] if len(found) == 1 else None


def table_contradiction(volume: Volume, patient_position: str) -> str | None:
    """A sentence for a warning when the table lies on another side than Patient Position says, else None.

    DICOM PS3.3 C.7.3.1.1.2: supine (HFS, FFS) on the back, prone (HFP, FFP) on the front, decubitus right or left
    (HFDR, FFDR; HFDL, FFDL) on that side. None as well where no table is seen or the position is not one of the eight.
    """
    down = _DOWN.get(patient_position[2:]) if patient_position[:2] in {"HF", "FF"} else None
    if down is None:
        return None
    table = table_side(volume)
    if table is None or table.name == _SIDES[down]:
        return None
    return (
        f"the table lies on the patient's {table.name} side in the image ({table.evidence}), but Patient Position "
        f"{patient_position} puts it on the {_SIDES[down]} side; check the label, and that the image is not mirrored"
    )


def _projection(volume: Volume) -> npt.NDArray[np.float32] | None:
    """What stays in place along z: HU by (y, x) in cells, NaN outside the image; None for too short a stack."""
    grid = volume.grid
    corners = grid.corners_lps_mm()
    low, high = corners.min(axis=0), corners.max(axis=0)
    length = float(high[2] - low[2])
    count = min(_MOST_SLICES, int(length / max(grid.voxel_extent_mm(np.array([0.0, 0.0, 1.0])), 0.5)))
    if length < _LEAST_LENGTH_MM or count < _LEAST_SLICES:
        return None
    step = CELL_MM / _SUBSAMPLES
    nx, ny = (int((high[n] - low[n]) / CELL_MM) * _SUBSAMPLES for n in (0, 1))
    if min(nx, ny) * step < _WIDTH_MM:
        return None
    x, y = low[0] + step * (np.arange(nx) + 0.5), low[1] + step * (np.arange(ny) + 0.5)
    heights = low[2] + length * (np.arange(count) + 0.5) / count
    planes = np.full((count, ny // _SUBSAMPLES, nx // _SUBSAMPLES), np.nan, dtype=np.float32)
    for plane, z in zip(planes, heights, strict=True):
        _fill(plane, volume, x, y, float(z))
    seen = np.sum(~np.isnan(planes), axis=0)
    planes.sort(axis=0)  # NaN last
    rank = np.clip((seen - 1) * (_PERSISTENT_PERCENTILE / 100.0), 0, None).astype(np.intp)
    result: npt.NDArray[np.float32] = np.take_along_axis(planes, rank[None], axis=0)[0]
    needed = max(_LEAST_SLICES, int(np.ceil(_LEAST_LENGTH_MM / length * count)))
    result[seen < needed] = np.nan
    return result


def _fill(plane: npt.NDArray[np.float32], volume: Volume, x: FloatArray, y: FloatArray, z: float) -> None:
    """Brightest voxel of each cell of one plane across the patient, by nearest neighbours."""
    grid = volume.grid
    start, along_x, along_y = grid.lps_to_index([[x[0], y[0], z], [x[-1], y[0], z], [x[0], y[-1], z]])
    inside: npt.NDArray[np.bool_] = np.ones((1, 1), dtype=bool)
    index = []
    for n, size in enumerate(grid.size_voxels):
        columns = np.linspace(start[n] + 0.5, along_x[n] + 0.5, len(x), dtype=np.float32)[None, :]
        rows = np.linspace(0.0, along_y[n] - start[n], len(y), dtype=np.float32)[:, None]
        # an image axis at right angles to x or y needs no whole plane of indices: the usual, fast case
        columns = columns if np.ptp(columns) > _LEVEL else columns[:, :1]
        rows = rows if np.ptp(rows) > _LEVEL else rows[:1]
        axis = np.floor(columns + rows).astype(np.int32)
        inside = inside & (axis >= 0) & (axis < size)
        index.append(np.clip(axis, 0, size - 1, out=axis))
    sampled = volume.values[index[2], index[1], index[0]].astype(np.float32)
    sampled = np.where(inside, sampled, np.float32(-np.inf))
    sampled = np.broadcast_to(sampled, (len(y), len(x)))
    brightest = np.maximum(sampled[:, ::2], sampled[:, 1::2])
    brightest = np.maximum(brightest[::2], brightest[1::2])
    plane[...] = np.where(np.isneginf(brightest), np.float32(np.nan), brightest)


def _sheet(view: npt.NDArray[np.float32]) -> str | None:
    """A table in a projection whose first axis leads from outside to the body; the second runs along its width."""
    solid = view > _SOLID_HU  # NaN is not
    runs = _runs(solid)
    body = np.array([any(end - start >= _BODY_MM / CELL_MM for start, end in column) for column in runs])
    body_width = CELL_MM * int(body.sum())
    if body_width < _WIDTH_MM / 2:
        return None
    lateral, depth = _thin_runs(view, runs)
    if len(set(lateral.tolist())) * CELL_MM < _WIDTH_MM:
        return None
    curve, columns = _best_parabola(lateral, depth)
    if curve is None:
        return None
    span = np.arange(columns[0], columns[-1] + 1)
    width = CELL_MM * len(span)
    if width < max(_WIDTH_MM, _BODY_SHARE * body_width) or len(columns) < _CLEAR * len(span):
        return None
    # where something lies on the sheet it is not thin, but still there
    at = np.clip(np.rint(np.polyval(curve, span)).astype(int), 1, len(view) - 2)
    there = solid[at, span] | solid[at - 1, span] | solid[at + 1, span]
    if np.mean(there) < _COVERED:
        return None
    radius = CELL_MM / max(2.0 * abs(curve[0]), 1e-6)
    bend = "flat" if radius > 2000.0 else f"curved, radius {radius:.0f} mm"
    return f"a thin sheet {width:.0f} mm wide outside the body, {bend}"


def _runs(solid: npt.NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """Solid runs [start, end) of each column, from outside inwards."""
    padded = np.zeros((solid.shape[0] + 2, solid.shape[1]), dtype=np.int8)
    padded[1:-1] = solid
    change = np.diff(padded, axis=0)
    result = []
    for n in range(solid.shape[1]):
        starts, ends = np.flatnonzero(change[:, n] == 1), np.flatnonzero(change[:, n] == -1)
        result.append(list(zip(starts.tolist(), ends.tolist(), strict=True)))
    return result


def _thin_runs(
    view: npt.NDArray[np.float32], runs: list[list[tuple[int, int]]]
) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Column and depth of everything thin that lies before the body, with foam or air behind it."""
    lateral, depth = [], []
    gap = int(_GAP_MM / CELL_MM)
    for n, column in enumerate(runs):
        for start, end in column:
            if end - start >= _BODY_MM / CELL_MM:
                break
            # what the image's edge cuts may be the rest of something thick: a chest wall before the lung
            whole = start > 0 and not np.isnan(view[start - 1, n])
            behind = view[end : end + gap, n]
            if whole and (end - start) * CELL_MM <= _SHEET_MM and len(behind) == gap and np.all(behind < _SOLID_HU):
                lateral.append(n)
                depth.append((start + end - 1) / 2.0)
    return np.array(lateral, dtype=np.intp), np.array(depth)


def _best_parabola(lateral: npt.NDArray[np.intp], depth: FloatArray) -> tuple[FloatArray | None, npt.NDArray[np.intp]]:
    """The parabola (in cells) that most columns lie on, and those columns; random triples with a fixed seed."""
    rng = np.random.default_rng(0)
    three = rng.integers(0, len(lateral), (_TRIALS, 3))
    at = lateral[three].astype(np.float64)
    at.sort(axis=1)
    order = np.argsort(lateral[three], axis=1)
    apart = np.min(np.diff(at, axis=1), axis=1) * CELL_MM >= _WIDTH_MM / 8
    at, heights = at[apart], np.take_along_axis(depth[three], order, axis=1)[apart]
    if not len(at):
        return None, lateral[:0]
    curves = np.linalg.solve(at[..., None] ** np.array([2, 1, 0]), heights[..., None])[..., 0]
    fits = np.abs(curves @ lateral[None, :] ** np.array([[2], [1], [0]]) - depth) * CELL_MM <= _OFF_MM
    best: tuple[FloatArray | None, npt.NDArray[np.intp]] = (None, lateral[:0])
    for n in np.argsort(-fits.sum(axis=1), kind="stable")[:_REFINED]:
        near = fits[n]
        for _ in range(2):
            curve = np.polyfit(lateral[near], depth[near], 2)
            near = np.abs(np.polyval(curve, lateral) - depth) * CELL_MM <= _OFF_MM
            if len(set(lateral[near].tolist())) < _LEAST_COLUMNS:
                break
        columns = np.unique(lateral[near])
        if len(columns) < max(_LEAST_COLUMNS, len(best[1]) + 1):
            continue
        slope = abs(curve[0] * float(columns[0] + columns[-1]) + curve[1])
        if 2.0 * abs(curve[0]) / CELL_MM <= 1.0 / _LEAST_RADIUS_MM and slope <= _STEEPEST:
            best = (curve, columns)
    return best
