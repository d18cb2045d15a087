"""Slices decoded once: within `keep_decoded` what a file became is kept, as far as memory allows, and given again.

The stages of a run look at the same files (corpus, audit, training, gate, evaluation, pages), and decoding is most of
what looking costs. A file is known by the hash of its bytes, so a changed one is read anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

import ct_xception
from ct_xception.errors import SliceError
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.source import identity_of

MOST = 2 << 30  # bytes kept; a slice of 512 pixels has 256 KiB
LARGE = 8 << 20  # bytes of a file that must be of several slices
SHARE = 8  # and one part in so many of the machine's memory


class _Decoded:
    """Slices, and refusals, by what they were decoded from. Safe to use from several threads."""

    def __init__(self, limit: int) -> None:
        self.left, self.lock = limit, threading.Lock()
        self.found: dict[Hashable, Slice | SliceError] = {}
        self.digests: dict[tuple[int, ...], bytes] = {}

    def put(self, key: Hashable, value: Slice | SliceError) -> None:
        size = 1024 + (_size(value) if isinstance(value, Slice) else 0)
        with self.lock:
            if key not in self.found and size <= self.left:
                self.left -= size
                self.found[key] = value


_current: _Decoded | None = None


@contextlib.contextmanager
def keep_decoded(limit: int | None = None) -> Iterator[None]:
    """Keep what `read_slice` decodes in this block, up to `limit` bytes (default: MOST, or memory / SHARE if less)."""
    global _current
    before, _current = _current, _current or _Decoded(min(MOST, _memory() // SHARE) if limit is None else limit)
    try:
        yield
    finally:
        _current = before


def decoded_once(stream: BinaryIO, label: str, how: Hashable, decode: Callable[[], Slice]) -> Slice:
    """What `decode` makes of a stream at its beginning, or made of the same bytes before, `how` being equal.

    The pixels of what is kept cannot be written to. Raises SliceError as `decode` does, and did.
    """
    kept = _current
    if kept is None:
        return decode()
    key = (_digest(stream, kept), how)
    found = kept.found.get(key)
    if isinstance(found, SliceError):
        raise SliceError(label, found.found, found.remedy)
    if found is not None:
        return replace(found, source=label)
    try:
        slice_ = decode()
    except SliceError as error:
        kept.put(key, error)
        raise
    for array in _arrays(slice_):
        array.flags.writeable = False
    kept.put(key, slice_)
    return slice_


def _digest(stream: BinaryIO, kept: _Decoded) -> bytes:
    """The SHA-256 of a stream at its beginning; a large file, of which each slice is asked for, is hashed once."""
    identity = identity_of(stream)
    large = bool(identity) and os.fstat(stream.fileno()).st_size >= LARGE
    if large and identity in kept.digests:
        return kept.digests[identity]
    digest = hashlib.sha256()
    while part := stream.read(1 << 20):
        digest.update(part)
    stream.seek(0)
    if large:
        kept.digests[identity] = digest.digest()
    return digest.digest()


@cache
def decoding_version() -> str:
    """Of the code that decodes, as hexadecimal digits: what is kept on disk is no longer good where this changes."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    told = [ct_xception.__version__.encode(), *(file.read_bytes() for file in files)]
    return hashlib.sha256(b"\0".join(told)).hexdigest()[:16]


def _arrays(slice_: Slice) -> list[np.ndarray]:
    values = [getattr(slice_, field.name) for field in fields(slice_)]
    return [value for value in values if isinstance(value, np.ndarray)]


def _size(slice_: Slice) -> int:
    return sum(array.nbytes for array in _arrays(slice_))


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 4 << 30
