"""Forests of trees over many classes: grown and asked in parts, so that memory does not grow with the classes.

A tree keeps a count of every class at every node: 100 trees of 5,000 items and 1,000 classes take 3 GB.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

TREES = 100
CLASSES_A_PART = 50  # up to so many classes all trees are grown at once


class Forest(Protocol):
    """A classifier of scikit-learn's."""

    classes_: NDArray

    def fit(self, values: NDArray, labels: NDArray) -> object: ...

    def predict_proba(self, values: NDArray) -> NDArray[np.float64]: ...


def forest_probabilities(
    make: Callable[[int, int], Forest],
    values: NDArray,
    labels: NDArray,
    asked: NDArray,
    count: int,
    *,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Probabilities (M, `count`) for `asked` (M, C), by TREES trees on `values` (N, C) with labels (N,) below `count`.

    `make(trees, seed)` gives a forest that was not fitted yet; a class that no label names gets 0.
    """
    number = min(TREES, math.ceil(len(np.unique(labels)) / CLASSES_A_PART))
    probabilities = np.zeros((len(asked), count))
    for part, trees in enumerate(map(len, np.array_split(np.arange(TREES), number))):
        forest = make(trees, (seed + part) % 2**32)
        forest.fit(values, labels)
        probabilities[:, forest.classes_] += trees / TREES * forest.predict_proba(asked)
    return probabilities
