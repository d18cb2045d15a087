"""Training, validation and test splits that no group crosses.

Published splits are honoured: a corpus that has a test split keeps it, and only what is missing is carved out of the
training split. Everything carved is grouped (all images of a patient stay together) and stratified (every split has
every class, in about the corpus's proportions), by scikit-learn's StratifiedGroupKFold. The name of a split is a hash
of what lies in it, so that two figures carry one name only if they stand on the same images.

A published split is one protocol among three. `deduplicated_test` takes out of it what training has seen; and
`grouped_folds` pools the whole corpus for a cross-validation in which every image is tested once, by a network that saw
no image of its group.
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

    from ct_xception.corpus.load import Corpus

MANY_CLASSES = 64
ATTEMPTS = 8  # shuffles tried for a part that has every class
PSEUDO_PATIENTS = "pseudo-patients from look-alike slices"
MERGED_PATIENTS = "{}, merged where they share a picture"


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


def _folds(labels: NDArray[np.integer], groups: NDArray[np.str_], folds: int, seed: int) -> list[NDArray[np.integer]]:
    """The folds' held-out indices; none where scikit-learn finds too few images for so many folds."""
    from sklearn.model_selection import StratifiedGroupKFold

    if folds > np.bincount(labels).max(initial=0):
        return []
    if len(np.unique(labels)) > MANY_CLASSES and (fast := _folds_of_groups(labels, groups, folds, seed)) is not None:
        return fast
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # _imbalance checks that
        return [held_out for _, held_out in splitter.split(labels, labels, groups)]


def _folds_of_groups(
    labels: NDArray[np.integer], groups: NDArray[np.str_], folds: int, seed: int
) -> list[NDArray[np.integer]] | None:
    """As `_folds`, by stratifying the groups themselves; None where a group has images of several classes.

    StratifiedGroupKFold weighs every class for every group and fold: with a thousand classes that takes minutes.
    """
    from sklearn.model_selection import StratifiedKFold

    names, first, of_group = np.unique(groups, return_index=True, return_inverse=True)
    if (labels != labels[first][of_group]).any():
        return None
    if folds > np.bincount(labels[first]).max(initial=0):
        return []
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        held = [part for _, part in splitter.split(names, labels[first])]
    return [np.flatnonzero(np.isin(of_group, part)) for part in held]


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
    alone, one = len(set(groups.tolist())) == groups.size, numbers[fewest] == 1
    said = f"no {part} split can be made without {'leaving a class out' if alone else 'cutting a group'}"
    unit = ("image" if one else "images") if alone else ("group (patient)" if one else "groups (patients)")
    said += f": {fewest!r} has {numbers[fewest]} {unit}"
    return f"{said}; add {'images' if alone else 'patients'}, merge the class with --class_map, or bring a {part} split"


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


def split_corpus(
    corpus: Corpus, patients: Mapping[str, str] | None, *, fractions: Sequence[float], seed: int
) -> tuple[datasets.DatasetDict, dict[str, Any], dict[str, Any]]:
    """The three splits of a loaded corpus, their description, and the corpus's report brought up to date.

    `patients` {source: name} are an audit's: they become the groups where the corpus itself knows none. The description
    is that of `make_splits` with `fractions` and `groups_origin`, what made can be made again by.
    """
    dataset, report = corpus.dataset, dict(corpus.report)
    if patients is not None and report["groups"]["origin"] is None:
        dataset = settle_groups(dataset, patients)
        report["groups"] = {"count": len(set(patients.values())), "origin": PSEUDO_PATIENTS}
    splits, split = make_splits(dataset, fractions=fractions, seed=seed)
    return splits, split | {"fractions": list(fractions), "groups_origin": report["groups"]["origin"]}, report


def merge_patients(
    dataset: datasets.DatasetDict, patients: Mapping[str, str] | None, origin: str | None
) -> tuple[datasets.DatasetDict, str | None]:
    """Splits whose groups, of that origin, share no picture by an audit's `patients`, and how such groups are called.

    A cross-validation needs it: one picture filed under two patients would be learnt in one fold and tested in another.
    """
    if patients is None or origin == PSEUDO_PATIENTS:
        return dataset, origin
    return settle_groups(dataset, patients), MERGED_PATIENTS.format(origin)


def settle_groups(dataset: datasets.DatasetDict, groups: Mapping[str, str]) -> datasets.DatasetDict:
    """The same images with the groups of `groups` {source: group}, which must name every source."""
    settled = {}
    for split, part in dataset.items():
        names = [groups[source] for source in part.select_columns(["source"])[:]["source"]]
        settled[split] = part.remove_columns("group").add_column("group", names).select_columns(part.column_names)
    return type(dataset)(settled)


def deduplicated_test(
    dataset: Mapping[str, datasets.Dataset], has_twin: NDArray[np.bool_]
) -> tuple[datasets.Dataset, dict[str, Any]]:
    """The test split without the items that have a twin in training or validation, and what metrics.json says of it.

    `has_twin` (M,) is in the order of the test split. The description holds `split_hash` (the name of the splits with
    that test part), `n`, `n_groups` and `removed`.
    """
    test = dataset["test"]
    if len(has_twin) != len(test):
        raise InputError(f"the twins of {len(has_twin)} items were given, and the test split holds {len(test)}.")
    kept = test.select(np.flatnonzero(~np.asarray(has_twin, bool)))
    sources = {split: list(part["source"]) for split, part in {**dataset, "test": kept}.items()}
    description = {
        "split_hash": split_name(sources),
        "n": len(kept),
        "n_groups": len(set(kept["group"])),
        "removed": len(test) - len(kept),
    }
    return kept, description


def grouped_folds(
    dataset: Mapping[str, datasets.Dataset], k: int, *, seed: int = 0, validation: float = 0.15
) -> tuple[list[datasets.DatasetDict], dict[str, Any]]:
    """The whole corpus, whatever splits it came with, in k grouped and stratified folds.

    Each fold is a DatasetDict: `test` is held out, `validation` is carved by groups from the rest, a share `validation`
    of the whole corpus, and `train` is what is left. Every image is in one fold's test part. The description holds
    `name` (a hash of the folds' names), `k`, `seed` and `folds` (each as `describe_splits` gives it).
    Raises CorpusError where the groups of a class are too few, InputError for fewer than two folds.
    """
    from datasets import DatasetDict, concatenate_datasets

    if k < 2:
        raise InputError(f"{k} folds are no cross-validation; give 2 or more.")
    pool = concatenate_datasets([dataset[split] for split in SPLITS if split in dataset])
    labels, groups = np.array(list(pool["label"])), np.array(list(pool["group"]))
    folds = []
    for held in _fold_parts(pool, labels, groups, k, seed):
        rest = np.setdiff1d(np.arange(len(labels)), held)
        fraction = min(validation / (1 - len(held) / len(labels)), 0.5)
        taken = grouped_part(labels[rest], groups[rest], fraction, seed)
        if taken is None:
            raise CorpusError([_too_few(pool.select(rest), "validation", labels[rest], groups[rest])])
        parts = {"train": np.delete(rest, taken), "validation": rest[taken], "test": held}
        folds.append(DatasetDict({split: pool.select(rows) for split, rows in parts.items()}))
    described = [describe_splits(fold, "grouped", seed) for fold in folds]
    return folds, {"name": _name_of_names(described), "k": k, "seed": seed, "folds": described}


def _fold_parts(
    pool: datasets.Dataset, labels: NDArray[np.integer], groups: NDArray[np.str_], k: int, seed: int
) -> list[NDArray[np.integer]]:
    """The k held-out parts, of the shuffle whose worst fold is the best; a fold may lack a class, its rest may not."""
    attempts = ATTEMPTS if k <= len(set(groups.tolist())) else 0
    shuffles = [_folds(labels, groups, k, seed + attempt) for attempt in range(attempts)]
    worst = [max((_held_imbalance(labels, part, 1 / k) for part in parts), default=math.inf) for parts in shuffles]
    if not worst or min(worst) == math.inf:
        raise CorpusError([_too_few(pool, f"{k}-fold", labels, groups)])
    return [np.sort(part) for part in shuffles[worst.index(min(worst))]]


def _held_imbalance(labels: NDArray[np.integer], part: NDArray[np.integer], fraction: float) -> float:
    """As `_imbalance`, but infinite only where the rest would lack a class, or the part is empty."""
    whole, taken = np.bincount(labels), np.bincount(labels[part], minlength=int(labels.max()) + 1)
    present = whole > 0
    if len(part) == 0 or (taken[present] == whole[present]).any():
        return math.inf
    return float(np.abs(taken[present] / whole[present] - fraction).max())


def _name_of_names(described: Sequence[Mapping[str, Any]]) -> str:
    names = json.dumps([fold["name"] for fold in described])
    return hashlib.sha256(names.encode()).hexdigest()[:12]
