"""The plan: a plain frozen value that is written to JSON and read back equal (docs/file-formats.md).

Everything after it (pictures, report, console) reads it and computes no physics.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

# by their own names too: a plan's parts are found in one module
from iort_planner.planning.plan_result import Band as Band
from iort_planner.planning.plan_result import Biology as Biology
from iort_planner.planning.plan_result import EngineResult as EngineResult
from iort_planner.planning.plan_result import PlanBiologicalDose as PlanBiologicalDose
from iort_planner.planning.plan_result import PlanCordLimit as PlanCordLimit
from iort_planner.planning.plan_result import PlanTissue as PlanTissue
from iort_planner.planning.plan_result import Result as Result
from iort_planner.planning.plan_result import Uncertainty as Uncertainty
from iort_planner.planning.plan_result import Vector as Vector
from iort_planner.planning.plan_source import PlanAcceptance as PlanAcceptance
from iort_planner.planning.plan_source import PlanOutput as PlanOutput
from iort_planner.planning.plan_source import PlanSecondCheck as PlanSecondCheck
from iort_planner.planning.plan_source import PlanSource as PlanSource
from iort_planner.units import format_time

if TYPE_CHECKING:
    import numpy.typing as npt

SCHEMA = "iort-planner/plan/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """What made the plan."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPatient:
    """Whom the image is of; names are not written."""

    id: str
    birth_date: str
    sex: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanImage:
    """The image that was planned on."""

    path: str
    modality: str
    kind: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    acquired_at: str | None
    patient_position: str
    size_voxels: tuple[int, int, int]
    spacing_mm: Vector
    hu_calibrated: bool
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanNeedle:
    """Where a needle stands; `iort_planner.geometry.needle.Needle` explains the fields. No centre line: straight."""

    label: str
    tip_lps_mm: Vector
    axis_lps: Vector
    source_lps_mm: Vector
    method: str
    confidence: str
    tip_uncertainty_mm: float
    bending_mm: float | None
    cannula_end_lps_mm: Vector | None
    centre_line_lps_mm: tuple[Vector, ...]
    tip_covariance_lps_mm2: tuple[Vector, Vector, Vector] | None
    content: str

    @property
    def content_text(self) -> str:
        """What was seen inside the sheath, for people."""
        return {
            "air": "hollow, air inside",
            "probe": "hollow, the probe inside",
            "solid": "solid",
        }.get(self.content, "inside not known")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSegment:
    """A distance with both ends, needle first; negative where the needle's part stands in the canal."""

    from_lps_mm: Vector
    to_lps_mm: Vector
    length_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSegments:
    """The least distances to the canal from the needle's parts."""

    source: PlanSegment
    tip: PlanSegment
    surface: PlanSegment
    shaft: PlanSegment


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCorrection:
    """A wall point by hand that the canal was made to pass through, and how far from it the wall was before."""

    point_lps_mm: Vector
    moved_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCanal:
    """How far the canal is; `iort_planner.geometry.distance.CanalDistances` explains the distances.

    ``wall_nearest``: what the wall nearest to the source rests on: ``bone``, ``interpolated``, ``drawn``, ``by hand``;
    ``wall_nearest_gap_mm``: from there to the nearest wall seen on bone, null where nothing tells.
    """

    method: str
    confidence: str
    nearest_point_lps_mm: Vector
    distance_from_source_mm: float
    distance_from_tip_mm: float
    distance_from_surface_mm: float
    shaft_clearance_mm: float
    polar_angle_deg: float
    uncertainty_mm: float
    structure: str
    file: str | None
    file_sha256: str | None
    file_structure: str | None
    map_sha256: str | None
    points_lps_mm: tuple[Vector, ...]
    segments: PlanSegments
    wall_nearest: str
    wall_nearest_gap_mm: float | None
    corrections: tuple[PlanCorrection, ...]
    uncorrected_distance_from_source_mm: float | None

    @property
    def wall_nearest_text(self) -> str:
        """What the wall nearest to the source rests on, for people."""
        gap = self.wall_nearest_gap_mm
        return self.wall_nearest + (f", {gap:.1f} mm to the nearest seen bone" if gap else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCord:
    """The cord or thecal sac as drawn, where one was given; no limit refers to it. Doses are null outside the table."""

    file: str
    sha256: str
    structure: str
    distance_from_source_mm: float
    distance_from_tip_mm: float
    nearest_point_lps_mm: Vector
    max_dose_point_lps_mm: Vector | None
    max_dose_gy: float | None
    max_dose_gy_rbe: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPathPart:
    """A piece of the way from the source centre to the nearest canal wall."""

    tissue: str
    length_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLevel:
    """The planned level: HU near the source, and what the way to the nearest canal wall crosses.

    The HU are those within ``lesion_radius_mm``, inside the vertebra, without needle and metal; null where unknown.
    ``wall``: ``cortex``, ``lytic`` (none is seen), ``metal`` or ``unknown``; ``note`` says why something is unknown.
    """

    lesion_mean_hu: float | None
    lesion_median_hu: float | None
    lesion_sd_hu: float | None
    lesion_radius_mm: float | None
    path: tuple[PlanPathPart, ...]
    wall: str
    note: str

    @property
    def hu_text(self) -> str:
        """The HU for people, with what they are of."""
        if self.lesion_mean_hu is None or self.lesion_sd_hu is None:
            return "unknown"
        return (
            f"{self.lesion_mean_hu:.0f} ± {self.lesion_sd_hu:.0f} HU (mean, SD) within {self.lesion_radius_mm:g} mm of the "
            "source centre, inside the vertebra, without needle and metal"
        )

    @property
    def wall_text(self) -> str:
        """What is seen of the canal's wall where it is nearest to the source, for people."""
        return {
            "cortex": "cortex seen at the canal's wall",
            "lytic": "no cortex seen at the canal's wall (destroyed, or a vein's gap)",
            "metal": "metal at the canal's wall",
        }.get(self.wall, "cortex at the canal's wall not clear")

    @property
    def path_text(self) -> str:
        """The way to the canal for people, piece by piece from the source centre."""
        names = {"hidden": "hidden by steel", "soft": "soft tissue"}
        pieces = (f"{names.get(part.tissue, part.tissue)} {part.length_mm:.1f} mm" for part in self.path)
        return ", ".join(pieces) or "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPrescription:
    """What was asked for; depths are null when the radius lies outside the table. The limit is the canal wall's."""

    dose_gy: float
    rbe: float
    dose_gy_rbe: float
    depth_mm: float | None
    depth_from: str
    depth_from_source_mm: float | None
    limit_gy: float
    limit_gy_rbe: float
    limit_structure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dwell:
    """Beam-on time at one source position."""

    needle: str
    source_lps_mm: Vector
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One safety check: its id (docs/checks.md), ``pass``, ``warn`` or ``fail``, and a sentence."""

    id: str
    status: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole plan; the names and units are those of plan.json."""

    schema: str
    verdict: str
    intended_use: str
    software: Software
    created: str
    patient: PlanPatient
    image: PlanImage
    needles: tuple[PlanNeedle, ...]
    canal: PlanCanal
    cord: PlanCord | None
    level: PlanLevel | None
    source: PlanSource
    prescription: PlanPrescription
    dwells: tuple[Dwell, ...]
    result: Result
    second_check: PlanSecondCheck
    checks: tuple[Check, ...]
    approval: None

    def to_json(self) -> str:
        """Text of plan.json; numbers are written so that they are read back exactly."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @property
    def dwell_time_text(self) -> str:
        """Dwell time for people, to the second; never rounded up past the largest safe time."""
        safe_s, time_s = self.result.max_safe_dwell_time_s, self.result.dwell_time_s
        rounding_is_unsafe = time_s <= safe_s * (1 + 1e-9) and round(time_s) > safe_s
        return format_time(math.floor(time_s) if rounding_is_unsafe else time_s)

    @property
    def max_safe_dwell_time_text(self) -> str:
        """Largest safe dwell time for people: whole seconds, rounded down."""
        return format_time(math.floor(self.result.max_safe_dwell_time_s))

    def with_checks(self, *more: Check) -> Plan:
        """The same plan with further checks and the verdict that follows."""
        checks = (*self.checks, *more)
        return dataclasses.replace(self, checks=checks, verdict=verdict(checks))


def verdict(checks: typing.Iterable[Check]) -> str:
    """The worst status of the checks."""
    order = ("pass", "warn", "fail")
    return order[max((order.index(check.status) for check in checks), default=0)]


def map_sha256(mask: npt.NDArray[np.uint8]) -> str:
    """Hash of a canal's label map: uint8 voxels in index order (i fastest)."""
    return hashlib.sha256(np.ascontiguousarray(mask, dtype=np.uint8).data).hexdigest()
