"""Time of the float kernels behind time and radius, and of the public calls on quantities.

    python tests/benchmarks/source_time.py [--json]

One run: each call is repeated, the least of the repeats counts (the machines are shared). The limits are issue 4's: the
kernels under 50 us, the public calls under 500 us. Beside them, the same call as a ratio to one `math.exp`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import timeit

from iort_planner import Quantity, read_table
from iort_planner.planning.dwell import dwell_time, isodose_radius

KERNEL_LIMIT_US, PUBLIC_LIMIT_US = 50.0, 500.0


def microseconds(statement: object, number: int) -> float:
    """Least time of a call, in microseconds."""
    return 1e6 * min(timeit.repeat(statement, number=number, repeat=7)) / number  # type: ignore[arg-type]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    table = read_table()
    r, rate = Quantity(8.3, "mm"), Quantity(6.1, "Gy/min")
    dose, time = Quantity(8.0, "Gy"), Quantity(70.0, "s")
    unit = microseconds(lambda: math.exp(1.1), 100_000)
    met = True
    calls = {
        "rate at a distance, kernel": (lambda: table._rate_float(8.3), KERNEL_LIMIT_US, 20_000),
        "distance at a rate, kernel": (lambda: table._distance_float(6.1), KERNEL_LIMIT_US, 20_000),
        "dose_rate_at": (lambda: table.dose_rate_at(r), PUBLIC_LIMIT_US, 500),
        "distance_at": (lambda: table.distance_at(rate), PUBLIC_LIMIT_US, 500),
        "dwell_time": (lambda: dwell_time(table, dose, r), PUBLIC_LIMIT_US, 500),
        "isodose_radius": (lambda: isodose_radius(table, dose, time), PUBLIC_LIMIT_US, 500),
    }
    results = []
    lines = []
    for name, (call, limit, number) in calls.items():
        took = microseconds(call, number)
        results.append({"call": name, "us": took, "limit_us": limit, "ratio_to_exp": took / unit})
        lines.append(f"{name:28s} {took:8.2f} us (limit {limit:g}), {took / unit:7.1f} times math.exp")
        met &= took < limit
    sys.stdout.write((json.dumps({"exp_us": unit, "calls": results}) if args.json else "\n".join(lines)) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
