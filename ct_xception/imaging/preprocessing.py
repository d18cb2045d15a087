"""What a checkpoint's `pretrained_cfg` does to a slice: resize, crop or pad, normalise; numpy and Pillow alone.

The same values, bit for bit, as timm's evaluation pipeline for that configuration, and so as the stock transformers
processor: Pillow resizes, torchvision's rules say where the middle lies, and float32 arithmetic normalises. Written out
here so that an exported network answers without torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.errors import InputError, printable
from ct_xception.imaging.slice import Slice

if TYPE_CHECKING:
    from PIL import Image

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
# What timm takes where a configuration is silent: the defaults of ImageNet networks.
_DEFAULTS: dict[str, Any] = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 0.875,
    "crop_mode": "center",
}


@dataclass(frozen=True)
class Preprocessing:
    """From a slice to the network's input, as timm reads a `pretrained_cfg`.

    `size` is (rows, columns) of the input; `mean` and `std` are per channel, of levels in [0, 1]; `crop_pct` is the
    share of the resized picture's sides that the input shows. `crop_mode`: "squash" gives up the proportions, "border"
    pads to a square, and any other ("center") cuts off what is too long.
    """

    size: tuple[int, int]
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float
    crop_mode: str

    @classmethod
    def of(cls, pretrained_cfg: Mapping[str, Any]) -> Preprocessing:
        """From a `pretrained_cfg`; what it leaves out is as in timm. Raises InputError for what no CT slice can be."""
        stated = {name: pretrained_cfg.get(name) or default for name, default in _DEFAULTS.items()}
        channels, rows, columns = stated["input_size"]
        if channels != 3:
            raise InputError(f"the checkpoint takes {channels} channels; choose one that takes 3.")
        if stated["interpolation"] not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            found = printable(stated["interpolation"])
            raise InputError(f"interpolation {found!r} of the checkpoint is unknown; this version knows {known}.")
        return cls(
            (int(rows), int(columns)),
            stated["interpolation"],
            _per_channel(stated["mean"]),
            _per_channel(stated["std"]),
            float(stated["crop_pct"]),
            stated["crop_mode"],
        )

    def __call__(self, slice_: Slice) -> np.ndarray:
        """The network's input, (3, rows, columns) float32."""
        grey = self._resized(slice_.pixels)
        # Resampling treats channels alike, so the grey slice goes through once; padding and normalising may differ.
        fills = [round(255 * mean) for mean in self.mean] if self.crop_mode == "border" else [0, 0, 0]
        channels = zip(fills, self._levels(), strict=True)
        return np.stack([levels[_centred(grey, self.size, fill)] for fill, levels in channels])

    def _levels(self) -> np.ndarray:
        """What each grey level 0..255 becomes in each channel, (3, 256) float32."""
        unit = np.arange(256, dtype=np.float32) / np.float32(255)
        mean, std = (np.asarray(values, np.float32)[:, None] for values in (self.mean, self.std))
        return (unit - mean) / std

    def _resized(self, pixels: np.ndarray) -> np.ndarray:
        from PIL import Image

        rows, columns = self._resized_shape(*pixels.shape)
        resample = pillow_resampling(self.interpolation)
        return np.asarray(Image.fromarray(pixels).resize((columns, rows), resample))

    def _resized_shape(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns before the middle is cut out or padded."""
        rows, columns = (math.floor(side / self.crop_pct) for side in self.size)
        if self.crop_mode == "squash":
            return rows, columns
        if self.crop_mode != "border" and rows == columns:
            longer = int(rows * max(height, width) / min(height, width))  # torchvision cuts the fraction off here
            return (longer, rows) if width <= height else (rows, longer)
        ratios = height / rows, width / columns
        ratio = max(ratios) if self.crop_mode == "border" else min(ratios)
        return max(1, round(height / ratio)), max(1, round(width / ratio))


def pillow_resampling(interpolation: str) -> Image.Resampling:
    """Pillow's name for one of INTERPOLATIONS."""
    from PIL import Image

    return Image.Resampling[interpolation.upper()]


def _per_channel(values: Any) -> tuple[float, float, float]:
    one, two, three = tuple(values) * 3 if len(values) == 1 else tuple(values)
    return float(one), float(two), float(three)


def _centred(grey: np.ndarray, size: tuple[int, int], fill: int) -> np.ndarray:
    """The middle of a picture (H, W), padded with `fill` where it is too small; odd pixels as torchvision has them."""
    spare = [wanted - found for wanted, found in zip(size, grey.shape, strict=True)]
    if max(spare) > 0:
        margins = [(max(0, number) // 2, (max(0, number) + 1) // 2) for number in spare]
        grey = np.pad(grey, margins, constant_values=fill)
    top, left = (round((found - wanted) / 2) for wanted, found in zip(size, grey.shape, strict=True))
    return grey[top : top + size[0], left : left + size[1]]
