"""DICOM dates and times as ISO 8601; what is malformed is None, never a guess."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

_COMBINED = re.compile(r"(\d{8})((?:\d{2}){1,3}(?:\.\d{1,6})?)?([+-]\d{4})?")
_TIME = re.compile(r"(\d{2})(?:(\d{2})(?:(\d{2})(?:\.(\d{1,6}))?)?)?")


def iso_combined(text: str, zone: str = "") -> str | None:
    """DICOM DT (date, time and offset in one) as ISO 8601; ``zone`` (+HHMM) where it has no offset of its own."""
    match = _COMBINED.fullmatch(text)
    return iso_datetime(match[1], match[2] or "", match[3] or zone) if match else None


def iso_date(text: str) -> str | None:
    """DICOM DA (YYYYMMDD) as ISO 8601 date; None if it is no date."""
    try:
        return datetime.strptime(text, "%Y%m%d").date().isoformat() if re.fullmatch(r"\d{8}", text) else None  # noqa: DTZ007  # a date has no zone
    except ValueError:
        return None


def iso_datetime(date: str, time: str, zone: str = "") -> str | None:
    """DICOM DA and TM (HHMMSS.FFFFFF, may be cut short) with an offset (+HHMM); the date alone without a time.

    None if date or time is malformed: a time of day is never invented. An unusable offset is left out.
    """
    day = iso_date(date)
    if day is None or not time:
        return day
    match = _TIME.fullmatch(time)
    if not match:
        return None
    try:
        moment = datetime.fromisoformat(day).replace(
            hour=int(match[1]),
            minute=int(match[2] or 0),
            second=int(match[3] or 0),
            microsecond=int((match[4] or "0").ljust(6, "0")),
        )
        offset = re.fullmatch(r"([+-])([01]\d)([0-5]\d)", zone)
        if offset:
            delta = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
            moment = moment.replace(tzinfo=timezone(-delta if offset[1] == "-" else delta))
    except ValueError:
        return None
    return moment.isoformat()
