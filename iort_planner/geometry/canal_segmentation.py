"""The spinal canal near the source, found in the image: path, wall, closed surface, and how far to trust it."""

from __future__ import annotations

import numpy as np

from iort_planner.applicator import unit_vector
from iort_planner.geometry.canal import SpinalCanal
from iort_planner.geometry.canal_search import find_path, not_found
from iort_planner.geometry.canal_surface import tube_mesh
from iort_planner.geometry.canal_trust import judge, why_no_canal
from iort_planner.geometry.canal_wall import find_wall
from iort_planner.imaging.volume import Volume
from iort_planner.units import FloatArray


def segment(volume: Volume, source_lps_mm: FloatArray, needle_axis_lps: FloatArray) -> SpinalCanal:
    """Segment the bony spinal canal over the source's level and at least one each way, where the image and bone allow.

    Parameters
    ----------
    volume : Volume
        HU, or relative intensities (then the confidence is at best low).
    source_lps_mm : ndarray of shape (3,), mm
        Source centre, in a vertebra.
    needle_axis_lps : ndarray of shape (3,)
        From the tip towards the hub; the needle itself is left out of the search for bone.

    Returns
    -------
    SpinalCanal
        Method ``auto``: a closed tube through the inner face of the cortical bone; where no edge is seen (foramina,
        discs, between laminae, a breach, metal) the wall is interpolated from its neighbours.

    Raises
    ------
    CanalNotFoundError
        If there is no soft tissue enclosed by bone near the source, or what is found is no canal.
    """
    source = np.asarray(source_lps_mm, dtype=np.float64)
    axis = unit_vector(np.asarray(needle_axis_lps, dtype=np.float64), "needle axis")
    scale, path = find_path(volume, source, axis)
    wall = find_wall(volume, scale, path, source, axis)
    if wall is None:
        raise not_found(volume, source, "too little of the canal's wall lies in the image")
    near = wall.near(source)
    objection = why_no_canal(near, source)
    if objection is not None:
        raise not_found(volume, source, objection)
    trust = judge(volume, path, near, source)
    vertices, faces = tube_mesh(wall.points_lps_mm(), wall.frame.centre_lps_mm[[0, -1]])
    return SpinalCanal(
        vertices_lps_mm=vertices,
        faces=faces,
        on_bone=np.concatenate([wall.seen.ravel(), [False, False]]),
        method="auto",
        confidence=trust.confidence,
        uncertainty_mm=trust.uncertainty_mm,
        reasons=trust.reasons,
        nearest_gap_mm=trust.nearest_gap_mm,
    )
