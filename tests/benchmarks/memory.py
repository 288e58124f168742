"""Peak memory of a plan, phase by phase, in a process of its own.

    python -m tests.benchmarks.memory SCAN [--json]

For each phase: the largest resident memory while it ran (Linux; the mark is set back between the phases), and the
largest of the child processes that decode compressed pixels. Beside it the multiple of the scan's voxels as held.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_CHILD = """
import json, resource, sys
from pathlib import Path

def status(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise SystemExit("no " + key)

def reset():
    Path("/proc/self/clear_refs").write_text("5")

phases, current = [], "imports"
def step(name):
    global current
    phases.append((current, status("VmHWM")))
    reset()
    current = name

from iort_planner.workflow import PlanRequest, plan_into
plan = plan_into(Path(sys.argv[2]), PlanRequest(path=Path(sys.argv[1])), step=step)
phases.append((current, status("VmHWM")))
size = plan.image.size_voxels
print(json.dumps({
    "voxels": size,
    "phases_mb": phases,
    "whole_process_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "children_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
}))
"""


def measure(scan: Path) -> dict[str, object]:
    """What a plan with pictures of this scan needs, MB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(scan), out],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
    found: dict[str, object] = json.loads(done.stdout)
    size = found["voxels"]
    assert isinstance(size, list)
    found["volume_mb"] = size[0] * size[1] * size[2] * 2 / 2**20  # int16, as CT is held
    return found


def as_text(found: dict[str, object]) -> str:
    phases, volume, size = found["phases_mb"], found["volume_mb"], found["voxels"]
    assert isinstance(phases, list)
    assert isinstance(volume, float)
    assert isinstance(size, list)
    lines = [f"{' x '.join(map(str, size))} voxels, {volume:.0f} MB as int16"]
    base = phases[0][1]
    lines += [f"{name:24s} {mb:7.0f} MB, {(mb - base) / volume:5.1f} volumes over the imports" for name, mb in phases]
    lines.append(f"{'whole process':24s} {found['whole_process_mb']:7.0f} MB; children {found['children_mb']:.0f} MB")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args.scan)
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if args.json else as_text(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
