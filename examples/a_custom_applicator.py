"""Another needle: its drawing as a TOML file, the same scan planned with it and with the needle that is shipped.

    python examples/a_custom_applicator.py APPLICATOR.toml SCAN OUT_FOLDER

examples/data/other-needle.toml is one to start from: the reference needle with its source 0.8 mm nearer to the tip, at the
lower end of what is plausible. The plans go to OUT_FOLDER/reference and OUT_FOLDER/own, without pictures. The table must
belong to the applicator; here both plans use the shipped one. For research and education; not for treating patients.
"""

import sys
from argparse import SUPPRESS, ArgumentParser, RawTextHelpFormatter
from pathlib import Path

from iort_planner import INTENDED_USE, IortError, PlanRequest, plan_scan, read_applicator
from iort_planner.library import DEFAULT_APPLICATOR


def main(own: str, scan: Path, out: Path) -> int:
    plans = {}
    for label, name in (("reference", DEFAULT_APPLICATOR), ("own", own)):
        applicator = read_applicator(name)
        print(
            f"{label}: {applicator.name}, {applicator.outer_diameter_mm:g} mm thick, source {applicator.tip_to_source_mm:g} mm "
            f"and metal {applicator.radiolucent_tip_length_mm:g} mm behind the tip"
        )
        plans[label] = plan_scan(out / label, PlanRequest(path=scan, applicator=name, pictures=False))
    print(f"\n{'':38}{'reference':>12}{'own':>12}")
    for what, number in (
        ("tip to canal, mm", lambda plan: plan.canal.distance_from_tip_mm),
        ("source centre to canal, mm", lambda plan: plan.canal.distance_from_source_mm),
        ("surface to canal, mm", lambda plan: plan.canal.distance_from_surface_mm),
        ("dwell time for the canal's limit, s", lambda plan: plan.result.dwell_time_s),
        ("radius of the limit's isodose, mm", lambda plan: plan.prescription.depth_from_source_mm),
    ):
        print(f"{what:38}{number(plans['reference']):12.2f}{number(plans['own']):12.2f}")
    # What goes wrong if the needle is the own one and the plan was made with the reference: time of one, distance of the other
    ratio = plans["reference"].result.dwell_time_s / plans["own"].result.dwell_time_s
    limit = plans["own"].prescription.limit_gy
    print(
        f"\nthe reference's time with the own needle would give the canal {limit * ratio:.1f} Gy in place of {limit:g} Gy"
    )
    for label, plan in plans.items():
        remarks = [f"{check.status} {check.id}" for check in plan.checks if check.status != "pass"]
        print(f"{label}: {plan.verdict.upper()} ({', '.join(remarks) or 'every check passed'})")
    return 1 if any(plan.verdict == "fail" for plan in plans.values()) else 0


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, usage=SUPPRESS, formatter_class=RawTextHelpFormatter)
    parser.add_argument("applicator")
    parser.add_argument("scan", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    print(INTENDED_USE)
    try:
        sys.exit(main(args.applicator, args.scan, args.out))
    except (IortError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
