"""What a picture shows around a body: a drawn frame, the scanner's circle, and how dark the air is.

A slice is reconstructed in a circle; what lies outside it is padded, darker than air. A screenshot has a frame, a film
a border. Neither is anatomy, and both are taken away before anyone looks for a body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct_xception.imaging.body.morphology import Mask, largest, opened, wither

Pixels = NDArray[np.uint8]

FRAME_REACH = 0.06  # of the side within which a frame is looked for
FRAME_EVEN, FRAME_STEP = 16, 12  # grey levels: a frame's line varies by less, and is that much brighter than within
PADDING = 4  # grey levels above the darkest corner that are padding still
ROUND = 0.012  # of its radius: a circle's outline strays less, a body's more
LEAST_ARC = 0.1  # of height and width together: points that a circle's outline must have
CIRCLES = (0.3, 0.998)  # of the picture that a circle fills
SMALLEST_CIRCLE = 0.35  # of the longer side: its radius
EVEN_AIR, BODY_STEP, SMALLEST_BODY = 30, 12, 0.05  # grey levels; grey levels; of the circle that a body must fill
AIR_SPREAD = 24  # grey levels: what of the edge lies as close above its darkest twentieth is air
NOISE, LEAST_ABOVE = 3, 5  # times the air's spread, and grey levels: what is brighter is no air


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture without its frame and circle: `pixels` (H, W) uint8, all of whose surroundings are air.

    `air` is the air's grey level, `threshold` the highest that its noise reaches.
    """

    pixels: Pixels
    air: int
    threshold: float


def clear_surroundings(pixels: Pixels) -> Scene:
    """A picture (H, W) uint8 whose frame and scanner's circle are painted over with its own air."""
    top, bottom, left, right = (_frame(side) for side in (pixels, pixels[::-1], pixels.T, pixels.T[::-1]))
    rows, columns = slice(top, len(pixels) - bottom), slice(left, pixels.shape[1] - right)
    inner = _fill_circle(pixels[rows, columns])
    air, threshold = _air(inner)
    scene = np.full(pixels.shape, air, dtype=np.uint8)
    scene[rows, columns] = inner
    return Scene(scene, air, threshold)


def _frame(pixels: Pixels) -> int:
    """How many first rows a drawn frame takes, the blurred one inside it among them."""
    reach = min(max(3, int(len(pixels) * FRAME_REACH)), len(pixels) - 3)
    taken = 0
    for row in range(reach):
        levels, within = np.sort(pixels[row]).astype(int), np.sort(pixels[row + 2]).astype(int)
        count = len(levels)
        even = levels[count - 1 - count // 10] - levels[count // 10] <= FRAME_EVEN
        if even and levels[count // 2] - within[count // 2] > FRAME_STEP:
            taken = row + 2
    return taken


def _air(pixels: Pixels) -> tuple[int, float]:
    """The air's level and the highest that its noise reaches, from the darkest of the picture's edge."""
    edge = np.sort(np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])).astype(int)
    air = edge[edge <= edge[len(edge) // 20] + AIR_SPREAD]
    level = int(air[len(air) // 2])
    spread = int(air[len(air) * 21 // 25]) - level  # 84 %: one standard deviation of normal noise
    return level, level + max(LEAST_ABOVE, NOISE * spread)


def _fill_circle(pixels: Pixels) -> Pixels:
    """The picture with what lies outside a scanner's circle at the level of the air just inside it."""
    padding = _padding(pixels)
    inside = largest(opened(~padding, 2))  # a JPEG's ringing frays the circle
    if inside is None:
        return pixels
    if not CIRCLES[0] * inside.size < inside.sum() < CIRCLES[1] * inside.size or not _is_circle(inside):
        return pixels
    deep = wither(inside, 4)
    rim = inside & ~deep
    levels, outside = np.sort(pixels[rim]).astype(int), np.sort(pixels[~inside])
    level, even = levels[len(levels) // 2], levels[len(levels) * 3 // 4] - levels[len(levels) // 4] <= EVEN_AIR
    holds = (pixels[deep] > level + BODY_STEP).sum() > SMALLEST_BODY * deep.sum()
    if not even or not holds or level <= int(outside[len(outside) // 2]) + PADDING:
        return pixels
    return np.where(~inside | (rim & (pixels < level)), level, pixels).astype(np.uint8)


def _padding(pixels: Pixels) -> Mask:
    """What is as dark as the darkest corner and reaches the picture's edge."""
    from scipy import ndimage

    corners = (pixels[:3, :3], pixels[:3, -3:], pixels[-3:, :3], pixels[-3:, -3:])
    darkest = min(int(np.sort(corner, axis=None)[corner.size // 2]) for corner in corners)
    dark = np.pad(pixels <= darkest + PADDING, 1, constant_values=True)
    labels, _ = ndimage.label(dark)
    return (labels == labels[0, 0])[1:-1, 1:-1]


def _is_circle(mask: Mask) -> bool:
    """Whether a mask's outline, where the picture does not cut it, follows a circle (Kasa's fit, 1976, twice)."""
    points = _outline(mask)
    if len(points) < LEAST_ARC * sum(mask.shape):
        return False
    x, y, radius = _fit_circle(points)
    strays = np.abs(np.hypot(points[:, 0] - x, points[:, 1] - y) - radius)
    points = points[strays <= max(1.5, np.sort(strays)[len(strays) * 4 // 5])]
    x, y, radius = _fit_circle(points)
    strays = np.hypot(points[:, 0] - x, points[:, 1] - y) - radius
    return bool(radius >= SMALLEST_CIRCLE * max(mask.shape) and np.sqrt((strays**2).mean()) <= ROUND * radius)


def _outline(mask: Mask) -> NDArray[np.float64]:
    """The first and last pixel of each row and column of a mask, (n, 2) as (column, row), none at an edge."""
    found = []
    for lines, flip in ((mask, False), (mask.T, True)):
        filled, last = np.flatnonzero(lines.any(axis=1)), lines.shape[1] - 1
        for places in (lines[filled].argmax(axis=1), last - lines[filled][:, ::-1].argmax(axis=1)):
            kept = (places > 0) & (places < last)
            pair = (filled[kept], places[kept]) if flip else (places[kept], filled[kept])
            found.append(np.stack(pair, axis=1))
    return np.concatenate(found).astype(np.float64)


def _fit_circle(points: NDArray[np.float64]) -> tuple[float, float, float]:
    """Centre and radius of the circle through points (n, 2), by least squares on x^2 + y^2 = 2ax + 2by + c."""
    middle = points.mean(axis=0)
    x, y = (points - middle).T
    square = x**2 + y**2
    xx, yy, xy = (x * x).sum(), (y * y).sum(), (x * y).sum()
    determinant = xx * yy - xy * xy
    if determinant <= 0:
        return 0.0, 0.0, 0.0
    a = ((x * square).sum() * yy - (y * square).sum() * xy) / (2 * determinant)
    b = ((y * square).sum() * xx - (x * square).sum() * xy) / (2 * determinant)
    return float(a + middle[0]), float(b + middle[1]), float(np.sqrt(a * a + b * b + square.mean()))
