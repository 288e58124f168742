"""Conversion between calibration scales: only by a table of factors, and marked with its added uncertainty.

The same source reads 14 to 80 % higher on V4.0 than on TARGIT (Watson et al. 2018, doi:10.1088/1361-6560/aa9560).
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from iort_planner.errors import DepthDoseTableError
from iort_planner.source.columns import require_within, sound_columns
from iort_planner.source.depth_dose import DepthDoseTable, Scale
from iort_planner.source.findings import Finding
from iort_planner.source.loglog import LogLogCubic
from iort_planner.source.table_file import read_bytes
from iort_planner.source.table_head import HeadReader
from iort_planner.source.table_rows import DISTANCE, FACTOR, read_rows
from iort_planner.source.table_text import HELP, split_table
from iort_planner.source.transfer import common_range, identity, kept_rows, left_out
from iort_planner.units import AnyQuantity, FloatArray, magnitude_in

_SCALES = [scale.value for scale in Scale if scale is not Scale.OTHER]

# Dose at the surface of spheres for 20 Gy on the TARGIT scale: 28.6 Gy (V4.0) and 31.7 Gy (CQ) at 7.5 mm, 23.2 and
# 25.2 Gy at 25 mm. Ayala Alvarez et al. 2020, PMID 32795615.
_PUBLISHED_MM = (7.5, 25.0)
_PUBLISHED = {Scale.V4: (28.6 / 20.0, 23.2 / 20.0), Scale.CQ: (31.7 / 20.0, 25.2 / 20.0)}
# The tolerance stated for TARGIT from V4.0 (AAPM TG-292, Culberson et al. 2020, by a third party's summary). Its
# coverage is not stated: it is read as k=1, the widest reading. For CQ none was found; the same is our own choice.
_PUBLISHED_UNCERTAINTY_PERCENT = 5.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScaleConversion:
    """Factors that take dose rates of one calibration scale to another, by distance.

    Parameters
    ----------
    from_scale, to_scale : Scale
        Neither is `Scale.OTHER`, which is no scale that a factor could belong to.
    distance_mm : ndarray of shape (N,), mm
        From the source centre; increasing, > 0; between its ends the conversion is valid.
    factor : ndarray of shape (N,)
        Dose rate on ``to_scale`` over that on ``from_scale``; finite, > 0.
    uncertainty_percent : float, percent
        k=1, common to all distances.
    origin : str
    clinical : bool
        Whether a site may use it for patients; the published pairs are not for that.
    excess : bool
        Interpolate ``factor - 1`` (all > 0, or all < 0) instead of ``factor`` itself: between two points that is
        1 + a r^-b. Our own interpolation.
    inverted : bool
        The reciprocal of the interpolated factor is used, and ``factor`` is that of the way back (see `inverse`).
    file, sha256 : str
        Where it was read from.

    Raises
    ------
    DepthDoseTableError
        If a value is impossible or both scales are one.
    """

    from_scale: Scale
    to_scale: Scale
    distance_mm: FloatArray
    factor: FloatArray
    uncertainty_percent: float
    origin: str
    clinical: bool
    excess: bool = False
    inverted: bool = False
    file: str = ""
    sha256: str = ""
    _curve: LogLogCubic = field(init=False, repr=False)

    def __post_init__(self) -> None:
        what = f"conversion from {self.from_scale.value} to {self.to_scale.value}"
        if Scale.OTHER in (self.from_scale, self.to_scale) or self.from_scale is self.to_scale:
            raise DepthDoseTableError(f"{what}: it must lead from one to another of {', '.join(_SCALES)}")
        r, factor, _ = sound_columns(what, self.distance_mm, ("factors", self.factor))
        if self.excess and not np.all(factor > 1.0):
            raise DepthDoseTableError(f"{what}: factors must be above 1 to be interpolated as 1 + a r^-b")
        if not 0.0 < self.uncertainty_percent < math.inf:
            raise DepthDoseTableError(f"{what}: its uncertainty must be finite and above 0 %")
        object.__setattr__(self, "distance_mm", r)
        object.__setattr__(self, "factor", factor)
        object.__setattr__(self, "_curve", LogLogCubic(r, factor - 1.0 if self.excess else factor))

    @property
    def range_mm(self) -> tuple[float, float]:
        """Distances between which the conversion is valid, mm."""
        return float(self.distance_mm[0]), float(self.distance_mm[-1])

    def factor_at(self, distance: AnyQuantity) -> FloatArray:
        """What a dose rate on ``from_scale`` is multiplied by at distances from the source; same shape.

        Raises
        ------
        DepthDoseRangeError
            If a distance lies outside the rows.
        """
        r = magnitude_in(distance, "mm", "distance")
        require_within(
            r, self.range_mm, f", where the conversion from {self.from_scale.value} to {self.to_scale.value} is known"
        )
        return self._factors(r)

    def inverse(self) -> ScaleConversion:
        """The way back, by the reciprocal at each distance."""
        return ScaleConversion(
            from_scale=self.to_scale,
            to_scale=self.from_scale,
            distance_mm=self.distance_mm,
            factor=self.factor,
            uncertainty_percent=self.uncertainty_percent,
            origin=self.origin,
            clinical=self.clinical,
            excess=self.excess,
            inverted=not self.inverted,
            file=self.file,
            sha256=self.sha256,
        )

    def _factors(self, r: FloatArray) -> FloatArray:
        factor = self._curve.values(r) + (1.0 if self.excess else 0.0)
        return 1.0 / factor if self.inverted else factor


def published_conversion(from_scale: Scale, to_scale: Scale) -> ScaleConversion:
    """Conversion by the published pairs: TARGIT to V4.0 or CQ, and back, from 7.5 to 25 mm.

    Raises
    ------
    DepthDoseTableError
        For any other pair of scales: none is published, and two steps in a row would hide how sure that is.

    Notes
    -----
    1.430 (V4.0) and 1.585 (CQ) at 7.5 mm, 1.160 and 1.260 at 25 mm: Ayala Alvarez et al. 2020, PMID 32795615. The
    factor between them is 1 + a r^-b through the two points, our own interpolation.
    """
    other = to_scale if from_scale is Scale.TARGIT else from_scale
    if Scale.TARGIT not in (from_scale, to_scale) or other not in _PUBLISHED:
        raise DepthDoseTableError(
            f"no conversion from {from_scale.value} to {to_scale.value} is published, only between targit and v4.0 or cq; "
            f"give a conversion table of your own"
        )
    conversion = ScaleConversion(
        from_scale=Scale.TARGIT,
        to_scale=other,
        distance_mm=np.array(_PUBLISHED_MM),
        factor=np.array(_PUBLISHED[other]),
        uncertainty_percent=_PUBLISHED_UNCERTAINTY_PERCENT,
        origin="published pairs at 7.5 and 25 mm, Ayala Alvarez et al. 2020, PMID 32795615; 1 + a r^-b between them",
        clinical=False,
        excess=True,
    )
    return conversion if from_scale is Scale.TARGIT else conversion.inverse()


def read_conversion(path: Path) -> ScaleConversion:
    """Read a conversion table of the user's own from a CSV file.

    Raises
    ------
    DepthDoseTableError
        If it cannot be read or anything in it is wrong; the message names the first such line.
    """
    text = split_table(path.name, read_bytes(path, path))
    reader = HeadReader(text, list(text.findings))
    reader.one_of("kind", ["scale-conversion"])
    reader.one_of("reference_point", ["source-centre"])
    from_scale, to_scale = (Scale(reader.one_of(key, _SCALES)) for key in ("from_scale", "to_scale"))
    percent, coverage = reader.uncertainty("uncertainty")
    clinical, origin = reader.one_of("clinical", ["yes", "no"]) == "yes", reader.words("origin")
    rows = read_rows(text, FACTOR)
    findings = [*reader.findings, *rows.findings]
    if text.header[1] != [DISTANCE, FACTOR] or rows.anisotropy is not None:
        problem = f"a conversion has the columns '{DISTANCE},{FACTOR}' alone; its uncertainty stands in the head"
        findings.append(Finding("header", "fail", text.header[0], problem))
    for finding in sorted(findings, key=lambda finding: finding.line or 0):
        line = f", line {finding.line}" if finding.line is not None else ""
        raise DepthDoseTableError(f"conversion {path.name}{line}: {finding.message}; {HELP}")
    return ScaleConversion(
        from_scale=from_scale,
        to_scale=to_scale,
        distance_mm=rows.columns[DISTANCE],
        factor=rows.columns[FACTOR],
        uncertainty_percent=percent / coverage,
        origin=origin,
        clinical=clinical,
        file=text.file,
        sha256=text.sha256,
    )


def convert_scale(
    table: DepthDoseTable, conversion: ScaleConversion, *, cut: bool = False, made: dt.date | None = None
) -> DepthDoseTable:
    """The table on another calibration scale, marked as converted.

    Parameters
    ----------
    table : DepthDoseTable
    conversion : ScaleConversion
    cut : bool
        Leave out the rows that the conversion does not cover; without it they are an error.
    made : datetime.date, optional
        The date of the converted table; today by default.

    Returns
    -------
    DepthDoseTable
        With the conversion's uncertainty in ``scale_uncertainty_percent`` (in quadrature with what stood there), apart
        from the column. Clinical only if both are.

    Raises
    ------
    DepthDoseTableError
        If the table is on another scale than the conversion starts from, or has rows that it does not cover.
    """
    if table.scale is not conversion.from_scale:
        way_back = table.scale is conversion.to_scale
        remedy = "take its inverse()" if way_back else "take a conversion that starts there"
        if table.scale is Scale.OTHER:
            remedy = "'other' is no scale that a factor belongs to; find out on which scale the table was measured"
        raise DepthDoseTableError(
            f"table {table.name!r} is on the scale {table.scale.value}, the conversion leads from "
            f"{conversion.from_scale.value} to {conversion.to_scale.value}; {remedy}"
        )
    kept = kept_rows(table, conversion.range_mm, f"the conversion to {conversion.to_scale.value}", cut=cut)
    r = table.distance_mm[kept]
    source = f", file {conversion.file} sha256 {conversion.sha256}" if conversion.sha256 else ""
    note = (
        f"converted from scale {conversion.from_scale.value} to {conversion.to_scale.value}: {identity(table)}, by "
        f"{'the reciprocal of ' if conversion.inverted else ''}factors from {conversion.origin}{source}; "
        f"{conversion.uncertainty_percent:g} % (k=1) added to the scale's uncertainty"
    )
    return DepthDoseTable(
        name=f"{table.name} on scale {conversion.to_scale.value}",
        distance_mm=r,
        dose_rate_gy_per_min=table.dose_rate_gy_per_min[kept] * conversion._factors(r),
        uncertainty_percent=table.uncertainty_percent[kept],
        scale=conversion.to_scale,
        clinical=table.clinical and conversion.clinical,
        origin=f"converted from scale {conversion.from_scale.value}: {table.origin}",
        trusted_range_mm=common_range(table, kept),
        applicator=table.applicator,
        tube_voltage_kv=table.tube_voltage_kv,
        tube_current_ua=table.tube_current_ua,
        measured=(made or dt.datetime.now(tz=dt.UTC).date()).isoformat(),
        derived=True,
        anisotropy=table.anisotropy,
        reference_point=table.reference_point,
        scale_uncertainty_percent=math.hypot(table.scale_uncertainty_percent, conversion.uncertainty_percent),
        notes=(*table.notes, note, *left_out(table, kept)),
    )
