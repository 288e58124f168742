"""RBE, BED and EQD2 with their sources, and published single-fraction cord limits with the dose each is stated in.

Everything biological starts from Gy(RBE), a dimension of its own: a physical dose is refused here, not converted. BED and
EQD2 are dimensions of their own as well, so that neither is added to a dose or held against a limit in Gy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from iort_planner.errors import InputError
from iort_planner.units import AnyQuantity, Quantity, magnitude_in, rbe_weighted

DEFAULT_RBE = 1.3
RBE_SOURCE = "1.3 for 50 kV X-rays in the spine: Krauss et al. 2024"
RBE_RANGE = (0.5, 3.0)  # interface.md: --rbe

# From here on every answer of the model carries LQ_NOTE. The range is this project's (the prescriptions start at 8 Gy);
# that it is put on Gy(RBE), not Gy, is our own choice: it is the dose that the model is given.
LQ_LIMIT_GY_RBE = 8.0
LQ_NOTE = (
    "outside the range for which the linear-quadratic model is well tested (8 Gy(RBE) or more a fraction): reasonably "
    "validated to about 10 Gy a fraction and of use to about 18 (Brenner 2008, Semin Radiat Oncol, PMC2750078), inappropriate at "
    "radiosurgical doses (Kirkpatrick, Meyer, Marks 2008, Semin Radiat Oncol 18:240, doi:10.1016/j.semradonc.2008.04.005). "
    "Direction: against cell survival it makes one large dose too effective, so BED and EQD2 come out too high (PMID 23077237), "
    "which is cautious for the cord and optimistic for tumour cells; tumour control seen in the clinic was often better "
    "than it says (Kirkpatrick 2008)"
)
_ROUNDING = 1e-9  # interface.md: equal to the limit within 1e-9 is not over it


def _need_words(what: str, *texts: str) -> None:
    if not all(text.strip() for text in texts):
        raise InputError(f"{what}: every number needs its source; say the publication or who gave it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rbe:
    """Relative biological effectiveness and where it comes from.

    One factor at all doses and depths. Measured RBE falls with dose and varies with depth (Brenner et al. 1999; Herskind
    and Wenz 2014), which a single factor does not say.

    Parameters
    ----------
    value : float
        0.5 to 3.
    source : str
        Publication, or who gave it.

    Raises
    ------
    InputError
        If the value is outside its range or the source is empty.
    """

    value: float = DEFAULT_RBE
    source: str = RBE_SOURCE

    def __post_init__(self) -> None:
        low, high = RBE_RANGE
        if not low <= self.value <= high:  # written so that NaN is refused too
            raise InputError(
                f"RBE {self.value:g} is outside {low:g} to {high:g} (this tool's range for --rbe); check the decimal point"
            )
        _need_words("RBE", self.source)

    @classmethod
    def given(cls, value: float) -> Rbe:
        """The RBE of ``--rbe``: the default with its publication, another one as the user's."""
        return cls() if value == DEFAULT_RBE else cls(value=value, source=f"{value:g} given by the user (--rbe)")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaBeta:
    """Ratio α/β of the linear-quadratic model for a tissue.

    Parameters
    ----------
    value_gy : float, Gy
        Of photons (RBE 1), hence applied to Gy(RBE).
    tissue, source : str

    Raises
    ------
    InputError
        If the value is not finite and above 0, or tissue or source are empty.
    """

    value_gy: float
    tissue: str
    source: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value_gy) and self.value_gy > 0.0):
            raise InputError(f"alpha/beta {self.value_gy:g} Gy must be finite and above 0 Gy; give the published value")
        _need_words("alpha/beta", self.tissue, self.source)


CORD_HYTEC = AlphaBeta(
    value_gy=2.0, tissue="spinal cord", source="HyTEC: Sahgal et al., doi:10.1016/j.ijrobp.2019.09.038 (used for EQD2)"
)
CORD_QUANTEC = AlphaBeta(
    value_gy=0.87,
    tissue="spinal cord",
    source="QUANTEC: Kirkpatrick et al. 2010, doi:10.1016/j.ijrobp.2009.04.095 (fitted to cervical cords, 1 fraction a day)",
)
TUMOUR = AlphaBeta(
    value_gy=10.0, tissue="tumour", source="convention, from memory: not read in a publication by this project"
)
ALPHA_BETAS = (CORD_HYTEC, CORD_QUANTEC, TUMOUR)


@dataclass(frozen=True, slots=True, kw_only=True)
class BiologicalDose:
    """BED and EQD2 of one RBE-weighted dose, as a plan stores them.

    Parameters
    ----------
    bed_gy_rbe : float, Gy(RBE) with the α/β named
        D (1 + d / (α/β)), D the total and d the dose of one fraction.
    eqd2_gy_rbe : float, Gy(RBE) in fractions of 2 Gy
        BED / (1 + 2 / (α/β)).
    alpha_beta : AlphaBeta
    note : str
        `LQ_NOTE` from 8 Gy(RBE) a fraction, else empty.
    """

    bed_gy_rbe: float
    eqd2_gy_rbe: float
    alpha_beta: AlphaBeta
    note: str


def bed(dose: AnyQuantity, alpha_beta: AlphaBeta, fractions: int = 1) -> AnyQuantity:
    """Biologically effective dose, in ``Gy_BED``: no dose, and not comparable between two α/β.

    Parameters
    ----------
    dose : quantity, Gy(RBE), scalar
        Total of all fractions, RBE-weighted by one factor first (our own choice; other forms put the RBE on the linear
        term alone).
    fractions : int
        Equal fractions, at least 1. Within a fraction no repair is counted: beam-on takes minutes.

    Raises
    ------
    pint.DimensionalityError
        (a TypeError) If the dose is physical: give Gy(RBE).
    InputError
        If the dose is negative or not finite, or there is no whole fraction.

    Examples
    --------
    8 Gy at RBE 1.3 in one fraction, for the cord by HyTEC's alpha/beta of 2 Gy: 10.4 (1 + 10.4 / 2).

    >>> from iort_planner.units import Quantity
    >>> round(float(bed(Quantity(10.4, "Gy_RBE"), CORD_HYTEC).magnitude), 2)
    64.48
    """
    total = float(magnitude_in(dose, "Gy_RBE", "dose"))
    if not (math.isfinite(total) and total >= 0.0):
        raise InputError(f"dose {total:g} Gy(RBE) must be finite and not negative; check the plan's dose")
    if fractions < 1 or fractions != int(fractions):
        raise InputError(f"{fractions} fractions: must be a whole number of at least 1")
    return Quantity(total * (1.0 + total / fractions / alpha_beta.value_gy), "Gy_BED")


def eqd2(dose: AnyQuantity, alpha_beta: AlphaBeta, fractions: int = 1) -> AnyQuantity:
    """Equivalent dose in fractions of 2 Gy, in ``Gy_EQD2``; parameters and errors as for `bed`."""
    effective = float(magnitude_in(bed(dose, alpha_beta, fractions), "Gy_BED", "BED"))
    return Quantity(effective / (1.0 + 2.0 / alpha_beta.value_gy), "Gy_EQD2")


def biological_dose(dose: AnyQuantity, alpha_beta: AlphaBeta, fractions: int = 1) -> BiologicalDose:
    """BED and EQD2 with the note on the model's range; parameters and errors as for `bed`."""
    per_fraction = float(magnitude_in(dose, "Gy_RBE", "dose")) / fractions if fractions else math.nan
    return BiologicalDose(
        bed_gy_rbe=float(magnitude_in(bed(dose, alpha_beta, fractions), "Gy_BED", "BED")),
        eqd2_gy_rbe=float(magnitude_in(eqd2(dose, alpha_beta, fractions), "Gy_EQD2", "EQD2")),
        alpha_beta=alpha_beta,
        note=LQ_NOTE if per_fraction >= LQ_LIMIT_GY_RBE * (1.0 - _ROUNDING) else "",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CordLimit:
    """A published single-fraction limit of the spinal cord's highest dose.

    Parameters
    ----------
    name, source : str
        Short name for a table; publication.
    low, high : float
        In ``unit``; equal where one number is published.
    unit : str
        ``Gy(RBE)``: photon doses, RBE 1. ``Gy``: physical dose of 50 kV X-rays.
    meaning : str
        What happens at it.
    convention : str
        How the number is read, and what is not known of it.
    """

    name: str
    low: float
    high: float
    unit: Literal["Gy", "Gy(RBE)"]
    meaning: str
    convention: str
    source: str


_PHOTONS = "photon dose, RBE 1: compared with Gy(RBE)"
_SURG_28_GY_RBE, _SURG_28_RBE = 12.0, 1.4

# facts.md section 10 and seen_cord_limits.csv.
CORD_LIMITS = (
    CordLimit(
        name="HyTEC",
        low=12.4,
        high=14.0,
        unit="Gy(RBE)",
        meaning="1 to 5 % estimated risk of myelopathy, point maximum, cord not irradiated before",
        convention=_PHOTONS,
        source="Sahgal et al. 2019, doi:10.1016/j.ijrobp.2019.09.038",
    ),
    CordLimit(
        name="QUANTEC",
        low=13.0,
        high=13.0,
        unit="Gy(RBE)",
        meaning="myelopathy rare (below 1 %), maximum",
        convention=_PHOTONS,
        source="Kirkpatrick et al. 2010, doi:10.1016/j.ijrobp.2009.04.095",
    ),
    CordLimit(
        name="kypho-IORT protocol",
        low=_SURG_28_GY_RBE / _SURG_28_RBE,
        high=_SURG_28_GY_RBE / _SURG_28_RBE,
        unit="Gy",
        meaning="cap of the cord's maximum for 10 Gy prescribed",
        convention=(
            "convention unconfirmed: 12 Gy(RBE) at RBE 1.4 = 8.6 Gy physical in one reading, 12 Gy without RBE in another; "
            "the lower is shown and compared with physical Gy"
        ),
        source="abstract SURG-28, 2017",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitComparison:
    """The canal's highest dose beside one published limit.

    Parameters
    ----------
    limit : CordLimit
    value : float
        The canal's highest dose in ``limit.unit``.
    verdict : str
        ``below`` the lower end, ``within`` the range (or equal to it), ``above`` the upper end.
    """

    limit: CordLimit
    value: float
    verdict: Literal["below", "within", "above"]

    @property
    def text(self) -> str:
        """One line for people: both numbers in one unit, then what the limit means and how it is read."""
        limit = self.limit
        published = f"{limit.low:.1f}" if limit.low == limit.high else f"{limit.low:.1f} to {limit.high:.1f}"
        return (
            f"canal {self.value:.1f} {limit.unit}, {self.verdict} {limit.name} {published} {limit.unit} "
            f"({limit.meaning}; {limit.convention}; {limit.source})"
        )


def compare_with_limits(canal_max: AnyQuantity, rbe: Rbe) -> tuple[LimitComparison, ...]:
    """Hold the canal's highest dose against each of `CORD_LIMITS`, in the dose that the limit is stated in.

    The limits are the cord's. The cord lies within the canal, so the wall's dose is at least the cord's and the comparison
    is cautious. One fraction is held against one fraction: no linear-quadratic model comes in.

    Parameters
    ----------
    canal_max : quantity, Gy, scalar
        Physical dose to water.
    rbe : Rbe

    Raises
    ------
    pint.DimensionalityError
        (a TypeError) If the dose is RBE-weighted already.
    InputError
        If the dose is negative or not finite.
    """
    physical = float(magnitude_in(canal_max, "Gy", "canal dose"))
    if not (math.isfinite(physical) and physical >= 0.0):
        raise InputError(f"canal dose {physical:g} Gy must be finite and not negative; check the plan's dose")
    weighted = float(magnitude_in(rbe_weighted(canal_max, rbe.value), "Gy_RBE", "canal dose"))
    return tuple(_compare(limit, physical if limit.unit == "Gy" else weighted) for limit in CORD_LIMITS)


def _compare(limit: CordLimit, value: float) -> LimitComparison:
    if value > limit.high * (1.0 + _ROUNDING):
        return LimitComparison(limit=limit, value=value, verdict="above")
    below = value < limit.low * (1.0 - _ROUNDING)
    return LimitComparison(limit=limit, value=value, verdict="below" if below else "within")
