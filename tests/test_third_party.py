"""The list of third-party parts is that of what is installed."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

from iort_planner.third_party import main, third_parties


def test_every_direct_dependency_stands_there_with_its_installed_version_and_a_licence() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    found = {part.name.lower(): part for part in third_parties()}

    for requirement in project["dependencies"]:
        name = re.split(r"[><=]", requirement)[0].lower()
        assert found[name].version == importlib.metadata.version(name)
        assert found[name].licence != "not stated"
    assert "iort-planner" not in found


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    assert "| numpy | " in capsys.readouterr().out
