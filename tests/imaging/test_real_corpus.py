"""Every image of the reference corpus read, and a body found on nearly every one; no part of one on a second corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ct_xception.imaging.body.crop import crop_body
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.source import is_readable_name
from tests.conftest import SHARED

pytestmark = [pytest.mark.real_corpus, pytest.mark.timeout(400)]


def thumbnails(folder: Path) -> tuple[np.ndarray, list[str], int]:
    """96-pixel body crops (N, 9216), each to zero mean and unit deviation, their classes, and the bodies found."""
    rows, classes, found = [], [], 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        assert is_readable_name(path)
        crop = crop_body(read_slice(path))
        found += crop.found
        small = np.asarray(Image.fromarray(crop.slice.pixels).resize((96, 96), Image.Resampling.BILINEAR), dtype=float)
        rows.append(((small - small.mean()) / small.std()).ravel())
        classes.append(path.parent.name.split("_")[0])
    return np.stack(rows), classes, found


def test_every_image_is_read_cropped_and_near_its_class(reference_corpus: Path) -> None:
    parts = {split: thumbnails(reference_corpus / split) for split in ("train", "valid", "test")}
    assert [len(parts[split][1]) for split in ("train", "valid", "test")] == [613, 72, 315]
    # Not found: 56 copies of a dozen pictures, most without air around; they stay whole.
    assert sum(found for _, _, found in parts.values()) >= 940
    train, test = parts["train"], parts["test"]
    nearest = (test[0] @ train[0].T).argmax(axis=1)
    right = sum(train[1][index] == label for index, label in zip(nearest, test[1], strict=True))
    # 300 of 315 was measured before this project began, with a simpler crop.
    assert right >= 300


PARTS = ["covid/0092.png", "covid/0119.png", "other/0284.png", "other/0300.jpg", "other/0311.jpg", "other/0379.jpg"]


@pytest.mark.parametrize("name", PARTS)
def test_no_heart_or_half_chest_of_a_cut_picture_is_the_body(name: str) -> None:
    """Pictures cut to the lungs of which a part was once taken for the whole."""
    path = SHARED / "corpora" / "covid-ct-patients" / name
    if not path.is_file():
        pytest.skip("the second corpus is not on this machine (../shared/corpora/covid-ct-patients)")
    crop = crop_body(read_slice(path))
    assert not crop.found
    assert crop.reason
