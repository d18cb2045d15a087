"""The phantom's DICOM files: CT Image Storage as a scanner writes it, the same bytes for the same slice."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from ct_xception.imaging.windows import Window


def write_dicom(
    path: str | os.PathLike[str],
    hu: np.ndarray,
    *,
    window: Window,
    spacing_mm: float,
    patient_id: str,
    study: str,
    series: str,
    instance_number: int,
) -> None:
    """Write HU (H, W) as a CT Image Storage file (PS3.3 A.3), uncompressed, in 12 bits from -1024.

    `study` and `series` are any text; the UIDs are made from them, so that equal input gives equal bytes.
    """
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, _uid(f"{series}/{instance_number}")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _uid(study), _uid(series)
    dataset.FrameOfReferenceUID = _uid(f"{study} frame")
    dataset.PatientID = dataset.PatientName = patient_id
    dataset.Modality, dataset.ImageType = "CT", ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.InstanceNumber = instance_number
    for empty in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "KVP"):
        setattr(dataset, empty, None)
    dataset.ReferringPhysicianName = dataset.Manufacturer = dataset.PositionReferenceIndicator = None
    dataset.SeriesNumber = dataset.AcquisitionNumber = None
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, instance_number], [1, 0, 0, 0, 1, 0]
    dataset.SliceThickness, dataset.PixelSpacing = 1, [f"{spacing_mm:.6g}"] * 2
    dataset.WindowCenter, dataset.WindowWidth = window.centre, window.width
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.Rows, dataset.Columns = hu.shape
    dataset.PixelData = np.clip(hu.astype(np.int32) + 1024, 0, 4095).astype("<u2").tobytes()
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def _uid(text: str) -> str:
    """A UID of the UUID-derived kind (PS3.5 B.2), made from a text."""
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:15])}"
