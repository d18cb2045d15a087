"""The slice and the ways into it: paths, bytes, files, pictures; and what is refused before decoding."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ct_xception.errors import SliceError
from ct_xception.imaging import source as module
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.source import is_readable_name
from ct_xception.imaging.windows import Window
from tests.imaging.builders import SIGNED, ct, encode, tiff

GREY = np.array([[0, 10, 20], [30, 40, 255]], dtype=np.uint8)
PNG = encode(Image.fromarray(GREY))
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom", "ignore::UserWarning:PIL")


def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "slice.png"
    path.write_bytes(PNG)
    with open(path, "rb") as stream:
        read = [read_slice(source) for source in (str(path), path, PNG, io.BytesIO(PNG), stream, Image.open(path))]
    assert all(np.array_equal(slice_.pixels, GREY) for slice_ in read)
    assert [slice_.source for slice_ in read] == [str(path)] * 2 + ["bytes in memory", "picture in memory"] + [
        str(path)
    ] * 2


def test_name_replaces_the_source(tmp_path: Path) -> None:
    assert read_slice(PNG, name="upload.png").source == "upload.png"
    with pytest.raises(SliceError, match=r"^upload\.png: "):
        read_slice(b"nothing", name="upload.png")


def test_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"\xff.png")
    Path(os.fsdecode(path)).write_bytes(PNG)
    slice_ = read_slice(os.fsdecode(path))
    assert slice_.source.isprintable()
    slice_.source.encode()


def test_kind_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    path = tmp_path / "slice.png"
    path.write_bytes(ct(np.full((4, 4), 1024, dtype=np.int16)))
    assert read_slice(path).is_hu


def test_slice_is_contiguous_and_checked() -> None:
    slice_ = Slice(GREY[:, ::-1], "x", 8, False, None)
    assert slice_.pixels.flags.c_contiguous
    assert np.asarray(slice_.to_pil()).shape == (2, 3, 3)
    for wrong in (GREY.astype(np.int16), GREY[None], GREY[:0]):
        with pytest.raises(TypeError, match="uint8"):
            Slice(wrong, "x", 8, False, None)


def test_replace_pixels_keeps_the_rest() -> None:
    slice_ = Slice(GREY, "x", 12, True, Window(40, 400), (0.5, 0.7), ("one",))
    changed = slice_.replace_pixels(GREY[:1], "two")
    assert (changed.source, changed.bit_depth, changed.is_hu, changed.window) == ("x", 12, True, Window(40, 400))
    assert (changed.spacing_mm, changed.notes, changed.pixels.shape) == ((0.5, 0.7), ("one", "two"), (1, 3))
    assert slice_.notes == ("one",)


def test_missing_folder_empty_and_text(tmp_path: Path) -> None:
    with pytest.raises(SliceError, match="no such file"):
        read_slice(tmp_path / "absent.png")
    with pytest.raises(SliceError, match="a folder"):
        read_slice(tmp_path)
    with pytest.raises(SliceError, match="cannot be opened"):
        read_slice("null\0byte.png")
    with pytest.raises(SliceError, match="empty file"):
        read_slice(b"")
    with pytest.raises(SliceError, match="binary mode"):
        read_slice(io.StringIO("text"))  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
@pytest.mark.timeout(10)
def test_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(SliceError, match="not a regular file"):
        read_slice(tmp_path / "x.png")
    with pytest.raises(SliceError, match="not a regular file"):
        read_slice("/dev/zero")


def test_bytes_are_capped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 20)
    path = tmp_path / "x.png"
    path.write_bytes(PNG)
    for source in (path, PNG, io.BytesIO(PNG)):
        with pytest.raises(SliceError, match="more than 0 MiB"):
            read_slice(source)


def test_pixels_are_capped_before_decoding() -> None:
    # 8,000 x 8,000 in the header and hardly a byte of image behind it: decoding would fail, not refuse.
    header = PNG[12:16] + (8000).to_bytes(4, "big") * 2 + PNG[24:29]
    bomb = PNG[:12] + header + zlib.crc32(header).to_bytes(4, "big") + PNG[33:]
    with pytest.raises(SliceError, match="8000 x 8000 pixels, more than 16.8 million"):
        read_slice(bomb)
    with pytest.raises(SliceError, match="more than 16.8 million"):
        read_slice(Image.new("1", (7000, 6000)))


def test_only_listed_formats_are_opened() -> None:
    for kind in ("PPM", "ICO", "TGA", "PDF", "PCX"):
        with pytest.raises(SliceError, match="neither DICOM nor one of PNG, JPEG, TIFF, BMP, GIF"):
            read_slice(encode(Image.fromarray(np.tile(GREY, (20, 20))), kind))


def test_is_readable_name(tmp_path: Path) -> None:
    for name in ("a.png", "b.JPG", "c.tiff", "d.dcm", "e.BMP"):
        assert is_readable_name(tmp_path / name)
    for name in ("a.txt", "b.csv", ".DS_Store", "._a.png", "absent"):
        assert not is_readable_name(tmp_path / name)
    (tmp_path / "IM0001").write_bytes(ct(GREY.astype(np.int16)))
    (tmp_path / "1.2.840.7").write_bytes(ct(GREY.astype(np.int16)))
    (tmp_path / "README").write_bytes(b"text")
    assert is_readable_name(tmp_path / "IM0001")
    assert is_readable_name(tmp_path / "1.2.840.7")
    assert not is_readable_name(tmp_path / "README")


def slice_or_refusal(source: bytes, **options: object) -> Slice | None:
    """Read, and check what every slice promises; None when refused. Any other exception fails the test."""
    try:
        slice_ = read_slice(source, **options)  # type: ignore[arg-type]
    except SliceError as error:
        assert error.found and error.remedy and str(error).isprintable()
        return None
    assert slice_.pixels.dtype == np.uint8 and slice_.pixels.ndim == 2 and slice_.pixels.size > 0
    assert slice_.pixels.flags.c_contiguous and slice_.bit_depth >= 1
    return slice_


WHOLE = [
    PNG,
    encode(Image.fromarray(np.tile(GREY, (8, 8))), "JPEG"),
    encode(Image.fromarray(GREY).convert("RGBA")),
    encode(Image.fromarray(GREY).convert("P")),
    encode(Image.fromarray(GREY), "BMP"),
    encode(Image.fromarray(GREY), "TIFF", compression="tiff_lzw"),
    tiff(GREY.astype(np.int16), sample_format=SIGNED),
    ct(GREY.astype(np.int16) * 10),
    ct(np.stack([GREY, GREY]).astype(np.uint16), WindowCenter=40, WindowWidth=400),
]


@given(data=st.binary(max_size=400), magic=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"II*\0", b"\xff\xd8", b"BM",
                                                            b"\0" * 128 + b"DICM\x02\0"]))  # fmt: skip
@settings(deadline=None, max_examples=100)
def test_any_bytes_give_a_slice_or_a_refusal(data: bytes, magic: bytes) -> None:
    slice_or_refusal(magic + data)


@given(
    whole=st.sampled_from(WHOLE),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
    length=st.none() | st.floats(0, 1),
    frame=st.none() | st.integers(-2, 3),
    window=st.none() | st.just(Window(20, 100)),
)
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_files_give_a_slice_or_a_refusal(
    whole: bytes, changes: list[tuple[int, int]], length: float | None, frame: int | None, window: Window | None
) -> None:
    damaged = bytearray(whole)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    end = len(damaged) if length is None else int(length * len(damaged))
    slice_or_refusal(bytes(damaged[:end]), frame=frame, window=window)


def test_the_undamaged_files_are_read() -> None:
    window = Window(100, 400)
    assert all(slice_or_refusal(whole, frame=0, window=window) is not None for whole in WHOLE)
