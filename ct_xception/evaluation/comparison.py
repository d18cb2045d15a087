"""Two models on the same items: is one better, or did it have the luck of the draw?

Both answers to an item are kept together: the paired bootstrap draws items (whole groups of them), and McNemar's exact
test looks only at the items on which one is right and the other wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct_xception.errors import InputError
from ct_xception.evaluation.intervals import (
    RESAMPLES,
    bootstrap_figure,
    bootstrap_weights,
    group_indices,
    proportion_figure,
)

SWAPS = 10_000
_SWAPS_AT_ONCE = 1_000


def compare(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    groups: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """The accuracies of two models on labels (N,); each gives classes (N,) or probabilities (N, K). JSON-able.

    `first`, `second`: their accuracies {figure}; `difference` {figure}: first minus second, in [-1, 1], with a paired
    bootstrap by group; `mcnemar` {"b": only the first is right, "c": only the second, "p"}: exact, two-sided, as if
    items were independent; `by_group` {"p", "swaps"} where groups hold several items, else None: the share of random
    exchanges of the two models, group by group, that part them as far. Raises InputError on shapes.
    """
    truth = np.asarray(labels)
    chosen = [_classes(answers, truth, name) for answers, name in ((first, "first"), (second, "second"))]
    hits = [classes == truth for classes in chosen]
    group = group_indices(groups, truth.size)
    apart = hits[0].astype(float) - hits[1]  # (N,) in -1, 0, 1
    draws = [weights @ apart / weights.sum(axis=1) for weights in bootstrap_weights(group, resamples, seed)]
    grouped = int(group.max()) + 1 < truth.size
    return {
        "n": int(truth.size),
        "n_groups": int(group.max()) + 1,
        "first": proportion_figure(hits[0], group, "no item").to_dict(),
        "second": proportion_figure(hits[1], group, "no item").to_dict(),
        "difference": bootstrap_figure(np.concatenate(draws), truth.size, group, "no item").to_dict(),
        "mcnemar": mcnemar(hits[0], hits[1]),
        "by_group": swap_test(apart, group, seed=seed) if grouped else None,
    }


def _classes(answers: ArrayLike, truth: NDArray, name: str) -> NDArray:
    values = np.asarray(answers)
    if truth.ndim != 1 or truth.size == 0 or values.ndim not in (1, 2) or len(values) != truth.size:
        raise InputError(
            f"Comparison: expected labels (N,) with N of at least 1 and {name} answers (N,) or (N, K), "
            f"got {truth.shape} and {values.shape}."
        )
    if values.ndim == 2 and not np.isfinite(values).all():
        raise InputError(f"Comparison: {name} answers hold NaN; compare the items that both models answered.")
    return values.argmax(axis=1) if values.ndim == 2 else values


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> dict[str, Any]:
    """McNemar's exact test of hits (N,) and (N,): {"b": only the first is right, "c": only the second, "p"}.

    Under equal accuracy b is Binomial(b + c, 1/2); p is two-sided, 1 where they never part (McNemar 1947).
    """
    from scipy.stats import binomtest

    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    return {"b": b, "c": c, "p": float(binomtest(b, b + c, 0.5).pvalue) if b + c else 1.0}


def swap_test(apart: NDArray[np.float64], group: NDArray[np.intp], *, seed: int = 0) -> dict[str, Any]:
    """A two-sided randomisation test of differences (N,) that keeps groups (N,) whole: {"p", "swaps"}.

    If the models are alike, which of them gave which answers to a group is a coin's toss. The data count as one of the
    tosses, so that p is never 0 (Phipson & Smyth 2010).
    """
    sums = np.bincount(group, weights=apart)
    sums = sums[sums != 0]
    rng, beyond = np.random.default_rng(seed), 0
    for _ in range(SWAPS // _SWAPS_AT_ONCE):
        signs = rng.choice((-1.0, 1.0), (_SWAPS_AT_ONCE, sums.size))
        beyond += int((np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9).sum())
    return {"p": (beyond + 1) / (SWAPS + 1), "swaps": SWAPS}
