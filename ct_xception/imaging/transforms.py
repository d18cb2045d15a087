"""From slice to pixel_values: one evaluation transform for all, one training transform, two optional filters.

`EvalTransform` gives what the stock transformers processor gives for the checkpoint's `pretrained_cfg`, bit for bit
(see preprocessing.py). `TrainTransform` adds what CT can bear: small turns, uneven zoom, window jitter, noise, blur,
and other framing (see framing.py); it is a pure function of the slice, the body mask and the random generator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.errors import InputError, printable
from ct_xception.imaging.body.crop import Box
from ct_xception.imaging.framing import cropped_scene, uncropped_scene
from ct_xception.imaging.preprocessing import Preprocessing, pillow_resampling
from ct_xception.imaging.slice import Slice
from ct_xception.text import unknown

if TYPE_CHECKING:
    import torch
    from PIL import Image

FILTERS = ("median", "clahe")
CLAHE_CLIP = 0.01  # scikit-image's default; higher clips turn noise into texture
FAINT = 12 / 255  # grey level in [0, 1] below which window jitter and noise fade out, so that air stays black


def apply_filters(slice_: Slice, names: Sequence[str]) -> Slice:
    """The slice after the named filters of FILTERS, in the order given.

    `median`: 3 x 3. `clahe`: contrast-limited adaptive histogram equalisation (Zuiderveld 1994), tiles of an eighth of
    the sides, after scikit-image has stretched the slice to its own range; air stays 0. Raises InputError for an
    unknown name.
    """
    for name in names:
        if name not in FILTERS:
            raise InputError(unknown("filter", name, FILTERS))
        filtered, note = _median(slice_.pixels) if name == "median" else _clahe(slice_.pixels)
        slice_ = slice_.replace_pixels(filtered, note)
    return slice_


def _median(pixels: np.ndarray) -> tuple[np.ndarray, str]:
    from skimage.filters import median

    return median(pixels, np.ones((3, 3), dtype=np.uint8)), "median filter 3 x 3"


def _clahe(pixels: np.ndarray) -> tuple[np.ndarray, str]:
    from skimage.exposure import equalize_adapthist

    if pixels.min() == pixels.max():  # nothing to equalise; scikit-image would divide by zero
        return pixels, "CLAHE"
    equalised = np.rint(equalize_adapthist(pixels, clip_limit=CLAHE_CLIP) * 255).astype(np.uint8)
    return np.where(pixels == 0, np.uint8(0), equalised), "CLAHE"


class EvalTransform:
    """Slice to pixel_values (3, S, S) float32, as the stock processor of the same `pretrained_cfg` computes them.

    Called, it gives a torch tensor; `array` gives the same values without torch.
    """

    def __init__(self, pretrained_cfg: Mapping[str, Any]) -> None:
        self.preprocessing = Preprocessing.of(pretrained_cfg)

    def __call__(self, slice_: Slice) -> torch.Tensor:
        import torch

        return torch.from_numpy(self.array(slice_))

    def array(self, slice_: Slice) -> np.ndarray:
        """pixel_values as numpy has them."""
        return self.preprocessing(slice_)


@dataclass(frozen=True)
class AugmentConfig:
    """How far training may change a slice. Zero everywhere leaves exactly what evaluation sees.

    Angles in degrees; zoom, shift and squash as fractions of the framed box; noise in [0, 1] grey; blur in output
    pixels; flip, erase and uncropped are probabilities. Raises InputError for a value out of range.
    """

    rotation: float = 10.0  # patients lie askew by a few degrees; more would be another examination
    zoom_in: float = 0.12
    zoom_out: float = 0.15
    shift: float = 0.05
    squash: float = 0.12  # width against height: the input is squashed to a square, whatever the body's proportions
    flip: float = 0.5  # left-right: a mirrored thorax is rare but shows the same tissue; never up-down
    brightness: float = 0.15
    contrast: float = 0.15
    gamma: float = 0.2
    noise: float = 0.02
    blur: float = 0.8
    erase: float = 0.15
    uncropped: float = 0.3  # air, table and border left in or drawn: the stock pipeline has no body crop

    def __post_init__(self) -> None:
        limits = {"rotation": 45, "zoom_in": 0.5, "shift": 0.5, "brightness": 0.9, "contrast": 0.9, "blur": 5}
        for field in fields(self):
            value, limit = getattr(self, field.name), limits.get(field.name, 1)
            if not 0 <= value <= limit:  # NaN fails too
                raise InputError(f"augmentation {field.name} is {value}; give a number from 0 to {limit}.")

    @classmethod
    def none(cls) -> AugmentConfig:
        """No augmentation at all."""
        return cls(**{field.name: 0.0 for field in fields(cls)})


class TrainTransform:
    """Uncropped slice and body mask to augmented pixel_values (3, S, S) float32, normalised as in evaluation.

    Called with grey levels (H, W) uint8, mask (H, W) bool and a generator, of whose state alone the result is a
    function. With `AugmentConfig.none()` it equals `EvalTransform` after the body crop, bit for bit (crop_pct 1.0,
    squash). Raises InputError for a `pretrained_cfg` that evaluation would crop or pad.
    """

    def __init__(self, pretrained_cfg: Mapping[str, Any], augment: AugmentConfig) -> None:
        wanted = Preprocessing.of(pretrained_cfg)
        if wanted.crop_pct != 1.0 or wanted.crop_mode != "squash":
            found = f"crop_pct {wanted.crop_pct} and crop_mode {wanted.crop_mode!r}"
            raise InputError(f"training needs crop_pct 1.0 and crop_mode 'squash' in pretrained_cfg, found {found}.")
        self.augment = augment
        self._size = (wanted.size[1], wanted.size[0])  # width, height, as Pillow has them
        self._resample = _pillow_resampling(wanted.interpolation)
        self._mean, self._std = wanted.mean, wanted.std

    def __call__(self, pixels: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        if pixels.shape != mask.shape or pixels.dtype != np.uint8 or mask.dtype != bool:
            raise TypeError(f"got pixels {pixels.shape} {pixels.dtype} and mask {mask.shape} {mask.dtype}")
        if not mask.any():
            mask = np.ones_like(mask)
        surroundings = rng.random() < self.augment.uncropped
        scene, box = uncropped_scene(pixels, mask, rng) if surroundings else cropped_scene(pixels, mask)
        view = _View.draw(box, self.augment, rng)
        image = _blur(_sample(scene, view, self._size, self._resample), self.augment, rng)
        grey = _jitter_window(np.asarray(image), self.augment, rng)
        grey = _erase(_add_noise(grey, self.augment, rng), self.augment, rng)
        return self._normalised(grey[:, ::-1] if rng.random() < self.augment.flip else grey)

    def _normalised(self, grey: np.ndarray) -> torch.Tensor:
        import torch
        from torchvision.transforms.functional import normalize

        return normalize(torch.from_numpy(np.ascontiguousarray(grey)).expand(3, -1, -1), self._mean, self._std)


def _pillow_resampling(interpolation: str) -> Image.Resampling:
    if interpolation not in ("bilinear", "bicubic"):  # Pillow turns pictures by no other
        raise InputError(f"interpolation {printable(interpolation)!r} cannot be trained; use bicubic or bilinear.")
    return pillow_resampling(interpolation)


@dataclass(frozen=True)
class _View:
    """What part of a scene is seen: centre and size in scene pixels, turned by an angle in radians."""

    centre: tuple[float, float]
    size: tuple[float, float]
    angle: float

    @classmethod
    def draw(cls, box: Box, augment: AugmentConfig, rng: np.random.Generator) -> _View:
        zoom = rng.uniform(1 - augment.zoom_in, 1 + augment.zoom_out)
        squash = math.exp(rng.uniform(-augment.squash, augment.squash) / 2)
        shift = rng.uniform(-augment.shift, augment.shift, size=2)
        angle = math.radians(rng.uniform(-augment.rotation, augment.rotation))
        x = (box.left + box.right) / 2 + shift[0] * box.width
        y = (box.top + box.bottom) / 2 + shift[1] * box.height
        return cls((x, y), (box.width * zoom * squash, box.height * zoom / squash), angle)

    def shrunk(self, factor: int) -> _View:
        """The same view of the scene reduced by a whole factor."""
        (x, y), (width, height) = self.centre, self.size
        return _View((x / factor, y / factor), (width / factor, height / factor), self.angle)

    def whole_pixels(self) -> tuple[int, int, int, int] | None:
        """The view as a box (left, top, right, bottom), if it is upright and on the scene's own pixel grid."""
        (x, y), (width, height) = self.centre, self.size
        edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        if self.angle or any(edge != round(edge) for edge in edges):
            return None
        left, top, right, bottom = map(round, edges)
        return left, top, right, bottom


def _sample(scene: np.ndarray, view: _View, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    """The view, squashed to `size` (width, height): turned at the scene's own resolution, then resized with
    antialiasing. What lies outside the scene is black."""
    from PIL import Image

    image = Image.fromarray(scene)
    box = view.whole_pixels()
    if box is not None:
        return image.crop(box).resize(size, resample)
    factor = int(min(view.size[0] / size[0], view.size[1] / size[1]) / 1.5)
    if factor > 1:  # a large scene first shrinks, but keeps half as much again as the result can show
        image = image.reduce(factor)
        view = view.shrunk(factor)
    turned = image.transform(*_affine(view), resample=resample, fillcolor=0)
    return turned.resize(size, resample)


def _affine(view: _View) -> tuple[tuple[int, int], Image.Transform, tuple[float, ...]]:
    """Pillow's arguments for a view at about one output pixel per scene pixel."""
    from PIL import Image

    width, height = max(1, round(view.size[0])), max(1, round(view.size[1]))
    across, down = view.size[0] / width, view.size[1] / height
    cos, sin = math.cos(view.angle), math.sin(view.angle)
    a, b, d, e = cos * across, -sin * down, sin * across, cos * down
    c = view.centre[0] - a * width / 2 - b * height / 2
    f = view.centre[1] - d * width / 2 - e * height / 2
    return (width, height), Image.Transform.AFFINE, (a, b, c, d, e, f)


def _blur(image: Image.Image, augment: AugmentConfig, rng: np.random.Generator) -> Image.Image:
    """Gaussian blur of a random radius; half of the samples stay sharp."""
    radius = rng.uniform(-augment.blur, augment.blur)
    if radius < 0.2:
        return image
    from PIL import ImageFilter

    return image.filter(ImageFilter.GaussianBlur(radius))


def _jitter_window(pixels: np.ndarray, augment: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Grey levels uint8 to [0, 1] float32 through one random curve: gamma, gain, slope about mid-grey."""
    gamma = math.exp(rng.uniform(-augment.gamma, augment.gamma))
    gain = 1 + rng.uniform(-augment.brightness, augment.brightness)
    slope = 1 + rng.uniform(-augment.contrast, augment.contrast)
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    if (gamma, gain, slope) != (1, 1, 1):
        curve = (gain * levels**gamma - 0.5) * slope + 0.5
        levels = (np.clip(curve, 0, 1) * np.minimum(1, levels / FAINT)).astype(np.float32)
    return levels[pixels]


def _add_noise(grey: np.ndarray, augment: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of a random strength, none in the air; clamped to [0, 1]."""
    strength = np.float32(rng.uniform(0, augment.noise))
    if strength == 0:
        return grey
    noise = rng.standard_normal(grey.shape, dtype=np.float32) * strength
    noise *= grey > FAINT
    return np.clip(grey + noise, 0, 1)


def _erase(grey: np.ndarray, augment: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Random erasing (Zhong et al. 2020), one rectangle of 1 to 5 % of the area, so that no lesion is lost for long."""
    if rng.random() >= augment.erase:
        return grey
    area, aspect = rng.uniform(0.01, 0.05), math.exp(rng.uniform(-0.7, 0.7))
    rows = max(1, round(grey.shape[0] * math.sqrt(area / aspect)))
    columns = max(1, round(grey.shape[1] * math.sqrt(area * aspect)))
    top, left = rng.integers(grey.shape[0] - rows + 1), rng.integers(grey.shape[1] - columns + 1)
    grey[top : top + rows, left : left + columns] = rng.uniform(0, 0.6)
    return grey
