"""A new source from its spreadsheets: bare probe times transfer function, checked, written, accepted.

    python examples/commission_a_source.py BARE.csv TRANSFER.csv OUT_FOLDER [NAME]

Without a site's own files take examples/data/bare-probe.csv and needle-over-bare.csv: made-up numbers as a spreadsheet
exports them (semicolons, decimal commas, a row of units). Writes table.csv and check.json. The acceptance by NAME goes to a
record of this folder alone, so trying it signs nothing; for a real one use `iort-planner qa accept`. Exit status 1 where the
check fails (nothing is accepted then), 2 for bad input. For research and education; not for treating patients.
"""

import datetime as dt
import json
import os
import sys
from argparse import SUPPRESS, ArgumentParser, RawTextHelpFormatter
from pathlib import Path

from iort_planner import INTENDED_USE, IortError, apply_transfer, read_table, read_transfer_function, write_table
from iort_planner.qa import check_table
from iort_planner.source.acceptance import accept, record_path, status


def main(bare_file: str, transfer_file: str, out: Path, name: str) -> int:
    out.mkdir(parents=True, exist_ok=True)
    os.environ["IORT_PLANNER_HOME"] = str(out.resolve() / "record")
    bare, transfer = read_table(bare_file), read_transfer_function(transfer_file)
    print(f"bare probe: {bare.name}, {bare.distance_mm.size} rows, scale {bare.scale.value}")
    print(f"transfer function: {transfer.name}, {transfer.distance_mm.size} rows")
    made = apply_transfer(bare, transfer, cut=True)  # rows that the transfer function does not cover are left out
    path = out / "table.csv"
    write_table(made, path)
    table = read_table(path)
    low, high = table.range_mm
    print(f"made: {table.name}, {low:g} to {high:g} mm, clinical: {'yes' if table.clinical else 'no'}")
    print("\ndistance mm   bare Gy/min   factor   needle Gy/min   k=1, %")
    rows = zip(table.distance_mm, table.dose_rate_gy_per_min, table.uncertainty_percent, strict=True)
    for r, rate, percent in rows:
        before = bare.dose_rate_gy_per_min[bare.distance_mm == r][0]
        print(f"{r:11g}   {before:11.4g}   {rate / before:6.4f}   {rate:13.4g}   {percent:6.1f}")
    found = check_table(path)
    (out / "check.json").write_text(json.dumps(found.as_json(), indent=2), encoding="utf-8")
    print(f"\ncheck: {found.verdict.upper()}")
    for finding in found.findings:
        if finding.status != "pass":
            print(f"  {finding.status} {finding.id}: {finding.message}")
    if found.verdict == "fail":
        print("not accepted: a table that fails its check is not signed")
        return 1
    today = dt.datetime.now().astimezone().date()
    entry = accept(path, name, today + dt.timedelta(days=365)).acceptance
    print(f"accepted {entry.text}\n  bytes {entry.sha256}\n  in {record_path()}")
    print(f"a plan of today would find it: {status(table, today).state}")
    return 0


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, usage=SUPPRESS, formatter_class=RawTextHelpFormatter)
    parser.add_argument("bare")
    parser.add_argument("transfer")
    parser.add_argument("out", type=Path)
    parser.add_argument("name", nargs="?", default="an example")
    args = parser.parse_args()
    print(INTENDED_USE)
    try:
        sys.exit(main(args.bare, args.transfer, args.out, args.name))
    except (IortError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
