"""The plan folder: plan.json, pictures, report, dose and canal, written from a plan and its image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from iort_planner.imaging.nifti import write_nifti
from iort_planner.planning.plan import Check

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from iort_planner.imaging.volume import ImageGrid, Volume
    from iort_planner.planning.plan import Plan


def write_plan_folder(
    folder: Path,
    *,
    plan: Plan,
    volume: Volume,
    canal_mask: npt.NDArray[np.uint8] | None,
    doses_gy: Mapping[str, npt.NDArray[np.float32]],
    dose_grid: ImageGrid,
    pictures: bool,
    step: Callable[[str], None],
) -> Plan:
    """Write everything into an existing empty folder; the plan as written (with ``no-renderer`` if so).

    Parameters
    ----------
    canal_mask : ndarray of shape (nk, nj, ni), uint8, or None
        On the image's own grid, 1 = canal; None for a canal given as points.
    doses_gy : mapping of file name without its ending to ndarray on ``dose_grid``, float32, Gy
        ``dose`` of the water engine, ``dose_<engine>`` of another one.
    pictures : bool
        Whether to make slices.png, scene.png and report.pdf.
    step : callable
        Told the name of each step before it starts.
    """
    if pictures:
        plan = _write_pictures(folder, plan, volume, canal_mask, step)
    step("dose and canal files")
    for name, dose_gy in doses_gy.items():
        write_nifti(folder / f"{name}.nii.gz", dose_gy, dose_grid)
    if canal_mask is not None:
        write_nifti(folder / "canal.nii.gz", canal_mask, volume.grid)
    (folder / "plan.json").write_bytes(plan.to_json().encode("utf-8"))
    return plan


def _write_pictures(
    folder: Path,
    plan: Plan,
    volume: Volume,
    canal_mask: npt.NDArray[np.uint8] | None,
    step: Callable[[str], None],
) -> Plan:
    from iort_planner.report.pdf import write_pdf
    from iort_planner.report.slices import draw_slices
    from iort_planner.viewer.render import renderer_problem, screenshot
    from iort_planner.viewer.scene import build_scene

    step("3-D picture")
    problem = renderer_problem()
    scene_png: bytes | None = None
    if problem is None:
        path = folder / "scene.png"
        screenshot(build_scene(plan, volume, canal_mask), path)
        scene_png = path.read_bytes()
    else:
        plan = plan.with_checks(Check(id="no-renderer", status="warn", message=f"scene.png is missing: {problem}"))
    step("slices")
    slices_png = draw_slices(plan, volume, canal_mask)
    (folder / "slices.png").write_bytes(slices_png)
    step("report")
    (folder / "report.pdf").write_bytes(write_pdf(plan, slices_png, scene_png))
    return plan
