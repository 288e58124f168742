"""What lies under a path: image series with every problem, structure files, and what was ignored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from iort_planner.errors import ImageError
from iort_planner.imaging.dicom.candidates import Candidate, OnRequest
from iort_planner.imaging.dicom.pixels import Progress
from iort_planner.imaging.dicom.sources import FileSource, Source
from iort_planner.imaging.geometry_checks import Problem
from iort_planner.imaging.hu import HuAnswer
from iort_planner.imaging.series import find_candidates, hu_problem, load_candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesReport:
    """One image series as `inspect` shows it.

    ``plannable`` means that no problem has the status ``fail``. Sizes and spacings are in the order i, j, k;
    they are None where the files do not say them, or not with one voice. ``axes`` are the patient directions (L, R, P, A, S,
    I) that i, j, k run nearest to, ``obliquity_deg`` how far the worst of them is off.
    """

    series_uid: str
    kind: str
    modality: str
    size_voxels: tuple[int, int, int] | None
    spacing_mm: tuple[float, float, float] | None
    hu_calibrated: bool
    plannable: bool
    problems: tuple[Problem, ...]
    axes: tuple[str, str, str] | None
    obliquity_deg: float | None
    description: str
    patient_position: str
    acquired_at: str | None
    file_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureReport:
    """One structure file as `inspect` shows it.

    ``rois`` are its structures as (number, name), ``series_uids`` the series found beside it in the same frame of
    reference. ``problem`` says why it could not be read; empty if it could.
    """

    name: str
    kind: str
    rois: tuple[tuple[int, str], ...]
    series_uids: tuple[str, ...]
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Everything found under a path: image series, structure files, and what else lay there with how often."""

    series: tuple[SeriesReport, ...]
    structures: tuple[StructureReport, ...]
    ignored: tuple[tuple[str, int], ...]


def inspect_path(path: Path, progress: Progress | None = None) -> list[SeriesReport]:
    """List the image series under a path with their geometry and every problem.

    Raises
    ------
    ImageError
        If there is no such path or no image there.
    """
    return list(survey_path(path, progress).series)


def survey_path(path: Path, progress: Progress | None = None) -> Survey:
    """`inspect_path` together with structure files and what was ignored."""
    with find_candidates(path, OnRequest()) as (candidates, structures, ignored):
        return Survey(
            series=tuple(_report(c, progress) for c in candidates),
            structures=tuple(_structure_report(source, candidates) for source in structures),
            ignored=ignored,
        )


def _report(candidate: Candidate, progress: Progress | None) -> SeriesReport:
    first = candidate.first
    problems, hu = candidate.problems, candidate.header_hu
    grid = candidate.grid
    if candidate.obstacle is None:
        try:
            image = load_candidate(candidate, Path(), progress)
        except ImageError as error:
            hu = HuAnswer(calibrated=False, reason="pixels cannot be read")
            problems = (*problems, Problem(id="pixels-unreadable", status="fail", message=str(error)))
        else:
            problems, grid = image.problems, image.volume.grid
            hu = HuAnswer(calibrated=image.volume.hu_calibrated, reason="")
    else:
        if candidate.slices:  # of other objects nothing is known
            problems = (*problems, *hu_problem(hu))
        hu = HuAnswer(calibrated=False, reason=hu.reason or "pixels were not read")
    size = grid.size_voxels if grid is not None else None
    if size is None and len(candidate.files) == 1 and first.layout.frames > 1:
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
        axes=grid.axis_letters if grid is not None else None,
        obliquity_deg=round(grid.obliquity_deg, 3) if grid is not None else None,
        description=first.description,
        patient_position=first.patient_position,
        acquired_at=candidate.acquired_at,
        file_count=len(candidate.files),
    )


def _structure_report(source: Source, candidates: list[Candidate]) -> StructureReport:
    from iort_planner.imaging.structures.read import list_structures

    if not isinstance(source, FileSource):
        problem = "in an archive: unpack it to use its structures"
        return StructureReport(name=source.name, kind="", rois=(), series_uids=(), problem=problem)
    try:
        found = list_structures(source.path)
    except ImageError as error:
        return StructureReport(name=source.name, kind="", rois=(), series_uids=(), problem=str(error))
    frames = frozenset(found.frame_of_reference_uids)
    beside = tuple(c.first.series_uid for c in candidates if c.frames_of_reference & frames)
    return StructureReport(name=source.name, kind=found.kind, rois=found.rois, series_uids=beside, problem="")


def _spacing(spacing_mm: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float, float]:
    i, j, k = (round(float(v), 9) for v in spacing_mm)
    return (i, j, k)
