"""How an error of the tip becomes dose in the canal: a table, and two plots in OUT.png.

    python examples/what_a_tip_error_does.py [OUT.png] [TABLE.csv]

Left: the limit's dose when the canal is nearer or farther than measured (the table's own curve, no approximation). Right: the
95 % band of the canal's dose against the tip's uncertainty with the canal measured at 10 mm, by the closed fold and by 200 000
draws; nothing else is off. A curve ends where the table does. For research and education; not for treating patients.
"""

import sys
from argparse import SUPPRESS, ArgumentParser, RawTextHelpFormatter
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from iort_planner import INTENDED_USE, DepthDoseTable, IortError, Quantity, read_table
from iort_planner.planning.dwell import dose_at, dwell_time
from iort_planner.planning.uncertainty import Causes, budget, sampled_band_gy

RATE_PARTS = [f"{name}_percent" for name in ("table", "scale", "output", "interpolation", "anisotropy")]
LIMIT_GY, DISTANCES_MM = 8.0, (8.0, 10.0, 13.0, 15.0, 20.0)


def bands(table: DepthDoseTable, sigma_mm: float, r_mm: float = 10.0) -> tuple[float, ...]:
    """Ends of the 95 % band by both ways (NaN outside the table), and the chance of more than 10 Gy."""
    causes = Causes(
        **dict.fromkeys(RATE_PARTS, 0.0),
        canal_mm=0.0,
        tip_covariance_lps_mm2=sigma_mm**2 * np.eye(3),  # alike in all directions
        source_lps_mm=np.zeros(3),
        wall_lps_mm=np.array([r_mm, 0.0, 0.0]),
        axis_lps=np.eye(3)[2],
    )
    given = {"rate_gy_per_min": table.rate_gy_per_min, "range_mm": table.range_mm, "canal_dose_gy": LIMIT_GY}
    folded = budget(causes, exponent=table.local_exponent(Quantity(r_mm, "mm")), limit_gy=10.0, **given)
    ends = (*folded.band_95_gy, *sampled_band_gy(causes, **given))
    return (*(np.nan if end is None else end for end in ends), folded.probability_over_limit)


def main(out: Path, name: str | None) -> None:
    table, figure = read_table(name) if name else read_table(), Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    errors, sigmas, (first, last) = np.linspace(-3.0, 3.0, 121), np.linspace(0.05, 1.5, 30), table.range_mm
    print(f"{table.name}\n\nmeasured mm   safe time min   canal dose, Gy, if the canal is nearer by 0.5, 1, 2 mm")
    for measured in DISTANCES_MM:
        time = dwell_time(table, Quantity(LIMIT_GY, "Gy"), Quantity(measured, "mm"))
        nearer = dose_at(table, time, Quantity(measured - np.array([0.5, 1.0, 2.0]), "mm")).to("Gy").magnitude
        print(f"{measured:8.1f}      {time.to('min').magnitude:9.2f}       {'   '.join(f'{gy:5.1f}' for gy in nearer)}")
        true = np.clip(measured + errors, first, last)
        curve = dose_at(table, time, Quantity(true, "mm")).to("Gy").magnitude
        left.plot(true - measured, curve, label=f"{measured:g} mm")
    left.set(xlabel="true minus measured distance, mm", ylabel="highest dose in the canal, Gy", ylim=(0, 24))
    left.legend(title="measured from\nthe source centre")
    low, high, low_drawn, high_drawn, over = np.array([bands(table, sigma) for sigma in sigmas]).T
    right.fill_between(sigmas, low, high, alpha=0.25, label="95 %, folded")
    right.plot(np.tile(sigmas, 2), [*low_drawn, *high_drawn], "k.", markersize=4, label="95 %, drawn")
    right.set(xlabel="tip, k=1 in each direction, mm", title="canal measured at 10 mm", ylim=(0, 24), xlim=(0, 1.5))
    right.legend(loc="upper left")
    figure.suptitle(f"{table.name}: time for {LIMIT_GY:g} Gy at the measured canal. {INTENDED_USE}", fontsize=8)
    figure.savefig(out, dpi=110)
    print("\ncanal at 10 mm:\ntip k=1, mm   95 % of its dose, Gy: folded, drawn   chance of more than 10 Gy")
    for n in (5, 9, 19):
        ends = f"{low[n]:5.1f} to {high[n]:4.1f}, {low_drawn[n]:5.1f} to {high_drawn[n]:4.1f}"
        print(f"{sigmas[n]:11.2f}   {ends:35}   {over[n]:.3f}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, usage=SUPPRESS, formatter_class=RawTextHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=Path("tip-error.png"))
    parser.add_argument("table", nargs="?")
    args = parser.parse_args()
    print(INTENDED_USE)
    try:
        main(args.out, args.table)
    except (IortError, OSError, ValueError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
