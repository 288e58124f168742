"""Forward model of a needle in a scan: blurred steel cylinders, cut at the scanner's highest value.

The scan's blur is a Gaussian (in all directions) and a box along the slice normal. For a half-infinite
cylinder the Gaussian part has a closed form: the section is a blurred disc, the end an error function.
The box is a mean over a few points along the slice normal (Gauss-Legendre). Because edges are compared
where the scan still shows them, below the cut, the true height of the metal may stay unseen: the known
diameter stands in for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import special
from scipy.optimize import least_squares

if TYPE_CHECKING:
    from iort_planner.units import FloatArray

# Radii at which the blurred disc is tabulated: 0.05 mm steps keep linear interpolation within 2 HU of 6000.
_RADII_MM = np.linspace(0.0, 12.0, 241)
_FEW, _MANY = np.polynomial.legendre.leggauss(3), np.polynomial.legendre.leggauss(5)
_THIN_MM = 1.3  # up to here three points of the slice's box are enough (error under 0.1 % of the height)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """Right-handed frame of a needle: ``axis`` from the tip towards the hub, origin on the axis.

    Parameters
    ----------
    origin_lps_mm : ndarray of shape (3,), mm
    axis, side, up : ndarray of shape (3,)
        Orthonormal.
    """

    origin_lps_mm: FloatArray
    axis: FloatArray
    side: FloatArray
    up: FloatArray

    def to_local(self, points_lps_mm: FloatArray) -> FloatArray:
        """(..., 3) LPS mm -> (..., 3) as across (side), across (up), along."""
        result: FloatArray = (points_lps_mm - self.origin_lps_mm) @ np.stack([self.side, self.up, self.axis], axis=1)
        return result

    def to_lps(self, local_mm: FloatArray) -> FloatArray:
        """(..., 3) across, across, along in mm -> (..., 3) LPS mm."""
        result: FloatArray = local_mm @ np.stack([self.side, self.up, self.axis]) + self.origin_lps_mm
        return result


def frame_from(origin_lps_mm: FloatArray, axis: FloatArray) -> Frame:
    """Frame with a given origin and axis (any non-zero length)."""
    unit = axis / np.linalg.norm(axis)
    helper = np.eye(3)[int(np.argmin(np.abs(unit)))]
    side = np.cross(helper, unit)
    side /= np.linalg.norm(side)
    return Frame(origin_lps_mm=origin_lps_mm, axis=unit, side=side, up=np.cross(unit, side))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """Voxels near a needle, in its frame, and what is taken as known of them.

    Parameters
    ----------
    local_mm : ndarray of shape (N, 3), mm
        Voxel centres: across, across, along.
    values, background : ndarray of shape (N,)
        Voxel values, and what they would be without metal.
    normal : ndarray of shape (3,)
        Slice normal in the needle's frame.
    slice_mm : float
        Distance of neighbouring slices.
    ceiling : float
        Highest value the scan shows; inf if nothing is cut.
    curvature : ndarray of shape (2,), 1/mm
        Quadratic term of the centre line, side and up.
    wall_beyond : float
        Median excess over the background where a cannula over the plastic would be, over the core's value.
    """

    local_mm: FloatArray
    values: FloatArray
    background: FloatArray
    normal: FloatArray
    slice_mm: float
    ceiling: float
    curvature: FloatArray
    wall_beyond: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Parameters of the model; lengths in mm in the needle's frame.

    ``end`` and ``cannula_end`` are where shaft and cannula begin along the axis (inf: no cannula),
    ``height`` the value of steel, ``slice_share`` the box's width over the slice distance.
    A cannula end distal of the shaft's is a hollow tube that stands over the plastic.
    """

    radius: float
    cannula_radius: float
    side: float
    up: float
    side_slope: float
    up_slope: float
    end: float
    cannula_end: float
    height: float
    blur: float
    slice_share: float


def blurred_disc(radius_mm: float, blur_mm: float) -> FloatArray:
    """Share of a disc under a 2-D Gaussian at the tabulated radii: a non-central chi-square in closed form."""
    result: FloatArray = special.chndtr((radius_mm / blur_mm) ** 2, 2.0, (_RADII_MM / blur_mm) ** 2)
    return result


def predict(scene: Scene, pose: Pose) -> FloatArray:
    """Model values at the scene's voxels, shape (N,)."""
    shaft = blurred_disc(pose.radius, pose.blur)
    has_cannula = np.isfinite(pose.cannula_end)
    ring = blurred_disc(pose.cannula_radius, pose.blur) - shaft if has_cannula else None
    metal = np.zeros(scene.values.shape)
    for node, weight in zip(*(_FEW if scene.slice_mm <= _THIN_MM else _MANY), strict=True):
        shift = 0.5 * node * pose.slice_share * scene.slice_mm * scene.normal
        along = scene.local_mm[:, 2] - shift[2]
        x = scene.local_mm[:, 0] - shift[0] - (pose.side + along * (pose.side_slope + along * scene.curvature[0]))
        y = scene.local_mm[:, 1] - shift[1] - (pose.up + along * (pose.up_slope + along * scene.curvature[1]))
        position = np.minimum(np.hypot(x, y), _RADII_MM[-1]) / _RADII_MM[1]
        low = np.minimum(position.astype(np.intp), _RADII_MM.size - 2)
        part = position - low
        section = shaft[low] + part * (shaft[low + 1] - shaft[low])
        metal += 0.5 * weight * section * special.ndtr((along - pose.end) / pose.blur)
        if ring is not None:
            section = ring[low] + part * (ring[low + 1] - ring[low])
            metal += 0.5 * weight * section * special.ndtr((along - pose.cannula_end) / pose.blur)
    value = scene.background + (pose.height - scene.background) * metal
    result: FloatArray = np.minimum(value, scene.ceiling)
    return result


# Parameter bounds: blur from a sharp detail kernel to a soft C-arm kernel; steel from clearly metal to beyond what
# any 16-bit scale shows; the box from a point to twice the slice distance (overlapping slices).
_BOUNDS = {
    "radius": (0.3, 6.0),
    "cannula_radius": (0.3, 6.0),
    "side": (-5.0, 5.0),
    "up": (-5.0, 5.0),
    "side_slope": (-0.3, 0.3),
    "up_slope": (-0.3, 0.3),
    "end": (-np.inf, np.inf),
    "cannula_end": (-np.inf, np.inf),
    "height": (0.0, np.inf),
    "blur": (0.25, 2.0),
    "slice_share": (0.0, 2.0),
}
# Typical size of a change, for the solver's step.
_SCALE = {
    "side": 0.1,
    "up": 0.1,
    "side_slope": 0.01,
    "up_slope": 0.01,
    "end": 0.2,
    "cannula_end": 0.2,
    "blur": 0.1,
    "radius": 0.1,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """A fitted pose.

    Parameters
    ----------
    pose : Pose
    cost : float
        Robust cost over the noise: half the sum of squares of residual / noise, outliers damped.
    sigma : dict of str to float
        Standard deviation of each free parameter from the fit alone (independent voxels).
    residual_rms : float
        Root mean square residual, in the scan's own units.
    """

    pose: Pose
    cost: float
    sigma: dict[str, float]
    residual_rms: float


def fit(scene: Scene, start: Pose, free: tuple[str, ...], noise: float, height_max: float = np.inf) -> Fit:
    """Fit the named parameters to the scene by robust least squares (soft L1: streaks pull less)."""
    scales = np.array([_SCALE.get(n, max(abs(getattr(start, n)), 1.0) * 0.1) for n in free])
    bounds = dict(_BOUNDS, height=(max(0.0, 0.3 * start.height), height_max))
    low = np.array([bounds[n][0] for n in free])
    high = np.array([bounds[n][1] for n in free])
    x0 = np.clip([getattr(start, n) for n in free], low + 1e-6, high - 1e-6)

    def residual(x: FloatArray) -> FloatArray:
        pose = replace(start, **dict(zip(free, x.tolist(), strict=True)))
        result: FloatArray = (predict(scene, pose) - scene.values) / noise
        return result

    found = least_squares(
        residual, x0, bounds=(low, high), x_scale=scales, loss="soft_l1", ftol=1e-5, xtol=1e-5, gtol=1e-6, max_nfev=25,
        diff_step=1e-4,
    )  # fmt: skip
    pose = replace(start, **dict(zip(free, found.x.tolist(), strict=True)))
    normal = found.jac.T @ found.jac
    covariance = np.linalg.pinv(normal) * max(1.0, 2.0 * found.cost / max(1, found.fun.size - len(free)))
    rms = float(np.sqrt(np.mean(found.fun**2))) * noise
    sigma = dict(zip(free, np.sqrt(np.diag(covariance)).tolist(), strict=True))
    return Fit(pose=pose, cost=float(found.cost), sigma=sigma, residual_rms=rms)
