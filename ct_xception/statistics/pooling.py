"""One answer from several: the slices of a series or a patient pooled, by a rule that validation patients choose.

    rule = fit_pooling(probabilities, labels, patients)
    pooled = pool_units(probabilities, patients, rule).probabilities        # (G, K), a row a patient

A pool turns the slices' probabilities (n, K) into one score a class, and its own temperature T into probabilities:
softmax(score / T). Which pool, is chosen by log-loss on patients that had no part in fitting its temperature; where
patients are few, chance would choose, and the mean of logits is taken as it is. The pool that is learnt, `attention`,
needs a score for each slice beside its probabilities, of `statistics.attention`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct_xception.checkpoint_files import PoolingRule
from ct_xception.errors import InputError
from ct_xception.metrics import PooledBy
from ct_xception.statistics.attention import attention_weights
from ct_xception.statistics.calibration import fit_temperature
from ct_xception.statistics.metrics import check_answers
from ct_xception.text import unknown

Floats = NDArray[np.float64]

LEAST_UNITS = 20  # patients of which a temperature can be learnt
LEAST_SEVERAL = 10  # of them with several slices, without which every pool is the same
FOLDS = 5
DEFAULT, ATTENTION = "mean_log", "attention"
_LEAST = 1e-12  # of a probability before its logarithm is taken


@dataclass(frozen=True)
class Pool:
    """`title` is its name in print, `sentence` what it does; `score` is that of each class (K,), from log p (n, K).

    One that is `learnt` gets the slices' weights (n,) as well.
    """

    title: str
    sentence: str
    score: Callable[..., Floats]
    learnt: bool = False


def _mean_log(logs: Floats) -> Floats:
    return logs.mean(axis=0)


def _mean(logs: Floats) -> Floats:
    return np.log(np.maximum(np.exp(logs).mean(axis=0), _LEAST))


def _noisy_or(logs: Floats) -> Floats:
    """log(1 - prod(1 - p)), by log1p and expm1 so that neither end is lost."""
    none = np.log1p(-np.minimum(np.exp(logs), 1 - _LEAST)).sum(axis=0)
    return np.log(np.maximum(-np.expm1(none), _LEAST))


def _attended(logs: Floats, weights: Floats) -> Floats:
    return np.asarray(weights @ logs)


def _top(count: int) -> Callable[[Floats], Floats]:
    return lambda logs: np.sort(logs, axis=0)[-count:].mean(axis=0)


POOLS = {
    "mean_log": Pool(
        "mean of log-probabilities",
        "The logarithms of each class's probabilities are averaged over the slices, and the result scaled to sum to 1: "
        "slices that agree weigh more than one that stands alone.",
        _mean_log,
    ),
    "mean": Pool(
        "mean of probabilities",
        "Each class's probabilities are averaged over the slices: one sure slice counts for as much as it says.",
        _mean,
    ),
    "noisy_or": Pool(
        "noisy-or",
        "A class is there if one slice or more shows it, each by itself: 1 less the product of (1 - probability), "
        "scaled to sum to 1.",
        _noisy_or,
    ),
    "top_1": Pool(
        "the surest slice of each class",
        "Of each class the highest probability of any slice, scaled to sum to 1.",
        _top(1),
    ),
    "top_3": Pool(
        "the three surest slices of each class",
        "Of each class the logarithms of its three highest probabilities are averaged, and the result scaled to sum "
        "to 1.",
        _top(3),
    ),
    ATTENTION: Pool(
        "learnt attention over the slices",
        "As the mean of log-probabilities, but with a weight a slice, which was learnt on training patients from what "
        "the network sees in it.",
        _attended,
        learnt=True,
    ),
}


@dataclass(frozen=True, eq=False)
class Units:
    """G series or patients: `probabilities` (G, K) float64, `names`, and `members`, the rows of each one's slices."""

    names: list[str]
    probabilities: Floats
    members: list[NDArray[np.intp]]


def pool_slices(
    probabilities: ArrayLike, method: str = DEFAULT, temperature: float = 1.0, attention: ArrayLike | None = None
) -> Floats:
    """The answer (K,), summing to 1, of slices with probabilities (n, K), by one of POOLS.

    mean_log is the logarithmic opinion pool, mean the linear one (Genest & Zidek 1986, doi:10.1214/ss/1177013825).
    `attention` are the slices' scores (n,), for the pool that is learnt. Raises InputError for another name, and where
    scores are wanted and there are none.
    """
    if method not in POOLS:
        raise InputError(unknown("aggregation", method, [name for name, pool in POOLS.items() if not pool.learnt]))
    logs = np.log(np.maximum(np.asarray(probabilities, np.float64), _LEAST))
    if not POOLS[method].learnt:
        return _softmax(POOLS[method].score(logs) / temperature)
    if attention is None or not np.isfinite(attention).all():
        raise InputError(
            f"aggregation {method}: these answers hold no attention scores; answer the slices again with the "
            "checkpoint that pools so."
        )
    return _softmax(POOLS[method].score(logs, attention_weights(attention)) / temperature)


def slice_support(
    probabilities: ArrayLike,
    k: int,
    method: str = DEFAULT,
    temperature: float = 1.0,
    attention: ArrayLike | None = None,
) -> Floats:
    """How far each of n slices (n, K) carries the answer k: what log p(k) loses where that slice is left out, (n,).

    Above 0 it speaks for the class, below 0 against it. The only slice is held against a uniform answer.
    """
    each = np.asarray(probabilities, np.float64)
    whole = np.log(pool_slices(each, method, temperature, attention)[k])
    if len(each) == 1:
        return np.array([whole + np.log(each.shape[1])])
    kept = [np.delete(np.arange(len(each)), row) for row in range(len(each))]
    without = [pool_slices(each[rows], method, temperature, _of(attention, rows))[k] for rows in kept]
    return np.asarray(whole - np.log(np.maximum(without, np.finfo(np.float64).tiny)))


def _of(attention: ArrayLike | None, rows: NDArray[np.intp]) -> Floats | None:
    return None if attention is None else np.asarray(attention, np.float64)[rows]


def pool_units(
    probabilities: ArrayLike,
    units: Sequence[Any],
    rule: PoolingRule | PooledBy | None,
    attention: ArrayLike | None = None,
) -> Units:
    """Slices with probabilities (N, K) of the series or patients in `units` (N,), by their names' order.

    `rule` is one of `fit_pooling`; None takes the mean of logits at temperature 1. `attention` are the slices' scores
    (N,), where the rule needs them.
    """
    each, members = np.asarray(probabilities, np.float64), members_of(units)
    method, temperature = (DEFAULT, 1.0) if rule is None else (rule.method, rule.temperature)
    pooled = np.array([pool_slices(each[rows], method, temperature, _of(attention, rows)) for rows in members.values()])
    return Units(list(members), pooled.reshape(len(members), each.shape[1]), list(members.values()))


def members_of(units: Sequence[Any]) -> dict[str, NDArray[np.intp]]:
    """The rows of each unit, {name: rows}, by the order of the names."""
    if not len(units):
        return {}
    names, index = np.unique(np.asarray(units, dtype=object).astype(str), return_inverse=True)
    parts = np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])
    return dict(zip(map(str, names), parts, strict=True))


def unit_labels(labels: ArrayLike, members: Sequence[NDArray[np.intp]]) -> NDArray[np.intp]:
    """The class of each unit (G,); -1 where its slices are of several, so that no one answer is right."""
    truth = np.asarray(labels)
    return np.array([truth[rows[0]] if (truth[rows] == truth[rows[0]]).all() else -1 for rows in members], np.intp)


def fit_pooling(
    probabilities: ArrayLike,
    labels: ArrayLike,
    units: Sequence[Any],
    *,
    attention: ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The pool and its temperature for validation slices (N, K) with labels (N,) of the patients in `units` (N,).

    Each pool is scored by the log-loss of patients left out of the fit of its temperature, in FOLDS parts that hold
    each class alike; another than the mean of logits is chosen only where its loss is lower by more than the standard
    error of the difference, patient by patient. The learnt pool is tried where `attention` gives scores (N,), of one
    that never saw these patients. Returns {"method", "temperature", "n" slices, "n_groups" patients,
    "several" of them with more than one slice, "mixed" left out for slices of several classes, "losses" {pool:
    log-loss}}; "losses" is missing, and "reason" says why, where there are too few. Raises InputError on shapes.
    """
    shape = np.shape(probabilities)
    scores, truth = check_answers(probabilities, labels, [str(k) for k in range(shape[1] if len(shape) == 2 else 2)])
    found = list(members_of(units).values())
    own = unit_labels(truth, found)
    members, classes = [rows for rows, k in zip(found, own, strict=True) if k >= 0], own[own >= 0]
    several = sum(len(rows) > 1 for rows in members)
    head = {"n": int(sum(map(len, members))), "n_groups": len(members), "several": several}
    head["mixed"] = len(found) - len(members)
    if len(members) < LEAST_UNITS or several < LEAST_SEVERAL or len(set(classes.tolist())) < 2:
        reason = (
            f"validation has {len(members)} patients with one class each, {several} of them with several slices; "
            f"{LEAST_UNITS} and {LEAST_SEVERAL}, of two classes, are wanted to choose by"
        )
        return {"method": DEFAULT, "temperature": 1.0, **head, "reason": reason}
    tried = [name for name, pool in POOLS.items() if attention is not None or not pool.learnt]
    pooled = {
        name: np.array([pool_slices(scores[rows], name, 1.0, _of(attention, rows)) for rows in members])
        for name in tried
    }
    folds = deal_folds(classes, seed)
    losses = {name: _left_out_losses(values, classes, folds) for name, values in pooled.items()}
    method = _choose(losses)
    means = {name: float(loss.mean()) for name, loss in losses.items()}
    return {"method": method, "temperature": fit_temperature(pooled[method], classes), **head, "losses": means}


def _choose(losses: Mapping[str, Floats]) -> str:
    """The pool of the lowest loss, where it is surely lower than the default's."""
    best = min(losses, key=lambda name: float(losses[name].mean()))
    gain = losses[DEFAULT] - losses[best]
    return best if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)) else DEFAULT


def deal_folds(classes: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """The fold of each unit (G,), every class dealt out evenly."""
    order = np.random.default_rng(seed).permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    folds = np.empty(len(classes), np.intp)
    folds[order] = np.arange(len(classes)) % FOLDS
    return folds


def _left_out_losses(pooled: Floats, classes: NDArray[np.intp], folds: NDArray[np.intp]) -> Floats:
    """The log-loss of each unit (G,) at the temperature of the other folds."""
    losses = np.empty(len(classes))
    for fold in range(FOLDS):
        out = folds == fold
        logs = np.log(np.maximum(pooled[out], _LEAST)) / fit_temperature(pooled[~out], classes[~out])
        losses[out] = -np.log(np.maximum(_softmax(logs)[np.arange(out.sum()), classes[out]], _LEAST))
    return losses


def _softmax(scores: Floats) -> Floats:
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))
