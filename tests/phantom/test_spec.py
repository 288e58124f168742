"""Specifications: found by name, read, and refused with file, key and limit named."""

from __future__ import annotations

from pathlib import Path

import pytest

from iort_planner.errors import PhantomError
from iort_planner.phantom import find_spec, read_spec, spec_names

SMALL = find_spec("small").read_text(encoding="utf-8")


def test_shipped_specifications_are_found_and_read() -> None:
    assert {"reference", "small", "oblique"} <= set(spec_names())
    for name in spec_names():
        assert read_spec(find_spec(name)).name == name


def test_an_unknown_name_lists_those_at_hand() -> None:
    with pytest.raises(PhantomError, match=r"'nothing'.*oblique, reference, small"):
        find_spec("nothing")


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(SMALL, encoding="utf-8")
    assert find_spec(path) == path
    assert read_spec(path).sha256 == read_spec(find_spec("small")).sha256


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("noise_hu = 20.0", "", r"lacks scanner\.noise_hu"),
        ("noise_hu = 20.0", "noise_hu = 20.0\nspeed = 1", r"unknown keys scanner\.speed"),
        ("noise_hu = 20.0", "noise_hu = -1", r"scanner\.noise_hu = -1 must lie between 0 and 200"),
        ("noise_hu = 20.0", "noise_hu = nan", r"scanner\.noise_hu = nan must lie between"),
        ("noise_hu = 20.0", "noise_hu = true", r"scanner\.noise_hu = True must be 1 number"),
        ("noise_hu = 20.0", 'noise_hu = "20"', r"scanner\.noise_hu = '20' must be 1 number"),
        ("size_voxels = [100, 104, 48]", "size_voxels = [100, 104]", r"grid\.size_voxels.*3 whole numbers"),
        ("size_voxels = [100, 104, 48]", "size_voxels = [100.5, 104, 48]", r"grid\.size_voxels.*3 whole numbers"),
        ("size_voxels = [100, 104, 48]", "size_voxels = [100, 104, 4000]", r"between 16 and 512"),
        ("sac_width_mm = 14.0", "sac_width_mm = 19", r"canal\.sac_width_mm = 19 must be less than canal\.width_mm"),
        ("through_mm = [13.4, -1.0, 4.5]", "through_mm = [5.5, -21.0, 0.5]", "5 mm or more apart"),
        ('name = "small"', "name = 'a\\b'", "must be 1 to 40 letters"),
        ('level = "T11"', 'level = ""', "level = '' must be a text"),
        ('schema = "iort-planner/phantom/1"', 'schema = "other/9"', "schema = 'other/9'"),
        ('applicator = "needle-4.4mm"', 'applicator = "no-such"', "applicator: .*no-such"),
        ("[lesion]", "[wound]", "lacks lesion"),
        ("[grid]", "[grid", "not valid TOML"),
    ],
)
def test_a_bad_specification_is_refused_by_name(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SMALL
    path = tmp_path / "bad.toml"
    path.write_text(SMALL.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(PhantomError, match=message) as caught:
        read_spec(path)
    assert "bad.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_applicator_without_a_known_cannula_is_refused(tmp_path: Path) -> None:
    from iort_planner import library

    text = library.find("applicators", "needle-4.4mm").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("cannula_outer")]
    applicator = tmp_path / "bare.toml"
    applicator.write_text("\n".join(lines), encoding="utf-8")
    path = tmp_path / "spec.toml"
    path.write_text(SMALL.replace('"needle-4.4mm"', f"'{applicator}'"), encoding="utf-8")
    with pytest.raises(PhantomError, match="no cannula_outer_diameter_mm"):
        read_spec(path)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PhantomError, match="cannot be read"):
        read_spec(tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PhantomError, match="not valid TOML"):
        read_spec(tmp_path / "binary.toml")
