"""Figures that one would print: learning curves, confusion matrix, ROC curves, reliability, examples with predictions.

Each function gives a matplotlib Figure; `save_figure` writes it as PNG, PDF or SVG by the file's suffix, with text kept
as text. Colours are Okabe and Ito's (2008), told apart with any colour vision; from the eighth class on the line style
changes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from ct_xception.checkpoint_files import Metric
from ct_xception.errors import InputError
from ct_xception.files import atomic_path
from ct_xception.metrics import Calibration, CalibrationBin, CalibrationMetrics, UnitCalibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, "#000000")
LINE_STYLES = ("-", "--", ":")
INK, FAINT = "#222222", "#B8B8B8"
MAX_EXAMPLES = 24
MOST_CONFUSED, MOST_CURVES = 30, 12  # classes drawn one by one; of more than these, the worst
_MANY = 8  # classes above which a figure names its columns by number and writes smaller

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same letters on every machine
    "font.size": 8,
    "text.parse_math": False,  # a $ in a class's name is no formula
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "ct-xception",
}


@dataclass(frozen=True, eq=False)
class Example:
    """One slice and the answer to it: `pixels` (H, W) uint8, `probability` in [0, 1] that of `predicted`."""

    pixels: NDArray[np.uint8]
    label: str
    predicted: str
    probability: float


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 300) -> None:
    """Write a figure, whole or not at all; the same figure gives the same bytes."""
    undated: dict[str, dict[str, Any]] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    metadata = undated.get(Path(path).suffix, {})
    with rc_context(_STYLE), atomic_path(path) as temporary:
        figure.savefig(
            temporary, dpi=dpi, facecolor="white", metadata=metadata, bbox_inches="tight", pad_inches=0.06
        )  # fmt: skip


def curves_figure(
    history: Sequence[Mapping[str, Any]],
    *,
    best_epoch: int | None = None,
    counts: Mapping[str, int] | None = None,
) -> Figure:
    """Accuracy and loss by epoch, side by side, from the lines of history.jsonl.

    `best_epoch` is marked: by default the one with the highest validation accuracy, the first of equals.
    `counts` {"train": n, "validation": n} puts the number of items into the legend.
    """
    if not history:
        raise InputError("The training history is empty: there is no epoch to draw.")
    best_epoch = _best_epoch(history) if best_epoch is None else best_epoch
    with canvas(7.0, 2.6) as figure:
        left, right = figure.subplots(1, 2)
        _draw_curves(left, history, "accuracy", counts or {}, best_epoch)
        _draw_curves(right, history, "loss", counts or {}, best_epoch)
        _draw_kept(left, history)
        left.set(title="Accuracy by epoch", ylabel="Accuracy (%)", ylim=(max(0.0, left.get_ylim()[0] - 5), 100.5))
        right.set(title="Loss by epoch", ylabel="Loss", ylim=(0, 1.05 * right.get_ylim()[1]))
    return figure


def _best_epoch(history: Sequence[Mapping[str, Any]]) -> int | None:
    judged = [line for line in history if line.get("validation_accuracy") is not None]
    return int(max(judged, key=lambda line: line["validation_accuracy"])["epoch"]) if judged else None


def _draw_curves(
    axes: Axes, history: Sequence[Mapping[str, Any]], name: str, counts: Mapping[str, int], best_epoch: int | None
) -> None:

    epochs = [int(line["epoch"]) for line in history]
    for split, colour, style, mark in (("train", BLUE, "--", "s"), ("validation", VERMILLION, "-", "o")):
        values = np.array([_number(line.get(f"{split}_{name}")) for line in history])
        values = 100 * values if name == "accuracy" else values
        if np.isfinite(values).any():
            n = f" (n = {counts[split]:,})" if split in counts else ""
            size = 3 if len(epochs) <= 30 else 0
            axes.plot(epochs, values, style, color=colour, marker=mark, markersize=size, label=split.capitalize() + n)
    if best_epoch in epochs:
        _mark_best(axes, best_epoch, _number(history[epochs.index(best_epoch)].get(f"validation_{name}")), name)
    axes.set_xlabel("Epoch")
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color=FAINT, linewidth=0.4, alpha=0.6)
    axes.legend(loc="best")


def _draw_kept(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    """The share of slices without labels that were learnt from, where there were any."""
    if any("unlabelled_kept" in line for line in history):
        values = [100 * _number(line.get("unlabelled_kept")) for line in history]
        axes.plot([line["epoch"] for line in history], values, ":", color=INK, label="Unlabelled kept (%)")
        axes.legend(loc="best")


def _mark_best(axes: Axes, epoch: int, value: float, name: str) -> None:
    axes.axvline(epoch, color=INK, linewidth=0.7, linestyle=":", zorder=0)
    if np.isfinite(value):
        height, text = (100 * value, f"{100 * value:.1f} %") if name == "accuracy" else (value, f"{value:.3f}")
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": INK, "markeredgewidth": 0.9}
        label = f"Best epoch ({epoch}): {text}"
        axes.plot([epoch], [height], "o", markersize=7, linestyle="", label=label, clip_on=False, **ring)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def confusion_figure(matrix: Sequence[Sequence[int]], label_names: Sequence[str], *, title: str = "") -> Figure:
    """A confusion matrix [true][predicted]: each cell's count, and its share of the true class, which also colours it.

    With many classes or long names the columns carry numbers, which the rows explain; above 8 zeros are left blank. Of
    more than MOST_CONFUSED classes those with the most mistakes are drawn, and all others as one.
    """
    counts, label_names, left = fold_confusion(np.asarray(matrix, dtype=int), label_names, MOST_CONFUSED)
    if left and not title:
        title = f"Most confused {MOST_CONFUSED} of {left + MOST_CONFUSED:,} classes (n = {counts.sum():,})"
    size, support = len(label_names), counts.sum(axis=1)
    share = 100 * counts / np.maximum(support, 1)[:, None]
    cell = 0.85 if size <= 4 else 0.62 if size <= _MANY else 0.36
    with canvas(size * cell + 2.6, size * cell + 0.9) as figure:
        axes = figure.subplots()
        image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
        _write_cells(axes, counts, share)
        _name_cells(axes, label_names, support)
        axes.set_title(title or f"Confusion matrix (n = {counts.sum():,})", pad=8)
        bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, shrink=0.7, aspect=25)
        bar.set_label("Share of the true class (%)")
        bar.outline.set_visible(False)
    return figure


def fold_confusion(
    counts: NDArray, label_names: Sequence[str], most: int
) -> tuple[NDArray[np.intp], Sequence[str], int]:
    """A confusion matrix (K, K) of at most `most` classes and the rest as one, its names, and how many were left out.

    Those with the most mistakes, given or taken, stay, in their order. The last cell holds whatever was answered among
    the others, right or wrong.
    """
    size = len(counts)
    if size <= most + 1:
        return counts, label_names, 0
    mistakes = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diagonal(counts)
    kept = np.sort(np.argsort(-mistakes, kind="stable")[:most])
    place = np.full(size, most)
    place[kept] = np.arange(most)
    folded = np.zeros((most + 1, most + 1), dtype=counts.dtype)
    np.add.at(folded, (place[:, None], place), counts)
    return folded, [*(label_names[k] for k in kept), f"{size - most:,} other classes"], size - most


def _write_cells(axes: Axes, counts: NDArray, share: NDArray) -> None:
    size = len(counts)
    large, small = (11, 7.5) if size <= 4 else (9, 6) if size <= _MANY else (6, 4.5)
    for row, column in np.ndindex(counts.shape):
        colour = "white" if share[row, column] > 55 else INK
        place: dict[str, Any] = {"xy": (column, row), "textcoords": "offset points", "ha": "center", "color": colour}
        if counts[row, column] == 0:
            if size <= _MANY:
                axes.annotate("0", xytext=(0, 0), va="center", fontsize=small, **place | {"color": FAINT})
            continue
        text = f"{share[row, column]:.1f} %" if size <= _MANY else f"{share[row, column]:.0f} %"
        axes.annotate(f"{counts[row, column]:,}", xytext=(0, 0), va="bottom", fontsize=large, **place)
        axes.annotate(text, xytext=(0, -0.25 * small), va="top", fontsize=small, **place)


def _name_cells(axes: Axes, label_names: Sequence[str], support: NDArray) -> None:
    size = len(label_names)
    long = max(map(len, label_names)) > 24
    numbered = size > _MANY or (size > 4 and long)
    columns = [str(k + 1) if numbered else _wrapped(_shortened(name, 64), 16) for k, name in enumerate(label_names)]
    turned: dict[str, Any] = {}
    if 4 < size and not numbered:
        columns, turned = list(label_names), {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(size), columns, **turned)
    wrapped = [_wrapped(_shortened(name, 64), 34 if numbered else 22) for name in label_names]
    ends = [f" (n = {n:,})  {k + 1}" if numbered else f"\n(n = {n:,})" for k, n in enumerate(support)]
    axes.set_yticks(range(size), [name + end for name, end in zip(wrapped, ends, strict=True)])
    axes.set(xlabel="Predicted class", ylabel="True class")
    axes.spines[:].set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(np.arange(1, size) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="both", length=0)


def roc_figure(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.intp],
    label_names: Sequence[str],
    areas: Mapping[str, Metric],
    *,
    title: str = "",
) -> Figure:
    """One-vs-rest ROC curves of probabilities (N, K) against labels (N,), the busy corner enlarged where all are good.

    `areas` maps each class to its AUROC; a class
    without one is named in the legend and not drawn. Of more classes than have colours and lines of their own, those
    with the lowest areas are drawn, and the mean curve of all.
    """
    drawn = _curves_of(label_names, areas)
    left, many = len(label_names) - len(drawn), len(drawn) > _MANY
    with canvas(6.8 if many else 6.0, 4.8 if many else 3.6) as figure:
        axes = figure.subplots()
        _draw_roc(axes, probabilities, labels, label_names, areas, drawn)
        if left:
            known = [k for k, name in enumerate(label_names) if areas[name].value is not None]
            _draw_mean_roc(axes, probabilities, labels, known)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.set(xlabel="False positive rate (1 − specificity)", ylabel="True positive rate (sensitivity)")
        which = f"the lowest {len(drawn)} of {len(label_names):,} classes" if left else "each class"
        axes.set_title(title or f"ROC, {which} against the rest (n = {len(labels):,})")
        axes.legend(
            loc="center left", bbox_to_anchor=(1.03, 0.5), title="AUROC (95 % interval)", alignment="left",
            title_fontproperties={"weight": "bold", "size": 7.5}, handlelength=2.4, fontsize=6 if many else 7,
        )  # fmt: skip
        found = [value for k in drawn if (value := areas[label_names[k]].value) is not None]
        if found and min(found) > 0.95:  # below, hardly a curve reaches the corner
            corner = axes.inset_axes((0.42, 0.14, 0.52, 0.52), xlim=(-0.004, 0.2), ylim=(0.8, 1.004))
            _draw_roc(corner, probabilities, labels, label_names, areas, drawn)
            corner.set(xticks=np.linspace(0, 0.2, 5), yticks=np.linspace(0.8, 1, 5))
            corner.tick_params(labelsize=5.5, length=2)
            corner.set_title("upper left corner", fontsize=6, fontweight="normal", pad=2)
    return figure


def _curves_of(label_names: Sequence[str], areas: Mapping[str, Metric]) -> list[int]:
    """The classes that get a curve: all, or of too many to be told apart the worst."""
    if len(label_names) <= len(PALETTE) * len(LINE_STYLES):
        return list(range(len(label_names)))
    known = [k for k, name in enumerate(label_names) if areas[name].value is not None]
    return sorted(sorted(known, key=lambda k: areas[label_names[k]].value or 0)[:MOST_CURVES])


def _draw_roc(
    axes: Axes,
    probabilities: NDArray[np.float64],
    labels: NDArray[np.intp],
    label_names: Sequence[str],
    areas: Mapping[str, Metric],
    drawn: Sequence[int],
) -> None:

    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    for place, k in enumerate(drawn):
        area = areas[label_names[k]]
        colour, style = PALETTE[place % len(PALETTE)], LINE_STYLES[place // len(PALETTE) % len(LINE_STYLES)]
        curve = roc_curve(labels == k, probabilities[:, k])[:2] if area.value is not None else ([], [])
        # Each thinner than those drawn before it, so that curves which coincide all show.
        width = 1.4 if len(drawn) > len(PALETTE) else 1.2 + 0.9 * (len(drawn) - 1 - place)
        axes.plot(*curve, color=colour, linestyle=style, linewidth=width, label=_area_text(label_names[k], area))
    axes.grid(color=FAINT, linewidth=0.4, alpha=0.5)


def _draw_mean_roc(
    axes: Axes, probabilities: NDArray[np.float64], labels: NDArray[np.intp], known: Sequence[int]
) -> None:
    """The mean of the classes' sensitivities at each false positive rate."""
    rates, total = np.linspace(0, 1, 201), np.zeros(201)
    for k in known:
        total += np.interp(rates, *roc_curve(labels == k, probabilities[:, k])[:2])
    axes.plot(rates, total / len(known), color=INK, linewidth=2.2, label=f"mean of {len(known):,} classes")


def _area_text(name: str, area: Metric) -> str:
    joint = "\n" if len(name) > 24 else ": "
    if area.value is None:
        return f"{_shortened(name, 34)}{joint}no figure"
    return f"{_shortened(name, 34)}{joint}{_with_interval(area)}"


def _with_interval(metric: Metric) -> str:
    return f"{metric.value:.3f}" + ("" if metric.low is None else f" ({metric.low:.3f}–{metric.high:.3f})")


class Reliability(NamedTuple):
    """One panel of a reliability diagram: its title, what is counted, and how far the probabilities can be trusted."""

    title: str
    counted: str
    found: CalibrationMetrics | UnitCalibration


def scaling_panels(calibration: Calibration) -> tuple[Reliability, Reliability]:
    """The items before and after temperature scaling."""
    after = f"After (temperature {calibration.temperature:.2f})"
    return (
        Reliability("Before temperature scaling", "Items", calibration.before),
        Reliability(after, "Items", calibration.after),
    )


def reliability_figure(panels: Sequence[Reliability]) -> Figure:
    """Accuracy against confidence, a column a panel, with how many say so below.

    On the dotted line a confidence is as often right as it
    says, and a broad bar is the distance from it; points grow with what is counted, and thin bars are 95 % intervals.
    """
    with canvas(3.5 * len(panels) + 0.4 * (len(panels) == 1), 4.2) as figure:
        grid = figure.subplots(2, len(panels), sharex=True, height_ratios=(3.2, 1), squeeze=False)
        for column, (title, counted, found) in enumerate(panels):
            ece = f"calibration error {_with_interval(found.ece)}, n = {found.ece.n:,}"
            alike = [one.found.bins for one in panels if one.counted == counted]
            _draw_reliability(grid[0, column], found.bins, f"{title}\n{ece}")
            _draw_counts(grid[1, column], found.bins, max(bin_.n for bins in alike for bin_ in bins))
            if column == 0 or counted != panels[column - 1].counted:
                grid[1, column].set_ylabel(counted)
        grid[0, 0].set_ylabel("Accuracy (%)")
        figure.legend(*_reliability_key(), loc="outside lower center", ncols=4 if len(panels) > 1 else 2)
    return figure


def _reliability_key() -> tuple[list[Line2D], list[str]]:
    """What the marks of a reliability plot mean."""
    marks = {
        "items of like confidence": Line2D([], [], color=BLUE, marker="o", markersize=4, linestyle=""),
        "95 % interval": Line2D([], [], color=BLUE, linewidth=0.8),
        "too sure, or not sure enough": Line2D([], [], color=ORANGE, linewidth=3.0, alpha=0.5),
        "as often right as said": Line2D([], [], color=FAINT, linewidth=0.8, linestyle=":"),
    }
    return list(marks.values()), list(marks)


def _draw_reliability(axes: Axes, bins: Sequence[CalibrationBin], title: str) -> None:
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=0.8, linestyle=":", zorder=0)
    n = sum(bin_.n for bin_ in bins)
    for bin_ in bins:
        confidence, accuracy = 100 * bin_.confidence, bin_.accuracy
        value = 100 * (accuracy.value or 0)
        axes.plot([confidence] * 2, [confidence, value], color=ORANGE, linewidth=3.0, alpha=0.5, solid_capstyle="butt")
        if accuracy.low is not None and accuracy.high is not None:
            interval = [100 * accuracy.low, 100 * accuracy.high]
            axes.plot([confidence] * 2, interval, color=BLUE, linewidth=0.8)
        size = 2.5 + 4 * (bin_.n / n) ** 0.5
        axes.plot(confidence, value, "o", color=BLUE, markersize=size, clip_on=False)
    axes.set(xlim=(0, 101), ylim=(0, 101), title=title)
    axes.grid(color=FAINT, linewidth=0.4, alpha=0.5)


def _draw_counts(axes: Axes, bins: Sequence[CalibrationBin], top: int) -> None:
    edges = [100 * bin_.low for bin_ in bins]
    widths = [100 * (bin_.high - bin_.low) for bin_ in bins]
    axes.bar(edges, [bin_.n for bin_ in bins], widths, align="edge", color=SKY, edgecolor="white", linewidth=0.4)
    axes.set(xlabel="Confidence in the most probable class (%)", ylim=(0, 1.05 * top))


def examples_figure(examples: Sequence[Example], *, title: str = "") -> Figure:
    """A grid of slices, what is true and what was answered; the wrong ones framed and marked. At most MAX_EXAMPLES."""
    shown = list(examples)[:MAX_EXAMPLES]
    if not shown:
        raise InputError("No examples to draw.")
    columns = min(len(shown), 4 if len(shown) <= 12 else 6)
    rows, wide = -(-len(shown) // columns), 7.0 / max(columns, 3)
    with canvas(columns * wide, rows * (wide + 0.22) + 0.3, dense=True) as figure:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, example in zip(grid, shown, strict=False):
            _draw_example(axes, example, letters=int(wide * 17.5))
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        wrong = sum(example.label != example.predicted for example in shown)
        text = title or f"Examples: true class, then the prediction ({len(shown) - wrong} right, {wrong} wrong)"
        figure.suptitle(text, x=0.01, ha="left", fontsize=9, fontweight="bold")
    return figure


def _draw_example(axes: Axes, example: Example, *, letters: int) -> None:
    right = example.label == example.predicted
    colour, mark = (GREEN, "✓") if right else (VERMILLION, "✗")
    axes.imshow(_squared(example.pixels), cmap="gray", vmin=0, vmax=255, interpolation="lanczos")
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set(visible=True, edgecolor=colour, linewidth=1.0 if right else 2.6)
    answer = "" if right else _shortened(example.predicted, letters - 7) + ", "
    text = f"{_shortened(example.label, letters)}\n{mark} {answer}{100 * example.probability:.0f} %"
    axes.set_title(text, fontsize=6.5, color=INK, fontweight="normal", pad=3)


def _squared(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The slice centred on a black square, so that every cell of the grid is alike."""
    height, width = pixels.shape
    side = max(height, width)
    square = np.zeros((side, side), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square


def _wrapped(name: str, width: int) -> str:
    """A class name in lines of `width`: broken at blanks, underscores and dots, inside a word only if need be."""
    words = name.replace("_", "_ \u200b").replace(".", ". \u200b")  # the mark says that the blank is ours
    lines = textwrap.wrap(words, width) or [name]
    return "\n".join(line.replace(" \u200b", "").replace("\u200b", "") for line in lines)


def _shortened(name: str, letters: int) -> str:
    """A class name of at most `letters`, the middle left out: class names often differ at their end."""
    if len(name) <= letters:
        return name
    half = (letters - 1) // 2
    return f"{name[: letters - 1 - half]}…{name[-half:]}"


@contextmanager
def canvas(width: float, height: float, *, dense: bool = False) -> Iterator[Figure]:
    """A figure of this size in inches, drawn off screen in the package's style."""
    gaps: dict[str, Any] = {"w_pad": 0.03, "h_pad": 0.03, "wspace": 0.02, "hspace": 0.02} if dense else {}
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(**gaps))
        FigureCanvasAgg(figure)
        yield figure
