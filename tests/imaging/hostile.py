"""Small files that cost much to read, and broken ones that decode in silence, made by hand; no picture of a patient.

`COSTLY` must be refused or answered within a second and 300 MB; `BROKEN` must be refused. `seeds` are honest
files, to be damaged.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from tests.imaging.builders import ct, ct_dataset, dicom_bytes, encode, tiff

Make = Callable[[], bytes]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png(columns: int, rows: int, bits: int, colour: int, raw: bytes, *more: bytes, interlaced: bool = False) -> bytes:
    header = chunk(b"IHDR", struct.pack(">LLBBBBB", columns, rows, bits, colour, 0, 0, int(interlaced)))
    body = b"".join([*more, chunk(b"IDAT", zlib.compress(raw, 1)), chunk(b"IEND", b"")])
    return b"\x89PNG\r\n\x1a\n" + header + body


def tag_bomb(tags: int, size: int, *, big: bool = False) -> bytes:
    """A TIFF of 64 x 64 with many tags that point at the same bytes."""
    base = [(256, 4, 64), (257, 4, 64), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 0), (277, 3, 1), (278, 4, 64),
            (279, 4, 4096)]  # fmt: skip
    count, entry, offset = len(base) + tags, 20 if big else 12, 16 if big else 8
    start = offset + (8 if big else 2) + entry * count + (8 if big else 4)
    layout = "<HHQQ" if big else "<HHLL"
    entries = [struct.pack(layout, tag, kind, 1, start if tag == 273 else value) for tag, kind, value in base]
    entries += [struct.pack(layout, 1000 + index, 2, size, start) for index in range(tags)]
    head = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, count) if big else b"II*\0" + struct.pack("<LH", 8, count)
    return head + b"".join(entries) + bytes(8 if big else 4) + b"A" * max(size, 4096)


def tag_bomb_of_pages(pages: int, tags: int, size: int) -> bytes:
    one = tag_bomb(tags, size)
    count = struct.unpack_from("<H", one, 8)[0]
    directory, data = one[8 : 10 + 12 * count], one[14 + 12 * count :]
    width = len(directory) + 4
    start = 8 + pages * width
    old = 14 + 12 * count
    parts = [b"II*\0" + struct.pack("<L", 8)]
    for page in range(pages):
        entries = bytearray(directory)
        for index in range(count):
            at = 2 + 12 * index + 8
            if struct.unpack_from("<L", entries, at)[0] == old:
                struct.pack_into("<L", entries, at, start)
        parts += [bytes(entries), struct.pack("<L", 8 + (page + 1) * width if page + 1 < pages else 0)]
    return b"".join([*parts, data])


def tile_bomb() -> bytes:
    tags = [(256, 4, 8), (257, 4, 8), (258, 3, 8), (259, 3, 5), (262, 3, 1), (277, 3, 1), (322, 4, 30000),
            (323, 4, 30000), (324, 4, 8), (325, 4, 8)]  # fmt: skip
    entries = b"".join(struct.pack("<HHLL", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<LH", 8, len(tags)) + entries + bytes(4)


def strip_bomb(strips: int) -> bytes:
    """A TIFF of 64 columns whose every row is a strip of its own, all of them the same bytes."""
    after = 8 + 2 + 12 * 9 + 4
    tags = [(256, 1, 64), (257, 1, strips), (258, 1, 8), (259, 1, 1), (262, 1, 1), (273, strips, after), (277, 1, 1),
            (278, 1, 1), (279, strips, after + 4 * strips)]  # fmt: skip
    entries = b"".join(struct.pack("<HHLL", tag, 4, count, value) for tag, count, value in tags)
    return b"II*\0" + struct.pack("<LH", 8, 9) + entries + bytes(4) + b"\x08\0\0\0" * strips + b"\x40\0\0\0" * strips


def nifti_bomb(shape: tuple[int, int, int], inflated: int) -> bytes:
    """A gzipped volume that says its shape and inflates to so many bytes."""
    header = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.int16), np.eye(4)).header
    header.set_data_shape(shape)
    deflater = zlib.compressobj(1, wbits=31)
    parts = [deflater.compress(header.binaryblock + bytes(4))]
    parts += [deflater.compress(bytes(2**20)) for _ in range(inflated >> 20)]
    return b"".join([*parts, deflater.flush()])


def exif_bomb() -> bytes:
    return b"Exif\0\0" + tag_bomb(300, 50_000)[:60_000]


def with_exif(content: bytes, exif: bytes) -> bytes:
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:]


def scan_bomb(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    content = encode(Image.new("L", (side, side)), "JPEG", progressive=True, quality=10)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * scans + b"\xff\xd9"


def encapsulated(codestream: bytes, syntax: str, rows: int, columns: int, **tags: Any) -> bytes:
    dataset = ct_dataset(np.zeros((2, 2), np.uint16), Rows=rows, Columns=columns, **tags)
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    return dicom_bytes(dataset)


def j2k_dicom(side: int) -> bytes:
    stream = encode(Image.fromarray(np.zeros((side, side), np.uint16)), "JPEG2000", irreversible=False, no_jp2=True)
    return encapsulated(stream, JPEG2000Lossless, side, side)


def rle_dicom(side: int) -> bytes:
    half = side * side
    runs = b"\x81\x00" * (half // 128)
    frame = struct.pack("<16L", 2, 64, 64 + len(runs), *[0] * 13) + runs * 2
    return encapsulated(frame, RLELossless, side, side)


def rle_literals(side: int) -> bytes:
    runs = b"\x00\x07" * (side * side)
    return encapsulated(struct.pack("<16L", 2, 64, 64 + len(runs), *[0] * 13) + runs * 2, RLELossless, side, side)


def inserted(elements: bytes) -> bytes:
    """A CT file with raw explicit elements before its pixels."""
    content = dicom_bytes(ct_dataset(np.zeros((64, 64), np.uint16)))
    at = content.rindex(b"\xe0\x7f\x10\x00")
    return content[:at] + elements + content[at:]


def many_elements(count: int) -> bytes:
    return inserted(b"".join(struct.pack("<HH2sH", 0x0029 + 2 * (i >> 16), i & 0xFFFF, b"LO", 0) for i in range(count)))


def many_items(count: int) -> bytes:
    item = b"\xfe\xff\x00\xe0\x08\0\0\0" + struct.pack("<HH2sH", 0x0018, 0x0050, b"DS", 0)
    return inserted(b"\x00\x52\x30\x92SQ\0\0\xff\xff\xff\xff" + item * count + b"\xfe\xff\xdd\xe0\0\0\0\0")


def nested(depth: int) -> bytes:
    opened = b"\x00\x52\x30\x92SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    return inserted(opened * depth + closed * depth)


def long_value() -> bytes:
    content = dicom_bytes(ct_dataset(np.zeros((64, 64), np.uint16)))
    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    stream = io.BytesIO()
    dataset.save_as(stream, implicit_vr=True, little_endian=True, enforce_file_format=True)
    whole = stream.getvalue()
    at = whole.rindex(b"\xe0\x7f\x10\x00")
    value = b"1\\" * 4_000_000
    return whole[:at] + struct.pack("<HHL", 0x0028, 0x1050, len(value)) + value + whole[at:]


def deflated(inflated: int) -> bytes:
    dataset = ct_dataset(np.zeros((64, 64), np.uint16))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    head = dicom_bytes(dataset)
    end = 132 + 12 + struct.unpack_from("<L", head, 140)[0]
    squeezer = zlib.compressobj(9, wbits=-15)
    element = struct.pack("<HH2sHL", 0x0029, 0x0010, b"OB", 0, inflated)
    return head[:end] + squeezer.compress(element + bytes(inflated)) + squeezer.flush()


def fragments(count: int) -> bytes:
    dataset = ct_dataset(np.zeros((64, 64), np.uint16))
    dataset.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\x00\xe0\0\0\0\0" * count
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    return dicom_bytes(dataset)


def gif_of(frames: int) -> bytes:
    content = encode(Image.new("L", (1, 1)), "GIF")
    start = content.index(b",")
    return content[:start] + content[start:-1] * frames + b";"


def run_length_bmp(runs: int) -> bytes:
    head = struct.pack("<LllHHLLllLL", 40, 4000, 4000, 1, 8, 1, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<LHHL", 0, 0, 0, 54 + 1024) + head + bytes(1024) + b"\x01\x05" * runs


def noise(side: int = 256, levels: int = 60) -> np.ndarray:
    """A smooth ramp with grain, (side, side) uint8."""
    rng = np.random.default_rng(side)
    return (np.linspace(40, 180, side)[:, None] + rng.integers(0, levels, (side, side))).astype(np.uint8)


def zeroed(content: bytes, share: float = 0.2) -> bytes:
    start, length = len(content) // 2, int(len(content) * share)
    return content[:start] + bytes(length) + content[start + length :]


def cut(content: bytes, keep: float, end: bytes) -> bytes:
    return content[: int(len(content) * keep)] + end


def jpeg_dicom(codestream: bytes, side: int = 256) -> bytes:
    tags = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    return encapsulated(codestream, JPEGBaseline8Bit, side, side, **tags)


def baseline(**options: Any) -> bytes:
    return encode(Image.fromarray(noise()), "JPEG", quality=85, **options)


def rows_of(array: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in array)


def j2k() -> bytes:
    return encode(Image.fromarray(noise()), "JPEG2000", irreversible=False, no_jp2=True)


def compressed(stored: np.ndarray, syntax: str, **tags: Any) -> bytes:
    dataset = ct_dataset(stored, **tags)
    if syntax == RLELossless:
        dataset.compress(syntax)
    dataset.file_meta.TransferSyntaxUID = syntax
    return dicom_bytes(dataset)


def nifti(stored: np.ndarray) -> bytes:
    return bytes(nibabel.Nifti1Image(stored.T[:, ::-1, None], np.diag([-1, 1, 1, 1])).to_bytes())


def seeds(grey: np.ndarray) -> dict[str, bytes]:
    """One 8-bit slice (H, W) in two dozen formats, whole and honest, by file name; in HU it spans the lung window."""
    side, picture = grey.shape[0], Image.fromarray(grey)
    assert grey.shape == (side, side)
    deep, hu = grey.astype(np.uint16) * 257, (grey.astype(np.int16) * 6 - 1350)
    colour, again, jpeg = (
        picture.convert("RGB"),
        {"save_all": True, "append_images": [picture]},
        encode(picture, "JPEG"),
    )
    stored, of_hu = (hu + 1350).astype(np.uint16), {"RescaleIntercept": -1350}
    return {
        "grey.png": encode(picture), "alpha.png": encode(colour.convert("RGBA")),
        "deep.png": encode(Image.fromarray(deep)),
        "palette.png": encode(picture.convert("P")), "moving.png": encode(picture, **again), "grey.jpg": jpeg,
        "progressive.jpg": encode(colour, "JPEG", progressive=True), "grey.gif": encode(picture, "GIF"),
        "restarts.jpg": encode(picture, "JPEG", restart_marker_rows=1), "grey.bmp": encode(picture, "BMP"),
        "grey.webp": encode(picture, "WEBP", lossless=True), "grey.jp2": encode(picture, "JPEG2000"),
        "lzw.tif": encode(picture, "TIFF", compression="tiff_lzw"), "pages.tif": encode(picture, "TIFF", **again),
        "deflate.tif": encode(picture, "TIFF", compression="tiff_adobe_deflate"), "deep.tif": tiff(deep),
        "native.dcm": ct(stored, **of_hu), "rle.dcm": compressed(stored, RLELossless, **of_hu),
        "deflated.dcm": compressed(stored, DeflatedExplicitVRLittleEndian, **of_hu),
        "jpeg.dcm": jpeg_dicom(jpeg, side), "frames.dcm": ct(np.stack([stored, stored]), **of_hu),
        "j2k.dcm": encapsulated(encode(Image.fromarray(stored), "JPEG2000", no_jp2=True), JPEG2000Lossless, side, side,
                                **of_hu),
        "hu.nii": nifti(hu), "hu.nii.gz": gzip.compress(nifti(hu)),
    }  # fmt: skip


COSTLY: dict[str, Make] = {
    "tiff 65,000 tags": lambda: tag_bomb(60_000, 300_000),
    "tiff 399 tags of 1 MB": lambda: tag_bomb(390, 2**20),
    "tiff 390 tags of 10 KB": lambda: tag_bomb(390, 10_000),
    "bigtiff 9,000 tags": lambda: tag_bomb(9_000, 100_000, big=True),
    "tiff 3,000 pages of 300 tags": lambda: tag_bomb_of_pages(3_000, 300, 10_000),
    "tiff tile of 900 million": tile_bomb,
    "tiff 200,000 strips": lambda: strip_bomb(200_000),
    "nifti of 640 MB": lambda: nifti_bomb((4096, 4096, 20), 640 * 2**20),
    "nifti small, and 600 MB after it": lambda: nifti_bomb((64, 64, 2), 600 * 2**20),
    "tiff float 4096": lambda: encode(Image.new("F", (4096, 4096)), "TIFF", compression="tiff_lzw"),
    "tiff float 2800": lambda: encode(Image.new("F", (2800, 2800)), "TIFF", compression="tiff_lzw"),
    "tiff 16 bit 4096": lambda: encode(Image.new("I;16", (4096, 4096)), "TIFF", compression="tiff_lzw"),
    "jpeg exif bomb": lambda: with_exif(baseline(), exif_bomb()),
    "png exif bomb": lambda: png(64, 64, 8, 0, bytes(65 * 64), chunk(b"eXIf", tag_bomb(60_000, 200_000))),
    "jpeg 512 of 2,500 scans": lambda: scan_bomb(512, 2500),
    "jpeg 4000 of 200 scans": lambda: scan_bomb(4000, 200),
    "jpeg 4096 baseline": lambda: encode(Image.new("RGB", (4096, 4096)), "JPEG"),
    "jpeg 4096 progressive": lambda: encode(Image.new("RGB", (4096, 4096)), "JPEG", progressive=True),
    "png 16 bit 5999": lambda: png(5999, 5999, 16, 0, bytes((5999 * 2 + 1) * 5999)),
    "png 16 bit 4096": lambda: png(4096, 4096, 16, 0, bytes((4096 * 2 + 1) * 4096)),
    "png 16 bit RGBA 4096": lambda: png(4096, 4096, 16, 6, bytes((4096 * 8 + 1) * 4096)),
    "png RGBA 4096": lambda: png(4096, 4096, 8, 6, bytes((4096 * 4 + 1) * 4096)),
    "png palette with alpha 4096": lambda: encode(Image.new("P", (4096, 4096)), "PNG", transparency=bytes(range(99))),
    "png of a million chunks": lambda: png(64, 64, 8, 0, bytes(65 * 64), chunk(b"tEXt", b"a\0b") * 1_000_000),
    "png of empty pixel chunks": lambda: png(64, 64, 8, 0, bytes(65 * 64), chunk(b"IDAT", b"") * 1_000_000),
    "png text bombs": lambda: png(
        64, 64, 8, 0, bytes(65 * 64), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20 - 9))) * 400
    ),
    "png inflates to more": lambda: png(64, 64, 8, 0, bytes(300 * 2**20)),
    "jp2 file 4096": lambda: encode(Image.new("L", (4096, 4096)), "JPEG2000"),
    "jp2 file RGB 1700": lambda: encode(Image.new("RGB", (1700, 1700)), "JPEG2000"),
    "j2k dicom 4096": lambda: j2k_dicom(4096),
    "j2k dicom 2800": lambda: j2k_dicom(2800),
    "rle dicom 4096": lambda: rle_dicom(4096),
    "rle dicom 2816": lambda: rle_dicom(2816),
    "rle literals 2800": lambda: rle_literals(2800),
    "native dicom 4096": lambda: dicom_bytes(ct_dataset(np.zeros((4096, 4096), np.uint16))),
    "dicom 2 million elements": lambda: many_elements(2_000_000),
    "dicom 39,000 elements": lambda: many_elements(39_000),
    "dicom 2 million items": lambda: many_items(2_000_000),
    "dicom 15,000 items": lambda: many_items(15_000),
    "dicom nested 5,000": lambda: nested(5_000),
    "dicom nested 20": lambda: nested(20),
    "dicom value of 8 MB": long_value,
    "dicom inflates to 200 MB": lambda: deflated(200 * 2**20),
    "dicom inflates to 60 MB": lambda: deflated(60 * 2**20),
    "dicom 3 million fragments": lambda: fragments(3_000_000),
    "gif of 200,000 frames": lambda: gif_of(200_000),
    "gif 4096": lambda: encode(Image.new("L", (4096, 4096)), "GIF"),
    "webp 4000": lambda: encode(Image.new("RGB", (4000, 4000)), "WEBP", lossless=True),
    "webp 2800": lambda: encode(Image.new("RGB", (2800, 2800)), "WEBP", lossless=True),
    "bmp of runs": lambda: run_length_bmp(30_000_000),
    "bmp 4096": lambda: encode(Image.new("RGB", (4096, 4096)), "BMP"),
}

BROKEN: dict[str, Make] = {
    "png half of its rows": lambda: png(256, 256, 8, 0, rows_of(noise())[: 257 * 128]),
    "png one row short": lambda: png(256, 256, 8, 0, rows_of(noise())[:-257]),
    "png 16 bit half": lambda: png(256, 256, 16, 0, rows_of(noise().astype(">u2") * 257)[: 513 * 128]),
    "png interlaced half": lambda: png(256, 256, 8, 0, rows_of(noise())[: 257 * 128], interlaced=True),
    "png zeroed": lambda: zeroed(encode(Image.fromarray(noise()))),
    "jpeg cut": lambda: cut(baseline(), 0.8, b"\xff\xd9"),
    "jpeg cut by a twentieth": lambda: cut(baseline(), 0.95, b"\xff\xd9"),
    "jpeg zeroed": lambda: zeroed(baseline()),
    "jpeg optimised, zeroed": lambda: zeroed(baseline(optimize=True)),
    "jpeg progressive, cut": lambda: cut(baseline(progressive=True), 0.8, b"\xff\xd9"),
    "jpeg progressive, zeroed": lambda: zeroed(baseline(progressive=True)),
    "jpeg restarts, cut": lambda: cut(baseline(restart_marker_rows=1), 0.8, b"\xff\xd9"),
    "jpeg restarts, zeroed": lambda: zeroed(baseline(restart_marker_rows=1)),
    "jpeg colour, cut": lambda: cut(encode(Image.fromarray(noise()).convert("RGB"), "JPEG"), 0.7, b"\xff\xd9"),
    "jpeg without its end": lambda: baseline()[:-2],
    "baseline dicom cut": lambda: jpeg_dicom(cut(baseline(), 0.7, b"\xff\xd9")),
    "baseline dicom zeroed": lambda: jpeg_dicom(zeroed(baseline())),
    "j2k cut": lambda: cut(j2k(), 0.6, b"\xff\xd9"),
    "j2k zeroed": lambda: zeroed(j2k()),
    "tiff deflate zeroed": lambda: zeroed(encode(Image.fromarray(noise()), "TIFF", compression="tiff_adobe_deflate")),
    "tiff lzw zeroed": lambda: zeroed(encode(Image.fromarray(noise()), "TIFF", compression="tiff_lzw")),
    "tiff jpeg zeroed": lambda: zeroed(encode(Image.fromarray(noise()), "TIFF", compression="jpeg", quality=90)),
    "webp zeroed": lambda: zeroed(encode(Image.fromarray(noise()), "WEBP", lossless=True)),
    "gif zeroed": lambda: zeroed(encode(Image.fromarray(noise()), "GIF")),
    "bmp cut": lambda: cut(encode(Image.fromarray(noise()), "BMP"), 0.5, b""),
    "native dicom cut": lambda: dicom_bytes(ct_dataset(noise().astype(np.uint16)))[:-4000],
}
