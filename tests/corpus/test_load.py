"""Corpora loaded from every kind of source, and every kind of fault in one message."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import datasets
import numpy as np
import pandas
import pytest
from PIL import Image

from ct_xception.corpus.load import CorpusOptions, corpus_summary, load_corpus
from ct_xception.errors import CorpusError, InputError
from ct_xception.imaging.reader import read_slice
from ct_xception.phantom.corpus import generate_phantom
from ct_xception.phantom.scanner import png_bytes

REFERENCE = ["adenocarcinoma", "large cell carcinoma", "normal", "squamous cell carcinoma"]


def test_columns_and_features(grow):
    corpus = load_corpus(grow({"train/a": 2, "train/b": 1, "test/a": 1, "test/b": 1}))
    assert list(corpus.dataset) == ["train", "test"] and corpus.label_names == ["a", "b"]
    train = corpus.dataset["train"]
    assert train.column_names == ["image", "label", "group", "source"]
    assert train.features["label"].names == ["a", "b"] and train.features["image"].decode is False
    assert list(train["label"]) == [0, 0, 1]
    assert list(train["source"]) == ["train/a/0.png", "train/a/1.png", "train/b/0.png"]
    assert list(train["group"]) == list(train["source"])  # nobody knows the patients
    assert read_slice(train[2]["image"]["path"]).pixels.shape == (4, 4)


def test_the_report_is_json_and_counts_what_was_found(grow):
    root = grow({"train/a.x": 2, "train/b": 1, "valid/a.x": 1, "test/a": 1, "test/b": 3, "masks": 1})
    (root / "train" / "a.x" / "notes.txt").write_text("not an image")
    report = load_corpus(root).report
    assert json.loads(json.dumps(report)) == report
    assert report["counts"] == {"train": {"a": 2, "b": 1}, "validation": {"a": 1, "b": 0}, "test": {"a": 1, "b": 3}}
    assert report["split_table"] == {"train": "train", "valid": "validation", "test": "test"}
    assert {"split": "train", "found": "a.x", "class": "a", "images": 2} in report["class_table"]
    assert report["passed_over"] == {".txt": 1, "masks": 1} and report["ignored_folders"] == ["masks"]
    assert report["images"] == 8
    assert "the class 'b' has no image in validation" in report["notes"]
    summary = corpus_summary(report)
    assert "train/a.x is 'a' (2 images)" in summary and "left out: 1 .txt, 1 masks and the folders masks" in summary


def test_the_hash_is_of_the_content(grow, tmp_path: Path):
    root = grow({"a": 2, "b": 1})
    first = load_corpus(root).report["hash"]
    moved = root.rename(tmp_path / "elsewhere")
    assert load_corpus(moved).report["hash"] == first
    os.replace(moved / "a" / "1.png", moved / "a" / "2.png")
    renamed = load_corpus(moved).report["hash"]
    Image.new("L", (4, 4), 7).save(moved / "a" / "2.png")
    assert len({first, renamed, load_corpus(moved).report["hash"]}) == 3


def test_all_problems_come_in_one_message(grow):
    root = grow({"train/a": 1, "train/b": 1, "train/empty": 0, "test/a": 1, "test/z": 1})
    (root / "train" / "a" / "text.png").write_text("no image")
    whole = png_bytes(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8))
    (root / "train" / "b" / "cut.png").write_bytes(whole[:600])
    os.symlink(root / "nowhere.png", root / "test" / "a" / "broken.png")
    os.mkfifo(root / "test" / "a" / "pipe.png")
    with pytest.raises(CorpusError) as caught:
        load_corpus(root, CorpusOptions(class_map={"typo": "a"}))
    text = str(caught.value)
    for words in (
        "--class_map names 'typo'",
        "the class folder 'empty' of train holds no image",
        "the class 'z' is in test but not in train; add training images, or say which class it is with --class_map z=",
        "train/a/text.png: neither DICOM nor one of",
        "train/b/cut.png: a PNG cut short",
        "test/a/broken.png: no such file",
        "test/a/pipe.png: not a regular file",
    ):
        assert words in text
    assert text.startswith("7 problems in the corpus:")


def test_a_dozen_unreadable_files_are_enough_to_read(grow):
    root = grow({"a": 1, "b": 1})
    for index in range(30):
        (root / "a" / f"bad{index}.png").write_text("x")
    with pytest.raises(CorpusError, match="and 18 more images that cannot be read") as caught:
        load_corpus(root)
    assert len(caught.value.problems) == 13
    assert caught.value.problems[-1].endswith("; --exclude NAME… leaves them out")


def test_what_cannot_be_read_is_left_out_as_the_sentence_says(grow):
    root = grow({"a": 2, "b": 2})
    for name in ("it's [1].png", "two#3.png"):
        (root / "a" / name).write_text("x")
    with pytest.raises(CorpusError) as caught:
        load_corpus(root)
    words = shlex.split(str(caught.value).partition("; --exclude ")[2].partition(" leaves them out")[0])
    with pytest.raises(CorpusError) as elsewhere:  # of an external corpus, say, to which the option does not apply
        load_corpus(root, CorpusOptions(excludable=False))
    assert "two#3.png" in str(elsewhere.value) and "--exclude" not in str(elsewhere.value)
    corpus = load_corpus(root, CorpusOptions(exclude=tuple(words)))
    assert corpus.dataset["train"].num_rows == 4 and corpus.report["passed_over"] == {"excluded by name": 2}


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ({}, "holds no class folders with images; make one folder a class"),
        ({"a": 2}, "there is only one class, 'a'; a classifier needs two or more"),
        ({"a": 0, "b": 0}, "the class folder 'a' of train holds no image"),
        ({".": 3}, "holds no class folders with images"),
    ],
)
def test_a_folder_that_is_no_corpus(grow, folders: dict, words: str):
    root = grow({".": 0, **folders})
    with pytest.raises(CorpusError, match=words):
        load_corpus(root)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no/such/folder", "no such folder or file; give phantom.*, a dataset saved to disk, a folder, a CSV or"),
        ("x", "no such folder or file"),
        ("phantom:dogs=3", "'dogs=3' is no option of the phantom; it takes patients=N"),
        ("phantom:patients=3", "patients is 3, and must lie between 4"),
    ],
)
def test_a_source_that_is_none(name: str, words: str):
    with pytest.raises(InputError, match=words):
        load_corpus(name)


def test_a_file_that_is_no_table(tmp_path: Path):
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(
        InputError, match="is a file but no table .\\.csv, \\.tsv, \\.parquet, \\.jsonl, \\.json, \\.txt"
    ):
        load_corpus(tmp_path / "x.png")


def test_a_table_and_its_missing_files(grow):
    root = grow({"i": 3})
    (root / "t.csv").write_text("path,label,patient\ni/0.png,x,7\ni/1.png,y,\ni/9.png,y,8\n")
    with pytest.raises(CorpusError, match=r"1 images are named but not there \(i/9.png\); mend the paths"):
        load_corpus(root / "t.csv")
    (root / "t.csv").write_text("path,label,patient\ni/0.png,x,7\ni/1.png,y,\ni/2.png,y,7\n")
    corpus = load_corpus(root / "t.csv")
    assert list(corpus.dataset["train"]["group"]) == ["7", "i/1.png", "7"]
    assert corpus.report["groups"] == {"count": 2, "origin": "column patient"} and corpus.report["kind"] == "table"


def test_series_of_a_table_stand_beside_patients_or_for_them(grow):
    root = grow({"i": 3})
    (root / "t.csv").write_text("path,label,patient,series_uid\ni/0.png,x,7,1.2\ni/1.png,y,,1.3\ni/2.png,y,8,\n")
    train = load_corpus(root / "t.csv").dataset["train"]
    assert list(train["group"]) == ["7", "1.3", "8"] and list(train["series"]) == ["1.2", "1.3", ""]
    (root / "t.csv").write_text("path,label,scan\ni/0.png,x,1.2\ni/1.png,y,1.3\ni/2.png,y,1.2\n")
    corpus = load_corpus(root / "t.csv", CorpusOptions(series_column="scan"))
    assert list(corpus.dataset["train"]["group"]) == ["1.2", "1.3", "1.2"]
    assert corpus.report["groups"] == {"count": 2, "origin": "series"}


def test_images_inside_a_parquet_table(grow, tmp_path: Path):
    content = [path.read_bytes() for path in sorted(grow({"x": 2}).rglob("*.png"))]
    pandas.DataFrame({"image": content, "label": ["a", "b"]}).to_parquet(tmp_path / "t.parquet")
    train = load_corpus(tmp_path / "t.parquet").dataset["train"]
    assert [row["image"]["bytes"] for row in train] == content and list(train["source"]) == ["row 0", "row 1"]


def test_groups_from_the_names(grow):
    root = grow({"a/p1": 2, "a/p2": 1, "b/p3": 1})
    corpus = load_corpus(root, CorpusOptions(group_pattern=r"/(p\d)/"))
    assert list(corpus.dataset["train"]["group"]) == ["p1", "p1", "p2", "p3"]
    with pytest.raises(CorpusError, match="matches no image's path, such as 'a/p1/0.png'"):
        load_corpus(root, CorpusOptions(group_pattern="zz"))


def test_twenty_classes_with_weird_names(grow):
    names = [f"Klasse ä {index}.x" for index in range(18)] + ["日本 語", "100%_sure"]
    corpus = load_corpus(grow({f"{split}/{name}": 1 for split in ("train", "test") for name in names}))
    assert len(corpus.label_names) == 20 and "日本 語" in corpus.label_names and "100% sure" in corpus.label_names
    assert corpus.label_names == sorted(corpus.label_names, key=str.casefold)


def test_a_file_name_that_is_not_utf_8_still_loads(grow):
    root = grow({"a": 1, "b": 1})
    os.rename(root / "a" / "0.png", os.fsencode(root / "a") + b"/\xff.png")
    first = load_corpus(root).dataset["train"][0]
    assert first["source"] == "a/\\udcff.png" and read_slice(first["image"]["bytes"]).pixels.shape == (4, 4)


def test_a_window_reaches_the_reader(grow):
    root = grow({"a": 1, "b": 1})
    Image.fromarray(np.linspace(0, 3000, 64).reshape(8, 8).astype(np.int32)).save(root / "a" / "deep.tif")
    with pytest.raises(CorpusError, match="a/deep.tif"):
        load_corpus(root)
    from ct_xception.imaging.windows import Window

    assert len(load_corpus(root, CorpusOptions(window=Window(1500, 3000))).dataset["train"]) == 3
    undecoded = load_corpus(root, CorpusOptions(decode=False))
    assert len(undecoded.dataset["train"]) == 3 and undecoded.report["decoded"] is False


def test_the_phantom_folder_carries_its_patients(small_phantom: Path):
    corpus = load_corpus(small_phantom)
    assert corpus.label_names == REFERENCE and {split: len(part) for split, part in corpus.dataset.items()} == {
        "train": 8, "validation": 8, "test": 8,
    }  # fmt: skip
    assert corpus.report["groups"] == {"count": 12, "origin": "column patient"}
    assert set(corpus.dataset["train"]["group"]).isdisjoint(corpus.dataset["test"]["group"])


def test_phantom_by_name_is_generated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CT_XCEPTION_CACHE", str(tmp_path))
    name = "phantom:patients=6,slices=1,size=32,seed=5,classes=sick+normal,plant=duplicates:1"
    first = load_corpus(name)
    (folder,) = tmp_path.iterdir()
    stamp = (folder / "metadata.csv").stat().st_mtime_ns
    again = load_corpus(name)
    assert (folder / "metadata.csv").stat().st_mtime_ns == stamp and len(list(tmp_path.iterdir())) == 1
    assert first.report == again.report and first.report["kind"] == "phantom" and first.report["images"] == 7
    assert first.label_names == ["normal", "sick"]
    load_corpus(name.replace("seed=5", "seed=6"))
    assert len(list(tmp_path.iterdir())) == 2


def test_phantoms_cache_follows_the_desktop_convention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CT_XCEPTION_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_corpus("phantom:patients=4,slices=1,size=32,classes=2")
    assert [path.name for path in tmp_path.iterdir()] == ["ct-xception"]


def test_a_dicom_tree_is_grouped_by_patient(tmp_path: Path):
    folder = generate_phantom(tmp_path / "d", patients=6, slices_per_patient=2, size=32, classes=2, dicom=True)
    (folder / "metadata.csv").unlink()
    for path in sorted(folder.rglob("*.dcm"))[::2]:
        path.rename(path.with_suffix(""))  # as archives name them
    corpus = load_corpus(folder)
    assert corpus.report["groups"] == {"count": 6, "origin": "DICOM PatientID"} and corpus.report["images"] == 12
    assert all(corpus.dataset["train"]["series"]) and len(set(corpus.dataset["train"]["series"])) >= 2
    assert set(corpus.dataset["train"]["group"]).isdisjoint(corpus.dataset["test"]["group"])


def hub_dataset(**columns) -> datasets.Dataset:
    pictures = [Image.new("L", (4, 4), 10 * index) for index in range(len(columns["label"]))]
    features = datasets.Features(picture=datasets.Image(), label=datasets.ClassLabel(names=["sick", "well"]))
    features |= {name: datasets.Value("string") for name in columns if name != "label"}
    return datasets.Dataset.from_dict({"picture": pictures, **columns}, features=datasets.Features(features))


@pytest.fixture
def on_the_hub(monkeypatch: pytest.MonkeyPatch):
    def publish(**splits: datasets.Dataset) -> list:
        asked: list = []

        def load_dataset(name: str, **options) -> datasets.DatasetDict:
            asked.append((name, options))
            return datasets.DatasetDict(splits)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return asked

    return publish


def test_a_hub_dataset(on_the_hub):
    train = hub_dataset(label=[0, 1, 0], patient_id=["p", "q", "p"])
    asked = on_the_hub(train=train, dev=hub_dataset(label=[1, 0], patient_id=["r", "r"]))
    corpus = load_corpus("user/scans@v1")
    assert asked == [("user/scans", {"revision": "v1"})]  # and no remote code
    assert corpus.label_names == ["sick", "well"] and list(corpus.dataset) == ["train", "validation"]
    rows = list(corpus.dataset["train"])
    assert [row["source"] for row in rows] == ["train/0", "train/1", "train/2"]
    assert [row["group"] for row in rows] == ["p", "q", "p"] and [row["label"] for row in rows] == [0, 1, 0]
    assert read_slice(rows[1]["image"]["bytes"]).pixels[0, 0] == 10
    assert corpus.report["kind"] == "hub" and corpus.report["groups"]["origin"] == "column patient_id"


def test_a_hub_datasets_faults(on_the_hub):
    on_the_hub(train=hub_dataset(label=[0, 1]), extra=hub_dataset(label=[0, 1]))
    with pytest.raises(CorpusError, match="has the split 'extra'.*--split_map extra=train"):
        load_corpus("user/scans")
    assert len(load_corpus("user/scans", CorpusOptions(split_map={"extra": "ignore"})).dataset["train"]) == 2
    on_the_hub(train=hub_dataset(label=[0, 1]).remove_columns("label"))
    with pytest.raises(CorpusError, match="no column known to hold the label; name one with --label_column: picture"):
        load_corpus("user/scans")


@pytest.mark.parametrize("label", [-1, None])
def test_a_hub_split_without_labels_is_refused_or_left_out(on_the_hub, label):
    on_the_hub(train=hub_dataset(label=[0, 1]), test=hub_dataset(label=[label, 0, label]))
    with pytest.raises(CorpusError, match="2 of 3 rows of the split 'test' have no label; .*--split_map test=ignore"):
        load_corpus("user/scans")
    assert list(load_corpus("user/scans", CorpusOptions(split_map={"test": "ignore"})).dataset) == ["train"]


def test_a_hub_split_without_some_images_is_refused(on_the_hub):
    train = hub_dataset(label=[0, 1])
    table = train.to_dict() | {"picture": [None, train.with_format(None)[1]["picture"]]}
    on_the_hub(train=datasets.Dataset.from_dict(table, features=train.features))
    with pytest.raises(CorpusError, match="1 of 2 rows of the split 'train' have no image"):
        load_corpus("user/scans")


def test_the_hub_switched_off_is_said_at_once():
    with pytest.raises(CorpusError, match="user/scans: nothing of that name here, and the Hub is switched off"):
        load_corpus("user/scans")


def test_a_hub_that_does_not_answer_is_said_at_once(monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "is_offline_mode", lambda: False)

    def refuse(self, name: str, **options):
        raise ConnectionError("[Errno 111] Connection refused")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: pytest.fail("asked a Hub that is away"))
    with pytest.raises(CorpusError, match="the Hub does not answer .*Connection refused.*try again later"):
        load_corpus("user/scans")


@pytest.mark.real_corpus
def test_the_reference_corpus(reference_corpus: Path):
    corpus = load_corpus(reference_corpus)
    assert corpus.label_names == REFERENCE
    assert {split: len(part) for split, part in corpus.dataset.items()} == {"train": 613, "validation": 72, "test": 315}
    assert list(corpus.report["counts"]["test"].values()) == [120, 51, 54, 90]
    assert len({row["class"] for row in corpus.report["class_table"]}) == 4
    assert len({row["found"] for row in corpus.report["class_table"]}) == 7
    assert "test/large.cell.carcinoma is 'large cell carcinoma' (51 images)" in corpus_summary(corpus.report)


def test_a_class_folder_whose_name_is_not_utf8(grow, tmp_path: Path):
    root = grow({"train/malignant": 1})
    strange = os.path.join(os.fsencode(root), b"train", b"b\xe9nin")
    try:
        os.mkdir(strange)
    except OSError:
        pytest.skip("this file system takes no such name")
    os.link(root / "train/malignant/0.png", os.path.join(strange, b"0.png"))
    corpus = load_corpus(root)
    assert len(corpus.label_names) == 2 and all(name.encode() for name in corpus.label_names)
    assert len(corpus.report["hash"]) == 64
