"""From a scan to a plan folder: the main job as one call, for the command line and for scripts."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iort_planner import library
from iort_planner.applicator import read_applicator
from iort_planner.dose.water import dose_grid, dose_on_grid
from iort_planner.errors import CanalNotFoundError, InputError, NeedleNotFoundError
from iort_planner.geometry.canal import SpinalCanal, canal_from_points, segment_canal
from iort_planner.geometry.canal_surface import canal_from_mask, canal_mask
from iort_planner.geometry.distance import canal_distances
from iort_planner.geometry.needle import Confidence, Needle, locate_needle, manual_needle
from iort_planner.imaging.series import ScanImage, load_series
from iort_planner.output import PLAN_FOLDER, whole_folder
from iort_planner.planning.checks import CanalFile
from iort_planner.planning.make import make_plan
from iort_planner.planning.prescription import Prescription
from iort_planner.report.folder import write_plan_folder
from iort_planner.source.table_file import read_table

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from iort_planner.applicator import Applicator
    from iort_planner.imaging.dicom.pixels import Progress
    from iort_planner.imaging.volume import Volume
    from iort_planner.planning.plan import Plan

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What a plan is asked for; the names are those of the command line's options.

    Parameters
    ----------
    path : Path
        A folder, file, zip archive or DICOMDIR with one series that can be planned (or several and ``series``).
    resample_tilt, accept_mixed_frames : bool
        Read a stack with gantry tilt, or slices of several frames of reference; each is recorded as a warning.
    tip, axis : tuple of 3 float or None
        Needle by hand, both or none: LPS mm, and any non-zero direction from the tip towards the hub.
    needle_hint : tuple of 3 float or None
        A point near the needle for the automatic search, LPS mm.
    canal_file, canal_roi
        RTSTRUCT, DICOM SEG, NIfTI or NRRD label map, and the structure in it, by name or number.
    canal_points : tuple of points
        Points of the canal's wall by hand, LPS mm.
    source, applicator : str
        Library name or file.
    """

    path: Path
    series: str | None = None
    resample_tilt: bool = False
    accept_mixed_frames: bool = False
    tip: Point | None = None
    axis: Point | None = None
    needle_hint: Point | None = None
    canal_file: Path | None = None
    canal_roi: str | None = None
    canal_points: tuple[Point, ...] = ()
    source: str = library.DEFAULT_TABLE
    applicator: str = library.DEFAULT_APPLICATOR
    prescription: Prescription = field(default_factory=Prescription)
    pictures: bool = True

    def __post_init__(self) -> None:
        if (self.tip is None) != (self.axis is None):
            raise InputError("--tip and --axis belong together; give both, or neither for the automatic needle")
        if self.tip is not None and self.needle_hint is not None:
            raise InputError("--needle-hint is for the automatic needle; give it without --tip and --axis")
        if self.canal_file is not None and self.canal_points:
            raise InputError("--canal and --canal-point exclude each other; give one of them")
        if self.canal_roi is not None and self.canal_file is None:
            raise InputError("--canal-roi chooses a label of a file; give --canal FILE too")


def plan_scan(
    out: Path,
    request: PlanRequest,
    *,
    step: Callable[[str], None] = lambda _: None,
    slices: Progress | None = None,
) -> Plan:
    """Plan a scan and write the plan folder ``out``, whole or not at all; see `plan_into`."""
    for given in (request.canal_file, Path(request.source), Path(request.applicator)):
        if given is not None and given.exists() and out.resolve() in given.resolve().parents:
            raise InputError(f"{given} lies in the output folder, which is replaced whole; give another --out")
    with whole_folder(out, PLAN_FOLDER) as folder:
        return plan_into(folder, request, step=step, slices=slices)


def plan_into(
    folder: Path,
    request: PlanRequest,
    *,
    shown_path: Path | None = None,
    created: dt.datetime | None = None,
    step: Callable[[str], None] = lambda _: None,
    slices: Progress | None = None,
) -> Plan:
    """Plan a scan and write the plan folder's files into an existing empty folder.

    Parameters
    ----------
    shown_path : Path, optional
        Where the image will stand in the end, when it is planned before it is moved there.
    step : callable
        Called with the name of each step before it starts.
    slices : callable, optional
        Called with (slices read, slices in all) while the scan is read.

    Raises
    ------
    IortError
        For anything that cannot be used or found; the message says what to do.
    """
    step("tables")
    table, applicator = read_table(request.source), read_applicator(request.applicator)
    step("scan")
    image = load_series(
        request.path,
        request.series,
        slices,
        resample_tilt=request.resample_tilt,
        accept_mixed_frames=request.accept_mixed_frames,
    )
    # Absolute, so that 'view' finds it from anywhere; a name that is no UTF-8 is written with escapes.
    shown = str((shown_path or request.path).absolute()).encode("utf-8", "backslashreplace").decode("utf-8")
    image = replace(image, path=shown)
    with _scan_warnings(image):
        step("needle")
        needle = _needle(request, image.volume, applicator)
        step("canal")
        canal, mask, file = _canal(request, image, needle, applicator)
    step("dose and checks")
    plan = make_plan(
        image=image,
        needle=needle,
        canal=canal,
        table=table,
        applicator=applicator,
        prescription=request.prescription,
        canal_file=file,
        canal_mask=mask,
        created=created,
    )
    grid = dose_grid([needle.source_lps_mm], image.volume.grid)
    dose = dose_on_grid(table, [needle.source_lps_mm], [plan.result.dwell_time_s], grid)
    return write_plan_folder(
        folder,
        plan=plan,
        volume=image.volume,
        canal_mask=mask,
        dose_gy=dose,
        dose_grid=grid,
        pictures=request.pictures,
        step=step,
    )


@contextmanager
def _scan_warnings(image: ScanImage) -> Iterator[None]:
    """Where nothing is found, say what the scan itself warns of: that may be why."""
    try:
        yield
    except (NeedleNotFoundError, CanalNotFoundError) as error:
        if not image.problems:
            raise
        warned = ", ".join(dict.fromkeys(problem.id for problem in image.problems))
        raise type(error)(f"{error} (the scan itself has warnings: {warned}; see inspect)") from error


def _automatic(volume: Volume, needle: Needle, applicator: Applicator) -> tuple[float | None, bool]:
    """How far the automatic canal is from the source centre, to compare a given one with, and whether it is sure."""
    try:
        canal = segment_canal(volume, needle.source_lps_mm, needle.axis_lps)
        distance = canal_distances(needle, applicator, canal).distance_from_source_mm
    except CanalNotFoundError:
        return None, False
    return distance, canal.confidence is Confidence.HIGH


def _needle(request: PlanRequest, volume: Volume, applicator: Applicator) -> Needle:
    if request.tip is not None and request.axis is not None:
        return manual_needle(volume, applicator, np.array(request.tip), np.array(request.axis))
    hint = None if request.needle_hint is None else np.array(request.needle_hint)
    if hint is not None and not (np.all(np.isfinite(hint)) and volume.grid.contains(hint)):
        raise InputError(f"--needle-hint {hint.tolist()} lies outside the image; give patient coordinates in mm (LPS)")
    return locate_needle(volume, applicator, hint)


def _canal(
    request: PlanRequest, image: ScanImage, needle: Needle, applicator: Applicator
) -> tuple[SpinalCanal, npt.NDArray[np.uint8] | None, CanalFile | None]:
    grid = image.volume.grid
    if request.canal_points:
        points = np.array(request.canal_points)
        outside = ~(np.all(np.isfinite(points), axis=1) & grid.contains(points))
        if np.any(outside):
            raise InputError(
                f"--canal-point {points[outside][0].tolist()} lies outside the image; give patient coordinates in mm (LPS)"
            )
        return canal_from_points(points, hu_calibrated=image.volume.hu_calibrated), None, None
    if request.canal_file is not None:
        from iort_planner.imaging.structures.read import read_structure

        structure = read_structure(
            request.canal_file, grid, frames_of_reference=image.frames_of_reference, roi=request.canal_roi
        )
        mask = structure.mask.astype(np.uint8)
        with request.canal_file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        canal = canal_from_mask(
            mask,
            grid,
            needle.source_lps_mm,
            file_spacing_mm=structure.spacing_mm,
            hu_calibrated=image.volume.hu_calibrated,
        )
        automatic_mm, sure = _automatic(image.volume, needle, applicator)
        file = CanalFile(
            name=request.canal_file.name,
            automatic_mm=automatic_mm,
            automatic_sure=sure,
            sha256=digest,
            structure=structure.roi,
            frame_verified=structure.frame_verified,
            notes=structure.notes,
        )
        return canal, mask, file
    canal = segment_canal(image.volume, needle.source_lps_mm, needle.axis_lps)
    return canal, canal_mask(canal, grid), None
