"""Specifications: found by name, read, and refused with file, key and limit named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from iort_planner.errors import PhantomError
from iort_planner.phantom import find_spec, read_spec, spec_names

SMALL = find_spec("small").read_text(encoding="utf-8")


def test_shipped_specifications_are_found_and_read() -> None:
    assert {"reference", "small", "oblique", "instrumented"} <= set(spec_names())
    for name in spec_names():
        assert read_spec(find_spec(name)).name == name


def test_an_unknown_name_lists_those_at_hand() -> None:
    with pytest.raises(PhantomError, match=r"'nothing'.*instrumented, oblique, reference, small"):
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


ROD = """
[[rod]]
start_mm = [20.0, 18.0, -20.0]
end_mm = [20.0, 18.0, 20.0]
diameter_mm = 5.5
material = "carbon"
"""
SCREW = """
[[screw]]
tip_mm = [-9.0, -26.0, -3.0]
through_mm = [-12.7, 0.0, 3.0]
diameter_mm = 5.5
length_mm = 40.0
head_diameter_mm = 10.0
head_length_mm = 12.0
material = "titanium"
"""
RAIL = """
[[rail]]
start_offset_mm = [60.0, -140.0, -200.0]
end_offset_mm = [60.0, -140.0, 200.0]
diameter_mm = 8.0
material = "steel"
"""
MARKER = """
[[marker]]
centre_mm = [0.0, 40.0, 5.0]
radius_mm = 1.5
material = "steel"
"""
NEEDLE = """
[[needle_extra]]
tip_mm = [-5.5, -21.0, 0.0]
through_mm = [-13.4, -1.0, 4.5]
cannula_end_mm = 16.0
bend_mm = 2.0
"""


def test_optional_tables_are_read_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(SMALL + ROD + SCREW + ROD.replace("20.0, 18.0", "-20.0, 18.0") + RAIL + MARKER + NEEDLE, "utf-8")
    spec = read_spec(path)
    assert [rod.start_mm for rod in spec.rods] == [(20.0, 18.0, -20.0), (-20.0, 18.0, -20.0)]
    assert [rod.material for rod in spec.rods] == ["carbon", "carbon"]
    assert [screw.length_mm for screw in spec.screws] == [40.0]
    assert [rail.diameter_mm for rail in spec.rails] == [8.0]
    assert [marker.centre_mm for marker in spec.markers] == [(0.0, 40.0, 5.0)]
    assert [(needle.bend_mm, needle.bend_turn_deg) for needle in spec.extra_needles] == [(2.0, 0.0)]


OPTIONAL = {
    "[spine]": "bend_plane_deg = 0.0",
    "[vertebra]": "ribs = true\ntransverse_mm = 16.0\nspinous_mm = 17.0\nspinous_drop_mm = 12.0",
    "[lesion]": "breaches = false",
    "[needle]": (
        "bend_mm = 0.0\nbend_turn_deg = 0.0\ncontent = 'solid'\nwall_mm = 0.5\nprobe_diameter_mm = 3.2\nprobe_wall_mm = 0.2\n"
        "probe_end_mm = 0.8\nhollow_tip = false\ntip_wall_mm = 0.8\nparts = 'needle'\ncannula = true"
    ),
    "[scanner]": "kernel = 'gaussian'\nmetal_cupping = 0.0",
    "[hu]": "titanium = 5500.0\ncarbon = 180.0",
}


def test_optional_keys_default_to_what_the_manual_says(tmp_path: Path) -> None:
    text = SMALL
    for section, keys in OPTIONAL.items():
        assert section in text
        lines = text.splitlines()
        at = next(n for n, line in enumerate(lines) if line.startswith(section))
        text = "\n".join([*lines[: at + 1], keys, *lines[at + 1 :]])
    path = tmp_path / "all.toml"
    path.write_text(text, encoding="utf-8")
    plain = read_spec(find_spec("small"))
    assert replace(read_spec(path), sha256=plain.sha256) == plain


@pytest.mark.parametrize(
    ("added", "old", "new", "message"),
    [
        (SCREW, "diameter_mm = 5.5", "diameter_mm = 9", r"screw 1\.diameter_mm = 9 must lie between 3 and 8"),
        (SCREW, '"titanium"', '"gold"', r"screw 1\.material = 'gold' must be one of: titanium, carbon, steel"),
        (SCREW, "head_length_mm = 12.0", "", r"lacks screw 1\.head_length_mm"),
        (SCREW, "head_diameter_mm = 10.0", "head_diameter_mm = 5", r"screw 1\.head_diameter_mm = 5 .* 5\.5 or more"),
        (
            SCREW,
            "through_mm = [-12.7, 0.0, 3.0]",
            "through_mm = [-9, -26, 0]",
            r"screw 1\.tip_mm .* 5 mm or more apart",
        ),
        (
            SCREW + ROD,
            "end_mm = [20.0, 18.0, 20.0]",
            "end_mm = [20, 18, -19]",
            "rod 1: start_mm and end_mm .* 2 mm or more",
        ),
        (RAIL, "200.0]", "900.0]", r"rail 1\.start_offset_mm|rail 1\.end_offset_mm"),
        (MARKER, "radius_mm = 1.5", "radius_mm = 1.5\ncolour = 3", r"unknown keys marker 1\.colour"),
        (NEEDLE + NEEDLE, "bend_mm = 2.0", "bend_mm = 9", r"needle_extra 1\.bend_mm = 9 must lie between 0 and 8"),
        (MARKER * 25, "", "", r"marker must be given as \[\[marker\]\], at most 24 times"),
        ("[rod]\nstart_mm = 3", "", "", r"rod must be given as \[\[rod\]\]"),
        ("", "kyphosis_radius_mm = 300.0", "kyphosis_radius_mm = -80", "220 or more .* or -150 or less"),
        ("", "kyphosis_radius_mm = 300.0", "kyphosis_radius_mm = -160\nbend_plane_deg = 80", "puts the centre of"),
        ("", "cord_width_mm = 9.0", "cord_width_mm = 0", r"or both 0 \(no cord\)"),
        ("", "[lesion]", "[lesion]\nbreaches = 1", r"lesion\.breaches = 1 must be one of: true, false"),
        ("", "[vertebra]", '[vertebra]\nribs = "no"', r"vertebra\.ribs = 'no' must be one of: true, false"),
    ],
)
def test_a_bad_optional_part_is_refused_by_name(tmp_path: Path, added: str, old: str, new: str, message: str) -> None:
    text = SMALL + added
    assert old in text
    path = tmp_path / "bad.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
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
