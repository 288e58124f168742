"""Every plan below a folder as one row of a table: OUT.csv, and the main numbers on the console.

    python examples/plans_to_a_table.py FOLDER OUT.csv

Reads plan.json files whole and checked, as the package does: what was changed by hand or made by another version is named on
stderr and left out, with exit status 1. Exit status 2 where there is no plan at all. Patients appear by their id alone; the
table is as confidential as the plans. For research and education; not for treating patients.
"""

import csv
import sys
from argparse import SUPPRESS, ArgumentParser, RawTextHelpFormatter
from pathlib import Path

from iort_planner import INTENDED_USE, IortError, Plan
from iort_planner.output import whole_file
from iort_planner.planning.plan_file import read_plan


def row_of(path: Path, plan: Plan) -> dict[str, object]:
    result, prescription = plan.result, plan.prescription
    low, high = result.uncertainty.canal_dose_band_k2_gy
    return {
        "plan": str(path.parent),
        "verdict": plan.verdict,
        "created": plan.created,
        "patient_id": plan.patient.id,
        "table": plan.source.name,
        "prescribed_gy": prescription.dose_gy,
        "depth_from_source_mm": prescription.depth_from_source_mm,
        "limit_gy": prescription.limit_gy,
        "canal_from_source_mm": plan.canal.distance_from_source_mm,
        "canal_from_tip_mm": plan.canal.distance_from_tip_mm,
        "canal_confidence": plan.canal.confidence,
        "needle_confidence": plan.needles[0].confidence,
        "dwell_time_s": result.dwell_time_s,
        "max_safe_dwell_time_s": result.max_safe_dwell_time_s,
        "canal_max_gy": result.canal_max_gy,
        "canal_max_low_k2_gy": low,  # an empty cell: outside the table
        "canal_max_high_k2_gy": high,
        "probability_over_limit": result.uncertainty.probability_over_limit,
        "not_passed": " ".join(f"{check.id}:{check.status}" for check in plan.checks if check.status != "pass"),
    }


def main(folder: Path, out: Path) -> int:
    rows, unread = [], 0
    for path in sorted(folder.rglob("plan.json")):
        try:
            rows.append(row_of(path.relative_to(folder), read_plan(path)))
        except IortError as problem:
            unread += 1
            print(f"left out: {problem}", file=sys.stderr)
    if not rows:
        raise IortError(f"no plan.json that can be read below {folder}; give a folder of plans that 'plan' wrote")
    with whole_file(out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"{'plan':28} {'verdict':8} {'time s':>8} {'canal mm':>9} {'canal Gy':>9}  not passed")
    for row in rows:
        numbers = f"{row['dwell_time_s']:8.0f} {row['canal_from_source_mm']:9.2f} {row['canal_max_gy']:9.2f}"
        print(f"{row['plan']:28} {row['verdict']:8} {numbers}  {row['not_passed']}")
    print(f"{len(rows)} plans in {out}" + (f", {unread} left out" if unread else ""))
    return 1 if unread else 0


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, usage=SUPPRESS, formatter_class=RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    print(INTENDED_USE)
    try:
        sys.exit(main(args.folder, args.out))
    except (IortError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
