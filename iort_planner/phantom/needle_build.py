"""How a needle is built, from the axis outwards: which part of a sample is plastic, steel or empty.

The sheath's bore is empty (air), filled (``solid``) or holds the source's probe: a thin evacuated steel tube that runs on
inside the plastic tip as far as the effective source point. There stands its end of solid metal (the target), whose
shape (a disc as wide as the tube's bore, centred on the effective source point) is our own choice, since no drawing is
published. So are the even wall of a hollow tip and that every bore is open up to the hub.

Walls are thinner than voxels. A sample therefore counts with the part of its own small cell that lies inside a
border, not with yes or no: the volume of a thin wall comes out right wherever the samples happen to lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator
    from iort_planner.phantom.spec_model import NeedleContent, NeedleParts, NeedleSpec
    from iort_planner.units import FloatArray

# Depth in metal over which beam hardening takes hold: after 1 mm of steel three fifths of it is done. Our own choice: at 60 to
# 80 keV a millimetre of steel takes half to two thirds of the beam (NIST XCOM tables, Hubbell and Seltzer 1996).
CUPPING_DEPTH_MM = 1.0


def cupping(depth_mm: FloatArray) -> FloatArray:
    """Part, from 0 to 1, of the scanner's ``metal_cupping`` that metal of this depth shows; same shape."""
    result: FloatArray = 1.0 - np.exp(-np.maximum(depth_mm, 0.0) / CUPPING_DEPTH_MM)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedleBuild:
    """What a needle is made of; the keys of `NeedleSpec` of the same names, mm."""

    content: NeedleContent = "solid"
    wall_mm: float = 0.5
    probe_diameter_mm: float = 3.2
    probe_wall_mm: float = 0.2
    probe_end_mm: float = 0.8
    hollow_tip: bool = False
    tip_wall_mm: float = 0.8
    parts: NeedleParts = "needle"
    cannula: bool = True

    @classmethod
    def of(cls, spec: NeedleSpec) -> NeedleBuild:
        """The build that a specification asks for."""
        return cls(**{name: getattr(spec, name) for name in cls.__dataclass_fields__})

    @property
    def plain(self) -> bool:
        """Whether it is the needle without any bore."""
        return self.parts == "needle" and self.content == "solid" and not self.hollow_tip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shares:
    """Parts (0-1) of samples, all of one shape.

    ``steel_depth`` and ``air_depth`` are `cupping` of what lies there, times its share: of the depth inside the
    metal, and for what a tube encloses of the thickness of both its walls together.
    """

    plastic: FloatArray
    steel: FloatArray
    air: FloatArray
    steel_depth: FloatArray
    air_depth: FloatArray


def shares(
    build: NeedleBuild,
    applicator: Applicator,
    cannula_end_mm: float,
    along: FloatArray,
    radial: FloatArray,
    cell_mm: tuple[FloatArray | float, FloatArray | float],
) -> Shares:
    """Parts of plastic, steel and emptiness at samples along the needle and from its centre line.

    Parameters
    ----------
    along, radial : ndarray, mm
        From the tip towards the hub; from the centre line.
    cell_mm : tuple of two float or ndarray, mm
        Extent of a sample's own cell along the needle and across it.
    """
    cell_along, cell_across = cell_mm
    r, metal = applicator.outer_radius_mm, applicator.radiolucent_tip_length_mm

    def disc(radius_mm: float) -> FloatArray:
        return _ramp(radius_mm - radial, cell_across)

    def past(start_mm: float) -> FloatArray:
        return _ramp(along - start_mm, cell_along)

    cannula_out = applicator.cannula_outer_diameter_mm or applicator.cannula_inner_diameter_mm
    cannula_in = applicator.cannula_inner_diameter_mm / 2.0
    tube = past(cannula_end_mm) - past(cannula_end_mm + applicator.cannula_length_mm)
    tube = tube if build.cannula else 0.0 * tube
    cannula = tube * (disc(cannula_out / 2.0) - disc(cannula_in))
    around_mm = tube * (cannula_out / 2.0 - cannula_in)  # thickness of the cannula outside of what is there
    zero = np.zeros_like(cannula)
    if build.parts == "cannula":
        depth = cupping(cannula_out / 2.0 - radial)
        inside = tube * disc(cannula_in)
        if build.content == "solid":  # with its stylet, flush
            return Shares(
                plastic=zero,
                steel=cannula + inside,
                air=zero,
                steel_depth=(cannula + inside) * depth,
                air_depth=zero,
            )
        return Shares(
            plastic=zero,
            steel=cannula,
            air=inside,
            steel_depth=cannula * depth,
            air_depth=inside * cupping(2.0 * around_mm),
        )
    shaft = past(metal) - past(applicator.length_mm)
    in_tip = 1.0 - past(metal)
    outline = in_tip * _half_ball(r, r, along, radial, cell_mm)
    bore = in_tip * _half_ball(r - build.tip_wall_mm, r, along, radial, cell_mm) if build.hollow_tip else zero
    wall_mm = r if build.content == "solid" else build.wall_mm
    sheath = shaft * (disc(r) - disc(r - wall_mm)) if build.content != "solid" else shaft * disc(r)
    hollow = shaft * disc(r - wall_mm) if build.content != "solid" else zero
    outer_mm = r + around_mm  # of all metal here
    depth_here = cupping(outer_mm - radial)
    steel, depth = cannula + sheath, (cannula + sheath) * depth_here
    air, raised = hollow + bore, hollow * cupping(2.0 * (wall_mm + around_mm)) + bore * cupping(2.0 * around_mm)
    plastic = outline - bore
    if build.content == "probe":
        half, source = build.probe_end_mm / 2.0, applicator.tip_to_source_mm
        rp, wp = build.probe_diameter_mm / 2.0, build.probe_wall_mm
        reach = past(source - half) - past(applicator.length_mm)
        end = (past(source - half) - past(source + half)) * disc(rp - wp)
        whole, inner = reach * disc(rp), reach * disc(rp - wp)
        # the probe displaces air first, then plastic; the two touch only in the tip
        taken = np.minimum(whole, air + plastic)
        from_air = np.minimum(taken, air)
        part = np.divide(air - from_air, air, out=np.zeros_like(air), where=air > 0.0)
        raised = raised * part
        plastic, air = plastic - (taken - from_air), air - from_air
        # steel between axis and outside: the probe's own, the sheath's only where there is one
        sheath_mm = shaft * wall_mm
        in_steel = sheath_mm + around_mm + (rp - radial)
        steel = steel + (whole - inner) + end
        depth = depth + ((whole - inner) + end) * cupping(in_steel)
        air = air + (inner - end)
        raised = raised + (inner - end) * cupping(2.0 * (wp + sheath_mm + around_mm))
    return Shares(plastic=plastic, steel=steel, air=air, steel_depth=depth, air_depth=raised)


def _ramp(depth_mm: FloatArray, cell_mm: FloatArray | float) -> FloatArray:
    """Part of a cell that lies on the inner side of a flat border which its centre is ``depth_mm`` inside of."""
    result: FloatArray = np.clip(depth_mm / cell_mm + 0.5, 0.0, 1.0)
    return result


def _half_ball(
    radius_mm: float,
    centre_mm: float,
    along: FloatArray,
    radial: FloatArray,
    cell_mm: tuple[FloatArray | float, FloatArray | float],
) -> FloatArray:
    """A half ball about the centre line's point ``centre_mm``, and a cylinder behind it."""
    before = np.minimum(along - centre_mm, 0.0)
    distance = np.hypot(before, radial)
    slope = np.divide(before, distance, out=np.zeros_like(distance), where=distance > 0.0)
    cell = np.hypot(cell_mm[0] * slope, cell_mm[1] * np.sqrt(1.0 - slope * slope))
    return _ramp(radius_mm - distance, cell)
