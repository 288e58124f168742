"""The lower bounds that are claimed are the ones that are run, and the pinned set holds hashes and no addresses."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_OURS = {"pyparsing"}  # held back for matplotlib, see lowest.txt


def bounds() -> dict[str, str]:
    """Each dependency of the package and of its tests, with its lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [re.split(r">=", each) for each in project["dependencies"] + project["optional-dependencies"]["test"]]
    assert all(len(each) == 2 for each in found)  # a dependency without a lower bound is no claim
    return {name.lower(): bound for name, bound in found}


def pins(name: str) -> list[list[str]]:
    """Lines like ``package==1.2``, package in lower case."""
    lines = (ROOT / "constraints" / name).read_text(encoding="utf-8").splitlines()
    return [re.split(r"==|[ ;]", line.lower())[:2] for line in lines if re.match(r"[A-Za-z]", line)]


def numbers(version: str) -> tuple[int, ...]:
    """For comparison: 2.0 and 2.0.0 are one."""
    parts = [int(part) for part in version.split(".")]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def test_the_lowest_versions_that_ci_runs_are_the_bounds_that_pyproject_claims() -> None:
    lowest = {name: numbers(version) for name, version in pins("lowest.txt") if name not in NOT_OURS}

    assert lowest == {name: numbers(bound) for name, bound in bounds().items()}


def test_the_hashed_set_holds_every_dependency_at_or_above_its_bound_with_hashes_and_no_address() -> None:
    text = (ROOT / "constraints" / "hashed.txt").read_text(encoding="utf-8")
    found = pins("hashed.txt")

    names = {name for name, _ in found}
    assert set(bounds()) | {"hatchling", "ruff", "mypy", "import-linter"} <= names
    for name, version in found:
        if name in bounds():
            assert numbers(version) >= numbers(bounds()[name])
    for requirement in re.split(r"\n(?=[a-zA-Z])", text):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", requirement), requirement[:60]
    for what in ("://", "/", "--index", "--find-links", "@"):
        assert what not in text
