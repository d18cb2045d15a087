"""What is drawn on a slice: strokes and boxes, told from anatomy by what a pen does and no tissue.

A drawing tool leaves pure white, pure black or colour; its strokes keep their width and their way, and its boxes lie
square to the picture. Vessels, ribs, slivers of lung, clothes and a table's shells do one or the other, never all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ct_xception.imaging.body.morphology import Mask

Pixels = NDArray[np.uint8]
Boxes = tuple[slice, slice]

WHITE, BLACK = 250, 4  # at and beyond these a drawing tool's pure white and black, a JPEG's ringing allowed
MIN_STROKE = 0.15  # of the side: a shorter thin thing may be an airway or a rib's edge
STRAIGHT = {True: 0.005, False: 0.02}  # of its length that a white line's middle strays, and a black one's
UNEVEN = {True: 0.1, False: 0.2}  # of its cross-sections that differ from the usual by over THICKER of it
THICKER = 0.34
STEP = 3  # pixels along a stroke in which its thickness is counted
INK, INK_SHARE = (
    32,
    0.05,
)  # levels between ink's channels, where JPEG leaves 20; of the pixels coloured in a grey picture
EDGE = 2  # pixels from the picture's edge, where air between arm and edge is as thin as a line
RING, CONTRAST = 3, 20  # pixels around a stroke that must differ from it by as many grey levels
BOX_COVERAGE = 0.85  # of its bounding rectangle's sides that a drawn box must follow
BOX_DRAWN, BOX_FILL = 0.6, 0.5  # of its sides that are thin lines; of its rectangle that these may fill
MIN_BOX, MIN_BOX_SIDE = 8, 0.02  # pixels, and share of the picture's side: of a box's shorter side


def best_box(pixels: Pixels, flesh: Mask, colour: Mask | None) -> float:
    """How fully the least complete side of the best drawn rectangle is there, 0 for none.

    In colour; in pure white, or in pure black where that is no tissue's (`flesh`), of thin lines along the picture's
    rows and columns, off its edge.
    """
    scores = [_box_score(shape, shape) for shape, _ in _shapes(colour)]
    for layer in (pixels >= WHITE, (pixels <= BLACK) & flesh):
        lines = _square_lines(layer)
        scores += [_box_score(layer[box], shape) for shape, box in _shapes(lines)]
    return max(scores, default=0.0)


def _square_lines(layer: Mask) -> Mask:
    """What of a layer are thin lines along the picture's rows or columns, off the picture's edge."""
    from scipy import ndimage

    if not layer.any():
        return layer
    least, most = max(MIN_BOX, round(MIN_BOX_SIDE * min(layer.shape))), round(_stroke_width(layer)) + 1
    lines = np.zeros_like(layer)
    for turned, found in ((layer, lines), (layer.T, lines.T)):
        thick = ndimage.binary_opening(turned, np.ones((most, 1)))
        found |= ndimage.binary_opening(turned & ~thick, np.ones((1, least)))
    lines[[0, -1]], lines[:, [0, -1]] = False, False
    return lines


def _box_score(layer: Mask, lines: Mask) -> float:
    """How much of its rectangle's four sides a layer (h, w) follows, the least covered side; 0 if filled or no lines.

    Where a line crosses what is as white, it is no line there: `lines` (h, w) follow half of the way.
    """
    if min(lines.shape) < MIN_BOX or lines.mean() > BOX_FILL:
        return 0.0
    covered, drawn = _sides(layer), _sides(lines)
    length = np.array([lines.shape[1]] * 2 + [lines.shape[0]] * 2)
    score = float(covered.min())
    return score if score >= BOX_COVERAGE and (drawn @ length) >= BOX_DRAWN * length.sum() else 0.0


def _sides(shape: Mask) -> NDArray[np.float64]:
    """The share of its upper, lower, left and right side that a shape (h, w) follows."""
    depth = max(1, min(shape.shape) // 8)
    ends = (shape[:depth].any(0), shape[-depth:].any(0), shape[:, :depth].any(1), shape[:, -depth:].any(1))
    return np.array([end.mean() for end in ends])


def longest_stroke(pixels: Pixels, flesh: Mask, white: Mask, colour: Mask | None) -> float:
    """The longest thin line in colour, or in pure black or white as if ruled, as a share of the side; 0 for none.

    Black ones are looked for in `flesh`, white ones in `white`: where a scanner's table draws no lines of its own.
    """
    width, side = _stroke_width(pixels), min(pixels.shape)
    found = [0.0]
    if colour is not None:
        found += [_length(shape) for shape, _ in _shapes(colour) if shape.sum() <= width * _length(shape)]
    for is_white, layer in ((True, (pixels >= WHITE) & white), (False, (pixels <= BLACK) & flesh)):
        for shape, box in _shapes(_thin(layer, width)):
            thin = MIN_STROKE * side <= _length(shape) and shape.sum() <= width * _length(shape)
            if thin and _is_ruled(shape, is_white=is_white) and _stands_alone(pixels, shape, box):
                found.append(_length(shape))
    return max(found) / side if max(found) >= MIN_STROKE * side else 0.0


def _length(shape: Mask) -> float:
    return float(np.hypot(*shape.shape))


def _is_ruled(shape: Mask, *, is_white: bool) -> bool:
    """Whether a shape's middle is straight, and it as thick all along: slivers taper, vessels fork, ribs bend."""
    points = np.argwhere(shape) - np.argwhere(shape).mean(axis=0)
    _, axes = np.linalg.eigh(points.T @ points)
    across, along = (points @ axes).T
    length = float(np.ptp(along))
    if length < 8 * STEP:
        return False
    place = ((along - along.min()) // STEP).astype(int)
    counts = np.bincount(place)
    middle = (np.bincount(place, across)[counts > 0] / counts[counts > 0])[1:-2]
    widths = counts[1:-2]
    usual = float(np.median(widths))
    uneven = np.abs(widths - usual) > np.maximum(2.0, THICKER * usual)
    return bool(middle.std() <= STRAIGHT[is_white] * length and uneven.mean() <= UNEVEN[is_white])


def _stands_alone(pixels: Pixels, shape: Mask, box: Boxes) -> bool:
    """Whether what surrounds a shape is not nearly as extreme: dark lung lies by dark lung, a bright table by foam."""
    from scipy import ndimage

    padded = np.pad(shape, RING)
    ring = ndimage.maximum_filter(padded, 2 * RING + 1) & ~ndimage.maximum_filter(padded, 3)
    if min(part.start for part in box) < EDGE or any(e - p.stop < EDGE for p, e in zip(box, pixels.shape, strict=True)):
        return False
    rows, columns = (np.arange(part.start - RING, part.stop + RING) for part in box)
    inside = ((rows >= 0) & (rows < pixels.shape[0]))[:, None] & ((columns >= 0) & (columns < pixels.shape[1]))
    around = pixels[np.ix_(rows.clip(0, pixels.shape[0] - 1), columns.clip(0, pixels.shape[1] - 1))][ring & inside]
    own = pixels[box][shape].mean()
    return bool(around.size) and float((np.abs(around - own) < CONTRAST).mean()) < 0.2


def _stroke_width(pixels: NDArray[np.generic]) -> float:
    return max(4.0, min(pixels.shape) / 64)


def _thin(layer: Mask, width: float) -> Mask:
    """What of a layer is thinner than about twice `width`: it without its opening by a square."""
    from scipy import ndimage

    if not layer.any():
        return layer
    side = 2 * round(width) + 1
    thick = ndimage.minimum_filter(layer, side)
    return layer & ~ndimage.maximum_filter(thick, side) if thick.any() else layer


def _shapes(layer: Mask | None) -> Iterator[tuple[Mask, Boxes]]:
    """The connected parts of a layer that are long enough to be drawn: each (h, w) with its box in the layer."""
    from scipy import ndimage

    if layer is None or not layer.any():
        return
    labels, _ = ndimage.label(layer, np.ones((3, 3)))
    areas = np.bincount(labels.ravel())
    shortest = MIN_BOX_SIDE * min(layer.shape)
    large = np.flatnonzero(areas[1:] >= shortest)
    boxes = ndimage.find_objects(labels) if len(large) else []
    for index in large.tolist():
        height, width = (part.stop - part.start for part in boxes[index])
        if height + width >= 2 * shortest:
            yield labels[boxes[index]] == index + 1, boxes[index]
