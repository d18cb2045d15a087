"""A checkpoint's rules of deciding fitted anew on a few labelled cases of a site, and what they are worth there.

    check_enough(cases, label_names)
    refit = refit_rules(cases, probabilities, before, label_names)
    refit.rules, refit.figures()

What is said of the new rules is measured out of fold: a case is decided on by rules that were fitted without its
patient. The old rules never saw the site, and are measured on the same cases. Intervals keep patients whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint_files import ConformalRule, Metric, PointRule, Rules
from ct_xception.errors import InputError, printable
from ct_xception.evaluation.answers import Answers, Items
from ct_xception.evaluation.rules import fit_rules
from ct_xception.statistics.calibration import apply_temperature, calibration_figures
from ct_xception.statistics.conformal import set_members
from ct_xception.statistics.intervals import bootstrap_mean, group_indices, proportion_figure
from ct_xception.statistics.metrics import classification_metrics
from ct_xception.statistics.pooling import deal_folds, members_of, pool_units, unit_labels

FOLDS = 5
LEAST_PATIENTS, LEAST_A_CLASS = 20, 5
FITTED_ON = "labelled cases of a new site"  # as FittedOn calls them, and the terminal

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cases:
    """N labelled slices of a site: labels are indices into the network's classes, groups its patients."""

    items: Items
    patients_known: bool

    @property
    def groups(self) -> NDArray[np.intp]:
        """The patients by number, (N,)."""
        return group_indices(self.items.groups, len(self.items.groups))

    @property
    def noun(self) -> str:
        """What its groups are."""
        return "patients" if self.patients_known else "groups of look-alikes"


def check_enough(cases: Cases, label_names: Sequence[str], what: str) -> None:
    """Raise InputError, one sentence, where there are too few cases to fit rules on and to see what they are worth."""
    count = len(set(cases.items.groups))
    held = {
        name: len({group for group, label in zip(cases.items.groups, cases.items.labels, strict=True) if label == k})
        for k, name in enumerate(label_names)
    }
    few = [f"{number} of {printable(name)}" for name, number in held.items() if 0 < number < LEAST_A_CLASS]
    if count >= LEAST_PATIENTS and not few and sum(number > 0 for number in held.values()) > 1:
        return
    found = f"{count} {cases.noun}" + (f", {' and '.join(few)}" if few else "")
    raise InputError(
        f"{what}: {found} among {len(cases.items.labels):,} slices that are answered, and {LEAST_PATIENTS} in all with "
        f"{LEAST_A_CLASS} of each class, of two or more, are the least to fit on and to measure; label more."
    )


@dataclass(frozen=True, eq=False)
class Decided:
    """What rules make of N answers: `scores` (N, K), sets `members` (N, K), None where none are promised, and `called`.

    `called` {name: (N,)} is the yes of each operating point that has a threshold; `labels` and `groups` are (N,).
    """

    scores: Floats
    labels: NDArray[np.intp]
    groups: NDArray[np.intp]
    members: NDArray[np.bool_] | None
    called: Mapping[str, NDArray[np.bool_]]

    def figures(self, label_names: Sequence[str], points: Sequence[PointRule], seed: int) -> dict[str, Any]:
        """{metric: Metric} and, of each operating point that was applied to all, {name: its two}."""
        found = classification_metrics(self.scores, self.labels, label_names, self.groups.tolist(), seed=seed)
        ece = calibration_figures(self.scores, self.labels, self.groups.tolist(), seed=seed).ece
        told: dict[str, Any] = {name: getattr(found, name) for name in ("accuracy", "balanced_accuracy", "macro_auroc")}
        told |= {"log_loss": found.log_loss, "ece": ece}
        if self.members is not None:
            inside = self.members[np.arange(len(self.labels)), self.labels]
            told["coverage"] = proportion_figure(inside, self.groups, "no item")
            told["set_size"] = bootstrap_mean(self.members.sum(axis=1).astype(float), self.groups, "no item", seed=seed)
        told["points"] = {
            one.name: _rates(self.called[one.name], np.isin(self.labels, _indices(one, label_names)), self.groups)
            for one in points
            if one.name in self.called
        }
        return told


def _indices(point: PointRule, label_names: Sequence[str]) -> list[int]:
    return [list(label_names).index(name) for name in point.positive]


def _rates(called: NDArray[np.bool_], own: NDArray[np.bool_], groups: NDArray[np.intp]) -> dict[str, Metric]:
    return {
        "sensitivity": proportion_figure(called[own], groups[own], "no case of these classes"),
        "specificity": proportion_figure(~called[~own], groups[~own], "no case of the others"),
    }


def _decide(
    scores: Floats,
    labels: NDArray[np.intp],
    groups: NDArray[np.intp],
    conformal: ConformalRule | None,
    points: Sequence[PointRule],
    label_names: Sequence[str],
) -> Decided:
    promised = conformal is not None and (conformal.threshold is not None or bool(conformal.thresholds))
    members = set_members(scores, conformal, label_names) if promised and conformal is not None else None
    called = {
        one.name: scores[:, _indices(one, label_names)].sum(axis=1) >= one.threshold
        for one in points
        if one.threshold is not None
    }
    return Decided(scores, labels, groups, members, called)


def _join(parts: Sequence[Decided]) -> Decided:
    """Folds together; sets and points that a fold could not have are left out."""
    members = [part.members for part in parts if part.members is not None]
    names = set.intersection(*(set(part.called) for part in parts))
    return Decided(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.groups for part in parts]),
        np.concatenate(members) if len(members) == len(parts) else None,
        {name: np.concatenate([part.called[name] for part in parts]) for name in names},
    )


@dataclass(frozen=True, eq=False)
class Refit:
    """The rules fitted on all cases, and what the old ones (`before`) and the new (`after`, out of fold) decide.

    `rows` are the cases in the order of both; the last two are by patient, None where patients are not known.
    """

    rules: Rules
    label_names: Sequence[str]
    rows: NDArray[np.intp]
    fold: NDArray[np.intp]
    before: Decided
    after: Decided
    patients_before: Decided | None = None
    patients_after: Decided | None = None

    def figures(self, seed: int = 0) -> dict[str, Any]:
        """{"before", "after", "difference"} by slice, and the same under "by_patient" where patients are known."""
        points = self.rules.operating_points
        found = _compare(self.before, self.after, self.label_names, points, seed)
        if self.patients_before is not None and self.patients_after is not None:
            own = self.rules.pooling.operating_points if self.rules.pooling else ()
            found["by_patient"] = _compare(self.patients_before, self.patients_after, self.label_names, own, seed)
        return found


def _compare(
    before: Decided, after: Decided, label_names: Sequence[str], points: Sequence[PointRule], seed: int
) -> dict[str, Any]:
    return {
        "n": len(after.labels),
        "n_groups": len(np.unique(after.groups)),
        "before": before.figures(label_names, points, seed),
        "after": after.figures(label_names, points, seed),
        "difference": paired_differences(before.scores, after.scores, after.labels, after.groups, seed),
    }


def paired_differences(
    before: Floats, after: Floats, labels: NDArray[np.intp], groups: NDArray[np.intp], seed: int
) -> dict[str, Metric]:
    """After less before, case by case: of the log-loss (below 0 is better) and of the accuracy, intervals by group."""
    rows, group = np.arange(len(labels)), group_indices(groups, len(labels))
    least = np.finfo(np.float64).eps
    loss = [-np.log(np.maximum(scores[rows, labels], least)) for scores in (before, after)]
    hits = [(scores.argmax(axis=1) == labels).astype(float) for scores in (before, after)]
    return {
        name: bootstrap_mean(new - old, group, "no case", seed=seed)
        for name, (old, new) in {"log_loss": loss, "accuracy": hits}.items()
    }


def fold_of(cases: Cases, seed: int) -> NDArray[np.intp]:
    """The fold of each case (N,), from 0: patients whole, every class dealt out evenly by their first."""
    members = list(members_of(cases.items.groups).values())
    fold = np.empty(len(cases.items.labels), np.intp)
    for rows, number in zip(members, deal_folds(cases.items.labels[[rows[0] for rows in members]], seed), strict=True):
        fold[rows] = number
    return fold


def refit_rules(
    cases: Cases,
    before: Floats,
    answers: Floats,
    rules: Rules,
    label_names: Sequence[str],
    *,
    coverage: float,
    attention: tuple[Floats | None, Floats | None] = (None, None),
    seed: int = 0,
) -> Refit:
    """Fit rules on the answers (N, K) to all cases, and decide on each by the old rules and by those of other folds.

    `before` (N, K) are the answers that the old `rules` decide on; those of another network, where that changed.
    `attention` are what slices count (N,) for the old rules and for the new, where that was learnt; `coverage` is that
    of the sets. Where classes were promised each their own, they are again.
    """
    options: dict[str, Any] = {
        "coverage": coverage,
        "class_groups": rules.class_groups,
        "patients_known": cases.patients_known,
        "by_class": bool(rules.conformal and rules.conformal.thresholds),
        "seed": seed,
    }
    fold = fold_of(cases, seed)
    parts, pooled = list[tuple[Decided, Decided]](), list[tuple[Decided | None, Decided | None]]()
    for number in range(FOLDS):
        out = fold == number
        own = _fit(cases, ~out, answers, attention[1], label_names, options)
        scaled = apply_temperature(answers[out], own.temperature)
        old = _by_slice(cases, out, before[out], rules, label_names)
        parts.append((old, _by_slice(cases, out, scaled, own, label_names)))
        pooled.append(
            (
                _by_patient(cases, out, before[out], rules, attention[0], label_names),
                _by_patient(cases, out, scaled, own, attention[1], label_names),
            )
        )
    old_units, new_units = ([unit for unit in side if unit is not None] for side in zip(*pooled, strict=True))
    fitted = _fit(cases, np.ones(len(fold), bool), answers, attention[1], label_names, options)
    return Refit(
        fitted,
        label_names,
        np.concatenate([np.flatnonzero(fold == number) for number in range(FOLDS)]),
        fold,
        *(_join([part[side] for part in parts]) for side in (0, 1)),
        *(_join(units) if units else None for units in (old_units, new_units)),
    )


def _fit(
    cases: Cases,
    mask: NDArray[np.bool_],
    answers: Floats,
    attention: Floats | None,
    label_names: Sequence[str],
    options: Mapping[str, Any],
) -> Rules:
    items, scored = cases.items.select(mask), None if attention is None else attention[mask]
    rules = fit_rules(items, Answers(answers[mask], attention=scored), label_names, **options)
    assert rules.calibration is not None
    return rules.model_copy(update={"calibration": rules.calibration.model_copy(update={"split": FITTED_ON})})


def _by_slice(
    cases: Cases, mask: NDArray[np.bool_], scores: Floats, rules: Rules, label_names: Sequence[str]
) -> Decided:
    labels, groups = cases.items.labels[mask], cases.groups[mask]
    return _decide(scores, labels, groups, rules.conformal, rules.operating_points, label_names)


def _by_patient(
    cases: Cases,
    mask: NDArray[np.bool_],
    scores: Floats,
    rules: Rules,
    attention: Floats | None,
    label_names: Sequence[str],
) -> Decided | None:
    """The same of each patient's slices pooled; None where patients are not known. Of several classes none is right."""
    if not cases.patients_known:
        return None
    scored = None if attention is None else attention[mask]
    pooled = pool_units(scores, cases.groups[mask].tolist(), rules.pooling, scored)
    truth, rule = unit_labels(cases.items.labels[mask], pooled.members), rules.pooling
    asked, names = truth >= 0, np.array([int(name) for name in pooled.names], np.intp)
    if not asked.any():
        return None
    conformal, points = (None, ()) if rule is None else (rule.conformal, rule.operating_points)
    return _decide(pooled.probabilities[asked], truth[asked], names[asked], conformal, points, label_names)
