"""Splits: grouped, stratified, named, and published ones left alone."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_xception.corpus.split import (
    deduplicated_test,
    grouped_folds,
    grouped_part,
    make_splits,
    settle_groups,
    split_name,
)
from ct_xception.errors import CorpusError, InputError


def part(labels: list[int], groups: list[str], prefix: str = "", classes: int = 2) -> datasets.Dataset:
    features = datasets.Features(
        label=datasets.ClassLabel(names=[f"class {index}" for index in range(classes)]),
        group=datasets.Value("string"),
        source=datasets.Value("string"),
    )
    sources = [f"{prefix}{index}.png" for index in range(len(labels))]
    return datasets.Dataset.from_dict({"label": labels, "group": groups, "source": sources}, features=features)


def corpus(patients: int, slices: int = 3, classes: int = 2, prefix: str = "") -> datasets.Dataset:
    labels = [index % classes for index in range(patients) for _ in range(slices)]
    groups = [f"{prefix}P{index}" for index in range(patients) for _ in range(slices)]
    return part(labels, groups, prefix, classes)


def groups_of(dataset: datasets.DatasetDict) -> dict[str, set[str]]:
    return {split: set(one["group"]) for split, one in dataset.items()}


def test_splits_are_made_whole_patients_at_a_time():
    made, description = make_splits(datasets.DatasetDict(train=corpus(40)), seed=1)
    groups = groups_of(made)
    assert list(made) == ["train", "validation", "test"]
    assert sum(len(one) for one in groups.values()) == 40 == len(set.union(*groups.values()))
    assert sum(len(one) for one in made.values()) == 120
    for split, share in {"train": 0.7, "validation": 0.15, "test": 0.15}.items():
        assert abs(len(made[split]) / 120 - share) < 0.06
        counts = np.bincount(list(made[split]["label"]))
        assert counts.min() / counts.max() > 0.6
    assert (description["protocol"], description["crossing_groups"]) == ("made", 0)


def test_the_same_seed_the_same_split_another_another():
    data = datasets.DatasetDict(train=corpus(30))
    one, two, other = (make_splits(data, seed=seed)[1] for seed in (3, 3, 4))
    assert one == two and one["name"] != other["name"] and one["sources"] != other["sources"]


def test_published_splits_are_left_alone():
    train, validation = part([0, 1, 0], ["p", "q", "r"], "t"), part([0], ["s"], "v")
    published = datasets.DatasetDict(train=train, validation=validation, test=part([0, 1], ["p", "u"], "e"))
    made, description = make_splits(published)
    assert {split: list(one["source"]) for split, one in made.items()} == description["sources"] == {
        "train": ["t0.png", "t1.png", "t2.png"], "validation": ["v0.png"], "test": ["e0.png", "e1.png"],
    }  # fmt: skip
    assert description["protocol"] == "published" and description["crossing_groups"] == 1  # patient p
    assert description["counts"] == {"train": 3, "validation": 1, "test": 2}


def test_a_missing_validation_split_is_carved_from_training():
    test = corpus(6, prefix="x")
    made, description = make_splits(datasets.DatasetDict(train=corpus(24), test=test))
    groups = groups_of(made)
    assert list(made["test"]["source"]) == list(test["source"]) and description["protocol"] == "published"
    assert not groups["train"] & groups["validation"] and len(groups["train"] | groups["validation"]) == 24
    assert abs(len(made["validation"]) / 72 - 0.15 / 0.85) < 0.08


def test_a_missing_test_split_is_carved_from_training():
    made, description = make_splits(datasets.DatasetDict(train=corpus(24), validation=corpus(4, prefix="v")))
    assert description["protocol"] == "made" and len(made["validation"]) == 12
    assert not groups_of(made)["train"] & groups_of(made)["test"]


def test_three_patients_a_class_are_enough_and_two_are_not():
    made, _ = make_splits(datasets.DatasetDict(train=corpus(12, slices=2, classes=4)))
    assert all(set(one["label"]) == {0, 1, 2, 3} for one in made.values())
    with pytest.raises(CorpusError, match=r"'class 0' has \d groups? \(patients?\); add patients, merge the class"):
        make_splits(datasets.DatasetDict(train=corpus(8, slices=5, classes=4)))


def test_a_patient_with_two_classes_stays_whole():
    labels = [0, 1] * 12
    groups = [f"P{index // 2}" for index in range(24)]
    made, _ = make_splits(datasets.DatasetDict(train=part(labels, groups)))
    assert sum(len(one) for one in groups_of(made).values()) == 12


def test_no_training_split():
    with pytest.raises(CorpusError, match="no training split; say which folder is one with --split_map FOLDER=train"):
        make_splits(datasets.DatasetDict(test=corpus(4)))


@pytest.mark.parametrize("fractions", [(0.7, 0.3), (0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (0.8, 0.3, -0.1)])
def test_impossible_fractions(fractions: tuple[float, ...]):
    with pytest.raises(InputError, match="are not three above 0 that sum to 1"):
        make_splits(datasets.DatasetDict(train=corpus(12)), fractions=fractions)


def test_a_name_depends_on_what_lies_where_not_on_the_order():
    first = split_name({"train": ["a", "b"], "test": ["c"]})
    assert first == split_name({"test": ["c"], "train": ["b", "a"]}) and len(first) == 12
    assert first != split_name({"train": ["a", "c"], "test": ["b"]})


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=8, max_size=30),
    fraction=st.floats(0.1, 0.9),
    seed=st.integers(0, 2**40),
)
def test_no_group_is_ever_cut(sizes: list[int], fraction: float, seed: int):
    labels = np.repeat(np.arange(len(sizes)) % 2, sizes)
    groups = np.repeat([f"P{index}" for index in range(len(sizes))], sizes)
    taken = grouped_part(labels, groups, fraction, seed)
    assert taken is not None and len(taken) == len(set(taken.tolist()))
    rest = np.setdiff1d(np.arange(len(labels)), taken)
    assert set(groups[taken]).isdisjoint(groups[rest])
    assert set(labels[taken]) == set(labels[rest]) == {0, 1}


def whole_corpus(patients: int = 24, classes: int = 2) -> datasets.DatasetDict:
    splits = {name: corpus(patients, classes=classes, prefix=name) for name in ("train", "test")}
    return datasets.DatasetDict(splits)


def test_every_image_is_held_out_once_by_a_fold_without_its_group():
    folds, description = grouped_folds(whole_corpus(), 4, seed=2)
    held = [source for fold in folds for source in fold["test"]["source"]]
    assert len(held) == len(set(held)) == 144
    for fold, described in zip(folds, description["folds"], strict=True):
        groups = groups_of(fold)
        assert sum(map(len, groups.values())) == 48 == len(set.union(*groups.values()))
        assert described["crossing_groups"] == 0 and described["protocol"] == "grouped"
        assert abs(len(fold["test"]) - 36) <= 6 and abs(len(fold["validation"]) / 144 - 0.15) < 0.08
        assert all(set(part["label"]) == {0, 1} for part in fold.values())


def test_folds_are_named_by_what_lies_in_them():
    first, again, other = (grouped_folds(whole_corpus(), 3, seed=seed)[1] for seed in (0, 0, 1))
    assert first == again and first["name"] != other["name"] and len(first["name"]) == 12
    assert len({fold["name"] for fold in first["folds"]}) == 3


def test_folds_that_a_class_cannot_fill():
    with pytest.raises(InputError, match="1 folds are no cross-validation; give 2 or more"):
        grouped_folds(whole_corpus(), 1)
    lonely = datasets.DatasetDict(train=part([0] * 9 + [1], [f"P{index}" for index in range(10)]))
    with pytest.raises(CorpusError, match=r"no 3-fold split can be made.*'class 1' has 1 image; add images"):
        grouped_folds(lonely, 3)


def test_a_deduplicated_test_lacks_the_twins_alone():
    splits, published = make_splits(whole_corpus(12))
    has_twin = np.arange(36) % 3 == 0
    kept, description = deduplicated_test(splits, has_twin)
    assert list(kept["source"]) == [s for s, twin in zip(splits["test"]["source"], has_twin, strict=True) if not twin]
    assert (description["n"], description["removed"], description["n_groups"]) == (24, 12, 12)
    assert description["split_hash"] != published["name"]
    assert deduplicated_test(splits, np.zeros(36, bool))[1]["split_hash"] == published["name"]
    with pytest.raises(InputError, match="twins of 3 items were given, and the test split holds 36"):
        deduplicated_test(splits, np.zeros(3, bool))


def test_settled_groups_replace_the_corpus_own():
    given = whole_corpus(4)
    names = {source: f"patient {source[-5]}" for one in given.values() for source in one["source"]}
    settled = settle_groups(given, names)
    assert settled["train"].column_names == given["train"].column_names
    assert settled["train"].features == given["train"].features
    assert settled["test"]["group"][0] == f"patient {given['test']['source'][0][-5]}"
