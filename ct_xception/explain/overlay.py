"""A heat map laid over its slice: on screen, and as a figure that says what it shows.

Colours run along matplotlib's `inferno`, which is perceptually uniform and rises in lightness throughout, so the map
still reads in grey and with any colour vision. The weaker the evidence, the more of the slice shows through.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ct_xception.errors import InputError
from ct_xception.files import atomic_path
from ct_xception.imaging.slices import Slice
from ct_xception.notice import RESEARCH_USE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ct_xception.explain.attribution import Attribution

FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
METHOD_NAMES = {"gradcam": "Grad-CAM", "cam": "class activation map"}

# Evidence from which the colour has its full opacity; below, it fades linearly, so that no edge appears where none is.
_FULL = 0.5


@functools.cache
def palette() -> np.ndarray:
    """The heat colours, (256, 3) uint8, from no evidence to the strongest."""
    from matplotlib import colormaps

    return (colormaps["inferno"](np.linspace(0.15, 1.0, 256))[:, :3] * 255).round().astype(np.uint8)


def overlay(slice_: Slice, heat: np.ndarray, *, opacity: float = 0.6) -> Image.Image:
    """The slice under `heat` (H, W) in [0, 1], as an RGB picture; `opacity` in [0, 1] is that of strong evidence."""
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity is {opacity}; give a value from 0 to 1.")
    if heat.shape != slice_.pixels.shape:
        raise ValueError(f"the map is {heat.shape}, the slice {slice_.pixels.shape}: they must be of one size")
    heat = np.clip(heat, 0, 1)
    colours = palette()[(heat * 255).round().astype(np.uint8)]
    share = (opacity * np.clip(heat / _FULL, 0, 1))[..., None]
    mixed = slice_.pixels[..., None] * (1 - share) + colours * share
    return Image.fromarray(mixed.round().astype(np.uint8), mode=None)


def describe_window(slice_: Slice) -> str:
    """How the grey levels came about, in a few words: `window -600/1500 HU`, or `8-bit picture, no HU`."""
    if slice_.window is None:
        return f"{slice_.bit_depth}-bit picture, no HU"
    unit = "HU" if slice_.is_hu else "stored units"
    return f"window {slice_.window.centre:g}/{slice_.window.width:g} {unit}"


def save_figure(
    path: str | Path, slice_: Slice, attribution: Attribution, *, probability: float, opacity: float = 0.6
) -> None:
    """Write slice and overlay side by side with colour bar, class, probability, window and the research-use line.

    Raises InputError when the suffix is none of FIGURE_SUFFIXES. The file is whole or absent.
    """
    path = Path(path)
    if path.suffix.lower() not in FIGURE_SUFFIXES:
        raise InputError(f"{path.name}: figures end in one of {', '.join(FIGURE_SUFFIXES)}; change the name.")
    figure = draw_figure(slice_, attribution, probability=probability, opacity=opacity)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, facecolor="white")


def draw_figure(slice_: Slice, attribution: Attribution, *, probability: float, opacity: float = 0.6) -> Figure:
    """The figure of `save_figure`, not yet saved; drawn without pyplot, so that no global state changes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    original, heated = figure.subplots(1, 2)
    _show(original, slice_.to_pil(), f"{Path(slice_.source).name}\n{describe_window(slice_)}")
    method = METHOD_NAMES.get(attribution.method, attribution.method)
    picture = overlay(slice_, attribution.map, opacity=opacity)
    _show(heated, picture, f"{attribution.label}, {probability:.1%}\n{method}")
    _draw_colour_bar(figure, heated, attribution)
    figure.text(0.5, -0.02, RESEARCH_USE, ha="center", va="top", fontsize=9, color="0.25")
    return figure


def _show(axes: Axes, picture: Image.Image, title: str) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_axis_off()


def _draw_colour_bar(figure: Figure, axes: Axes, attribution: Attribution) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    scale = ScalarMappable(Normalize(0, 1), ListedColormap(palette() / 255))
    bar = figure.colorbar(scale, ax=axes, shrink=0.75, ticks=[0, 1])
    bar.ax.set_yticklabels(["none", "most"])
    bar.set_label("evidence for this class" if attribution.strength > 0 else "nothing here speaks for this class")
