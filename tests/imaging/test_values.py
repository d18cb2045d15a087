"""What a viewer windows by itself: the values before the window give the pixels after it, at every window."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest
from PIL import Image

from ct_xception.imaging.decoder_process import Decoder
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.windows import Window, apply_window
from tests.imaging.builders import ct, encode, tiff

STORED = (np.arange(40 * 50).reshape(40, 50) % 1500).astype(np.int16)
AXIAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]
DEEP = STORED.astype(np.uint16) * 40
VOLUME = nibabel.Nifti1Image(STORED[..., None] - 1000, np.diag([-0.8, -0.8, 2.5, 1])).to_bytes()
FILES = {
    "dicom": (ct(STORED, PixelPaddingValue=7), None),
    "white lowest": (ct(STORED, PhotometricInterpretation="MONOCHROME1"), None),
    "png": (encode(Image.fromarray(DEEP)), None),
    "tiff, white lowest": (tiff(DEEP, photometric=0), None),
    "nifti": (gzip.compress(VOLUME), 0),
}


@pytest.mark.parametrize(("content", "frame"), FILES.values(), ids=FILES)
@pytest.mark.parametrize("window", [Window(300, 900), Window(-600, 1500)])
def test_windowing_the_values_gives_the_pixels(content: bytes, frame: int | None, window: Window) -> None:
    slice_ = read_slice(content, window=window, frame=frame, keep_values=True)
    assert slice_.values is not None
    shown = apply_window(slice_.values, window)
    shown = np.where(np.isnan(slice_.values), 0, 255 - shown if slice_.inverted else shown)
    assert np.array_equal(shown, slice_.pixels)
    assert read_slice(content, window=window, frame=frame).values is None


def test_values_are_resampled_as_the_pixels_are() -> None:
    ramp = np.repeat(np.arange(0, 1000, 20, dtype=np.int16)[None], 40, axis=0)
    window = Window(0, 2400)  # no value is cut off, so that either order gives the same
    slice_ = read_slice(ct(ramp, PixelSpacing=[1.0, 0.5]), window=window, keep_values=True)
    assert slice_.values is not None and slice_.values.shape == (80, 50)
    assert np.abs(apply_window(slice_.values, window).astype(int) - slice_.pixels).max() <= 1


def test_hu_padding_and_8_bits() -> None:
    slice_ = read_slice(FILES["dicom"][0], keep_values=True)
    assert slice_.values is not None and slice_.is_hu
    assert np.isnan(slice_.values[0, 7]) and slice_.values[0, 9] == 9 - 1024
    assert read_slice(encode(Image.fromarray(np.zeros((9, 9), np.uint8))), keep_values=True).values is None
    other = slice_.replace_pixels(slice_.pixels)
    assert other.values is None


def test_the_plane_is_told_where_the_file_tells_it() -> None:
    planes = [read_slice(ct(STORED, ImageOrientationPatient=one)).plane for one in (AXIAL, SAGITTAL)]
    assert planes == ["axial", "sagittal"]
    assert read_slice(ct(STORED)).plane is None and read_slice(VOLUME, frame=0).plane == "axial"


def test_values_come_through_the_limited_child() -> None:
    with Decoder() as decoder:
        mine = decoder.read_slice(FILES["dicom"][0], name="x", keep_values=True)
    own = read_slice(FILES["dicom"][0], name="x", keep_values=True)
    assert mine.values is not None and np.array_equal(mine.values, own.values, equal_nan=True)
