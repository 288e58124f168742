"""The month's table QA, scripted: check the new table, compare it with the accepted one, follow the history.

    python examples/monthly_table_qa.py MEASURED.csv ACCEPTED.csv HISTORY_FOLDER OUT_FOLDER

Writes a JSON file for each part and prints what fails or warns. Exit status 1 where something fails, 2 where a file
cannot be read. For research and education; not for treating patients.
"""

import json
import sys
from pathlib import Path

from iort_planner import IortError
from iort_planner.qa import check_table, compare_tables, trend


def main(measured: str, accepted: str, history: str, out: str) -> int:
    try:
        results = {
            "check": check_table(measured),
            "compare": compare_tables(measured, accepted),
            "trend": trend(history),
        }
    except IortError as problem:
        print("cannot be judged:", problem)
        return 2
    Path(out).mkdir(parents=True, exist_ok=True)
    for name, result in results.items():
        (Path(out) / f"{name}.json").write_text(json.dumps(result.as_json(), indent=2), encoding="utf-8")
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
    sys.exit(main(*sys.argv[1:5]))
