"""Straight pieces of metal in a scan: which of them may be needles, and what the others are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.geometry.metal import Metal, MetalKind
from iort_planner.geometry.needle import STEEL_HU
from iort_planner.geometry.needle_candidates import RoughLine, find_lines
from iort_planner.geometry.needle_profile import EndKind, Profile, air_level, measure_profile
from iort_planner.geometry.needle_shaft import Shaft, orient

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

# The bare wall of a hollow sheath is thinner than the blur and reads 1500 to 2800 HU, which dense cortex reaches too: what is
# found below the first level must look like a wall or a shaft along its whole length. Our own choice.
_LEVELS_HU = (STEEL_HU, 1500.0)
# Relative images: shares of the way from the median to the highest value, from the top down (our own choice:
# C-arm metal is either cut flat, and then near the top, or uneven with hot spots at ends).
_RELATIVE_LEVELS = (0.93, 0.8, 0.6, 0.5, 0.4, 0.3)
# ... and they count only this far above soft tissue (75 % quantile), in units of soft tissue over air (1 is 1000 HU) and of
# dense bone (97 % quantile) over soft tissue.
_RELATIVE_OVER_AIR, _RELATIVE_OVER_BONE = 0.9, 3.0
_MOST_LINES = 16
_SHORTEST_MM = 20.0  # with less shaft in view this is no needle that leaves the body; our own choice
# Apparent section: a wire below, a plate or a hub above; a 4.4 mm disc has 15 mm2, a cannula of 6.5 mm that blooms 50.
_WIRE_MM2, _THICK_MM2 = 7.0, 58.0
_HUB_MARGIN_MM = 3.0  # where thick metal begins is seen to a few mm
_SAME_COSINE, _SAME_MM = 0.99, 4.0  # 8 degrees; less than a cannula's diameter
_PAST_MM = 8.0  # a line may run on past the piece it belongs to by so much
_METAL_SHARE = 0.8  # of the level at which a run was found, that its metal must show


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """A straight piece of metal; ``shaft`` where it may be a needle's."""

    kind: MetalKind
    profile: Profile
    shaft: Shaft | None
    what: str

    def metal(self) -> Metal:
        """As an outsider sees it."""
        profile = self.profile
        low, high = (profile.frame.to_lps(np.array([0.0, 0.0, at])) for at in (profile.low_mm, profile.high_mm))
        flip = profile.distal[1] and not profile.distal[0]
        return Metal(
            kind=self.kind,
            start_lps_mm=high if flip else low,
            end_lps_mm=low if flip else high,
            diameter_mm=2.0 * float(np.sqrt(_area_mm2(profile) / np.pi)),
            length_mm=profile.high_mm - profile.low_mm,
            what=self.what,
        )


def find_pieces(volume: Volume, applicator: Applicator) -> list[Piece]:
    """All straight pieces of metal, each once: from the brightest level down, at each level the longest first."""
    air = air_level(volume)
    found: list[Piece] = []
    for level in levels(volume):
        for line in find_lines(volume, level)[:_MOST_LINES]:
            if any(_covers(piece.profile, line) for piece in found):
                continue
            profile = measure_profile(volume, line, air)
            if profile is None or profile.plateau < _METAL_SHARE * level:
                continue
            if any(_same(profile, piece.profile) for piece in found):
                continue
            found.append(_named(profile, applicator))
    return found


def levels(volume: Volume) -> list[float]:
    """Values above which a voxel may be metal, from the top down."""
    if volume.hu_calibrated:
        return list(_LEVELS_HU)
    sample = volume.values[:: max(1, volume.values.shape[0] // 64), ::2, ::2]
    inside = sample[sample > sample.min()]
    if inside.size < 1000:
        return []
    air, middle, soft, dense = np.quantile(inside, [0.005, 0.5, 0.75, 0.97]).tolist()
    least = soft + max(_RELATIVE_OVER_AIR * (soft - air), _RELATIVE_OVER_BONE * (dense - soft))
    top = float(volume.values.max())
    shares = [middle + share * (top - middle) for share in _RELATIVE_LEVELS]
    return [level for level in shares if level > least]


def _named(profile: Profile, applicator: Applicator) -> Piece:
    length, area = profile.high_mm - profile.low_mm, _area_mm2(profile)

    def other(kind: MetalKind, what: str) -> Piece:
        return Piece(kind=kind, profile=profile, shaft=None, what=what)

    ends = (profile.low_end, profile.high_end)
    headed = profile.low_head or profile.high_head
    if length < _SHORTEST_MM:
        return other(MetalKind.OTHER, f"metal of only {length:.0f} mm")
    if area < _WIRE_MM2:
        return other(MetalKind.WIRE, f"thin straight metal of {length:.0f} mm, like a wire")
    if area > _THICK_MM2:
        return other(MetalKind.OTHER, f"straight metal of {area:.0f} mm2 section")
    if profile.distal[0] == profile.distal[1]:
        if not profile.distal[0]:
            in_air = float(np.nanmedian(profile.around[profile.metal])) < profile.air
            if headed and EndKind.TISSUE in ends:
                return other(MetalKind.SCREW, f"a shaft of {length:.0f} mm with a head, like a screw's")
            what = f"straight metal of {length:.0f} mm leaves the body or the image at both ends"
            return other(MetalKind.RAIL if in_air else MetalKind.ROD, what)
        return other(MetalKind.ROD, f"straight metal of {length:.0f} mm ends in the body at both ends")
    shaft = orient(profile)
    if _screw(shaft, applicator):
        return other(MetalKind.SCREW, f"a shaft of {length:.0f} mm with a head, like a screw's")
    return Piece(kind=MetalKind.NEEDLE, profile=profile, shaft=shaft, what=f"a shaft of {length:.0f} mm")


def _area_mm2(profile: Profile) -> float:
    return float(np.median(profile.area_mm2[profile.metal]))


def _screw(shaft: Shaft, applicator: Applicator) -> bool:
    """Whether thick metal stands nearer to the distal end than the hub of applicator or cannula can, or in the body."""
    shortest = min(applicator.length_mm, applicator.cannula_length_mm) - applicator.radiolucent_tip_length_mm
    return shaft.head and (shaft.visible_mm < shortest - _HUB_MARGIN_MM or shaft.within)


def _ends(profile: Profile) -> FloatArray:
    return profile.frame.to_lps(np.array([[0.0, 0.0, profile.low_mm], [0.0, 0.0, profile.high_mm]]))


def _beside(profile: Profile, points_lps_mm: FloatArray) -> bool:
    """Whether points lie on a piece's line, as far as it reaches."""
    local = profile.frame.to_local(points_lps_mm)
    reach = (local[:, 2] > profile.low_mm - _PAST_MM) & (local[:, 2] < profile.high_mm + _PAST_MM)
    return bool(np.all(reach & (np.hypot(local[:, 0], local[:, 1]) < _SAME_MM)))


def _covers(profile: Profile, line: RoughLine) -> bool:
    """Whether a rough line runs along a piece that is known."""
    at = np.array([line.low_mm, 0.5 * (line.low_mm + line.high_mm), line.high_mm])
    return _beside(profile, line.centre_lps_mm + at[:, None] * line.direction)


def _same(one: Profile, other: Profile) -> bool:
    """Whether two runs are the same metal: one on the other's line, or in its line and near."""
    if _beside(one, _ends(other)) or _beside(other, _ends(one)):
        return True
    middle = other.frame.to_lps(np.array([0.0, 0.0, 0.5 * (other.low_mm + other.high_mm)]))
    local = one.frame.to_local(middle)
    return bool(abs(one.frame.axis @ other.frame.axis) > _SAME_COSINE and np.hypot(local[0], local[1]) < _SAME_MM)
