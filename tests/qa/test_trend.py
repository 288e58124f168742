"""Histories in a folder: outputs of the day and tables, sound ones and ones with a known fault."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pytest

from iort_planner.errors import InputError
from iort_planner.qa import Trend, trend
from iort_planner.units import FloatArray
from tests.qa.tables import GRID, Table, noise, power

START = dt.date(2025, 1, 7)


def write_outputs(folder: Path, ratio: FloatArray, air: FloatArray | None = None) -> None:
    """One value every 14 days; with an air factor at 1013.25 hPa, its temperature."""
    lines = ["date,output_ratio" + ("" if air is None else ",temperature_c,pressure_hpa")]
    for i, value in enumerate(ratio):
        line = f"{START + dt.timedelta(days=14 * i)},{value:.5f}"
        lines.append(line if air is None else f"{line},{293.15 * air[i] - 273.15:.2f},1013.25")
    (folder / "outputs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def status(result: Trend) -> dict[str, str]:
    return {each.id: each.status for each in reversed(result.findings)}  # the worst of each id wins


def test_a_steady_history_passes(tmp_path: Path) -> None:
    write_outputs(tmp_path, noise(0, 0.4, 30))
    result = trend(tmp_path)

    assert result.verdict == "pass"
    json.dumps(result.as_json(), allow_nan=False)


def test_steady_histories_warn_rarely_and_never_fail(tmp_path: Path) -> None:
    verdicts = []
    for seed in range(100):
        write_outputs(tmp_path, noise(seed, 0.4, 24))
        verdicts.append(trend(tmp_path).verdict)

    assert "fail" not in verdicts
    assert verdicts.count("warn") <= 25  # three sigma, themselves from 24 values, are left by one value in 10 histories


def test_a_step_is_named_with_its_date_and_size(tmp_path: Path) -> None:
    write_outputs(tmp_path, noise(3, 0.3, 30) * np.where(np.arange(30) >= 17, 1.02, 1.0))
    result = trend(tmp_path)
    step = next(each for each in result.findings if each.id == "step")

    assert step.status == "warn"
    assert str(START + dt.timedelta(days=14 * 17)) in step.message
    assert "step of +2." in step.message or "step of +1.9" in step.message


def test_a_large_step_fails(tmp_path: Path) -> None:
    write_outputs(tmp_path, noise(3, 0.3, 30) * np.where(np.arange(30) >= 17, 1.04, 1.0))

    assert status(trend(tmp_path))["step"] == "fail"


def test_a_drift_is_named_with_its_slope(tmp_path: Path) -> None:
    write_outputs(tmp_path, noise(4, 0.3, 30) * (1.0 - 0.025 * np.arange(30) / 29))
    drift = next(each for each in trend(tmp_path).findings if each.id == "drift")

    assert drift.status == "warn"
    assert "% a year" in drift.message


def test_the_latest_output_5_percent_off_fails(tmp_path: Path) -> None:
    ratio = noise(5, 0.3, 12)
    ratio[-1] = 1.056
    write_outputs(tmp_path, ratio)
    found = status(trend(tmp_path))

    assert (found["latest"], found["control-limits"]) == ("fail", "fail")


@pytest.mark.parametrize(("power_of_air", "words"), [(-1.0, "not corrected"), (1.0, "twice")])
def test_outputs_that_follow_the_air_density_are_named(tmp_path: Path, power_of_air: float, words: str) -> None:
    air = 1.0 + 0.03 * np.sin(np.arange(30.0))
    write_outputs(tmp_path, noise(6, 0.3, 30) * air**power_of_air, air)
    finding = next(each for each in trend(tmp_path).findings if each.id == "air-density")

    assert finding.status == "fail"
    assert words in finding.message


def test_corrected_outputs_do_not_follow_the_air_density(tmp_path: Path) -> None:
    write_outputs(tmp_path, noise(6, 0.3, 30), 1.0 + 0.03 * np.sin(np.arange(30.0)))

    assert status(trend(tmp_path))["air-density"] == "pass"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("2025-13-01,1.0", "must be like 2026-10-01"),
        ("2099-01-01,1.0", "future"),
        ("2026-01-01,99.8", "check its unit"),
        ("2026-01-01,nan", "must lie from"),
        ("2026-01-01,1,003", "3 cells under 2 columns"),
        ("2026-01-01,", "must be a number"),
    ],
)
def test_a_bad_row_fails_with_its_line_and_is_left_out(tmp_path: Path, row: str, words: str) -> None:
    write_outputs(tmp_path, noise(7, 0.4, 10))
    with (tmp_path / "outputs.csv").open("a", encoding="utf-8") as file:
        file.write(row + "\n")
    result = trend(tmp_path)
    finding = next(each for each in result.findings if each.id == "outputs-row")

    assert (finding.status, finding.line) == ("fail", 12)
    assert words in finding.message
    assert len(result.series[0].date) == 10


def test_a_pressure_in_kpa_is_refused_by_its_limit(tmp_path: Path) -> None:
    (tmp_path / "outputs.csv").write_text(
        "date,output_ratio,temperature_c,pressure_hpa\n2026-01-01,1.0,21,101.3\n2026-02-01,1.0,,\n", encoding="utf-8"
    )
    result = trend(tmp_path)

    assert "must lie from 800 to 1080" in result.findings[0].message
    assert len(result.series[0].date) == 1


def write_tables(folder: Path, factors: list[float]) -> None:
    for i, factor in enumerate(factors):
        table = Table(rate=power(GRID) * factor * noise(20 + i, 0.2, GRID.size))
        table.head["measured"] = str(START + dt.timedelta(days=60 * i))
        table.write(folder / f"{chr(ord('z') - i)}.csv")  # names in the wrong order: dates decide


def test_tables_are_followed_by_their_date_not_their_name(tmp_path: Path) -> None:
    write_tables(tmp_path, [1.0] * 5 + [1.025] * 4)
    result = trend(tmp_path)

    assert [each.name for each in result.series] == ["dose rate at 8 mm", "dose rate at 20 mm"]
    assert list(result.series[0].date) == sorted(result.series[0].date)
    assert status(result)["step"] == "warn"


def test_a_table_on_another_scale_is_left_out_and_fails(tmp_path: Path) -> None:
    write_tables(tmp_path, [1.0, 1.0, 1.0])
    other = Table()
    other.head |= {"scale": "targit", "measured": "2026-06-01"}
    other.write(tmp_path / "other.csv")
    result = trend(tmp_path)

    assert status(result)["scale"] == "fail"
    assert len(result.series[0].date) == 3


def test_a_broken_table_fails_by_name_and_the_others_are_judged(tmp_path: Path) -> None:
    write_tables(tmp_path, [1.0, 1.0])
    (tmp_path / "broken.csv").write_text("nothing", encoding="utf-8")
    result = trend(tmp_path)

    assert any(
        each.id == "table" and each.status == "fail" and "broken.csv" in each.message for each in result.findings
    )
    assert len(result.series) == 2


def test_no_folder_and_an_empty_one_are_stops(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        trend(tmp_path / "none")
    with pytest.raises(InputError, match=r"neither outputs\.csv nor a depth-dose table"):
        trend(tmp_path)


def test_an_outputs_file_with_another_header_is_a_stop(tmp_path: Path) -> None:
    (tmp_path / "outputs.csv").write_text("day;output\n1;2\n", encoding="utf-8")
    with pytest.raises(InputError, match="the header is"):
        trend(tmp_path)
