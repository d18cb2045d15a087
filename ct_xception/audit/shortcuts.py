"""Shortcuts: how well the label, or the split, follows from what no radiologist would look at.

Three sets of numbers that hold no anatomy (the file's attributes, the grey levels without their places, the border
outside the body) and, where files tell it, how they were acquired. Each is given to a small forest of extremely
randomised trees (Geurts et al. 2006) in a cross-validation that keeps patients together, and scored by balanced
accuracy and by one-vs-rest AUC per class, with 95 % intervals from a bootstrap that draws whole patients. The single
attribute that separates a class best is named. A network can learn whatever these learn, and will.

The same question asked of the splits, class by class, finds a training set that is framed unlike the test set.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedGroupKFold

from ct_xception.checkpoint_files import Count, Metric, Stated
from ct_xception.metrics import ABSENT
from ct_xception.statistics.forest import forest_probabilities
from ct_xception.statistics.intervals import (
    RESAMPLES,
    bootstrap_figure,
    bootstrap_weights,
    group_indices,
    proportion_figure,
)
from ct_xception.statistics.metrics import count_scores, rank_scores

if TYPE_CHECKING:
    from ct_xception.audit.survey import Survey

FOLDS = 5
MOST_IMAGES = 5_000  # beyond, whole patients are drawn: the intervals are narrow enough
MOST_CLASSES = 20  # whose AUCs get an interval, those that follow best
MOST_VALUES = 12  # of an acquisition field that become columns; rarer ones are one more
MIN_GROUPS = 5  # patients on either side: with fewer, a difference between splits is one between people

FAMILIES = {
    "file_attributes": "the attributes of the file",
    "grey_statistics": "grey-level statistics",
    "border": "the border outside the body",
    "acquisition": "the window, the scanner's settings and the site",
}
NAMES = {
    "width": "width", "height": "height", "aspect": "aspect ratio", "megapixels": "number of megapixels",
    "file_bytes": "file size", "bytes_per_pixel": "bytes per pixel", "channels": "number of channels",
    "bit_depth": "bit depth", "is_png": "PNG format", "is_jpeg": "JPEG format", "is_tiff": "TIFF format",
    "is_bmp": "BMP format", "is_dicom": "DICOM format", "has_alpha": "alpha channel",
    "has_palette": "palette",
    "mean": "mean grey level", "sd": "standard deviation (sd) of the grey level",
    "entropy": "entropy of the grey level",
    "black_share": "share of pure black", "white_share": "share of pure white",
    "outside_share": "share of the picture outside the body", "outside_mean": "mean grey outside the body",
    "outside_sd": "sd of the grey outside the body", "outside_lit": "share of the outside that is not air",
    **{f"lit_{side}": f"share not air {side} the body" for side in ("above", "below")},
    **{f"lit_{side}": f"share not air {side} of the body" for side in ("left", "right")},
    **{f"margin_{side}": f"margin kept {side} the body" for side in ("above", "below")},
    **{f"margin_{side}": f"margin kept {side} of the body" for side in ("left", "right")},
}  # fmt: skip
YES_NO = {"is_png", "is_jpeg", "is_tiff", "is_bmp", "is_dicom", "has_alpha", "has_palette"}

Column = NDArray[np.float64]
Columns = Mapping[str, Column]


class SideMetric(Metric):
    """A metric of one side against the rest, and how many are on it."""

    positive: Count


def surely(metric: Metric) -> float:
    """The lower end of a metric's interval; the metric itself where every resample gives it, as at an AUC of 1."""
    return metric.low if metric.low is not None else metric.value or 0.0


class Separator(Stated):
    """The one attribute that parts a class from the rest best: its AUC, 0.5 to 1, and a threshold with what it leaves.

    `above` says on which side of the threshold the class lies; `hit` and `alarm` are the shares of the class and of
    the rest that lie there.
    """

    attribute: str
    name: str
    auc: SideMetric
    threshold: float
    above: bool
    hit: float
    alarm: float


class Shortcut(Stated):
    """What one family of numbers tells of the label; `reason` says why nothing was measured.

    `chance` is the balanced accuracy of a coin, 1 / K, and `majority` the accuracy of always naming the largest class.
    `auc` and `separators` are by class, one against the rest, for the MOST_CLASSES that follow best; `by_split` holds
    what parts the strongest class in each split alone.
    """

    family: str
    n: int
    groups: int
    chance: float
    majority: float
    balanced_accuracy: Metric = ABSENT
    accuracy: Metric = ABSENT
    auc: dict[str, SideMetric] = {}
    separators: dict[str, Separator] = {}
    by_split: dict[str, Separator] = {}
    reason: str = ""

    @property
    def strongest(self) -> str:
        """The class that follows best, by the lower end of its AUC's interval; empty where none was measured."""
        return max(self.auc, key=lambda label: surely(self.auc[label]), default="")

    def to_json(self) -> dict[str, Any]:
        """As JSON takes it, the strongest class beside the rest."""
        return super().to_json() | {"strongest": self.strongest}


class Shift(Stated):
    """One attribute that tells the training images of some classes from their test images, with shares by split.

    `classes` are those where it does so each for itself, with their AUCs; separator, `n` and shares are of them all.
    """

    family: str
    classes: dict[str, float]
    n: int
    separator: Separator
    shares: dict[str, float]
    counts: dict[str, int]


def families(survey: Survey) -> dict[str, Columns]:
    """The columns of each family that vary at all, by attribute."""
    found: dict[str, Columns] = {
        "file_attributes": survey.attributes,
        "grey_statistics": survey.statistics,
        "border": survey.border,
        "acquisition": _acquisition({"window": survey.windows} | survey.metadata),
    }
    readable = survey.readable
    varying = {
        family: {key: column for key, column in columns.items() if _varies(column[readable])}
        for family, columns in found.items()
    }
    return {family: columns for family, columns in varying.items() if columns}


def _varies(column: Column) -> bool:
    return bool(column.size) and bool(np.ptp(column) > 0)


def _acquisition(fields: Mapping[str, Sequence[str]]) -> dict[str, Column]:
    """One column of 0 and 1 for each frequent value of each field."""
    columns = {}
    for field, values in fields.items():
        texts = np.asarray(values, dtype=object).astype(str)
        found, counts = np.unique(texts, return_counts=True)
        if len(found) > 1:
            for value in found[np.argsort(-counts, kind="stable")][:MOST_VALUES]:
                columns[f"{field} {value or 'not stated'}"] = (texts == value).astype(np.float64)
    return columns


def find_shortcuts(survey: Survey, patients: Sequence[str], *, seed: int = 0) -> list[Shortcut]:
    """Ask each family of numbers for the label; `patients` (N,) are kept on one side of every fold."""
    chosen = _sample(survey.readable, patients, seed)
    subjects = Subjects(
        survey.labels[chosen],
        group_indices(patients, len(patients))[chosen],
        [survey.splits[index] for index in chosen.tolist()],
        survey.label_names,
    )
    return [
        ask_label(family, {key: column[chosen] for key, column in columns.items()}, subjects, seed=seed)
        for family, columns in families(survey).items()
    ]


def _sample(readable: NDArray[np.bool_], patients: Sequence[str], seed: int) -> NDArray[np.intp]:
    """Indices of what was read, of whole patients drawn at random where there is more than is needed."""
    found = np.flatnonzero(readable)
    if found.size <= MOST_IMAGES:
        return found
    groups = group_indices(patients, len(patients))
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    sizes = np.bincount(groups[found], minlength=groups.max() + 1)[order]
    drawn = order[: max(1, int(np.searchsorted(sizes.cumsum(), MOST_IMAGES)))]
    return found[np.isin(groups[found], drawn)]


@dataclass(frozen=True, eq=False)
class Subjects:
    """What is known of N images beside their numbers: labels (N,) as indices, groups (N,), splits and class names."""

    labels: NDArray[np.intp]
    groups: NDArray[np.intp]
    splits: list[str]
    label_names: list[str]


def ask_label(family: str, columns: Columns, subjects: Subjects, *, seed: int = 0) -> Shortcut:
    """Cross-validate one family, `columns` {attribute: (N,)}, against the labels, group by group."""
    labels, names = subjects.labels, subjects.label_names
    counts = np.bincount(labels, minlength=len(names))
    present = np.flatnonzero(counts)
    _, groups = np.unique(subjects.groups, return_inverse=True)
    majority = float(counts.max(initial=0) / max(len(labels), 1))
    asked: dict[str, Any] = {"family": family, "n": len(labels), "groups": int(groups.max(initial=-1)) + 1}
    asked |= {"chance": 1 / max(len(present), 1), "majority": majority}
    smallest = min((len(np.unique(groups[labels == label])) for label in present), default=0)
    if len(present) < 2 or smallest < 2:
        return Shortcut(**asked, reason="fewer than two classes with two patients each")
    scores = _out_of_fold(np.stack(list(columns.values()), axis=1), labels, groups, min(FOLDS, smallest), seed)
    weights = resample(groups, seed)
    answers = present[scores.argmax(axis=1)]
    once = np.ones((1, len(labels)))
    alone = [rank_scores(scores[:, place], labels == label, once)[0][0] for place, label in enumerate(present)]
    best = np.sort(np.argsort(-np.array(alone), kind="stable")[:MOST_CLASSES])
    auc = {
        names[present[place]]: auc_figure(scores[:, place], labels == present[place], groups, weights) for place in best
    }
    separators = {
        names[label]: best_separator(columns, labels == label, groups, weights) for label in present[best].tolist()
    }
    strongest = names.index(max(auc, key=lambda label: surely(auc[label])))
    recalls = np.nanmean(count_scores(labels, answers, len(names), weights)["recall"][:, present], axis=1)
    return Shortcut(
        **asked,
        balanced_accuracy=bootstrap_figure(recalls, len(labels), groups, ""),
        accuracy=proportion_figure(answers == labels, groups, ""),
        auc=auc,
        separators=separators,
        by_split=_by_split(columns, subjects, strongest, seed),
    )


def _by_split(columns: Columns, subjects: Subjects, label: int, seed: int) -> dict[str, Separator]:
    """The best separator of one class within each split that holds it and others."""
    splits, positive = np.array(subjects.splits, dtype=object), subjects.labels == label
    found = {}
    for split in dict.fromkeys(subjects.splits):
        inside = splits == split
        if 0 < positive[inside].sum() < inside.sum():
            _, groups = np.unique(subjects.groups[inside], return_inverse=True)
            part = {key: column[inside] for key, column in columns.items()}
            found[split] = best_separator(part, positive[inside], groups, resample(groups, seed))
    return found


def _out_of_fold(
    values: NDArray[np.float64], labels: NDArray[np.intp], groups: NDArray[np.intp], folds: int, seed: int
) -> NDArray[np.float64]:
    """Probabilities (N, K) of the classes present, each image's from a forest that saw none of its patient."""
    present = np.unique(labels)
    places, scores = np.searchsorted(present, labels), np.zeros((len(labels), len(present)))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # the folds then do with what there is
        for train, held_out in splitter.split(values, labels, groups):
            scores[held_out] = forest_probabilities(
                _extra_trees, values[train], places[train], values[held_out], len(present), seed=seed
            )
    return scores


def _extra_trees(trees: int, seed: int) -> ExtraTreesClassifier:
    return ExtraTreesClassifier(trees, min_samples_leaf=2, class_weight="balanced", random_state=seed, n_jobs=1)


def resample(groups: NDArray[np.intp], seed: int = 0) -> NDArray[np.float64]:
    """The data, then every resample of whole groups (N,), as weights (1 + RESAMPLES, N) for many figures."""
    return np.concatenate(list(bootstrap_weights(groups, RESAMPLES, seed)))


def auc_figure(
    scores: Column, positive: NDArray[np.bool_], groups: NDArray[np.intp], weights: NDArray[np.float64]
) -> SideMetric:
    """The AUROC of scores (N,) with its interval, by weights that `resample` gives, and how many are `positive`."""
    areas = rank_scores(scores, positive, weights)[0]
    found = bootstrap_figure(areas, len(scores), groups, "one side is empty")
    return SideMetric(**found.to_json(), positive=int(positive.sum()))


def best_separator(
    columns: Columns, positive: NDArray[np.bool_], groups: NDArray[np.intp], weights: NDArray[np.float64]
) -> Separator:
    """The attribute whose values alone part `positive` (N,) from the rest best, in either direction."""
    once = np.ones((1, len(positive)))
    aucs = {key: float(rank_scores(column, positive, once)[0][0]) for key, column in columns.items()}
    attribute = max(aucs, key=lambda key: abs(aucs[key] - 0.5))
    column, above = columns[attribute], aucs[attribute] >= 0.5
    threshold, hit, alarm = _threshold(column if above else -column, positive)
    return Separator(
        attribute=attribute,
        name=NAMES.get(attribute) or _percentile(attribute),
        auc=auc_figure(column if above else -column, positive, groups, weights),
        threshold=threshold if above else -threshold,
        above=above,
        hit=hit,
        alarm=alarm,
    )


def _percentile(attribute: str) -> str:
    number = attribute.removeprefix("p")
    return f"{int(number)}th percentile of the grey level" if number.isdecimal() else attribute


def _threshold(column: Column, positive: NDArray[np.bool_]) -> tuple[float, float, float]:
    """The threshold of the largest Youden index (1950), half-way between values, and the shares above it."""
    values = np.unique(column)
    between = (values[:-1] + values[1:]) / 2 if len(values) > 1 else values - 1
    if len(between) > 400:
        between = np.quantile(between, np.linspace(0, 1, 400))
    inside, outside = np.sort(column[positive]), np.sort(column[~positive])
    hits = 1 - np.searchsorted(inside, between, side="right") / len(inside)
    alarms = 1 - np.searchsorted(outside, between, side="right") / len(outside)
    best = int((hits - alarms).argmax())
    return float(between[best]), float(hits[best]), float(alarms[best])


def find_shifts(survey: Survey, patients: Sequence[str], *, seed: int = 0, least: float = 0.8) -> list[Shift]:
    """Where one attribute tells classes' training images from their test images, each class with an AUC surely above
    `least`: one shift per family at most. Nothing without a training and a test split.
    """
    groups = group_indices(patients, len(patients))
    shifts = [_shift(survey, family, columns, groups, seed, least) for family, columns in families(survey).items()]
    return [shift for shift in shifts if shift is not None]


def _shift(
    survey: Survey, family: str, columns: Columns, groups: NDArray[np.intp], seed: int, least: float
) -> Shift | None:
    splits = np.array(survey.splits, dtype=object)
    compared = survey.readable & np.isin(splits, ("train", "test"))
    classes = {}
    for label, name in enumerate(survey.label_names):
        separator = _train_from_test(columns, np.flatnonzero(compared & (survey.labels == label)), splits, groups, seed)
        if separator is not None and surely(separator.auc) >= least:
            classes[name] = separator.auc.value or 0.0
    shifted = np.isin(survey.labels, [survey.label_names.index(name) for name in classes])
    separator = _train_from_test(columns, np.flatnonzero(compared & shifted), splits, groups, seed)
    if not classes or separator is None:
        return None
    column, parts = columns[separator.attribute], {}
    for split in dict.fromkeys(survey.splits):
        parts[split] = column[survey.readable & shifted & (splits == split)]
    counts = {split: len(part) for split, part in parts.items()}
    shares = {split: _share(part, separator) for split, part in parts.items()}
    n = counts["train"] + counts["test"]
    return Shift(family=family, classes=classes, n=n, separator=separator, shares=shares, counts=counts)


def _train_from_test(
    columns: Columns, chosen: NDArray[np.intp], splits: NDArray[Any], groups: NDArray[np.intp], seed: int
) -> Separator | None:
    """The best separator of test from training images among those chosen; None with too few patients on a side."""
    if len(chosen) > MOST_IMAGES:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, MOST_IMAGES, replace=False))
    test = splits[chosen] == "test"
    if min(len(np.unique(groups[chosen[side]])) for side in (test, ~test)) < MIN_GROUPS:
        return None
    _, numbered = np.unique(groups[chosen], return_inverse=True)
    part = {key: column[chosen] for key, column in columns.items() if _varies(column[chosen])}
    return best_separator(part, test, numbered, resample(numbered, seed)) if part else None


def _share(column: Column, separator: Separator) -> float:
    """The share of values on the side of the threshold where the test images lie."""
    if not len(column):
        return 0.0
    return float((column > separator.threshold if separator.above else column < separator.threshold).mean())
