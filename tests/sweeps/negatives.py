"""Phantoms without any needle, but with other metal: whatever is found there is wrong, and with high confidence a failure.

    python -m tests.sweeps.negatives [--cases 200] [--seed0 0] [--jobs 2] [--json]

Every case has pedicle screws and rods where they find room, and one to three devices (K-wire, clip, retractor, monitoring
needle, trocar with or without cement); in a quarter the guide cannula alone, with air in it, stands where a needle would.
Exit status 1 if one is answered with high confidence. Seeds from 9000 to 9999 are kept for the proof (``--proof``).
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache

from tqdm import tqdm

from iort_planner.errors import IortError
from iort_planner.geometry.needle import Confidence, locate_needle
from iort_planner.phantom import PhantomSpec, find_spec, read_spec
from iort_planner.phantom.scan import scan_of
from iort_planner.phantom.spec_model import DeviceKind, DeviceSpec
from iort_planner.phantom.streaks import BeamSet
from tests.sweeps.case_devices import DEVICES, draw_devices
from tests.sweeps.needle_cases import with_metal_effects
from tests.sweeps.phantom_cases import Draw, anatomy, draw_case, scanned, with_screws
from tests.sweeps.processes import in_processes, refuse_proof_seeds
from tests.sweeps.scoring import arguments

CANNULA_PART = 1 / 4
_FIELD_MM = (90.0, 96.0, 66.0)  # smaller and coarser than the sweep's, for time
_SPACINGS_MM = ((0.6, 1.0), (1.0, 2.5))
_BEAMS = BeamSet(views=120)  # half of the sweep's, for time: streaks come out a little coarser
_AWAY_MM = ((0.0, -60.0, -300.0), (0.0, -60.0, -200.0))  # of the needle that is not there: in nothing's way


@dataclass(frozen=True, kw_only=True)
class Negative:
    """One case: what stands in it, and what was made of it.

    ``found`` is empty where the finder refused, as it should; else the confidence.
    """

    name: str
    metal: tuple[str, ...]
    said: str
    found: str = ""
    crashed: str = ""
    seconds: float = field(default=0.0, compare=False)

    def line(self) -> str:
        """The case in one line."""
        what = "CRASHED" if self.crashed else f"FOUND ({self.found})" if self.found else "refused"
        return f"{self.name:<11} {what:<14} {'+'.join(self.metal)} | {self.said or self.crashed}"


@cache
def base_spec() -> PhantomSpec:
    """What is varied."""
    return read_spec(find_spec("reference"))


def draw_negative(base: PhantomSpec, seed: int, kinds: Sequence[DeviceKind] = DEVICES) -> PhantomSpec:
    """The phantom of a seed: anatomy and scanner as in the sweep, no needle, more other metal."""
    draw = Draw(seed, 20)
    spacing = (draw.logarithmic(*_SPACINGS_MM[0]), draw.logarithmic(*_SPACINGS_MM[1]))
    if draw.happens(CANNULA_PART):
        outer = draw.between(5.4, 6.5)
        spec = draw_case(
            replace(base, applicator=replace(base.applicator, cannula_outer_diameter_mm=outer)), seed, spacing
        ).spec
        needle = replace(spec.needle, parts="cannula", content="air", bend_mm=0.0)
    else:
        spec = scanned(anatomy(base, seed), Draw(seed, 1), spacing)
        needle = replace(spec.needle, parts="none", tip_mm=_AWAY_MM[0], through_mm=_AWAY_MM[1])
    columns, rows, slices = (round(f / s) for f, s in zip(_FIELD_MM, (spacing[0], *spacing), strict=True))
    spec = replace(
        with_metal_effects(spec, draw),
        name=f"negative {seed}",
        needle=needle,
        grid=replace(spec.grid, size_voxels=(columns, rows, slices)),
    )
    spec = with_screws(replace(spec, screws=(), rods=()), Draw(seed, 21), screw_part=1.0, rod_part=1.0)
    return draw_devices(spec, Draw(seed, 22), int(draw.rng.integers(1, 4)), kinds)


def run_case(seed: int) -> Negative:
    """Build one phantom and ask for its needle."""
    start = time.perf_counter()
    spec = draw_negative(base_spec(), seed)
    metal = [f"{len(spec.screws)} screws {spec.screws[0].material}"] if spec.screws else []
    metal += [f"{len(spec.rods)} rods"] if spec.rods else []
    metal += ["cannula"] if spec.needle.parts == "cannula" else []
    metal += [_named(device) for device in spec.devices]
    volume, _ = scan_of(spec, seed, _BEAMS)
    try:
        needle = locate_needle(volume, spec.applicator)
        said, found = "; ".join(needle.reasons), needle.confidence.value
    except IortError as error:
        said, found = str(error), ""
    seconds = time.perf_counter() - start
    return Negative(name=f"seed {seed}", metal=tuple(metal), said=said, found=found, seconds=seconds)


def _named(device: DeviceSpec) -> str:
    if device.kind != "trocar":
        return device.kind
    return ("open trocar" if device.wall_mm else "trocar with stylet") + (" and cement" if device.cement_mm else "")


def attempt(seed: int) -> Negative:
    """`run_case`, where an error that is no refusal is an outcome too."""
    try:
        return run_case(seed)
    except Exception as error:  # noqa: BLE001 - the sweep goes on after a case that crashes, and counts it
        return crashed(seed, f"{type(error).__name__}: {error}")


def crashed(seed: int, what: str) -> Negative:
    """Outcome of a case that ended in no answer and no refusal."""
    return Negative(name=f"seed {seed}", metal=(), said="", crashed=what)


def counts(outcomes: Sequence[Negative]) -> dict[str, float]:
    """How often anything was found, and with high confidence."""
    return {
        "cases": len(outcomes),
        "crashed": sum(bool(o.crashed) for o in outcomes),
        "found": sum(bool(o.found) for o in outcomes),
        "found_high": sum(o.found == Confidence.HIGH.value for o in outcomes),
        "seconds_a_case": round(sum(o.seconds for o in outcomes) / max(len(outcomes), 1), 2),
    }


def main() -> int:
    parser = arguments(__doc__, 200)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--proof", action="store_true", help="seeds that are kept for the proof may be run")
    args = parser.parse_args()
    seeds = range(args.seed0, args.seed0 + args.cases)
    refuse_proof_seeds(parser, seeds, proof=args.proof)
    with tqdm(total=len(seeds), file=sys.stderr, unit="phantom", smoothing=0.05) as bar:
        outcomes = in_processes(attempt, crashed, seeds, jobs=args.jobs, each=bar.update)
    found = counts(outcomes)
    if args.json:
        sys.stdout.write(json.dumps({"counts": found, "cases": [asdict(o) for o in outcomes]}, indent=1) + "\n")
    else:
        for outcome in outcomes:
            if outcome.found or outcome.crashed:
                sys.stdout.write(outcome.line() + "\n")
        beside = Counter(name for o in outcomes if o.found for name in o.metal)
        sys.stdout.write(f"\nwhat stands in those where something was found: {dict(beside.most_common())}\n")
        sys.stdout.write(", ".join(f"{key} {value:g}" for key, value in found.items()) + "\n")
    return 1 if found["found_high"] or found["crashed"] else 0


if __name__ == "__main__":
    sys.exit(main())
