"""The physicist at the console, scripted: a scan in, the numbers that matter out, and a stop where something is wrong.

    python examples/plan_a_scan.py SCAN PLAN_FOLDER

SCAN is a folder with a CT series. For research and education; not for treating patients.
"""

import sys
from pathlib import Path

from iort_planner import IortError, PlanRequest, Prescription, plan_scan


def main(scan: Path, out: Path) -> int:
    try:
        plan = plan_scan(out, PlanRequest(path=scan, prescription=Prescription(dose_gy=8.0, limit_gy=8.0)))
    except IortError as problem:
        print("cannot plan:", problem)
        return 2
    result, distance, radius = plan.result, plan.canal.distance_from_source_mm, plan.result.isodose_radius_mm["8"]
    print(f"{plan.verdict.upper()}: {plan.dwell_time_text}, 8 Gy at {radius:.1f} mm from the source centre")
    print(f"canal at {distance:.1f} mm: {result.canal_max_gy:.1f} Gy = {result.canal_max_gy_rbe:.1f} Gy(RBE)")
    for check in plan.checks:
        if check.status != "pass":
            print(f"  {check.status} {check.id}: {check.message}")
    return 1 if plan.verdict == "fail" else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
