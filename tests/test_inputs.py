"""Small files that a user names: pipes, devices, folders and giants are refused, not waited for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from iort_planner.applicator import read_applicator
from iort_planner.errors import IortError
from iort_planner.imaging.structures.read import list_structures
from iort_planner.inputs import SMALL_FILE_BYTES, read_small
from iort_planner.planning.plan_file import read_plan
from iort_planner.source.table_file import read_table

READERS = [read_applicator, read_plan, read_table, list_structures]


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes and devices by path there")
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_pipes_devices_and_folders_end_in_one_line(tmp_path: Path, reader: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(IortError, match=r"it is no regular file|it is a folder"):
            reader(path)


def test_giants_are_not_read(tmp_path: Path) -> None:
    giant = tmp_path / "giant"
    giant.touch()
    os.truncate(giant, SMALL_FILE_BYTES + 1)
    with pytest.raises(OSError, match="over 20 MB"):
        read_small(giant)
