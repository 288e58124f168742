"""How time grows: with the number of slices, the side of the dose grid, the number of cases; each with a fitted exponent.

    python -m tests.benchmarks.growth [--only slices|grid|cases] [--quick] [--plots FOLDER] [--json] [--cases MODULE:FUNCTION]

time = a * size**b by least squares in log-log; b stands with its standard error. The least of the repeats counts: the machines
are shared. The numbers are ratios within one run: exponents, not times.

``--cases`` names a function that takes a number and does that many cases in this process; without it a case is one table
asked for time, radius and uncertainty, as a plan asks it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from iort_planner.applicator import read_applicator
from iort_planner.dose.water import dose_on_grid
from iort_planner.geometry.canal import segment_canal
from iort_planner.geometry.needle import locate_needle
from iort_planner.imaging.series import load_series
from iort_planner.imaging.volume import ImageGrid
from iort_planner.planning.dwell import dwell_time, isodose_radius
from iort_planner.planning.uncertainty import Causes, budget
from iort_planner.source.table_file import read_table
from iort_planner.units import FloatArray, Quantity

Cases = Callable[[int], object]
SIZES = {
    "slices": ((50, 100, 200), (50, 100, 200, 400, 800)),
    "grid": ((64, 96, 128, 192), (128, 192, 256, 384, 512)),
    "cases": ((1, 10, 100), (1, 3, 10, 30, 100, 300, 1000)),
}
AXIS = {"slices": "slices of 160 x 160, 96 mm in all", "grid": "side of the dose grid, voxels", "cases": "cases"}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Least times in s at growing sizes, and the power law through them."""

    name: str
    over: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def fit(self) -> tuple[float, float, float]:
        """Factor a in s, exponent b, standard error of b."""
        return power_law(np.array(self.sizes, dtype=np.float64), np.array(self.seconds))


def power_law(size: FloatArray, seconds: FloatArray) -> tuple[float, float, float]:
    """``a``, ``b`` and the standard error of ``b`` in seconds = a * size**b, by least squares of the logarithms."""
    x, y = np.log(size), np.log(seconds)
    spread = float(np.sum((x - x.mean()) ** 2))
    b = float(np.sum((x - x.mean()) * (y - y.mean()))) / spread
    ln_a = float(y.mean() - b * x.mean())
    left = float(np.sum((y - ln_a - b * x) ** 2)) / (size.size - 2)
    return math.exp(ln_a), b, math.sqrt(left / spread)


def least_s(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def slices(sizes: tuple[int, ...], repeats: int) -> Iterator[Curve]:
    """The small phantom on 160 x 160, always 96 mm long, cut into more and more slices."""
    import datetime as dt

    from iort_planner.phantom.dicom_series import write_phantom
    from iort_planner.phantom.scan import build
    from iort_planner.phantom.spec import find_spec, read_spec

    applicator, spec = read_applicator(), read_spec(find_spec("small"))
    took: dict[str, list[float]] = {"read": [], "needle": [], "canal": []}
    for count in sizes:
        grid = replace(spec.grid, size_voxels=(160, 160, count), spacing_mm=(0.65, 0.7, 96.0 / count))
        with tempfile.TemporaryDirectory() as name:
            phantom = build(replace(spec, grid=grid), 1)
            write_phantom(phantom, Path(name), acquired_at=dt.datetime.now().astimezone())
            del phantom
            scan = Path(name) / "scan"
            volume = load_series(scan).volume  # the file cache is warm from here on
            took["read"].append(least_s(lambda: load_series(scan), repeats))  # noqa: B023 # called at once
        needle = locate_needle(volume, applicator)
        took["needle"].append(least_s(lambda: locate_needle(volume, applicator), repeats))  # noqa: B023
        source, axis = needle.source_lps_mm, needle.axis_lps
        took["canal"].append(least_s(lambda: segment_canal(volume, source, axis), repeats))  # noqa: B023
    for name, seconds in took.items():
        yield Curve(name=name, over="slices", sizes=sizes, seconds=tuple(seconds))


def grid(sizes: tuple[int, ...], repeats: int) -> Iterator[Curve]:
    """Dose on n x n x n voxels of 0.1 mm, and np.copyto of such an array beside it."""
    table, source, axis = read_table(), np.array([0.03, 0.02, 0.01]), np.array([0.2, -0.7, 0.6])

    def where(n: int) -> ImageGrid:
        return ImageGrid(
            size_voxels=(n, n, n),
            spacing_mm=np.full(3, 0.1),
            origin_lps_mm=np.full(3, -0.05 * (n - 1)),
            direction=np.eye(3),
        )

    dose_on_grid(table, [source], [240.0], where(8), [axis])  # compiled outside the clock
    dose, copy = [], []
    for n in sizes:
        target, ones = np.empty((n, n, n), dtype=np.float32), np.ones((n, n, n), dtype=np.float32)
        copy.append(least_s(lambda: np.copyto(target, ones), 4 * repeats))  # noqa: B023
        dose.append(least_s(lambda: dose_on_grid(table, [source], [240.0], where(n), [axis]), 2 * repeats))  # noqa: B023
    yield Curve(name="dose", over="grid", sizes=sizes, seconds=tuple(dose))
    yield Curve(name="np.copyto", over="grid", sizes=sizes, seconds=tuple(copy))


def table_cases(count: int) -> None:
    """So many tables asked for time, radius and uncertainty, each at a distance of its own."""
    table, limit = read_table(), Quantity(8.0, "Gy")
    for n in range(count):
        r_mm = 8.0 + 10.0 * ((0.618 * n) % 1.0)
        time_s = dwell_time(table, limit, Quantity(r_mm, "mm"))
        isodose_radius(table, limit, time_s)
        causes = Causes(
            table_percent=10.0,
            scale_percent=0.0,
            output_percent=5.0,
            interpolation_percent=0.0,
            anisotropy_percent=10.0,
            tip_covariance_lps_mm2=0.04 * np.eye(3),
            canal_mm=0.4,
            source_lps_mm=np.zeros(3),
            wall_lps_mm=np.array([r_mm, 0.0, 0.0]),
            axis_lps=np.array([0.0, 0.0, 1.0]),
        )
        budget(
            causes,
            rate_gy_per_min=table.rate_gy_per_min,
            range_mm=table.range_mm,
            exponent=table.local_exponent(Quantity(r_mm, "mm")),
            canal_dose_gy=8.0,
            limit_gy=8.0,
        )


def cases(sizes: tuple[int, ...], repeats: int, work: Cases = table_cases) -> Iterator[Curve]:
    """So many cases in one process."""
    work(1)  # imports and caches outside the clock
    seconds = [least_s(lambda: work(n), repeats if n > 30 else 5 * repeats) for n in sizes]  # noqa: B023
    yield Curve(name=work.__name__.replace("_", " "), over="cases", sizes=sizes, seconds=tuple(seconds))


def curves(only: tuple[str, ...], *, quick: bool, work: Cases = table_cases) -> Iterator[Curve]:
    """Every curve that is asked for."""
    repeats = 1 if quick else 3
    for over in only:
        sizes = SIZES[over][0 if quick else 1]
        if over == "cases":
            yield from cases(sizes, repeats, work)
        else:
            yield from {"slices": slices, "grid": grid}[over](sizes, repeats)


def draw(found: list[Curve], folder: Path) -> list[Path]:
    """One picture for what grows, with the points and the fitted lines."""
    from matplotlib.figure import Figure

    written = []
    for over in dict.fromkeys(curve.over for curve in found):
        figure = Figure(figsize=(5.2, 3.8), layout="constrained")
        axes = figure.subplots()
        for n, curve in enumerate(each for each in found if each.over == over):
            a, b, error = curve.fit
            sizes = np.array(curve.sizes, dtype=np.float64)
            axes.loglog(sizes, curve.seconds, "o", color=f"C{n}")
            axes.loglog(sizes, a * sizes**b, "-", color=f"C{n}", label=f"{curve.name}: {b:.2f} ± {error:.2f}")
        axes.set(xlabel=AXIS[over], ylabel="least time, s")
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(title="exponent")
        path = folder / f"benchmarks-{over}.png"
        figure.savefig(path, dpi=100, metadata={"Software": None})
        written.append(path)
    return written


def as_json(found: list[Curve]) -> list[dict[str, object]]:
    return [
        {
            "name": curve.name,
            "over": curve.over,
            "sizes": curve.sizes,
            "seconds": curve.seconds,
            "exponent": curve.fit[1],
            "exponent_standard_error": curve.fit[2],
        }
        for curve in found
    ]


def as_text(found: list[Curve]) -> str:
    lines = []
    for curve in found:
        _, b, error = curve.fit
        points = ", ".join(f"{n}: {s:.3g} s" for n, s in zip(curve.sizes, curve.seconds, strict=True))
        lines.append(f"{curve.name} over {curve.over}: exponent {b:.2f} ± {error:.2f} ({points})")
    return "\n".join(lines) + "\n"


def function(text: str) -> Cases:
    """The function that ``MODULE:FUNCTION`` names."""
    module, _, name = text.partition(":")
    try:
        found: Cases = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}; write MODULE:FUNCTION") from error
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SIZES, action="append")
    parser.add_argument("--quick", action="store_true", help="fewer sizes, one repeat")
    parser.add_argument("--plots", type=Path, metavar="FOLDER")
    parser.add_argument("--cases", type=function, default=table_cases, metavar="MODULE:FUNCTION")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = list(curves(tuple(args.only or SIZES), quick=args.quick, work=args.cases))
    if args.plots:
        draw(found, args.plots)
    sys.stdout.write(json.dumps(as_json(found), indent=2) + "\n" if args.json else as_text(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
