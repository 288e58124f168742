"""A scanner of its own for the needle tests: objects on a fine grid, blurred, averaged over the voxel, cut, with noise.

It shares nothing with the model that the detection fits: blur and voxel are done on a grid here, not in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from iort_planner.applicator import Applicator, read_applicator
from iort_planner.imaging.volume import ImageGrid, Volume
from iort_planner.units import FloatArray

APPLICATOR: Applicator = read_applicator()
FINE_MM = 0.4


@dataclass(frozen=True, kw_only=True, eq=False)
class Tube:
    """Steel between two radii and two positions along an axis; ``curvature`` bends it sideways quadratically."""

    start: FloatArray
    axis: FloatArray
    inner: float
    outer: float
    low: float
    high: float
    hu: float
    curvature: FloatArray = field(default_factory=lambda: np.zeros(3))

    def coverage(self, points: FloatArray) -> FloatArray:
        offset = points - self.start
        along = offset @ self.axis
        across = offset - along[..., None] * self.axis - (along**2)[..., None] * self.curvature
        radius = np.sqrt(np.einsum("...d,...d->...", across, across))

        def inside(depth: FloatArray) -> FloatArray:
            result: FloatArray = np.clip(0.5 + depth / FINE_MM, 0.0, 1.0)
            return result

        share = inside(self.outer - radius) * inside(along - self.low) * inside(self.high - along)
        return share * inside(radius - self.inner) if self.inner > 0 else share


def needle(
    tip: FloatArray,
    axis: FloatArray,
    *,
    cannula_from_tip: float | None = 18.0,
    hu: float = 7000.0,
    plastic: float = APPLICATOR.radiolucent_tip_length_mm,
    curvature: FloatArray | None = None,
) -> list[Tube]:
    """The reference applicator: plastic of 120 HU, then steel of 4.4 mm, in a cannula of 5.4 mm."""
    bent = np.zeros(3) if curvature is None else curvature
    parts = [
        Tube(start=tip, axis=axis, inner=0.0, outer=2.2, low=0.0, high=plastic + 0.5, hu=120.0, curvature=bent),
        Tube(start=tip, axis=axis, inner=0.0, outer=2.2, low=plastic, high=300.0, hu=hu, curvature=bent),
    ]
    if cannula_from_tip is not None:
        parts.append(
            Tube(start=tip, axis=axis, inner=2.2, outer=2.7, low=cannula_from_tip, high=300.0, hu=hu, curvature=bent)
        )
    return parts


def grid(
    extent: tuple[float, float, float] = (34.0, 60.0, 34.0),
    spacing: tuple[float, float, float] = (0.7, 0.7, 1.0),
    turn: FloatArray | None = None,
    centre: FloatArray | None = None,
) -> ImageGrid:
    """A grid round a centre, turned by a rotation vector."""
    step = np.array(spacing)
    count = np.round(np.array(extent) / step).astype(int)
    direction = np.eye(3) if turn is None else Rotation.from_rotvec(turn).as_matrix()
    middle = np.zeros(3) if centre is None else centre
    return ImageGrid(
        size_voxels=(int(count[0]), int(count[1]), int(count[2])),
        spacing_mm=step,
        origin_lps_mm=middle - direction @ (step * (count - 1) / 2.0),
        direction=direction,
    )


def scan(
    image_grid: ImageGrid,
    objects: list[Tube],
    *,
    blur: float = 0.6,
    noise: float = 25.0,
    ceiling: float = 3071.0,
    skin_y: float = 22.0,
    seed: int = 0,
) -> Volume:
    """Soft tissue up to ``skin_y`` (posterior), a bone of 250 HU with a dense shell, and the objects."""
    factor = np.maximum(1, np.round(image_grid.spacing_mm / FINE_MM)).astype(int)
    step = image_grid.spacing_mm / factor
    pad = np.ceil(3.0 * blur / image_grid.spacing_mm).astype(int)
    axes = [
        (np.arange(-p * f, (n + p) * f) + 0.5) / f - 0.5
        for p, n, f in zip(pad, image_grid.size_voxels, factor, strict=True)
    ]
    fine = np.empty(tuple(a.size for a in axes[::-1]), dtype=np.float32)
    i, j = np.meshgrid(axes[0], axes[1])
    for row, k in enumerate(axes[2]):
        points = image_grid.index_to_lps(np.stack([i, j, np.full(i.shape, k)], axis=-1))
        depth = np.sqrt(np.einsum("...d,...d->...", points, points))
        value = np.where(depth < 14.0, 250.0, np.where(depth < 15.5, 900.0, 40.0))
        value[points[..., 1] > skin_y] = -1000.0
        for item in objects:
            share = item.coverage(points)
            value += (item.hu - value) * share
        fine[row] = value
    fine = ndimage.gaussian_filter(fine, (blur / step)[::-1], mode="nearest")
    fi, fj, fk = (int(f) for f in factor)
    voxels = fine.reshape(axes[2].size // fk, fk, axes[1].size // fj, fj, axes[0].size // fi, fi).mean(axis=(1, 3, 5))
    pi, pj, pk = (int(p) for p in pad)
    coarse = voxels[pk : voxels.shape[0] - pk, pj : voxels.shape[1] - pj, pi : voxels.shape[2] - pi]
    coarse = coarse + np.random.default_rng(seed).normal(0.0, noise, coarse.shape)
    values: npt.NDArray[np.int16] = np.clip(np.round(coarse), -1024, ceiling).astype(np.int16)
    return Volume(values=np.ascontiguousarray(values), grid=image_grid, hu_calibrated=True)


def angle_deg(one: FloatArray, other: FloatArray) -> float:
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(one, other)), one @ other)))


def unit(*components: float) -> FloatArray:
    vector = np.array(components)
    result: FloatArray = vector / np.linalg.norm(vector)
    return result
