"""Other metal for the independent renderer: screws with threads, rods, wires, trocars, clips, rails, blades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from iort_planner.phantom import PhantomSpec, canal_of
from iort_planner.phantom.scan import spine_frame
from iort_planner.units import FloatArray
from tests.sweeps.independent_shapes import Body, Part, Stuff, ball, body, cone, thread

_GAP_MM = 1.5
SCREW_PART, DEVICE_PART, CANNULA_PART = 0.35, 0.35, 0.25
DEVICES = ("k-wire", "trocar", "clips", "rail", "retractor", "monitoring", "markers")
_TRIES = 30


@dataclass(frozen=True, kw_only=True, eq=False)
class Clutter:
    """Some other metal and what it is."""

    kind: str
    bodies: tuple[Body, ...]


def draw_clutter(
    rng: np.random.Generator, spec: PhantomSpec, needles: Sequence[Body], *, negative: bool
) -> tuple[Clutter, ...]:
    """Screws with rods, and one or two devices, each in a third of the cases; clear of the needles and of each other.

    A ``negative`` has screws and one to three devices; in a quarter a guide cannula stands alone, with air in it.
    """
    found: list[Clutter] = []
    if negative or rng.random() < SCREW_PART:
        screws = _screws(rng, spec, needles)
        if screws:
            found.append(Clutter(kind="screws", bodies=tuple(screws)))
    kinds: list[str] = []
    if negative or rng.random() < DEVICE_PART:
        count = int(rng.integers(1, 4)) if negative else int(rng.integers(1, 3))
        kinds = [str(kind) for kind in rng.choice(DEVICES, count, replace=False)]
    if negative and rng.random() < CANNULA_PART:
        kinds = ["cannula-alone", *kinds]
    for kind in kinds:
        for _ in range(_TRIES):
            bodies = _device(rng, spec, kind)
            others = [*needles, *(b for clutter in found for b in clutter.bodies)]
            if all(clear(one, others) and _outside_canal(spec, one) for one in bodies):
                found.append(Clutter(kind=kind, bodies=tuple(bodies)))
                break
    return tuple(found)


def _line(one: Body) -> FloatArray:
    low, high = one.span_mm
    return one.points_lps_mm(np.arange(low, high + 0.5, 1.0))


def clear(one: Body, others: Sequence[Body], gap_mm: float = _GAP_MM) -> bool:
    """Whether a body keeps that far from others, taken as capsules."""
    line = _line(one)
    for other in others:
        between = float(np.linalg.norm(line[:, None] - _line(other), axis=-1).min())
        if between < one.reach_mm + other.reach_mm + gap_mm:
            return False
    return True


def _outside_canal(spec: PhantomSpec, one: Body) -> bool:
    return float(np.min(canal_of(spec).signed_distance_mm(_line(one)))) > one.reach_mm + 0.2


def _through_pedicle(rng: np.random.Generator, spec: PhantomSpec, radius_mm: float) -> FloatArray:
    """Tip in a body of one of three levels and a point of its pedicle, LPS, shape (2, 3)."""
    a, b, v = spec.canal.width_mm / 2.0, spec.canal.depth_mm / 2.0, spec.vertebra
    side, level = float(rng.choice([-1.0, 1.0])), int(rng.integers(-1, 2))
    height = level * (v.body_height_mm + v.disc_height_mm)
    tip = (
        side * a * rng.uniform(0.0, 1.0),
        -b - v.body_depth_mm * rng.uniform(0.2, 0.8),
        height + rng.uniform(-4.0, 4.0),
    )
    gate = (side * (a + max(v.pedicle_width_mm / 2.0, radius_mm + 0.5)), 0.0, height + 3.0 + rng.uniform(-1.5, 1.5))
    return spine_frame(spec).to_lps(np.array([tip, gate]))


def _device(rng: np.random.Generator, spec: PhantomSpec, kind: str) -> list[Body]:
    """One device of a kind in DEVICES, or a guide cannula alone, somewhere it may be."""
    frame, back, turn = spine_frame(spec), spec.body.back_mm, float(rng.uniform(0.0, 2.0 * np.pi))

    def at(l_mm: float, p_mm: float, s_mm: float) -> FloatArray:
        return frame.to_lps(np.array([l_mm, p_mm, s_mm]))

    if kind == "k-wire":
        r = float(rng.uniform(0.6, 1.25))
        wire = Part(stuff=Stuff.STEEL, low_mm=0.0, high_mm=float(rng.uniform(90.0, 150.0)), outer_mm=cone(4.0, r))
        tip, gate = _through_pedicle(rng, spec, r)
        return [body([wire], tip, gate, r)]
    if kind == "trocar":
        r, wall, long = float(rng.uniform(1.5, 2.1)), float(rng.uniform(0.2, 0.4)), float(rng.uniform(100.0, 130.0))
        filling = Stuff.CEMENT if rng.random() < 0.5 else Stuff.VOID
        parts = [
            Part(stuff=Stuff.STEEL, low_mm=0.0, high_mm=long, outer_mm=r),
            Part(stuff=filling, low_mm=-0.01, high_mm=long, outer_mm=r - wall),
        ]
        tip, gate = _through_pedicle(rng, spec, r)
        if filling is Stuff.CEMENT:
            blob = float(rng.uniform(3.0, 7.0))
            parts.insert(0, Part(stuff=filling, low_mm=-blob, high_mm=blob, outer_mm=ball(blob)))
            return [body(parts[:1], tip, gate, blob), body(parts[1:], tip, gate, r)]
        return [body(parts, tip, gate, r)]
    if kind == "cannula-alone":
        r = float(rng.uniform(2.7, 3.25))
        bore, long = float(rng.uniform(2.2, 2.3)), float(rng.uniform(60.0, 90.0))
        tube = Part(stuff=Stuff.STEEL, low_mm=0.0, high_mm=long, outer_mm=r, inner_mm=bore)
        air = Part(stuff=Stuff.VOID, low_mm=0.0, high_mm=long, outer_mm=bore)
        tip, gate = _through_pedicle(rng, spec, r)
        return [body([air, tube], tip, gate, r)]
    if kind == "clips":
        middle = at(*rng.uniform((-35.0, 5.0, -30.0), (35.0, back - 5.0, 30.0)))
        result = []
        for _ in range(int(rng.integers(1, 5))):
            start = middle + rng.uniform(-8.0, 8.0, 3)
            length, stuff = float(rng.uniform(4.0, 11.0)), Stuff.TITANIUM if rng.random() < 0.6 else Stuff.STEEL
            leg = Part(stuff=stuff, low_mm=0.0, high_mm=length, outer_mm=0.0, half_mm=(0.4, 0.6))
            for apart in (-0.6, 0.6):
                result.append(body([replace(leg, centre_mm=(apart, 0.0))], start, start + rng.standard_normal(3), 1.5))
        return result
    if kind == "rail":  # a bar of a retractor's frame over the skin
        height = back + float(rng.uniform(8.0, 20.0))
        ends = [at(side * 48.0, height, rng.uniform(-30.0, 30.0)) for side in (-1.0, 1.0)]
        if rng.random() < 0.5:
            ends = [at(rng.uniform(-35.0, 35.0), height, side * 45.0) for side in (-1.0, 1.0)]
        half = (float(rng.uniform(2.0, 5.0)), float(rng.uniform(2.0, 4.0)))
        bar = Part(
            stuff=Stuff.STEEL, low_mm=0.0, high_mm=float(np.linalg.norm(ends[1] - ends[0])), outer_mm=0.0, half_mm=half
        )
        return [body([bar], ends[0], ends[1], float(np.hypot(*half)), turn)]
    if kind == "retractor":
        half, side = (float(rng.uniform(5.0, 10.0)), float(rng.uniform(0.4, 0.8))), float(rng.choice([-1.0, 1.0]))
        start = at(side * rng.uniform(8.0, 30.0), rng.uniform(15.0, 28.0), rng.uniform(-15.0, 15.0))
        end = at(side * rng.uniform(10.0, 40.0), back + 30.0, rng.uniform(-15.0, 15.0))
        blade = Part(stuff=Stuff.STEEL, low_mm=0.0, high_mm=float(rng.uniform(40.0, 70.0)), outer_mm=0.0, half_mm=half)
        return [body([blade], start, end, half[0], turn)]
    if kind == "monitoring":
        result = []
        for _ in range(int(rng.integers(1, 5))):
            end = at(rng.uniform(-45.0, 45.0), back + 4.0, rng.uniform(-35.0, 35.0))
            start = end + frame.rotation @ np.array([rng.uniform(-8.0, 8.0), -15.0, rng.uniform(-8.0, 8.0)])
            r = float(rng.uniform(0.2, 0.35))
            thin = Part(stuff=Stuff.STEEL, low_mm=0.0, high_mm=float(rng.uniform(13.0, 25.0)), outer_mm=r)
            result.append(body([thin], start, end, r))
        return result
    result = []
    for _ in range(int(rng.integers(1, 5))):  # markers on the skin
        r = float(rng.uniform(0.75, 2.0))
        place = at(rng.uniform(-45.0, 45.0), back + r, rng.uniform(-35.0, 35.0))
        result.append(
            body([Part(stuff=Stuff.STEEL, low_mm=-r, high_mm=r, outer_mm=ball(r))], place, place + np.eye(3)[1], r)
        )
    return result


def _screws(rng: np.random.Generator, spec: PhantomSpec, needles: Sequence[Body]) -> list[Body]:
    """Two to six pedicle screws at levels -1, 0 and 1, with tulips, and rods through those of one side."""
    frame, canal, v = spine_frame(spec), canal_of(spec), spec.vertebra
    a, b = spec.canal.width_mm / 2.0, spec.canal.depth_mm / 2.0
    pitch = v.body_height_mm + v.disc_height_mm
    places = [(level, side) for level in (-1, 0, 1) for side in (-1.0, 1.0)]
    wanted = int(rng.integers(2, 7))
    found: list[Body] = []
    heads: dict[float, list[FloatArray]] = {-1.0: [], 1.0: []}
    for n in rng.permutation(len(places))[:wanted]:
        level, side = places[int(n)]
        for _ in range(12):
            crest = float(rng.uniform(2.2, 3.3))
            gate = np.array([side * (a + max(v.pedicle_width_mm / 2.0, crest + 0.5)), 0.0, level * pitch + 3.0])
            tip = np.array([side * a * rng.uniform(0.0, 0.5), -b - v.body_depth_mm * rng.uniform(0.4, 0.75), 0.0])
            tip[2] = level * pitch + rng.uniform(-3.0, 3.0)
            ends = frame.to_lps(np.stack([tip, gate + rng.uniform(-0.5, 0.5, 3)]))
            length = float(np.linalg.norm(ends[1] - ends[0]) + b + rng.uniform(5.0, 9.0))
            tulip = float(rng.uniform(5.0, 6.5))
            parts = [
                Part(
                    stuff=Stuff.TITANIUM,
                    low_mm=0.0,
                    high_mm=length,
                    outer_mm=thread(crest * float(rng.uniform(0.65, 0.8)), crest, float(rng.uniform(1.8, 3.0)), 5.0),
                ),
                Part(stuff=Stuff.TITANIUM, low_mm=length, high_mm=length + 4.0, outer_mm=tulip),
                Part(stuff=Stuff.TITANIUM, low_mm=length + 4.0, high_mm=length + 14.0, outer_mm=tulip, slot_mm=5.7),
            ]
            screw = body(parts, ends[0], ends[1], tulip)
            shaft = body(parts[:1], ends[0], ends[1], crest)
            head = body(parts[1:], ends[0], ends[1], tulip)
            if float(np.min(canal.signed_distance_mm(_line(shaft)))) < crest + 0.1:
                continue
            if clear(shaft, needles) and clear(head, needles) and clear(head, found, -1.0):
                found.append(screw)
                heads[side].append(screw.points_lps_mm(np.array([length + 7.0]))[0])
                break
    if rng.random() < 0.6:
        for side in (-1.0, 1.0):
            if len(heads[side]) < 2:
                continue
            at = np.array(sorted(heads[side], key=lambda p: float(p[2])))
            along = (at[-1] - at[0]) / np.linalg.norm(at[-1] - at[0])
            start, end = at[0] - 7.0 * along, at[-1] + 7.0 * along
            part = Part(stuff=Stuff.TITANIUM, low_mm=0.0, high_mm=float(np.linalg.norm(end - start)), outer_mm=2.75)
            rod = body([part], start, end, 2.75)
            if clear(rod, needles):
                found.append(rod)
    return found
