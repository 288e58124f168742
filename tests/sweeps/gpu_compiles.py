"""Compiles the Monte Carlo's GPU form to PTX where no device is: python -m tests.sweeps.gpu_compiles [OUT.ptx]

Needs the extra ``gpu``. numba asks a device for its compute capability: it is told 8.0. What CUDA's own assembler says of it:
``ptxas -arch=sm_80 -v OUT.ptx -o OUT.cubin``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba as _numba
import numpy as np

from iort_planner.dose import _gpu_kernels
from iort_planner.dose.spectrum import read_spectrum
from iort_planner.dose.voxel_physics import voxel_physics
from tests.dose.voxel_cases import vertebra

CAPABILITY = (8, 0)
numba: Any = _numba  # has no types


def main() -> None:
    """Compile, say what came of it."""
    dispatcher: Any = sys.modules["numba.cuda.dispatcher"]
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=CAPABILITY)
    physics = voxel_physics(vertebra(5, 2.0), read_spectrum())
    arguments = (
        physics.cells(),
        1000,
        7,
        np.zeros(4),
        physics.source_index,
        physics.spacing_cm,
        physics.material.shape,
        physics.drawn_lines(0.2, 1.0),
        physics.tables,
        0.7,
        0.15,
        (2.5, 0.4),
    )
    types = tuple(numba.typeof(each) for each in arguments)
    ptx, _ = _gpu_kernels.cuda.compile_ptx(_gpu_kernels._batch.py_func, types, cc=CAPABILITY)
    sys.stdout.write(
        f"{len(ptx.splitlines())} lines of PTX for compute capability {CAPABILITY}, {ptx.count('atom.')} atomic adds\n"
    )
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(ptx, encoding="utf-8")


if __name__ == "__main__":
    main()
