"""What a phantom is made from: a frozen value with one section a part, in the order of the TOML file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from iort_planner.applicator import Applicator

_Three: TypeAlias = tuple[float, float, float]
Material: TypeAlias = Literal["titanium", "carbon", "steel"]
NeedleContent: TypeAlias = Literal["solid", "air", "probe"]
NeedleParts: TypeAlias = Literal["needle", "cannula", "none"]
Kernel: TypeAlias = Literal["gaussian", "sharp", "soft_tailed"]
DeviceKind: TypeAlias = Literal["k_wire", "clip", "retractor", "monitoring_needle", "trocar"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSpec:
    """The scan's grid; the angles turn it about the patient's x, y, z axes through its centre."""

    size_voxels: tuple[int, int, int]
    spacing_mm: _Three
    centre_offset_mm: _Three
    rotation_deg: _Three


@dataclass(frozen=True, slots=True, kw_only=True)
class SpineSpec:
    """Placement of the spine: canal centre at the middle of the level, turning, and its curve.

    A negative ``kyphosis_radius_mm`` is lordosis; ``bend_plane_deg`` turns the curve's plane about the spine
    (`SpineFrame`): kyphoscoliosis.
    """

    origin_lps_mm: _Three
    rotation_deg: _Three
    kyphosis_radius_mm: float
    bend_plane_deg: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CanalSpec:
    """Bony canal, thecal sac and cord; a cord of 0 by 0 is none, as below L1."""

    width_mm: float
    depth_mm: float
    exponent: float
    sac_width_mm: float
    sac_depth_mm: float
    cord_width_mm: float
    cord_depth_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VertebraSpec:
    """Sizes of the vertebra.

    ``ribs`` says thoracic: with ribs and lungs; without, the processes have the lumbar shape. ``transverse_mm`` and
    ``spinous_mm`` are the lengths of these processes, ``spinous_drop_mm`` how far the latter slopes down.
    """

    body_width_mm: float
    body_depth_mm: float
    body_height_mm: float
    disc_height_mm: float
    cortex_mm: float
    pedicle_width_mm: float
    pedicle_height_mm: float
    ribs: bool = True
    transverse_mm: float = 16.0
    spinous_mm: float = 17.0
    spinous_drop_mm: float = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionSpec:
    """Lytic lesion in the body, in spine coordinates; one that ``breaches`` leaves no cortex, up to the canal."""

    centre_mm: _Three
    radii_mm: _Three
    breaches: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedleSpec:
    """Pose of the applicator in spine coordinates: its tip and a second point of its axis; and the cannula's end.

    ``bend_mm`` is the sagitta of the steel shaft's arc over its whole length, ``bend_turn_deg`` the bend's direction
    round the axis; the axis is the tangent at the distal metal end.

    The rest says how the needle is built (`iort_planner.phantom.needle_build` draws it): ``content`` fills the metal sheath,
    whose wall is ``wall_mm`` thick (of no meaning for ``solid``). A ``probe`` is a thin steel tube with nothing in it that
    reaches into the plastic as far as the effective source point, where it ends in ``probe_end_mm`` of metal.
    ``hollow_tip`` is a plastic tip with a bore of air. ``parts`` leaves the cannula alone, or nothing at all;
    without ``cannula`` there is none.
    """

    tip_mm: _Three
    through_mm: _Three
    cannula_end_mm: float
    bend_mm: float = 0.0
    bend_turn_deg: float = 0.0
    content: NeedleContent = "solid"
    wall_mm: float = 0.5
    probe_diameter_mm: float = 3.2
    probe_wall_mm: float = 0.2
    probe_end_mm: float = 0.8
    hollow_tip: bool = False
    tip_wall_mm: float = 0.8
    parts: NeedleParts = "needle"
    cannula: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrewSpec:
    """Pedicle screw in spine coordinates: its tip, a second point of its axis, shaft (from the tip) and head."""

    tip_mm: _Three
    through_mm: _Three
    diameter_mm: float
    length_mm: float
    head_diameter_mm: float
    head_length_mm: float
    material: Material


@dataclass(frozen=True, slots=True, kw_only=True)
class RodSpec:
    """Straight rod between two points in spine coordinates."""

    start_mm: _Three
    end_mm: _Three
    diameter_mm: float
    material: Material


@dataclass(frozen=True, slots=True, kw_only=True)
class RailSpec:
    """Straight rail of the table: its ends are LPS offsets from the canal's centre, whatever the spine's turn."""

    start_offset_mm: _Three
    end_offset_mm: _Three
    diameter_mm: float
    material: Material


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerSpec:
    """Ball in spine coordinates, such as a marker on the skin."""

    centre_mm: _Three
    radius_mm: float
    material: Material


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpec:
    """Something else of metal that surgery leaves in the image, from its distal end to its proximal one, in spine coordinates.

    ``diameter_mm`` is the outer diameter, of a ``retractor`` the blade's thickness, whose ``width_mm`` runs along the spine.
    A ``trocar`` with a ``wall_mm`` is open and holds air, without one it has its stylet; ``cement_mm`` is the radius of
    a blob of bone cement at its end (0: none).
    """

    kind: DeviceKind
    start_mm: _Three
    end_mm: _Three
    diameter_mm: float
    wall_mm: float = 0.0
    width_mm: float = 0.0
    cement_mm: float = 0.0
    cement_hu: float = 2000.0
    material: Material = "steel"


@dataclass(frozen=True, slots=True, kw_only=True)
class BodySpec:
    """Trunk: skin behind and before the canal centre, width, layers, and the table's top."""

    back_mm: float
    front_mm: float
    width_mm: float
    skin_mm: float
    fat_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannerSpec:
    """Blur (standard deviations in plane and across slices), noise, and what metal does to the image.

    ``kernel`` is the shape of the point spread in plane, ``metal_cupping`` the part of the value that thick metal loses to
    beam hardening (`iort_planner.phantom.scanner`).
    """

    psf_sigma_mm: float
    slice_sigma_mm: float
    noise_hu: float
    noise_correlation_mm: float
    streak_amplitude: float
    clip_hu: float
    kernel: Kernel = "gaussian"
    metal_cupping: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HuSpec:
    """Nominal HU of each part."""

    air: float
    lung: float
    table_foam: float
    table_shell: float
    fat: float
    epidural_fat: float
    thecal_sac: float
    cord: float
    vessel: float
    muscle: float
    skin: float
    ligament: float
    disc: float
    lesion: float
    plastic: float
    spongiosa: float
    cortex: float
    steel: float
    # Solid titanium reads 2000 to 8000 on extended scales, by beam, kernel and patient; carbon-fibre PEEK (1.4 to
    # 1.6 g/cm3) somewhat more than water. Both values are our own choice from that.
    titanium: float = 5500.0
    carbon: float = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomSpec:
    """A whole phantom; `read_spec` makes it.

    Parameters
    ----------
    name, description, level : str
        ``level`` names the vertebra that carries the needle, such as ``T11``.
    applicator : Applicator
    sha256 : str
        Hash of the specification file's and the applicator file's bytes: same hash and seed, same phantom.
    extra_needles : tuple of NeedleSpec
        More applicators of the same size, each with a build of its own; the truth's distances are those of ``needle``.
    screws, rods, rails, markers, devices : tuple
        Painted in that order, before the needles.
    """

    name: str
    description: str
    level: str
    applicator: Applicator
    sha256: str
    grid: GridSpec
    spine: SpineSpec
    canal: CanalSpec
    vertebra: VertebraSpec
    lesion: LesionSpec
    needle: NeedleSpec
    body: BodySpec
    scanner: ScannerSpec
    hu: HuSpec
    extra_needles: tuple[NeedleSpec, ...] = ()
    screws: tuple[ScrewSpec, ...] = ()
    rods: tuple[RodSpec, ...] = ()
    rails: tuple[RailSpec, ...] = ()
    markers: tuple[MarkerSpec, ...] = ()
    devices: tuple[DeviceSpec, ...] = ()
