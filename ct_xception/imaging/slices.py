"""One file becomes one honest slice: a 2-D 8-bit grey image after an explicit window, upright, air 0.

The pixel contract of the package: everything downstream starts from a `Slice`, and nothing else decodes a file.
`read_slice` takes a path, bytes, an open file or a Pillow picture, decides by the first bytes (never by the name)
whether it is DICOM or a picture, and raises `SliceError`, and nothing else, for what it cannot read right.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, cast

import numpy as np

from ct_xception.errors import SliceError, printable
from ct_xception.imaging.windows import WINDOWS, Window, apply_window, parse_window

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["WINDOWS", "Slice", "Window", "apply_window", "is_readable_name", "parse_window", "read_slice"]

MAX_BYTES = 512 * 2**20  # a file; an enhanced CT of 900 uncompressed frames still fits
MAX_PIXELS = 36_000_000  # one frame, decoded: 6,000 x 6,000, where CT is 512 x 512 and film scans reach 4,000
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})

Source: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | Image.Image"


@dataclass(frozen=True, eq=False)
class Slice:
    """One 2-D image and where it came from.

    `pixels` (H, W) uint8, C-contiguous, air 0. `source` is a printable name. `bit_depth` is that of the stored pixels.
    `is_hu` says whether `window` is in HU; `window` is None where the file was 8-bit already (a screenshot).
    `spacing_mm` is (row, column) distance. `notes` names each thing lost or changed on the way, a short clause each.
    `coloured` is the share of pixels, in [0, 1], whose colour was dropped. `modality` is DICOM's, empty where the file
    leaves it out, None for a picture; `is_localizer` says that the file calls itself a scout view. `body` (H, W) bool is
    where the body lies, found in HU before the window; None where the file has no HU, or shows none.
    """

    pixels: np.ndarray
    source: str
    bit_depth: int
    is_hu: bool
    window: Window | None
    spacing_mm: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    coloured: float = 0.0
    modality: str | None = None
    is_localizer: bool = False
    body: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 2 or 0 in self.pixels.shape:
            raise TypeError(f"pixels must be (H, W) uint8 and not empty, got {self.pixels.shape} {self.pixels.dtype}")
        if self.body is not None and (self.body.dtype != bool or self.body.shape != self.pixels.shape):
            raise TypeError(f"body must be {self.pixels.shape} bool, got {self.body.shape} {self.body.dtype}")
        object.__setattr__(self, "pixels", np.ascontiguousarray(self.pixels))

    def to_pil(self) -> Image.Image:
        """The slice as a Pillow RGB picture, the grey repeated in the three channels."""
        from PIL import Image

        return Image.fromarray(self.pixels).convert("RGB")

    def replace_pixels(self, pixels: np.ndarray, note: str | None = None) -> Slice:
        """The same slice with other pixels (H, W) uint8, and a note on what changed; another shape has no `body`."""
        body = self.body if pixels.shape == self.pixels.shape else None
        return replace(self, pixels=pixels, body=body, notes=self.notes if note is None else (*self.notes, note))


def is_readable_name(path: str | os.PathLike[str]) -> bool:
    """Whether a folder scan should try this file: a known suffix, or none (or a number) and the DICOM magic inside."""
    path = Path(path)
    if path.name.startswith("."):  # .DS_Store, and the ._x.png that macOS leaves beside each file
        return False
    if path.suffix.lower() in IMAGE_SUFFIXES | DICOM_SUFFIXES:
        return True
    # Scanners and PACS exports name their files IM000012 or by a UID, whose last number looks like a suffix.
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    try:
        with _open_regular(path, printable(path)) as (stream, _):
            return is_dicom(stream)
    except SliceError:
        return False


def read_slice(
    source: Source,
    *,
    window: Window | None = None,
    frame: int | None = None,
    name: str | None = None,
) -> Slice:
    """Read one slice from a path, bytes, an open binary file or a Pillow picture.

    `window` overrides the file's own; an 8-bit picture holds no HU and ignores it, with a note. `frame`, from 0,
    chooses a frame or page, and must be given where there are several. `name` stands for the source in messages.
    Raises SliceError, naming what was found and what to do, for every input that cannot be read right.
    """
    from PIL import Image

    from ct_xception.imaging.pictures import read_picture, slice_from_picture

    label = name if name is not None else name_of(source)
    if isinstance(source, Image.Image):
        return slice_from_picture(source, label, window=window, frame=frame)
    with open_source(source, label) as stream:
        if is_dicom(stream):
            from ct_xception.imaging.dicom import read_dicom

            return read_dicom(stream, label, window=window, frame=frame)
        return read_picture(stream, label, window=window, frame=frame)


def name_of(source: Source) -> str:
    """A printable name for a source."""
    if isinstance(source, (str, os.PathLike)):
        return printable(source)
    named = getattr(source, "filename", None) or getattr(source, "name", None)
    if isinstance(named, (str, bytes, os.PathLike)) and named:
        return printable(named)
    return {"bytes": "bytes in memory"}.get(type(source).__name__, "picture in memory")


@contextmanager
def open_source(source: Source, label: str) -> Iterator[BinaryIO]:
    """A seekable binary stream of a path's, file's or memory's bytes, its size within MAX_BYTES."""
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
        raise TypeError(f"a slice is read from a path, bytes, a binary file or a Pillow picture, not {type(source)}")


@contextmanager
def _open_regular(path: str | os.PathLike[str], label: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file; a pipe or device named x.png would hang or never end."""
    try:
        # Not blocking: the open itself waits for ever on a FIFO that nobody writes to.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
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


def check_pixels(rows: int, columns: int, label: str, limit: int = MAX_PIXELS) -> None:
    """Refuse a frame that is empty or would not fit in memory, before it is decoded."""
    if rows <= 0 or columns <= 0:
        raise SliceError(label, f"an image of {columns} x {rows} pixels", "export it again")
    if rows * columns > limit:
        found = f"{columns} x {rows} pixels, more than {limit // 1_000_000} million"
        raise SliceError(label, found, "crop or shrink it to one slice")


def choose_frame(frames: int, frame: int | None, label: str) -> int:
    """The index, from 0, of the frame to read; several frames need a choice."""
    if frame is None:
        if frames > 1:
            raise SliceError(label, f"{frames} frames", f"choose one, from 0 to {frames - 1}, with the option frame")
        return 0
    if not 0 <= frame < frames:
        found = f"no frame {frame}: it has {frames}, counted from 0"
        raise SliceError(label, found, "choose another frame")
    return frame


def is_dicom(stream: BinaryIO) -> bool:
    """DICOM by its magic (PS3.10 section 7.1): DICM after a preamble of 128 bytes."""
    magic = stream.read(132)[128:]
    stream.seek(0)
    return magic == b"DICM"
