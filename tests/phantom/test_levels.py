"""Sizes of the levels: plausible, within what a specification may say, and drawn with bone at the canal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from iort_planner.errors import PhantomError
from iort_planner.phantom import Label, PhantomSpec, canal_of, read_spec
from iort_planner.phantom.levels import at_level, level_names, level_sizes
from iort_planner.phantom.spec import SCHEMA
from iort_planner.phantom.tissues import TissuePainter

SIZES = [level_sizes(name) for name in level_names()]
THORACIC = [sizes for sizes in SIZES if sizes.level.startswith("T")]
LUMBAR = [sizes for sizes in SIZES if sizes.level.startswith("L")]


def test_the_levels_go_from_t3_to_l5() -> None:
    assert [s.level for s in SIZES] == [f"T{n}" for n in range(3, 13)] + [f"L{n}" for n in range(1, 6)]


def test_bodies_grow_downwards() -> None:
    for name in ("body_width_mm", "body_depth_mm"):
        values = [getattr(s, name) for s in SIZES[: -3 if name == "body_depth_mm" else None]]  # lumbar depths are alike
        assert all(b >= a for a, b in pairwise(values)), name
    assert [s.body_height_mm for s in THORACIC] == sorted(s.body_height_mm for s in THORACIC)


def test_the_canal_is_narrowest_in_the_middle_of_the_chest_and_a_vertebra_is_taller_than_its_disc() -> None:
    narrowest = min(SIZES, key=lambda s: s.canal_width_mm)
    assert narrowest.level in {"T4", "T5", "T6", "T7"}  # Panjabi et al. 1991: their middle region
    for s in SIZES:
        assert s.cord_width_mm < s.sac_width_mm < s.canal_width_mm < s.body_width_mm
        assert s.canal_depth_mm <= s.canal_width_mm
        assert 0.15 < s.disc_height_mm / s.body_height_mm < 0.5
        assert s.pedicle_height_mm < s.body_height_mm


def test_ribs_cord_and_curve_change_where_they_do_in_life() -> None:
    assert all(s.ribs and s.has_cord and s.kyphosis_radius_mm > 0 for s in THORACIC)
    assert not any(s.ribs for s in LUMBAR)
    assert all(s.kyphosis_radius_mm < 0 for s in LUMBAR)
    assert [s.has_cord for s in LUMBAR] == [True, False, False, False, False]
    # angles over the levels: kyphosis T4-T12 of 20 to 50 degrees, lordosis L1-L5 of 30 to 60 (usual ranges)
    angle = {s.level: np.degrees((s.body_height_mm + s.disc_height_mm) / s.kyphosis_radius_mm) for s in SIZES}
    assert 20 < sum(angle[f"T{n}"] for n in range(4, 13)) < 50
    assert -60 < sum(angle[f"L{n}"] for n in range(1, 6)) < -30


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(PhantomError, match=r"level 'C7': sizes are known for T3, .*L5"):
        level_sizes("C7")


def toml(spec: PhantomSpec) -> str:
    """A specification as a file would say it."""
    lines = [f'schema = "{SCHEMA}"', f'name = "{spec.name}"', 'description = "made"', f'level = "{spec.level}"']
    lines.append('applicator = "needle-4.4mm"')
    for field in ("grid", "spine", "canal", "vertebra", "lesion", "needle", "body", "scanner", "hu"):
        section: Mapping[str, object] = dataclasses.asdict(getattr(spec, field))
        lines.append(f"[{field}]")
        for key, value in section.items():
            shown = list(value) if isinstance(value, tuple) else value
            lines.append(f"{key} = {shown!r}" if isinstance(shown, str) else f"{key} = {str(shown).lower()}")
    return "\n".join(lines)


@pytest.mark.parametrize("level", level_names())
def test_every_level_is_a_valid_specification(reference_spec: PhantomSpec, level: str, tmp_path: Path) -> None:
    spec = at_level(reference_spec, level)
    path = tmp_path / "level.toml"
    path.write_text(toml(spec), encoding="utf-8")
    read = read_spec(path)
    assert dataclasses.replace(read, description=spec.description, sha256=spec.sha256) == spec


@pytest.mark.parametrize("level", ["T3", "T8", "T12", "L2", "L5"])
def test_bone_starts_at_the_canal_at_the_pedicles(reference_spec: PhantomSpec, level: str) -> None:
    spec = at_level(reference_spec, level)
    painter = TissuePainter(spec, edge_mm=0.01)
    angle = np.linspace(0.0, 2.0 * np.pi, 90, endpoint=False)
    middle = (spec.vertebra.body_height_mm - spec.vertebra.pedicle_height_mm) / 2.0
    wall = canal_of(spec).wall_spine_mm(angle, np.full(angle.shape, middle))
    outward = wall * [1.0, 1.0, 0.0]
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    for shift, label in ((-0.05, Label.CANAL), (0.05, Label.TARGET_VERTEBRA), (0.5, Label.TARGET_VERTEBRA)):
        left, back, up = (wall + shift * outward).T.astype(np.float32)
        _, labels = painter.paint(left, back, up, np.full(left.shape, 100.0, np.float32))
        assert set(labels) == {int(label)}


@pytest.mark.parametrize(("level", "ribs"), [("T5", True), ("T12", True), ("L1", False), ("L4", False)])
def test_ribs_stand_beside_thoracic_vertebrae_only(reference_spec: PhantomSpec, level: str, ribs: bool) -> None:
    painter = TissuePainter(at_level(reference_spec, level), edge_mm=0.5)
    points = np.random.default_rng(1).uniform((-70, -30, -15), (70, 15, 15), (20000, 3)).T.astype(np.float32)
    left, back, up = points
    _, labels = painter.paint(left, back, up, np.full(left.shape, 100.0, np.float32))
    assert bool((labels == Label.RIB).any()) == ribs
    # the transverse processes: bone well to the side of the pedicles, behind the canal's middle
    v, canal = at_level(reference_spec, level).vertebra, at_level(reference_spec, level).canal
    side = canal.width_mm / 2.0 + v.pedicle_width_mm
    aside = (labels == Label.TARGET_VERTEBRA) & (np.abs(left) > side + 4.0)
    assert aside.any()
    assert back[aside].min() > 0.0
