"""Tiny files made by hand, so that the pixels a reader must find are known."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

UNSIGNED, SIGNED, FLOAT = 1, 2, 3


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A Pillow picture as the bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(pixels: np.ndarray, *, photometric: int = 1, sample_format: int = UNSIGNED, orientation: int = 1) -> bytes:
    """An uncompressed little-endian grey TIFF of one strip, with the tags as told (TIFF 6.0 section 2)."""
    pixels = pixels.astype(pixels.dtype.newbyteorder("<"))
    rows, columns = pixels.shape
    tags = [
        (256, 4, columns), (257, 4, rows), (258, 3, 8 * pixels.itemsize), (259, 3, 1), (262, 3, photometric),
        (273, 4, 8), (274, 3, orientation), (277, 3, 1), (278, 4, rows), (279, 4, pixels.nbytes),
        (339, 3, sample_format),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHLL", tag, kind, 1, value) for tag, kind, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<L", 0)
    return b"II*\0" + struct.pack("<L", 8 + pixels.nbytes) + pixels.tobytes() + directory


def set_tags(dataset: pydicom.Dataset, tags: dict[str, Any]) -> pydicom.Dataset:
    """The dataset with these elements; one that is None is taken away."""
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def ct_dataset(stored: np.ndarray, **tags: Any) -> pydicom.Dataset:
    """A CT image of stored pixels (H, W) or (frames, H, W): slope 1, intercept -1024, MONOCHROME2.

    A tag given replaces its default; a tag given as None is left out.
    """
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(entropy_srcs=["slice"])
    bits = 8 * stored.itemsize
    defaults = {
        "Modality": "CT", "PatientID": "P1", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4",
        "InstanceNumber": 7, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "Rows": stored.shape[-2], "Columns": stored.shape[-1], "BitsAllocated": bits, "BitsStored": bits,
        "HighBit": bits - 1, "PixelRepresentation": int(stored.dtype.kind == "i"), "RescaleSlope": 1,
        "RescaleIntercept": -1024, "PixelData": stored.tobytes() + b"\0" * (stored.nbytes % 2),
    }  # fmt: skip
    if stored.ndim == 3:
        defaults["NumberOfFrames"] = stored.shape[0]
    for keyword, value in (defaults | tags).items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset["PixelData"].VR = "OW"
    return dataset


def dicom_bytes(dataset: pydicom.Dataset) -> bytes:
    """A dataset as the bytes of a DICOM file."""
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def ct(stored: np.ndarray, **tags: Any) -> bytes:
    """A CT image as the bytes of a DICOM file; see `ct_dataset`."""
    return dicom_bytes(ct_dataset(stored, **tags))


def disc(size: int = 128, radius: int = 40, level: int = 120) -> np.ndarray:
    """A filled disc in the middle of black: (size, size) uint8."""
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return np.where(rows**2 + columns**2 <= radius**2, level, 0).astype(np.uint8)
