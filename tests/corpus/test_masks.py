"""Masks of lesions: found in a table, checked against their images, and left out where the column is something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ct_xception.corpus.inspection import read_mask
from ct_xception.corpus.listing import CorpusOptions
from ct_xception.corpus.load import load_corpus
from ct_xception.errors import CorpusError


@pytest.fixture
def masked(grow) -> Path:
    """Three pictures of two classes in class folders, and two masks."""
    root = grow({"a": 2, "b": 1, "masks": 1})
    for name in ("0", "1"):
        Image.fromarray(np.eye(4, dtype=np.uint8) * 255).save(root / "masks" / f"{name}.png")
    return root


def write(root: Path, text: str) -> Path:
    (root / "metadata.csv").write_text(text)
    return root / "metadata.csv"


ROWS = "a/0.png,x,masks/0.png\na/1.png,x,\nb/0.png,y,masks\\1.png\n"


@pytest.mark.parametrize(("column", "options"), [("mask", {}), ("Lesion_Mask", {}), ("seg", {"mask_column": "seg"})])
def test_a_table_names_masks(masked: Path, column: str, options: dict) -> None:
    corpus = load_corpus(write(masked, f"path,label,{column}\n{ROWS}"), CorpusOptions(**options))
    train = corpus.dataset["train"]
    assert list(train["mask"]) == [str(masked / "masks/0.png"), "", str(masked / "masks/1.png")]
    assert (read_mask(Path(train["mask"][0])) == np.eye(4, dtype=bool)).all()
    assert "mask" not in str(corpus.report["notes"])


def test_a_table_beside_class_folders_names_masks_too(masked: Path) -> None:
    write(masked, "path,mask\na/0.png,masks/0.png\n")
    Path(masked / "masks").rename(masked / ".masks")
    write(masked, "path,mask\na/0.png,.masks/0.png\n")
    train = load_corpus(masked).dataset["train"]
    assert list(train["mask"]) == [str(masked / ".masks/0.png"), "", ""]
    assert list(train["group"]) == list(train["source"])


def test_the_phantom_has_masks_of_all_but_the_healthy() -> None:
    for split in load_corpus("phantom:patients=12,slices=2,size=64").dataset.values():
        names = split.features["label"].names
        for label, mask in zip(split["label"], split["mask"], strict=True):
            assert (names[label] == "normal") == (mask == "") and (not mask or read_mask(Path(mask)).any())


def test_masks_that_do_not_fit_are_named(masked: Path) -> None:
    Image.fromarray(np.ones((6, 5), np.uint8)).save(masked / "masks/0.png")
    (masked / "masks/1.png").write_bytes(b"torn")
    with pytest.raises(CorpusError) as told:
        load_corpus(write(masked, f"path,label,mask\n{ROWS}"))
    words = str(told.value)
    assert "the mask of a/0.png has 5 x 6 pixels and its image 4 x 4; give masks of the images' own size" in words
    assert "the mask of b/0.png cannot be read: " in words and "1.png" in words


def test_some_masks_missing_is_a_fault_and_all_of_them_another_column(masked: Path) -> None:
    table = write(masked, f"path,label,mask\n{ROWS}")
    (masked / "masks/0.png").unlink()
    with pytest.raises(
        CorpusError, match=r"1 masks are named but not there \(a/0.png\); mend the paths or remove the c"
    ):
        load_corpus(table)
    write(masked, "path,label,mask\na/0.png,x,yes\na/1.png,x,no\nb/0.png,y,no\n")
    corpus = load_corpus(table)
    assert "mask" not in corpus.dataset["train"].column_names
    assert "its column of masks names no file that is there, and is left out" in corpus.report["notes"]
    with pytest.raises(CorpusError, match="3 masks are named but not there"):
        load_corpus(table, CorpusOptions(mask_column="mask"))
    with pytest.raises(CorpusError, match="has no column 'roi' .--mask_column.; it has path, label, mask"):
        load_corpus(table, CorpusOptions(mask_column="roi"))
