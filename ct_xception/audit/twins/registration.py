"""Do two thumbnails show one picture? One is laid upon the other, then their fine structure is compared.

Copies differ by scale and shift along the axes (a crop, another framing, another size), by grey levels (a window) and
in a few places (ink). So the window of the first that matches the second is fitted by Gauss-Newton steps on the
normalised pictures (the forward additive scheme of Lucas and Kanade, 1981, maximising the correlation as in Evangelidis
and Psarakis, 2008), many pairs at a time, and the correlations of small blocks are averaged without the worst of them:
two patients agree in the large and not in the small, a drawn arrow spoils a few blocks only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

BLOCKS = 8  # along each side
FINE = 5  # pixels: what changes more slowly is left out of the comparison
FLAT = 1.5  # grey levels of standard deviation: a flatter block has no structure to compare
FEW_BLOCKS = 10
SPOILT = 0.15  # of the blocks, the worst ones, that ink may have changed
REACH = 0.15  # of the side: how far the window's edges may move from where they began
MARGIN = 0.03  # of the side: how far they may lie outside the first picture
MAX_STEP = 0.03  # of the side, in one Gauss-Newton step
STEEPEST = 0.25  # grey levels a pixel of the mean square gradient below which nothing is fitted

Floats = NDArray[np.float32]


def resample(pictures: Floats, windows: Floats, side: int) -> Floats:
    """The part of each picture (P, n, n) inside its window (P, 4), linearly interpolated to (P, side, side).

    A window is top, bottom, left, right as shares of the side, 0 0 at the first pixel's outer edge.
    """
    rows = _weights(windows[:, 0], windows[:, 1], pictures.shape[1], side)
    columns = _weights(windows[:, 2], windows[:, 3], pictures.shape[2], side)
    return np.matmul(np.matmul(rows, pictures), columns.transpose(0, 2, 1))


def _weights(start: Floats, end: Floats, n: int, side: int) -> Floats:
    """Interpolation matrices (P, side, n); positions beyond the edge take the edge pixel."""
    steps = (np.arange(side, dtype=np.float32) + 0.5) / side
    places = (start[:, None] + (end - start)[:, None] * steps) * n - 0.5
    places = places.clip(0, n - 1)
    distance = np.abs(places[:, :, None] - np.arange(n, dtype=np.float32))
    return np.maximum(0, 1 - distance, out=distance)


def box_weights(start: float, end: float, n: int, side: int) -> Floats:
    """A matrix (side, n) that box-filters the window `start` to `end` (shares of the side) of n pixels to `side`."""
    edges = np.linspace(start * n, end * n, side + 1)
    pixel = np.arange(n)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (overlap.clip(0) / np.diff(edges)[:, None]).astype(np.float32)


def shrink(pictures: NDArray[np.uint8] | Floats, side: int) -> Floats:
    """Box-filter pictures (P, n, n) to (P, side, side) float32."""
    weights = box_weights(0, 1, pictures.shape[1], side)
    return np.matmul(np.matmul(weights, pictures.astype(np.float32)), weights.T)


def soften(pictures: Floats) -> Floats:
    """The binomial filter 1 2 1 along both axes, so that interpolation has little left to blur."""
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / np.float32(4)
    return (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / np.float32(4)


def standardise(pictures: Floats) -> Floats:
    """(P, …) to (P, D): zero mean and unit length each; zeros where a picture is uniform."""
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.divide(flat, length, out=np.zeros_like(flat), where=length > 1e-3)


def nested(outer: Floats, inner: Floats) -> Floats:
    """A window (P, 4) within the window `outer` (P, 4), as a window of the whole picture."""
    start, extent = outer[:, 0::2], outer[:, 1::2] - outer[:, 0::2]
    edges = [start + inner[:, 0::2] * extent, start + inner[:, 1::2] * extent]
    return np.stack([edges[0][:, 0], edges[1][:, 0], edges[0][:, 1], edges[1][:, 1]], axis=1)


def register(first: Floats, second: Floats, windows: Floats, steps: int) -> tuple[Floats, Floats]:
    """Fit the window (P, 4) of each first picture (P, n, n) that matches the second (P, m, m).

    Gives the windows and the correlations (P,). A pair keeps its best step, so that its correlation never falls below
    that of the window it came with.
    """
    side, target = second.shape[1], standardise(second)
    low = np.minimum(np.maximum(windows - REACH, -MARGIN), windows)
    high = np.maximum(np.minimum(windows + REACH, 1 + MARGIN), windows)
    best, best_score = windows, np.full(len(first), -1, dtype=np.float32)
    for step in range(steps + 1):
        warped = resample(first, windows, side)
        source = standardise(warped)
        score = np.einsum("pd,pd->p", source, target)
        better = score > best_score
        best = np.where(better[:, None], windows, best)
        best_score = np.maximum(score, best_score)
        if step < steps:
            step_by = _gauss_newton(warped, source, target, windows)
            windows = np.clip(windows + step_by, low, high).astype(np.float32)
    return best, best_score


def _gauss_newton(warped: Floats, source: Floats, target: Floats, windows: Floats) -> Floats:
    """The step (P, 4) of the windows that least squares wants, gain and offset of the grey levels left free."""
    count, side, _ = warped.shape
    down = np.gradient(warped, axis=1) * (side / (windows[:, 1] - windows[:, 0]))[:, None, None]
    right = np.gradient(warped, axis=2) * (side / (windows[:, 3] - windows[:, 2]))[:, None, None]
    share = ((np.arange(side, dtype=np.float32) + 0.5) / side)[:, None]
    slopes = np.stack([down * (1 - share), down * share, right * (1 - share.T), right * share.T], axis=1)
    slopes = slopes.reshape(count, 4, -1)
    slopes = slopes - slopes.mean(axis=2, keepdims=True)
    slopes -= np.einsum("pkd,pd->pk", slopes, source)[:, :, None] * source[:, None]
    # In grey levels: the target scaled to the warped picture's contrast.
    contrast = np.sqrt(((warped - warped.mean(axis=(1, 2), keepdims=True)) ** 2).sum(axis=(1, 2)))
    error = (target - np.einsum("pd,pd->p", source, target)[:, None] * source) * contrast[:, None]
    normal = np.matmul(slopes, slopes.transpose(0, 2, 1)) + np.eye(4, dtype=np.float32) * STEEPEST * side**2
    step = np.linalg.solve(normal, np.einsum("pkd,pd->pk", slopes, error)[:, :, None])[:, :, 0]
    return step.clip(-MAX_STEP, MAX_STEP)


def local_similarity(first: Floats, second: Floats) -> Floats:
    """How far pictures (P, n, n) that lie upon each other agree in the small: (P,) in [-1, 1].

    The mean correlation of what a box filter of 5 pixels takes away, in 8 x 8 blocks with structure in both, without
    the worst 15 %; -1 where fewer than ten blocks have structure.
    """
    a, b = _blocks(_fine_structure(first)), _blocks(_fine_structure(second))
    spread_a, spread_b = a.std(axis=2), b.std(axis=2)
    textured = (spread_a > FLAT) & (spread_b > FLAT)
    a, b = a - a.mean(axis=2, keepdims=True), b - b.mean(axis=2, keepdims=True)
    product = np.maximum(spread_a * spread_b, 1e-6)
    correlation = np.where(textured, (a * b).mean(axis=2) / product, np.inf)
    ordered, number = np.sort(correlation, axis=1), textured.sum(axis=1)
    rank = np.arange(BLOCKS**2)
    kept = (rank >= (number * SPOILT).astype(int)[:, None]) & (rank < number[:, None])
    total = np.where(kept, ordered, 0).sum(axis=1)
    return np.where(number >= FEW_BLOCKS, total / np.maximum(kept.sum(axis=1), 1), -1).astype(np.float32)


def _fine_structure(pictures: Floats) -> Floats:

    return pictures - uniform_filter(pictures, (1, FINE, FINE))


def _blocks(pictures: Floats) -> Floats:
    """(P, n, n) to (P, 64, (n / 8)²)."""
    count, side, _ = pictures.shape
    step = side // BLOCKS
    cut = pictures[:, : step * BLOCKS, : step * BLOCKS].reshape(count, BLOCKS, step, BLOCKS, step)
    return cut.transpose(0, 1, 3, 2, 4).reshape(count, BLOCKS**2, step * step)
