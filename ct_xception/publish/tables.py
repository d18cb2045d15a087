"""Figures as Markdown: every number with its interval, and a word where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What the card shows; metrics.json holds more.
OVERALL = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "macro_auroc": "Macro AUROC",
    "log_loss": "Log-loss",
}
PER_CLASS = {"recall": "Sensitivity", "specificity": "Specificity", "precision": "Precision", "auroc": "AUROC"}
_SHARES = {"accuracy", "balanced_accuracy", "recall", "precision", "specificity", "sensitivity", "coverage"}


def figure_text(name: str, figure: Mapping[str, Any]) -> str:
    """One figure as a table shows it: `95.2 % (92.3–97.1)`, `0.998 (0.994–1.000)`, or `none`."""
    scale, places, unit = (100, 1, " %") if name in _SHARES else (1, 3, "")
    if figure["value"] is None:
        return "none"
    value, low, high = (
        None if figure[part] is None else f"{scale * figure[part]:.{places}f}".replace("-", "−")
        for part in ("value", "low", "high")
    )
    if low is None:
        return f"{value}{unit} (no interval)"
    between = " to " if figure["low"] < 0 else "–"  # no dash beside a minus
    return f"{value}{unit} ({low}{between}{high})"


def points_text(figure: Mapping[str, Any]) -> str:
    """A difference of shares in percentage points: `+3.2 points (−1.0 to +7.4)`."""
    if figure["value"] is None:
        return "none"
    value = f"{_signed(figure['value'])} points"
    if figure["low"] is None:
        return f"{value} (no interval)"
    return f"{value} ({_signed(figure['low'])} to {_signed(figure['high'])})"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def overall_table(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """The overall figures, a column a path; `columns` maps its heading to its block of metrics.json."""
    heads = [f"{title} (n = {block['n']:,})" for title, block in columns.items()]
    rows = [
        [title, *(figure_text(name, block[name]) if block["n"] else "none" for block in columns.values())]
        for name, title in OVERALL.items()
    ]
    return markdown_table(["", *heads], rows)


def class_table(block: Mapping[str, Any]) -> str:
    """One path's figures by class, with the number of items of each."""
    rows = [
        [plain(label), f"{block['support'][label]:,}", *(figure_text(name, figures[name]) for name in PER_CLASS)]
        for label, figures in block["per_class"].items()
    ]
    return markdown_table(["Class", "n", *PER_CLASS.values()], rows)


def interval_statement(block: Mapping[str, Any], resamples: int) -> str:
    """Which interval stands behind which figure, and why some figures have none."""
    figures = [
        *(block[name] for name in OVERALL),
        *(one for own in block["per_class"].values() for one in own.values()),
    ]
    methods = {figure["method"] for figure in figures}
    wilson = " on the effective number of independent images" if "wilson_by_group" in methods else ""
    drawn = "groups" if "bootstrap_by_group" in methods else "images"
    reasons = sorted({figure["reason"] for figure in figures if figure.get("reason")})
    return (
        f"Intervals of accuracy, sensitivity, specificity and precision by class: Wilson's score interval{wilson}; "
        f"of all other figures: percentile bootstrap over {drawn} ({resamples:,} resamples)."
        + (f" Where a figure or an interval is missing: {'; '.join(reasons)}." if reasons else "")
    )


def pairs_table(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and what they are, two columns without a heading."""
    return markdown_table(["", ""], [list(pair) for pair in pairs])


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the cells are Markdown already."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def plain(text: str) -> str:
    """Text from outside as Markdown that shows it letter by letter, on one line."""
    escaped = "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in text)
    return " ".join(escaped.split())


def code(text: str) -> str:
    """Text from outside as inline code, or nothing for no text."""
    return f"`{' '.join(text.replace('`', chr(39)).replace('|', '/').split())}`" if text else ""
