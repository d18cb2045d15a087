"""The figures of external validation: what is measured on other corpora, beside the same question at home."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint import EXTERNAL, METRICS
from ct_xception.checkpoint_files import PoolingRule, Side
from ct_xception.evaluation.answers import PREDICTOR
from ct_xception.evaluation.gate_fit import gate_figures
from ct_xception.evaluation.patients import BY_PATIENT, BY_SERIES, knows_patients, unit_figures
from ct_xception.evaluation.predictions import Names, write_predictions
from ct_xception.evaluation.protocols import Part
from ct_xception.evaluation.shift.questions import Question
from ct_xception.metrics import ClassificationMetrics, ExternalMetrics, GateShares, PathMetrics, UnitMetrics
from ct_xception.serving.gate import REFUSED
from ct_xception.statistics.conformal import conformal_figures
from ct_xception.statistics.metrics import classification_metrics

FIGURES = (
    "paths",
    "gate",
    "passed",
    "conformal",
    "own",
    BY_PATIENT,
    BY_SERIES,
)  # of a block; what else stands there is the plan's record


@dataclass(frozen=True, eq=False)
class Validation:
    """An external corpus with what was answered: `part` has alternatives for classes. `names` are published."""

    part: Part
    question: Question
    names: Names
    record: Mapping[str, Any]


def validation_figures(
    one: Validation,
    paths: Mapping[str, PathMetrics],
    own: Part | None,
    label_names: Sequence[str],
    side: Side,
    seed: int,
) -> ExternalMetrics:
    """The block of metrics.json of one external corpus, whose `paths` were measured as any protocol's.

    `own` is the part of the headline protocol, None where nothing was measured at home.
    """
    part = one.part
    verdicts = [part.paths[PREDICTOR].verdicts.get(source) for source in part.items.sources]
    block: dict[str, Any] = {}
    gate = None if side.gate is None else gate_figures(side.gate, verdicts, part.items.groups)
    if gate is not None and gate.refused is not None and gate.doubtful is not None:
        block["gate"] = GateShares(refused=gate.refused, doubtful=gate.doubtful)
        kept = np.array([verdict not in (None, REFUSED) for verdict in verdicts], bool)
        block["passed"] = _metrics(part, kept, list(one.question.alternatives), seed)
    rule = side.conformal
    if one.question.by_class and rule is not None and (rule.threshold is not None or rule.thresholds is not None):
        answers, labels, groups = part.answered()
        if len(labels):
            block["conformal"] = conformal_figures(rule, answers, labels, label_names, groups, seed=seed)
    block |= _by_unit(one, side.pooling, seed)
    if own is not None:
        block["own"] = own_figures(own, one, label_names, seed)
    record = {**one.record, "paths": {path: found.to_json() for path, found in paths.items()}}
    return ExternalMetrics.of(record, METRICS).model_copy(update=block)


def _by_unit(one: Validation, rule: PoolingRule | None, seed: int) -> dict[str, UnitMetrics]:
    """`by_patient` and `by_series`, where these are known; slices of a question between groups are pooled as such.

    The rule of pooling is the checkpoint's; what it decides by is about its classes alone.
    """
    known = knows_patients({"groups": {"origin": one.record["groups_origin"]}})
    if rule is not None and not one.question.by_class:
        rule = rule.with_(conformal=None, operating_points=None, abstention=None)
    names = list(one.question.alternatives)
    found = unit_figures({"external": one.part}, rule, names, patients_known=known, seed=seed)
    return {unit: figures["external"] for unit, figures in found.items()}


def own_figures(own: Part, one: Validation, label_names: Sequence[str], seed: int) -> ClassificationMetrics:
    """The same question asked at home: on the own items that are of alternatives which the other corpus holds."""
    alternatives = list(one.question.alternatives)
    place = {member: k for k, name in enumerate(alternatives) for member in one.question.alternatives[name]}
    labels = np.array([place[name] for name in label_names], np.intp)[own.items.labels]
    items = own.items.with_labels(labels)
    paths = {PREDICTOR: one.question.collapse_answers(own.paths[PREDICTOR], label_names)}
    return _metrics(Part(items, paths), np.isin(labels, np.unique(one.part.items.labels)), alternatives, seed)


def _metrics(part: Part, mask: NDArray[np.bool_], names: Sequence[str], seed: int) -> ClassificationMetrics:
    """The predictor's metrics on the items where `mask` (N,) is true; n is 0 where it answered none."""
    scores, labels, groups = part.select(mask).answered()
    if not len(labels):
        return ClassificationMetrics(n=0)
    return classification_metrics(scores, labels, names, groups, seed=seed)


def write_external_answers(folder: Path, elsewhere: Mapping[str, Validation], *, clear: bool = True) -> None:
    """The answers on external corpora, a parquet file each; `clear` removes those of an older evaluation."""
    if clear:
        shutil.rmtree(folder / EXTERNAL, ignore_errors=True)
    for name, one in elsewhere.items():
        path = folder / EXTERNAL / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_predictions(path, one.part, list(one.question.alternatives), one.names)


def private_names(file: Path, name: str) -> Path:
    """Beside the file of the own corpus's names, that of an external corpus."""
    return file.with_name(f"{file.stem}_{name}{file.suffix}")
