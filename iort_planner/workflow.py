"""From a scan to a plan folder: the main job as one call, for the command line and for scripts."""

from __future__ import annotations

import datetime as dt
import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iort_planner import library
from iort_planner.applicator import read_applicator
from iort_planner.dose.water import dose_grid, dose_on_grid
from iort_planner.errors import CanalNotFoundError, GeometryError, InputError, NeedleNotFoundError
from iort_planner.geometry.canal import SpinalCanal, canal_from_points, segment_canal
from iort_planner.geometry.canal_surface import canal_from_mask, canal_mask
from iort_planner.geometry.distance import point_to_wall, signed_distance_mm, wall_triangles
from iort_planner.geometry.needle import Confidence, Needle, locate_needles, manual_needle
from iort_planner.imaging.series import ScanImage, load_series
from iort_planner.output import PLAN_FOLDER, whole_folder
from iort_planner.planning.given import Automatic, CanalFile, Cord, Correction
from iort_planner.planning.level import describe_level
from iort_planner.planning.make import make_plan
from iort_planner.planning.output_of_day import OutputOfDay, table_of_the_day
from iort_planner.planning.prescription import Prescription
from iort_planner.planning.second_check import DEFAULT_LIMITS, SecondCheckLimits
from iort_planner.planning.tissue_engine import TISSUE_ENGINES, TissueInput, run_tissue_engine
from iort_planner.report.folder import write_plan_folder
from iort_planner.source.acceptance import status
from iort_planner.source.table_file import read_source, read_table
from iort_planner.source.tg43 import Tg43Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from iort_planner.applicator import Applicator
    from iort_planner.imaging.dicom.pixels import Progress
    from iort_planner.imaging.structures.read import Structure
    from iort_planner.imaging.volume import ImageGrid, Volume
    from iort_planner.planning.plan import Plan
    from iort_planner.source.depth_dose import DepthDoseTable
    from iort_planner.units import FloatArray

Point = tuple[float, float, float]
ENGINES = ("water", "tg43", *TISSUE_ENGINES)


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
        Points of the canal's wall by hand, LPS mm, in place of a canal: distances go to the nearest of them.
    canal_corrections : tuple of points
        Points of the canal's wall by hand, LPS mm: the canal, found or from the file, is changed to pass through them.
    cord_file, cord_roi
        Cord or thecal sac, files as for the canal; reported beside it, no limit refers to it.
    source, applicator : str
        Library name or file.
    engine : str
        ``water``; ``tg43`` for a source of that kind: its dose by the formalism itself is added to the water engine's;
        ``raytrace`` or ``montecarlo``: the dose in the tissues of a scan in HU is added.
    tissue : TissueInput
        For those two engines: HU curve, spectrum, the Monte Carlo's uncertainty and seed.
    output : OutputOfDay or None
        Output of the day, which every dose rate is multiplied by.
    second_check : SecondCheckLimits
        When the second check warns and fails; stricter than the defaults, never looser.
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
    canal_corrections: tuple[Point, ...] = ()
    cord_file: Path | None = None
    cord_roi: str | None = None
    source: str = library.DEFAULT_TABLE
    applicator: str = library.DEFAULT_APPLICATOR
    engine: str = "water"
    tissue: TissueInput = field(default_factory=TissueInput)
    output: OutputOfDay | None = None
    second_check: SecondCheckLimits = DEFAULT_LIMITS
    prescription: Prescription = field(default_factory=Prescription)
    pictures: bool = True

    def __post_init__(self) -> None:
        if (self.tip is None) != (self.axis is None):
            raise InputError("--tip and --axis belong together; give both, or neither for the automatic needle")
        if self.tip is not None and self.needle_hint is not None:
            raise InputError("--needle-hint is for the automatic needle; give it without --tip and --axis")
        if self.canal_points and (self.canal_file is not None or self.canal_corrections):
            raise InputError("points in place of a canal exclude a canal file and corrections; give one of them")
        if self.canal_roi is not None and self.canal_file is None:
            raise InputError("--canal-roi chooses a structure of a file; give --canal FILE too")
        if self.engine not in ENGINES:
            raise InputError(f"--engine {self.engine!r} must be one of {', '.join(ENGINES)}")
        self.tissue.require_for(self.engine)
        if self.cord_roi is not None and self.cord_file is None:
            raise InputError("--cord-roi chooses a structure of a file; give --cord FILE too")


def plan_scan(
    out: Path,
    request: PlanRequest,
    *,
    step: Callable[[str], None] = lambda _: None,
    slices: Progress | None = None,
    histories: Callable[[int, float], None] | None = None,
) -> Plan:
    """Plan a scan and write the plan folder ``out``, whole or not at all; see `plan_into`."""
    for given in (request.canal_file, request.cord_file, Path(request.source), Path(request.applicator)):
        if given is not None and given.exists() and out.resolve() in given.resolve().parents:
            raise InputError(f"{given} lies in the output folder, which is replaced whole; give another --out")
    with whole_folder(out, PLAN_FOLDER) as folder:
        return plan_into(folder, request, step=step, slices=slices, histories=histories)


def plan_into(
    folder: Path,
    request: PlanRequest,
    *,
    shown_path: Path | None = None,
    created: dt.datetime | None = None,
    step: Callable[[str], None] = lambda _: None,
    slices: Progress | None = None,
    histories: Callable[[int, float], None] | None = None,
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
    histories : callable, optional
        Called with (histories, uncertainty in percent) while a Monte Carlo runs.

    Raises
    ------
    IortError
        For anything that cannot be used or found; the message says what to do.
    """
    created = created or dt.datetime.now().astimezone()
    if request.output is not None:
        request.output.require_past(created.date())  # before the scan is read
    step("tables")
    applicator = read_applicator(request.applicator)
    table, tg43 = _source(request, applicator)
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
    if request.engine in TISSUE_ENGINES:
        from iort_planner.dose.tissue import require_hu

        require_hu(image.volume)  # before the needle is looked for
    with _scan_warnings(image):
        step("needle")
        needle, *others = _needles(request, image.volume, applicator)
        step("canal")
        wall = _wall(request, image, needle)
        cord = _cord(request, image, needle)
    step("level")
    level = describe_level(image.volume, needle, wall.canal)
    tissue = None
    if request.engine in TISSUE_ENGINES:
        step(f"dose in tissue ({request.engine})")
        tissue = run_tissue_engine(request.engine, image.volume, needle, applicator, request.tissue, histories)
    step("dose and checks")
    plan = make_plan(
        image=image,
        needle=needle,
        canal=wall.canal,
        table=table,
        applicator=applicator,
        prescription=request.prescription,
        tg43=tg43,
        tissue=tissue,
        output=request.output,
        acceptance=status(table, created.date()) if table.clinical else None,
        second_check_limits=request.second_check,
        canal_file=wall.file,
        automatic=wall.automatic,
        correction=wall.correction,
        canal_mask=wall.mask,
        cord=cord,
        level=level,
        other_needles=others,
        created=created,
    )
    grid = dose_grid([needle.source_lps_mm], image.volume.grid)
    dwells = ([needle.source_lps_mm], [plan.result.dwell_time_s], grid, [needle.axis_lps])
    doses = {"dose": dose_on_grid(table_of_the_day(table, request.output), *dwells)}
    if tissue is not None:
        if not tissue.dose.grid.same_as(grid):
            raise GeometryError(
                f"--engine {request.engine}: its grid is not the dose grid; an error of the program, report it"
            )
        doses[f"dose_{request.engine}"] = doses["dose"] * tissue.dose.to_water
        doses[f"dose_{request.engine}_to_medium"] = doses["dose"] * tissue.dose.to_medium
    if tg43 is not None:
        from iort_planner.dose import tg43 as formalism

        output = 1.0 if request.output is None else request.output.corrected_ratio
        doses["dose_tg43"] = formalism.dose_on_grid(tg43, *dwells, output)
    return write_plan_folder(
        folder,
        plan=plan,
        volume=image.volume,
        canal_mask=wall.mask,
        doses_gy=doses,
        dose_grid=grid,
        pictures=request.pictures,
        step=step,
    )


def _source(request: PlanRequest, applicator: Applicator) -> tuple[DepthDoseTable, Tg43Source | None]:
    """The table for the water engine, and the TG-43 source that it comes from, if it does."""
    if request.engine != "tg43":
        return read_table(request.source, applicator), None
    source = read_source(request.source, applicator)
    if isinstance(source, Tg43Source):
        from iort_planner.dose.tg43 import depth_dose_table

        return depth_dose_table(source), source
    raise InputError(
        f"--engine tg43 needs a TG-43 source, table {request.source!r} is of another kind (depth-dose); give --source FILE "
        "with a file of kind tg43, or leave out --engine"
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


def _automatic(volume: Volume, needle: Needle) -> Automatic:
    """How far the automatic canal is from the source centre, to compare a given one with, and whether it is sure."""
    try:
        return _compared(segment_canal(volume, needle.source_lps_mm, needle.axis_lps), needle)
    except CanalNotFoundError:
        return Automatic(distance_mm=None, sure=False)


def _compared(canal: SpinalCanal, needle: Needle) -> Automatic:
    distance = signed_distance_mm(needle.source_lps_mm, wall_triangles(canal))
    return Automatic(distance_mm=distance, sure=canal.confidence is Confidence.HIGH)


def _needles(request: PlanRequest, volume: Volume, applicator: Applicator) -> tuple[Needle, ...]:
    """The needle to plan with, then others that are seen; of one by hand nothing else is looked for."""
    if request.tip is not None and request.axis is not None:
        return (manual_needle(volume, applicator, np.array(request.tip), np.array(request.axis)),)
    hint = None if request.needle_hint is None else np.array(request.needle_hint)
    if hint is not None and not (np.all(np.isfinite(hint)) and volume.grid.contains(hint)):
        raise InputError(f"--needle-hint {hint.tolist()} lies outside the image; give patient coordinates in mm (LPS)")
    return locate_needles(volume, applicator, hint)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Wall:
    """The canal that a plan uses: its surface and label map, the file it is from, what was corrected."""

    canal: SpinalCanal
    mask: npt.NDArray[np.uint8] | None = None
    file: CanalFile | None = None
    correction: Correction | None = None
    automatic: Automatic | None = None


def _wall(request: PlanRequest, image: ScanImage, needle: Needle) -> _Wall:
    grid = image.volume.grid
    if request.canal_points:
        points = _inside(request.canal_points, grid)
        canal = canal_from_points(points, hu_calibrated=image.volume.hu_calibrated)
        return _Wall(canal=canal, automatic=_automatic(image.volume, needle))
    if request.canal_file is not None:
        wall = _from_file(request.canal_file, request.canal_roi, image, needle)
    else:
        canal = segment_canal(image.volume, needle.source_lps_mm, needle.axis_lps)
        wall = _Wall(canal=canal, mask=canal_mask(canal, grid))
    if not request.canal_corrections:
        return wall
    from iort_planner.geometry.canal_correct import correct_canal

    points, triangles = _inside(request.canal_corrections, grid), wall_triangles(wall.canal)
    canal = correct_canal(wall.canal, points)
    correction = Correction(
        points_lps_mm=points,
        moved_mm=tuple(point_to_wall(point, triangles).length_mm for point in points),
        distance_before_mm=point_to_wall(needle.source_lps_mm, triangles).length_mm,
    )
    automatic = wall.automatic if wall.file is not None else _compared(wall.canal, needle)
    return replace(wall, canal=canal, mask=canal_mask(canal, grid), correction=correction, automatic=automatic)


def _from_file(path: Path, roi: str | None, image: ScanImage, needle: Needle) -> _Wall:
    structure, digest = _structure(path, roi, image, "canal")
    mask = structure.mask.astype(np.uint8)
    canal = canal_from_mask(
        mask,
        image.volume.grid,
        needle.source_lps_mm,
        file_spacing_mm=structure.spacing_mm,
        hu_calibrated=image.volume.hu_calibrated,
    )
    file = CanalFile(
        name=path.name,
        sha256=digest,
        structure=structure.roi,
        frame_verified=structure.frame_verified,
        notes=structure.notes,
    )
    return _Wall(canal=canal, mask=mask, file=file, automatic=_automatic(image.volume, needle))


def _cord(request: PlanRequest, image: ScanImage, needle: Needle) -> Cord | None:
    if request.cord_file is None:
        return None
    structure, digest = _structure(request.cord_file, request.cord_roi, image, "cord")
    # The surface alone: the trust that a canal's shape deserves says nothing about a cord's.
    surface = canal_from_mask(structure.mask, image.volume.grid, needle.source_lps_mm)
    return Cord(
        name=request.cord_file.name,
        sha256=digest,
        structure=structure.roi,
        frame_verified=structure.frame_verified,
        notes=structure.notes,
        triangles_lps_mm=wall_triangles(surface),
    )


def _structure(path: Path, roi: str | None, image: ScanImage, preferred: str) -> tuple[Structure, str]:
    """A structure of a file on the image's grid, and the file's hash; for the canal or the cord."""
    from iort_planner.imaging.structures.read import read_structure

    structure = read_structure(
        path, image.volume.grid, frames_of_reference=image.frames_of_reference, roi=roi, preferred=preferred
    )
    with path.open("rb") as stream:
        return structure, hashlib.file_digest(stream, "sha256").hexdigest()


def _inside(given: tuple[Point, ...], grid: ImageGrid) -> FloatArray:
    """Points by hand as (N, 3) mm; refused where one lies outside the image."""
    points = np.array(given, dtype=np.float64)
    outside = ~(np.all(np.isfinite(points), axis=1) & grid.contains(points))
    if np.any(outside):
        raise InputError(
            f"--canal-point {points[outside][0].tolist()} lies outside the image; give patient coordinates in mm (LPS)"
        )
    return points
