"""What a scanner makes of the ideal image: point spread and noise.

`ScannerSpec.kernel` is the shape of the point spread in the slice's plane; the slice profile stays Gaussian.

* ``gaussian``: of the stated standard deviation;
* ``sharp``: more than one of it less a wider one, so that an edge overshoots by 8.6 % (bone kernels overshoot; how far, within
  5 to 12 %, is our own choice);
* ``soft_tailed``: mostly that Gaussian, with a share in tails three times as wide (our own choice): an edge is not over where a
  Gaussian's would be.

Each has the integral 1: what is wide keeps its value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.phantom.spec_model import Kernel, PhantomSpec

# Of each kernel: (weight, width) of its Gaussians, the width in units of the stated standard deviation; our own choice.
KERNELS: dict[Kernel, tuple[tuple[float, float], ...]] = {
    "gaussian": ((1.0, 1.0),),
    "sharp": ((1.8, 1.0), (-0.8, 2.0)),
    "soft_tailed": ((0.85, 1.0), (0.15, 3.0)),
}


def scanned(spec: PhantomSpec, hu: npt.NDArray[np.float32], generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """Blur by point spread and slice profile, then correlated noise of the stated standard deviation."""
    spacing, scanner = spec.grid.spacing_mm, spec.scanner
    result = spread(hu, (scanner.slice_sigma_mm, scanner.psf_sigma_mm, scanner.psf_sigma_mm), spacing, scanner.kernel)
    if scanner.noise_hu > 0.0:
        noise = generator.standard_normal(hu.shape, dtype=np.float32)
        noise = spread(noise, (scanner.noise_correlation_mm,) * 3, spacing)
        noise *= np.float32(scanner.noise_hu / float(noise.std(dtype=np.float64)))
        result += noise
    return result


def spread(
    values: npt.NDArray[np.float32],
    sigma_kji_mm: tuple[float, float, float],
    spacing_mm: tuple[float, float, float],
    kernel: Kernel = "gaussian",
) -> npt.NDArray[np.float32]:
    """``values`` [k, j, i] blurred by a kernel whose standard widths along the three axes are given, mm."""
    sigma = [s / d for s, d in zip(sigma_kji_mm, reversed(spacing_mm), strict=True)]
    parts = KERNELS[kernel]
    if len(parts) == 1:
        result: npt.NDArray[np.float32] = ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=4.0)
        return result
    profiled = ndimage.gaussian_filter(values, (sigma[0], 0.0, 0.0), mode="nearest", truncate=4.0)
    result = np.zeros_like(profiled)
    for weight, width in parts:
        plane = (0.0, width * sigma[1], width * sigma[2])
        result += np.float32(weight) * ndimage.gaussian_filter(profiled, plane, mode="nearest", truncate=4.0)
    return result
