"""Questions that the classes mix: "cancer or normal", and "which cancer", each answered by itself.

A corpus in which one class is of another make (other scanners, other windows) flatters every figure over all classes.
With class groups, given by the user and never assumed, the problem falls into one between the groups and one within
each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct_xception.errors import InputError
from ct_xception.metrics import ClassificationMetrics, QuestionMetrics
from ct_xception.statistics.intervals import RESAMPLES
from ct_xception.statistics.metrics import check_answers, classification_metrics

ClassGroups = Mapping[str, Sequence[str]]


def partition_classes(class_groups: ClassGroups, label_names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Every class in exactly one group: those given, in their order, then each class left over as its own group.

    Raises InputError for a group without classes, an unknown class, one in two groups, a name used twice, and where
    fewer than two groups come out.
    """
    groups = {str(name): tuple(classes) for name, classes in class_groups.items()}
    grouped = [name for classes in groups.values() for name in classes]
    empty = [name for name, classes in groups.items() if not classes]
    unknown = sorted(set(grouped) - set(label_names))
    twice = sorted({name for name in grouped if grouped.count(name) > 1})
    rest = [name for name in label_names if name not in grouped]
    if empty:
        raise InputError(f"Class group {empty[0]!r} holds no class; name at least one.")
    if unknown:
        raise InputError(
            f"Class groups name unknown classes ({', '.join(unknown)}); there are {', '.join(label_names)}."
        )
    if twice:
        raise InputError(f"Class groups hold {', '.join(twice)} more than once; a class belongs to one group.")
    if clash := sorted(set(rest) & set(groups)):
        raise InputError(f"Class group {clash[0]!r} has the name of a class outside it; give it another name.")
    if len(groups) + len(rest) < 2:
        raise InputError(f"Class group {next(iter(groups))!r} holds every class: nothing is left to tell it from.")
    return groups | {name: (name,) for name in rest}


def question_figures(
    probabilities: ArrayLike,
    labels: ArrayLike,
    label_names: Sequence[str],
    class_groups: ClassGroups,
    groups: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> QuestionMetrics:
    """The metrics of each question on probabilities (N, K) and labels (N,).

    `groups`: classification_metrics of the problem between the groups, probabilities summed. `within` {group: …} for
    every group of two classes or more: classification_metrics on the items that truly are of the group, with
    probabilities given that they are; n is 0 where the split holds none.
    """
    scores, truth = check_answers(probabilities, labels, label_names)
    columns = {
        name: np.array([list(label_names).index(member) for member in members])
        for name, members in partition_classes(class_groups, label_names).items()
    }
    drawn: dict[str, Any] = {"seed": seed, "resamples": resamples}
    summed = np.stack([scores[:, own].sum(axis=1) for own in columns.values()], axis=1)  # (N, G)
    collapsed = np.array([np.isin(truth, own) for own in columns.values()]).argmax(axis=0)
    return QuestionMetrics(
        groups=classification_metrics(summed, collapsed, list(columns), groups, **drawn),
        within={
            name: _within(scores, truth, own, label_names, groups, drawn)
            for name, own in columns.items()
            if len(own) > 1
        },
    )


def _within(
    scores: NDArray[np.float64],
    truth: NDArray[np.intp],
    own: NDArray[np.intp],
    label_names: Sequence[str],
    groups: Sequence[Any] | None,
    drawn: Mapping[str, Any],
) -> ClassificationMetrics:
    """The metrics of one group's own classes on its own items."""
    kept = np.isin(truth, own)
    if not kept.any():
        return ClassificationMetrics(n=0)
    parts = scores[kept][:, own]
    total = parts.sum(axis=1, keepdims=True)
    # Where the network gives the whole group nothing it does not tell its classes apart either.
    given = np.divide(parts, total, out=np.full_like(parts, 1 / own.size), where=total > 0)
    labels = (truth[kept][:, None] == own).argmax(axis=1)
    items = None if groups is None else [group for group, keep in zip(groups, kept, strict=True) if keep]
    return classification_metrics(given, labels, [label_names[k] for k in own], items, **drawn)
