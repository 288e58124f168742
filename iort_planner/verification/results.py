"""What came of a run: verification.json, and from it the page, the JUnit file and the certificate."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

from iort_planner import INTENDED_USE, __version__
from iort_planner.errors import InputError
from iort_planner.verification.compare import changes_since

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from iort_planner.verification.case import Case

SCHEMA = "iort-planner/verification/1"
_LIBRARIES = ("numpy", "scipy", "numba", "pydicom", "SimpleITK", "pyvista", "vtk", "pint", "scikit-image", "matplotlib")


def document(
    suite: Path, cases: Sequence[Case], entries: list[dict[str, Any]], old: dict[str, Any] | None
) -> dict[str, Any]:
    """verification.json: all but ``created``, ``machine`` and each case's ``seconds`` follows from suite and software."""
    entries = sorted(entries, key=lambda entry: str(entry["name"]))
    judged = [each for entry in entries for each in entry["expectations"]]
    digest = hashlib.sha256("".join(f"{case.name}\0{case.sha256}\0" for case in cases).encode()).hexdigest()
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "verdict": "pass" if all(entry["verdict"] == "pass" for entry in entries) else "fail",
        "intended_use": INTENDED_USE,
        "software": {"name": "iort_planner", "version": __version__},
        "created": dt.datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": _machine(),
        "suite": {"name": suite.resolve().name, "sha256": digest, "cases": len(entries)},
        "counts": {
            "passed": sum(entry["verdict"] == "pass" for entry in entries),
            "failed": sum(entry["verdict"] != "pass" for entry in entries),
            "expectations": {
                source: {
                    "passed": sum(each["verdict"] == "pass" for each in judged if each["source"] == source),
                    "failed": sum(each["verdict"] != "pass" for each in judged if each["source"] == source),
                }
                for source in sorted({each["source"] for each in judged})
            },
        },
        "cases": entries,
    }
    if old is not None:
        found["against"] = changes_since(old, entries)
    return found


def read_results(path: Path) -> dict[str, Any]:
    """An earlier run's verification.json.

    Raises
    ------
    InputError
        If it cannot be read or is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--against {path} cannot be read ({error.strerror}); give a verification.json") from error
    except ValueError as error:
        raise InputError(f"--against {path} is no JSON ({error}); give a verification.json") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise InputError(f"--against {path} is no verification.json of this version ({SCHEMA})")
    return content


def as_text(found: dict[str, Any]) -> str:
    """verification.json's text."""
    return json.dumps(found, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_results(folder: Path, found: dict[str, Any], pictures: Path) -> None:
    """Every file of a folder of results."""
    from iort_planner.verification.certificate import certificate
    from iort_planner.verification.page import page

    own = folder / "pictures"
    own.mkdir()
    for picture in sorted(pictures.glob("*.png")):
        shutil.copyfile(picture, own / picture.name)
    (folder / "verification.html").write_text(page(found, {each.stem for each in own.iterdir()}), encoding="utf-8")
    (folder / "verification.xml").write_bytes(junit(found))
    (folder / "certificate.pdf").write_bytes(certificate(found))
    (folder / "verification.json").write_text(as_text(found), encoding="utf-8")


def junit(found: dict[str, Any]) -> bytes:
    """JUnit XML: a test case for each case, its failed expectations in the message."""
    cases = found["cases"]
    suite = ET.Element(
        "testsuite",
        name=f"iort-planner verify {found['suite']['name']}",
        tests=str(len(cases)),
        failures=str(found["counts"]["failed"]),
        errors="0",
        skipped="0",
        time=f"{sum(entry['seconds'] for entry in cases):.3f}",
        timestamp=found["created"],
    )
    for entry in cases:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=found["suite"]["name"],
            name=_clean(entry["name"]),
            time=f"{entry['seconds']:.3f}",
        )
        if entry["verdict"] != "pass":
            lines = failures(entry)
            failure = ET.SubElement(case, "failure", message=_clean(lines[0]))
            failure.text = _clean("\n".join(lines))
    root = ET.Element("testsuites")
    root.append(suite)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def failures(entry: dict[str, Any]) -> list[str]:
    """Why a case failed, a line each."""
    lines = [entry["problem"]] if entry["problem"] else []
    for each in entry["expectations"]:
        if each["verdict"] != "pass":
            off = "" if each["difference"] is None else f", off by {each['difference']:.4g}"
            within = "" if each["tolerance"] is None else f" within {each['tolerance']:g}"
            unit = f" {each['unit']}" if each["unit"] else ""
            note = f" ({each['note']})" if each["note"] else ""
            lines.append(
                f"{each['key']}: {shown(each['found'])}, expected {shown(each['expected'])}{within}{unit}{off}{note}"
            )
    return lines or ["failed"]


def shown(value: Any) -> str:
    """A value for people."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return "(" + ", ".join(shown(each) for each in value) + ")"
    return "nothing" if value is None else str(value)


def _clean(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(c for c in text if c in "\t\n" or ord(c) >= 32)


def _machine() -> dict[str, Any]:
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "libraries": versions,
    }
