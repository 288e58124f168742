"""The frames of one image file: where each lies and how its values are rescaled.

A classic slice is a file of one frame with these values in the data set itself. Multi-frame objects (Enhanced CT, X-Ray 3D
Angiographic) have them in functional groups, shared by all frames or one by one (DICOM PS3.3 C.7.6.16).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from iort_planner.imaging.dicom.pixels import Rescale
from iort_planner.imaging.dicom.tags import TAG_NAMES, Tags
from iort_planner.imaging.geometry_checks import SlicePlane

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

_SHARED_GROUPS, _FRAME_GROUPS = 0x52009229, 0x52009230
_PLANE_POSITION, _PLANE_ORIENTATION, _PIXEL_MEASURES = 0x00209113, 0x00209116, 0x00289110
_VALUE_TRANSFORMATION, _FRAME_CONTENT = 0x00289145, 0x00209111
_FRAME_TYPES = (0x00189329, 0x00189504)  # CT Image Frame Type, X-Ray 3D Frame Type
_POSITION, _ORIENTATION, _PIXEL_SPACING = 0x00200032, 0x00200037, 0x00280030
_INTERCEPT, _SLOPE, _RESCALE_TYPE, _MODALITY_LUT = 0x00281052, 0x00281053, 0x00281054, 0x00283000
_ACQUISITION_NUMBER, _FRAME_ACQUISITION_NUMBER, _FRAME_TYPE = 0x00200012, 0x00209156, 0x00089007
MIN_PIXEL_MM = 0.01  # our own choice: a tenth of the finest cone-beam voxels
_TEMPORAL_INDEX = 0x00209128
_GROUP_NAMES = {
    _PLANE_POSITION: "Plane Position Sequence (0020,9113)",
    _PLANE_ORIENTATION: "Plane Orientation Sequence (0020,9116)",
    _PIXEL_MEASURES: "Pixel Measures Sequence (0028,9110)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One plane of pixels: ``index`` is its number in the file, from 0; ``plane`` is None where that is not stated.

    ``phase`` is its Temporal Position Index, empty where there is none.
    """

    name: str
    index: int
    plane: SlicePlane | None
    rescale: Rescale
    padding: int | None
    frame_type: tuple[str, ...]
    acquisition: str
    phase: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Common:
    """What all frames of a file have alike."""

    rows: int
    columns: int
    frame_uid: str
    image_type: tuple[str, ...]
    padding: int | None


def read_frames(
    tags: Tags,
    *,
    rows: int,
    columns: int,
    count: int,
    frame_uid: str,
    image_type: tuple[str, ...],
    padding: int | None,
) -> tuple[Frame, ...]:
    """All frames of a file in the order of its pixels; faults go to ``tags``."""
    common = _Common(rows=rows, columns=columns, frame_uid=frame_uid, image_type=image_type, padding=padding)
    groups, shared = tags.items(_FRAME_GROUPS), tags.items(_SHARED_GROUPS)
    if not groups and not shared:
        if count > 1:
            tags.fault("missing-tag", f"{count} frames without functional groups: nothing says where each frame lies")
            return ()
        return (_classic(tags, common),)
    if len(groups) != count:
        tags.fault("malformed-tag", f"functional groups of {len(groups)} frames for {count} frames of pixels")
        return ()
    grouped = _Grouped(tags, shared[0] if shared else None, common)
    frames = []
    for index, group in enumerate(groups):
        if count > 1:
            group.name = f"{tags.name} frame {index + 1}"
        frames.append(grouped.frame(group, index))
    return tuple(frames)


def _classic(tags: Tags, common: _Common) -> Frame:
    return Frame(
        name=tags.name,
        index=0,
        plane=_plane(tags.name, common, tags.numbers(_POSITION, 3), tags.numbers(_ORIENTATION, 6), _spacing(tags)),
        rescale=_rescale(tags),
        padding=common.padding,
        frame_type=common.image_type,
        acquisition=tags.digits(_ACQUISITION_NUMBER),
    )


class _Grouped:
    """Frames from functional groups; what is shared is parsed once."""

    def __init__(self, tags: Tags, shared: Tags | None, common: _Common) -> None:
        self._tags, self._shared, self._common = tags, shared, common
        self._parsed: dict[int, Any] = {}

    def frame(self, group: Tags, index: int) -> Frame:
        position = self._value(group, _PLANE_POSITION, lambda t: t.numbers(_POSITION, 3))
        orientation = self._value(group, _PLANE_ORIENTATION, lambda t: t.numbers(_ORIENTATION, 6))
        spacing = self._value(group, _PIXEL_MEASURES, _spacing)
        content = group.items(_FRAME_CONTENT)
        types = [kind for tag in _FRAME_TYPES if (kind := self._value(group, tag, _frame_type)) is not None]
        return Frame(
            name=group.name,
            index=index,
            plane=_plane(group.name, self._common, position, orientation, spacing),
            rescale=self._value(group, _VALUE_TRANSFORMATION, _rescale) or _rescale(self._tags),
            padding=self._common.padding,
            frame_type=types[0] if types else self._common.image_type,
            acquisition=str(content[0].whole(_FRAME_ACQUISITION_NUMBER) or "") if content else "",
            phase=str(content[0].whole(_TEMPORAL_INDEX) or "") if content else "",
        )

    def _value(self, group: Tags, tag: int, read: Callable[[Tags], _T]) -> _T | None:
        """Read a functional group of one frame, else the shared one; a fault where a place needs it and has none."""
        items = group.items(tag) if group.has(tag) else []
        if items:
            return read(items[0])
        if tag not in self._parsed:
            shared = self._shared.items(tag) if self._shared is not None else []
            self._parsed[tag] = read(shared[0]) if shared else None
            if not shared and tag in _GROUP_NAMES:
                group.fault("missing-tag", f"{_GROUP_NAMES[tag]} is missing: nothing says where the frame lies")
        found: _T | None = self._parsed[tag]
        return found


def _frame_type(tags: Tags) -> tuple[str, ...]:
    return tags.codes(_FRAME_TYPE)


def _spacing(tags: Tags) -> tuple[float, ...] | None:
    spacing = tags.numbers(_PIXEL_SPACING, 2)
    if spacing is not None and min(spacing) < MIN_PIXEL_MM:
        shown = f"{spacing[0]:g}, {spacing[1]:g} mm, not above {MIN_PIXEL_MM:g} mm"
        tags.fault("malformed-tag", f"{TAG_NAMES[_PIXEL_SPACING]} is {shown}")
        return None
    return spacing


def _plane(
    name: str,
    common: _Common,
    position: tuple[float, ...] | None,
    orientation: tuple[float, ...] | None,
    spacing: tuple[float, ...] | None,
) -> SlicePlane | None:
    if position is None or orientation is None or spacing is None:
        return None
    between_rows, between_columns = spacing  # DICOM PS3.3 10.7.1.3: row spacing comes first
    return SlicePlane(
        name=name,
        rows=common.rows,
        columns=common.columns,
        spacing_ij_mm=(between_columns, between_rows),
        row_lps=(orientation[0], orientation[1], orientation[2]),
        column_lps=(orientation[3], orientation[4], orientation[5]),
        position_lps_mm=(position[0], position[1], position[2]),
        frame_of_reference_uid=common.frame_uid,
    )


def _rescale(tags: Tags) -> Rescale:
    if tags.has(_MODALITY_LUT):
        tags.fault("not-supported", "a Modality LUT Sequence instead of a linear rescale is not supported")
        return Rescale()
    if not (tags.has(_SLOPE) or tags.has(_INTERCEPT)):
        return Rescale(type=tags.code(_RESCALE_TYPE))
    slope, intercept = tags.numbers(_SLOPE, 1), tags.numbers(_INTERCEPT, 1)
    if slope is None or intercept is None:
        return Rescale()
    if slope[0] == 0:
        tags.fault("malformed-tag", f"{TAG_NAMES[_SLOPE]} is 0: every pixel would be the same")
    return Rescale(slope=slope[0], intercept=intercept[0], type=tags.code(_RESCALE_TYPE), stated=True)
