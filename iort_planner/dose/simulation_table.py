"""The table that a simulation writes: one row a score under a commented head; and the same as a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iort_planner import INTENDED_USE, __version__

if TYPE_CHECKING:
    from iort_planner.dose.simulate import SimulationResult

SCHEMA = "iort-planner/simulation/1"
COLUMNS = (
    "kind",
    "position_mm",
    "medium",
    "dose_to_medium_gy_per_photon",
    "dose_to_water_gy_per_photon",
    "uncertainty_percent",
    "primary_fraction",
)


def document(result: SimulationResult, case_name: str, mean_energy_kev: float) -> dict[str, Any]:
    """The result as plain data for JSON: the head's entries, and ``scores`` with the table's columns and the ends."""
    scores = []
    for each in result.scores:
        score = each.score
        row: dict[str, Any] = {"kind": score.kind, "position_mm": score.position_mm, "medium": each.medium}
        row |= {key: getattr(each, key) for key in COLUMNS[3:]}
        row["primary_dose_to_medium_gy_per_photon"] = each.primary_fraction * each.dose_to_medium_gy_per_photon
        ends = ("r_min_mm", "r_max_mm") if score.kind == "shell" else ("x_min_mm", "x_max_mm")
        row |= dict(zip(ends, (score.low_mm, score.high_mm), strict=True))
        scores.append(row | ({"radius_mm": score.radius_mm} if score.kind == "disc" else {}))
    return {
        "schema": SCHEMA,
        "intended_use": INTENDED_USE,
        "software": {"name": "iort_planner", "version": __version__},
        "case": case_name,
        "histories": result.histories,
        "seconds": round(result.seconds, 3),
        "threads": result.threads,
        "seed": result.seed,
        "mean_energy_kev": mean_energy_kev,
        "emitted_kev_per_photon": result.emitted_kev,
        "absorbed_kev_per_photon": result.absorbed_kev,
        "escaped_kev_per_photon": result.escaped_kev,
        "balance_error": result.balance_error,
        "scores": scores,
    }


def table(contents: dict[str, Any]) -> str:
    """The CSV text of a `document`."""
    lines = [f"# iort_planner {__version__} simulate: dose per photon emitted, Gy; uncertainty k=1. {INTENDED_USE}"]
    lines += [
        f"# {key}: {contents[key]:.9g}" if isinstance(contents[key], float) else f"# {key}: {contents[key]}"
        for key in contents
        if key not in ("schema", "intended_use", "software", "scores")
    ]
    lines.append(",".join(COLUMNS))
    for row in contents["scores"]:
        cells = [f"{row[key]:.7g}" if isinstance(row[key], float) else str(row[key]) for key in COLUMNS]
        lines.append(",".join(cells))
    return "\n".join(lines) + "\n"
