"""Where the slice of a row lies: its untouched file, and which slice of it where that holds several."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ct_xception.errors import SliceError
from ct_xception.imaging.reader import try_read
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.source import FrameOf

ONLY = -1  # the frame of a file that is one slice

Row = Mapping[str, Any]  # image {"path", "bytes"}; frame and tabular where the corpus has them


def frame_of(row: Row) -> int | None:
    """The row's slice of a file that holds several, from 0; None for a file that is one slice."""
    frame = int(row.get("frame", ONLY))
    return None if frame == ONLY else frame


def file_of(row: Row) -> bytes | str:
    """The untouched file of a row: its bytes where the corpus carries them, its path where not."""
    image = row["image"]
    return image["path"] if image.get("bytes") is None else image["bytes"]


def slice_source(row: Row) -> bytes | str | FrameOf:
    """What the reader takes for the slice of a row."""
    file, frame = file_of(row), frame_of(row)
    return file if frame is None else FrameOf(file, frame)


def read_row(read: Callable[..., Slice], row: Row, **how: Any) -> Slice | SliceError:
    """The slice of a row as `read` gives it (`read_slice`, or a classifier's), or why it is refused."""
    slice_ = try_read(read, slice_source(row), name=str(row["source"]), **how)
    return replace(slice_, tabular=tabular_of(row)) if "tabular" in row and isinstance(slice_, Slice) else slice_


def tabular_of(row: Row) -> dict[str, str]:
    """What the corpus's table says beside the image of a row, {column: text}; empty where it says nothing."""
    return dict(json.loads(row.get("tabular") or "{}"))


def readable_rows(read: Callable[..., Slice], rows: Iterable[Row], **how: Any) -> Iterator[tuple[Row, Slice]]:
    """The rows that can be read, each with its slice; the evaluation lists the others, with the reason."""
    for row in rows:
        slice_ = read_row(read, row, **how)
        if isinstance(slice_, Slice):
            yield row, slice_


def digest_of(row: Row) -> str:
    """SHA-256 of a row's file, as hexadecimal digits; of a slice among several, that of the file's and its index."""
    file, frame = file_of(row), frame_of(row)
    if frame is None:
        return hashlib.sha256(file if isinstance(file, bytes) else Path(file).read_bytes()).hexdigest()
    whole = hashlib.sha256(file).hexdigest() if isinstance(file, bytes) else _digest_of_path(file)
    return hashlib.sha256(f"{whole}#{frame}".encode()).hexdigest()


def _digest_of_path(path: str) -> str:
    status = os.stat(path)
    return _hashed(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _hashed(path: str, size: int, changed: int) -> str:
    """A volume is hashed once, not for each of its slices; size and time of change tell whether it is the same."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
