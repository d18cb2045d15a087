"""From the network's square input back to the slice: the resize and the body crop undone.

A cell of the last feature map does not look at "its" tile of the input. Each strided layer reads from its first pixel
on, so cell i looks at pixel `first + stride * i`, half a stride above and left of its tile's middle. Spreading a coarse
map over tiles, as is common, would shift every heat map down and to the right by up to 16 of the network's pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ct_xception.imaging.body.crop import Box

# The input pixel that the first cell's receptive field is centred on: its two unpadded convolutions move that of
# legacy_xception; where every layer is padded alike it is 0. A test measures them.
FIRST_CENTRE = {"legacy_xception": 3}


@dataclass(frozen=True)
class Region:
    """A rectangle in pixels of the slice; it may reach beyond the slice, and its edges need not be whole."""

    top: float
    left: float
    bottom: float
    right: float


def seen_region(pretrained_cfg: Mapping[str, Any], box: Box) -> Region:
    """The part of the slice that fills the network's square input, by timm's rules for `crop_pct` and `crop_mode`.

    Our own checkpoints squash the whole box (crop_pct 1.0). Others may cut a centre out of it, or pad it.
    """
    height, width = box.bottom - box.top, box.right - box.left
    mode = pretrained_cfg.get("crop_mode") or "center"
    if mode == "border":
        height = width = max(height, width)
    elif mode != "squash":
        height = width = min(height, width)
    share = (pretrained_cfg.get("crop_pct") or 0.875) / 2
    middle, centre = (box.top + box.bottom) / 2, (box.left + box.right) / 2
    return Region(middle - height * share, centre - width * share, middle + height * share, centre + width * share)


def cell_grid(region: Region, side: int, cells: tuple[int, int], architecture: str = "") -> Region:
    """The rectangle whose equal tiles have their middles where the cells of a map (h, w) look, in pixels of the slice.

    `region` is what the network's input (side, side) shows.
    """

    def extent(start: float, stop: float, count: int) -> tuple[float, float]:
        stride = 2 ** round(math.log2(side / count))
        pixel = (stop - start) / side
        first = start + (FIRST_CENTRE.get(architecture, 0) * (stride > 1) + 0.5 - stride / 2) * pixel
        return first, first + count * stride * pixel

    top, bottom = extent(region.top, region.bottom, cells[0])
    left, right = extent(region.left, region.right, cells[1])
    return Region(top, left, bottom, right)


def place_in_slice(
    cells: np.ndarray, region: Region, box: Box, shape: tuple[int, int], *, grid: Region | None = None
) -> np.ndarray:
    """Spread a map (h, w) over a slice of `shape` (H, W), bilinearly; 0 outside `box` and `region`.

    The map's cells are the equal tiles of `grid`, or else of `region`; beyond the outermost middles their values hold.
    Samples sit at pixel centres, as in torch's `interpolate(..., align_corners=False, antialias=True)`, to which it is
    equal: a map finer than the slice is averaged, so that no cell of it is passed over.
    """
    tiles = grid or region
    down, across = (region.top, region.bottom, box.top, box.bottom), (region.left, region.right, box.left, box.right)
    rows = _weights(tiles.top, tiles.bottom, cells.shape[0], shape[0]) * _seen(*down, shape[0])
    columns = _weights(tiles.left, tiles.right, cells.shape[1], shape[1]) * _seen(*across, shape[1])
    return (rows @ cells @ columns.T).astype(np.float32)


def spread_over_input(cells: np.ndarray, side: int, architecture: str = "") -> np.ndarray:
    """A map (h, w) over the network's square input, bilinearly and where its cells look: (side, side) float32."""
    if cells.shape == (side, side):
        return cells.astype(np.float32)
    whole = Region(0, 0, side, side)
    grid = cell_grid(whole, side, cells.shape, architecture)
    return place_in_slice(cells, whole, Box(0, 0, side, side), (side, side), grid=grid)


def _seen(start: float, stop: float, first: int, last: int, length: int) -> np.ndarray:
    """Which pixels of one axis lie in [start, stop) and in [first, last): (length, 1) bool."""
    pixels = np.arange(length)[:, None] + 0.5
    return (pixels >= max(start, first)) & (pixels < min(stop, last))


def _weights(start: float, stop: float, cells: int, length: int) -> np.ndarray:
    """Interpolation weights (length, cells) of `cells` equal cells that span [start, stop) of one axis.

    A triangle, as wide as a cell or, where cells are smaller, as a pixel.
    """
    place = (np.arange(length) + 0.5 - start) / (stop - start) * cells - 0.5
    width = max(1.0, cells / (stop - start))
    if width == 1.0:
        place = np.clip(place, 0, cells - 1)
    weights = np.clip(1 - np.abs(place[:, None] - np.arange(cells)) / width, 0, None)
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
