"""A needle given by hand is taken as it is, and compared with the metal in the image."""

from __future__ import annotations

import numpy as np
import pytest

from iort_planner.errors import InputError
from iort_planner.geometry.needle import Confidence, Needle, manual_needle
from iort_planner.imaging.volume import Volume
from tests.geometry.needle_scans import APPLICATOR, grid, needle, scan, unit

TIP, AXIS = np.array([1.3, -8.2, 2.1]), unit(0.25, 1.0, -0.15)


@pytest.fixture(scope="module")
def volume() -> Volume:
    return scan(grid(), needle(TIP, AXIS))


def given(volume: Volume, shift_along_mm: float = 0.0, side_mm: float = 0.0, sign: float = 1.0) -> Needle:
    side = np.cross(AXIS, [0.0, 0.0, 1.0])
    return manual_needle(volume, APPLICATOR, TIP + shift_along_mm * AXIS + side_mm * side, sign * 3e-5 * AXIS)


def test_a_pose_that_agrees_with_the_metal_is_believed(volume: Volume) -> None:
    found = given(volume)

    assert (found.method, found.confidence, found.reasons) == ("manual", Confidence.HIGH, ())
    np.testing.assert_allclose(found.tip_lps_mm, TIP)
    np.testing.assert_allclose(found.axis_lps, AXIS, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sign": -1.0, "shift_along_mm": 6.0}, "is the axis reversed"),
        ({"sign": -1.0}, "no metal in the image where the given shaft should be"),
        ({"side_mm": 6.0}, "no metal in the image where the given shaft should be"),
        ({"shift_along_mm": 9.0}, "plastic tip should be"),
    ],
)
def test_a_pose_that_the_metal_contradicts_has_low_confidence(
    volume: Volume, change: dict[str, float], reason: str
) -> None:
    found = given(volume, **change)

    assert found.confidence is Confidence.LOW
    assert any(reason in text for text in found.reasons), found.reasons


def test_grey_values_are_compared_too(volume: Volume) -> None:
    grey = Volume(values=(volume.values // 4 + 300).astype(np.int16), grid=volume.grid, hu_calibrated=False)

    assert given(grey).confidence is Confidence.HIGH
    assert given(grey, sign=-1.0).confidence is Confidence.LOW


def test_a_tip_outside_the_image_is_refused(volume: Volume) -> None:
    with pytest.raises(InputError, match=r"the tip .* lies outside the image, which spans LPS"):
        given(volume, shift_along_mm=-500.0)
