"""Named, graded changes that other scanners, sites and archives make to a slice, on grey pixels after the window.

Each takes pixels (H, W) uint8, a severity from 1 to 5 and a random generator, and gives pixels uint8. They act on the
picture that is shown, not on HU: a window can be made wider or narrower only within the grey levels that are left, and
noise is added after the window, not before the reconstruction. `value_changes` act on HU and on series, where a corpus
holds these. The phase of a contrast agent is in neither: it cannot be had honestly from a slice.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

Pixels = NDArray[np.uint8]
SEVERITIES = (1, 2, 3, 4, 5)
SHOWN = 8.0  # grey levels above black from which a pixel is sure to be more than air or what an encoder left of it


@dataclass(frozen=True)
class Named:
    """A change: what it is called in words, the amount at each severity with its unit, and what makes it."""

    title: str
    amounts: tuple[float, ...]
    unit: str
    make: Callable[[Pixels, float, np.random.Generator], Pixels]
    moves: bool = False  # what is shown lies elsewhere in a picture of the same shape

    def __call__(self, pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
        """The changed pixels (H, W) uint8 at a severity from 1 to 5."""
        return self.make(pixels, self.amounts[severity - 1], rng)


def _grey(values: NDArray[np.floating]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _shown(pixels: Pixels) -> NDArray[np.float64]:
    """How far each pixel is above the window's low end, 0 to 1: what lies below it stays black in other windows."""
    return np.clip(pixels / SHOWN, 0, 1)


def sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _centre(pixels: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """The window's centre moved up or down by a share of its width."""
    return _grey(_shown(pixels) * (pixels + 255.0 * share * sign(rng)))


def _width(pixels: Pixels, factor: float, rng: np.random.Generator) -> Pixels:
    """The window narrower, which clips, or wider, which flattens, by a factor about its centre."""
    scale = factor if sign(rng) > 0 else 1 / factor
    return _grey(_shown(pixels) * ((pixels - 127.5) * scale + 127.5))


def _noise(pixels: Pixels, deviation: float, rng: np.random.Generator) -> Pixels:
    """Noise of that standard deviation in grey levels, grained as a soft kernel leaves it."""
    grain = gaussian_filter(rng.standard_normal(pixels.shape), 0.7)
    return _grey(pixels + _shown(pixels) * deviation * grain / grain.std())


def _blur(pixels: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """A softer kernel: a Gaussian whose standard deviation is a share of the longer side."""
    return _grey(gaussian_filter(pixels.astype(np.float64), share * max(pixels.shape)))


def _sharpen(pixels: Pixels, amount: float, rng: np.random.Generator) -> Pixels:
    """A sharper kernel: so many times the difference from a Gaussian of half a hundredth of the side is added."""
    exact = pixels.astype(np.float64)
    return _grey(exact + amount * (exact - gaussian_filter(exact, 0.005 * max(pixels.shape))))


def _jpeg(pixels: Pixels, quality: float, rng: np.random.Generator) -> Pixels:

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=int(quality))
    return np.asarray(Image.open(stream))


def _resize(pixels: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """Stored at a share of its size, and enlarged again."""
    height, width = pixels.shape
    small = (max(8, round(width * share)), max(8, round(height * share)))
    picture = Image.fromarray(pixels).resize(small, Image.Resampling.BOX)
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))


def _rotate(pixels: Pixels, degrees: float, rng: np.random.Generator) -> Pixels:

    return np.asarray(Image.fromarray(pixels).rotate(degrees * sign(rng), Image.Resampling.BILINEAR))


def _frame(pixels: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """More air around, by a share of the side on each, and a table of that thickness below the body."""
    margin = max(1, round(share * max(pixels.shape)))
    wide = np.pad(pixels, margin)
    height, width = wide.shape
    top = min(height - 2, height - margin)
    wide[top : top + max(1, margin // 4), width // 6 : width - width // 6] = 110
    return wide


def _field(pixels: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """A smaller field of view: so much of each side is cut off, the body too."""
    rows, columns = (round(share * side) for side in pixels.shape)
    return np.ascontiguousarray(pixels[rows : pixels.shape[0] - rows, columns : pixels.shape[1] - columns])


def _streaks(pixels: Pixels, height: float, rng: np.random.Generator) -> Pixels:
    """Bright and dark rays, so many grey levels high, from a place within the body, as metal makes them."""
    rows, columns = np.indices(pixels.shape)
    centre = rng.uniform(0.35, 0.65, 2) * pixels.shape
    angle = np.arctan2(rows - centre[0], columns - centre[1])
    far = np.hypot(rows - centre[0], columns - centre[1]) / max(pixels.shape)
    phases, waves = rng.uniform(0, 2 * np.pi, 4), rng.integers(5, 25, 4)
    rays = sum(np.cos(2 * wave * angle + phase) for wave, phase in zip(waves, phases, strict=True))
    return _grey(pixels + _shown(pixels) * height * rays / 2 * np.exp(-3 * far))


CHANGES = {
    "window_centre": Named("window centre moved", (0.03, 0.06, 0.1, 0.15, 0.2), "of its width", _centre),
    "window_width": Named("window narrower or wider", (1.1, 1.25, 1.5, 1.75, 2.0), "times", _width),
    "noise": Named("noise, as of less dose", (3, 6, 10, 15, 22), "grey levels", _noise),
    "soft_kernel": Named("softer kernel", (0.003, 0.005, 0.007, 0.01, 0.014), "of the side", _blur),
    "sharp_kernel": Named("sharper kernel", (0.5, 1, 2, 3, 4.5), "times the detail", _sharpen),
    "jpeg": Named("JPEG", (80, 60, 40, 25, 12), "quality", _jpeg),
    "resizing": Named("stored smaller", (0.75, 0.5, 0.38, 0.28, 0.2), "of the side", _resize),
    "rotation": Named("rotation", (3, 6, 10, 15, 20), "degrees", _rotate, moves=True),
    "framing": Named("table and more air", (0.03, 0.06, 0.1, 0.15, 0.22), "of the side", _frame),
    "field_of_view": Named("smaller field of view", (0.02, 0.05, 0.08, 0.12, 0.16), "of the side", _field),
    "streaks": Named("streaks, as of metal", (8, 16, 28, 42, 60), "grey levels", _streaks),
}
