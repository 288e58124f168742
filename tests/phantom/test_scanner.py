"""The shapes of the point spread: each keeps what is wide, and only the sharp one overshoots."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from scipy.special import ndtr

from iort_planner.phantom.scanner import KERNELS, spread
from iort_planner.phantom.spec_model import Kernel

ALL: tuple[Kernel, ...] = get_args(Kernel)


def edge(kernel: Kernel, sigma_mm: float = 0.6) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Across a step of 1000 HU in columns of 0.1 mm; the step lies between two of them."""
    image = np.zeros((3, 3, 200), np.float32)
    image[..., 100:] = 1000.0
    result: np.ndarray[tuple[int], np.dtype[np.float32]] = spread(image, (0.0, sigma_mm, sigma_mm), (0.1,) * 3, kernel)[
        1, 1
    ]
    return result


@pytest.mark.parametrize("kernel", ALL)
def test_an_edge_is_that_of_the_kernels_closed_form(kernel: Kernel) -> None:
    at = (np.arange(200) - 99.5) * 0.1
    expected = sum(weight * ndtr(at / (0.6 * width)) for weight, width in KERNELS[kernel])
    np.testing.assert_allclose(edge(kernel), 1000.0 * np.asarray(expected), atol=3.0)
    assert sum(weight for weight, _ in KERNELS[kernel]) == pytest.approx(1.0)


def test_a_sharp_edge_overshoots_and_the_others_do_not() -> None:
    over = {kernel: float(edge(kernel).max()) / 1000.0 - 1.0 for kernel in ALL}
    assert 0.05 < over["sharp"] < 0.12
    assert over["gaussian"] == pytest.approx(0.0, abs=1e-3)
    assert over["soft_tailed"] == pytest.approx(0.0, abs=1e-3)


def test_a_soft_tailed_edge_reaches_further() -> None:
    """2 mm (3.3 standard deviations) beside it a Gaussian is over; the tail still shows a fiftieth."""
    assert edge("gaussian")[80] < 1.0
    assert 10.0 < edge("soft_tailed")[80] < 30.0


def test_slices_are_blurred_by_a_gaussian_whatever_the_kernel() -> None:
    image = np.zeros((41, 5, 5), np.float32)
    image[20] = 1000.0
    profiles = [spread(image, (1.0, 0.6, 0.6), (1.0,) * 3, kernel)[:, 2, 2] for kernel in ALL]
    for profile in profiles[1:]:
        np.testing.assert_allclose(profile, profiles[0], atol=0.01)
