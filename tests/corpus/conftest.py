"""A small phantom, and folders of tiny pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ct_xception.corpus.phantom import generate_phantom

Grow = Callable[[Mapping[str, int]], Path]


@pytest.fixture(scope="session")
def small_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve patients of the four reference classes, two slices each, 64 pixels; nothing planted."""
    return generate_phantom(tmp_path_factory.mktemp("corpus") / "phantom", patients=12, slices_per_patient=2, size=64)


@pytest.fixture
def grow(tmp_path: Path) -> Grow:
    """A folder of distinct 4 x 4 pictures: {"train/normal": 2} makes train/normal/0.png and 1.png."""
    rng = np.random.default_rng(0)

    def plant(folders: Mapping[str, int], root: Path = tmp_path / "tree") -> Path:
        for name, number in folders.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            for index in range(number):
                pixels = rng.integers(0, 256, (4, 4), dtype=np.uint8)
                Image.fromarray(pixels).save(root / name / f"{index}.png")
        return root

    return plant
