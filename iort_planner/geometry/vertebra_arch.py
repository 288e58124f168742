"""The vertebral arch with its processes: bone goes to the level from whose body, pedicles and laminae it is nearest.

Nearest is meant as a way through bone: a joint space costs as much as some centimetres of bone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from iort_planner.geometry.vertebra_discs import DiscPlane, front_wall_mm
from iort_planner.geometry.vertebra_frame import STEP_MM, BoolArray, closing

if TYPE_CHECKING:
    from iort_planner.geometry.vertebra_frame import Surroundings

# Half way between soft tissue (50 HU) and thin cortex blurred to about 400 HU.
_BONE_HU = 220.0
# A joint space is a thin dark gap between bright walls (spongiosa is dark over more than the closing's width): the way
# through it costs with the square of its depth. Cortex is cut at 600 HU.
_FREE_HU, _COST_HU, _GAP_VOXELS = 600.0, 40.0, 5
_HIDDEN_COST = 3.0  # of the way through the needle: bone on its far side belongs to the vertebra too
# Where the parts of an arch stand between the disc below (0) and the one above (1): anatomy of T3 to L5, and narrow
# enough that a neighbour's part is never taken.
_PEDICLE, _LAMINA = (0.50, 0.80), (0.18, 0.48)
_BESIDE_MM = 5.0  # behind the canal's wall, for both
_NEIGHBOUR_BODY_MM = (7.0, 22.0)  # beyond a disc's middle
_RIB_MM, _PROCESS_MM = 53.0, 38.0  # transverse processes end: lumbar at 50 mm, thoracic at 38 at most
# A rib's neck runs from the body's corner, 20 mm aside, backwards and outwards before the transverse process.
_NECK_MM, _NECK_SLOPE, _NECK_BEFORE_MM = 20.0, 0.8, 2.0
# The inferior articular process lies behind the superior one of the next level, about the disc's height.
_FACET, _FACET_BEHIND_MM, _FACET_ASIDE_MM = (-0.05, 0.2), 4.0, (6.0, 18.0)
_STREAK_MM, _UNEVEN_MM = (6.0, 14.0), 3.0
_ACROSS_MM = 4.5  # a little more than half the hidden width
_BEFORE_MM = 3.0  # of the canal's front wall: what is further in front is body, or no part of this vertebra
_PITCH_MM = 30.0  # where only one disc was seen


def arch_mask(area: Surroundings, discs: tuple[DiscPlane, DiscPlane], body: BoolArray) -> BoolArray:
    """Voxels of the planned level's pedicles, laminae and processes."""
    from skimage.graph import MCP_Geometric

    smooth = ndimage.gaussian_filter(area.hu, 0.5 / STEP_MM)
    bone = (smooth > _BONE_HU) & area.inside & (area.canal_mm > 0.0) & ~area.needle
    capped = np.where(area.needle, 0.0, np.clip(smooth, 0.0, _FREE_HU))
    gap = ndimage.grey_closing(capped, size=(_GAP_VOXELS,) * 3) - capped
    cost = np.where(bone, 1.0 + (gap / _COST_HU) ** 2, np.where(area.needle, _HIDDEN_COST, -1.0))
    ways = []
    for seeds in _seeds(area, discs, body, bone):
        starts = np.argwhere(seeds)
        if starts.shape[0] == 0:
            ways.append(np.full(bone.shape, np.inf))
            continue
        ways.append(MCP_Geometric(np.where(seeds, 1.0, cost), fully_connected=True).find_costs(starts)[0])
    own, others = ways[0], np.min(ways[1:], axis=0)
    front = front_wall_mm(area)
    arch: BoolArray = np.isfinite(own) & (own < others) & bone & (area.posterior_mm > front - _BEFORE_MM)
    arch &= ~body & (np.abs(area.left_mm) < _RIB_MM)
    # before the canal's middle only a body's own height belongs to it
    low, high = (disc.cranial_mm(area.left_mm, area.posterior_mm) for disc in discs)
    arch &= (area.posterior_mm > 0.0) | ((area.cranial_mm > low) & (area.cranial_mm < high))
    return _by_the_other_side(area, arch, bone) & ~body


def _seeds(
    area: Surroundings, discs: tuple[DiscPlane, DiscPlane], body: BoolArray, bone: BoolArray
) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Voxels that are surely of this vertebra, of a neighbour, and of a rib."""
    low, high = (disc.cranial_mm(area.left_mm, area.posterior_mm) for disc in discs)
    if not discs[0].seen:
        low = high - _PITCH_MM
    if not discs[1].seen:
        high = low + _PITCH_MM
    share = (area.cranial_mm - low) / np.maximum(high - low, 10.0)
    ring = bone & (area.canal_mm < _BESIDE_MM) & ~body
    beside = ring & (np.abs(area.posterior_mm) < 6.0) & (np.abs(area.left_mm) > 6.0)
    behind = ring & (area.posterior_mm > 4.0) & (np.abs(area.left_mm) < 7.0)

    aside = np.abs(area.left_mm)
    facets = bone & (area.posterior_mm > _back_wall_mm(area) + _FACET_BEHIND_MM)
    facets &= (aside > _FACET_ASIDE_MM[0]) & (aside < _FACET_ASIDE_MM[1])

    def arch(level: int) -> BoolArray:
        at = share - level
        result: BoolArray = (beside & (at > _PEDICLE[0]) & (at < _PEDICLE[1])) | (
            behind & (at > _LAMINA[0]) & (at < _LAMINA[1])
        )
        return result | (facets & (at > _FACET[0]) & (at < _FACET[1]))

    front = front_wall_mm(area)
    column = bone & (np.abs(area.left_mm) < 14.0)
    column &= (area.posterior_mm < front - 3.0) & (area.posterior_mm > front - 28.0)
    neighbours = arch(-1) | arch(1)
    for beyond in (low - area.cranial_mm, area.cranial_mm - high):
        neighbours |= column & (beyond > _NEIGHBOUR_BODY_MM[0]) & (beyond < _NEIGHBOUR_BODY_MM[1])
    return body | arch(0), neighbours & ~body, _ribs(area, bone) & ~body


def _by_the_other_side(area: Surroundings, arch: BoolArray, bone: BoolArray) -> BoolArray:
    """The arch near the needle, where streaks look like bone or part it: only bone that has its like on the other side.

    Whether there is bone is read from the image still; to which level or rib it goes, from the side that is clear.
    """
    if not area.needle.any():
        return arch
    near, wide = (ndimage.binary_dilation(area.needle, iterations=round(mm / STEP_MM)) for mm in _STREAK_MM)
    mirrored = np.flip(arch & ~near, axis=2)  # the frame's midline is in its middle
    like = ndimage.binary_dilation(mirrored, iterations=round(_UNEVEN_MM / STEP_MM))
    result: BoolArray = (arch & (~near | like)) | (bone & wide & mirrored)
    return result


def _back_wall_mm(area: Surroundings) -> float:
    """Posterior coordinate of the canal's back wall at the source's height, in the midline."""
    near = (np.abs(area.cranial_mm) <= 6.0) & (np.abs(area.left_mm) <= 3.0) & (area.canal_mm < 0.0)
    rows = np.flatnonzero(near.any(axis=(0, 2)))
    return float(area.posterior_mm.ravel()[rows[-1]]) if rows.size else 8.0


def _ribs(area: Surroundings, bone: BoolArray) -> BoolArray:
    """Voxels that are surely of a rib: what runs on to the side or out of the image, and its neck before the arch."""
    aside = np.abs(area.left_mm)
    lateral = bone & (aside > _PROCESS_MM)
    end = area.inside & ~ndimage.binary_erosion(area.inside, border_value=1)
    neck = (aside > _NECK_MM) & (area.posterior_mm < _NECK_SLOPE * (aside - _NECK_MM) - _NECK_BEFORE_MM)
    running = _touching(lateral, (aside > _RIB_MM) | end)
    return _touching(bone & (neck | running), running)


def _touching(mask: BoolArray, marks: BoolArray) -> BoolArray:
    """The pieces of a mask that hold a mark."""
    labels, _ = ndimage.label(mask)
    held = np.unique(labels[mask & marks])
    result: BoolArray = np.isin(labels, held[held > 0])
    return result


def fill_needle(area: Surroundings, vertebra: BoolArray) -> BoolArray:
    """The vertebra with the needle in it: hidden voxels count as it where it is seen on both sides of them."""
    if not area.needle.any():
        return vertebra
    result: BoolArray = vertebra | (closing(vertebra, _ACROSS_MM) & area.needle & (area.canal_mm > 0.0))
    return result
