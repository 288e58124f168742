"""Every key of a phantom's specification, with the limits that hold for it alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

from iort_planner.phantom.spec_model import (
    BodySpec,
    CanalSpec,
    DeviceKind,
    DeviceSpec,
    GridSpec,
    HuSpec,
    Kernel,
    LesionSpec,
    MarkerSpec,
    Material,
    NeedleParts,
    NeedleSpec,
    RailSpec,
    RodSpec,
    ScannerSpec,
    ScrewSpec,
    SpineSpec,
    VertebraSpec,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A number, or ``count`` of them, from ``low`` to ``high``."""

    low: float
    high: float
    count: int = 1
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOf:
    """One of some words, or true or false."""

    values: tuple[str | bool, ...]


Keys: TypeAlias = Mapping[str, Limit | OneOf]

_HU = Limit(low=-1024, high=3000)
_YES_OR_NO = OneOf(values=(True, False))
_MATERIAL = OneOf(values=get_args(Material))
_ANYWHERE = Limit(low=-400, high=400, count=3)  # table rails lie that far out
_NEEDLE: Keys = {
    "tip_mm": Limit(low=-60, high=60, count=3),
    "through_mm": Limit(low=-60, high=60, count=3),
    "cannula_end_mm": Limit(low=0, high=60),
    "bend_mm": Limit(low=0, high=8),
    "bend_turn_deg": Limit(low=-360, high=360),
    "content": OneOf(values=("solid", "air", "probe")),
    "wall_mm": Limit(low=0.3, high=0.7),
    "probe_diameter_mm": Limit(low=2, high=3.6),
    "probe_wall_mm": Limit(low=0.1, high=0.4),
    "probe_end_mm": Limit(low=0.5, high=1),
    "hollow_tip": _YES_OR_NO,
    "tip_wall_mm": Limit(low=0.6, high=1),
    "parts": OneOf(values=get_args(NeedleParts)),
    "cannula": _YES_OR_NO,
}
# Limits keep to what this model of a thoracic or lumbar vertebra can draw sensibly (our own choice; the means of
# human vertebrae lie well inside: `phantom.levels`). A key whose field has a default may be left out.
SECTIONS: dict[str, tuple[type[Any], Keys]] = {
    "grid": (
        GridSpec,
        {
            "size_voxels": Limit(low=16, high=512, count=3, whole=True),
            "spacing_mm": Limit(low=0.2, high=5, count=3),
            "centre_offset_mm": Limit(low=-200, high=200, count=3),
            "rotation_deg": Limit(low=-60, high=60, count=3),
        },
    ),
    "spine": (
        SpineSpec,
        {
            "origin_lps_mm": Limit(low=-2000, high=2000, count=3),
            "rotation_deg": Limit(low=-30, high=30, count=3),
            "kyphosis_radius_mm": Limit(low=-5000, high=5000),
            "bend_plane_deg": Limit(low=-90, high=90),
        },
    ),
    "canal": (
        CanalSpec,
        {
            "width_mm": Limit(low=12, high=30),
            "depth_mm": Limit(low=10, high=24),
            "exponent": Limit(low=2, high=4),
            "sac_width_mm": Limit(low=8, high=28),
            "sac_depth_mm": Limit(low=8, high=22),
            "cord_width_mm": Limit(low=0, high=16),
            "cord_depth_mm": Limit(low=0, high=12),
        },
    ),
    "vertebra": (
        VertebraSpec,
        {
            "body_width_mm": Limit(low=22, high=56),
            "body_depth_mm": Limit(low=18, high=42),
            "body_height_mm": Limit(low=14, high=34),
            "disc_height_mm": Limit(low=3, high=14),
            "cortex_mm": Limit(low=0.4, high=2),
            "pedicle_width_mm": Limit(low=4, high=20),
            "pedicle_height_mm": Limit(low=9, high=22),
            "ribs": _YES_OR_NO,
            "transverse_mm": Limit(low=8, high=30),
            "spinous_mm": Limit(low=8, high=32),
            "spinous_drop_mm": Limit(low=0, high=18),
        },
    ),
    "lesion": (
        LesionSpec,
        {
            "centre_mm": Limit(low=-60, high=60, count=3),
            "radii_mm": Limit(low=1, high=20, count=3),
            "breaches": _YES_OR_NO,
        },
    ),
    "needle": (NeedleSpec, _NEEDLE),
    "body": (
        BodySpec,
        {
            "back_mm": Limit(low=36, high=90),
            "front_mm": Limit(low=90, high=200),
            "width_mm": Limit(low=200, high=500),
            "skin_mm": Limit(low=0.5, high=4),
            "fat_mm": Limit(low=1, high=30),
        },
    ),
    "scanner": (
        ScannerSpec,
        {
            "psf_sigma_mm": Limit(low=0, high=2),
            "slice_sigma_mm": Limit(low=0, high=3),
            "noise_hu": Limit(low=0, high=200),
            "noise_correlation_mm": Limit(low=0, high=3),
            "streak_amplitude": Limit(low=0, high=5),
            "clip_hu": Limit(low=2000, high=30000),
            "kernel": OneOf(values=get_args(Kernel)),
            "metal_cupping": Limit(low=0, high=0.4),
        },
    ),
    "hu": (
        HuSpec,
        dict.fromkeys(HuSpec.__dataclass_fields__, _HU)
        | {"steel": Limit(low=3000, high=30000), "titanium": Limit(low=2000, high=30000)},
    ),
}
# Tables that may come several times or not at all: field of the specification, type, keys.
LISTS: dict[str, tuple[str, type[Any], Keys]] = {
    "needle_extra": ("extra_needles", NeedleSpec, _NEEDLE),
    "screw": (
        "screws",
        ScrewSpec,
        {
            "tip_mm": Limit(low=-100, high=100, count=3),
            "through_mm": Limit(low=-100, high=100, count=3),
            "diameter_mm": Limit(low=3, high=8),
            "length_mm": Limit(low=15, high=80),
            "head_diameter_mm": Limit(low=4, high=18),
            "head_length_mm": Limit(low=2, high=25),
            "material": _MATERIAL,
        },
    ),
    "rod": (
        "rods",
        RodSpec,
        {
            "start_mm": Limit(low=-200, high=200, count=3),
            "end_mm": Limit(low=-200, high=200, count=3),
            "diameter_mm": Limit(low=2, high=8),
            "material": _MATERIAL,
        },
    ),
    "rail": (
        "rails",
        RailSpec,
        {
            "start_offset_mm": _ANYWHERE,
            "end_offset_mm": _ANYWHERE,
            "diameter_mm": Limit(low=1, high=40),
            "material": _MATERIAL,
        },
    ),
    "marker": (
        "markers",
        MarkerSpec,
        {
            "centre_mm": Limit(low=-200, high=200, count=3),
            "radius_mm": Limit(low=0.3, high=6),
            "material": _MATERIAL,
        },
    ),
    "device": (
        "devices",
        DeviceSpec,
        {
            "kind": OneOf(values=get_args(DeviceKind)),
            "start_mm": Limit(low=-200, high=200, count=3),
            "end_mm": Limit(low=-200, high=200, count=3),
            "diameter_mm": Limit(low=0.3, high=6),
            "wall_mm": Limit(low=0, high=1),
            "width_mm": Limit(low=0, high=60),
            "cement_mm": Limit(low=0, high=12),
            "cement_hu": Limit(low=1200, high=3000),
            "material": _MATERIAL,
        },
    ),
}
