"""What the best of many is worth: the optimism of choosing a configuration by the items it is then quoted on.

The figure of the chosen trial on its own validation items is too good, since chance helped to choose it. The bootstrap
bias-corrected estimate (BBC-CV: Tsamardinos, Greasidou & Borboudakis 2018, Machine Learning 107:1895-1922) needs no
further training: whole groups are resampled, the best trial is chosen on the resample, and quoted on the groups that
it left out. Their mean is what "choose the best of these trials" is worth on items that had no say in the choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from ct_xception.checkpoint_files import Metric
from ct_xception.errors import InputError
from ct_xception.statistics.calibration import TEMPERATURES
from ct_xception.statistics.intervals import RESAMPLES, bootstrap_figure, bootstrap_weights, group_indices
from ct_xception.statistics.metrics import count_scores, rank_scores

Floats = NDArray[np.float64]

LOWER_IS_BETTER = frozenset({"loss", "calibrated_loss"})
SCORES = ("loss", "calibrated_loss", "accuracy", "balanced_accuracy", "macro_f1", "auroc")
_TEMPERATURE_STEP = 1.02  # the loss is flat about its lowest: half a step of 2 % misses it by far less than chance does


@dataclass(frozen=True)
class Selection:
    """The chosen trial (its position), what it scored, what such a choice is worth, and the difference of the two.

    `apparent` and `corrected` are `Metric`s of the score; `optimism` is how much the first flatters, in the score's own
    units, positive where it does. `gain` is the chosen trial against `reference` on the items left out, with its
    interval; None without a reference.
    """

    best: int
    score: str
    apparent: Metric
    corrected: Metric
    optimism: float
    gain: Metric | None = None

    @property
    def beats_reference(self) -> bool:
        """Whether the gain over the reference is beyond its 95 % interval."""
        return self.gain is not None and self.gain.low is not None and self.gain.low > 0


def weighted_scores(logits: NDArray, labels: NDArray[np.integer], score: str, weights: Floats) -> Floats:
    """One score, (R,), of logits (N, K) under item weights (R, N); NaN where a row of weights leaves none to score.

    `calibrated_loss` is the loss at the temperature that makes it least under those weights, among those that
    calibration may take: what is left once over- and underconfidence are put right, as a finished checkpoint's are.
    """
    logits = np.asarray(logits, np.float64)
    logarithms = log_softmax(logits, axis=1)
    if score == "loss":
        return _weighted_mean(-logarithms[np.arange(labels.size), labels], weights)
    if score == "calibrated_loss":
        return _loss_at_best_temperature(logits, labels, weights)
    predicted = logits.argmax(axis=1)
    if score == "accuracy":
        return _weighted_mean((predicted == labels).astype(float), weights)
    if score == "auroc":
        probabilities = np.exp(logarithms)
        areas = [rank_scores(probabilities[:, k], labels == k, weights)[0] for k in range(logits.shape[1])]
        return _mean_of_present(np.stack(areas, axis=1))
    if score not in SCORES:
        raise InputError(f"score {score!r} is not one of {', '.join(SCORES)}.")
    counts = count_scores(labels, predicted, logits.shape[1], weights)
    return _mean_of_present(counts["recall" if score == "balanced_accuracy" else "f1"])


def judge_selection(
    trials: Sequence[NDArray],
    labels: NDArray[np.integer],
    groups: Sequence[Any] | None,
    score: str,
    *,
    reference: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Selection:
    """Judge the choice of the best of `trials`: each the logits (N, K) of the same validation items, `labels` (N,).

    `groups` name each item's patient; `reference` is the position of the trial to beat. Raises InputError where there
    is no trial or no item.
    """
    if not len(trials) or not labels.size:
        raise InputError("no trial with answers to judge; let the search finish one.")
    group = group_indices(groups, labels.size)
    sign = -1.0 if score in LOWER_IS_BETTER else 1.0
    inside, outside = [], []
    for weights in bootstrap_weights(group, resamples, seed):
        left_out = (weights == 0).astype(float)
        inside.append(np.stack([weighted_scores(one, labels, score, weights) for one in trials]))
        outside.append(np.stack([weighted_scores(one, labels, score, left_out) for one in trials]))
    chosen_by, quoted = np.concatenate(inside, axis=1), np.concatenate(outside, axis=1)  # (T, 1 + R)
    choice = np.nanargmax(np.where(np.isfinite(chosen_by), sign * chosen_by, -np.inf), axis=0)
    best = int(choice[0])
    n = int(labels.size)
    apparent = bootstrap_figure(chosen_by[best], n, group, "no item to score")
    worth = np.take_along_axis(quoted, choice[None], axis=0)[0, 1:]  # (R,)
    corrected = _figure_of(worth, n, group)
    known = apparent.value is not None and corrected.value is not None
    flattery = sign * (apparent.value - corrected.value) if known else float("nan")  # type: ignore[operator]
    gain = None if reference is None else _figure_of(sign * (worth - quoted[reference, 1:]), n, group)
    return Selection(best, score, apparent, corrected, float(flattery), gain)


def _figure_of(draws: Floats, n: int, group: NDArray[np.intp]) -> Metric:
    """The mean of the resamples that left something to score, and their own spread as the interval."""
    known = draws[np.isfinite(draws)]
    if not known.size:
        return Metric(value=None, n=n, low=None, high=None, method=None, reason="no resample left enough to score")
    return bootstrap_figure(np.append(known.mean(), known), n, group, "no resample left enough to score")


def _weighted_mean(values: Floats, weights: Floats) -> Floats:
    total = weights.sum(axis=1)
    return np.divide(weights @ values, total, out=np.full(len(weights), np.nan), where=total > 0)


def _loss_at_best_temperature(logits: Floats, labels: NDArray[np.integer], weights: Floats) -> Floats:
    """Least weighted cross-entropy (R,) over a grid of temperatures: one pass for all R rows of weights."""
    least, most = np.log(TEMPERATURES)
    steps = math.ceil((most - least) / math.log(_TEMPERATURE_STEP))
    items = np.arange(labels.size)
    losses = [
        _weighted_mean(-log_softmax(logits / temperature, axis=1)[items, labels], weights)
        for temperature in np.geomspace(*TEMPERATURES, steps + 1)
    ]
    return np.min(losses, axis=0)


def _mean_of_present(values: Floats) -> Floats:
    """Mean (R,) over the classes of values (R, K) that are there; NaN where there is none."""
    present = np.isfinite(values)
    count = present.sum(axis=1)
    return np.divide(np.where(present, values, 0).sum(axis=1), count, out=np.full(len(values), np.nan), where=count > 0)
