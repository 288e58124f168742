"""Other metal for the independent renderer: screws with threads, rods, wires, trocars, clips, rails, blades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iort_planner.phantom import PhantomSpec, canal_of
from iort_planner.phantom.scan import spine_frame
from iort_planner.units import FloatArray
from tests.sweeps.independent_shapes import Body, Part, Stuff, body, thread

_GAP_MM = 1.5
SCREW_PART = 0.35


@dataclass(frozen=True, kw_only=True, eq=False)
class Clutter:
    """Some other metal and what it is."""

    kind: str
    bodies: tuple[Body, ...]


def draw_clutter(
    rng: np.random.Generator, spec: PhantomSpec, needles: Sequence[Body], seed: int, *, negative: bool
) -> tuple[Clutter, ...]:
    """Screws with rods in a third of the cases, in all that are ``negative``; clear of the needles."""
    found: list[Clutter] = []
    if negative or rng.random() < SCREW_PART:
        screws = _screws(rng, spec, needles)
        if screws:
            found.append(Clutter(kind="screws", bodies=tuple(screws)))
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
