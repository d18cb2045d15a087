"""How large an encoded pixel stream would become, read from its own header without decoding it.

A DICOM header may say 512 x 512 while the JPEG 2000 stream inside says 30,000 x 30,000 (956 bytes once cost a
gigabyte), and deflate or run lengths expand by their content alone. These readers let the size be judged first.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

MAX_J2K_SAMPLES = 8_000_000  # of a JPEG 2000 frame: its decoders keep several copies of 4 bytes each
MAX_RUNS = 500_000  # of an RLE frame
MAX_TILES = 4096  # of one JPEG 2000 image: each costs a decoder memory, whatever its size
MAX_BOXES = 1024  # before a JP2 file's codestream, of which writers put a handful
JP2_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"  # T.800 I.5.1, the first box
SOC_SIZ = b"\xff\x4f\xff\x51"  # how a JPEG 2000 codestream begins (T.800 A.2)
SOT, EOC = b"\xff\x90", b"\xff\xd9"
SMALL = 4096  # bytes of a codestream that may well be blank: a picture of one grey
_BLANK = re.compile(rb"\0{192,}")  # arithmetic coding never writes so much of nothing; empty packets of flat parts may
# Start-of-frame markers (ITU-T T.81 table B.1; T.87 adds JPEG-LS's F7); C4, C8 and CC mean other things.
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}


@dataclass(frozen=True)
class CodedSize:
    """What a codestream says of itself: rows, columns and samples per pixel."""

    rows: int
    columns: int
    samples: int


def coded_size(codestream: bytes) -> CodedSize:
    """The size in a JPEG, JPEG-LS or JPEG 2000 codestream's header. Raises ValueError where there is none."""
    if codestream[:2] == b"\xff\xd8":
        return _jpeg_size(codestream)
    start = _jp2_codestream(codestream) if codestream.startswith(JP2_SIGNATURE) else 0
    if not codestream.startswith(SOC_SIZ, start):
        raise ValueError("neither a JPEG nor a JPEG 2000 codestream")
    return _jpeg2000_size(codestream[start + 4 : start + 42])


def _jpeg_size(codestream: bytes) -> CodedSize:
    """Walk the marker segments to the start of frame (T.81 B.2.2)."""
    position = 2
    while position + 9 < len(codestream):
        if codestream[position] != 0xFF:
            raise ValueError("a damaged JPEG header")
        marker = codestream[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker in START_OF_FRAME:
            rows, columns, samples = struct.unpack_from(">HHB", codestream, position + 5)
            return CodedSize(rows, columns, samples)
        position += 2 + max(2, struct.unpack_from(">H", codestream, position + 2)[0])
    raise ValueError("a JPEG without a frame header")


def _jp2_codestream(content: bytes) -> int:
    """Walk a JP2 file's boxes (T.800 I.4) to the first codestream, as decoders do, and tell where it starts.

    What merely looks like a codestream, inside another box, must not be believed.
    """
    position = len(JP2_SIGNATURE)
    for _ in range(MAX_BOXES):
        if position + 8 > len(content):
            break
        length, kind = struct.unpack_from(">I4s", content, position)
        head = 8
        if length == 1 and position + 16 <= len(content):  # the length follows in 64 bits
            length, head = struct.unpack_from(">Q", content, position + 8)[0], 16
        if kind == b"jp2c":
            return position + head
        if length < head:  # 0 says that the box reaches to the end
            break
        position += length
    raise ValueError("a JP2 file without a codestream in its boxes")


def _jpeg2000_size(siz: bytes) -> CodedSize:
    """The SIZ marker segment (T.800 A.5.1), from its length on."""
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top = struct.unpack_from(">8I", siz, 4)
    samples = struct.unpack_from(">H", siz, 36)[0]
    if not (right > left and bottom > top and tile_width and tile_height):
        raise ValueError("a damaged JPEG 2000 header")
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    if tiles > MAX_TILES:
        raise ValueError(f"a JPEG 2000 image of {tiles} tiles")
    return CodedSize(bottom - top, right - left, samples)


def check_jpeg2000(codestream: bytes) -> None:
    """Raise ValueError where tile-parts (T.800 A.4.2) reach beyond the data, the end lacks, or a part is blank."""
    start = _jp2_codestream(codestream) if codestream.startswith(JP2_SIGNATURE) else 0
    position = start + 2
    while codestream[position : position + 2] not in (SOT, b""):
        position += 2 + max(2, struct.unpack_from(">H", codestream, position + 2)[0])
    while codestream[position : position + 2] == SOT:
        length = struct.unpack_from(">L", codestream, position + 6)[0]
        if length == 0:  # the last one, up to the end
            length = len(codestream) - position - 2
        if length < 14 or position + length > len(codestream):
            raise ValueError("a JPEG 2000 codestream cut short")
        position += length
    if codestream[position : position + 2] != EOC and codestream.rstrip(b"\0")[-2:] != EOC:
        raise ValueError("a JPEG 2000 codestream without its end: cut short")
    if (blank := _BLANK.search(codestream, start)) and blank.end() - blank.start() > len(codestream) // 50:
        if len(codestream) > SMALL:
            raise ValueError("a JPEG 2000 codestream with a blank stretch: damaged in the middle")


def run_length_sizes(frame: bytes, limit: int) -> list[int]:
    """Bytes that each segment of an RLE frame (DICOM PS3.5 annex G) decodes to; counting stops above `limit`."""
    segments, *offsets = struct.unpack_from("<16L", frame)
    if not 1 <= segments <= 15:
        raise ValueError(f"an RLE frame of {segments} segments")
    sizes, runs, edges = list[int](), 0, [*offsets[:segments], len(frame)]
    for start, end in zip(edges, edges[1:], strict=False):
        position, total = start, 0
        while position < end and total <= limit and runs <= MAX_RUNS:
            control, runs = frame[position], runs + 1
            if control < 128:  # that many and one literal bytes follow
                total += control + 1
                position += control + 2
            else:  # one byte, repeated; 128 does nothing
                total += 257 - control if control > 128 else 0
                position += 2 if control > 128 else 1
        if runs > MAX_RUNS:
            raise ValueError(f"an RLE frame of more than {MAX_RUNS:,} runs")
        sizes.append(total)
    return sizes
