"""A heat map laid over its slice: on screen, and as a figure that says what it shows.

Colours run along matplotlib's `inferno`, which is perceptually uniform and rises in lightness throughout, so the map
still reads in grey and with any colour vision; what speaks against a class runs from dark to light blue. The weaker the
evidence, the more of the slice shows through.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from ct_xception.errors import InputError, printable
from ct_xception.explain.methods import METHODS
from ct_xception.files import atomic_path
from ct_xception.imaging.slice import Slice
from ct_xception.text import RESEARCH_USE, describe_window, percent, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ct_xception.explain.explain import Attribution, Explanation

FIGURE_SUFFIXES = (".png", ".pdf", ".svg")

# Colour begins at the first share of the peak evidence and is fully opaque from the second on: the slice stays as it is
# where there is next to none, and no edge appears that the evidence does not have.
_FAINT, _FULL = 0.08, 0.5

# Fine maps are speckled, with a few pixels far above the rest: to be seen they are smoothed by a share of the slice's
# shorter side, and all above a percentile counts as full.
_SMOOTHING, _PERCENTILE = 0.006, 99.5


@functools.cache
def palette() -> np.ndarray:
    """The heat colours, (256, 3) uint8, from no evidence to the strongest."""

    return (colormaps["inferno"](np.linspace(0.15, 1.0, 256))[:, :3] * 255).round().astype(np.uint8)


@functools.cache
def opposing_palette() -> np.ndarray:
    """The colours of what speaks against a class, (256, 3) uint8, from none to the strongest."""

    return (colormaps["GnBu_r"](np.linspace(0.0, 0.75, 256))[:, :3] * 255).round().astype(np.uint8)


def readable(attribution: Attribution) -> np.ndarray:
    """An attribution's map (H, W) as it is best shown, in [-1, 1]: coarse maps as they are, fine ones smoothed."""
    if METHODS[attribution.method].coarse:
        return attribution.map

    smooth = ndimage.gaussian_filter(attribution.map, max(0.7, _SMOOTHING * min(attribution.map.shape)))
    sizes = np.abs(smooth)
    top = float(np.percentile(sizes[sizes > 0], _PERCENTILE)) if sizes.any() else 1.0
    return np.clip(smooth / top, -1, 1)


def overlay(slice_: Slice, heat: np.ndarray, *, opacity: float = 0.6) -> Image.Image:
    """The slice under `heat` (H, W) in [-1, 1], as an RGB picture; `opacity` in [0, 1] is that of strong evidence."""
    if heat.shape != slice_.pixels.shape:
        raise ValueError(f"the map is {heat.shape}, the slice {slice_.pixels.shape}: they must be of one size")
    levels = (np.clip(np.abs(heat), 0, 1) * 255).round().astype(np.uint8)
    share = np.clip((np.arange(256) / 255 - _FAINT) / (_FULL - _FAINT), 0, 1) * opacity
    # 255ths and one channel at a time: a scanned film of 36 million pixels must not become a gigabyte of floats.
    alpha = (share * 255).round().astype(np.uint16)
    against = heat < 0
    mixed = np.empty((*levels.shape, 3), dtype=np.uint8)
    for channel in range(3):
        colours = (alpha * palette()[:, channel])[levels]
        if against.any():
            np.copyto(colours, (alpha * opposing_palette()[:, channel])[levels], where=against)
        mixed[..., channel] = (slice_.pixels * (255 - alpha)[levels] + colours + 127) // 255
    return Image.fromarray(mixed)


def draw_overlay(explanation: Explanation, opacity: float = 0.6) -> Image.Image:
    """An explanation as it is shown everywhere: the slice under its readable map."""
    return overlay(explanation.slice, readable(explanation.attribution), opacity=opacity)


def save_figure(
    path: str | Path, slice_: Slice, attribution: Attribution, *, probability: float, opacity: float = 0.6
) -> None:
    """Write slice and overlay side by side with colour bar, class, probability, window and the research-use line.

    Raises InputError as `check_figure` does. The file is whole or absent.
    """
    check_figure(path, opacity)
    figure = draw_figure(slice_, attribution, probability=probability, opacity=opacity)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, facecolor="white")


def check_figure(path: str | Path, opacity: float) -> None:
    """Raise InputError unless the name ends in one of FIGURE_SUFFIXES and `opacity` is in [0, 1]."""
    if Path(path).suffix.lower() not in FIGURE_SUFFIXES:
        raise InputError(f"{printable(path)}: figures end in one of {', '.join(FIGURE_SUFFIXES)}; change the name.")
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity is {opacity}; give a value from 0 to 1.")


def figure_size(slice_: Slice) -> tuple[float, float]:
    """Width and height in inches of a slice's figure."""
    height, width = slice_.pixels.shape
    return 9.6, min(max(4.3 * height / width, 2.0), 9.0) + 1.1


def draw_figure(
    slice_: Slice,
    attribution: Attribution,
    *,
    probability: float,
    opacity: float = 0.6,
    figure: Figure | None = None,
) -> Figure:
    """The figure of `save_figure`, not yet saved; in a new `figure`, drawn without pyplot, or in the one given."""

    figure = figure or Figure(figsize=figure_size(slice_), layout="constrained")
    original, heated = figure.subplots(1, 2)
    window = describe_window(slice_.window, slice_.bit_depth, slice_.is_hu)
    _show(original, slice_.to_pil(), f"{shorten(Path(slice_.source).name, 45)}\n{window}")
    method = METHODS[attribution.method].title
    picture = overlay(slice_, readable(attribution), opacity=opacity)
    _show(heated, picture, f"{attribution.label}, {percent(probability)}\n{method}")
    _draw_colour_bar(figure, heated, attribution)
    figure.supxlabel(RESEARCH_USE, fontsize=9, color="0.25")
    return figure


def _show(axes: Axes, picture: Image.Image, title: str) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(title, fontsize=10, loc="left", parse_math=False)  # a $ in a name is no formula
    axes.set_axis_off()


def _draw_colour_bar(figure: Figure, axes: Axes, attribution: Attribution) -> None:

    colours = np.concatenate([opposing_palette()[::-1], palette()]) if attribution.signed else palette()
    lowest = -1 if attribution.signed else 0
    scale = ScalarMappable(Normalize(lowest, 1), ListedColormap(colours / 255))
    bar = figure.colorbar(scale, ax=axes, shrink=0.75, ticks=[lowest, 0, 1] if attribution.signed else [0, 1])
    bar.ax.set_yticklabels(["against", "none", "for"] if attribution.signed else ["none", "most"])
    bar.set_label("evidence for this class" if attribution.strength > 0 else "nothing here speaks for this class")
