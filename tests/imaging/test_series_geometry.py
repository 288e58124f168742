"""A point of the patient is found where the slices put it, whatever the files are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import RTStructureSetStorage

from iort_planner.errors import ImageError
from iort_planner.imaging.series import load_series

from .dicom_factory import ORIENTATIONS, ROOT, Edit, Scan, slice_dataset, write_scan

# Every coordinate claim below holds to this; half of what the smallest step of a stored position would do.
TOLERANCE_MM = 0.01
TAG_CHANGES = 0.004  # mm per stored unit in the coordinate images: +-131 mm in 16 bits


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_marked_voxel_lies_at_its_patient_point(tmp_path: Path, orientation: str) -> None:
    scan = write_scan(tmp_path, Scan(axes=ORIENTATIONS[orientation]))
    volume = load_series(tmp_path).volume
    k, j, i = np.unravel_index(int(np.argmax(volume.values)), volume.values.shape)
    assert volume.values[k, j, i] == 2500
    assert volume.grid.index_to_lps([i, j, k]) == pytest.approx(scan.point(5, 3, 2), abs=TOLERANCE_MM)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_image_of_a_coordinate_reads_back_that_coordinate(tmp_path: Path, orientation: str, axis: int) -> None:
    """Voxels hold their own x, y or z: sampling anywhere must return it. No swap, flip or shift survives this."""
    scan = Scan(axes=ORIENTATIONS[orientation], origin_mm=(-12.5, 31.25, -40.75))
    size_i, size_j, size_k = scan.size
    field = np.array(
        [[[scan.point(i, j, k)[axis] for i in range(size_i)] for j in range(size_j)] for k in range(size_k)]
    )
    scan = Scan(
        axes=scan.axes, origin_mm=scan.origin_mm, values=field, slope=TAG_CHANGES, intercept=-32768 * TAG_CHANGES
    )
    write_scan(tmp_path, scan)
    volume = load_series(tmp_path).volume
    index = np.random.default_rng(7).uniform(0, np.array(scan.size) - 1, size=(200, 3))
    points = np.array([scan.point(*row) for row in index])
    assert volume.sample(points) == pytest.approx(points[:, axis], abs=TOLERANCE_MM)


def test_grid_is_right_handed_and_has_the_three_spacings_in_order(tmp_path: Path) -> None:
    for name, axes in ORIENTATIONS.items():
        scan = write_scan(tmp_path / name, Scan(axes=axes))
        grid = load_series(tmp_path / name).volume.grid
        assert grid.size_voxels == scan.size
        assert grid.spacing_mm == pytest.approx(scan.spacing_mm, abs=1e-6)
        assert np.linalg.det(grid.direction) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_names_and_numbers_of_files_do_not_count(tmp_path: Path, seed: int) -> None:
    straight = write_scan(tmp_path / "straight")
    shuffle = np.random.default_rng(seed).permutation(straight.size[2]).tolist()
    write_scan(tmp_path / "shuffled", name=lambda k: f"{shuffle[k]:02d}", order=lambda k: 100 - shuffle[k])
    one, other = load_series(tmp_path / "straight").volume, load_series(tmp_path / "shuffled").volume
    assert one.sha256() == other.sha256()
    assert one.grid.same_as(other.grid, 1e-9)


def test_slices_stored_from_head_to_feet_still_ascend_along_their_normal(tmp_path: Path) -> None:
    scan = Scan()
    write_scan(tmp_path, scan, name=lambda k: f"{scan.size[2] - k:02d}")
    grid = load_series(tmp_path).volume.grid
    assert grid.origin_lps_mm == pytest.approx(scan.point(0, 0, 0), abs=TOLERANCE_MM)
    assert grid.direction[:, 2] == pytest.approx([0, 0, 1])


@pytest.mark.parametrize("folder", ["with space", "Grüße", "扫描", "a/b/c", "percent %s {x}"])
def test_folders_and_files_with_any_name(tmp_path: Path, folder: str) -> None:
    scan = write_scan(tmp_path / folder, name=lambda k: f"Schicht ä {k} 片")
    assert load_series(tmp_path).volume.grid.size_voxels == scan.size


def test_positions_with_two_decimals_are_accepted(tmp_path: Path) -> None:
    """Scanners round positions; the grid stays within the rounding."""

    def rounded(k: int, data: FileDataset) -> None:
        data.ImagePositionPatient = [f"{v:.2f}" for v in scan.point(0, 0, k)]

    scan = Scan(spacing_mm=(0.5, 0.8, 0.625), size=(8, 9, 40))
    write_scan(tmp_path, scan, rounded)
    grid = load_series(tmp_path).volume.grid
    for k in range(scan.size[2]):
        assert grid.index_to_lps([0, 0, k]) == pytest.approx(scan.point(0, 0, k), abs=TOLERANCE_MM)


def test_other_series_structures_and_stray_files_lie_in_the_same_folder(tmp_path: Path) -> None:
    scan = write_scan(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    structures = slice_dataset(scan, 0)
    structures.file_meta.MediaStorageSOPClassUID = structures.SOPClassUID = RTStructureSetStorage
    structures.Modality, structures.SeriesInstanceUID = "RTSTRUCT", f"{ROOT}.50"
    for keyword in ("Rows", "Columns", "PixelData", "ImagePositionPatient"):
        del structures[keyword]
    structures.save_as(tmp_path / "rtstruct.dcm", enforce_file_format=True)

    def overview(k: int, data: FileDataset) -> None:
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    write_scan(tmp_path, Scan(size=(20, 30, 1), series_uid=f"{ROOT}.60"), overview, name=lambda k: "scout.dcm")
    image = load_series(tmp_path)
    assert image.series_uid == scan.series_uid
    assert image.volume.grid.size_voxels == scan.size


def test_a_localizer_in_the_series_itself_is_left_out_with_a_warning(tmp_path: Path) -> None:
    scan = write_scan(tmp_path)
    overview = slice_dataset(scan, 3)
    overview.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    overview.ImageOrientationPatient = ["1", "0", "0", "0", "0", "-1"]
    overview.save_as(tmp_path / "scout.dcm", enforce_file_format=True)
    image = load_series(tmp_path)
    assert image.volume.grid.size_voxels == scan.size
    assert [p.id for p in image.problems] == ["localizer-ignored"]


def test_what_the_plan_records_is_there_and_the_name_is_not(tmp_path: Path) -> None:
    write_scan(tmp_path)
    image = load_series(tmp_path)
    assert (image.patient.id, image.patient.birth_date, image.patient.sex) == ("ID7", "1950-01-31", "F")
    assert (image.kind, image.modality, image.patient_position) == ("ct", "CT", "HFS")
    assert image.acquired_at == "2026-01-02T03:04:05"
    assert image.volume.frame_of_reference_uid == f"{ROOT}.9"
    assert image.path == str(tmp_path)
    assert image.volume.hu_calibrated
    assert image.problems == ()
    assert "Secret" not in repr(image)


def test_progress_counts_every_slice(tmp_path: Path) -> None:
    scan = write_scan(tmp_path)
    seen: list[tuple[int, int]] = []
    load_series(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k + 1, scan.size[2]) for k in range(scan.size[2])]


def test_one_of_several_series_is_chosen_by_its_uid(tmp_path: Path) -> None:
    write_scan(tmp_path / "a", Scan(series_uid=f"{ROOT}.11"))
    write_scan(tmp_path / "b", Scan(series_uid=f"{ROOT}.12", spacing_mm=(0.6, 0.7, 0.9)))
    assert load_series(tmp_path, f"{ROOT}.12").volume.grid.spacing_mm == pytest.approx([0.6, 0.7, 0.9])


def test_the_only_plannable_series_needs_no_name(tmp_path: Path) -> None:
    write_scan(tmp_path / "thick", Scan(series_uid=f"{ROOT}.11", spacing_mm=(0.5, 0.8, 5.0)))
    write_scan(tmp_path / "thin", Scan(series_uid=f"{ROOT}.12"))
    assert load_series(tmp_path).series_uid == f"{ROOT}.12"


def test_a_coarse_series_alone_is_loaded_and_says_so(tmp_path: Path) -> None:
    write_scan(tmp_path, Scan(spacing_mm=(0.5, 0.8, 5.0)))
    image = load_series(tmp_path)
    assert [(p.id, p.status) for p in image.problems] == [("scan-coarse", "fail")]


def _no_uid(k: int, data: FileDataset) -> None:
    data.SeriesInstanceUID = ""
    data.SOPClassUID = ""


def test_empty_uids_as_some_exports_leave_them(tmp_path: Path) -> None:
    edit: Edit = _no_uid
    scan = write_scan(tmp_path, edit=edit)
    image = load_series(tmp_path)
    assert image.volume.grid.size_voxels == scan.size
    assert [p.id for p in image.problems] == ["series-uid-missing"]


def test_one_picture_given_twice_is_remarked(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    scan = Scan(values=np.clip(rng.normal(40, 60, (8, 11, 13)), -1000, 1000).round())
    pixels = {}

    def edit(k: int, data: FileDataset) -> None:
        pixels[k] = data.PixelData
        if k == 5:
            data.PixelData = pixels[4]

    write_scan(tmp_path, scan, edit)
    found = {p.id: p.message for p in load_series(tmp_path).problems}
    assert "s004.dcm and s005.dcm show the very same picture" in found["same-picture"]


def test_a_step_of_all_values_where_the_rescale_changes_is_refused(tmp_path: Path) -> None:
    def edit(k: int, data: FileDataset) -> None:
        if k == 5:
            data.RescaleIntercept = "-524"

    write_scan(tmp_path, edit=edit)
    with pytest.raises(
        ImageError, match=r"from s004\.dcm to s005\.dcm the rescale changes and all values jump by 500 HU"
    ):
        load_series(tmp_path)
