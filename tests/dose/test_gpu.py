"""The Monte Carlo's GPU form, in numba's CUDA simulator, which needs no device: it runs the kernel's Python.

What it does not show, types and memory of a device, `tests.sweeps.gpu_compiles` shows in part. The simulator must be chosen
before numba is imported: each test runs a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from iort_planner.dose import montecarlo
from iort_planner.dose.montecarlo import run_montecarlo
from iort_planner.dose.spectrum import read_spectrum
from iort_planner.errors import TissueError
from tests.dose.voxel_cases import water

ROOT = Path(__file__).resolve().parents[2]

SAME_STREAMS = """
import numpy as np
from iort_planner.dose import _gpu_kernels, _scatter_kernels
from iort_planner.dose._photon_kernels import seed_state
from iort_planner.dose.spectrum import read_spectrum
from iort_planner.dose.voxel_physics import voxel_physics
from tests.dose.voxel_cases import vertebra

physics = voxel_physics(vertebra(5, 4.0), read_spectrum())
rest = (np.array([0.1, 0.7, 0.3, 0.9]), physics.source_index, physics.spacing_cm, physics.material.shape,
        physics.drawn_lines(0.2, 1.0), physics.tables, 0.7, 0.15, (2.5, 0.4))
there, here = physics.cells(), physics.cells()
_gpu_kernels.scatter_batch(there, 300, 7, *rest)
materials = physics.tables.mu_total.shape[0]
own = _scatter_kernels.Scratch(
    np.empty(4, np.uint64), np.empty(3), np.empty(3), np.empty(materials), np.empty(materials)
)
for history in range(300):  # on the CPU, a stream for each history as on the device
    seed_state(own.state, 7, history)
    _scatter_kernels.one_history(here, history, own, *rest)
assert here[:, 0].sum() > 0.0
np.testing.assert_allclose(there, here, rtol=2e-4, atol=1e-5 * float(here[:, :2].max()))
"""

WHOLE_RUN = """
import numpy as np
from iort_planner.dose import montecarlo
from iort_planner.dose.spectrum import read_spectrum
from tests.dose.voxel_cases import vertebra

montecarlo.BATCH_HISTORIES = 60
tissue = vertebra(3, 5.0)
gpu, cpu = (montecarlo.run_montecarlo(tissue, read_spectrum(), histories=1, threads=1, gpu=gpu) for gpu in (True, False))
assert (gpu.device, cpu.device) == ("gpu", "cpu")
assert gpu.histories == cpu.histories == 60 * montecarlo.ROUND_PATIENT
part = tissue.grid.distances_mm(np.zeros(3)) > 2.5
sigma = np.hypot(gpu.uncertainty_percent, cpu.uncertainty_percent)[part] / 100.0
off = np.log(gpu.to_water[part] / cpu.to_water[part]) / sigma
assert abs(float(np.median(off))) < 1.0 and float(np.quantile(np.abs(off), 0.9)) < 3.5, (np.median(off), np.quantile(off, 0.9))
"""


def simulated(code: str) -> subprocess.CompletedProcess[str]:
    """The code in a process where CUDA is simulated."""
    environment = {
        **os.environ,
        "NUMBA_ENABLE_CUDASIM": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore::RuntimeWarning",  # counters of the random numbers overflow, as they shall
    }
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("code", [SAME_STREAMS, WHOLE_RUN], ids=["same streams, same score", "whole run"])
def test_the_device_follows_photons_as_the_cpu_does(code: str) -> None:
    done = simulated(code)
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_a_device_there_is_one_clear_line() -> None:
    from iort_planner.dose import _gpu_kernels

    if _gpu_kernels.usable():
        pytest.skip("a device is here")
    with pytest.raises(TissueError, match="no CUDA device answers; leave out --gpu"):
        run_montecarlo(water(3, 5.0), read_spectrum(), histories=1, gpu=True)


def test_numba_without_a_cuda_target_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "iort_planner.dose._gpu_kernels", None)
    monkeypatch.delattr(sys.modules["iort_planner.dose"], "_gpu_kernels", raising=False)
    with pytest.raises(TissueError, match="CUDA target is missing"):
        montecarlo.run_montecarlo(water(3, 5.0), read_spectrum(), histories=1, gpu=True)
