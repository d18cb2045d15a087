"""Fixtures shared by every room's tests. The Hub is never asked: its offline switch is set before any import."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import pytest  # noqa: E402

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def reference_corpus() -> Path:
    """The reference corpus as published (1,000 images), or a skip where it is absent."""
    path = SHARED / "corpora" / "chest-ct-scan-images"
    if not path.is_dir():
        pytest.skip("the reference corpus is not on this machine (../shared/corpora/chest-ct-scan-images)")
    return path


@pytest.fixture(scope="session")
def reference_weights() -> Path:
    """The ImageNet weights of legacy_xception, or a skip where they are absent."""
    path = SHARED / "weights" / "legacy_xception.tf_in1k.safetensors"
    if not path.is_file():
        pytest.skip("the ImageNet weights are not on this machine (../shared/weights)")
    return path
