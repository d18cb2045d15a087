"""Where a classifier errs: the same accuracy by window, size, source split, likeness to training, scanner, patient.

A subgroup is a few items and luck; each figure therefore carries its n and its interval by group, and one is called low
only where its whole interval lies below the accuracy of all items, and where it is more than a handful of them. Which
one is the worst is chosen among all of them, so its chance is that of the worst of as many where none matters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint_files import Metric
from ct_xception.statistics.intervals import group_indices, proportion_figure

if TYPE_CHECKING:
    from ct_xception.audit.survey import Survey

SIDES = (128, 256, 384, 512, 768, 1024)  # pixels of the shorter side at which a new subgroup begins
LIKENESS = (0.95, 0.85)  # correlation with the most alike training image: a twin, probably the same patient
MOST_VALUES = 8  # of one trait that are shown by name
MOST_PATIENTS = 10
LEAST_ITEMS, LEAST_GROUPS = 10, 3  # below, an interval is too rough to call a subgroup anything
UNKNOWN = "not stated"
OTHERS = "other values"


@dataclass(frozen=True, eq=False)
class Trait:
    """One thing that parts the items: its name, its value for each of the N, and the order to show the values in.

    Without `order` the commonest value is shown first. `note` explains the values to a reader.
    """

    name: str
    values: list[str]
    order: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Subgroup:
    """The items of one value: `accuracy` {figure}, `confusions` (true, predicted, count), the commonest first.

    `low` says that they are at least LEAST_ITEMS of LEAST_GROUPS, and their whole interval lies below the accuracy of
    all items.
    """

    value: str
    n: int
    n_groups: int
    accuracy: Metric
    confusions: tuple[tuple[str, str, int], ...]
    low: bool


def survey_traits(survey: Survey, rows: NDArray[np.intp]) -> list[Trait]:
    """What the survey tells of its items `rows`: source split, window, size, format, and what DICOM states."""
    traits = [
        Trait("source split", [survey.splits[row] for row in rows], ("train", "validation", "test")),
        Trait("window", [survey.windows[row] or UNKNOWN for row in rows]),
        size_trait(survey.attributes["width"][rows], survey.attributes["height"][rows]),
        Trait("file format", _formats(survey, rows)),
    ]
    for name, values in survey.metadata.items():
        traits.append(Trait(name, [values[row] or UNKNOWN for row in rows]))
    return traits


def size_trait(width: NDArray[np.float64], height: NDArray[np.float64]) -> Trait:
    """The shorter side in pixels, (N,) each, in steps of SIDES."""
    shorter = np.minimum(width, height)
    names = [f"below {SIDES[0]} px"]
    names += [f"{low} to {high - 1} px" for low, high in zip(SIDES, SIDES[1:], strict=False)]
    names += [f"{SIDES[-1]} px or more"]
    place = np.searchsorted(SIDES, shorter, side="right")
    values = [names[step] if known else UNKNOWN for step, known in zip(place, np.isfinite(shorter), strict=True)]
    return Trait("shorter side of the picture", values, tuple(names))


def likeness_trait(likeness: NDArray[np.floating]) -> Trait:
    """How alike the most alike training image is: correlations (N,) of body crops in [-1, 1]."""
    near, same = LIKENESS
    names = (f"r {near} or more", f"r {same} to {near}", f"r below {same}")
    values = [names[0] if r >= near else names[1] if r >= same else names[2] for r in likeness]
    note = f"Correlation with it, body crop against body crop; from {near} on they are all but the same slice."
    return Trait("most alike training image", values, names, note)


def _formats(survey: Survey, rows: NDArray[np.intp]) -> list[str]:
    flags = [(name[3:].upper(), column) for name, column in survey.attributes.items() if name.startswith("is_")]
    return [next((name for name, column in flags if column[row] == 1), UNKNOWN) for row in rows]


def subgroup_figures(
    trait: Trait,
    labels: NDArray[np.intp],
    predicted: NDArray[np.intp],
    label_names: Sequence[str],
    groups: Sequence[Any] | None = None,
) -> list[Subgroup]:
    """Accuracy and confusions by the trait's value, for labels and predictions (N,) in 0 to K - 1."""
    hits, group = predicted == labels, group_indices(groups, labels.size)
    values = np.array(_merged(trait), dtype=object)
    found = []
    for value in _ordered(trait, values.tolist()):
        own = values == value
        accuracy = proportion_figure(hits[own], group[own], "no item")
        n, n_groups = int(own.sum()), np.unique(group[own]).size
        enough = n >= LEAST_ITEMS and n_groups >= LEAST_GROUPS
        low = enough and (accuracy.high or 0) < float(hits.mean())
        wrong = own & ~hits
        confusions = confusions_of(labels[wrong], predicted[wrong], label_names)
        found.append(Subgroup(value, n, n_groups, accuracy, confusions, low))
    return found


@dataclass(frozen=True)
class Worst:
    """The subgroup that lies furthest below the others, of `compared` that were large enough to be looked at.

    `chance` is how often the worst of as many subgroups lies as far below where no trait goes with the hits: corrected
    for all that were tried, and for what they have in common.
    """

    trait: str
    subgroup: Subgroup
    rest: float
    chance: float
    compared: int


def find_worst(
    traits: Sequence[Trait],
    labels: NDArray[np.intp],
    predicted: NDArray[np.intp],
    label_names: Sequence[str],
    groups: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    draws: int = 1000,
) -> Worst | None:
    """The worst subgroup of all traits; None where none is large enough, or nothing is wrong.

    The statistic of a subgroup is how far its patients' mean accuracy lies below that of the others, in standard
    errors; its largest value over all subgroups is compared with those of `draws` in which whole patients' accuracies
    are dealt out anew (Westfall & Young 1993, max-T).
    """
    hits, group = predicted == labels, group_indices(groups, labels.size)
    shares = np.bincount(group, weights=hits) / np.bincount(group)
    names, masks = list[tuple[Trait, str]](), list[NDArray[np.float64]]()
    for trait in traits:
        values = np.array(_merged(trait), dtype=object)
        for value in _ordered(trait, values.tolist()):
            own = values == value
            members = np.bincount(group, weights=own) > 0
            if own.sum() >= LEAST_ITEMS and LEAST_GROUPS <= members.sum() <= len(shares) - LEAST_GROUPS:
                names.append((trait, value))
                masks.append(np.bincount(group, weights=own) / np.bincount(group))
    if not masks or hits.all():
        return None
    weights = np.array(masks)
    found = _gaps(weights, shares[None])[0]
    rng = np.random.default_rng(seed)
    dealt = np.stack([rng.permutation(shares) for _ in range(draws)])
    most = _gaps(weights, dealt).max(axis=1)
    worst = int(found.argmax())
    chance = float((1 + (most >= found[worst] - 1e-12).sum()) / (1 + draws))
    trait, value = names[worst]
    row = next(one for one in subgroup_figures(trait, labels, predicted, label_names, groups) if one.value == value)
    outside = np.array(_merged(trait), dtype=object) != value
    return Worst(trait.name, row, float(hits[outside].mean()), chance, len(masks))


def _gaps(weights: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far below the rest each of S subgroups lies, in standard errors, in each of D draws: (D, S).

    `weights` (S, G) are what share of each patient's items lies in the subgroup, `shares` (D, G) how many are right.
    """
    inside, outside = weights.sum(axis=1), (1 - weights).sum(axis=1)
    gap = shares @ (1 - weights).T / outside - shares @ weights.T / inside
    spread = shares.std(axis=1, ddof=1, keepdims=True)
    return np.asarray(gap / np.maximum(spread * np.sqrt(1 / inside + 1 / outside), 1e-12))


def confusions_of(
    labels: NDArray[np.intp], predicted: NDArray[np.intp], label_names: Sequence[str]
) -> tuple[tuple[str, str, int], ...]:
    """(true, predicted, count) of these answers, the commonest first, then in class order."""
    counted = Counter(zip(labels.tolist(), predicted.tolist(), strict=True))
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return tuple((label_names[true], label_names[called], count) for (true, called), count in ranked)


def _merged(trait: Trait) -> list[str]:
    """The values, the rarest beyond MOST_VALUES under one name."""
    counted = Counter(trait.values)
    if trait.order or len(counted) <= MOST_VALUES:
        return trait.values
    kept = {value for value, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[: MOST_VALUES - 1]}
    return [value if value in kept else OTHERS for value in trait.values]


def _ordered(trait: Trait, values: list[str]) -> list[str]:
    counted = Counter(values)
    place = {value: step for step, value in enumerate(trait.order)}
    last = {OTHERS: 1, UNKNOWN: 2}
    return sorted(counted, key=lambda value: (last.get(value, 0), place.get(value, len(place)), -counted[value], value))


@dataclass(frozen=True)
class Patient:
    """One group with mistakes: its items, how many of them were answered right, its confusions."""

    name: str
    n: int
    right: int
    confusions: tuple[tuple[str, str, int], ...]


def worst_groups(
    labels: NDArray[np.intp], predicted: NDArray[np.intp], label_names: Sequence[str], groups: Sequence[str]
) -> list[Patient]:
    """The groups of several items with the most mistakes, at most MOST_PATIENTS; empty where each item is its own."""
    members = np.asarray(groups, dtype=object)
    wrong = predicted != labels
    mistakes, sizes = Counter(members[wrong].tolist()), Counter(members.tolist())
    ranked = sorted(mistakes, key=lambda name: (-mistakes[name], sizes[name], str(name)))
    found = []
    for name in [name for name in ranked if sizes[name] > 1][:MOST_PATIENTS]:
        own = wrong & (members == name)
        confusions = confusions_of(labels[own], predicted[own], label_names)
        found.append(Patient(str(name), sizes[name], sizes[name] - mistakes[name], confusions))
    return found
