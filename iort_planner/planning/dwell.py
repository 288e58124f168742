"""The time calculation: dose, distance and dwell time from a depth-dose table. One place, both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iort_planner.errors import DepthDoseRangeError
from iort_planner.units import AnyQuantity, Quantity, magnitude_in

if TYPE_CHECKING:
    from iort_planner.source.depth_dose import DepthDoseTable


def dwell_time(table: DepthDoseTable, dose: AnyQuantity, distance: AnyQuantity) -> AnyQuantity:
    """Beam-on time that gives ``dose`` at ``distance`` from the source, s.

    Raises
    ------
    DepthDoseRangeError
        If the distance lies outside the table.

    Examples
    --------
    8 Gy at 8 mm from the source centre take 1.14 min (Sethi et al. 2018):

    >>> from iort_planner import Quantity, read_table
    >>> print(f"{dwell_time(read_table(), Quantity(8.0, 'Gy'), Quantity(8.0, 'mm')):.1f~}")
    68.2 s
    """
    return time_for(dose, table.dose_rate_at(distance))


def time_for(dose: AnyQuantity, rate: AnyQuantity) -> AnyQuantity:
    """Beam-on time that gives ``dose`` at a dose rate, s."""
    return Quantity(60.0 * magnitude_in(dose, "Gy", "dose") / magnitude_in(rate, "Gy/min", "dose rate"), "s")


def dose_in(time: AnyQuantity, rate: AnyQuantity) -> AnyQuantity:
    """Physical dose to water that a dose rate gives in ``time``, Gy; same shape as ``rate``."""
    return Quantity(magnitude_in(rate, "Gy/min", "dose rate") * magnitude_in(time, "s", "time") / 60.0, "Gy")


def dose_at(table: DepthDoseTable, time: AnyQuantity, distance: AnyQuantity) -> AnyQuantity:
    """Physical dose to water at ``distance`` from the source after ``time``, Gy; same shape as ``distance``.

    Raises
    ------
    DepthDoseRangeError
        If the distance lies outside the table.
    """
    return dose_in(time, table.dose_rate_at(distance))


def isodose_radius(table: DepthDoseTable, dose: AnyQuantity, time: AnyQuantity) -> AnyQuantity | None:
    """Distance from the source at which ``dose`` is reached in ``time``, mm; None outside the table.

    None is the plan's word for a radius the table does not cover; no number stands in for it.

    Examples
    --------
    >>> from iort_planner import Quantity, read_table
    >>> print(f"{isodose_radius(read_table(), Quantity(8.0, 'Gy'), Quantity(3.0, 'min')):.1f~}")
    11.5 mm
    >>> isodose_radius(read_table(), Quantity(0.001, "Gy"), Quantity(3.0, "min")) is None
    True
    """
    try:
        rate = 60.0 * magnitude_in(dose, "Gy", "dose") / magnitude_in(time, "s", "time")
        return table.distance_at(Quantity(rate, "Gy/min"))
    except DepthDoseRangeError:
        return None
