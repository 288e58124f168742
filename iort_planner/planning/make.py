"""Image, needle, canal, table and prescription to a plan: the one place where a plan is computed."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING

from iort_planner import INTENDED_USE, __version__
from iort_planner.geometry.distance import canal_distances
from iort_planner.planning import describe, recompute
from iort_planner.planning import plan as p
from iort_planner.planning.checks import Evidence, run_checks
from iort_planner.planning.doses import cord_of, prescribe, tg43_engine
from iort_planner.planning.given import Automatic, CanalFile, Cord, Correction, limit_structure
from iort_planner.planning.output_of_day import OutputOfDay, table_of_the_day
from iort_planner.planning.second_check import DEFAULT_LIMITS, SecondCheckLimits, second_check
from iort_planner.planning.tissue_engine import TissueDose, with_tissue
from iort_planner.source.tg43 import RadialInterpolation

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from iort_planner.applicator import Applicator
    from iort_planner.geometry.canal import SpinalCanal
    from iort_planner.geometry.needle import Needle
    from iort_planner.imaging.series import ScanImage
    from iort_planner.planning.prescription import Prescription
    from iort_planner.source.acceptance import AcceptanceStatus
    from iort_planner.source.depth_dose import DepthDoseTable
    from iort_planner.source.polar import PolarAnisotropy
    from iort_planner.source.tg43 import Tg43Source


def make_plan(
    *,
    image: ScanImage,
    needle: Needle,
    canal: SpinalCanal,
    table: DepthDoseTable,
    applicator: Applicator,
    prescription: Prescription,
    tg43: Tg43Source | None = None,
    tissue: TissueDose | None = None,
    output: OutputOfDay | None = None,
    acceptance: AcceptanceStatus | None = None,
    second_check_limits: SecondCheckLimits = DEFAULT_LIMITS,
    canal_file: CanalFile | None = None,
    automatic: Automatic | None = None,
    correction: Correction | None = None,
    canal_mask: npt.NDArray[np.uint8] | None = None,
    cord: Cord | None = None,
    level: p.PlanLevel | None = None,
    other_needles: Sequence[Needle] = (),
    created: dt.datetime | None = None,
) -> p.Plan:
    """Compute distances, dwell time, doses and checks.

    Parameters
    ----------
    table : DepthDoseTable
        As read; the output of the day is applied here.
    tg43 : Tg43Source, optional
        What ``table`` was computed from: its own engine's results are added, and the second check starts from it.
    tissue : TissueDose, optional
        Of an engine that knows tissues: its results are added.
    output : OutputOfDay, optional
        Output of the day, which every dose rate is multiplied by.
    acceptance : AcceptanceStatus, optional
        Where a clinical table stands in the record of acceptances; none given counts as never accepted.
    second_check_limits : SecondCheckLimits
        When the second check warns and fails.
    canal_file : CanalFile, optional
        What a canal of method ``file`` was read from.
    automatic : Automatic, optional
        The canal found automatically, where another one is used.
    correction : Correction, optional
        What was changed on ``canal`` by hand.
    canal_mask : ndarray of shape (nk, nj, ni), uint8, optional
        The canal on the image's grid, as it will be written; the plan keeps its hash.
    cord : Cord, optional
        Cord or thecal sac, reported beside the canal; no limit refers to it.
    level : PlanLevel, optional
        What `iort_planner.planning.level.describe_level` found; shown, and a warning where it sees no cortex.
    other_needles : sequence of Needle
        Further needles in the image: listed, without dwell.
    created : datetime with offset, optional
        Default: now.

    Raises
    ------
    CanalNotFoundError
        If source centre or tip lie inside the canal or the cord.
    DepthDoseRangeError
        If the canal's or the prescription's distance lies outside the table.
    InputError
        If the output of the day is dated after ``created``.
    """
    created = created or dt.datetime.now().astimezone()
    if output is not None:
        output.require_past(created.date())
    as_read, table = table, table_of_the_day(table, output)
    distances = canal_distances(needle, applicator, canal)
    limit_of = limit_structure(canal.method, canal_file, correction)
    asked, dwells, result = prescribe(
        prescription, limit_of, table, applicator, needle, canal, distances, output_measured=output is not None
    )
    if tg43 is not None:
        factor = 1.0 if output is None else output.corrected_ratio
        result = replace(
            result, engines={**result.engines, "tg43": tg43_engine(prescription, asked, result, tg43, needle, factor)}
        )
    if tissue is not None:
        result = with_tissue(prescription, asked, result, table, needle, canal, tissue)
    plan = p.Plan(
        schema=p.SCHEMA,
        verdict="fail",  # until the checks have run
        intended_use=INTENDED_USE,
        software=p.Software(name="iort_planner", version=__version__),
        created=created.isoformat(timespec="seconds"),
        patient=p.PlanPatient(id=image.patient.id, birth_date=image.patient.birth_date, sex=image.patient.sex),
        image=describe.plan_image(image),
        needles=tuple(describe.plan_needle(each) for each in (needle, *other_needles)),
        canal=describe.plan_canal(canal, distances, canal_file, correction, canal_mask),
        cord=None if cord is None else cord_of(cord, needle, table, result),
        level=level,
        source=describe.plan_source(as_read, applicator, acceptance, output),
        prescription=asked,
        dwells=dwells,
        result=result,
        second_check=p.PlanSecondCheck(
            warn_percent=second_check_limits.warn_percent,
            fail_percent=second_check_limits.fail_percent,
            differences_percent={},
        ),
        checks=(),
        approval=None,
    )
    rows = list(zip(as_read.distance_mm.tolist(), as_read.dose_rate_gy_per_min.tolist(), strict=True))
    checks = run_checks(
        Evidence(
            plan=plan,
            image=image,
            needle=needle,
            canal=canal,
            table=table,
            canal_file=canal_file,
            automatic=automatic,
            cord=cord,
        )
    )
    polar = None if as_read.anisotropy is None else _lists(as_read.anisotropy)
    tables = None if tg43 is None else _as_read(tg43)
    differences, second = second_check(plan, rows, second_check_limits, polar, tables)
    return replace(plan, verdict="pass", second_check=differences).with_checks(*checks, second)


def _lists(polar: PolarAnisotropy) -> recompute.Polar:
    return polar.theta_deg.tolist(), polar.distance_mm.tolist(), polar.factor.tolist()


def _as_read(source: Tg43Source) -> recompute.Tg43:
    """A TG-43 source's numbers for the second check."""
    strength_u = source.air_kerma_strength_u or 0.0  # 0 cannot come here, and fails the second check if it does
    return recompute.Tg43(
        gy_per_min=source.dose_rate_constant_cgy_per_h_u * strength_u / 6000.0,
        active_length_mm=source.active_length_mm,
        radial=list(zip(source.radial_distance_mm.tolist(), source.radial_dose.tolist(), strict=True)),
        linear=source.radial_interpolation is RadialInterpolation.LINEAR,
        polar=_lists(source.anisotropy),
    )
