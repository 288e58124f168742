"""Transfer functions: what an applicator makes of the bare probe's dose rate, distance by distance."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.errors import DepthDoseTableError
from iort_planner.source.columns import require_within, sound_columns
from iort_planner.source.depth_dose import DepthDoseTable, ReferencePoint, Scale
from iort_planner.source.loglog import LogLogCubic
from iort_planner.units import AnyQuantity, FloatArray, Quantity, magnitude_in

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TransferFunction:
    """Dose rate with applicator over that of the bare probe at the same distance in water; no unit.

    Parameters
    ----------
    name : str
    distance_mm : ndarray of shape (N,), mm
        From the effective source point; increasing, > 0.
    factor : ndarray of shape (N,)
        Finite, > 0.
    uncertainty_percent : ndarray of shape (N,), percent
        k=1 of the factor at each row; finite, >= 0.
    scale : Scale
        Of the dose rates it was made from; it holds for a bare table of the same scale.
    applicator : str
        The applicator it describes.
    clinical, origin, trusted_range_mm, tube_voltage_kv, tube_current_ua, measured, derived, reference_point, notes
        As in `DepthDoseTable`.
    file, sha256
        As in `DepthDoseTable`.

    Raises
    ------
    DepthDoseTableError
        If the columns differ in length, hold fewer than two rows, or hold impossible values.

    Notes
    -----
    ln factor over ln r between rows, with the same cubic as a table's dose rate (`LogLogCubic`); never beyond them.
    """

    name: str
    distance_mm: FloatArray
    factor: FloatArray
    uncertainty_percent: FloatArray
    scale: Scale
    applicator: str
    clinical: bool
    origin: str
    trusted_range_mm: tuple[float, float]
    tube_voltage_kv: float = 50.0
    tube_current_ua: float = 40.0
    measured: str = ""
    derived: bool = False
    file: str = ""
    sha256: str = ""
    reference_point: ReferencePoint = ReferencePoint.SOURCE_CENTRE
    notes: tuple[str, ...] = ()
    _curve: LogLogCubic = field(init=False, repr=False)

    def __post_init__(self) -> None:
        columns = sound_columns(
            f"transfer function {self.name!r}",
            self.distance_mm,
            ("factors", self.factor),
            self.uncertainty_percent,
            self.trusted_range_mm,
        )
        for name, column in zip(("distance_mm", "factor", "uncertainty_percent"), columns, strict=True):
            object.__setattr__(self, name, column)
        object.__setattr__(self, "notes", tuple(self.notes))
        object.__setattr__(self, "_curve", LogLogCubic(self.distance_mm, self.factor))

    @property
    def range_mm(self) -> tuple[float, float]:
        """Distance of the first and the last row, mm."""
        return float(self.distance_mm[0]), float(self.distance_mm[-1])

    def factor_at(self, distance: AnyQuantity) -> FloatArray:
        """Factor at distances from the source, same shape.

        Raises
        ------
        DepthDoseRangeError
            If a distance lies outside the rows.
        """
        r = magnitude_in(distance, "mm", "distance")
        require_within(r, self.range_mm, f" of transfer function {self.name!r}")
        return self._curve.values(r)


def apply_transfer(
    bare: DepthDoseTable, transfer: TransferFunction, *, cut: bool = False, made: dt.date | None = None
) -> DepthDoseTable:
    """The applicator's table: the bare probe's dose rate times the transfer function, at the bare table's rows.

    Parameters
    ----------
    bare : DepthDoseTable
    transfer : TransferFunction
    cut : bool
        Leave out the rows that the transfer function does not cover; without it they are an error.
    made : datetime.date, optional
        The date of the derived table; today by default.

    Returns
    -------
    DepthDoseTable
        Marked derived, clinical only if both are, with both origins and hashes. The uncertainties (k=1) are added
        in quadrature. A polar anisotropy of the bare probe is not carried over: the applicator changes it.

    Raises
    ------
    DepthDoseTableError
        If scale, reference point, tube voltage or current differ, or rows are not covered.
    """
    for what, ours, theirs in (
        ("scale", bare.scale.value, transfer.scale.value),
        ("reference point", bare.reference_point.value, transfer.reference_point.value),
        ("tube voltage", f"{bare.tube_voltage_kv:g} kV", f"{transfer.tube_voltage_kv:g} kV"),
        ("tube current", f"{bare.tube_current_ua:g} uA", f"{transfer.tube_current_ua:g} uA"),
    ):
        if ours != theirs:
            raise DepthDoseTableError(
                f"{what}: table {bare.name!r} has {ours}, transfer function {transfer.name!r} has {theirs}; "
                f"both must be the same: take the pair that belongs together"
            )
    low, high = transfer.range_mm
    kept = kept_rows(bare, (low, high), f"transfer function {transfer.name!r}", cut=cut)
    factor = transfer.factor_at(Quantity(bare.distance_mm[kept], "mm"))
    added = np.interp(bare.distance_mm[kept], transfer.distance_mm, transfer.uncertainty_percent)
    notes = [f"dose rate of {identity(bare)} times {identity(transfer)}"]
    notes += left_out(bare, kept)
    if bare.anisotropy is not None:
        notes.append("the bare probe's polar anisotropy was left out: the applicator changes it")
    return DepthDoseTable(
        name=f"{bare.name} with {transfer.applicator}",
        distance_mm=bare.distance_mm[kept],
        dose_rate_gy_per_min=bare.dose_rate_gy_per_min[kept] * factor,
        uncertainty_percent=np.hypot(bare.uncertainty_percent[kept], added),
        scale=bare.scale,
        clinical=bare.clinical and transfer.clinical,
        origin=f"derived: {bare.origin}; times a transfer function: {transfer.origin}",
        trusted_range_mm=common_range(bare, kept, transfer.trusted_range_mm),
        applicator=transfer.applicator,
        tube_voltage_kv=bare.tube_voltage_kv,
        tube_current_ua=bare.tube_current_ua,
        measured=(made or dt.datetime.now(tz=dt.UTC).date()).isoformat(),
        derived=True,
        reference_point=bare.reference_point,
        scale_uncertainty_percent=bare.scale_uncertainty_percent,
        notes=(*bare.notes, *transfer.notes, *notes),
    )


def identity(table: DepthDoseTable | TransferFunction) -> str:
    """Name, date, file and hash of a table, for the notes of one that is derived from it."""
    measured = f", {'made' if table.derived else 'measured'} {table.measured}" if table.measured else ""
    file = f", file {table.file} sha256 {table.sha256}" if table.sha256 else ", no file"
    return f"{table.name!r}{measured}{file}"


def kept_rows(table: DepthDoseTable, range_mm: tuple[float, float], by: str, *, cut: bool) -> npt.NDArray[np.bool_]:
    """Rows inside a range; others are an error unless they are to be cut."""
    low, high = range_mm
    kept = (table.distance_mm >= low) & (table.distance_mm <= high)
    if not cut and not np.all(kept):
        rows = ", ".join(f"{r:g}" for r in table.distance_mm[~kept])
        raise DepthDoseTableError(
            f"table {table.name!r}: its rows at {rows} mm lie outside {low:g} to {high:g} mm, which {by} covers; it is "
            f"never extrapolated: leave those rows out (cut=True)"
        )
    if np.count_nonzero(kept) < 2:
        raise DepthDoseTableError(
            f"table {table.name!r}: fewer than 2 rows lie in {low:g} to {high:g} mm, which {by} covers"
        )
    return kept


def left_out(table: DepthDoseTable, kept: npt.NDArray[np.bool_]) -> list[str]:
    """A note on the rows that were cut."""
    rows = ", ".join(f"{r:g}" for r in table.distance_mm[~kept])
    return [f"rows at {rows} mm of {table.name!r} were cut"] if rows else []


def common_range(
    table: DepthDoseTable, kept: npt.NDArray[np.bool_], other: tuple[float, float] = (0.0, math.inf)
) -> tuple[float, float]:
    """The part of the kept rows that the table and the other range both vouch for."""
    r = table.distance_mm[kept]
    low = max(table.trusted_range_mm[0], other[0], float(r[0]))
    high = min(table.trusted_range_mm[1], other[1], float(r[-1]))
    if not low < high:
        raise DepthDoseTableError(f"table {table.name!r}: no part of the rows that are left is trusted")
    return low, high
