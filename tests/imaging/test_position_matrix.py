"""The same physical points are found in every patient position, kind of object and tilt, within 0.01 mm.

The phantom has no symmetry and three different spacings: a swapped, mirrored or shifted axis moves a marker by more
than a millimetre. Truth is `Scan.point`, which writes out DICOM PS3.3 C.7.6.2.1.1.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import FileDataset
from scipy.spatial.transform import Rotation

from iort_planner.imaging.series import ScanImage, load_series
from iort_planner.imaging.survey import inspect_path
from tests.imaging.dicom_factory import Scan, write_scan
from tests.imaging.multiframe_factory import Frames, Kind, write_frames

Array = npt.NDArray[np.float64]
TOLERANCE_MM = 0.01  # issue 3

# Where the scanner's own axes point in the patient (LPS): x to the right of someone who stands at the table's foot and
# looks into the gantry, y to the floor. Rows run along x, columns along y. DICOM PS3.3 C.7.3.1.1.2.
TABLE_AXES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "HFS": ((1, 0, 0), (0, 1, 0)),
    "HFP": ((-1, 0, 0), (0, -1, 0)),
    "HFDR": ((0, 1, 0), (-1, 0, 0)),  # right side down
    "HFDL": ((0, -1, 0), (1, 0, 0)),
    "FFS": ((-1, 0, 0), (0, 1, 0)),
    "FFP": ((1, 0, 0), (0, -1, 0)),
    "FFDR": ((0, -1, 0), (-1, 0, 0)),
    "FFDL": ((0, 1, 0), (1, 0, 0)),
}
# Down is where the patient lies on; head first looks along +z of the patient. The table above must say the same.
DOWN = {"S": (0, 1, 0), "P": (0, -1, 0), "DR": (-1, 0, 0), "DL": (1, 0, 0)}
SHAPES = ("classic", "ct-enhanced", "xa3d")
TILTS = {"axial": (0.0, 0.0, 0.0), "oblique": (14.0, -23.0, 37.0)}  # of the image against the table, degrees

SIZE = (40, 30, 26)
SPACING_MM = (0.5, 0.8, 1.1)
# Centres of the markers as fractions of an index, and their height in HU over the background of -1000. One lies on a
# voxel's centre. No two share a coordinate.
MARKERS = (((12.3, 9.7, 16.45), 3000.0), ((27.85, 11.25, 8.6), 2200.0), ((19.0, 20.0, 12.0), 1500.0))
SIGMA_MM = 0.8  # 0.7 of the largest spacing: sampled at that, a Gaussian's centroid is exact to 1e-3 voxel
REACH_MM = 3.6


def phantom(scan: Scan) -> Array:
    """Values by physical distance to the markers; nothing here knows how the file will order its slices."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in reversed(scan.size)), indexing="ij")
    si, sj, sk = scan.spacing_mm
    row, column = np.array(scan.axes[0]), np.array(scan.axes[1])
    places = np.array(scan.origin_mm) + np.stack([i * si, j * sj, k * sk], axis=-1) @ np.array(
        [row, column, scan.normal]
    )
    values = np.full(i.shape, -1000.0)
    for index, height in MARKERS:
        squared = np.sum((places - scan.point(*index)) ** 2, axis=-1)
        values += height * np.exp(-squared / (2 * SIGMA_MM**2))
    values[:, :3, 5:] += 1040.0  # a slab of muscle on one side: HU's content, and nothing symmetric
    return values


def find_markers(image: ScanImage, scan: Scan) -> list[tuple[float, Array]]:
    """Brightest first: height over background and centroid in LPS, by the loaded values and grid alone."""
    grid = image.volume.grid
    left = image.volume.values.astype(np.float64) + 1000.0
    places = grid.voxel_centres_lps_mm()
    left[(places - np.array(scan.origin_mm)) @ np.array(scan.axes[1]) < 2.5 * scan.spacing_mm[1]] = 0.0  # the slab
    found = []
    for _ in MARKERS:
        peak = np.unravel_index(int(np.argmax(left)), left.shape)
        near = np.linalg.norm(places - places[peak], axis=-1) <= REACH_MM
        centre = np.zeros(3)
        for _ in range(8):  # the ball must lie round the centroid itself, or its cut edges pull
            weights = np.where(near, left, 0.0)
            centre = np.einsum("kji,kjix->x", weights, places) / weights.sum()
            near = np.linalg.norm(places - centre, axis=-1) <= REACH_MM
        found.append((float(left[peak]), centre))
        left[np.linalg.norm(places - centre, axis=-1) <= REACH_MM + 1] = 0.0
    return found


def make_scan(position: str, tilt: str, size: tuple[int, int, int] = SIZE) -> Scan:
    row, column = (np.array(axis, dtype=np.float64) for axis in TABLE_AXES[position])
    table = np.column_stack([row, column, np.cross(row, column)])
    turned = table @ Rotation.from_euler("xyz", TILTS[tilt], degrees=True).as_matrix()
    scan = Scan(
        size=size,
        spacing_mm=SPACING_MM,
        origin_mm=(-71.375, 48.5, -912.25),
        axes=(tuple(turned[:, 0]), tuple(turned[:, 1])),
    )
    return Scan(size=size, spacing_mm=SPACING_MM, origin_mm=scan.origin_mm, axes=scan.axes, values=phantom(scan))


def write(folder: Path, scan: Scan, shape: str, position: str, *, backwards: bool) -> None:
    """Files or frames run along the normal or against it: from head to feet as often as the other way."""
    count = scan.size[2]
    order = [count - 1 - k if backwards else k for k in range(count)]
    if shape == "classic":

        def label(k: int, data: FileDataset) -> None:
            data.PatientPosition = position

        write_scan(folder, scan, label, name=lambda k: f"i{order[k]:03d}.dcm", order=lambda k: order[k])
        return
    kinds: dict[str, Kind] = {"ct-enhanced": "ct-enhanced", "xa3d": "xa3d"}
    how = Frames(
        kind=kinds[shape],
        order=order,
        position_name=position,
        patient_position="code" if shape == "xa3d" else "tag",
        orientation="frame" if backwards else "shared",
        rescale_type="US" if shape == "xa3d" else "HU",
    )
    write_frames(folder / "image.dcm", scan, how)


def test_table_axes_follow_from_the_position_names() -> None:
    for position, (row, column) in TABLE_AXES.items():
        assert column == DOWN[position[2:]]
        assert np.cross(row, column)[2] == (1 if position.startswith("HF") else -1)


@pytest.mark.parametrize("tilt", TILTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("position", TABLE_AXES)
def test_markers_lie_where_they_are_in_the_patient(tmp_path: Path, position: str, shape: str, tilt: str) -> None:
    for backwards in (False, True):
        folder = tmp_path / f"{position} {backwards}"
        scan = make_scan(position, tilt)
        write(folder, scan, shape, position, backwards=backwards)
        image = load_series(folder)

        found = find_markers(image, scan)
        truth = [(height, scan.point(*index)) for index, height in MARKERS]
        for (seen, at), (height, centre) in zip(found, truth, strict=True):
            assert np.linalg.norm(at - centre) <= TOLERANCE_MM, (position, shape, tilt, backwards, at - centre)
            assert 0.6 * height <= seen <= height + 1
        # Handedness: the three markers seen from the image's centre turn the same way as in the patient.
        middle = scan.point(*(0.5 * (n - 1) for n in SIZE))
        turn = np.linalg.det(np.array([at - middle for _, at in found]))
        assert np.sign(turn) == np.sign(np.linalg.det(np.array([centre - middle for _, centre in truth])))
        # sample() and the inverse take the same way: the marker on a voxel's centre has its full height.
        assert image.volume.sample(truth[2][1]) == pytest.approx(-1000 + truth[2][0], abs=1.5)
        corner = scan.point(SIZE[0] - 1, 0, SIZE[2] - 1)
        assert (
            np.linalg.norm(image.volume.grid.lps_to_index(corner) - np.round(image.volume.grid.lps_to_index(corner)))
            < 1e-3
        )
        assert image.volume.sample(corner) == pytest.approx(
            scan.values[-1, 0, -1] if scan.values is not None else 0, abs=1
        )

        assert image.patient_position == position
        assert image.kind == {"classic": "ct"}.get(shape, shape)
        assert image.volume.hu_calibrated == (shape != "xa3d")
        assert sorted(image.volume.grid.spacing_mm) == pytest.approx(sorted(SPACING_MM), abs=1e-6)


@pytest.mark.parametrize(("label", "lies"), list(itertools.product(TABLE_AXES, ("HFS", "HFP", "FFDL"))))
def test_no_position_conflicts_with_an_orthonormal_orientation(tmp_path: Path, label: str, lies: str) -> None:
    """The label says how the patient lay, the orientation how the image was built: every pair occurs (FFS with 1,0,0,0,1,0)."""
    size = (16, 14, 4)
    row, column = TABLE_AXES[lies]
    scan = Scan(size=size, axes=(row, column))
    write(tmp_path, scan, "classic", label, backwards=False)
    image = load_series(tmp_path)
    (report,) = inspect_path(tmp_path)
    assert image.patient_position == report.patient_position == label
    assert report.plannable
    assert all(p.status != "fail" for p in image.problems)
    assert not [p for p in report.problems if p.id == "patient-position-unknown"]
    for index in ((0, 0, 0), (15, 0, 0), (0, 13, 0), (0, 0, 3)):
        assert image.volume.grid.index_to_lps(index) == pytest.approx(scan.point(*index), abs=1e-6)
