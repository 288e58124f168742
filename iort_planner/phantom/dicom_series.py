"""A phantom to a folder: a CT Image Storage series as a scanner writes it for a prone patient, and truth.json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from iort_planner import INTENDED_USE, __version__
from iort_planner.errors import OutputError
from iort_planner.phantom.scan import MIN_HU, Phantom, uid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from pathlib import Path

# Identifies the writer of these files; fixed, so that the same phantom gives the same bytes.
_IMPLEMENTATION_UID = generate_uid(entropy_srcs=["iort_planner phantom writer"])
_PATIENT_POSITION = "HFP"  # head first, prone: what the axes of `scan.grid_of` mean to a person at the table


def write_phantom(
    phantom: Phantom,
    folder: Path,
    *,
    acquired_at: datetime,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write ``folder/scan/*.dcm`` and ``folder/truth.json``.

    Parameters
    ----------
    phantom : Phantom
    folder : Path
        Exists and is empty; whoever calls moves it to its place once it is complete.
    acquired_at : datetime
        Date and time of the acquisition, with a time zone where there is one.
    progress : callable, optional
        Called with the number of slices written and their total.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    scan = folder / "scan"
    count = phantom.volume.grid.shape[0]
    common = _common(phantom, acquired_at)
    stored = (phantom.volume.values.astype(np.int32) - int(MIN_HU)).astype("<u2")
    try:
        scan.mkdir()
        for k in range(count):
            _write_slice(phantom, common, stored[k].tobytes(), k, scan / f"slice_{k + 1:04d}.dcm")
            if progress is not None:
                progress(k + 1, count)
        text = json.dumps(phantom.truth.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (folder / "truth.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"phantom: {error.filename or folder} cannot be written ({error.strerror}); give a writable folder"
        ) from error


def _common(phantom: Phantom, acquired_at: datetime) -> Dataset:
    """Attributes that all slices share."""
    spec, seed, grid = phantom.spec, phantom.seed, phantom.volume.grid
    ds = Dataset()
    date, time = acquired_at.strftime("%Y%m%d"), acquired_at.strftime("%H%M%S.%f")
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.InstanceCreationDate, ds.InstanceCreationTime = date, time
    ds.StudyDate, ds.SeriesDate, ds.AcquisitionDate, ds.ContentDate = date, date, date, date
    ds.StudyTime, ds.SeriesTime, ds.AcquisitionTime, ds.ContentTime = time, time, time, time
    if acquired_at.tzinfo is not None:
        ds.TimezoneOffsetFromUTC = acquired_at.strftime("%z")[:5]
    ds.Modality, ds.AccessionNumber = "CT", ""
    ds.Manufacturer, ds.ManufacturerModelName = "iort_planner", "digital phantom"
    ds.SoftwareVersions = __version__
    ds.ReferringPhysicianName = ""
    ds.ImageComments = INTENDED_USE
    ds.StudyDescription = "Digital phantom, not a patient"
    ds.SeriesDescription = f"phantom {spec.name}, seed {seed}"[:64]
    ds.PatientName, ds.PatientID = "PHANTOM^DIGITAL", "PHANTOM"
    ds.PatientBirthDate, ds.PatientSex = "", "O"
    ds.BodyPartExamined = "TSPINE"
    ds.PatientPosition = _PATIENT_POSITION
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid_of(spec, seed, "study"), uid_of(spec, seed, "series")
    ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber = "1", 1, 1
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = phantom.volume.frame_of_reference_uid, ""
    ds.KVP, ds.ConvolutionKernel = 120, "PHANTOM"
    ds.SliceThickness = _decimal(grid.spacing_mm[2])
    ds.ImageOrientationPatient = _decimals([*grid.direction[:, 0], *grid.direction[:, 1]])
    ds.PixelSpacing = _decimals([grid.spacing_mm[1], grid.spacing_mm[0]])  # between rows, then between columns
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Columns, ds.Rows = grid.size_voxels[0], grid.size_voxels[1]
    bits = 12 if spec.scanner.clip_hu - MIN_HU < 4096 else 16
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, bits, bits - 1, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = _decimal(MIN_HU), _decimal(1.0), "HU"
    ds.WindowCenter, ds.WindowWidth = _decimal(300.0), _decimal(1500.0)  # a usual bone window
    return ds


def _write_slice(phantom: Phantom, common: Dataset, pixels: bytes, k: int, path: Path) -> None:
    uid = UID(uid_of(phantom.spec, phantom.seed, f"slice {k}"))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION_UID
    ds = FileDataset(str(path), dict(common.items()), preamble=b"\0" * 128, file_meta=meta)
    grid = phantom.volume.grid
    position = grid.index_to_lps([0.0, 0.0, float(k)])
    ds.SOPInstanceUID, ds.InstanceNumber = uid, k + 1
    ds.ImagePositionPatient = _decimals(position)
    ds.SliceLocation = _decimal(float(position @ grid.direction[:, 2]))
    ds.PixelData = pixels
    ds["PixelData"].VR = "OW"
    ds.save_as(path, enforce_file_format=True)


def _decimal(value: float) -> DSfloat:
    # + 0.0 turns -0.0 into 0; auto_format keeps as many digits as 16 characters hold
    return DSfloat(float(value) + 0.0, auto_format=True)


def _decimals(values: Iterable[float]) -> list[DSfloat]:
    return [_decimal(v) for v in values]
