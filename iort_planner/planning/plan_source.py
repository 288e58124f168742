"""The part of a plan that says what the source gives, and what vouches for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOutput:
    """The output of the day that dose rates were multiplied by; `iort_planner.planning.output_of_day` explains it."""

    ratio: float
    date: str
    temperature_c: float | None
    pressure_hpa: float | None
    corrected_ratio: float

    @property
    def short_text(self) -> str:
        """The factor and its day, for a full page."""
        return f"{self.corrected_ratio:.3f} ({self.date})"

    @property
    def text(self) -> str:
        """The factor with its origin, for people."""
        text = f"{self.corrected_ratio:.3f} of the table, measured on {self.date}"
        if self.temperature_c is None or self.pressure_hpa is None:
            return f"{text} (reading as given, no air density correction here)"
        return (
            f"{text} (reading {self.ratio:.3f}, air density at {self.temperature_c:g} °C and {self.pressure_hpa:g} hPa)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAcceptance:
    """Where a clinical table stood in the record of acceptances when the plan was made.

    ``state`` is that of `iort_planner.source.acceptance.AcceptanceStatus`; the entry's fields are null where there is none.
    """

    state: str
    sha256: str | None
    by: str | None
    accepted_on: str | None
    until: str | None
    notes: tuple[str, ...]

    @property
    def entry_text(self) -> str:
        """Who, when and until when, for people."""
        on = (self.accepted_on or "")[:10]
        return f"by {self.by} on {on}, {f'until {self.until}' if self.until else 'without an end'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSource:
    """The depth-dose table and the applicator, with the hashes of their files, and what the dose rates stand on.

    ``acceptance`` is null for a table that is not clinical, ``output`` where no output of the day was given.
    """

    name: str
    table: str
    table_sha256: str
    table_origin: str
    table_uncertainty_percent: float
    table_notes: tuple[str, ...]
    applicator: str
    applicator_sha256: str
    applicator_origin: str
    outer_diameter_mm: float
    radiolucent_tip_length_mm: float
    tip_to_source_mm: float
    applicator_length_mm: float
    cannula_outer_diameter_mm: float | None
    cannula_length_mm: float
    clinical: bool
    scale: str
    reference_point: str
    range_mm: tuple[float, float]
    trusted_range_mm: tuple[float, float]
    acceptance: PlanAcceptance | None
    output: PlanOutput | None

    @property
    def acceptance_text(self) -> str:
        """Where the table stands, for people."""
        if self.acceptance is None:
            return "not clinical, no acceptance asked"
        entry = self.acceptance.entry_text
        return {
            "accepted": f"accepted {entry}",
            "expired": f"acceptance is over: {entry}",
            "changed": f"changed since it was accepted {entry}: these bytes are accepted by nobody",
            "unreadable": "the record of acceptances cannot be used",
        }.get(self.acceptance.state, "accepted by nobody")

    @property
    def output_text(self) -> str:
        """The output of the day, for people."""
        return "not measured; the table's dose rates are used as they are" if self.output is None else self.output.text


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSecondCheck:
    """What the second check found, in percent of its own numbers; null where there is no finite difference."""

    warn_percent: float
    fail_percent: float
    differences_percent: dict[str, float | None]

    @property
    def largest(self) -> tuple[str, float | None]:
        """Name and size of the largest difference; None where one is not finite."""
        worst = max(self.differences_percent, key=lambda name: _size(self.differences_percent[name]))
        return worst, self.differences_percent[worst]

    @property
    def largest_text(self) -> str:
        """The largest difference alone, for people."""
        if not self.differences_percent:
            return "could not be made"
        percent = self.largest[1]
        return "found what is no number" if percent is None else f"within {percent:.2f} %"

    @property
    def text(self) -> str:
        """The largest difference with its name, for people."""
        if not self.differences_percent:
            return "nothing could be recomputed"
        name, percent = self.largest
        size = "no number" if percent is None else f"{percent:.2f} %"
        return f"largest difference {size} ({name}) of {len(self.differences_percent)} numbers recomputed by other code"


def _size(percent: float | None) -> float:
    return float("inf") if percent is None else percent
