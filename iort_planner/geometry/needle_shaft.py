"""A run of metal with its distal end chosen, and where fits to it begin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.applicator import NeedleContent
from iort_planner.geometry.needle_model import Frame, Pose, bore_share, frame_from
from iort_planner.geometry.needle_profile import EndKind, Profile, rough_parabola

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator
    from iort_planner.units import FloatArray

_HOLLOW_SHARE = 0.85  # of the wall's value; solid metal that a hardened beam darkens inside shows more. Our own choice.
_DEFAULT_CANNULA_WALL_MM = 0.5  # start of the fit where the applicator file gives no outer diameter
_ROUGHLY_BENT_MM = 0.3  # centroids of sections of straight needles wobble by up to 0.7 mm in 3 mm slices


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shaft:
    """A run of metal with its distal end chosen.

    Parameters
    ----------
    frame : Frame
        Starts at the rough distal end; its axis points to the hub.
    visible_mm : float
        Length of metal seen.
    along_mm, area_mm2 : ndarray of shape (N,)
        Sections: position in the frame and apparent area.
    head, cut, within : bool
        Whether it ends in much thicker metal (a screw's head, or the needle's hub), at the image's edge, in the body.
    plateau, core : float
        Value of the metal, and in the middle of the shaft: lower where it is hollow.
    curvature : ndarray of shape (2,), 1/mm
        Rough quadratic term of the centre line in the frame; zero for a needle that looks straight.
    """

    frame: Frame
    visible_mm: float
    along_mm: FloatArray
    area_mm2: FloatArray
    head: bool
    cut: bool
    within: bool
    plateau: float
    core: float
    curvature: FloatArray


def orient(profile: Profile) -> Shaft:
    """Turn a profile so that it starts at its distal end, the one in the body."""
    flip = profile.distal[1]
    sign = -1.0 if flip else 1.0
    end = profile.high_mm if flip else profile.low_mm
    bend, parabola = rough_parabola(profile)
    bent = bend > _ROUGHLY_BENT_MM  # then the frame starts on the curve's own end and tangent, not the straight line's
    origin, axis = np.array([0.0, 0.0, end]), np.array([0.0, 0.0, 1.0])
    if bent:
        origin[:2] = np.array([end**2, end, 1.0]) @ parabola
        axis[:2] = np.array([2.0 * end, 1.0]) @ parabola[:2]
    start = profile.frame.to_lps(origin)
    frame = frame_from(start, sign * (profile.frame.to_lps(origin + axis) - start))
    turn = np.stack([profile.frame.side, profile.frame.up]) @ np.stack([frame.side, frame.up], axis=1)
    along = sign * (profile.along_mm - end)
    order = np.argsort(along)
    proximal = profile.low_end if flip else profile.high_end
    visible = profile.high_mm - profile.low_mm
    keep = order[(along[order] >= 0.0) & (along[order] <= visible)]
    return Shaft(
        frame=frame,
        visible_mm=visible,
        along_mm=along[keep],
        area_mm2=profile.area_mm2[keep],
        head=profile.low_head if flip else profile.high_head,
        cut=proximal is EndKind.EDGE,
        within=proximal is EndKind.TISSUE,
        plateau=profile.plateau,
        core=float(np.nanmedian(profile.core[profile.metal])),
        curvature=parabola[0] @ turn if bent else np.zeros(2),
    )


def looks_hollow(shaft: Shaft, applicator: Applicator) -> bool:
    """Whether the middle of the shaft is darker than its wall; never where the applicator file says solid."""
    return applicator.content is not NeedleContent.SOLID and shaft.core < _HOLLOW_SHARE * shaft.plateau


def start_pose(shaft: Shaft, applicator: Applicator) -> Pose:
    """Where fits begin: the bare shaft on the shaft's own frame, hollow where its middle is darker than its wall."""
    outer = applicator.cannula_outer_diameter_mm
    wall_radius = (
        applicator.cannula_inner_diameter_mm / 2.0 + _DEFAULT_CANNULA_WALL_MM if outer is None else outer / 2.0
    )
    return Pose(
        radius=applicator.outer_radius_mm, cannula_radius=wall_radius, side=0.0, up=0.0, side_slope=0.0, up_slope=0.0,
        side_bend=float(shaft.curvature[0]), up_bend=float(shaft.curvature[1]), end=0.0, cannula_end=np.inf,
        cannula_length=applicator.cannula_length_mm,
        height=shaft.plateau * 2.0, blur=0.65, slice_share=1.0, bore_radius=bore_share(applicator) * applicator.outer_radius_mm,
        inner=shaft.core if looks_hollow(shaft, applicator) else math.nan,
        plastic_length=applicator.radiolucent_tip_length_mm,
    )  # fmt: skip


def area_step(shaft: Shaft) -> tuple[float | None, float]:
    """Where along the shaft the apparent area grows most (mm from the distal end, or None), and by how much.

    Compares medians over up to 8 mm on both sides; the fit decides whether it really is a cannula's end.
    """
    best, where = 1.0, None
    for at in np.arange(2.0, shaft.visible_mm - 4.0, 1.0):
        distal = (shaft.along_mm >= max(1.0, at - 8.0)) & (shaft.along_mm < at)
        proximal = (shaft.along_mm > at) & (shaft.along_mm <= min(at + 8.0, shaft.visible_mm - 2.0))
        if np.count_nonzero(distal) and np.count_nonzero(proximal) >= 2:
            growth = float(np.median(shaft.area_mm2[proximal]) - np.median(shaft.area_mm2[distal]))
            if growth > best:
                best, where = growth, float(at)
    return where, best
