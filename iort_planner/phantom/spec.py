"""A phantom's specification: TOML in, a checked frozen value out; every key is named here."""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Mapping, Set
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from iort_planner.applicator import read_applicator
from iort_planner.errors import ApplicatorError, PhantomError
from iort_planner.phantom.spec_checks import check_together
from iort_planner.phantom.spec_keys import LISTS, SECTIONS, Keys, Limit, OneOf
from iort_planner.phantom.spec_model import PhantomSpec

SCHEMA = "iort-planner/phantom/1"
_FOLDERS = (Path(__file__).parent / "specs", Path(__file__).parents[2] / "phantoms")


_MOST = 24  # of one such table: more than any patient has, and no file makes hours of work
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


def read_spec(path: Path, changes: Mapping[str, Any] | None = None) -> PhantomSpec:
    """Read and check a specification.

    Parameters
    ----------
    path : Path
    changes : mapping, optional
        Values in place of the file's, by dotted keys (``needle.bend_mm``), as they would stand in the file.

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
    for key, value in (changes or {}).items():
        section, _, name = key.rpartition(".")
        place = content.get(section) if section else content
        if not isinstance(place, dict):
            raise PhantomError(f"{where}: there is no section {section!r} to change {key!r} in; see phantoms/README.md")
        place[name] = value
        data += f"{key}={value!r};".encode()
    _check_keys(where, "", content, {*_TEXTS, *SECTIONS}, LISTS.keys())
    for key in _TEXTS:
        if not isinstance(content[key], str) or not content[key]:
            raise PhantomError(f"{where}: {key} = {content[key]!r} must be a text that is not empty")
    if not re.fullmatch(r"[\w .+-]{1,40}", content["name"]):  # it goes into a DICOM text of at most 64 characters
        raise PhantomError(
            f"{where}: name = {content['name']!r} must be 1 to 40 letters, digits, blanks or any of . + - _"
        )
    if content["schema"] != SCHEMA:
        raise PhantomError(f"{where}: schema = {content['schema']!r}, this version reads {SCHEMA!r}")
    sections: dict[str, Any] = {
        name: _table(where, f"{name}.", content[name], *made) for name, made in SECTIONS.items()
    }
    lists: dict[str, Any] = {
        field: _tables(where, name, content.get(name, []), kind, keys) for name, (field, kind, keys) in LISTS.items()
    }
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
        **lists,
    )
    check_together(where, spec)
    return spec


def _check_keys(
    where: str, prefix: str, content: dict[str, Any], required: Set[str], optional: Set[str] = frozenset()
) -> None:
    missing, unknown = required - content.keys(), content.keys() - required - optional
    if missing or unknown:
        verb, keys = ("lacks", missing) if missing else ("has unknown keys", unknown)
        named = ", ".join(f"{prefix}{key}" for key in sorted(keys))
        raise PhantomError(f"{where}: {verb} {named}; see phantoms/README.md")


def _table(where: str, prefix: str, content: object, kind: type[Any], keys: Keys) -> Any:
    if not isinstance(content, dict):
        raise PhantomError(f"{where}: {prefix[:-1]} must be a table, got {content!r}")
    optional = {field.name for field in fields(kind) if field.default is not MISSING}
    _check_keys(where, prefix, content, keys.keys() - optional, optional)
    return kind(
        **{key: _value(f"{where}: {prefix}{key}", content[key], limit) for key, limit in keys.items() if key in content}
    )


def _tables(where: str, name: str, content: object, kind: type[Any], keys: Keys) -> tuple[Any, ...]:
    if not isinstance(content, list) or len(content) > _MOST:
        raise PhantomError(f"{where}: {name} must be given as [[{name}]], at most {_MOST} times")
    return tuple(_table(where, f"{name} {n}.", item, kind, keys) for n, item in enumerate(content, start=1))


def _value(where: str, value: object, limit: Limit | OneOf) -> Any:
    if isinstance(limit, Limit):
        return _number(where, value, limit)
    if not any(type(value) is type(known) and value == known for known in limit.values):
        names = ", ".join(str(known).lower() for known in limit.values)
        raise PhantomError(f"{where} = {value!r} must be one of: {names}")
    return value


def _number(where: str, value: object, limit: Limit) -> Any:
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
