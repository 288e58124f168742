"""The planned vertebra told apart: phantoms with labels, a labelled real L3, stored in any way, cut, uncalibrated, refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from iort_planner.errors import LevelError
from iort_planner.geometry.canal import SpinalCanal, canal_from_points, is_closed, segment_canal
from iort_planner.geometry.canal_surface import signed_volume_mm3, tube_mesh
from iort_planner.geometry.needle import Confidence, Needle, manual_needle
from iort_planner.geometry.vertebra import BONE, HIDDEN, Vertebra, segment_vertebra
from iort_planner.imaging.volume import ImageGrid, Volume
from iort_planner.phantom import Phantom, build, find_spec, read_spec
from iort_planner.phantom.tissues import Label
from iort_planner.units import FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    phantom: Phantom
    needle: Needle
    canal: SpinalCanal
    vertebra: Vertebra


def exact_canal(phantom: Phantom, half_length_mm: float = 34.0) -> SpinalCanal:
    """The phantom's own canal as a tube, so that nothing here depends on the automatic one."""
    spec, frame = phantom.spec, phantom.canal.frame
    turns = np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)
    heights = np.arange(-half_length_mm, half_length_mm + 0.1, 2.0)
    a, b, n = spec.canal.width_mm / 2.0, spec.canal.depth_mm / 2.0, spec.canal.exponent
    across = np.stack(
        [
            a * np.sign(np.cos(turns)) * np.abs(np.cos(turns)) ** (2.0 / n),
            b * np.sign(np.sin(turns)) * np.abs(np.sin(turns)) ** (2.0 / n),
        ],
        axis=-1,
    )
    rings = np.array([[frame.to_lps(np.array([u, v, h])) for u, v in across] for h in heights])
    vertices, faces = tube_mesh(rings, np.array([frame.to_lps(np.array([0.0, 0.0, h])) for h in heights[[0, -1]]]))
    return SpinalCanal(
        vertices_lps_mm=vertices,
        faces=faces,
        on_bone=np.ones(vertices.shape[0], dtype=np.bool_),
        method="auto",
        confidence=Confidence.HIGH,
        uncertainty_mm=0.1,
    )


def case_of(name: str, seed: int) -> Case:
    phantom = build(read_spec(find_spec(name)), seed=seed)
    truth = phantom.truth
    needle = manual_needle(phantom.volume, phantom.spec.applicator, truth.tip_lps_mm, truth.axis_lps)
    canal = exact_canal(phantom)
    vertebra = segment_vertebra(phantom.volume, needle.source_lps_mm, canal, needle)
    return Case(phantom=phantom, needle=needle, canal=canal, vertebra=vertebra)


@pytest.fixture(scope="module", params=["small", "oblique"])
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(request.param, 3)


@pytest.fixture(scope="module")
def small() -> Case:
    return case_of("small", 4)


def on_grid(vertebra: Vertebra, volume: Volume, labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Labels of the voxels of the vertebra's own grid; 255 outside the image."""
    index = np.rint(volume.grid.lps_to_index(vertebra.grid.voxel_centres_lps_mm())).astype(int)
    inside = np.all((index >= 0) & (index < np.array(volume.grid.size_voxels)), axis=-1)
    index[~inside] = 0
    result: npt.NDArray[np.uint8] = np.where(inside, labels[index[..., 2], index[..., 1], index[..., 0]], 255)
    return result


def dice(found: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    return 2.0 * float(np.count_nonzero(found & true)) / float(np.count_nonzero(found) + np.count_nonzero(true))


def border_distances_mm(found: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> FloatArray:
    """Distances between the borders of two masks of 1 mm voxels, both ways."""
    trees = [cKDTree(np.argwhere(mask & ~ndimage.binary_erosion(mask))) for mask in (found, true)]
    result: FloatArray = np.concatenate([trees[0].query(trees[1].data)[0], trees[1].query(trees[0].data)[0]])
    return result


def test_the_phantoms_vertebra_is_found_and_nothing_else(case: Case) -> None:
    labels = on_grid(case.vertebra, case.phantom.volume, case.phantom.labels)
    judged = ~np.isin(labels, (Label.STEEL, Label.PLASTIC))  # there the labels name the needle, not the bone
    found, true = (case.vertebra.mask > 0) & judged, labels == Label.TARGET_VERTEBRA

    assert dice(found, true) >= 0.9
    assert np.percentile(border_distances_mm(found, true), 95) <= 2.0
    shares = {label: float(np.mean(labels[found] == label)) for label in Label}
    assert shares[Label.RIB] < 0.01
    assert shares[Label.OTHER_VERTEBRA] < 0.03
    assert shares[Label.DISC] < 0.05
    assert shares[Label.CANAL] < 0.01


def test_the_surface_is_closed_faces_outwards_and_holds_the_masks_volume(case: Case) -> None:
    vertebra = case.vertebra
    assert is_closed(vertebra.faces, vertebra.vertices_lps_mm.shape[0])
    cubic_mm = signed_volume_mm3(vertebra.vertices_lps_mm, vertebra.faces)
    assert cubic_mm == pytest.approx(np.count_nonzero(vertebra.mask) * 1.0, rel=0.05)


def test_the_needles_place_is_marked_and_clear_bone_holds_no_metal(case: Case) -> None:
    vertebra, volume = case.vertebra, case.phantom.volume
    points = vertebra.grid.voxel_centres_lps_mm()
    assert float(volume.sample(points[vertebra.mask == BONE]).max()) < 2001.0
    at = np.rint(vertebra.grid.lps_to_index(case.needle.source_lps_mm)).astype(int)
    assert vertebra.mask[tuple(at[::-1])] == HIDDEN


def test_without_hu_it_is_found_by_relative_grey_values_and_says_so(small: Case) -> None:
    volume = small.phantom.volume
    grey = Volume(values=(0.37 * volume.values + 900.0).astype(np.float32), grid=volume.grid, hu_calibrated=False)
    vertebra = segment_vertebra(grey, small.needle.source_lps_mm, small.canal, small.needle)
    assert dice(vertebra.mask > 0, small.vertebra.mask > 0) > 0.9
    assert any("not HU" in reason for reason in vertebra.reasons)
    assert small.vertebra.reasons == ()


def test_it_is_the_same_however_the_image_is_stored(small: Case) -> None:
    volume, grid = small.phantom.volume, small.phantom.volume.grid
    # index axes (k, i, j) instead of (i, j, k), the second one the other way round: a left-handed grid
    i, j, k = grid.size_voxels
    values = np.flip(np.transpose(volume.values, (1, 2, 0)), axis=1)
    stored = ImageGrid(
        size_voxels=(k, i, j),
        spacing_mm=grid.spacing_mm[[2, 0, 1]],
        origin_lps_mm=grid.index_to_lps([i - 1.0, 0.0, 0.0]),
        direction=grid.direction[:, [2, 0, 1]] * np.array([1.0, -1.0, 1.0]),
    )
    other = Volume(values=np.ascontiguousarray(values), grid=stored, hu_calibrated=True)
    vertebra = segment_vertebra(other, small.needle.source_lps_mm, small.canal, small.needle)
    np.testing.assert_array_equal(vertebra.mask, small.vertebra.mask)


def test_an_image_that_ends_within_the_level_gives_a_cut_vertebra_with_its_reason(small: Case) -> None:
    volume = small.phantom.volume
    index = volume.grid.lps_to_index(small.needle.source_lps_mm)
    first = int(index[2] - 6.0 / volume.grid.spacing_mm[2])
    i, j, k = volume.grid.size_voxels
    cut = volume.crop((0, 0, first), (i, j, k))
    vertebra = segment_vertebra(cut, small.needle.source_lps_mm, small.canal, small.needle)
    assert vertebra.reasons == ("the image ends within the planned level",)
    kept = cut.grid.contains(vertebra.grid.voxel_centres_lps_mm())
    assert not np.any(vertebra.mask[~kept])
    assert dice(vertebra.mask > 0, (small.vertebra.mask > 0) & kept) > 0.9


def test_a_source_in_a_disc_or_in_soft_tissue_or_the_canal_is_refused(small: Case) -> None:
    frame, volume = small.phantom.canal.frame, small.phantom.volume
    vertebra = small.phantom.spec.vertebra
    disc = 0.5 * (vertebra.body_height_mm + vertebra.disc_height_mm)
    for place in ((0.0, -24.0, disc), (38.0, -30.0, 0.0), (0.0, 0.0, 0.0)):
        with pytest.raises(LevelError, match="not told apart"):
            segment_vertebra(volume, frame.to_lps(np.array(place)), small.canal, None)


def test_canal_points_have_no_direction_and_are_refused(small: Case) -> None:
    points = canal_from_points(small.canal.vertices_lps_mm[:5])
    with pytest.raises(LevelError, match="canal with a surface"):
        segment_vertebra(small.phantom.volume, small.needle.source_lps_mm, points, small.needle)


def test_an_image_without_bone_is_refused(small: Case) -> None:
    values = np.random.default_rng(2).normal(40.0, 20.0, small.phantom.volume.values.shape)
    for calibrated in (True, False):
        soft = replace(small.phantom.volume, values=values.astype(np.float32), hu_calibrated=calibrated)
        with pytest.raises(LevelError, match="not told apart"):
            segment_vertebra(soft, small.needle.source_lps_mm, small.canal, None)


@pytest.mark.shared
def test_a_labelled_real_l3_is_found(shared_data: Path) -> None:
    import SimpleITK

    arrays = []
    for kind in ("ct", "seg-vert_label-22_msk", "seg-subreg_label-22_msk"):
        name = "sub-ct_label-22_ct.nii.gz" if kind == "ct" else f"sub-ct_{kind}.nii.gz"
        image = SimpleITK.ReadImage(str(shared_data / "tptbox_l3_1p5mm" / name))
        arrays.append(SimpleITK.GetArrayFromImage(image))
    grid = ImageGrid(
        size_voxels=image.GetSize(),
        spacing_mm=np.array(image.GetSpacing()),
        origin_lps_mm=np.array(image.GetOrigin()),
        direction=np.array(image.GetDirection()).reshape(3, 3),
    )
    volume = Volume(values=arrays[0].astype(np.int16), grid=grid, hu_calibrated=True)
    true = arrays[1] == 22
    body = true & np.isin(arrays[2], (49, 50))
    source = grid.index_to_lps(np.argwhere(body)[:, ::-1]).mean(axis=0)
    canal = segment_canal(volume, source, np.array([0.3, 0.95, 0.0]) / np.hypot(0.3, 0.95))
    vertebra = segment_vertebra(volume, source, canal, None)
    labels = on_grid(vertebra, volume, true.astype(np.uint8))
    found = vertebra.mask > 0
    assert dice(found, labels == 1) >= 0.8
    distances = border_distances_mm(found, labels == 1)
    assert float(distances.mean()) <= 1.5
    assert np.percentile(distances, 95) <= 5.0  # the joints of the arch; the voxels are 1.5 mm, noisy
