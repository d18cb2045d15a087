"""Unequal distances of rows and columns become equal ones: a network sees shapes, and knows of no millimetres."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ct_xception.imaging.slice import MAX_PIXELS, Slice

TOLERANCE = 0.01  # of the ratio of the two distances
MOST = 20  # a ratio beyond this is a typing error


def squared(slice_: Slice, ratio: tuple[float, float] | None) -> Slice:
    """A slice resampled, bilinearly, to square pixels of its finer distance, with a note; most are square already.

    `ratio` are the distances of rows and columns in any unit, None where nothing tells them. A `spacing_mm` becomes the
    finer one both ways, or a coarser one where the picture would have more than MAX_PIXELS.
    """
    if ratio is None or abs(ratio[0] / ratio[1] - 1) <= TOLERANCE:
        return slice_
    said = f"pixels are not square ({ratio[0]:g} x {ratio[1]:g})"
    rows, columns = slice_.pixels.shape
    finer = min(ratio)
    grown = max(1.0, (rows * ratio[0] * columns * ratio[1] / finer**2 / MAX_PIXELS) ** 0.5)
    if max(ratio) / finer > MOST:
        return replace(slice_, notes=(*slice_.notes, f"{said}, shown as stored"))
    height, width = (max(1, int(n * one / finer / grown)) for n, one in zip((rows, columns), ratio, strict=True))
    body = None if slice_.body is None else _resized(slice_.body, height, width)
    spacing = None if slice_.spacing_mm is None else (min(slice_.spacing_mm) * grown,) * 2
    note = f"{said}: resampled to {width} x {height} square ones"
    pixels = _resized(slice_.pixels, height, width)
    values = None if slice_.values is None else _resized(slice_.values, height, width)
    return replace(slice_, pixels=pixels, body=body, values=values, spacing_mm=spacing, notes=(*slice_.notes, note))


def _resized(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Grey levels and values interpolated; a mask by its nearest pixels."""
    from PIL import Image

    if values.dtype == bool:
        small = Image.fromarray(values.view(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
        return np.asarray(small).astype(bool)
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))
