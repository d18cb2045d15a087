"""The body crop: table, clothes, air and border leave the slice before the network can learn from them.

Grey; threshold at max(8, Otsu / 2); binary opening twice; largest component; what it encloses filled; zero outside;
crop to the box. On the reference corpus this crop alone lifts 1-nearest-neighbour accuracy from 44 % to 95 %, since
its test images keep the scanner table that its training images lack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ct_xception.imaging.slice import Slice

MIN_THRESHOLD = 8  # grey levels: below, JPEG noise in the air counts as body
MIN_AREA = 0.02  # of the image: a smaller thing is a table or a letter, not a body


@dataclass(frozen=True)
class Box:
    """A half-open box in pixels: rows top..bottom - 1, columns left..right - 1."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left


@dataclass(frozen=True, eq=False)
class BodyCrop:
    """The cropped slice, its box in the original slice's pixels, and whether a body was found at all."""

    slice: Slice
    box: Box
    found: bool


def otsu_threshold(pixels: np.ndarray) -> float:
    """Otsu's threshold (1979) of grey levels uint8: the t that best parts `<= t` from `> t`; 0 if all are equal.

    Where no pixel lies between two groups, every t between them is as good: their mean, so that noise finds room.
    """
    counts = np.bincount(pixels.ravel(), minlength=256).astype(np.float64)
    below, weighted = counts.cumsum(), (counts * np.arange(256)).cumsum()
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (weighted / below - (weighted[-1] - weighted) / above) ** 2
    between = np.nan_to_num(between[:-1], nan=0.0, posinf=0.0)
    best = between.max()
    return float(np.flatnonzero(between == best).mean()) if best > 0 else 0.0


def body_mask(pixels: np.ndarray) -> np.ndarray:
    """Where the body is: (H, W) bool from grey levels (H, W) uint8. All True when no body is found."""
    mask = _find_body(pixels)
    return np.ones(pixels.shape, dtype=bool) if mask is None else mask


def crop_body(slice_: Slice) -> BodyCrop:
    """Zero what lies outside the body and crop to its box; a slice without a body is left as it is."""
    mask = _find_body(slice_.pixels)
    if mask is None:
        box = Box(0, 0, *slice_.pixels.shape)
        return BodyCrop(slice_.replace_pixels(slice_.pixels, "no body found, not cropped"), box, found=False)
    box = mask_box(mask)
    inside = (slice(box.top, box.bottom), slice(box.left, box.right))
    pixels = np.where(mask[inside], slice_.pixels[inside], np.uint8(0))
    return BodyCrop(slice_.replace_pixels(pixels, "cropped to the body"), box, found=True)


def mask_box(mask: np.ndarray) -> Box:
    """The smallest box around the True pixels of a mask (H, W) that has some."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def _find_body(pixels: np.ndarray) -> np.ndarray | None:
    bright = pixels > max(MIN_THRESHOLD, otsu_threshold(pixels) / 2)
    body = _largest_component(_open_twice(bright))
    if body is None or body.sum() < MIN_AREA * body.size:
        return None
    return _fill_enclosed(body)


def _open_twice(mask: np.ndarray) -> np.ndarray:
    """Two erosions, then two dilations, by the 4-neighbour cross; outside the image counts as False."""
    padded = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), dtype=bool)
    for combine in (np.logical_and, np.logical_and, np.logical_or, np.logical_or):
        padded[1:-1, 1:-1] = mask
        mask = combine(padded[:-2, 1:-1], padded[2:, 1:-1])
        for neighbour in (padded[1:-1, :-2], padded[1:-1, 2:], padded[1:-1, 1:-1]):
            combine(mask, neighbour, out=mask)
    return mask


def _largest_component(mask: np.ndarray) -> np.ndarray | None:
    from scipy import ndimage

    labels, found = ndimage.label(mask)
    if not found:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def _fill_enclosed(mask: np.ndarray) -> np.ndarray:
    """Fill what has mask on its left, right, above and below.

    Every hole is filled so, and a lung too that a thin gap in the chest wall (dark fat, a drawn line) opens to the air.
    """
    seen = np.logical_or.accumulate
    across = seen(mask, axis=1) & seen(mask[:, ::-1], axis=1)[:, ::-1]
    return across & seen(mask, axis=0) & seen(mask[::-1], axis=0)[::-1]
