"""Cases in processes of their own: each an answer, whatever happens to the process."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from tests.sweeps.needle_cases import PROOF_SEEDS

T = TypeVar("T")
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def in_processes(
    attempt: Callable[[int], T],
    crashed: Callable[[int, str], T],
    seeds: range,
    *,
    jobs: int,
    each: Callable[[], object],
) -> list[T]:
    """``attempt`` of all seeds in their order; ``each`` is called after every one.

    What a process that died was at becomes ``crashed``; the others go on.
    """
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))  # the children inherit it: one thread a process
    found: dict[int, T] = {}
    while missing := [seed for seed in seeds if seed not in found]:
        for seed, outcome in _pooled(attempt, missing, jobs):
            found[seed] = outcome
            each()
        left = [seed for seed in missing if seed not in found]
        if left and jobs == 1:  # one process takes them in turn: it died on the first that is left
            found[left[0]] = crashed(left[0], "the process died")
            each()
        elif left:
            jobs = 1  # nobody knows on which of them one died
    return [found[seed] for seed in seeds]


def _pooled(attempt: Callable[[int], T], seeds: list[int], jobs: int) -> Iterator[tuple[int, T]]:
    """Outcomes as they come; if a process dies, only of the cases that were done by then."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures: dict[Future[T], int] = {pool.submit(attempt, seed): seed for seed in seeds}
        for future in as_completed(futures):
            try:
                outcome = future.result()
            except BrokenProcessPool:
                continue
            yield futures[future], outcome


def refuse_proof_seeds(parser: argparse.ArgumentParser, seeds: range, *, proof: bool) -> None:
    """Stop where seeds that are kept for the proof would be run without saying so."""
    if not proof and seeds and seeds[0] < PROOF_SEEDS.stop and seeds[-1] >= PROOF_SEEDS.start:
        parser.error(
            f"seeds {PROOF_SEEDS.start} to {PROOF_SEEDS.stop - 1} are kept for the proof; say --proof to run them"
        )
