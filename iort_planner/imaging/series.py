"""A DICOM series to one image: which files belong together, in which order, where in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from iort_planner.imaging.volume import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """Who the image says it is of; names are not kept."""

    id: str
    birth_date: str
    sex: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScanImage:
    """One series as a volume with what the plan records of it.

    Parameters
    ----------
    volume : Volume
    path : str
        The path it was read from, as given.
    modality, study_uid, series_uid : str
    kind : str
        ``ct``, ``ct-enhanced``, ``xa3d`` or ``other``.
    acquired_at : str or None
        ISO 8601 date and time (with offset where the file has one).
    patient_position : str
        DICOM Patient Position (HFP, FFS, ...), empty when absent; never used in geometry.
    patient : Patient
    """

    volume: Volume
    path: str
    modality: str
    kind: str
    study_uid: str
    series_uid: str
    acquired_at: str | None
    patient_position: str
    patient: Patient


def load_series(path: Path, series_uid: str | None = None) -> ScanImage:
    """Load one CT series from a folder or file."""
    raise NotImplementedError
