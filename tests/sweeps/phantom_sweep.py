"""Random phantoms through needle, canal and distances, against their exact truth, and the bars of issue 7.

    python -m tests.sweeps.phantom_sweep [--cases 300] [--seed0 0] [--jobs 2] [--kind C-arm] [--json] [--plot FILE.png]

``--plot docs/needle-canal-distributions.png`` makes the picture of docs/validation.md.

That is the full form; a short one runs with the tests (test_sweeps.py). What varies stands in needle_cases.py and
phantom_cases.py, the bars and what each is computed over in bars.py. ``--kind`` puts every case before one scanner: ``CT fine``,
``CT thick`` or ``C-arm``. Exit status 1 if a bar is missed. A seed is a case, whatever the range; seeds from 9000 to 9999
are kept for the proof (``--proof``): nothing is tuned on them. One case again:

    python -m tests.sweeps.phantom_sweep --cases 1 --seed0 17
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from iort_planner.phantom import PhantomSpec, build, canal_of, find_spec, pose_of, read_spec
from iort_planner.phantom import fluoroscopy as c_arm
from iort_planner.phantom.truth import make_truth, visible_shaft_mm
from tests.sweeps import bars
from tests.sweeps.needle_cases import KINDS, BuiltCase, Kind, draw_built
from tests.sweeps.outcome import Outcome, Truth
from tests.sweeps.phantom_cases import no_bone_at_the_nearest_wall
from tests.sweeps.processes import in_processes, refuse_proof_seeds
from tests.sweeps.scoring import arguments, finish, score


@cache
def base_spec() -> PhantomSpec:
    """What is varied."""
    return read_spec(find_spec("reference"))


def run_case(seed: int, *, kind: Kind | None = None, spacing_mm: tuple[float, float] | None = None) -> Outcome:
    """Build one phantom and score what is found in it."""
    return run(draw_built(base_spec(), seed, kind=kind, spacing_mm=spacing_mm))


def run(case: BuiltCase) -> Outcome:
    """The same for a case at hand."""
    spec, groups = case.spec, case.groups
    if case.kind == "C-arm":
        volume, pose = c_arm.fluoroscopy(spec, case.seed), pose_of(spec)
        true = make_truth(spec, case.seed, pose, canal_of(spec), volume.grid)
        bending = pose.sagitta_mm(visible_shaft_mm(pose, partial(c_arm.in_field, volume.grid)))
    else:
        phantom = build(spec, case.seed)
        volume, true, bending = phantom.volume, phantom.truth, phantom.truth.bending_mm
        groups += ("open wall",) if no_bone_at_the_nearest_wall(phantom) else ()
    truth = Truth(
        tip_lps_mm=true.tip_lps_mm,
        axis_lps=true.axis_lps,
        source_lps_mm=true.source_lps_mm,
        distance_from_source_mm=true.distance_from_source_mm,
        shaft_clearance_mm=true.shaft_clearance_mm,
        bending_mm=bending,
        over_source=case.over_source,
    )
    hint = None if case.hint_lps_mm is None else np.array(case.hint_lps_mm)
    return score(
        f"seed {case.seed}",
        groups,
        case.told(),
        volume,
        case.applicator,
        truth,
        hint_lps_mm=hint,
        needles=case.needles,
    )


def attempt(seed: int, kind: Kind | None) -> Outcome:
    """`run_case`, where an error that is no refusal is an outcome too."""
    try:
        return run_case(seed, kind=kind)
    except Exception as error:  # noqa: BLE001 - the sweep goes on after a case that crashes, and counts it
        return crashed(seed, f"{type(error).__name__}: {error}")


def crashed(seed: int, what: str) -> Outcome:
    """Outcome of a case that ended in no answer and no refusal."""
    groups: tuple[str, ...] = ("crashed",)
    return Outcome(name=f"seed {seed}", groups=groups, case={}, distance_mm=0.0, clearance_mm=0.0, crashed=what)


def sweep(seeds: range, *, jobs: int, kind: Kind | None, each: Callable[[], object]) -> list[Outcome]:
    """All cases in the order of their seeds; ``each`` is called after every one."""
    return in_processes(partial(attempt, kind=kind), crashed, seeds, jobs=jobs, each=each)


def main() -> int:
    parser = arguments(__doc__, 300)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, help="every case before this scanner")
    parser.add_argument("--proof", action="store_true", help="seeds that are kept for the proof may be run")
    parser.add_argument("--plot", type=Path, help="picture of the distributions (PNG)")
    args = parser.parse_args()
    seeds = range(args.seed0, args.seed0 + args.cases)
    refuse_proof_seeds(parser, seeds, proof=args.proof)
    with tqdm(total=len(seeds), file=sys.stderr, unit="phantom", smoothing=0.05) as bar:
        outcomes = sweep(seeds, jobs=args.jobs, kind=args.kind, each=bar.update)
    table = bars.table(outcomes)
    if args.plot is not None:
        bars.plot(outcomes, args.plot)
    finish(outcomes, as_json=args.json, bars=table)
    return 0 if all(bar.passed for bar in table) else 1


if __name__ == "__main__":
    sys.exit(main())
