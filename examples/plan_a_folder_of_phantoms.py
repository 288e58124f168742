"""Plan every phantom of a folder and compare with its truth: a table on the console and in OUT_FOLDER/cases.csv.

    python examples/plan_a_folder_of_phantoms.py FOLDER OUT_FOLDER

Each folder in FOLDER that holds scan/ and truth.json is a case, as `iort-planner phantom SPEC --out FOLDER/CASE --seed N`
writes them. A case that cannot be planned is a row with its reason, and the rest go on. The safe time by the truth uses the
plan's own table: what differs is the geometry alone. Exit status 1 where a case could not be planned or a check failed, 2
for bad input. For research and education; not for treating patients.
"""

import csv
import json
import math
import sys
from argparse import SUPPRESS, ArgumentParser, RawTextHelpFormatter
from pathlib import Path

from iort_planner import INTENDED_USE, IortError, PlanRequest, Quantity, plan_scan, read_table
from iort_planner.output import whole_file
from iort_planner.planning.dwell import dwell_time

COLUMNS = "case verdict tip_error_mm axis_error_deg canal_mm canal_true_mm canal_error_mm time_s time_true_s problem"


def row_of(case: Path, out: Path) -> dict[str, object]:
    truth = json.loads((case / "truth.json").read_text(encoding="utf-8"))
    needle, true_mm = truth["needles"][0], truth["canal"]["distance_from_source_mm"]
    row: dict[str, object] = {"case": case.name, "canal_true_mm": round(true_mm, 2)}
    try:
        plan = plan_scan(out / case.name, PlanRequest(path=case / "scan", pictures=False))
    except IortError as problem:
        return row | {"verdict": "none", "problem": str(problem)}
    found, distance = plan.needles[0], plan.canal.distance_from_source_mm
    cosine = sum(a * b for a, b in zip(found.axis_lps, needle["axis_lps"], strict=True))
    safe = dwell_time(read_table(), Quantity(plan.prescription.limit_gy, "Gy"), Quantity(true_mm, "mm"))
    return row | {
        "verdict": plan.verdict,
        "tip_error_mm": round(math.dist(found.tip_lps_mm, needle["tip_lps_mm"]), 2),
        "axis_error_deg": round(math.degrees(math.acos(min(cosine, 1.0))), 2),
        "canal_mm": round(distance, 2),
        "canal_error_mm": round(distance - true_mm, 2),
        "time_s": round(plan.result.max_safe_dwell_time_s, 1),
        "time_true_s": round(float(safe.to("s").magnitude), 1),
    }


def main(folder: Path, out: Path) -> int:
    cases = sorted(path.parent for path in folder.glob("*/truth.json"))
    if not cases:
        raise IortError(
            f"no folder with a truth.json in {folder}; make one with 'iort-planner phantom small --out ...'"
        )
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for case in cases:
        rows.append(row_of(case, out))
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()))
    with whole_file(out / "cases.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS.split())
        writer.writeheader()
        writer.writerows(rows)
    bad = sum(row["verdict"] in ("none", "fail") for row in rows)
    print(f"{len(rows)} cases, {bad} not planned or failing; table in {out / 'cases.csv'}")
    return 1 if bad else 0


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, usage=SUPPRESS, formatter_class=RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    print(INTENDED_USE)
    try:
        sys.exit(main(args.folder, args.out))
    except (IortError, OSError, ValueError, KeyError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
