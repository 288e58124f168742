"""Random phantoms with needles of every build, on CT and C-arm: a seed is a case, whatever the range it is run in.

Anatomy, pose, bend, overlap, breach and screws are those of `phantom_cases.draw_case`, drawn round a cannula of 5.4 to 6.5 mm.
On top of that, from streams of their own:

* the build: solid, air, probe and hollow tip (two of three with air, one with the probe) in a quarter each; walls of 0.3 to
  0.7 mm (up to 0.6 round a probe, which would not fit else), the probe's of 0.1 to 0.4; one needle in six without a cannula;
* steel of 6000 to 12000 HU; in half streaks below 0.3 of those without a correction; Gaussian, sharp and soft-tailed kernels
  (2 : 1 : 1); beam hardening in metal in three of four;
* a quarter on a C-arm, the rest on CT, three fifths of those with slices up to 1.25 mm, the others up to 3;
* in a quarter a second needle of a build of its own, through the other pedicle or at a neighbouring level; in half of those the
  finder is given a point within 5 mm of the first needle's tip;
* screws in half; in a third one or two devices (K-wire, clip, retractor, monitoring needle, trocar with or without cement);
* in half the applicator file states bore, content and the cannula's outside, in half it states none of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np

from iort_planner.applicator import Applicator, NeedleContent
from iort_planner.phantom import PhantomSpec, canal_of, grid_of, pose_of
from iort_planner.phantom.needle_model import NeedlePose
from iort_planner.phantom.spec_model import Kernel, NeedleSpec
from iort_planner.units import FloatArray
from tests.sweeps.case_devices import draw_devices
from tests.sweeps.phantom_cases import LEAST_CLEARANCE_MM, LEAST_GAP_MM, Case, Draw, draw_case, gap_mm, screw_line

Kind = Literal["CT fine", "CT thick", "C-arm"]
Build = Literal["solid", "air", "probe", "hollow tip"]
BUILDS: tuple[Build, ...] = get_args(Build)
KINDS: tuple[Kind, ...] = get_args(Kind)
FINE_MM = 1.25
STREAKED = 0.3  # of ScannerSpec.streak_amplitude
PROOF_SEEDS = range(9000, 10000)  # kept for the proof: nothing is tuned on them
_C_ARM_PART, _FINE_PART, _SECOND_PART, _HINT_PART, _DEVICE_PART = 1 / 4, 3 / 5, 1 / 4, 1 / 2, 1 / 3
_NO_SCREWS_PART = 1 / 6  # of all cases: screws in 3/5 of `draw_case` become a half
_KERNELS: tuple[Kernel, ...] = ("gaussian", "gaussian", "sharp", "soft_tailed")
HINT_MM = 5.0


@dataclass(frozen=True, kw_only=True)
class BuiltCase(Case):
    """A case with its build, scanner kind and what the finder is told.

    ``hint_lps_mm`` is None where none is given; ``applicator`` is what the finder gets, ``spec.applicator`` what is drawn.
    """

    kind: Kind
    build: Build
    applicator: Applicator
    hint_lps_mm: tuple[float, float, float] | None

    @property
    def needles(self) -> int:
        return 1 + len(self.spec.extra_needles)

    @property
    def streaked(self) -> bool:
        return self.kind == "C-arm" or self.spec.scanner.streak_amplitude >= STREAKED

    @property
    def groups(self) -> tuple[str, ...]:
        """Build, kind and streaks first; then every special group it belongs to."""
        special: dict[str, bool] = {
            "two needles": self.needles > 1,
            "two, hint": self.hint_lps_mm is not None,
            "two, no hint": self.needles > 1 and self.hint_lps_mm is None,
            "no cannula": not self.spec.needle.cannula,
            self.spec.scanner.kernel: self.spec.scanner.kernel != "gaussian",
            "stated": self.applicator.content is not NeedleContent.UNKNOWN,
        }
        ordinary = tuple(g for g in super().groups if g not in ("plain", "coarse"))
        named = (self.build, self.kind, "streaked" if self.streaked else "clean")
        devices = sorted({device.kind for device in self.spec.devices})
        return (*named, *ordinary, *(name for name, here in special.items() if here), *devices)

    def told(self) -> dict[str, Any]:
        return super().told() | {
            "kind": self.kind,
            "build": self.build,
            "steel_hu": self.spec.hu.steel,
            "cannula_outer_mm": self.spec.applicator.cannula_outer_diameter_mm,
            "stated": self.applicator.content.value,
            "extra_needles": [asdict(needle) for needle in self.spec.extra_needles],
            "devices": [asdict(device) for device in self.spec.devices],
            "hint_lps_mm": self.hint_lps_mm,
        }


def draw_built(
    base: PhantomSpec, seed: int, *, kind: Kind | None = None, spacing_mm: tuple[float, float] | None = None
) -> BuiltCase:
    """The case of a seed; ``kind`` puts it before another scanner, ``spacing_mm`` (in plane, across) fixes a CT's spacing."""
    scanner, build = Draw(seed, 10), Draw(seed, 11)
    c_arm, fine = scanner.happens(_C_ARM_PART), scanner.happens(_FINE_PART)
    pixel, thin, thick = (scanner.logarithmic(*r) for r in ((0.3, 1.0), (0.6, FINE_MM), (FINE_MM + 0.001, 3.0)))
    kind = kind or ("C-arm" if c_arm else "CT fine" if fine else "CT thick")
    spacing = spacing_mm or (pixel, thick if kind == "CT thick" else thin)
    outer = build.between(5.4, 6.5)
    wide = replace(base, applicator=replace(base.applicator, cannula_outer_diameter_mm=outer))
    case = draw_case(wide, seed, spacing)
    spec = with_metal_effects(case.spec, scanner)
    if scanner.happens(_NO_SCREWS_PART):
        spec = replace(spec, screws=(), rods=())
    named, keys = draw_build(build)
    keys["cannula"] = not build.happens(1 / 6) or case.overlap_mm > 0.0
    spec = replace(spec, needle=replace(spec.needle, **keys))
    spec, hint = _with_second(spec, Draw(seed, 12))
    devices = Draw(seed, 13)
    if devices.happens(_DEVICE_PART):
        spec = draw_devices(spec, devices, int(devices.rng.integers(1, 3)))
    known = {field.name: getattr(case, field.name) for field in fields(Case)}
    return BuiltCase(
        **(known | {"spec": spec}),
        kind=kind,
        build=named,
        applicator=_as_told(spec, stated=build.happens(1 / 2)),
        hint_lps_mm=hint,
    )


def with_metal_effects(spec: PhantomSpec, draw: Draw) -> PhantomSpec:
    """Steel's value, streaks, kernel and beam hardening."""
    streaks = (0.0, STREAKED - 0.01) if draw.happens(1 / 2) else (STREAKED, 1.0)
    return replace(
        spec,
        hu=replace(spec.hu, steel=round(draw.between(6000.0, 12000.0))),
        scanner=replace(
            spec.scanner,
            streak_amplitude=draw.between(*streaks),
            kernel=_KERNELS[int(draw.rng.integers(len(_KERNELS)))],
            metal_cupping=draw.between(0.0, 0.4) if draw.happens(3 / 4) else 0.0,
        ),
    )


def draw_build(draw: Draw) -> tuple[Build, dict[str, Any]]:
    """One of the builds, each as often, with its walls; keys of `NeedleSpec`."""
    build = BUILDS[int(draw.rng.integers(len(BUILDS)))]
    probe = build == "probe" or (build == "hollow tip" and draw.happens(1 / 3))
    content = "probe" if probe else "solid" if build == "solid" else "air"
    return build, {
        "content": content,
        "wall_mm": draw.between(0.3, 0.6 if probe else 0.7),
        "probe_wall_mm": draw.between(0.1, 0.4),
        "probe_end_mm": draw.between(0.5, 1.0),
        "hollow_tip": build == "hollow tip",
        "tip_wall_mm": draw.between(0.6, 1.0),
    }


def _as_told(spec: PhantomSpec, *, stated: bool) -> Applicator:
    """What the site's file says: all that is drawn, or nothing but lengths and the outer diameter."""
    if not stated:
        return replace(
            spec.applicator,
            cannula_outer_diameter_mm=None,
            inner_diameter_mm=None,
            content=NeedleContent.UNKNOWN,
        )
    needle, outer = spec.needle, spec.applicator.outer_diameter_mm
    bore = None if needle.content == "solid" else round(outer - 2.0 * needle.wall_mm, 3)
    return replace(spec.applicator, inner_diameter_mm=bore, content=NeedleContent(needle.content))


def _with_second(spec: PhantomSpec, draw: Draw) -> tuple[PhantomSpec, tuple[float, float, float] | None]:
    """In a quarter a second needle clear of canal and first one; screws and rods in its way go. And the hint."""
    wanted, hinted = draw.happens(_SECOND_PART), draw.happens(_HINT_PART)
    direction = draw.rng.standard_normal(3)
    away = draw.between(0.0, HINT_MM) * direction / np.linalg.norm(direction)
    second = _second(spec, draw) if wanted else None
    if second is None:
        return spec, None
    pose = pose_of(spec, second)
    screws = tuple(
        s
        for s in spec.screws
        if gap_mm(pose, screw_line(spec, s, 0.0, s.length_mm + s.head_length_mm), s.head_diameter_mm / 2.0)
        > LEAST_GAP_MM
    )
    rods = []
    for rod in spec.rods:
        ends = canal_of(spec).frame.to_lps([rod.start_mm, rod.end_mm])
        line = ends[0] + np.linspace(0.0, 1.0, 200)[:, None] * (ends[1] - ends[0])
        if screws == spec.screws and gap_mm(pose, line, rod.diameter_mm / 2.0) > LEAST_GAP_MM:
            rods.append(rod)
    spec = replace(spec, extra_needles=(second,), screws=screws, rods=tuple(rods))
    x, y, z = (round(float(v), 2) for v in pose_of(spec).tip_lps_mm + away)
    return spec, (x, y, z) if hinted else None


def _second(spec: PhantomSpec, draw: Draw) -> NeedleSpec | None:
    """Through the other pedicle of the level (half of them), or a pedicle of a neighbouring one; None if none fits."""
    canal, vertebra = spec.canal, spec.vertebra
    a, b = canal.width_mm / 2.0, canal.depth_mm / 2.0
    deep, half = vertebra.body_depth_mm, vertebra.body_width_mm / 2.0
    first, pitch = pose_of(spec), vertebra.body_height_mm + vertebra.disc_height_mm
    middle = a + max(vertebra.pedicle_width_mm / 2.0, 3.4)
    _, keys = draw_build(draw)
    keys["cannula"] = not draw.happens(1 / 6)
    bend = draw.between(0.0, 2.0) if draw.happens(1 / 3) else 0.0
    same_level = draw.happens(1 / 2)
    other_side = -float(np.sign(spec.needle.through_mm[0]))
    grid = grid_of(spec)
    for _ in range(3000):
        side, level = (other_side, 0) if same_level else (draw.side(), int(draw.side()))
        tip = draw.rng.uniform((-0.3 * half, -b - 0.85 * deep, -6.0), (0.65 * half, -b - 4.0, 6.0))
        through = np.array([middle, 0.0, 3.5]) + draw.rng.uniform(-1.2, 1.2, 3)
        shift = np.array([0.0, 0.0, level * pitch])
        tip, through = (np.array([side, 1.0, 1.0]) * point + shift for point in (tip, through))
        needle = NeedleSpec(
            tip_mm=tuple(np.round(tip, 2).tolist()),
            through_mm=tuple(np.round(through, 2).tolist()),
            cannula_end_mm=draw.between(8.0, 25.0),
            bend_mm=bend,
            bend_turn_deg=draw.between(0.0, 360.0),
            **keys,
        )
        pose = pose_of(spec, needle)
        if _clear(spec, pose, first) and bool(grid.contains(pose.tip_lps_mm)):
            return needle
    return None


def _clear(spec: PhantomSpec, pose: NeedlePose, other: NeedlePose) -> bool:
    """Whether a needle keeps clear of canal and another needle."""
    along = np.arange(0.0, pose.hub_mm, 0.5)
    line: FloatArray = pose.points_lps_mm(along)
    radius = np.where(along < pose.cannula_end_mm - 1.0, spec.applicator.outer_radius_mm, pose.cannula_radius_mm)
    if float(np.min(canal_of(spec).signed_distance_mm(line) - radius)) < LEAST_CLEARANCE_MM:
        return False
    return gap_mm(other, line, pose.cannula_radius_mm) > LEAST_GAP_MM
