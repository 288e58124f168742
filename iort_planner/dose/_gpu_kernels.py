"""The histories of `_scatter_kernels` on a CUDA device: the same functions, compiled a second time for it.

numba's CPU functions cannot be called from a device, so their Python code is bound to device versions of what they call.
All is shared but `add`: there, many threads add to one cell. Each history has a random stream of its own, and sums in
float32 are made in the order in which threads come: numbers agree with the CPU's within statistics, and with themselves
within rounding.

Importing this module needs numba's CUDA target (extra ``gpu``); `usable` says whether there is a device too.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import cuda as _cuda
from numba import float64, uint64

from iort_planner.dose import _photon_kernels, _scatter_kernels
from iort_planner.dose._scatter_kernels import Scratch

if TYPE_CHECKING:
    import numpy.typing as npt

cuda: Any = _cuda  # numba has no types
THREADS = 128  # of a block: a history needs many registers
MOST_MATERIALS = 32  # of a tissue map, in a thread's own memory
_SHARED = (  # each after those that it calls
    (_photon_kernels, ("mixed", "seed_state", "uniform", "rotated", "grid_place", "linear", "compton", "rayleigh")),
    (_scatter_kernels, ("_to_sphere", "_fly", "drawn_line", "one_history")),
)


@cuda.jit(device=True)
def _add(cells, voxel, column, value):  # type: ignore[no-untyped-def]  # compiled for the device alone
    cuda.atomic.add(cells, (voxel, column), np.float32(value))


def _for_device() -> dict[str, Any]:
    """The shared functions by name, compiled for the device."""
    made: dict[str, Any] = {"add": _add}
    for module, names in _SHARED:
        for name in names:
            code = getattr(module, name).py_func.__code__
            made[name] = cuda.jit(device=True)(FunctionType(code, {**vars(module), **made}, name))
    return made


_DEVICE = _for_device()
_seed_state, _one_history = _DEVICE["seed_state"], _DEVICE["one_history"]


@cuda.jit
def _batch(  # type: ignore[no-untyped-def]  # compiled for the device alone
    cells, histories, seed, shift, source, spacing_cm, shape, lines, t, stretch, roulette, outer
):
    history = cuda.grid(1)
    if history < histories:
        own = Scratch(
            cuda.local.array(4, uint64),
            cuda.local.array(3, float64),
            cuda.local.array(3, float64),
            cuda.local.array(MOST_MATERIALS, float64),
            cuda.local.array(MOST_MATERIALS, float64),
        )
        _seed_state(own.state, seed, history)
        _one_history(cells, history, own, shift, source, spacing_cm, shape, lines, t, stretch, roulette, outer)


def usable() -> bool:
    """Whether a device answers."""
    return bool(cuda.is_available())


def scatter_batch(cells: npt.NDArray[np.float32], histories: int, *others: Any) -> None:
    """`_scatter_kernels.scatter_batch` on the device; ``cells`` on the host is written."""
    there = cuda.to_device(cells)
    _batch[-(-histories // THREADS), THREADS](there, histories, *(_on_device(each) for each in others))
    there.copy_to_host(cells)


def _on_device(value: Any) -> Any:
    """Arrays, also those in tuples, copied to the device: numba itself would copy them back too, into read-only ones."""
    if isinstance(value, np.ndarray):
        return cuda.to_device(value)
    if isinstance(value, tuple):
        parts = [_on_device(each) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value
