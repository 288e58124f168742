"""The month's table QA, scripted: check the new table, compare it with the accepted one, follow the history.

    python examples/monthly_table_qa.py MEASURED.csv ACCEPTED.csv HISTORY_FOLDER OUT_FOLDER

Writes a JSON file for each part and prints what fails or warns. Exit status 1 where something fails, 2 where a file
cannot be read. For research and education; not for treating patients.
"""

import json
import sys
from argparse import SUPPRESS, ArgumentParser, RawTextHelpFormatter
from pathlib import Path

from iort_planner import INTENDED_USE, IortError
from iort_planner.qa import check_table, compare_tables, trend


def main(measured: str, accepted: str, history: str, out: Path) -> int:
    results = {
        "check": check_table(measured),
        "compare": compare_tables(measured, accepted),
        "trend": trend(history),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, result in results.items():
        (out / f"{name}.json").write_text(json.dumps(result.as_json(), indent=2), encoding="utf-8")
        print(f"{name}: {result.verdict.upper()}")
        for finding in result.findings:
            if finding.status != "pass":
                where = "" if finding.line is None else f", line {finding.line}"
                print(f"  {finding.status} {finding.id}{where}: {finding.message}")
    best = results["compare"].explanations[0] if results["compare"].explanations else None
    if best is not None:
        print(f"the tables differ by: {best.name} (slip {best.slip_mm:+.2f} mm, factor {best.factor:.3f})")
    return 1 if any(result.verdict == "fail" for result in results.values()) else 0


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, usage=SUPPRESS, formatter_class=RawTextHelpFormatter)
    parser.add_argument("measured")
    parser.add_argument("accepted")
    parser.add_argument("history")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    print(INTENDED_USE)
    try:
        sys.exit(main(args.measured, args.accepted, args.history, args.out))
    except (IortError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
