"""Acceptance: who has signed which bytes of a table, when, and until when. A changed file has none."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from iort_planner import __version__, record
from iort_planner.errors import InputError, RecordError
from iort_planner.home import home
from iort_planner.source.table_file import read_table

if TYPE_CHECKING:
    from pathlib import Path

    from iort_planner.source.depth_dose import DepthDoseTable

RECORD_NAME = "acceptances.jsonl"
_SCHEMA = "iort-planner/acceptance/1"
_LONGEST_NAME = 200  # characters; our own

State = Literal["accepted", "expired", "never", "changed", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """One entry of the record.

    Parameters
    ----------
    sha256 : str
        Of the bytes of the table's file.
    name, scale : str
        As in the table's head.
    by : str
        Who accepted it.
    accepted_on : datetime with offset
    until : date or None
        The last day on which it counts; None: no end was set.
    version : str
        Of this package, which read the table.
    """

    sha256: str
    name: str
    scale: str
    by: str
    accepted_on: dt.datetime
    until: dt.date | None
    version: str

    @property
    def text(self) -> str:
        """Who, when and until when, for people."""
        return f"by {self.by} on {self.accepted_on.date()}, {f'until {self.until}' if self.until else 'without an end'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptanceStatus:
    """Where a table stands.

    Parameters
    ----------
    state : str
        ``accepted``; ``expired``: its last day is over; ``never``; ``changed``: a table of this name was accepted, with
        other bytes; ``unreadable``: the record cannot be read or was changed, so nothing counts.
    acceptance : Acceptance or None
        The latest of these bytes; for ``changed`` the latest of that name.
    later : Acceptance or None
        Other bytes of the same name, accepted after these.
    notes : tuple of str
        What was remarked on reading the record; for ``unreadable`` what is wrong with it.
    """

    state: State
    acceptance: Acceptance | None = None
    later: Acceptance | None = None
    notes: tuple[str, ...] = ()


def record_path() -> Path:
    """The file that holds all acceptances."""
    return home() / RECORD_NAME


def accept(
    name_or_path: str | Path, *, by: str, until: dt.date | None = None, now: dt.datetime | None = None
) -> tuple[DepthDoseTable, Acceptance, tuple[str, ...]]:
    """Record that ``by`` accepts the table as it is now; the table, the entry, and warnings of the record.

    Raises
    ------
    DepthDoseTableError
        If the table's form is not right.
    InputError
        If a name is empty or holds what cannot be printed, or ``until`` lies in the past.
    RecordError
        If the record cannot be written or was changed after it was written.
    """
    now = now or dt.datetime.now().astimezone()
    if until is not None and until < now.date():
        raise InputError(f"--until {until} lies in the past (today is {now.date()}); give a day to come, or none")
    by = _printable("--by", by)
    table = read_table(name_or_path)
    entry = Acceptance(
        sha256=table.sha256,
        name=_printable(f"the name of table {table.file}", table.name),
        scale=table.scale.value,
        by=by,
        accepted_on=now.replace(microsecond=0),
        until=until,
        version=__version__,
    )
    written = record.append(record_path(), _to_json(entry))
    return table, entry, written.warnings


def acceptance_of(sha256: str) -> Acceptance | None:
    """The latest acceptance of these bytes, whether or not it is over; None if there is none.

    Raises
    ------
    RecordError
        If the record cannot be read or was changed after it was written.
    """
    return next((entry for entry in reversed(_entries()[0]) if entry.sha256 == sha256), None)


def status(table: DepthDoseTable, today: dt.date) -> AcceptanceStatus:
    """Whether the bytes that ``table`` was read from are accepted on a day; never raises for a bad record."""
    try:
        entries, notes = _entries()
    except (RecordError, InputError) as error:
        return AcceptanceStatus(state="unreadable", notes=(str(error),))
    same = [n for n, entry in enumerate(entries) if entry.sha256 == table.sha256]
    named = [n for n, entry in enumerate(entries) if entry.name == table.name and entry.sha256 != table.sha256]
    if not same:
        changed = entries[named[-1]] if named else None
        return AcceptanceStatus(state="changed" if changed else "never", acceptance=changed, notes=notes)
    latest = entries[same[-1]]
    over = latest.until is not None and latest.until < today
    return AcceptanceStatus(
        state="expired" if over else "accepted",
        acceptance=latest,
        later=entries[named[-1]] if named and named[-1] > same[-1] else None,
        notes=notes,
    )


def _entries() -> tuple[tuple[Acceptance, ...], tuple[str, ...]]:
    """Every acceptance, oldest first, and what was remarked on reading them."""
    path = record_path()
    found = record.read(path)
    try:
        return tuple(_from_json(entry) for entry in found.entries), found.warnings
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(
            f"record {path} holds an entry that this version does not know ({error}); use the version that wrote it"
        ) from error


def _to_json(entry: Acceptance) -> dict[str, Any]:
    return {
        "schema": _SCHEMA,
        "name": entry.name,
        "sha256": entry.sha256,
        "scale": entry.scale,
        "by": entry.by,
        "accepted_on": entry.accepted_on.isoformat(),
        "until": None if entry.until is None else entry.until.isoformat(),
        "version": entry.version,
    }


def _from_json(content: dict[str, Any]) -> Acceptance:
    if content["schema"] != _SCHEMA:
        raise ValueError(f"schema {content['schema']!r}")
    return Acceptance(
        sha256=content["sha256"],
        name=content["name"],
        scale=content["scale"],
        by=content["by"],
        accepted_on=dt.datetime.fromisoformat(content["accepted_on"]),
        until=None if content["until"] is None else dt.date.fromisoformat(content["until"]),
        version=content["version"],
    )


def _printable(what: str, name: str) -> str:
    """A name that can be shown in one line, without blanks at its ends."""
    name = name.strip()
    if not name or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise InputError(
            f"{what} is {name[:_LONGEST_NAME]!r}: needs 1 to {_LONGEST_NAME} printable characters, no control characters"
        )
    return name
