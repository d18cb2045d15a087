"""A series as DICOM files and as a zip, for the page's tests."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ct_xception.imaging.decoders.dicom import write_dicom
from ct_xception.imaging.windows import WINDOWS


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
