"""The automatic canal against the contours of the real cases: what it is measured by, and on which cases.

    python -m tests.geometry.real_canals [--markdown]

prints a line a run and the distribution of each case. Scans are read with SimpleITK, apart from the package's own loader.
Where a case has no needle, sources are put into its vertebral bodies, before the canal, and their axes through a pedicle.

In each slice the surface is cut exactly and compared with the contour both ways: points of one to the edges of the other.
Slices whose contour lies on bone for 90 % or more are judged apart from the others.
Leak: how far the cut lies outside the contour.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its customary name
from matplotlib.path import Path as Outline

from iort_planner.errors import CanalNotFoundError
from iort_planner.geometry._kernels import closest_point_on_mesh
from iort_planner.geometry.canal import SpinalCanal
from iort_planner.geometry.canal_segmentation import segment
from iort_planner.geometry.distance import wall_triangles
from iort_planner.geometry.needle import Confidence
from iort_planner.imaging.volume import ImageGrid, Volume
from iort_planner.units import FloatArray

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
# The bars. A contour on bone is known to about 0.5 mm, an interpolated one to 1.5 or 2 mm.
ON_BONE_FRACTION = 0.9
ON_BONE_MM, ON_BONE_THICK_MM = 2.0, 3.0  # 95 %; the second for slices over 3 mm
ELSEWHERE_MM, CENTROID_MM, LEAK_MM = 4.0, 3.0, 5.0
SILENT_MM = 2.0  # of the distance to the wall, with high confidence
_SAMPLE_MM = 0.5
LIDC = "lidc0314_lower_thoracic_1mm"


@dataclass(frozen=True, kw_only=True)
class RealCase:
    """One scan with its contours; ``pedicles_z_mm`` are levels for sources where there is no needle."""

    name: str
    image: str
    truth: str = LIDC
    pitch_mm: float = 26.0  # one vertebra with its disc, from the contour's pedicles
    pedicles_z_mm: tuple[float, ...] = ()
    calibrated: bool = True


CASES = (
    RealCase(name="lidc 1 mm", image=f"{LIDC}/ct", pedicles_z_mm=(-671.0, -643.0, -614.0, -591.0)),
    RealCase(name="lidc enhanced", image="lidc0314_enhanced_ct/enhanced_ct.dcm", pedicles_z_mm=(-671.0, -643.0)),
    RealCase(name="lidc needle", image=f"{LIDC}_needle/ct"),
    RealCase(name="lidc xa3d", image="lidc0314_xa3d_needle/xa3d.dcm", calibrated=False),
    RealCase(name="cbct 0.46 mm", image="lidc0314_cbct_needle/xa3d.dcm", calibrated=False),
    RealCase(name="cbct 0.6 mm", image="lidc0314_cbct_needle/ct_export", calibrated=False),
    RealCase(name="cbct screws", image="lidc0314_cbct_needle_screws/xa3d.dcm", calibrated=False),
    RealCase(name="cbct screws ct", image="lidc0314_cbct_needle_screws/ct_export", calibrated=False),
    RealCase(name="ct streaks", image="lidc0314_ct_needle_screws_streaks/ct"),
    RealCase(
        name="t11 t12 2 mm",
        image="totalseg_t11_t12_j2k/ct",
        truth="totalseg_t11_t12_j2k",
        pedicles_z_mm=(-792.0, -779.0),
    ),
    RealCase(
        name="lumbar 5 mm",
        image="crlm1006_lumbar_5mm/ct",
        truth="crlm1006_lumbar_5mm",
        pitch_mm=32.0,
        pedicles_z_mm=(-361.0, -336.0, -301.0, -271.0, -241.0, -211.0, -181.0, -151.0),
    ),
    RealCase(
        name="L3 1.5 mm",
        image="tptbox_l3_1p5mm/sub-ct_label-22_ct.nii.gz",
        truth="tptbox_l3_1p5mm",
        pitch_mm=28.0,
        pedicles_z_mm=(-91.0, -60.0),
    ),
)


@functools.lru_cache(maxsize=1)  # the sources of one case follow each other
def load(case: RealCase) -> Volume:
    """The case's image."""
    path = DATA / case.image
    if path.is_dir():
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
        image = reader.Execute()
    else:
        image = sitk.ReadImage(str(path))
    grid = ImageGrid(
        size_voxels=image.GetSize(),
        spacing_mm=np.array(image.GetSpacing()),
        origin_lps_mm=np.array(image.GetOrigin()),
        direction=np.array(image.GetDirection()).reshape(3, 3),
    )
    return Volume(values=sitk.GetArrayFromImage(image).astype(np.int16), grid=grid, hu_calibrated=case.calibrated)


def contours(case: RealCase) -> list[dict[str, Any]]:
    """The slices of its truth, lowest first."""
    slices: list[dict[str, Any]] = json.loads((DATA / case.truth / "canal_truth.json").read_text())["slices"]
    return sorted(slices, key=lambda s: float(s["z_mm"]))


def sources(case: RealCase) -> Iterator[tuple[str, FloatArray, FloatArray]]:
    """Name, source centre and axis (towards the hub) of each run."""
    needle = (DATA / case.image).parent / "needle_truth.json"
    if needle.is_file():
        truth = json.loads(needle.read_text())
        yield "needle", np.array(truth["source_centre_lps_mm"]), -np.array(truth["axis_direction_distal_lps"])
        return
    slices = contours(case)
    for z in case.pedicles_z_mm:
        near = min(slices, key=lambda s: abs(float(s["z_mm"]) - z))
        polygon = np.array(near["polygon_xy_mm"])
        (left, front), (right, _) = polygon.max(axis=0), polygon.min(axis=0)
        front, middle, half = float(polygon[:, 1].min()), 0.5 * (left + right), 0.5 * (left - right)
        for side, before, below in ((1.0, 8.0, 4.0), (-1.0, 15.0, 8.0)):
            source = np.array([middle + side * 5.0, front - before, z - below])
            pedicle = np.array([middle + side * (half + 5.0), front + 4.0, z])
            axis = (pedicle - source) / np.linalg.norm(pedicle - source)
            yield f"z {z:.0f} {'left' if side > 0 else 'right'}", source, axis


@dataclass(frozen=True, kw_only=True)
class Run:
    """One canal against the contours; lengths mm, errors found minus true."""

    case: RealCase
    source: str
    refused: str = ""
    high: bool = False
    reasons: tuple[str, ...] = ()
    on_bone_mm: tuple[float, ...] = ()
    elsewhere_mm: tuple[float, ...] = ()
    centroid_mm: tuple[float, ...] = ()  # of the slices not on bone
    leak_mm: float = 0.0
    distance_error_mm: float = 0.0
    uncertainty_mm: float = 0.0
    missing_mm: float = 0.0  # of the planned level and one each way, where the contours reach

    def line(self) -> str:
        if self.refused:
            return f"{self.case.name:<15}{self.source:<14} refused: {self.refused}"
        return (
            f"{self.case.name:<15}{self.source:<14}{spread(self.on_bone_mm)} |{spread(self.elsewhere_mm)} | "
            f"centroid {max(self.centroid_mm, default=0.0):4.2f} leak {self.leak_mm:4.2f} missing {self.missing_mm:4.1f} "
            f"| distance {self.distance_error_mm:+.2f} of k=1 {self.uncertainty_mm:.2f} "
            f"{'high' if self.high else 'LOW ' + '; '.join(self.reasons)}"
        )


def spread(values: tuple[float, ...]) -> str:
    """Median, 95 % and largest."""
    if not values:
        return "    -    -    -"
    return "".join(f" {v:4.2f}" for v in np.percentile(values, [50.0, 95.0, 100.0]))


def run(case: RealCase, name: str, source: FloatArray, axis: FloatArray) -> Run:
    """Find the canal from one source and measure it."""
    try:
        canal = segment(load(case), source, axis)
    except CanalNotFoundError as error:
        return Run(case=case, source=name, refused=str(error))
    return measure(case, name, source, canal)


def measure(case: RealCase, name: str, source: FloatArray, canal: SpinalCanal) -> Run:
    """The canal against the contours."""
    slices = contours(case)
    on_bone, elsewhere, centroid, leaks = [], [], [], [0.0]
    met = []
    for s in slices:
        cut = section(canal, float(s["z_mm"]))
        if cut is None:
            continue
        met.append(float(s["z_mm"]))
        polygon = np.array(s["polygon_xy_mm"])
        truth = np.stack([polygon, np.roll(polygon, -1, axis=0)], axis=1)
        one, other = along(cut), along(truth)
        from_cut = edge_distance_mm(one, truth)
        both = np.concatenate([from_cut, edge_distance_mm(other, cut)])
        leaks.append(float(from_cut[~Outline(polygon).contains_points(one)].max(initial=0.0)))
        if s["fraction_of_wall_on_bone"] >= ON_BONE_FRACTION:
            on_bone.append(both)
        else:
            elsewhere.append(both)
            centroid.append(float(np.linalg.norm(centroid_mm(cut) - centroid_mm(truth))))
    wall = np.concatenate(
        [np.column_stack([along(_edges(s)), np.full(len(along(_edges(s))), s["z_mm"])]) for s in slices]
    )
    found, _ = closest_point_on_mesh(source, wall_triangles(canal))
    reach = 1.5 * case.pitch_mm
    image = load(case).grid.corners_lps_mm()[:, 2]
    wanted = (
        max(source[2] - reach, slices[0]["z_mm"], image.min()),
        min(source[2] + reach, slices[-1]["z_mm"], image.max()),
    )
    missing = max(0.0, min(met) - wanted[0], wanted[1] - max(met)) if met else reach
    return Run(
        case=case,
        source=name,
        high=canal.confidence is Confidence.HIGH,
        reasons=canal.reasons,
        on_bone_mm=tuple(np.concatenate(on_bone).tolist()) if on_bone else (),
        elsewhere_mm=tuple(np.concatenate(elsewhere).tolist()) if elsewhere else (),
        centroid_mm=tuple(centroid),
        leak_mm=max(leaks),
        distance_error_mm=found - float(np.linalg.norm(wall - source, axis=1).min()),
        uncertainty_mm=canal.uncertainty_mm,
        missing_mm=missing,
    )


def _edges(s: dict[str, Any]) -> FloatArray:
    polygon = np.array(s["polygon_xy_mm"])
    return np.stack([polygon, np.roll(polygon, -1, axis=0)], axis=1)


def section(canal: SpinalCanal, z_mm: float) -> FloatArray | None:
    """Where the surface meets a plane of constant z: edges (N, 2, 2), directed; None if it misses or meets a cap."""
    triangles = canal.vertices_lps_mm[canal.faces]
    above = triangles[..., 2] > z_mm
    crossed = above.any(axis=1) & ~above.all(axis=1)
    caps = np.any(canal.faces >= canal.vertices_lps_mm.shape[0] - 2, axis=1)
    if not np.any(crossed) or np.any(crossed & caps):
        return None
    edges = np.empty((int(np.count_nonzero(crossed)), 2, 2))
    here = triangles[crossed]
    for n, next_n in ((0, 1), (1, 2), (2, 0)):
        a, b = here[:, n], here[:, next_n]
        goes_down = (a[:, 2] > z_mm) & ~(b[:, 2] > z_mm)
        goes_up = ~(a[:, 2] > z_mm) & (b[:, 2] > z_mm)
        part = (z_mm - a[:, 2]) / np.where(goes_down | goes_up, b[:, 2] - a[:, 2], 1.0)
        point = (a + part[:, None] * (b - a))[:, :2]
        edges[goes_down, 0], edges[goes_up, 1] = point[goes_down], point[goes_up]
    return edges


def along(edges: FloatArray) -> FloatArray:
    """Points on edges (N, 2, 2), no farther apart than `_SAMPLE_MM`."""
    steps = int(np.ceil(np.linalg.norm(edges[:, 1] - edges[:, 0], axis=1).max() / _SAMPLE_MM)) + 1
    part = (np.arange(steps) / steps)[:, None, None]
    result: FloatArray = (edges[:, 0] * (1.0 - part) + edges[:, 1] * part).reshape(-1, 2)
    return result


def edge_distance_mm(points: FloatArray, edges: FloatArray) -> FloatArray:
    """Distance of points (N, 2) from the nearest of some edges (M, 2, 2)."""
    start, step = edges[:, 0], edges[:, 1] - edges[:, 0]
    offset = points[:, None] - start
    part = np.clip((offset * step).sum(axis=-1) / np.maximum((step**2).sum(axis=-1), 1e-12), 0.0, 1.0)
    result: FloatArray = np.linalg.norm(offset - part[..., None] * step, axis=-1).min(axis=1)
    return result


def centroid_mm(edges: FloatArray) -> FloatArray:
    """Centroid of the area inside directed edges (Green's theorem)."""
    middle = edges.mean(axis=(0, 1))
    a, b = edges[:, 0] - middle, edges[:, 1] - middle
    cross = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    result: FloatArray = middle + ((a + b) * cross[:, None]).sum(axis=0) / (3.0 * cross.sum())
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="a table for docs/validation.md")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    args = parser.parse_args()
    rows = []
    for case in CASES:
        if args.only not in case.name:
            continue
        runs = [run(case, *source) for source in sources(case)]
        rows.append(_row(case, runs))
        if not args.markdown:
            sys.stdout.write("\n".join(r.line() for r in runs) + "\n")
            sys.stdout.flush()
    head = (
        "| case | runs (refused, low) | on bone: median, 95 %, max | elsewhere: median, 95 %, max "
        "| centroid, max | leak | distance error | missing length |\n|---|---|---|---|---|---|---|---|\n"
    )
    sys.stdout.write(head + "\n".join(rows) + "\n")
    return 0


def _row(case: RealCase, runs: list[Run]) -> str:
    """A case's distribution as a row of the table."""
    done = [r for r in runs if not r.refused]
    on_bone = sum((r.on_bone_mm for r in done), ())
    elsewhere = sum((r.elsewhere_mm for r in done), ())
    errors = [r.distance_error_mm for r in done] or [0.0]
    low = sum(not r.high for r in done)
    return (
        f"| {case.name} | {len(runs)} ({len(runs) - len(done)}, {low}) |{spread(on_bone)} |{spread(elsewhere)} "
        f"| {max((c for r in done for c in r.centroid_mm), default=0.0):.1f} "
        f"| {max((r.leak_mm for r in done), default=0.0):.1f} | {min(errors):+.1f} to {max(errors):+.1f} "
        f"| {max((r.missing_mm for r in done), default=0.0):.0f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
