"""plan.json as a file: read back equal, checked by its JSON Schema and for contradictions; the schema itself."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import math
import types
import typing
from importlib import resources
from typing import TYPE_CHECKING, Any

from iort_planner.applicator import NeedleContent
from iort_planner.errors import PlanError
from iort_planner.inputs import read_small
from iort_planner.planning.plan import SCHEMA, Plan, verdict

if TYPE_CHECKING:
    from pathlib import Path


def read_plan(path: Path) -> Plan:
    """Read plan.json; checked against the package's JSON Schema and for contradictions.

    Raises
    ------
    PlanError
        If the file is missing, no JSON, does not fit the schema, or contradicts itself.
    """
    try:
        content = json.loads(read_small(path).decode("utf-8"), parse_constant=_no_constant)
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
    if len({needle.label for needle in plan.needles}) < len(plan.needles):
        return "two needles have one label"
    first, main = plan.dwells[0], plan.needles[0]
    where = (first.needle, first.source_lps_mm)
    if where != (main.label, main.source_lps_mm) or first.time_s != plan.result.dwell_time_s:
        return "dwell, needle and result disagree"
    if not plan.result.dwell_time_s > 0.0:
        return "the dwell time is not above 0"
    wrong = _geometry_contradiction(plan)
    if wrong:
        return wrong
    cord = plan.cord
    if cord is not None and (cord.max_dose_gy is None) != (cord.max_dose_gy_rbe is None):
        return "the cord has a dose in Gy or in Gy(RBE) alone"
    for name, physical, weighted in (
        ("prescribed dose", plan.prescription.dose_gy, plan.prescription.dose_gy_rbe),
        ("canal dose", plan.result.canal_max_gy, plan.result.canal_max_gy_rbe),
        ("cord dose", (cord and cord.max_dose_gy) or 0.0, (cord and cord.max_dose_gy_rbe) or 0.0),
    ):
        if not math.isclose(physical * plan.prescription.rbe, weighted, rel_tol=1e-9):
            return f"the {name} in Gy and in Gy(RBE) do not fit the RBE"
    if not plan.checks or plan.verdict != verdict(plan.checks):
        return "the verdict is not the worst check"
    return None


def _geometry_contradiction(plan: Plan) -> str | None:
    """What does not fit between points and distances of canal and cord."""
    source, canal, cord = plan.dwells[0].source_lps_mm, plan.canal, plan.cord
    if abs(math.dist(source, canal.nearest_point_lps_mm) - canal.distance_from_source_mm) > 1e-3:
        return "the canal's distance does not fit its nearest point"
    for name, part, distance in (
        ("source", canal.segments.source, canal.distance_from_source_mm),
        ("tip", canal.segments.tip, canal.distance_from_tip_mm),
        ("surface", canal.segments.surface, canal.distance_from_surface_mm),
        ("shaft", canal.segments.shaft, canal.shaft_clearance_mm),
    ):
        apart = math.dist(part.from_lps_mm, part.to_lps_mm)
        if abs(part.length_mm - distance) > 1e-3 or abs(apart - abs(part.length_mm)) > 1e-3:
            return f"the canal's distance from the {name} does not fit its two ends"
    if (canal.uncorrected_distance_from_source_mm is None) == bool(canal.corrections):
        return "the canal's corrections and its distance before them do not fit"
    if cord is not None and abs(math.dist(source, cord.nearest_point_lps_mm) - cord.distance_from_source_mm) > 1e-3:
        return "the cord's distance does not fit its nearest point"
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
        return kind(**{key: _from_json(hints[key], item) for key, item in value.items()})  # type: ignore[operator]  # a type, not an instance
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
        **_schema_of(Plan),
        "description": "Research and education only. Lengths mm, DICOM LPS; dose Gy to water; Gy(RBE) apart.",
    }


_ENUMS = {
    "schema": [SCHEMA],
    "verdict": ["pass", "warn", "fail"],
    "status": ["pass", "warn", "fail"],
    "confidence": ["high", "low"],
    "depth_from": ["source", "surface", "tip", "canal-limit"],
    "kind": ["ct", "ct-enhanced", "xa3d", "other"],
    "dose_to": ["water", "medium"],
    "state": ["accepted", "expired", "never", "changed", "unreadable"],
    "content": [content.value for content in NeedleContent],
    "wall": ["cortex", "lytic", "metal", "unknown"],
    "wall_nearest": ["bone", "interpolated", "drawn", "by hand"],
}


def _schema_of(kind: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        properties = {
            name: {"enum": _ENUMS[name]} if name in _ENUMS else _schema_of(hint) for name, hint in hints.items()
        }
        about = (inspect.getdoc(kind) or "").split("\n\n")[0]
        return {
            "type": "object",
            "description": " ".join(about.split()),
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
