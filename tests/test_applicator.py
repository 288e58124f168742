"""The applicator's geometry, the one place where a distance changes its origin, and its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iort_planner import library
from iort_planner.applicator import DepthReference, read_applicator, unit_vector
from iort_planner.errors import ApplicatorError

MINIMAL = {
    "name": '"test needle"',
    "outer_diameter_mm": "4.4",
    "radiolucent_tip_length_mm": "4.0",
    "tip_to_source_mm": "2.2",
    "length_mm": "94.0",
    "cannula_inner_diameter_mm": "4.4",
    "cannula_length_mm": "55.0",
    "origin": '"test"',
    "clinical": "false",
}


def write(folder: Path, **changes: str | None) -> Path:
    path = folder / "applicator.toml"
    keys = {key: value for key, value in {**MINIMAL, **changes}.items() if value is not None}
    path.write_text("".join(f"{key} = {value}\n" for key, value in keys.items()), encoding="utf-8")
    return path


def test_shipped_applicators_are_whole_name_their_origin_and_are_not_clinical() -> None:
    assert library.names("applicators")
    for name in library.names("applicators"):
        applicator = read_applicator(name)
        assert len(applicator.origin) > 20
        assert not applicator.clinical
        assert len(applicator.sha256) == 64


def test_the_default_has_the_published_and_inferred_numbers() -> None:
    default = read_applicator()

    assert default.outer_diameter_mm == 4.4  # Krauss et al. 2024
    assert default.length_mm == 94.0  # Krauss et al. 2024
    assert (default.cannula_inner_diameter_mm, default.cannula_length_mm) == (4.4, 55.0)  # Krauss et al. 2024
    assert default.tip_to_source_mm == 3.0  # inferred from Sethi et al. 2018


def test_depth_is_converted_sideways_from_the_surface_and_forwards_from_the_tip() -> None:
    applicator = read_applicator()

    assert applicator.depth_from_source_mm(10.0, DepthReference.SOURCE) == 10.0
    assert applicator.depth_from_source_mm(10.0, DepthReference.SURFACE) == pytest.approx(12.2)
    assert applicator.depth_from_source_mm(10.0, DepthReference.TIP) == pytest.approx(13.0)


@given(st.lists(st.floats(-300, 300), min_size=6, max_size=6).filter(lambda v: np.linalg.norm(v[3:]) > 1e-3))
def test_tip_source_and_metal_end_lie_on_the_axis_at_their_distances(numbers: list[float]) -> None:
    applicator = read_applicator()
    tip, axis = np.array(numbers[:3]), unit_vector(np.array(numbers[3:]), "axis")
    source, metal = applicator.source_lps_mm(tip, axis), applicator.metal_end_lps_mm(tip, axis)

    assert np.linalg.norm(source - tip) == pytest.approx(applicator.tip_to_source_mm)
    assert (metal - tip) @ axis == pytest.approx(applicator.radiolucent_tip_length_mm)
    np.testing.assert_allclose(applicator.tip_from_metal_end_lps_mm(metal, axis), tip, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-200, 1e-5, 1.0, 1e200])
def test_an_axis_of_any_length_becomes_a_unit_vector(scale: float) -> None:
    np.testing.assert_allclose(unit_vector(scale * np.array([3.0, 0.0, 4.0]), "axis"), [0.6, 0.0, 0.8], atol=1e-15)


@pytest.mark.parametrize("bad", [[0, 0, 0], [np.nan, 0, 1], [np.inf, 0, 0], [1, 2]])
def test_an_axis_without_direction_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="axis"):
        unit_vector(np.array(bad), "axis")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tip_to_source_mm": None}, "lacks tip_to_source_mm"),
        ({"colour": '"red"'}, "unknown keys colour"),
        ({"tip_to_source_mm": "-2"}, "tip_to_source_mm = -2 mm must lie above 0"),
        ({"tip_to_source_mm": "nan"}, "must lie above 0"),
        ({"tip_to_source_mm": '"3 mm"'}, "must be a number in mm"),
        ({"tip_to_source_mm": "true"}, "must be a number in mm"),
        ({"tip_to_source_mm": "4.5"}, "the source shines through plastic"),
        ({"radiolucent_tip_length_mm": "200"}, "must lie between"),
        ({"cannula_inner_diameter_mm": "3.0"}, "diameters must grow"),
        ({"cannula_outer_diameter_mm": "4.0"}, "diameters must grow"),
        ({"clinical": '"no"'}, "clinical"),
        ({"name": '""'}, "name"),
        ({"origin": "= ="}, "not valid TOML"),
    ],
)
def test_an_impossible_applicator_file_is_refused_by_name(
    tmp_path: Path, changes: dict[str, str | None], message: str
) -> None:
    with pytest.raises(ApplicatorError, match=message) as caught:
        read_applicator(write(tmp_path, **changes))
    assert "applicator.toml" in str(caught.value)


def test_a_missing_file_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ApplicatorError, match=r"cannot be read .*needle-4\.4mm"):
        read_applicator(tmp_path / "none.toml")
