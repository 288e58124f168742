"""A table that is written and read back is the same table."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iort_planner import library
from iort_planner.applicator import read_applicator
from iort_planner.errors import DepthDoseTableError, OutputError
from iort_planner.source.depth_dose import DepthDoseTable, ReferencePoint, Scale
from iort_planner.source.polar import PolarAnisotropy
from iort_planner.source.scale import convert_scale, published_conversion
from iort_planner.source.table_file import read_table
from iort_planner.source.table_write import write_table
from tests.source.table_files import DAY, table, write

LEFT_OUT = {"file", "sha256", "anisotropy", "_curve"}


def assert_equal(one: DepthDoseTable, other: DepthDoseTable, *but: str) -> None:
    for field in dataclasses.fields(DepthDoseTable):
        if field.name in LEFT_OUT or field.name in but:
            continue
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        same = np.array_equal(ours, theirs) if isinstance(ours, np.ndarray) else ours == theirs
        assert same, (field.name, ours, theirs)
    assert (one.anisotropy is None) == (other.anisotropy is None)
    if one.anisotropy is not None and other.anisotropy is not None:
        for name in ("theta_deg", "distance_mm", "factor", "completed"):
            assert np.array_equal(getattr(one.anisotropy, name), getattr(other.anisotropy, name)), name


def there_and_back(made: DepthDoseTable, folder: Path) -> DepthDoseTable:
    write_table(made, folder / "made.csv")
    return read_table(folder / "made.csv")


def test_the_shipped_tables_come_back_equal(tmp_path: Path) -> None:
    for name in library.names("tables"):
        assert_equal(there_and_back(read_table(name), tmp_path), read_table(name))


def polar(theta: list[float], factor: list[list[float]]) -> PolarAnisotropy:
    return PolarAnisotropy(theta_deg=np.array(theta), distance_mm=np.array([5.0, 7.5]), factor=np.array(factor))


@pytest.mark.parametrize(
    "anisotropy",
    [
        polar([0.0, 45.5, 90.0, 180.0], [[0.5, 0.6], [0.8, 0.9], [1.0, 1.0], [0.1, 1 / 3]]),
        polar([0.0, 45.5, 90.0], [[0.5, 0.6], [0.8, 0.9], [1.0, 1.0]]),  # mirrored by assumption
        polar([0.0, 45.5, 85.0], [[0.5, 0.6], [0.8, 0.9], [0.99, 0.98]]),
    ],
    ids=["whole", "mirrored", "closed and mirrored"],
)
def test_a_converted_table_with_anisotropy_comes_back_equal(tmp_path: Path, anisotropy: PolarAnisotropy) -> None:
    bare = table([7.5, 10.0, 20.0, 25.0], anisotropy=anisotropy, notes=("first note, with a comma", "second: note"))
    made = convert_scale(bare, published_conversion(Scale.TARGIT, Scale.CQ), made=DAY)

    assert_equal(there_and_back(made, tmp_path), made)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    st.lists(st.floats(0.01, 30.0), min_size=2, max_size=12),
    st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12),
    st.floats(1e-6, 100.0),
)
def test_any_table_comes_back_equal(tmp_path: Path, steps: list[float], words: str, percent: float) -> None:
    r = np.cumsum(steps) + 1.0
    made = table(r, 1234.5 / r**2.7, origin=f'{words}, "{words}",', uncertainty_percent=np.full(r.shape, percent))

    assert_equal(there_and_back(made, tmp_path), made)


def test_a_table_from_the_tip_is_written_from_the_source_centre(tmp_path: Path) -> None:
    read = read_table(write(tmp_path, reference_point="tip"), read_applicator())
    back = there_and_back(read, tmp_path)

    assert_equal(back, read, "reference_point")
    assert (read.reference_point, back.reference_point) == (ReferencePoint.TIP, ReferencePoint.SOURCE_CENTRE)
    assert "from the tip" in back.notes[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"applicator": ""}, "applicator is empty"),
        ({"measured": ""}, "measured is empty"),
        ({"origin": "two\nlines"}, "origin has a line break"),
        ({"notes": ("two\u2028lines",)}, "note 1 has a line break"),
        ({"name": " x"}, "spaces at its ends"),
        ({"uncertainty_percent": np.zeros(6)}, "above 0 and up to 100 %"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = tmp_path / "made.csv"
    path.write_text("before", encoding="utf-8")
    with pytest.raises(DepthDoseTableError) as caught:
        write_table(table(**changes), path)

    assert message in str(caught.value)
    assert path.read_text("utf-8") == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["made.csv"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_table(table(), tmp_path / "none" / "made.csv")
