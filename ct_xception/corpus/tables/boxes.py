"""Boxes of lesions, four columns of a table: left, top, right, bottom in pixels of the picture as it is read.

A corpus carries them as one text a picture, "left,top,right,bottom" of each box with ";" between; both ends count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ct_xception.corpus.tables.columns import box_columns
from ct_xception.corpus.tables.table_cells import Rows
from ct_xception.errors import printable

Box = tuple[int, int, int, int]
_WHOLE = re.compile(r"(\d{1,6})(\.0+)?")


def boxes_of_rows(rows: Rows) -> tuple[list[Box | None], list[str]]:
    """The box of each row, None where its cells are empty, and what is wrong with them, a sentence each."""
    names = box_columns(rows.options.box_columns)
    if missing := [name for name in names if name not in rows.columns]:
        shown = ", ".join(map(printable, rows.columns))
        said = f"{rows.name} has no column {printable(missing[0])!r} (--box_columns); it has {shown}"
        return [None] * len(rows), [said]
    found, faulty = list[Box | None](), list[int]()
    for number, cells in enumerate(zip(*(rows.text(name) for name in names), strict=True), 1):
        box = _box(cells)
        found.append(box)
        faulty += [number] if box is None and any(cells) else []
    if not faulty:
        return found, []
    shown = ", ".join(map(str, faulty[:5])) + (", …" if len(faulty) > 5 else "")
    return found, [
        f"{rows.name} has boxes that are none in {len(faulty)} rows (row {shown}); give left, top, right and bottom in "
        "whole pixels, or leave all four empty"
    ]


def _box(cells: Sequence[str]) -> Box | None:
    matched = [_WHOLE.fullmatch(cell) for cell in cells]
    if not all(matched):
        return None
    left, top, right, bottom = (int(one[1]) for one in matched if one is not None)
    return (left, top, right, bottom) if left <= right and top <= bottom else None


def boxes_text(boxes: Sequence[Box]) -> str:
    """The cell that a corpus carries."""
    return ";".join(",".join(map(str, box)) for box in boxes)


def read_boxes(text: str) -> list[Box]:
    """The boxes of such a cell."""
    return [(left, top, right, bottom) for left, top, right, bottom in
            (map(int, box.split(",")) for box in text.split(";") if box)]  # fmt: skip


def box_mask(text: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) of all that lies in one of the boxes of a cell."""
    mask = np.zeros(shape, bool)
    for left, top, right, bottom in read_boxes(text):
        mask[top : bottom + 1, left : right + 1] = True
    return mask


def box_problem(source: str, boxes: Sequence[Box], shape: tuple[int, ...]) -> str:
    """What is wrong with boxes of a picture of `shape` (rows, columns); empty where they lie in it."""
    rows, columns = shape
    outside = [box for box in boxes if box[2] >= columns or box[3] >= rows]
    if not outside:
        return ""
    return f"a box of {source} ends at {outside[0][2:]}, and its image has {columns} x {rows} pixels, counted from 0"
