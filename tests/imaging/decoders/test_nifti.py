"""NIfTI volumes against nibabel's own canonical orientation, however they are stored."""

from __future__ import annotations

import gzip
import itertools
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ct_xception.errors import SliceError
from ct_xception.imaging.decoders import nifti
from ct_xception.imaging.reader import read_place, read_slice
from ct_xception.imaging.source import is_readable_name
from ct_xception.imaging.windows import Window, apply_window

WINDOW = Window(0, 2400)


def hu(shape: tuple[int, int, int] = (5, 6, 7)) -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1200, shape).astype(np.int16)


def volume(values: np.ndarray, affine: np.ndarray | None = None, kind: type = nibabel.Nifti1Image) -> bytes:
    return kind(values, np.diag([-0.8, -0.8, 2.5, 1]) if affine is None else affine).to_bytes()


def expected(content: bytes, frame: int) -> np.ndarray:
    """Front at the top, the patient's right at the left."""
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image.from_bytes(content))
    return apply_window(canonical.get_fdata()[::-1, ::-1, frame].T, WINDOW)


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, 1)])
def test_every_orientation_comes_out_upright(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.diag(signs)[:, list(order)] * 0.8
    content = volume(hu(), affine)
    frames = read_place(content).frames
    assert frames == hu().shape[order.index(2)]
    for frame in (0, frames - 1):
        slice_ = read_slice(content, frame=frame, window=WINDOW)
        assert np.array_equal(slice_.pixels, expected(content, frame)), (order, signs)
        assert slice_.pixels.shape == read_place(content).size
        assert slice_.is_hu and slice_.spacing_mm is not None


def test_gzip_second_version_and_names(tmp_path: Path) -> None:
    plain = volume(hu())
    for name, content in (
        ("a.nii", plain), ("a.nii.gz", gzip.compress(plain)), ("b.nii", volume(hu(), kind=nibabel.Nifti2Image)),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert is_readable_name(tmp_path / name)
        for frame in (0, 3):
            assert np.array_equal(
                read_slice(tmp_path / name, frame=frame, window=WINDOW).pixels, expected(plain, frame)
            )
        assert read_place(tmp_path / name).frames == 7
    with pytest.raises(SliceError, match="7 frames; choose one"):
        read_slice(tmp_path / "a.nii.gz")


def test_scaling_and_what_is_not_hu() -> None:
    image = nibabel.Nifti1Image(hu(), np.eye(4))
    image.header.set_slope_inter(2, -100)
    image.header["scl_slope"], image.header["scl_inter"] = 2, -100
    raw = bytearray(volume(hu()))
    raw[112:120] = np.array([2, -100], "<f4").tobytes()
    pixels = read_slice(bytes(raw), frame=0, window=WINDOW).pixels
    assert np.array_equal(pixels, apply_window(hu()[:, :, 0].T * 2.0 - 100, WINDOW))
    slice_ = read_slice(volume(np.abs(hu())), frame=0)
    assert not slice_.is_hu and any("not HU" in note for note in slice_.notes)
    assert any("percentiles" in note for note in slice_.notes)


@pytest.mark.parametrize(
    "content, words",
    [
        (volume(hu())[:-50], "cut short"),
        (volume(np.zeros((4, 4, 4), np.complex64)), "complex64 values"),
        (volume(np.zeros((4, 4, 4, 3), np.int16)), "not of three dimensions"),
    ],
)
def test_refused_by_name(content: bytes, words: str) -> None:
    with pytest.raises(SliceError, match=words):
        read_slice(content, frame=3)


def test_inflation_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nifti, "MAX_VOLUME", 2**20)
    bomb = zlib.compressobj(9, wbits=31)
    with pytest.raises(SliceError, match="inflates to more than 1 MiB"):
        read_slice(bomb.compress(volume(hu()) + bytes(2**22)) + bomb.flush(), frame=0)
