"""Columns that a network takes beside the image: from tables, metadata, datasets and DICOM headers, or one sentence."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from ct_xception.corpus.cells import read_row, tabular_of
from ct_xception.corpus.listing import CorpusOptions
from ct_xception.corpus.load import load_corpus
from ct_xception.corpus.tables.beside import describe_missing, tabular_record
from ct_xception.errors import CorpusError, InputError
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.slice import Slice
from ct_xception.phantom.corpus import generate_phantom

COUNT = 24
OPTIONS = CorpusOptions(tabular_columns="age,sex")


def write_table(folder: Path, **columns: list[str]) -> Path:
    """A table of COUNT pictures, two a patient, with these columns beside path, label and patient."""
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = rng.integers(0, 255, (32, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    told = {
        "path": [f"{number}.png" for number in range(COUNT)],
        "label": ["ab"[number % 4 // 2] for number in range(COUNT)],
        "patient": [f"P{number // 2}" for number in range(COUNT)],
        "age": [str(40 + number // 4) if number % 6 else "" for number in range(COUNT)],
        "sex": ["FM"[number % 3 == 0] for number in range(COUNT)],
    } | columns
    with open(folder / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(told)
        writer.writerows(zip(*told.values(), strict=True))
    return folder / "labels.csv"


def test_a_row_goes_with_its_image_into_the_slice(tmp_path: Path) -> None:
    corpus = load_corpus(write_table(tmp_path), OPTIONS)
    rows = list(corpus.dataset["train"])
    assert tabular_of(rows[0]) == {"age": "", "sex": "M"} and tabular_of(rows[1]) == {"age": "40", "sex": "F"}
    slice_ = read_row(read_slice, rows[1])
    assert isinstance(slice_, Slice) and slice_.tabular == {"age": "40", "sex": "F"}
    assert "tabular" not in load_corpus(tmp_path / "labels.csv").dataset["train"].column_names


def test_missing_values_are_counted_by_column_and_split(tmp_path: Path) -> None:
    record = tabular_record(load_corpus(write_table(tmp_path), OPTIONS).dataset, OPTIONS)
    assert record["missing"] == {"age": {"train": 4}, "sex": {"train": 0}}
    assert describe_missing(record) == ["column age: 4 of 24 missing in train", "column sex: 0 of 24 missing in train"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("age,weight", "no column 'weight'; it has path, label, patient, age, sex"),
        ("label", "the column label .* is that of the label"),
        ("patient", "is that of the group"),
        ("copy", "copy says the class, one value for each"),
        ("part", "part says the split, one value for each"),
        ("scan", "scan has another value in every row"),
        ("subject_no", "subject_no tells patients apart"),
    ],
)
def test_a_column_that_is_no_trait_is_refused_in_a_sentence(tmp_path: Path, asked: str, said: str) -> None:
    extra = {
        "copy": ["xy"[number % 4 // 2] for number in range(COUNT)],
        "split": ["train"] * 16 + ["test"] * 8,
        "part": ["1"] * 16 + ["2"] * 8,
        "scan": [str(100 + number) for number in range(COUNT)],
        "subject_no": [str(number // 2) for number in range(COUNT)],
    }
    table = write_table(tmp_path, **{name: extra[name] for name in extra if name == asked or asked == "part"
                                     and name == "split"})  # fmt: skip
    with pytest.raises(CorpusError, match=said):
        load_corpus(table, CorpusOptions(tabular_columns=asked))


def test_measures_may_differ_in_every_row(tmp_path: Path) -> None:
    table = write_table(tmp_path, dose=[f"{number}.5" for number in range(COUNT)])
    assert load_corpus(table, CorpusOptions(tabular_columns="dose")).dataset["train"][0]["tabular"] == '{"dose": "0.5"}'


@pytest.mark.parametrize("given", ["", "age,,sex", "age,Age"])
def test_names_are_given_once_each(given: str) -> None:
    with pytest.raises(InputError, match="--tabular_columns"):
        CorpusOptions(tabular_columns=given)


def test_another_corpus_may_lack_a_column_and_says_so(tmp_path: Path) -> None:
    corpus = load_corpus(write_table(tmp_path), CorpusOptions(tabular_columns="age,weight", tabular_needed=False))
    assert any("answered without weight" in note for note in corpus.report["notes"])
    assert tabular_of(corpus.dataset["train"][1]) == {"age": "40"}


def test_metadata_beside_class_folders_gives_the_columns(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/3.png", "b/4.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((32, 32), ord(name[2]) * 2, np.uint8)).save(tmp_path / name)
    (tmp_path / "metadata.csv").write_text("file_name,age\na/1.png,50\na/2.png,60\nb/3.png,61\nb/4.png,\n")
    train = load_corpus(tmp_path, CorpusOptions(tabular_columns="age")).dataset["train"]
    assert {row["source"]: tabular_of(row)["age"] for row in train} == {
        "a/1.png": "50", "a/2.png": "60", "b/3.png": "61", "b/4.png": ""}  # fmt: skip


def test_a_saved_dataset_gives_its_columns(tmp_path: Path) -> None:
    images = [Image.fromarray(np.full((32, 32), 10 * n, np.uint8)) for n in range(4)]
    columns = {"image": images, "label": ["a", "b", "a", "b"], "age": [50, None, 61, 72], "sex": [0, 1, 1, 0]}
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"]), age=datasets.Value("int64"),
        sex=datasets.ClassLabel(names=["F", "M"]),
    )  # fmt: skip
    coded = columns | {"label": [0, 1, 0, 1]}
    datasets.Dataset.from_dict(coded, features=features).save_to_disk(str(tmp_path / "saved"))
    train = load_corpus(tmp_path / "saved", OPTIONS).dataset["train"]
    assert [json.loads(text) for text in train["tabular"]] == [
        {"age": "50", "sex": "F"}, {"age": "", "sex": "M"}, {"age": "61", "sex": "M"}, {"age": "72", "sex": "F"}
    ]  # fmt: skip


def test_dicom_headers_give_the_keywords_that_name_nobody(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    generate_phantom(tmp_path, patients=6, slices_per_patient=1, size=64, classes=2, dicom=True)
    (tmp_path / "metadata.csv").unlink()
    files = sorted(tmp_path.rglob("*.dcm"))
    for number, file in enumerate(files):
        header = pydicom.dcmread(file)
        header.PatientAge, header.PatientSex = f"0{50 + number}Y", "FMM"[number % 3]
        header.save_as(file)
    corpus = load_corpus(tmp_path, CorpusOptions(tabular_columns="PatientAge,PatientSex"))
    rows = {tabular_of(row)["PatientAge"] for part in corpus.dataset.values() for row in part}
    assert rows == {f"0{50 + number}Y" for number in range(len(files))}
    with pytest.raises(CorpusError, match="no column 'PatientName'"):
        load_corpus(tmp_path, CorpusOptions(tabular_columns="PatientName"))
