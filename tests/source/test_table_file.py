"""Reading the CSV form: what is right is read, what is not is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from iort_planner import library
from iort_planner.errors import DepthDoseTableError
from iort_planner.source.table_file import read_table
from tests.source.table_files import HEAD, ROWS, write


def test_a_clean_table_is_read(tmp_path: Path) -> None:
    table = read_table(write(tmp_path))

    assert table.distance_mm.tolist() == [3.0, 5.0, 8.0, 13.0]
    assert table.uncertainty_percent.tolist() == [20.0] * 4
    assert table.trusted_range_mm == (3.0, 13.0)
    assert len(table.sha256) == 64


def test_an_uncertainty_at_k_2_is_halved(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, uncertainty="20 % (k=2)"))

    assert table.uncertainty_percent.tolist() == [10.0] * 4


def test_every_shipped_table_is_read_and_not_clinical() -> None:
    assert library.names("tables")
    for name in library.names("tables"):
        assert not read_table(name).clinical


@pytest.mark.parametrize("key", sorted(HEAD))
def test_each_required_key_is_required(tmp_path: Path, key: str) -> None:
    with pytest.raises(DepthDoseTableError, match=key):
        read_table(write(tmp_path, ROWS, **{key: None}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "depth"}, "line 2: kind is 'depth', must be one of depth-dose, transfer-function, tg43"),
        ({"kind": "tg43"}, "it is for the engine tg43"),
        ({"medium": "bone"}, "medium is 'bone'"),
        ({"reference_point": "tip"}, "line 4: distances start at the tip: they are taken to the source centre only"),
        ({"reference_point": "somewhere"}, "reference_point"),
        ({"scale": "v5"}, "scale is 'v5', must be one of targit, v4.0, cq, other"),
        ({"measured": "yesterday"}, "must be a date"),
        ({"uncertainty": "20"}, "must be like"),
        ({"uncertainty": "20 % (k=0)"}, "must be like"),
        ({"uncertainty": ". % (k=1)"}, "must be like"),
        ({"uncertainty": "200 % (k=1)"}, "above 0 and up to 100 %"),
        ({"measured": "01.10.2026"}, "must be a date like 2026-10-01"),
        ({"measured": "20261001"}, "must be a date like 2026-10-01"),
        ({"measured": "2999-01-01"}, "a date in the future"),
        ({"tube_current_ua": "0"}, "must be finite and above 0"),
        ({"tube_current_ua": "1_000"}, "must be a number"),
        ({"Derived": "yes"}, "unknown key 'Derived', is 'derived' meant?"),
        ({"clinical": "maybe"}, "must be one of yes, no"),
        ({"tube_voltage_kv": "fifty"}, "must be a number"),
        ({"trusted_range_mm": "1 30"}, "must be two distances inside the rows"),
        ({"trusted_range": "5 30"}, "is 'trusted_range_mm' meant"),
    ],
)
def test_a_wrong_head_is_named_with_its_line(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(DepthDoseTableError, match=r"table table\.csv") as caught:
        read_table(write(tmp_path, **changes))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("distance_cm,dose_rate_gy_per_min\n0.3,90\n0.5,24\n", "the unit is part of the name"),
        ("distance_mm,dose_rate_cgy_per_min\n3,90\n5,24\n", "the unit is part of the name"),
        ("dose_rate_gy_per_min,distance_mm\n90,3\n24,5\n", "columns are"),
        ("distance_mm,dose_rate_gy_per_min\n3,90\n8,7\n5,24\n", "line 16: distance 5 mm does not increase"),
        ("distance_mm,dose_rate_gy_per_min\n3,90\n3,90\n", "line 15: distance 3 mm does not increase"),
        ("distance_mm,dose_rate_gy_per_min\n3,90\n5,95\n", "line 15: dose rate 95 Gy/min does not fall"),
        ("distance_mm,dose_rate_gy_per_min\n3,90\n5,-1\n", "line 15: '5,-1': distance and dose rate must be above 0"),
        ("distance_mm,dose_rate_gy_per_min\n3,90\n5,nan\n", "must be finite"),
        ("distance_mm,dose_rate_gy_per_min\n3,90\n5,12;4\n", "must be a number"),
        ("distance_mm,dose_rate_gy_per_min\n3,90\n5,24,1\n", "3 cells under 2 columns"),
        ("distance_mm,dose_rate_gy_per_min\n3,90\n", "found 1 rows"),
        ("distance_mm;dose_rate_gy_per_min\n3,90\n5,24\n", "line 14: 1 cells under 2 columns"),
        ("", "found 0 rows"),
    ],
)
def test_wrong_rows_are_named_with_their_line(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(DepthDoseTableError) as caught:
        read_table(write(tmp_path, rows))
    assert message in str(caught.value)


def test_what_is_no_table_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DepthDoseTableError, match="cannot be read"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DepthDoseTableError, match="cannot be read"):
        read_table(tmp_path)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DepthDoseTableError, match="UTF-8"):
        read_table(binary)
    twice = write(tmp_path)
    twice.write_text("# scale: targit\n" + twice.read_text("utf-8"), encoding="utf-8")
    with pytest.raises(DepthDoseTableError, match="'scale' is given twice"):
        read_table(twice)
