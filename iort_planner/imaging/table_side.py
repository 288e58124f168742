"""Placeholder by the founder so that imports work while the real module is being written: overwrite this file."""

from __future__ import annotations

from iort_planner.imaging.volume import Volume


def table_contradiction(volume: Volume, patient_position: str) -> str | None:
    """Nothing is known yet."""
    del volume, patient_position
    return None
