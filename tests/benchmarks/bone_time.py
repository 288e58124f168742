"""Time and uncertainty of the engines that know bone.

python -m tests.benchmarks.bone_time [--uncertainty 1] [--threads 2] [--gpu]

The case is the reference phantom, 1 mm voxels, 50 mm round the source for the Monte Carlo and a cube of 80 mm for the ray trace.
Compiled code is loaded before anything is timed. Run it on a machine that does nothing else; the load is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

import numpy as np

from iort_planner.dose.montecarlo import WITHIN_MM, run_montecarlo
from iort_planner.dose.raytrace import run_raytrace
from iort_planner.dose.spectrum import read_spectrum
from iort_planner.dose.water import dose_on_grid
from iort_planner.source.table_file import read_table
from tests.sweeps.tissue_runs import phantom_of, tissue_of


def best_of(times: int, action: Callable[[], object]) -> float:
    """Shortest of some runs, s."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        found.append(time.perf_counter() - begun)
    return min(found)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uncertainty", type=float, default=1.0, help="percent, k=1, root mean square within 20 mm")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gpu", action="store_true", help="the Monte Carlo on a CUDA device")
    args = parser.parse_args()
    phantom, spectrum, table = phantom_of(-1), read_spectrum(), read_table("reference-needle-50kv")
    small = tissue_of(phantom, 1.0, 40.0)
    run_raytrace(small, spectrum, threads=args.threads)
    dose_on_grid(table, [small.source_lps_mm], [60.0], small.grid)
    rays = best_of(5, lambda: run_raytrace(small, spectrum, threads=args.threads))
    water = best_of(20, lambda: dose_on_grid(table, [small.source_lps_mm], [60.0], small.grid))
    run_montecarlo(tissue_of(phantom, 4.0, 20.0), spectrum, histories=1, threads=args.threads, gpu=args.gpu)
    cpu = time.process_time()
    engine = run_montecarlo(
        tissue_of(phantom, 1.0, 50.0),
        spectrum,
        uncertainty_percent=args.uncertainty,
        threads=args.threads,
        gpu=args.gpu,
    )
    cpu = time.process_time() - cpu
    rms, most = engine.spread_percent(WITHIN_MM)
    print(  # noqa: T201 - what the command is for
        json.dumps(
            {
                "montecarlo_seconds": round(engine.seconds, 1),
                "montecarlo_cpu_seconds": round(cpu, 1),
                "threads": engine.threads,
                "device": engine.device,
                "histories": engine.histories,
                "histories_per_second": round(engine.histories / engine.seconds),
                "rms_percent_within_20_mm": round(rms, 3),
                "p95_percent_within_20_mm": round(most, 3),
                "efficiency_per_s": float(np.round(1.0 / ((rms / 100.0) ** 2 * engine.seconds), 1)),
                "raytrace_seconds": round(rays, 3),
                "water_seconds": round(water, 5),
                "raytrace_over_water": round(rays / water, 1),
                "load": os.getloadavg()[0],
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
