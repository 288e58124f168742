"""Time of a whole plan, and of needle + canal + distances alone, against SimpleITK's read of the series: ratios in one run.

    python tests/benchmarks/plan_time.py [--scan FOLDER] [--repeats 3] [--json]

Without --scan a phantom of 512 x 512 x 200 voxels is built first (half a minute). Each plan runs in a process of its own,
start-up and imports included; so does each read. The least of the repeats counts: the machines are shared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 40.0  # whole plan: at most 40 times SimpleITK's read
GEOMETRY_LIMIT = 25.0  # needle, canal and distances: at most 25 times

_READ = """
import sys, time
import SimpleITK as sitk
reader = sitk.ImageSeriesReader()
start = time.perf_counter()
reader.SetFileNames(reader.GetGDCMSeriesFileNames(sys.argv[1]))
image = reader.Execute()
print(time.perf_counter() - start, *image.GetSize())
"""

_PLAN = """
import sys, time
from pathlib import Path
start = time.perf_counter()
from iort_planner.workflow import PlanRequest, plan_into
from iort_planner.applicator import read_applicator
marks = []
def step(name):
    marks.append((name, time.perf_counter() - start))
plan_into(Path(sys.argv[2]), PlanRequest(path=Path(sys.argv[1]), pictures=False), step=step)
marks.append(("end", time.perf_counter() - start))
for (name, at), (_, until) in zip(marks, marks[1:]):
    print(f"{until - at:.3f} {name}", file=sys.stderr)
print(marks[-1][1])
"""


_GEOMETRY = """
import sys, time
from pathlib import Path
from iort_planner.applicator import read_applicator
from iort_planner.imaging.series import load_series
volume, applicator = load_series(Path(sys.argv[1])).volume, read_applicator("needle-4.4mm")
start = time.perf_counter()
from iort_planner.geometry.canal import segment_canal
from iort_planner.geometry.distance import canal_distances
from iort_planner.geometry.needle import locate_needle
needle = locate_needle(volume, applicator)
at_needle = time.perf_counter()
canal = segment_canal(volume, needle.source_lps_mm, needle.axis_lps)
at_canal = time.perf_counter()
canal_distances(needle, applicator, canal)
end = time.perf_counter()
print(end - start, at_needle - start, at_canal - at_needle, end - at_canal)
"""


def run(code: str, *arguments: object) -> tuple[float, str, str]:
    """Wall time of a whole Python process, its output, its step times."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=True, capture_output=True, text=True, env=environment
    )
    return time.perf_counter() - start, done.stdout, done.stderr


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scan", type=Path, help="folder with one series; default: a phantom built for this run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        scan = args.scan
        if scan is None:
            command = [sys.executable, "-c", "from iort_planner.cli.main import entry_point; entry_point()"]
            spec = Path(__file__).parent / "large.toml"
            subprocess.run(
                [*command, "phantom", spec, "--out", work / "phantom", "--quiet"], check=True, stdout=sys.stderr
            )
            scan = work / "phantom" / "scan"
        reads, inside, whole, geometry, size, steps = [], [], [], [], "", ""
        for n in range(args.repeats):
            _, out, _ = run(_READ, scan)
            seconds, *voxels = out.split()
            reads.append(float(seconds))
            size = " x ".join(voxels)
            folder = work / f"plan-{n}"
            folder.mkdir()
            wall, out, steps = run(_PLAN, scan, folder)
            inside.append(float(out))
            whole.append(wall)
            _, out, _ = run(_GEOMETRY, scan)
            geometry.append([float(part) for part in out.split()])
    ratio = min(whole) / min(reads)
    result = {
        "size": size,
        "simpleitk_read_s": min(reads),
        "plan_s": min(inside),
        "plan_whole_process_s": min(whole),
        "ratio": min(inside) / min(reads),
        "ratio_whole_process": ratio,
        "limit": LIMIT,
        "needle_canal_distances_s": min(geometry),
        "ratio_geometry": min(geometry)[0] / min(reads),
        "limit_geometry": GEOMETRY_LIMIT,
    }
    if args.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        sys.stdout.write(f"steps of the last plan, s:\n{steps}\n")
        sys.stdout.write("\n".join(f"{key:<22} {value}" for key, value in result.items()) + "\n")
    return 0 if ratio <= LIMIT and min(geometry)[0] / min(reads) <= GEOMETRY_LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
