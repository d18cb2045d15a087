"""DICOM trees as scanners leave them: what is no slice is left out and counted, and never ends a load."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from ct_xception.corpus.load import CorpusOptions, load_corpus
from ct_xception.errors import CorpusError
from ct_xception.phantom.corpus import generate_phantom
from tests.imaging.builders import set_tags

KINDS = {
    "DICOM files without an image": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.22", "PixelData": None},
    "localizers": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    "secondary captures": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
    "DICOM slices of another modality": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.128", "Modality": "PT"},
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Class folders of twelve DICOM slices, and nothing else."""
    folder = generate_phantom(tmp_path / "d", patients=6, slices_per_patient=2, size=32, classes=2, dicom=True)
    (folder / "metadata.csv").unlink()
    return folder


def change(path: Path, to: Path, tags: dict) -> None:
    set_tags(pydicom.dcmread(path), tags).save_as(to)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decode", [True, False])
def test_what_is_no_slice_is_left_out_and_counted(tree: Path, kind: str, decode: bool):
    first = sorted((tree / "train" / "normal").glob("*.dcm"))[0]
    for index in range(2):
        change(first, first.with_name(f"extra{index}"), KINDS[kind])
    report = load_corpus(tree, CorpusOptions(decode=decode)).report
    assert report["images"] == 12 and report["passed_over"][kind] == 2 and report["groups"]["count"] == 6


def test_a_dicomdir_and_a_report_in_the_class_folders_are_no_images(tree: Path):
    first = sorted((tree / "test" / "normal").glob("*.dcm"))[0]
    change(first, first.with_name("SR1"), KINDS["DICOM files without an image"])
    change(first, first.with_name("DICOMDIR"), {"SOPClassUID": None, "PixelData": None, "Rows": None, "Columns": None})
    report = load_corpus(tree).report
    assert report["images"] == 12 and report["passed_over"]["DICOM files without an image"] == 2


def test_a_slice_that_lost_its_pixels_is_damaged_and_not_another_kind(tree: Path):
    first = sorted((tree / "train" / "normal").glob("*.dcm"))[0]
    change(first, first, {"PixelData": None})
    with pytest.raises(CorpusError, match=first.name):
        load_corpus(tree)


def test_a_corpus_of_secondary_captures_alone_is_read(tree: Path):
    for path in [path for path in tree.rglob("*.dcm") if "masks" not in path.parts]:
        change(path, path, KINDS["secondary captures"])
    assert load_corpus(tree, CorpusOptions(decode=False)).report["images"] == 12


def test_a_class_of_nothing_but_localizers_is_a_problem(tree: Path):
    for split in ("train", "valid", "test"):
        for path in (tree / split / "normal").glob("*.dcm"):
            change(path, path, KINDS["localizers"])
    with pytest.raises(CorpusError, match="all 6 files of the class 'normal' are no CT slices.*--exclude"):
        load_corpus(tree)


def test_kinds_in_a_dataset_leave_their_rows(tree: Path, tmp_path: Path):
    import datasets

    paths = sorted(path for path in tree.rglob("*.dcm") if "masks" not in path.parts)
    change(paths[0], paths[0], KINDS["localizers"])
    features = datasets.Features(image=datasets.Image(decode=False), label=datasets.Value("string"))
    columns = {"image": [{"bytes": path.read_bytes(), "path": None} for path in paths],
               "label": [path.parent.name for path in paths]}  # fmt: skip
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "saved")
    train = load_corpus(tmp_path / "saved").dataset["train"]
    assert [row["bytes"] for row in train["image"]] == [path.read_bytes() for path in paths[1:]]
    assert list(train["source"]) == [f"train/{row}" for row in range(1, 12)]
