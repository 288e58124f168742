"""A phantom as a C-arm's 3-D scan shows it: grey values that are no HU, a round field of view, shading, noise, streaks.

The numbers follow a simulation of a C-arm on real anatomy (cone beam, 194 degrees, no correction of metal; the
project's shared test data): grey is 220 for water above 90 for nothing, raised by scatter to about 160 in lung and 335 in
soft tissue; noise is 11 to 24; steel lies between 1500 and 4000 unless the maker's software cuts it flat near 1400; the field
is 114 mm wide and 105 mm long, 0 outside; 4 to 8 mm from the steel shaft the middle half of the values spreads over 250.
What a cone beam does along its own axis is not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from iort_planner.errors import PhantomError
from iort_planner.imaging.volume import Volume
from iort_planner.phantom.scan import grid_of, ideal_image, pose_of, uid_of
from iort_planner.phantom.scanner import spread
from iort_planner.phantom.streaks import BeamSet

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.imaging.volume import ImageGrid
    from iort_planner.phantom.spec_model import Kernel, PhantomSpec
    from iort_planner.units import FloatArray

FIELD_MM = (118.0, 118.0, 105.0)
FIELD_RADIUS_MM = 57.0
_SPACINGS_MM = (0.46, 0.6, 0.6, 0.6)  # as in that data; the coarser one more often, for time
_WATER_GREY, _AIR_GREY = 220.0, 90.0
_HIGHEST_GREY = 4095
_STEEL_FACTOR = 1.3  # a softer beam than a CT's: brings solid steel to the 2200 to 2900 of that data
_OFF_CENTRE_MM = (10.0, 10.0, 12.0)  # how far the canal may lie from where it is aimed at: our own choice
_AIMED_MM = (0.0, -8.0, 0.0)  # the field's centre from the canal's, LPS: between canal and body


@dataclass(frozen=True, slots=True, kw_only=True)
class CArm:
    """What one C-arm scan is made with.

    Parameters
    ----------
    spacing_mm : float
        Of the cubic voxels.
    centre_offset_mm : tuple of 3 float
        Centre of the field of view from the canal's centre, LPS.
    blur_mm, noise_grey, noise_correlation_mm, streak_amplitude : float
        The correlation is in the planes across the scan's axis; the streaks are `streaks` times that: 1 is a CT without
        any correction, 2 gives the errors round the shaft that are named above.
    scatter_grey, cupping, shading_grey : float
        Raised by scatter; part by which the middle lies lower than the rim; largest slope from side to side.
    cut_grey : int
        Where metal is cut flat.
    beams : BeamSet
    """

    spacing_mm: float
    centre_offset_mm: tuple[float, float, float]
    blur_mm: float
    noise_grey: float
    noise_correlation_mm: float
    streak_amplitude: float
    scatter_grey: float
    cupping: float
    shading_grey: tuple[float, float]
    cut_grey: int
    beams: BeamSet


def draw_c_arm(seed: int) -> CArm:
    """The scanner of a seed, within the ranges of the data named above."""
    rng = np.random.default_rng([seed, 3])
    x, y, z = (float(a + rng.uniform(-h, h)) for a, h in zip(_AIMED_MM, _OFF_CENTRE_MM, strict=True))
    right, back = (float(v) for v in rng.uniform(-12.0, 12.0, 2))
    return CArm(
        spacing_mm=float(rng.choice(_SPACINGS_MM)),
        centre_offset_mm=(x, y, z),
        blur_mm=float(rng.uniform(0.4, 0.6)),
        noise_grey=float(rng.uniform(11.0, 24.0)),
        noise_correlation_mm=float(rng.uniform(0.25, 0.4)),
        streak_amplitude=float(rng.uniform(1.5, 3.0)),
        scatter_grey=float(rng.uniform(15.0, 40.0)),
        cupping=float(rng.uniform(0.0, 0.08)),
        shading_grey=(right, back),
        beams=BeamSet(views=128, shake_mm=float(rng.uniform(0.1, 0.2))),
        cut_grey=int(rng.integers(1300, 1700)) if rng.random() < 0.5 else _HIGHEST_GREY,
    )


def fluoroscopy(spec: PhantomSpec, seed: int, c_arm: CArm | None = None) -> Volume:
    """The C-arm scan of a phantom: same patient and needle, own grid; the same seed gives the same voxels.

    Parameters
    ----------
    spec : PhantomSpec
        Of its ``scanner`` only the kernel and the metal's cupping are used, of its grid only the turn.
    seed : int
    c_arm : CArm, optional
        Else the one of the seed.

    Returns
    -------
    Volume
        ``hu_calibrated`` False; int16 from 0 (outside the field of view) to 4095.

    Raises
    ------
    PhantomError
        If the needle's tip lies outside the field of view.
    """
    c_arm = c_arm or draw_c_arm(seed)
    i, j, k = (round(f / c_arm.spacing_mm) for f in FIELD_MM)
    own = replace(
        spec,
        hu=replace(spec.hu, steel=_STEEL_FACTOR * spec.hu.steel),
        grid=replace(
            spec.grid,
            size_voxels=(i, j, k),
            spacing_mm=(c_arm.spacing_mm,) * 3,
            centre_offset_mm=c_arm.centre_offset_mm,
        ),
        scanner=replace(spec.scanner, streak_amplitude=c_arm.streak_amplitude),
    )
    grid, pose = grid_of(own), pose_of(own)
    if pose.build.parts == "needle" and not in_field(grid, pose.tip_lps_mm):
        raise PhantomError(f"phantom {spec.name!r}: the needle's tip lies outside the C-arm's field of view")
    others = tuple(pose_of(own, needle) for needle in own.extra_needles)
    hu, _ = ideal_image(own, grid, (pose, *others), seed, c_arm.beams)
    grey = _grey(hu, grid, c_arm, spec.scanner.kernel)
    grey += _noise(grid, c_arm, np.random.default_rng([seed, 4]))
    values = np.clip(np.rint(grey), 1, min(c_arm.cut_grey, _HIGHEST_GREY)).astype(np.int16)
    values[:, np.hypot(*_offsets_mm(grid)) > FIELD_RADIUS_MM] = 0
    return Volume(
        values=values, grid=grid, hu_calibrated=False, frame_of_reference_uid=uid_of(spec, seed, "frame of reference")
    )


def in_field(grid: ImageGrid, points_lps_mm: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether points lie in the round field of view of a C-arm scan's grid; (..., 3) -> (...)."""
    points = np.asarray(points_lps_mm, dtype=np.float64)
    offset = (grid.lps_to_index(points) - _middle(grid)) * grid.spacing_mm
    inside: npt.NDArray[np.bool_] = grid.contains(points) & (
        np.hypot(offset[..., 0], offset[..., 1]) <= FIELD_RADIUS_MM
    )
    return inside


def _middle(grid: ImageGrid) -> FloatArray:
    result: FloatArray = (np.array(grid.size_voxels) - 1.0) / 2.0
    return result


def _offsets_mm(grid: ImageGrid) -> tuple[FloatArray, FloatArray]:
    """Pixel centres of a slice from the field's axis, along columns (1, ni) and rows (nj, 1)."""
    i, j, _ = (np.arange(n) for n in grid.size_voxels)
    middle = _middle(grid)
    return (i[None, :] - middle[0]) * grid.spacing_mm[0], (j[:, None] - middle[1]) * grid.spacing_mm[1]


def _grey(hu: npt.NDArray[np.float32], grid: ImageGrid, c_arm: CArm, kernel: Kernel) -> npt.NDArray[np.float32]:
    """Blurred attenuation as grey, with scatter, cupping and shading: smooth over the field of view."""
    blurred = spread(hu, (c_arm.blur_mm,) * 3, (c_arm.spacing_mm,) * 3, kernel)
    attenuation: npt.NDArray[np.float32] = np.maximum(1.0 + blurred / np.float32(1000.0), np.float32(-1.0))
    x, y = (offset / FIELD_RADIUS_MM for offset in _offsets_mm(grid))
    cup = 1.0 - c_arm.cupping * np.clip(1.0 - (x * x + y * y), 0.0, 1.0)
    shade = c_arm.scatter_grey + c_arm.shading_grey[0] * x + c_arm.shading_grey[1] * y
    attenuation *= (_WATER_GREY * cup).astype(np.float32)
    attenuation += (_AIR_GREY + shade).astype(np.float32)
    return attenuation


def _noise(grid: ImageGrid, c_arm: CArm, generator: np.random.Generator) -> npt.NDArray[np.float32]:
    sigma = c_arm.noise_correlation_mm / c_arm.spacing_mm
    noise: npt.NDArray[np.float32] = ndimage.gaussian_filter(
        generator.standard_normal(grid.shape, dtype=np.float32), (0.0, sigma, sigma), mode="nearest"
    )
    noise *= np.float32(c_arm.noise_grey / float(noise.std(dtype=np.float64)))
    return noise
