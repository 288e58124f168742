"""Fixtures for the whole suite: the shared data folder, and one small phantom scan on disk."""

from __future__ import annotations

import datetime as dt
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A shared machine stands still now and then: time is measured in benchmarks, never in a test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


# A suite that a shell starts in the background inherits that Ctrl-C is ignored, and so would every child of it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    found = (SHARED / "data").is_dir()
    return f"shared data: {'found' if found else 'not found beside the project; tests marked shared are skipped'}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not (SHARED / "data").is_dir():
        skip = pytest.mark.skip(reason="the shared data folder is not beside the project's root")
        for item in items:
            if item.get_closest_marker("shared"):
                item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def _home_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's own record of acceptances."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("IORT_PLANNER_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """``shared/data`` beside the project's root; tests that use it are marked ``shared``."""
    return SHARED / "data"


@pytest.fixture(scope="session")
def small_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``scan/`` and ``truth.json`` of the small phantom; read only."""
    from iort_planner.phantom.dicom_series import write_phantom
    from iort_planner.phantom.scan import build
    from iort_planner.phantom.spec import find_spec, read_spec

    folder = tmp_path_factory.mktemp("small-phantom")
    write_phantom(build(read_spec(find_spec("small")), 1), folder, acquired_at=dt.datetime.now().astimezone())
    return folder
