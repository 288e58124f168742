"""Time of the dose on 512 x 512 x 200 voxels (float32) against np.copyto of that array: ratios in one run.

    python tests/benchmarks/dose_time.py [--repeats 5] [--json]

Three grids of one size: voxels of 0.5 mm (the table ends at 50 mm, so most of them have no value), voxels of 0.1 mm
(every voxel but the innermost has one), and that again with a polar anisotropy, which has no bar. The least of the
repeats counts: the machines are shared. Compilation is left out; it stands in its own line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from iort_planner.dose.water import dose_on_grid
from iort_planner.imaging.volume import ImageGrid
from iort_planner.source.depth_dose import DepthDoseTable
from iort_planner.source.polar import PolarAnisotropy
from iort_planner.source.table_file import read_table

LIMIT = 15.0  # times np.copyto, for the isotropic table
SIZE = (512, 512, 200)


def grid(spacing_mm: float) -> ImageGrid:
    """With the source in its middle."""
    return ImageGrid(
        size_voxels=SIZE,
        spacing_mm=np.full(3, spacing_mm),
        origin_lps_mm=-spacing_mm * (np.array(SIZE) - 1) / 2,
        direction=np.eye(3),
    )


def least_s(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def dose(table: DepthDoseTable, spacing_mm: float) -> Callable[[], object]:
    where, source, axis = grid(spacing_mm), np.array([0.03, 0.02, 0.01]), np.array([0.2, -0.7, 0.6])
    return lambda: dose_on_grid(table, [source], [240.0], where, [axis])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    table = read_table()
    theta = np.arange(0.0, 181.0, 5.0)
    polar = PolarAnisotropy(
        theta_deg=theta,
        distance_mm=np.array([5.0, 10.0, 20.0]),
        factor=np.tile(1 - 0.3 * np.cos(np.radians(theta)) ** 2, (3, 1)).T,
    )
    first = least_s(lambda: dose_on_grid(table, [np.zeros(3)], [240.0], grid(5.0).crop((0, 0, 0), (8, 8, 8))), 1)
    target, source = np.empty(SIZE[::-1], dtype=np.float32), np.ones(SIZE[::-1], dtype=np.float32)
    copy = least_s(lambda: np.copyto(target, source), args.repeats * 4)
    coarse, fine = least_s(dose(table, 0.5), args.repeats), least_s(dose(table, 0.1), args.repeats)
    turned = least_s(dose(replace(table, anisotropy=polar), 0.1), max(1, args.repeats // 2))
    result = {
        "size": " x ".join(map(str, SIZE)),
        "first_call_s": first,
        "copyto_s": copy,
        "dose_0.5_mm_s": coarse,
        "dose_0.1_mm_s": fine,
        "dose_0.1_mm_polar_s": turned,
        "ratio_0.5_mm": coarse / copy,
        "ratio_0.1_mm": fine / copy,
        "ratio_0.1_mm_polar": turned / copy,
        "limit": LIMIT,
    }
    if args.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(f"{key:<20} {value}" for key, value in result.items()) + "\n")
    return 0 if max(coarse, fine) <= LIMIT * copy else 1


if __name__ == "__main__":
    sys.exit(main())
