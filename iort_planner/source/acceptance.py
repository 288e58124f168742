"""Acceptance: who has signed which bytes of a table, when, and until when. A changed file has none."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from iort_planner import __version__, record
from iort_planner.errors import DepthDoseTableError, InputError, RecordError
from iort_planner.home import home
from iort_planner.source.table_file import Examination, examine

if TYPE_CHECKING:
    from pathlib import Path

    from iort_planner.applicator import Applicator
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

    def as_json(self) -> dict[str, Any]:
        """The entry as the record holds it."""
        return {
            "schema": _SCHEMA,
            "name": self.name,
            "sha256": self.sha256,
            "scale": self.scale,
            "by": self.by,
            "accepted_on": self.accepted_on.isoformat(),
            "until": None if self.until is None else self.until.isoformat(),
            "version": self.version,
        }


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What `accept` did: the table as examined, the entry in the record, and what was remarked on the record."""

    examination: Examination
    acceptance: Acceptance
    notes: tuple[str, ...]


def accept(
    name_or_path: str | Path,
    by: str,
    until: dt.date | None = None,
    *,
    applicator: Applicator | None = None,
    now: dt.datetime | None = None,
) -> Accepted:
    """Record that ``by`` accepts the table's bytes as they are now, up to and with the day ``until``.

    Parameters
    ----------
    name_or_path : str or Path
        Library name or file of a table of any kind.
    applicator : Applicator, optional
        For a table whose distances start at its surface or tip; the acceptance is of the bytes alone.
    now : datetime with offset, optional
        Default: the present.

    Raises
    ------
    DepthDoseTableError
        If the table cannot be read or anything in its form fails.
    InputError
        If a name is empty or holds what cannot be printed, or ``until`` lies in the past.
    RecordError
        If the record cannot be written or was changed after it was written.
    """
    now = now or dt.datetime.now().astimezone()
    if until is not None and until < now.date():
        raise InputError(f"--until {until} lies in the past (today is {now.date()}); give a day to come, or none")
    by = _printable("--by", by)
    found = examine(name_or_path, applicator)
    failing = [finding for finding in found.findings if finding.status == "fail"]
    if failing or found.table is None:
        where = f" (line {failing[0].line})" if failing and failing[0].line is not None else ""
        what = failing[0].message if failing else f"its kind is {found.kind!r}"
        raise DepthDoseTableError(
            f"table {found.file} cannot be accepted, its form fails{where}: {what}; see 'iort-planner qa check'"
        )
    entry = Acceptance(
        sha256=found.sha256,
        name=_printable(f"the name of table {found.file}", found.head["name"]),
        scale=found.head.get("scale", ""),
        by=by,
        accepted_on=now.replace(microsecond=0),
        until=until,
        version=__version__,
    )
    written = record.append(record_path(), entry.as_json())
    return Accepted(examination=found, acceptance=entry, notes=written.warnings)


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
    return status_of(table.sha256, table.name, today)


def status_of(sha256: str, name: str, today: dt.date) -> AcceptanceStatus:
    """`status` for a file of any kind, by the hash of its bytes and the name in its head."""
    try:
        entries, notes = _entries()
    except (RecordError, InputError) as error:
        return AcceptanceStatus(state="unreadable", notes=(str(error),))
    same = [n for n, entry in enumerate(entries) if entry.sha256 == sha256]
    named = [n for n, entry in enumerate(entries) if entry.name == name and entry.sha256 != sha256]
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
