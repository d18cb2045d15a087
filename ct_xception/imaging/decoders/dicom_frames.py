"""One frame's pixels of a DICOM file: found by its offset, held to its bounds, looked through for gaps, decoded.

Only that frame's bytes are ever read: an enhanced CT has hundreds. DICOM PS3.5 section 8 and annex A.4.
"""

from __future__ import annotations

import struct
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ct_xception.errors import SliceError
from ct_xception.imaging.decoders.codestreams import (
    MAX_J2K_SAMPLES,
    check_jpeg2000,
    coded_size,
    run_length_sizes,
)
from ct_xception.imaging.decoders.elements import BIG_ENDIAN, REMEDY, Elements
from ct_xception.imaging.decoders.jpeg import JPEG_LS, check_complete, count_pictures, walk_jpeg
from ct_xception.imaging.decoders.pictures import decode_jpeg
from ct_xception.imaging.silence import muted_descriptor
from ct_xception.imaging.slice import check_pixels

if TYPE_CHECKING:
    from pydicom import Dataset

RUN_LENGTH = "1.2.840.10008.1.2.5"
MAX_FRAGMENTS = 50_000
MAX_CODED = 64 * 2**20  # bytes of one encoded frame
MOST_PADDED = 4  # bytes
MAX_CODED_PIXELS = 8_000_000  # of any encoded frame: lossless JPEG is decoded three times to be believed


@dataclass(frozen=True)
class Frames:
    """How many frames the header declares and the pixels hold, and where in the stream each one's bytes lie."""

    declared: int
    held: int
    places: tuple[tuple[tuple[int, int], ...], ...] = ()

    @property
    def count(self) -> int:
        """Frames among which one must be chosen: what is held counts where it is more."""
        return max(self.declared, self.held)


def find_frames(elements: Elements, dataset: Dataset, declared: int, label: str) -> Frames:
    """Count the frames that the pixel element holds, and find their bytes, without reading them."""
    pixels = elements.pixels
    if pixels is None:
        return Frames(declared, 0)
    if pixels.length is not None:
        size = _native_bytes(dataset)
        return Frames(declared, pixels.length // size if size else 0)
    offsets, fragments = _fragments(elements, label)
    extended = dataset.get("ExtendedOffsetTable")
    if isinstance(extended, bytes):
        offsets = struct.unpack(f"<{len(extended) // 8}Q", extended[: len(extended) // 8 * 8])
    places = _group(elements, offsets, fragments, declared)
    return Frames(declared, len(places), places)


def _native_bytes(dataset: Dataset) -> int:
    samples = dataset.SamplesPerPixel
    if samples == 3 and str(dataset.PhotometricInterpretation) == "YBR_FULL_422":
        samples = 2
    return int(dataset.Rows) * int(dataset.Columns) * int(samples) * int(dataset.BitsAllocated) // 8


def _fragments(elements: Elements, label: str) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
    """The basic offset table, and each fragment's (start of its item, length)."""
    assert elements.pixels is not None
    stream, position = elements.stream, elements.pixels.offset
    offsets: tuple[int, ...] | None = None
    fragments: list[tuple[int, int]] = []
    while len(fragments) <= MAX_FRAGMENTS:
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8 or head[:4] != b"\xfe\xff\x00\xe0":
            return offsets or (), fragments
        length = struct.unpack_from("<L", head, 4)[0]
        if offsets is None:
            table = stream.read(min(length, 4 * MAX_FRAGMENTS))
            offsets = struct.unpack(f"<{len(table) // 4}L", table[: len(table) // 4 * 4])
        else:
            fragments.append((position, length))
        position += 8 + length
    raise SliceError(label, f"DICOM pixels in more than {MAX_FRAGMENTS} fragments", REMEDY)


def _group(
    elements: Elements, offsets: tuple[int, ...], fragments: list[tuple[int, int]], declared: int
) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Fragments by frame: by the offset table, else one each, else as each begins a codestream (PS3.5 A.4)."""
    if not fragments:
        return ()
    first = fragments[0][0]
    if len(offsets) > 1:
        starts = {first + offset for offset in offsets}
    elif len(fragments) == declared:
        starts = {start for start, _ in fragments}
    else:
        starts = {start for start, length in fragments if _begins_codestream(elements, start)} | {first}
    frames: list[list[tuple[int, int]]] = []
    for start, length in fragments:
        if start in starts or not frames:
            frames.append([])
        frames[-1].append((start + 8, length))
    return tuple(tuple(frame) for frame in frames)


def _begins_codestream(elements: Elements, start: int) -> bool:
    elements.stream.seek(start + 8)
    return elements.stream.read(4)[:3] in (b"\xff\xd8\xff", b"\xff\x4f\xff")


def read_frame(elements: Elements, dataset: Dataset, frames: Frames, index: int, label: str) -> np.ndarray:
    """One frame's stored pixels, (H, W) or (H, W, 3) RGB. Raises SliceError where it is cut, damaged or too large.

    Signedness that a codestream denies is mended by pydicom.
    """
    assert elements.pixels is not None
    if elements.pixels.length is not None:
        content = _native_frame(elements, dataset, index, label)
        return _decode(dataset, content, encoded=False, vr=elements.pixels.vr)
    if index >= len(frames.places):
        raise SliceError(label, f"{frames.held} frames of pixels, where it declares {frames.declared}", REMEDY)
    coded = _coded_frame(elements, frames.places[index], label)
    _check_coded(coded, dataset, label)
    try:
        return _decode(dataset, coded, encoded=True)
    except Exception as error:  # whatever pydicom's decoders raise, of whose insides nobody needs to know
        kind = dataset.file_meta.TransferSyntaxUID.name
        raise SliceError(label, f"pixels in {kind} that cannot be decoded: damaged or cut", REMEDY) from error


def _native_frame(elements: Elements, dataset: Dataset, index: int, label: str) -> bytes:
    assert elements.pixels is not None
    size = _native_bytes(dataset)
    elements.stream.seek(elements.pixels.offset + index * size)
    content = elements.stream.read(size + size % 2)  # big-endian words swap the last byte with its padding
    if len(content) < size:
        found = f"cut short: {len(content):,} of the {size:,} bytes of its pixels"
        raise SliceError(label, found, "copy or download it again")
    return content


def _coded_frame(elements: Elements, places: tuple[tuple[int, int], ...], label: str) -> bytes:
    if sum(length for _, length in places) > MAX_CODED:
        raise SliceError(label, f"an encoded frame of more than {MAX_CODED // 2**20} MiB", REMEDY)
    parts = []
    for start, length in places:
        elements.stream.seek(start)
        parts.append(elements.stream.read(length))
        if len(parts[-1]) < length:
            raise SliceError(label, "cut short: its last bytes of pixels are missing", "copy or download it again")
    return b"".join(parts)


def _check_coded(coded: bytes, dataset: Dataset, label: str) -> None:
    """Hold an encoded frame's own size against the DICOM header's, and look for gaps, before a decoder believes it."""
    rows, columns, samples = dataset.Rows, dataset.Columns, dataset.SamplesPerPixel
    check_pixels(rows, columns, label, MAX_CODED_PIXELS)
    if dataset.file_meta.TransferSyntaxUID == RUN_LENGTH:
        # A segment may be padded to an even length; whatever else is too much or too little was damaged in the middle.
        expected, parts = rows * columns, samples * (dataset.BitsAllocated // 8)
        sizes = run_length_sizes(coded, expected + MOST_PADDED)
        if len(sizes) != parts or not all(expected <= size <= expected + MOST_PADDED for size in sizes):
            told = f"an RLE frame of {sum(sizes):,} bytes where its pixels need {expected * parts:,}"
            raise SliceError(label, told, REMEDY)
        return
    size = coded_size(coded)
    if (size.rows, size.columns, size.samples) != (rows, columns, samples):
        inner = f"{size.columns} x {size.rows} x {size.samples}"
        found_size = f"a codestream of {inner} in a DICOM of {columns} x {rows} x {samples}"
        raise SliceError(label, found_size, REMEDY)
    if coded[:2] == b"\xff\xd8":
        _check_jpeg(coded, dataset, label)
    else:
        check_pixels(rows, columns * samples, label, MAX_J2K_SAMPLES)
        check_jpeg2000(coded)


def _check_jpeg(coded: bytes, dataset: Dataset, label: str) -> None:
    jpeg = walk_jpeg(coded, label)
    if count_pictures(coded, jpeg) > 1:
        raise SliceError(label, "two pictures in the bytes of one frame", REMEDY)
    lossless = jpeg.process == JPEG_LS or jpeg.process not in (0xC0, 0xC1, 0xC2)
    plain = not lossless and jpeg.precision == 8
    decode = decode_jpeg if plain else partial(_decode, dataset, encoded=True)
    check_complete(coded[: jpeg.end], jpeg, decode, label)


def _decode(dataset: Dataset, content: bytes, *, encoded: bool, vr: str = "") -> np.ndarray:
    """Decode the bytes of one frame as if the file held no other."""
    import pydicom
    from pydicom.encaps import encapsulate
    from pydicom.pixels import pixel_array

    one = pydicom.Dataset()
    for keyword in (
        "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "BitsAllocated",
        "BitsStored", "HighBit", "PixelRepresentation",
    ):  # fmt: skip
        if keyword in dataset:
            one[keyword] = dataset[keyword]
    one.file_meta = dataset.file_meta
    one.PixelData = encapsulate([content]) if encoded else content + b"\0" * (len(content) % 2)
    native = vr if vr in ("OB", "OW") else "OW"
    one["PixelData"].VR = "OB" if encoded else native
    one["PixelData"].is_undefined_length = encoded
    big = dataset.file_meta.TransferSyntaxUID == BIG_ENDIAN
    one.set_original_encoding(dataset.original_encoding[0], not big, None)
    with muted_descriptor() if encoded else nullcontext():
        return pixel_array(one, index=0)
