"""One case from its input to its verdict, in this process and a folder of its own."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import math
import os
import time
from typing import TYPE_CHECKING, Any

from iort_planner.errors import InputError, IortError
from iort_planner.verification.case import OWN_FILES, read_case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from iort_planner.verification.case import Case, Expectation

# What two versions are compared by, whether or not a case expects something of it: key and unit.
FIGURES = {
    "dwell time": ("result.dwell_time_s", "s"),
    "canal dose": ("result.canal_max_gy", "Gy"),
    "canal from source centre": ("canal.distance_from_source_mm", "mm"),
    "canal from tip": ("canal.distance_from_tip_mm", "mm"),
    "shaft clearance": ("canal.shaft_clearance_mm", "mm"),
    "tip x": ("needles.0.tip_lps_mm.0", "mm"),
    "tip y": ("needles.0.tip_lps_mm.1", "mm"),
    "tip z": ("needles.0.tip_lps_mm.2", "mm"),
    "depth from source centre": ("prescription.depth_from_source_mm", "mm"),
    "canal dose uncertainty": ("result.uncertainty.canal_dose_percent", "%"),
}
_MISSING = object()
_LONGEST_ERROR = 500
THUMBNAIL_PIXELS = 480  # wide


def run_case(case: Case, work: Path, main: Callable[[list[str]], int]) -> dict[str, Any]:
    """Run a case and judge it.

    Parameters
    ----------
    case : Case
    work : Path
        An empty folder; a picture of the plan is left there as ``picture.png`` where the command made one.
    main : callable
        The command line's entry: arguments in, exit status out.

    Returns
    -------
    dict
        The case's entry in verification.json. Nothing in it but ``seconds`` depends on time, order or machine.
    """
    start = time.perf_counter()
    problem, status, printed, errors = "", -1, "", ""
    truth: Any = None
    try:
        arguments, truth = _prepare(case, work)
        with _at_home(work), _captured() as texts:
            status = main(arguments)
        printed, errors = texts()
        # folders of this one run: a result depends on none of them
        errors = errors.replace(str(work), "WORK").replace(str(case.folder), "CASE")
    except IortError as error:
        problem = f"the case's input could not be made: {error}"
    document = _document(case, work, printed)
    expectations = [_judge(each, document, truth, errors, work) for each in case.expectations]
    good = not problem and status == case.exit_status and all(each["verdict"] == "pass" for each in expectations)
    if not problem and status != case.exit_status:
        line = " ".join(errors.split())[:_LONGEST_ERROR]
        problem = f"exit status {status}, expected {case.exit_status}" + (f": {line}" if line else "")
    _thumbnail(work)
    return _entry(
        case,
        good=good,
        seconds=time.perf_counter() - start,
        exit_status=status,
        problem=problem,
        expectations=expectations,
        figures=_figures(document),
    )


def failed_case(case: Case, problem: str, seconds: float) -> dict[str, Any]:
    """The entry of a case that came to no end of its own: it crashed or ran out of time."""
    return _entry(case, good=False, seconds=seconds, exit_status=-1, problem=problem, expectations=[], figures={})


def _entry(
    case: Case,
    *,
    good: bool,
    seconds: float,
    exit_status: int,
    problem: str,
    expectations: list[dict[str, Any]],
    figures: dict[str, float],
) -> dict[str, Any]:
    """A case in verification.json."""
    return {
        "name": case.name,
        "description": case.description,
        "command": " ".join([case.command, *case.options]),
        "verdict": "pass" if good else "fail",
        "seconds": seconds,
        "exit_status": exit_status,
        "expected_exit_status": case.exit_status,
        "problem": problem,
        "expectations": expectations,
        "figures": figures,
        "sha256": case.sha256,
    }


def _prepare(case: Case, work: Path) -> tuple[list[str], Any]:
    """The command's arguments, and the truth of a phantom."""
    if case.command in OWN_FILES:
        files = [str(case.folder / each) if (case.folder / each).exists() else each for each in case.arguments]
        out = ["--out", str(work / "table.csv"), "--threads", "1"] if case.command == "simulate" else []
        return [*case.command.split(), *files, *out, *_own_files(case), "--json", "--quiet"], None
    truth: Any = None
    if case.path is not None:
        scan = (case.folder / case.path).resolve()
        beside = scan.parent / "truth.json"
        if beside.is_file():
            truth = json.loads(beside.read_text(encoding="utf-8"))
    else:
        from iort_planner.phantom.alter import alter

        scan = work / "phantom" / "scan"
        truth = _make_phantom(case, work / "phantom")
        alter(scan, case.alterations)
    arguments = [case.command, str(scan)]
    if case.command == "plan":
        arguments += ["--out", str(work / "plan"), *_own_files(case)]
    return [*arguments, "--json", "--quiet"], truth


def _own_files(case: Case) -> list[str]:
    """The options: one that names a file of the case's folder gets its path, ``{today}`` the date."""
    today = dt.datetime.now().astimezone().date().isoformat()
    named = [each.replace("{today}", today) for each in case.options]
    return [str(case.folder / each) if each and (case.folder / each).is_file() else each for each in named]


def _make_phantom(case: Case, folder: Path) -> Any:
    from dataclasses import replace

    from iort_planner.phantom.dicom_series import write_phantom
    from iort_planner.phantom.levels import at_level
    from iort_planner.phantom.scan import build
    from iort_planner.phantom.spec import find_spec, read_spec

    name = str(case.phantom)
    own = case.folder / name
    changes = dict(case.spec)
    level = changes.pop("level", None)
    spec = read_spec(own if own.is_file() else find_spec(name), changes)
    if level is not None:
        spec = at_level(spec, str(level))
    phantom = build(spec, case.seed)
    if case.fluoroscopy:
        from iort_planner.phantom.fluoroscopy import fluoroscopy

        phantom = replace(phantom, volume=fluoroscopy(spec, case.seed))
    folder.mkdir(parents=True)
    # a day that does not change, yet never so old that a check speaks of it
    write_phantom(phantom, folder, acquired_at=dt.datetime.now().astimezone().replace(microsecond=0))
    return json.loads((folder / "truth.json").read_text(encoding="utf-8"))


@contextlib.contextmanager
def _at_home(work: Path) -> Iterator[None]:
    """A record of acceptances of the case's own."""
    before = os.environ.get("IORT_PLANNER_HOME")
    os.environ["IORT_PLANNER_HOME"] = str(work / "home")
    try:
        yield
    finally:
        if before is None:
            del os.environ["IORT_PLANNER_HOME"]
        else:
            os.environ["IORT_PLANNER_HOME"] = before


@contextlib.contextmanager
def _captured() -> Iterator[Callable[[], tuple[str, str]]]:
    """What is printed on stdout and stderr meanwhile."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))

    def texts() -> tuple[str, str]:
        found = []
        for stream in (out, err):
            stream.seek(0)
            found.append(stream.read())
        return found[0], found[1]

    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield texts


def _document(case: Case, work: Path, printed: str) -> Any:
    if case.command == "plan" and (work / "plan" / "plan.json").is_file():
        return json.loads((work / "plan" / "plan.json").read_text(encoding="utf-8"))
    try:
        return json.loads(printed)
    except ValueError:
        return None


def _judge(expected: Expectation, document: Any, truth: Any, errors: str, work: Path) -> dict[str, Any]:
    wanted = expected.value
    if isinstance(wanted, str) and wanted.startswith("truth:"):
        wanted = _found(truth, wanted.removeprefix("truth:"))
    difference: float | None = None
    if expected.key == "error":
        line = " ".join(errors.split())
        got: Any = line[:_LONGEST_ERROR]
        good = isinstance(wanted, str) and wanted in line
    elif expected.key == "files":
        got = sorted(each.name for each in (work / "plan").iterdir()) if (work / "plan").is_dir() else []
        good = wanted in got
    else:
        got = _found(document, expected.key)
        good, difference = _same(got, wanted, expected.tolerance)
    missing = got is _MISSING or wanted is _MISSING
    return {
        "key": expected.key,
        "expected": None if wanted is _MISSING else wanted,
        "found": None if got is _MISSING else got,
        "difference": difference,
        "tolerance": expected.tolerance,
        "unit": expected.unit,
        "source": expected.source,
        "reference": expected.reference,
        "verdict": "pass" if good and not missing else "fail",
        "note": "the key is not there" if missing else "",
    }


def _found(document: Any, key: str) -> Any:
    """The value under a dotted key; ``checks.ID`` and ``findings.ID`` are statuses."""
    parts = key.split(".")
    if isinstance(document, dict) and len(parts) == 2 and parts[0] in ("checks", "findings"):
        statuses = [each["status"] for each in document.get(parts[0], []) if each["id"] == parts[1]]
        order = {"pass": 0, "warn": 1, "fail": 2}
        return max(statuses, key=lambda status: order.get(status, 0)) if statuses else _MISSING
    here = document
    for part in parts:
        if isinstance(here, dict) and part in here:
            here = here[part]
        elif isinstance(here, list) and part.isdigit() and int(part) < len(here):
            here = here[int(part)]
        else:
            return _MISSING
    return here


def _same(got: Any, wanted: Any, tolerance: float | None) -> tuple[bool, float | None]:
    """Whether a value is the one expected, and how far off a number or a point is."""
    if tolerance is None or isinstance(got, bool) or isinstance(wanted, bool):
        return got == wanted and isinstance(got, bool) == isinstance(wanted, bool), None
    if isinstance(got, list) and isinstance(wanted, list):
        if len(got) != len(wanted) or not all(_number(each) for each in (*got, *wanted)):
            return False, None
        off = math.dist(got, wanted)
        return off <= tolerance, off
    if not (_number(got) and _number(wanted)):
        return False, None
    return abs(got - wanted) <= tolerance, got - wanted


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _figures(document: Any) -> dict[str, float]:
    found = {name: _found(document, key) for name, (key, _) in FIGURES.items()}
    return {name: float(value) for name, value in found.items() if _number(value)}


def _thumbnail(work: Path) -> None:
    picture = work / "plan" / "slices.png"
    if picture.is_file():
        from matplotlib.image import imread, thumbnail

        scale = min(1.0, THUMBNAIL_PIXELS / imread(picture).shape[1])
        thumbnail(str(picture), str(work / "picture.png"), scale=scale)


def case_in(folder: Path, suite: Path) -> Case:
    """The case of a folder, for a worker that was told its path.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    file = folder / "case.toml"
    if not file.is_file():
        raise InputError(f"case {folder} has no case.toml")
    return read_case(file, suite)
