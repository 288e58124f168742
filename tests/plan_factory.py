"""A plan by hand for the tests of pictures and report: a bone ring, a canal tube and a needle, without any physics.

The numbers agree with each other in space (distances follow from the points); doses are plain figures.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from iort_planner.applicator import Applicator, read_applicator
from iort_planner.imaging.volume import ImageGrid, Volume
from iort_planner.planning import plan as plans
from iort_planner.units import FloatArray

Mask = npt.NDArray[np.uint8]

# A vertebra at an odd place in the patient, so that a forgotten origin shows.
CENTRE_LPS_MM = np.array([12.0, -150.0, -430.0])
SOURCE_LPS_MM = CENTRE_LPS_MM + np.array([2.0, 3.0, 1.0])
AXIS_LPS = np.array([0.45, 0.86, 0.2]) / np.linalg.norm([0.45, 0.86, 0.2])
CANAL_RADIUS_MM = 8.0
CANAL_CENTRE_LPS_MM = CENTRE_LPS_MM + np.array([0.0, 22.0, 0.0])
METAL_HU, BONE_HU, SPONGIOSA_HU, TISSUE_HU, TIP_HU = 3000.0, 700.0, 180.0, 40.0, 120.0


def applicator() -> Applicator:
    return read_applicator()


def tip_lps_mm(source_lps_mm: FloatArray = SOURCE_LPS_MM) -> FloatArray:
    tip: FloatArray = source_lps_mm - applicator().tip_to_source_mm * AXIS_LPS
    return tip


def example_grid(spacing_mm: float = 1.0, direction: FloatArray | None = None) -> ImageGrid:
    """Cubic grid of 100 mm whose middle is the vertebra's; ``direction`` as in `ImageGrid`."""
    count = int(100 / spacing_mm) + 1
    axes = np.eye(3) if direction is None else direction
    return ImageGrid(
        size_voxels=(count, count, count),
        spacing_mm=np.full(3, spacing_mm),
        origin_lps_mm=CENTRE_LPS_MM + axes @ np.full(3, -spacing_mm * (count - 1) / 2.0),
        direction=axes,
    )


def _from_canal(points: FloatArray) -> FloatArray:
    distance: FloatArray = np.linalg.norm((points - CANAL_CENTRE_LPS_MM)[..., :2], axis=-1)
    return distance


def example_mask(grid: ImageGrid) -> Mask:
    """The canal: a tube of 8 mm radius along z."""
    return (_from_canal(grid.voxel_centres_lps_mm()) < CANAL_RADIUS_MM).astype(np.uint8)


def example_volume(grid: ImageGrid | None = None, *, hu_calibrated: bool = True, needle: bool = True) -> Volume:
    grid = example_grid() if grid is None else grid
    points: FloatArray = grid.voxel_centres_lps_mm()
    offset = points - CENTRE_LPS_MM
    body = np.hypot(offset[..., 0] / 20.0, offset[..., 1] / 14.0)
    level = np.abs(offset[..., 2]) < 12.0
    from_canal = _from_canal(points)
    values = np.full(grid.shape, TISSUE_HU)
    values[level & (body < 1.0)] = BONE_HU
    values[level & (body < 0.9)] = SPONGIOSA_HU
    values[(np.abs(offset[..., 2]) < 9.0) & (from_canal >= CANAL_RADIUS_MM) & (from_canal < 12.5)] = BONE_HU
    process = (np.abs(offset[..., 0]) < 3.0) & (offset[..., 1] > 33.0) & (offset[..., 1] < 48.0)
    values[process & (np.abs(offset[..., 2] + 4.0) < 6.0)] = BONE_HU
    values[from_canal < CANAL_RADIUS_MM] = TISSUE_HU
    if needle:
        geometry, tip = applicator(), tip_lps_mm()
        along = (points - tip) @ AXIS_LPS
        across = np.linalg.norm(points - tip - along[..., None] * AXIS_LPS, axis=-1)
        near = across < geometry.outer_radius_mm
        values[near & (along > 0.0)] = TIP_HU
        values[near & (along > geometry.radiolucent_tip_length_mm)] = METAL_HU
    return Volume(values=values.astype(np.int16), grid=grid, hu_calibrated=hu_calibrated)


def nearest_canal_point_lps_mm() -> FloatArray:
    """On the tube's wall at the source's height."""
    to_axis = (CANAL_CENTRE_LPS_MM - SOURCE_LPS_MM)[:2]
    distance = float(np.linalg.norm(to_axis))
    point: FloatArray = SOURCE_LPS_MM.copy()
    point[:2] += to_axis * (distance - CANAL_RADIUS_MM) / distance
    return point


def _triple(vector: FloatArray) -> plans.Vector:
    x, y, z = (float(v) for v in vector)
    return (x, y, z)


def _segments(tip: FloatArray, nearest: FloatArray) -> plans.PlanSegments:
    """From source and tip to the nearest point; those of the bodies are made to have the plan's lengths."""

    def between(start: FloatArray, length_mm: float | None = None) -> plans.PlanSegment:
        way = nearest - start
        distance = float(np.linalg.norm(way))
        length = distance if length_mm is None else length_mm
        return plans.PlanSegment(
            from_lps_mm=_triple(nearest - way * length / distance), to_lps_mm=_triple(nearest), length_mm=length
        )

    source = between(SOURCE_LPS_MM)
    surface = between(SOURCE_LPS_MM, source.length_mm - applicator().outer_radius_mm)
    return plans.PlanSegments(source=source, tip=between(tip), surface=surface, shaft=between(SOURCE_LPS_MM, 2.4))


def make_example_plan(volume: Volume | None = None, **changes: Any) -> plans.Plan:
    """A valid plan on ``volume`` (default `example_volume`), with whole parts replaced by ``changes``."""
    volume = example_volume() if volume is None else volume
    geometry, tip, nearest = applicator(), tip_lps_mm(), nearest_canal_point_lps_mm()
    distance = float(np.linalg.norm(nearest - SOURCE_LPS_MM))
    grid = volume.grid
    i, j, k = grid.size_voxels
    checks = (
        plans.Check(id="canal-over-limit", status="pass", message="canal 7.96 Gy is within the limit of 8 Gy"),
        plans.Check(
            id="canal-margin",
            status="warn",
            message="the limit of 8 Gy lies within k=2 of the canal dose (5.1 to 10.8 Gy); shorten the dwell time "
            "or accept the risk",
        ),
        plans.Check(
            id="table-not-clinical",
            status="warn",
            message="reference needle 50 kV is not for clinical use; load your own measured and accepted table",
        ),
        plans.Check(id="needle-confidence", status="pass", message="the needle was found with high confidence"),
    )
    plan = plans.Plan(
        schema=plans.SCHEMA,
        verdict="warn",
        intended_use="For research and education; not a medical device; not for treating patients.",
        software=plans.Software(name="iort-planner", version="0.1.0"),
        created="2026-11-22T10:30:00+01:00",
        patient=plans.PlanPatient(id="EXAMPLE-0001", birth_date="1961-04-03", sex="F"),
        image=plans.PlanImage(
            path="iort-planner-demo/scan",
            modality="CT",
            kind="ct",
            study_uid="1.2.826.0.1.3680043.10.1",
            series_uid="1.2.826.0.1.3680043.10.1.1",
            frame_of_reference_uid="1.2.826.0.1.3680043.10.1.2",
            acquired_at="2026-11-22T10:12:00+01:00",
            patient_position="FFP",
            size_voxels=(i, j, k),
            spacing_mm=_triple(grid.spacing_mm),
            hu_calibrated=volume.hu_calibrated,
            sha256=volume.sha256(),
        ),
        needles=(
            plans.PlanNeedle(
                label="1",
                tip_lps_mm=_triple(tip),
                axis_lps=_triple(AXIS_LPS),
                source_lps_mm=_triple(SOURCE_LPS_MM),
                method="auto",
                confidence="high",
                tip_uncertainty_mm=0.4,
                bending_mm=0.2,
                cannula_end_lps_mm=_triple(tip + 34.0 * AXIS_LPS),
                centre_line_lps_mm=(),
                tip_covariance_lps_mm2=((0.1, 0.0, 0.0), (0.0, 0.03, 0.0), (0.0, 0.0, 0.03)),
                content="solid",
            ),
        ),
        canal=plans.PlanCanal(
            method="auto",
            confidence="high",
            nearest_point_lps_mm=_triple(nearest),
            distance_from_source_mm=distance,
            distance_from_tip_mm=float(np.linalg.norm(nearest - tip)),
            distance_from_surface_mm=distance - geometry.outer_radius_mm,
            shaft_clearance_mm=2.4,
            polar_angle_deg=151.2,
            uncertainty_mm=0.5,
            structure="spinal canal (bony)",
            file=None,
            file_sha256=None,
            file_structure=None,
            map_sha256=None,
            points_lps_mm=(),
            segments=_segments(tip, nearest),
            wall_nearest="bone",
            wall_nearest_gap_mm=0.0,
            corrections=(),
            uncorrected_distance_from_source_mm=None,
        ),
        cord=None,
        level=plans.PlanLevel(
            lesion_mean_hu=172.0,
            lesion_median_hu=165.0,
            lesion_sd_hu=48.0,
            lesion_radius_mm=10.0,
            path=(
                plans.PlanPathPart(tissue="needle", length_mm=2.2),
                plans.PlanPathPart(tissue="spongiosa", length_mm=7.4),
                plans.PlanPathPart(tissue="cortex", length_mm=1.5),
            ),
            wall="cortex",
            note="",
        ),
        source=plans.PlanSource(
            name="reference needle 50 kV (iort_planner table, version 1)",
            table="reference-needle-50kv.csv",
            table_sha256="9b0c" * 16,
            table_origin="derived, not measured: anchor 7.04 Gy/min at 8 mm (Sethi et al. 2018)",
            table_uncertainty_percent=20.0,
            table_notes=(),
            applicator=geometry.name,
            applicator_sha256=geometry.sha256,
            applicator_origin=geometry.origin,
            outer_diameter_mm=geometry.outer_diameter_mm,
            radiolucent_tip_length_mm=geometry.radiolucent_tip_length_mm,
            tip_to_source_mm=geometry.tip_to_source_mm,
            applicator_length_mm=geometry.length_mm,
            cannula_outer_diameter_mm=geometry.cannula_outer_diameter_mm,
            cannula_length_mm=geometry.cannula_length_mm,
            clinical=False,
            scale="other",
            reference_point="source-centre",
            range_mm=(3.0, 45.0),
            trusted_range_mm=(5.0, 30.0),
            acceptance=None,
            output=None,
        ),
        prescription=plans.PlanPrescription(
            dose_gy=8.0,
            rbe=1.3,
            dose_gy_rbe=10.4,
            depth_mm=10.9,
            depth_from="canal-limit",
            depth_from_source_mm=10.9,
            limit_gy=8.0,
            limit_gy_rbe=10.4,
            limit_structure="bony canal wall (found automatically)",
        ),
        dwells=(plans.Dwell(needle="1", source_lps_mm=_triple(SOURCE_LPS_MM), time_s=158.0),),
        result=plans.Result(
            dwell_time_s=158.0,
            max_safe_dwell_time_s=158.4,
            isodose_radius_mm={"16": 8.31, "8": 10.93, "4": 14.62},
            canal_max_gy=7.96,
            canal_max_gy_rbe=10.348,
            canal_max_point_lps_mm=_triple(nearest),
            applicator_surface_gy=None,
            nearest_table_radius_mm=3.0,
            nearest_table_dose_gy=245.4,
            engine="water",
            engines={
                "water": plans.EngineResult(
                    canal_max_gy=7.96,
                    canal_max_gy_rbe=10.348,
                    dose_at_prescription_gy=8.0,
                    dwell_time_for_limit_s=158.4,
                    dose_to="water",
                    uncertainty_percent=22.0,
                )
            },
            tissue=None,
            target=None,
            biology=plans.Biology(
                rbe=1.3,
                rbe_source="1.3 for 50 kV X-rays in the spine: Krauss et al. 2024",
                canal=(
                    plans.PlanBiologicalDose(
                        bed_gy_rbe=63.9,
                        eqd2_gy_rbe=31.9,
                        alpha_beta_gy=2.0,
                        tissue="spinal cord",
                        source="HyTEC",
                        note="outside the model's tested range",
                    ),
                ),
                cord_limits=(
                    plans.PlanCordLimit(
                        name="QUANTEC",
                        low=13.0,
                        high=13.0,
                        unit="Gy(RBE)",
                        value=10.348,
                        comparison="below",
                        convention="photon dose, RBE 1: compared with Gy(RBE)",
                        source="Kirkpatrick et al. 2010",
                    ),
                ),
            ),
            uncertainty=plans.Uncertainty(
                table_percent=20.0,
                scale_percent=0.0,
                output_percent=5.0,
                interpolation_percent=0.1,
                anisotropy_percent=10.0,
                dose_rate_percent=22.9,
                tip_mm=0.4,
                canal_mm=0.5,
                tip_along_percent=1.0,
                tip_across_percent=4.0,
                canal_wall_percent=12.0,
                canal_dose_percent=26.0,
                canal_dose_band_k1_gy=(6.1, 10.3),
                canal_dose_band_k2_gy=(3.8, 12.1),
                canal_dose_band_95_gy=(3.9, 11.9),
                canal_dose_band_95_sampled_gy=(3.9, 11.9),
                probability_over_limit=0.47,
                dwell_time_band_k2_s=(75.0, 241.0),
                safe_time_band_k2_s=(80.0, 260.0),
                isodose_radius_band_k2_mm=(9.1, 12.9),
                isotropic_assumed=True,
            ),
        ),
        second_check=plans.PlanSecondCheck(
            warn_percent=3.0,
            fail_percent=5.0,
            differences_percent={"dwell time": 0.02, "canal dose": 0.11},
        ),
        checks=checks,
        approval=None,
    )
    return dataclasses.replace(plan, **changes)


@functools.cache
def example() -> tuple[plans.Plan, Volume, Mask]:
    """Plan, image and canal mask, made once."""
    volume = example_volume()
    return make_example_plan(volume), volume, example_mask(volume.grid)
