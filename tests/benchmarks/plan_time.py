"""Time of a whole plan against SimpleITK's read of the same series, both in one run: a ratio, not a time.

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

LIMIT = 40.0  # issue 1: at most 40 times SimpleITK's read

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
        reads, inside, whole, size, steps = [], [], [], "", ""
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
    ratio = min(whole) / min(reads)
    result = {
        "size": size,
        "simpleitk_read_s": min(reads),
        "plan_s": min(inside),
        "plan_whole_process_s": min(whole),
        "ratio": min(inside) / min(reads),
        "ratio_whole_process": ratio,
        "limit": LIMIT,
    }
    if args.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        sys.stdout.write(f"steps of the last plan, s:\n{steps}\n")
        sys.stdout.write("\n".join(f"{key:<22} {value}" for key, value in result.items()) + "\n")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
