"""Sizes read from encoded streams, without decoding them."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ct_xception.imaging.decoders.codestreams import (
    JP2_SIGNATURE,
    SOC_SIZ,
    CodedSize,
    coded_size,
    run_length_sizes,
)
from tests.imaging.builders import encode


@pytest.mark.parametrize("kind, options", [("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG2000", {}),
                                           ("JPEG2000", {"no_jp2": True})])  # fmt: skip
@pytest.mark.parametrize("mode, samples", [("L", 1), ("RGB", 3)])
def test_coded_size(kind: str, options: dict[str, bool], mode: str, samples: int) -> None:
    assert coded_size(encode(Image.new(mode, (30, 20)), kind, **options)) == CodedSize(20, 30, samples)


def test_tiles_are_capped() -> None:
    content = encode(Image.new("L", (512, 512)), "JPEG2000", no_jp2=True, tile_size=(4, 4))
    with pytest.raises(ValueError, match="16384 tiles"):
        coded_size(content)


def box(kind: bytes, content: bytes, *, extended: bool = False) -> bytes:
    if extended:
        return struct.pack(">I4sQ", 1, kind, 16 + len(content)) + content
    return struct.pack(">I4s", 8 + len(content), kind) + content


SMALL = encode(Image.new("L", (8, 8)), "JPEG2000", no_jp2=True)
LARGE = encode(Image.new("L", (30, 20)), "JPEG2000", no_jp2=True)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("decoy", [b"uuid", b"free", b"xml "])
def test_a_codestream_inside_another_box_is_not_believed(decoy: bytes, extended: bool) -> None:
    """Pillow's decoder, too, reads the codestream of the boxes."""
    whole = encode(Image.new("L", (30, 20)), "JPEG2000")
    start = whole.index(b"jp2c") - 4
    content = whole[:start] + box(decoy, b"u" * 16 + box(b"jp2c", SMALL), extended=extended) + whole[start:]
    assert coded_size(content) == CodedSize(20, 30, 1)
    decoded = Image.open(io.BytesIO(content))
    decoded.load()
    assert decoded.size == (30, 20)


def test_the_codestream_box_may_be_open_ended_or_extended() -> None:
    for last in (struct.pack(">I4s", 0, b"jp2c") + LARGE, box(b"jp2c", LARGE, extended=True)):
        assert coded_size(JP2_SIGNATURE + box(b"ftyp", b"jp2 ") + last) == CodedSize(20, 30, 1)


@pytest.mark.parametrize(
    "content",
    [
        b"\0" + LARGE,
        box(b"jp2c", LARGE),
        JP2_SIGNATURE + struct.pack(">I4s", 0, b"uuid") + box(b"jp2c", LARGE),
        JP2_SIGNATURE + struct.pack(">I4s", 7, b"uuid") + box(b"jp2c", LARGE),
        JP2_SIGNATURE + struct.pack(">I4sQ", 1, b"uuid", 15) + box(b"jp2c", LARGE),
        JP2_SIGNATURE + box(b"free", b"") * 1024 + box(b"jp2c", LARGE),
        JP2_SIGNATURE + box(b"jp2c", b"\0" + LARGE),
    ],
)
def test_a_codestream_anywhere_else_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="neither a JPEG nor|without a codestream in its boxes"):
        coded_size(content)


@given(st.binary(max_size=80), st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xc0", SOC_SIZ, JP2_SIGNATURE]))
def test_any_bytes_give_a_size_or_value_error(data: bytes, magic: bytes) -> None:
    try:
        size = coded_size(magic + data)
    except (ValueError, struct.error):
        return
    assert size.rows >= 0 and size.columns >= 0


def rle(*segments: bytes) -> bytes:
    starts = np.cumsum([64, *map(len, segments[:-1])]).tolist()
    return struct.pack("<16L", len(segments), *starts, *[0] * (15 - len(segments))) + b"".join(segments)


def test_run_length_sizes() -> None:
    # three literals; a run of 5 (257 - 252); a no-op; then a second segment of one literal
    frame = rle(b"\x02abc\xfcz\x80", b"\x00q")
    assert run_length_sizes(frame, 100) == [3 + 5, 1]


def test_run_length_counting_stops() -> None:
    (size,) = run_length_sizes(rle(b"\x81\x00" * 10_000), 1000)
    assert 1000 < size < 1200
    with pytest.raises(ValueError, match="99 segments"):
        run_length_sizes(struct.pack("<16L", 99, *[0] * 15), 10)
