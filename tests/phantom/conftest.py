from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from iort_planner.phantom import Phantom, PhantomSpec, build, find_spec, read_spec


def quiet(spec: PhantomSpec, **changes: Any) -> PhantomSpec:
    """The same phantom from a scanner without noise or streaks, and with other scanner values as given."""
    scanner = dataclasses.replace(spec.scanner, **{"noise_hu": 0.0, "streak_amplitude": 0.0} | changes)
    return dataclasses.replace(spec, scanner=scanner)


@pytest.fixture(scope="session")
def reference_spec() -> PhantomSpec:
    return read_spec(find_spec("reference"))


@pytest.fixture(scope="session")
def small_spec() -> PhantomSpec:
    return read_spec(find_spec("small"))


@pytest.fixture(scope="session")
def oblique_spec() -> PhantomSpec:
    return read_spec(find_spec("oblique"))


@pytest.fixture(scope="session")
def instrumented_spec() -> PhantomSpec:
    return read_spec(find_spec("instrumented"))


@pytest.fixture(scope="session")
def small(small_spec: PhantomSpec) -> Phantom:
    return build(small_spec, seed=3)


@pytest.fixture(scope="session")
def fine_quiet(reference_spec: PhantomSpec) -> Phantom:
    """The reference's level on a finer grid of its own, no noise, no streaks, nothing clipped."""
    grid = dataclasses.replace(
        reference_spec.grid,
        size_voxels=(150, 200, 96),
        spacing_mm=(0.6, 0.65, 0.5),
        centre_offset_mm=(10.0, 2.0, 0.0),
    )
    return build(dataclasses.replace(quiet(reference_spec, clip_hu=30000.0), grid=grid))
