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

from ct_xception.checkpoint_files import Metric
from ct_xception.errors import InputError
from ct_xception.metrics import ClassificationMetrics, ClassMetrics
from ct_xception.statistics.intervals import (
    RESAMPLES,
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
_FEW_PARTS = 32

Floats = NDArray[np.float64]


def classification_metrics(
    probabilities: ArrayLike,
    labels: ArrayLike,
    label_names: Sequence[str],
    groups: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    areas: bool = True,
) -> ClassificationMetrics:
    """All figures of probabilities (N, K), rows summing to 1, against labels (N,) in 0 to K - 1.

    `groups` (N,): items that share one are drawn together. Without `areas` AUROC and AUPRC, by far the slowest where
    there are many classes, are left out. Memory grows with N K, and with the resamples times N or K, never with all
    three. Raises InputError on shapes, ranges and non-finite values.
    """
    scores, truth = check_answers(probabilities, labels, label_names)
    group = group_indices(groups, truth.size)
    blocks = [_draw(scores, truth, weights, areas) for weights in bootstrap_weights(group, resamples, seed)]
    draws = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    predicted = scores.argmax(axis=1)
    names = [str(name) for name in label_names]
    return ClassificationMetrics(
        n=int(truth.size),
        n_groups=int(group.max()) + 1,
        support={name: int((truth == k).sum()) for k, name in enumerate(names)},
        **_overall(draws, predicted == truth, group),
        per_class={name: _one_class(k, draws, truth, predicted, group) for k, name in enumerate(names)},
        confusion_matrix=confusion_matrix(truth, predicted, len(names)).tolist(),
    )


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


def confusion_matrix(truth: NDArray, predicted: NDArray, count: int) -> NDArray[np.intp]:
    """Items by true class (row) and predicted class (column): (K, K)."""
    return np.bincount(truth * count + predicted, minlength=count**2).reshape(count, count)


def count_scores(truth: NDArray, predicted: NDArray, count: int, weights: Floats) -> dict[str, Floats]:
    """Precision, recall, specificity and F1 by class, (R, K), under weights (R, N); 0/0 is NaN."""
    right = truth == predicted
    hit = _class_sums(truth[right], count, weights[:, right])
    true, called = _class_sums(truth, count, weights), _class_sums(predicted, count, weights)
    others = weights.sum(axis=1)[:, None] - true
    return {
        "precision": _ratio(hit, called),
        "recall": _ratio(hit, true),
        "specificity": _ratio(others - called + hit, others),
        "f1": np.where(true > 0, _ratio(2 * hit, true + called), np.nan),
    }


def _class_sums(classes: NDArray, count: int, weights: Floats) -> Floats:
    """The weights (R, M) of the items of each class: (R, K), in memory that grows with M and with K, not with M K."""
    order = np.argsort(classes, kind="stable")
    found, starts = np.unique(classes[order], return_index=True)
    sums = np.zeros((len(weights), count))
    if found.size:
        sums[:, found] = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums


def rank_scores(score: Floats, positive: NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """AUROC and AUPRC (average precision), (R,) each, of scores (N,) for the positive items under weights (R, N).

    Ties count half in AUROC (Mann and Whitney) and share a threshold in AUPRC. NaN where a row of weights leaves one
    side empty.
    """
    order = np.argsort(-score, kind="stable")
    falling, own = -score[order], positive[order]
    thresholds = np.unique(falling[own])  # (T,): between two of them only negatives come, and neither figure moves
    first, last = (np.searchsorted(falling, thresholds, side=side) for side in ("left", "right"))
    before = _sums_before(weights, order, np.concatenate([first, last, [order.size]]))
    above, at, whole = before[:, : first.size], before[:, first.size : -1], before[:, -1]
    reached = np.searchsorted(falling[own], thresholds, side="right")
    true = _sums_before(weights, order[own], reached)  # (R, T), as `above` and `at`
    gained, positives = np.diff(true, axis=1, prepend=0), weights @ positive.astype(np.float64)
    negatives = whole - positives
    below = negatives[:, None] - (above - true + gained + at - true) / 2  # negatives below, and half of those tied
    auroc = _ratio((gained * below).sum(axis=1), positives * negatives)
    precision = true / np.maximum(at, 1)
    # Without negatives the precision is 1 whatever the scores: no figure, as for AUROC.
    return auroc, np.where(negatives > 0, _ratio((gained * precision).sum(axis=1), positives), np.nan)


def _sums_before(weights: Floats, order: NDArray[np.intp], places: NDArray[np.intp]) -> Floats:
    """Of weights (R, N), their M items in `order`, the sum of those before each of the places in 0 to M: (R, T)."""
    cuts = np.unique(np.append(places, 0))
    cuts = cuts[cuts < order.size]
    if cuts.size <= _FEW_PARTS:  # a product is faster than moving all weights into order
        member = np.zeros((weights.shape[1], cuts.size))
        member[order, np.searchsorted(cuts, np.arange(order.size), side="right") - 1] = 1
        parts = weights @ member
    else:
        parts = np.add.reduceat(np.take(weights, order, axis=1), cuts, axis=1)
    running = np.pad(np.cumsum(parts, axis=1), ((0, 0), (1, 0)))
    return running[:, np.searchsorted(cuts, places)]


def _draw(scores: Floats, truth: NDArray, weights: Floats, areas: bool = True) -> dict[str, Floats]:
    """Every figure under weights (R, N): overall ones (R,), those of a class (R, K)."""
    count = scores.shape[1]
    draws = count_scores(truth, scores.argmax(axis=1), count, weights)
    if areas:
        ranked = [rank_scores(scores[:, k], truth == k, weights) for k in range(count)]
        draws["auroc"], draws["auprc"] = (np.stack(area, axis=1) for area in zip(*ranked, strict=True))
    present = np.isfinite(draws["recall"])
    draws |= {f"macro_{name}": _mean_over(present, draws[name]) for name in CLASS_FIGURES if name in draws}
    draws["macro_precision"] = _mean_over(present, np.nan_to_num(draws["precision"]))
    draws["balanced_accuracy"] = draws["macro_recall"]
    sure = scores[np.arange(truth.size), truth] / scores.sum(axis=1)
    surprise = -np.log(np.maximum(sure, _LEAST_PROBABILITY))
    draws["log_loss"] = weights @ surprise / weights.sum(axis=1)
    return draws


def _overall(draws: dict[str, Floats], hits: NDArray[np.bool_], group: NDArray) -> dict[str, Metric]:
    figures = {"accuracy": proportion_figure(hits, group, "no item")}
    for name in (name for name in OVERALL_FIGURES if name in draws):
        figures[name] = bootstrap_figure(draws[name], hits.size, group, "the split holds one class only")
    return figures


def _one_class(k: int, draws: dict[str, Floats], truth: NDArray, predicted: NDArray, group: NDArray) -> ClassMetrics:
    own, called = truth == k, predicted == k
    absent = "the split holds no item of this class"
    alone = absent if not own.any() else "the split holds no other class"
    figures: dict[str, Metric] = {
        "precision": proportion_figure(own[called], group[called], "this class was never predicted"),
        "recall": proportion_figure(called[own], group[own], absent),
        "specificity": proportion_figure(~called[~own], group[~own], "the split holds no other class"),
    }
    for name, reason in (("f1", absent), ("auroc", alone), ("auprc", alone)):
        if name in draws:
            figures[name] = bootstrap_figure(draws[name][:, k], truth.size, group, reason)
    return ClassMetrics(**figures)


def _ratio(part: NDArray, whole: NDArray) -> Floats:
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def _mean_over(present: NDArray[np.bool_], values: Floats) -> Floats:
    """Mean (R,) of values (R, K) over the present classes: NaN where one of those has none."""
    return np.where(present, values, 0).sum(axis=1) / present.sum(axis=1)
