"""How many pictures a GIF or WebP file holds, told by its blocks alone. No decoder is asked."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from ct_xception.errors import SliceError
from ct_xception.imaging.decoders.tiff import exif_orientation
from ct_xception.imaging.slice import check_pixels

MAX_BLOCKS = 300_000  # of a GIF, of 255 bytes each
ZEROED = re.compile(rb"\0{128}")  # arithmetic and prefix coding never write so much of nothing
REMEDY = "copy or download it again"


class Animation(NamedTuple):
    """Pictures in the file, and the EXIF orientation, 1 to 8."""

    frames: int
    orientation: int = 1


def walk_gif(content: bytes, label: str) -> Animation:
    """Walk a GIF's blocks (GIF89a section 11 on). Raises SliceError for too many, or a frame that is too large."""
    if len(content) < 13:
        raise SliceError(label, "a GIF cut short", REMEDY)
    _check_frame(content, 6, label)
    position, frames, blocks = 13 + _table(content[10]), 0, 0
    while position < len(content) and content[position] != 0x3B:
        if content[position] == 0x2C and position + 10 <= len(content):
            frames += 1
            _check_frame(content, position + 5, label)
            position += 11 + _table(content[position + 9])
        else:
            position += 2
        while position < len(content) and content[position]:
            position += content[position] + 1
            blocks += 1
            if blocks > MAX_BLOCKS:
                raise SliceError(label, f"a GIF of more than {MAX_BLOCKS} blocks", "export it as PNG")
        position += 1
    return Animation(max(1, frames))


def _check_frame(content: bytes, position: int, label: str) -> None:
    columns, rows = struct.unpack_from("<HH", content, position)
    check_pixels(rows, columns, label)


def _table(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def walk_webp(content: bytes, label: str) -> Animation:
    """Walk a WebP's chunks (RFC 9649). Raises SliceError where a part of it is blank."""
    position, frames, others, orientation = 12, 0, 0, 1
    while position + 8 <= len(content):
        kind, length = struct.unpack_from("<4sL", content, position)
        body = content[position + 8 : position + 8 + length]
        if kind in (b"VP8 ", b"VP8L", b"ANMF"):
            frames += 1
            if ZEROED.search(body):
                raise SliceError(label, "a WebP with a blank stretch in its pixels: damaged in the middle", REMEDY)
        others += kind not in (b"VP8 ", b"VP8L", b"ANMF", b"ALPH")
        if others > 100:
            raise SliceError(label, "a WebP of more than 100 chunks beside its pixels", "export it as PNG")
        if kind == b"EXIF":
            orientation = exif_orientation(body, label)
        position += 8 + length + length % 2
    return Animation(max(1, frames), orientation)
