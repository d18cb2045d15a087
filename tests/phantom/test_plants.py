"""Whatever is planted is really there, and listed."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ct_xception.imaging.reader import read_slice
from ct_xception.phantom.corpus import generate_phantom
from ct_xception.phantom.plants import ALTERATIONS, BRIGHTER, alter, parse_plants


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plant = ["duplicates:4", "near-duplicates:5", "leaks:7", "conflicts:3"]
    folder = tmp_path_factory.mktemp("planted") / "p"
    return generate_phantom(folder, patients=16, slices_per_patient=3, size=64, plant=plant)


def plants(folder: Path, kind: str) -> list[dict]:
    return [one for one in json.loads((folder / "planted.json").read_text())["planted"] if one["kind"] == kind]


def metadata(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "metadata.csv", newline="", encoding="utf-8") as stream:
        return {row["file_name"]: row for row in csv.DictReader(stream)}


def test_kinds_with_and_without_numbers():
    assert parse_plants(["leaks", "duplicates:20"]) == (("leaks", None), ("duplicates", 20))


def test_metadata_and_files_agree_after_planting(planted: Path):
    files = {path.relative_to(planted).as_posix() for path in planted.rglob("*.*") if path.suffix in (".png", ".jpg")}
    assert {name for name in files if not name.startswith("masks/")} == set(metadata(planted))
    assert {row["mask"] for row in metadata(planted).values() if row["mask"]} <= files


def test_duplicates_are_the_same_bytes_in_the_same_place(planted: Path):
    found = plants(planted, "duplicates")
    assert len(found) == 4
    for one in found:
        first, second = (planted / name for name in one["files"])
        assert first.read_bytes() == second.read_bytes() and first.parent == second.parent and first != second


def test_near_duplicates_are_other_bytes_of_the_same_slice(planted: Path):
    found = plants(planted, "near-duplicates")
    assert [one["how"] for one in found] == list(ALTERATIONS)
    rows = metadata(planted)
    for one in found:
        first, second = one["files"]
        assert (planted / first).read_bytes() != (planted / second).read_bytes()
        assert {rows[first][key] for key in ("patient", "label", "split")} == {
            rows[second][key] for key in ("patient", "label", "split")
        }
        assert rows[second]["mask"] == ""


def test_leaks_put_test_patients_into_training(planted: Path):
    found, rows = plants(planted, "leaks"), metadata(planted)
    assert len(found) == 7 and {"copied", "patient"} < {one["how"] for one in found}
    for one in found:
        test, train = rows[one["files"]["test"]], rows[one["files"]["train"]]
        assert (test["split"], train["split"]) == ("test", "train")
        assert test["patient"] == train["patient"] == one["patient"]
        same = (planted / test["file_name"]).read_bytes() == (planted / train["file_name"]).read_bytes()
        assert same == (one["how"] == "copied")


def test_conflicts_give_one_image_two_labels(planted: Path):
    found, rows = plants(planted, "conflicts"), metadata(planted)
    assert len(found) == 3
    for one in found:
        first, second = one["files"]
        assert (planted / first).read_bytes() == (planted / second).read_bytes()
        assert [rows[first]["label"], rows[second]["label"]] == one["labels"] and len(set(one["labels"])) == 2


def test_what_was_planted_is_where_it_is_said_to_be_although_leaks_move_images(tmp_path: Path):
    plant = ["duplicates:40", "near-duplicates:40", "leaks:8", "conflicts:20"]
    folder = generate_phantom(tmp_path / "p", patients=24, slices_per_patient=3, size=48, plant=plant)
    rows = metadata(folder)
    for one in json.loads((folder / "planted.json").read_text())["planted"]:
        files = list(one["files"].values()) if isinstance(one["files"], dict) else one["files"]
        assert set(files) <= set(rows) and all((folder / name).is_file() for name in files)
        assert one["kind"] == "leaks" or len({rows[name]["split"] for name in files}) == 1
    assert any(one["how"] == "patient" for one in plants(folder, "leaks"))


def test_only_the_listed_leaks_cross_a_split(planted: Path):
    homes: dict[str, set[str]] = {}
    for row in metadata(planted).values():
        homes.setdefault(row["patient"], set()).add(row["split"])
    crossing = {patient for patient, splits in homes.items() if len(splits) > 1}
    assert crossing == {one["patient"] for one in plants(planted, "leaks")}


def test_brightness_gives_one_class_away(tmp_path: Path):
    options = {"patients": 8, "slices_per_patient": 2, "size": 48}
    plain = generate_phantom(tmp_path / "plain", **options)
    bright = generate_phantom(tmp_path / "bright", plant=["brightness"], **options)
    (one,) = plants(bright, "brightness")
    changed = Counter()
    for name, row in metadata(plain).items():
        before, after = read_slice(plain / name).pixels, read_slice(bright / name).pixels
        changed[row["label"]] += not np.array_equal(before, after)
        if name in one["files"]:
            np.testing.assert_array_equal(after, np.minimum(before.astype(int) + BRIGHTER, 255))
    assert {label: number for label, number in changed.items() if number} == {one["label"]: 4}


def test_the_default_number_is_a_share_of_the_images(tmp_path: Path):
    folder = generate_phantom(tmp_path / "p", patients=25, slices_per_patient=2, size=32, plant=["duplicates"])
    assert len(plants(folder, "duplicates")) == 2


@pytest.mark.parametrize("how", ALTERATIONS)
def test_an_alteration_stays_close_to_the_slice(how: str, small_phantom: Path):
    from PIL import Image

    pixels = read_slice(next((small_phantom / "train" / "normal").iterdir())).pixels
    content, _ = alter(pixels, how, np.random.default_rng(0))
    again = Image.fromarray(read_slice(content).pixels).resize(pixels.shape[::-1])
    least = 0.4 if how == "cropped" else 0.75  # the crop is stretched to the slice's size
    assert np.corrcoef(np.asarray(again).ravel(), pixels.ravel())[0, 1] > least
