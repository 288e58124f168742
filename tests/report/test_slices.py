"""Slices: sides, lines and letters stand where they belong, however the image was stored."""

from __future__ import annotations

import dataclasses
import io
import itertools
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.patches import Circle
from matplotlib.patheffects import Normal, Stroke
from matplotlib.text import Text
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from iort_planner.errors import InputError
from iort_planner.imaging.volume import ImageGrid, Volume
from iort_planner.planning.plan import Check, Plan
from iort_planner.report import slices
from iort_planner.report.overlays import PALE, needle_outline
from iort_planner.report.planes import PLANES, Plane
from iort_planner.report.slices import WINDOWS, draw_slices, make_figure
from iort_planner.units import FloatArray
from iort_planner.viewer import palette
from tests import plan_factory as factory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STORED = {
    "usual": np.eye(3),
    "prone, feet first": np.diag([-1.0, -1.0, 1.0]),
    "oblique": Rotation.from_euler("xyz", [20.0, -15.0, 30.0], degrees=True).as_matrix(),
    "left-handed": np.diag([1.0, 1.0, -1.0]),
}
LEFT, POSTERIOR, SUPERIOR = np.eye(3)


@pytest.fixture(scope="module")
def figure() -> Figure:
    return make_figure(*factory.example(), WINDOWS["bone"])


def panel(figure: Figure, name: str) -> tuple[Plane, Axes]:
    number = next(n for n, plane in enumerate(PLANES) if plane.name == name)
    return PLANES[number], figure.axes[number]


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(
    ("name", "left", "right", "top", "bottom"),
    [("axial", "R", "L", "A", "P"), ("sagittal", "A", "P", "S", "I"), ("coronal", "R", "L", "S", "I")],
)
def test_letters_follow_the_radiological_convention(
    figure: Figure, name: str, left: str, right: str, top: str, bottom: str
) -> None:
    _, axes = panel(figure, name)
    edge = {text.get_text(): text.get_position() for text in axes.texts if str(text.get_gid()).startswith("edge")}
    assert edge[left][0] < -30.0
    assert edge[right][0] > 30.0
    assert edge[top][1] > 30.0
    assert edge[bottom][1] < -30.0


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize(
    ("name", "direction", "expected"),
    [
        ("axial", LEFT, (1, 0)),
        ("axial", -LEFT, (-1, 0)),
        ("axial", POSTERIOR, (0, -1)),
        ("sagittal", POSTERIOR, (1, 0)),
        ("sagittal", SUPERIOR, (0, 1)),
        ("coronal", LEFT, (1, 0)),
        ("coronal", -SUPERIOR, (0, -1)),
    ],
)
def test_a_lump_on_one_side_of_the_patient_is_drawn_on_its_side(
    stored: str, name: str, direction: FloatArray, expected: tuple[int, int]
) -> None:
    grid = factory.example_grid(spacing_mm=2.0, direction=STORED[stored])
    points = grid.voxel_centres_lps_mm()
    lump = np.linalg.norm(points - (factory.SOURCE_LPS_MM + 20.0 * direction), axis=-1) < 5.0
    volume = Volume(values=np.where(lump, 1500, 0).astype(np.int16), grid=grid, hu_calibrated=True)
    _, axes = panel(make_figure(factory.example()[0], volume, None, WINDOWS["bone"]), name)
    array = axes.images[0].get_array()
    assert array is not None
    shown = np.ma.masked_invalid(array).filled(0.0)
    left, right, bottom, top = axes.images[0].get_extent()
    rows, columns = np.nonzero(shown > 700)
    x = left + (columns.mean() + 0.5) / shown.shape[1] * (right - left)
    y = bottom + (rows.mean() + 0.5) / shown.shape[0] * (top - bottom)
    assert axes.images[0].origin == "lower"
    assert (x, y) == pytest.approx((20.0 * expected[0], 20.0 * expected[1]), abs=1.0)


def test_pixels_of_the_finished_picture_keep_the_side() -> None:
    """End to end through the PNG: a white lump at the patient's left is right of the middle of the axial panel."""
    from PIL import Image

    grid = factory.example_grid(spacing_mm=2.0, direction=STORED["prone, feet first"])
    centre = factory.SOURCE_LPS_MM + np.array([25.0, 20.0, 0.0])
    lump = np.linalg.norm(grid.voxel_centres_lps_mm() - centre, axis=-1) < 6.0
    volume = Volume(values=np.where(lump, 2500, -500).astype(np.int16), grid=grid, hu_calibrated=True)
    plan = factory.example()[0]
    picture = np.asarray(Image.open(io.BytesIO(draw_slices(plan, volume, None))).convert("RGB")).min(axis=-1)
    height, width = picture.shape
    box = make_figure(plan, volume, None, WINDOWS["bone"]).axes[0].get_position()
    rows = slice(int((1 - box.y1) * height), int((1 - box.y0) * height))
    axial = picture[rows, int(box.x0 * width) : int(box.x1 * width)]
    quarter = [axial[n * axial.shape[0] // 2 :, m * axial.shape[1] // 2 :] for n in (0, 1) for m in (0, 1)]
    white = [int((q[: axial.shape[0] // 2, : axial.shape[1] // 2] > 250).sum()) for q in quarter]
    assert white[3] > 3 * max(white[:3])  # lower right: posterior left


@pytest.mark.parametrize("name", ["axial", "sagittal", "coronal"])
def test_isodoses_are_exact_circles_round_the_source(figure: Figure, name: str) -> None:
    _, axes = panel(figure, name)
    circles = [p for p in axes.patches if isinstance(p, Circle) and p.get_edgecolor()[:3] != (0.0, 0.0, 0.0)]
    assert [c.radius for c in circles] == [8.31, 10.93, 14.62]
    assert all(tuple(c.center) == (0.0, 0.0) for c in circles)
    for label in ("16 Gy | 20.8 Gy(RBE)", "8 Gy | 10.4 Gy(RBE)", "4 Gy | 5.2 Gy(RBE)"):
        assert label in texts(axes)


@pytest.mark.parametrize("stored", STORED)
def test_the_canals_contour_lies_on_its_wall_without_stairs(stored: str) -> None:
    grid = factory.example_grid(direction=STORED[stored])
    volume = factory.example_volume(grid)
    figure = make_figure(factory.make_example_plan(volume), volume, factory.example_mask(grid), WINDOWS["bone"])
    plane, axes = panel(figure, "axial")
    (contour,) = axes.collections
    points = np.concatenate([path.vertices for path in contour.get_paths()])
    centre = plane.project(factory.CANAL_CENTRE_LPS_MM - factory.SOURCE_LPS_MM)
    from_axis = np.linalg.norm(points - centre, axis=1)
    # On axes parallel to the tube every slice of the mask is the same discrete disc, a little smaller than the tube.
    disc = np.sqrt(factory.example_mask(grid)[50].sum() / np.pi) if stored != "oblique" else factory.CANAL_RADIUS_MM
    assert from_axis.mean() == pytest.approx(disc, abs=0.05)
    assert np.abs(from_axis - disc).max() < 0.4  # the stairs of 1 mm voxels would reach 0.7 mm


@pytest.mark.parametrize("name", ["axial", "sagittal", "coronal"])
def test_the_needles_outline_is_the_shadow_of_its_body(name: str) -> None:
    """Oracle: the convex hull of the projected points of many balls along the needle's axis."""
    plane = next(p for p in PLANES if p.name == name)
    radius, length, axis = 2.2, 40.0, factory.AXIS_LPS
    directions = np.random.default_rng(1).normal(size=(4000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ball = directions * radius + radius * axis
    square = directions - (directions @ axis)[:, None] * axis
    square *= radius / np.linalg.norm(square, axis=1, keepdims=True)
    body = np.concatenate([ball, *(square + s * axis for s in (radius, length / 2, length))])
    hull = ConvexHull(plane.project(body))
    outline = np.concatenate(needle_outline(plane, (0.0, length), 0.0, radius, axis))
    inside_by = -(outline @ hull.equations[:, :2].T + hull.equations[:, 2]).max(axis=1)
    assert np.abs(inside_by).max() < 0.03


def test_the_needle_is_solid_only_where_the_plane_cuts_it(figure: Figure) -> None:
    for name in ("axial", "sagittal", "coronal"):
        plane, axes = panel(figure, name)
        slope = float(factory.AXIS_LPS[plane.normal_axis])
        reach = 2.2 / abs(slope) * float(np.linalg.norm(plane.project(factory.AXIS_LPS)))
        shaft = [line for line in axes.lines if line.get_zorder() == 6]
        solid = [line for line in shaft if not line.is_dashed()]
        dashed = [line for line in shaft if line.is_dashed()]
        assert solid
        assert dashed
        furthest = max(float(np.hypot(*np.transpose(line.get_xydata())).max()) for line in solid)
        assert furthest == pytest.approx(np.hypot(reach, 2.2), abs=0.2)


def test_the_distance_says_its_length_and_where_it_leaves_the_plane(figure: Figure) -> None:
    # only where the line is as long as it says
    assert ["11.1 mm" in texts(axes) for axes in figure.axes] == [True, False, False]
    notes = [next((t for t in texts(axes) if t.startswith("nearest canal point")), "") for axes in figure.axes]
    assert notes == [
        "",
        "nearest canal point 1.2 mm right of plane",
        "nearest canal point 11.0 mm posterior of plane",
    ]


def with_many_words() -> tuple[Plan, Volume, factory.Mask]:
    """The longest words that still make sense, on an image that ends near the source."""
    plan, volume, mask = factory.example()
    checks = [Check(id=f"check-{n}", status=s, message="m") for n, s in enumerate(["fail"] * 12 + ["warn"] * 14)]
    result = dataclasses.replace(
        plan.result,
        isodose_radius_mm={"12.5": 9.1, "11.25": 9.6, "6.25": 12.6, "25": 7.1},
        dwell_time_s=1499.0,
        canal_max_gy=11.25,
        canal_max_gy_rbe=28.1,
    )
    prescription = dataclasses.replace(
        plan.prescription, dose_gy=12.5, limit_gy=11.25, rbe=2.5, dose_gy_rbe=31.25, limit_gy_rbe=28.125
    )
    plan = dataclasses.replace(plan, result=result, prescription=prescription).with_checks(*checks)
    low, high = volume.grid.box_around(factory.SOURCE_LPS_MM, 20.0)
    cropped = volume.crop(low, high)
    return plan, cropped, mask[low[2] : high[2], low[1] : high[1], low[0] : high[0]]


def with_isodoses(radii: dict[str, float | None], dose_gy: float, limit_gy: float) -> tuple[Plan, Volume, factory.Mask]:
    plan, volume, mask = factory.example()
    result = dataclasses.replace(plan.result, isodose_radius_mm=radii)
    prescription = dataclasses.replace(plan.prescription, dose_gy=dose_gy, limit_gy=limit_gy)
    return dataclasses.replace(plan, result=result, prescription=prescription), volume, mask


@pytest.mark.parametrize(
    "drawn",
    [
        factory.example(),
        with_many_words(),
        with_isodoses({"8": 10.93, "4": 14.62}, 8.0, 8.0),
        with_isodoses({"16": 8.31, "8": 10.93, "6": 12.3, "4": 14.62}, 8.0, 6.0),
        with_isodoses({"100": None, "50": None, "25": None, "0.1": 38.0}, 50.0, 0.1),
        with_isodoses({"1234.56": None, "617.281": None, "308.64": None}, 617.281, 617.281),
        with_isodoses({"1234.56": None, "617.281": None, "513.333": None, "308.64": None}, 617.281, 513.333),
    ],
    ids=["usual", "many words", "two isodoses", "four", "null radii", "long role", "four long ones, null radii"],
)
def test_no_letters_overlap_or_leave_the_picture(drawn: tuple[Plan, Volume, factory.Mask]) -> None:
    figure = make_figure(*drawn, WINDOWS["bone"])
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]  # the Agg canvas has one
    figure.draw(renderer)
    (legend,) = figure.legends
    titles = [t for a in figure.axes for t in a.findobj(Text) if t.get_text() == a.get_title(loc="left")]
    found = [*figure.texts, *legend.get_texts(), *(t for a in figure.axes for t in a.texts), *titles]
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in found]
    assert len(boxes) > 20
    assert legend.get_window_extent(renderer).y1 < min(axes.get_window_extent().y0 for axes in figure.axes)
    width, height = figure.bbox.width, figure.bbox.height
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
    overlapping = [(a, b) for (a, one), (b, two) in itertools.combinations(boxes, 2) if one.overlaps(two)]
    assert overlapping == []


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_legend_stays_in_the_picture_however_long_its_words(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = palette.isodose_levels(with_isodoses({"16": 8.3, "8": None, "6": 12.3, "4": None}, 8.0, 6.0)[0])[:count]
    long = tuple(dataclasses.replace(level, role="prescription = limit = half = double dose") for level in levels)
    monkeypatch.setattr(palette, "isodose_levels", lambda plan: long)
    figure = make_figure(*factory.example(), WINDOWS["bone"])
    (legend,) = figure.legends
    box = legend.get_window_extent(figure.canvas.get_renderer())  # type: ignore[attr-defined]  # the Agg canvas has one
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert len(legend.get_texts()) == count + 6


def constant_image(value: int) -> Volume:
    grid = factory.example_grid(spacing_mm=2.0)
    return Volume(values=np.full(grid.shape, value, dtype=np.int16), grid=grid, hu_calibrated=True)


@pytest.mark.parametrize("grey", [-2000, 3000], ids=["black", "white"])
def test_letters_bar_and_needle_are_seen_on_black_and_on_white(grey: int) -> None:
    plan, volume = factory.example()[0], constant_image(grey)
    figure = make_figure(plan, volume, None, WINDOWS["bone"])
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]  # the Agg canvas has one
    figure.draw(renderer)
    picture = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(float).mean(axis=-1)  # type: ignore[attr-defined]  # Agg
    for axes in figure.axes:
        edge = [t for t in axes.texts if str(t.get_gid()).startswith("edge")]
        lines = [line for line in axes.lines if line.get_color() == PALE and line.get_marker() != "+"]
        assert len(edge) == 4
        assert len(lines) > 2  # bar and shaft
        for artist in (*axes.texts, *lines):
            box = artist.get_tightbbox(renderer)
            assert box is not None
            columns = slice(max(int(box.x0) - 3, 0), int(box.x1) + 4)
            rows = slice(max(picture.shape[0] - int(box.y1) - 4, 0), picture.shape[0] - int(box.y0) + 3)
            shown = picture[rows, columns]
            assert np.ptp(shown) > 100.0, artist


def test_everything_drawn_over_the_image_has_a_dark_outline(figure: Figure) -> None:
    for axes in figure.axes:
        lines = [line for line in axes.lines if line.get_marker() == "None"]
        circles = [p for p in axes.patches if isinstance(p, Circle)]
        artists = [*lines, *circles, *axes.texts, *axes.collections]
        assert len(artists) > 20
        for artist in artists:
            assert [type(effect) for effect in artist.get_path_effects()] == [Stroke, Normal], artist


def test_same_input_same_bytes_whatever_the_users_matplotlib_settings() -> None:
    first = draw_slices(*factory.example())
    assert first[:8] == b"\x89PNG\r\n\x1a\n"
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.titlesize": 40, "image.cmap": "jet"}):
        assert draw_slices(*factory.example()) == first
    assert b"Software" not in first


def test_an_image_without_hu_is_windowed_by_its_values_and_says_so() -> None:
    volume = factory.example_volume(hu_calibrated=False)
    figure = make_figure(factory.make_example_plan(volume), volume, None, WINDOWS["bone"])
    words = " ".join(t.get_text() for t in figure.texts)
    assert "not HU" in words
    assert "window" not in words


def test_the_window_is_stated_and_an_unknown_one_refused(figure: Figure) -> None:
    assert any("bone window L 500 W 2000 HU" in t.get_text() for t in figure.texts)
    soft = make_figure(*factory.example(), WINDOWS["soft"])
    assert soft.axes[0].images[0].get_clim() == (-160.0, 240.0)
    with pytest.raises(InputError, match="bone, soft"):
        draw_slices(*factory.example(), window="lung")


def test_every_picture_states_intended_use_version_verdict_and_time(figure: Figure) -> None:
    words = " | ".join(t.get_text() for t in figure.texts)
    for part in ("not a medical device", "iort-planner 0.1.0", "WARN: 2 checks warn", "2 min 38 s"):
        assert part in words
    # nominal: the k=2 band goes beyond it
    assert "canal maximum 8.0 Gy | 10.3 Gy(RBE), nominal  (limit 8 Gy | 10.4 Gy(RBE))" in words


def test_a_plan_on_points_shows_them_and_no_contour() -> None:
    plan, volume, _ = factory.example()
    points = (plan.canal.nearest_point_lps_mm, (12.0, -130.0, -425.0))
    plan = dataclasses.replace(plan, canal=dataclasses.replace(plan.canal, method="points", points_lps_mm=points))
    figure = make_figure(plan, volume, None, WINDOWS["bone"])
    for axes in figure.axes:
        assert len(axes.collections) == 0
        assert sum(line.get_marker() == "x" for line in axes.lines) == 2


def test_what_lies_outside_the_image_is_marked_and_not_black() -> None:
    plan, volume, mask = with_many_words()
    figure = make_figure(plan, volume, mask, WINDOWS["bone"])
    for axes in figure.axes:
        image = axes.images[0]
        assert np.ma.is_masked(image.get_array())
        assert mpl.colors.to_hex(tuple(image.cmap.get_bad())) == slices._OUTSIDE.lower()
        assert any("outside the image" in t for t in texts(axes))


def test_the_colours_of_slices_and_scene_are_the_same(figure: Figure) -> None:
    _, axes = panel(figure, "axial")
    drawn = {mpl.colors.to_hex(p.get_edgecolor()).upper() for p in axes.patches if isinstance(p, Circle)}
    assert {level.colour for level in palette.isodose_levels(factory.example()[0])} <= drawn


def test_a_grid_of_one_slice_is_still_drawn() -> None:
    grid = factory.example_grid()
    thin = ImageGrid(
        size_voxels=(101, 101, 1),
        spacing_mm=grid.spacing_mm,
        origin_lps_mm=grid.origin_lps_mm + np.array([0.0, 0.0, 51.0]),
        direction=grid.direction,
    )
    volume = Volume(values=np.zeros(thin.shape, dtype=np.int16), grid=thin, hu_calibrated=True)
    assert draw_slices(factory.example()[0], volume, np.zeros(thin.shape, dtype=np.uint8))[:4] == b"\x89PNG"
