"""What an examination of a table finds, one line each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)  # by position too: a finding reads as a line
class Finding:
    """One thing that was looked at, and how it came out.

    Parameters
    ----------
    id : str
        What was looked at, like ``order``; the same for the same fault in every file.
    status : "pass", "warn" or "fail"
    line : int or None
        Line of the file, from 1; None for the file as a whole.
    message : str
        What is there, the limit, the remedy.
    """

    id: str
    status: Literal["pass", "warn", "fail"]
    line: int | None
    message: str
