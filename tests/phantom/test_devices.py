"""K-wires, clips, blades, monitoring needles and trocars: volumes by closed forms, places, and how a specification names them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iort_planner.errors import PhantomError
from iort_planner.phantom import Label, PhantomSpec, build, canal_of, find_spec, grid_of, pose_of, read_spec
from iort_planner.phantom.hardware import Implant, coverage, implants_of
from iort_planner.phantom.scan import spine_frame
from iort_planner.phantom.spec_model import DeviceKind, DeviceSpec
from iort_planner.phantom.truth import make_truth

from .conftest import quiet
from .test_hardware import oblique_grid

START, END = (-14.0, -6.0, -9.0), (-22.0, 30.0, 4.0)


def device(kind: DeviceKind, diameter_mm: float, **keys: Any) -> DeviceSpec:
    return DeviceSpec(kind=kind, start_mm=START, end_mm=END, diameter_mm=diameter_mm, **keys)


def parts(spec: PhantomSpec, *devices: DeviceSpec) -> tuple[Implant, ...]:
    return implants_of(dataclasses.replace(spec, devices=devices), spine_frame(spec))


def pointed_mm3(diameter_mm: float, length_mm: float) -> float:
    """A cone twice as long as the bar is thick, then the bar."""
    return math.pi * diameter_mm**2 / 4.0 * (length_mm - 2.0 * diameter_mm + 2.0 / 3.0 * diameter_mm)


@pytest.mark.parametrize("spacing", [(0.4, 0.4, 0.6), (0.8, 0.8, 1.5)])
@pytest.mark.parametrize(
    ("kind", "diameter_mm", "keys"),
    [
        ("k_wire", 1.2, {}),
        ("k_wire", 3.0, {}),
        ("monitoring_needle", 0.5, {}),
        ("clip", 1.2, {}),
        ("retractor", 2.0, {"width_mm": 20.0}),
        ("trocar", 4.2, {"wall_mm": 0.3}),
        ("trocar", 2.4, {}),
    ],
)
def test_volumes_are_those_of_the_closed_forms(
    small_spec: PhantomSpec, kind: DeviceKind, diameter_mm: float, keys: dict[str, float], spacing: Any
) -> None:
    ends = spine_frame(small_spec).to_lps([START, END])
    length = float(np.linalg.norm(ends[1] - ends[0]))
    section = math.pi * diameter_mm**2 / 4.0
    expected = {
        "clip": section * length,
        "retractor": diameter_mm * 20.0 * length,
    }.get(kind, pointed_mm3(diameter_mm, length))
    bore = math.pi * (diameter_mm / 2.0 - 0.3) ** 2 * length if keys.get("wall_mm") else 0.0
    expected = section * length - bore if bore else expected

    (implant,) = parts(small_spec, device(kind, diameter_mm, **keys))
    filled = coverage(implant, oblique_grid(small_spec, spacing))

    voxel_mm3 = math.prod(spacing)
    # the thinnest is a sixth of a voxel wide: 125 samples a voxel hit it now more, now less often
    assert float(filled.solid.sum()) * voxel_mm3 == pytest.approx(expected, rel=0.05 if diameter_mm < 1.0 else 0.02)
    assert float(filled.bore.sum()) * voxel_mm3 == pytest.approx(bore, rel=0.01, abs=1e-9)
    assert float((filled.solid + filled.bore).max()) <= 1.0 + 1e-5


def test_cement_lies_at_the_trocars_end_with_its_own_hu(small_spec: PhantomSpec) -> None:
    trocar = device("trocar", 4.2, wall_mm=0.3, cement_mm=6.0, cement_hu=2400.0)
    cement, tube = parts(small_spec, trocar)
    assert (cement.kind, tube.kind) == ("cement", "trocar")
    grid = dataclasses.replace(small_spec.grid, size_voxels=(90, 100, 60), spacing_mm=(0.7, 0.7, 0.8))
    phantom = build(dataclasses.replace(quiet(small_spec), devices=(trocar,), grid=grid))
    end = spine_frame(small_spec).to_lps(START)
    axis = spine_frame(small_spec).to_lps(END) - end
    axis /= np.linalg.norm(axis)

    assert phantom.volume.sample(end - 4.0 * axis) == pytest.approx(2400.0, rel=0.02)
    assert phantom.volume.sample(end + 12.0 * axis) < -100.0  # the bore, blurred
    i, j, k = np.rint(phantom.volume.grid.lps_to_index(end - 4.0 * axis)).astype(int)
    assert phantom.labels[k, j, i] == Label.IMPLANT
    metal = phantom.truth.to_dict()["metal"]
    assert [m["kind"] for m in metal] == ["cement", "trocar"]
    np.testing.assert_allclose(metal[1]["start_lps_mm"], end)


def test_a_blade_is_wide_along_the_spine_and_thin_across(small_spec: PhantomSpec) -> None:
    blade = DeviceSpec(
        kind="retractor",
        start_mm=(-25.0, 8.0, 0.0),
        end_mm=(-25.0, 40.0, 0.0),
        diameter_mm=2.0,
        width_mm=20.0,
        material="titanium",
    )
    (implant,) = parts(small_spec, blade)
    to_lps = spine_frame(small_spec).to_lps
    inside, beside = to_lps([(-25.0, 20.0, 8.0), (-25.0, 20.0, 0.0)]), to_lps([(-22.0, 20.0, 0.0)])
    (block,) = implant.solids
    assert (block.signed_distance_mm(inside) < 0.0).all()
    assert (block.signed_distance_mm(beside) > 1.0).all()


def test_beam_hardening_lowers_the_middle_of_an_implant_too(small_spec: PhantomSpec) -> None:
    (wire,) = parts(small_spec, device("k_wire", 3.0))
    filled = coverage(wire, oblique_grid(small_spec, (0.4, 0.4, 0.6)), depth=True)
    assert filled.depth is not None
    # on the axis 1.5 mm deep
    assert float(filled.depth.max()) == pytest.approx(1.0 - math.exp(-1.5), abs=0.05)


SMALL = find_spec("small").read_text(encoding="utf-8")
TABLE = """
[[device]]
kind = "trocar"
start_mm = [-14.0, -6.0, -9.0]
end_mm = [-22.0, 30.0, 4.0]
diameter_mm = 3.0
wall_mm = 0.4
cement_mm = 5.0
"""


def test_devices_are_read_and_listed_in_the_truth(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(SMALL + TABLE, encoding="utf-8")
    spec = read_spec(path)
    assert spec.devices == (device("trocar", 3.0, wall_mm=0.4, cement_mm=5.0),)
    truth = make_truth(spec, 0, pose_of(spec), canal_of(spec), grid_of(spec)).to_dict()
    assert [(m["kind"], m["material"]) for m in truth["metal"]] == [("cement", "cement"), ("trocar", "steel")]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"trocar"', '"spoon"', r"device 1\.kind = 'spoon' must be one of: k_wire, clip, retractor"),
        ('"trocar"', '"k_wire"', r"device 1: wall_mm and cement_mm are of a trocar"),
        ("wall_mm = 0.4", "wall_mm = 1.0\nwidth_mm = 5.0", "width_mm must be above 0 for a retractor"),
        ("diameter_mm = 3.0\nwall_mm = 0.4", "diameter_mm = 0.8\nwall_mm = 0.4", "less than half of diameter_mm"),
        ("end_mm = [-22.0, 30.0, 4.0]", "end_mm = [-14.0, -6.0, -8.0]", "device 1: start_mm and end_mm .* 2 mm"),
        (
            "cannula_end_mm = ",
            'content = "probe"\nwall_mm = 0.7\ncannula_end_mm = ',
            "does not fit into the bore of 3 mm",
        ),
        ("cannula_end_mm = ", 'parts = "cannula"\ncannula = false\ncannula_end_mm = ', "use parts = 'none'"),
        ("cannula_end_mm = ", 'parts = "cannula"\ncontent = "probe"\ncannula_end_mm = ', "a cannula alone holds"),
        (
            "cannula_end_mm = ",
            'content = "water"\ncannula_end_mm = ',
            r"needle\.content = 'water' must be one of: solid",
        ),
        ("cannula_end_mm = ", "wall_mm = 0.1\ncannula_end_mm = ", r"needle\.wall_mm = 0\.1 must lie between 0\.3 and"),
        ("noise_hu = ", 'kernel = "bone"\nnoise_hu = ', r"scanner\.kernel = 'bone' must be one of: gaussian, sharp"),
        (
            "noise_hu = ",
            "metal_cupping = 0.5\nnoise_hu = ",
            r"scanner\.metal_cupping = 0\.5 must lie between 0 and 0\.4",
        ),
    ],
)
def test_a_bad_device_or_build_is_refused_by_name(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = SMALL + TABLE
    assert old in text
    path = tmp_path / "bad.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(PhantomError, match=message):
        read_spec(path)
