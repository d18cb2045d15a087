"""A series as DICOM files and as a zip, and a browser, for the page's tests."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from ct_xception.imaging.windows import WINDOWS
from ct_xception.phantom.dicom import write_dicom

if TYPE_CHECKING:
    from playwright import sync_api as playwright

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def sample_series(sample_slices: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The sample slices as DICOM in HU, in an order of names that is not that of their positions."""
    folder = tmp_path_factory.mktemp("series")
    paths = []
    for number, path in enumerate(sample_slices):
        hu = np.asarray(Image.open(path)).astype(np.int16) * 6 - 1000
        paths.append(folder / f"IM{9 - number}.dcm")
        write_dicom(
            paths[-1],
            hu,
            window=WINDOWS["mediastinal"],
            spacing_mm=0.8,
            patient_id="P1",
            study="study",
            series="series",
            instance_number=number,
        )
    return paths


@pytest.fixture(scope="session")
def zipped_series(sample_series: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same series in a zip, with a file that is no slice."""
    path = tmp_path_factory.mktemp("zip") / "series.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sample_series:
            archive.write(file, f"study/{file.name}")
        archive.writestr("study/notes.txt", "words")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    """A headless Chromium, or a skip with the reason."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.is_file():
        pytest.skip(f"there is no Chromium at {CHROMIUM} (set the variable CHROMIUM)")
    with sync.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()
