"""The physicist at the console, scripted: a scan in, the numbers that matter out, and a stop where something is wrong.

    python examples/plan_a_scan.py SCAN PLAN_FOLDER [--dose GY] [--limit GY] [--depth MM --depth-from source|surface|tip]

Without a depth the limit at the canal's wall sets the time. Writes the plan folder, reads the plan back as it was written,
and says what to look at before anybody presses a button. Exit status 1 where a check fails, 2 for bad input. For research
and education; not for treating patients.
"""

import sys
from argparse import SUPPRESS, ArgumentParser, RawTextHelpFormatter
from pathlib import Path

from iort_planner import INTENDED_USE, DepthReference, IortError, PlanRequest, Prescription, plan_scan
from iort_planner.planning.plan_file import read_plan


def main(scan: Path, out: Path, prescription: Prescription) -> int:
    plan = plan_scan(out, PlanRequest(path=scan, prescription=prescription))
    if read_plan(out / "plan.json") != plan:
        raise IortError(f"{out / 'plan.json'} does not read back as it was made; do not use it, report it")
    needle, canal, result = plan.needles[0], plan.canal, plan.result
    print(
        f"scan: {plan.image.modality}, {' x '.join(map(str, plan.image.size_voxels))} voxels, {plan.image.patient_position}"
    )
    tip = ", ".join(f"{x:.1f}" for x in needle.tip_lps_mm)
    print(
        f"needle: tip at ({tip}) mm LPS, +/- {needle.tip_uncertainty_mm:.2f} mm (k=1), confidence {needle.confidence}"
    )
    print(
        f"canal: {canal.distance_from_source_mm:.1f} mm from the source centre, {canal.distance_from_tip_mm:.1f} mm from the "
        f"tip, +/- {canal.uncertainty_mm:.2f} mm (k=1), confidence {canal.confidence}"
    )
    radius = result.isodose_radius_mm[f"{plan.prescription.dose_gy:g}"]
    where = "outside the table" if radius is None else f"at {radius:.1f} mm from the source centre"
    print(f"{plan.verdict.upper()}: {plan.dwell_time_text}, {plan.prescription.dose_gy:g} Gy {where}")
    print(f"largest time for {plan.prescription.limit_gy:g} Gy in the canal: {plan.max_safe_dwell_time_text}")
    print(f"canal gets {result.canal_max_gy:.1f} Gy = {result.canal_max_gy_rbe:.1f} Gy(RBE)")
    print(f"  within {result.uncertainty.canal_dose_text} (k=2): {result.uncertainty.parts_text}")
    print(f"second check: {plan.second_check.text}")
    for check in plan.checks:
        if check.status != "pass":
            print(f"  {check.status} {check.id}: {check.message}")
    print(f"look at {out / 'slices.png'} and {out / 'scene.png'}; {out / 'report.pdf'} is the page for the theatre")
    return 1 if plan.verdict == "fail" else 0


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, usage=SUPPRESS, formatter_class=RawTextHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dose", type=float, default=8.0)
    parser.add_argument("--limit", type=float, default=8.0)
    parser.add_argument("--depth", type=float)
    parser.add_argument("--depth-from", type=DepthReference, default=DepthReference.SOURCE)
    args = parser.parse_args()
    print(INTENDED_USE)
    try:
        asked = {"dose_gy": args.dose, "limit_gy": args.limit, "depth_mm": args.depth, "depth_from": args.depth_from}
        sys.exit(main(args.scan, args.out, Prescription(**asked)))
    except (IortError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
