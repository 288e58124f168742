"""DICOM dates and times: ISO 8601 where they are dates, None where they are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iort_planner.imaging.dicom.timestamps import iso_combined, iso_date, iso_datetime


@pytest.mark.parametrize(
    ("date", "time", "zone", "expected"),
    [
        ("20260102", "030405", "", "2026-01-02T03:04:05"),
        ("20260102", "030405.25", "+0130", "2026-01-02T03:04:05.250000+01:30"),
        ("20260102", "0304", "-0500", "2026-01-02T03:04:00-05:00"),
        ("20260102", "03", "", "2026-01-02T03:00:00"),
        ("20260102", "", "+0100", "2026-01-02"),
        ("20260102", "030405", "nonsense", "2026-01-02T03:04:05"),
        ("20240229", "235959", "", "2024-02-29T23:59:59"),
        ("20230229", "235959", "", None),
        ("20260102", "250000", "", None),
        ("20260102", "3:04", "", None),
        ("2026.01.02", "030405", "", None),
        ("", "030405", "", None),
    ],
)
def test_date_and_time(date: str, time: str, zone: str, expected: str | None) -> None:
    assert iso_datetime(date, time, zone) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20260102030405+0100", "2026-01-02T03:04:05+01:00"),
        ("20260102030405.5", "2026-01-02T03:04:05.500000-05:00"),
        ("20260102", "2026-01-02"),
        ("202601", None),
        ("", None),
    ],
)
def test_combined(text: str, expected: str | None) -> None:
    assert iso_combined(text, "-0500") == expected


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=8))
def test_rubbish_never_raises(date: str, time: str, zone: str) -> None:
    iso_date(date)
    iso_datetime(date, time, zone)
    iso_datetime("20260102", time, zone)
    iso_combined(date, zone)
