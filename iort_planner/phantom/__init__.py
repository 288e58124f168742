"""A specification to a scan with a known truth."""

from __future__ import annotations

from iort_planner.phantom.dicom_series import write_phantom
from iort_planner.phantom.scan import Phantom, build, canal_of, grid_of, pose_of
from iort_planner.phantom.spec import find_spec, read_spec, spec_names
from iort_planner.phantom.spec_model import PhantomSpec
from iort_planner.phantom.tissues import Label
from iort_planner.phantom.truth import PhantomTruth

__all__ = [
    "Label",
    "Phantom",
    "PhantomSpec",
    "PhantomTruth",
    "build",
    "canal_of",
    "find_spec",
    "grid_of",
    "pose_of",
    "read_spec",
    "spec_names",
    "write_phantom",
]
