"""Scans of a second, independent renderer through needle, canal and distances, against their exact truth.

    python -m tests.sweeps.independent_sweep [--cases 30] [--seed0 0] [--jobs 1] [--kind ct-fine] [--negatives] [--json]

``--negatives`` draws scans without any needle (screws, rods, other devices) and counts those in which one is returned with
high confidence: exit status 1 if there is one. Without it the exit status is 1 on a silent failure.
Seeds from 9000 to 9999 are kept for the proof: nothing is tuned on them.
"""

from __future__ import annotations

import sys
import time
from functools import partial

from tqdm import tqdm

from iort_planner.errors import IortError
from iort_planner.geometry.needle import Confidence, locate_needle
from tests.sweeps.independent_cases import draw, scanned, truth_of
from tests.sweeps.independent_scanner import KINDS
from tests.sweeps.processes import in_processes, refuse_proof_seeds
from tests.sweeps.scoring import Outcome, arguments, finish, score


def run_case(seed: int, kind: str | None = None) -> Outcome:
    """Build one scan and score what is found in it."""
    case = draw(seed, kind=kind)
    return score(
        f"seed {seed}",
        case.groups,
        case.told(),
        scanned(case),
        case.applicator,
        truth_of(case),
        hint_lps_mm=case.hint_lps_mm,
        needles=len(case.needles),
    )


def crashed(seed: int, what: str) -> Outcome:
    """Outcome of a case that ended in no answer and no refusal."""
    groups: tuple[str, ...] = ("crashed",)
    return Outcome(name=f"seed {seed}", groups=groups, case={}, distance_mm=0.0, clearance_mm=0.0, crashed=what)


def attempt(seed: int, kind: str | None = None) -> Outcome:
    """`run_case`, where an error that is no refusal is an outcome too."""
    try:
        return run_case(seed, kind)
    except Exception as error:  # noqa: BLE001 - the sweep goes on after a case that crashes, and counts it
        return crashed(seed, f"{type(error).__name__}: {error}")


def negative(seed: int, kind: str | None = None) -> str:
    """What is answered for a scan without a needle: ``high``, ``low``, ``refused`` or ``crashed``, and why."""
    try:
        case = draw(seed, negative=True, kind=kind)
        volume = scanned(case)
        groups = "+".join(case.groups)
    except Exception as error:  # noqa: BLE001 - as above
        return f"crashed {type(error).__name__}: {error}"
    start = time.perf_counter()
    try:
        needle = locate_needle(volume, case.applicator)
        said = f"{needle.confidence.value} {'; '.join(needle.reasons)}"
        if needle.confidence is Confidence.HIGH:
            said += f" at {needle.tip_lps_mm.round(1).tolist()}"
    except IortError as error:
        said = f"refused {error}"
    except Exception as error:  # noqa: BLE001 - as above
        said = f"crashed {type(error).__name__}: {error}"
    return f"{said} [{groups}] {time.perf_counter() - start:.1f} s"


def negative_died(_seed: int, what: str) -> str:
    """A negative whose process died."""
    return f"crashed {what}"


def main() -> int:
    parser = arguments(__doc__, 30)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, help="of scanner, instead of the one drawn")
    parser.add_argument("--negatives", action="store_true", help="scans without a needle")
    parser.add_argument("--proof", action="store_true", help="seeds that are kept for the proof may be run")
    args = parser.parse_args()
    seeds = range(args.seed0, args.seed0 + args.cases)
    refuse_proof_seeds(parser, seeds, proof=args.proof)
    with tqdm(total=len(seeds), file=sys.stderr, unit="scan", smoothing=0.05) as bar:
        if args.negatives:
            said = in_processes(
                partial(negative, kind=args.kind), negative_died, seeds, jobs=args.jobs, each=bar.update
            )
        else:
            outcomes = in_processes(partial(attempt, kind=args.kind), crashed, seeds, jobs=args.jobs, each=bar.update)
            return finish(outcomes, as_json=args.json)
    sys.stdout.writelines(f"seed {seed:<6} {answer}\n" for seed, answer in zip(seeds, said, strict=True))
    counts = {word: sum(answer.startswith(word) for answer in said) for word in ("high", "low", "refused", "crashed")}
    sys.stdout.write(", ".join(f"{count} {word}" for word, count in counts.items()) + f" of {len(said)}\n")
    return 1 if counts["high"] or counts["crashed"] else 0


if __name__ == "__main__":
    sys.exit(main())
