"""What the three QA commands share: the verdict and the JSON form of findings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from iort_planner import INTENDED_USE, __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iort_planner.source.findings import Finding

Status = Literal["pass", "warn", "fail"]
_ORDER: tuple[Status, ...] = ("pass", "warn", "fail")


def worst(findings: Sequence[Finding]) -> Status:
    """The verdict: the worst status."""
    return max((finding.status for finding in findings), key=_ORDER.index, default="pass")


def by_weight(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Failing findings first, then by line; the order within is kept."""
    return tuple(sorted(findings, key=lambda each: (-_ORDER.index(each.status), each.line or 0)))


def document(schema: str, findings: Sequence[Finding], numbers: dict[str, Any]) -> dict[str, Any]:
    """The JSON document of a QA run."""
    return {
        "schema": f"iort-planner/{schema}/1",
        "verdict": worst(findings),
        "findings": [
            {"id": each.id, "status": each.status, "line": each.line, "message": each.message} for each in findings
        ],
        "intended_use": INTENDED_USE,
        "software": {"name": "iort-planner", "version": __version__},
        **{key: plain(value) for key, value in numbers.items()},
    }


def plain(value: Any) -> Any:
    """Numpy's numbers as Python's, NaN as null: JSON has neither."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
