"""Names of splits and classes: matched where that is certain, refused where it is not."""

from __future__ import annotations

import pytest

from ct_xception.corpus.labels import display_name, exact_classes, matched_classes, split_of, words

LONG = [
    "adenocarcinoma_left.lower.lobe_T2_N0_M0_Ib",
    "large.cell.carcinoma_left.hilum_T2_N2_M0_IIIa",
    "squamous.cell.carcinoma_left.hilum_T1_N2_M0_IIIa",
    "normal",
]
SHORT = ["adenocarcinoma", "large.cell.carcinoma", "squamous.cell.carcinoma", "normal"]


@pytest.mark.parametrize(
    ("name", "split"),
    [("train", "train"), ("Training", "train"), ("VAL", "validation"), ("valid", "validation"), ("dev", "validation"),
     ("validation", "validation"), ("testing", "test"), (" Test ", "test"), ("normal", None), ("", None)],
)  # fmt: skip
def test_names_of_splits(name: str, split: str | None):
    assert split_of(name, {}) == split


def test_an_option_names_a_split():
    assert split_of("fold1", {"fold1": "test"}) == "test"
    assert split_of("train", {"train": "ignore"}) == "ignore"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("large.cell.carcinoma", "large cell carcinoma"), ("T1_N0", "T1 N0"), ("3.5mm", "3.5mm"), ("a._.b", "a b"),
     ("größe", "größe"), ("gro\u0308ße", "größe"), ("non-small", "non-small"), ("___", "___"), ("  x  y ", "x y")],
)  # fmt: skip
def test_display_names(name: str, shown: str):
    assert display_name(name) == shown


def test_words_ignore_case_and_separators():
    assert words("Large.Cell_carcinoma-X") == ("large", "cell", "carcinoma", "x") == words("large cell carcinoma x")


def test_the_reference_corpus_has_four_classes_not_seven():
    found = [(split, name) for split in ("train", "validation") for name in LONG] + [("test", name) for name in SHORT]
    table = matched_classes(found, {})
    assert table.problems == []
    assert table.label_names == ["adenocarcinoma", "large cell carcinoma", "normal", "squamous cell carcinoma"]
    assert table.classes["train", LONG[1]] == table.classes["test", SHORT[1]] == "large cell carcinoma"


def test_names_that_agree_everywhere_stay_themselves():
    found = [(split, name) for split in ("train", "test") for name in ("large", "large_cell", "large_cell_left")]
    table = matched_classes(found, {})
    assert table.problems == [] and table.label_names == ["large", "large cell", "large cell left"]


def test_case_and_separators_do_not_make_a_class():
    table = matched_classes([("train", "Small.Cell"), ("test", "small_cell"), ("train", "n"), ("test", "N")], {})
    assert table.problems == [] and table.label_names == ["n", "Small Cell"]


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            [("train", "a_left"), ("train", "a_right"), ("test", "a")],
            "'train/a_left' and 'train/a_right' could each be the class of 'test/a'; "
            "settle it with --class_map a_left=CLASS for each",
        ),
        (
            [("train", "large"), ("validation", "large_cell"), ("train", "large_cell"), ("test", "large_cell_x")],
            "'test/large_cell_x' could be the class of 'train/large' or of 'train/large_cell'; "
            "settle it with --class_map large_cell_x=CLASS",
        ),
        (
            [("train", "Normal"), ("train", "normal")],
            "the train folders 'Normal' and 'normal' are one class spelt twice, or two; "
            "settle it with --class_map Normal=CLASS for each",
        ),
    ],
)  # fmt: skip
def test_what_is_ambiguous_is_refused_once(found: list[tuple[str, str]], sentence: str):
    assert matched_classes(found, {}).problems == [sentence]


def test_the_option_settles_what_is_ambiguous():
    found = [("train", "a_left"), ("train", "a_right"), ("test", "a")]
    merged = matched_classes(found, {"a_left": "a", "a_right": "a"})
    assert merged.problems == [] and merged.label_names == ["a"]
    apart = matched_classes(found, {"a_left": "A", "a_right": "other"})
    assert apart.problems == [] and apart.label_names == ["A", "other"]
    assert apart.classes["test", "a"] == "A"


def test_one_splits_folder_can_be_named_alone():
    table = matched_classes([("train", "x"), ("test", "x"), ("train", "y")], {"test/x": "y"})
    assert table.classes == {("train", "x"): "x", ("test", "x"): "y", ("train", "y"): "y"}


def test_a_map_for_a_folder_that_is_not_there():
    (problem,) = matched_classes([("train", "normal"), ("train", "cancer")], {"normol": "x"}).problems
    assert problem == "--class_map names 'normol', which the corpus does not have; did you mean 'normal'?"
    (problem,) = exact_classes([("train", "b"), ("train", "c")], {"zzz": "x"}).problems
    assert "there are b, c, train/b, train/c" in problem


def test_labels_of_a_column_mean_themselves():
    table = exact_classes([("train", "a.b"), ("test", "a"), ("test", "a.b")], {"a": "z"})
    assert table.classes == {("train", "a.b"): "a.b", ("test", "a"): "z", ("test", "a.b"): "a.b"}
    assert table.label_names == ["a.b", "z"]
