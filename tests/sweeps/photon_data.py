"""Makes ``library/photons/*.csv`` from xraylib, which is needed for this alone: python -m tests.sweeps.photon_data FOLDER."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

ELEMENTS = [
    "H",
    "C",
    "N",
    "O",
    "F",
    "Na",
    "Mg",
    "Al",
    "Si",
    "P",
    "S",
    "Cl",
    "Ar",
    "K",
    "Ca",
    "Ti",
    "Cr",
    "Mn",
    "Fe",
    "Co",
    "Ni",
    "Cu",
    "Zn",
    "Zr",
    "Mo",
    "Ag",
    "I",
    "Ba",
    "W",
    "Au",
]
ENERGIES_KEV = [5.0 + 0.5 * n for n in range(111)]
TRANSFERS = [0.05 * n for n in range(101)]
HEAD = """# {what}, iort_planner, 2026-11-27. Computed with xraylib {version} (Schoonjans et al. 2011, Spectrochim Acta B 66:776,
# doi:10.1016/j.sab.2011.09.011, BSD licence) by tests/sweeps/photon_data.py; its own sources: {sources}
"""


def _transferred(x: Any, z: int, kev: float) -> float:
    """Mean share of the energy that an electron gets: Klein-Nishina's cross-section times the scattering function."""
    cosine = np.linspace(-1.0, 1.0, 201)
    left = 1.0 / (1.0 + kev / 510.99895 * (1.0 - cosine))
    transfer = np.maximum(kev / 12.398419843 * np.sqrt(0.5 * (1.0 - cosine)), 0.006)
    bound = np.array([x.SF_Compt(z, float(q)) for q in transfer])
    weight = left**2 * (left + 1.0 / left - 1.0 + cosine**2) * bound
    return float(np.sum(weight * (1.0 - left)) / np.sum(weight))


def main(folder: Path) -> None:
    x = import_module("xraylib")
    version = getattr(x, "__version__", "4")

    def absorbed(z: int, kev: float) -> float:
        """Photoelectric, its fluorescence taken as absorbed on the spot, and what Compton electrons get on average."""
        return float(x.CS_Photo(z, kev) + x.CS_Compt(z, kev) * _transferred(x, z, kev))

    rows = [
        f"{name},{e:g},"
        + ",".join(f"{f(x.SymbolToAtomicNumber(name), e):.5g}" for f in (x.CS_Total, absorbed, x.CS_Rayl, x.CS_Compt))
        for name in ELEMENTS
        for e in ENERGIES_KEV
    ]
    head = HEAD.format(
        what="Mass attenuation coefficients of elements, cm2/g",
        version=version,
        sources="see its documentation; energy absorption is photoelectric absorption and the energy of Compton electrons",
    )
    columns = "element,energy_kev,mu_cm2_g,mu_en_cm2_g,coherent_cm2_g,incoherent_cm2_g"
    (folder / "attenuation.csv").write_text(head + columns + "\n" + "\n".join(rows) + "\n", encoding="utf-8")
    rows = []
    for name in ELEMENTS:
        z = x.SymbolToAtomicNumber(name)
        for q in TRANSFERS:
            s = x.SF_Compt(z, q) if q > 0.0 else 0.0
            rows.append(f"{name},{x.AtomicWeight(z):.6g},{z},{q:.3g},{x.FF_Rayl(z, q):.5g},{s:.5g}")
    head = HEAD.format(
        what="Atomic form factor F and incoherent scattering function S by x = sin(angle/2)/wavelength, 1/angstrom",
        version=version,
        sources="Hubbell et al. 1975, J Phys Chem Ref Data 4:471",
    )
    columns = "element,atomic_weight,z,x_per_angstrom,form_factor,scattering_function"
    (folder / "form_factors.csv").write_text(head + columns + "\n" + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
