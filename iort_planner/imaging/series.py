"""A DICOM series to one image: which files belong together, in which order, where in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.errors import GeometryError, ImageError
from iort_planner.imaging.geometry_checks import Problem
from iort_planner.imaging.hu import HuAnswer, hu_from_content, padding_above_air
from iort_planner.imaging.pixels import Progress, decode_slices
from iort_planner.imaging.volume import Volume, VoxelArray

if TYPE_CHECKING:
    from iort_planner.imaging.candidates import Candidate

_MOST_LISTED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """Who the image says it is of; names are not kept.

    Parameters
    ----------
    id : str
        DICOM Patient ID.
    birth_date : str
        ISO 8601 date; empty when absent or malformed.
    sex : str
        ``M``, ``F``, ``O`` or empty.
    """

    id: str
    birth_date: str
    sex: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScanImage:
    """One series as a volume with what the plan records of it.

    Parameters
    ----------
    volume : Volume
    path : str
        The path it was read from, as given.
    modality, study_uid, series_uid : str
    kind : str
        ``ct``, ``ct-enhanced``, ``xa3d`` or ``other``.
    acquired_at : str or None
        ISO 8601 date and time (with offset where the file has one); the date alone where no time is given.
    patient_position : str
        DICOM Patient Position (HFP, FFS, ...), empty when absent; never used in geometry.
    patient : Patient
    problems : tuple of Problem
        What `inspect_path` says about this series; none of them kept it from being placed.
    """

    volume: Volume
    path: str
    modality: str
    kind: str
    study_uid: str
    series_uid: str
    acquired_at: str | None
    patient_position: str
    patient: Patient
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesReport:
    """One image series as `inspect` shows it.

    ``plannable`` means that no problem has the status ``fail``. Sizes and spacings are in the order i, j, k;
    they are None where the files do not say them, or not with one voice.
    """

    series_uid: str
    kind: str
    modality: str
    size_voxels: tuple[int, int, int] | None
    spacing_mm: tuple[float, float, float] | None
    hu_calibrated: bool
    plannable: bool
    problems: tuple[Problem, ...]
    description: str
    patient_position: str
    acquired_at: str | None
    file_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Everything found under a path: image series, and what else lay there with how often."""

    series: tuple[SeriesReport, ...]
    ignored: tuple[tuple[str, int], ...]


def load_series(path: Path, series_uid: str | None = None, progress: Progress | None = None) -> ScanImage:
    """Load one CT series from a folder, searched with all folders below it.

    Parameters
    ----------
    path : Path
        Folder with the series; other files and series may lie there too.
    series_uid : str or None
        Series Instance UID; may be left out where only one series can be planned.
    progress : callable or None
        Called with (slices done, slices in all) while pixels are read.

    Returns
    -------
    ScanImage

    Raises
    ------
    ImageError
        If there is no such path, no image, no such series, several series and none named, or a kind of
        file that is not supported.
    GeometryError
        If the slices do not make one volume that can be placed; the message names files and numbers.
    """
    candidates, _ = _find(path)
    chosen = _choose(candidates, series_uid, path)
    obstacle = chosen.obstacle
    if obstacle is not None:
        kind = ImageError if obstacle.id in {"not-supported", "localizer"} else GeometryError
        raise kind(f"series {chosen.first.series_uid or 'without UID'} in {path} cannot be placed: {obstacle.message}")
    return _load(chosen, path, progress)


def inspect_path(path: Path, progress: Progress | None = None) -> list[SeriesReport]:
    """List the image series under a path with their geometry and every problem.

    Raises
    ------
    ImageError
        If there is no such path or no image there.
    """
    return list(survey_path(path, progress).series)


def survey_path(path: Path, progress: Progress | None = None) -> Survey:
    """`inspect_path` together with what was ignored."""
    candidates, ignored = _find(path)
    return Survey(series=tuple(_report(c, progress) for c in candidates), ignored=ignored)


def _find(path: Path) -> tuple[list[Candidate], tuple[tuple[str, int], ...]]:
    """Every series under ``path``, and what was ignored there."""
    from iort_planner.imaging.candidates import make_candidate
    from iort_planner.imaging.discovery import find_images

    found = find_images(path)
    notes = []
    if found.unreadable:
        text = (
            f"{len(found.unreadable)} file(s) could not be read, first {found.unreadable[0]}; "
            "if they belong to this series, slices are missing"
        )
        notes.append(Problem(id="unreadable-file", status="warn", message=text))
    return [make_candidate(group, notes) for group in found.groups], found.ignored


def _choose(candidates: list[Candidate], series_uid: str | None, path: Path) -> Candidate:
    if series_uid is not None:
        named = [c for c in candidates if c.first.series_uid == series_uid]
        if not named:
            raise ImageError(f"no series {series_uid} in {path}; there is {_listing(candidates)}")
        return next((c for c in named if c.obstacle is None), named[0])
    placeable = [c for c in candidates if c.obstacle is None]
    plannable = [c for c in placeable if all(p.status != "fail" for p in c.problems)]
    for choice in (plannable, placeable, candidates):
        if len(choice) == 1:
            return choice[0]
        if choice:
            break
    if placeable:
        listing = _listing(plannable or placeable)
        raise ImageError(f"several series in {path} can be planned; choose one with --series UID: {listing}")
    reasons = "; ".join(
        f"{c.first.series_uid}: {c.obstacle.message}" for c in candidates[:_MOST_LISTED] if c.obstacle is not None
    )
    raise ImageError(f"none of the {len(candidates)} series in {path} can be planned: {reasons}")


def _listing(candidates: list[Candidate]) -> str:
    shown = [
        f"{c.first.series_uid} ({c.first.modality or 'no modality'}, {len(c.headers)} files)"
        for c in candidates[:_MOST_LISTED]
    ]
    more = len(candidates) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _load(candidate: Candidate, path: Path, progress: Progress | None) -> ScanImage:
    """Pixels and image of a candidate without obstacle."""
    values, hu, problems = _pixels(candidate, progress)
    if candidate.stack is None or candidate.stack.grid is None:
        raise GeometryError(f"series {candidate.first.series_uid} in {path} has no geometry")
    first = candidate.first
    return ScanImage(
        volume=Volume(
            values=values,
            grid=candidate.stack.grid,
            hu_calibrated=hu.calibrated,
            frame_of_reference_uid=first.frame_of_reference_uid,
        ),
        path=str(path),
        modality=first.modality,
        kind=candidate.kind,
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        acquired_at=candidate.acquired_at,
        patient_position=first.patient_position,
        patient=Patient(id=first.patient_id, birth_date=first.birth_date, sex=first.sex),
        problems=problems,
    )


def _hu_problem(answer: HuAnswer) -> list[Problem]:
    if answer.calibrated:
        return []
    text = f"values are not HU: {answer.reason}; only relative intensities are used"
    return [Problem(id="hu-not-calibrated", status="warn", message=text)]


def _pixels(candidate: Candidate, progress: Progress | None) -> tuple[VoxelArray, HuAnswer, tuple[Problem, ...]]:
    """Decode a candidate; its problems with those that only the pixels show."""
    from iort_planner.imaging.headers import quiet_pydicom

    stored = [h.stored for h in candidate.headers]
    with quiet_pydicom():
        values = decode_slices(stored, progress)
    hu = candidate.header_hu
    if hu.calibrated:
        hu = hu_from_content(values)
    problems = [*candidate.problems, *_hu_problem(hu)]
    padding = padding_above_air(stored, values) if hu.calibrated else None
    if padding is not None:
        problems.append(Problem(id="padding-above-air", status="warn", message=padding))
    return values, hu, tuple(problems)


def _report(candidate: Candidate, progress: Progress | None) -> SeriesReport:
    first = candidate.first
    problems = candidate.problems
    hu = candidate.header_hu
    grid = candidate.stack.grid if candidate.stack is not None else None
    if candidate.obstacle is None:
        try:
            _, hu, problems = _pixels(candidate, progress)
        except ImageError as error:
            hu = HuAnswer(calibrated=False, reason="pixels cannot be read")
            problems = (*problems, Problem(id="pixel-data-short", status="fail", message=str(error)))
    else:
        if candidate.kind == "ct":  # of the other kinds nothing is known yet
            problems = (*problems, *_hu_problem(hu))
        hu = HuAnswer(calibrated=False, reason=hu.reason or "pixels were not read")
    size = grid.size_voxels if grid is not None else None
    if size is None and candidate.kind != "ct" and len(candidate.headers) == 1 and first.layout.frames > 1:
        size = (first.layout.columns, first.layout.rows, first.layout.frames)
    return SeriesReport(
        series_uid=first.series_uid,
        kind=candidate.kind,
        modality=first.modality,
        size_voxels=size,
        spacing_mm=_spacing(grid.spacing_mm) if grid is not None else None,
        hu_calibrated=hu.calibrated,
        plannable=all(p.status != "fail" for p in problems),
        problems=problems,
        description=first.description,
        patient_position=first.patient_position,
        acquired_at=candidate.acquired_at,
        file_count=len(candidate.headers),
    )


def _spacing(spacing_mm: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float, float]:
    i, j, k = (round(float(v), 9) for v in spacing_mm)
    return (i, j, k)
