"""A plan of one scan by water, ray trace and Monte Carlo side by side: python -m tests.sweeps.bone_pictures SCAN OUT.png

``docs/bone-engines.png`` is the picture of docs/validation.md, of the real CT with a virtual needle of the shared data. Prints
what each engine says, and draws the dose over the dose in water in the plane through the source, with the difference of the two.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from matplotlib.figure import Figure

from iort_planner.cli.main import main as command

SHOWN_MM = 30.0


def doses(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A dose file [k, j, i] in Gy, and the index of its middle."""
    image = sitk.ReadImage(str(folder / f"{name}.nii.gz"))
    array = sitk.GetArrayFromImage(image)
    return array, np.array(array.shape) // 2


def main() -> int:
    """Plan twice, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("options", nargs="*", help="further options of plan, after --")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plans = {}
        for engine in ("raytrace", "montecarlo"):
            out = Path(folder) / engine
            asked = [
                "plan",
                str(args.scan),
                "--out",
                str(out),
                "--engine",
                engine,
                "--no-pictures",
                "--quiet",
                "--json",
            ]
            with contextlib.redirect_stdout(io.StringIO()):
                status = command([*asked, *args.options])
            if status == 2:
                return 2
            plans[engine] = json.loads((out / "plan.json").read_text(encoding="utf-8"))["result"]
        water, middle = doses(Path(folder) / "raytrace", "dose")
        found = {engine: doses(Path(folder) / engine, f"dose_{engine}")[0] for engine in plans}
    lines = []
    for engine, result in plans.items():
        for name in ("water", engine):
            each = result["engines"][name]
            lines.append(
                f"{name}: canal {each['canal_max_gy']:.2f} Gy, at the prescription {each['dose_at_prescription_gy']:.2f} Gy, "
                f"time for the limit {each['dwell_time_for_limit_s']:.0f} s"
            )
        lines.append(f"{engine} over water at the canal {result['tissue']['canal_ratio']:.3f}")
    sys.stdout.write("\n".join(lines) + "\n")
    draw(args.picture, water, found, middle)
    return 0


def draw(path: Path, water: np.ndarray, found: dict[str, np.ndarray], middle: np.ndarray) -> None:
    """Four panels in the axial plane through the source: isodoses in water, two ratios, their difference."""
    half = int(SHOWN_MM)
    k, j, i = middle
    part = (k, slice(j - half, j + half + 1), slice(i - half, i + half + 1))
    extent = (-half - 0.5, half + 0.5, half + 0.5, -half - 0.5)
    figure = Figure(figsize=(14, 3.9), layout="constrained")
    panels = figure.subplots(1, 4)
    known = water[part] > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = {name: np.where(known, dose[part] / water[part], np.nan) for name, dose in found.items()}
    shown = panels[0].imshow(
        np.where(known, np.log10(np.maximum(water[part], 1e-6)), np.nan), extent=extent, cmap="inferno"
    )
    figure.colorbar(shown, ax=panels[0], label="log10 of Gy", shrink=0.75)
    panels[0].contour(
        water[part], levels=[4.0, 8.0, 16.0], colors="white", extent=extent, origin="upper", linewidths=0.8
    )
    panels[0].set_title("water\n4, 8, 16 Gy", fontsize=9)
    for panel, (name, ratio) in zip(panels[1:3], ratios.items(), strict=True):
        shown = panel.imshow(ratio, extent=extent, vmin=0.0, vmax=1.1, cmap="viridis")
        panel.contour(
            found[name][part], levels=[4.0, 8.0, 16.0], colors="white", extent=extent, origin="upper", linewidths=0.8
        )
        panel.set_title(f"{name} over water\n4, 8, 16 Gy", fontsize=9)
        figure.colorbar(shown, ax=panel, shrink=0.75)
    difference = 100.0 * (ratios["raytrace"] / ratios["montecarlo"] - 1.0)
    shown = panels[3].imshow(difference, extent=extent, vmin=-15, vmax=15, cmap="RdBu")
    figure.colorbar(shown, ax=panels[3], label="%", shrink=0.75)
    panels[3].set_title("ray trace over Monte Carlo\ndifference", fontsize=9)
    for panel in panels:
        panel.set_xlabel("mm along the image's rows", fontsize=8)
        panel.tick_params(labelsize=8)
    figure.suptitle("Dose to water in tissue. Research and education; not a medical device.", fontsize=9)
    figure.savefig(path, dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    sys.exit(main())
