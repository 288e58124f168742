"""Paints the anatomy at given points as HU, part over part, each border spread over one voxel (partial volume)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.phantom.anatomy import RIB_REACH_MM, VERTEBRA_REACH_MM, Anatomy

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.phantom.shapes import Array
    from iort_planner.phantom.spec_model import PhantomSpec


class Label(IntEnum):
    """What a voxel's centre lies in."""

    OTHER = 0
    TARGET_VERTEBRA = 1
    OTHER_VERTEBRA = 2
    RIB = 3
    DISC = 4
    CANAL = 5
    PLASTIC = 6
    STEEL = 7
    IMPLANT = 8  # screws, rods, rails, markers and devices
    LESION = 9  # only of a lesion that breaches: there is no bone left
    BORE = 10  # of a hollow needle or cannula, or of the probe in it: empty


class TissuePainter:
    """HU and labels at points, without blur or noise.

    Parameters
    ----------
    spec : PhantomSpec
    edge_mm : float
        Width over which a border goes from one part to the next: the voxel's size.
    """

    def __init__(self, spec: PhantomSpec, edge_mm: float) -> None:
        self._spec = spec
        self._anatomy = Anatomy(spec)
        self._edge = edge_mm

    def paint(
        self, lateral: Array, p: Array, s: Array, above_table: Array
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """HU (float32) and `Label` (uint8) at 1-D arrays of spine coordinates; ``above_table``: mm above its top."""
        hu, labels = np.full(lateral.shape, self._spec.hu.air, np.float32), np.zeros(lateral.shape, np.uint8)
        self._table(hu, above_table)
        self._trunk(hu, lateral, p, s, above_table)
        if self._spec.vertebra.ribs:
            near = np.flatnonzero((np.abs(lateral) < 116.0) & (p > -90.0) & (p < 22.0))
            self._ribs(hu, labels, near, lateral[near], p[near], s[near])
        side, front, back = self._anatomy.spine_box_mm
        near = np.flatnonzero((np.abs(lateral) < side) & (p > front) & (p < back))
        self._spine(hu, labels, near, lateral[near], p[near], s[near])
        return hu, labels

    def _cover(self, distance: Array) -> Array:
        result: Array = np.clip(0.5 - distance / self._edge, 0.0, 1.0)
        return result

    def _over(self, hu: Array, distance: Array, value: float) -> None:
        hu += self._cover(distance) * (value - hu)

    def _table(self, hu: Array, above: Array) -> None:
        # carbon-fibre shell of 1.5 mm on 25 mm of foam; our own choice, typical of a radiolucent table
        self._over(hu, np.abs(above + 13.5) - 13.5, self._spec.hu.table_shell)
        self._over(hu, np.abs(above + 13.5) - 12.0, self._spec.hu.table_foam)

    def _trunk(self, hu: Array, lateral: Array, p: Array, s: Array, above: Array) -> None:
        spec, part = self._spec, self._anatomy
        trunk = np.maximum(part.trunk(lateral, p), -above)
        self._over(hu, trunk, spec.hu.skin)
        self._over(hu, trunk + spec.body.skin_mm, spec.hu.fat)
        inner = trunk + spec.body.skin_mm + spec.body.fat_mm
        self._over(hu, inner, spec.hu.muscle)
        self._over(hu, np.maximum(np.abs(part.paraspinal(lateral, p)) - 0.5, inner), spec.hu.fat)
        self._over(hu, np.maximum(part.cavity(lateral, p), inner + 4.0), spec.hu.fat)
        self._over(hu, np.maximum(part.organs(lateral, p, s), inner + 6.0), spec.hu.muscle)
        self._over(hu, part.vessels(lateral, p, s), spec.hu.vessel)
        if spec.vertebra.ribs:
            self._over(hu, np.maximum(part.lung(lateral, p), inner + 6.0), spec.hu.lung)
        else:
            self._over(hu, np.maximum(part.psoas(lateral, p), inner + 4.0), spec.hu.muscle)

    def _bone(self, hu: Array, distance: Array) -> None:
        """Cortex and, inside it, spongiosa."""
        self._over(hu, distance, self._spec.hu.cortex)
        self._over(hu, distance + self._spec.vertebra.cortex_mm, self._spec.hu.spongiosa)

    def _levels(self, s: Array, reach_mm: float) -> list[int]:
        if s.size == 0:
            return []
        pitch = self._anatomy.pitch_mm
        first, last = np.ceil((s.min() - reach_mm) / pitch), np.floor((s.max() + reach_mm) / pitch)
        return list(range(int(first), int(last) + 1))

    def _ribs(self, hu: Array, labels: Array, near: Array, lateral: Array, p: Array, s: Array) -> None:
        for level in self._levels(s, RIB_REACH_MM):
            distance = self._anatomy.rib(lateral, p, s - level * self._anatomy.pitch_mm)
            touched = np.flatnonzero(distance < self._edge)
            here = near[touched]
            values = hu[here]
            self._bone(values, distance[touched])
            hu[here] = values
            labels[here[distance[touched] < 0.0]] = Label.RIB

    def _spine(self, hu: Array, labels: Array, near: Array, lateral: Array, p: Array, s: Array) -> None:
        spec, part = self._spec, self._anatomy
        values, marks = hu[near], labels[near]
        canal = part.canal(lateral, p)
        # Foramina and epidural space hold fat, ligamentum flavum lines the back; bone and disc come over it.
        self._over(values, canal - 4.0, spec.hu.epidural_fat)
        self._over(values, np.maximum(canal - 3.5, -p), spec.hu.ligament)
        self._over(values, part.root(lateral, p, part.level_offset_mm(s)), spec.hu.cord)
        disc = part.disc(lateral, p, s)
        self._over(values, disc, spec.hu.disc)
        marks[disc < 0.0] = Label.DISC
        for level in self._levels(s, VERTEBRA_REACH_MM):
            local = s - level * part.pitch_mm
            close = np.flatnonzero(np.abs(local) < VERTEBRA_REACH_MM)
            distance = part.vertebra(lateral[close], p[close], local[close])
            touched = np.flatnonzero(distance < self._edge)
            here, distance = close[touched], distance[touched]
            bone = values[here]
            self._bone(bone, distance)
            marks[here[distance < 0.0]] = Label.TARGET_VERTEBRA if level == 0 else Label.OTHER_VERTEBRA
            if level == 0:
                lesion = part.lesion(lateral[here], p[here], local[here])
                if spec.lesion.breaches:  # a voxel's layer round the bone too, so that no shell of cortex is left
                    self._over(bone, lesion, spec.hu.lesion)
                    marks[here[(distance < 0.0) & (lesion < 0.0)]] = Label.LESION
                else:  # inside the cortex only: the walls stand
                    self._over(bone, np.maximum(lesion, distance + spec.vertebra.cortex_mm), spec.hu.lesion)
            values[here] = bone
        self._over(values, canal, spec.hu.epidural_fat)
        self._over(values, part.sac(lateral, p), spec.hu.thecal_sac)
        if spec.canal.cord_width_mm > 0.0:
            self._over(values, part.cord(lateral, p), spec.hu.cord)
        marks[canal < 0.0] = Label.CANAL
        hu[near], labels[near] = values, marks
