"""Data files shipped with the package (tables, applicators, curves, materials, spectra, scatter models), each with its origin."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent
_SUFFIX = {
    "tables": ".csv",
    "applicators": ".toml",
    "curves": ".toml",
    "spectra": ".csv",
    "raytrace": ".toml",
    "materials": ".toml",
}
DEFAULT_TABLE = "reference-needle-50kv"
DEFAULT_APPLICATOR = "needle-4.4mm"
DEFAULT_CURVE = "ct-120kv"
DEFAULT_SPECTRUM = "needle-50kv"


def names(kind: str) -> list[str]:
    """Names of the shipped files of a kind (tables, applicators, curves, materials, spectra, raytrace)."""
    return sorted(path.stem for path in (_FOLDER / kind).glob(f"*{_SUFFIX[kind]}"))


def find(kind: str, name_or_path: str | Path) -> Path:
    """Path of a shipped file by its name, else ``name_or_path`` itself as a path (not checked)."""
    if str(name_or_path) in names(kind):
        return _FOLDER / kind / f"{name_or_path}{_SUFFIX[kind]}"
    return Path(name_or_path)
