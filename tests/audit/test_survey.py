"""Every file is looked at once, in order; what cannot be read is listed and keeps its place."""

from __future__ import annotations

import hashlib
from pathlib import Path

import datasets
import numpy as np
import pydicom
import pytest
from PIL import Image

from ct_xception.audit import survey as module
from ct_xception.audit.survey import Survey, pixel_digest, survey_corpus, thumbnail
from ct_xception.audit.traits import grey_statistics
from ct_xception.corpus.load import load_corpus
from ct_xception.imaging.body.crop import crop_body
from ct_xception.imaging.reader import read_slice
from ct_xception.phantom.corpus import generate_phantom


@pytest.fixture(scope="module")
def corpus(small_phantom: Path) -> datasets.DatasetDict:
    return load_corpus(small_phantom).dataset


@pytest.fixture(scope="module")
def survey(corpus: datasets.DatasetDict) -> Survey:
    return survey_corpus(corpus, groups_known=True, progress=False)


def test_items_come_split_by_split_in_the_datasets_order(survey: Survey, corpus: datasets.DatasetDict):
    splits = ("train", "validation", "test")
    assert survey.sources == [source for split in splits for source in corpus[split]["source"]]
    assert survey.labels.tolist() == [label for split in splits for label in corpus[split]["label"]]
    assert survey.groups == [group for split in splits for group in corpus[split]["group"]] and survey.groups_known
    assert survey.splits == sorted(survey.splits, key=splits.index) and len(survey) == 24


def test_an_image_is_described_by_its_file_and_its_pixels(survey: Survey, corpus: datasets.DatasetDict):
    path = Path(corpus["train"][3]["image"]["path"])
    slice_ = read_slice(path)
    assert survey.byte_hash[3] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert survey.pixel_hash[3] == pixel_digest(slice_.pixels)
    np.testing.assert_array_equal(survey.aligned[3], thumbnail(crop_body(slice_).slice.pixels, 96))
    np.testing.assert_array_equal(survey.raw[3], slice_.pixels)  # 64 pixels as they are
    box, side = crop_body(slice_).box, slice_.pixels.shape[0]
    np.testing.assert_allclose(survey.boxes[3] * side, [box.top, box.bottom, box.left, box.right], atol=1e-4)
    assert survey.statistics["mean"][3] == grey_statistics(slice_.pixels)["mean"]
    assert survey.attributes["width"][3] == 64 and survey.windows[3] == "8-bit" and not survey.metadata
    assert survey.readable.all()


def test_the_number_of_processes_changes_nothing(survey: Survey, corpus: datasets.DatasetDict):
    again = survey_corpus(corpus, processes=1, progress=False)
    assert again.byte_hash == survey.byte_hash
    np.testing.assert_array_equal(again.aligned, survey.aligned)


def test_equal_pixels_in_another_file_share_their_pixel_hash(tmp_path: Path, small_phantom: Path):
    path = next((small_phantom / "train" / "normal").iterdir())
    Image.open(path).save(tmp_path / "again.bmp")
    first, second = (
        module.look_at({"image": {"path": str(one)}, "source": "x"}) for one in (path, tmp_path / "again.bmp")
    )
    assert first.pixel_hash == second.pixel_hash and first.byte_hash != second.byte_hash


def test_pixels_of_another_shape_are_another_picture():
    flat = np.zeros((4, 6), dtype=np.uint8)
    assert pixel_digest(flat) != pixel_digest(flat.T)


def test_what_cannot_be_read_is_listed_and_keeps_its_place(corpus: datasets.DatasetDict):
    features = corpus["train"].features
    rows = [corpus["train"][index] for index in range(3)]
    rows[0] |= {"image": {"bytes": b"no picture", "path": None}}
    rows[1] |= {"image": {"bytes": None, "path": "/nowhere/at/all.png"}}
    columns = {name: [row[name] for row in rows] for name in features}
    broken = datasets.DatasetDict(test=datasets.Dataset.from_dict(columns, features=features))
    survey = survey_corpus(broken, progress=False)
    assert set(survey.failed) == set(survey.sources[:2]) and survey.readable.tolist() == [False, False, True]
    assert "neither DICOM nor" in survey.failed[survey.sources[0]]
    assert "No such file" in survey.failed[survey.sources[1]]
    assert survey.byte_hash[0] and not survey.byte_hash[1] and survey.pixel_hash[:2] == ["", ""]
    assert np.isnan(survey.statistics["mean"][:2]).all() and np.isfinite(survey.statistics["mean"][2])
    assert not survey.aligned[:2].any() and survey.aligned[2].any()


def test_dicom_tells_its_window_and_how_it_was_taken(tmp_path: Path):
    folder = generate_phantom(tmp_path / "d", patients=4, slices_per_patient=1, size=64, dicom=True)
    survey = survey_corpus(load_corpus(folder).dataset, progress=False)
    assert all(window.startswith("window ") and window.endswith(" HU") for window in survey.windows)
    assert survey.metadata == {"slice thickness": ["1 mm"] * 4}


@pytest.mark.parametrize(
    ("tag", "value"), [("SliceThickness", "N/A"), ("SliceThickness", "1,25 mm"), ("PatientAge", "sixty")]
)
def test_a_malformed_tag_beside_the_pixels_costs_itself_alone(tmp_path: Path, tag: str, value: str):
    folder = generate_phantom(tmp_path / "d", patients=4, slices_per_patient=1, size=64, dicom=True)
    first = sorted(folder.rglob("*.dcm"))[0]
    dataset = pydicom.dcmread(first)
    with pydicom.config.disable_value_validation():
        dataset.add_new(tag, "LO", value)
        dataset.save_as(first)
    survey = survey_corpus(load_corpus(folder).dataset, progress=False)
    assert not survey.failed and sorted(survey.metadata["slice thickness"])[1:] == ["1 mm"] * 3


def test_many_thumbnails_lie_in_a_file_that_goes_with_them(
    survey: Survey, corpus: datasets.DatasetDict, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "ON_DISK_FROM", 1)
    again = survey_corpus(corpus, progress=False)
    assert isinstance(again.aligned, np.memmap)
    for name in ("aligned", "raw", "detail"):
        np.testing.assert_array_equal(getattr(again, name), getattr(survey, name))


def test_what_the_reader_doubts_is_kept(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(40, 200, (96, 96), dtype=np.uint8)
    blank = pixels.copy()
    blank[40:60] = 0
    for name, shown in (("whole", pixels), ("blank", blank)):
        Image.fromarray(shown).save(tmp_path / f"{name}.tif")
    files = [{"path": str(tmp_path / f"{name}.tif"), "bytes": None} for name in ("whole", "blank")]
    looks = [module.look_at({"source": "a", "image": file}) for file in files]
    assert [look.columns["foreign"]["doubts"] for look in looks] == [0.0, 1.0]
