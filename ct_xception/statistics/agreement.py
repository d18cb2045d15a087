"""What an approximation of a network is worth beside the network itself: both answered the same items.

An int8 export is such an approximation. Agreement is the share of items on which both put the same class first; what it
loses is measured item by item, so that the intervals are those of the differences and not of two separate figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct_xception.metrics import AgreementMetrics, Loss
from ct_xception.statistics.comparison import compare
from ct_xception.statistics.intervals import (
    RESAMPLES,
    bootstrap_figure,
    bootstrap_weights,
    group_indices,
    proportion_figure,
)
from ct_xception.statistics.metrics import Floats, check_answers, rank_scores


def agreement_figures(
    labels: ArrayLike,
    reference: ArrayLike,
    approximation: ArrayLike,
    label_names: Sequence[str],
    groups: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> AgreementMetrics:
    """Metrics of an approximation's probabilities (N, K) beside the reference's (N, K), for labels (N,).

    Raises InputError on shapes and values."""
    own, truth = check_answers(reference, labels, label_names)
    other, _ = check_answers(approximation, labels, label_names)
    group = group_indices(groups, truth.size)
    compared = compare(truth, own, other, groups, seed=seed, resamples=resamples)
    agreed = own.argmax(axis=1) == other.argmax(axis=1)
    return AgreementMetrics(
        n=int(truth.size),
        n_groups=int(group.max()) + 1,
        agreement=proportion_figure(agreed, group, "no item"),
        accuracy=Loss(reference=compared.first, approximation=compared.second, loss=compared.difference),
        macro_auroc=_areas(own, other, truth, group, resamples, seed),
        largest_difference=float(np.abs(own - other).max()),
    )


def _areas(own: Floats, other: Floats, truth: NDArray, group: NDArray, resamples: int, seed: int) -> Loss:
    """Macro AUROC of both and the loss, drawn together."""
    blocks = [
        np.stack([_macro_auroc(scores, truth, weights) for scores in (own, other)])
        for weights in bootstrap_weights(group, resamples, seed)
    ]
    reference, approximation = np.concatenate(blocks, axis=1)  # (1 + R,) each
    names, draws = ("reference", "approximation", "loss"), (reference, approximation, reference - approximation)
    one_class = "the items are of one class only"
    return Loss(
        **{name: bootstrap_figure(own, group.size, group, one_class) for name, own in zip(names, draws, strict=True)}
    )


def _macro_auroc(scores: Floats, truth: NDArray, weights: Floats) -> Floats:
    """Mean AUROC (R,) over the classes that the items hold; NaN where a resample lacks one of them."""
    present = np.unique(truth)
    return np.mean([rank_scores(scores[:, k], truth == k, weights)[0] for k in present], axis=0)
