"""Random phantoms through needle, canal and distances, against their exact truth, and the bars of issue 4.

    python -m tests.sweeps.phantom_sweep [--cases 300] [--seed0 0] [--jobs 2] [--fluoroscopy] [--json] [--plot FILE.png]

``--plot docs/needle-canal-distributions.png`` makes the picture of docs/validation.md.

That is the full form; a short one runs with the tests (test_sweeps.py). What varies stands in phantom_cases.py, the bars and
what each is computed over in bars.py. ``--fluoroscopy`` puts the same cases through a C-arm instead of a CT. Exit status 1 if a
bar is missed. About 5 s a case on one core. A seed is a case, whatever the range; seeds from 5000 on are kept for the proof:
nothing is tuned on them. One case again:

    python -m tests.sweeps.phantom_sweep --cases 1 --seed0 17
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from iort_planner.phantom import PhantomSpec, build, canal_of, find_spec, pose_of, read_spec
from iort_planner.phantom import fluoroscopy as c_arm
from iort_planner.phantom.truth import make_truth, visible_shaft_mm
from tests.sweeps import bars
from tests.sweeps.phantom_cases import Case, draw_case, no_bone_at_the_nearest_wall
from tests.sweeps.scoring import Outcome, Truth, arguments, finish, score

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@cache
def base_spec() -> PhantomSpec:
    """What is varied."""
    return read_spec(find_spec("reference"))


def run_case(seed: int, *, fluoroscopy: bool = False, spacing_mm: tuple[float, float] | None = None) -> Outcome:
    """Build one phantom and score what is found in it."""
    return run(draw_case(base_spec(), seed, spacing_mm), fluoroscopy=fluoroscopy)


def run(case: Case, *, fluoroscopy: bool = False) -> Outcome:
    """The same for a case at hand."""
    spec, groups = case.spec, case.groups
    if fluoroscopy:
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
    return score(f"seed {case.seed}", groups, case.told(), volume, spec.applicator, truth)


def attempt(seed: int, fluoroscopy: bool) -> Outcome:
    """`run_case`, where an error that is no refusal is an outcome too."""
    try:
        return run_case(seed, fluoroscopy=fluoroscopy)
    except Exception as error:  # noqa: BLE001 - the sweep goes on after a case that crashes, and counts it
        return crashed(seed, f"{type(error).__name__}: {error}")


def crashed(seed: int, what: str) -> Outcome:
    """Outcome of a case that ended in no answer and no refusal."""
    groups: tuple[str, ...] = ("crashed",)
    return Outcome(name=f"seed {seed}", groups=groups, case={}, distance_mm=0.0, clearance_mm=0.0, crashed=what)


def sweep(seeds: range, *, jobs: int, fluoroscopy: bool, each: Callable[[], object]) -> list[Outcome]:
    """All cases in the order of their seeds; ``each`` is called after every one."""
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))  # the children inherit it: one thread a process
    found: dict[int, Outcome] = {}
    while missing := [seed for seed in seeds if seed not in found]:
        for seed, outcome in _pooled(missing, jobs, fluoroscopy):
            found[seed] = outcome
            each()
        left = [seed for seed in missing if seed not in found]
        if left and jobs == 1:  # one process takes them in turn: it died on the first that is left
            found[left[0]] = crashed(left[0], "the process died")
            each()
        elif left:
            jobs = 1  # nobody knows on which of them one died
    return [found[seed] for seed in seeds]


def _pooled(seeds: list[int], jobs: int, fluoroscopy: bool) -> Iterator[tuple[int, Outcome]]:
    """Outcomes as they come; if a process dies, only of the cases that were done by then."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures: dict[Future[Outcome], int] = {pool.submit(attempt, seed, fluoroscopy): seed for seed in seeds}
        for future in as_completed(futures):
            try:
                outcome = future.result()
            except BrokenProcessPool:
                continue
            yield futures[future], outcome


def main() -> int:
    parser = arguments(__doc__, 300)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--fluoroscopy", action="store_true", help="the same cases as C-arm scans")
    parser.add_argument("--plot", type=Path, help="picture of the distributions (PNG)")
    args = parser.parse_args()
    seeds = range(args.seed0, args.seed0 + args.cases)
    with tqdm(total=len(seeds), file=sys.stderr, unit="phantom", smoothing=0.05) as bar:
        outcomes = sweep(seeds, jobs=args.jobs, fluoroscopy=args.fluoroscopy, each=bar.update)
    table = bars.table(outcomes, fluoroscopy=args.fluoroscopy)
    if args.plot is not None:
        bars.plot(outcomes, args.plot)
    finish(outcomes, as_json=args.json, bars=table)
    return 0 if all(bar.passed for bar in table) else 1


if __name__ == "__main__":
    sys.exit(main())
