"""Where state is kept: the variable first, then what the platform says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from iort_planner.errors import InputError
from iort_planner.home import home


@pytest.fixture(autouse=True)
def _user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IORT_PLANNER_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/anna")


def test_the_variable_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.setenv("IORT_PLANNER_HOME", "/srv/iort")

    assert home() == Path("/srv/iort")


@pytest.mark.parametrize("given", ["iort", "./iort", "~/iort"])
def test_a_relative_home_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("IORT_PLANNER_HOME", given)
    with pytest.raises(InputError, match="a relative path"):
        home()


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "/home/anna/.local/share/iort_planner"),
        ("linux", {"IORT_PLANNER_HOME": ""}, "/home/anna/.local/share/iort_planner"),
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/iort_planner"),
        ("linux", {"XDG_DATA_HOME": "data"}, "/home/anna/.local/share/iort_planner"),  # relative: to be ignored
        ("darwin", {"XDG_DATA_HOME": "/data"}, "/home/anna/Library/Application Support/iort_planner"),
        ("win32", {"LOCALAPPDATA": "/users/anna/AppData/Local"}, "/users/anna/AppData/Local/iort_planner"),
        ("win32", {}, "/home/anna/AppData/Local/iort_planner"),
    ],
)
def test_each_platform_has_its_folder(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert home() == Path(expected)


def test_no_home_is_a_clear_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", staticmethod(none))
    with pytest.raises(InputError, match="set IORT_PLANNER_HOME"):
        home()
