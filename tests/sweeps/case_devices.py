"""Devices drawn at random, clear of needles, canal and each other; also where there is no needle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np

from iort_planner.phantom import PhantomSpec, canal_of, pose_of
from iort_planner.phantom.hardware import implants_of
from iort_planner.phantom.spec_model import DeviceKind, DeviceSpec
from iort_planner.units import FloatArray
from tests.sweeps.phantom_cases import LEAST_GAP_MM, Draw

DEVICES: tuple[DeviceKind, ...] = get_args(DeviceKind)
_TRIALS = 30
_CANAL_GAP_MM, _DEVICE_GAP_MM = 0.2, 0.5


def draw_devices(spec: PhantomSpec, draw: Draw, count: int, kinds: Sequence[DeviceKind] = DEVICES) -> PhantomSpec:
    """The specification with so many more devices, or fewer where one finds no place."""
    for _ in range(count):
        kind = kinds[int(draw.rng.integers(len(kinds)))]
        for _ in range(_TRIALS):
            device = _device(spec, draw, kind)
            if _fits(spec, device):
                spec = replace(spec, devices=(*spec.devices, device))
                break
    return spec


def _device(spec: PhantomSpec, draw: Draw, kind: DeviceKind) -> DeviceSpec:
    b, back, side = spec.canal.depth_mm / 2.0, spec.body.back_mm, draw.side()
    if kind in ("k_wire", "trocar"):
        start, end = _through_a_pedicle(spec, draw, side)
        if kind == "k_wire":
            return DeviceSpec(kind=kind, start_mm=start, end_mm=end, diameter_mm=draw.between(1.2, 3.0))
        return DeviceSpec(
            kind=kind,
            start_mm=start,
            end_mm=end,
            diameter_mm=draw.between(2.4, 4.2),
            wall_mm=draw.between(0.3, 0.5) if draw.happens(1 / 2) else 0.0,
            cement_mm=draw.between(3.0, 7.0) if draw.happens(1 / 2) else 0.0,
            cement_hu=round(draw.between(1200.0, 3000.0)),
        )
    if kind == "monitoring_needle":
        place = np.array([side * draw.between(15.0, 35.0), back - draw.between(10.0, 25.0), draw.between(-30.0, 30.0)])
        out = np.array([draw.between(-5.0, 5.0), back + draw.between(2.0, 12.0) - place[1], draw.between(-5.0, 5.0)])
        return _from(kind, place, place + out, draw.between(0.4, 0.7))
    if kind == "clip":
        place = np.array(
            [side * draw.between(8.0, 30.0), draw.between(b + 10.0, back - 5.0), draw.between(-25.0, 25.0)]
        )
        way = draw.rng.standard_normal(3)
        end_point = place + draw.between(4.0, 9.0) * way / np.linalg.norm(way)
        clip = _from(kind, place, end_point, draw.between(1.0, 1.5))
        return replace(clip, material="titanium") if draw.happens(2 / 3) else clip
    at, along = side * draw.between(28.0, 42.0), draw.between(-10.0, 10.0)
    start_point = np.array([at, b + draw.between(3.0, 10.0), along])
    blade = _from(kind, start_point, np.array([at, back + draw.between(3.0, 12.0), along]), draw.between(1.0, 3.0))
    blade = replace(blade, width_mm=draw.between(15.0, 30.0))
    return replace(blade, material="titanium") if draw.happens(1 / 2) else blade


def _from(kind: DeviceKind, start: FloatArray, end: FloatArray, diameter_mm: float) -> DeviceSpec:
    return DeviceSpec(
        kind=kind,
        start_mm=tuple(np.round(start, 2).tolist()),
        end_mm=tuple(np.round(end, 2).tolist()),
        diameter_mm=diameter_mm,
        width_mm=20.0 if kind == "retractor" else 0.0,
    )


def _through_a_pedicle(
    spec: PhantomSpec, draw: Draw, side: float
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """From the body through a pedicle of the level or a neighbour, and out of the skin."""
    vertebra, a, b = spec.vertebra, spec.canal.width_mm / 2.0, spec.canal.depth_mm / 2.0
    level = int(draw.rng.integers(-1, 2))
    middle = level * (vertebra.body_height_mm + vertebra.disc_height_mm)
    height = middle + (vertebra.body_height_mm - vertebra.pedicle_height_mm) / 2.0
    through = np.array([side * (a + max(vertebra.pedicle_width_mm / 2.0, 2.8)), 0.0, height])
    tip = np.array([side * draw.between(0.0, 0.6) * a, -b - draw.between(0.3, 0.8) * vertebra.body_depth_mm, height])
    tip[2] += draw.between(-3.0, 3.0)
    way = (through - tip) / np.linalg.norm(through - tip)
    end = tip + draw.between(90.0, 130.0) * way
    return tuple(np.round(tip, 2).tolist()), tuple(np.round(end, 2).tolist())


def _fits(spec: PhantomSpec, device: DeviceSpec) -> bool:
    """Whether all of a device keeps clear of needles, canal and what metal there is; by lower bounds of the distances."""
    canal = canal_of(spec)
    parts = implants_of(replace(spec, screws=(), rods=(), rails=(), markers=(), devices=(device,)), canal.frame)
    solids = [solid for part in parts for solid in part.solids]
    angle, along = np.meshgrid(np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False), np.arange(-60.0, 60.1, 1.0))
    wall = canal.wall_lps_mm(angle, along)
    if min(float(solid.signed_distance_mm(wall).min()) for solid in solids) < _CANAL_GAP_MM:
        return False
    for needle in (spec.needle, *spec.extra_needles):
        if needle.parts == "none":
            continue
        pose = pose_of(spec, needle)
        line = pose.points_lps_mm(np.arange(0.0, pose.hub_mm, 0.5))
        gap = min(float(solid.signed_distance_mm(line).min()) for solid in solids) - pose.cannula_radius_mm
        if gap < LEAST_GAP_MM:
            return False
    line = canal.frame.to_lps([device.start_mm, device.end_mm])
    points = line[0] + np.linspace(0.0, 1.0, 200)[:, None] * (line[1] - line[0])
    return all(
        float(solid.signed_distance_mm(points).min()) > _DEVICE_GAP_MM + device.diameter_mm / 2.0
        for other in implants_of(spec, canal.frame)
        for solid in other.solids
    )
