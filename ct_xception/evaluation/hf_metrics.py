"""The figures as `evaluate` modules that need no network.

    from ct_xception.evaluation.hf_metrics import load
    load("macro_f1").compute(predictions=[[0.9, 0.1], [0.2, 0.8]], references=[0, 1])

`evaluate.load("…/hf_metrics.py", "macro_f1")` on this file gives the same, and `combine(["accuracy", "log_loss"])`
several at once. Kept out of metrics.py because `import evaluate` takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from ct_xception.errors import InputError
from ct_xception.metrics import ClassificationMetrics
from ct_xception.statistics.intervals import RESAMPLES
from ct_xception.statistics.metrics import CLASS_FIGURES, OVERALL_FIGURES, classification_metrics

PER_CLASS = tuple(f"per_class_{name}" for name in CLASS_FIGURES)
MODULES = (*OVERALL_FIGURES, *PER_CLASS, "confusion_matrix")


class ClassificationFigure(evaluate.Metric):
    """One of MODULES, chosen by `config_name` (accuracy when none is given), with its n and 95 % interval.

    `compute(predictions, references)` takes probabilities (N, K), rows summing to 1, and labels (N,) from 0 to K - 1,
    and gives {figure, figure_low, figure_high, figure_n}; per class each is a list in class order, None if undefined.
    Options of `compute`: `groups` (N,), `seed`, `resamples`. The confusion matrix is bare counts, [true][predicted].
    """

    def _info(self) -> evaluate.MetricInfo:
        if self.figure not in MODULES:
            raise InputError(f"{self.figure!r} is no figure of ours; choose from {', '.join(MODULES)}.")
        features = {"predictions": datasets.List(datasets.Value("float64")), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=f"{self.figure.replace('_', ' ')} with its 95 % interval",
            citation="",
            inputs_description="predictions: probabilities of the K classes; references: the true class, 0 to K - 1",
            features=datasets.Features(features),
        )

    @property
    def figure(self) -> str:
        """Which of MODULES this is."""
        return "accuracy" if self.config_name == "default" else self.config_name

    def _compute(
        self,
        predictions: Any,
        references: Any,
        groups: Sequence[Any] | None = None,
        seed: int = 0,
        resamples: int = RESAMPLES,
    ) -> dict[str, Any]:
        scores = np.asarray(predictions, dtype=np.float64)
        names = [str(k) for k in range(scores.shape[-1])]
        figures = classification_metrics(scores, references, names, groups, seed=seed, resamples=resamples)
        if self.figure == "confusion_matrix":
            return {self.figure: figures.confusion_matrix}
        return self._named(figures)

    def _named(self, figures: ClassificationMetrics) -> dict[str, Any]:
        keys = {self.figure: "value", **{f"{self.figure}_{part}": part for part in ("low", "high", "n")}}
        if self.figure in PER_CLASS:
            own = [getattr(one, self.figure.removeprefix("per_class_")) for one in figures.per_class.values()]
            return {key: [getattr(metric, part) for metric in own] for key, part in keys.items()}
        return {key: getattr(getattr(figures, self.figure), part) for key, part in keys.items()}


def load(figure: str) -> ClassificationFigure:
    """The module of one of MODULES; InputError names them when it is none."""
    return ClassificationFigure(config_name=figure)


def combine(figures: Sequence[str] = MODULES) -> evaluate.CombinedEvaluations:
    """Several figures in one `compute` call, merged into one dictionary."""
    return evaluate.combine([load(figure) for figure in figures])
