"""What `qa check` says beyond single faults: acceptance, other kinds, tables from the tip, dates, rows that cannot be judged."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pytest

from iort_planner.applicator import read_applicator
from iort_planner.qa import TableCheck, check_table
from iort_planner.source.acceptance import accept
from tests.qa.tables import GRID, Table, noise, power, three_exponentials

TODAY = dt.date(2026, 11, 26)


def status(result: TableCheck) -> dict[str, str]:
    return {each.id: each.status for each in reversed(result.findings)}


@pytest.fixture
def clinical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IORT_PLANNER_HOME", str(tmp_path / "home"))
    table = Table(rate=three_exponentials(GRID))
    table.head["clinical"] = "yes"
    return table.write(tmp_path / "clinical.csv")


def test_a_clinical_table_warns_until_these_very_bytes_are_accepted(clinical: Path) -> None:
    assert status(check_table(clinical, today=TODAY))["acceptance"] == "warn"
    now = dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC)
    accept(clinical, by="A. Physicist", until=dt.date(2027, 6, 1), now=now)
    result = check_table(clinical, today=TODAY)
    assert (result.verdict, status(result)["acceptance"]) == ("pass", "pass")

    assert status(check_table(clinical, today=dt.date(2027, 6, 2)))["acceptance"] == "warn"
    clinical.write_text(clinical.read_text(encoding="utf-8").replace("made for", "made again for"), encoding="utf-8")
    finding = next(each for each in check_table(clinical, today=TODAY).findings if each.id == "acceptance")
    assert finding.status == "warn"
    assert "other bytes of this name" in finding.message


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ("2025-12-01", "pass"),
        ("2025-10-26", "pass"),
        ("2025-10-25", "warn"),
        ("2024-10-26", "warn"),
        ("2024-10-25", "fail"),
    ],
)
def test_the_age_warns_after_13_and_fails_after_25_months(measured: str, expected: str, tmp_path: Path) -> None:
    table = Table()
    table.head["measured"] = measured

    assert status(check_table(table.write(tmp_path / "t.csv"), today=TODAY))["age"] == expected


def test_a_derived_table_does_not_age(tmp_path: Path) -> None:
    table = Table()
    table.head |= {"measured": "2015-01-01", "derived": "yes"}

    assert status(check_table(table.write(tmp_path / "t.csv"), today=TODAY))["age"] == "pass"


def test_a_table_from_the_tip_is_judged_from_the_source_centre(tmp_path: Path) -> None:
    applicator = read_applicator()
    table = Table(rate=power(GRID + applicator.tip_to_source_mm))
    table.head["reference_point"] = "tip"
    result = check_table(table.write(tmp_path / "t.csv"), applicator=applicator, today=TODAY)

    assert status(result)["slope"] == "pass"
    assert result.rows is not None
    assert result.rows.distance_mm == pytest.approx(GRID + applicator.tip_to_source_mm)


def write_transfer(path: Path, percent: float = 0.0, factor: float = 1.0) -> Path:
    table = Table(rate=factor * (0.97 - 0.2 / GRID) * noise(4, 0.2, GRID.size), header="distance_mm,transfer_function")
    table.head["kind"] = "transfer-function"
    table.rate[12] *= 1.0 + percent / 100.0
    return table.write(path)


def test_a_transfer_function_is_judged_as_a_ratio(tmp_path: Path) -> None:
    sound = check_table(write_transfer(tmp_path / "sound.csv"), today=TODAY)
    assert {each.id for each in sound.findings if each.status != "pass"} == {"not-clinical"}

    outlier = check_table(write_transfer(tmp_path / "outlier.csv", percent=3.0), today=TODAY)
    assert [(each.id, each.line) for each in outlier.findings if each.status == "fail"] == [("outlier", 26)]

    percent = check_table(write_transfer(tmp_path / "percent.csv", factor=100.0), today=TODAY)
    assert "looks like percent" in next(each for each in percent.findings if each.id == "units").message
    json.dumps(percent.as_json(), allow_nan=False)


def test_rows_that_cannot_be_judged_are_a_failing_finding_not_a_crash(tmp_path: Path) -> None:
    table = Table(r=np.array([3.0, 4.0, 5.0]), rate=np.array([-1.0, np.nan, 0.0]))
    result = check_table(table.write(tmp_path / "t.csv"), today=TODAY)

    assert result.verdict == "fail"
    assert status(result)["smoothness"] == "fail"
    json.dumps(result.as_json(), allow_nan=False)


@pytest.mark.shared
def test_the_consensus_tg43_sets_are_read_and_their_one_odd_row_is_named(shared_data: Path, tmp_path: Path) -> None:
    # TG-43U1 (Rivard et al. 2004, Med Phys 31:633) prints g(4 cm) = 0.496 for the 6711 seed; its neighbours make it 0.483
    found = {}
    for name, constant, length in (("125i_6711", 0.965, 3.0), ("192ir_mhdr_v1", 1.116, 3.5)):
        body = (shared_data.parent / "physics" / "tg43" / f"{name}.csv").read_text(encoding="utf-8")
        table = Table()
        head = table.head | {
            "kind": "tg43",
            "scale": "other",
            "dose_rate_constant_cgy_per_h_u": f"{constant}",
            "active_length_mm": f"{length}",
        }
        rows = [line for line in body.splitlines() if not line.startswith("#")]
        path = tmp_path / f"{name}.csv"
        path.write_text("\n".join([*(f"# {k}: {v}" for k, v in head.items()), *rows]) + "\n", encoding="utf-8")
        result = check_table(path, today=TODAY)
        assert result.verdict == "warn", [each for each in result.findings if each.status == "fail"]
        found[name] = [each.message for each in result.findings if each.id == "outlier"]
    assert found["192ir_mhdr_v1"] == []
    assert [message.split(" lies")[0] for message in found["125i_6711"]] == ["g = 0.496 at r = 4 cm"]
