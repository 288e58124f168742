"""A phantom's specification: TOML in, a checked frozen value out; every key is named here."""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Set
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from iort_planner.applicator import read_applicator
from iort_planner.errors import ApplicatorError, PhantomError
from iort_planner.phantom.spec_model import (
    BodySpec,
    CanalSpec,
    GridSpec,
    HuSpec,
    LesionSpec,
    NeedleSpec,
    PhantomSpec,
    ScannerSpec,
    SpineSpec,
    VertebraSpec,
)

SCHEMA = "iort-planner/phantom/1"
_FOLDERS = (Path(__file__).parent / "specs", Path(__file__).parents[2] / "phantoms")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    low: float
    high: float
    count: int = 1
    whole: bool = False


_HU = _Limit(low=-1024, high=3000)
# Limits keep to what this model of a thoracic or upper lumbar vertebra can draw sensibly (our own choice; the
# measured ranges of human thoracic vertebrae lie well inside: Panjabi et al. 1991, Spine 16:888).
_SECTIONS: dict[str, tuple[type[Any], dict[str, _Limit]]] = {
    "grid": (
        GridSpec,
        {
            "size_voxels": _Limit(low=16, high=512, count=3, whole=True),
            "spacing_mm": _Limit(low=0.2, high=5, count=3),
            "centre_offset_mm": _Limit(low=-200, high=200, count=3),
            "rotation_deg": _Limit(low=-60, high=60, count=3),
        },
    ),
    "spine": (
        SpineSpec,
        {
            "origin_lps_mm": _Limit(low=-2000, high=2000, count=3),
            "rotation_deg": _Limit(low=-30, high=30, count=3),
            "kyphosis_radius_mm": _Limit(low=220, high=5000),
        },
    ),
    "canal": (
        CanalSpec,
        {
            "width_mm": _Limit(low=12, high=30),
            "depth_mm": _Limit(low=10, high=24),
            "exponent": _Limit(low=2, high=4),
            "sac_width_mm": _Limit(low=8, high=28),
            "sac_depth_mm": _Limit(low=8, high=22),
            "cord_width_mm": _Limit(low=4, high=16),
            "cord_depth_mm": _Limit(low=4, high=12),
        },
    ),
    "vertebra": (
        VertebraSpec,
        {
            "body_width_mm": _Limit(low=22, high=56),
            "body_depth_mm": _Limit(low=18, high=42),
            "body_height_mm": _Limit(low=14, high=34),
            "disc_height_mm": _Limit(low=3, high=14),
            "cortex_mm": _Limit(low=0.4, high=2),
            "pedicle_width_mm": _Limit(low=5, high=16),
            "pedicle_height_mm": _Limit(low=9, high=20),
        },
    ),
    "lesion": (
        LesionSpec,
        {"centre_mm": _Limit(low=-60, high=60, count=3), "radii_mm": _Limit(low=1, high=20, count=3)},
    ),
    "needle": (
        NeedleSpec,
        {
            "tip_mm": _Limit(low=-60, high=60, count=3),
            "through_mm": _Limit(low=-60, high=60, count=3),
            "cannula_end_mm": _Limit(low=0, high=60),
            "bend_mm": _Limit(low=0, high=8),
            "bend_turn_deg": _Limit(low=-360, high=360),
        },
    ),
    "body": (
        BodySpec,
        {
            "back_mm": _Limit(low=36, high=90),
            "front_mm": _Limit(low=90, high=200),
            "width_mm": _Limit(low=200, high=500),
            "skin_mm": _Limit(low=0.5, high=4),
            "fat_mm": _Limit(low=1, high=30),
        },
    ),
    "scanner": (
        ScannerSpec,
        {
            "psf_sigma_mm": _Limit(low=0, high=2),
            "slice_sigma_mm": _Limit(low=0, high=3),
            "noise_hu": _Limit(low=0, high=200),
            "noise_correlation_mm": _Limit(low=0, high=3),
            "streak_amplitude": _Limit(low=0, high=5),
            "clip_hu": _Limit(low=2000, high=30000),
        },
    ),
    "hu": (
        HuSpec,
        dict.fromkeys(HuSpec.__dataclass_fields__, _HU) | {"steel": _Limit(low=3000, high=30000)},
    ),
}
_TEXTS = ("schema", "name", "description", "level", "applicator")


def spec_names() -> list[str]:
    """Names of the specifications at hand: those shipped with the package, else those of the source tree."""
    return sorted({path.stem for folder in _FOLDERS for path in folder.glob("*.toml")})


def find_spec(name_or_path: str | Path) -> Path:
    """Path of a specification by its name (``reference``) or of a TOML file.

    Raises
    ------
    PhantomError
        If there is neither; the message lists the names at hand.
    """
    name = str(name_or_path)
    for folder in _FOLDERS:
        if name in {path.stem for path in folder.glob("*.toml")}:
            return folder / f"{name}.toml"
    path = Path(name_or_path)
    if not path.is_file():
        raise PhantomError(
            f"phantom {name!r}: no such specification; give a TOML file or one of: {', '.join(spec_names())}"
        )
    return path


def read_spec(path: Path) -> PhantomSpec:
    """Read and check a specification.

    Raises
    ------
    PhantomError
        If the file cannot be read, is no TOML, lacks a key, has an unknown one, or holds a value outside its limits.
    """
    where = f"phantom file {path.name}"
    try:
        data = path.read_bytes()
        content: dict[str, Any] = tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise PhantomError(f"{where}: cannot be read ({error.strerror}); give a readable TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PhantomError(f"{where}: not valid TOML ({error}); see phantoms/README.md") from error
    _check_keys(where, "", content, {*_TEXTS, *_SECTIONS})
    for key in _TEXTS:
        if not isinstance(content[key], str) or not content[key]:
            raise PhantomError(f"{where}: {key} = {content[key]!r} must be a text that is not empty")
    if not re.fullmatch(r"[\w .+-]{1,40}", content["name"]):  # it goes into a DICOM text of at most 64 characters
        raise PhantomError(
            f"{where}: name = {content['name']!r} must be 1 to 40 letters, digits, blanks or any of . + - _"
        )
    if content["schema"] != SCHEMA:
        raise PhantomError(f"{where}: schema = {content['schema']!r}, this version reads {SCHEMA!r}")
    sections = {name: _section(where, name, content[name]) for name in _SECTIONS}
    try:
        applicator = read_applicator(content["applicator"])
    except ApplicatorError as error:
        raise PhantomError(f"{where}: applicator: {error}") from error
    spec = PhantomSpec(
        name=content["name"],
        description=content["description"],
        level=content["level"],
        applicator=applicator,
        sha256=hashlib.sha256(data + applicator.sha256.encode("ascii")).hexdigest(),
        **sections,
    )
    _check_together(where, spec)
    return spec


def _check_keys(
    where: str, prefix: str, content: dict[str, Any], required: Set[str], optional: Set[str] = frozenset()
) -> None:
    missing, unknown = required - content.keys(), content.keys() - required - optional
    if missing or unknown:
        verb, keys = ("lacks", missing) if missing else ("has unknown keys", unknown)
        named = ", ".join(f"{prefix}{key}" for key in sorted(keys))
        raise PhantomError(f"{where}: {verb} {named}; see phantoms/README.md")


def _section(where: str, name: str, content: object) -> Any:
    kind, limits = _SECTIONS[name]
    if not isinstance(content, dict):
        raise PhantomError(f"{where}: {name} must be a table [{name}], got {content!r}")
    optional = {field.name for field in fields(kind) if field.default is not MISSING}
    _check_keys(where, f"{name}.", content, set(limits) - optional, optional)
    return kind(
        **{
            key: _number(f"{where}: {name}.{key}", content[key], limit)
            for key, limit in limits.items()
            if key in content
        }
    )


def _number(where: str, value: object, limit: _Limit) -> Any:
    values = value if limit.count > 1 else [value]
    kinds = int if limit.whole else (int, float)
    if (
        not isinstance(values, list)
        or len(values) != limit.count
        or any(isinstance(v, bool) or not isinstance(v, kinds) for v in values)
    ):
        what = "whole number" if limit.whole else "number"
        raise PhantomError(f"{where} = {value!r} must be {limit.count} {what}{'s' if limit.count > 1 else ''}")
    for v in values:
        if not (math.isfinite(v) and limit.low <= v <= limit.high):
            raise PhantomError(
                f"{where} = {value!r} must lie between {limit.low:g} and {limit.high:g} (what the model can draw)"
            )
    converted = tuple(v if limit.whole else float(v) for v in values)
    return converted if limit.count > 1 else converted[0]


def _check_together(where: str, spec: PhantomSpec) -> None:
    """Limits that hold between keys."""
    canal, needle = spec.canal, spec.needle
    for inner, outer in (("sac_", ""), ("cord_", "sac_")):
        for side in ("width_mm", "depth_mm"):
            a, b = getattr(canal, inner + side), getattr(canal, outer + side)
            if not a < b:
                raise PhantomError(
                    f"{where}: canal.{inner}{side} = {a:g} must be less than canal.{outer}{side} = {b:g}"
                )
    if math.dist(needle.tip_mm, needle.through_mm) < 5.0:
        raise PhantomError(
            f"{where}: needle.tip_mm and needle.through_mm must lie 5 mm or more apart: they give the axis"
        )
    if spec.applicator.cannula_outer_diameter_mm is None:
        raise PhantomError(
            f"{where}: applicator {spec.applicator.name!r} has no cannula_outer_diameter_mm; the phantom draws the cannula"
        )
