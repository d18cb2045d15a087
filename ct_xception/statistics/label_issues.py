"""Labels at odds with what others foretell: items ranked by how far out-of-fold answers speak against their label.

Confident learning (Northcutt, Jiang & Chuang 2021, doi:10.1613/jair.1.12125): an item is at odds where another class
than its own is as probable as that class mostly is on its own items. Ranked by the normalised margin, the probability
of the label less the highest of any other class. Answers must come from models that saw none of the item's group, or
they repeat the label that they learnt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct_xception.statistics.metrics import check_answers


@dataclass(frozen=True, eq=False)
class LabelIssues:
    """All N items, the least believable label first: `order` (N,) of rows, and by row the rest.

    `suggested` (N,) is the most probable other class, `margin` (N,) in [-1, 1] the label's probability less that one's,
    `at_odds` (N,) whether confident learning holds the label for wrong.
    """

    order: NDArray[np.intp]
    suggested: NDArray[np.intp]
    margin: NDArray[np.float64]
    at_odds: NDArray[np.bool_]


def find_label_issues(probabilities: ArrayLike, labels: ArrayLike) -> LabelIssues:
    """Rank items by out-of-fold answers (N, K) against their labels (N,). Raises InputError on shapes and ranges."""
    shape = np.shape(probabilities)
    scores, truth = check_answers(probabilities, labels, [str(k) for k in range(shape[1] if len(shape) == 2 else 2)])
    rows, classes = np.arange(truth.size), scores.shape[1]
    own = scores[rows, truth]
    others = np.where(np.arange(classes) == truth[:, None], -np.inf, scores)
    suggested = others.argmax(axis=1)
    margin = own - others[rows, suggested]
    usual = np.array([scores[truth == k, k].mean() if (truth == k).any() else np.inf for k in range(classes)])
    confident = np.where(scores >= usual, scores, -np.inf)
    at_odds = np.isfinite(confident.max(axis=1)) & (confident.argmax(axis=1) != truth) & (margin < 0)
    return LabelIssues(np.lexsort((rows, margin)), suggested, margin, at_odds)
