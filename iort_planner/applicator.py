"""The needle applicator: its geometry, and the one place where a distance changes its origin."""

from __future__ import annotations

import hashlib
import math
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from iort_planner import library
from iort_planner.errors import ApplicatorError
from iort_planner.inputs import read_small

if TYPE_CHECKING:
    from pathlib import Path

    from iort_planner.units import FloatArray


class DepthReference(StrEnum):
    """Where a depth starts: effective source point, applicator surface (sideways), or tip (forwards)."""

    SOURCE = "source"
    SURFACE = "surface"
    TIP = "tip"


class NeedleContent(StrEnum):
    """What fills the metal sheath of a needle: nothing, the source's probe, or metal."""

    AIR = "air"
    PROBE = "probe"
    SOLID = "solid"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicator:
    """Geometry of a needle applicator and its guide cannula.

    The tip's distal end is modelled as a half ball of the outer radius, the rest as a straight
    cylinder. ``axis`` below always points from the tip towards the hub.

    Parameters
    ----------
    name : str
    outer_diameter_mm : float
        Outer diameter of sheath and radiolucent tip.
    radiolucent_tip_length_mm : float
        Plastic beyond the distal end of the metal.
    tip_to_source_mm : float
        Outer distal end to the effective source point.
    length_mm : float
        Tip to hub.
    cannula_inner_diameter_mm, cannula_outer_diameter_mm, cannula_length_mm : float
        Guide cannula; its outer diameter may be unknown (None).
    inner_diameter_mm : float or None
        Bore of the metal sheath; None if not stated.
    content : NeedleContent
        What is inside the sheath while the scan is made: ``air``, ``probe``, ``solid`` (a stylet, or no bore at all), or
        ``unknown``.
    origin : str
        Where each number comes from.
    clinical : bool
        True only for geometry a site has confirmed for its own applicator.
    file : str
        Name of the file that the numbers were read from.
    sha256 : str
        Hash of that file's bytes.

    Raises
    ------
    ApplicatorError
        If a length is not finite and positive, or the source does not lie inside the radiolucent tip.
    """

    name: str
    outer_diameter_mm: float
    radiolucent_tip_length_mm: float
    tip_to_source_mm: float
    length_mm: float
    cannula_inner_diameter_mm: float
    cannula_length_mm: float
    origin: str
    clinical: bool
    cannula_outer_diameter_mm: float | None = None
    inner_diameter_mm: float | None = None
    content: NeedleContent = NeedleContent.UNKNOWN
    file: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        where = f"applicator {self.name!r}"
        for key in _LENGTHS:
            value = getattr(self, key)
            if value is None and key in _OPTIONAL_LENGTHS:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ApplicatorError(f"{where}: {key} must be a number in mm, got {value!r}")
            if not (math.isfinite(value) and 0.0 < value <= 1000.0):
                raise ApplicatorError(f"{where}: {key} = {value:g} mm must lie above 0 and up to 1000 mm")
        try:
            object.__setattr__(self, "content", NeedleContent(self.content))
        except ValueError as error:
            raise ApplicatorError(
                f"{where}: content = {self.content!r} must be one of: {', '.join(NeedleContent)}"
            ) from error
        bore = self.inner_diameter_mm
        if bore is not None and not bore < self.outer_diameter_mm:
            raise ApplicatorError(
                f"{where}: inner_diameter_mm = {bore:g} must be less than outer_diameter_mm = {self.outer_diameter_mm:g}"
            )
        if not self.tip_to_source_mm < self.radiolucent_tip_length_mm:
            raise ApplicatorError(
                f"{where}: tip_to_source_mm = {self.tip_to_source_mm:g} must be less than "
                f"radiolucent_tip_length_mm = {self.radiolucent_tip_length_mm:g}: the source shines through plastic"
            )
        if not self.outer_radius_mm <= self.radiolucent_tip_length_mm < self.length_mm:
            raise ApplicatorError(
                f"{where}: radiolucent_tip_length_mm = {self.radiolucent_tip_length_mm:g} must lie between the outer "
                f"radius {self.outer_radius_mm:g} and length_mm = {self.length_mm:g}"
            )
        outer = self.cannula_outer_diameter_mm
        if self.cannula_inner_diameter_mm < self.outer_diameter_mm or (
            outer is not None and outer <= self.cannula_inner_diameter_mm
        ):
            raise ApplicatorError(
                f"{where}: diameters must grow from the applicator ({self.outer_diameter_mm:g} mm) to the cannula's "
                f"inside ({self.cannula_inner_diameter_mm:g} mm) to its outside ({outer} mm)"
            )

    @property
    def outer_radius_mm(self) -> float:
        """Half of the outer diameter, mm."""
        return self.outer_diameter_mm / 2.0

    def source_lps_mm(self, tip_lps_mm: FloatArray, axis_lps: FloatArray) -> FloatArray:
        """Effective source point from the tip and the unit axis, LPS mm, shape (3,)."""
        return tip_lps_mm + self.tip_to_source_mm * axis_lps

    def metal_end_lps_mm(self, tip_lps_mm: FloatArray, axis_lps: FloatArray) -> FloatArray:
        """Distal end of the metal from the tip and the unit axis, LPS mm, shape (3,)."""
        return tip_lps_mm + self.radiolucent_tip_length_mm * axis_lps

    def tip_from_metal_end_lps_mm(self, metal_end_lps_mm: FloatArray, axis_lps: FloatArray) -> FloatArray:
        """Tip from the distal end of the metal and the unit axis, LPS mm, shape (3,)."""
        return metal_end_lps_mm - self.radiolucent_tip_length_mm * axis_lps

    def depth_from_source_mm(self, depth_mm: float, reference: DepthReference) -> float:
        """Distance from the effective source point of a depth that starts at ``reference``, mm.

        Sideways for the surface (depth + outer radius), forwards for the tip (depth + tip to source).

        Examples
        --------
        >>> needle = read_applicator()
        >>> [needle.depth_from_source_mm(10.0, reference) for reference in DepthReference]
        [10.0, 12.2, 13.0]
        """
        match reference:
            case DepthReference.SOURCE:
                return depth_mm
            case DepthReference.SURFACE:
                return depth_mm + self.outer_radius_mm
            case DepthReference.TIP:
                return depth_mm + self.tip_to_source_mm


_LENGTHS = (
    "outer_diameter_mm",
    "radiolucent_tip_length_mm",
    "tip_to_source_mm",
    "length_mm",
    "cannula_inner_diameter_mm",
    "cannula_outer_diameter_mm",
    "cannula_length_mm",
    "inner_diameter_mm",
)
_OPTIONAL_LENGTHS = {"cannula_outer_diameter_mm", "inner_diameter_mm"}
_OPTIONAL = _OPTIONAL_LENGTHS | {"content"}
_REQUIRED = {"name", "origin", "clinical", *_LENGTHS} - _OPTIONAL_LENGTHS


def unit_vector(vector: FloatArray, name: str) -> FloatArray:
    """``vector`` scaled to length 1, shape (3,); any finite non-zero length will do.

    Raises
    ------
    ValueError
        If a component is not finite or the length is zero.
    """
    v = np.asarray(vector, dtype=np.float64)
    largest = float(np.max(np.abs(v))) if v.shape == (3,) else math.nan
    if not (math.isfinite(largest) and largest > 0.0):
        raise ValueError(f"{name} {vector} must have three finite components and a length above zero")
    scaled = v / largest  # keeps 1e-200 and 1e200 from under- and overflowing
    result: FloatArray = scaled / np.linalg.norm(scaled)
    return result


def read_applicator(name_or_path: str | Path = library.DEFAULT_APPLICATOR) -> Applicator:
    """Read an applicator by its library name or from a TOML file.

    Raises
    ------
    ApplicatorError
        If the file is missing, is no TOML, lacks a key, has an unknown one, or holds impossible numbers.
    """
    path = library.find("applicators", name_or_path)
    try:
        data = read_small(path)
    except OSError as error:
        raise ApplicatorError(
            f"applicator {str(name_or_path)!r} cannot be read ({error.strerror}); give a TOML file or one of: "
            f"{', '.join(library.names('applicators'))}"
        ) from error
    try:
        content: dict[str, Any] = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ApplicatorError(
            f"applicator file {path.name}: not valid TOML ({error}); see docs/file-formats.md"
        ) from error
    missing, unknown = _REQUIRED - content.keys(), content.keys() - _REQUIRED - _OPTIONAL
    if missing or unknown:
        what = f"lacks {', '.join(sorted(missing))}" if missing else f"has unknown keys {', '.join(sorted(unknown))}"
        raise ApplicatorError(f"applicator file {path.name}: {what}; see docs/file-formats.md")
    for key, kind in (("name", str), ("origin", str), ("clinical", bool), ("content", str)):
        if key in _OPTIONAL and key not in content:
            continue
        if not isinstance(content[key], kind) or content[key] == "":
            raise ApplicatorError(f"applicator file {path.name}: {key} = {content[key]!r} must be a {kind.__name__}")
    try:
        return Applicator(**content, file=path.name, sha256=hashlib.sha256(data).hexdigest())
    except ApplicatorError as error:
        raise ApplicatorError(f"{path.name}: {error}") from error
