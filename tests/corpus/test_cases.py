"""The inputs of ../shared/cases, read as its README says is right; siblings are in the tests beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

from ct_xception.corpus.load import CorpusOptions, load_corpus
from ct_xception.corpus.split import make_splits
from ct_xception.errors import CorpusError
from tests.conftest import SHARED

REFERENCE = ["adenocarcinoma", "large cell carcinoma", "normal", "squamous cell carcinoma"]


@pytest.fixture(scope="module")
def cases() -> Path:
    folder = SHARED / "cases"
    if not folder.is_dir():
        pytest.skip("the sample inputs are not on this machine (../shared/cases)")
    return folder


def load(path: Path, **options: Any) -> Any:
    return load_corpus(path, CorpusOptions(decode=False, **options))


@pytest.mark.parametrize("name", ["dcm_named_dicom", "uid_named_dicom"])
def test_patients_cross_the_splits_under_any_name(cases: Path, name: str):
    corpus = load(cases / name)
    groups = {split: set(part["group"]) for split, part in corpus.dataset.items()}
    assert corpus.report["groups"] == {"count": 24, "origin": "DICOM PatientID"}
    assert len(groups["train"] & groups["test"]) == 8
    whole = datasets.DatasetDict(train=datasets.concatenate_datasets(list(corpus.dataset.values())))
    assert make_splits(whole)[1]["crossing_groups"] == 0


@pytest.mark.parametrize(
    ("name", "classes", "splits"),
    [
        ("train_set_test_set", REFERENCE[:2], {"train": 22, "test": 10}),
        ("class_images_masks", ["COVID", "Normal"], {"train": 32}),
        ("metadata_in_split_folders", REFERENCE, {"train": 64, "test": 64}),
        ("tables/nih2.csv", REFERENCE, {"train": 64}),
        ("tables/s.csv", REFERENCE, {"train": 48, "validation": 8, "test": 8}),
        ("tables/semi.csv", REFERENCE, {"train": 64}),
        ("tables/hub_shard_classlabel.parquet", REFERENCE, {"train": 64}),
    ],
)  # fmt: skip
def test_read_right(cases: Path, name: str, classes: list[str], splits: dict[str, int]):
    corpus = load(cases / name)
    assert corpus.label_names == classes
    assert {split: len(part) for split, part in corpus.dataset.items()} == splits
    patients = {"metadata_in_split_folders": 32, "tables/nih2.csv": 32, "tables/s.csv": 32, "tables/semi.csv": 32}
    assert corpus.report["groups"]["count"] == patients.get(name, corpus.report["images"])


def test_masks_are_counted(cases: Path):
    assert load(cases / "class_images_masks").report["passed_over"] == {"masks": 32}


@pytest.mark.parametrize(
    ("name", "words", "options", "classes"),
    [
        ("classes_one_level_down", "Benign cases, Malignant cases, Normal cases.*--split_map",
         {"split_map": {"The lung dataset": "train", "Test cases": "ignore"}},
         ["Benign cases", "Malignant cases", "Normal cases"]),
        ("classes_one_level_down", "--split_map", {"exclude": ("Test cases",)},
         ["Benign cases", "Malignant cases", "Normal cases"]),
        ("tables/case.csv", "'NORMAL' and 'Normal' and 'normal' are one class.*--class_map",
         {"class_map": {"NORMAL": "normal", "Normal": "normal"}}, REFERENCE),
    ],
)  # fmt: skip
def test_asked_about_and_settled_by_the_option_named(cases: Path, name: str, words: str, options: dict, classes):
    with pytest.raises(CorpusError, match=words):
        load(cases / name)
    assert load(cases / name, **options).label_names == classes


def test_every_file_of_mixed_extensions_is_read_or_counted(cases: Path):
    report = load(cases / "mixed_extensions").report
    files = [path for path in (cases / "mixed_extensions").rglob("*") if path.is_file()]
    assert report["images"] + sum(report["passed_over"].values()) == len(files)
