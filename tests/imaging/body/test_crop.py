"""The body crop: what it keeps, what it drops, and slices in which there is no body."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ct_xception.imaging.body.crop import Box, body_mask, crop_body, mask_box, otsu_threshold
from ct_xception.imaging.slice import Slice
from tests.imaging.builders import disc


def as_slice(pixels: np.ndarray) -> Slice:
    return Slice(pixels, "x", 8, False, None)


def test_disc_is_cropped_to_its_box_and_table_removed() -> None:
    pixels = disc(size=128, radius=40)  # rows and columns 24 to 103
    pixels[110:114, 10:118] = 200  # a table, brighter than the body
    pixels[2:6, 2:6] = 255  # a letter
    crop = crop_body(as_slice(pixels))
    assert crop.found
    assert crop.box == Box(24, 24, 104, 104)
    assert (crop.box.height, crop.box.width) == crop.slice.pixels.shape == (80, 80)
    assert np.array_equal(crop.slice.pixels, disc()[24:104, 24:104])
    assert "cropped to the body" in crop.slice.notes


def test_thin_bridge_to_the_table_is_cut() -> None:
    pixels = disc(size=128, radius=40)
    pixels[100:116, 60:63] = 120  # three pixels wide: the opening removes what is thinner than five
    pixels[116:119, 10:118] = 120
    box = crop_body(as_slice(pixels)).box
    assert (box.top, box.left, box.right) == (24, 24, 104)
    assert 104 <= box.bottom <= 106  # but keeps the bridge's root


def test_lungs_are_filled_and_kept() -> None:
    pixels = disc(size=128, radius=50)
    lung = disc(size=128, radius=25) > 0
    pixels[lung] = 3
    for row in range(45):  # a dark oblique line through the chest wall does not lose them
        pixels[row, 50 + row // 2 : 52 + row // 2][pixels[row, 50 + row // 2 : 52 + row // 2] > 3] = 0
    crop = crop_body(as_slice(pixels))
    assert crop.found
    assert body_mask(pixels)[lung].all()
    assert (crop.slice.pixels == 3).sum() == lung.sum()


@pytest.mark.parametrize("level", [0, 5])
def test_dark_slice_has_no_body_and_is_left_alone(level: int) -> None:
    pixels = np.full((40, 50), level, dtype=np.uint8)
    crop = crop_body(as_slice(pixels))
    assert not crop.found
    assert crop.box == Box(0, 0, 40, 50)
    assert np.array_equal(crop.slice.pixels, pixels)
    assert body_mask(pixels).all()
    assert crop.slice.notes == ("no body found, not cropped: nothing stands out from the background",)


def test_specks_are_no_body() -> None:
    pixels = np.zeros((200, 200), dtype=np.uint8)
    pixels[50:60, 50:60] = 200
    assert not crop_body(as_slice(pixels)).found


def test_slice_full_of_body_is_kept_whole() -> None:
    pixels = np.random.default_rng(0).integers(150, 170, (60, 80), dtype=np.uint8)
    crop = crop_body(as_slice(pixels))
    assert crop.box == Box(0, 0, 60, 80)
    assert np.array_equal(crop.slice.pixels, pixels)


def test_already_cropped_stays_as_it_is() -> None:
    once = crop_body(as_slice(disc(size=128, radius=40)))
    twice = crop_body(once.slice)
    assert np.array_equal(once.slice.pixels, twice.slice.pixels)


def test_lung_window_where_air_is_not_black() -> None:
    # Lung -600/1500 shows air (-1000 HU) at 60, lung (-850) at 85, tissue at 230; noise of 40 HU is 7 levels.
    rng = np.random.default_rng(0)
    levels = np.full((128, 128), 60.0)
    levels[disc(128, 50) > 0] = 230
    levels[disc(128, 25) > 0] = 85
    pixels = (levels + rng.normal(0, 7, levels.shape)).clip(0, 255).astype(np.uint8)
    assert crop_body(as_slice(pixels)).box == Box(14, 14, 114, 114)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 3)])
@pytest.mark.parametrize("level", [0, 255])
def test_tiny_slices(shape: tuple[int, int], level: int) -> None:
    crop = crop_body(as_slice(np.full(shape, level, dtype=np.uint8)))
    assert 1 <= crop.slice.pixels.size <= shape[0] * shape[1]


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=30)))
def test_crop_is_what_its_box_says(pixels: np.ndarray) -> None:
    crop = crop_body(as_slice(pixels))
    box, mask = crop.box, body_mask(pixels)
    assert mask.dtype == bool and mask.shape == pixels.shape and mask.any()
    assert mask_box(mask) == box
    assert np.array_equal(crop.slice.pixels, (pixels * mask)[box.top : box.bottom, box.left : box.right])


@given(st.integers(0, 2**32 - 1))
def test_otsu_parts_as_scikit_image_does(seed: int) -> None:
    from skimage.filters import threshold_otsu

    rng = np.random.default_rng(seed)
    pixels = np.where(rng.random((40, 40)) < rng.uniform(0.1, 0.9), rng.normal(60, 20, (40, 40)),
                      rng.normal(170, 25, (40, 40))).clip(0, 255).astype(np.uint8)  # fmt: skip
    assert np.array_equal(pixels > otsu_threshold(pixels), pixels > threshold_otsu(pixels))


def test_otsu_of_one_level_is_zero() -> None:
    assert otsu_threshold(np.full((4, 4), 99, dtype=np.uint8)) == 0


def test_otsu_between_two_levels_is_half_way() -> None:
    assert otsu_threshold(np.array([[10, 10, 21]], dtype=np.uint8)) == 15  # 10 to 20 part them alike
