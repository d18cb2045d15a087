"""Folders and tables as people have them: split folders, links, hidden files, odd columns."""

from __future__ import annotations

import os
from pathlib import Path

import pandas
import pytest

from ct_xception.corpus.listing import CorpusOptions
from ct_xception.corpus.sources.folder import list_folder
from ct_xception.corpus.sources.table import list_table
from ct_xception.errors import CorpusError, InputError


def found(root: Path, **options) -> list[tuple[str, str, str]]:
    listing = list_folder(root, CorpusOptions(**options))
    assert listing.problems == []
    return [(item.split, item.found, item.source) for item in listing.items]


def test_class_folders_without_splits_are_for_training(grow):
    assert found(grow({"a": 2, "b": 1})) == [
        ("train", "a", "a/0.png"), ("train", "a", "a/1.png"), ("train", "b", "b/0.png"),
    ]  # fmt: skip


def test_split_folders(grow):
    root = grow({"Training/a": 1, "val/a": 1, "testing/a": 1})
    assert [one[0] for one in found(root)] == ["train", "test", "validation"]  # folders in order of their names


def test_splits_inside_classes(grow):
    root = grow({"a/train": 1, "a/test": 1, "b/train": 1})
    assert [one[:2] for one in found(root)] == [("test", "a"), ("train", "a"), ("train", "b")]


def test_folders_below_a_class_belong_to_it(grow):
    assert found(grow({"a/patient 1/s1": 1, "b": 1}))[0] == ("train", "a", "a/patient 1/s1/0.png")


def test_an_unpacked_archives_outer_folders_are_passed_through(grow):
    listing = list_folder(grow({"archive/Data/train/a": 1, "archive/Data/test/a": 1}), CorpusOptions())
    assert [item.source for item in listing.items] == ["test/a/0.png", "train/a/0.png"]
    assert listing.details == ["its only folder with others in it was read, archive/Data"] and listing.notes == []


def test_a_single_class_folder_is_not_passed_through(grow):
    assert found(grow({"one": 1})) == [("train", "one", "one/0.png")]


def test_other_folders_beside_splits_are_left_out_and_named(grow):
    listing = list_folder(grow({"train/a": 1, "test/a": 1, "masks/a": 3}), CorpusOptions())
    assert listing.ignored_folders == ["masks"] and len(listing.items) == 2
    assert ("validation", "a", "masks/a/0.png") in found(grow({}), split_map={"masks": "validation"})


def test_two_folders_for_one_split_need_a_word(grow):
    root = grow({"train/a": 1, "val/a": 1, "valid/a": 1})
    (problem,) = list_folder(root, CorpusOptions()).problems
    assert problem.startswith("the folders val and valid both mean validation; settle it with --split_map val=ignore")
    assert len(found(root, split_map={"val": "ignore"})) == 2
    assert len(found(root, split_map={"val": "validation", "valid": "validation"})) == 3


def test_hidden_files_and_other_files_are_not_images(grow):
    root = grow({"a": 1, "b": 1, ".cache/c": 1, "__MACOSX/a": 1})
    for name in ("a/._0.png", "a/.DS_Store", "a/notes.txt", "b/Thumbs.db", "readme.md"):
        (root / name).write_bytes(b"x")
    listing = list_folder(root, CorpusOptions())
    assert [item.source for item in listing.items] == ["a/0.png", "b/0.png"]
    assert listing.passed_over == {".txt": 1, ".db": 1, ".md": 1} and listing.notes == []


def test_loose_images_are_noted(grow):
    listing = list_folder(grow({"a": 1, "b": 1, ".": 2}), CorpusOptions())
    assert listing.notes == ["2 images lie in no class folder and are left out"]


def test_a_link_into_itself_ends(grow):
    root = grow({"a": 1, "b": 1})
    os.symlink(root, root / "a" / "again")
    os.symlink(root / "b", root / "c")
    listing = list_folder(root, CorpusOptions())
    assert [item.source for item in listing.items] == ["a/0.png", "b/0.png", "c/0.png"]
    assert listing.passed_over["links to a folder that holds them"] == 1


def test_a_name_that_is_not_utf_8_is_escaped(grow):
    root = grow({"a": 1, "b": 1})
    os.rename(root / "a" / "0.png", os.fsencode(root / "a") + b"/\xff.png")
    assert found(root)[0][2] == "a/\\udcff.png"


def table(folder: Path, text: str, name: str = "labels.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_a_table_with_patients_and_splits(tmp_path: Path):
    path = table(tmp_path, "\ufeffImage,Diagnosis,Patient_ID,Set\nx/1.png,a b,7,Train\n2.png,NA,8,val\n")
    listing = list_table(path, CorpusOptions())
    assert listing.problems == [] and listing.exact_labels and listing.group_origin == "column Patient_ID"
    rows = [(item.source, item.found, item.group, item.split, item.path) for item in listing.items]
    assert rows == [
        ("x/1.png", "a b", "7", "train", tmp_path / "x/1.png"),
        ("2.png", "NA", "8", "validation", tmp_path / "2.png"),
    ]


def test_columns_by_option(tmp_path: Path):
    path = table(tmp_path, "what\twhere\tlabel\nx\t1.png\tno\n", "t.tsv")
    listing = list_table(path, CorpusOptions(image_column="where", label_column="what"))
    assert [(item.source, item.found) for item in listing.items] == [("1.png", "x")]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("label,b\n1,2\n", {}, "no column known to hold the image; name one with --image_column: label, b"),
        ("path,b\n1,2\n", {}, "no column known to hold the label; name one with --label_column: path, b"),
        ("path,label\n1,2\n", {"group_column": "who"}, "no column 'who' .--group_column.; it has path, label"),
        ("path,label\n1.png,\n2.png,x\n", {}, "no value in label in 1 rows .row 1."),
        ("path,label\n,y\n2.png,x\n", {}, "no value in path in 1 rows .row 1."),
        ("path,label\n1.png,y\n2.png,x\n1.png,x\n", {}, "an earlier row has named otherwise in 1 rows .row 3."),
        ("path,label,split\n1.png,y,fold1\n2.png,x,train\n", {}, "'fold1' in 1 rows.*--split_map fold1=test"),
    ],
)
def test_what_is_wrong_with_a_table(tmp_path: Path, text: str, options: dict, words: str):
    listing = list_table(table(tmp_path, text), CorpusOptions(**options))
    assert len(listing.problems) == 1
    with pytest.raises(CorpusError, match=words):
        raise CorpusError(listing.problems)


def test_a_table_that_is_none(tmp_path: Path):
    for name, content in (("a.csv", b""), ("b.csv", b"\xff\xfe\x00"), ("c.parquet", b"PAR1")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorpusError, match=f"{name} cannot be read as a table"):
            list_table(tmp_path / name, CorpusOptions())


def test_parquet_with_bytes_and_numbers(tmp_path: Path):
    images = [{"bytes": b"one", "path": "1.png"}, {"bytes": b"two", "path": None}]
    pandas.DataFrame({"image": images, "label": [0, 1], "patient": [3.0, None]}).to_parquet(tmp_path / "t.parquet")
    listing = list_table(tmp_path / "t.parquet", CorpusOptions())
    rows = [(item.source, item.content, item.found, item.group) for item in listing.items]
    assert rows == [("1.png", b"one", "0", "3"), ("row 1", b"two", "1", "")]


def test_a_folders_own_metadata_says_what_its_images_are(grow):
    root = grow({"train/a": 1, "test/a": 1})
    table(root, "file_name,label,patient,split\ntrain/a/0.png,x,P1,train\n", "metadata.csv")
    listing = list_folder(root, CorpusOptions())
    assert [(item.source, item.found, item.group) for item in listing.items] == [("train/a/0.png", "x", "P1")]
    assert "labels are those of metadata.csv" in listing.notes[0]


@pytest.mark.parametrize("name", ["tabelle.csv", "notes.tsv"])
def test_a_table_of_unknown_columns_beside_images_without_classes_is_asked_about(grow, name: str):
    root = grow({"bilder": 2})
    cells = [["Bilddatei", "Befund"], ["bilder/0.png", "gesund"], ["bilder/1.png", "krank"]]
    separator = "\t" if name.endswith("tsv") else ";"
    table(root, "".join(separator.join(row) + "\n" for row in cells), name)
    (asked,) = list_folder(root, CorpusOptions()).problems
    assert asked.startswith(f"{name} may say the classes") and "Bilddatei, Befund; name them with --image_col" in asked
    named = found(root, image_column="Bilddatei", label_column="Befund")
    assert [one[1] for one in named] == ["gesund", "krank"]


def test_metadata_without_labels_gives_the_groups(grow):
    root = grow({"a": 1, "b": 1})
    table(root, "file_name,patient\na/0.png,P1\n", "metadata.csv")
    listing = list_folder(root, CorpusOptions())
    assert [(item.found, item.group) for item in listing.items] == [("a", "P1"), ("b", "")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split_map": {"x": "trian"}}, "--split_map x=trian: a split is train, validation, test or ignore"),
        ({"class_map": {"x": " "}}, "--class_map x= gives no class"),
        ({"group_pattern": "("}, "is no regular expression"),
    ],
)
def test_options_are_checked_at_once(options: dict, words: str):
    with pytest.raises(InputError, match=words):
        CorpusOptions(**options)


def test_a_split_to_be_ignored_is_ignored_in_a_table_too(grow):
    root = grow({"i": 3})
    (root / "t.csv").write_text("path,label,split\ni/0.png,x,train\ni/1.png,y,test\ni/2.png,y,dev\n")
    listing = list_table(root / "t.csv", CorpusOptions(split_map={"test": "ignore", "dev": "validation"}))
    assert [(item.source, item.split) for item in listing.items] == [("i/0.png", "train"), ("i/2.png", "validation")]


@pytest.mark.parametrize("names", [("a/0.png", "a/1.png", "b/2.png"), ("0.png", "1.png", "2.png")])
def test_a_table_beside_class_folders_names_files_by_path_or_by_names_of_their_own(grow, names: tuple[str, ...]):
    root = grow({"a": 2, "b": 3})
    for taken in ("0.png", "1.png"):
        (root / "b" / taken).unlink()
    (root / "metadata.csv").write_text("".join(f"{row}\n" for row in ("file_name,patient", *(f"{n},p" for n in names))))
    listing = list_folder(root, CorpusOptions())
    assert [item.group for item in listing.items] == ["p"] * 3 and listing.group_origin == "column patient"


def test_a_table_that_names_no_image_is_no_source_of_patients(grow):
    root = grow({"a": 2, "b": 1})
    (root / "metadata.csv").write_text("file_name,patient\nx.png,p\n0.png,q\n")  # two images are called 0.png
    listing = list_folder(root, CorpusOptions())
    assert not listing.group_origin and not any(item.group for item in listing.items)
    assert "metadata.csv names none of the images and is left out" in listing.notes
    assert (
        "metadata.csv names none of the images (it has 'x.png' where they are 'a/0.png') and is left out"
        in listing.details
    )
    problems = list_folder(root, CorpusOptions(group_column="patient")).problems
    assert problems == [
        "metadata.csv names none of the images (it has 'x.png' where they are 'a/0.png'); give paths relative to it"
    ]
    (problem,) = list_folder(root, CorpusOptions(mask_column="roi", group_column="patient")).problems[:1]
    assert problem == "metadata.csv has no column 'roi' (--mask_column); it has file_name, patient"
    (root / "metadata.csv").write_text("file_name,patient\na/0.png,p\n")
    listing = list_folder(root, CorpusOptions())
    assert "metadata.csv names 1 of 3 images" in listing.notes and listing.group_origin == "column patient"
