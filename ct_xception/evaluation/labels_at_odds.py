"""Which labels of a corpus are at odds with answers that never saw the patient: for whoever mends the corpus.

The answers are those of the grouped cross-validation; where it did not run, of a logistic regression on the starting
network's frozen features, in folds that keep patients (and look-alikes) whole. The list names files: it stays in the
run folder, beside errors.html.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from ct_xception.checkpoint import LABELS_AT_ODDS
from ct_xception.evaluation.answers import Answers, Items
from ct_xception.evaluation.baselines import linear_probabilities
from ct_xception.files import write_json
from ct_xception.statistics.label_issues import find_label_issues

if TYPE_CHECKING:
    from ct_xception.audit.survey import Survey

FOLDS = 5
BY_NETWORKS = "the networks of the cross-validation"
BY_FEATURES = f"a logistic regression on frozen features, in {FOLDS} folds"

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Held:
    """Items with answers (N, K) that no model gave that had seen their group; `by` says whose answers they are."""

    items: Items
    probabilities: Floats
    by: str


@dataclass(frozen=True)
class AtOdds:
    """A label held for wrong: what it is, what is `suggested`, and the probability of each."""

    source: str
    group: str
    label: str
    suggested: str
    probability: float
    probability_suggested: float


@dataclass(frozen=True)
class LabelsAtOdds:
    """The labels at odds of `n` items in `n_groups` groups, the least believable first."""

    by: str
    n: int
    n_groups: int
    found: tuple[AtOdds, ...]


def hold_answers(
    grouped: tuple[Items, Answers] | None,
    survey: Survey | None,
    patients: Mapping[str, str],
    features: NDArray | None,
    seed: int,
) -> Held | None:
    """Answers to hold the labels against; None where there are neither folds nor features, or too few patients.

    `grouped` are those of a grouped cross-validation's networks, in place of any others.
    """
    if grouped is not None:
        items, answers = grouped
        return Held(items.select(answers.answered), answers.probabilities[answers.answered], BY_NETWORKS)
    if survey is None or features is None:
        return None
    rows = np.flatnonzero(survey.readable)
    sources = [survey.sources[row] for row in rows]
    items = Items(np.asarray(survey.labels)[rows], [patients[source] for source in sources], sources)
    answers_of = feature_answers(items, features[rows], len(survey.label_names), seed)
    return None if answers_of is None else Held(items, answers_of, BY_FEATURES)


def feature_answers(items: Items, features: NDArray, classes: int, seed: int) -> Floats | None:
    """Out-of-fold answers (N, K) by features (N, C), no group in two folds; None where groups are fewer than FOLDS."""
    groups = np.asarray(items.groups, dtype=object).astype(str)
    if len(set(groups)) < FOLDS or np.bincount(items.labels, minlength=classes).max() < FOLDS:
        return None
    answers = np.zeros((len(groups), classes))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(features, items.labels, groups):
        answers[test] = linear_probabilities(
            features[train], items.labels[train], features[test], classes, groups=groups[train], seed=seed
        )
    return answers


def find_labels_at_odds(held: Held, label_names: Sequence[str]) -> LabelsAtOdds:
    """The items whose label confident learning holds for wrong."""
    issues, items = find_label_issues(held.probabilities, held.items.labels), held.items
    found = tuple(
        AtOdds(
            items.sources[row],
            items.groups[row],
            label_names[items.labels[row]],
            label_names[issues.suggested[row]],
            float(held.probabilities[row, items.labels[row]]),
            float(held.probabilities[row, issues.suggested[row]]),
        )
        for row in issues.order
        if issues.at_odds[row]
    )
    return LabelsAtOdds(held.by, len(items.sources), len(set(items.groups)), found)


def write_labels_at_odds(folder: Path, found: LabelsAtOdds) -> None:
    """Write labels_at_odds.json: by whose answers, of how many items, and every label at odds."""
    record: dict[str, Any] = {"format": 1, "by": found.by, "n": found.n, "n_groups": found.n_groups}
    write_json(folder / LABELS_AT_ODDS, record | {"at_odds": [asdict(one) for one in found.found]})
