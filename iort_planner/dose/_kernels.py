"""Compiled loops of the water engine on plain arrays; the tests hold a slow, obvious oracle beside them.

Importing this module imports numba (0.15 s and more): `water.py` does so only when a grid is computed.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from iort_planner.compiled import compiled
from iort_planner.units import FloatArray

TABLE_TOLERANCE_MM = 5e-10  # a voxel centre meant to lie at a row's distance must not fall out of the table by rounding


@compiled
def polar_factor(
    theta_deg: FloatArray, distance_mm: FloatArray, factor: FloatArray, at_theta_deg: float, at_mm: float
) -> float:
    """`PolarAnisotropy.factor_at` for one point: bilinear, the nearest distance held, NaN outside the angles."""
    if not (at_theta_deg >= theta_deg[0] and at_theta_deg <= theta_deg[-1]):
        return math.nan
    m = min(int(np.searchsorted(theta_deg, at_theta_deg, side="right")), theta_deg.size - 1)
    up = (at_theta_deg - theta_deg[m - 1]) / (theta_deg[m] - theta_deg[m - 1])
    if at_mm <= distance_mm[0]:
        return float((1.0 - up) * factor[m - 1, 0] + up * factor[m, 0])
    if at_mm >= distance_mm[-1]:
        return float((1.0 - up) * factor[m - 1, -1] + up * factor[m, -1])
    n = int(np.searchsorted(distance_mm, at_mm, side="right"))
    out = (at_mm - distance_mm[n - 1]) / (distance_mm[n] - distance_mm[n - 1])
    near = (1.0 - up) * factor[m - 1, n - 1] + up * factor[m, n - 1]
    far = (1.0 - up) * factor[m - 1, n] + up * factor[m, n]
    return float((1.0 - out) * near + out * far)


@compiled
def fill_dose(
    dose: npt.NDArray[np.float32],
    affine: FloatArray,
    sources_lps_mm: FloatArray,
    distal_lps: FloatArray,
    minutes: FloatArray,
    range_mm: FloatArray,
    rate_r2: FloatArray,
    polar: tuple[FloatArray, FloatArray, FloatArray],
) -> None:
    """Dose of all sources in every voxel: sum of minutes * rate_r2(r) / r^2 * factor(r, theta).

    NaN where the table has no value for a source.

    Parameters
    ----------
    dose : ndarray of shape (nk, nj, ni), float32, Gy
        Written.
    affine : ndarray of shape (3, 4), mm
        Index (i, j, k, 1) to LPS.
    sources_lps_mm, distal_lps : ndarray of shape (S, 3)
        Sources (mm), and the unit vectors from which their polar angles count.
    minutes : ndarray of shape (S,)
    range_mm : ndarray of shape (2,), mm
        First and last distance of the table.
    rate_r2 : ndarray of shape (N,), Gy mm^2/min
        Dose rate times r^2 at N distances that divide ``range_mm`` into equal steps.
    polar : tuple of theta_deg (M,), distance_mm (K,), factor (M, K)
        Of a `PolarAnisotropy`; no angles for an isotropic table.
    """
    nk, nj, ni = dose.shape
    first_mm = range_mm[0]
    low, high = range_mm[0] - TABLE_TOLERANCE_MM, range_mm[1] + TABLE_TOLERANCE_MM
    per_mm = (rate_r2.size - 1) / (range_mm[1] - range_mm[0])
    top = rate_r2.size - 1 - 1e-9  # the last distance belongs to the last step
    row, distance, weight = np.empty(ni), np.empty(ni), np.empty(ni)
    one = np.uintp(1)  # unsigned, so that no index is looked at for being negative
    step = affine[:, 0].copy()
    step2 = step[0] ** 2 + step[1] ** 2 + step[2] ** 2
    start = np.empty(3)
    for k in range(nk):
        for j in range(nj):
            row[:] = 0.0
            for s in range(minutes.size):
                for n in range(3):
                    start[n] = affine[n, 1] * j + affine[n, 2] * k + affine[n, 3] - sources_lps_mm[s, n]
                # the row's point nearest to the source, as an index, and its squared distance
                nearest = -(step[0] * start[0] + step[1] * start[1] + step[2] * start[2]) / step2
                off2 = 0.0
                for n in range(3):
                    off2 += (start[n] + nearest * step[n]) ** 2
                reach = math.sqrt(max(high * high - off2, 0.0) / step2) + 1.0
                begin = min(max(math.ceil(nearest - reach), 0), ni)
                end = max(min(math.floor(nearest + reach) + 1, ni), begin)
                row[:begin] = np.nan
                row[end:] = np.nan
                time = minutes[s]
                for i in range(begin, end):  # no branch and no look-up in here, so that it becomes vector code
                    r2 = off2 + step2 * (i - nearest) * (i - nearest)
                    r = math.sqrt(r2)
                    distance[i] = r
                    weight[i] = time / r2 if (r >= low) & (r <= high) else np.nan
                if polar[0].size:
                    along = step[0] * distal_lps[s, 0] + step[1] * distal_lps[s, 1] + step[2] * distal_lps[s, 2]
                    at_start = start[0] * distal_lps[s, 0] + start[1] * distal_lps[s, 1] + start[2] * distal_lps[s, 2]
                    for i in range(begin, end):
                        if not math.isnan(weight[i]):
                            cosine = (at_start + i * along) / distance[i]
                            theta = math.degrees(math.acos(min(max(cosine, -1.0), 1.0)))
                            weight[i] *= polar_factor(polar[0], polar[1], polar[2], theta, distance[i])
                for i in range(begin, end):
                    at = (distance[i] - first_mm) * per_mm
                    at = at if at < top else top
                    at = at if at > 0.0 else 0.0
                    whole = np.int32(at)
                    here = np.uintp(whole)
                    row[i] += weight[i] * (rate_r2[here] + (at - whole) * (rate_r2[here + one] - rate_r2[here]))
            for i in range(ni):
                dose[k, j, i] = row[i]
