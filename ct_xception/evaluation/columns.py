"""What the columns beside the images are worth: with and without them, and beside rules that see them alone."""

from __future__ import annotations

import numpy as np

from ct_xception.checkpoint_files import Metric
from ct_xception.evaluation.answers import PREDICTOR, WITHHELD
from ct_xception.evaluation.baselines import COLUMN_RULES
from ct_xception.evaluation.protocols import Part
from ct_xception.metrics import ColumnMetrics
from ct_xception.statistics.comparison import compare


def column_figures(part: Part, seed: int) -> ColumnMetrics | None:
    """The predictor's accuracy less that without its columns, and less that of the better rule on the columns alone.

    Both are paired, on the items answered both ways, with intervals by group. None where nothing was answered.
    """
    given, withheld = part.paths[PREDICTOR], part.paths[WITHHELD]
    kept = given.answered & withheld.answered
    if not kept.any():
        return None
    items = part.items.select(kept)

    def less(other: np.ndarray) -> Metric:
        return compare(items.labels, given.probabilities[kept], other[kept], items.groups, seed=seed).difference

    rules = {name: part.baselines[name] for name in COLUMN_RULES if name in part.baselines}
    if not rules:
        return ColumnMetrics(withheld=less(withheld.probabilities))
    right = {name: float((scores[kept].argmax(axis=1) == items.labels).mean()) for name, scores in rules.items()}
    best = max(right, key=lambda name: right[name])
    return ColumnMetrics(withheld=less(withheld.probabilities), rule=best, alone=less(rules[best]))
