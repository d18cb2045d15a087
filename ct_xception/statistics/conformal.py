"""Conformal prediction: sets of classes that hold the true one with a chosen probability, whatever the network is.

The promise rests on one condition: calibration and test items are exchangeable, as two draws from one population are.
`conformal_figures` states beside the measured coverage what range was to be expected if they are, so that a test split
of another make shows.

The default score is lac (one minus the class's probability), in theory the one of the smallest sets. Its threshold is
never so low that a set could be empty: where the network is right more often than was asked for, sets cover more.

Measured without any network (`python -m benchmarks.conformal`, in benchmarks/RESULTS.md), all three keep their promise
where what is counted is what was divided; by image lac and aps have smaller sets than raps, and hardly differ. Where
patients are kept whole, counting images breaks the promise: so groups are counted there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct_xception.checkpoint_files import ConformalRule
from ct_xception.errors import InputError
from ct_xception.metrics import CoverageMetrics, Span
from ct_xception.statistics.intervals import (
    CONFIDENCE,
    RESAMPLES,
    bootstrap_mean,
    group_indices,
    proportion_figure,
)
from ct_xception.statistics.metrics import check_answers

Floats = NDArray[np.float64]
METHODS = ("lac", "aps", "raps")
_SLACK = 1e-9  # of a sum of weights against the coverage: (n + 1) * 0.7 is 7.000000000000001 for n = 9


def nonconformity(probabilities: Floats, rule: ConformalRule) -> Floats:
    """How badly each class would fit: scores of the shape (..., K) of `probabilities`, lower is better.

    lac: 1 - p (Sadinle, Lei & Wasserman 2019). aps: the probability ranked above the class, which is the score of
    Romano, Sesia & Candès (2020) without its random part, so that one file always gets one answer and the first class
    always scores 0. raps: aps plus `penalty` for every rank beyond `free_ranks` (Angelopoulos et al. 2021).
    """
    method = rule.method
    if method not in METHODS:
        raise InputError(f"conformal method {method!r} is unknown; this version knows {', '.join(METHODS)}.")
    if method == "lac":
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=-1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=-1)
    above = np.zeros_like(ranked)
    above[..., 1:] = np.cumsum(ranked, axis=-1)[..., :-1]
    if method == "raps":
        ranks = np.arange(1, ranked.shape[-1] + 1)
        above = above + rule.penalty * np.maximum(ranks - rule.free_ranks, 0)
    scores = np.empty_like(above)
    np.put_along_axis(scores, order, above, axis=-1)
    return scores


def set_members(probabilities: Floats, rule: ConformalRule, names: Sequence[str] | None = None) -> NDArray[np.bool_]:
    """Which classes the prediction set holds, (..., K), for probabilities (..., K) of the classes `names`.

    A rule whose threshold is None was fitted on too few items to promise its coverage: every class is a member. Of a
    rule by class, which needs the names, that holds for each class by itself.
    """
    scores = nonconformity(np.asarray(probabilities, np.float64), rule)
    if rule.thresholds and names is None:
        raise InputError("a conformal rule by class needs the classes' names.")
    limits = [rule.thresholds[name] for name in names or ()] if rule.thresholds else [rule.threshold]
    return scores <= np.array([np.inf if limit is None else limit for limit in limits])


def fit_conformal(
    probabilities: ArrayLike,
    labels: ArrayLike,
    coverage: float,
    groups: Sequence[Any] | None = None,
    *,
    method: str = "lac",
    penalty: float = 0.1,
    free_ranks: int = 2,
    never_empty: bool = True,
    by_class: Sequence[str] | None = None,
) -> ConformalRule:
    """The rule whose sets hold the true class with probability at least `coverage`, from validation answers (N, K).

    The threshold is the ceil((n + 1) coverage)-th smallest score of the true classes. With `groups` each one weighs the
    same, however many items it holds, and n counts groups: the promise is for an item of a new group (Lee, Barber &
    Willett 2023). Without, it is for an item drawn as these were. The threshold is None, and `reason` says why, where
    there are too few: then every set holds every class. aps and raps never give an empty set; `never_empty` keeps lac
    from it.

    With `by_class`, the names of the K classes, the promise is for the items of each class (Mondrian, Vovk 2012;
    Sadinle, Lei & Wasserman 2019): `thresholds` {name: that of the true scores of this class's items, or None where
    those are too few} decide, and `n_by_class` counts them; sets are larger for it. `threshold` is as without, for
    older readers. Raises InputError on shapes, ranges and options.
    """
    _check_options(coverage, method, penalty, free_ranks)
    scores, truth = check_answers(probabilities, labels, _numbered(probabilities))
    group = group_indices(groups, truth.size)
    ranked: dict[str, Any] = {"penalty": float(penalty), "free_ranks": int(free_ranks)} if method == "raps" else {}
    rule = ConformalRule(
        method=method,
        coverage=float(coverage),
        threshold=None,
        unit="item" if groups is None else "group",
        n=int(truth.size),
        n_groups=int(group.max()) + 1,
        **ranked,
    )
    own = nonconformity(scores, rule)[np.arange(truth.size), truth]
    least = _never_empty(scores.shape[1]) if method == "lac" and never_empty else 0.0
    told: dict[str, Any] = {} if by_class is None else _by_class(own, truth, group, coverage, by_class, least)
    threshold = _quantile(own, group, coverage)
    if threshold is not None:
        return rule.model_copy(update=told | {"threshold": max(threshold, least)})
    needed = math.ceil(coverage / (1 - coverage) - _SLACK)
    few = f"{rule.n_groups} independent validation items cannot promise a coverage of {coverage:g}"
    return rule.model_copy(update=told | {"reason": f"{few}; at least {needed} can"})


def _by_class(
    own: Floats, truth: NDArray[np.intp], group: NDArray[np.intp], coverage: float, names: Sequence[str], least: float
) -> dict[str, Any]:
    thresholds, counts = dict[str, float | None](), dict[str, int]()
    for k, name in enumerate(names):
        members = np.unique(group[truth == k], return_inverse=True)[1]
        found = _quantile(own[truth == k], members, coverage) if members.size else None
        thresholds[name] = None if found is None else max(found, least)
        counts[name] = int(members.max()) + 1 if members.size else 0
    return {"thresholds": thresholds, "n_by_class": counts}


def _never_empty(classes: int) -> float:
    """The lac threshold that one class of every answer meets, since the likeliest of K has a probability of 1/K."""
    return 1 - 1 / classes


def _check_options(coverage: float, method: str, penalty: float, free_ranks: int) -> None:
    if not 0 < coverage < 1:
        raise InputError(f"coverage is {coverage}; give a share above 0 and below 1, such as 0.9.")
    if method not in METHODS:
        raise InputError(f"conformal method {method!r} is unknown; choose {', '.join(METHODS)}.")
    if penalty < 0 or free_ranks < 0:
        raise InputError(f"penalty {penalty} and free_ranks {free_ranks} must not be negative.")


def _numbered(probabilities: ArrayLike) -> list[str]:
    """Names for the columns of answers whose classes need none here."""
    shape = np.shape(probabilities)
    return [str(k) for k in range(shape[1] if len(shape) == 2 else 2)]


def _quantile(scores: NDArray[np.float64], group: NDArray[np.intp], coverage: float) -> float | None:
    """The least score at which the groups' mean share of items below reaches `coverage`, one more group at infinity."""
    sizes = np.bincount(group)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1 / sizes[group[order]]) / (sizes.size + 1)  # (N,)
    first = int(np.searchsorted(reached, coverage - _SLACK))
    return float(scores[order[first]]) if first < scores.size else None


def conformal_figures(
    rule: ConformalRule,
    probabilities: ArrayLike,
    labels: ArrayLike,
    label_names: Sequence[str],
    groups: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> CoverageMetrics:
    """What the sets of `rule` are worth on other items: probabilities (N, K), labels (N,).

    `coverage`: the share of sets that hold the true class; `mean_size`: classes a set; `sizes` {"0": sets that are
    empty, "1": …}; `expected`: the 95 % range of the coverage
    on so many independent items, were they exchangeable with the calibration's (beta-binomial); `within_expected`
    whether the measured one lies in it, None where the rule promises nothing. Of a rule by class `expected` is None,
    and `within_expected` says that no class is covered less than that.
    """
    scores, truth = check_answers(probabilities, labels, label_names)
    group = group_indices(groups, truth.size)
    members = set_members(scores, rule, label_names)
    hits, size = members[np.arange(truth.size), truth], members.sum(axis=1)
    expected = None if rule.thresholds else _expected_range(rule, int(group.max()) + 1)
    if rule.thresholds:
        within = _within_by_class(rule, hits, truth, group, label_names)
    else:
        within = _is_within(float(hits.mean()), rule, expected, len(label_names))
    return CoverageMetrics(
        n=int(truth.size),
        n_groups=int(group.max()) + 1,
        nominal=rule.coverage,
        coverage=proportion_figure(hits, group, "no item"),
        mean_size=bootstrap_mean(size, group, "no item", seed=seed, resamples=resamples),
        sizes={str(k): int((size == k).sum()) for k in range(len(label_names) + 1)},
        per_class_coverage={
            str(name): proportion_figure(hits[truth == k], group[truth == k], "the split holds no item of this class")
            for k, name in enumerate(label_names)
        },
        expected=expected,
        within_expected=within,
    )


def _within_by_class(
    rule: ConformalRule, hits: NDArray[np.bool_], truth: NDArray[np.intp], group: NDArray[np.intp], names: Sequence[str]
) -> bool | None:
    """Whether each class that sets are promised for, and that is here, is covered as often as is to be expected."""
    kept = [
        float(hits[truth == k].mean()) >= expected.low
        for k, name in enumerate(names)
        if (truth == k).any()
        and (expected := _expected_range(rule, np.unique(group[truth == k]).size, name)) is not None
    ]
    return all(kept) if kept else None


def _expected_range(rule: ConformalRule, n_test: int, name: str | None = None) -> Span | None:
    """Where the coverage on `n_test` exchangeable items falls: BetaBinomial(k, n + 1 - k), k of n calibration scores.

    Vovk (2012); exact for continuous scores and independent items. `name` is the class of those of a rule by class.
    """
    from scipy.stats import betabinom

    n = rule.n_groups if name is None else (rule.n_by_class or {})[name]
    if (rule.threshold if name is None else (rule.thresholds or {})[name]) is None:
        return None
    kept = math.ceil((n + 1) * rule.coverage - _SLACK)
    tail = (1 - CONFIDENCE) / 2
    low, high = betabinom.ppf([tail, 1 - tail], n_test, kept, n + 1 - kept) / n_test
    return Span(low=float(low), high=float(high))


def _is_within(covered: float, rule: ConformalRule, expected: Span | None, classes: int) -> bool | None:
    """Whether a coverage is as expected; where sets are kept from being empty it may be more than was promised."""
    if expected is None or rule.threshold is None:
        return None
    kept_from_it = rule.method != "lac" or rule.threshold <= _never_empty(classes)
    return covered >= expected.low and (kept_from_it or covered <= expected.high)
