"""Where the bytes of a slice come from: a path, memory, an open file; bounded, and never a pipe or a device."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, cast

from ct_xception.errors import InputError, SliceError, printable

if TYPE_CHECKING:
    from PIL import Image

ADDRESSES = ("http:/", "https:/", "s3:/", "gs:/", "hf:/")  # a Path of one has lost a slash
MAX_BYTES = 512 * 2**20  # a file; an enhanced CT of 900 uncompressed frames still fits
IMAGE_SUFFIXES = frozenset(
    ".png .apng .jpg .jpeg .jpe .jfif .jif .tif .tiff .bmp .dib .gif .webp .jp2 .j2k .jpx .j2c".split()
)
DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima"})
VOLUME_SUFFIXES = frozenset({".nii", ".nii.gz"})
# Never opened in search of a picture: what a corpus keeps beside its slices.
OTHER_SUFFIXES = frozenset(
    ".txt .csv .tsv .json .jsonl .yaml .yml .md .html .htm .xml .py .ipynb .parquet .arrow .npy .npz .pt .pth .h5 "
    ".hdf5 .safetensors .onnx .pkl .zip .tar .pdf .doc .docx .xls .xlsx .log .db .ini .cfg .sh .mp4 .svg .mat".split()
)
_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF",
    b"MM\0+": "TIFF", b"BM": "BMP", b"GIF87a": "GIF", b"GIF89a": "GIF", b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
}  # fmt: skip


@dataclass(frozen=True)
class FrameOf:
    """One slice of a file that holds several: the file's path or bytes, and the slice's index from 0."""

    file: str | os.PathLike[str] | bytes
    frame: int

    def __str__(self) -> str:
        return f"{name_of(self.file)}#{self.frame}"


Source: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | Image.Image | FrameOf"


def is_readable_name(path: str | os.PathLike[str]) -> bool:
    """Whether a folder scan should try this file: a known suffix, or, under any other name, what it begins with.

    Scanners and PACS exports name their files IM000012 or by a UID, whose last number looks like a suffix.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if path.name.startswith("."):  # .DS_Store, and the ._x.png that macOS leaves beside each file
        return False
    if suffix in IMAGE_SUFFIXES | DICOM_SUFFIXES or path.name.lower().endswith(tuple(VOLUME_SUFFIXES)):
        return True
    if suffix in OTHER_SUFFIXES:
        return False
    try:
        with _open_regular(path, printable(path)) as (stream, _):
            return is_dicom(stream) or (kind := picture_kind(stream.read(16))) is not None and kind != "BMP"
    except SliceError:
        return False


def stem_of(path: Path) -> str:
    """A file's name without its suffix, or both of `.nii.gz`."""
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def picture_kind(head: bytes) -> str | None:
    """Pillow's name of the picture format that a file's first 16 bytes tell; None for none that is read here."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def name_of(source: Source) -> str:
    """A printable name for a source."""
    if isinstance(source, (str, os.PathLike, FrameOf)):
        return printable(source)
    named = getattr(source, "filename", None) or getattr(source, "name", None)
    if isinstance(named, (str, bytes, os.PathLike)) and named:
        return printable(named)
    kind = type(source).__name__
    return {"bytes": "bytes in memory"}.get(kind, "picture in memory" if hasattr(source, "tell") else kind)


@contextmanager
def open_source(source: Source, label: str) -> Iterator[BinaryIO]:
    """A seekable binary stream of a path's, file's or memory's bytes, its size within MAX_BYTES."""
    source = source.file if isinstance(source, FrameOf) else source
    if isinstance(source, (bytes, bytearray, memoryview)):
        _check_size(len(source), label)
        yield io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        with _open_regular(source, label) as (stream, size):
            _check_size(size, label)
            yield stream
    elif hasattr(source, "read"):
        yield io.BytesIO(_read_all(cast("BinaryIO", source), label))
    else:
        raise InputError(
            f"{printable(repr(source))[:60]} is no slice; give a path, bytes, an open file, a Pillow picture, an array "
            "or a pydicom data set."
        )


@contextmanager
def _open_regular(path: str | os.PathLike[str], label: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file; a pipe or device named x.png would hang or never end."""
    try:
        # Not blocking: the open itself waits for ever on a FIFO that nobody writes to.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        if label.startswith(ADDRESSES):
            address = re.sub(r"^(\w+:/)(?!/)", r"\1/", label)
            raise SliceError(address, "an address, not a file", "download it first") from None
        raise SliceError(label, "no such file", "check the name") from None
    except (OSError, ValueError) as error:
        raise SliceError(label, f"cannot be opened ({_reason(error)})", "check the name and the permissions") from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        if stat.S_ISDIR(status.st_mode):
            raise SliceError(label, "a folder, not a file", "name one file in it")
        raise SliceError(label, "not a regular file (a pipe, socket or device)", "save the image to a file first")
    with os.fdopen(handle, "rb") as stream:
        yield stream, status.st_size


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or printable(error)


def _read_all(stream: BinaryIO, label: str) -> bytes:
    try:
        content = stream.read(MAX_BYTES + 1)
    except Exception as error:  # whatever the caller's own file object raises
        raise SliceError(label, f"cannot be read ({printable(error)})", "read it again from a file") from error
    if not isinstance(content, bytes):
        raise SliceError(label, "opened as text", "open the file in binary mode")
    _check_size(len(content), label)
    return content


def _check_size(size: int, label: str) -> None:
    if size == 0:
        raise SliceError(label, "an empty file", "copy or download it again")
    if size > MAX_BYTES:
        found = f"more than {MAX_BYTES // 2**20} MiB"
        raise SliceError(label, found, "give one slice, or split the series into single files")


def identity_of(stream: BinaryIO) -> tuple[int, ...]:
    """What tells an open file from another and from itself after a change; empty for bytes in memory."""
    try:
        told = os.fstat(stream.fileno())
    except (OSError, AttributeError, io.UnsupportedOperation):
        return ()
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns


def is_dicom(stream: BinaryIO) -> bool:
    """DICOM by its magic (PS3.10 section 7.1), DICM after a preamble of 128 bytes; or without any, by its first tags.

    Old archives and some toolkits write the data set alone: group 2 or 8 first, its elements in rising order.
    """
    head = stream.read(256)
    stream.seek(0)
    return head[128:132] == b"DICM" or is_bare_dataset(head)


def is_bare_dataset(head: bytes) -> bool:
    """Whether bytes look like a DICOM data set without preamble: two elements of group 2 or 8, in order."""
    first = _element(head, 0)
    second = None if first is None else _element(head, first[1])
    return first is not None and second is not None and second[0] > first[0]


def _element(head: bytes, position: int) -> tuple[tuple[int, int], int] | None:
    """A little-endian element's tag in group 2 or 8, and where it ends; None for what is none (PS3.5 section 7.1)."""
    if len(head) < position + 12:
        return None
    group, number, vr, short = struct.unpack_from("<HH2sH", head, position)
    if group not in (2, 8) or number > 0x3000:
        return None
    if vr.isalpha() and vr.isupper():
        length, start = (
            (struct.unpack_from("<L", head, position + 8)[0], 12)
            if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT")
            else (short, 8)
        )
    else:
        length, start = struct.unpack_from("<L", head, position + 4)[0], 8
    return ((group, number), position + start + length) if length % 2 == 0 and length < 200 else None


@dataclass(frozen=True)
class FoundFiles:
    """What lies below a folder, sorted by path: `files` to be read, `folders`, and what is neither.

    `passed_over` is {kind: paths}: the suffix of files that are no images, or why something was not entered.
    """

    root: Path
    files: tuple[Path, ...]
    folders: tuple[Path, ...]
    passed_over: Mapping[str, tuple[Path, ...]]

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind were passed over."""
        return {kind: len(paths) for kind, paths in self.passed_over.items()}


def find_files(folder: str | os.PathLike[str]) -> FoundFiles:
    """Everything below a folder, links followed but never into a folder that holds them; nothing is decoded.

    Hidden files (`.DS_Store`, `._image.png`) and archivers' `__MACOSX` are the system's own, and are not counted.
    """
    root, found = Path(folder), dict[str, list[Path]]()
    for kind, path in _walk(root, frozenset()):
        found.setdefault(kind, []).append(path)
    files, folders = found.pop(_FILE, []), found.pop(_FOLDER, [])
    return FoundFiles(root, tuple(files), tuple(folders), {kind: tuple(found[kind]) for kind in sorted(found)})


def describe_passed_over(counts: Mapping[str, int]) -> str:
    """`3 .txt, 1 without a suffix`; empty where nothing was passed over."""
    return ", ".join(f"{number:,} {kind}" for kind, number in counts.items())


_FILE, _FOLDER = "file", "folder"


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, Path]]:
    """(kind, path) of what lies below a folder, in the order of names."""
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    except OSError:
        yield "folders that cannot be opened", folder
        return
    above = above | {(status.st_dev, status.st_ino)}
    for entry in sorted(shown, key=lambda entry: entry.name):
        path = Path(entry.path)
        if not entry.is_dir():
            yield _kind(path), path
        elif (inner := entry.stat()) and (inner.st_dev, inner.st_ino) in above:
            yield "links to a folder that holds them", path
        else:
            yield _FOLDER, path
            yield from _walk(path, above)


def _kind(path: Path) -> str:
    if is_readable_name(path):
        return _FILE
    if path.exists() and not path.is_file():
        return "pipes, sockets or devices"
    suffix = "".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix
    known = suffix and len(suffix) < 9 and not suffix[1:].isdigit()
    return printable(suffix.lower()) if known else "without a suffix"
