"""What a JPEG says of itself and really holds: its segments walked, its scans counted, and missing data found.

A decoder that runs out of data, or loses its step in damaged data, fills the rest with grey and says nothing. Its
entropy-coded segment tells by an experiment: bytes added behind complete data change nothing, behind data that end
early they are decoded; bytes changed at the very end of complete data show, behind data that were left over they do
not. ITU-T T.81 sections B and F.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ct_xception.errors import SliceError
from ct_xception.imaging.decoders.animations import ZEROED
from ct_xception.imaging.decoders.tiff import exif_orientation
from ct_xception.imaging.slice import check_pixels

SOI, EOI, SOS, DRI, JPEG_LS = 0xD8, 0xD9, 0xDA, 0xDD, 0xF7
# Start-of-frame markers (table B.1; T.87 adds JPEG-LS's F7); C4, C8 and CC mean other things.
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
MAX_SEGMENTS = 1_000
MAX_SCANS = 64  # encoders write some ten
MAX_SCANNED = 250_000_000  # pixels times scans: each scan visits the whole picture again
PAD = bytes.fromhex("6b3b94d65aa5c396b5d24b69963ca55a6b3b94d65aa5c396b5d24b69963ca55a")  # no FF among them
TAIL = 48  # bytes: the last units of a colour picture may hold nothing but chroma and what lies beyond its edges
_SCAN_END = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
_LS_SCAN_END = re.compile(rb"\xff[\x80-\xfe]")  # JPEG-LS stuffs a bit, not a byte (T.87 A.1)
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
REMEDY = "copy or download it again"

Decode = Callable[[bytes], np.ndarray]


@dataclass(frozen=True)
class Scan:
    """One scan: its components, spectral band, successive approximation, and where its entropy-coded bytes lie."""

    components: tuple[int, ...]
    band: tuple[int, int]
    low_bit: int
    start: int
    end: int


@dataclass
class JpegFile:
    """The frame header, the scans, and `end`, where the picture's EOI marker ends (None without one)."""

    rows: int = 0
    columns: int = 0
    precision: int = 8
    process: int = 0
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    restart_interval: int = 0
    scans: list[Scan] = field(default_factory=list)
    end: int | None = None
    orientation: int = 1
    pictures: int = 1


def walk_jpeg(content: bytes, label: str) -> JpegFile:
    """Walk a JPEG's segments to the end of its first picture. Raises SliceError where that would cost too much."""
    jpeg = JpegFile()
    for marker, start, end in _segments(content, label, jpeg):
        body = content[start:end]
        if marker == EOI:
            jpeg.end = end
            break
        if marker in START_OF_FRAME:
            jpeg.process = marker
            _read_frame(jpeg, body, label)
        elif marker == DRI and len(body) >= 2:
            jpeg.restart_interval = struct.unpack_from(">H", body)[0]
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            jpeg.orientation = exif_orientation(body, label)
        elif marker == 0xE2 and body.startswith(b"MPF\0"):
            jpeg.pictures = max(jpeg.pictures, _multi_pictures(body[4:]))
        elif marker == SOS:
            jpeg.scans.append(_read_scan(content, body, end, jpeg))
            _check_scans(jpeg, label)
    if not jpeg.rows or not jpeg.scans:
        raise SliceError(label, "a JPEG without a picture", REMEDY)
    return jpeg


def _segments(content: bytes, label: str, jpeg: JpegFile) -> Iterator[tuple[int, int, int]]:
    """Each segment's marker, and where its body starts and ends; past a scan, the next one after its data."""
    position, count = 2, 0
    while position + 2 <= len(content):
        if content[position] != 0xFF:
            raise SliceError(label, "a damaged JPEG header", REMEDY)
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        count += 1
        if count > MAX_SEGMENTS:
            raise SliceError(label, f"a JPEG of more than {MAX_SEGMENTS} segments", "export it again without metadata")
        if marker in (EOI, SOI, 0x01) or 0xD0 <= marker <= 0xD7:
            yield marker, position + 2, position + 2
            position += 2
            continue
        if position + 4 > len(content):
            return
        end = position + 2 + max(2, struct.unpack_from(">H", content, position + 2)[0])
        yield marker, position + 4, end
        position = _scan_end(content, end, jpeg) if marker == SOS else end


def _scan_end(content: bytes, start: int, jpeg: JpegFile) -> int:
    """Where entropy-coded data from `start` end: at the next marker that is no restart and no stuffed zero."""
    found = (_LS_SCAN_END if jpeg.process == JPEG_LS else _SCAN_END).search(content, start)
    return len(content) if found is None else found.end() - 2


def _read_frame(jpeg: JpegFile, body: bytes, label: str) -> None:
    if jpeg.rows or len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise SliceError(label, "a JPEG with a damaged frame header", REMEDY)
    jpeg.precision, jpeg.rows, jpeg.columns, samples = struct.unpack_from(">BHHB", body)
    check_pixels(jpeg.rows, jpeg.columns, label)
    if not 1 <= samples <= 4:
        raise SliceError(label, f"a JPEG of {samples} components", REMEDY)
    for index in range(samples):
        name, factors = body[6 + 3 * index], body[7 + 3 * index]
        jpeg.sampling[name] = (factors >> 4, factors & 15)


def _read_scan(content: bytes, body: bytes, start: int, jpeg: JpegFile) -> Scan:
    count = body[0] if body else 0
    components = tuple(body[1 + 2 * index] for index in range(count) if 1 + 2 * index < len(body))
    tail = body[1 + 2 * count : 4 + 2 * count].ljust(3, b"\0")
    return Scan(components, (tail[0], tail[1]), tail[2] & 15, start, _scan_end(content, start, jpeg))


def _check_scans(jpeg: JpegFile, label: str) -> None:
    count = len(jpeg.scans)
    if count > MAX_SCANS or count * jpeg.rows * jpeg.columns > MAX_SCANNED:
        found = f"a JPEG of more than {count - 1} scans of {jpeg.columns} x {jpeg.rows} pixels"
        raise SliceError(label, found, "export it again, as a baseline JPEG or PNG")


def _multi_pictures(block: bytes) -> int:
    """Pictures that a multi-picture block (CIPA DC-007 5.2.3) counts in its tag B001."""
    if len(block) < 10 or block[:2] not in (b"II", b"MM"):
        return 1
    order = "<" if block[:2] == b"II" else ">"
    start = struct.unpack_from(order + "L", block, 4)[0]
    count = struct.unpack_from(order + "H", block.ljust(start + 2, b"\0"), start)[0] if start < len(block) else 0
    for index in range(min(count, 32)):
        entry = block[start + 2 + 12 * index : start + 14 + 12 * index]
        if len(entry) == 12:
            tag, _, _, value = struct.unpack(order + "HHLL", entry)
            if tag == 0xB001:
                return int(value)
    return 1


def count_pictures(content: bytes, jpeg: JpegFile) -> int:
    """Pictures in the bytes: by their own index, or because another begins right behind the first."""
    rest = content[jpeg.end :][:4096].lstrip(b"\0\xff") if jpeg.end is not None else b""
    another = bool(rest) and content[jpeg.end :][:4096].find(b"\xff\xd8\xff") >= 0
    return max(jpeg.pictures, 2 if another else 1)


def check_complete(content: bytes, jpeg: JpegFile, decode: Decode, label: str) -> None:
    """Raise SliceError where entropy-coded data are missing or damaged; see the module. `decode` gives samples."""
    if jpeg.end is None:
        raise SliceError(label, "a JPEG without its end: cut short", REMEDY)
    if jpeg.process == JPEG_LS:  # whose decoder refuses what does not end with its last row
        return
    missing = _missing_scans(jpeg) or _missing_restarts(content, jpeg) or _blank_stretch(content, jpeg)
    if missing:
        raise SliceError(label, f"a JPEG with data missing: {missing}", REMEDY)
    whole, last = decode(content), jpeg.scans[-1]
    if not _same(decode, _padded(content, jpeg), whole):
        raise SliceError(label, "a JPEG whose data end before its last row: pixels are missing", REMEDY)
    if last.end - last.start >= 2 * TAIL and all(
        _same(decode, tampered, whole) for tampered in _tampered(content, jpeg)
    ):
        raise SliceError(label, "a JPEG whose data do not end with its last row: damaged in the middle", REMEDY)


def _same(decode: Decode, content: bytes, whole: np.ndarray) -> bool:
    try:
        found = decode(content)
    except Exception:  # a decoder that stumbles over the change has reached it
        return False
    return found.shape == whole.shape and bool((found == whole).all())


def _padded(content: bytes, jpeg: JpegFile) -> bytes:
    """The file with bytes added behind every stretch of entropy-coded data."""
    parts, last = [], 0
    for scan in jpeg.scans:
        ends = [m.start() for m in _RESTART.finditer(content, scan.start, scan.end)] if jpeg.restart_interval else []
        for end in [*ends, scan.end]:
            parts += [content[last:end], PAD]
            last = end
    return b"".join([*parts, content[last:]])


def _tampered(content: bytes, jpeg: JpegFile) -> Iterator[bytes]:
    """The file with its last entropy-coded bytes changed, in several ways: one alone may decode to the same black."""
    scan = jpeg.scans[-1]
    data = content[scan.start : scan.end]
    cut = len(data) - TAIL
    if data[cut - 1] == 0xFF:  # not to make a marker of a stuffed zero
        cut -= 1
    for turn in range(4):
        tail = bytes(value ^ (0x55 * turn & 0xFF) for value in PAD[turn:] + PAD)
        yield content[: scan.start] + data[:cut] + tail.replace(b"\xff", b"\xfe") + content[scan.end :]


def _blank_stretch(content: bytes, jpeg: JpegFile) -> str:
    """A stretch of zeros in a scan without DC: black has short codes there for thousands of blocks at once."""
    scans = [scan for scan in jpeg.scans if jpeg.process in PROGRESSIVE and scan.band[0] > 0]
    blank = any(ZEROED.search(content, scan.start, scan.end) for scan in scans)
    return "a blank stretch in the middle" if blank else ""


def _missing_scans(jpeg: JpegFile) -> str:
    """Which scans of the frame are not there: a component never coded, or coefficients not to their last bit."""
    progressive = jpeg.process in PROGRESSIVE
    for component in jpeg.sampling:
        seen = [scan for scan in jpeg.scans if component in scan.components]
        if not seen:
            return "a component has no scan"
        if progressive:
            final = {k for scan in seen if scan.low_bit == 0 for k in range(scan.band[0], scan.band[1] + 1)}
            if not final >= set(range(64)):
                return "the last scans are not there"
    return ""


def _missing_restarts(content: bytes, jpeg: JpegFile) -> str:
    """Whether the scan of a sequential frame has the restart markers that its interval asks for (E.1.4)."""
    if not jpeg.restart_interval or jpeg.process in PROGRESSIVE or len(jpeg.scans) != 1 or jpeg.process > 0xC1:
        return ""
    scan = jpeg.scans[0]
    across, down = (max(pair[axis] for pair in jpeg.sampling.values()) for axis in (0, 1))
    if len(scan.components) == 1:
        across = down = 1
    units = -(-jpeg.columns // (8 * across)) * -(-jpeg.rows // (8 * down))
    expected = -(-units // jpeg.restart_interval) - 1
    found = sum(1 for _ in _RESTART.finditer(content, scan.start, scan.end))
    return f"{expected - found} restart intervals" if found < expected else ""
