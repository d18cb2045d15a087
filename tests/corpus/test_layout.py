"""Folders as people publish them: whatever names the splits, wherever the classes are, and what is asked about."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ct_xception.corpus.labels import split_of
from ct_xception.corpus.layout import looks_like_patient
from ct_xception.corpus.listing import CorpusOptions, Listing
from ct_xception.corpus.sources.folder import list_folder

CLASSES = {"benign": 2, "malignant": 1}


def under(*folders: str, inner: dict[str, int] | None = None) -> dict[str, int]:
    return {f"{folder}/{name}": number for folder in folders for name, number in (inner or CLASSES).items()}


def listed(root: Path, **options) -> Listing:
    listing = list_folder(root, CorpusOptions(**options))
    assert listing.problems == []
    return listing


def counts(listing: Listing) -> dict[tuple[str, str], int]:
    return dict(Counter((item.split, item.found) for item in listing.items))


def asked(root: Path, **options) -> str:
    listing = list_folder(root, CorpusOptions(**options))
    (problem,) = listing.problems
    return problem


@pytest.mark.parametrize(
    ("name", "split"),
    [("train_set", "train"), ("Train_data", "train"), ("seg_train", "train"), ("training_set", "train"),
     ("trainset", "train"), ("TrainData", "train"), ("train-images", "train"), ("imagesTr", "train"),
     ("train2017", "train"), ("Test cases", "test"), ("test_set", "test"), ("TESTING SET", "test"),
     ("imagesTs", "test"), ("holdout", "test"), ("val_set", "validation"), ("Validation-Data", "validation"),
     ("dev set", "validation"), ("valset", "validation"), ("latest", None), ("contest", None), ("trained", None),
     ("tr", None), ("test positive", None), ("fold1", None), ("images", None), ("value", None)],
)  # fmt: skip
def test_any_usual_name_of_a_split(name: str, split: str | None):
    assert split_of(name, {}) == split


@pytest.mark.parametrize(
    ("train", "test"),
    [("train_set", "test_set"), ("Train_data", "Test_data"), ("Training", "Testing"), ("seg_train", "seg_test"),
     ("trainset", "testset"), ("imagesTr", "imagesTs"), ("seg_train/seg_train", "seg_test/seg_test"),
     ("archive/data/train", "archive/data/test"), ("train/images", "test/images"), ("data/Train", "data/TEST")],
)  # fmt: skip
def test_split_folders_by_any_usual_name_and_depth(grow, train: str, test: str):
    listing = listed(grow(under(train, test)))
    assert counts(listing) == {(split, name): n for split in ("train", "test") for name, n in CLASSES.items()}


@pytest.mark.parametrize("outer", ["", "archive/", "archive/dataset/data/", "images/"])
def test_outer_folders_only_wrap(grow, outer: str):
    assert counts(listed(grow({f"{outer}{name}": n for name, n in CLASSES.items()}))) == {
        ("train", name): n for name, n in CLASSES.items()
    }


@pytest.mark.parametrize("test", ["Test cases", "test", "Testing_set"])
def test_classes_one_level_down_beside_an_unlabelled_test(grow, test: str):
    root = grow({**under("The lung dataset"), test: 3})
    problem = asked(root)
    assert problem.startswith("the folder 'The lung dataset' holds benign, malignant") and "--split_map" in problem
    wanted = {("train", name): n for name, n in CLASSES.items()}
    for options in ({"split_map": {"The lung dataset": "train", test: "ignore"}}, {"exclude": (test,)}):
        listing = listed(root, **options)
        assert counts(listing) == wanted and sum(listing.passed_over.values()) == 3


def test_a_test_split_without_class_folders_is_asked_about(grow):
    root = grow({**under("train"), "test": 3})
    assert asked(root) == (
        "3 images of the split test lie in no class folder of test; leave them out with --split_map test=ignore, "
        "or sort them"
    )
    assert listed(root, split_map={"test": "ignore"}).passed_over["in a split to be ignored"] == 3


@pytest.mark.parametrize(
    ("folders", "words", "level", "classes"),
    [
        (under("siteA", "siteB"), "siteA, siteB, or the folders in them, benign, malignant", 2, set(CLASSES)),
        (under("siteA", "siteB"), "settle it with --class_level 1 or --class_level 2", 1, {"siteA", "siteB"}),
        (under("A/train", "A/test", "B/train", "B/test"), "--class_level 1 or --class_level 3", 3, set(CLASSES)),
        ({"lung/aca": 1, "lung/scc": 1, "colon/aca": 1, "colon/n": 1}, "colon, lung, or", 2, {"aca", "scc", "n"}),
        ({**under("data"), "Unlabelled": 2}, "--class_level 2", 2, set(CLASSES)),
    ],
)  # fmt: skip
def test_two_levels_that_could_be_the_classes_are_asked_about(grow, folders, words: str, level: int, classes: set):
    root = grow(folders)
    assert words in asked(root)
    assert {item.found for item in listed(root, class_level=level).items} == classes


def test_a_class_map_says_which_level_holds_the_classes(grow):
    root = grow(under("siteA", "siteB"))
    mapped = listed(root, class_map={"benign": "healthy"})
    assert {item.found for item in mapped.items} == set(CLASSES)


@pytest.mark.parametrize("names", [("fold1", "fold2"), ("Fold 1", "Fold 2", "Fold 3"), ("cv_fold_0", "cv_fold_1")])
def test_folds_are_asked_about(grow, names: tuple[str, ...]):
    root = grow(under(*names))
    assert "are parts of a cross-validation; say what each is with --split_map" in asked(root)
    told = listed(root, split_map={name: "train" for name in names} | {names[0]: "test"})
    assert {item.split for item in told.items} == {"train", "test"}


@pytest.mark.parametrize("name", ["evaluation", "extra", "external hospital"])
def test_a_folder_with_the_same_classes_beside_the_splits_is_asked_about(grow, name: str):
    root = grow(under("train", "test", name))
    assert asked(root).startswith(f"the folder '{name}' beside the splits holds benign, malignant as they do")
    assert len({item.split for item in listed(root, split_map={name: "validation"}).items}) == 3


@pytest.mark.parametrize(
    "folders",
    [
        {"COVID/images": 3, "COVID/masks": 3, "Normal/images": 2, "Normal/masks": 2},
        {"COVID/img": 3, "COVID/segmentations": 3, "Normal/img": 2, "Normal/segmentations": 2},
        {"images/COVID": 3, "images/Normal": 2, "masks/COVID": 3, "masks/Normal": 2},
        {"COVID": 3, "Normal": 2, "annotations": 5},
        {f"Infection Segmentation Data/Train/{name}/{kind}": n for name, n in (("COVID", 3), ("Normal", 2))
         for kind in ("images", "infection masks")},
    ],
)  # fmt: skip
def test_masks_in_folders_of_their_own_are_left_out_and_counted(grow, folders: dict[str, int]):
    listing = listed(grow(folders))
    assert counts(listing) == {("train", "COVID"): 3, ("train", "Normal"): 2}
    assert listing.passed_over["masks"] == 5 and listing.ignored_folders


@pytest.mark.parametrize("mask", ["{}_mask", "{}_mask_1", "{}-seg", "mask_{}", "{}_segmentation", "{}_lung_mask"])
def test_masks_named_after_the_image_beside_them_are_left_out_and_counted(grow, mask: str):
    root = grow({"a": 3, "b": 2})
    for path in sorted(root.rglob("*.png")):
        (path.parent / f"{mask.format(path.stem)}.png").write_bytes(path.read_bytes())
    listing = listed(root)
    assert counts(listing) == {("train", "a"): 3, ("train", "b"): 2} and listing.passed_over["masks"] == 5


def test_a_name_like_a_masks_without_its_image_is_an_image(grow):
    root = grow({"a": 2, "b": 1})
    (root / "a" / "0.png").rename(root / "a" / "roi_x.png")
    assert counts(listed(root)) == {("train", "a"): 2, ("train", "b"): 1}


@pytest.mark.parametrize(
    ("inner", "groups"),
    [
        ({"P001": 2, "P002": 1}, {"P001", "P002"}),
        ({"patient 1/study 1": 2, "patient 2/study 1": 1}, {"patient 1", "patient 2"}),
        ({"1.2.840.113619.2": 2, "1.2.840.113619.3": 1}, {"1.2.840.113619.2", "1.2.840.113619.3"}),
        ({"LIDC-IDRI-0001/01-01-2000-30178/3000566": 1, "LIDC-IDRI-0002/01-01-2000-98329/3000522": 1},
         {"LIDC-IDRI-0001", "LIDC-IDRI-0002"}),
    ],
)  # fmt: skip
def test_folders_of_patients_below_the_classes(grow, inner: dict[str, int], groups: set[str]):
    listing = listed(grow(under("benign", "malignant", inner=inner)))
    assert {item.found for item in listing.items} == {"benign", "malignant"}
    assert {item.folder for item in listing.items} == groups


def test_counters_begin_anew_in_every_class(grow):
    listing = listed(grow(under("benign", "malignant", inner=dict.fromkeys(map(str, range(1, 9)), 1))))
    assert len({item.folder for item in listing.items}) == 16


@pytest.mark.parametrize("names", [("P001", "P002"), ("A0001", "G0011", "B0002"), ("000119", "000120")])
def test_folders_of_patients_alone_are_no_classes(grow, names: tuple[str, ...]):
    root = grow(dict.fromkeys(names, 2))
    problem = asked(root)
    assert "look like patients, not classes; give a table that says the class of each folder" in problem
    assert {item.found for item in listed(root, class_level=1).items} == set(names)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("P0012", True), ("patient 3", True), ("case_07", True), ("000119", True), ("1.2.840.10008.1", True),
     ("01-04-2007-CHEST-51228", True), ("A0001", True), ("benign", False), ("Stage 1", False), ("class 0012", False),
     ("covid-19", False), ("grade3", False), ("T1_N0", False), ("BIRADS 4", False)],
)  # fmt: skip
def test_what_looks_like_a_patient(name: str, is_one: bool):
    assert looks_like_patient(name) is is_one


def test_a_thousand_classes_are_classes(grow):
    assert len({item.found for item in listed(grow({f"class {index:04}": 1 for index in range(1000)})).items}) == 1000


@pytest.mark.parametrize("pattern", ["masked", "mask*", "a/masked", "*asked"])
def test_folders_and_files_are_left_out_by_name_path_or_pattern(grow, pattern: str):
    listing = listed(grow({"a": 1, "a/masked": 2, "b": 1}), exclude=(pattern, "b/x.png"))
    assert counts(listing) == {("train", "a"): 1, ("train", "b"): 1} and listing.passed_over["excluded by name"] == 2
