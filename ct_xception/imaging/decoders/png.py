"""What a PNG says of itself and really holds: its chunks walked and its rows counted before Pillow opens it.

A PNG whose rows end early, with right checksums, decodes in silence, the rest black; a count of the inflated bytes,
never held, tells. https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import BinaryIO

from ct_xception.errors import SliceError
from ct_xception.imaging.decoders.tiff import exif_orientation
from ct_xception.imaging.slice import check_pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
MAX_CHUNKS = 20_000  # of pixels: 16 million of them in chunks of 8 KiB are some thousands
MAX_OTHERS = 500  # of text and settings
MAX_OTHER_BYTES = 16 * 2**20
STEP = 2**18
REMEDY = "copy or download it again"


@dataclass
class _Rows:
    """Counts what one picture's compressed chunks inflate to, up to one byte more than its rows need."""

    expected: int
    found: int = 0
    inflater: zlib._Decompress = field(default_factory=zlib.decompressobj)

    def feed(self, data: bytes) -> None:
        while data and self.found < self.expected and not self.inflater.eof:
            self.found += len(self.inflater.decompress(data, STEP))
            data = self.inflater.unconsumed_tail


@dataclass
class PngFile:
    """Size, bits a sample and colour type of the header; `frames` of an animation, else 1; tRNS and EXIF as stored."""

    rows: int
    columns: int
    bits: int
    colour: int
    frames: int = 1
    transparency: bytes = b""
    orientation: int = 1


def walk_png(stream: BinaryIO, label: str) -> PngFile:
    """Walk an open PNG's chunks. Raises SliceError where rows are missing, or reading it would cost too much."""
    stream.seek(len(SIGNATURE))
    png, rows, pixels, others, bytes_of_others = None, None, 0, 0, 0
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">L4s", head)
        if kind == b"IEND":
            break
        if kind in (b"IDAT", b"fdAT"):
            pixels += 1
        else:
            others, bytes_of_others = others + 1, bytes_of_others + length
        if pixels > MAX_CHUNKS or others > MAX_OTHERS or bytes_of_others > MAX_OTHER_BYTES:
            found = f"{pixels + others} chunks or more than {MAX_OTHER_BYTES // 2**20} MiB beside its pixels"
            raise SliceError(label, f"a PNG with {found}", "export it again without its metadata")
        data = _body(stream, kind, length, label)
        if kind == b"IHDR":
            png = _header(data, label)
            interlaced = data[12] == 1
            rows = _Rows(_raw_bytes(png, png.rows, png.columns, interlaced))
        elif png is None or rows is None:
            raise SliceError(label, "a PNG that does not begin with its header", REMEDY)
        elif kind == b"fcTL" and rows.found:
            _check_rows(rows, png, label)
            rows = _Rows(_raw_bytes(png, *_size(data), interlaced))
        elif kind in (b"IDAT", b"fdAT"):
            _feed(rows, data[4:] if kind == b"fdAT" else data, label)
        else:
            _note(png, kind, data, label)
    if png is None or rows is None:
        raise SliceError(label, "a PNG without a header", REMEDY)
    _check_rows(rows, png, label)
    stream.seek(0)
    return png


def _body(stream: BinaryIO, kind: bytes, length: int, label: str) -> bytes:
    """A chunk's data, its checksum held against it (W3C PNG 5.5)."""
    data = stream.read(length)
    if len(data) < length:
        raise SliceError(label, "a PNG cut short", REMEDY)
    if stream.read(4) != struct.pack(">L", zlib.crc32(data, zlib.crc32(kind))):
        raise SliceError(label, "a damaged PNG: a chunk that does not fit its checksum", REMEDY)
    return data


def _header(data: bytes, label: str) -> PngFile:
    if len(data) != 13 or data[9] not in CHANNELS or data[8] not in (1, 2, 4, 8, 16):
        raise SliceError(label, "a damaged PNG header", REMEDY)
    columns, rows, bits, colour = struct.unpack_from(">LLBB", data)
    check_pixels(rows, columns, label)
    return PngFile(rows, columns, bits, colour)


def _size(control: bytes) -> tuple[int, int]:
    """Rows and columns of an animation's frame (fcTL)."""
    columns, rows = struct.unpack_from(">LL", control.ljust(12, b"\0"), 4)
    return rows, columns


def _raw_bytes(png: PngFile, rows: int, columns: int, interlaced: bool) -> int:
    """Bytes of filtered rows: one of the filter's kind and the samples of each row, of each pass (W3C PNG 7.2, 8)."""
    bits = png.bits * CHANNELS[png.colour]
    if not interlaced:
        return rows * (1 + -(-columns * bits // 8))
    total = 0
    for top, down, left, across in ADAM7:
        lines, samples = -(-(rows - top) // down), -(-(columns - left) // across)
        if lines > 0 and samples > 0:
            total += lines * (1 + -(-samples * bits // 8))
    return total


def _feed(rows: _Rows, data: bytes, label: str) -> None:
    try:
        rows.feed(data)
    except zlib.error:
        raise SliceError(label, "a PNG whose pixels are damaged", REMEDY) from None


def _check_rows(rows: _Rows, png: PngFile, label: str) -> None:
    if rows.found < rows.expected:
        share = 100 * rows.found // rows.expected
        found = f"a PNG that holds {share} % of the {png.rows} rows it declares: the rest is missing"
        raise SliceError(label, found, REMEDY)


def _note(png: PngFile, kind: bytes, data: bytes, label: str) -> None:
    if kind == b"acTL" and len(data) >= 4:
        png.frames = max(1, struct.unpack_from(">L", data)[0])
    elif kind == b"tRNS":
        png.transparency = data
    elif kind == b"eXIf":
        png.orientation = exif_orientation(data, label)
