"""Whether a probability of 0.8 is right four times in five: temperature scaling, and what calibration is measured by.

One temperature for all classes (Guo et al. 2017) changes no answer and no ranking, and divides the head's weights, so
that every reader of the checkpoint is calibrated by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct_xception.errors import InputError
from ct_xception.metrics import CalibrationBin, CalibrationMetrics
from ct_xception.statistics.intervals import (
    RESAMPLES,
    bootstrap_figure,
    bootstrap_weights,
    group_indices,
    proportion_figure,
)
from ct_xception.statistics.metrics import check_answers

BINS = 15  # as Guo et al. and torchmetrics count them
TEMPERATURES = (0.05, 20.0)  # what is fitted stays between these
_ITEMS_A_BIN = 10  # an adaptive bin of fewer says nothing
_LEAST = float(np.finfo(np.float64).tiny)  # log(0) stays finite, far below any other
_LEAST_PROBABILITY = float(np.finfo(np.float64).eps)  # of log-loss, as in scikit-learn

Floats = NDArray[np.float64]


def fit_temperature(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The temperature T that minimises the log-loss of softmax(log p / T) on answers (N, K) to labels (N,).

    Below 1 sharpens, above 1 softens; clipped to TEMPERATURES. 1.0 where every answer is right: then the loss falls for
    ever as T goes to 0, and nothing can be learnt about how far to trust the network.
    """
    from scipy.optimize import minimize_scalar

    scores, truth = _check(probabilities, labels)
    logits = np.log(np.maximum(scores, _LEAST))
    own = logits[np.arange(truth.size), truth]
    others = np.where(np.arange(scores.shape[1]) == truth[:, None], -np.inf, logits)
    if (own >= others.max(axis=1)).all():
        return 1.0
    bounds = (float(np.log(TEMPERATURES[0])), float(np.log(TEMPERATURES[1])))
    # The loss is convex in 1/T, so it has one valley in log T as well.
    found = minimize_scalar(_loss_at, bounds=bounds, args=(logits, own), method="bounded", options={"xatol": 1e-8})
    return float(np.exp(found.x))


def _loss_at(log_temperature: float, logits: Floats, own: Floats) -> float:
    """Mean of -log softmax(logits / T) at the true class."""
    from scipy.special import logsumexp

    inverse = np.exp(-log_temperature)
    return float((logsumexp(logits * inverse, axis=1) - own * inverse).mean())


def apply_temperature(probabilities: ArrayLike, temperature: float) -> Floats:
    """softmax(log p / T) of probabilities (..., K): what dividing the logits by T > 0 gives."""
    if not 0 < temperature < np.inf:
        raise InputError(f"temperature: {temperature} is not a finite number above 0.")
    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), _LEAST)) / temperature
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def calibration_figures(
    probabilities: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> CalibrationMetrics:
    """How far probabilities (N, K) can be trusted against labels (N,).

    `ece` and `adaptive_ece` in [0, 1]: the mean gap between the confidence in the most probable class and the accuracy,
    over BINS of equal width, and over bins of equal count (at most BINS, of some ten items at least). `brier` in
    [0, 2]: the squared error summed over the classes (Brier 1950; for two classes twice what scikit-learn gives).
    `log_loss`: natural. `bins` and `adaptive_bins`: the bins that hold items.

    An ECE is pushed up by chance alone, and once more in every resample; its resamples are moved so that their median
    is the value measured, and the interval shows the spread, not that push.
    """
    scores, truth = _check(probabilities, labels)
    group = group_indices(groups, truth.size)
    confidence, hits = scores.max(axis=1), scores.argmax(axis=1) == truth
    edges = {"bins": np.linspace(0, 1, BINS + 1), "adaptive_bins": adaptive_edges(confidence)}
    # Inner edges to the left, as scikit-learn's calibration_curve bins.
    bins = {name: np.searchsorted(edge[1:-1], confidence) for name, edge in edges.items()}
    draws = _draw(scores, truth, hits - confidence, bins, group, resamples, seed)
    found: dict[str, Any] = {
        name: bootstrap_figure(drawn, truth.size, group, "no item") for name, drawn in draws.items()
    }
    found |= {name: _describe_bins(edges[name], bins[name], confidence, hits, group) for name in bins}
    return CalibrationMetrics(n=int(truth.size), n_groups=int(group.max()) + 1, **found)


def adaptive_edges(confidence: Floats) -> Floats:
    """Edges (B + 1,) in [0, 1] of bins that hold about as many of the confidences (N,) each; equal ones share a bin."""
    count = int(np.clip(confidence.size // _ITEMS_A_BIN, 1, BINS))
    inner = np.quantile(confidence, np.linspace(0, 1, count + 1)[1:-1])
    return np.unique(np.concatenate([[0.0], inner, [1.0]]))


def _check(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[np.intp]]:
    shape = np.shape(probabilities)
    scores, truth = check_answers(probabilities, labels, [str(k) for k in range(shape[1] if len(shape) == 2 else 2)])
    return scores / scores.sum(axis=1, keepdims=True), truth


def _draw(
    scores: Floats,
    truth: NDArray[np.intp],
    gap: Floats,
    bins: dict[str, NDArray[np.intp]],
    group: NDArray[np.intp],
    resamples: int,
    seed: int,
) -> dict[str, Floats]:
    """Every figure on the data and on each resample: (1 + R,)."""
    own = scores[np.arange(truth.size), truth]
    means = {
        "brier": (scores**2).sum(axis=1) - 2 * own + 1,  # sum over k of (p_k - [k is true])^2
        "log_loss": -np.log(np.maximum(own, _LEAST_PROBABILITY)),
    }
    members = {"ece": bins["bins"], "adaptive_ece": bins["adaptive_bins"]}
    sides = {name: gap[:, None] * (bin_[:, None] == np.arange(bin_.max() + 1)) for name, bin_ in members.items()}
    drawn: dict[str, list[Floats]] = {name: [] for name in (*sides, *means)}
    for weights in bootstrap_weights(group, resamples, seed):
        total = weights.sum(axis=1)
        for name, side in sides.items():
            drawn[name].append(np.abs(weights @ side).sum(axis=1) / total)
        for name, value in means.items():
            drawn[name].append(weights @ value / total)
    joined = {name: np.concatenate(blocks) for name, blocks in drawn.items()}
    return joined | {name: _centred(joined[name]) for name in sides}


def _centred(draws: Floats) -> Floats:
    """Resamples moved so that their median is the value on the data (row 0); not below 0."""
    if draws.size == 1:
        return draws
    moved = draws - (np.median(draws[1:]) - draws[0])
    moved[0] = draws[0]
    return np.maximum(moved, 0)


def _describe_bins(
    edges: Floats, bin_: NDArray[np.intp], confidence: Floats, hits: NDArray[np.bool_], group: NDArray[np.intp]
) -> tuple[CalibrationBin, ...]:
    members = ((number, bin_ == number) for number in np.unique(bin_))
    return tuple(
        CalibrationBin(
            low=float(edges[number]),
            high=float(edges[number + 1]),
            n=int(own.sum()),
            confidence=float(confidence[own].mean()),
            accuracy=proportion_figure(hits[own], group[own], "no item"),
        )
        for number, own in members
    )
