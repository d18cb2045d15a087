"""Few candidates for each thumbnail, and the right ones among them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ct_xception.audit.twins import lookalikes
from ct_xception.audit.twins.lookalikes import WHOLE, Describer, Index, cut_windows, find_candidates


def thumbnails(number: int, side: int = 64) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(number, side, side))
    smooth = np.stack([gaussian_filter(one, 3) for one in noise])
    return np.clip(128 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def unit_vectors(number: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(number, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_windows_cut_up_to_15_percent_and_begin_with_none():
    windows = np.array(cut_windows())
    assert tuple(windows[0]) == WHOLE[0] and len(windows) == 100
    kept = windows[:, 1::2] - windows[:, ::2]
    assert kept.min() == pytest.approx(0.85) and kept.max() == 1


def test_descriptors_are_unit_vectors_that_ignore_brightness_and_contrast():
    pictures = thumbnails(40)
    describer = Describer(pictures, np.arange(40))
    plain = describer.describe(pictures, WHOLE)[:, 0]
    np.testing.assert_allclose(np.linalg.norm(plain, axis=1), 1, atol=1e-5)
    other = describer.describe((pictures * 0.6 + 40).astype(np.uint8), WHOLE)[:, 0]
    assert (plain * other).sum(axis=1).min() > 0.99
    assert np.triu(plain @ plain.T, 1).max() < 0.9


def test_cells_find_what_comparing_all_finds(monkeypatch: pytest.MonkeyPatch):
    vectors, queries = unit_vectors(1500), unit_vectors(60, 1)
    _, expected = Index(vectors).search(queries, 1)
    monkeypatch.setattr(lookalikes, "OUTRIGHT", 100)
    index = Index(vectors)
    similarity, own = index.search(vectors[:60], 1)
    assert index.cells is not None and (own[:, 0] == np.arange(60)).all()
    np.testing.assert_allclose(similarity, 1, atol=1e-5)
    assert (index.search(queries, 1)[1] == expected).mean() > 0.6  # random vectors, the hardest case


def test_a_search_for_more_than_there_are_gives_all():
    similarity, found = Index(unit_vectors(3)).search(unit_vectors(2, 1), 9)
    assert similarity.shape == (2, 3) and sorted(found[0]) == [0, 1, 2]


@pytest.mark.parametrize("outright", [2000, 10])
def test_a_crop_finds_what_it_was_cut_from(outright: int, monkeypatch: pytest.MonkeyPatch):
    from PIL import Image

    monkeypatch.setattr(lookalikes, "OUTRIGHT", outright)
    pictures = thumbnails(120)
    crop = Image.fromarray(pictures[7][3:60, 6:62]).resize((64, 64), Image.Resampling.BILINEAR)
    pictures[90] = np.asarray(crop)
    chosen = np.setdiff1d(np.arange(120), [5])
    blocks = list(find_candidates(pictures, chosen, cut_windows(), 3, 0.5))
    pairs = {
        (first, second): window
        for block in blocks
        for first, second, window in zip(block.first, block.second, block.windows, strict=True)
    }
    assert (7, 90) in pairs and not any(5 in pair or pair[0] == pair[1] for pair in pairs)
    np.testing.assert_allclose(pairs[7, 90], [3 / 64, 60 / 64, 6 / 64, 62 / 64], atol=0.04)
    assert max(np.bincount([first for first, _ in pairs])) <= 3
