"""From the network's square input back to the slice: the resize and the body crop undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ct_xception.imaging.body import Box


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


def place_in_slice(cells: np.ndarray, region: Region, box: Box, shape: tuple[int, int]) -> np.ndarray:
    """Spread a map (h, w) over `region` of a slice of `shape` (H, W), bilinearly; 0 outside `box` and `region`.

    Samples sit at pixel centres, as in torch's `interpolate(..., align_corners=False, antialias=True)`, to which it is
    equal: a map finer than the slice is averaged, so that no cell of it is passed over.
    """
    rows = _weights(region.top, region.bottom, cells.shape[0], box.top, box.bottom, shape[0])
    columns = _weights(region.left, region.right, cells.shape[1], box.left, box.right, shape[1])
    return (rows @ cells @ columns.T).astype(np.float32)


def place_in_input(mask: np.ndarray, region: Region, side: int) -> np.ndarray:
    """The reverse for a mask (H, W) bool of the slice: which pixels of the network's input (side, side) show it.

    The nearest pixel decides; what lies outside the slice is False.
    """
    rows = np.floor(region.top + (np.arange(side) + 0.5) * (region.bottom - region.top) / side).astype(int)
    columns = np.floor(region.left + (np.arange(side) + 0.5) * (region.right - region.left) / side).astype(int)
    inside = ((rows >= 0) & (rows < mask.shape[0]))[:, None] & ((columns >= 0) & (columns < mask.shape[1]))
    return mask[np.clip(rows, 0, mask.shape[0] - 1)][:, np.clip(columns, 0, mask.shape[1] - 1)] & inside


def _weights(start: float, stop: float, cells: int, first: int, last: int, length: int) -> np.ndarray:
    """Interpolation weights (length, cells) of `cells` equal cells that span [start, stop) of one axis.

    A triangle, as wide as a cell or, where cells are smaller, as a pixel.
    """
    pixels = np.arange(length) + 0.5
    seen = (pixels >= max(start, first)) & (pixels < min(stop, last))
    place = (pixels - start) / (stop - start) * cells - 0.5
    width = max(1.0, cells / (stop - start))
    weights = np.clip(1 - np.abs(place[:, None] - np.arange(cells)) / width, 0, None)
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0) * seen[:, None]
