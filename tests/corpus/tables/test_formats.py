"""Tables as people save them: separators, encodings, columns, splits, labels and where the files are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import datasets
import pandas
import pytest
from PIL import Image

from ct_xception.corpus.labels import split_of
from ct_xception.corpus.listing import CorpusOptions, Listing
from ct_xception.corpus.load import load_corpus
from ct_xception.corpus.sources.folder import list_folder
from ct_xception.corpus.sources.table import list_table
from ct_xception.errors import CorpusError

Row = Callable[[int], object]
HALVES: Row = lambda row: "ab"[row % 2]  # noqa: E731
PATIENT: Row = lambda row: f"p{row // 2}"  # noqa: E731


def write(root: Path, columns: dict[str, Row], name: str = "t.csv", separator: str = ",", encoding: str = "utf-8"):
    lines = [separator.join(columns), *(separator.join(str(of(row)) for of in columns.values()) for row in range(6))]
    (root / name).write_bytes("\n".join(lines).encode(encoding))
    return root / name


@pytest.fixture
def folder(grow) -> Path:
    return grow({"i": 6})


def base(**more: Row) -> dict[str, Row]:
    return {"image": lambda row: f"i/{row}.png", "label": HALVES, **more}


def listed(path: Path, **options) -> Listing:
    listing = list_table(path, CorpusOptions(**options))
    assert listing.problems == []
    return listing


def asked(path: Path, **options) -> str:
    with pytest.raises(CorpusError) as told:
        load_corpus(path, CorpusOptions(decode=False, **options))
    (problem,) = told.value.problems
    return problem


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_separators_and_encodings(folder: Path, separator: str, name: str, encoding: str):
    path = write(folder, base(label=lambda row: f"größe {HALVES(row)}", patient=PATIENT), name, separator, encoding)
    listing = listed(path)
    assert {item.found for item in listing.items} == {"größe a", "größe b"}
    assert {item.group for item in listing.items} == {"p0", "p1", "p2"}


def test_commas_inside_another_separator_are_no_columns(folder: Path):
    listing = listed(write(folder, base(label=lambda row: f"x, {HALVES(row)}"), separator=";"))
    assert {item.found for item in listing.items} == {"x, a", "x, b"}


@pytest.mark.parametrize(
    "column",
    ["Patient ID", "PatientID", "patientId", "patient_no", "PATIENT-NR.", "Subject ID", "subject", "Case ID", "case",
     "PID", "pat_id", "StudyInstanceUID", "Study ID", "Anon_PatientID", "Accession Number", "mrn", "participant_id"],
)  # fmt: skip
def test_patients_by_any_name(folder: Path, column: str):
    listing = listed(write(folder, base(**{column: PATIENT})))
    assert listing.group_origin == f"column {column}" and {item.group for item in listing.items} == {"p0", "p1", "p2"}


@pytest.mark.parametrize(
    ("first", "second"),
    [("group", "patient"), ("subject_id", "patient"), ("case", "Subject ID"), ("StudyInstanceUID", "case_id"),
     ("study", "group")],
)  # fmt: skip
def test_a_patient_outranks_a_group_and_that_a_subject_a_case_and_a_study(folder: Path, first: str, second: str):
    assert listed(write(folder, base(**{first: str, second: PATIENT}))).group_origin == f"column {second}"


@pytest.mark.parametrize("column", ["Patient Age", "patient_sex", "Patient Position", "Subject status"])
def test_what_a_patient_has_is_no_patient(folder: Path, column: str):
    report = load_corpus(write(folder, base(**{column: PATIENT})), CorpusOptions(decode=False)).report
    assert report["groups"]["origin"] is None and report["untaken"] == []


def test_columns_like_patients_that_were_not_taken_are_named(folder: Path):
    path = write(folder, base(patient=str, subject=PATIENT, my_patient_ref=PATIENT))
    report = load_corpus(path, CorpusOptions(decode=False)).report
    assert report["groups"] == {"count": 6, "origin": "column patient"}
    for column in ("subject", "my_patient_ref"):
        assert any(f"the column {column} looks like patients and is not used" in one for one in report["untaken"])
    settled = load_corpus(path, CorpusOptions(decode=False, group_column="subject")).report
    assert settled["groups"]["count"] == 3 and settled["untaken"] == []


@pytest.mark.parametrize("value", ["ANON", "0", "", "unknown", "Anonymized", "P7"])
def test_one_patient_on_every_image_is_said_and_not_taken(folder: Path, value: str):
    report = load_corpus(write(folder, base(patient=lambda row: value)), CorpusOptions(decode=False)).report
    assert report["groups"] == {"count": 6, "origin": None}
    (said,) = report["untaken"]
    assert said.startswith("column patient ") and said.endswith("is not used")


def test_studies_stand_for_patients_that_were_taken_away(folder: Path):
    path = write(folder, base(patient=lambda row: "ANON", study_uid=PATIENT))
    assert load_corpus(path, CorpusOptions(decode=False)).report["groups"] == {"count": 3, "origin": "column study_uid"}


def test_a_patient_0_among_others_is_one(folder: Path):
    report = load_corpus(write(folder, base(patient=lambda row: row // 2)), CorpusOptions(decode=False)).report
    assert report["groups"] == {"count": 3, "origin": "column patient"}


@pytest.mark.parametrize("column", ["fold_name", "which", "usage", "train/test", "cv"])
def test_a_column_that_names_splits_is_used(folder: Path, column: str):
    names = ["train", "Training", "test", "test", "val", "train"]
    assert [item.split for item in listed(write(folder, base(**{column: lambda row: names[row]}))).items] == [
        "train", "train", "test", "test", "validation", "train",
    ]  # fmt: skip


@pytest.mark.parametrize("folders", [("train", "test"), ("Training", "valid"), ("data/train_set", "data/test_set")])
def test_paths_that_name_splits_are_used(grow, folders: tuple[str, str]):
    root = grow(dict.fromkeys(folders, 3))
    path = write(root, base(image=lambda row: f"{folders[row // 3]}/{row % 3}.png"), "metadata.csv")
    for listing in (listed(path), list_folder(root, CorpusOptions())):
        splits = [split_of(folder.rsplit("/", 1)[-1], {}) for folder in folders]
        assert [item.split for item in listing.items] == [splits[row // 3] for row in range(6)]


def test_paths_some_of_which_name_splits_are_named(grow):
    root = grow({"train": 3, "more": 3})
    path = write(root, base(image=lambda row: f"{('train', 'more')[row // 3]}/{row % 3}.png"))
    (said,) = listed(path).untaken
    assert said.startswith("3 of 6 paths of t.csv lie in folders called as splits are")


def test_two_columns_of_splits_are_asked_about(folder: Path):
    path = write(folder, base(split=lambda row: ["train", "test"][row % 2], cv=lambda row: ["train", "val"][row // 3]))
    assert asked(path) == "t.csv has several columns of splits, split and cv; name one with --split_column"
    assert {item.split for item in listed(path, split_column="cv").items} == {"train", "validation"}


@pytest.mark.parametrize(
    ("column", "of"), [("fold", lambda row: row % 3), ("usage", lambda row: ["Training", "PublicTest"][row % 2])]
)
def test_a_column_like_splits_that_was_not_taken_is_named(folder: Path, column: str, of: Row):
    listing = listed(write(folder, base(**{column: of})))
    assert {item.split for item in listing.items} == {"train"}
    assert f"the column {column} looks like splits" in listing.untaken[0] and "--split_column" in listing.untaken[0]


def test_folds_are_splits_by_option(folder: Path):
    path = write(folder, base(fold=lambda row: row // 2))
    told = {"0": "train", "1": "validation", "2": "test"}
    splits = [item.split for item in listed(path, split_column="fold", split_map=told).items]
    assert splits == ["train", "train", "validation", "validation", "test", "test"]


def test_columns_of_zeros_and_ones(folder: Path):
    hot = {"id": lambda row: f"i/{row}.png", "benign": lambda row: row % 2, "malignant": lambda row: 1 - row % 2}
    assert [item.found for item in listed(write(folder, hot)).items] == ["malignant", "benign"] * 3
    path = write(folder, {**hot, "male": lambda row: int(row > 2)})
    assert "3 rows have not just one 1 in the columns benign, malignant, male (row 4" in asked(path)
    assert [item.found for item in listed(path, label_column="benign,malignant").items] == ["malignant", "benign"] * 3


def test_names_stand_for_the_numbers_beside_them(folder: Path):
    path = write(folder, base(label=lambda row: row % 2, class_name=lambda row: ["well", "sick"][row % 2]))
    assert [item.found for item in listed(path).items] == ["well", "sick"] * 3


@pytest.mark.parametrize(("cell", "pattern"), [("a|b", "*|*"), ("a;b", "*;*"), ("a, b", "*,*")])
def test_cells_of_several_classes_are_asked_about(folder: Path, cell: str, pattern: str):
    path = write(folder, base(label=lambda row: [*"abab", cell, cell][row]), separator="\t")
    problem = asked(path)
    assert f"2 rows name several classes in one cell, such as {cell!r}" in problem and f"'{pattern}'" in problem
    assert len(listed(path, exclude=(pattern,)).items) == 4
    assert load_corpus(path, CorpusOptions(class_map={cell: "a"}, decode=False)).label_names == ["a", "b"]


def test_a_comma_in_the_name_of_one_class_is_none_of_several(folder: Path):
    path = write(folder, base(label=lambda row: ["nodule, solid", "normal"][row % 2]), separator="\t")
    assert load_corpus(path, CorpusOptions(decode=False)).label_names == ["nodule, solid", "normal"]


@pytest.mark.parametrize("spellings", [("A b", "a b"), ("NORMAL", "Normal", "normal"), ("a b", "A  b")])
def test_labels_that_differ_by_case_or_spaces_are_asked_about(folder: Path, spellings: tuple[str, ...]):
    names = [*spellings, "sick"]
    path = write(folder, base(label=lambda row: names[row % len(names)]))
    assert "are one class spelt" in asked(path)
    mapped = CorpusOptions(class_map=dict.fromkeys(spellings, "one"), decode=False)
    assert load_corpus(path, mapped).label_names == ["one", "sick"]


@pytest.mark.parametrize(
    "options",
    [{}, {"image_template": "i/{image_id}.png"}, {"image_root": "i"},
     {"image_root": "i", "image_template": "{image_id}.png"}],
)  # fmt: skip
def test_ids_without_folder_and_suffix(folder: Path, options: dict):
    path = write(folder, {"image_id": str, "label": HALVES})
    listing = listed(path, **options)
    assert [item.path for item in listing.items] == [folder / "i" / f"{row}.png" for row in range(6)]


def test_files_that_several_places_have_are_asked_about(grow):
    root = grow({"x": 6, "y": 6})
    path = write(root, {"image_id": str, "label": HALVES})
    (problem, *_) = list_table(path, CorpusOptions()).problems
    assert "6 of them by names that several files have" in problem and "--image_root" in problem
    told = listed(path, image_root="x", image_template="{image_id}.png")
    assert all(item.path and item.path.exists() for item in told.items)


def test_options_of_where_images_are_are_checked(folder: Path):
    path = write(folder, {"image_id": str, "label": HALVES})
    said = "--image_template: t.csv has no column 'uid'; it has image_id, label"
    assert asked(path, image_template="{uid}.png") == said
    assert asked(path, image_root="nowhere") == "--image_root nowhere: no such folder; name another"


@pytest.mark.parametrize("root", ["", "scans/"])
def test_a_table_of_patients_names_their_folders(grow, root: str):
    folder = grow({f"{root}P1": 2, f"{root}P2": 2, f"{root}P3": 1})
    (folder / "t.csv").write_text("PatientID;diagnosis\nP1;a\nP2;b\nP3;a\n")
    corpus = load_corpus(folder / "t.csv", CorpusOptions(image_root=root or None))
    assert sorted(corpus.dataset["train"]["group"]) == ["P1", "P1", "P2", "P2", "P3"]
    assert corpus.report["counts"]["train"] == {"a": 3, "b": 2}


def test_json_lines(folder: Path):
    rows = ({"file_name": f"i/{row}.png", "label": HALVES(row), "patient": row // 2} for row in range(6))
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [item.group for item in listed(folder / "t.jsonl").items] == ["0", "0", "1", "1", "2", "2"]


@pytest.mark.parametrize("between", [" ", ", ", "\t"])
@pytest.mark.parametrize("name", ["i", "my images"])
def test_lists_of_files_and_labels(grow, between: str, name: str):
    root = grow({name: 6})
    (root / "t.txt").write_text("".join(f"{name}/{row}.png{between}large cell {HALVES(row)}\n" for row in range(6)))
    listing = listed(root / "t.txt")
    assert [item.found for item in listing.items] == ["large cell a", "large cell b"] * 3
    assert all(item.path and item.path.is_file() for item in listing.items)


def test_lists_beside_class_folders_say_the_splits(grow):
    root = grow({"a": 3, "b": 3})
    (root / "train.txt").write_text("a/0.png\na/1.png\nb/0.png\nb/1.png\n")
    (root / "test_list.txt").write_text("nothing that is here\n")
    (root / "test.txt").write_text("a/2.png\nb/2.png\n")
    listing = list_folder(root, CorpusOptions())
    assert [item.source for item in listing.items if item.split == "test"] == ["a/2.png", "b/2.png"]
    assert listing.passed_over == {".txt": 1}


@pytest.mark.parametrize("names", [("labels.csv",), ("train.csv", "test.csv"), ("Training.tsv", "valid.tsv")])
def test_tables_beside_loose_images_say_what_they_are(grow, names: tuple[str, ...]):
    root = grow({"images": 6})
    for name in names:
        write(root, {"file_name": lambda row: f"images/{row}.png", "label": HALVES}, name)
    if len(names) > 1:  # each names its own half
        for name, kept in zip(names, (slice(1, 4), slice(4, 7)), strict=True):
            lines = (root / name).read_text().splitlines()
            (root / name).write_text("\n".join([lines[0], *lines[kept]]))
    listing = list_folder(root, CorpusOptions())
    assert listing.problems == [] and len(listing.items) == 6 and {item.found for item in listing.items} == {"a", "b"}
    assert len({item.split for item in listing.items}) == len(names)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("labelled", [False, True])
def test_metadata_at_any_level(grow, kind: str, labelled: bool):
    inner = {"": 4} if labelled else {"/a": 2, "/b": 2}
    root = grow({f"{split}{name}": number for split in ("train", "test") for name, number in inner.items()})
    for split in ("train", "test"):
        files = [path.relative_to(root / split).as_posix() for path in sorted((root / split).rglob("*.png"))]
        rows = pandas.DataFrame({"file_name": files, "Patient ID": [f"{split}{index // 2}" for index in range(4)]})
        if labelled:
            rows["label"] = ["a", "b"] * 2
        path = root / split / f"metadata.{kind}"
        if kind == "csv":
            rows.to_csv(path, index=False)
        elif kind == "parquet":
            rows.to_parquet(path)
        else:
            rows.to_json(path, orient="records", lines=True)
    report = load_corpus(root).report
    assert report["groups"] == {"count": 4, "origin": "column Patient ID"} and report["passed_over"] == {}
    assert report["counts"] == {"train": {"a": 2, "b": 2}, "test": {"a": 2, "b": 2}}


def test_a_table_beside_class_folders_says_whose_they_are(grow):
    root = grow({"a": 3, "b": 3})
    lines = [f"{name}/{row}.png,{name},P{row}" for name in "ab" for row in range(3)]
    (root / "slices.csv").write_text("\n".join(["path,label,patient", *lines]))
    report = load_corpus(root).report
    assert report["groups"] == {"count": 3, "origin": "column patient"}
    assert "slices.csv beside the images says whose they are" in report["notes"]


@pytest.fixture
def saved() -> datasets.DatasetDict:
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["sick", "well"]), patient_id=datasets.Value("string")
    )

    def part(*rows: int) -> datasets.Dataset:
        pictures = [Image.new("L", (4, 4), 10 * row) for row in rows]
        patients = [f"p{row // 2}" for row in rows]
        columns = {"image": pictures, "label": [row % 2 for row in rows], "patient_id": patients}
        return datasets.Dataset.from_dict(columns, features=features)

    return datasets.DatasetDict(train=part(0, 1, 2, 3), test=part(4, 5))


@pytest.mark.parametrize("how", ["dictionary", "one", "clone", "flat"])
def test_datasets_that_lie_in_a_folder(saved: datasets.DatasetDict, tmp_path: Path, how: str):
    folder = tmp_path / "saved"
    if how == "dictionary":
        saved.save_to_disk(folder)
    elif how == "one":
        saved["train"].save_to_disk(folder)
    else:
        inner = folder / "data" if how == "clone" else folder
        inner.mkdir(parents=True)
        for split, part in saved.items():
            part.to_parquet(inner / f"{split}-00000-of-00001.parquet")
        (folder / "README.md").write_text("# a card\n")
    corpus = load_corpus(folder)
    assert corpus.label_names == ["sick", "well"] and corpus.report["kind"] == "saved"
    assert corpus.report["groups"]["origin"] == "column patient_id"
    splits = {"train": 4} if how == "one" else {"train": 4, "test": 2}
    assert {split: len(part) for split, part in corpus.dataset.items()} == splits


def test_one_shard_of_a_hub_dataset_has_its_own_names(saved: datasets.DatasetDict, tmp_path: Path):
    saved["train"].to_parquet(tmp_path / "train-00000-of-00002.parquet")
    corpus = load_corpus(tmp_path / "train-00000-of-00002.parquet")
    assert corpus.report["counts"]["train"] == {"sick": 2, "well": 2} and corpus.report["groups"]["count"] == 2
    shard = saved["test"].cast_column("label", datasets.ClassLabel(names=["x", "y"]))
    shard.to_parquet(tmp_path / "t.parquet")
    assert {item.found for item in listed(tmp_path / "t.parquet").items} == {"x", "y"}


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "data/train-0.parquet"])
def test_a_pointer_of_git_lfs_is_no_table(tmp_path: Path, name: str):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(CorpusError, match="is a pointer of Git LFS.*git lfs pull"):
        load_corpus(tmp_path if "/" in name else tmp_path / name)


@pytest.mark.parametrize("named", ["/dev/zero", "pipe.png", "i/link.png"])
def test_devices_and_pipes_are_refused_before_they_are_read(folder: Path, named: str):
    import os

    os.mkfifo(folder / "pipe.png")
    os.symlink("/dev/zero", folder / "i" / "link.png")
    path = write(folder, base(image=lambda row: named if row == 0 else f"i/{row}.png"))
    assert asked(path) == (
        f"{named}: not a regular file (a pipe, socket or device); save the image to a file first; --exclude {named} "
        "leaves it out"
    )
