"""Planning of intraoperative 50 kV needle radiotherapy of the spine.

For research and education; not a medical device; not for treating patients.

The public names are loaded when first used, so that ``import iort_planner`` and
``iort-planner --help`` cost neither VTK nor SimpleITK.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

# gdcm and, through it, pydicom import a module `dl` that Python lost long ago; a folder of that name would do as it.
sys.modules.setdefault("dl", None)  # type: ignore[arg-type]  # None bars an import; typeshed knows modules only

__version__ = "0.1.0"

INTENDED_USE = "For research and education; not a medical device; not for treating patients."

_PUBLIC = {
    "Applicator": "iort_planner.applicator",
    "DepthDoseTable": "iort_planner.source.depth_dose",
    "DepthReference": "iort_planner.applicator",
    "ImageGrid": "iort_planner.imaging.volume",
    "IortError": "iort_planner.errors",
    "MetalSurvey": "iort_planner.geometry.metal",
    "Needle": "iort_planner.geometry.needle",
    "Plan": "iort_planner.planning.plan",
    "Prescription": "iort_planner.planning.prescription",
    "PlanRequest": "iort_planner.workflow",
    "Quantity": "iort_planner.units",
    "SpinalCanal": "iort_planner.geometry.canal",
    "Volume": "iort_planner.imaging.volume",
    "apply_transfer": "iort_planner.source.transfer",
    "convert_scale": "iort_planner.source.scale",
    "examine": "iort_planner.source.table_file",
    "load_series": "iort_planner.imaging.series",
    "locate_needle": "iort_planner.geometry.needle",
    "make_plan": "iort_planner.planning.make",
    "plan_scan": "iort_planner.workflow",
    "read_applicator": "iort_planner.applicator",
    "read_conversion": "iort_planner.source.scale",
    "read_table": "iort_planner.source.table_file",
    "read_transfer_function": "iort_planner.source.table_file",
    "segment_canal": "iort_planner.geometry.canal",
    "survey_metal": "iort_planner.geometry.metal",
    "write_table": "iort_planner.source.table_write",
}

__all__ = ["INTENDED_USE", "__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
