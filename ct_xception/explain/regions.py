"""The strongest areas of a heat map as regions: outlines, boxes and sizes in pixels and, where known, in mm."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.measure import approximate_polygon, find_contours

LEVEL = 0.5  # of the peak: where a region ends
SMOOTHING = 0.015  # of the slice's shorter side: fine maps are speckled, and a region is not
MIN_SHARE = 0.02  # of the positive attribution: a smaller region is left out


@dataclass(frozen=True)
class EvidenceRegion:
    """One area of strong evidence.

    `top`, `left`, `bottom`, `right` is a half-open box in pixels of the slice; `peak` (row, column) its strongest pixel
    and `value` that pixel's share of the map's peak; `share` the region's part of the map's positive attribution;
    `outline` the longest closed contour as (row, column) points. Millimetres are None where the spacing is unknown.
    """

    top: int
    left: int
    bottom: int
    right: int
    peak: tuple[int, int]
    value: float
    share: float
    area_pixels: int
    area_mm2: float | None
    height_mm: float | None
    width_mm: float | None
    outline: tuple[tuple[float, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def strongest_regions(
    heat: np.ndarray, *, spacing_mm: tuple[float, float] | None = None, limit: int = 3, coarse: bool = False
) -> list[EvidenceRegion]:
    """The areas of a map (H, W) above half of its peak, the one with the most attribution first; at most `limit`.

    Only what speaks for the class counts. A fine map is smoothed first; `coarse` says that it needs none. `spacing_mm`
    is the (row, column) distance of pixels.
    """

    positive = np.clip(heat, 0, None).astype(np.float64)
    if not coarse:
        positive = ndimage.gaussian_filter(positive, max(1.0, SMOOTHING * min(heat.shape)))
    peak, total = float(positive.max()), float(positive.sum())
    if peak <= 0:
        return []
    labels, found = ndimage.label(positive >= LEVEL * peak, np.ones((3, 3)))
    regions = [_describe(positive, labels == number, peak, total, spacing_mm) for number in range(1, found + 1)]
    kept = [region for region in regions if region.share >= MIN_SHARE]
    return sorted(kept or regions, key=lambda region: -region.share)[:limit]


def _describe(
    positive: np.ndarray, mask: np.ndarray, peak: float, total: float, spacing_mm: tuple[float, float] | None
) -> EvidenceRegion:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left, bottom, right = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
    within = np.where(mask, positive, 0.0)
    row, column = np.unravel_index(int(within.argmax()), within.shape)
    area = int(mask.sum())
    known = spacing_mm is not None
    down, across = spacing_mm or (0.0, 0.0)
    return EvidenceRegion(
        *(top, left, bottom, right),
        peak=(int(row), int(column)),
        value=float(within.max() / peak),
        share=float(within.sum() / total),
        area_pixels=area,
        area_mm2=area * down * across if known else None,
        height_mm=(bottom - top) * down if known else None,
        width_mm=(right - left) * across if known else None,
        outline=_outline(mask),
    )


def _outline(mask: np.ndarray) -> tuple[tuple[float, float], ...]:
    """The longest contour of a mask, thinned to what a quarter of a pixel's error allows."""

    contours = find_contours(np.pad(mask, 1).astype(float), 0.5)
    longest = approximate_polygon(max(contours, key=len) - 1, 0.25)
    return tuple((round(float(row), 2), round(float(column), 2)) for row, column in longest)
