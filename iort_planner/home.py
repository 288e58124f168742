"""Where this tool keeps what outlives a plan folder: the record of accepted tables, say."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from iort_planner.errors import InputError

VARIABLE = "IORT_PLANNER_HOME"
_NAME = "iort_planner"


def home() -> Path:
    """The folder named by ``IORT_PLANNER_HOME``, else ``iort_planner`` in the platform's folder for user data.

    That is ``$XDG_DATA_HOME`` or ``~/.local/share`` (XDG Base Directory Specification 0.8), on macOS
    ``~/Library/Application Support``, on Windows ``%LOCALAPPDATA%``. Nothing is made; an empty variable counts as unset.

    Raises
    ------
    InputError
        If the variable names a relative path, which would mean another folder from each place, or there is no home.
    """
    given = os.environ.get(VARIABLE, "")
    if given:
        if not Path(given).is_absolute():
            raise InputError(f"{VARIABLE} is {given!r}, a relative path: give a full one, like /srv/iort_planner")
        return Path(given)
    try:
        return _user_data() / _NAME
    except RuntimeError as error:
        raise InputError(f"there is no home folder for this user ({error}); set {VARIABLE} to a full path") from error


def _user_data() -> Path:
    if sys.platform == "win32":
        return _absolute("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return _absolute("XDG_DATA_HOME") or Path.home() / ".local" / "share"


def _absolute(variable: str) -> Path | None:
    """A variable's path; relative ones are to be ignored (XDG specification)."""
    path = Path(os.environ.get(variable, ""))
    return path if path.is_absolute() else None
