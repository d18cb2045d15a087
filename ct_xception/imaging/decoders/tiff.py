"""What a TIFF says of itself: its directories walked, and held to what reading them may cost, before Pillow opens it.

Pillow loads the value of every tag of every page that it passes, and 65,000 tags may all point at the same bytes: a
file of 1.8 MB once took 18.5 GB. EXIF blocks, inside JPEG, PNG and WebP, are the same structure (TIFF 6.0 section 2).
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO, NamedTuple

from ct_xception.errors import SliceError
from ct_xception.imaging.slice import MAX_PIXELS

MAX_PAGES = 4_000  # of one TIFF: Pillow parses every page on the way
MAX_TAGS = 400  # of one page; scanners and microscopes write some dozens
MAX_PAGE_BYTES = 4 * 2**20  # that the tags of one page point at: colour profiles and offsets of strips
MAX_WALKED_BYTES = 64 * 2**20  # of the pages together
MAX_EXIF_BYTES = 2**20
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
WIDTH, HEIGHT, SAMPLES, TILE_WIDTH, TILE_HEIGHT, ORIENTATION = 256, 257, 277, 322, 323, 0x0112
MAX_SAMPLES = 5
REMEDY = "export it again as PNG"


class _Layout(NamedTuple):
    """How a TIFF is written: byte order, and whether with the offsets of 64 bits of BigTIFF."""

    order: str
    big: bool

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.big else "L")


class Page(NamedTuple):
    """One directory: how many bytes its tags point at, the short values among them, and where the next one is."""

    bytes: int
    values: dict[int, int]
    next: int


def walk_tiff(stream: BinaryIO, label: str, enough: int | None = None) -> int:
    """The pages of an open TIFF, counted no further than `enough`.

    Raises SliceError for one that would cost too much: tags, bytes behind tags, pages, tiles, samples.
    """
    layout, position = _start(stream)
    seen: set[int] = set()
    walked = 0
    while position and position not in seen:
        if len(seen) == enough:
            break
        if len(seen) == MAX_PAGES:
            raise SliceError(label, f"a TIFF of more than {MAX_PAGES} pages", "split it and give a part of it")
        seen.add(position)
        page = _read_page(stream, layout, position, label)
        _check_page(page, label)
        walked += page.bytes
        if walked > MAX_WALKED_BYTES:
            raise SliceError(label, f"TIFF tags of more than {MAX_WALKED_BYTES // 2**20} MiB", REMEDY)
        position = page.next
    stream.seek(0)
    return len(seen)


def exif_orientation(block: bytes, label: str) -> int:
    """The orientation, 1 to 8, that an EXIF block (a small TIFF) tells; 1 where none. Raises SliceError for a bomb."""
    block = block.removeprefix(b"Exif\0\0")
    if len(block) < 8 or block[:2] not in (b"II", b"MM"):
        return 1
    stream = io.BytesIO(block)
    layout, position = _start(stream)
    page = _read_page(stream, layout, position, label)
    if page.bytes > MAX_EXIF_BYTES:
        raise SliceError(label, f"EXIF tags of more than {MAX_EXIF_BYTES // 2**20} MiB", REMEDY)
    found = page.values.get(ORIENTATION, 1)
    return found if 1 <= found <= 8 else 1


def _start(stream: BinaryIO) -> tuple[_Layout, int]:
    stream.seek(0)
    head = stream.read(16).ljust(16, b"\0")
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", head, 2)[0] == 43
    layout = _Layout(order, big)
    return layout, struct.unpack_from(layout.offset, head, 8 if big else 4)[0]


def _read_page(stream: BinaryIO, layout: _Layout, position: int, label: str) -> Page:
    """A directory at `position`; one cut short gives what is there."""
    stream.seek(position)
    counter, entry = ("Q", "HHQQ") if layout.big else ("H", "HHLL")
    width = struct.calcsize(layout.order + entry)
    head = stream.read(struct.calcsize(layout.order + counter))
    if len(head) < struct.calcsize(layout.order + counter):
        return Page(0, {}, 0)
    count = struct.unpack(layout.order + counter, head)[0]
    if count > MAX_TAGS:
        raise SliceError(label, f"{count} tags, where a picture has some dozens", REMEDY)
    body = stream.read(count * width)
    total, values = 0, {}
    for tag, kind, number, value in struct.iter_unpack(layout.order + entry, body[: len(body) // width * width]):
        total += number * SIZES.get(kind, 0)
        if number == 1 and kind in (3, 4):
            shift = (64 if layout.big else 32) - (16 if kind == 3 else 32)
            values[tag] = value >> shift if layout.order == ">" else value & (0xFFFF if kind == 3 else 0xFFFFFFFF)
    tail = stream.read(struct.calcsize(layout.offset))
    following = struct.unpack(layout.offset, tail)[0] if len(tail) == struct.calcsize(layout.offset) else 0
    return Page(total, values, following)


def _check_page(page: Page, label: str) -> None:
    if page.bytes > MAX_PAGE_BYTES:
        found = f"TIFF tags that hold {page.bytes // 2**20} MiB beside the picture"
        raise SliceError(label, found, REMEDY)
    tile = page.values.get(TILE_WIDTH, 0) * page.values.get(TILE_HEIGHT, 0)
    if tile > MAX_PIXELS:
        raise SliceError(label, f"TIFF tiles of {tile // 1_000_000} million pixels", REMEDY)
    samples = page.values.get(SAMPLES, 1)
    if samples > MAX_SAMPLES:
        raise SliceError(label, f"a TIFF of {samples} samples a pixel", REMEDY)
