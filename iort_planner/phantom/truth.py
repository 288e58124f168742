"""What is true of a phantom: pose of the needle and its distances to the canal, by minimisation on exact surfaces."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from iort_planner import INTENDED_USE, __version__
from iort_planner.phantom.hardware import implants_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from iort_planner.imaging.volume import ImageGrid
    from iort_planner.phantom.canal_tube import CanalTube
    from iort_planner.phantom.hardware import Implant
    from iort_planner.phantom.needle_model import NeedlePose
    from iort_planner.phantom.spec_model import PhantomSpec
    from iort_planner.units import FloatArray

SCHEMA = "iort-planner/truth/1"
_Piece: TypeAlias = "Callable[[FloatArray], tuple[FloatArray, FloatArray]]"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NeedleTruth:
    """Where one needle stands and how it is built.

    Parameters
    ----------
    pose : NeedlePose
        With its build.
    bending_mm : float
        Largest distance of the centre line from its chord, from the metal's distal end to where the shaft ends or
        leaves the image.
    """

    pose: NeedlePose
    bending_mm: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts: only where the cannula is, of a cannula alone."""
        pose, build = self.pose, self.pose.build
        tip, axis, there = pose.tip_lps_mm, pose.axis_lps, build.parts == "needle"
        points = {
            "tip_lps_mm": tip,
            "source_lps_mm": pose.applicator.source_lps_mm(tip, axis),
            "metal_end_lps_mm": pose.applicator.metal_end_lps_mm(tip, axis),
        }
        return {
            **{name: point.tolist() if there else None for name, point in points.items()},
            "axis_lps": axis.tolist(),
            "cannula_end_lps_mm": pose.points_lps_mm(pose.cannula_end_mm).tolist() if build.cannula else None,
            "bending_mm": self.bending_mm,
            "parts": build.parts,
            "content": build.content,
            "wall_mm": build.wall_mm if build.content != "solid" else None,
            "hollow_tip": build.hollow_tip,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PhantomTruth:
    """The exact answer; distances as defined for a plan, mm.

    Parameters
    ----------
    tip_lps_mm, axis_lps, source_lps_mm, metal_end_lps_mm, cannula_end_lps_mm : ndarray of shape (3,)
        The axis is a unit vector from the tip towards the hub.
    distance_from_source_mm, distance_from_tip_mm : float
        To the canal's wall, negative inside the canal.
    distance_from_surface_mm : float
        From the outer surface of the radiolucent part.
    shaft_clearance_mm : float
        From the outer surface of the whole applicator and cannula; negative: how deep they stand in the canal.
    bending_mm : float
        Largest distance of the centre line from its chord, from the metal's distal end to where the shaft ends or
        leaves the image.
    nearest_point_lps_mm : ndarray of shape (3,)
        Wall point nearest to the source.
    centre_line_lps_mm : ndarray of shape (N, 3)
        Points of the canal's centre line, 5 mm apart.
    needles : tuple of NeedleTruth
        All that stand in the patient, the first being that of the fields above; a cannula alone counts.
    metal : tuple of Implant
        All else of metal, carbon or cement, inside the image or not.
    spec : PhantomSpec
    seed : int
    """

    tip_lps_mm: FloatArray
    axis_lps: FloatArray
    source_lps_mm: FloatArray
    metal_end_lps_mm: FloatArray
    cannula_end_lps_mm: FloatArray
    distance_from_source_mm: float
    distance_from_tip_mm: float
    distance_from_surface_mm: float
    shaft_clearance_mm: float
    bending_mm: float
    nearest_point_lps_mm: FloatArray
    centre_line_lps_mm: FloatArray
    needles: tuple[NeedleTruth, ...]
    metal: tuple[Implant, ...]
    spec: PhantomSpec
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """The content of truth.json: plain numbers, texts, lists and dictionaries."""
        spec = self.spec
        there = spec.needle.parts == "needle"  # without a needle there is nothing to measure from
        return {
            "schema": SCHEMA,
            "intended_use": INTENDED_USE,
            "software": {"name": "iort_planner", "version": __version__},
            "spec": spec.name,
            "spec_sha256": spec.sha256,
            "description": spec.description,
            "level": spec.level,
            "seed": self.seed,
            "needles": [needle.to_dict() for needle in self.needles],
            "metal": [
                {
                    "kind": implant.kind,
                    "material": implant.material,
                    "start_lps_mm": implant.ends_lps_mm[0].tolist(),
                    "end_lps_mm": implant.ends_lps_mm[1].tolist(),
                }
                for implant in self.metal
            ],
            "canal": {
                "distance_from_source_mm": self.distance_from_source_mm if there else None,
                "distance_from_tip_mm": self.distance_from_tip_mm if there else None,
                "distance_from_surface_mm": self.distance_from_surface_mm if there else None,
                "shaft_clearance_mm": self.shaft_clearance_mm if there else None,
                "nearest_point_lps_mm": self.nearest_point_lps_mm.tolist() if there else None,
                "width_mm": spec.canal.width_mm,
                "depth_mm": spec.canal.depth_mm,
                "exponent": spec.canal.exponent,
                "centre_line_lps_mm": self.centre_line_lps_mm.tolist(),
            },
            "applicator": dataclasses.asdict(spec.applicator),
            "grid": {"size_voxels": list(spec.grid.size_voxels), "spacing_mm": list(spec.grid.spacing_mm)},
            "hu": dataclasses.asdict(spec.hu),
        }


def make_truth(
    spec: PhantomSpec,
    seed: int,
    pose: NeedlePose,
    canal: CanalTube,
    grid: ImageGrid,
    others: tuple[NeedlePose, ...] = (),
) -> PhantomTruth:
    """Work out the truth of a phantom from its exact geometry; the grid says how much of the shaft is seen."""
    needles = tuple(
        NeedleTruth(pose=each, bending_mm=each.sagitta_mm(visible_shaft_mm(each, grid.contains)))
        for each in (pose, *others)
    )
    applicator, tip, axis = pose.applicator, pose.tip_lps_mm, pose.axis_lps
    source = applicator.source_lps_mm(tip, axis)
    along = np.arange(-60.0, 60.1, 5.0)
    radiolucent, whole = _profiles(pose)
    return PhantomTruth(
        tip_lps_mm=tip,
        axis_lps=axis,
        source_lps_mm=source,
        metal_end_lps_mm=applicator.metal_end_lps_mm(tip, axis),
        cannula_end_lps_mm=pose.points_lps_mm(pose.cannula_end_mm),
        distance_from_source_mm=float(canal.signed_distance_mm(source)),
        distance_from_tip_mm=float(canal.signed_distance_mm(tip)),
        distance_from_surface_mm=_least_distance_mm(pose, canal, radiolucent),
        shaft_clearance_mm=_least_distance_mm(pose, canal, whole),
        bending_mm=needles[0].bending_mm,
        nearest_point_lps_mm=canal.nearest_point_lps_mm(source),
        centre_line_lps_mm=canal.centre_line_lps_mm(along),
        needles=tuple(needle for needle in needles if needle.pose.build.parts != "none"),
        metal=implants_of(spec, canal.frame),
        spec=spec,
        seed=seed,
    )


def visible_shaft_mm(pose: NeedlePose, seen: Callable[[FloatArray], npt.NDArray[np.bool_]]) -> float:
    """Length of the shaft's centre line from the metal's distal end to its own end or where it is not ``seen`` any more.

    ``seen`` says of points (..., 3) whether the image shows them (...), such as `ImageGrid.contains`.
    """
    metal, end = pose.applicator.radiolucent_tip_length_mm, pose.applicator.length_mm
    for _ in range(5):  # each round narrows the place where it leaves to a hundredth
        along = np.linspace(metal, end, 101)
        outside = np.flatnonzero(~seen(pose.points_lps_mm(along)))
        if outside.size == 0:
            break
        if outside[0] == 0:
            return 0.0
        metal, end = float(along[outside[0] - 1]), float(along[outside[0]])
    return end - pose.applicator.radiolucent_tip_length_mm


def _profiles(pose: NeedlePose) -> tuple[list[_Piece], list[_Piece]]:
    """Outlines (along, radius) that make the surfaces by turning about the axis: radiolucent part; all of it."""
    a = pose.applicator
    r, metal, outer = a.outer_radius_mm, a.radiolucent_tip_length_mm, pose.cannula_radius_mm
    start, end = pose.cannula_end_mm, pose.cannula_end_mm + a.cannula_length_mm
    radiolucent = [_ball(r), _line((r, r), (metal, r))]
    shaft = [_ball(r), _line((r, r), (a.length_mm, r)), _line((a.length_mm, 0.0), (a.length_mm, r))]
    if not pose.build.cannula:
        return radiolucent, shaft
    whole = [
        *shaft,
        _line((start, r), (start, outer)),
        _line((start, outer), (end, outer)),
        _line((end, r), (end, outer)),
    ]
    return radiolucent, whole


def _ball(r: float) -> _Piece:
    def outline(u: FloatArray) -> tuple[FloatArray, FloatArray]:
        return r - r * np.cos(u * np.pi / 2), r * np.sin(u * np.pi / 2)

    return outline


def _line(start: tuple[float, float], end: tuple[float, float]) -> _Piece:
    def outline(u: FloatArray) -> tuple[FloatArray, FloatArray]:
        return start[0] + u * (end[0] - start[0]), start[1] + u * (end[1] - start[1])

    return outline


def _least_distance_mm(pose: NeedlePose, canal: CanalTube, pieces: list[_Piece]) -> float:
    """Least signed distance to the canal over a surface of revolution about the needle's centre line.

    For a surface clear of the canal that is the distance between the two; for one that enters it, minus the
    depth to which it does.
    """

    def distance(piece: _Piece) -> Callable[[FloatArray, FloatArray], FloatArray]:
        def function(u: FloatArray, angle: FloatArray) -> FloatArray:
            along, radius = piece(u)
            return canal.signed_distance_mm(pose.points_lps_mm(along, radius * np.cos(angle), radius * np.sin(angle)))

        return function

    return min(zoom_minimum(distance(piece), (0.0, 1.0), (0.0, 2.0 * np.pi)) for piece in pieces)


def zoom_minimum(
    function: Callable[[FloatArray, FloatArray], FloatArray],
    first: tuple[float, float],
    second: tuple[float, float],
    tolerance: float = 1e-7,
) -> float:
    """Least value of a function of two parameters over a rectangle, by samples and ever smaller rectangles.

    The value is stationary at a minimum inside, so an error of ``tolerance`` in a parameter is one of its square
    in the value; a minimum at an end of the first range is sampled itself. Each round keeps three steps either
    side of the best sample; the function must have no two separate
    minima closer than that to the global one (distances between a needle and a smooth tube do not).
    """
    low, high = np.array([first[0], second[0]]), np.array([first[1], second[1]])
    least, samples = np.inf, 41
    while np.max(high - low) > tolerance:
        u, v = np.meshgrid(np.linspace(low[0], high[0], samples), np.linspace(low[1], high[1], samples), indexing="ij")
        values = function(u, v)
        best = np.unravel_index(int(np.argmin(values)), values.shape)
        least = min(least, float(values[best]))
        step = (high - low) / (samples - 1)
        samples = 25
        centre = np.array([u[best], v[best]])
        # angles may leave their range (they wrap); the outline's parameter may not
        low, high = centre - 3.0 * step, centre + 3.0 * step
        low[0], high[0] = max(low[0], first[0]), min(high[0], first[1])
    return least
