"""The phantom's scanner: a raster to paint HU on, a series' settings, and what blur and noise make of the raster.

The raster is twice as fine as the slice; averaging it down is the partial-volume effect of a real scanner.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SUPERSAMPLING = 2
AIR = -1000.0

Points = NDArray[np.float64]  # (n, 2) in mm: x towards the patient's left, y towards the back
Numbers = NDArray[np.float64]  # (n,)
Image32 = NDArray[np.float32]  # (H, W) in HU


@dataclass(frozen=True)
class Frame:
    """Where the body lies in the picture: size in pixels, field of view and shift in mm, turn in degrees."""

    size: int
    field_of_view: float
    shift: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0

    @property
    def raster(self) -> int:
        return self.size * SUPERSAMPLING

    @property
    def scale(self) -> float:
        """Raster cells per mm."""
        return self.raster / self.field_of_view

    @cached_property
    def _affine(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        c, s = np.cos(np.radians(self.turn)), np.sin(np.radians(self.turn))
        return self.scale * np.array([[c, s], [-s, c]]), np.array(self.shift) * self.scale + self.raster / 2.0

    def cells(self, points: Points) -> NDArray[np.float64]:
        """Millimetres (n, 2) to raster cells (n, 2)."""
        turn, origin = self._affine
        return points @ turn + origin


class Layer:
    """A raster to paint on: HU (mode F) or a mask (mode L, 0 or 255)."""

    def __init__(self, frame: Frame, fill: float, mode: str = "F") -> None:
        self.frame = frame
        self.image = Image.new(mode, (frame.raster, frame.raster), fill if mode == "F" else int(fill))
        self._draw = ImageDraw.Draw(self.image)

    def fill(self, outline: Points, value: float) -> None:
        """Fill a closed outline (n, 2) in mm."""
        self._draw.polygon(self.frame.cells(outline).ravel().tolist(), fill=value)

    def stroke(self, points: Points, width_mm: float, value: float) -> None:
        """Draw an open line (n, 2) in mm, at least one raster cell wide."""
        width = max(1, round(width_mm * self.frame.scale))
        joint = "curve" if width > 6 else None
        self._draw.line(self.frame.cells(points).ravel().tolist(), fill=value, width=width, joint=joint)

    def strokes(self, starts: Points, stops: Points, widths_mm: Numbers, values: Numbers) -> None:
        """Draw many separate straight lines at once."""
        cells = np.concatenate([self.frame.cells(starts), self.frame.cells(stops)], axis=1)
        widths = np.maximum(1, np.rint(widths_mm * self.frame.scale)).astype(int)
        for line, width, value in zip(cells.tolist(), widths.tolist(), values.tolist(), strict=True):
            self._draw.line(line, fill=value, width=width)

    def discs(self, centres: Points, radii_mm: Numbers, values: Numbers) -> None:
        """Draw many filled circles at once."""
        cells = self.frame.cells(centres)
        radii = (radii_mm * self.frame.scale)[:, None]
        boxes = np.concatenate([cells - radii, cells + radii], axis=1)
        for box, value in zip(boxes.tolist(), values.tolist(), strict=True):
            self._draw.ellipse(box, fill=value)

    def array(self) -> Image32:
        return np.asarray(self.image)


@dataclass(frozen=True)
class Scan:
    """One series: how the patient lay, the contrast medium, the kernel and the noise."""

    field_of_view: float = 375.0
    shift: tuple[float, float] = (0.0, -6.0)
    turn: float = 0.0
    contrast: float = 0.0
    sharpness: float = 0.0
    noise: float = 12.0
    table_gap: float = 8.0
    table_curve: float = 25.0

    @classmethod
    def draw(cls, rng: np.random.Generator, body: tuple[float, float], sharp: bool) -> Scan:
        """A random series of a body (half width, half depth in mm); `sharp` is the lung kernel, crisper and noisier."""
        return cls(
            field_of_view=2.0 * body[0] * rng.uniform(1.03, 1.16),
            shift=(rng.uniform(-7.0, 7.0), rng.uniform(-18.0, -2.0)),
            turn=rng.normal(0.0, 2.0),
            contrast=rng.uniform(80.0, 210.0) if rng.random() < 0.75 else 0.0,
            sharpness=rng.uniform(0.1, 0.45) if sharp else 0.0,
            noise=rng.uniform(18.0, 32.0) if sharp else rng.uniform(9.0, 17.0),
            table_gap=rng.uniform(3.0, 10.0),
            table_curve=rng.uniform(14.0, 42.0),
        )


def expose(raster: Image32, uneven: Image32, scan: Scan, rng: np.random.Generator) -> Image32:
    """Raster (2S, 2S) in HU to slice (S, S) in HU: partial volume, kernel, tissue texture and noise.

    `uneven` (S, S) in HU, the unevenness of the tissues, is added before the kernel blurs and the noise comes.
    """
    hu = average_down(raster) + uneven
    blurred = soften(hu)
    hu = blurred + np.float32(scan.sharpness) * (hu - blurred) if scan.sharpness else blurred
    size = hu.shape[0]
    grain = rng.standard_normal((size, size), dtype=np.float32)
    if not scan.sharpness:
        grain = 1.9 * soften(grain)  # the soft kernel's noise is coarser
    hu += np.float32(scan.noise) * grain * (hu > AIR + 60)  # scanners clip air's noise at the bottom of their range
    return np.maximum(hu, -1024.0, out=hu)


def average_down(raster: Image32) -> Image32:
    """(2S, 2S) to (S, S): the mean of every two by two cells, float32."""
    columns = raster[:, 0::2] + raster[:, 1::2]
    return (columns[0::2] + columns[1::2]) * np.float32(0.25)


def soften(image: Image32) -> Image32:
    """A binomial blur over three by three pixels (sigma 0.7 pixel); the border keeps its values."""
    result = image.copy()
    result[1:-1] = 0.5 * image[1:-1] + 0.25 * (image[:-2] + image[2:])
    across = result.copy()
    across[:, 1:-1] = 0.5 * result[:, 1:-1] + 0.25 * (result[:, :-2] + result[:, 2:])
    return across


def mottle(size: int, grain: int, rng: np.random.Generator) -> Image32:
    """A smooth random field (size, size) of about unit spread whose lumps are `grain` pixels wide."""
    cells = max(2, -(-size // grain) + 1)
    coarse = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """An 8-bit grey image (H, W) as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
