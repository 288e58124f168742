"""Every fault of a table is a finding with its line, all of them in one reading; `read_table` stops at the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from iort_planner.applicator import read_applicator
from iort_planner.errors import DepthDoseTableError
from iort_planner.source.depth_dose import DepthDoseTable, ReferencePoint
from iort_planner.source.table_file import Examination, examine, examine_bytes, read_table, read_transfer_function
from iort_planner.source.tg43 import Tg43Source
from iort_planner.source.transfer import TransferFunction
from tests.source.table_files import HEADER_LINE, ROWS, text, write
from tests.tg43_texts import BODY
from tests.tg43_texts import HEAD as TG43_HEAD

HEADER = "distance_mm,dose_rate_gy_per_min\n"
APPLICATOR = read_applicator()


def failed(found: Examination) -> list[tuple[str, int | None]]:
    return [(f.id, f.line) for f in found.findings if f.status == "fail"]


def examined(rows: str = ROWS, **changes: str | None) -> Examination:
    return examine_bytes("table.csv", text(rows, **changes).encode("utf-8"))


def test_a_clean_table_has_no_failure_and_a_value() -> None:
    found = examined()

    assert failed(found) == []
    assert isinstance(found.table, DepthDoseTable)
    assert found.kind == "depth-dose"
    assert found.head["origin"] == "test"
    assert found.columns["row_lines"].tolist() == [HEADER_LINE + n for n in (1, 2, 3, 4)]
    assert found.columns["dose_rate_gy_per_min"].tolist() == [90.5, 24.0, 7.0, 1.9]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (HEADER + "3,90\n8,7\n5,24\n10,3\n", [("order", 16)]),
        (HEADER + "3,90\n5,24\n5,24\n8,7\n", [("repeated", 16)]),
        (HEADER + "3,90\n5,95\n8,7\n", [("falling", 15)]),
        (HEADER + "3,90\n5,-24\n8,7\n", [("positive", 15)]),
        (HEADER + "-3,90\n5,24\n8,7\n", [("positive", 14)]),
        (HEADER + "3,inf\n5,24\n8,7\n", [("number", 14)]),
        (HEADER + "3,90\n5,\n8,7\n", [("number", 15)]),
        (HEADER + "3,90\n5\n8,7\n", [("cells", 15)]),
        (HEADER + "3,90\n", [("rows", None)]),
        (HEADER + "8,7\n5,24\n3,90\n", [("order", 15)]),
        (HEADER + "90,3\n24,5\n7,8\n", [("order", 15)]),
        ("dose_rate_gy_per_min,distance_mm\n90,3\n24,5\n7,8\n", [("header", 13)]),
        ("distance_cm,dose_rate_gy_per_min\n0.3,90\n0.5,24\n", [("header", 13)]),
        ("distance_mm,dose_rate_cgy_per_min\n3,90\n5,24\n", [("header", 13)]),
        ("depth_mm,dose_rate_gy_per_min\n3,90\n5,24\n", [("header", 13)]),
        (
            "distance_mm,dose_rate_gy_per_min,uncertainty_percent\n3,90,0\n5,24,101\n",
            [("uncertainty", 14), ("uncertainty", 15)],
        ),
        (ROWS + "theta_deg,r5mm\n0,0.5\n90,0.9\n180,0.5\n", [("anisotropy", 18)]),
        (ROWS + "theta_deg,5\n0,0.5\n90,1\n", [("anisotropy", 18)]),
        (ROWS + "theta_deg,r5mm\n0,0.5,0.6\n90,1\n", [("cells", 19)]),
    ],
)
def test_each_fault_of_the_rows_is_named_with_its_line(rows: str, expected: list[tuple[str, int | None]]) -> None:
    found = examined(rows)

    assert failed(found) == expected
    assert found.table is None


def test_all_faults_are_found_in_one_reading_and_the_first_one_stops(tmp_path: Path) -> None:
    rows = HEADER + "3,90\n5,x\n8,-7\n9,6\n9,5\n10,5.5\n"
    path = write(tmp_path, rows, scale="v5", measured="then", origin=None, trusted_range_mm="1 30")
    found = examine(path)

    assert failed(found) == [
        ("origin", None),
        ("scale", 5),
        ("measured", 9),
        ("trusted_range_mm", 12),
        ("number", 15),
        ("positive", 16),
        ("repeated", 18),
        ("falling", 19),
    ]
    with pytest.raises(DepthDoseTableError, match=r"the head lacks '# origin"):
        read_table(path)


def test_bad_cells_leave_the_other_numbers_readable() -> None:
    columns = examined(HEADER + "3,90\n5,x\n8,7\n").columns

    assert columns["distance_mm"].tolist() == [3.0, 5.0, 8.0]
    assert np.isnan(columns["dose_rate_gy_per_min"]).tolist() == [False, True, False]


def test_a_file_that_is_no_table_has_a_bounded_list_of_findings() -> None:
    found = examine_bytes("prose.csv", b"once upon a time\n" * 5000)

    assert len(found.findings) <= 101
    assert "findings more" in found.findings[-1].message


def test_a_coverage_factor_applies_to_head_and_column_alike() -> None:
    rows = "distance_mm,dose_rate_gy_per_min,uncertainty_percent\n3,90,8\n5,24,6\n"
    by_column, by_head = examined(rows, uncertainty="20 % (k=2)").table, examined(uncertainty="5 % (k=2.5)").table

    assert isinstance(by_column, DepthDoseTable)
    assert isinstance(by_head, DepthDoseTable)
    assert by_column.uncertainty_percent.tolist() == [4.0, 3.0]
    assert set(by_head.uncertainty_percent.tolist()) == {2.0}


def test_a_second_section_is_the_polar_anisotropy() -> None:
    section = "theta_deg,r5mm,r10mm\n0,0.5,0.6\n90,1,1\n180,0.2,0.3\n"
    for rows in (ROWS + section, (ROWS + section).replace(",", ";")):
        table = examined(rows).table
        assert isinstance(table, DepthDoseTable)
        assert table.anisotropy is not None
        assert float(table.anisotropy.factor_at(7.5, 45.0)) == pytest.approx((0.5 + 1 + 0.6 + 1) / 4)
        assert table.distance_mm.size == 4


def test_a_transfer_function_need_not_fall(tmp_path: Path) -> None:
    path = write(
        tmp_path, "distance_mm,transfer_function\n3,0.85\n8,0.92\n20,0.95\n30,0.94\n", kind="transfer-function"
    )
    found = read_transfer_function(path)

    assert isinstance(found, TransferFunction)
    assert found.factor.tolist() == [0.85, 0.92, 0.95, 0.94]
    with pytest.raises(DepthDoseTableError, match="apply_transfer"):
        read_table(path)
    with pytest.raises(DepthDoseTableError, match="must be transfer-function here"):
        read_transfer_function(write(tmp_path))
    unsorted = examined("distance_mm,transfer_function\n3,0.85\n2,0.9\n5,0.9\n", kind="transfer-function")
    assert failed(unsorted) == [("order", 15)]


def test_a_tg43_file_is_examined_by_its_own_parser() -> None:
    head = "".join(f"# {key}: {value}\n" for key, value in TG43_HEAD.items())
    good = examine_bytes("seed.csv", (head + BODY).encode("utf-8"))
    bad = examine_bytes("seed.csv", (head + BODY.replace("g,1,1\n", "g,0.3,1\n")).encode("utf-8"))
    lacking = examine_bytes("seed.csv", (head.replace("# origin: made up for the tests\n", "") + BODY).encode("utf-8"))

    assert isinstance(good.table, Tg43Source)
    assert failed(good) == []
    assert [identifier for identifier, _ in failed(bad)] == ["tg43"]
    assert failed(bad)[0][1] == len(TG43_HEAD) + 4
    assert failed(lacking) == [("origin", None)]


@pytest.mark.parametrize(("point", "added_mm"), [("tip", 3.0), ("applicator-surface", 2.2)])
def test_distances_from_tip_or_surface_are_taken_to_the_source_by_the_applicator(
    tmp_path: Path, point: str, added_mm: float
) -> None:
    # tip_to_source_mm = 3.0 and outer_diameter_mm = 4.4 in the shipped applicator
    path = write(tmp_path, reference_point=point, trusted_range_mm="5 8")
    table = read_table(path, APPLICATOR)

    assert table.distance_mm.tolist() == pytest.approx([r + added_mm for r in (3.0, 5.0, 8.0, 13.0)])
    assert table.trusted_range_mm == pytest.approx((5 + added_mm, 8 + added_mm))
    assert table.reference_point is ReferencePoint(point)
    assert APPLICATOR.name in table.notes[0]
    assert f"{added_mm:+g} mm" in table.notes[0]
    assert examine(path, APPLICATOR).columns["distance_mm"].tolist() == [3.0, 5.0, 8.0, 13.0]  # as in the file
    with pytest.raises(DepthDoseTableError, match="give the applicator file"):
        read_table(path)


def test_another_applicator_than_the_tables_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, reference_point="tip", applicator="sphere 3 cm")
    found = examine(path, APPLICATOR)

    assert [f.id for f in found.findings if f.status == "warn"] == ["table-applicator"]
    assert any("sphere 3 cm" in note for note in read_table(path, APPLICATOR).notes)


def test_an_anisotropy_from_the_tip_is_refused() -> None:
    rows = ROWS + "theta_deg,r5mm\n0,0.5\n90,1\n180,0.2\n"
    found = examine_bytes("t.csv", text(rows, reference_point="tip").encode("utf-8"), APPLICATOR)

    assert failed(found) == [("reference_point", 4)]
