"""Small finished inputs for the tests of planning: an image, a canal tube at a chosen distance, a needle."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import numpy as np

from iort_planner.applicator import Applicator, read_applicator
from iort_planner.dose.engine_dose import EngineDose
from iort_planner.dose.hu_curve import read_curve
from iort_planner.dose.spectrum import read_spectrum
from iort_planner.dose.tissue import TissueMap
from iort_planner.geometry.canal import SpinalCanal, canal_from_points
from iort_planner.geometry.needle import Confidence, Needle
from iort_planner.imaging.series import Patient, ScanImage
from iort_planner.imaging.volume import ImageGrid, Volume
from iort_planner.planning.given import Automatic, CanalFile, Cord, Correction
from iort_planner.planning.make import make_plan
from iort_planner.planning.output_of_day import OutputOfDay
from iort_planner.planning.plan import Plan
from iort_planner.planning.prescription import Prescription
from iort_planner.planning.second_check import DEFAULT_LIMITS, SecondCheckLimits
from iort_planner.planning.tissue_engine import TissueDose
from iort_planner.source.acceptance import Acceptance, AcceptanceStatus
from iort_planner.source.depth_dose import DepthDoseTable
from iort_planner.source.table_file import read_table
from iort_planner.source.tg43 import Tg43Source

NOW = dt.datetime(2026, 11, 22, 9, 30, tzinfo=dt.UTC)
TABLE = read_table()
APPLICATOR = read_applicator()
SOURCE_LPS_MM = np.array([1.0, 2.0, 3.0])
AXIS_LPS = np.array([0.0, 1.0, 0.0])


def output(ratio: float = 1.0, days_ago: int = 0) -> OutputOfDay:
    """An output of the day of the plan, or of a day before."""
    return OutputOfDay(ratio=ratio, date=NOW.date() - dt.timedelta(days=days_ago))


def accepted(table: DepthDoseTable, **changes: Any) -> AcceptanceStatus:
    """The bytes of ``table`` as accepted a month ago; ``changes`` override fields of the entry."""
    fields: dict[str, Any] = {
        "sha256": table.sha256,
        "name": table.name,
        "scale": table.scale.value,
        "by": "A. Physicist",
        "accepted_on": NOW - dt.timedelta(days=30),
        "until": None,
        "version": "0.1.0",
        **changes,
    }
    return AcceptanceStatus(state="accepted", acceptance=Acceptance(**fields))


def image(**changes: Any) -> ScanImage:
    """A 121 mm cube of soft tissue round the source; ``changes`` override fields of ScanImage or the volume."""
    spacing = float(changes.pop("spacing_mm", 1.0))
    size = int(changes.pop("size", 121))
    volume = Volume(
        values=np.full((size,) * 3, 40, dtype=np.int16),
        grid=ImageGrid(
            size_voxels=(size, size, size),
            spacing_mm=np.full(3, spacing),
            origin_lps_mm=SOURCE_LPS_MM - spacing * (size - 1) / 2,
            direction=np.eye(3),
        ),
        hu_calibrated=bool(changes.pop("hu_calibrated", True)),
        frame_of_reference_uid="1.2.3",
    )
    fields: dict[str, Any] = {
        "volume": volume,
        "path": "scan",
        "modality": "CT",
        "kind": "ct",
        "study_uid": "1.2",
        "series_uid": "1.2.1",
        "acquired_at": "2026-11-22T09:00:00+00:00",
        "patient_position": "HFP",
        "patient": Patient(id="Prüfkörper 1", birth_date="19600101", sex="F"),
        **changes,
    }
    return ScanImage(**fields)


def needle(**changes: Any) -> Needle:
    fields: dict[str, Any] = {
        "label": "1",
        "tip_lps_mm": SOURCE_LPS_MM - APPLICATOR.tip_to_source_mm * AXIS_LPS,
        "axis_lps": AXIS_LPS,
        "source_lps_mm": SOURCE_LPS_MM,
        "method": "auto",
        "confidence": Confidence.HIGH,
        "tip_uncertainty_mm": 0.2,
        "bending_mm": 0.1,
        **changes,
    }
    return Needle(**fields)


def canal(distance_mm: float = 12.0, **changes: Any) -> SpinalCanal:
    """One wall point sideways of the source; its distance is exact, its method a tube's."""
    points = canal_from_points(SOURCE_LPS_MM + np.array([[0.0, 0.0, distance_mm]]))
    return dataclasses.replace(points, **{"uncertainty_mm": 0.3, **changes})


def cord(distance_mm: float = 15.0, **changes: Any) -> Cord:
    """A small closed surface, a tetrahedron whose first corner is the point nearest to the source."""
    first = SOURCE_LPS_MM + np.array([0.0, 0.0, distance_mm])
    corners = first + np.array([[0, 0, 0], [2, 0, 4], [-1, 2, 4], [-1, -2, 4]], dtype=np.float64)
    fields: dict[str, Any] = {
        "name": "rtstruct.dcm",
        "sha256": "1" * 64,
        "structure": "2 SpinalCord",
        "frame_verified": True,
        "notes": (),
        "triangles_lps_mm": corners[np.array([[0, 2, 1], [0, 3, 2], [0, 1, 3], [1, 2, 3]])],
        **changes,
    }
    return Cord(**fields)


def correction() -> Correction:
    """One wall point, through which the canal now passes; it was 1.5 mm away and the canal 13.5 mm from the source."""
    return Correction(
        points_lps_mm=SOURCE_LPS_MM + np.array([[0.0, 0.0, 12.0]]), moved_mm=(1.5,), distance_before_mm=13.5
    )


def tissue(*, clinical: bool = True, metal: int = 0, ratio: float = 0.5, percent: float = 5.0) -> TissueDose:
    """An engine that says the same ratio everywhere, to so many percent; how many of its voxels were metal."""
    source = needle().source_lps_mm
    grid = image().volume.grid.parallel_around(source, reach_mm=50.0, spacing_mm=5.0)
    water = TissueMap.filled(grid, source)
    everywhere = np.full(grid.shape, ratio, np.float32)
    return TissueDose(
        dose=EngineDose(
            engine="raytrace",
            grid=grid,
            source_lps_mm=source,
            to_water=everywhere,
            to_medium=everywhere,
            primary_to_water=everywhere,
            uncertainty_percent=np.full(grid.shape, percent, np.float32),
        ),
        tissue=dataclasses.replace(water, counts=(("spongiosa", 1000 - metal), ("metal", metal))),
        curve=dataclasses.replace(read_curve(), clinical=clinical),
        spectrum=read_spectrum(),
    )


def plan(
    *,
    scan: ScanImage | None = None,
    at: Needle | None = None,
    wall: SpinalCanal | None = None,
    table: DepthDoseTable = TABLE,
    applicator: Applicator = APPLICATOR,
    tg43: Tg43Source | None = None,
    tissue: TissueDose | None = None,
    output: OutputOfDay | None = None,
    acceptance: AcceptanceStatus | None = None,
    second_check_limits: SecondCheckLimits = DEFAULT_LIMITS,
    canal_file: CanalFile | None = None,
    automatic: Automatic | None = None,
    correction: Correction | None = None,
    cord: Cord | None = None,
    other_needles: tuple[Needle, ...] = (),
    **prescription: Any,
) -> Plan:
    return make_plan(
        image=scan or image(),
        needle=at or needle(),
        canal=wall or canal(),
        table=table,
        applicator=applicator,
        prescription=Prescription(**prescription),
        tg43=tg43,
        tissue=tissue,
        output=output,
        acceptance=acceptance,
        second_check_limits=second_check_limits,
        canal_file=canal_file,
        automatic=automatic,
        correction=correction,
        cord=cord,
        other_needles=other_needles,
        created=NOW,
    )
