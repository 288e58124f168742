"""Specification and seed to a phantom: anatomy and needle on a grid, then what a scanner does to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydicom.uid import generate_uid

from iort_planner.applicator import unit_vector
from iort_planner.errors import PhantomError
from iort_planner.imaging.volume import ImageGrid, Volume
from iort_planner.phantom.anatomy import Anatomy
from iort_planner.phantom.canal_tube import CanalTube
from iort_planner.phantom.frame import SpineFrame, rotation_matrix
from iort_planner.phantom.hardware import coverage as implant_coverage
from iort_planner.phantom.hardware import implants_of
from iort_planner.phantom.needle_build import NeedleBuild
from iort_planner.phantom.needle_model import NeedlePose
from iort_planner.phantom.needle_model import coverage as needle_coverage
from iort_planner.phantom.scanner import scanned
from iort_planner.phantom.streaks import CT_BEAMS, BeamSet, streaks_hu
from iort_planner.phantom.tissues import Label, TissuePainter
from iort_planner.phantom.truth import PhantomTruth, make_truth

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from iort_planner.phantom.hardware import Box, Filled, Implant
    from iort_planner.phantom.needle_model import Coverage
    from iort_planner.phantom.spec_model import NeedleSpec, PhantomSpec

# Prone, head first: columns (i) run to the patient's right, rows (j) to anterior, slices (k) to the head.
_PRONE = np.diag([-1.0, -1.0, 1.0])
_SLAB = 8  # slices painted at once: keeps the work in the processor's cache
MIN_HU = -1024.0  # what a 12-bit CT stores as 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Phantom:
    """A scan with its truth.

    Parameters
    ----------
    spec : PhantomSpec
    seed : int
    volume : Volume
        HU, int16.
    labels : ndarray of shape (nk, nj, ni), uint8
        `Label` of each voxel's centre.
    canal : CanalTube
        The exact canal.
    pose : NeedlePose
    truth : PhantomTruth
    extra_poses : tuple of NeedlePose
        Those of ``spec.extra_needles``.
    """

    spec: PhantomSpec
    seed: int
    volume: Volume
    labels: npt.NDArray[np.uint8]
    canal: CanalTube
    pose: NeedlePose
    truth: PhantomTruth
    extra_poses: tuple[NeedlePose, ...] = ()

    def mask(self, *labels: Label) -> npt.NDArray[np.bool_]:
        """Voxels whose centres carry one of the labels, shape (nk, nj, ni)."""
        result: npt.NDArray[np.bool_] = np.isin(self.labels, labels)
        return result

    def breached(self, wall_lps_mm: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Points of the canal's wall where the lesion has taken the bone, (..., 3) mm -> (...); exact."""
        return Anatomy(self.spec).breached(*np.moveaxis(self.canal.frame.to_spine(wall_lps_mm), -1, 0))


def uid_of(spec: PhantomSpec, seed: int, what: str) -> str:
    """UID that depends on the specification, the seed and what it is for, and on nothing else."""
    return str(generate_uid(entropy_srcs=[spec.sha256, str(seed), what]))


def spine_frame(spec: PhantomSpec) -> SpineFrame:
    """Placement of the spine."""
    return SpineFrame(
        origin_lps_mm=np.array(spec.spine.origin_lps_mm),
        rotation=rotation_matrix(spec.spine.rotation_deg),
        radius_mm=spec.spine.kyphosis_radius_mm,
        bend_plane_deg=spec.spine.bend_plane_deg,
    )


def canal_of(spec: PhantomSpec) -> CanalTube:
    """The exact canal."""
    return CanalTube(
        frame=spine_frame(spec),
        half_width_mm=spec.canal.width_mm / 2.0,
        half_depth_mm=spec.canal.depth_mm / 2.0,
        exponent=spec.canal.exponent,
    )


def pose_of(spec: PhantomSpec, needle: NeedleSpec | None = None) -> NeedlePose:
    """Where the needle stands, or another one of the same kind."""
    frame, needle = spine_frame(spec), needle or spec.needle
    tip, through = frame.to_lps(needle.tip_mm), frame.to_lps(needle.through_mm)
    return NeedlePose(
        applicator=spec.applicator,
        tip_lps_mm=tip,
        axis_lps=unit_vector(through - tip, "needle axis"),
        cannula_end_mm=needle.cannula_end_mm,
        bend_mm=needle.bend_mm,
        bend_turn_deg=needle.bend_turn_deg,
        build=NeedleBuild.of(needle),
    )


def grid_of(spec: PhantomSpec) -> ImageGrid:
    """The scan's grid: turned about its centre, at an offset from the canal's centre."""
    direction = rotation_matrix(spec.grid.rotation_deg) @ _PRONE
    spacing = np.array(spec.grid.spacing_mm)
    centre = np.array(spec.spine.origin_lps_mm) + np.array(spec.grid.centre_offset_mm)
    half = (np.array(spec.grid.size_voxels) - 1.0) / 2.0 * spacing
    return ImageGrid(
        size_voxels=spec.grid.size_voxels,
        spacing_mm=spacing,
        origin_lps_mm=centre - direction @ half,
        direction=direction,
    )


def build(spec: PhantomSpec, seed: int = 0) -> Phantom:
    """Make the scan and its truth; the same specification and seed give the same voxels.

    Raises
    ------
    PhantomError
        If the needle's tip or source lies outside the image, or the seed is negative.
    """
    if seed < 0:
        raise PhantomError(f"phantom {spec.name!r}: seed = {seed} must be 0 or more")
    grid, pose, canal = grid_of(spec), pose_of(spec), canal_of(spec)
    others = tuple(pose_of(spec, needle) for needle in spec.extra_needles)
    truth = make_truth(spec, seed, pose, canal, grid, others)
    for name, point in (("tip", truth.tip_lps_mm), ("source", truth.source_lps_mm)):
        if pose.build.parts == "needle" and not grid.contains(point):
            raise PhantomError(
                f"phantom {spec.name!r}: the needle's {name} {np.round(point, 1).tolist()} lies outside the image; "
                "change grid.size_voxels or grid.centre_offset_mm"
            )
    volume, labels = scan_of(spec, seed)
    return Phantom(
        spec=spec, seed=seed, volume=volume, labels=labels, canal=canal, pose=pose, truth=truth, extra_poses=others
    )


def scan_of(spec: PhantomSpec, seed: int, beams: BeamSet = CT_BEAMS) -> tuple[Volume, npt.NDArray[np.uint8]]:
    """The scan alone and its labels, wherever the needle stands; as `build` has them with the usual beams."""
    grid = grid_of(spec)
    poses = tuple(pose_of(spec, needle) for needle in (spec.needle, *spec.extra_needles))
    hu, labels = ideal_image(spec, grid, poses, seed, beams)
    hu = scanned(spec, hu, np.random.default_rng([seed, 1]))
    volume = Volume(
        values=np.clip(np.rint(hu), MIN_HU, spec.scanner.clip_hu).astype(np.int16),
        grid=grid,
        hu_calibrated=True,
        frame_of_reference_uid=uid_of(spec, seed, "frame of reference"),
    )
    labels.setflags(write=False)
    return volume, labels


def ideal_image(
    spec: PhantomSpec, grid: ImageGrid, poses: Sequence[NeedlePose], seed: int, beams: BeamSet = CT_BEAMS
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """HU with partial volume and streaks, before blur and noise, and labels; both [k, j, i].

    Each thing replaces its part of what was painted before it: anatomy, implants, needles, the first needle last.
    """
    hu, labels = tissue_image(spec, grid)
    metal, cupping = _Metal(grid.shape), spec.scanner.metal_cupping
    painted = []
    for implant in implants_of(spec, spine_frame(spec)):
        filled = implant_coverage(implant, grid, depth=cupping > 0.0)
        metal.add(filled.box, filled.bore, 0.0)
        metal.add(filled.box, filled.solid, implant.steel_equivalent)
        painted.append((filled, implant))
    needles = [needle_coverage(pose, grid, depth=cupping > 0.0) for pose in reversed(poses)]
    for part in needles:
        metal.add(part.box, part.plastic + part.air, 0.0)
        metal.add(part.box, part.steel, 1.0)
    streaks = _streaks(spec, grid, hu, metal, seed, beams)
    for filled, implant in painted:
        _paint_implant(spec, hu[filled.box], filled, implant)
        labels[filled.box][filled.solid > 0.5] = Label.IMPLANT
    for part in needles:
        _paint_needle(spec, hu[part.box], part)
        marks = labels[part.box]
        marks[part.air > 0.5] = Label.BORE
        marks[part.plastic > 0.5] = Label.PLASTIC
        marks[part.steel > 0.5] = Label.STEEL
    if streaks is not None:
        slices, values = streaks
        values *= 1.0 - metal.filled[slices]
        hu[slices] += values
    return hu, labels


def _paint_implant(spec: PhantomSpec, hu: npt.NDArray[np.float32], filled: Filled, implant: Implant) -> None:
    """Put an implant into its box of the image; beam hardening lowers thick metal as that of the needle."""
    value = np.float32(implant.value_hu(spec.hu))
    if filled.bore.any():
        hu *= 1.0 - filled.bore - filled.solid
        hu += filled.bore * np.float32(spec.hu.air) + filled.solid * value
    else:
        hu += filled.solid * (value - hu)
    if filled.depth is not None:
        hu -= filled.solid * filled.depth * np.float32(spec.scanner.metal_cupping) * value


def _paint_needle(spec: PhantomSpec, hu: npt.NDArray[np.float32], part: Coverage) -> None:
    """Put a needle into its box of the image.

    Beam hardening (`ScannerSpec.metal_cupping`) lowers steel the more the deeper it lies in metal, and raises what tubes
    enclose by as much as it lowers metal as thick as both walls together: rays along the walls look too short, those
    across the bore too long beside them. The depth's law is our own choice (`needle_build.cupping`).
    """
    value = np.float32(spec.hu.steel)
    hu *= 1.0 - part.plastic - part.steel - part.air
    hu += part.plastic * np.float32(spec.hu.plastic) + part.steel * value + part.air * np.float32(spec.hu.air)
    if part.steel_depth is not None and part.air_depth is not None:
        hu += np.float32(spec.scanner.metal_cupping) * value * (part.air_depth - part.steel_depth)


class _Metal:
    """Part of each voxel that metal fills, and how much steel attenuates as much."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.filled, self.steel = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def add(self, box: Box, share: npt.NDArray[np.float32], steel_equivalent: float) -> None:
        """Put in something that displaces its share of what is there; carbon and plastic displace only."""
        for values, value in ((self.filled, float(steel_equivalent > 0.0)), (self.steel, steel_equivalent)):
            part = values[box]
            part += share * (np.float32(value) - part)


def tissue_image(spec: PhantomSpec, grid: ImageGrid) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """HU (before blur) and labels of the anatomy without the needle."""
    painter = TissuePainter(spec, float(np.prod(grid.spacing_mm) ** (1.0 / 3.0)))
    frame = spine_frame(spec)
    to_local = frame.rotation.T @ (grid.direction * grid.spacing_mm)
    start = frame.rotation.T @ (grid.origin_lps_mm - frame.origin_lps_mm)
    table_y = spec.spine.origin_lps_mm[1] - spec.body.front_mm
    to_y, start_y = grid.direction[1] * grid.spacing_mm, grid.origin_lps_mm[1] - table_y
    hu, labels = np.empty(grid.shape, np.float32), np.empty(grid.shape, np.uint8)
    for first in range(0, grid.shape[0], _SLAB):
        last = min(first + _SLAB, grid.shape[0])
        k, j, i = np.ogrid[first:last, 0 : grid.shape[1], 0 : grid.shape[2]]
        x, y, z = (
            (start[n] + to_local[n, 0] * i + to_local[n, 1] * j + to_local[n, 2] * k).astype(np.float32).ravel()
            for n in range(3)
        )
        above = (start_y + to_y[0] * i + to_y[1] * j + to_y[2] * k).astype(np.float32).ravel()
        values, marks = painter.paint(*frame.straightened(x, y, z), above)
        shape = (last - first, *grid.shape[1:])
        hu[first:last], labels[first:last] = values.reshape(shape), marks.reshape(shape)
    return hu, labels


def _streaks(
    spec: PhantomSpec, grid: ImageGrid, tissue: npt.NDArray[np.float32], metal: _Metal, seed: int, beams: BeamSet
) -> tuple[slice, npt.NDArray[np.float32]] | None:
    """Streaks on the slices that hold metal, scaled as the specification says."""
    held = np.flatnonzero(metal.steel.any(axis=(1, 2)))
    if spec.scanner.streak_amplitude == 0.0 or held.size == 0:
        return None
    slices = slice(int(held[0]), int(held[-1]) + 1)
    pixel = (float(grid.spacing_mm[0]), float(grid.spacing_mm[1]))
    values = streaks_hu(tissue[slices], metal.steel[slices], pixel, np.random.default_rng([seed, 2]), beams)
    values *= np.float32(spec.scanner.streak_amplitude)
    return slices, values
