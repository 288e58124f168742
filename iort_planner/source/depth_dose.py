"""Depth-dose tables: dose rate in water against distance from the source; interpolated, never extrapolated."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from iort_planner.applicator import DepthReference
from iort_planner.errors import DepthDoseRangeError, DepthDoseTableError
from iort_planner.source.columns import sound_columns
from iort_planner.source.loglog import LogLogCubic
from iort_planner.source.polar import PolarAnisotropy
from iort_planner.units import AnyQuantity, FloatArray, Quantity, magnitude_in

_ROUNDING = 1e-12  # a rate computed from a row's own dose and time comes back to that row


class Scale(StrEnum):
    """Calibration scale of a dose rate: the same source reads 14 to 80 % apart on two of them."""

    TARGIT = "targit"
    V4 = "v4.0"
    CQ = "cq"
    OTHER = "other"


class ReferencePoint(StrEnum):
    """Where a table's distances start."""

    SOURCE_CENTRE = "source-centre"
    APPLICATOR_SURFACE = "applicator-surface"
    TIP = "tip"

    @property
    def depth_reference(self) -> DepthReference:
        """The same point in the words of `iort_planner.applicator`, which alone changes a distance's origin."""
        return {
            ReferencePoint.SOURCE_CENTRE: DepthReference.SOURCE,
            ReferencePoint.APPLICATOR_SURFACE: DepthReference.SURFACE,
            ReferencePoint.TIP: DepthReference.TIP,
        }[self]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DepthDoseTable:
    """Absorbed dose rate to water against distance from the effective source point.

    Parameters
    ----------
    name : str
    distance_mm : ndarray of shape (N,), float64, mm
        Distance from the effective source point; strictly increasing, > 0.
    dose_rate_gy_per_min : ndarray of shape (N,), float64, Gy/min
        Absorbed dose rate to water; finite, > 0, strictly decreasing.
    uncertainty_percent : ndarray of shape (N,), float64, percent
        k=1 of the dose rate at each row; finite, >= 0.
    scale : Scale
    clinical : bool
        Whether a site may use it for patients; the shipped table is not.
    origin : str
        Where the numbers come from: certificate or DOI, table number, date.
    trusted_range_mm : tuple of 2 float, mm
        Part of the table the origin vouches for; the whole table when it says nothing.
    anisotropy : PolarAnisotropy or None
        Factor on the dose rate by polar angle; None: the table gives none, and isotropy is an assumption.
    reference_point : ReferencePoint
        Where the file's distances start; the ones here start at the source centre, always.
    scale_uncertainty_percent : float, percent
        k=1, common to all rows: what a conversion between scales added. It is not part of the column.
    notes : tuple of str
        What was converted on the way from the file's numbers to these.
    applicator, tube_voltage_kv, tube_current_ua, measured, derived, file, sha256
        As in the file; ``sha256`` is of its bytes.

    Raises
    ------
    DepthDoseTableError
        If the columns differ in length, hold fewer than two rows, hold a value that is not finite and
        positive, the distances do not increase or the dose rates do not decrease.

    Notes
    -----
    ln D is interpolated over ln r with a monotone cubic of high-order slopes (`LogLogCubic`): exact at the rows, no
    overshoot, continuous slope. Dose in water falls roughly as a power of the distance (Armoogum et al. 2007,
    doi:10.1186/1748-717X-2-11).
    """

    name: str
    distance_mm: FloatArray
    dose_rate_gy_per_min: FloatArray
    uncertainty_percent: FloatArray
    scale: Scale
    clinical: bool
    origin: str
    trusted_range_mm: tuple[float, float]
    applicator: str = ""
    tube_voltage_kv: float = 50.0
    tube_current_ua: float = 40.0
    measured: str = ""
    derived: bool = False
    file: str = ""
    sha256: str = ""
    anisotropy: PolarAnisotropy | None = None
    reference_point: ReferencePoint = ReferencePoint.SOURCE_CENTRE
    scale_uncertainty_percent: float = 0.0
    notes: tuple[str, ...] = ()
    _curve: LogLogCubic = field(init=False, repr=False)

    def __post_init__(self) -> None:
        columns = sound_columns(
            f"table {self.name!r}",
            self.distance_mm,
            ("dose rates", self.dose_rate_gy_per_min),
            self.uncertainty_percent,
            self.trusted_range_mm,
        )
        for name, column in zip(("distance_mm", "dose_rate_gy_per_min", "uncertainty_percent"), columns, strict=True):
            object.__setattr__(self, name, column)
        r, rate, _ = columns
        if np.any(np.diff(rate) >= 0):
            raise DepthDoseTableError(f"table {self.name!r}: dose rates must fall with distance")
        if not 0.0 <= self.scale_uncertainty_percent < math.inf:
            raise DepthDoseTableError(f"table {self.name!r}: the scale's uncertainty must be finite and not negative")
        object.__setattr__(self, "notes", tuple(self.notes))
        object.__setattr__(self, "_curve", LogLogCubic(r, rate))

    @property
    def range_mm(self) -> tuple[float, float]:
        """Distance of the first and the last row, mm."""
        return float(self.distance_mm[0]), float(self.distance_mm[-1])

    def covers(self, distance_mm: FloatArray) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Whether the table has a value at a distance; same shape, False for NaN."""
        low, high = self.range_mm
        return (distance_mm >= low) & (distance_mm <= high)

    def rate_gy_per_min(self, distance_mm: FloatArray) -> FloatArray:
        """Dose rate on floats: Gy/min at mm, same shape; NaN where the table has no value.

        The kernel under `dose_rate_at`, for grids; it never extrapolates.
        """
        r = np.asarray(distance_mm, dtype=np.float64)
        inside = self.covers(r)
        result = np.full(r.shape, np.nan)
        result[inside] = self._curve.values(r[inside])
        return result

    def _rate_float(self, r_mm: float) -> float:
        """Dose rate in Gy/min at a distance inside the table; the float kernel of time and dose."""
        return self._curve.value(r_mm)

    def _distance_float(self, rate_gy_per_min: float) -> float:
        """Distance in mm at a dose rate inside the table; the float kernel of radii."""
        return self._curve.inverse(rate_gy_per_min)

    def dose_rate_at(self, distance: AnyQuantity) -> AnyQuantity:
        """Dose rate in water at a distance from the source, same shape.

        Raises
        ------
        DepthDoseRangeError
            If a distance lies outside the table: dose is never extrapolated.

        Examples
        --------
        >>> from iort_planner import read_table
        >>> f"{read_table().dose_rate_at(Quantity(8.0, 'mm')):.2f~}"
        '7.04 Gy / min'
        """
        r = magnitude_in(distance, "mm", "distance")
        self._require_inside(r)
        return Quantity(self._rate_float(float(r)) if r.ndim == 0 else self._curve.values(r), "Gy/min")

    def distance_at(self, dose_rate: AnyQuantity) -> AnyQuantity:
        """Distance at which the dose rate is reached: the inverse of `dose_rate_at`; scalar.

        Raises
        ------
        DepthDoseRangeError
            If the dose rate is higher than the first row's or lower than the last one's.
        """
        rate = float(magnitude_in(dose_rate, "Gy/min", "dose rate"))
        high, low = float(self.dose_rate_gy_per_min[0]), float(self.dose_rate_gy_per_min[-1])
        if not low * (1.0 - _ROUNDING) <= rate <= high * (1.0 + _ROUNDING):
            raise DepthDoseRangeError(
                f"dose rate {rate:.4g} Gy/min is outside the range {low:.4g} to {high:.4g} Gy/min of table "
                f"{self.name!r}; dose is never extrapolated"
            )
        return Quantity(self._distance_float(min(max(rate, low), high)), "mm")

    def local_exponent(self, distance: AnyQuantity) -> float:
        """N in D ~ r^-n at a distance: minus the slope of ln D over ln r."""
        return -self._curve.slope(self._inside(distance))

    def interpolation_error_percent_at(self, distance: AnyQuantity) -> float:
        """Estimated error of the interpolated dose rate at a distance, percent; 0 at a row.

        What a scheme of lower order (parabolas through three rows for the slopes) would change, plus the share of
        the fourth derivative: for a smooth curve an upper bound (see `LogLogCubic.relative_error`). It says nothing
        of errors in the rows themselves.

        Raises
        ------
        DepthDoseRangeError
            If the distance lies outside the table, or two rows alone do not tell their curve's error.
        """
        error = self._curve.relative_error(self._inside(distance))
        if error is None:
            raise DepthDoseRangeError(
                f"table {self.name!r} has two rows, which do not tell the error between them; give a longer table"
            )
        return 100.0 * error

    def uncertainty_percent_at(self, distance: AnyQuantity) -> float:
        """Relative uncertainty of the dose rate (k=1, percent), linear between rows."""
        return float(np.interp(self._inside(distance), self.distance_mm, self.uncertainty_percent))

    def _inside(self, distance: AnyQuantity) -> float:
        r = magnitude_in(distance, "mm", "distance")
        self._require_inside(r)
        return float(r)

    def _require_inside(self, r: FloatArray) -> None:
        if not np.all(self.covers(r)):
            low, high = self.range_mm
            raise DepthDoseRangeError(
                f"distance {_span(r)} mm from the source is outside the range {low:g} to {high:g} mm of table "
                f"{self.name!r}; dose is never extrapolated: check the tip and the depth, or give a longer table"
            )


def _span(values: FloatArray) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def is_for(table_applicator: str, applicator: str) -> bool:
    """Whether the applicator that a table names is the one of that name: one name holds the other, in either case."""
    named, used = table_applicator.casefold(), applicator.casefold()
    return named in used or used in named
