"""What window a picture was shown in, judged from what it shows inside the body.

Air lies at -1000 HU, fat at -100 and muscle at 50 in every patient, so the grey levels of two of them give the window's
ends: air and the fat under the skin where air is grey, else that fat and the muscle under it. Where fat is white or
black, or no body was found, only bounds are known, and the lungs (the darkest large part) decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct_xception.imaging.body.morphology import Mask, wither
from ct_xception.imaging.body.outline import GRID, otsu_threshold, shrink

Pixels = NDArray[np.uint8]

AIR, LUNG, FAT, MUSCLE = -1000.0, -850.0, -100.0, 50.0  # HU
BLACK, WHITE = 4, 248  # grey levels: up to and from here a window cuts off
LEAST_STEP = 3  # grey levels between fat and muscle that tell a window
LUNG_LOW, FAT_LOW = -700.0, -120.0  # HU: what is black below these shows lung, and fat
SOFT_HIGH, BONE_HIGH = 0.0, 450.0  # HU: what is white from these on hides soft tissue, and bone
NARROW = 220.0  # HU: a narrower window shows noise

KINDS = ("lung", "mediastinal", "bone", "wide", "narrow")


@dataclass(frozen=True)
class ShownWindow:
    """A window's ends in HU as the picture tells them: all below `low` is black, all above `high` white."""

    low: float
    high: float

    @property
    def kind(self) -> str:
        """The nearest of KINDS."""
        if self.low > FAT_LOW or self.high < SOFT_HIGH - 100 or self.high - self.low < NARROW:
            return "narrow"
        if self.low <= LUNG_LOW:
            return "lung" if self.high <= BONE_HIGH else "wide"
        return "mediastinal" if self.high <= BONE_HIGH else "bone"

    @property
    def hides_lung(self) -> bool:
        """Whether lung tissue is black."""
        return self.low > LUNG_LOW

    @property
    def hides_soft_tissue(self) -> bool:
        """Whether fat is black, or muscle white."""
        return self.low > FAT_LOW or self.high < SOFT_HIGH


FAT_BLACK = ShownWindow(FAT + 50.0, 400.0)  # how bright the rest is shown is not known


def judge_window(pixels: Pixels, body: Mask) -> ShownWindow:
    """The window of a picture (H, W) uint8 whose body (H, W) bool is known; all True where none was found."""
    step = -(-max(pixels.shape) // GRID)
    small, mask = shrink(pixels, step), shrink(body.astype(np.uint8) * step**2, step) > step**2 // 2
    if body.all() or not mask.any():
        edge = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
        # Black all round and yet no outline: a window that showed fat would have shown one.
        return FAT_BLACK if (edge <= BLACK).mean() > 0.5 else _from_lungs(small)
    width = int(np.ptp(np.flatnonzero(mask.any(axis=0)))) + 1
    skin = max(1, width // 90)
    outer, deep = wither(mask, skin), wither(mask, max(skin + 2, width // 35))
    rim = _middle(small[outer & ~deep])
    if rim <= BLACK:
        return FAT_BLACK
    air = _middle(small[~mask])
    if air > BLACK and BLACK < rim < WHITE and rim > air:
        return _ends(AIR, air, FAT, rim)
    if rim >= WHITE:
        return _from_lungs(small[mask])
    inner = small[deep & ~wither(mask, max(skin + 6, width // 8))]
    muscle = _middle(inner[inner > rim + LEAST_STEP])
    if muscle >= WHITE:  # only bounds: fat is grey, and muscle white
        low = FAT - (MUSCLE - FAT) * rim / max(1, 255 - rim)
        return ShownWindow(low, MUSCLE)
    if muscle <= rim + LEAST_STEP:
        return ShownWindow(LUNG_LOW + 100, 1000.0)
    return _ends(FAT, rim, MUSCLE, muscle)


def _ends(first: float, low: int, second: float, high: int) -> ShownWindow:
    """The window through two known points: HU `first` at grey `low`, HU `second` at grey `high`."""
    scale = (second - first) / (high - low)
    return ShownWindow(first - scale * low, first + scale * (255 - low))


def _from_lungs(pixels: Pixels) -> ShownWindow:
    """From the lungs, the darkest large part, and the tissue around them."""
    split = otsu_threshold(pixels)
    dark, bright = _middle(pixels[pixels <= split]), _middle(pixels[pixels > split])
    if dark <= BLACK:  # lungs are black
        return ShownWindow(-600.0, FAT - 50) if bright >= WHITE else _ends(LUNG + 650, 0, MUSCLE, max(bright, 1))
    if bright >= WHITE:
        return ShownWindow(AIR, FAT)
    return _ends(LUNG, dark, MUSCLE, max(bright, dark + 1))


def _middle(levels: Pixels) -> int:
    return int(np.sort(levels)[len(levels) // 2]) if len(levels) else 0
