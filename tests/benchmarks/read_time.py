"""Time and memory of reading scans against SimpleITK and pydicom, all in one run: ratios, not times.

    python tests/benchmarks/read_time.py [--repeats 3] [--small] [--json]

The scans are made first, in a temporary folder: 200 and 600 slices of 512 x 512 uncompressed, a 500-frame Enhanced CT, 120
slices JPEG 2000, 200 slices RLE. Each read runs in a process of its own with one thread a library; imports are not counted,
the operating system's file cache is warm. The least of the repeats counts: the machines are shared. ``--small`` makes a
tenth of it, to see that the benchmark runs.

Limits (issue 3): uncompressed at most 1.5 times SimpleITK's ImageSeriesReader; 600 slices and the 500-frame object at most
twice pydicom's own decode; RLE at most half of SimpleITK's time; memory at most 4 times the volume plus 500 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
MEMORY_FACTOR, MEMORY_MB = 4.0, 500.0

_COMMON = """
import resource, sys, time
from pathlib import Path
def status(key):
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    return 0.0
folder = Path(sys.argv[1])
"""
_OURS = (
    _COMMON
    + """
import scipy.ndimage, scipy.signal, pydicom
from iort_planner.imaging.dicom import candidates, discovery, headers
from iort_planner.imaging.series import load_series
before = status("VmRSS")
start = time.perf_counter()
image = load_series(folder)
took = time.perf_counter() - start
children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(took, status("VmHWM") - before, image.volume.values.nbytes / 2**20)
"""
)
_SIMPLEITK = (
    _COMMON
    + """
import SimpleITK as sitk
reader = sitk.ImageSeriesReader()
before = status("VmRSS")
start = time.perf_counter()
reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
image = reader.Execute()
print(time.perf_counter() - start, status("VmHWM") - before, 0)
"""
)
_PYDICOM = (
    _COMMON
    + """
import numpy, pydicom, pydicom.pixels
before = status("VmRSS")
start = time.perf_counter()
planes = [pydicom.dcmread(path).pixel_array for path in sorted(folder.iterdir())]
print(time.perf_counter() - start, status("VmHWM") - before, 0)
"""
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One scan, what it is compared with, and how much of that time it may take."""

    name: str
    make: Callable[[Path, int], None]
    count: int
    against: str
    limit: float


def _scan(count: int):  # type: ignore[no-untyped-def]  # a Scan of the test factory, which is imported late
    import numpy as np

    from tests.imaging.dicom_factory import Scan

    rng = np.random.default_rng(1)
    distinct = min(count, 20)
    j, i = np.mgrid[-1:1:512j, -1:1:512j]
    body = np.where(i**2 + (1.4 * j) ** 2 < 0.7, 40.0, -1000.0)
    planes = np.clip(np.rint(body + rng.normal(0, 12, (distinct, 512, 512))), -1024, 3071)
    values = planes[np.arange(count) % distinct]
    return Scan(size=(512, 512, count), spacing_mm=(0.7, 0.7, 0.625), values=values)


def _series(syntax_name: str) -> Callable[[Path, int], None]:
    def make(folder: Path, count: int) -> None:
        from pydicom import uid
        from pydicom.encaps import encapsulate

        from tests.imaging.dicom_factory import slice_dataset
        from tests.imaging.multiframe_factory import ENCAPSULATED, compress_frames, save_as

        syntax = getattr(uid, syntax_name)
        scan = _scan(count)
        distinct = min(count, 20)
        streams: list[bytes] = []
        for k in range(count):
            data = slice_dataset(scan, k, instance=k)
            if syntax not in ENCAPSULATED:
                save_as(data, folder / f"{k:04d}.dcm", syntax)
                continue
            if k < distinct:
                streams += compress_frames(data, syntax)
            data.file_meta.TransferSyntaxUID = syntax
            data.PixelData = encapsulate([streams[k % distinct]])
            data["PixelData"].VR = "OB"
            data["PixelData"].is_undefined_length = True
            data.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)

    return make


def _enhanced(folder: Path, count: int) -> None:
    from tests.imaging.multiframe_factory import write_frames

    write_frames(folder / "image.dcm", _scan(count))


BENCHES = (
    Bench(
        name="200 slices, uncompressed",
        make=_series("ExplicitVRLittleEndian"),
        count=200,
        against="SimpleITK",
        limit=1.5,
    ),
    Bench(
        name="600 slices, uncompressed", make=_series("ExplicitVRLittleEndian"), count=600, against="pydicom", limit=2.0
    ),
    Bench(name="Enhanced CT of 500 frames", make=_enhanced, count=500, against="pydicom", limit=2.0),
    Bench(name="120 slices, JPEG 2000", make=_series("JPEG2000Lossless"), count=120, against="pydicom", limit=2.0),
    Bench(name="200 slices, RLE", make=_series("RLELossless"), count=200, against="SimpleITK", limit=0.5),
)


def measure(code: str, folder: Path) -> tuple[float, float, float]:
    """Seconds, memory grown in MB, volume in MB: of one process."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], check=True, capture_output=True, text=True, env=environment
    )
    seconds, grown, volume = (float(word) for word in done.stdout.split())
    return seconds, grown, volume


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", help="benchmarks whose name contains this")
    parser.add_argument("--small", action="store_true", help="a tenth of the slices")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results = []
    for bench in BENCHES:
        if args.only and args.only not in bench.name:
            continue
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            bench.make(folder, max(4, bench.count // (10 if args.small else 1)))
            other = {"SimpleITK": _SIMPLEITK, "pydicom": _PYDICOM}[bench.against]
            ours, theirs = [], []
            for _ in range(args.repeats):  # by turns, so that a slow minute hits both
                theirs.append(measure(other, folder))
                ours.append(measure(_OURS, folder))
        seconds, grown, volume = min(ours)
        ratio = seconds / min(theirs)[0]
        results.append(
            {
                "name": bench.name,
                "seconds": round(seconds, 3),
                "against": bench.against,
                "against_seconds": round(min(theirs)[0], 3),
                "ratio": round(ratio, 3),
                "limit": bench.limit,
                "volume_mb": round(volume, 1),
                "memory_grown_mb": round(grown, 1),
                "memory_times_volume": round(grown / volume, 2),
                "met": ratio <= bench.limit and grown <= MEMORY_FACTOR * volume + MEMORY_MB,
            }
        )
        if not args.json:
            sys.stdout.write("  ".join(f"{key} {value}" for key, value in results[-1].items()) + "\n")
            sys.stdout.flush()
    if args.json:
        sys.stdout.write(json.dumps(results, indent=2) + "\n")
    return 0 if all(r["met"] for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
