"""Each hazard has a control, and each control a test that exists; checks that a row names exist too."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ("hazard", "severity", "cause", "control", "test")
ROW = re.compile("^" + "".join(rf"\| (?P<{name}>[^|]+) " for name in COLUMNS) + r"\|$", re.MULTILINE)
LOADER_IDS = re.compile(r"^padding-above-air.*?\(all warn", re.MULTILINE | re.DOTALL)


def rows() -> list[dict[str, str]]:
    text = (ROOT / "docs" / "hazards.md").read_text(encoding="utf-8")
    found = [match.groupdict() for match in ROW.finditer(text)]
    return [row for row in found if row["hazard"] != "hazard" and not row["hazard"].startswith("-")]


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def documented_checks() -> set[str]:
    text = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    carried = LOADER_IDS.search(text)
    assert carried is not None
    return set(re.findall(r"^\| `([a-z-]+)` \|", text, flags=re.MULTILINE)) | set(
        re.findall(r"[a-z][a-z-]+-[a-z-]+", carried[0])
    )


def test_there_are_hazards_with_severity_cause_and_control() -> None:
    found = rows()

    assert len(found) >= 40
    assert len({row["hazard"] for row in found}) == len(found)
    assert all(row["severity"] in ("S1", "S2", "S3") for row in found)


def test_every_control_is_exercised_by_a_test_that_exists() -> None:
    for row in rows():
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row["test"])
        assert named, f"{row['hazard']}: no test"
        for file, name in named:
            assert (ROOT / file).is_file(), f"{row['hazard']}: {file} does not exist"
            assert name in names_in(ROOT / file), f"{row['hazard']}: {name} is not in {file}"


def test_every_check_that_is_named_exists() -> None:
    known = documented_checks()
    for row in rows():
        for check in re.findall(r"check `([a-z-]+)`", row["control"]):
            assert check in known, f"{row['hazard']}: there is no check {check}"


def test_every_check_that_can_fail_stands_against_a_hazard() -> None:
    text = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    failing = set(re.findall(r"^\| `([a-z-]+)` \| fail \|", text, flags=re.MULTILINE))
    used = {check for row in rows() for check in re.findall(r"`([a-z-]+)`", row["control"])}

    assert failing <= used
