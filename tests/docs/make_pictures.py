"""The tutorial's pictures, from a run of the demo: ``python -m tests.docs.make_pictures``.

demo-slices.png, demo-scene.png, and demo-report.png by ``pdftoppm`` (Debian: apt-get install poppler-utils).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from iort_planner.cli.main import main

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
WIDTH = 900


def small(source: Path, target: Path) -> None:
    """A picture as wide as a page of the site shows it."""
    with Image.open(source) as picture:
        rgb = picture.convert("RGB")
    size = (WIDTH, round(rgb.height * WIDTH / rgb.width))
    rgb.resize(size, Image.Resampling.LANCZOS).save(target, optimize=True)
    sys.stdout.write(f"{target.name}: {target.stat().st_size // 1000} kB\n")


def make() -> None:
    """Run the demo and write the three pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo"
        if main(["demo", "--out", str(out), "--quiet", "--json"]) != 0:
            sys.exit("the demo did not end as it should")
        small(out / "plan" / "slices.png", PICTURES / "demo-slices.png")
        small(out / "plan" / "scene.png", PICTURES / "demo-scene.png")
        page = Path(folder) / "page"
        subprocess.run(
            [
                "pdftoppm",
                "-png",
                "-r",
                "110",
                "-f",
                "1",
                "-l",
                "1",
                "-singlefile",
                str(out / "plan" / "report.pdf"),
                page,
            ],
            check=True,
        )
        small(page.with_suffix(".png"), PICTURES / "demo-report.png")


if __name__ == "__main__":
    make()
