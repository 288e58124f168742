"""Random cases for the independent renderer: a seed is a case. What is drawn stands in each function; all ranges are our own.

Only the anatomy without metal, its canal and its frame are the project's; placing, builds, scanners and truth are not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from iort_planner.applicator import Applicator, NeedleContent
from iort_planner.imaging.volume import ImageGrid, Volume
from iort_planner.phantom import PhantomSpec, canal_of, find_spec, grid_of, read_spec
from iort_planner.phantom.levels import at_level, level_names
from iort_planner.phantom.scan import spine_frame
from iort_planner.units import FloatArray
from tests.sweeps.independent_metal import Clutter, clear, draw_clutter
from tests.sweeps.independent_scanner import Scanner, draw_scanner, scan
from tests.sweeps.independent_shapes import HUB_MM, PROBE_RADIUS_MM, Body, Build, Stuff, needle
from tests.sweeps.scoring import Truth

CONTENTS = ("solid", "air", "probe")
LEAST_CLEARANCE_MM = 0.3
_SOURCE_MM = (5.0, 20.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class IndependentCase:
    """A case: ``spec`` is the anatomy and grid, ``needles`` the first one and others, ``applicator`` what the finder gets."""

    seed: int
    spec: PhantomSpec
    scanner: Scanner
    applicator: Applicator
    builds: tuple[Build, ...]
    needles: tuple[Body, ...]
    clutter: tuple[Clutter, ...]
    bending_mm: float
    hint_lps_mm: FloatArray | None

    @property
    def groups(self) -> tuple[str, ...]:
        scanner = self.scanner
        found = [scanner.kind, "clean" if scanner.beam.strength == 0.0 else "streaked"]
        if self.builds:
            build = self.builds[0]
            special = {
                "hollow-tip": build.hollow_tip_mm > 0.0,
                "no-cannula": build.cannula_mm is None,
                "overlap": build.cannula_mm is not None and build.cannula_mm < build.tip_mm,
                "two-needles": len(self.builds) > 1,
                "bent": self.bending_mm > 0.0,
            }
            found = [build.content, *found, *(name for name, here in special.items() if here)]
        names = sorted({clutter.kind for clutter in self.clutter})
        return (*found, *names)

    @property
    def bodies(self) -> tuple[Body, ...]:
        """Everything in the order of painting: the first needle last."""
        return (*(b for clutter in self.clutter for b in clutter.bodies), *self.needles[::-1])

    def told(self) -> dict[str, Any]:
        """What was drawn, as plain values."""
        return {
            "level": self.spec.level,
            "grid": asdict(self.spec.grid),
            "scanner": asdict(self.scanner),
            "builds": [asdict(build) for build in self.builds],
            "clutter": [clutter.kind for clutter in self.clutter],
            "bending_mm": self.bending_mm,
            "tip_lps_mm": [body.origin_lps_mm.round(2).tolist() for body in self.needles],
        }


@cache
def base_spec() -> PhantomSpec:
    """What the anatomy is varied from."""
    return read_spec(find_spec("reference"))


def draw(seed: int, *, negative: bool = False, kind: str | None = None) -> IndependentCase:
    """The case of a seed; a ``negative`` has no needle but other metal."""
    rng = np.random.default_rng([seed, 40])
    spec = _anatomy(np.random.default_rng([seed, 41]), seed)
    scanner, spec = draw_scanner(np.random.default_rng([seed, 42]), spec, kind)
    contents = [str(c) for c in rng.choice(CONTENTS, 2, p=(0.3, 0.4, 0.3))]
    count = 0 if negative else 2 if rng.random() < 1 / 6 else 1
    base = _sizes(rng)
    builds = [_contained(rng, base, content) for content in contents][:count]
    bend_mm = float(rng.uniform(0.3, 3.0)) if rng.random() < 0.15 else 0.0
    placed: list[Body] = []
    side = 1.0 if rng.random() < 0.5 else -1.0
    for n, build in enumerate(builds):
        body = _placed(rng, spec, build, -side if n else side, bend_mm if n == 0 else 0.0, placed)
        if body is None:
            builds = builds[:n]
            break
        if build.hub is not None and _hub_in_body(spec, body, build):
            builds[n] = replace(build, hub=None)
            body = replace(needle(builds[n], body.origin_lps_mm, body.origin_lps_mm + body.axis_lps), **_frame(body))
        placed.append(body)
    if not placed and not negative:
        raise RuntimeError(f"seed {seed}: no needle fits")
    grid = grid_of(spec)
    clutter = draw_clutter(np.random.default_rng([seed, 43]), spec, placed, negative=negative)
    hint = None
    if len(builds) > 1 and rng.random() < 0.5:
        direction = rng.standard_normal(3)
        hint = placed[0].origin_lps_mm + rng.uniform(0.0, 5.0) * direction / np.linalg.norm(direction)
    return IndependentCase(
        seed=seed,
        spec=spec,
        scanner=scanner,
        applicator=_stated(rng, base if not builds else builds[0], seed),
        builds=tuple(builds),
        needles=tuple(placed),
        clutter=clutter,
        bending_mm=_bending_mm(placed[0], builds[0], grid) if placed and bend_mm else 0.0,
        hint_lps_mm=hint,
    )


def _anatomy(rng: np.random.Generator, seed: int) -> PhantomSpec:
    """A level with its sizes within 12 %, turned by up to 12 degrees, with a lesion anywhere in the body."""
    names = level_names()
    spec = at_level(base_spec(), names[int(rng.integers(len(names)))])
    part = rng.uniform(0.88, 1.12, 8)
    c, v = spec.canal, spec.vertebra
    width, depth = max(12.5, c.width_mm * part[0]), max(11.0, c.depth_mm * part[1])
    canal = replace(
        c,
        width_mm=width,
        depth_mm=depth,
        exponent=float(rng.uniform(2.0, 2.8)),
        sac_width_mm=width - 3.0,
        sac_depth_mm=depth - 3.0,
        cord_width_mm=0.9 * c.cord_width_mm,
        cord_depth_mm=0.9 * c.cord_depth_mm,
    )
    vertebra = replace(
        v,
        body_width_mm=v.body_width_mm * part[2],
        body_depth_mm=v.body_depth_mm * part[3],
        body_height_mm=v.body_height_mm * part[4],
        cortex_mm=float(rng.uniform(0.6, 1.5)),
        pedicle_width_mm=max(5.0, v.pedicle_width_mm * part[5]),
        pedicle_height_mm=v.pedicle_height_mm * part[6],
    )
    lesion = replace(
        spec.lesion,
        centre_mm=tuple((rng.uniform(-1, 1, 3) * (8.0, 6.0, 4.0) + (0.0, -depth / 2.0 - 16.0, 0.0)).tolist()),
        radii_mm=tuple(rng.uniform(3.0, 11.0, 3).tolist()),
    )
    turn = tuple(rng.uniform(-12.0, 12.0, 3).tolist())
    spine = replace(spec.spine, rotation_deg=turn, origin_lps_mm=tuple(rng.uniform(-60.0, 60.0, 3).tolist()))
    bone = replace(spec.hu, spongiosa=float(rng.uniform(80.0, 320.0)), cortex=float(rng.uniform(700.0, 1300.0)))
    return replace(
        spec, name=f"independent {seed}", spine=spine, canal=canal, vertebra=vertebra, lesion=lesion, hu=bone
    )


def _sizes(rng: np.random.Generator) -> Build:
    """Lengths of the applicator and its cannula."""
    source = float(rng.uniform(2.0, 3.2))
    tip = float(rng.uniform(max(3.3, source + 0.4), 7.0))
    inner = float(rng.uniform(4.4, 4.6))
    length = round(float(rng.uniform(90.0, 115.0)), 1)
    # the needle goes in up to its hub at most: the cannula with its own hub has to find room before it
    cannula_length = round(min(float(rng.uniform(60.0, 90.0)), length - HUB_MM[1] - 13.0), 1)
    furthest = min(tip + 30.0, length - HUB_MM[1] - cannula_length)
    place = rng.random()
    over = float(rng.uniform(0.2 * tip, tip) if place < 0.2 else rng.uniform(tip, furthest))
    return Build(
        content="solid",
        radius_mm=2.2,
        tip_mm=round(tip, 2),
        source_mm=round(source, 2),
        length_mm=length,
        wall_mm=0.5,
        hollow_tip_mm=0.0,
        probe_wall_mm=0.2,
        probe_aside_mm=(0.0, 0.0),
        dense_mm=0.5,
        cannula_mm=None if place > 0.85 else round(over, 2),
        cannula_inner_mm=round(inner, 2),
        cannula_outer_mm=round(float(rng.uniform(5.4, 6.5)), 2),
        cannula_length_mm=cannula_length,
        hub=(None, Stuff.PLASTIC, Stuff.STEEL)[int(rng.choice(3, p=(0.5, 0.3, 0.2)))],
    )


def _contained(rng: np.random.Generator, base: Build, content: str) -> Build:
    """Walls, bore of the tip and place of the probe of a build."""
    wall = float(rng.uniform(0.3, 0.55 if content == "probe" else 0.7))
    gap = max(base.radius_mm - wall - PROBE_RADIUS_MM, 0.0)
    aside, angle = gap * float(rng.random()), float(rng.uniform(0.0, 2.0 * np.pi))
    hollow = float(rng.uniform(0.8, 1.7)) if rng.random() < 0.25 else 0.0
    return replace(
        base,
        content=content,
        wall_mm=round(wall, 3),
        hollow_tip_mm=max(hollow, PROBE_RADIUS_MM) if content == "probe" and hollow else round(hollow, 2),
        probe_wall_mm=round(float(rng.uniform(0.1, 0.4)), 3),
        probe_aside_mm=(round(aside * np.cos(angle), 3), round(aside * np.sin(angle), 3)),
        dense_mm=round(float(rng.uniform(0.3, 0.8)), 2),
    )


def _stated(rng: np.random.Generator, build: Build, seed: int) -> Applicator:
    """What the finder is told: most often neither bore nor content nor the cannula's outside."""
    told, outer = rng.random() < 0.2, rng.random() < 0.3
    return Applicator(
        name=f"independent {seed}",
        outer_diameter_mm=2.0 * build.radius_mm,
        radiolucent_tip_length_mm=build.tip_mm,
        tip_to_source_mm=build.source_mm,
        length_mm=build.length_mm,
        cannula_inner_diameter_mm=build.cannula_inner_mm,
        cannula_outer_diameter_mm=build.cannula_outer_mm if outer else None,
        cannula_length_mm=build.cannula_length_mm,
        inner_diameter_mm=round(2.0 * (build.radius_mm - build.wall_mm), 3)
        if told and build.content != "solid"
        else None,
        content=NeedleContent(build.content) if told else NeedleContent.UNKNOWN,
        origin="drawn at random",
        clinical=False,
    )


def _placed(
    rng: np.random.Generator, spec: PhantomSpec, build: Build, side: float, bend_mm: float, others: list[Body]
) -> Body | None:
    """Through the pedicle of a side into the body, clear of the canal and of others; None if no trial is."""
    frame, canal, grid = spine_frame(spec), canal_of(spec), grid_of(spec)
    a, b = spec.canal.width_mm / 2.0, spec.canal.depth_mm / 2.0
    v = spec.vertebra
    radius = build.radius_mm if build.cannula_mm is None else build.cannula_outer_mm / 2.0
    high = (v.body_height_mm - v.pedicle_height_mm) / 2.0
    for _ in range(600):
        tip = np.array(
            [
                side * v.body_width_mm / 2.0 * rng.uniform(-0.25, 0.75),
                -b - rng.uniform(4.0, 0.85 * v.body_depth_mm),
                v.body_height_mm * rng.uniform(-0.3, 0.3),
            ]
        )
        gate = np.array([side * (a + max(v.pedicle_width_mm / 2.0, radius + 0.5)), 0.0, high])
        gate += rng.uniform(-1.5, 1.5, 3)
        ends = frame.to_lps(np.stack([tip, gate]))
        turn = float(rng.uniform(0.0, 2.0 * np.pi))
        body = needle(build, ends[0], ends[1], turn)
        if bend_mm:
            body = replace(body, bow_per_mm=4.0 * bend_mm / 80.0**2, bow_from_mm=build.tip_mm)
        source = float(canal.signed_distance_mm(ends[0] + build.source_mm * body.axis_lps))
        if not _SOURCE_MM[0] <= source <= _SOURCE_MM[1] or not grid.contains(ends[0]):
            continue
        line = body.points_lps_mm(np.arange(0.0, build.length_mm, 1.0))
        if float(np.min(canal.signed_distance_mm(line))) < radius + LEAST_CLEARANCE_MM:
            continue
        if (
            grid.room_mm(ends[0]) > 6.0
            and clear(body, others, 1.0)
            and clearance_mm(spec, body, build) >= LEAST_CLEARANCE_MM
        ):
            return body
    return None


def _frame(body: Body) -> dict[str, Any]:
    """What a body that is built anew keeps of another."""
    return {key: getattr(body, key) for key in ("axis_lps", "across_lps", "bow_per_mm", "bow_from_mm")}


def _hub_in_body(spec: PhantomSpec, body: Body, build: Build) -> bool:
    """Whether the nearer hub would stand in the skin, as none does."""
    start = build.length_mm if build.cannula_mm is None else build.cannula_mm + build.cannula_length_mm
    at = spine_frame(spec).to_spine(body.points_lps_mm(np.array([start])))[0]
    return bool(at[1] < spec.body.back_mm + 4.0)


def clearance_mm(spec: PhantomSpec, body: Body, build: Build) -> float:
    """Least distance of needle and cannula's outer surface to the canal's wall, from points 0.3 mm by 12 degrees apart."""
    canal = canal_of(spec)
    r = build.radius_mm
    rings = [(u, float(np.sqrt(max(r * r - max(r - u, 0.0) ** 2, 0.0)))) for u in np.arange(0.0, 70.0, 0.3)]
    if build.cannula_mm is not None:
        rings += [(u, build.cannula_outer_mm / 2.0) for u in np.arange(build.cannula_mm, 70.0, 0.3)]
    u, radius = np.array(rings).T
    angle = np.arange(30) * 2.0 * np.pi / 30
    x, y = radius[:, None] * np.cos(angle), radius[:, None] * np.sin(angle)
    centre = body.points_lps_mm(u)[:, None]
    points = centre + x[..., None] * body.across_lps + y[..., None] * np.cross(body.axis_lps, body.across_lps)
    near = np.abs(canal.frame.to_spine(points)[..., 1]) < 40.0
    return float(np.min(canal.signed_distance_mm(points[near])))


def _bending_mm(body: Body, build: Build, grid: ImageGrid) -> float:
    """Sagitta of the part of the metal that the image shows."""
    u = np.arange(build.tip_mm, build.length_mm, 0.25)
    seen = u[grid.contains(body.points_lps_mm(u))]
    return abs(body.bow_per_mm) * float(seen[-1] - seen[0]) ** 2 / 4.0


def truth_of(case: IndependentCase) -> Truth:
    """What is true of the first needle."""
    body, build, canal = case.needles[0], case.builds[0], canal_of(case.spec)
    source = body.origin_lps_mm + build.source_mm * body.axis_lps
    return Truth(
        tip_lps_mm=body.origin_lps_mm,
        axis_lps=body.axis_lps,
        source_lps_mm=source,
        distance_from_source_mm=float(canal.signed_distance_mm(source)),
        shaft_clearance_mm=clearance_mm(case.spec, body, build),
        bending_mm=case.bending_mm,
        over_source=build.cannula_mm is not None and build.cannula_mm < build.source_mm,
    )


def scanned(case: IndependentCase) -> Volume:
    """The scan of a case."""
    return scan(case.spec, case.scanner, case.bodies, case.seed)
