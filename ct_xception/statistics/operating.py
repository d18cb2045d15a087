"""Operating points and abstention: thresholds chosen on validation, and what they are worth on other items.

A point answers one question, some classes against the others, by the sum of their probabilities. On the items that a
threshold was chosen on its figures flatter it; `operating_figures` gives them on items it has not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct_xception.checkpoint_files import Abstention, Metric, PointRule
from ct_xception.errors import InputError
from ct_xception.metrics import AbstentionMetrics, PointMetrics, SelectiveMetrics
from ct_xception.statistics.class_groups import ClassGroups, partition_classes
from ct_xception.statistics.intervals import RESAMPLES, bootstrap, group_indices, proportion_figure
from ct_xception.statistics.metrics import check_answers

TARGETS = (("specificity", 0.95), ("sensitivity", 0.95))
ANSWERED_SHARE = 0.9  # of validation items: the surest nine tenths are answered
TRADE_OFF_SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
FALSE_POSITIVES = (0.05, 0.1, 0.2)  # an item of the other classes
MOST_RANKED = 20  # classes whose curves are read off
_SLACK = 1e-9  # of a share against its target: 19 of 20 is 0.95

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def choose_operating_points(
    probabilities: ArrayLike,
    labels: ArrayLike,
    label_names: Sequence[str],
    class_groups: ClassGroups | None = None,
    groups: Sequence[Any] | None = None,
    *,
    targets: Sequence[tuple[str, float]] = TARGETS,
) -> tuple[PointRule, ...]:
    """The points for every class against the rest and every class group against the rest, from validation answers.

    `targets`: ("specificity", s) takes the threshold with the highest sensitivity at a specificity of at least s,
    ("sensitivity", s) the reverse. The threshold is None, with a `reason`, where validation cannot give one. Raises
    InputError on shapes, targets and class groups.
    """
    scores, truth = check_answers(probabilities, labels, label_names)
    for name, value in targets:
        if name not in ("sensitivity", "specificity") or not 0 < value <= 1:
            raise InputError(f"Operating target {name} {value}: give sensitivity or specificity, above 0, at most 1.")
    group = group_indices(groups, truth.size)
    points = []
    for question, kind, positive in _questions(label_names, class_groups):
        columns = [list(label_names).index(name) for name in positive]
        score, own = scores[:, columns].sum(axis=1), np.isin(truth, columns)
        for name, value in targets:
            chosen_for = f"{name} of at least {value:g}"
            found = _choose(score, own, name, value)
            points.append(
                PointRule(
                    name=f"{question}: {chosen_for}",
                    kind=kind,
                    positive=positive,
                    chosen_for=chosen_for,
                    **_at(found, score, own, group),
                    n=int(own.size),
                    n_positive=int(own.sum()),
                )
            )
    return tuple(points)


def _questions(label_names: Sequence[str], class_groups: ClassGroups | None) -> list[tuple[str, str, tuple[str, ...]]]:
    """Every class against the rest, then every group of the user's that is not one class alone."""
    stated = partition_classes(class_groups, label_names) if class_groups else {}
    grouped = [(name, "group", classes) for name, classes in stated.items() if name in (class_groups or {})]
    single = {classes[0] for _, _, classes in grouped if len(classes) == 1}
    return [*((name, "class", (name,)) for name in label_names if name not in single), *grouped]


def _choose(score: Floats, own: Bools, target: str, value: float) -> float | str:
    """The threshold, between two scores that occur, so that rounding moves no item; or why there is none."""
    if own.all() or not own.any():
        return "validation holds items of one side only"
    found = np.unique(score)  # (T,), rising: a threshold at each takes it and all above as positive
    sensitivity = 1 - np.searchsorted(np.sort(score[own]), found) / own.sum()
    specificity = np.searchsorted(np.sort(score[~own]), found) / (~own).sum()
    reached = (sensitivity if target == "sensitivity" else specificity) >= value - _SLACK
    if not reached.any():
        return f"no threshold reaches a {target} of {value:g} on validation"
    # Sensitivity falls and specificity rises with the threshold: the last that is sensitive, the first specific one.
    best = int(np.flatnonzero(reached)[-1 if target == "sensitivity" else 0])
    below = found[best - 1] if best else 0.0
    return float((found[best] + below) / 2)


def _at(found: float | str, score: Floats, own: Bools, group: NDArray[np.intp]) -> dict[str, Any]:
    if isinstance(found, str):
        return {"threshold": None, "reason": found}
    return {"threshold": found, **_rates(score >= found, own, group)}


def _rates(called: Bools, own: Bools, group: NDArray[np.intp]) -> dict[str, Metric]:
    """Sensitivity and specificity of the yes and no in `called` (N,) against the truth (N,)."""
    return {
        "sensitivity": proportion_figure(called[own], group[own], "no item of these classes"),
        "specificity": proportion_figure(~called[~own], group[~own], "no item of the other classes"),
    }


def operating_figures(
    points: Sequence[PointRule],
    probabilities: ArrayLike,
    labels: ArrayLike,
    label_names: Sequence[str],
    groups: Sequence[Any] | None = None,
) -> tuple[PointMetrics, ...]:
    """What chosen points are worth on probabilities (N, K) and labels (N,) that they were not chosen on.

    The predictive values are at this split's mix of classes. Points without a threshold are left out.
    """
    scores, truth = check_answers(probabilities, labels, label_names)
    group = group_indices(groups, truth.size)
    measured = []
    for point in points:
        if point.threshold is None:
            continue
        columns = [list(label_names).index(name) for name in point.positive]
        called, own = scores[:, columns].sum(axis=1) >= point.threshold, np.isin(truth, columns)
        measured.append(
            PointMetrics(
                name=point.name,
                kind=point.kind,
                positive=point.positive,
                threshold=point.threshold,
                chosen_for=point.chosen_for,
                n=int(own.size),
                n_positive=int(own.sum()),
                **_rates(called, own, group),
                positive_predictive_value=proportion_figure(own[called], group[called], "the answer was never yes"),
                negative_predictive_value=proportion_figure(~own[~called], group[~called], "the answer was never no"),
            )
        )
    return tuple(measured)


def choose_abstention(
    probabilities: ArrayLike,
    labels: ArrayLike,
    label_names: Sequence[str],
    groups: Sequence[Any] | None = None,
    *,
    share: float = ANSWERED_SHARE,
) -> Abstention:
    """The confidence below which the network abstains, so that it answers at least `share` of validation.

    A share of the items is chosen, not an accuracy: on few validation items the accuracy of the surest is known badly.
    """
    if not 0 < share <= 1:
        raise InputError(f"answered share is {share}; give one above 0, at most 1.")
    scores, truth = check_answers(probabilities, labels, label_names)
    found = _selective(_share_threshold(scores.max(axis=1), share), scores, truth, group_indices(groups, truth.size))
    return Abstention(chosen_for=f"answers at least {100 * share:g} % of validation items", **found)


def _share_threshold(confidence: Floats, share: float) -> float:
    """The highest threshold, between two confidences that occur, at which `share` of them stay; 0 where all must."""
    falling = np.sort(confidence)[::-1]
    least = falling[int(np.ceil(share * falling.size - _SLACK)) - 1]  # the last confidence that must be answered
    below = falling[falling < least]
    return float((least + below[0]) / 2) if below.size else 0.0


def _selective(threshold: float, scores: Floats, truth: NDArray[np.intp], group: NDArray[np.intp]) -> dict[str, Any]:
    answered, hits = scores.max(axis=1) >= threshold, scores.argmax(axis=1) == truth
    return {
        "threshold": threshold,
        "answered": proportion_figure(answered, group, "no item"),
        "accuracy": proportion_figure(hits[answered], group[answered], "no item was answered"),
        "n": int(truth.size),
    }


def abstention_figures(
    rule: Abstention,
    probabilities: ArrayLike,
    labels: ArrayLike,
    label_names: Sequence[str],
    groups: Sequence[Any] | None = None,
) -> AbstentionMetrics:
    """What abstaining is worth on other items: the rule's share `answered` and the `accuracy` of those.

    `trade_off`: the same by falling share answered, each with the threshold of this split's own confidences that gives
    it: how accuracy would rise if the network answered less.
    """
    scores, truth = check_answers(probabilities, labels, label_names)
    group, confidence = group_indices(groups, truth.size), scores.max(axis=1)
    thresholds = sorted({_share_threshold(confidence, share) for share in TRADE_OFF_SHARES})
    return AbstentionMetrics(
        **_selective(rule.threshold or 0.0, scores, truth, group),
        trade_off=tuple(SelectiveMetrics(**_selective(at, scores, truth, group)) for at in thresholds),
    )


def sensitivity_figures(
    probabilities: ArrayLike,
    labels: ArrayLike,
    label_names: Sequence[str],
    groups: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, dict[str, Metric]]:
    """What share of each class is found at FALSE_POSITIVES an item of the others: {class: {"0.05": metric, …}}.

    Read off the ROC curve of these very items, one class against the rest: the highest sensitivity of a threshold whose
    rate of false positives is not above that. No threshold is chosen by it. Empty where there are more than MOST_RANKED
    classes.
    """
    scores, truth = check_answers(probabilities, labels, label_names)
    if len(label_names) > MOST_RANKED:
        return {}
    group, absent = group_indices(groups, truth.size), "the split holds one side only"

    def figure(k: int, rate: float) -> Metric:
        return bootstrap(
            lambda weights: _sensitivity_at(rate, scores[:, k], truth == k, weights),
            group, absent, seed=seed, resamples=resamples,
        )  # fmt: skip

    return {str(name): {f"{rate:g}": figure(k, rate) for rate in FALSE_POSITIVES} for k, name in enumerate(label_names)}


def _sensitivity_at(rate: float, score: Floats, positive: Bools, weights: Floats) -> Floats:
    """The sensitivity (R,) at a false-positive rate of at most `rate`, under weights (R, N); NaN without both sides."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)  # (N,): thresholds lie between scores, never within a tie
    true = np.cumsum(np.where(positive[order], weights[:, order], 0), axis=1)
    false = np.cumsum(np.where(positive[order], 0, weights[:, order]), axis=1)
    allowed = last & (false <= rate * false[:, -1:] + _SLACK)
    found = np.where(allowed, true, 0).max(axis=1)
    known = (true[:, -1] > 0) & (false[:, -1] > 0)
    return np.divide(found, true[:, -1], out=np.full(len(found), np.nan), where=known)
