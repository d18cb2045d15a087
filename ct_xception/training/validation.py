"""Figures that choose an epoch: plain numbers on the validation split, with no claim beyond the run.

What may be claimed of a checkpoint is measured by the evaluation room, on the test split, with intervals.
"""

from __future__ import annotations

import numpy as np

from ct_xception.statistics.selection import LOWER_IS_BETTER, SCORES, weighted_scores


def validation_figures(logits: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """The figures of `SCORES`, macro averages over classes, of logits (N, K) and labels (N,), and their number `n`.

    Classes that the split does not hold are left out; AUROC is None where it holds fewer than two.
    """
    once = np.ones((1, len(labels)))
    figures = {name: float(weighted_scores(logits, labels, name, once)[0]) for name in SCORES}
    return {"n": len(labels), **{name: value if np.isfinite(value) else None for name, value in figures.items()}}


def is_better(figure: float | None, best: float | None, metric: str) -> bool:
    """Whether a figure beats the best so far; the first always does, a missing one never once there is another."""
    if best is None:
        return True
    if figure is None or not np.isfinite(figure):
        return False
    return figure < best if metric in LOWER_IS_BETTER else figure > best
