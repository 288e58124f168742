"""Scans of a made-up spine whose canal is an exact round tube: bone, discs, foramina, needle, breach, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from iort_planner.imaging.volume import ImageGrid, Volume
from iort_planner.units import FloatArray

LEVEL_MM = 30.0  # one vertebra with its disc
CORTEX_MM = 2.5
BLUR_MM = 0.7


@dataclass(frozen=True, kw_only=True)
class Spine:
    """A straight or bent spine; spine coordinates are left u, posterior v, along s (0 at a middle of a vertebra)."""

    origin_lps_mm: tuple[float, float, float] = (14.0, -35.0, 210.0)
    turn: FloatArray | None = None  # columns u, v, s in LPS
    bend_radius_mm: float = 0.0  # 0: straight; centre of the bend in front (kyphosis), behind if negative (lordosis)
    side_bend_radius_mm: float = 0.0  # scoliosis, instead of the other; centre of the bend on the right
    ends_mm: float = 1000.0  # no bone farther than this along s
    radius_mm: float = 8.0
    contrast_hu: float = 950.0
    spongiosa_hu: float = 190.0
    breach_deg: float = 0.0  # half angle of the posterior body wall that is gone, the body behind it soft
    rim_mm: float = 0.0  # depth of a sclerotic rim of 600 HU, 3 mm thick, behind that wall; bone follows it

    def to_spine(self, points_lps_mm: FloatArray) -> FloatArray:
        local: FloatArray = (points_lps_mm - np.array(self.origin_lps_mm)) @ (
            np.eye(3) if self.turn is None else self.turn
        )
        for n, radius in ((1, self.bend_radius_mm), (0, self.side_bend_radius_mm)):
            if radius:
                sign, size = np.sign(radius), abs(radius)
                forward = sign * local[..., n] + size
                bent = local.copy()
                bent[..., n] = sign * (np.hypot(forward, local[..., 2]) - size)
                bent[..., 2] = size * np.arctan2(local[..., 2], forward)
                return bent
        return local

    def to_lps(self, spine_mm: FloatArray) -> FloatArray:
        """Points given straight (u, v, s), near s = 0 where bend doesn't matter, in LPS."""
        result: FloatArray = spine_mm @ (np.eye(3) if self.turn is None else self.turn).T + np.array(self.origin_lps_mm)
        return result

    def wall_distance_mm(self, points_lps_mm: FloatArray) -> FloatArray:
        """Exact signed distance from the canal's wall, negative inside."""
        spine = self.to_spine(points_lps_mm)
        result: FloatArray = np.hypot(spine[..., 0], spine[..., 1]) - self.radius_mm
        return result

    def hu(self, points_lps_mm: FloatArray) -> FloatArray:
        u, v, s = np.moveaxis(self.to_spine(points_lps_mm), -1, 0)
        level = np.abs((s + LEVEL_MM / 2) % LEVEL_MM - LEVEL_MM / 2)  # from the middle of the nearest vertebra
        depth = np.hypot(u, v) - self.radius_mm
        angle = np.degrees(np.arctan2(v, u))  # 90 is behind
        vertebra, pedicles = level < 12.0, level < 8.0
        body = np.hypot(u / 21.0, (v + self.radius_mm + 15.0) / 16.0) < 1.0
        image = np.where(body, np.where(vertebra, self.spongiosa_hu, 85.0), 50.0)
        lateral = np.abs(np.abs(angle) - 90.0) > 60.0
        front = angle < 0.0
        walled = np.where(lateral, pedicles, np.where(front, vertebra, level < 13.0))
        if self.breach_deg:
            lesion = front & (np.abs(angle + 90.0) < self.breach_deg) & (np.abs(s) < 10.0)
            deepest = self.rim_mm + 3.0 if self.rim_mm else 18.0
            image = np.where(lesion & body & (depth < deepest), 45.0, image)
            if self.rim_mm:
                image = np.where(lesion & (self.rim_mm < depth) & (depth < deepest), 600.0, image)
            walled &= ~lesion
        walled &= np.abs(s) < self.ends_mm
        image = np.where(np.abs(s) < self.ends_mm, image, 50.0)
        plate = ndtr(depth / BLUR_MM) - ndtr((depth - CORTEX_MM) / BLUR_MM)
        image = image + (30.0 - image) * (1.0 - ndtr(depth / BLUR_MM))
        result: FloatArray = np.where(walled, image + (self.contrast_hu - image) * plate, image)
        return result


def turned(rotation_vector: tuple[float, float, float]) -> FloatArray:
    """Rotation matrix by Rodrigues' formula."""
    vector = np.array(rotation_vector)
    angle = float(np.linalg.norm(vector))
    if angle == 0.0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    result: FloatArray = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross
    return result


def source_and_axis(spine: Spine) -> tuple[FloatArray, FloatArray]:
    """A source in the body right of the middle, and the way to the hub through the patient's left pedicle."""
    tip, pedicle = np.array([3.0, -spine.radius_mm - 11.0, 0.0]), np.array([spine.radius_mm + 6.0, 2.0, 2.0])
    axis = spine.to_lps(pedicle) - spine.to_lps(tip)
    return spine.to_lps(tip), axis / np.linalg.norm(axis)


def scan(
    spine: Spine,
    *,
    spacing_mm: tuple[float, float, float] = (0.9, 0.8, 1.0),
    size: tuple[int, int, int] = (96, 104, 70),
    direction: FloatArray | None = None,
    noise_hu: float = 0.0,
    needle: bool = False,
    middle_offset_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Volume:
    """The spine's image on a grid round the source."""
    source, axis = source_and_axis(spine)
    turn = np.eye(3) if direction is None else direction
    spacing = np.array(spacing_mm)
    middle = spine.to_lps(np.array([0.0, -6.0, 0.0])) + np.array(middle_offset_mm)
    grid = ImageGrid(
        size_voxels=size,
        spacing_mm=spacing,
        origin_lps_mm=middle - turn @ ((np.array(size) - 1) / 2.0 * spacing),
        direction=turn,
    )
    points = grid.voxel_centres_lps_mm()
    values = spine.hu(points)
    if needle:
        offset = points - source
        along = offset @ axis
        across = np.linalg.norm(offset - along[..., None] * axis, axis=-1)
        steel = ndtr((2.2 - across) / BLUR_MM) * ndtr((along - 1.8) / BLUR_MM)
        values = values + (6000.0 - values) * steel
    if noise_hu:
        values = values + np.random.default_rng(7).normal(0.0, noise_hu, values.shape)
    return Volume(values=np.clip(np.rint(values), -1024, 3071).astype(np.int16), grid=grid, hu_calibrated=True)
