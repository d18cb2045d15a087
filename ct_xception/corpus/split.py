"""Training, validation and test splits that no group crosses.

Published splits are honoured: a corpus that has a test split keeps it, and only what is missing is carved out of the
training split. Everything carved is grouped (all images of a patient stay together) and stratified (every split has
every class, in about the corpus's proportions), by scikit-learn's StratifiedGroupKFold. The name of a split is a hash
of what lies in it, so that two figures carry one name only if they stand on the same images.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.corpus.labels import SPLITS
from ct_xception.errors import CorpusError, InputError

if TYPE_CHECKING:
    import datasets

ATTEMPTS = 8  # shuffles tried for a part that has every class


def make_splits(
    dataset: datasets.DatasetDict, *, fractions: Sequence[float] = (0.7, 0.15, 0.15), seed: int = 0
) -> tuple[datasets.DatasetDict, dict[str, Any]]:
    """Give a corpus its three splits, and their description for split.json.

    `fractions` are those of train, validation and test; they say how much is carved where a split is missing. The
    description holds `name` (12 hexadecimal digits), `protocol` ("published" where the corpus came with its test split,
    else "made"), `seed`, `counts` {split: images}, `groups` {split: groups}, `crossing_groups` (how many groups lie in
    two published splits; 0 if all was made here) and `sources` {split: [source, …]}.
    Raises CorpusError where the groups of a class are too few to be in every split, InputError for other fractions.
    """
    _check_fractions(fractions)
    if "train" not in dataset:
        raise CorpusError(["the corpus has no training split; say which folder is one with --split_map FOLDER=train"])
    parts = {split: dataset[split] for split in SPLITS if split in dataset}
    protocol = "published" if "test" in parts else "made"
    train, validation, test = fractions
    if "test" not in parts:
        left = 1.0 if "validation" not in parts else train + test
        parts |= _carve(parts["train"], "test", test / left, seed)
    if "validation" not in parts:
        parts |= _carve(parts["train"], "validation", validation / (train + validation), seed)
    ordered = type(dataset)({split: parts[split] for split in SPLITS})
    return ordered, describe_splits(ordered, protocol, seed)


def _check_fractions(fractions: Sequence[float]) -> None:
    whole = len(fractions) == 3 and all(0.0 < one < 1.0 for one in fractions) and math.isclose(sum(fractions), 1.0)
    if not whole:
        shown = "/".join(f"{one:g}" for one in fractions)
        raise InputError(f"the split fractions {shown} are not three above 0 that sum to 1; give 0.7/0.15/0.15, say.")


def _carve(train: datasets.Dataset, part: str, fraction: float, seed: int) -> dict[str, datasets.Dataset]:
    """Take a grouped, stratified part off the training split; both keep the order of their images."""
    labels, groups = np.array(list(train["label"])), np.array(list(train["group"]))
    taken = grouped_part(labels, groups, fraction, seed)
    if taken is None:
        raise CorpusError([_too_few(train, part, labels, groups)])
    chosen = np.zeros(len(labels), bool)
    chosen[taken] = True
    return {"train": train.select(np.flatnonzero(~chosen)), part: train.select(np.flatnonzero(chosen))}


def grouped_part(
    labels: NDArray[np.integer], groups: NDArray[np.str_], fraction: float, seed: int
) -> NDArray[np.integer] | None:
    """Indices of about `fraction` of the images, whole groups only, with every class on both sides; None if none is.

    `labels` (N,) class indices, `groups` (N,) names, `fraction` in (0, 1).
    """
    if fraction > 0.5:
        rest = grouped_part(labels, groups, 1.0 - fraction, seed)
        return None if rest is None else np.setdiff1d(np.arange(len(labels)), rest)
    most = min(max(2, round(1.0 / fraction)), len(set(groups.tolist())))
    for folds in range(most, 1, -1):  # fewer, larger folds where small ones cannot hold every class
        parts = [part for attempt in range(ATTEMPTS) for part in _folds(labels, groups, folds, seed + attempt)]
        off = [_imbalance(labels, part, fraction) for part in parts]
        if off and min(off) < math.inf:
            return np.sort(parts[off.index(min(off))])
    return None


def _folds(
    labels: NDArray[np.integer], groups: NDArray[np.str_], folds: int, seed: int
) -> list[NDArray[np.integer]]:
    """The folds' held-out indices; none where scikit-learn finds too few images for so many folds."""
    from sklearn.model_selection import StratifiedGroupKFold

    if folds > np.bincount(labels).max(initial=0):
        return []
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # _imbalance checks that
        return [held_out for _, held_out in splitter.split(labels, labels, groups)]


def _imbalance(labels: NDArray[np.integer], part: NDArray[np.integer], fraction: float) -> float:
    """How far, at worst, a class's share in a part is from the fraction wanted; infinite where one side lacks it."""
    whole, taken = np.bincount(labels), np.bincount(labels[part], minlength=int(labels.max()) + 1)
    present = whole > 0
    if (taken[present] == 0).any() or (taken[present] == whole[present]).any():
        return math.inf
    return float(np.abs(taken[present] / whole[present] - fraction).max())


def _too_few(train: datasets.Dataset, part: str, labels: NDArray[np.integer], groups: NDArray[np.str_]) -> str:
    names = train.features["label"].names
    numbers = {names[label]: len(set(groups[labels == label].tolist())) for label in set(labels.tolist())}
    fewest = min(numbers, key=lambda name: (numbers[name], name))
    said = f"no {part} split can be made without cutting a group: {fewest!r} has {numbers[fewest]} groups (patients)"
    return f"{said}; add patients, merge the class with --class_map, or bring a {part} split"


def describe_splits(dataset: Mapping[str, datasets.Dataset], protocol: str, seed: int) -> dict[str, Any]:
    """What split.json says of three splits."""
    sources = {split: list(part["source"]) for split, part in dataset.items()}
    groups = {split: set(part["group"]) for split, part in dataset.items()}
    times = Counter(name for names in groups.values() for name in names)
    return {
        "name": split_name(sources),
        "protocol": protocol,
        "seed": seed,
        "counts": {split: len(names) for split, names in sources.items()},
        "groups": {split: len(names) for split, names in groups.items()},
        "crossing_groups": sum(number > 1 for number in times.values()),
        "sources": sources,
    }


def split_name(sources: Mapping[str, Sequence[str]]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of {split: sorted sources}: the same wherever the same images are."""
    canonical = json.dumps({split: sorted(names) for split, names in sources.items()}, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
