"""The automatic canal on the real cases, within the bars of `tests.geometry.real_canals` (which prints the distribution)."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import numpy as np
import pytest

from tests.geometry import real_canals
from tests.geometry.real_canals import CASES, RealCase, Run

pytestmark = pytest.mark.shared
_MOST_RUNS = 4  # of a case; `python -m tests.geometry.real_canals` runs all
_CAP_MM = 6.0  # slices that meet a cap of the tube are not measured: a tilted one takes up to that much


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def runs(request: pytest.FixtureRequest, shared_data: Path) -> list[Run]:
    case: RealCase = request.param
    pytest.importorskip("SimpleITK")
    assert shared_data.samefile(real_canals.DATA)
    every = list(real_canals.sources(case))
    chosen = every[:: -(-len(every) // _MOST_RUNS)]
    return [real_canals.run(case, *source) for source in chosen]


def test_every_real_canal_is_found(runs: list[Run]) -> None:
    assert [run.refused for run in runs if run.refused] == []


def test_wall_lies_on_the_contours(runs: list[Run]) -> None:
    for run in runs:
        thick = float(np.max(real_canals.load(run.case).grid.spacing_mm)) > 3.0
        if run.on_bone_mm:
            limit = real_canals.ON_BONE_THICK_MM if thick else real_canals.ON_BONE_MM
            assert np.percentile(run.on_bone_mm, 95) <= limit
        assert np.percentile(run.elsewhere_mm, 95) <= real_canals.ELSEWHERE_MM
        assert max(run.centroid_mm) <= real_canals.CENTROID_MM
        assert run.leak_mm <= real_canals.LEAK_MM


def test_no_silent_failure_and_the_error_stays_in_its_uncertainty(runs: list[Run]) -> None:
    contour_mm = 0.7  # of the contours themselves, k=1 (their README)
    for run in runs:
        assert not run.high or abs(run.distance_error_mm) <= real_canals.SILENT_MM
        assert abs(run.distance_error_mm) <= 2.0 * np.hypot(run.uncertainty_mm, contour_mm)


def test_surface_covers_the_level_and_one_each_way_where_the_image_does(runs: list[Run]) -> None:
    slice_mm = float(np.max(real_canals.load(runs[0].case).grid.spacing_mm))
    assert reduce(max, (run.missing_mm for run in runs)) <= _CAP_MM + slice_mm


def test_confidence_is_high_on_calibrated_scans_with_a_needle_and_low_on_others(runs: list[Run]) -> None:
    for run in runs:
        if not run.case.calibrated:
            assert not run.high
            assert any("not HU" in reason for reason in run.reasons)
        elif run.source == "needle":
            assert run.high
