"""Figures that choose an epoch: plain numbers on the validation split, with no claim beyond the run.

What may be claimed of a checkpoint is measured by the evaluation room, on the test split, with intervals.
"""

from __future__ import annotations

import numpy as np

LOWER_IS_BETTER = frozenset({"loss"})


def validation_figures(logits: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """Cross-entropy, accuracy, balanced accuracy, macro F1 and macro AUROC of logits (N, K) and labels (N,).

    AUROC is None where the split holds fewer than two classes, and leaves out the classes that it does not hold.
    """
    from scipy.special import log_softmax
    from sklearn.metrics import f1_score

    log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
    predicted = logits.argmax(axis=1)
    present = np.unique(labels)
    return {
        "n": len(labels),
        "loss": float(-log_probabilities[np.arange(len(labels)), labels].mean()),
        "accuracy": float((predicted == labels).mean()),
        "balanced_accuracy": float(np.mean([(predicted[labels == index] == index).mean() for index in present])),
        "macro_f1": float(f1_score(labels, predicted, average="macro", labels=present, zero_division=0)),
        "auroc": _auroc(np.exp(log_probabilities), labels, present),
    }


def _auroc(probabilities: np.ndarray, labels: np.ndarray, present: np.ndarray) -> float | None:
    from sklearn.metrics import roc_auc_score

    if len(present) < 2:
        return None
    return float(np.mean([roc_auc_score(labels == index, probabilities[:, index]) for index in present]))


def is_better(figure: float | None, best: float | None, metric: str) -> bool:
    """Whether a figure beats the best so far; the first always does, a missing one never once there is another."""
    if best is None:
        return True
    if figure is None or not np.isfinite(figure):
        return False
    return figure < best if metric in LOWER_IS_BETTER else figure > best
