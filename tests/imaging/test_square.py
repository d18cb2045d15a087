"""Unequal distances of rows and columns: shapes come out as they are in the patient."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.slice import MAX_PIXELS, Slice
from ct_xception.imaging.square import squared
from tests.imaging.builders import ct


def ellipse(rows: int, columns: int) -> np.ndarray:
    """HU of a body that is round in millimetres, whatever the pixels are."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    return np.where(np.hypot(x, y) < 0.7, 40, -1000).astype(np.int16)


def is_round(slice_: Slice) -> bool:
    lit = slice_.pixels > 128
    return slice_.pixels.shape == (128, 128) and abs(int(lit.any(0).sum()) - int(lit.any(1).sum())) <= 2


@pytest.mark.parametrize(("rows", "columns"), [(64, 128), (128, 64), (128, 32)])
def test_dicom_is_resampled_to_its_finer_distance(rows: int, columns: int) -> None:
    spacing = [128 / rows * 0.8, 128 / columns * 0.8]
    slice_ = read_slice(ct((ellipse(rows, columns) + 1024).astype(np.uint16), PixelSpacing=spacing))
    assert is_round(slice_) and slice_.spacing_mm == pytest.approx((0.8, 0.8))
    assert slice_.body is not None and slice_.body.shape == (128, 128)
    assert any("resampled to 128 x 128 square ones" in note for note in slice_.notes)
    turned = read_slice(
        ct((ellipse(rows, columns) + 1024).astype(np.uint16), PixelSpacing=spacing,
           ImageOrientationPatient=[0, 1, 0, 1, 0, 0])
    )  # fmt: skip
    assert is_round(turned) and turned.spacing_mm == pytest.approx((0.8, 0.8))


def test_an_aspect_alone_and_a_volume_are_squared_too() -> None:
    stored = (ellipse(64, 128) + 1024).astype(np.uint16)
    slice_ = read_slice(ct(stored, PixelAspectRatio=[2, 1]))
    assert is_round(slice_) and slice_.spacing_mm is None
    volume = nibabel.Nifti1Image(ellipse(64, 128).T[:, :, None], np.diag([-1.0, -2, 5, 1])).to_bytes()
    slice_ = read_slice(volume)
    assert is_round(slice_) and slice_.spacing_mm == (1, 1)


def test_equal_or_impossible_distances_leave_the_picture() -> None:
    slice_ = Slice(np.zeros((9, 9), np.uint8), "x", 16, True, None, (1, 1.005))
    assert squared(slice_, (1, 1.005)) is slice_ and squared(slice_, None) is slice_
    odd = squared(slice_, (1e-6, 1e6))
    assert odd.pixels.shape == (9, 9) and "shown as stored" in odd.notes[-1]


def test_a_large_picture_stays_within_the_bound() -> None:
    slice_ = Slice(np.zeros((4096, 4096), np.uint8), "x", 16, True, None, (2, 1))
    grown = squared(slice_, (2, 1))
    rows, columns = grown.pixels.shape
    assert rows * columns <= MAX_PIXELS and rows / columns == pytest.approx(2, rel=1e-3)
    assert grown.spacing_mm == pytest.approx((2**0.5,) * 2)
