"""The spinal canal as a closed surface (or points given by hand), whatever found it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from iort_planner.errors import CanalNotFoundError
from iort_planner.geometry.needle import Confidence

if TYPE_CHECKING:
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpinalCanal:
    """The bony spinal canal over the planned level and its surroundings.

    Parameters
    ----------
    vertices_lps_mm : ndarray of shape (N, 3), mm
        Surface vertices, or the points themselves for ``method`` ``points``.
    faces : ndarray of shape (M, 3), int
        Triangles as vertex numbers, outward normals; the surface is closed (every edge in exactly two
        triangles). Shape (0, 3) for ``points``.
    on_bone : ndarray of shape (N,), bool
        Whether the wall at the vertex was seen on bone (False: interpolated).
    method : str
        ``auto``, ``file`` or ``points``.
    confidence : Confidence
    uncertainty_mm : float
        k=1, of the wall's position where it is nearest to the source.
    reasons : tuple of str
        Why the confidence is low; empty when it is high.
    nearest_gap_mm : float, optional
        From the wall nearest to the source to the nearest wall that was seen on bone; 0 where at least half of it was
        seen itself, None where nothing tells (``file``, ``points``).
    corrected_lps_mm : ndarray of shape (K, 3), mm
        Wall points by which it was corrected by hand (`iort_planner.geometry.canal_correct`).
    by_hand : ndarray of shape (N,), bool, optional
        Whether such corrections moved the vertex.

    Raises
    ------
    CanalNotFoundError
        If there is no vertex, a coordinate is not finite, or a surface is not closed.
    """

    vertices_lps_mm: FloatArray
    faces: npt.NDArray[np.int64]
    on_bone: npt.NDArray[np.bool_]
    method: str
    confidence: Confidence
    uncertainty_mm: float
    reasons: tuple[str, ...] = field(default=())
    nearest_gap_mm: float | None = None
    corrected_lps_mm: FloatArray = field(default_factory=lambda: np.empty((0, 3)))
    by_hand: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=np.bool_))

    @property
    def corrections(self) -> int:
        """How many wall points were corrected by hand."""
        return int(self.corrected_lps_mm.shape[0])

    def moved_at(self, point_lps_mm: FloatArray) -> bool:
        """Whether corrections by hand moved the surface at its vertex nearest to a point."""
        return bool(self.by_hand[np.argmin(np.linalg.norm(self.vertices_lps_mm - point_lps_mm, axis=1))])

    @property
    def nearest_on_bone(self) -> bool | None:
        """Whether the wall nearest to the source was seen on bone, at least half of it; None where nothing tells."""
        return None if self.nearest_gap_mm is None else self.nearest_gap_mm == 0.0

    @property
    def nearest_wall(self) -> str:
        """What the wall nearest to the source rests on, in one line."""
        if self.nearest_gap_mm is None:
            text = "as given"
        elif self.nearest_gap_mm == 0.0:
            text = "bone"
        else:
            text = f"interpolated, {self.nearest_gap_mm:.1f} mm to the nearest seen bone"
        return f"{text}; corrected by hand at {self.corrections} point(s)" if self.corrections else text

    def __post_init__(self) -> None:
        vertices = np.array(self.vertices_lps_mm, dtype=np.float64)
        faces = np.array(self.faces, dtype=np.int64).reshape(-1, 3)
        on_bone = np.array(self.on_bone, dtype=np.bool_)
        if vertices.ndim != 2 or vertices.shape[0] < 1 or vertices.shape[1] != 3 or not np.all(np.isfinite(vertices)):
            raise CanalNotFoundError(f"canal: need at least one vertex of three finite numbers, got {vertices.shape}")
        if on_bone.shape != vertices.shape[:1]:
            raise CanalNotFoundError(f"canal: {on_bone.shape} wall flags for {vertices.shape[0]} vertices")
        by_hand = np.array(self.by_hand, dtype=np.bool_)
        if not by_hand.size:
            by_hand = np.zeros_like(on_bone)
        if by_hand.shape != on_bone.shape:
            raise CanalNotFoundError(f"canal: {by_hand.shape} flags of corrections for {vertices.shape[0]} vertices")
        corrected = np.array(self.corrected_lps_mm, dtype=np.float64).reshape(-1, 3)
        if faces.size and not is_closed(faces, vertices.shape[0]):
            raise CanalNotFoundError("canal: the surface is not closed; give a filled label map")
        for name, array in (
            ("vertices_lps_mm", vertices),
            ("faces", faces),
            ("on_bone", on_bone),
            ("corrected_lps_mm", corrected),
            ("by_hand", by_hand),
        ):
            array.setflags(write=False)
            object.__setattr__(self, name, array)


def is_closed(faces: npt.NDArray[np.int64], vertex_count: int) -> bool:
    """Whether each directed edge has its reverse exactly once: a closed, consistently oriented surface."""
    if faces.min() < 0 or faces.max() >= vertex_count:
        return False
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    forward = np.sort(edges[:, 0] * vertex_count + edges[:, 1])
    backward = np.sort(edges[:, 1] * vertex_count + edges[:, 0])
    return bool(np.all(forward[1:] != forward[:-1]) and np.array_equal(forward, backward))


def canal_from_points(
    points_lps_mm: FloatArray, *, hu_calibrated: bool = True, uncertainty_mm: float = 0.7
) -> SpinalCanal:
    """Canal wall points given by hand: distances go to the nearest of them; there is no surface.

    On an image whose values are not HU the confidence is at best low.
    """
    points = np.asarray(points_lps_mm, dtype=np.float64).reshape(-1, 3)
    return SpinalCanal(
        vertices_lps_mm=points,
        faces=np.empty((0, 3), dtype=np.int64),
        on_bone=np.zeros(points.shape[0], dtype=np.bool_),
        method="points",
        confidence=Confidence.HIGH if hu_calibrated else Confidence.LOW,
        uncertainty_mm=uncertainty_mm,
        reasons=() if hu_calibrated else ("the image's values are not HU",),
    )


def segment_canal(volume: Volume, source_lps_mm: FloatArray, needle_axis_lps: FloatArray) -> SpinalCanal:
    """Find the bony canal near the source; see `iort_planner.geometry.canal_segmentation.segment`."""
    from iort_planner.geometry.canal_segmentation import segment

    return segment(volume, source_lps_mm, needle_axis_lps)
