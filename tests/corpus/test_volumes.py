"""Files of several slices in a corpus: volumes are series of slices, pages are asked about."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from ct_xception.corpus.cells import digest_of, slice_source
from ct_xception.corpus.load import CorpusOptions, corpus_summary, load_corpus
from ct_xception.corpus.split import make_splits
from ct_xception.errors import CorpusError, InputError
from ct_xception.imaging.frames import slices_of, spread
from ct_xception.imaging.reader import read_slice
from tests.imaging.builders import ct

SLICES = 6


def draw(seed: int, slices: int = SLICES, side: int = 24) -> np.ndarray:
    """HU (slices, side, side) int16: a body in air, unlike in every slice."""
    hu = np.full((slices, side, side), -1000, np.int16)
    hu[:, 5:-5, 4:-4] = np.random.default_rng(seed).integers(-100, 200, (slices, side - 10, side - 8))
    return hu


def nifti(path: Path, hu: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0), np.diag([-1.0, -1, 2, 1])), path)


def enhanced(path: Path, hu: np.ndarray, **tags: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ct((hu + 1024).astype(np.uint16), WindowCenter=40, WindowWidth=400, **tags))


def pages(path: Path, hu: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = (Image.fromarray(np.clip(one // 8 + 128, 0, 255).astype(np.uint8)) for one in hu)
    first.save(path, save_all=True, append_images=others)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Four volumes a class, of three kinds, and a picture."""
    for number, label in enumerate(("sick", "well")):
        for index, name in enumerate(("a.nii.gz", "b.nii", "c.nii.gz")):
            nifti(tmp_path / "v" / label / name, draw(10 * number + index))
        enhanced(tmp_path / "v" / label / "d.dcm", draw(10 * number + 4), PatientID=f"P{number}")
        Image.fromarray(np.full((24, 24), 9 + number, np.uint8)).save(tmp_path / "v" / label / "one.png")
    return tmp_path / "v"


def test_a_volume_is_a_series_of_slices(volumes: Path):
    corpus = load_corpus(volumes)
    train = corpus.dataset["train"]
    assert len(train) == 2 * (4 * SLICES + 1)
    assert "note: 8 files of several slices gave 48 slices" in corpus_summary(corpus.report)
    rows = [row for row in train if row["source"].startswith("sick/a.nii.gz")]
    assert [row["source"] for row in rows] == [f"sick/a.nii.gz#{frame}" for frame in range(SLICES)]
    assert {row["series"] for row in rows} == {"sick/a.nii.gz"} and len({row["group"] for row in rows}) == 1
    assert next(row["frame"] for row in train if row["source"].endswith("one.png")) == -1
    hu = draw(0)
    for row in rows:
        slice_ = read_slice(slice_source(row))
        expected = read_slice(ct((hu[row["frame"]] + 1024).astype(np.uint16)))
        assert slice_.is_hu and np.array_equal(slice_.pixels, expected.pixels), row["source"]
    assert len({digest_of(row) for row in train}) == len(train)


def test_patients_of_headers_hold_and_no_split_cuts_a_file(volumes: Path):
    train = load_corpus(volumes).dataset["train"]
    assert {row["group"] for row in train if "d.dcm" in row["source"]} == {"P0", "P1"}
    splits, described = make_splits(load_corpus(volumes).dataset, fractions=(0.5, 0.25, 0.25))
    where: dict[str, set[str]] = {}
    for name, part in splits.items():
        for source in part["source"]:
            where.setdefault(source.partition("#")[0], set()).add(name)
    assert all(len(names) == 1 for names in where.values()) and described["crossing_groups"] == 0


@pytest.mark.parametrize("decode", [True, False])
def test_slices_per_file_takes_them_evenly(volumes: Path, decode: bool):
    train = load_corpus(volumes, CorpusOptions(slices_per_file="2", decode=decode)).dataset["train"]
    assert [row["frame"] for row in train if "sick/b.nii" in row["source"]] == [1, 4]
    assert len(train) == 2 * (4 * 2 + 1)
    one = load_corpus(volumes, CorpusOptions(frame=3, exclude=("one.png", "*/one.png"), decode=decode))
    assert "frame" not in one.dataset["train"].column_names or set(one.dataset["train"]["frame"]) == {-1}


def test_spread_takes_the_middle_of_equal_parts():
    assert spread(9, "3", "x") == (1, 4, 7) and spread(4, "9", "x") == (0, 1, 2, 3) and spread(1, "all", "x") == ()
    with pytest.raises(InputError, match="2,000,000 frames, more than 4,000"):
        spread(2_000_000, None, "x")


@pytest.mark.parametrize("asked", ["0", "-1", "some", "", "1.5"])
def test_what_is_no_number_is_refused(asked: str):
    with pytest.raises(InputError, match="--slices_per_file"):
        CorpusOptions(slices_per_file=asked)


@pytest.mark.parametrize("name", ["x.tif", "x.gif"])
def test_pages_are_asked_about_and_taken_where_it_is_said(tmp_path: Path, name: str):
    for number, label in enumerate("ab"):
        pages(tmp_path / "t" / label / name, draw(number))
    with pytest.raises(CorpusError, match=f"{SLICES} (frames|pages)"):
        load_corpus(tmp_path / "t")
    assert len(load_corpus(tmp_path / "t", CorpusOptions(slices_per_file="all")).dataset["train"]) == 2 * SLICES
    assert slices_of([tmp_path / "t" / "a" / name], None, None) == [tmp_path / "t" / "a" / name]


def test_a_damaged_slice_is_named_by_its_frame(tmp_path: Path):
    for number, label in enumerate("ab"):
        enhanced(tmp_path / "t" / label / "d.dcm", draw(number), NumberOfFrames=SLICES + 2)
    with pytest.raises(CorpusError, match=f"a/d.dcm#{SLICES}: "):
        load_corpus(tmp_path / "t")


def test_a_table_names_slices_of_volumes(tmp_path: Path):
    nifti(tmp_path / "a.nii.gz", draw(0))
    nifti(tmp_path / "b.nii.gz", draw(1))
    rows = [f"{name}.nii.gz,{frame},{'sick' if frame > 2 else 'well'}" for name in "ab" for frame in range(SLICES)]
    table = tmp_path / "slices.csv"
    table.write_text("\n".join(["path,frame,label", *rows]))
    train = load_corpus(table).dataset["train"]
    assert len(train) == 2 * SLICES and set(train["group"]) == {"a.nii.gz", "b.nii.gz"}
    assert [train.features["label"].names[row["label"]] for row in train] == [row.rsplit(",")[-1] for row in rows]
    table.write_text("\n".join(["path,frame,label", *rows, "a.nii.gz,99,well"]))
    with pytest.raises(CorpusError, match="no frame 99: it has 6"):
        load_corpus(table)


def test_masks_of_volumes_are_volumes(tmp_path: Path):
    from ct_xception.corpus.inspection import read_mask

    mask = np.zeros((SLICES, 24, 24), np.int16)
    mask[2, 8, 9] = 1
    nifti(tmp_path / "mask.nii.gz", mask)
    for name in "ab":
        nifti(tmp_path / f"{name}.nii.gz", draw(ord(name)))
    table = tmp_path / "t.csv"
    table.write_text("path,label,mask\na.nii.gz,sick,mask.nii.gz\nb.nii.gz,well,\n")
    row = next(row for row in load_corpus(table).dataset["train"] if row["source"] == "a.nii.gz#2")
    found = read_mask(Path(row["mask"]), row["frame"])
    assert found[8, 9] and found.sum() == 1 and not read_mask(Path(row["mask"]), 3).any()
