"""The elements of a DICOM file, walked and counted before a parser builds objects of them.

A parser keeps a kilobyte for each element and a list for each value: a file of millions of tiny elements, of nested
sequences, or of one number repeated a million times would cost gigabytes. DICOM PS3.5 section 7, PS3.10 section 7.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from typing import BinaryIO

from ct_xception.errors import SliceError
from ct_xception.imaging.source import is_bare_dataset

DEFLATED, BIG_ENDIAN, EXPLICIT = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1"
MAX_META = 2**16  # bytes of group 0002
MAX_INFLATED = 64 * 2**20  # bytes of a deflated file; a CT slice has half a MiB
MAX_ELEMENTS = 40_000  # before the pixels, those in sequences too: an enhanced CT of 600 frames has so many
MAX_DEPTH = 24
MAX_VALUE = 2**16  # bytes of a value that is no table, no sequence and not private: a parser splits it into a list
MAX_ELEMENT = 16 * 2**20  # bytes of any other: a parser reads what it skips
UNDEFINED = 0xFFFFFFFF
LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
TABLE_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UN", b"UT"))
GROUPS_READ = frozenset((0x08, 0x10, 0x18, 0x20, 0x28))
LUT_DATA = (0x0028, 0x3006)
PIXELS = frozenset(((0x7FE0, 0x08), (0x7FE0, 0x09), (0x7FE0, 0x10)))
ITEM, SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
REMEDY = "export it again, uncompressed if your software offers that"


@dataclass(frozen=True)
class Pixels:
    """Where the pixel element's value starts, its length (None where undefined) and its element number."""

    offset: int
    length: int | None
    number: int
    vr: str = ""


@dataclass(frozen=True)
class Elements:
    """A walked file: a stream that a parser may read, its transfer syntax ("" where it does not say), its pixels."""

    stream: BinaryIO
    syntax: str
    bare: bool
    pixels: Pixels | None


def walk_elements(stream: BinaryIO, label: str) -> Elements:
    """Walk an open DICOM file up to its pixels. Raises SliceError where parsing it would cost too much."""
    stream.seek(0)
    head = stream.read(MAX_META)
    bare = head[128:132] != b"DICM" and is_bare_dataset(head)
    syntax, start = _file_meta(head, 0 if bare else 132, label)
    if syntax == DEFLATED:
        stream = _inflate(stream, head, start, label)
        syntax = EXPLICIT
    walker = _Walker(stream, syntax, label)
    pixels = walker.walk(start)
    stream.seek(0)
    return Elements(stream, syntax, bare, pixels)


def _file_meta(head: bytes, position: int, label: str) -> tuple[str, int]:
    """Transfer syntax and end of the file meta group, which is always explicit little endian (PS3.10 section 7.1)."""
    start_of_meta, syntax = position, ""
    while position + 8 <= len(head) and head[position : position + 2] == b"\x02\x00":
        element, vr, length = struct.unpack_from("<H2sH", head, position + 2)
        start = position + 8
        if vr in LONG_VRS:
            length, start = struct.unpack_from("<L", head.ljust(start + 4), start)[0], start + 4
        if not vr.isalpha() or not vr.isupper() or start + length > len(head):
            raise SliceError(label, "a damaged DICOM file meta group", REMEDY)
        if element == 0x10:
            syntax = head[start : start + length].rstrip(b"\0 ").decode("ascii", "replace")
        position = start + length
    # Two answers: the parser might take the other.
    if DEFLATED.encode() in head[start_of_meta:position] and syntax != DEFLATED:
        raise SliceError(label, "an ambiguous DICOM transfer syntax", REMEDY)
    return syntax, position


def _inflate(stream: BinaryIO, head: bytes, start: int, label: str) -> BinaryIO:
    """A deflated file as an explicit one of the same length of meta group, never more than MAX_INFLATED of it."""
    stream.seek(start)
    inflater, parts, total = zlib.decompressobj(-zlib.MAX_WBITS), [], 0
    while not inflater.eof and (pending := inflater.unconsumed_tail or stream.read(2**18)):
        parts.append(inflater.decompress(pending, 2**20))
        total += len(parts[-1])
        if total > MAX_INFLATED:
            raise SliceError(label, f"deflated DICOM that inflates to more than {MAX_INFLATED // 2**20} MiB", REMEDY)
    plain = EXPLICIT.encode().ljust(len(DEFLATED), b"\0")
    whole = io.BytesIO()
    whole.write(head[:start].replace(DEFLATED.encode(), plain))
    for part in parts:
        whole.write(part)
    return whole


@dataclass
class _Walker:
    """Counts elements from a position on, into sequences, without keeping any.

    `ends` has where each open sequence ends, None for one that a delimiter will end.
    """

    stream: BinaryIO
    syntax: str
    label: str
    count: int = 0
    ends: list[int | None] = field(default_factory=list)
    implicit_from: int = 2**30  # how deep the sequences of unknown kind begin, whose items are implicit (PS3.5 6.2.2)

    def walk(self, position: int) -> Pixels | None:
        """Every element up to the pixels; None where there are none, or the data end before."""
        self.stream.seek(position)
        first = self.stream.read(6)[4:]
        explicit = (
            first.isalpha() and first.isupper()
        )  # the file's own bytes outrank its transfer syntax, as in pydicom
        order = ">" if self.syntax == BIG_ENDIAN else "<"
        while True:
            self._close(position)
            self.stream.seek(position)
            head = self.stream.read(12)
            if len(head) < 8:
                return None
            group, number, vr, short = struct.unpack_from(order + "HH2sH", head)
            start, length = position + 8, struct.unpack_from(order + "L", head, 4)[0]
            self._counted()
            if group == 0xFFFE:
                position = self._delimited((group, number), start)
                continue
            if explicit and len(self.ends) < self.implicit_from:
                start, length = (start, short) if vr not in LONG_VRS else (start + 4, _long(head, order))
            else:
                vr = b""
            if (group, number) in PIXELS:
                if not self.ends:
                    return Pixels(start, None if length == UNDEFINED else length, number, vr.decode("ascii", "replace"))
                position = self._skip_fragments(start, order) if length == UNDEFINED else start + length
                continue
            position = self._value((group, number), vr, start, length)

    def _counted(self) -> None:
        self.count += 1
        if self.count > MAX_ELEMENTS:
            raise SliceError(self.label, f"more than {MAX_ELEMENTS:,} DICOM elements before its pixels", REMEDY)

    def _close(self, position: int) -> None:
        while self.ends and (end := self.ends[-1]) is not None and position >= end:
            self._end_sequence()

    def _end_sequence(self) -> None:
        if self.ends:
            self.ends.pop()
        if len(self.ends) < self.implicit_from:
            self.implicit_from = 2**30

    def _delimited(self, tag: tuple[int, int], start: int) -> int:
        """Past an item's head, into it, or past a delimiter."""
        if tag == SEQUENCE_END:
            self._end_sequence()
        return start

    def _value(self, tag: tuple[int, int], vr: bytes, start: int, length: int) -> int:
        """Where to go on: in a sequence (by its kind, its length, or its first tag), or past any other value."""
        in_sequence = length == UNDEFINED or vr == b"SQ" or (vr in (b"", b"UN") and self._begins_item(start, length))
        if in_sequence:
            self.ends.append(None if length == UNDEFINED else start + length)
            if len(self.ends) > MAX_DEPTH:
                raise SliceError(self.label, f"DICOM sequences nested more than {MAX_DEPTH} deep", REMEDY)
            if vr == b"UN":
                self.implicit_from = min(self.implicit_from, len(self.ends))
            return start
        splits = tag[0] in GROUPS_READ and vr not in TABLE_VRS and tag != LUT_DATA
        if length > (MAX_VALUE if splits else MAX_ELEMENT):
            found = f"a DICOM element ({tag[0]:04x},{tag[1]:04x}) of {length:,} bytes"
            raise SliceError(self.label, found, REMEDY)
        return start + length

    def _begins_item(self, start: int, length: int) -> bool:
        if length < 8:
            return False
        self.stream.seek(start)
        return self.stream.read(4) in (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")

    def _skip_fragments(self, position: int, order: str) -> int:
        """Past the encapsulated pixels of an icon."""
        while True:
            self._counted()
            self.stream.seek(position)
            head = self.stream.read(8)
            if len(head) < 8:
                return position + 8
            group, number, length = struct.unpack(order + "HHL", head)
            position += 8 + (length if (group, number) == ITEM else 0)
            if (group, number) != ITEM:
                return position


def _long(head: bytes, order: str) -> int:
    return int(struct.unpack_from(order + "L", head.ljust(12, b"\0"), 8)[0])
