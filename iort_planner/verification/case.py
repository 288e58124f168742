"""A case: its input, the command it runs, and what is expected of it; read from ``case.toml``."""

from __future__ import annotations

import hashlib
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iort_planner.errors import InputError, PhantomError
from iort_planner.phantom.alter import Alteration

CASE_FILE = "case.toml"
COMMANDS = ("plan", "inspect", "qa check", "qa compare", "simulate")
OWN_FILES = ("qa check", "qa compare", "simulate")  # their input stands in ``arguments``
SOURCES = ("closed-form", "literature", "independent-code", "baseline")
DEFAULT_SECONDS = 300.0
_HELP = "see docs/verification.md"
_TOP = {"description", "command", "exit_status", "input", "plan", "limits", "expect", "arguments"}
_INPUT = {"path", "phantom", "seed", "spec", "alter", "fluoroscopy"}
_EXPECT = {"key", "value", "tolerance", "unit", "source", "reference"}
_ALTER = {"kind", "slices", "keyword", "value", "mm", "bytes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One value that is expected.

    Parameters
    ----------
    key : str
        Where it stands in the command's JSON document: dotted, numbers count from 0 (``needles.0.tip_lps_mm``);
        ``checks.ID`` and ``findings.ID`` are the status of that check or finding, ``error`` the line on stderr,
        ``files`` the names that were written.
    value : number, text, bool, list or None
        Or ``truth:KEY``: what the phantom's truth.json has there. A text is expected as it is; for ``error`` and ``files``
        it must be contained.
    tolerance : float or None
        Largest difference, in the value's own unit; for a list the distance between the two points. Needed for numbers.
    unit, source, reference : str
        ``source`` says where the value comes from: ``closed-form``, ``literature``, ``independent-code`` or ``baseline``.
    """

    key: str
    value: Any
    tolerance: float | None
    unit: str
    source: str
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case of a suite.

    Parameters
    ----------
    name : str
        Of its folder, below the suite's.
    folder : Path
    description : str
    command : str
        One of `COMMANDS`.
    arguments : tuple of str
        Of ``qa check`` and ``qa compare``: files in the case's folder, or names of shipped tables.
    options : tuple of str
        Of the command.
    exit_status : int
    phantom : str or None
        Specification, by name or as a file in the case's folder; or ``path``, a scan relative to the case's folder.
    spec : dict
        Changes to the specification, by dotted keys.
    alterations : tuple of Alteration
        Faults made in the scan.
    fluoroscopy : bool
        As a C-arm's 3-D scan.
    seconds : float, s
        After which the case counts as hanging.
    sha256 : str
        Of every file in the case's folder.
    """

    name: str
    folder: Path
    description: str
    command: str
    arguments: tuple[str, ...]
    options: tuple[str, ...]
    exit_status: int
    phantom: str | None
    path: str | None
    seed: int
    spec: dict[str, Any] = field(hash=False)
    alterations: tuple[Alteration, ...] = field(hash=False)
    fluoroscopy: bool
    seconds: float
    expectations: tuple[Expectation, ...] = field(hash=False)
    sha256: str


def read_suite(folder: Path) -> tuple[Case, ...]:
    """Every case below a folder, in the order of their names.

    Raises
    ------
    InputError
        If there is none, or one cannot be right: nothing runs then.
    """
    if not folder.is_dir():
        raise InputError(f"suite {folder} is no folder; give one with a folder for each case, {_HELP}")
    files = sorted(folder.rglob(CASE_FILE))
    if not files:
        raise InputError(f"suite {folder} has no {CASE_FILE} below it; {_HELP}")
    return tuple(read_case(path, folder) for path in files)


def read_case(path: Path, suite: Path) -> Case:
    """Read one case.

    Raises
    ------
    InputError
        If the file cannot be read, or a key or value is wrong; the message names the file.
    """
    name = path.parent.relative_to(suite).as_posix() if path.parent != suite else suite.resolve().name
    try:
        content: dict[str, Any] = tomllib.loads(path.read_bytes().decode("utf-8"))
        return _case(content, name, path.parent)
    except OSError as error:
        raise InputError(f"case {name}: cannot be read ({error.strerror}); {_HELP}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"case {name}: not valid TOML ({error}); {_HELP}") from error
    except (InputError, PhantomError) as error:
        raise InputError(f"case {name}: {error}") from error


def _case(content: dict[str, Any], name: str, folder: Path) -> Case:
    _keys("case", content, _TOP)
    given = _table(content, "input")
    _keys("[input]", given, _INPUT)
    plan, limits = _table(content, "plan"), _table(content, "limits")
    _keys("[plan]", plan, {"options"})
    _keys("[limits]", limits, {"seconds"})
    command = content.get("command", "plan")
    if command not in COMMANDS:
        raise InputError(f"command = {command!r} must be one of {', '.join(COMMANDS)}; {_HELP}")
    arguments = _texts(content.get("arguments", []), "arguments")
    needs = {"plan": 0, "inspect": 0, "qa check": 1, "qa compare": 2, "simulate": 1}[command]
    if len(arguments) != needs:
        raise InputError(f"'{command}' takes {needs} arguments, got {len(arguments)}; {_HELP}")
    if (command in OWN_FILES) == (len({"path", "phantom"} & given.keys()) == 1):
        raise InputError(f"[input] needs a phantom or a path (one of them), and 'qa' and 'simulate' none; {_HELP}")
    status = content.get("exit_status", 0)
    if status not in (0, 1, 2) or isinstance(status, bool):
        raise InputError(f"exit_status = {status!r} must be 0, 1 or 2")
    seconds = limits.get("seconds", DEFAULT_SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 86400:
        raise InputError(f"[limits] seconds = {seconds!r} must lie above 0 and up to 86400")
    expected = content.get("expect", [])
    if not isinstance(expected, list) or not all(isinstance(entry, dict) for entry in expected):
        raise InputError("expect must be written as [[expect]]")
    digest = hashlib.sha256()
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return Case(
        name=name,
        folder=folder,
        description=str(content.get("description", "")),
        command=command,
        arguments=arguments,
        options=_texts(plan.get("options", []), "[plan] options"),
        exit_status=status,
        phantom=_text(given, "phantom"),
        path=_text(given, "path"),
        seed=_whole(given.get("seed", 1), "[input] seed"),
        spec=_table(given, "spec"),
        alterations=tuple(_alteration(entry) for entry in given.get("alter", [])),
        fluoroscopy=given.get("fluoroscopy", False) is True,
        seconds=float(seconds),
        expectations=tuple(_expectation(entry) for entry in expected),
        sha256=digest.hexdigest(),
    )


def _expectation(entry: dict[str, Any]) -> Expectation:
    _keys("[[expect]]", entry, _EXPECT)
    lacking = {"key", "value", "source", "reference"} - entry.keys()
    if lacking:
        raise InputError(f"[[expect]] {entry.get('key', '')} lacks {', '.join(sorted(lacking))}; {_HELP}")
    if entry["source"] not in SOURCES:
        raise InputError(f"[[expect]] {entry['key']}: source = {entry['source']!r} must be one of {', '.join(SOURCES)}")
    value, tolerance = entry["value"], entry.get("tolerance")
    numeric = isinstance(value, int | float | list) and not isinstance(value, bool)
    if (numeric or str(value).startswith("truth:")) and tolerance is None:
        raise InputError(f"[[expect]] {entry['key']}: a number needs a tolerance (0 for equal)")
    if tolerance is not None and not (
        isinstance(tolerance, int | float) and not isinstance(tolerance, bool) and 0 <= tolerance < math.inf
    ):
        raise InputError(f"[[expect]] {entry['key']}: tolerance = {tolerance!r} must be a number, not negative")
    return Expectation(
        key=str(entry["key"]),
        value=value,
        tolerance=None if tolerance is None else float(tolerance),
        unit=str(entry.get("unit", "")),
        source=str(entry["source"]),
        reference=str(entry["reference"]),
    )


def _alteration(entry: dict[str, Any]) -> Alteration:
    _keys("[[input.alter]]", entry, _ALTER)
    slices = entry.get("slices", [])
    if not isinstance(slices, list) or not all(isinstance(n, int) and not isinstance(n, bool) for n in slices):
        raise InputError("[[input.alter]] slices must be a list of whole numbers")
    return Alteration(**{**entry, "kind": str(entry.get("kind", "")), "slices": tuple(slices)})


def _keys(where: str, entry: dict[str, Any], known: set[str]) -> None:
    unknown = entry.keys() - known
    if unknown:
        raise InputError(f"{where} has unknown keys {', '.join(sorted(unknown))}; {_HELP}")


def _table(content: dict[str, Any], name: str) -> dict[str, Any]:
    entry = content.get(name, {})
    if not isinstance(entry, dict):
        raise InputError(f"{name} must be written as [{name}]")
    return entry


def _texts(value: object, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InputError(f"{what} must be a list of texts")
    return tuple(value)


def _text(entry: dict[str, Any], key: str) -> str | None:
    value = entry.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise InputError(f"[input] {key} = {value!r} must be a text")
    return value


def _whole(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"{what} = {value!r} must be a whole number, not negative")
    return value
