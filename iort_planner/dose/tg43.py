"""The two-dimensional TG-43 formalism: dose rate in water of a point or line source from its tabulated parameters.

Rivard et al. 2004 (TG-43U1), Med Phys 31:633, doi:10.1118/1.1646040, equation 1:
D(r, theta) = S_K * Lambda * G(r, theta) / G(r0, theta0) * g(r) * F(r, theta), with r0 = 10 mm, theta0 = 90 degrees.

Interpolation as published: ln g over r (TG-43U1; linear where the source says so), F bilinear in r and theta. Beyond the
rows the supplement TG-43U1S1 (Rivard et al. 2007, Med Phys 34:2187, doi:10.1118/1.2736790) holds F at its nearest
distance, which is done here, and it continues g: the first row's value inwards, an exponential through the last two rows
outwards. That is not done: g carries the whole fall of the dose, and this package never extrapolates a dose.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.dose.points import polar_angles_deg
from iort_planner.errors import DepthDoseRangeError, DepthDoseTableError
from iort_planner.source.depth_dose import DepthDoseTable
from iort_planner.source.polar import PolarAnisotropy
from iort_planner.source.tg43 import REFERENCE_DISTANCE_MM, RadialInterpolation, Tg43Source
from iort_planner.units import AnyQuantity, FloatArray, Quantity, magnitude_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from iort_planner.imaging.volume import ImageGrid

_GY_PER_MIN = 1.0 / (100.0 * 60.0)  # of 1 cGy/h
_SMALL_ANGLE = 1e-3  # below it the series of atan(x)/x is exact to 1e-19
# Rows of `depth_dose_table`: our own, chosen for 0.05 % between them; the tests show what is left.
_ROW_STEP = 0.004  # in ln r
_FACTOR_STEP = 0.02  # in ln r
_FACTOR_STEP_DEG = 0.5


def geometry_function(r_mm: FloatArray, theta_deg: FloatArray, active_length_mm: float) -> FloatArray:
    """Geometry function G(r, theta), mm^-2, of arrays that broadcast; infinite on the source itself.

    Point source: 1/r^2. Line source: the angle beta that the source fills, over L r sin(theta); on the axis its limit
    1/(r^2 - L^2/4) (TG-43U1, equation 4). Written as atan(x)/x / (r^2 - L^2/4) with x = L r sin(theta)/(r^2 - L^2/4),
    it is stable on the axis and goes over into 1/r^2 for L -> 0.
    """
    r, theta = np.broadcast_arrays(np.asarray(r_mm, dtype=np.float64), np.radians(theta_deg))
    half = active_length_mm / 2.0
    beside = active_length_mm * r * np.abs(np.sin(theta))
    along = (r - half) * (r + half)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = beside / along
        series = (1.0 - x**2 / 3.0 + x**4 / 5.0) / along
        full = np.arctan2(beside, along) / beside
    result: FloatArray = np.where((along > 0) & (beside < _SMALL_ANGLE * along), series, full)
    result[(along <= 0) & (beside == 0)] = np.inf
    return result


def radial_dose_at(source: Tg43Source, r_mm: FloatArray) -> FloatArray:
    """Radial dose function g(r) on floats, same shape; NaN outside its rows."""
    g = source.radial_dose
    r = np.asarray(r_mm, dtype=np.float64)
    if source.radial_interpolation is RadialInterpolation.LINEAR:
        result = np.interp(r, source.radial_distance_mm, g, left=np.nan, right=np.nan)
    else:
        result = np.exp(np.interp(r, source.radial_distance_mm, np.log(g), left=np.nan, right=np.nan))
    return np.asarray(result, dtype=np.float64)


def rate_cgy_per_h_u(source: Tg43Source, r_mm: FloatArray, theta_deg: FloatArray) -> FloatArray:
    """Dose rate per air-kerma strength, cGy/h/U, on floats that broadcast.

    NaN outside the rows of g(r), at angles that F does not reach, and on the source itself.
    """
    r, theta = np.broadcast_arrays(np.asarray(r_mm, dtype=np.float64), np.asarray(theta_deg, dtype=np.float64))
    length = source.active_length_mm
    geometry = geometry_function(r, theta, length)
    reference = float(geometry_function(np.array(REFERENCE_DISTANCE_MM), np.array(90.0), length))
    result = np.array(source.dose_rate_constant_cgy_per_h_u * geometry / reference * radial_dose_at(source, r))
    known = np.isfinite(result) & source.anisotropy.covers(theta)
    result[~known] = np.nan
    result[known] *= source.anisotropy.factor_at(r[known], theta[known])
    return result


def dose_rate_at(source: Tg43Source, distance: AnyQuantity, polar_angle: AnyQuantity) -> AnyQuantity:
    """Dose rate in water (Gy/min) at distances and polar angles that broadcast; 0 degrees is forwards.

    Raises
    ------
    DepthDoseTableError
        If the source gives no air-kerma strength.
    DepthDoseRangeError
        If a point lies outside the rows of g(r) or F(r, theta), or on the source.
    """
    r, theta = magnitude_in(distance, "mm", "distance"), magnitude_in(polar_angle, "deg", "polar angle")
    rate = rate_cgy_per_h_u(source, r, theta) * _strength_u(source)
    if np.any(np.isnan(rate)):
        low, high = source.range_mm
        raise DepthDoseRangeError(
            f"TG-43 source {source.name!r} has dose rates for {low:g} to {high:g} mm, outside the source itself, and for "
            f"{source.anisotropy.theta_deg[0]:g} to {source.anisotropy.theta_deg[-1]:g} degrees; got {np.min(r):.4g} to "
            f"{np.max(r):.4g} mm and {np.min(theta):.4g} to {np.max(theta):.4g} degrees; dose is never extrapolated"
        )
    return Quantity(rate * _GY_PER_MIN, "Gy/min")


def depth_dose_table(source: Tg43Source) -> DepthDoseTable:
    """The source as a depth-dose table along 90 degrees with a polar factor, for the water engine.

    The rows start at the first distance of g(r) above 0, but not nearer than one active length: nearer to a line
    source's ends the dose rate changes too fast with the angle to be a table of factors. They end with g(r).
    A table's dose rate is D(r, 90) * factor, so the factor holds the geometry function too:
    F(r, theta) G(r, theta) / (F(r, 90) G(r, 90)). Rows and factors are dense: the table gives the TG-43 value
    within 0.05 % in every direction (the tests hold it to that).

    Raises
    ------
    DepthDoseTableError
        If the source gives no air-kerma strength, or its dose rates do not fall with the distance.
    """
    to_gy_per_min = _strength_u(source) * _GY_PER_MIN
    given = source.radial_distance_mm
    low, high = max(float(given[given > 0][0]), source.active_length_mm), float(given[-1])
    if low >= high:
        raise DepthDoseTableError(
            f"TG-43 source {source.name!r}: g(r) ends at {high:g} mm, within one active length ({low:g} mm) of the source: "
            f"it cannot be made a depth-dose table"
        )
    rows = _dense(np.union1d(given[(given > low) & (given < high)], [low, high]), _ROW_STEP)
    f = source.anisotropy
    distance = _dense(
        np.union1d(f.distance_mm[(f.distance_mm > low) & (f.distance_mm < high)], [low, high]), _FACTOR_STEP
    )
    first, last = f.theta_deg[[0, -1]]
    steps = np.arange(np.ceil(first / _FACTOR_STEP_DEG), np.floor(last / _FACTOR_STEP_DEG) + 1) * _FACTOR_STEP_DEG
    theta = np.union1d(f.theta_deg, steps)
    sideways = rate_cgy_per_h_u(source, distance, np.array(90.0))
    return DepthDoseTable(
        name=source.name,
        distance_mm=rows,
        dose_rate_gy_per_min=rate_cgy_per_h_u(source, rows, np.array(90.0)) * to_gy_per_min,
        uncertainty_percent=np.full(rows.shape, source.uncertainty_percent),
        scale=source.scale,
        clinical=source.clinical,
        origin=source.origin,
        trusted_range_mm=(low, high),
        applicator=source.applicator,
        tube_voltage_kv=source.tube_voltage_kv,
        tube_current_ua=source.tube_current_ua,
        measured=source.measured,
        derived=source.derived,
        file=source.file,
        sha256=source.sha256,
        notes=(f"rows and polar factors computed from the TG-43 source in {source.file or source.name}",),
        anisotropy=PolarAnisotropy(
            theta_deg=theta,
            distance_mm=distance,
            factor=rate_cgy_per_h_u(source, distance[None, :], theta[:, None]) / sideways,
            completed=f.completed,
        ),
    )


def rate_at_points(
    source: Tg43Source, source_lps_mm: FloatArray, axis_lps: FloatArray, points_lps_mm: FloatArray
) -> FloatArray:
    """Dose rate (Gy/min) at points (..., 3) mm round a source whose axis runs from the tip towards the hub.

    NaN where the source's tables give no value.

    Raises
    ------
    DepthDoseTableError
        If the source gives no air-kerma strength.
    """
    offsets = np.asarray(points_lps_mm, dtype=np.float64) - source_lps_mm
    theta = polar_angles_deg(offsets, axis_lps)
    rate = rate_cgy_per_h_u(source, np.linalg.norm(offsets, axis=-1), theta)
    return rate * (_strength_u(source) * _GY_PER_MIN)


def dose_on_grid(
    source: Tg43Source,
    sources_lps_mm: Sequence[FloatArray],
    times_s: Sequence[float],
    grid: ImageGrid,
    axes_lps: Sequence[FloatArray],
    output: float = 1.0,
) -> npt.NDArray[np.float32]:
    """Physical dose to water (Gy), shape (nk, nj, ni), by the formalism itself; NaN where it gives no value for a source.

    Parameters
    ----------
    sources_lps_mm, times_s, axes_lps : sequences of one length
        Source centre, time and axis (from the tip towards the hub) of each dwell.
    grid : ImageGrid
    output : float
        Output of the day, which every dose rate is multiplied by.

    Raises
    ------
    DepthDoseTableError
        If the source gives no air-kerma strength.
    """
    ni, nj, nk = grid.size_voxels
    dose = np.zeros(grid.shape, dtype=np.float32)
    for k in range(nk):  # a slice at a time keeps the memory small
        points = grid.crop((0, 0, k), (ni, nj, k + 1)).voxel_centres_lps_mm()[0]
        for at, time_s, axis in zip(sources_lps_mm, times_s, axes_lps, strict=True):
            dose[k] += (rate_at_points(source, at, axis, points) * (output * time_s / 60.0)).astype(np.float32)
    return dose


def _strength_u(source: Tg43Source) -> float:
    if source.air_kerma_strength_u is None:
        raise DepthDoseTableError(
            f"TG-43 source {source.name!r} gives dose rates per air-kerma strength only; add "
            f"'# air_kerma_strength_u: ...' (U = cGy cm^2/h, from the source's calibration) to its head for Gy/min"
        )
    return source.air_kerma_strength_u


def _dense(nodes_mm: FloatArray, step: float) -> FloatArray:
    """The nodes and, between each two, more at equal steps of ln r of at most ``step``."""
    parts = [
        np.exp(np.linspace(np.log(a), np.log(b), int(np.ceil(np.log(b / a) / step)) + 1))[1:-1]
        for a, b in itertools.pairwise(nodes_mm)
    ]
    return np.union1d(nodes_mm, np.concatenate(parts))
