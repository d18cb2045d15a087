"""Framing that a scanner or a screenshot leaves around the body: air, table, blanket, border.

A corpus is often cropped tightly while the images met later are not, and a network takes the table for a symptom. These
drawings let training show the same body inside other frames. Shapes and grey levels follow what chest CT looks like in
a wide window: a table is a crescent below the back, faint inside, with one bright thin arc.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ct_xception.imaging.body.crop import Box, mask_box

OWN_SURROUNDINGS = 0.3  # of the uncropped samples keep the picture as it is, which is what a stock pipeline sees
TABLE, BLANKET, FRAME = 0.9, 0.4, 0.08  # of the other uncropped samples that show one
MARGINS = {"top": (0.0, 0.18), "bottom": (0.02, 0.36), "left": (0.0, 0.18), "right": (0.0, 0.18)}  # of the body's box


def cropped_scene(pixels: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, Box]:
    """The body alone: grey levels (H, W) uint8, zero outside the mask, and the body's box in them."""
    return np.where(mask, pixels, np.uint8(0)), mask_box(mask)


def uncropped_scene(pixels: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Box]:
    """The body with surroundings, its own or drawn ones: grey levels (h, w) uint8, and the box of the whole scene."""
    if mask.all() or rng.random() < OWN_SURROUNDINGS:
        return pixels, Box(0, 0, *pixels.shape)
    scene = _body_in_air(pixels, mask, rng)
    if rng.random() < BLANKET:
        _draw_blanket(scene, rng)
    if rng.random() < TABLE:
        _draw_table(scene, rng)
    if rng.random() < FRAME:
        _draw_frame(scene.pixels, rng)
    return scene.pixels, Box(0, 0, *scene.pixels.shape)


@dataclass(frozen=True, eq=False)
class _Scene:
    """A body amid air: grey levels (H, W) uint8 to draw on, where the body is (H, W) bool, and its box."""

    pixels: np.ndarray
    mask: np.ndarray
    body: Box

    def draw_behind(self, first: int, drawn: np.ndarray) -> None:
        """Put grey levels into the rows from `first` on, behind the body, where brighter than what is there."""
        rows, body = self.pixels[first : first + len(drawn)], self.mask[first : first + len(drawn)]
        np.maximum(rows, drawn.astype(np.uint8), out=rows, where=~body)


def _body_in_air(pixels: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> _Scene:
    """The body's pixels amid black margins of random, uneven size."""
    box = mask_box(mask)
    top, bottom = (round(rng.uniform(*MARGINS[side]) * box.height) for side in ("top", "bottom"))
    left, right = (round(rng.uniform(*MARGINS[side]) * box.width) for side in ("left", "right"))
    margins = ((top, bottom), (left, right))
    inside = (slice(box.top, box.bottom), slice(box.left, box.right))
    body = Box(top, left, top + box.height, left + box.width)
    scene = np.pad(np.where(mask[inside], pixels[inside], np.uint8(0)), margins)
    return _Scene(scene, np.pad(mask[inside], margins), body)


def _draw_table(scene: _Scene, rng: np.random.Generator) -> None:
    """A crescent below the body: two parabolas that meet at its ends, a rim and a bright arc between them."""
    body, (bottom, width) = scene.body, scene.pixels.shape
    height = body.height
    half = body.width * rng.uniform(0.38, 0.55)
    centre = (body.left + body.right) / 2 + body.width * rng.uniform(-0.06, 0.06)
    top = body.bottom + height * rng.uniform(-0.03, 0.05)
    sag, depth = height * rng.uniform(0.0, 0.16), height * rng.uniform(0.05, 0.16)
    across = (np.arange(width) + 0.5 - centre) / half
    upper, lower = top - sag * across**2, top + depth - (sag + depth) * across**2
    first = int(np.clip(top - sag - 2, 0, bottom))
    rows = np.arange(first, min(bottom, int(top + depth) + 2))[:, None] + 0.5
    drawn = _band(rows, (upper + lower) / 2, (lower - upper) / 2) * rng.uniform(4, 18)
    line = max(0.6, height * rng.uniform(0.002, 0.005))
    np.maximum(drawn, _band(rows, upper, line) * rng.uniform(15, 90), out=drawn)
    arc, thickness = upper + depth * rng.uniform(0.15, 0.45), max(0.8, height * rng.uniform(0.004, 0.012))
    bright = _band(rows, arc, thickness) * (np.abs(across) < rng.uniform(0.7, 1.0)) * rng.uniform(60, 235)
    np.maximum(drawn, bright, out=drawn)
    scene.draw_behind(first, drawn * (np.abs(across) < 1))


def _draw_blanket(scene: _Scene, rng: np.random.Generator) -> None:
    """One to three faint thin arcs over the chest, as clothes and blankets leave."""
    body, width = scene.body, scene.pixels.shape[1]
    rows = np.arange(0, body.bottom)[:, None] + 0.5
    half = body.width * rng.uniform(0.45, 0.7)
    centre = (body.left + body.right) / 2 + body.width * rng.uniform(-0.15, 0.15)
    across = (np.arange(width) + 0.5 - centre) / half
    top, sag = body.top - body.height * rng.uniform(0.0, 0.06), body.height * rng.uniform(0.2, 0.7)
    drawn = np.zeros((len(rows), width))
    for _ in range(rng.integers(1, 4)):
        curve = top + sag * across**2
        np.maximum(drawn, _band(rows, curve, 0.7) * rng.uniform(8, 40), out=drawn)
        top, sag = top - body.height * rng.uniform(0.005, 0.03), sag * rng.uniform(0.9, 1.1)
    scene.draw_behind(0, drawn)


def _draw_frame(pixels: np.ndarray, rng: np.random.Generator) -> None:
    """A thin bright border, as figures and window captures have."""
    level, width = rng.integers(100, 256), rng.integers(1, max(2, round(0.02 * min(pixels.shape)) + 1))
    for edge in (pixels[:width], pixels[-width:], pixels[:, :width], pixels[:, -width:]):
        edge[...] = level


def _band(rows: np.ndarray, curve: np.ndarray, half_thickness: np.ndarray | float) -> np.ndarray:
    """Coverage in [0, 1] of each pixel by the band around `curve` (W,), edges one pixel soft: (rows, W)."""
    return np.clip(half_thickness + 0.5 - np.abs(rows - curve), 0.0, 1.0)
