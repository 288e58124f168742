"""HU to material and density: the shipped curve, a user's own file, and what is never read from HU."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from iort_planner import library
from iort_planner.applicator import read_applicator
from iort_planner.dose.hu_curve import read_curve
from iort_planner.dose.tissue import TissueMap, tissue_map
from iort_planner.errors import TissueError
from iort_planner.geometry.needle import Confidence, Needle
from iort_planner.imaging.volume import ImageGrid, Volume

APPLICATOR = read_applicator()
CURVE = read_curve()


def volume_of(hu: float, *, calibrated: bool = True, spacing_mm: float = 1.0) -> Volume:
    n = round(60 / spacing_mm) + 1
    grid = ImageGrid(
        size_voxels=(n, n, n),
        spacing_mm=np.full(3, spacing_mm),
        origin_lps_mm=np.full(3, -30.0),
        direction=np.diag([-1.0, -1.0, 1.0]) * np.array([1.0, 1.0, 1.0]),
    )
    grid = replace(grid, origin_lps_mm=np.array([30.0, 30.0, -30.0]))
    return Volume(values=np.full(grid.shape, hu, np.float32), grid=grid, hu_calibrated=calibrated)


def needle_at(source: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Needle:
    axis = np.array([0.0, 1.0, 0.0])
    return Needle(
        label="1",
        tip_lps_mm=np.array(source) - APPLICATOR.tip_to_source_mm * axis,
        axis_lps=axis,
        source_lps_mm=np.array(source),
        method="manual",
        confidence=Confidence.HIGH,
        tip_uncertainty_mm=0.7,
    )


def with_box(volume: Volume, low: tuple[int, ...], high: tuple[int, ...], hu: float) -> Volume:
    values = volume.values.copy()
    values[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = hu
    return replace(volume, values=values)


def made(volume: Volume, reach_mm: float = 20.0) -> TissueMap:
    return tissue_map(volume, CURVE, needle_at(), APPLICATOR, reach_mm=reach_mm)


# Schneider et al. 2000, Phys Med Biol 45:459: rho = 1.018 + 0.893e-3 HU from -98 to 14, 1.017 + 0.592e-3 HU above 100;
# tolerance: the four digits in which the points are written
@pytest.mark.parametrize(
    ("hu", "density"), [(-98.0, 0.930), (0.0, 1.018), (200.0, 1.1354), (1000.0, 1.609), (1500.0, 1.905)]
)
def test_density_is_that_of_schneider_2000(hu: float, density: float) -> None:
    assert float(CURVE.density_at(hu)) == pytest.approx(density, abs=1.2e-3)


# Schneider 2000, table 6, weight of calcium in percent
@pytest.mark.parametrize(("hu", "calcium"), [(40.0, 0.0), (150.0, 4.5), (550.0, 11.7), (1050.0, 18.1), (1550.0, 22.5)])
def test_calcium_is_that_of_schneider_2000(hu: float, calcium: float) -> None:
    tissue = CURVE.tissues[int(CURVE.tissue_at(hu))]
    assert 100 * dict(tissue.mass_fractions).get("Ca", 0.0) == pytest.approx(calcium, rel=0.003)


def test_each_voxel_gets_the_material_and_density_of_its_hu() -> None:
    found = made(volume_of(650.0))
    tissue = CURVE.tissues[int(CURVE.tissue_at(650.0))]
    corner = found.materials[found.material[0, 0, 0]]
    assert corner.name == tissue.name
    assert found.density_g_cm3[0, 0, 0] == pytest.approx(float(CURVE.density_at(650.0)), rel=1e-6)


def test_a_voxel_keeps_the_share_of_a_cortex_thinner_than_it() -> None:
    """0.5 mm of 1100 HU in 50 HU on a 0.5 mm scan: voxels of 1 mm together keep its mass."""
    plain = volume_of(50.0, spacing_mm=0.5)
    found = made(with_box(plain, (0, 0, 90), (121, 121, 91), 1100.0))
    row = found.density_g_cm3[0, 0]  # far from the needle
    background = float(CURVE.density_at(50.0))
    expected = 0.5 * (float(np.interp(600, CURVE.hu, CURVE.density_g_cm3)) - background)
    assert float(np.sum(row - np.float32(background))) == pytest.approx(2 * expected, rel=0.35)
    assert float(row.max()) > background + 0.1


def test_an_uncalibrated_image_is_refused_with_the_remedy() -> None:
    with pytest.raises(TissueError, match="--engine water"):
        made(volume_of(50.0, calibrated=False))


def test_metal_becomes_the_metal_of_the_curve_and_never_bone() -> None:
    found = made(with_box(volume_of(50.0), (20, 20, 45), (24, 40, 48), 3071.0))
    metal = found.material == len(found.materials) - 1
    assert 4 * 20 * 3 * 0.6 < np.count_nonzero(metal) <= 4 * 20 * 3
    assert set(np.unique(found.density_g_cm3[metal]).tolist()) == {np.float32(CURVE.metal.density_g_cm3)}
    assert dict(found.counts)["metal"] == np.count_nonzero(metal)
    assert float(found.density_g_cm3[~metal].max()) < 1.1  # its blurred edge makes no bone


def test_a_scan_cut_off_low_still_has_metal() -> None:
    found = made(with_box(volume_of(50.0), (20, 20, 45), (24, 40, 48), 2047.0))
    assert dict(found.counts)["metal"] > 0


def test_streaks_beside_metal_are_replaced_by_what_is_round_them() -> None:
    volume = with_box(volume_of(50.0), (20, 20, 45), (24, 40, 48), 3071.0)
    volume = with_box(volume, (20, 20, 42), (24, 40, 45), -700.0)  # dark, touching it
    volume = with_box(volume, (20, 20, 48), (24, 40, 50), 1500.0)  # bright
    found = made(volume)
    tissue = found.material != len(found.materials) - 1
    assert float(found.density_g_cm3[tissue].min()) > 0.99
    assert float(found.density_g_cm3[tissue].max()) < 1.1
    assert dict(found.counts)["HU replaced near metal"] > 4 * 20 * 5


def test_a_bright_lump_is_cement_and_a_bright_spot_is_bone() -> None:
    volume = with_box(volume_of(300.0), (20, 20, 42), (26, 26, 48), 1900.0)
    volume = with_box(volume, (22, 22, 44), (23, 23, 45), 1950.0)  # not cut off at one value, as metal would be
    lump = made(volume)
    assert dict(lump.counts)["bone cement"] == 216
    spot = made(with_box(volume_of(300.0), (20, 20, 42), (22, 22, 44), 1900.0))
    assert dict(spot.counts)["bone cement"] == 0
    assert float(spot.density_g_cm3.max()) <= float(CURVE.density_at(CURVE.bone_up_to_hu)) + 1e-6


def test_the_applicator_is_water_whatever_its_hu() -> None:
    """It is in the water table already; the shaft's steel must not shade the patient twice."""
    along = needle_at()
    volume = volume_of(600.0)
    points = volume.grid.voxel_centres_lps_mm() - along.tip_lps_mm
    axial = points @ along.axis_lps
    radial = np.linalg.norm(points - axial[..., None] * along.axis_lps, axis=-1)
    values = volume.values.copy()
    values[(axial >= 0) & (radial <= 2.2)] = 120.0
    values[(axial >= APPLICATOR.radiolucent_tip_length_mm) & (radial <= 2.2)] = 3071.0
    found = made(replace(volume, values=values))
    assert dict(found.counts)["metal"] == 0
    i, j, k = np.round(found.source_index).astype(int)
    assert found.material[k, j, i] == 0
    assert found.materials[0].name == "water"
    assert found.density_g_cm3[k, j, i] == pytest.approx(1.0, abs=1e-3)


def test_outside_the_image_is_water_and_counted() -> None:
    found = made(volume_of(600.0), reach_mm=40.0)
    assert found.material[0, 0, 0] == 0
    assert dict(found.counts)["outside the image, as water"] == 81**3 - 61**3


def _text() -> str:
    return library.find("curves", library.DEFAULT_CURVE).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('schema = "iort-planner/hu-curve/1"', 'schema = "x"', "schema"),
        ("artefact_mm = 3.0", "", "artefact_mm"),
        ("artefact_mm = 3.0", "artefact_mm = 99.0", "artefact_mm"),
        ("artefact_mm = 3.0", 'artefact_mm = "3"', "artefact_mm"),
        ("artefact_mm = 3.0", "artefact_mm = nan", "artefact_mm"),
        ("metal_from_hu = 2500.0", "metal_from_hu = 1000.0", "metal_from_hu"),
        ("metal_from_hu = 2500.0", "metal_from_hu = 2500.0\ncolour = 1", "colour"),
        ("hu = -98.0", "hu = -9800.0", "order"),
        ("density_g_cm3 = 0.93\n", "density_g_cm3 = -0.93\n", "density_g_cm3"),
        ("from_hu = -950.0", "from_hu = 950.0", "order"),
        ("N = 0.755", "N = 0.5", "add up"),
        ("N = 0.755", "Xx = 0.755", "Xx"),
        ("clinical = false", 'clinical = "no"', "clinical"),
    ],
)
def test_a_bad_curve_file_is_one_clear_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    text = _text()
    assert old in text
    path = tmp_path / "own.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(TissueError, match=says) as raised:
        read_curve(path)
    assert "\n" not in str(raised.value)
    assert "own.toml" in str(raised.value)


def test_every_missing_key_is_named(tmp_path: Path) -> None:
    text = _text()
    for key in tomllib.loads(text):
        kept = "\n".join(line for line in text.splitlines() if not line.startswith((f"{key} =", "both fantasies")))
        if f"\n{key} =" not in text and not text.startswith(f"{key} ="):
            kept = text.replace(f"[{key}]", f"[x{key}]")
        path = tmp_path / "own.toml"
        path.write_text(kept, encoding="utf-8")
        with pytest.raises(TissueError, match=r"own\.toml"):
            read_curve(path)


def test_a_missing_file_lists_the_shipped_ones() -> None:
    with pytest.raises(TissueError, match=library.DEFAULT_CURVE):
        read_curve("nowhere.toml")


def test_a_curve_of_ones_own_is_used(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        _text().replace("hu = 1600.0\ndensity_g_cm3 = 1.964", "hu = 1600.0\ndensity_g_cm3 = 3.0"), encoding="utf-8"
    )
    denser = tissue_map(volume_of(600.0), read_curve(path), needle_at(), APPLICATOR, reach_mm=10.0)
    assert float(denser.density_g_cm3.max()) > float(made(volume_of(600.0), 10.0).density_g_cm3.max()) + 0.2
