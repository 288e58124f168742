"""A DICOM series to one image: which files belong together, in which order, where in the patient."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from iort_planner.errors import GeometryError, ImageError
from iort_planner.imaging.dicom.candidates import FRAMES_MIXED, TILT_RESAMPLED, Candidate, OnRequest, make_candidate
from iort_planner.imaging.dicom.pixels import Progress, StoredSlice, decode_slices
from iort_planner.imaging.dicom.sources import Source
from iort_planner.imaging.dicom.tags import quiet_pydicom
from iort_planner.imaging.geometry_checks import Problem
from iort_planner.imaging.hu import HuAnswer, hu_from_content, padding_above_air
from iort_planner.imaging.table_side import table_contradiction
from iort_planner.imaging.tilt import resample_tilt as make_straight
from iort_planner.imaging.volume import Volume, VoxelArray

_Ignored: TypeAlias = tuple[tuple[str, int], ...]
# Neighbouring slices differ by noise and by what changes in the body; in the median over a slice that is far below
# this. Our own choice.
RESCALE_STEP_HU = 100.0
NOISY_VALUES = 64  # our own choice: drawn pictures have fewer, a slice of a scan has hundreds
# Where no slice reaches after a tilted stack was made straight: air, as scanners pad it.
OUTSIDE_HU = -1024.0
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
    frames_of_reference : frozenset of str
        Frame of Reference UIDs that its slices name: one, as a rule; none; or several that were taken as one on request.
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
    frames_of_reference: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()


def load_series(
    path: Path,
    series_uid: str | None = None,
    progress: Progress | None = None,
    *,
    resample_tilt: bool = False,
    accept_mixed_frames: bool = False,
) -> ScanImage:
    """Load one series: CT, Enhanced CT, or 3-D fluoroscopy.

    Parameters
    ----------
    path : Path
        A folder (searched with all folders below it), a file, a zip archive or a DICOMDIR; other files and series may lie
        there too.
    series_uid : str or None
        Series Instance UID; may be left out where only one series can be planned.
    progress : callable or None
        Called with (slices done, slices in all) while pixels are read.
    resample_tilt : bool
        Make a stack with gantry tilt straight instead of refusing it; a warning says so.
    accept_mixed_frames : bool
        Take slices that name different frames of reference as one scan instead of refusing them; a warning says so.

    Returns
    -------
    ScanImage

    Raises
    ------
    ImageError
        If there is no such path, no image, no such series, several series and none named, a kind of
        file that is not supported, or pixels that cannot be decoded.
    GeometryError
        If the slices do not make one volume that can be placed; the message names files and numbers.
    """
    on_request = OnRequest(resample_tilt=resample_tilt, accept_mixed_frames=accept_mixed_frames)
    with find_candidates(path, on_request) as (candidates, _, _):
        chosen = _choose(candidates, series_uid, path)
        obstacle = chosen.obstacle
        if obstacle is not None:
            kind = GeometryError if chosen.has_geometry else ImageError
            uid = chosen.first.series_uid or "without UID"
            unreadable = next((p.message for p in chosen.problems if p.id == "unreadable-file"), None)
            also = f" (and {unreadable})" if unreadable else ""
            raise kind(f"series {uid} in {path} cannot be placed: {obstacle.message}{also}")
        return load_candidate(chosen, path, progress)


def load_again(path: Path, series_uid: str | None, check_ids: Collection[str]) -> ScanImage:
    """`load_series` as a plan with these checks read it: what was read on request is asked for again."""
    return load_series(
        path,
        series_uid,
        resample_tilt=TILT_RESAMPLED in check_ids,
        accept_mixed_frames=FRAMES_MIXED in check_ids,
    )


@contextmanager
def find_candidates(
    path: Path, on_request: OnRequest
) -> Iterator[tuple[list[Candidate], tuple[Source, ...], _Ignored]]:
    """Every series under ``path``, structure files, and what was ignored; files can be read as long as this is open."""
    from iort_planner.imaging.dicom.discovery import find_images

    with find_images(path) as found:
        notes = []
        if found.unreadable:
            text = (
                f"{len(found.unreadable)} file(s) could not be read, first {found.unreadable[0]}; "
                "if they belong to this series, slices are missing"
            )
            notes.append(Problem(id="unreadable-file", status="warn", message=text))
        yield [make_candidate(group, notes, on_request) for group in found.groups], found.structures, found.ignored


def _choose(candidates: list[Candidate], series_uid: str | None, path: Path) -> Candidate:
    if series_uid is not None:
        named = [c for c in candidates if c.first.series_uid == series_uid]
        if not named:
            raise ImageError(f"no series {series_uid} in {path}; there is {_listing(candidates)}")
        if len(named) > 1:
            raise ImageError(
                f"series {series_uid} names {len(named)} objects in {path} ({_listing(named)}); give the folder or file of one"
            )
        return named[0]
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
        f"{c.first.series_uid} ({c.first.modality or 'no modality'}, {len(c.files)} files)"
        for c in candidates[:_MOST_LISTED]
    ]
    more = len(candidates) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def load_candidate(candidate: Candidate, path: Path, progress: Progress | None) -> ScanImage:
    """Pixels and image of a candidate without obstacle."""
    values, hu, problems = _pixels(candidate, progress)
    grid = candidate.grid
    if grid is None or candidate.stack is None:
        raise GeometryError(f"series {candidate.first.series_uid} in {path} has no geometry")
    if candidate.stack.tilt is not None:
        outside = OUTSIDE_HU if hu.calibrated else float(values.min())
        values, grid = make_straight(values, candidate.stack.tilt, outside=outside)
    first = candidate.first
    frames = candidate.frames_of_reference
    volume = Volume(
        values=values,
        grid=grid,
        hu_calibrated=hu.calibrated,
        frame_of_reference_uid=next(iter(frames)) if len(frames) == 1 else "",
    )
    lies_otherwise = table_contradiction(volume, first.patient_position) if hu.calibrated else None
    if lies_otherwise is not None:
        problems = (*problems, Problem(id="patient-position-table", status="warn", message=lies_otherwise))
    return ScanImage(
        volume=volume,
        path=str(path),
        modality=first.modality,
        kind=candidate.kind,
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        acquired_at=candidate.acquired_at,
        patient_position=first.patient_position,
        patient=Patient(id=first.patient_id, birth_date=first.birth_date, sex=first.sex),
        frames_of_reference=frames,
        problems=problems,
    )


def _content(stored: Sequence[StoredSlice], values: VoxelArray, *, calibrated: bool) -> Iterator[Problem]:
    """What neighbouring slices show of a wrong export: one given twice, a step where the rescale changes."""
    same = next((k for k in range(len(values) - 1) if _same_picture(values[k], values[k + 1])), None)
    if same is not None:
        text = f"{stored[same].name} and {stored[same + 1].name} show the very same picture: is one of them missing?"
        yield Problem(id="same-picture", status="warn", message=text)
    for k in range(1, len(values)):
        if calibrated and stored[k].rescale != stored[k - 1].rescale:
            step = values[k, ::4, ::4].astype(np.float64) - values[k - 1, ::4, ::4]
            jump = float(np.median(step))
            if abs(jump) > RESCALE_STEP_HU:
                raise ImageError(
                    f"from {stored[k - 1].name} to {stored[k].name} the rescale changes and all values jump by {jump:.0f} HU, "
                    f"limit {RESCALE_STEP_HU:.0f}: one of them is wrong; export the series again"
                )


def _same_picture(one: VoxelArray, other: VoxelArray) -> bool:
    """Whether two slices are equal although they are noisy, as no two slices of a scan are."""
    return np.array_equal(one, other) and np.unique(one).size > NOISY_VALUES


def hu_problem(answer: HuAnswer) -> list[Problem]:
    """The finding that values are not HU, if they are not."""
    if answer.calibrated:
        return []
    text = f"values are not HU: {answer.reason}; only relative intensities are used"
    return [Problem(id="hu-not-calibrated", status="warn", message=text)]


def _pixels(candidate: Candidate, progress: Progress | None) -> tuple[VoxelArray, HuAnswer, tuple[Problem, ...]]:
    """Decode a candidate; its problems with those that only the pixels show."""
    stored = [s.stored for s in candidate.slices]
    with quiet_pydicom():
        values = decode_slices(stored, progress)
    hu = candidate.header_hu
    if hu.calibrated:
        hu = hu_from_content(values)
    inverted = next((s.frame.name for s in candidate.slices if s.file.layout.photometric == "MONOCHROME1"), None)
    if not hu.calibrated and inverted is not None:
        raise ImageError(
            f"{inverted} is MONOCHROME1 and its values are not HU ({hu.reason}): nothing says whether high values "
            "are dense or empty; export the series as MONOCHROME2"
        )
    problems = [*candidate.problems, *hu_problem(hu), *_content(stored, values, calibrated=hu.calibrated)]
    padding = padding_above_air(stored, values) if hu.calibrated else None
    if padding is not None:
        problems.append(Problem(id="padding-above-air", status="warn", message=padding))
    return values, hu, tuple(problems)
