"""The canal's wall as the front of a thin, blurred plate of cortex: where it is, whatever the cortex' thickness.

A half-maximum lies inside the true edge as soon as the cortex is thinner than the scan's blur, by up to 0.8 mm for 0.6 mm of
cortex. So the values along the wall's rays, averaged along the wall, are compared with blurred plates instead: content, a
plate of free height, spongiosa. What the data leave open (a thin plate's height and thickness, of which only the product
shows) is averaged over with stated expectations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import ndtr

from iort_planner.geometry.canal_intensity import IntensityScale
from iort_planner.geometry.canal_rays import Frame
from iort_planner.geometry.canal_search import SOFT_TISSUE_HU
from iort_planner.imaging.volume import ImageGrid, Volume
from iort_planner.units import FloatArray

_OFFSET_MM = np.arange(-2.25, 3.01, 0.25)  # of the samples from the wall: epidural fat before it, spongiosa behind
_EDGE_MM = np.arange(-0.75, 1.01, 0.125)  # of the plate's front from the wall
# Thickness of the cortex: 0.4 mm in a vertebral body's shell (Edwards et al. 2001, Bone 29:523) to 3 mm in laminae.
_THICKNESS_MM = np.exp(np.linspace(np.log(0.35), np.log(3.2), 8))
# Expectations as logarithmic normal distributions: middle, spread. Our own choices round usual values: cortex 1150 HU (500
# in osteoporosis to 1700), an image in other units read less surely; blur of CT in plane with what the voxels add.
_THICKNESS_MIDDLE_MM, _THICKNESS_SPREAD = 1.0, 0.8
_HEIGHT_MIDDLE_HU, _HEIGHT_SPREAD, _HEIGHT_SPREAD_GREY = 1150.0, 0.45, 0.6
_BLUR_MIDDLE_MM, _BLUR_SPREAD = 0.72, 0.3
_BLUR_MM = 0.35 * 1.07 ** np.arange(27)  # 0.35 to 2.0
# Across slices, as a part of their spacing: profile as wide as the spacing (0.4), the voxel (1 / sqrt 12), and linear
# interpolation between slices (1 / sqrt 6), together.
_SLICE_BLUR = float(np.sqrt(0.4**2 + 1.0 / 12.0 + 1.0 / 6.0))
_ALONG_PLANES, _ALONG_ANGLES = 1.2, 1.5  # averaging along the wall, standard deviations in planes and angles
_FILL_PLANES, _FILL_ANGLES = 2.0, 2.0  # and of the shift that rays take over from their neighbours
_LEAST_SUPPORT, _LEAST_FILL = 0.35, 0.02  # of the averaging's weights that lie on seen wall
_BEHIND_MM = 3.0  # the window behind the wall must be free of metal
_LEAST_RAYS = 60
# From the wall through the half maxima (with their estimate of the shift) to the front, at most. Our own choice: real scans
# and streaks show plates inside it that are no wall, and the inner side is the dangerous one.
_MOST_INWARDS_MM, _MOST_OUTWARDS_MM = 0.0, 0.4
_ALIKE_SAMPLES = 3.0  # samples every 0.25 mm share their noise
_ALIKE_RAYS = 15.0  # and so do the rays of one averaging patch
_LEAST_NOISE_HU = 4.0
_MOST_MISFIT = 50.0  # a ray that is no plate at all does not decide on the blur
_THIN_OUT = 17  # the blur is judged from every 17th ray: so many that angles and planes take turns
# 0.46 to 0.90 mm: soft kernels have up to about 0.65 (half the contrast at 3 line pairs per cm), with the voxels 0.8
_TRIED_BLUR_MM = _BLUR_MM[4:15:2]
_ROUNDS = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlateEdges:
    """Front edges of the cortex.

    Parameters
    ----------
    radius_mm : ndarray of shape (P, A), mm
        0 where there is none.
    blur_mm : float
        Standard deviation of the blur in plane.
    """

    radius_mm: FloatArray
    blur_mm: float


def plate_edges(
    volume: Volume,
    scale: IntensityScale,
    frame: Frame,
    wall_mm: FloatArray,
    half_maximum_mm: FloatArray,
    seen: npt.NDArray[np.bool_],
    blocked_mm: FloatArray,
) -> PlateEdges | None:
    """Front edges of the cortex along a wall.

    Parameters
    ----------
    volume : Volume
    scale : IntensityScale
    frame : Frame
        P planes.
    wall_mm : ndarray of shape (P, A), mm
        Smooth wall within about 1 mm of the edges.
    half_maximum_mm : ndarray of shape (P, A), mm
        The edges that it was drawn through: rays that cannot be fitted keep theirs, moved as their neighbours' are.
    seen : ndarray of shape (P, A), bool
        Which rays met one.
    blocked_mm : ndarray of shape (P, A), mm
        Where metal or the image's end stops the ray.

    Returns
    -------
    PlateEdges or None
        None if too few rays can be fitted.
    """
    wall, found = wall_mm, None
    for _ in range(_ROUNDS):
        values, inside = _aligned(volume, scale, frame, wall)
        usable = seen & inside & (blocked_mm > wall + _BEHIND_MM)
        mean, support = _along_wall(values, usable, _ALONG_PLANES, _ALONG_ANGLES)
        fitted = usable & (support > _LEAST_SUPPORT)
        if np.count_nonzero(fitted) < _LEAST_RAYS:
            return None
        profiles = mean[fitted].astype(np.float64)
        across = _slice_part(volume.grid, frame)[fitted]
        spread = _HEIGHT_SPREAD if volume.hu_calibrated else _HEIGHT_SPREAD_GREY
        blur = _blur_mm(profiles, across, volume.grid, spread) if found is None else found.blur_mm
        edge = np.zeros(wall.shape)
        edge[fitted] = wall[fitted] + _fronts(profiles, _ray_blur_mm(blur, across, volume.grid), spread)
        # farther inwards it is a vein, a ligament or a streak, farther outwards bone behind
        edge = np.where(fitted, np.clip(edge, wall_mm - _MOST_INWARDS_MM, wall_mm + _MOST_OUTWARDS_MM), edge)
        shift, near = _along_wall((edge - half_maximum_mm)[..., None], fitted, _FILL_PLANES, _FILL_ANGLES)
        typical = float(np.median((edge - half_maximum_mm)[fitted]))
        rest = seen & ~fitted
        edge[rest] = (half_maximum_mm + np.where(near > _LEAST_FILL, shift[..., 0], typical))[rest]
        found = PlateEdges(radius_mm=edge, blur_mm=blur)
        # the next round lines the profiles up along the edges themselves
        smooth, near = _along_wall((edge - wall)[..., None], seen, _ALONG_PLANES, _ALONG_ANGLES)
        wall = wall + np.where(near > _LEAST_FILL, smooth[..., 0], 0.0)
    return found


def _aligned(
    volume: Volume, scale: IntensityScale, frame: Frame, wall_mm: FloatArray
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Values (P, A, R) at the offsets from a wall, and which rays lie in the image."""
    reach = wall_mm[..., None] + _OFFSET_MM
    raw = volume.sample(frame.centre_lps_mm[:, None, None] + reach[..., None] * frame.directions()[:, :, None])
    outside = ~np.isfinite(raw)
    values = np.where(outside, np.float32(SOFT_TISSUE_HU), scale(np.nan_to_num(raw)))
    return values, np.asarray(~outside.any(axis=2), dtype=np.bool_)


def _along_wall(
    values: npt.NDArray[np.floating], usable: npt.NDArray[np.bool_], planes: float, angles: float
) -> tuple[FloatArray, FloatArray]:
    """Averages of (P, A, R) along the wall over the usable rays, and the part (P, A) of the weights that were usable."""

    def smooth(array: FloatArray) -> FloatArray:
        array = ndimage.gaussian_filter1d(array, planes, axis=0, mode="constant")
        result: FloatArray = ndimage.gaussian_filter1d(array, angles, axis=1, mode="wrap")
        return result

    support = smooth(usable.astype(np.float64))
    mean: FloatArray = smooth(np.where(usable[..., None], values, 0.0)) / np.maximum(support, 1e-6)[..., None]
    return mean, support


def _slice_part(grid: ImageGrid, frame: Frame) -> FloatArray:
    """Squared part of each ray's direction that runs across slices, (P, A)."""
    result: FloatArray = (frame.directions() @ grid.direction[:, 2]) ** 2
    return result


def _ray_blur_mm(blur_mm: float, across: FloatArray, grid: ImageGrid) -> FloatArray:
    """Blur along rays that run partly across slices: the variances add by the squared direction."""
    isotropic = float(np.ptp(grid.spacing_mm)) < 0.05 * float(grid.spacing_mm[2])
    slice_mm = blur_mm if isotropic else _SLICE_BLUR * float(grid.spacing_mm[2])
    result: FloatArray = np.sqrt(blur_mm**2 * (1.0 - across) + slice_mm**2 * across)
    return result


def _blur_mm(profiles: FloatArray, across: FloatArray, grid: ImageGrid, spread: float) -> float:
    """Blur in plane that the profiles (N, R) make likeliest, as an average."""
    profiles, across = profiles[::_THIN_OUT], across[::_THIN_OUT]
    misfits = [_misfit(profiles, _ray_blur_mm(blur, across, grid)) for blur in _TRIED_BLUR_MM]
    noise = _noise_hu2(np.min([misfit.min(axis=1) for misfit, _ in misfits], axis=0))
    likely = [np.sum(_likelihood(*misfit, noise, spread), axis=1) for misfit in misfits]
    evidence = np.sum(np.log(np.array(likely) + 1e-300), axis=1) * (_THIN_OUT / _ALIKE_RAYS)
    evidence -= 0.5 * (np.log(_TRIED_BLUR_MM / _BLUR_MIDDLE_MM) / _BLUR_SPREAD) ** 2
    weight = np.exp(evidence - evidence.max())
    return float(np.exp(np.sum(weight * np.log(_TRIED_BLUR_MM)) / np.sum(weight)))


def _fronts(profiles: FloatArray, blur_mm: FloatArray, spread: float) -> FloatArray:
    """Mean of the plates' fronts by how well they fit, (N,) mm from the wall."""
    misfit, height = _misfit(profiles, blur_mm)
    weight = _likelihood(misfit, height, _noise_hu2(misfit.min(axis=1)), spread)
    fronts = weight.reshape(profiles.shape[0], _EDGE_MM.size, _THICKNESS_MM.size).sum(axis=2)
    fronts /= fronts.sum(axis=1, keepdims=True)
    mean: FloatArray = fronts @ _EDGE_MM
    return mean


def _noise_hu2(misfit: FloatArray) -> float:
    """Variance to judge misfits by, from the best ones (N,): of the samples, times how many of them are alike."""
    return _ALIKE_SAMPLES * max(float(np.median(misfit)) / (_OFFSET_MM.size - 5), _LEAST_NOISE_HU**2)


def _likelihood(misfit: FloatArray, height: FloatArray, noise_hu2: float, spread: float) -> FloatArray:
    """Weights of all plates (N, M), up to one factor."""
    off = np.log(np.maximum(height, 30.0) / _HEIGHT_MIDDLE_HU) / spread
    thick = np.log(np.tile(_THICKNESS_MM, _EDGE_MM.size) / _THICKNESS_MIDDLE_MM) / _THICKNESS_SPREAD
    result: FloatArray = np.exp(-np.minimum(0.5 * misfit / noise_hu2, _MOST_MISFIT) - 0.5 * (off**2 + thick**2))
    return result


def _misfit(profiles: FloatArray, blur_mm: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sum of squares left by each plate (N, M) with its best levels, and its height."""
    number = np.clip(np.rint(np.interp(blur_mm, _BLUR_MM, np.arange(_BLUR_MM.size))), 0, _BLUR_MM.size - 1).astype(int)
    models = _EDGE_MM.size * _THICKNESS_MM.size
    misfit, height = np.empty((profiles.shape[0], models)), np.empty((profiles.shape[0], models))
    whole = np.sum(profiles**2, axis=1)[:, None]
    for n in np.unique(number):
        chosen = number == n
        content, behind, plate, scale = _plates(float(_BLUR_MM[n]))
        here = profiles[chosen]
        part = here @ plate
        misfit[chosen] = np.maximum(whole[chosen] - (here @ content) ** 2 - (here @ behind) ** 2 - part**2, 0.0)
        height[chosen] = part * scale
    return misfit, height


@lru_cache(maxsize=_BLUR_MM.size)
def _plates(blur_mm: float) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Orthogonal bases of all plates, three of (R, M), and what makes the last one's part a height, (M,)."""
    offset, edge, thickness = _OFFSET_MM, _EDGE_MM[:, None, None], _THICKNESS_MM[:, None]
    front, back = ndtr((offset - edge) / blur_mm), ndtr((offset - edge - thickness) / blur_mm)
    front = np.broadcast_to(front, back.shape)
    parts = np.stack([1.0 - front, back, front - back], axis=-1).reshape(-1, offset.size, 3)
    basis, triangle = np.linalg.qr(parts)
    content, behind, plate = (np.ascontiguousarray(basis[..., n].T) for n in range(3))
    return content, behind, plate, 1.0 / triangle[:, 2, 2]
