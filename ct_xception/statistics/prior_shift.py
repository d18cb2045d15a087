"""How often each class occurs at a new site, from answers without labels.

    found = estimate_prior(probabilities, source_prior, patients)
    moved = reweigh(probabilities, source_prior, found.prior)

What a calibrated network answers holds for the mix of classes that it was trained on. Where the mix alone is another,
and each class looks as it did, the most likely new mix follows from the answers (Saerens, Latinne & Decaestecker 2002,
doi:10.1162/089976602753284446). It takes the answers whole; black-box shift estimation (Lipton et al. 2018) counts what
is called, needs no calibration, and errs more where there is some (`tests/statistics/test_prior_shift.py` has both).
Where the classes look otherwise, too, it follows from nothing: that is why the estimate is told with its interval, and
used only where somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct_xception.checkpoint_files import Metric
from ct_xception.errors import InputError
from ct_xception.statistics.intervals import bootstrap_figure, bootstrap_weights, group_indices

Floats = NDArray[np.float64]

RESAMPLES = 200  # each is a fit of its own
MOST_STEPS, SETTLED = 2000, 1e-9
_LEAST = 1e-12


@dataclass(frozen=True)
class PriorShift:
    """The mix of classes that training had and the site seems to have, {class: share}, with its 95 % interval."""

    source: Mapping[str, float]
    target: Mapping[str, Metric]
    n: int
    n_groups: int

    @property
    def prior(self) -> Floats:
        """The site's shares (K,), in the order of the classes."""
        return np.array([share.value for share in self.target.values()], np.float64)

    @property
    def is_shown(self) -> bool:
        """Whether any class's interval leaves training's share out."""
        return any(
            one.low is not None and one.high is not None and not one.low <= self.source[name] <= one.high
            for name, one in self.target.items()
        )


def fit_prior(probabilities: Floats, source: Floats, weights: Floats | None = None) -> Floats:
    """The most likely shares (K,) of classes among items answered with probabilities (N, K), by EM.

    `source` (K,) are the shares that the answers hold for; `weights` (N,) count items.
    """
    counted = np.ones(len(probabilities)) if weights is None else weights
    ratios, prior = probabilities / source, source
    for _ in range(MOST_STEPS):
        joint = ratios * prior
        each = joint / np.maximum(joint.sum(axis=1, keepdims=True), _LEAST)
        found = counted @ each / counted.sum()
        if np.abs(found - prior).max() < SETTLED:
            return found
        prior = found
    return prior


def reweigh(probabilities: ArrayLike, source: ArrayLike, prior: ArrayLike) -> Floats:
    """Answers (..., K) that hold for the shares `source` (K,), as they are where the shares are `prior` (K,)."""
    moved = np.asarray(probabilities, np.float64) * np.asarray(prior) / np.asarray(source)
    return moved / moved.sum(axis=-1, keepdims=True)


def estimate_prior(
    probabilities: ArrayLike,
    source: Mapping[str, float],
    groups: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> PriorShift:
    """The shares of the classes `source` {class: share in training} among answers (N, K), with intervals by group.

    Raises InputError where a class had no item in training: then nothing says what it looks like.
    """
    scores, shares = np.asarray(probabilities, np.float64), np.array(list(source.values()), np.float64)
    if scores.ndim != 2 or scores.shape[1] != len(shares) or not len(scores):
        raise InputError(f"prior shift: {scores.shape} answers do not go with {len(shares)} classes; give (N, K).")
    if not (shares > 0).all():
        empty = ", ".join(name for name, share in source.items() if not share > 0)
        raise InputError(f"prior shift: training had no item of {empty}, so its share cannot be told.")
    shares = shares / shares.sum()
    group = group_indices(groups, len(scores))
    rows = (row for block in bootstrap_weights(group, resamples, seed) for row in block)
    draws = np.array([fit_prior(scores, shares, row) for row in rows])
    target = {name: bootstrap_figure(draws[:, k], len(scores), group, "no answer") for k, name in enumerate(source)}
    known = dict(zip(source, shares.tolist(), strict=True))
    return PriorShift(known, target, len(scores), int(group.max()) + 1)
