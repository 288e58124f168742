"""Small DICOM CT series with known geometry, written with pydicom and with formulas of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat
from scipy.spatial.transform import Rotation

CT = "1.2.840.10008.5.1.4.1.1.2"
ROOT = "1.2.826.0.1.3680043.8.498.7"
Edit = Callable[[int, FileDataset], None]
Array = npt.NDArray[np.float64]

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
PRONE = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
FLIPPED = ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))  # normal points to the feet
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
_TURN = Rotation.from_euler("xyz", [17.0, -31.0, 48.0], degrees=True).as_matrix()
OBLIQUE = (tuple(_TURN[:, 0]), tuple(_TURN[:, 1]))
ORIENTATIONS = {"axial": AXIAL, "prone": PRONE, "flipped": FLIPPED, "sagittal": SAGITTAL, "oblique": OBLIQUE}


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Geometry of a made series; all three spacings and sizes differ so that no swap goes unseen."""

    size: tuple[int, int, int] = (13, 11, 8)
    spacing_mm: tuple[float, float, float] = (0.5, 0.8, 1.1)
    origin_mm: tuple[float, float, float] = (-12.5, 31.25, -140.75)
    axes: tuple[tuple[float, ...], tuple[float, ...]] = AXIAL
    series_uid: str = f"{ROOT}.1"
    frame_uid: str = f"{ROOT}.9"
    slope: float = 1.0
    intercept: float = -1024.0
    values: npt.NDArray[np.float64] | None = field(default=None)

    @property
    def normal(self) -> Array:
        return np.cross(self.axes[0], self.axes[1])

    def point(self, i: float, j: float, k: float) -> Array:
        """DICOM PS3.3 C.7.6.2.1.1, written out: the oracle for every coordinate."""
        row, column = np.array(self.axes[0]), np.array(self.axes[1])
        si, sj, sk = self.spacing_mm
        return np.array(self.origin_mm) + row * (si * i) + column * (sj * j) + self.normal * (sk * k)

    def hu(self) -> Array:
        """Air round an off-centre block of tissue with one bright voxel: nothing symmetric."""
        if self.values is not None:
            return self.values
        i, j, k = self.size
        hu = np.full((k, j, i), -1000.0)
        hu[1:, 2:-1, 1 : i - 4] = 40.0
        hu[min(2, k - 1), 3, 5] = 2500.0
        return hu


def ds(value: float) -> DSfloat:
    return DSfloat(value, auto_format=True)


def write_scan(
    folder: Path,
    scan: Scan | None = None,
    edit: Edit | None = None,
    *,
    name: Callable[[int], str] = lambda k: f"s{k:03d}.dcm",
    order: Callable[[int], int] = lambda k: k,
) -> Scan:
    """Write one file a slice; ``edit`` changes the data set of slice k before it is written."""
    scan = scan or Scan()
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(scan.size[2]):
        data = slice_dataset(scan, k, instance=order(k))
        if edit is not None:
            edit(k, data)
        data.save_as(folder / name(k), enforce_file_format=True)
    return scan


def slice_dataset(scan: Scan, k: int, instance: int = 0) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(CT)
    meta.MediaStorageSOPInstanceUID = UID(f"{scan.series_uid}.{k + 1}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CT, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID, data.StudyInstanceUID = scan.series_uid, f"{ROOT}.2"
    data.FrameOfReferenceUID = scan.frame_uid
    data.Modality, data.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = "Secret^Name", "ID7", "19500131", "F"
    data.PatientPosition, data.SeriesDescription = "HFS", "made for tests"
    data.AcquisitionDate, data.AcquisitionTime = "20260102", "030405"
    data.ImagePositionPatient = [ds(v) for v in scan.point(0, 0, k)]
    data.ImageOrientationPatient = [ds(v) for axis in scan.axes for v in axis]
    data.PixelSpacing = [ds(scan.spacing_mm[1]), ds(scan.spacing_mm[0])]  # between rows first
    data.SliceThickness, data.SpacingBetweenSlices = "7", "9"  # wrong on purpose: nobody may read them
    data.InstanceNumber, data.SliceLocation = str(instance), ds(-1000.0 - 3 * k)
    data.Rows, data.Columns = scan.size[1], scan.size[0]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.RescaleSlope, data.RescaleIntercept, data.RescaleType = ds(scan.slope), ds(scan.intercept), "HU"
    store(data, np.rint((scan.hu()[k] - scan.intercept) / scan.slope))
    return data


def store(data: FileDataset, stored: npt.NDArray[np.float64], *, bits: int = 16, signed: bool = False) -> None:
    """Set the pixels of one slice to whole numbers, little endian."""
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, bits, bits - 1, int(signed)
    data.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
    data["PixelData"].VR = "OW"
