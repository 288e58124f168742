"""What the planned level is like: HU round the source, and what the way to the canal crosses. Notes, never a stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iort_planner.errors import LevelError
from iort_planner.geometry.distance import point_to_wall, wall_triangles
from iort_planner.geometry.path import lesion_hu, path_to_canal
from iort_planner.geometry.vertebra import segment_vertebra
from iort_planner.planning import plan as p

if TYPE_CHECKING:
    from iort_planner.geometry.canal import SpinalCanal
    from iort_planner.geometry.needle import Needle
    from iort_planner.geometry.path import LesionHu, TissuePath
    from iort_planner.imaging.volume import Volume


def describe_level(volume: Volume, needle: Needle, canal: SpinalCanal) -> p.PlanLevel:
    """HU of the vertebra near the source, and the tissues from the source centre to the nearest canal wall.

    What the image cannot tell is null or ``unknown``, with the reason in ``note``.
    """
    notes = []
    hu: LesionHu | None = None
    path: TissuePath | None = None
    try:
        vertebra = segment_vertebra(volume, needle.source_lps_mm, canal, needle)
        hu = lesion_hu(volume, needle.source_lps_mm, vertebra)
    except LevelError as error:
        notes.append(str(error))
    try:
        nearest = point_to_wall(needle.source_lps_mm, wall_triangles(canal)).to_lps_mm
        path = path_to_canal(volume, needle.source_lps_mm, nearest, needle)
    except LevelError as error:
        notes.append(str(error))
    return p.PlanLevel(
        lesion_mean_hu=None if hu is None else float(hu.mean_hu),
        lesion_median_hu=None if hu is None else float(hu.median_hu),
        lesion_sd_hu=None if hu is None else float(hu.sd_hu),
        lesion_radius_mm=None if hu is None else float(hu.radius_mm),
        path=()
        if path is None
        else tuple(p.PlanPathPart(tissue=part.tissue, length_mm=float(part.length_mm)) for part in path.segments),
        wall="unknown" if path is None else path.wall,
        note="; ".join(dict.fromkeys(notes)),
    )
