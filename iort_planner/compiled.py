"""Functions compiled by numba: one way for every kernel of the package.

Importing this module imports numba (0.15 s and more), so kernels are imported where they are needed and not before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compiled by numba, kept on disk between runs where a folder for that is writable, else compiled in each run."""
    try:
        fast: Callable[P, R] = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # numba: "no locator available": neither __pycache__ nor the user's cache folder is writable
        fast = numba.njit(nogil=True, error_model="numpy")(function)
    return fast
