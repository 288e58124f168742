"""Reading in tests: right, or refused in one line; within bounds, and without a trace on the disk."""

from __future__ import annotations

import itertools
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import FileDataset

from iort_planner.errors import ImageError
from iort_planner.imaging.series import ScanImage, load_series
from iort_planner.imaging.survey import survey_path

from .dicom_factory import OBLIQUE, Edit, Scan

SCAN = Scan(axes=OBLIQUE)
TOLERANCE_MM = 0.01  # issue 3
Stop = Callable[..., str]  # the fixture `stopped`: path, words, options -> the one line
MOST_SECONDS = 10.0  # issue 3: no file may keep us longer
MOST_BYTES = 250e6  # issue 3 allows 500 MB beside four times the volume, which is some kB here


def stays_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For a fixture: working and temporary folder are empty ones of the test's own, and stay so."""
    places = [tmp_path / "here", tmp_path / "temporary"]
    for place in places:
        place.mkdir()
    monkeypatch.chdir(places[0])
    monkeypatch.setattr(tempfile, "tempdir", str(places[1]))
    monkeypatch.setenv("TMPDIR", str(places[1]))
    yield
    assert [list(place.iterdir()) for place in places] == [[], []]


@contextmanager
def bounded(path: Path) -> Iterator[None]:
    """No file is made or changed beside what is read; time and memory stay small."""

    def listing() -> list[tuple[str, int, int]]:
        found = [(file, file.lstat()) for file in sorted(path.parent.rglob("*"))]
        return [(str(file), state.st_size, state.st_mtime_ns) for file, state in found]

    before, start = listing(), time.monotonic()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.monotonic() - start < MOST_SECONDS
    assert peak < MOST_BYTES
    assert listing() == before


def agrees(image: ScanImage, scan: Scan, values: npt.NDArray[np.float64] | None = None) -> None:
    """Every corner at its place, every voxel with its value."""
    grid = image.volume.grid
    assert grid.size_voxels == scan.size
    last = [n - 1 for n in scan.size]
    for corner in itertools.product((0, 1), repeat=3):
        index = [n * c for n, c in zip(last, corner, strict=True)]
        assert np.linalg.norm(grid.index_to_lps(index) - scan.point(*index)) <= TOLERANCE_MM
    np.testing.assert_array_equal(image.volume.values, scan.hu() if values is None else values)


def read(path: Path, scan: Scan = SCAN) -> ScanImage:
    """Load, and compare with the truth."""
    with bounded(path):
        image = load_series(path)
    agrees(image, scan)
    return image


def refused(path: Path, *words: str) -> str:
    """Refused in one line with these words, by `plan` and `inspect` alike, within the bounds."""
    with bounded(path), pytest.raises(ImageError) as caught:
        load_series(path)
    message = str(caught.value)
    assert "\n" not in message
    assert "Secret" not in message
    for word in words:
        assert word in message, message
    with bounded(path):
        try:
            assert not any(report.plannable for report in survey_path(path).series)
        except ImageError as error:
            assert str(error) == message  # noqa: PT017 - both ways of saying no are right
    return message


def problems(path: Path) -> dict[str, str]:
    """What `inspect` says of all series under a path, by id."""
    return {p.id: p.message for report in survey_path(path).series for p in report.problems}


def ignored(path: Path) -> dict[str, int]:
    return dict(survey_path(path).ignored)


def every(**values: object) -> Edit:
    """Set a tag in every slice; None removes it."""

    def edit(k: int, data: FileDataset) -> None:
        for keyword, value in values.items():
            if value is None:
                if keyword in data:
                    delattr(data, keyword)
            else:
                setattr(data, keyword, value)

    return edit
