"""The phantom corpus as a folder: what it promises to whoever reads it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from ct_xception.errors import InputError
from ct_xception.imaging.body.crop import body_mask
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.windows import WINDOWS, apply_window
from ct_xception.phantom.corpus import REFERENCE_CLASSES, PhantomOptions, class_names, generate_phantom, phantom_slice


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metadata.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("label", REFERENCE_CLASSES)
def test_a_slice_has_hounsfield_units_and_honest_masks(label: str):
    image = phantom_slice(np.random.default_rng(1), label, size=128)
    assert image.hu.dtype == np.float32 and image.hu.shape == (128, 128)
    assert image.hu.min() >= -1024.0 and 400.0 < image.hu.max() < 2000.0  # cortical bone
    healthy = image.lung_mask & ~image.lesion_mask
    assert -900.0 < np.median(image.hu[healthy]) < -700.0
    assert (image.lung_mask <= image.body_mask).all() and (image.lesion_mask <= image.lung_mask).all()
    assert image.lesion_mask.any() == (label != "normal")
    assert np.median(image.hu[~image.body_mask]) < -990.0


def test_our_own_body_crop_finds_the_phantoms_body():
    for seed in range(3):
        image = phantom_slice(np.random.default_rng(seed), "normal", size=128)
        found = body_mask(apply_window(image.hu, WINDOWS["lung"]))
        assert (found & image.body_mask).sum() / (found | image.body_mask).sum() > 0.9
        without_fat = body_mask(apply_window(image.hu, WINDOWS["mediastinal"]))
        assert (without_fat & image.body_mask).sum() / without_fat.sum() > 0.95


def test_masses_are_big_enough_to_learn_from():
    shares = []
    for seed in range(10):
        image = phantom_slice(np.random.default_rng(seed), "large cell carcinoma", size=96)
        lesion, lungs = np.flatnonzero(image.lesion_mask.any(0)), np.flatnonzero(image.lung_mask.any(0))
        shares.append(np.ptp(lesion) / np.ptp(lungs))
    assert 0.25 < np.median(shares) < 0.45


def test_an_unknown_label_is_refused():
    with pytest.raises(InputError, match="'cyst' is not among the phantom's classes"):
        phantom_slice(np.random.default_rng(0), "cyst")


def test_metadata_names_every_image_once(small_phantom: Path):
    rows = rows_of(small_phantom)
    named = [row["file_name"] for row in rows]
    written = {path.relative_to(small_phantom).as_posix() for path in small_phantom.glob("t*/**/*.png")}
    written |= {path.relative_to(small_phantom).as_posix() for path in small_phantom.glob("valid/**/*.png")}
    assert len(named) == len(set(named)) == 24 and set(named) == written
    for row in rows:
        split, label, name = row["file_name"].split("/")
        assert (row["split"], row["label"]) == (split, label)
        assert name == f"{row['series']}_{int(row['slice']):03d}.png" and row["series"].startswith(row["patient"])


def test_images_are_windowed_slices_and_masks_fit_their_boxes(small_phantom: Path):
    for row in rows_of(small_phantom):
        image = read_slice(small_phantom / row["file_name"])
        assert image.pixels.shape == (64, 64) and image.pixels.std() > 20 and image.bit_depth == 8
        assert (row["mask"] == "") == (row["label"] == "normal") == (row["lesion_left"] == "")
        if row["mask"]:
            mask = read_slice(small_phantom / row["mask"]).pixels
            assert set(np.unique(mask)) == {0, 255}
            left, top, right, bottom = (int(row[f"lesion_{side}"]) for side in ("left", "top", "right", "bottom"))
            inside = mask[top:bottom, left:right]
            assert inside.sum() == mask.sum() and inside[0].any() and inside[-1].any() and inside[:, 0].any()


def test_patients_keep_to_one_split_and_every_split_has_every_class(small_phantom: Path):
    homes, seen = defaultdict(set), defaultdict(set)
    for row in rows_of(small_phantom):
        homes[row["patient"]].add(row["split"])
        seen[row["split"]].add(row["label"])
    assert all(len(splits) == 1 for splits in homes.values()) and len(homes) == 12
    assert {split: len(labels) for split, labels in seen.items()} == {"train": 4, "valid": 4, "test": 4}


def test_nothing_is_planted_unless_asked_for(small_phantom: Path):
    assert json.loads((small_phantom / "planted.json").read_text())["planted"] == []
    images = [name for name in digests(small_phantom) if name.endswith(".png") and not name.startswith("masks")]
    assert len(images) == len({digests(small_phantom)[name] for name in images})


def test_the_window_says_nothing_about_the_class(tmp_path: Path):
    folder = generate_phantom(tmp_path / "p", patients=60, slices_per_patient=2, size=32)
    lung = Counter(row["label"] for row in rows_of(folder) if row["window"] == "lung")
    assert all(6 <= lung[label] <= 24 for label in REFERENCE_CLASSES)  # of 30 each


def test_the_same_seed_gives_the_same_bytes_and_another_other_ones(tmp_path: Path):
    options = {"patients": 5, "slices_per_patient": 2, "size": 48, "plant": ["duplicates:1", "leaks:2"]}
    one, two = (digests(generate_phantom(tmp_path / name, seed=3, **options)) for name in "ab")
    assert one == two
    other = digests(generate_phantom(tmp_path / "c", seed=4, **options))
    assert not set(one.values()) & set(other.values())


@pytest.mark.parametrize("number", [2, 3, 20])
def test_any_number_of_classes(tmp_path: Path, number: int):
    folder = generate_phantom(tmp_path / "p", patients=number, slices_per_patient=1, size=32, classes=number)
    assert len({row["label"] for row in rows_of(folder)}) == number
    assert "normal" in class_names(number) or number == 3


def test_weird_class_names(tmp_path: Path):
    names = ["stage I.b", "größe ü", "normal"]
    folder = generate_phantom(tmp_path / "p", patients=3, slices_per_patient=1, size=32, classes=names)
    assert {row["label"] for row in rows_of(folder)} == set(names)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patients": 3}, "patients is 3, and must lie between 4 and"),
        ({"size": 8}, "size is 8"),
        ({"slices_per_patient": 0}, "slices_per_patient is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"classes": 1}, "2 to 21 classes, got 1"),
        ({"classes": 22}, "2 to 21 classes, got 22"),
        ({"classes": ["a/b", "c"]}, "'a/b' cannot name a folder"),
        ({"classes": [".a", "c"]}, "leave out slashes and a first dot"),
        ({"plant": ["mistakes"]}, "cannot plant 'mistakes'; choose among duplicates"),
        ({"plant": ["leaks:none"]}, "needs a number above 0"),
        ({"plant": ["leaks"], "dicom": True}, "leave out plant or dicom"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_written(tmp_path: Path, options: dict, words: str):
    with pytest.raises(InputError, match=words):
        generate_phantom(tmp_path / "p", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_left_alone(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not an empty folder"):
        generate_phantom(tmp_path, patients=4, slices_per_patient=1, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path):
    with pytest.raises(InputError, match="999 duplicates cannot be planted: only 4 images"):
        generate_phantom(tmp_path / "p", patients=4, slices_per_patient=1, size=32, plant=["duplicates:999"])
    assert os.listdir(tmp_path) == []


def test_dicom_holds_the_same_slices_in_hounsfield_units(tmp_path: Path):
    from ct_xception.imaging.decoders.dicom import read_header

    options = {"patients": 4, "slices_per_patient": 2, "size": 48, "seed": 2}
    pictures = generate_phantom(tmp_path / "png", **options)
    folder = generate_phantom(tmp_path / "dicom", dicom=True, **options)
    series = defaultdict(set)
    for row, picture in zip(rows_of(folder), rows_of(pictures), strict=True):
        header = read_header(folder / row["file_name"])
        assert (header.patient_id, header.modality, header.rows) == (row["patient"], "CT", 48)
        series[row["series"]].add((header.study_uid, header.series_uid))
        image = read_slice(folder / row["file_name"])
        assert image.is_hu and image.window == WINDOWS[row["window"]]
        shown = read_slice(pictures / picture["file_name"]).pixels
        assert np.abs(image.pixels.astype(int) - shown).max() <= 1  # HU are whole numbers in DICOM
    assert all(len(uids) == 1 for uids in series.values())
    assert len({uids.pop() for uids in series.values()}) == len(series)


def test_dicom_files_are_valid(tmp_path: Path):
    import pydicom

    folder = generate_phantom(tmp_path / "p", patients=4, slices_per_patient=1, size=32, dicom=True)
    for path in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        assert dataset.SOPClassUID.name == "CT Image Storage"
        assert dataset.StudyInstanceUID.is_valid and dataset.SeriesInstanceUID.is_valid
        assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID
        assert dataset.pixel_array.max() < 4096 and dataset.RescaleIntercept == -1024


def test_default_options_are_the_documented_corpus():
    options = PhantomOptions()
    assert options.patients * options.slices_per_patient == 640 and options.classes == REFERENCE_CLASSES
