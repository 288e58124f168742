"""Slices to one regular grid, or the reasons why not; and the limits on what a plan accepts of a scan.

Only position, orientation and pixel spacing of each slice count here. Instance Number, Slice Location,
Slice Thickness and Spacing Between Slices are not read at all: scanners fill them in too many ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from iort_planner.imaging.tilt import Tilt
from iort_planner.imaging.volume import COSINE_TOLERANCE, ImageGrid
from iort_planner.units import FloatArray

Status: TypeAlias = Literal["pass", "warn", "fail"]

# Neighbouring gaps may differ by 1 % of the spacing, and by 0.01 mm where that is more: positions are
# often written with two decimals. Our own choice: at 1 mm it displaces a point by a tenth of what we claim.
GAP_TOLERANCE = 0.01
GAP_TOLERANCE_FLOOR_MM = 0.01
# Sideways drift of slice positions against the slice normal. Our own choice: far above what rounding of
# cosines to 6 digits does over 400 mm (0.0004 mm), far below a gantry tilt (1 degree over 50 mm: 0.9 mm).
SIDEWAYS_TOLERANCE_MM = 0.05
# Pixel spacings may differ as far as that displaces no pixel of the slice by more than this. Our own choice.
PIXEL_SPACING_DRIFT_MM = 0.01
# Three slices are the least from which an even spacing can be seen at all.
MIN_SLICES = 3

# Interface of the tool: a spacing over 1.25 mm is a warning, over 3 mm a failure (id scan-coarse).
COARSE_WARN_MM = 1.25
COARSE_FAIL_MM = 3.0
_COARSE_SLACK_MM = 1e-6  # 1.25 written as a sum of floats is still 1.25

# DICOM PS3.3 C.7.3.1.1.2, Patient Position, for patients on a table.
PATIENT_POSITIONS = frozenset({"HFP", "HFS", "HFDR", "HFDL", "FFP", "FFS", "FFDR", "FFDL"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One finding about a series: a stable id, ``warn`` or ``fail``, and one line for people."""

    id: str
    status: Status
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePlane:
    """Where one slice lies, as its file says it.

    Parameters
    ----------
    name : str
        What to call the slice in messages (the file's name).
    rows, columns : int
    spacing_ij_mm : tuple of 2 float
        Distance of neighbouring pixel centres along i (from column to column) and j (from row to row).
        DICOM Pixel Spacing has them the other way round: first between rows, then between columns.
    row_lps, column_lps : tuple of 3 float
        Direction in which i grows (along a row) and j grows (down a column).
    position_lps_mm : tuple of 3 float
        Centre of the first pixel.
    frame_of_reference_uid : str
    """

    name: str
    rows: int
    columns: int
    spacing_ij_mm: tuple[float, float]
    row_lps: tuple[float, float, float]
    column_lps: tuple[float, float, float]
    position_lps_mm: tuple[float, float, float]
    frame_of_reference_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Slices in order along their normal: ``order[k]`` is the given slice at index k.

    The grid is None where the slices cannot be placed. Slices of several frames of reference have a grid
    and a problem: their numbers fit together, but nothing says that the numbers mean the same.
    The tilt is there exactly when the slices are evenly tilted and nothing else (but the frames of reference)
    is wrong with them: then `resample_tilt` can make them straight.
    """

    order: tuple[int, ...]
    grid: ImageGrid | None
    problems: tuple[Problem, ...]
    tilt: Tilt | None = None


def coarse_status(spacing_mm: float) -> Status:
    """Status of the check ``scan-coarse`` for the largest of an image's three spacings, in mm."""
    if spacing_mm > COARSE_FAIL_MM + _COARSE_SLACK_MM:
        return "fail"
    return "warn" if spacing_mm > COARSE_WARN_MM + _COARSE_SLACK_MM else "pass"


def patient_position_known(patient_position: str) -> bool:
    """Whether Patient Position holds one of the terms DICOM defines for a patient on a table."""
    return patient_position in PATIENT_POSITIONS


def coarse_problem(grid: ImageGrid) -> Problem | None:
    """The finding ``scan-coarse``, if the grid's largest spacing calls for it."""
    spacing = float(np.max(grid.spacing_mm))
    status = coarse_status(spacing)
    if status == "pass":
        return None
    verdict = (
        f"over {COARSE_FAIL_MM:g} mm: too coarse to plan on" if status == "fail" else f"over {COARSE_WARN_MM:g} mm"
    )
    text = f"voxels are {spacing:.3g} mm apart, {verdict}; scan or reconstruct thinner slices"
    return Problem(id="scan-coarse", status=status, message=text)


def stack_slices(planes: Sequence[SlicePlane]) -> Stack:
    """Order slices along their normal and lay a regular grid through them.

    The k axis is row x column, so the grid is right-handed and positions grow along it.

    Parameters
    ----------
    planes : sequence of SlicePlane, in any order

    Returns
    -------
    Stack
        Without a problem of status ``fail``, or with problems that name files and numbers.
    """
    everything = tuple(range(len(planes)))
    if len(planes) < MIN_SLICES:
        found = f"{len(planes)} slice" + ("" if len(planes) == 1 else "s")
        return _refused(
            everything,
            "too-few-slices",
            f"only {found} of this series here, a volume needs at least {MIN_SLICES}; give the whole series' folder",
        )
    problems = [p for p in (_orientation(planes), *_mixed(planes)) if p is not None]
    if any(p.id in {"bad-orientation", "mixed-orientation"} for p in problems):
        return Stack(order=everything, grid=None, problems=tuple(problems))

    first = planes[0]
    row, column = np.array(first.row_lps), np.array(first.column_lps)
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    positions = np.array([p.position_lps_mm for p in planes])
    along = positions @ normal
    order = sorted(everything, key=lambda n: (along[n], planes[n].name))
    along, positions = along[order], positions[order]
    names = [planes[n].name for n in order]

    spacing = float(along[-1] - along[0]) / (len(planes) - 1)
    gap_problems = _gaps(names, along)
    problems += gap_problems
    if not any(p.id == "duplicate-position" for p in gap_problems):
        problems += _sideways(names, positions, normal)
    faults = {p.id for p in problems} - {"frame-of-reference-mixed"}
    size = (first.columns, first.rows, len(planes))
    spacing_mm = np.array([*first.spacing_ij_mm, spacing])
    axes = np.column_stack([row, column, normal])
    if faults == {"tilted-stack"}:
        drift = (positions[-1] - positions[0]) @ axes[:, :2] / (len(planes) - 1)
        tilt = Tilt(
            size_voxels=size, spacing_mm=spacing_mm, shift_ij_mm=drift, origin_lps_mm=positions[0], direction=axes
        )
        return Stack(order=tuple(order), grid=None, problems=tuple(problems), tilt=tilt)
    if faults:
        return Stack(order=tuple(order), grid=None, problems=tuple(problems))
    grid = ImageGrid(size_voxels=size, spacing_mm=spacing_mm, origin_lps_mm=positions[0], direction=axes)
    return Stack(order=tuple(order), grid=grid, problems=tuple(problems))


def _refused(order: tuple[int, ...], problem_id: str, message: str) -> Stack:
    return Stack(order=order, grid=None, problems=(Problem(id=problem_id, status="fail", message=message),))


def _orientation(planes: Sequence[SlicePlane]) -> Problem | None:
    """Rows and columns must be unit vectors at right angles."""
    for plane in planes:
        axes = np.array([plane.row_lps, plane.column_lps])
        error = float(np.max(np.abs(axes @ axes.T - np.eye(2))))
        if error > COSINE_TOLERANCE:
            lengths = np.linalg.norm(axes, axis=1)
            return Problem(
                id="bad-orientation",
                status="fail",
                message=f"rows and columns of {plane.name} are no unit vectors at right angles: lengths "
                f"{lengths[0]:.6g} and {lengths[1]:.6g}, product {float(axes[0] @ axes[1]):.6g}, "
                f"limit {COSINE_TOLERANCE:g}; "
                "the file is damaged or not an image of the patient",
            )
    return None


def _mixed(planes: Sequence[SlicePlane]) -> list[Problem]:
    """What must be the same in every slice and is not; each kind once, with the first two files that differ."""
    first = planes[0]
    problems = []

    def report(problem_id: str, what: str, value: str, other: SlicePlane, other_value: str, count: int) -> None:
        more = f" (and {count - 1} more)" if count > 1 else ""
        remedy = "give one series of one scan"
        if problem_id == "frame-of-reference-mixed":
            remedy += ", or, if its source does so in every scan, read it with --accept-mixed-frames"
        text = f"{what} differs: {value} in {first.name}, {other_value} in {other.name}{more}; {remedy}"
        problems.append(Problem(id=problem_id, status="fail", message=text))

    sizes = [p for p in planes if (p.rows, p.columns) != (first.rows, first.columns)]
    if sizes:
        other = sizes[0]
        report(
            "mixed-size",
            "image size",
            f"{first.columns} x {first.rows}",
            other,
            f"{other.columns} x {other.rows}",
            len(sizes),
        )
    spacings = np.array([p.spacing_ij_mm for p in planes])
    drift = np.abs(spacings - spacings[0]) * max(first.rows, first.columns)
    if np.any(drift > PIXEL_SPACING_DRIFT_MM):
        differing = np.flatnonzero(np.any(drift > PIXEL_SPACING_DRIFT_MM, axis=1))
        other = planes[int(differing[0])]
        report(
            "mixed-pixel-spacing",
            "pixel spacing (i, j)",
            "{:g} x {:g} mm".format(*first.spacing_ij_mm),
            other,
            "{:g} x {:g} mm".format(*other.spacing_ij_mm),
            len(differing),
        )
    cosines = np.array([p.row_lps + p.column_lps for p in planes])
    turned = np.flatnonzero(np.max(np.abs(cosines - cosines[0]), axis=1) > COSINE_TOLERANCE)
    if len(turned):
        other = planes[int(turned[0])]
        report(
            "mixed-orientation",
            "orientation",
            _vector(first.row_lps + first.column_lps),
            other,
            _vector(other.row_lps + other.column_lps),
            len(turned),
        )
    frames = [p for p in planes if p.frame_of_reference_uid != first.frame_of_reference_uid]
    if frames:
        report(
            "frame-of-reference-mixed",
            "frame of reference",
            first.frame_of_reference_uid or "none",
            frames[0],
            frames[0].frame_of_reference_uid or "none",
            len(frames),
        )
    return problems


def _gaps(names: Sequence[str], along_mm: FloatArray) -> list[Problem]:
    """Equal distances along the normal; ``along_mm`` (N,) is sorted."""
    gaps = np.diff(along_mm)
    double = np.flatnonzero(gaps < GAP_TOLERANCE_FLOOR_MM)
    if len(double):
        n = int(double[0])
        more = f" ({len(double)} such pairs)" if len(double) > 1 else ""
        return [
            Problem(
                id="duplicate-position",
                status="fail",
                message=f"{names[n]} and {names[n + 1]} lie at one position, {along_mm[n]:.3f} and "
                f"{along_mm[n + 1]:.3f} mm along the normal{more}; remove one of the two, or name another series",
            )
        ]
    usual = float(np.median(gaps))
    tolerance = max(GAP_TOLERANCE * usual, GAP_TOLERANCE_FLOOR_MM) + 1e-6
    worst = int(np.argmax(np.abs(gaps - usual)))
    if abs(gaps[worst] - usual) > tolerance:
        missing = round(gaps[worst] / usual) - 1
        problem_id = "missing-slice" if missing >= 1 else "uneven-spacing"
        what = f"{missing} slice{'s' * (missing > 1)} missing" if missing >= 1 else "uneven slices"
        text = (
            f"{what} between {names[worst]} (at {along_mm[worst]:.3f} mm) and {names[worst + 1]} "
            f"(at {along_mm[worst + 1]:.3f} mm): {gaps[worst]:.3f} mm apart, usual {usual:.3f} mm"
        )
        text += f", tolerance {tolerance:.3f} mm; export the whole series again"
        return [Problem(id=problem_id, status="fail", message=text)]
    # Gaps that each pass can still add up: every slice must also lie at its own place of the regular grid.
    regular = np.linspace(along_mm[0], along_mm[-1], len(along_mm))
    n = int(np.argmax(np.abs(along_mm - regular)))
    if abs(along_mm[n] - regular[n]) > tolerance:
        return [
            Problem(
                id="uneven-spacing",
                status="fail",
                message=f"slices drift: {names[n]} lies at {along_mm[n]:.3f} mm where even slices from {names[0]} on "
                f"have {regular[n]:.3f} mm, tolerance {tolerance:.3f} mm; export the series again with even slices",
            )
        ]
    return []


def _sideways(names: Sequence[str], positions_lps_mm: FloatArray, normal: FloatArray) -> list[Problem]:
    """Slices must lie straight above each other; ``positions_lps_mm`` (N, 3) sorted along ``normal``."""
    offset = positions_lps_mm - positions_lps_mm[0]
    sideways = offset - np.outer(offset @ normal, normal)
    amount = np.linalg.norm(sideways, axis=1)
    n = int(np.argmax(amount))
    if amount[n] <= SIDEWAYS_TOLERANCE_MM:
        return []
    height = float(offset[n] @ normal)
    even = np.outer((offset @ normal) / (offset[-1] @ normal), sideways[-1])
    if np.max(np.linalg.norm(sideways - even, axis=1)) <= SIDEWAYS_TOLERANCE_MM:
        angle = float(np.degrees(np.arctan2(amount[-1], offset[-1] @ normal)))
        return [
            Problem(
                id="tilted-stack",
                status="fail",
                message=f"slices are stacked askew (gantry tilt): from {names[0]} to {names[-1]} they drift "
                f"{amount[-1]:.2f} mm sideways over {offset[-1] @ normal:.2f} mm, {angle:.2f} degrees, "
                f"limit {SIDEWAYS_TOLERANCE_MM:g} mm; "
                "read it with --resample-tilt, or give a scan without tilt",
            )
        ]
    return [
        Problem(
            id="shifted-slice",
            status="fail",
            message=f"{names[n]} lies {amount[n]:.2f} mm sideways of {names[0]} ({height:.2f} mm along the normal), "
            f"limit {SIDEWAYS_TOLERANCE_MM:g} mm; the slices are not of one scan",
        )
    ]


def _vector(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{v:.6g}" for v in values) + ")"
