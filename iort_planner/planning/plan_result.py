"""The part of a plan that says what comes out: times, radii, doses, their biology and their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

Vector = tuple[float, float, float]
Band = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineResult:
    """What one dose engine says."""

    canal_max_gy: float
    canal_max_gy_rbe: float
    dose_at_prescription_gy: float | None
    dwell_time_for_limit_s: float
    dose_to: str
    uncertainty_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTissue:
    """What the dose in bone rests on: the engine, the files it read, and what each voxel of its grid was taken for.

    ``voxels`` counts voxels by material, with those whose HU were not believed; ``statistical_percent`` is k=1 at the
    canal's point, of a ray trace half the 95th percentile of its differences from the Monte Carlo engine.
    ``canal_ratio`` and ``prescription_ratio`` are the dose there over the dose in water. ``device`` is ``cpu`` or ``gpu``: a
    GPU repeats its numbers within rounding only.
    """

    engine: str
    curve: str
    curve_sha256: str
    curve_clinical: bool
    spectrum: str
    spectrum_sha256: str
    spacing_mm: float
    voxels: dict[str, int]
    histories: int
    seed: int
    device: str
    canal_point_lps_mm: Vector
    canal_ratio: float
    prescription_ratio: float | None
    statistical_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanBiologicalDose:
    """BED and EQD2 of the canal's highest dose for one alpha/beta; `iort_planner.biology` explains them."""

    bed_gy_rbe: float
    eqd2_gy_rbe: float
    alpha_beta_gy: float
    tissue: str
    source: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCordLimit:
    """A published limit of the cord, and the canal's highest dose in the limit's own unit (Gy or Gy(RBE))."""

    name: str
    low: float
    high: float
    unit: str
    value: float
    comparison: str
    convention: str
    source: str

    @property
    def text(self) -> str:
        """Both numbers in one unit, for people."""
        published = f"{self.low:.1f}" if self.low == self.high else f"{self.low:.1f} to {self.high:.1f}"
        return f"{self.name} {published} {self.unit}: canal {self.value:.1f} {self.unit}, {self.comparison}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Biology:
    """RBE and where it comes from, and what it makes of the canal's highest dose."""

    rbe: float
    rbe_source: str
    canal: tuple[PlanBiologicalDose, ...]
    cord_limits: tuple[PlanCordLimit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """The budget of `iort_planner.planning.uncertainty`: k=1 parts, and the bands that follow from them.

    ``*_percent`` are of the dose: of the dose rate (table, scale, output, interpolation, anisotropy; together
    ``dose_rate_percent``), of the tip along and across the axis, of the wall, and together. The time's band is that of the
    dose rate alone, the safe time's that of everything. An end is null where it lies outside the table.
    """

    table_percent: float
    scale_percent: float
    output_percent: float
    interpolation_percent: float
    anisotropy_percent: float
    dose_rate_percent: float
    tip_mm: float
    canal_mm: float
    tip_along_percent: float
    tip_across_percent: float
    canal_wall_percent: float
    canal_dose_percent: float
    canal_dose_band_k1_gy: Band
    canal_dose_band_k2_gy: Band
    canal_dose_band_95_gy: Band
    canal_dose_band_95_sampled_gy: Band
    probability_over_limit: float
    dwell_time_band_k2_s: tuple[float, float]
    safe_time_band_k2_s: Band
    isodose_radius_band_k2_mm: Band
    isotropic_assumed: bool

    @property
    def canal_dose_text(self) -> str:
        """The k=2 band of the canal's dose, for people; an end outside the table is said in words."""
        low, high = (None if end is None else f"{end:.2g}" for end in self.canal_dose_band_k2_gy)
        return f"{low or 'less than the table holds'} to {high or 'more than the table holds'} Gy"

    @property
    def parts_text(self) -> str:
        """The parts of the canal dose's k=1 uncertainty, for people."""
        parts = {
            "table": self.table_percent,
            "scale": self.scale_percent,
            "output": self.output_percent,
            "interpolation": self.interpolation_percent,
            "isotropy assumed" if self.isotropic_assumed else "anisotropy": self.anisotropy_percent,
            "tip along": self.tip_along_percent,
            "tip across": self.tip_across_percent,
            "canal wall": self.canal_wall_percent,
        }
        return ", ".join(f"{name} {value:.0f} %" for name, value in parts.items() if value >= 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Time, radii and doses; always from the water engine."""

    dwell_time_s: float
    max_safe_dwell_time_s: float
    isodose_radius_mm: dict[str, float | None]
    canal_max_gy: float
    canal_max_gy_rbe: float
    canal_max_point_lps_mm: Vector
    applicator_surface_gy: float | None
    nearest_table_radius_mm: float
    nearest_table_dose_gy: float
    engine: str
    engines: dict[str, EngineResult]
    tissue: PlanTissue | None
    target: None
    biology: Biology
    uncertainty: Uncertainty
