"""Robustness, drawn: a curve a change over the severities, accuracy and calibration error side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ct_xception.checkpoint_files import Metric
from ct_xception.evaluation.report.plots import FAINT, INK, LINE_STYLES, PALETTE, canvas
from ct_xception.metrics import RobustnessMetrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def robustness_figure(block: RobustnessMetrics) -> Figure:
    """Accuracy and calibration error of the block `robustness` of metrics.json, unchanged (0) and by severity."""
    with canvas(7.6, 3.2) as figure:
        left, right = figure.subplots(1, 2)
        _draw(left, block, "accuracy", 100.0)
        _draw(right, block, "ece", 1.0)
        n = f"n = {block.n:,} slices, {block.n_groups:,} groups"
        left.set(title=f"Accuracy under changes\n{n}", ylabel="Accuracy (%)", ylim=(0, 102))
        right.set(title="Calibration error\nunder changes", ylabel="Calibration error", ylim=(0, None))
        right.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=6.5)
    return figure


def _draw(axes: Axes, block: RobustnessMetrics, key: str, scale: float) -> None:
    clean: Metric = getattr(block.clean, key)
    low, high = (clean.value if end is None else end for end in (clean.low, clean.high))
    axes.axhspan(scale * (low or 0), scale * (high or 0), color=FAINT, alpha=0.25, linewidth=0)
    for place, change in enumerate(block.changes.values()):
        cells = getattr(change, key)
        # Of fewer slices, a change has another beginning.
        values = [clean.value if cells[0].n == clean.n else None, *(cell.value for cell in cells)]
        colour, style = PALETTE[place % len(PALETTE)], LINE_STYLES[place // len(PALETTE) % len(LINE_STYLES)]
        axes.plot(
            range(len(values)), scale * np.array(values, float), color=colour, linestyle=style, label=change.title
        )
    axes.set(xlabel="Severity (0: unchanged, with its interval)", xticks=range(6))
    axes.tick_params(colors=INK)
    axes.grid(color=FAINT, linewidth=0.4, alpha=0.5)
