"""The picture in docs/architecture.md, drawn from the imports themselves: ``python -m tests.docs.architecture_picture``.

An arrow goes the way the data goes: from the part that is imported to the one that imports it. Arrows that follow from
others are left out (transitive reduction); the helpers that any part may use stand at the bottom without arrows.
The arrows are written into the picture's own description, so that a test sees when the imports have moved on.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "architecture.png"
HELPERS = ("errors", "units", "compiled", "inputs", "output", "home", "record", "library")

# where a part stands (column, row) and what it hands on; a part without a place fails
PLACES = {
    "applicator": (0, 5, "Applicator"),
    "imaging": (0, 6, "Volume"),
    "geometry": (1.15, 6, "Needle, SpinalCanal,\ndistances"),
    "source": (1, 4, "DepthDoseTable"),
    "biology": (2, 4, "RBE, BED, EQD2"),
    "dose": (2, 5, "dose at points,\non a grid"),
    "planning": (3, 5, "Plan"),
    "viewer": (4, 5, "scene, pictures"),
    "report": (5, 5, "PDF, plan folder"),
    "phantom": (0.75, 7, "scan and truth"),
    "workflow": (6, 6, "scan to plan folder"),
    "qa": (6, 4, "findings"),
    "verification": (6, 7, "verdicts of cases"),
    "cli": (7, 5, "commands"),
}


def imports() -> dict[str, set[str]]:
    """Which part imports which, of what hands data on, read from the sources (also inside functions)."""
    found: dict[str, set[str]] = {}
    package = ROOT / "iort_planner"
    for path in sorted(package.rglob("*.py")):
        own = path.relative_to(package).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom) and node.module:
                whole = node.module == "iort_planner"
                names = [f"iort_planner.{each.name}" for each in node.names] if whole else [node.module]
            elif isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            for name in names:
                top, _, rest = name.partition(".")
                other = rest.split(".")[0]
                if top == "iort_planner" and other != own and other in PLACES and own in PLACES:
                    found.setdefault(own, set()).add(other)
    return found


def arrows() -> list[tuple[str, str]]:
    """The imports that do not follow from others, as (from, to) in the direction of the data."""
    graph = imports()

    def reachable(start: set[str]) -> set[str]:
        seen: set[str] = set()
        waiting = list(start)
        while waiting:
            part = waiting.pop()
            if part not in seen:
                seen.add(part)
                waiting += graph.get(part, ())
        return seen

    return sorted(
        (other, own) for own, others in graph.items() for other in others if other not in reachable(others - {other})
    )


def description() -> str:
    """The arrows as one line of text, as the picture carries it."""
    return "; ".join(f"{source} -> {target}" for source, target in arrows())


def draw(path: Path) -> None:
    """Draw the picture."""
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 8}):
        figure = Figure(figsize=(12, 4.6))
        axes = figure.add_axes((0, 0, 1, 1))
        boxes = {}
        for name, (column, row, data) in PLACES.items():
            boxes[name] = axes.text(
                column,
                row,
                rf"$\bf{{{name}}}$" + "\n" + data,
                ha="center",
                va="center",
                bbox={"boxstyle": "round,pad=0.5", "facecolor": "#eaf1f8", "edgecolor": "#31597f"},
            )
        figure.draw_without_rendering()
        for source, target in arrows():
            axes.annotate(
                "",
                xy=PLACES[target][:2],
                xytext=PLACES[source][:2],
                arrowprops={
                    "arrowstyle": "-|>",
                    "mutation_scale": 14,
                    "color": "#555555",
                    "patchA": boxes[source].get_bbox_patch(),
                    "patchB": boxes[target].get_bbox_patch(),
                },
            )
        axes.text(3.5, 3.3, "used by any of them: " + ", ".join(HELPERS), ha="center", va="center", color="#555555")
        axes.set(xlim=(-0.6, 7.6), ylim=(3, 7.5))
        axes.set_axis_off()
        figure.savefig(path, dpi=100, metadata={"Software": None, "Description": description()})


if __name__ == "__main__":
    draw(PICTURE)
    sys.stdout.write(f"{PICTURE.relative_to(ROOT)}: {len(arrows())} arrows\n")
