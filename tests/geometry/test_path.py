"""Tissues between source and canal against exact layers and the phantom's own painting; HU round the source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from iort_planner.errors import LevelError
from iort_planner.geometry.needle import Confidence, Needle
from iort_planner.geometry.path import lesion_hu, path_to_canal
from iort_planner.geometry.vertebra import BONE, HIDDEN, Vertebra
from iort_planner.imaging.volume import ImageGrid, Volume
from iort_planner.phantom import PhantomSpec, build, find_spec, read_spec
from iort_planner.phantom.scan import spine_frame
from iort_planner.phantom.tissues import TissuePainter
from iort_planner.units import FloatArray

CORTEX_HU = 1050.0
MIDDLE_LPS_MM = np.array([11.0, -140.0, 77.0])


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Plane layers along a direction: (HU, thickness mm) from the source on; the last one goes on for ever."""

    items: tuple[tuple[float, float], ...]
    direction: tuple[float, float, float] = (0.0, 1.0, 0.0)
    blur_mm: float = 0.65
    spacing_mm: float = 0.7
    noise_hu: float = 0.0

    @property
    def unit(self) -> FloatArray:
        result: FloatArray = np.array(self.direction) / np.linalg.norm(self.direction)
        return result

    def volume(self) -> Volume:
        count = int(44.0 / self.spacing_mm)
        grid = ImageGrid(
            size_voxels=(count, count, count),
            spacing_mm=np.full(3, self.spacing_mm),
            origin_lps_mm=MIDDLE_LPS_MM - 0.5 * (count - 1) * self.spacing_mm,
            direction=np.eye(3),
        )
        depth = (grid.voxel_centres_lps_mm() - MIDDLE_LPS_MM) @ self.unit
        values = np.full(grid.shape, self.items[0][0])
        edge, before = 0.0, self.items[0][0]
        for hu, thickness in self.items:
            values += (hu - before) * ndtr((depth - edge) / self.blur_mm)
            edge, before = edge + thickness, hu
        values += np.random.default_rng(1).normal(0.0, 1.0, values.shape) * self.noise_hu
        return Volume(values=values.astype(np.float32), grid=grid, hu_calibrated=True)

    def end(self, layers: int) -> FloatArray:
        """Where the first ``layers`` of them end."""
        result: FloatArray = MIDDLE_LPS_MM + sum(t for _, t in self.items[:layers]) * self.unit
        return result


def needle_at(source: FloatArray, axis: tuple[float, float, float]) -> Needle:
    unit = np.array(axis) / np.linalg.norm(axis)
    return Needle(
        label="1",
        tip_lps_mm=source - 3.0 * unit,
        axis_lps=unit,
        source_lps_mm=source,
        method="manual",
        confidence=Confidence.HIGH,
        tip_uncertainty_mm=0.3,
    )


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([0.6, 0.8, 1.0, 1.5, 2.5, 4.0]),
    st.sampled_from([0.5, 0.8]),
    st.floats(0.5, 0.8),
    st.sampled_from([(0.0, 1.0, 0.0), (0.3, 0.9, 0.2), (-0.7, 0.7, 0.1)]),
)
def test_thin_cortex_has_its_true_thickness_though_blurred(
    cortex_mm: float, spacing_mm: float, blur_mm: float, direction: tuple[float, float, float]
) -> None:
    layers = Layers(
        items=((50.0, 6.0), (200.0, 5.0), (CORTEX_HU, cortex_mm), (-60.0, 20.0)),
        direction=direction,
        blur_mm=blur_mm,
        spacing_mm=spacing_mm,
    )
    path = path_to_canal(layers.volume(), MIDDLE_LPS_MM, layers.end(3))
    assert [segment.tissue for segment in path.segments] == ["soft", "spongiosa", "cortex"]
    assert path.wall == "cortex"
    for segment, true_mm in zip(path.segments, (6.0, 5.0, cortex_mm), strict=True):
        assert segment.length_mm == pytest.approx(true_mm, abs=0.5)
    assert path.segments[-1].length_mm == pytest.approx(cortex_mm, abs=0.3)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from([-900.0, 40.0, 190.0, 800.0]), min_size=2, max_size=6), st.floats(1.5, 3.5))
def test_lengths_always_add_up_to_the_distance(levels: list[float], thickness_mm: float) -> None:
    layers = Layers(items=tuple((hu, thickness_mm) for hu in levels), noise_hu=30.0)
    end = layers.end(len(levels) - 1)
    path = path_to_canal(layers.volume(), MIDDLE_LPS_MM, end)
    total = sum(segment.length_mm for segment in path.segments)
    assert total == pytest.approx(float(np.linalg.norm(end - MIDDLE_LPS_MM)), abs=1e-9)
    assert all(a.tissue != b.tissue for a, b in zip(path.segments, path.segments[1:], strict=False))


def test_a_wall_that_is_gone_is_lytic_and_one_in_between_is_unknown() -> None:
    gone = Layers(items=((45.0, 12.0), (30.0, 20.0)))
    path = path_to_canal(gone.volume(), MIDDLE_LPS_MM, gone.end(1))
    assert path.wall == "lytic"
    assert [segment.tissue for segment in path.segments] == ["soft"]
    thin = Layers(items=((200.0, 12.0), (30.0, 20.0)))  # spongiosa that ends at the canal: no cortex to be seen
    assert path_to_canal(thin.volume(), MIDDLE_LPS_MM, thin.end(1)).wall == "unknown"


def test_metal_at_the_wall_is_named_and_what_its_blur_hides_is_not_read() -> None:
    layers = Layers(items=((200.0, 8.0), (6000.0, 4.0), (40.0, 20.0)))
    path = path_to_canal(layers.volume(), MIDDLE_LPS_MM, layers.end(2))
    assert path.wall == "metal"
    assert [segment.tissue for segment in path.segments] == ["spongiosa", "hidden", "metal"]
    assert path.length_mm("metal") == pytest.approx(4.0, abs=0.8)
    assert path.length_mm("hidden") <= 2.0


@pytest.mark.parametrize("layers", [((200.0, 10.0), (-700.0, 5.0), (40.0, 20.0))])
def test_air_on_the_way_is_named(layers: tuple[tuple[float, float], ...]) -> None:
    image = Layers(items=layers)
    path = path_to_canal(image.volume(), MIDDLE_LPS_MM, image.end(2))
    assert path.length_mm("air") == pytest.approx(5.0, abs=0.8)


def test_the_first_part_lies_in_the_needle_and_is_no_tissue() -> None:
    layers = Layers(items=((120.0, 2.2), (45.0, 6.0), (CORTEX_HU, 1.0), (30.0, 20.0)))
    path = path_to_canal(layers.volume(), MIDDLE_LPS_MM, layers.end(3), needle_at(MIDDLE_LPS_MM, (1.0, 0.0, 0.0)))
    assert [segment.tissue for segment in path.segments] == ["needle", "soft", "cortex"]
    assert path.segments[0].length_mm == pytest.approx(2.2, abs=0.1)
    assert path.length_mm("soft") == pytest.approx(6.0, abs=0.4)


def test_no_hu_no_length_or_no_image_is_refused() -> None:
    layers = Layers(items=((200.0, 10.0), (40.0, 20.0)))
    volume, end = layers.volume(), layers.end(1)
    grey = Volume(values=volume.values, grid=volume.grid, hu_calibrated=False)
    with pytest.raises(LevelError, match="not HU"):
        path_to_canal(grey, MIDDLE_LPS_MM, end)
    with pytest.raises(LevelError, match="mm long"):
        path_to_canal(volume, MIDDLE_LPS_MM, MIDDLE_LPS_MM)
    with pytest.raises(LevelError, match="leaves the image"):
        path_to_canal(volume, MIDDLE_LPS_MM, MIDDLE_LPS_MM + np.array([0.0, 60.0, 0.0]))


def painted(spec: PhantomSpec, start: FloatArray, end: FloatArray, step_mm: float = 0.02) -> dict[str, float]:
    """The phantom's tissues on a line, read from its anatomy without blur, noise or voxels: mm by name."""
    length = float(np.linalg.norm(end - start))
    at = np.arange(0.5 * step_mm, length, step_mm)
    u, v, s = spine_frame(spec).to_spine(start + at[:, None] * (end - start) / length).T
    hu, _ = TissuePainter(spec, 1e-3).paint(u, v, s, np.full(at.size, 100.0))
    names = np.where(hu > 600.0, "cortex", np.where(hu > 120.0, "spongiosa", "soft"))
    return {name: float(np.mean(names == name)) * length for name in ("soft", "spongiosa", "cortex")}


def test_path_lengths_agree_with_the_phantoms_own_painting() -> None:
    spec = read_spec(find_spec("small"))
    phantom = build(spec, seed=2)
    frame, rng = spine_frame(spec), np.random.default_rng(5)
    side = -np.sign(float(frame.to_spine(phantom.truth.source_lps_mm)[0]))  # clear of the needle and most streaks
    errors = []
    for _ in range(25):
        start = frame.to_lps(
            np.array([side * rng.uniform(2.0, 13.0), rng.uniform(-30.0, -17.0), rng.uniform(-6.0, 6.0)])
        )
        end = phantom.canal.nearest_point_lps_mm(start)
        true, path = painted(spec, start, end), path_to_canal(phantom.volume, start, end)
        errors += [abs(path.length_mm(name) - true[name]) for name in true]
        assert path.wall == "cortex"
        assert path.length_mm("cortex") == pytest.approx(true["cortex"], abs=0.5)
    assert np.median(errors) <= 0.3
    # noise of 20 HU and voxels of 1.4 mm move the lesion's uneven, faint border further now and then
    assert np.percentile(errors, 80) <= 0.6


def ball_case(noise_hu: float = 0.0) -> tuple[Volume, Vertebra, Needle]:
    """A vertebra of spongiosa with a lesion of 12 mm round the source, and a needle of plastic and steel in it."""
    count = 61
    grid = ImageGrid(
        size_voxels=(count, count, count),
        spacing_mm=np.ones(3),
        origin_lps_mm=MIDDLE_LPS_MM - 30.0,
        direction=np.eye(3),
    )
    points = grid.voxel_centres_lps_mm() - MIDDLE_LPS_MM
    values = np.where(np.linalg.norm(points, axis=-1) < 12.0, 50.0, 220.0)
    values += np.random.default_rng(3).normal(0.0, 1.0, values.shape) * noise_hu
    needle = needle_at(MIDDLE_LPS_MM, (1.0, 0.0, 0.0))
    along, across = points[..., 0] + 3.0, np.hypot(points[..., 1], points[..., 2])
    rod = (across < 2.2) & (along > 0.0)
    values = np.where(rod, np.where(along > 5.0, 3071.0, 120.0), values)
    mask = np.full(grid.shape, BONE, dtype=np.uint8)
    mask[rod] = HIDDEN
    vertebra = Vertebra(vertices_lps_mm=np.zeros((3, 3)), faces=np.array([[0, 1, 2]]), mask=mask, grid=grid, reasons=())
    return Volume(values=values.astype(np.int16), grid=grid, hu_calibrated=True), vertebra, needle


def test_the_lesions_hu_holds_no_plastic_and_no_steel() -> None:
    volume, vertebra, _ = ball_case(noise_hu=15.0)
    lesion = lesion_hu(volume, MIDDLE_LPS_MM, vertebra)
    assert lesion.mean_hu == pytest.approx(50.0, abs=1.5)
    assert lesion.median_hu == pytest.approx(50.0, abs=1.5)
    assert lesion.sd_hu == pytest.approx(15.0, abs=1.0)
    assert (lesion.percentile_10_hu, lesion.percentile_90_hu) == pytest.approx((30.8, 69.2), abs=2.0)  # 1.28 sigma
    assert lesion.radius_mm == 10.0
    assert 5.0 < lesion.excluded_percent < 40.0


def test_a_streaks_values_and_what_lies_outside_the_vertebra_do_not_count() -> None:
    volume, vertebra, _ = ball_case()
    values = np.array(volume.values)
    values[28, :, :] = -600
    values[33, :, :] = 1900
    mask = np.array(vertebra.mask)
    outside = np.arange(61)[None, :, None] > 34
    values[np.broadcast_to(outside, values.shape)] = 700
    mask[np.broadcast_to(outside, mask.shape)] = 0
    streaked = Volume(values=values, grid=volume.grid, hu_calibrated=True)
    cut = Vertebra(
        vertices_lps_mm=vertebra.vertices_lps_mm, faces=vertebra.faces, mask=mask, grid=vertebra.grid, reasons=()
    )
    assert lesion_hu(streaked, MIDDLE_LPS_MM, cut).mean_hu == pytest.approx(50.0, abs=0.5)


def test_too_little_left_or_no_hu_is_refused() -> None:
    volume, vertebra, _ = ball_case()
    hidden = Vertebra(
        vertices_lps_mm=vertebra.vertices_lps_mm,
        faces=vertebra.faces,
        mask=np.full_like(vertebra.mask, HIDDEN),
        grid=vertebra.grid,
        reasons=(),
    )
    with pytest.raises(LevelError, match="leave"):
        lesion_hu(volume, MIDDLE_LPS_MM, hidden)
    grey = Volume(values=volume.values, grid=volume.grid, hu_calibrated=False)
    with pytest.raises(LevelError, match="not HU"):
        lesion_hu(grey, MIDDLE_LPS_MM, vertebra)
