"""A zip of slices: what in it may be one, and the bytes of each; nothing is unpacked to disk.

    archive = Archive(path, "series.zip")
    for entry in archive.slices(): archive.read(entry.index, entry.name)

Names in an archive are shown and never used as paths; its entries, their sizes and the sum of them are bounded before a
byte is inflated.
"""

from __future__ import annotations

import io
import lzma
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ct_xception.errors import SliceError, printable
from ct_xception.imaging.decoders.nifti import is_nifti
from ct_xception.imaging.source import DICOM_SUFFIXES, IMAGE_SUFFIXES, VOLUME_SUFFIXES, is_dicom

MAX_ENTRIES = 2_000  # of one archive, folders and other files counted
MAX_DIRECTORY = 4 * 2**20  # bytes of its list of entries, which is read before any of them can be counted
MAX_ENTRY = 64 * 2**20  # bytes of one entry, unpacked
MAX_UNPACKED = 2**30  # bytes of all entries that are read

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_CLUTTER = ("__MACOSX/", ".")
_BROKEN = (  # what zipfile and its decompressors raise on hostile bytes
    zipfile.BadZipFile, NotImplementedError, OSError, EOFError, zlib.error, lzma.LZMAError, RuntimeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """What may be a slice, by its index in an archive; `folder` is its place there, compared and never shown."""

    index: int
    name: str
    folder: str


class Archive:
    """A zip file; safe to read from several threads. `name` is what messages call it.

    It is opened for each reading, and once for all of those within `hold`.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self._opened: zipfile.ZipFile | None = None
        self._holders, self._lock = 0, threading.Lock()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the file open, once something is read, until the block ends."""
        with self._lock:
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if not self._holders and self._opened is not None:
                    self._opened.close()
                    self._opened = None

    def _open(self) -> zipfile.ZipFile:
        with self._lock:
            if self._opened is None:
                self._check_directory()
                self._opened = zipfile.ZipFile(self.path)
            return self._opened

    def _check_directory(self) -> None:
        with open(self.path, "rb") as stream:
            end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]  # as ZipFile itself reads it
        if end and (end[4] > MAX_ENTRIES or end[5] > MAX_DIRECTORY):
            raise SliceError(self.name, f"a zip of {end[4]} entries", f"give one of at most {MAX_ENTRIES}")

    def slices(self) -> tuple[list[Entry], int]:
        """The entries that may be slices, and how many other files there are. Raises SliceError."""
        with self.hold():
            try:
                archive = self._open()
                entries = archive.infolist()
                _check_entries(entries, self.name)
                kept = [index for index, entry in enumerate(entries) if _may_be_slice(archive, entry)]
            except SliceError:
                raise
            except _BROKEN as error:
                found = f"a zip that cannot be opened ({printable(error)})"
                raise SliceError(self.name, found, "zip the series again") from error
        _check_sizes([entries[index] for index in kept], self.name)
        places = {index: PurePosixPath(entries[index].filename) for index in kept}
        found_slices = [Entry(index, printable(place.name), str(place.parent)) for index, place in places.items()]
        return found_slices, sum(not entry.is_dir() for entry in entries) - len(kept)

    def read(self, index: int, name: str) -> bytes:
        """The bytes of one entry, never more than MAX_ENTRY; `name` is what messages call it. Raises SliceError."""
        try:
            with self.hold():
                content = self._inflate(index, name)
        except FileNotFoundError as error:
            raise SliceError(name, "an upload that is no longer kept", "upload it again") from error
        except SliceError:
            raise
        except _BROKEN as error:
            raise SliceError(name, f"cannot be unpacked ({printable(error)})", "zip the series again") from error
        if len(content) > MAX_ENTRY:
            raise SliceError(name, "an entry larger than the zip says", "zip the series again")
        return content

    def _inflate(self, index: int, name: str) -> bytes:
        archive = self._open()
        entry = archive.infolist()[index]
        if entry.file_size > MAX_ENTRY:
            found = f"{entry.file_size >> 20} MiB unpacked"
            raise SliceError(name, found, f"give slices of at most {MAX_ENTRY >> 20} MiB")
        with archive.open(entry) as stream:
            return stream.read(MAX_ENTRY + 1)


def is_archive(path: Path) -> bool:
    """Whether a file is a zip, by its first bytes."""
    try:
        with open(path, "rb") as stream:
            return stream.read(4) in _ZIP
    except OSError:
        return False  # reading it as a slice says why


@contextmanager
def hold_all(archives: Iterable[Archive | None]) -> Iterator[None]:
    """`hold` for each of several."""
    with ExitStack() as stack:
        for archive in {id(archive): archive for archive in archives if archive is not None}.values():
            stack.enter_context(archive.hold())
        yield


def _check_sizes(entries: Sequence[zipfile.ZipInfo], name: str) -> None:
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MAX_UNPACKED:
        raise SliceError(name, f"a zip of {unpacked >> 20} MiB", f"give at most {MAX_UNPACKED >> 20} MiB of slices")
    if not entries:
        raise SliceError(name, "a zip without a slice in it", "zip DICOM files or pictures")


def _check_entries(entries: Sequence[zipfile.ZipInfo], name: str) -> None:
    if len(entries) > MAX_ENTRIES:
        raise SliceError(name, f"a zip of {len(entries)} entries", f"give one of at most {MAX_ENTRIES}")
    if any(entry.flag_bits & 1 for entry in entries):
        raise SliceError(name, "a zip with a password", "zip the series without one")
    # bzip2 and LZMA expand a thousandfold and more, and take memory that the entry itself chooses.
    methods = {entry.compress_type for entry in entries} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    if methods:
        found = f"a zip packed by method {min(methods)}, neither stored nor deflated"
        raise SliceError(name, found, "zip the series again by deflate, as is usual")


def _may_be_slice(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    """By its name, or where that says nothing by what it begins with; links, folders and clutter are none."""
    place = PurePosixPath(entry.filename)
    is_link = (entry.external_attr >> 16) & 0o170000 == 0o120000
    if entry.is_dir() or is_link or entry.file_size == 0 or place.name.startswith(_CLUTTER[1]):
        return False
    if entry.filename.startswith(_CLUTTER[0]) or place.name.upper() == "DICOMDIR":
        return False
    if place.name.lower().endswith(tuple(IMAGE_SUFFIXES | DICOM_SUFFIXES | VOLUME_SUFFIXES)):
        return True
    if place.suffix and not place.suffix[1:].isdigit():  # a UID's last number looks like a suffix
        return False
    with archive.open(entry) as stream:
        head = stream.read(600)
    return is_dicom(io.BytesIO(head)) or is_nifti(io.BytesIO(head))
