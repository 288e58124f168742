"""Every benchmark in one run, as ratios and exponents, because the machines are shared and noisy.

    python -m tests.benchmarks [--quick] [--out FOLDER] [--plots FOLDER] [--cases MODULE:FUNCTION]

Reading against SimpleITK and pydicom; needle, canal and the whole plan against SimpleITK's read; the dose grid against
np.copyto; the table's kernels; memory phase by phase; growth with slices, dose grid and cases. Each part runs in a process
of its own with one thread. The full run takes about a quarter of an hour on two cores, ``--quick`` under three minutes: it
shows that everything runs, on sizes too small to judge by. ``--out`` keeps each part's JSON, ``--plots`` the curves.

Exit status: 0 every bar is met, 1 one is not (``--quick`` has no bars), 2 a part could not run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def phantom(spec: str | Path, folder: Path) -> Path:
    """The scan of a phantom made for this run."""
    code = "from iort_planner.cli.main import entry_point; entry_point()"
    run([sys.executable, "-c", code, "phantom", str(spec), "--out", str(folder), "--quiet"])
    return folder / "scan"


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """A part as a process with one thread; its words on stderr go through."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT, env=environment)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="each part's output as JSON")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="benchmarks-slices.png, -grid.png, -cases.png")
    parser.add_argument("--cases", metavar="MODULE:FUNCTION", help="what a case is; see tests/benchmarks/growth.py")
    args = parser.parse_args()
    for folder in (args.out, args.plots):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    status = 0
    with tempfile.TemporaryDirectory() as name:
        scan = str(phantom("small" if args.quick else ROOT / "tests" / "benchmarks" / "large.toml", Path(name) / "p"))
        growth = ["--quick"] * args.quick
        growth += ["--cases", args.cases] if args.cases else []
        growth += ["--plots", str(args.plots.resolve())] if args.plots else []
        repeats = ["--repeats", "1" if args.quick else "3"]
        parts = {
            "read_time": [*repeats, *(["--small"] * args.quick)],
            "plan_time": [*repeats, "--scan", scan],
            "dose_time": ["--repeats", "1" if args.quick else "5"],
            "source_time": [],
            "memory": [scan],
            "growth": growth,
        }
        for part, options in parts.items():
            start = time.perf_counter()
            as_json = ["--json"] if args.out is not None else []
            done = run([sys.executable, "-m", f"tests.benchmarks.{part}", *options, *as_json])
            took = time.perf_counter() - start
            sys.stdout.write(f"\n== {part}: exit status {done.returncode}, {took:.0f} s\n")
            if args.out is not None:
                (args.out / f"{part}.json").write_text(done.stdout, encoding="utf-8")
            sys.stdout.write(done.stdout)
            sys.stdout.flush()
            if not done.stdout:
                status = 2
            elif done.returncode and not args.quick:
                status = max(status, 1)
    return status


if __name__ == "__main__":
    sys.exit(main())
