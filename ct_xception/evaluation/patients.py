"""The patient as the unit: how slices are pooled into an answer, by validation patients, and what that is worth.

    rule = fit_unit_rules(items, probabilities, label_names, patients_known=True, …)   # key `pooling` of the side file
    blocks = unit_figures(parts, rules, label_names, patients_known=True, seed=0)         # by_patient, by_series

A patient whose slices are of several classes has no one right answer: it is left out of the figures, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint_files import PoolingRule
from ct_xception.corpus.split import PSEUDO_PATIENTS
from ct_xception.evaluation.answers import PREDICTOR, Answers, Items
from ct_xception.evaluation.protocols import GROUPED, Part
from ct_xception.metrics import ClassificationMetrics, PooledBy, UnitCalibration, UnitMetrics
from ct_xception.serving.decisions import POOLING_VERSION
from ct_xception.statistics.calibration import calibration_figures
from ct_xception.statistics.class_groups import ClassGroups
from ct_xception.statistics.conformal import conformal_figures, fit_conformal
from ct_xception.statistics.metrics import classification_metrics
from ct_xception.statistics.operating import (
    abstention_figures,
    choose_abstention,
    choose_operating_points,
    operating_figures,
    sensitivity_figures,
)
from ct_xception.statistics.pooling import POOLS, Units, fit_pooling, pool_units, unit_labels

PATIENT, SERIES, SLICE = "patient", "series", "slice"
BY_PATIENT, BY_SERIES = "by_patient", "by_series"
SERIES_ORIGIN = "series"  # of groups that are series, as corpus.groups calls it

Floats = NDArray[np.float64]
FoldRules = Mapping[int, PoolingRule | PooledBy | None]


def knows_patients(corpus: Mapping[str, Any] | None) -> bool:
    """Whether a corpus, by its report, says which images are of one patient; look-alikes and series do not."""
    origin = ((corpus or {}).get("groups") or {}).get("origin")
    return bool(origin) and origin != SERIES_ORIGIN and not str(origin).startswith(PSEUDO_PATIENTS)


def units_of(items: Items, *, patients_known: bool) -> dict[str, list[str]]:
    """What slices can be pooled by, {"patient" or "series": N names}; only what is known of every item.

    A series that is no part of one patient is none: its slices of each patient are one.
    """
    units = {PATIENT: list(items.groups)} if patients_known else {}
    if items.series and all(items.series):
        pairs = zip(items.groups, items.series, strict=True)
        units[SERIES] = [f"{group}\0{series}" if patients_known else series for group, series in pairs]
    return units


def fit_unit_rules(
    items: Items,
    probabilities: Floats,
    label_names: Sequence[str],
    *,
    patients_known: bool,
    coverage: float,
    class_groups: ClassGroups | None = None,
    crossing: bool = False,
    by_class: bool = False,
    attention: Floats | None = None,
    seed: int = 0,
) -> PoolingRule | None:
    """The side file's `pooling`, from calibrated answers (N, K) to validation slices; None where no unit is known.

    Fitted on patients, on series where only those are known; a series is then pooled as its patient would be. The rules
    of deciding are fitted on the pooled answers. `crossing` and `by_class` as in `rules.fit_rules`; where patients
    cross, no sets are promised. `attention` (N,) are the scores of one that training patients taught.
    """
    units = units_of(items, patients_known=patients_known)
    if not units:
        return None
    unit, names = next(iter(units.items()))
    fitted = fit_pooling(probabilities, items.labels, names, attention=attention, seed=seed)
    rule = PoolingRule.of({"version": POOLING_VERSION, "unit": unit} | fitted)
    pooled = pool_units(probabilities, names, rule, attention)
    truth = unit_labels(items.labels, pooled.members)
    scores, truth = pooled.probabilities[truth >= 0], truth[truth >= 0]
    if rule.losses is None:
        return rule
    decided: dict[str, Any] = {
        "operating_points": choose_operating_points(scores, truth, label_names, class_groups or None),
        "abstention": choose_abstention(scores, truth, label_names),
    }
    if not crossing:
        decided["conformal"] = fit_conformal(scores, truth, coverage, by_class=label_names if by_class else None)
    return rule.model_copy(update=decided)


def describe_rule(rule: PoolingRule) -> PooledBy:
    """What metrics.json says of a rule of pooling: all that pools with it, and what it was fitted on."""
    return PooledBy(**{key: value for key, value in rule.to_json().items() if key in PooledBy.model_fields})


def unit_figures(
    parts: Mapping[str, Part],
    rule: PoolingRule | None,
    label_names: Sequence[str],
    *,
    patients_known: bool,
    seed: int = 0,
) -> dict[str, dict[str, UnitMetrics]]:
    """`by_patient` and `by_series` of metrics.json, {protocol: figures} of the predictor; {} where none is known."""
    blocks: dict[str, dict[str, UnitMetrics]] = {}
    for protocol, part in parts.items():
        for unit, names in units_of(part.items, patients_known=patients_known).items():
            rules = part.pooling if protocol == GROUPED else None
            found = _figures_by(part, names, rule, label_names, rules, seed)
            if unit == PATIENT and found.n:
                found = found.model_copy(update={"beside": _beside(part, names, rule, label_names, seed)})
            blocks.setdefault(f"by_{unit}", {})[protocol] = found
    return blocks


def _figures_by(
    part: Part,
    names: Sequence[str],
    rule: PoolingRule | None,
    label_names: Sequence[str],
    fold_rules: FoldRules | None,
    seed: int,
) -> UnitMetrics:
    """The figures of one protocol, a row a unit; those of other folds' networks are pooled by their own rules."""
    kept = part.paths[PREDICTOR].answered
    labels, scores = part.items.labels[kept], part.paths[PREDICTOR].probabilities[kept]
    scored = part.paths[PREDICTOR].attention
    attention = None if scored is None else scored[kept]
    units = [name for name, keep in zip(names, kept, strict=True) if keep]
    groups = [name for name, keep in zip(part.items.groups, kept, strict=True) if keep]
    folds = None if fold_rules is None or part.fold is None else part.fold[kept]
    if folds is None:
        pooled = pool_units(scores, units, rule, attention)
    else:
        pooled = _pool_by_fold(scores, units, folds, fold_rules or {}, attention)
    truth = unit_labels(labels, pooled.members)
    asked = truth >= 0
    head: dict[str, Any] = {
        "n": int(asked.sum()),
        "n_slices": int(sum(len(rows) for rows, one in zip(pooled.members, asked, strict=True) if one)),
        "several": sum(len(rows) > 1 for rows in pooled.members),
        "mixed": int((~asked).sum()),
        "refused": len(set(names)) - len(pooled.names),
    }
    if not asked.any():
        return UnitMetrics(**head)
    owners = [groups[rows[0]] for rows, one in zip(pooled.members, asked, strict=True) if one]
    own_rule = None if fold_rules is not None else rule
    found = _measure(pooled.probabilities[asked], truth[asked], label_names, owners, own_rule, seed)
    return UnitMetrics(**found | head)


def _beside(
    part: Part, names: Sequence[str], rule: PoolingRule | None, label_names: Sequence[str], seed: int
) -> dict[str, ClassificationMetrics]:
    """What else answered the same slices, a row a patient: pooled alike, but without attention or a temperature."""
    plain = None if rule is None or POOLS[rule.method].learnt else rule.with_(temperature=1.0)
    others = {path: answers.probabilities for path, answers in part.paths.items() if path != PREDICTOR}
    found = dict[str, ClassificationMetrics]()
    for name, scores in {**others, **part.baselines}.items():
        kept = np.isfinite(scores).all(axis=1)
        units = [unit for unit, keep in zip(names, kept, strict=True) if keep]
        pooled = pool_units(scores[kept], units, plain)
        truth = unit_labels(part.items.labels[kept], pooled.members)
        if (asked := truth >= 0).any():
            owners = [unit for unit, one in zip(pooled.names, asked, strict=True) if one]
            found[name] = classification_metrics(
                pooled.probabilities[asked], truth[asked], label_names, owners, seed=seed
            )
    return found


def pooled_answers(
    items: Items, answers: Answers, rule: PooledBy | None
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Pooled answers (G, K) and classes (G,) of the patients with one class, for a figure."""
    kept = answers.answered
    units = [name for name, keep in zip(items.groups, kept, strict=True) if keep]
    attention = None if answers.attention is None else answers.attention[kept]
    pooled = pool_units(answers.probabilities[kept], units, rule, attention)
    truth = unit_labels(items.labels[kept], pooled.members)
    return pooled.probabilities[truth >= 0], truth[truth >= 0]


def _pool_by_fold(
    scores: Floats, units: Sequence[str], folds: NDArray[np.intp], rules: FoldRules, attention: Floats | None
) -> Units:
    """As `pool_units`, each unit by the rule of the fold that its first slice lies in: no patient lies in two."""
    found = pool_units(scores, units, None)
    rows = []
    for members in found.members:
        own = None if attention is None else attention[members]
        rule = rules.get(int(folds[members[0]]))
        rows.append(pool_units(scores[members], [""] * len(members), rule, own).probabilities[0])
    return Units(found.names, np.array(rows).reshape(found.probabilities.shape), found.members)


def _measure(
    scores: Floats,
    truth: NDArray[np.intp],
    names: Sequence[str],
    owners: Sequence[str],
    rule: PoolingRule | None,
    seed: int,
) -> dict[str, Any]:
    """Everything about G pooled answers (G, K); rules of deciding are measured where they are this network's own."""
    calibration = calibration_figures(scores, truth, owners, seed=seed)
    metrics = classification_metrics(scores, truth, names, owners, seed=seed)
    found: dict[str, Any] = {name: getattr(metrics, name) for name in metrics.model_fields_set}
    found["calibration"] = UnitCalibration(
        **{name: getattr(calibration, name) for name in UnitCalibration.model_fields}
    )
    found["sensitivity_at"] = sensitivity_figures(scores, truth, names, owners, seed=seed)
    if rule is None:
        return found
    found["rule"] = describe_rule(rule)
    if rule.conformal is not None:
        found["conformal"] = conformal_figures(rule.conformal, scores, truth, names, owners, seed=seed)
    if rule.operating_points:
        found["operating_points"] = operating_figures(rule.operating_points, scores, truth, names, owners)
    if rule.abstention is not None:
        found["abstention"] = abstention_figures(rule.abstention, scores, truth, names, owners)
    return found
