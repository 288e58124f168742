"""The plan: a plain frozen value that is written to JSON and read back equal (docs/file-formats.md).

Everything after it (pictures, report, console) reads it and computes no physics.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from iort_planner.errors import PlanError
from iort_planner.units import format_time

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

SCHEMA = "iort-planner/plan/1"

Vector = tuple[float, float, float]


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
    """Where a needle stands; `iort_planner.geometry.needle.Needle` explains the fields."""

    label: str
    tip_lps_mm: Vector
    axis_lps: Vector
    source_lps_mm: Vector
    method: str
    confidence: str
    tip_uncertainty_mm: float
    bending_mm: float | None
    cannula_end_lps_mm: Vector | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCanal:
    """How far the canal is; `iort_planner.geometry.distance.CanalDistances` explains the fields."""

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
    map_sha256: str | None
    points_lps_mm: tuple[Vector, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSource:
    """The depth-dose table and the applicator, with the hashes of their files."""

    name: str
    table: str
    table_sha256: str
    table_origin: str
    table_uncertainty_percent: float
    applicator: str
    applicator_sha256: str
    applicator_origin: str
    outer_diameter_mm: float
    radiolucent_tip_length_mm: float
    tip_to_source_mm: float
    applicator_length_mm: float
    cannula_outer_diameter_mm: float | None
    cannula_length_mm: float
    clinical: bool
    scale: str
    reference_point: str
    range_mm: tuple[float, float]
    trusted_range_mm: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPrescription:
    """What was asked for; depths are null when the radius lies outside the table."""

    dose_gy: float
    rbe: float
    dose_gy_rbe: float
    depth_mm: float | None
    depth_from: str
    depth_from_source_mm: float | None
    limit_gy: float
    limit_gy_rbe: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dwell:
    """Beam-on time at one source position."""

    needle: str
    source_lps_mm: Vector
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineResult:
    """What one dose engine says."""

    canal_max_gy: float
    canal_max_gy_rbe: float
    dose_at_prescription_gy: float | None
    dwell_time_for_limit_s: float
    dose_to: str
    uncertainty_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Biology:
    """RBE and where it comes from."""

    rbe: float
    rbe_source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """Relative and absolute k=1 uncertainties and the k=2 bands that follow from them."""

    table_percent: float
    tip_mm: float
    canal_mm: float
    canal_dose_percent: float
    canal_dose_band_k2_gy: tuple[float, float]
    dwell_time_band_k2_s: tuple[float, float]
    isotropic_assumed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Time, radii and doses; always from the water engine."""

    dwell_time_s: float
    max_safe_dwell_time_s: float
    isodose_radius_mm: dict[str, float | None]
    canal_max_gy: float
    canal_max_gy_rbe: float
    applicator_surface_gy: float | None
    nearest_table_radius_mm: float
    nearest_table_dose_gy: float
    engine: str
    engines: dict[str, EngineResult]
    target: None
    biology: Biology
    uncertainty: Uncertainty


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
    source: PlanSource
    prescription: PlanPrescription
    dwells: tuple[Dwell, ...]
    result: Result
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


def read_plan(path: Path) -> Plan:
    """Read plan.json; checked against the package's JSON Schema and for contradictions.

    Raises
    ------
    PlanError
        If the file is missing, no JSON, does not fit the schema, or contradicts itself.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except OSError as error:
        raise PlanError(f"no plan at {path} ({error.strerror}); give the folder that 'plan' or 'demo' wrote") from error
    except ValueError as error:
        raise PlanError(f"{path} is not a plan.json ({error}); make the plan again") from error
    problem = schema_problem(content)
    if problem:
        raise PlanError(f"{path} does not fit {SCHEMA}: {problem}; make the plan again with this version")
    plan: Plan = _from_json(Plan, content)
    wrong = _contradiction(plan)
    if wrong:
        raise PlanError(f"{path} contradicts itself: {wrong}; it was changed after it was made, make the plan again")
    return plan


def map_sha256(mask: npt.NDArray[np.uint8]) -> str:
    """Hash of a canal's label map: uint8 voxels in index order (i fastest)."""
    return hashlib.sha256(np.ascontiguousarray(mask, dtype=np.uint8).data).hexdigest()


def _contradiction(plan: Plan) -> str | None:
    """What in a plan contradicts itself, as after an edit by hand; None if nothing."""
    if not plan.needles or not plan.dwells:
        return "there is no needle or no dwell"
    for needle in plan.needles:
        if abs(math.hypot(*needle.axis_lps) - 1.0) > 1e-6:
            return f"the axis of needle {needle.label} is not a unit vector"
        pairs = zip(needle.tip_lps_mm, needle.axis_lps, needle.source_lps_mm, strict=True)
        if any(abs(tip + plan.source.tip_to_source_mm * axis - source) > 1e-3 for tip, axis, source in pairs):
            return f"tip and source centre of needle {needle.label} do not fit the applicator"
    first = plan.dwells[0]
    if first.source_lps_mm != plan.needles[0].source_lps_mm or first.time_s != plan.result.dwell_time_s:
        return "dwell, needle and result disagree"
    if not plan.result.dwell_time_s > 0.0:
        return "the dwell time is not above 0"
    distance = math.dist(first.source_lps_mm, plan.canal.nearest_point_lps_mm)
    if abs(distance - plan.canal.distance_from_source_mm) > 1e-3:
        return "the canal's distance does not fit its nearest point"
    for name, physical, weighted in (
        ("prescribed dose", plan.prescription.dose_gy, plan.prescription.dose_gy_rbe),
        ("canal dose", plan.result.canal_max_gy, plan.result.canal_max_gy_rbe),
    ):
        if not math.isclose(physical * plan.prescription.rbe, weighted, rel_tol=1e-9):
            return f"the {name} in Gy and in Gy(RBE) do not fit the RBE"
    if not plan.checks or plan.verdict != verdict(plan.checks):
        return "the verdict is not the worst check"
    return None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def schema_problem(content: Any) -> str | None:
    """What is wrong with the content of a plan.json by the JSON Schema in the package; None if nothing."""
    import jsonschema

    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(_schema()).iter_errors(content))
    return None if error is None else f"{error.json_path}: {error.message}"


@functools.cache
def _schema() -> dict[str, Any]:
    text = (resources.files("iort_planner.planning") / "plan.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _from_json(kind: Any, value: Any) -> Any:
    """Build a value of an annotated type from what json.loads gives: the inverse of dataclasses.asdict."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{key: _from_json(hints[key], item) for key, item in value.items()})  # type: ignore[operator]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if value is None:
        return None
    if origin in (types.UnionType, typing.Union):
        return _from_json(next(a for a in arguments if a is not type(None)), value)
    if origin is tuple:
        each = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        return tuple(_from_json(a, item) for a, item in zip(each, value, strict=True))
    if origin is dict:
        return {key: _from_json(arguments[1], item) for key, item in value.items()}
    return float(value) if kind is float else value


def json_schema() -> dict[str, Any]:
    """JSON Schema of plan.json from the types above: what plan.schema.json in the package holds."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:iort-planner:plan:1",
        "title": "iort_planner plan",
        "description": "Research and education only. Lengths mm, DICOM LPS; dose Gy to water; Gy(RBE) apart.",
        **_schema_of(Plan),
    }


_ENUMS = {
    "schema": [SCHEMA],
    "verdict": ["pass", "warn", "fail"],
    "status": ["pass", "warn", "fail"],
    "confidence": ["high", "low"],
    "depth_from": ["source", "surface", "tip", "canal-limit"],
    "kind": ["ct", "ct-enhanced", "xa3d", "other"],
    "dose_to": ["water", "medium"],
}


def _schema_of(kind: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        properties = {
            name: {"enum": _ENUMS[name]} if name in _ENUMS else _schema_of(hint) for name, hint in hints.items()
        }
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_schema_of(a) for a in arguments]}
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return {"type": "array", "items": _schema_of(arguments[0])}
        n = len(arguments)
        return {"type": "array", "items": _schema_of(arguments[0]), "minItems": n, "maxItems": n}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema_of(arguments[1])}
    names = {str: "string", float: "number", int: "integer", bool: "boolean", type(None): "null"}
    return {"type": names[kind]}
