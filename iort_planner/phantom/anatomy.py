"""Anatomy of a thoracic or lumbar level and its neighbours as signed distances in spine coordinates (mm, negative inside).

Sizes that a specification does not set are our own choice, drawn to look like a lower thoracic (with ribs) or a lumbar
vertebra on axial and sagittal CT; they scale with those that it does set. ``s`` is measured from the middle of the
vertebra meant (`level_offset_mm`); left and right are mirror images.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.phantom.shapes import (
    Array,
    capsule,
    ellipsoid,
    segment,
    smooth_max,
    smooth_min,
    stretched,
    superellipse,
)

if TYPE_CHECKING:
    from iort_planner.phantom.spec_model import PhantomSpec

BODY_EXPONENT = 2.1  # between ellipse and box: the rounded outline of an endplate
VERTEBRA_REACH_MM = 38.0  # no bone of a vertebra lies further along s from its middle
RIB_REACH_MM = 60.0
# Head (on the side of a body narrower than 42 mm), neck, tubercle (before the transverse process), angle and shaft
# of a rib: a = |l|, p, s. It slopes down.
_RIB = (
    (21.0, -11.0, 8.5),
    (28.0, -1.0, 7.5),
    (36.0, 7.0, 4.5),
    (50.0, 11.0, -1.0),
    (70.0, 4.0, -8.0),
    (90.0, -16.0, -18.0),
    (105.0, -45.0, -30.0),
    (112.0, -85.0, -45.0),
)


class Anatomy:
    """Signed distances of every part; made once for a specification."""

    def __init__(self, spec: PhantomSpec) -> None:
        self._spec = spec
        v = spec.vertebra
        self.pitch_mm = v.body_height_mm + v.disc_height_mm
        self._a = spec.canal.width_mm / 2.0
        self._b = spec.canal.depth_mm / 2.0
        # The body's outline reaches 2.5 mm into the canal, which cuts it: that makes the concave back wall.
        self._body_back = -self._b + 2.5
        self._half_depth = (v.body_depth_mm + 2.5) / 2.0
        self._body_p = self._body_back - self._half_depth
        self._pedicle_a = self._a + v.pedicle_width_mm / 2.0 - 0.1
        self._pedicle_r = v.pedicle_width_mm / 2.0 + 0.1
        self._pedicle_s = (v.body_height_mm - v.pedicle_height_mm) / 2.0
        head = (min(_RIB[0][0], v.body_width_mm / 2.0), *_RIB[0][1:])
        self._rib = (head, *_RIB[1:])
        # Beyond these no bone but ribs, no disc and no canal: half width, front, back.
        self.spine_box_mm = (
            max(42.0, self._pedicle_a + v.transverse_mm + 8.0),
            -62.0,
            max(40.0, self._b + v.spinous_mm + 12.0),
        )

    def level_offset_mm(self, s: Array) -> Array:
        """``s`` measured from the middle of the nearest level."""
        result: Array = s - self.pitch_mm * np.round(s / self.pitch_mm)
        return result

    def canal(self, lateral: Array, p: Array) -> Array:
        """The bony canal (first order; `CanalTube` has the exact distance)."""
        return superellipse(lateral, p, self._a, self._b, self._spec.canal.exponent)

    def sac(self, lateral: Array, p: Array) -> Array:
        """The thecal sac: it lies a little anterior in the canal, epidural fat behind it."""
        c = self._spec.canal
        shift = 0.35 * (c.depth_mm - c.sac_depth_mm)
        return superellipse(lateral, p + shift, c.sac_width_mm / 2.0, c.sac_depth_mm / 2.0, 2.0)

    def cord(self, lateral: Array, p: Array) -> Array:
        """The spinal cord."""
        c = self._spec.canal
        shift = 0.35 * (c.depth_mm - c.sac_depth_mm) + 0.5
        return superellipse(lateral, p + shift, c.cord_width_mm / 2.0, c.cord_depth_mm / 2.0, 2.0)

    def body(self, lateral: Array, p: Array, s: Array) -> Array:
        """Vertebral body with waist and hollow endplates; the canal is not cut out of it yet."""
        v = self._spec.vertebra
        half = v.body_height_mm / 2.0
        waist = 1.3 * np.maximum(1.0 - (s / half) ** 2, 0.0)
        outline = superellipse(
            lateral, p - self._body_p, v.body_width_mm / 2.0 - waist, self._half_depth - waist, BODY_EXPONENT
        )
        # The back wall follows the canal: a layer on it out to where the body's corners begin.
        wall = smooth_max(self.canal(lateral, p) - 4.0, p + 0.4 * self._b, 2.5)
        outline = smooth_min(outline, wall, 3.0)
        hollow = 1.3 * np.clip(-outline / (0.8 * self._half_depth), 0.0, 1.0)
        plates = np.abs(s) - (half - hollow)
        return smooth_max(outline, plates, 2.0)

    def disc(self, lateral: Array, p: Array, s: Array) -> Array:
        """Discs (of all levels): between the bodies, bulging slightly."""
        v = self._spec.vertebra
        outline = superellipse(
            lateral, p - self._body_p, v.body_width_mm / 2.0 + 0.3, self._half_depth + 0.3, BODY_EXPONENT
        )
        gap = v.body_height_mm / 2.0 - 1.5 - np.abs(self.level_offset_mm(s))
        return smooth_max(outline, gap, 1.0)

    def vertebra(self, lateral: Array, p: Array, s: Array) -> Array:
        """One whole vertebra (``s`` from its middle), the canal cut out: bone starts at the canal's surface."""
        canal = self.canal(lateral, p)
        a = np.abs(lateral)
        bone = smooth_min(self.body(lateral, p, s), self._pedicle(a, p, s, canal), 3.0)
        bone = smooth_min(bone, self._arch(a, p, s, canal), 3.0)
        result: Array = np.maximum(bone, -canal)
        return result

    def _pedicle(self, a: Array, p: Array, s: Array, canal: Array) -> Array:
        x, r = self._pedicle_a, self._pedicle_r
        distance, _ = segment((a, p), (x - 1.0, -self._b - 6.0), (x + 0.8, 0.75 * self._b))
        half = max(self._spec.vertebra.pedicle_height_mm / 2.0 - r, 0.0)
        pedicle = stretched(distance, s - self._pedicle_s, half, r)
        # A layer on the canal closes the ring: pedicles and back wall touch the canal all along its curve.
        ring = stretched(np.maximum(canal - 1.0, np.abs(p) - 0.8 * self._b), s - self._pedicle_s, half, r - 1.5)
        return smooth_min(pedicle, ring, 2.0)

    def _arch(self, a: Array, p: Array, s: Array, canal: Array) -> Array:
        """Laminae, spinous process, transverse and articular processes."""
        x, b = self._pedicle_a, self._b
        # Laminae: a layer on the canal itself, so that they bound it exactly; a roof ridge comes from the process.
        lamina = smooth_max(canal - 5.5, np.abs(s + 3.5) - 9.0, 3.0)
        lamina = smooth_max(lamina, 0.5 - p, 2.0)
        # Spinous process: a plate in the midline, sloping down to a thicker tip.
        v = self._spec.vertebra
        along, t = segment((p, s), (b + 4.0, -3.0), (b + (4.0 + v.spinous_mm), -(3.0 + v.spinous_drop_mm)))
        height = along - (4.8 - 1.3 * t if v.ribs else 8.0 - 0.5 * t)  # the lumbar one is a high, blunt plate
        spinous = np.hypot(np.maximum(height, 0.0), np.maximum(a - (0.5 + 0.6 * t), 0.0)) - 1.9
        arch = smooth_min(lamina, spinous, 4.0)
        arch = smooth_min(arch, self._transverse(a, p, s), 3.0)
        top, foot = self.pitch_mm / 2.0 + 2.0, -self.pitch_mm / 2.0 - 2.5
        superior = capsule((a, p, s), (x, b - 2.0, 3.0), (x - 1.0, b - 0.5, top - 2.0), 4.0, 2.6)
        inferior = capsule((a, p, s), (x - 1.5, b + 3.5, 0.0), (x - 2.0, b + 6.6, foot + 3.0), 3.8, 3.0)
        return smooth_min(arch, smooth_min(superior, inferior, 1.0), 2.0)

    def _transverse(self, a: Array, p: Array, s: Array) -> Array:
        """Transverse process: with ribs stout, backwards, with the rib's joint; without them slender and level."""
        x, b, out = self._pedicle_a, self._b, self._spec.vertebra.transverse_mm
        if not self._spec.vertebra.ribs:
            return capsule((a, p, s), (x + 1.0, b - 1.0, 2.5), (x + out, b + 3.0, 3.5), 4.6, 3.0)
        process = capsule((a, p, s), (x + 1.0, b + 1.0, 2.0), (x + out, b + 6.5, 4.0), 4.6, 4.2)
        knob = capsule((a, p, s), (x + out, b + 6.5, 2.5), (x + (out + 0.5), b + 7.0, 5.5), 4.9, 4.9)
        return smooth_min(process, knob, 2.0)

    def rib(self, lateral: Array, p: Array, s: Array) -> Array:
        """The pair of ribs of one level (``s`` from its middle)."""
        a = np.abs(lateral)
        result = np.full_like(a, 1e3)
        for n, (start, end) in enumerate(itertools.pairwise(self._rib)):
            low, high = np.minimum(start, end) - 8.0, np.maximum(start, end) + 8.0
            near = np.flatnonzero(
                (a > low[0]) & (a < high[0]) & (p > low[1]) & (p < high[1]) & (s > low[2]) & (s < high[2])
            )
            if near.size == 0:
                continue
            local_s = s[near]
            slope = start[2] + (a[near] - start[0]) / (end[0] - start[0]) * (end[2] - start[2])
            distance, _ = segment((a[near], p[near]), start[:2], end[:2])
            thick, half = (3.0, 2.0) if n < 2 else (2.8, 3.5)  # neck rounder, shaft a flat band
            part = stretched(distance, local_s - slope, half, thick)
            result[near] = smooth_min(result[near], part, 3.0)
        return result

    def lesion(self, lateral: Array, p: Array, s: Array) -> Array:
        """Lytic lesion: an ellipsoid with an uneven border."""
        c = self._spec.lesion.centre_mm
        x, y, z = lateral - c[0], p - c[1], s - c[2]
        uneven = 0.7 * np.sin(0.55 * x + 1.0) * np.sin(0.6 * y) + 0.5 * np.sin(0.7 * z + 0.4 * x)
        result: Array = ellipsoid(x, y, z, self._spec.lesion.radii_mm) + uneven
        return result

    def breached(self, lateral: Array, p: Array, s: Array) -> Array:
        """Whether points of the canal's wall would lie on the target's bone, but a breaching lesion has taken it."""
        taken = self._spec.lesion.breaches and self.lesion(lateral, p, s) < 0.0
        result: Array = taken & (self.vertebra(lateral, p, s) < 0.05)  # 0 on the wall, but for rounding
        return result

    def root(self, lateral: Array, p: Array, s: Array) -> Array:
        """Nerve roots with their ganglia in the foramina (``s`` from the level's middle)."""
        a = np.abs(lateral)
        low = -self._spec.vertebra.body_height_mm / 2.0
        return capsule((a, p, s), (self._a - 2.0, 0.0, low + 3.0), (self._a + 11.0, -5.0, low - 0.5), 1.6, 2.4)

    def trunk(self, lateral: Array, p: Array) -> Array:
        """The skin of the trunk, with the furrow over the spine; the belly is flattened by the table elsewhere."""
        b = self._spec.body
        half = (b.back_mm + b.front_mm + 15.0) / 2.0  # 15 mm that the table flattens
        furrow = 3.0 * np.exp(-((lateral / 14.0) ** 2))
        return superellipse(lateral, p - (b.back_mm - half), b.width_mm / 2.0, half, 2.6) + furrow

    def paraspinal(self, lateral: Array, p: Array) -> Array:
        """Borders of the erector spinae: an inner and an outer belly on each side."""
        a, back = np.abs(lateral), self._spec.body.back_mm
        middle = (self._b + 6.0 + back) / 2.0
        half = max((back - self._spec.body.fat_mm - self._b - 8.0) / 2.0, 4.0)
        inner = superellipse(a - 13.0, p - middle - 1.0, 10.0, half, 2.4)
        outer = superellipse(a - 39.0, p - middle - 2.0, 17.0, half - 1.5, 2.4)
        return np.minimum(inner, outer)

    def psoas(self, lateral: Array, p: Array) -> Array:
        """The psoas muscles beside lumbar bodies."""
        half = self._spec.vertebra.body_width_mm / 2.0
        return superellipse(np.abs(lateral) - half - 13.0, p - self._body_p - 3.0, 15.0, 17.0, 2.2)

    def lung(self, lateral: Array, p: Array) -> Array:
        """Posterior recess of both lungs, inside the ribs."""
        a = np.abs(lateral)
        recess = superellipse(a - 62.0, p + 38.0, 38.0, 37.0, 2.5)
        return smooth_max(recess, 29.0 - a, 12.0)

    def cavity(self, lateral: Array, p: Array) -> Array:
        """Retroperitoneal and abdominal fat before the spine."""
        b = self._spec.body
        half = (b.front_mm - 15.0) / 2.0
        rising = np.clip(0.5 * (np.abs(lateral) - 16.0), 0.0, 9.0)  # along the ribs' necks
        return superellipse(lateral, p - rising + 8.0 + half, b.width_mm / 2.0 - 28.0, half, 2.6)

    def organs(self, lateral: Array, p: Array, s: Array) -> Array:
        """Liver on the right, stomach and spleen on the left: soft tissue in that fat."""
        liver = ellipsoid(lateral + 62.0, p + 88.0, s - 10.0, (58.0, 42.0, 90.0))
        stomach = ellipsoid(lateral - 48.0, p + 92.0, s - 5.0, (36.0, 26.0, 60.0))
        return np.minimum(liver, stomach)

    def vessels(self, lateral: Array, p: Array, s: Array) -> Array:
        """Aorta on the left before the body, vena cava on the right, and a small azygos vein."""
        front = self._body_p - self._half_depth
        aorta = np.hypot(lateral - 9.0 - 0.05 * s, p - front + 12.5) - 11.0
        cava = superellipse(lateral + 16.0, p - front + 24.0, 12.0, 9.0, 2.0)
        azygos = np.hypot(lateral + 5.0, p - front + 4.5) - 2.6
        result: Array = np.minimum(np.minimum(aorta, cava), azygos)
        return result
