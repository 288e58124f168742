"""Which of the shafts that were found is the needle to plan with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.errors import NeedleNotFoundError
from iort_planner.geometry.metal import MetalKind

if TYPE_CHECKING:
    from iort_planner.geometry.needle import Needle
    from iort_planner.geometry.needle_measure import Measurement
    from iort_planner.geometry.needle_pieces import Piece
    from iort_planner.geometry.needle_plastic import Plastic
    from iort_planner.geometry.needle_shaft import Shaft
    from iort_planner.units import FloatArray

_RIVAL_SHARE = (0.6, 0.75)  # of the longest: below the first a cut piece is no rival, beyond the second it is its equal
_HINT_MM = 20.0  # a hint further than this from every needle is a mistake
_HINT_APART_MM = 5.0  # by so much must the needle that is meant be nearer to the hint than any other metal
_PLANNED = (MetalKind.NEEDLE, MetalKind.SHAFT)  # the second always with low confidence, and after every needle
_LONG_MM = 50.0  # of a shaft that may be a needle although nothing but its thickness says so
_RANK = {kind: rank for rank, kind in enumerate(_PLANNED)}
_LEVEL_MM = 18.0  # tips further apart than this along the patient lie in different vertebrae (height 20 to 35 mm)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """A shaft that was measured as if it were the needle's, and what speaks for and against that."""

    needle: Needle
    shaft: Shaft
    kind: MetalKind
    what: str
    plastic: Plastic
    measured: Measurement
    explained: bool


def at_hint(shafts: list[Shaft], pieces: list[Piece], hint_lps_mm: FloatArray) -> tuple[list[Shaft], list[str]]:
    """The shafts with the one that a hint means first, and what is doubtful about that.

    Raises
    ------
    NeedleNotFoundError
        If no shaft lies near the hint, or the metal there is a screw's.
    """
    at = np.round(hint_lps_mm, 1).tolist()
    ordered = sorted(shafts, key=lambda shaft: distance_mm(shaft, hint_lps_mm))
    nearest = distance_mm(ordered[0], hint_lps_mm) if ordered else np.inf
    if not nearest <= _HINT_MM:
        near = f"the nearest is {nearest:.0f} mm away" if ordered else "there is none in the scan"
        raise NeedleNotFoundError(
            f"no needle found within {_HINT_MM:g} mm of the hint {at} ({near}); correct --needle-hint, or give --tip and "
            "--axis"
        )
    for piece in pieces:
        if piece.kind is MetalKind.SCREW and _from_piece_mm(piece, hint_lps_mm) < min(nearest, _HINT_APART_MM):
            raise NeedleNotFoundError(
                f"no needle found at the hint {at}: the metal there has a head, like a screw; correct --needle-hint, or "
                "give --tip and --axis"
            )
    undecided = len(ordered) > 1 and distance_mm(ordered[1], hint_lps_mm) < nearest + _HINT_APART_MM
    return ordered, ["the hint is about as near to another piece of metal"] if undecided else []


def by_likelihood(found: list[Seen]) -> list[Seen]:
    """Needles before other shafts, what more than its thickness explains before the rest, then the longest."""
    return sorted(found, key=lambda s: (_RANK.get(s.kind, 2), not s.explained, -s.shaft.visible_mm))


def choose(found: list[Seen], pieces: list[Piece], *, hinted: bool) -> tuple[list[Seen], list[str]]:
    """The shafts with the needle to plan with first, and what is doubtful about that choice.

    With a hint the first is meant. Else the only one that more than its thickness makes the applicator; where none is, the
    longest. Of several such none is taken: a plastic tip that is not seen in one of them may be there all the same.

    Raises
    ------
    NeedleNotFoundError
        If there is none, or several are alike.
    """
    needles = [s for s in (found if hinted else by_likelihood(found)) if s.kind in _PLANNED]
    if not needles or (hinted and found[0].kind not in _PLANNED):
        words = [piece.what for piece in pieces if piece.shaft is None] + [s.what for s in found if s.what]
        what = f" ({'; '.join(sorted(set(words))[:3])})" if words else ""
        raise NeedleNotFoundError(
            f"no needle found: no straight metal enters the body and ends in it{what}; give --tip and --axis"
        )
    first, *rest = needles
    if hinted:
        return needles, []
    if first.explained:
        alike = [first, *(s for s in rest if s.explained)]
        if len(alike) == 1:
            doubtful = [s for s in rest if s.kind is MetalKind.NEEDLE and s.shaft.visible_mm > _LONG_MM]
            doubt = f"another shaft of {doubtful[0].shaft.visible_mm:.0f} mm could be a needle too" if doubtful else ""
            return needles, [doubt] if doubt else []
        raise _several(alike)
    # beside a needle that is seen to leave the body, a short piece that the image's edge cuts is a screw whose head is
    # out of view; where the edge cuts both, the shorter may be the needle
    shaft = first.shaft
    rivals = [
        s for s in rest if shaft.cut or not (s.shaft.cut and s.shaft.visible_mm < _RIVAL_SHARE[0] * shaft.visible_mm)
    ]
    if not rivals:
        return needles, []
    if rivals[0].shaft.visible_mm > _RIVAL_SHARE[1] * shaft.visible_mm:
        raise _several([first, *rivals])
    return needles, [f"{1 + len(rivals)} pieces of metal could be the needle; the longest was taken"]


def _several(alike: list[Seen]) -> NeedleNotFoundError:
    named = labelled([s.needle for s in alike])
    places = "; ".join(f"{n.label}: tip near LPS {np.round(n.tip_lps_mm).astype(int).tolist()} mm" for n in named)
    return NeedleNotFoundError(
        f"no needle found that stands out: {len(named)} alike ({places}); choose one with --needle-hint, or give --tip "
        "and --axis"
    )


def labelled(needles: list[Needle]) -> tuple[Needle, ...]:
    """Needles with labels: ``1`` for one alone; of several the level, counted from the head, and the side of entry.

    ``1L`` enters from the patient's left at the uppermost of the levels that hold a needle.
    """
    if len(needles) < 2:
        return tuple(replace(n, label="1") for n in needles)
    heights = sorted({float(n.tip_lps_mm[2]) for n in needles}, reverse=True)
    level, levels = 1, {heights[0]: 1}
    for above, here in pairwise(heights):
        level += above - here > _LEVEL_MM
        levels[here] = level
    labels: list[str] = []
    for n in needles:
        stem = f"{levels[float(n.tip_lps_mm[2])]}{'L' if n.axis_lps[0] > 0.0 else 'R'}"
        same = sum(label.startswith(stem) for label in labels)
        labels.append(stem if same == 0 else f"{stem}{same + 1}")
    return tuple(replace(n, label=label) for n, label in zip(needles, labels, strict=True))


def distance_mm(shaft: Shaft, point_lps_mm: FloatArray) -> float:
    """From a point to the visible metal."""
    local = shaft.frame.to_local(point_lps_mm)
    excess = local[2] - np.clip(local[2], 0.0, shaft.visible_mm)
    return float(np.hypot(np.hypot(local[0], local[1]), excess))


def _from_piece_mm(piece: Piece, point_lps_mm: FloatArray) -> float:
    profile = piece.profile
    local = profile.frame.to_local(point_lps_mm)
    excess = local[2] - np.clip(local[2], profile.low_mm, profile.high_mm)
    return float(np.hypot(np.hypot(local[0], local[1]), excess))
