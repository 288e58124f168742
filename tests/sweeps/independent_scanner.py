"""Scanners for the independent renderer: how they are drawn, and the scan that one makes of an anatomy with metal in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from iort_planner.imaging.volume import ImageGrid, Volume
from iort_planner.phantom import PhantomSpec, grid_of
from iort_planner.phantom.scan import spine_frame, tissue_image
from tests.sweeps.independent_beam import Beam, Water
from tests.sweeps.independent_scan import Kernel, beam_error_hu, cells_of, noise, rendered
from tests.sweeps.independent_shapes import Body, Stuff

KINDS = ("ct-fine", "ct-thick", "c-arm")
_TISSUE_MM = 0.85


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """One scanner: `kind` of KINDS; ``grey`` (gain, offset, outside, cut) makes values that are no HU, None keeps HU."""

    kind: str
    noise_hu: float
    ceiling: int
    steel_hu: float
    titanium_hu: float
    plastic_hu: float
    kernel: Kernel
    beam: Beam
    grey: tuple[float, float, int, int] | None = None
    shading: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def stuff_hu(self) -> dict[Stuff, float]:
        return {
            Stuff.STEEL: self.steel_hu,
            Stuff.TITANIUM: self.titanium_hu,
            Stuff.PLASTIC: self.plastic_hu,
            Stuff.VOID: -1000.0,
            Stuff.CEMENT: 1800.0,
            Stuff.DENSE: 1.2 * self.steel_hu,
        }


def draw_scanner(rng: np.random.Generator, spec: PhantomSpec, kind: str | None) -> tuple[Scanner, PhantomSpec]:
    """CT with fine or thick slices, or a C-arm; spacing, orientation, kernel, noise and the beam's errors."""
    drawn = str(rng.choice(KINDS, p=(0.45, 0.3, 0.25)))
    kind = kind or drawn
    arm = kind == "c-arm"
    pixel = float(np.exp(rng.uniform(*np.log([0.4, 1.0]))))
    thick = float(rng.uniform(0.6, 1.25) if kind == "ct-fine" else rng.uniform(1.25, 3.0))
    if arm:
        pixel = thick = float(rng.choice([0.46, 0.55, 0.6], p=(0.2, 0.4, 0.4)))
    # finer scans are smaller, for time
    extent = np.array([96.0, 96.0, 72.0]) if arm else np.array([100.0, 112.0, 76.0]) * min(1.0, (pixel / 0.6) ** 0.5)
    size = np.maximum(np.round(extent / (pixel, pixel, thick)), 20).astype(int)
    turn = (rng.uniform(-20.0, 20.0, 3) if rng.random() < 0.4 else np.zeros(3)) + (0, 0, 180.0 * rng.integers(2))
    offset = rng.uniform(-1, 1, 3) * (5.0, 4.0, 5.0) + (0.0, 0.0 if arm else 8.0, 0.0)
    blur = float(rng.uniform(0.30, 0.60))
    kernel = Kernel(
        half_per_mm=blur,
        boost=float(rng.choice([0.0, 0.3, 0.7])),
        order=int(rng.integers(0, 4)),
        flat=float(rng.choice([0.0, 0.4, 0.7])),
    )
    clean = rng.random() < 1 / 3
    beam = Beam(
        strength=0.0 if clean else float(rng.uniform(0.3, 1.0)),
        photons=float(10.0 ** rng.uniform(4.3, 5.5)),
        scatter=float(rng.uniform(0.005, 0.08) * (2.0 if arm else 1.0)),
        views=int(rng.integers(150, 240)),
        shake_mm=float(rng.uniform(0.0, 0.3)),
    )
    steel = float(np.exp(rng.uniform(*np.log([7000.0, 22000.0]))))
    ceiling = 3071 if rng.random() < 0.6 else int(rng.choice([8191, 12000, 16000]))
    gain = float(np.exp(rng.uniform(*np.log([180.0, 2200.0]))))
    rise = gain * float(rng.uniform(0.1, 0.6))
    cut = int(rise + gain * rng.uniform(4.0, 8.0)) if rng.random() < 0.5 else 32000
    grey = (gain, rise, int(rng.choice([0, round(rise)])), cut)
    scanner = Scanner(
        kind=kind,
        noise_hu=70.0 if arm else float(rng.uniform(12.0, 55.0)),
        ceiling=ceiling,
        steel_hu=steel,
        titanium_hu=float(rng.uniform(4000.0, 8500.0)),
        plastic_hu=float(rng.uniform(60.0, 250.0)),
        kernel=kernel,
        beam=beam,
        grey=grey if arm else None,
        shading=tuple(rng.uniform(-0.06, 0.06, 3).tolist()) if arm else (0.0, 0.0, 0.0),
    )
    grid = replace(
        spec.grid,
        size_voxels=tuple(size.tolist()),
        spacing_mm=(pixel, pixel, thick),
        centre_offset_mm=tuple(offset.tolist()),
        rotation_deg=tuple(turn.tolist()),
    )
    return scanner, replace(spec, grid=grid)


def tissue_on(spec: PhantomSpec, grid: ImageGrid) -> npt.NDArray[np.float32]:
    """The anatomy, HU [k, j, i]: drawn on voxels of at least `_TISSUE_MM` and read off between them linearly, for time."""
    size, spacing = np.array(grid.size_voxels), grid.spacing_mm
    fewer = np.maximum(np.round(size * np.minimum(spacing / _TISSUE_MM, 1.0)), 2).astype(int)
    larger = spacing * size / fewer
    coarse = ImageGrid(
        size_voxels=(int(fewer[0]), int(fewer[1]), int(fewer[2])),
        spacing_mm=larger,
        origin_lps_mm=grid.origin_lps_mm + grid.direction @ (0.5 * (larger - spacing)),
        direction=grid.direction,
    )
    values, _ = tissue_image(spec, coarse)
    for axis, n in ((0, 2), (1, 1), (2, 0)):
        at = np.clip((np.arange(size[n]) + 0.5) * fewer[n] / size[n] - 0.5, 0.0, fewer[n] - 1.0)
        low = np.minimum(at.astype(int), fewer[n] - 2)
        shape = [1, 1, 1]
        shape[axis] = -1
        part = (at - low).astype(np.float32).reshape(shape)
        values = np.take(values, low, axis) * (1.0 - part) + np.take(values, low + 1, axis) * part
    return values


def scan(spec: PhantomSpec, scanner: Scanner, bodies: Sequence[Body], seed: int) -> Volume:
    """The anatomy of ``spec`` on its grid with the bodies in it, as the scanner shows them."""
    grid = grid_of(spec)
    tissue = tissue_on(spec, grid)
    cells = cells_of(bodies, grid)
    hu = rendered(tissue, cells, scanner.stuff_hu, grid, scanner.kernel)
    middle = np.array([*(np.array(grid.size_voxels[:2]) - 1.0) / 2.0, (grid.size_voxels[2] - 1.0) / 2.0])
    trunk = spine_frame(spec).to_lps(np.array([0.0, (spec.body.back_mm - spec.body.front_mm) / 2.0, 0.0]))
    x, y, _z = (grid.lps_to_index(trunk) - middle) * grid.spacing_mm
    water = Water(
        half_mm=(spec.body.width_mm / 2.0, (spec.body.front_mm + spec.body.back_mm) / 2.0),
        centre_mm=(float(x), float(y)),
    )
    hu += beam_error_hu(cells, scanner.stuff_hu, grid, scanner.kernel, scanner.beam, water, seed)
    hu += np.float32(scanner.noise_hu) * noise(grid.shape, float(grid.spacing_mm[0]), scanner.kernel, seed)
    if scanner.grey is None:
        values = np.clip(np.rint(hu), -1024, scanner.ceiling).astype(np.int16)
        return Volume(values=values, grid=grid, hu_calibrated=True)
    gain, rise, outside, cut = scanner.grey
    j, i = np.ogrid[0 : grid.shape[1], 0 : grid.shape[2]]
    half = (np.array(grid.shape[1:]) - 1.0) / 2.0
    v, w = (j - half[0]) / half[0], (i - half[1]) / half[1]
    a, b, c = scanner.shading
    tilt = (1.0 + a * v + b * w + c * (v * v + w * w)).astype(np.float32)
    grey = rise + gain * tilt * (1.0 + hu / np.float32(1000.0))
    values = np.clip(np.rint(grey), 0, cut).astype(np.int16)
    values[:, v * v + w * w > 1.0] = outside
    return Volume(values=values, grid=grid, hu_calibrated=False)
