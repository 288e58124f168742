"""Forward model of a needle in a scan: blurred steel cylinders, cut at the scanner's highest value.

The scan's blur is a Gaussian (in all directions) and a box along the slice normal. For a half-infinite
cylinder the Gaussian part has a closed form: the section is a blurred disc, the end an error function.
The box is a mean over a few points along the slice normal (Gauss-Legendre). Because edges are compared
where the scan still shows them, below the cut, the true height of the metal may stay unseen: the known
diameter stands in for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import special
from scipy.optimize import least_squares

from iort_planner.geometry import _needle_kernels

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator
    from iort_planner.units import FloatArray

# Radii at which the blurred disc is tabulated: 0.05 mm steps keep linear interpolation within 2 HU of 6000.
_RADII_MM = np.linspace(0.0, 12.0, 241)
_FEW, _MANY = np.polynomial.legendre.leggauss(3), np.polynomial.legendre.leggauss(5)
_THIN_MM = 1.3  # up to here three points of the slice's box are enough (error under 0.1 % of the height)


PROBE_RADIUS_MM = 1.6  # of an INTRABEAM probe (diameter 3.2 mm)
PROBE_END_MM = 0.7  # length of the dense end at its target: our own choice
PROBE_BORE_MM = (1.15, 1.4, 1.55)  # inside of its tube, least, usual, most: walls of 0.05 to 0.45 mm


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
    lowest, metal : float
        Lowest value near the needle, and what metal shows (upper quartile).
    soft_max : float
        Highest value of anything that is no metal; a plastic above that would stand in for metal.
    """

    local_mm: FloatArray
    values: FloatArray
    background: FloatArray
    normal: FloatArray
    slice_mm: float
    ceiling: float
    lowest: float
    metal: float
    soft_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Parameters of the model; lengths in mm in the needle's frame.

    ``end`` and ``cannula_end`` are where shaft and cannula begin along the axis (inf: no cannula),
    ``height`` the value of steel, ``slice_share`` the box's width over the slice distance.
    ``side``, ``side_slope``, ``side_bend`` (mm, 1, 1/mm) are the centre line across the axis: a slope and an arc of constant
    curvature (twice the bend); and so for up.
    A cannula end distal of the shaft's is a hollow tube that stands over the plastic; its length is the applicator file's.

    Inside the shaft, within ``bore_radius``, the value is ``inner`` (NaN: metal like the rest). Before its end stands plastic
    of the shaft's radius and ``plastic_length``, of the value ``plastic`` (NaN: none, or as its surroundings); its own bore
    of that radius reaches ``bore_reach`` ahead of the shaft's end and has the value ``bore`` (NaN: there is none). With a
    ``probe`` inside the sheath's bore (``sheath_radius``) that of the plastic holds the probe's tube with its dense end
    instead, and ``bore_radius`` is the tube's own.
    """

    radius: float
    cannula_radius: float
    side: float
    up: float
    side_slope: float
    up_slope: float
    side_bend: float
    up_bend: float
    end: float
    cannula_end: float
    cannula_length: float
    height: float
    blur: float
    slice_share: float
    bore_radius: float
    inner: float = float("nan")
    plastic: float = float("nan")
    plastic_length: float = 0.0
    bore: float = float("nan")
    bore_reach: float = 0.0
    probe: bool = False
    sheath_radius: float = PROBE_RADIUS_MM


@lru_cache(maxsize=64)  # most steps of a fit change neither radius nor blur
def blurred_disc(radius_mm: float, blur_mm: float) -> FloatArray:
    """Share of a disc under a 2-D Gaussian at the tabulated radii: a non-central chi-square in closed form."""
    result: FloatArray = special.chndtr((radius_mm / blur_mm) ** 2, 2.0, (_RADII_MM / blur_mm) ** 2)
    result.setflags(write=False)
    return result


def table_at(table: FloatArray, radius_mm: FloatArray) -> FloatArray:
    """A table of `blurred_disc` at any radii, by linear interpolation."""
    result: FloatArray = np.interp(radius_mm, _RADII_MM, table)
    return result


def bore_share(applicator: Applicator) -> float:
    """Radius of the sheath's bore over its outer radius: the applicator file's, else that of a probe with room to slide."""
    stated = applicator.inner_diameter_mm
    return _BORE_SHARE if stated is None else stated / applicator.outer_diameter_mm


def predict(scene: Scene, pose: Pose) -> FloatArray:
    """Model values at the scene's voxels, shape (N,)."""
    return _predicted(scene, pose, _NO_SLOPES)


_NO_SLOPES = np.empty((0, _needle_kernels.SLOPES))
# Which parameters the kernel gives slopes for; what is metal inside, and plastic without a bore, follow another value.
_COLUMNS = {
    name: getattr(_needle_kernels, name.upper())
    for name in (
        "side", "up", "side_slope", "up_slope", "side_bend", "up_bend", "end", "cannula_end", "height", "inner", "plastic",
        "bore", "bore_reach",
    )
}  # fmt: skip


def _predicted(scene: Scene, pose: Pose, slopes: FloatArray) -> FloatArray:
    node, weight = _FEW if scene.slice_mm <= _THIN_MM else _MANY
    shaft = blurred_disc(pose.radius, pose.blur)
    hollow, drilled = not np.isnan(pose.inner), pose.probe or not np.isnan(pose.bore)
    bore = blurred_disc(pose.bore_radius, pose.blur) if hollow or drilled else np.zeros(shaft.shape)
    cannula = blurred_disc(pose.cannula_radius, pose.blur) if np.isfinite(pose.cannula_end) else shaft
    plastic_end = (
        pose.end - pose.plastic_length + pose.radius / 3.0
    )  # a half ball fills as much as two thirds of a disc
    ends = (pose.end, pose.cannula_end, pose.cannula_end + pose.cannula_length, plastic_end, pose.end - pose.bore_reach)
    inner = pose.inner if hollow else pose.height
    in_plastic = inner if pose.probe else pose.bore if drilled else pose.plastic
    values: FloatArray = _needle_kernels.predict_values(
        scene.local_mm,
        scene.background,
        scene.ceiling,
        (0.5 * pose.slice_share * scene.slice_mm * node)[:, None] * scene.normal,
        0.5 * weight,
        np.array([pose.side, pose.up, pose.side_slope, pose.up_slope, pose.side_bend, pose.up_bend]),
        np.array(ends),
        np.array([pose.height, inner, pose.plastic, in_plastic]),
        pose.blur,
        np.stack([shaft, bore, cannula, *(blurred_disc(r, pose.blur) for r in (PROBE_RADIUS_MM, pose.sheath_radius))]),
        PROBE_END_MM if pose.probe else np.nan,
        _RADII_MM[1],
        slopes,
    )
    if slopes.size and not hollow:
        slopes[:, _COLUMNS["height"]] += slopes[:, _COLUMNS["inner"]]
    if slopes.size and pose.probe:
        slopes[:, _COLUMNS["inner"]] += slopes[:, _COLUMNS["bore"]]
    elif slopes.size and not drilled:
        slopes[:, _COLUMNS["plastic"]] += slopes[:, _COLUMNS["bore"]]
    return values


# Parameter bounds: blur from a sharp detail kernel to a soft C-arm kernel; steel from clearly metal to beyond what
# any 16-bit scale shows; the box from a point to twice the slice distance (overlapping slices).
_BOUNDS = {
    "radius": (0.3, 6.0),
    "cannula_radius": (0.3, 3.6),
    "side": (-5.0, 5.0),
    "up": (-5.0, 5.0),
    "side_slope": (-0.3, 0.3),
    "up_slope": (-0.3, 0.3),
    "side_bend": (-0.01, 0.01),
    "up_bend": (-0.01, 0.01),
    "end": (-np.inf, np.inf),
    "cannula_end": (-np.inf, np.inf),
    "height": (0.0, np.inf),
    "blur": (0.15, 2.0),
    "slice_share": (0.0, 2.0),
    "bore_radius": (1.15, 1.55),
    "inner": (-np.inf, np.inf),
    "plastic": (-np.inf, np.inf),
    "bore": (-np.inf, np.inf),
    "bore_reach": (0.3, 12.0),
}
# (a bend of 0.01 / mm is 9 mm over 60 mm: no applicator). Typical size of a change, for the solver's step.
_SCALE = {
    "side": 0.1,
    "up": 0.1,
    "side_slope": 0.01,
    "up_slope": 0.01,
    "side_bend": 3e-4,
    "up_bend": 3e-4,
    "end": 0.2,
    "cannula_end": 0.2,
    "blur": 0.1,
    "radius": 0.1,
    "bore_radius": 0.1,
    "bore_reach": 0.2,
}


# A wall of 0.3 mm in a blur of 0.8 shows a seventh of its value: as far as height and blur may go to explain a thin ring.
_MOST_WALL = 7.0
# Sheath walls are 0.3 to 0.7 mm of a radius of 2.2; the middle. Wall and value of a thin ring cannot be told apart in a scan
# that blurs them, so the wall is fixed and the value free; neither moves the ends. Our own choice.
_BORE_SHARE = 0.77
_LEAST_CANNULA_MM = 0.35  # over the shaft: guide cannulas of 5.1 mm and more
_UNSEEN = 10.0  # standard deviation of a parameter without influence, mm: farther than any window fitted here


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
    bounds = dict(_BOUNDS, height=(max(0.0, 0.3 * start.height), height_max), plastic=(scene.lowest, scene.soft_max))
    bounds |= {"inner": (scene.lowest, np.inf), "bore": (scene.lowest, scene.ceiling)}
    bounds["cannula_radius"] = (start.radius + _LEAST_CANNULA_MM, bounds["cannula_radius"][1])
    if not np.isnan(start.inner):
        bounds["height"] = (bounds["height"][0], min(height_max, _MOST_WALL * scene.metal))
    low = np.array([bounds[n][0] for n in free])
    high = np.array([bounds[n][1] for n in free])
    x0 = np.clip([getattr(start, n) for n in free], low + 1e-6, high - 1e-6)

    def residual(x: FloatArray) -> FloatArray:
        pose = replace(start, **dict(zip(free, x.tolist(), strict=True)))
        result: FloatArray = (predict(scene, pose) - scene.values) / noise
        return result

    slopes = np.empty((scene.values.size, _needle_kernels.SLOPES))

    def jacobian(x: FloatArray) -> FloatArray:
        # blur and radii by steps of a hundredth of a typical change, the others from the kernel
        pose = replace(start, **dict(zip(free, x.tolist(), strict=True)))
        base = (_predicted(scene, pose, slopes) - scene.values) / noise
        columns = []
        for n, (name, scale) in enumerate(zip(free, scales, strict=True)):
            if name in _COLUMNS:
                columns.append(slopes[:, _COLUMNS[name]] / noise)
                continue
            moved = x.copy()
            moved[n] += 0.01 * scale if x[n] + 0.01 * scale <= high[n] else -0.01 * scale
            columns.append((residual(moved) - base) / (moved[n] - x[n]))
        return np.stack(columns, axis=1)

    found = least_squares(
        residual, x0, jacobian, bounds=(low, high), x_scale=scales, loss="soft_l1",
        ftol=1e-5, xtol=1e-5, gtol=1e-6, max_nfev=40,
    )  # fmt: skip
    pose = replace(start, **dict(zip(free, found.x.tolist(), strict=True)))
    normal = found.jac.T @ found.jac
    covariance = np.linalg.pinv(normal) * max(1.0, 2.0 * found.cost / max(1, found.fun.size - len(free)))
    rms = float(np.sqrt(np.mean(found.fun**2))) * noise
    # what the voxels do not depend on is not known at all: a pseudo-inverse would call it exact
    variance = np.where((np.diag(normal) > 0.0) & (np.diag(covariance) > 0.0), np.diag(covariance), _UNSEEN**2)
    sigma = dict(zip(free, np.sqrt(np.minimum(variance, _UNSEEN**2)).tolist(), strict=True))
    return Fit(pose=pose, cost=float(found.cost), sigma=sigma, residual_rms=rms)


def centre_line(scene: Scene, pose: Pose, segment_mm: float) -> FloatArray:
    """Where the metal's centre really lies, segment by segment: (N, 3) across, across, along in the needle's frame.

    In each segment the model is shifted across until it fits best (Gauss-Newton with damped outliers). Unlike
    centroids of sections this knows of the slices' thickness, which makes centroids wobble along oblique needles.
    """
    along = scene.local_mm[:, 2]
    first = max(pose.end, float(along.min())) + 1.0
    count = int((along.max() - first) / segment_mm)
    segment = np.floor((along - first) / segment_mm).astype(int)
    used = (segment >= 0) & (segment < count)
    part = replace(scene, local_mm=scene.local_mm[used], values=scene.values[used], background=scene.background[used])
    segment = segment[used]
    offset = np.zeros((max(count, 0), 2))
    step = 0.1
    for _ in range(3):

        def shifted(side: float, up: float) -> FloatArray:
            move = np.zeros(part.local_mm.shape)
            move[:, :2] = offset[segment] + (side, up)
            return predict(replace(part, local_mm=part.local_mm - move), pose)

        model = shifted(0.0, 0.0)
        slope = np.stack([(shifted(step, 0.0) - model) / step, (shifted(0.0, step) - model) / step], axis=1)
        miss = part.values - model
        for n in range(count):
            here = segment == n
            weight = 1.0 / (1.0 + (miss[here] / (0.1 * abs(pose.height))) ** 2)
            normal = (slope[here] * weight[:, None]).T @ slope[here] + 1e-6 * np.eye(2)
            change = np.linalg.solve(normal, (slope[here] * weight[:, None]).T @ miss[here])
            offset[n] += np.clip(change, -0.5, 0.5)
    at = np.asarray(first + (np.arange(max(count, 0)) + 0.5) * segment_mm, dtype=np.float64)
    side, up = centre_at(pose, at)
    return np.stack([side + offset[:, 0], up + offset[:, 1], at], axis=1)


def centre_at(pose: Pose, along: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The model's centre line at positions along the axis: side and up, mm."""
    bow = bowed(along, np.hypot(pose.side_bend, pose.up_bend))
    return (
        pose.side + along * pose.side_slope + bow * pose.side_bend,
        pose.up + along * pose.up_slope + bow * pose.up_bend,
    )


def bowed(along: FloatArray, bend: float) -> FloatArray:
    """What a constant curvature of 2 ``bend`` (1/mm) makes of a parabola's square of the position along, mm2.

    An arc leaves its parabola by 0.5 mm at 80 mm for a bend of 4 mm, which would turn the fitted tangent by 0.3 degrees.
    """
    result: FloatArray = 2.0 * along**2 / (1.0 + np.sqrt(np.maximum(1.0 - (2.0 * bend * along) ** 2, 0.0)))
    return result
