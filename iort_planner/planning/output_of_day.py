"""The source's output of the day: a constancy reading against the reference, which the dwell time follows."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from iort_planner.errors import InputError
from iort_planner.units import AnyQuantity, Quantity, magnitude_in

if TYPE_CHECKING:
    from iort_planner.source.depth_dose import DepthDoseTable

REFERENCE_TEMPERATURE_C, REFERENCE_PRESSURE_HPA = 20.0, 1013.25  # air at which chambers are calibrated
# Our own: wide enough for any real reading, narrow enough for a percentage, dose rate or current given by mistake.
RATIO_RANGE = (0.5, 2.0)
# Our own: rooms in which people work, from below sea level to 4000 m; kelvin, pascal and mmHg lie outside.
TEMPERATURE_RANGE_C, PRESSURE_RANGE_HPA = (10.0, 40.0), (600.0, 1100.0)


def air_density_correction(temperature: AnyQuantity, pressure: AnyQuantity) -> float:
    """C_TP of a vented chamber: (273.15 + T)/293.15 * 1013.25/p, which a reading is multiplied by.

    Parameters
    ----------
    temperature, pressure : Quantity
        Of the air in the chamber. A temperature in °C is ``Quantity(22.0, "degC")``.

    Raises
    ------
    InputError
        If one lies outside the range of rooms in which people work.

    Notes
    -----
    The textbook form, without humidity, for a chamber calibrated at 20 °C and 1013.25 hPa.
    """
    celsius = float(magnitude_in(temperature, "degC", "temperature"))
    hpa = float(magnitude_in(pressure, "hPa", "pressure"))
    for name, value, (low, high), unit in (
        ("temperature", celsius, TEMPERATURE_RANGE_C, "°C"),
        ("pressure", hpa, PRESSURE_RANGE_HPA, "hPa"),
    ):
        if not low <= value <= high:  # written so that NaN is refused too
            raise InputError(
                f"--output-{name} {value:g} {unit} is outside {low:g} to {high:g} {unit} (rooms in which people work); "
                "check the unit and the decimal point"
            )
    return (273.15 + celsius) / (273.15 + REFERENCE_TEMPERATURE_C) * REFERENCE_PRESSURE_HPA / hpa


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOfDay:
    """What a constancy check read, relative to its reference: 1.00 is the output at which the table was accepted.

    Parameters
    ----------
    ratio : float
        The reading over the reference; with temperature and pressure: the reading before that correction, over a reference
        at 20 °C and 1013.25 hPa.
    date : date
        When it was measured.
    temperature_c, pressure_hpa : float or None
        Of the air in a vented chamber; both, or neither where the reading is already corrected.

    Raises
    ------
    InputError
        If a number is not finite or outside its range, or one of temperature and pressure stands alone.
    """

    ratio: float
    date: dt.date
    temperature_c: float | None = None
    pressure_hpa: float | None = None

    def __post_init__(self) -> None:
        if (self.temperature_c is None) != (self.pressure_hpa is None):
            raise InputError(
                "--output-temperature and --output-pressure belong together; give both, or neither for a corrected reading"
            )
        low, high = RATIO_RANGE
        for what, value in (("", self.ratio), (" after its correction for air density", self.corrected_ratio)):
            if not low <= value <= high:  # written so that NaN is refused too
                raise InputError(
                    f"--output-measured {value:g}{what} is outside {low:g} to {high:g}: give the ratio to reference, "
                    "1.00 = as in the table"
                )

    @property
    def corrected_ratio(self) -> float:
        """The ratio that dose rates are multiplied by."""
        if self.temperature_c is None or self.pressure_hpa is None:
            return self.ratio
        return self.ratio * air_density_correction(
            Quantity(self.temperature_c, "degC"), Quantity(self.pressure_hpa, "hPa")
        )

    def require_past(self, today: dt.date) -> None:
        """Refuse a reading that is still to come.

        Raises
        ------
        InputError
            If it is dated after ``today``.
        """
        if self.date > today:
            raise InputError(
                f"--output-date {self.date} lies in the future (today is {today}); give the day of the reading"
            )


def table_of_the_day(table: DepthDoseTable, output: OutputOfDay | None) -> DepthDoseTable:
    """The table with every dose rate times the day's output; the table itself where none was measured.

    All times, radii, doses and grids come from this one table, so that none can miss the output. The second check does
    not: it takes the rows as read, and the output from the plan.
    """
    if output is None:
        return table
    return replace(table, dose_rate_gy_per_min=table.dose_rate_gy_per_min * output.corrected_ratio)
