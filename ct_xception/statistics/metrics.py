"""What a classifier's probabilities are worth against the labels: every figure with its n and 95 % interval.

Definitions are scikit-learn's: one class against the rest, macro averages unweighted. A class that the split does not
hold has no recall, F1 or area; macro averages run over those that it does hold. A class that is never predicted has no
precision of its own, and counts as 0 in the macro average.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct_xception.errors import InputError
from ct_xception.statistics.intervals import (
    RESAMPLES,
    Figure,
    bootstrap_figure,
    bootstrap_weights,
    group_indices,
    proportion_figure,
)

OVERALL_FIGURES = (
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_specificity",
    "macro_f1",
    "macro_auroc",
    "macro_auprc",
    "log_loss",
)
CLASS_FIGURES = ("precision", "recall", "specificity", "f1", "auroc", "auprc")
_LEAST_PROBABILITY = float(np.finfo(np.float64).eps)  # log-loss stays finite, as in scikit-learn

Floats = NDArray[np.float64]


def classification_metrics(
    probabilities: ArrayLike,
    labels: ArrayLike,
    label_names: Sequence[str],
    groups: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """All figures of probabilities (N, K), rows summing to 1, against labels (N,) in 0 to K - 1. JSON-able, no NaN.

    Returns OVERALL_FIGURES and `per_class` {name: CLASS_FIGURES}, each {"value", "n", "low", "high", "method"} and
    "reason" where something is None; `confusion_matrix` [true][predicted]; `n`, `n_groups`, `support` {name: items}.
    `groups` (N,): items that share one are drawn together. Raises InputError on shapes, ranges and non-finite values.
    """
    scores, truth = check_answers(probabilities, labels, label_names)
    group = group_indices(groups, truth.size)
    draws = _draw_all(scores, truth, group, resamples, seed)
    predicted = scores.argmax(axis=1)
    names = [str(name) for name in label_names]
    return {
        "n": int(truth.size),
        "n_groups": int(group.max()) + 1,
        "support": {name: int((truth == k).sum()) for k, name in enumerate(names)},
        **_overall(draws, predicted == truth, group),
        "per_class": {name: _one_class(k, draws, truth, predicted, group) for k, name in enumerate(names)},
        "confusion_matrix": confusion_matrix(truth, predicted, len(names)).astype(int).tolist(),
    }


def check_answers(
    probabilities: ArrayLike, labels: ArrayLike, label_names: Sequence[str]
) -> tuple[Floats, NDArray[np.intp]]:
    """Probabilities (N, K) as float64 and labels (N,) as integers, or InputError saying what does not fit."""
    scores, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    count = len(label_names)
    if count < 2 or len(set(label_names)) != count:
        raise InputError(f"Figures need at least 2 distinct class names, not {list(label_names)}.")
    if scores.ndim != 2 or scores.shape[1] != count or truth.shape != scores.shape[:1] or truth.size == 0:
        raise InputError(
            f"Expected probabilities (N, {count}) and labels (N,) with N of at least 1, "
            f"got {scores.shape} and {truth.shape}."
        )
    if not np.isfinite(scores).all() or (scores < 0).any() or not np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        raise InputError(
            "Expected probabilities: finite, not negative, each row summing to 1 (logits need a softmax first)."
        )
    if truth.dtype.kind not in "iu" or truth.min() < 0 or truth.max() >= count:
        raise InputError(f"Expected whole-number labels from 0 to {count - 1}.")
    return scores, truth.astype(np.intp)


def confusion_matrix(truth: NDArray, predicted: NDArray, count: int, weights: NDArray | None = None) -> NDArray:
    """Items by true class (row) and predicted class (column): (K, K), or (R, K, K) for weights (R, N)."""
    cell = truth * count + predicted
    if weights is None:
        return np.bincount(cell, minlength=count**2).reshape(count, count)
    rows = len(weights)
    cells = (cell + count**2 * np.arange(rows)[:, None]).ravel()  # (R * N,)
    return np.bincount(cells, weights.ravel(), minlength=rows * count**2).reshape(rows, count, count)


def count_scores(confusion: NDArray) -> dict[str, Floats]:
    """Precision, recall, specificity and F1 by class, (..., K), from confusion matrices (..., K, K); 0/0 is NaN."""
    hit = np.diagonal(confusion, axis1=-2, axis2=-1)
    true, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    others = confusion.sum(axis=(-2, -1))[..., None] - true
    return {
        "precision": _ratio(hit, predicted),
        "recall": _ratio(hit, true),
        "specificity": _ratio(others - predicted + hit, others),
        "f1": np.where(true > 0, _ratio(2 * hit, true + predicted), np.nan),
    }


def rank_scores(score: Floats, positive: NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """AUROC and AUPRC (average precision), (R,) each, of scores (N,) for the positive items under weights (R, N).

    Ties count half in AUROC and share a threshold in AUPRC. NaN where a row of weights leaves one side empty.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # last item at each threshold: (T,)
    weighed = weights[:, order]
    true = np.cumsum(weighed * positive[order], axis=1)[:, ends]  # (R, T)
    false = np.cumsum(weighed * ~positive[order], axis=1)[:, ends]
    gained = np.diff(true, axis=1, prepend=0)
    trapezia = np.diff(false, axis=1, prepend=0) * (true - gained / 2)
    precision = true / np.maximum(true + false, 1)
    auroc = _ratio(trapezia.sum(axis=1), true[:, -1] * false[:, -1])
    # Without negatives the precision is 1 whatever the scores: no figure, as for AUROC.
    return auroc, np.where(false[:, -1] > 0, _ratio((gained * precision).sum(axis=1), true[:, -1]), np.nan)


def _draw_all(scores: Floats, truth: NDArray, group: NDArray, resamples: int, seed: int) -> dict[str, Floats]:
    """Every figure on the data (row 0) and on each resample: overall ones (1 + R,), those of a class (1 + R, K)."""
    blocks = [_draw(scores, truth, weights) for weights in bootstrap_weights(group, resamples, seed)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _draw(scores: Floats, truth: NDArray, weights: Floats) -> dict[str, Floats]:
    count = scores.shape[1]
    draws = count_scores(confusion_matrix(truth, scores.argmax(axis=1), count, weights))
    areas = [rank_scores(scores[:, k], truth == k, weights) for k in range(count)]
    draws["auroc"], draws["auprc"] = (np.stack(area, axis=1) for area in zip(*areas, strict=True))
    present = np.isfinite(draws["recall"])
    draws |= {f"macro_{name}": _mean_over(present, draws[name]) for name in CLASS_FIGURES}
    draws["macro_precision"] = _mean_over(present, np.nan_to_num(draws["precision"]))
    draws["balanced_accuracy"] = draws["macro_recall"]
    sure = scores[np.arange(truth.size), truth] / scores.sum(axis=1)
    surprise = -np.log(np.maximum(sure, _LEAST_PROBABILITY))
    draws["log_loss"] = weights @ surprise / weights.sum(axis=1)
    return draws


def _overall(draws: dict[str, Floats], hits: NDArray[np.bool_], group: NDArray) -> dict[str, Any]:
    figures = {"accuracy": proportion_figure(hits, group, "no item")}
    for name in OVERALL_FIGURES[1:]:
        figures[name] = bootstrap_figure(draws[name], hits.size, group, "the split holds one class only")
    return {name: figure.to_dict() for name, figure in figures.items()}


def _one_class(k: int, draws: dict[str, Floats], truth: NDArray, predicted: NDArray, group: NDArray) -> dict[str, Any]:
    own, called, n = truth == k, predicted == k, truth.size
    absent = "the split holds no item of this class"
    alone = absent if not own.any() else "the split holds no other class"
    figures: dict[str, Figure] = {
        "precision": proportion_figure(own[called], group[called], "this class was never predicted"),
        "recall": proportion_figure(called[own], group[own], absent),
        "specificity": proportion_figure(~called[~own], group[~own], "the split holds no other class"),
        "f1": bootstrap_figure(draws["f1"][:, k], n, group, absent),
        "auroc": bootstrap_figure(draws["auroc"][:, k], n, group, alone),
        "auprc": bootstrap_figure(draws["auprc"][:, k], n, group, alone),
    }
    return {name: figure.to_dict() for name, figure in figures.items()}


def _ratio(part: NDArray, whole: NDArray) -> Floats:
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def _mean_over(present: NDArray[np.bool_], values: Floats) -> Floats:
    """Mean (R,) of values (R, K) over the present classes: NaN where one of those has none."""
    return np.where(present, values, 0).sum(axis=1) / present.sum(axis=1)
