"""Rows read, or known not to be: a refused one keeps its place, or is left out, and is named by its source."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ct_xception.corpus.cells import read_row, readable_rows
from ct_xception.errors import SliceError
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.slice import Slice


def row(source: str, content: bytes) -> dict:
    return {"image": {"path": None, "bytes": content}, "source": source}


def picture(grey: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((40, 50), grey, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


ROWS = [row("a.png", picture(10)), row("b.png", b"no picture"), row("c.png", picture(30))]


def test_a_refused_row_is_an_error_with_its_name() -> None:
    read = [read_row(read_slice, one) for one in ROWS]
    assert [type(one) for one in read] == [Slice, SliceError, Slice]
    assert str(read[1]).startswith("b.png: ")


def test_only_readable_rows_are_given() -> None:
    assert [(one["source"], int(slice_.pixels[0, 0])) for one, slice_ in readable_rows(read_slice, ROWS)] == [
        ("a.png", 10),
        ("c.png", 30),
    ]


def test_how_is_passed_on() -> None:
    asked: list[dict] = []

    def read(source: bytes, **how: object) -> Slice:
        asked.append(how)
        return read_slice(source)

    list(readable_rows(read, ROWS[:1], frame=2))
    assert asked == [{"name": "a.png", "frame": 2}]
