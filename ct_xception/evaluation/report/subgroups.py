"""Where a classifier errs: the same accuracy by window, size, source split, likeness to training, scanner, patient.

A subgroup is a few items and luck; each figure therefore carries its n and its interval by group, and one is called low
only where its whole interval lies below the accuracy of all items, and where it is more than a handful of them. Which
one is the worst is chosen among all of them, so its chance is that of the worst of as many where none matters:

    block = subgroup_metrics(part, seed=0)      # `subgroups` of metrics.json, by protocol
    describe_worst(block, "patients")
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint_files import Metric
from ct_xception.evaluation.answers import PREDICTOR
from ct_xception.metrics import SubgroupMetrics, WorstSubgroup
from ct_xception.statistics.intervals import group_indices, proportion_figure

if TYPE_CHECKING:
    from ct_xception.audit.survey import Survey
    from ct_xception.evaluation.protocols import Part

SIDES = (128, 256, 384, 512, 768, 1024)  # pixels of the shorter side at which a new subgroup begins
LIKENESS = (0.95, 0.85)  # correlation with the most alike training image: a twin, probably the same patient
MOST_VALUES = 8  # of one trait that are shown by name
MOST_PATIENTS = 10
LEAST_ITEMS, LEAST_GROUPS = 10, 3  # below, an interval is too rough to call a subgroup anything
DRAWS = 1000  # in which whole patients' accuracies are dealt out anew
BEYOND_CHANCE = 0.05
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

    def select(self, rows: NDArray[np.intp]) -> Trait:
        """Of the items `rows`."""
        return replace(self, values=[self.values[row] for row in rows])


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


def published_traits(traits: Sequence[Trait]) -> dict[str, list[str]]:
    """{trait: its values for each of N items} of what parts them, the rarest under one name: `Part.traits`."""
    merged = {trait.name: _merged(trait) for trait in traits}
    return {name: values for name, values in merged.items() if len(set(values)) > 1}


def subgroup_metrics(part: Part, *, seed: int = 0, draws: int = DRAWS) -> SubgroupMetrics | None:
    """The worst subgroup of all traits of the items that the predictor answered; None where no trait is known.

    The statistic of a subgroup is how far its patients' mean accuracy lies below that of the others, in standard
    errors; its largest value over all subgroups is compared with those of `draws` in which whole patients' accuracies
    are dealt out anew (Westfall & Young 1993, max-T).
    """
    scores, labels, groups = part.answered()
    if not part.traits or not labels.size:
        return None
    hits, group = scores.argmax(axis=1) == labels, group_indices(groups, labels.size)
    kept = part.paths[PREDICTOR].answered
    subgroups = _large_enough({name: np.asarray(part.traits[name])[kept] for name in part.traits}, group)
    found = SubgroupMetrics(traits=tuple(part.traits), compared=len(subgroups))
    if not subgroups or hits.all():
        return found
    place, chance = _furthest_below([one.own for one in subgroups], hits, group, seed, draws)
    one = subgroups[place]
    worst = WorstSubgroup(
        trait=one.trait,
        value=one.value,
        n=int(one.own.sum()),
        n_groups=np.unique(group[one.own]).size,
        accuracy=proportion_figure(hits[one.own], group[one.own], "no item"),
        rest=proportion_figure(hits[~one.own], group[~one.own], "no item"),
        chance=chance,
    )
    return found.model_copy(update={"worst": worst})


class _Parted(NamedTuple):
    """The value of a trait, and which of N items have it."""

    trait: str
    value: str
    own: NDArray[np.bool_]


def _large_enough(traits: Mapping[str, NDArray[Any]], group: NDArray[np.intp]) -> list[_Parted]:
    """The subgroups that are more than a handful of items and patients, with a handful of patients outside."""
    most, found = np.unique(group).size - LEAST_GROUPS, list[_Parted]()
    for trait, values in traits.items():
        for value in np.unique(values):
            own = values == value
            if own.sum() >= LEAST_ITEMS and LEAST_GROUPS <= np.unique(group[own]).size <= most:
                found.append(_Parted(trait, str(value), own))
    return found


def _furthest_below(
    subgroups: Sequence[NDArray[np.bool_]], hits: NDArray[np.bool_], group: NDArray[np.intp], seed: int, draws: int
) -> tuple[int, float]:
    """Which of S subgroups (N,) lies furthest below the rest, and in what share of draws the worst lies as far."""
    sizes = np.bincount(group)
    shares = np.bincount(group, weights=hits) / sizes
    weights = np.array([np.bincount(group, weights=own) / sizes for own in subgroups])
    found = _gaps(weights, shares[None])[0]
    rng = np.random.default_rng(seed)
    dealt = np.stack([rng.permutation(shares) for _ in range(draws)])
    most = _gaps(weights, dealt).max(axis=1)
    # The first of those that tie but for the last digit, so that another machine names the same.
    place = int(np.argmax(found >= found.max() - 1e-9))
    return place, float((1 + (most >= found[place] - 1e-9).sum()) / (1 + draws))


def _gaps(weights: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far below the rest each of S subgroups lies, in standard errors, in each of D draws: (D, S).

    `weights` (S, G) are what share of each patient's items lies in the subgroup, `shares` (D, G) how many are right.
    """
    inside, outside = weights.sum(axis=1), (1 - weights).sum(axis=1)
    gap = shares @ (1 - weights).T / outside - shares @ weights.T / inside
    spread = shares.std(axis=1, ddof=1, keepdims=True)
    return np.asarray(gap / np.maximum(spread * np.sqrt(1 / inside + 1 / outside), 1e-12))


def describe_subgroups(blocks: Mapping[str, SubgroupMetrics], patients_known: bool) -> dict[str, str]:
    """{protocol: its worst subgroup in a sentence}."""
    members = "patients" if patients_known else "groups"
    return {name: describe_worst(block, members) for name, block in blocks.items()}


def describe_worst(found: SubgroupMetrics, members: str) -> str:
    """The worst subgroup in a sentence, with how many were looked at; `members` are what slices are grouped by."""
    if not found.compared:
        within = f"{LEAST_ITEMS} slices of {LEAST_GROUPS} {members}"
        return f"No subgroup was looked at: none has {within}, with as many {members} outside it."
    several = found.compared > 1
    if (worst := found.worst) is None:
        looked = f"any of the {found.compared:,} subgroups" if several else "the one subgroup"
        return f"No answer is wrong in {looked} looked at."
    if (worst.accuracy.value or 0) >= (worst.rest.value or 0):
        none = f"None of the {found.compared:,} subgroups looked at lies"
        return f"{none if several else 'The one subgroup looked at does not lie'} below all others."
    looked = f"Worst of {found.compared:,} subgroups" if several else "The one subgroup"
    verdict = "beyond chance" if worst.chance < BEYOND_CHANCE else "not beyond chance"
    corrected = f" after correction for all {found.compared:,}" if several else ""
    unsaid = "; the intervals are not corrected" if several else ""
    counted = f"n = {worst.n:,} slices of {worst.n_groups:,} {members}"
    return (
        f"{looked} looked at: {worst.trait}, {worst.value}: {_right(worst.accuracy, counted)}, beside "
        f"{_right(worst.rest)} of all others: {verdict}{corrected} (p = {worst.chance:.2g}{unsaid})."
    )


def _right(figure: Metric, *counted: str) -> str:
    value, low, high = (100 * (part or 0) for part in (figure.value, figure.low, figure.high))
    return f"{value:.1f} % right ({'; '.join((f'95 % interval {low:.1f} to {high:.1f}', *counted))})"


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
