"""One fault in each layer makes ``verify`` fail, at the case that is there for it, with the words that name it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from iort_planner.verification import verify
from iort_planner.verification.results import failures
from tests.verification.suites import PHANTOMS, plant

AFTER_LOADING = """
    import dataclasses, sys
    import iort_planner.imaging.series as series
    real = series.load_series
    def faulty(*args, **kwargs):
        image = real(*args, **kwargs)
        grid = image.volume.grid
        grid = dataclasses.replace(grid, {change})
        return dataclasses.replace(image, volume=dataclasses.replace(image.volume, grid=grid))
    series.load_series = faulty
"""

FAULTS = {
    "spacing": (
        AFTER_LOADING.format(change="spacing_mm=(grid.spacing_mm[1], grid.spacing_mm[0], grid.spacing_mm[2])"),
        "spacing-unequal-pixels",
        "image.spacing_mm",
    ),
    "orientation": (
        AFTER_LOADING.format(change="direction_lps=grid.direction_lps * [[-1.0], [1.0], [1.0]]"),
        "small",
        "needles.0.tip_lps_mm",
    ),
    "table": (
        """
        import dataclasses
        import iort_planner.source.table_file as table_file
        real = table_file.read_table
        def faulty(*args, **kwargs):
            table = real(*args, **kwargs)
            return dataclasses.replace(table, dose_rate_gy_per_min=1.43 * table.dose_rate_gy_per_min)
        table_file.read_table = faulty
        """,
        "8-gy-at-8-mm",
        "result.dwell_time_s",
    ),
    "RBE": (
        """
        import iort_planner.units as units
        units.rbe_weighted = lambda dose, rbe: units.Quantity(units.magnitude_in(dose, "Gy", "dose") * 1.3, "Gy_RBE")
        """,
        "dose-6-rbe-1",
        "prescription.dose_gy_rbe",
    ),
    "time": (
        """
        import iort_planner.planning.dwell as dwell
        real = dwell.time_for
        dwell.time_for = lambda dose, rate: 1.06 * real(dose, rate)
        """,
        "8-gy-at-8-mm",
        "result.dwell_time_s",
    ),
    "canal": (
        """
        import dataclasses
        import iort_planner.geometry.canal as canal
        real = canal.segment_canal
        def faulty(*args, **kwargs):
            found = real(*args, **kwargs)
            return dataclasses.replace(found, vertices_lps_mm=found.vertices_lps_mm + [0.0, 3.0, 0.0])
        canal.segment_canal = faulty
        """,
        "small",
        "canal.distance_from_source_mm",
    ),
    "report": (
        """
        import iort_planner.report.folder as folder
        real = folder.write_plan_folder
        def faulty(where, **kwargs):
            plan = real(where, **kwargs)
            (where / "report.pdf").unlink(missing_ok=True)
            return plan
        folder.write_plan_folder = faulty
        """,
        "small",
        "files",
    ),
}


@pytest.mark.parametrize("layer", FAULTS)
def test_a_fault_in_one_layer_fails_the_case_that_is_there_for_it(
    layer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, name, key = FAULTS[layer]
    for case in (name, "table-good"):
        shutil.copytree(PHANTOMS / "cases" / case, tmp_path / "suite" / case)
    plant(monkeypatch, tmp_path / "fault", code)
    found = verify(tmp_path / "suite", tmp_path / "out", jobs=1)
    entries = {entry["name"]: entry for entry in found["cases"]}

    assert found["verdict"] == "fail"
    assert entries["table-good"]["verdict"] == "pass"
    assert any(line.startswith(key) for line in failures(entries[name])), failures(entries[name])
