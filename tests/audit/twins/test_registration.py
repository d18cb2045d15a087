"""Thumbnails are laid upon each other as they were cut, and agree in the small only if they show one picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from ct_xception.audit.twins.registration import (
    box_weights,
    local_similarity,
    nested,
    register,
    resample,
    shrink,
    standardise,
)

WHOLE = np.array([[0, 1, 0, 1]], dtype=np.float32)


def picture(seed: int, side: int = 128, scale: float = 2.5) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(side, side))
    smooth = sum(gaussian_filter(noise, one) / gaussian_filter(noise, one).std() for one in (scale, 4 * scale))
    return (128 + 30 * smooth).clip(0, 255).astype(np.float32)[None]


def cut(pictures: np.ndarray, window: tuple[float, float, float, float], side: int) -> np.ndarray:
    n = pictures.shape[1]
    return box_weights(*window[:2], n, side) @ pictures @ box_weights(*window[2:], n, side).T


def test_box_weights_shrink_as_pillow_does():
    pixels = picture(0)[0].astype(np.uint8)
    reference = np.asarray(Image.fromarray(pixels.astype(np.float32)).resize((32, 32), Image.Resampling.BOX))
    np.testing.assert_allclose(shrink(pixels[None], 32)[0], reference, atol=1e-3)


def test_box_weights_of_a_window_average_its_pixels():
    np.testing.assert_allclose(box_weights(0.25, 0.75, 4, 1), [[0, 0.5, 0.5, 0]])


def test_resampling_the_whole_at_its_own_size_changes_nothing():
    one = picture(1, 32)
    np.testing.assert_allclose(resample(one, WHOLE, 32), one, atol=1e-3)


def test_resampling_a_quarter_gives_its_pixels():
    one = picture(1, 32)
    window = np.array([[0.5, 1, 0, 0.5]], dtype=np.float32)
    np.testing.assert_allclose(resample(one, window, 16)[0], one[0, 16:, :16], atol=1e-3)


def test_a_window_within_a_window():
    outer, inner = np.array([[0.2, 0.6, 0, 0.5]]), np.array([[0.5, 1, 0.1, 0.9]])
    np.testing.assert_allclose(nested(outer, inner), [[0.4, 0.6, 0.05, 0.45]])


def test_standardising_a_uniform_picture_gives_zeros():
    assert not standardise(np.full((1, 8, 8), 7, dtype=np.float32)).any()


@pytest.mark.parametrize("window", [(0.04, 0.97, 0.0, 0.95), (0.0, 0.93, 0.05, 0.98)])
def test_registration_finds_the_window_of_a_crop_in_other_greys(window: tuple[float, float, float, float]):
    first = picture(2)
    second = 0.7 * cut(first, window, 64) + 20
    found, score = register(shrink(first, 64), second.astype(np.float32), WHOLE, 8)
    np.testing.assert_allclose(found[0], window, atol=0.006)
    before = float(standardise(shrink(first, 64))[0] @ standardise(second)[0])
    assert score[0] > 0.98 > before


def test_registration_never_ends_worse_than_it_began():
    first, second = np.concatenate([picture(3), picture(4)]), np.concatenate([picture(5), picture(3)])
    first, second = shrink(first, 32), shrink(second, 32)
    windows = np.repeat(WHOLE, 2, axis=0)
    before = (standardise(first) * standardise(second)).sum(axis=1)
    assert (register(first, second, windows, 6)[1] >= before - 1e-5).all()


def test_one_picture_in_other_greys_is_similar_and_another_is_not():
    one = picture(6, 96)
    assert local_similarity(one, 0.6 * one + 30)[0] == pytest.approx(1, abs=1e-4)
    assert local_similarity(one, picture(7, 96))[0] < 0.5


def test_ink_over_a_few_blocks_does_not_part_twins():
    one = picture(6, 96)
    inked = one.copy()
    inked[0, 30:33, 10:45] = 255
    assert local_similarity(one, inked)[0] > 0.98


def test_pictures_that_agree_in_the_large_alone_are_not_similar():
    coarse = picture(8, 96, scale=6)
    first, second = coarse + picture(9, 96, 1) / 4, coarse + picture(10, 96, 1) / 4
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.85
    assert local_similarity(first, second)[0] < 0.5


def test_uniform_pictures_cannot_be_compared():
    flat = np.full((1, 96, 96), 9, dtype=np.float32)
    assert local_similarity(flat, flat)[0] == -1
