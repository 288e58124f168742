"""The needle in patient space: a finished value, found automatically or given by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.applicator import NeedleContent, unit_vector
from iort_planner.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.applicator import Applicator
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray


class Confidence(StrEnum):
    """How far an automatic step may be trusted; ``low`` always has a reason and a warning in the plan."""

    HIGH = "high"
    LOW = "low"


# A tip picked by hand on 1 mm slices: about half a slice along, half a pixel across (k=1). Our own figure.
MANUAL_TIP_UNCERTAINTY_MM = 0.7
# How far a pose by hand may lie from the metal in the image: twice its uncertainty; along the axis more, as a cut or
# streaked end seems up to 0.8 mm off. Our own.
MANUAL_BESIDE_MM, MANUAL_TURNED_DEG, MANUAL_END_MM = 1.4, 5.0, 2.0
_LOOK_MM = 6.0  # round the given axis
STEEL_HU = 2500.0  # above any bone (cortical up to about 2000 HU) and contrast medium, below steel's cut at 3071
STEEL_SHARE = 0.3  # of the way from the median to the highest grey value, for a pose by hand; C-arm metal is uneven


# Of the arrays in a needle; 0 stands for any number.
_SHAPES = {
    "tip_lps_mm": (3,),
    "axis_lps": (3,),
    "source_lps_mm": (3,),
    "cannula_end_lps_mm": (3,),
    "tip_covariance_lps_mm2": (3, 3),
    "centre_line_lps_mm": (0, 3),
}
_OPTIONAL = frozenset({"cannula_end_lps_mm", "tip_covariance_lps_mm2", "centre_line_lps_mm"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Needle:
    """Pose of one needle applicator.

    Parameters
    ----------
    label : str
    tip_lps_mm : ndarray of shape (3,), mm
        Outer distal end of the radiolucent tip.
    axis_lps : ndarray of shape (3,)
        Unit vector from the tip towards the hub, tangent at the distal metal end.
    source_lps_mm : ndarray of shape (3,), mm
        Effective source point.
    method : str
        ``auto`` or ``manual``.
    confidence : Confidence
    tip_uncertainty_mm : float
        k=1, of the tip's position along the axis and across it taken together: the root of the covariance's trace.
    tip_covariance_lps_mm2 : ndarray of shape (3, 3) or None, mm2
        Of the tip's position; None for a pose given by hand.
    bending_mm : float or None
        Largest distance of the visible centre line from the chord between its ends; None if not seen.
    centre_line_lps_mm : ndarray of shape (K, 3) or None, mm
        Of a bent shaft as far as it is seen, from the distal metal end towards the hub; None where it looks straight.
    cannula_end_lps_mm : ndarray of shape (3,) or None
        Distal end of the guide cannula where it was seen in the image.
    cannula_over_source : bool
        Whether the cannula's end lies distal of the source centre; where that cannot be told, the confidence is low.
    reasons : tuple of str
        Why the confidence is low; empty when it is high.
    end_reasons : tuple of str
        Those of them that doubt what stands at the metal's distal end, shaft or cannula.
    content : NeedleContent
        What was seen inside the sheath; ``unknown`` for a pose given by hand, or where the image does not tell.
    """

    label: str
    tip_lps_mm: FloatArray
    axis_lps: FloatArray
    source_lps_mm: FloatArray
    method: str
    confidence: Confidence
    tip_uncertainty_mm: float
    bending_mm: float | None = None
    cannula_end_lps_mm: FloatArray | None = None
    cannula_over_source: bool = False
    reasons: tuple[str, ...] = field(default=())
    end_reasons: tuple[str, ...] = field(default=())
    tip_covariance_lps_mm2: FloatArray | None = None
    centre_line_lps_mm: FloatArray | None = None
    content: NeedleContent = NeedleContent.UNKNOWN

    def __post_init__(self) -> None:
        for name, shape in _SHAPES.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            array: npt.NDArray[np.float64] = np.array(value, dtype=np.float64)
            fits = len(array.shape) == len(shape) and all(
                want in (0, n) for n, want in zip(array.shape, shape, strict=True)
            )
            if not fits or array.size == 0 or not np.all(np.isfinite(array)):
                size = " x ".join(str(n or "K") for n in shape)
                raise InputError(f"needle: {name} must be {size} finite numbers, got {array.tolist()}")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if abs(float(np.linalg.norm(self.axis_lps)) - 1.0) > 1e-9:
            raise InputError(f"needle: axis {self.axis_lps.tolist()} is not a unit vector")


def manual_needle(volume: Volume, applicator: Applicator, tip_lps_mm: FloatArray, axis_lps: FloatArray) -> Needle:
    """Take a pose as given: the tip and an axis of any non-zero length from the tip towards the hub.

    It is compared with the metal in the image; where they contradict each other the confidence is low, with reasons.

    Raises
    ------
    InputError
        If a number is not finite, the axis has no length, or tip or source centre lie outside the image.
    """
    tip = np.asarray(tip_lps_mm, dtype=np.float64)
    try:
        axis = unit_vector(np.asarray(axis_lps, dtype=np.float64), "axis")
    except ValueError as error:
        raise InputError(
            f"{error}; give the direction from the tip towards the hub, e.g. --axis 0.4 0.9 0.1"
        ) from error
    source = applicator.source_lps_mm(tip, axis)
    for name, point in (("tip", tip), ("source centre", source)):
        if not (np.all(np.isfinite(point)) and volume.grid.contains(point)):
            corners = volume.grid.corners_lps_mm()
            low, high = np.round(corners.min(axis=0), 1).tolist(), np.round(corners.max(axis=0), 1).tolist()
            raise InputError(
                f"the {name} {np.round(point, 2).tolist()} lies outside the image, which spans LPS {low} to {high} mm; "
                "give patient coordinates in mm (DICOM LPS)"
            )
    doubts = _against_the_image(volume, applicator, tip, axis)
    return Needle(
        label="1",
        tip_lps_mm=tip,
        axis_lps=axis,
        source_lps_mm=source,
        method="manual",
        confidence=Confidence.LOW if doubts else Confidence.HIGH,
        tip_uncertainty_mm=MANUAL_TIP_UNCERTAINTY_MM,
        reasons=doubts,
    )


def _against_the_image(
    volume: Volume, applicator: Applicator, tip_lps_mm: FloatArray, axis_lps: FloatArray
) -> tuple[str, ...]:
    """Where the metal in the image contradicts a pose given by hand; empty if it agrees.

    Metal where the shaft must be, none where the plastic is, none ahead of the tip; and the metal's own axis and end, where
    they can be seen, against the given ones.
    """
    steel = STEEL_HU
    if not volume.hu_calibrated:
        middle = float(np.median(volume.values[:: max(1, volume.values.shape[0] // 64), ::2, ::2]))
        steel = middle + STEEL_SHARE * (float(volume.values.max()) - middle)
    metal_end = applicator.radiolucent_tip_length_mm

    def share(low_mm: float, high_mm: float) -> float:
        at = np.arange(low_mm, high_mm, 0.5)
        values = volume.sample(tip_lps_mm + at[:, None] * axis_lps)
        values = values[np.isfinite(values)]
        return float(np.mean(values > steel)) if values.size else 0.0

    doubts = []
    if share(metal_end + 1.5, metal_end + 16.5) < 0.5:
        doubts.append("no metal in the image where the given shaft should be")
    if share(0.0, max(metal_end - 1.5, 1.0)) > 0.5:
        doubts.append("metal in the image where the given plastic tip should be")
    if share(-15.0, -2.0) > 0.3:
        doubts.append("metal in the image ahead of the given tip: is the axis reversed?")
    if not doubts:
        doubts += _apart_from_the_metal(volume, steel, applicator, tip_lps_mm, axis_lps)
    return tuple(doubts)


def _apart_from_the_metal(
    volume: Volume, steel: float, applicator: Applicator, tip_lps_mm: FloatArray, axis_lps: FloatArray
) -> list[str]:
    """How far the metal seen round a given axis lies beside it, is turned, and begins elsewhere."""
    side = np.cross(axis_lps, np.eye(3)[int(np.argmin(np.abs(axis_lps)))])
    side /= np.linalg.norm(side)
    up = np.cross(axis_lps, side)
    across = np.arange(-_LOOK_MM, _LOOK_MM + 1e-6, 0.5)
    x, y = np.meshgrid(across, across, indexing="ij")
    end_mm = applicator.radiolucent_tip_length_mm
    along = np.arange(end_mm - 10.0, end_mm + 20.0, 0.5)
    points = tip_lps_mm + along[:, None, None, None] * axis_lps + x[..., None] * side + y[..., None] * up
    metal = np.nan_to_num(volume.sample(points), nan=-np.inf) > steel
    count = metal.sum(axis=(1, 2))
    full = count >= 0.5 * np.pi * applicator.outer_radius_mm**2 / 0.25
    used = full & (along > end_mm + 1.0)
    if np.count_nonzero(used) < 10:
        return ["too little metal in the image to compare the given pose with"]
    centre = np.stack([(metal * x).sum(axis=(1, 2)), (metal * y).sum(axis=(1, 2))], axis=1)[used] / count[used, None]
    fitted = np.polyfit(along[used], centre, 1)
    beside = float(np.linalg.norm(fitted[0] * end_mm + fitted[1]))
    turned = float(np.degrees(np.arctan(np.linalg.norm(fitted[0]))))
    begins = float(along[full][0] - end_mm)
    doubts = []
    if beside > MANUAL_BESIDE_MM:
        doubts.append(f"the metal in the image lies {beside:.1f} mm beside the given axis")
    if turned > MANUAL_TURNED_DEG:
        doubts.append(f"the metal in the image runs {turned:.0f} degrees off the given axis")
    if abs(begins) > MANUAL_END_MM:
        doubts.append(f"the metal in the image begins {begins:+.1f} mm from where the given tip puts its end")
    return doubts


def locate_needle(volume: Volume, applicator: Applicator, hint_lps_mm: FloatArray | None = None) -> Needle:
    """Find the needle in the image; see `iort_planner.geometry.needle_detection.detect`."""
    from iort_planner.geometry.needle_detection import detect

    return detect(volume, applicator, hint_lps_mm)[0]


def locate_needles(volume: Volume, applicator: Applicator, hint_lps_mm: FloatArray | None = None) -> tuple[Needle, ...]:
    """Find all needles in the image, the one meant first; see `iort_planner.geometry.needle_detection.detect`."""
    from iort_planner.geometry.needle_detection import detect

    return detect(volume, applicator, hint_lps_mm, others=True)
