"""Pictures of every mode and depth, against pixels computed by hand."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from ct_xception.errors import SliceError
from ct_xception.imaging.decoders import pictures
from ct_xception.imaging.decoders import tiff as tiff_walk
from ct_xception.imaging.reader import read_place, read_slice
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window
from tests.imaging.builders import FLOAT, SIGNED, encode, tiff

GREY = np.array([[0, 10, 20], [30, 40, 255]], dtype=np.uint8)
HU16 = np.array([[0, 1024, 4095]], dtype=np.uint16)


def noted(slice_: Slice, words: str) -> bool:
    return any(words in note for note in slice_.notes)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_8_bit_grey_is_kept(kind: str) -> None:
    slice_ = read_slice(encode(Image.fromarray(GREY), kind))
    assert np.array_equal(slice_.pixels, GREY)
    assert (slice_.bit_depth, slice_.is_hu, slice_.window) == (8, False, None)
    assert noted(slice_, "not HU")


def test_jpeg_is_kept_to_its_loss() -> None:
    flat = np.full((16, 16), 77, dtype=np.uint8)
    assert np.array_equal(read_slice(encode(Image.fromarray(flat), "JPEG", quality=95)).pixels, flat)


def test_rgb_is_luminance_and_says_so() -> None:
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90]]], dtype=np.uint8)
    slice_ = read_slice(encode(Image.fromarray(rgb)))
    assert slice_.pixels.tolist() == [[76, 150, 29, 90]]  # .299 R + .587 G + .114 B
    assert noted(slice_, "colour dropped (75 % of pixels coloured)")


def test_grey_rgb_has_no_colour_note() -> None:
    slice_ = read_slice(encode(Image.fromarray(GREY).convert("RGB")))
    assert np.array_equal(slice_.pixels, GREY)
    assert not noted(slice_, "colour")


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_composited_on_black(mode: str) -> None:
    image = Image.fromarray(GREY).convert(mode)
    image.putalpha(Image.fromarray(np.array([[255, 255, 0], [51, 255, 128]], dtype=np.uint8)))
    slice_ = read_slice(encode(image))
    assert slice_.pixels.tolist() == [[0, 10, 0], [6, 40, 128]]
    assert noted(slice_, "alpha composited on black")


def test_opaque_alpha_is_dropped_silently() -> None:
    slice_ = read_slice(encode(Image.fromarray(GREY).convert("RGBA")))
    assert np.array_equal(slice_.pixels, GREY)
    assert not noted(slice_, "alpha")


def test_transparent_key_colour_is_black() -> None:
    slice_ = read_slice(encode(Image.fromarray(GREY), transparency=255))
    assert slice_.pixels.tolist() == [[0, 10, 20], [30, 40, 0]]


def test_palette_is_looked_up() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), mode="P")
    image.putpalette([200, 200, 200, 7, 7, 7, 255, 0, 0])
    assert read_slice(encode(image)).pixels.tolist() == [[200, 7, 76]]


def test_cmyk() -> None:
    ink = np.array([[[0, 0, 0, 55], [0, 0, 0, 255]]], dtype=np.uint8)
    slice_ = read_slice(encode(Image.fromarray(ink, mode="CMYK"), "TIFF"))
    assert slice_.pixels.tolist() == [[200, 0]]
    assert noted(slice_, "CMYK")


def test_one_bit() -> None:
    slice_ = read_slice(encode(Image.fromarray(GREY > 25)))
    assert slice_.pixels.tolist() == [[0, 0, 0], [255, 255, 255]]
    assert slice_.bit_depth == 1


def test_exif_turn() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to show
    slice_ = read_slice(encode(Image.fromarray(GREY), exif=exif))
    assert slice_.pixels.tolist() == [[30, 0], [40, 10], [255, 20]]
    assert noted(slice_, "turned upright")


def test_tiff_turn() -> None:
    slice_ = read_slice(tiff(GREY, orientation=3))  # half a turn
    assert slice_.pixels.tolist() == [[255, 40, 30], [20, 10, 0]]
    assert noted(slice_, "turned upright")


@pytest.mark.parametrize("content", [encode(Image.fromarray(HU16)), tiff(HU16)], ids=["png", "tiff"])
def test_16_bit_through_a_window(content: bytes) -> None:
    slice_ = read_slice(content, window=Window(1024, 2000))  # black up to 24, white from 2023
    assert slice_.pixels.tolist() == [[0, 128, 255]]
    assert (slice_.bit_depth, slice_.window, slice_.is_hu) == (16, Window(1024, 2000), False)


def test_16_bit_of_the_whole_range_needs_no_window() -> None:
    slice_ = read_slice(encode(Image.fromarray(np.array([[0, 257, 65535]], dtype=np.uint16))))
    assert slice_.pixels.tolist() == [[0, 1, 255]]
    assert noted(slice_, "whole 16-bit range")


def test_12_bit_ct_in_16_bits_without_window_is_refused() -> None:
    with pytest.raises(SliceError, match="0 to 4095, and no window; give a window"):
        read_slice(encode(Image.fromarray(HU16)))


def test_window_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(SliceError, match="-600/1500 leaves nothing of its values, 1000 to 4095"):
        read_slice(tiff(np.array([[1000, 4095]], dtype=np.uint16)), window=Window(-600, 1500))


def test_16_bit_black_is_black() -> None:
    assert read_slice(encode(Image.fromarray(np.zeros((2, 2), dtype=np.uint16)))).pixels.max() == 0


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_min_is_white_is_inverted(depth: type) -> None:
    top = np.iinfo(depth).max
    slice_ = read_slice(tiff(np.array([[0, top // 5, top]], dtype=depth), photometric=0))
    assert slice_.pixels.tolist() == [[255, 204, 0]]


def test_min_is_white_is_inverted_after_the_window() -> None:
    slice_ = read_slice(tiff(HU16, photometric=0), window=Window(1024, 2000))
    assert slice_.pixels.tolist() == [[255, 127, 0]]


def test_signed_16_bit_needs_a_window() -> None:
    content = tiff(np.array([[-1000, 0, 1000]], dtype=np.int16), sample_format=SIGNED)
    assert read_slice(content, window=Window(40, 400)).pixels.tolist() == [[0, 102, 255]]
    with pytest.raises(SliceError, match="16-bit signed values, -1000 to 1000, and no window"):
        read_slice(content)


def test_unsigned_32_bit_does_not_wrap() -> None:
    slice_ = read_slice(tiff(np.array([[0, 2**31, 2**32 - 1]], dtype=np.uint32)), window=Window(4e8, 9e8))
    assert slice_.pixels.tolist() == [[14, 255, 255]]


def test_float_needs_a_window_and_nan_is_black() -> None:
    content = tiff(np.array([[-1000, 0, np.nan, np.inf]], dtype=np.float32), sample_format=FLOAT)
    slice_ = read_slice(content, window=Window(40, 400))
    assert slice_.pixels.tolist() == [[0, 102, 0, 0]]
    assert slice_.bit_depth == 32
    assert noted(slice_, "2 pixels without a finite value")
    with pytest.raises(SliceError, match="32-bit float values, -1000 to 0, and no window"):
        read_slice(content)


def test_what_is_not_finite_is_black_where_the_lowest_is_white_too() -> None:
    stored = np.array([[-1000, 0, 1000, np.nan, np.inf, -np.inf]], dtype=np.float32)
    slice_ = read_slice(tiff(stored, sample_format=FLOAT, photometric=0), window=Window(40, 400))
    assert slice_.pixels.tolist() == [[255, 153, 0, 0, 0, 0]]
    assert noted(slice_, "3 pixels without a finite value set to black") and noted(slice_, "inverted")


def test_signed_8_bit_is_refused() -> None:
    with pytest.raises(SliceError, match="signed 8-bit"):
        read_slice(tiff(GREY.astype(np.int8), sample_format=SIGNED))


@pytest.mark.parametrize("mode, dtype", [("I;16", np.uint16), ("I", np.int32), ("F", np.float32)])
def test_deep_pillow_pictures(mode: str, dtype: type) -> None:
    image = Image.fromarray(np.array([[0, 1024, 4095]], dtype=dtype))
    assert image.mode == mode
    assert read_slice(image, window=Window(1024, 2000)).pixels.tolist() == [[0, 128, 255]]


def test_window_on_8_bits_is_ignored_aloud() -> None:
    slice_ = read_slice(encode(Image.fromarray(GREY)), window=Window(40, 400))
    assert np.array_equal(slice_.pixels, GREY)
    assert slice_.window is None
    assert noted(slice_, "window ignored")


def png16(pixels: np.ndarray, colour_type: int) -> bytes:
    """A 16-bit PNG of pixels (H, W, samples): Pillow cannot write one (PNG specification, section 5)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))

    rows, columns = pixels.shape[:2]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = chunk(b"IHDR", struct.pack(">LLBBBBB", columns, rows, 16, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("colour_type, samples", [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_or_alpha(colour_type: int, samples: int) -> None:
    wide = np.repeat(np.array([[[0], [0x8000], [0xFFFF]]]), samples, axis=2)
    narrow = wide // 16
    if samples in (2, 4):
        wide[..., -1] = narrow[..., -1] = 0xFFFF
    slice_ = read_slice(png16(wide, colour_type))
    assert slice_.pixels.tolist() == [[0, 128, 255]]
    assert slice_.bit_depth == 16 and noted(slice_, "16-bit colour or alpha reduced to 8 bits")
    with pytest.raises(SliceError, match="8 bits would keep few grey levels"):
        read_slice(png16(narrow, colour_type))


def pages(count: int = 3) -> bytes:
    first, *rest = (Image.fromarray(GREY + np.uint8(page)) for page in range(count))
    return encode(first, "TIFF", save_all=True, append_images=rest)


def test_pages() -> None:
    assert read_slice(pages(), frame=2).pixels[0, 0] == 2
    with pytest.raises(SliceError, match="3 frames; choose one, from 0 to 2"):
        read_slice(pages())
    for frame in (3, -1):
        with pytest.raises(SliceError, match=f"no frame {frame}: it has 3"):
            read_slice(pages(), frame=frame)
    with pytest.raises(SliceError, match="no frame 1: it has 1"):
        read_slice(encode(Image.fromarray(GREY)), frame=1)


def test_pages_are_counted_and_sought_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PAGES", 4)
    monkeypatch.setattr(tiff_walk, "MAX_PAGES", 4)
    visited: list[int] = []
    seek = TiffImagePlugin.TiffImageFile._seek

    def counted(self: TiffImagePlugin.TiffImageFile, page: int) -> None:
        visited.append(page)
        seek(self, page)

    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "_seek", counted)
    assert read_place(pages(4)).frames == 4 and read_slice(pages(4), frame=3).pixels[0, 0] == 3
    visited.clear()
    many = pages(9)
    for read in (read_place, read_slice, lambda content: read_slice(content, frame=4)):
        with pytest.raises(SliceError, match="a TIFF of more than 4 pages; split it and give a part of it"):
            read(many)
    assert not visited  # Pillow is not asked
    with pytest.raises(SliceError, match="more than 4 pages"):
        read_slice(Image.open(io.BytesIO(many)))
    assert max(visited) == 4
    visited.clear()
    assert read_slice(many, frame=1).pixels[0, 0] == 1 and max(visited) == 1


def test_two_pictures_in_one_file_are_asked_about() -> None:
    first, second = Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())
    more = {"save_all": True, "append_images": [second]}
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("MPO", {"quality": 95}), ("PNG", {})):
        content = encode(first, kind, **more, **options)
        image: Any = Image.open(io.BytesIO(content))
        assert image.n_frames == 2, kind
        for source in (image, content):
            with pytest.raises(SliceError, match="2 frames; choose one, from 0 to 1"):
                read_slice(source)
            for frame, pixels in ((0, GREY), (1, GREY[::-1])):
                chosen = read_slice(source, frame=frame).pixels
                assert chosen.shape == GREY.shape
                if kind != "MPO":
                    assert np.array_equal(chosen, pixels), kind
        image.seek(1)
        if kind != "MPO":  # whose JPEG loses too much to compare
            assert np.array_equal(read_slice(image).pixels, GREY[::-1])
        assert read_place(content).frames == 2


def test_callers_picture_stays_at_its_page() -> None:
    image: Any = Image.open(io.BytesIO(pages()))
    assert read_slice(image, frame=2).pixels[0, 0] == 2
    assert image.tell() == 0
    with pytest.raises(SliceError, match="no frame 7: it has 3"):
        read_slice(image, frame=7)
    assert image.tell() == 0 and image.n_frames == 3  # a leap past the end would have made it 8
    image.seek(1)
    assert read_slice(image).pixels[0, 0] == 1
    assert image.tell() == 1


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "RGBX", "RGBa", "La", "PA"])
def test_rarer_modes(mode: str) -> None:
    rich = Image.fromarray(GREY).convert({"RGBa": "RGBA", "La": "LA", "PA": "P"}.get(mode, "RGB")).convert(mode)
    assert np.array_equal(read_slice(rich).pixels, GREY)


def test_truncated() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    for kind in ("PNG", "JPEG", "TIFF", "BMP"):
        content = encode(Image.fromarray(noise), kind)
        with pytest.raises(SliceError):
            read_slice(content[: len(content) // 2])
