"""What is in memory already is read as the same file would be, and what could be read in two ways is asked about."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from ct_xception.errors import InputError, SliceError
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.windows import WINDOWS, Window, apply_window, as_window

EXAMPLES = Path(__file__).resolve().parents[2] / "app" / "examples"


@pytest.fixture
def hounsfield() -> np.ndarray:
    """A body of soft tissue in air, int16 HU."""
    values = np.full((96, 80), -1000, np.int16)
    values[20:80, 12:70] = np.random.default_rng(0).integers(-150, 200, (60, 58))
    return values


@pytest.mark.parametrize("kind", [np.int16, np.int64, np.float16, np.float64, "torch"])
@pytest.mark.parametrize("given", ["lung", (-600, 1500), "-600/1500", Window(-600, 1500)])
def test_hu_are_windowed_as_asked(hounsfield: np.ndarray, kind: Any, given: Any) -> None:
    array = torch.from_numpy(hounsfield) if kind == "torch" else hounsfield.astype(kind)
    found = read_slice(array, window=given)
    np.testing.assert_array_equal(found.pixels, apply_window(hounsfield.astype(float), WINDOWS["lung"]))
    assert found.is_hu and found.window == WINDOWS["lung"] and found.body is not None and found.body[50, 40]


@pytest.mark.parametrize(
    ("array", "window", "said"),
    [
        (np.where(np.eye(64) > 0, 40, -1000), None, "look like HU, -1000 to 40.*window='lung'"),
        (np.arange(64 * 64).reshape(64, 64) % 200, "lung", r"grey levels.*array.astype\('uint8'\)"),
        (np.linspace(0, 1, 64 * 64).reshape(64, 64), None, r"array \* 255"),
        (np.full((64, 64), 1064, np.uint16), "mediastinal", "cannot be HU.*- 1024"),
        (np.full((64, 64), -80) + np.eye(64, dtype=int), None, "without air.*no window"),
        (np.zeros((3, 64, 64), np.float32), None, "channels.*before any transform"),
        (np.zeros((40, 64, 64), np.int16), "lung", "40 slices.*frame="),
        (np.zeros((4, 4), bool), None, "type bool"),
        (np.zeros((0, 4)), None, "no values"),
        (np.full((64, 64), np.nan), "lung", "none of which is finite"),
        (np.zeros(7, np.uint8), None, r"shape \(7,\)"),
    ],
)
def test_what_could_be_two_things_is_asked_about(array: np.ndarray, window: str | None, said: str) -> None:
    with pytest.raises(SliceError, match=said):
        read_slice(array, window=window)


def test_grey_arrays_are_the_pictures_they_were(hounsfield: np.ndarray) -> None:
    grey = apply_window(hounsfield.astype(float), WINDOWS["lung"])
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    for array in (grey, grey[None], np.stack([grey] * 3, axis=-1)):
        found = read_slice(array)
        np.testing.assert_array_equal(found.pixels, read_slice(buffer.getvalue()).pixels)
        assert not found.is_hu and found.window is None


def test_a_volume_gives_the_slice_that_is_named(hounsfield: np.ndarray) -> None:
    volume = np.stack([hounsfield, hounsfield[::-1], hounsfield])
    assert (
        read_slice(volume, window="lung", frame=1).pixels == read_slice(hounsfield[::-1], window="lung").pixels
    ).all()
    with pytest.raises(SliceError, match="no frame 3"):
        read_slice(volume, window="lung", frame=3)


def test_values_that_are_not_finite_are_black(hounsfield: np.ndarray) -> None:
    values = hounsfield.astype(np.float32)
    values[50, 40] = np.nan
    found = read_slice(values, window="lung")
    assert found.pixels[50, 40] == 0 and "1 pixels without a finite value set to black" in found.notes


def test_data_sets_and_rows_are_read_as_their_files() -> None:
    path = EXAMPLES / "normal.dcm"
    wanted = read_slice(path)
    opened = pydicom.dcmread(path)
    for source in (opened, {"image": {"path": str(path), "bytes": None}}, {"path": None, "bytes": path.read_bytes()}):
        np.testing.assert_array_equal(read_slice(source).pixels, wanted.pixels)
    assert read_slice(opened).source == str(path)
    with pytest.raises(SliceError, match="DICOM data set: "):
        read_slice(pydicom.Dataset())


@pytest.mark.parametrize("source", [None, 3, {}, [], object()])
def test_what_is_no_slice_gets_a_sentence(source: object) -> None:
    with pytest.raises(InputError, match="is no slice; give a path"):
        read_slice(source)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("https://example.org/a.png", "an address, not a file; download it first"),
        (EXAMPLES / "squamous_cell_carcinoma_series.zip", "a zip of files, not one slice"),
    ],
)
def test_files_that_are_something_else_are_called_so(source: str | Path, said: str) -> None:
    with pytest.raises(SliceError, match=said):
        read_slice(source)


@pytest.mark.parametrize("given", ["lungs", 3, ("a", 2), (1, 2, 3), (40, -1), b"lung"])
def test_windows_that_are_none_get_a_sentence(given: Any) -> None:
    with pytest.raises(InputError, match="window"):
        as_window(given)


def test_a_slice_shows_itself_and_escapes_its_name() -> None:
    found = read_slice(np.zeros((8, 8), np.uint8), name="<script>x</script>")
    assert repr(found) == "Slice('<script>x</script>': 8 × 8 pixels, 8-bit picture)"
    shown = found._repr_html_()
    assert "<script" not in shown and 'src="data:image/png;base64,' in shown
