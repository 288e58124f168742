"""Random phantoms for the sweep: a seed is a case, whatever the range it is run in.

What varies: the level (T3-L5, with the sizes of that level), spacing, turn and place of the grid, pose of the spine, its curve
(kyphosis, lordosis, to the side), lesion, needle through either pedicle, blur, noise, streaks. On top of that, each on its own:

* a third of the needles are bent, by 0 to 4 mm over the part that the image shows;
* in one case of eight the cannula stands 0 to 4 mm over the plastic tip;
* in one of six the lesion has taken the wall that is nearest to the source;
* in three of five there are 1 to 6 pedicle screws (one set in five of carbon), half of the sets with rods.

Needle and cannula stay `LEAST_CLEARANCE_MM` clear of the canal and `LEAST_GAP_MM` of other metal.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from iort_planner.phantom import Label, Phantom, PhantomSpec, canal_of, grid_of, pose_of
from iort_planner.phantom.levels import at_level, level_names
from iort_planner.phantom.needle_model import NeedlePose
from iort_planner.phantom.scan import spine_frame
from iort_planner.phantom.spec_model import Material, RodSpec, ScrewSpec
from iort_planner.phantom.truth import make_truth, visible_shaft_mm
from iort_planner.units import FloatArray

FIELD_MM = (108.0, 124.0, 88.0)  # the planned level and most of its neighbours
LEAST_CLEARANCE_MM = 0.3
LEAST_GAP_MM = 2.0
SOURCE_DISTANCE_MM = (5.0, 20.0)
COARSE_MM = 2.0
BENT_PART, OVERLAP_PART, BREACH_PART, SCREW_PART, CARBON_PART, ROD_PART = 1 / 3, 1 / 8, 1 / 6, 3 / 5, 1 / 5, 1 / 2
MOST_BENDING_MM = MOST_OVERLAP_MM = 4.0
HEAD_MM = (11.0, 13.0)  # diameter and length of a screw's head with its tulip: our own choice, of the usual size


@dataclass(frozen=True, kw_only=True)
class Case:
    """A specification and what is special in it.

    ``overlap_mm`` is how far the cannula stands over the plastic; ``over_source`` whether it reaches the source centre.
    """

    seed: int
    spec: PhantomSpec
    overlap_mm: float
    breach: bool
    bending_mm: float

    @property
    def over_source(self) -> bool:
        applicator = self.spec.applicator
        return self.overlap_mm > applicator.radiolucent_tip_length_mm - applicator.tip_to_source_mm

    @property
    def groups(self) -> tuple[str, ...]:
        """Every group that the case belongs to; ``plain`` if no other."""
        special = {
            "overlap": self.overlap_mm > 0.0,
            "breach": self.breach,
            "bent": self.bending_mm > 0.0,
            "instrumented": bool(self.spec.screws),
            "coarse": self.spec.grid.spacing_mm[2] > COARSE_MM,
        }
        return tuple(name for name, here in special.items() if here) or ("plain",)

    def told(self) -> dict[str, Any]:
        """What was varied, as plain values."""
        parts = ("grid", "spine", "canal", "vertebra", "lesion", "needle", "scanner")
        found: dict[str, Any] = {part: asdict(getattr(self.spec, part)) for part in parts}
        return found | {
            "level": self.spec.level,
            "screws": [asdict(screw) for screw in self.spec.screws],
            "rods": [asdict(rod) for rod in self.spec.rods],
            "overlap_mm": self.overlap_mm,
            "breach": self.breach,
            "bending_mm": self.bending_mm,
        }


class Draw:
    """Rounded random numbers of one stream: each part of a case has its own, so that parts do not shift each other."""

    def __init__(self, seed: int, stream: int) -> None:
        self.rng = np.random.default_rng([seed, 1122, stream])

    def between(self, low: float, high: float) -> float:
        return round(float(self.rng.uniform(low, high)), 2)

    def logarithmic(self, low: float, high: float) -> float:
        return round(float(np.exp(self.rng.uniform(np.log(low), np.log(high)))), 3)

    def three(self, *half: float) -> tuple[float, float, float]:
        a, b, c = (self.between(-h, h) for h in half)
        return (a, b, c)

    def happens(self, part: float) -> bool:
        return bool(self.rng.random() < part)

    def side(self) -> float:
        return -1.0 if self.happens(0.5) else 1.0


def draw_case(base: PhantomSpec, seed: int, spacing_mm: tuple[float, float] | None = None) -> Case:
    """The case of a seed; ``spacing_mm`` (in plane, across slices) fixes the spacing for a quick one."""
    draw = Draw(seed, 0)
    spec = scanned(anatomy(base, seed), Draw(seed, 1), spacing_mm)
    overlap = draw.between(0.05, MOST_OVERLAP_MM) if draw.happens(OVERLAP_PART) else 0.0
    bending = draw.between(0.05, MOST_BENDING_MM) if draw.happens(BENT_PART) else 0.0
    breach = draw.happens(BREACH_PART)
    spec = _with_needle(spec, Draw(seed, 2), overlap, bending)
    if breach:
        spec = _with_breach(spec, Draw(seed, 3))
    spec = with_screws(spec, Draw(seed, 4))
    return Case(seed=seed, spec=spec, overlap_mm=overlap, breach=breach, bending_mm=bending)


def anatomy(base: PhantomSpec, seed: int) -> PhantomSpec:
    """Level with its sizes (each within 10 % of that level's mean), pose, curve and lesion."""
    draw = Draw(seed, 5)
    names = level_names()
    spec = at_level(base, names[int(draw.rng.integers(len(names)))])

    def near(value: float, least: float = 0.0) -> float:
        return max(round(value * float(draw.rng.uniform(0.9, 1.1)), 2), least)

    width, depth = near(spec.canal.width_mm), near(spec.canal.depth_mm)
    cord = draw.between(0.9, 1.1)
    canal = replace(
        spec.canal,
        width_mm=width,
        depth_mm=depth,
        exponent=draw.between(2.0, 2.6),
        sac_width_mm=round(width - 3.0, 2),
        sac_depth_mm=round(depth - 3.0, 2),
        cord_width_mm=round(spec.canal.cord_width_mm * cord, 2),
        cord_depth_mm=round(spec.canal.cord_depth_mm * cord, 2),
    )
    v = spec.vertebra
    vertebra = replace(
        v,
        body_width_mm=near(v.body_width_mm),
        body_depth_mm=near(v.body_depth_mm),
        body_height_mm=near(v.body_height_mm),
        disc_height_mm=near(v.disc_height_mm, least=3.0),
        cortex_mm=draw.between(0.7, 1.4),
        pedicle_width_mm=near(v.pedicle_width_mm, least=5.0),
        pedicle_height_mm=near(v.pedicle_height_mm),
    )
    spine = replace(
        spec.spine,
        rotation_deg=draw.three(12.0, 8.0, 8.0),
        kyphosis_radius_mm=round(spec.spine.kyphosis_radius_mm * draw.between(1.0, 2.5), 1),
        bend_plane_deg=draw.between(-35.0, 35.0) if draw.happens(0.5) else 0.0,
    )
    half, deep, b = vertebra.body_width_mm / 2.0, vertebra.body_depth_mm, depth / 2.0
    lesion = replace(
        spec.lesion,
        centre_mm=(
            draw.between(-0.5 * half, 0.5 * half),
            draw.between(-b - 0.8 * deep, -b - 0.25 * deep),
            draw.between(-4.0, 4.0),
        ),
        radii_mm=(draw.between(3.0, 12.0), draw.between(3.0, 10.0), draw.between(3.0, 9.0)),
    )
    return replace(spec, name=f"sweep {seed}", spine=spine, canal=canal, vertebra=vertebra, lesion=lesion)


def scanned(spec: PhantomSpec, draw: Draw, spacing_mm: tuple[float, float] | None) -> PhantomSpec:
    """Grid and scanner, by the issue's ranges: spacing 0.3-1.0 by 0.6-3 mm, blur 0.5-0.8 mm, noise 15-60 HU, streaks 0-1."""
    pixel, thick = draw.logarithmic(0.3, 1.0), draw.logarithmic(0.6, 3.0)
    if spacing_mm is not None:
        pixel, thick = spacing_mm
    spacing = (pixel, pixel, thick)
    columns, rows, slices = (round(f / s) for f, s in zip(FIELD_MM, spacing, strict=True))
    oblique = draw.happens(0.6)
    turn = draw.three(20.0, 20.0, 20.0)
    return replace(
        spec,
        grid=replace(
            spec.grid,
            size_voxels=(columns, rows, slices),
            spacing_mm=spacing,
            centre_offset_mm=(draw.between(-6.0, 6.0), draw.between(-2.0, 6.0), draw.between(-6.0, 6.0)),
            rotation_deg=turn if oblique else (0.0, 0.0, 0.0),
        ),
        scanner=replace(
            spec.scanner,
            psf_sigma_mm=draw.between(0.5, 0.8),
            slice_sigma_mm=round(0.4 * thick, 3),
            noise_hu=draw.between(15.0, 60.0),
            streak_amplitude=draw.between(0.0, 1.0),
            clip_hu=3071.0,
        ),
    )


def _with_needle(spec: PhantomSpec, draw: Draw, overlap_mm: float, bending_mm: float) -> PhantomSpec:
    """A needle through a pedicle into the body, clear of the canal, by trial."""
    canal, vertebra = spec.canal, spec.vertebra
    a, b = canal.width_mm / 2.0, canal.depth_mm / 2.0
    deep, half = vertebra.body_depth_mm, vertebra.body_width_mm / 2.0
    # a pedicle narrower than the cannula is passed at its outer border, as in life
    middle = a + max(vertebra.pedicle_width_mm / 2.0, 3.4)
    tip_length = spec.applicator.radiolucent_tip_length_mm
    for _ in range(4000):
        side = draw.side()
        tip = draw.rng.uniform((-0.3 * half, -b - 0.85 * deep, -6.0), (0.65 * half, -b - 4.0, 6.0))
        through = np.array([middle, 0.0, 3.5]) + draw.rng.uniform(-1.2, 1.2, 3)
        tip[0], through[0] = side * tip[0], side * through[0]
        drawn = replace(
            spec,
            needle=replace(
                spec.needle,
                tip_mm=tuple(np.round(tip, 2).tolist()),
                through_mm=tuple(np.round(through, 2).tolist()),
                cannula_end_mm=round(tip_length - overlap_mm, 2) if overlap_mm else draw.between(8.0, 25.0),
                bend_turn_deg=draw.between(0.0, 360.0),
            ),
        )
        if bending_mm:
            drawn = _bent(drawn, bending_mm)
        if not _surely_unfit(drawn) and _clearance_mm(drawn) >= LEAST_CLEARANCE_MM:
            return drawn
    raise RuntimeError(f"{spec.name}: no needle fits")


def _bent(spec: PhantomSpec, bending_mm: float) -> PhantomSpec:
    """Bent so that the visible part bends by that much; the part that is seen hardly depends on the bend."""
    applicator = spec.applicator
    length = applicator.length_mm - applicator.radiolucent_tip_length_mm
    bend, grid = bending_mm, grid_of(spec)
    for _ in range(6):
        spec = replace(spec, needle=replace(spec.needle, bend_mm=bend))
        seen = visible_shaft_mm(pose_of(spec), grid.contains)
        bend = min(bending_mm * (length / max(seen, 20.0)) ** 2, length / 4.0)
    return replace(spec, needle=replace(spec.needle, bend_mm=round(bend, 3)))


def _surely_unfit(spec: PhantomSpec) -> bool:
    """Quickly, whether the source is too near or far, or the bare shaft already too near the canal."""
    pose, canal, applicator = pose_of(spec), canal_of(spec), spec.applicator
    source = float(canal.signed_distance_mm(applicator.source_lps_mm(pose.tip_lps_mm, pose.axis_lps)))
    along = np.arange(applicator.outer_radius_mm, applicator.length_mm, 0.5)
    least = float(np.min(canal.signed_distance_mm(pose.points_lps_mm(along))))
    low, high = SOURCE_DISTANCE_MM
    return not low <= source <= high or least - applicator.outer_radius_mm < LEAST_CLEARANCE_MM - 0.05


def _clearance_mm(spec: PhantomSpec) -> float:
    return make_truth(spec, 0, pose_of(spec), canal_of(spec), grid_of(spec)).shaft_clearance_mm


def _with_breach(spec: PhantomSpec, draw: Draw) -> PhantomSpec:
    """The lesion moved to the wall nearest to the source, into which it reaches."""
    canal, pose = canal_of(spec), pose_of(spec)
    source = spec.applicator.source_lps_mm(pose.tip_lps_mm, pose.axis_lps)
    wall = canal.nearest_point_lps_mm(source)
    outward = (source - wall) / np.linalg.norm(source - wall)
    radius = draw.between(4.0, 9.0)
    centre = spine_frame(spec).to_spine(wall + 0.5 * radius * outward)
    lesion = replace(
        spec.lesion,
        centre_mm=tuple(np.round(centre, 2).tolist()),
        radii_mm=(radius, draw.between(0.8, 1.0) * radius, draw.between(0.7, 1.0) * radius),
        breaches=True,
    )
    return replace(spec, lesion=lesion)


def with_screws(
    spec: PhantomSpec, draw: Draw, *, screw_part: float = SCREW_PART, rod_part: float = ROD_PART
) -> PhantomSpec:
    """Screws in other pedicles than the needle's, of its level and its neighbours', and rods through their heads."""
    if not draw.happens(screw_part):
        return spec
    wanted = int(draw.rng.integers(1, 7))
    needle_side = float(np.sign(spec.needle.through_mm[0]))
    places = [(level, side) for level in (-2, -1, 0, 1, 2) for side in (-1.0, 1.0) if (level, side) != (0, needle_side)]
    # near levels first: those that the image shows
    order = sorted(draw.rng.permutation(len(places)).tolist(), key=lambda n: abs(places[n][0]) == 2)
    material: Material = "carbon" if draw.happens(CARBON_PART) else "titanium"
    screws: dict[tuple[int, float], ScrewSpec] = {}
    for number in order:
        if len(screws) == wanted:
            break
        level, side = places[number]
        screw = _screw(spec, draw, level, side, material)
        if screw is not None:
            screws[places[number]] = screw
    rods: list[RodSpec] = []
    if draw.happens(rod_part):
        for one in (-1.0, 1.0):
            held = [screws[place] for place in sorted(screws) if place[1] == one]
            rod = _rod(spec, held) if len(held) > 1 else None
            rods += [rod] if rod is not None else []
    return replace(spec, screws=tuple(screws.values()), rods=tuple(rods))


def _screw(spec: PhantomSpec, draw: Draw, level: int, side: float, material: Material) -> ScrewSpec | None:
    """A screw through one pedicle that is clear of canal and needle; None if ten trials find none."""
    canal, vertebra = spec.canal, spec.vertebra
    a, b = canal.width_mm / 2.0, canal.depth_mm / 2.0
    middle = level * (vertebra.body_height_mm + vertebra.disc_height_mm)
    height = middle + (vertebra.body_height_mm - vertebra.pedicle_height_mm) / 2.0
    for _ in range(10):
        diameter = draw.between(4.5, 6.5)
        through = np.array([a + max(vertebra.pedicle_width_mm, diameter + 0.8) / 2.0, 0.0, height])
        through += draw.rng.uniform(-0.4, 0.4, 3)
        tip = np.array([draw.between(0.1, 0.5) * a, -b - draw.between(0.45, 0.75) * vertebra.body_depth_mm, height])
        tip[2] += draw.between(-3.0, 3.0)
        through[0], tip[0] = side * through[0], side * tip[0]
        outward = (through - tip) / np.linalg.norm(through - tip)
        length = round(float(np.linalg.norm(through - tip) + (b + draw.between(5.0, 9.0)) / outward[1]), 1)
        screw = ScrewSpec(
            tip_mm=tuple(np.round(tip, 2).tolist()),
            through_mm=tuple(np.round(through, 2).tolist()),
            diameter_mm=diameter,
            length_mm=length,
            head_diameter_mm=HEAD_MM[0],
            head_length_mm=HEAD_MM[1],
            material=material,
        )
        shaft, head = screw_line(spec, screw, 0.0, length), screw_line(spec, screw, length, length + HEAD_MM[1])
        canal_gap = float(np.min(canal_of(spec).signed_distance_mm(shaft))) - diameter / 2.0
        gap = min(gap_mm(pose_of(spec), shaft, diameter / 2.0), gap_mm(pose_of(spec), head, HEAD_MM[0] / 2.0))
        if canal_gap > 0.2 and gap > LEAST_GAP_MM:
            return screw
    return None


def screw_line(spec: PhantomSpec, screw: ScrewSpec, start_mm: float, end_mm: float) -> FloatArray:
    """Points of a screw's axis, straight in the patient."""
    frame = spine_frame(spec)
    tip, through = frame.to_lps(screw.tip_mm), frame.to_lps(screw.through_mm)
    axis = (through - tip) / np.linalg.norm(through - tip)
    result: FloatArray = tip + np.arange(start_mm, end_mm, 0.5)[:, None] * axis
    return result


def gap_mm(pose: NeedlePose, points: FloatArray, radius_mm: float) -> float:
    """From a round body of that radius about points to the needle with its cannula."""
    line = pose.points_lps_mm(np.arange(0.0, pose.hub_mm, 0.5))
    between = np.linalg.norm(points[:, None] - line, axis=-1)
    return float(between.min()) - radius_mm - pose.cannula_radius_mm


def _rod(spec: PhantomSpec, screws: list[ScrewSpec]) -> RodSpec | None:
    """A rod through the first and the last head, 6 mm longer at each end; None if the needle is in its way."""
    frame, radius = spine_frame(spec), 2.75
    ends = [screw_line(spec, s, s.length_mm + 7.0, s.length_mm + 7.4)[0] for s in (screws[0], screws[-1])]
    direction = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    ends = [ends[0] - 6.0 * direction, ends[1] + 6.0 * direction]
    points = ends[0] + np.linspace(0.0, 1.0, 200)[:, None] * (ends[1] - ends[0])
    if gap_mm(pose_of(spec), points, radius) < LEAST_GAP_MM:
        return None
    start, end = (tuple(np.round(frame.to_spine(point), 2).tolist()) for point in ends)
    return RodSpec(start_mm=start, end_mm=end, diameter_mm=2.0 * radius, material=screws[0].material)


def no_bone_at_the_nearest_wall(phantom: Phantom) -> bool:
    """Whether disc, foramen or lesion bounds the canal where it is nearest to the source."""
    truth, grid = phantom.truth, phantom.volume.grid
    outward = truth.source_lps_mm - truth.nearest_point_lps_mm
    outward /= np.linalg.norm(outward)
    behind = truth.nearest_point_lps_mm + np.arange(0.25, 2.6, 0.25)[:, None] * outward
    index = np.clip(np.rint(grid.lps_to_index(behind)).astype(int), 0, np.array(grid.size_voxels) - 1)
    i, j, k = index.T
    return not {Label.TARGET_VERTEBRA, Label.OTHER_VERTEBRA} & {int(v) for v in phantom.labels[k, j, i]}
