"""Shapes in masks: growing, withering, opening, filling and the largest part, in small whole steps.

Masks are (H, W) bool. A step grows by the cross of four neighbours and by the square of eight in turn, which is nearly
a disc; whole steps keep the page in the browser equal to Python to the pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def grow(mask: Mask, steps: int) -> Mask:
    """The mask and what lies within so many steps of it; outside the picture counts as False."""
    for step in range(steps):
        near = mask.copy()
        near[1:] |= mask[:-1]
        near[:-1] |= mask[1:]
        across = near if step % 2 else mask
        wider = near.copy()
        wider[:, 1:] |= across[:, :-1]
        wider[:, :-1] |= across[:, 1:]
        mask = wider
    return mask


def wither(mask: Mask, steps: int) -> Mask:
    """The mask without what lies within so many steps of its outside; beyond the picture it goes on as at the edge."""
    return ~grow(~mask, steps)


def opened(mask: Mask, steps: int) -> Mask:
    """The mask without what is thinner than twice so many steps."""
    return grow(wither(mask, steps), steps) & mask


def largest(mask: Mask) -> Mask | None:
    """The largest part that hangs together by edges; None of an empty mask."""
    from scipy import ndimage

    labels, found = ndimage.label(mask)
    if not found:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def enclosed(mask: Mask, gap: int) -> Mask:
    """The mask and all that nothing wider than twice `gap` steps can reach from outside the picture."""
    from scipy import ndimage

    reach = gap + 2
    free = ~grow(np.pad(mask, reach), gap)
    labels, _ = ndimage.label(free)
    outside = grow(labels == labels[0, 0], gap)
    return ~outside[reach:-reach, reach:-reach]


def fill_between(mask: Mask) -> Mask:
    """Fill what has mask on its left, right, above and below."""
    (left, right), (top, bottom) = _ends(mask), _ends(mask.T)
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    filled = columns >= left[:, None]
    for inside in (lambda: columns <= right[:, None], lambda: rows >= top, lambda: rows <= bottom):
        filled &= inside()
    return filled


def _ends(mask: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first and the last True of each row; the last before the first where there is none."""
    length, some = mask.shape[1], mask.any(axis=1)
    return np.where(some, mask.argmax(axis=1), length), length - 1 - mask[:, ::-1].argmax(axis=1)


def convex_area(mask: Mask) -> float:
    """The area of the convex hull, in pixels, of a mask that has some (Andrew's monotone chain, 1979)."""
    rows = np.flatnonzero(mask.any(axis=1))
    left = mask[rows].argmax(axis=1)
    right = mask.shape[1] - mask[rows][:, ::-1].argmax(axis=1)
    top, bottom = rows.tolist(), (rows + 1).tolist()
    one = _chain([*zip(top, left.tolist(), strict=True), *zip(bottom, left.tolist(), strict=True)], -1)
    other = _chain([*zip(top, right.tolist(), strict=True), *zip(bottom, right.tolist(), strict=True)], 1)
    corners = one + other[::-1]
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, corners[1:] + corners[:1], strict=True))) / 2


def _chain(points: list[tuple[int, int]], side: int) -> list[tuple[int, int]]:
    """The outermost of points (row, column) from the first row to the last: to the left (-1) or the right (1)."""
    kept: list[tuple[int, int]] = []
    for row, column in sorted(points, key=lambda point: (point[0], side * point[1])):
        while kept and kept[-1][0] == row:
            kept.pop()
        while len(kept) > 1 and side * _turn(kept[-2], kept[-1], (row, column)) >= 0:
            kept.pop()
        kept.append((row, column))
    return kept


def _turn(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> int:
    """Above 0 where the way a, b, c bends towards higher columns as rows go down."""
    return (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])
