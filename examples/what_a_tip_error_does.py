"""What 1 mm does: canal dose and safe time when the canal is nearer than measured.

python examples/what_a_tip_error_does.py [TABLE.csv]
"""

import sys

from iort_planner import Quantity, read_table
from iort_planner.planning.dwell import dose_at, dwell_time


def main(name: str | None = None) -> None:
    table = read_table(name) if name else read_table()
    limit = Quantity(8.0, "Gy")
    print(f"{table.name}\n\nmeasured mm   safe time min   canal dose, Gy, if the canal is nearer by 0.5, 1, 2 mm")
    for measured in (8.0, 10.0, 13.0, 15.0, 20.0):
        time = dwell_time(table, limit, Quantity(measured, "mm"))
        doses = dose_at(table, time, Quantity([measured - error for error in (0.5, 1.0, 2.0)], "mm"))
        row = "   ".join(f"{dose:5.1f}" for dose in doses.to("Gy").magnitude)
        print(f"{measured:8.1f}      {time.to('min').magnitude:9.2f}       {row}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
