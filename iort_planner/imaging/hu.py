"""Whether voxel values may be read as HU: what the header promises and what the content shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iort_planner.imaging.pixels import CT_IMAGE_STORAGE, Rescale, StoredSlice
from iort_planner.imaging.volume import VoxelArray

# HU content: air is -1000 by definition; noise, partial volume and beam hardening lift it, and lung or gas
# in the body lies near -850 and below. Soft tissue, fat and trabecular bone lie between -200 and 300.
AIR_REACHED_HU = -850.0
SOFT_TISSUE_HU = (-200.0, 300.0)
# Our own choice: real scans of the trunk have 30 to 70 % there, a wrong offset or slope next to nothing.
SOFT_TISSUE_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class HuAnswer:
    """Whether voxel values may be read as HU, and why not (empty when they may)."""

    calibrated: bool
    reason: str


def padding_above_air(slices: Sequence[StoredSlice], values: VoxelArray) -> str | None:
    """Say where padding pixels exist and are not darker than air: they could pass for tissue or metal."""
    for k, stored in enumerate(slices):
        if stored.padding is None:
            continue
        output = stored.rescale.slope * stored.padding + stored.rescale.intercept
        if output > AIR_REACHED_HU and np.any(values[k] == np.float32(output)):
            return (
                f"padding outside the field of view has the value {output:g} (in {stored.name}), as bright as tissue; "
                "look at the image edge before trusting what was found there"
            )
    return None


def hu_from_header(sop_class_uid: str, modality: str, rescales: Sequence[Rescale]) -> HuAnswer:
    """Whether the header allows the values to be read as HU at all.

    Rescale Type may be absent in a CT image only when the output is HU (DICOM PS3.3 C.8.2.1.1.3); C-arm
    exports that are not calibrated say ``US`` (unspecified) there.
    """
    types = sorted({r.type for r in rescales} - {"", "HU"})
    if sop_class_uid != CT_IMAGE_STORAGE or modality != "CT":
        reason = f"modality {modality or 'none'} does not promise HU"
    elif not all(r.stated for r in rescales):
        reason = "no Rescale Slope and Intercept"
    elif types:
        reason = f"Rescale Type is {types[0]}, not HU"
    else:
        return HuAnswer(calibrated=True, reason="")
    return HuAnswer(calibrated=False, reason=reason)


def hu_from_content(values: VoxelArray) -> HuAnswer:
    """Whether the values look like HU: they reach air, and some of them are soft tissue.

    A sample of about a million voxels on a fixed lattice is looked at, so the answer is repeatable.
    """
    step = tuple(max(1, n // 100) for n in values.shape)
    sample = values[:: step[0], :: step[1], :: step[2]]
    low = float(np.percentile(sample, 0.1))
    if not low <= AIR_REACHED_HU:
        reason = f"the darkest values ({low:.0f}) do not reach air (-1000 HU, at most {AIR_REACHED_HU:.0f} asked)"
        return HuAnswer(calibrated=False, reason=reason)
    share = float(np.mean((sample >= SOFT_TISSUE_HU[0]) & (sample <= SOFT_TISSUE_HU[1])))
    if share < SOFT_TISSUE_SHARE:
        reason = (
            f"only {100 * share:.1f} % of the voxels lie between {SOFT_TISSUE_HU[0]:.0f} and {SOFT_TISSUE_HU[1]:.0f}, "
            f"where soft tissue lies in HU (at least {100 * SOFT_TISSUE_SHARE:.0f} % asked)"
        )
        return HuAnswer(calibrated=False, reason=reason)
    return HuAnswer(calibrated=True, reason="")
