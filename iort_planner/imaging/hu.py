"""Whether voxel values may be read as HU: what the header promises and what the content shows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

from iort_planner.imaging.dicom.pixels import Rescale, StoredSlice
from iort_planner.imaging.dicom.sop_classes import CT_IMAGE, IMAGE_KINDS
from iort_planner.imaging.volume import VoxelArray

# Image Type / Frame Type of CT whose pixels are no attenuation, or no longer the patient's own: DICOM PS3.3 C.8.16.1.4
# (arithmetic and functional maps), C.8.15.2.1.1.4 and C.8.2.1.1.1 (multi-energy maps), C.8.2.1.1.1 (overview image).
# VMI (monoenergetic), RESAMPLED, MEAN, MEDIAN, FILTERED, MAXIMUM, MINIMUM keep the scale.
_ARITHMETIC = {"ADDITION", "SUBTRACTION", "MULTIPLICATION", "DIVISION", "STD_DEVIATION", "MASKED", "T_TEST", "Z_SCORE"}
_FUNCTIONAL = {"MTT", "RCBF", "RCBV", "TTP", "TMAX", "PERMEABILITY", "QUANTITY"}
_MATERIAL = {"MAT_SPECIFIC", "MAT_REMOVED", "MAT_FRACTIONAL", "MAT_VALUE_BASED", "MAT_MODIFIED"}
_PICTURES = frozenset({"LOCALIZER", "MIP", "MINIP", "PROJECTION IMAGE"})
_NO_HU_TYPES = _ARITHMETIC | _FUNCTIONAL | _MATERIAL | _PICTURES | {"EFF_ATOMIC_NUM", "ELECTRON_DENSITY"}

# HU content: air is -1000 by definition; noise, partial volume and beam hardening lift it, and lung or gas
# in the body lies near -850 and below. Soft tissue, fat and trabecular bone lie between -200 and 300.
AIR_REACHED_HU = -850.0
SOFT_TISSUE_HU = (-200.0, 300.0)
# Our own choice: real scans of the trunk have 30 to 70 % there, a wrong offset or slope next to nothing.
SOFT_TISSUE_SHARE = 0.05
# Where a volume's most frequent values lie, measured over 2 x 2 x 2 voxels. Eleven real scans (five makers, plain and
# with contrast) have fat at -98 to -72 and muscle or organs at 28 to 112; water is 0, PMMA 120. Our own margins.
FAT_HU = (-135.0, -45.0)
LEAN_HU = (-25.0, 130.0)
_PLAIN_LEAN_HU = (
    5.0,
    90.0,
)  # muscle and organs without contrast medium; with fat in its place they make the scale sure
_BRIGHT_HU = 400.0  # up to here, trabecular bone in a narrow crop or contrast medium make a most frequent value
_BRIGHT_PEAK = 0.6  # ... of at most this height against the highest, where the scale is not sure already
# A peak counts from these shares of the highest one on. Own choice: real scans have nothing over 0.12 elsewhere.
_MAIN_PEAK, _SMALL_PEAK, _PROMINENCE = 0.3, 0.12, 0.05
# Without fat in its place, two values as far apart as fat and muscle must be water and plastic of a phantom without
# much bone: the lower one is 0.
_FAT_TO_LEAN_HU = 95.0
_WATER_HU = 12.0
_BONE_SHARE = 0.02
# One peak that joins fat and muscle may lie between their ranges, if it is at least this wide (noise over 50 HU).
_JOINED_WIDTH_HU = 120.0
_JOINED_LEAST_HU = -90.0
# Below air is nothing: darker values are padding outside the field of view, always one or two numbers.
_NOTHING_BELOW_HU = -1200.0
_STRAY_SHARE = 0.02  # undershoot beside metal; own choice
_SWAPPED_SHARE = 0.02  # darker than fat although there is no air: gas in the bowel, streaks; own choice
_AIR_PEAK_HU = -1060.0  # air itself, where it is not cut off
_DARK_HU, _DARK_SHARE = -600.0, 0.01  # from where on it is lung or air, and how much of it calls for air to be reached
_SPIKE_SHARE = 0.02  # one and the same darkest value in so many voxels is cut off there, or padding
_SPIKE_HU = -900.0
_DENSE_HU, _DENSE_SHARE = 600.0, 0.15  # cortical bone and metal; in a crop round one vertebra below 10 %
_BIN_HU = 4.0
_SMOOTH_HU = 12.0  # standard deviation for a full sample
_LATTICE = 80  # blocks along each axis: half a million
_LEAST_BLOCKS = 8


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


def hu_from_header(
    sop_class_uid: str,
    modality: str,
    rescales: Sequence[Rescale],
    frame_types: Collection[tuple[str, ...]] = (),
    photometric: str = "MONOCHROME2",
) -> HuAnswer:
    """Whether the header allows the values to be read as HU at all.

    Rescale Type may be absent in a CT image only when the output is HU (DICOM PS3.3 C.8.2.1.1.3); C-arm
    exports that are not calibrated say ``US`` (unspecified) there. An Enhanced CT must have it (C.7.6.16.2.9).
    MONOCHROME1 only says that low values are to be shown bright: the output of the rescale is what it is (C.7.6.3.1.2).
    Value 3 PERFUSION alone says what a slice was taken for (C.8.16.1.3): an original slice keeps its HU, a derived
    one is a map.

    Parameters
    ----------
    sop_class_uid, modality : str
    rescales : sequence of Rescale
        Of every slice or frame.
    frame_types : collection of tuples of str
        Image Type of every slice, Frame Type of every frame; equal ones once.
    photometric : str
        Photometric Interpretation.
    """
    types = sorted({r.type.strip().upper() for r in rescales} - {"HU"})
    enhanced = IMAGE_KINDS.get(sop_class_uid) == "ct-enhanced"
    if modality == "XA":
        reason = "modality XA does not promise HU: a C-arm's scatter, truncation and short arc leave grey values"
    elif not (enhanced or sop_class_uid == CT_IMAGE) or modality != "CT":
        reason = f"modality {modality or 'none'} does not promise HU"
    elif photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        reason = f"photometric interpretation {photometric or 'none'} is a picture, not one value a voxel"
    elif map_name := _map_name(frame_types):
        reason = f"the image type says {map_name}, not a plain CT image"
    elif not all(r.stated for r in rescales):
        reason = "no Rescale Slope and Intercept"
    elif enhanced and "" in types:
        reason = "no Rescale Type, which an Enhanced CT must have"
    elif any(types):
        reason = f"Rescale Type is {max(types)}, not HU"
    else:
        return HuAnswer(calibrated=True, reason="")
    return HuAnswer(calibrated=False, reason=reason)


def _map_name(frame_types: Collection[tuple[str, ...]]) -> str | None:
    """The term in Image or Frame Types that makes it something other than attenuation."""
    for values in frame_types:
        terms = [v.strip().upper() for v in values]
        for term in terms[2:]:
            if term in _NO_HU_TYPES or (term == "PERFUSION" and terms[0] == "DERIVED"):
                return term
    return None


def hu_from_content(values: VoxelArray) -> HuAnswer:
    """Whether the values look like HU: what is darkest is air, and what is most frequent is fat, muscle or water.

    About half a million blocks of 2 x 2 x 2 voxels on a fixed lattice are looked at, so the answer is repeatable and
    noise counts less. Padding (one or two numbers below anything real) and values cut off at the dark end are left out.
    Without any air the soft tissue decides alone. Metal and dense bone are not looked at.

    What is caught and what passes, over the real scans and phantoms of tests/imaging/test_hu.py: an offset of 100 or
    more, a slope wrong by 12 % or more (with the right intercept) and swapped signs are always caught, an offset of 75
    or 7 % in nearly all. An offset of 20 and a slope wrong by 2 % never are: patients and scanners differ by more. A
    noisy crop without any air, in which fat and muscle make one peak, shows only where that peak lies: an offset up to
    75 and any factor about 0 HU from 0.5 to 2 may pass there.

    Parameters
    ----------
    values : ndarray of shape (nk, nj, ni)
    """
    raw, blocks, darkest = _lattice(values)
    below = raw[raw < _NOTHING_BELOW_HU]
    if len(below):
        counts = np.unique(below, return_counts=True)[1]
        stray = (len(below) - int(np.sort(counts)[-2:].sum())) / len(raw)
        if stray > _STRAY_SHARE:
            return _not_hu(
                f"{100 * stray:.1f} % of the voxels are darker than {_NOTHING_BELOW_HU:.0f} without being padding; "
                "air is -1000 HU"
            )
    inside, block_ok = raw >= _NOTHING_BELOW_HU, darkest >= _NOTHING_BELOW_HU
    raw = raw[inside]
    if not len(raw):
        return _not_hu("every voxel is padding")
    bottom = raw.min()
    spike = float(np.mean(raw == bottom))
    if spike > _SPIKE_SHARE:
        if bottom > _SPIKE_HU:
            return _not_hu(
                f"{100 * spike:.0f} % of the voxels have the same darkest value {bottom:.0f}: cut off there, while air "
                "is -1000 HU"
            )
        block_ok &= darkest > bottom
    low, dark = float(np.percentile(raw, 0.1)), float(np.mean(raw < _DARK_HU))
    if dark > _DARK_SHARE and low > AIR_REACHED_HU:
        return _not_hu(
            f"the darkest values ({low:.0f}) do not reach air (-1000 HU, at most {AIR_REACHED_HU:.0f} asked)"
        )
    share = float(np.mean((raw >= SOFT_TISSUE_HU[0]) & (raw <= SOFT_TISSUE_HU[1])))
    if share < SOFT_TISSUE_SHARE:
        return _not_hu(
            f"only {100 * share:.1f} % of the voxels lie between {SOFT_TISSUE_HU[0]:.0f} and {SOFT_TISSUE_HU[1]:.0f}, "
            f"where soft tissue lies in HU (at least {100 * SOFT_TISSUE_SHARE:.0f} % asked)"
        )
    swapped = _swapped(blocks[block_ok])
    return _not_hu(swapped) if swapped else _peaks_answer(blocks[block_ok])


def _swapped(blocks: npt.NDArray[np.float32]) -> str | None:
    """Signs that dark and bright are swapped: what is dark falls off like bone, and too much is bright."""

    def share(low: float, high: float) -> float:
        return float(np.mean((blocks > low) & (blocks < high))) if len(blocks) else 0.0

    if share(-1100.0, -700.0) / 400.0 > share(-500.0, -300.0) / 200.0:  # air or lung: darker is more frequent again
        return None
    dark, bright, dense = (
        share(-np.inf, SOFT_TISSUE_HU[0]),
        share(SOFT_TISSUE_HU[1], np.inf),
        share(_DENSE_HU, np.inf),
    )
    if dark <= max(bright, _SWAPPED_SHARE) and dense <= _DENSE_SHARE:
        return None
    return (
        f"there is no air, {100 * dark:.1f} % of the voxels are darker than fat and {100 * bright:.1f} % as bright as "
        "bone: another scale, or dark and bright are swapped"
    )


def _not_hu(reason: str) -> HuAnswer:
    return HuAnswer(calibrated=False, reason=reason)


def _lattice(
    values: VoxelArray,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Single voxels on a fixed lattice, and mean and darkest of the blocks of 2 x 2 x 2 that start there; each flat."""
    steps = [max(min(2, n), n // _LATTICE) for n in values.shape]
    ends = [n // s * s for n, s in zip(values.shape, steps, strict=True)]
    corners = [
        values[k : ends[0] : steps[0], j : ends[1] : steps[1], i : ends[2] : steps[2]]
        for k in range(min(2, steps[0]))
        for j in range(min(2, steps[1]))
        for i in range(min(2, steps[2]))
    ]
    first = corners[0].astype(np.float32)
    total, darkest = first.copy(), first.copy()
    for corner in corners[1:]:
        part = corner.astype(np.float32)
        total += part
        np.minimum(darkest, part, out=darkest)
    return first.ravel(), (total / np.float32(len(corners))).ravel(), darkest.ravel()


def _peaks_answer(blocks: npt.NDArray[np.float32]) -> HuAnswer:
    """Judge by the most frequent values of blocks without padding."""
    if len(blocks) < _LEAST_BLOCKS:
        return _not_hu("nearly every voxel is padding or cut off")
    wide = _SMOOTH_HU * max(1.0, (20000.0 / len(blocks)) ** 0.2)  # few blocks: a wider kernel (Silverman's exponent)
    edges = np.arange(-1400.0, 2600.0, _BIN_HU)
    counts = np.histogram(blocks, bins=edges)[0] / (len(blocks) * _BIN_HU)
    density = ndimage.gaussian_filter1d(counts, wide / _BIN_HU, mode="constant")
    centres = edges[:-1] + _BIN_HU / 2
    air = centres < _DARK_HU
    tops, _ = signal.find_peaks(density[air], height=max(_MAIN_PEAK * float(density[air].max()), 1e-12))
    if len(tops) and centres[tops[0]] < _AIR_PEAK_HU:
        return _not_hu(f"air lies at {centres[tops[0]]:.0f} where it is -1000 HU")
    first = int(np.argmin(air))
    density, centres = density[first:], centres[first:]
    highest = float(density.max())
    tops, _ = signal.find_peaks(density, height=_SMALL_PEAK * highest, prominence=_PROMINENCE * highest)
    peaks = [(float(centres[n]), float(density[n]) / highest) for n in tops]
    if not peaks or max(height for _, height in peaks) < 1.0:
        return _not_hu("there is no most frequent value among tissues: neither fat nor muscle nor water")
    width = _BIN_HU * float(np.sum(density > highest / 2))
    bone = float(np.mean(blocks > SOFT_TISSUE_HU[1])) > _BONE_SHARE
    wrong = _wrong_peak(peaks, joined=width >= _JOINED_WIDTH_HU, bone=bone)
    if wrong is None:
        return HuAnswer(calibrated=True, reason="")
    return _not_hu(
        f"a most frequent value is {wrong:.0f}, where no tissue lies in HU: fat is {FAT_HU[0]:.0f} to {FAT_HU[1]:.0f}, "
        f"water, muscle and organs {LEAN_HU[0]:.0f} to {LEAN_HU[1]:.0f}"
    )


def _wrong_peak(peaks: list[tuple[float, float]], *, joined: bool, bone: bool) -> float | None:
    """The first peak (HU, height against the highest) that fits no tissue.

    ``joined``: the highest is wide enough to be fat and muscle in one; ``bone``: the volume holds a body.
    """
    fat = [at for at, _ in peaks if _within(at, FAT_HU)]
    lean = [at for at, _ in peaks if _within(at, LEAN_HU)]
    sure = bool(fat) and any(_within(at, _PLAIN_LEAN_HU) for at in lean)
    for at, height in peaks:
        if _within(at, FAT_HU):
            fits = bool(lean) or (joined and at > _JOINED_LEAST_HU)  # a body of fat alone is a shifted one
        elif _within(at, LEAN_HU):
            far = [other for other, _ in peaks if other - at >= _FAT_TO_LEAN_HU and other <= LEAN_HU[1]]
            fits = bool(fat) or not far or (abs(at) <= _WATER_HU and not bone)
        elif at > LEAN_HU[1]:
            fits = height < _MAIN_PEAK or (at <= _BRIGHT_HU and (sure or height <= _BRIGHT_PEAK))
        else:
            between = FAT_HU[1] < at < LEAN_HU[0]
            fits = len(peaks) == 1 and between and joined
        if not fits:
            return at
    return None


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]
