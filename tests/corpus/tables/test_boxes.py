"""Boxes of lesions in a table: one or several an image, checked against it, and as good as a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from ct_xception.corpus.listing import CorpusOptions
from ct_xception.corpus.load import load_corpus
from ct_xception.corpus.tables.boxes import box_mask
from ct_xception.errors import CorpusError, InputError
from ct_xception.evaluation.answers import Answers
from ct_xception.evaluation.explanations import NEAR, examine, lesion_rows
from ct_xception.explain.explain import explain
from ct_xception.explain.faithfulness import point
from ct_xception.serving.classifier import Classifier

COLUMNS = "x0,y0,x1,y1"
OPTIONS = CorpusOptions(box_columns=COLUMNS)
HEAD = f"path,label,{COLUMNS}\n"


def write(root: Path, text: str) -> Path:
    (root / "metadata.csv").write_text(text)
    return root / "metadata.csv"


def test_a_tables_boxes_are_masks_of_their_pixels_ends_counted(grow) -> None:
    root = grow({"a": 2, "b": 1})
    table = write(root, HEAD + "a/0.png,x,0,1,2,3\na/1.png,x,,,,\na/0.png,x,3.0,0,3,0\nb/0.png,y,1,1,1,1\n")
    train = load_corpus(table, OPTIONS).dataset["train"]
    assert list(train["boxes"]) == ["0,1,2,3;3,0,3,0", "", "1,1,1,1"]
    mask = np.zeros((4, 4), bool)
    mask[1:4, 0:3] = mask[0, 3] = True
    assert (box_mask(train["boxes"][0], (4, 4)) == mask).all() and box_mask("1,1,1,1", (4, 4)).sum() == 1


def test_a_table_beside_class_folders_names_all_boxes_of_an_image(grow) -> None:
    root = grow({"a": 2, "b": 1})
    write(root, "path,x0,y0,x1,y1\na/1.png,0,0,1,1\na/1.png,2,2,3,3\n")
    train = load_corpus(root, OPTIONS).dataset["train"]
    assert dict(zip(train["source"], train["boxes"], strict=True)) == {
        "a/0.png": "", "a/1.png": "0,0,1,1;2,2,3,3", "b/0.png": ""
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("path,label,x0,y0,x1\na/0.png,x,0,0,1\nb/0.png,y,,,\n", "has no column 'y1' .--box_columns.; it has path"),
        (HEAD + "a/0.png,x,2,0,1,3\nb/0.png,y,,,,\n", r"boxes that are none in 1 rows .row 1."),
        (HEAD + "a/0.png,x,0,0,1,\nb/0.png,y,0,0,1,x\n", r"boxes that are none in 2 rows .row 1, 2."),
        (HEAD + "a/0.png,x,-1,0,1,2\nb/0.png,y,,,,\n", r"boxes that are none in 1 rows .row 1."),
        (HEAD + "a/0.png,x,0,0,4,3\nb/0.png,y,,,,\n", r"a box of a/0.png ends at \(4, 3\), and its image has 4 x 4"),
        (HEAD + "a/0.png,x,,,,\nb/0.png,y,,,,\n", "no table of the corpus gives an image of it a box"),
    ],
)
def test_boxes_that_cannot_be_right_are_named(grow, text: str, problem: str) -> None:
    with pytest.raises(CorpusError, match=problem):
        load_corpus(write(grow({"a": 1, "b": 1}), text), OPTIONS)


@pytest.mark.parametrize("given", ["x0,y0,x1", "x0,y0,x1,x1", "a,b,,c"])
def test_four_columns_are_asked_for(given: str) -> None:
    with pytest.raises(InputError, match="--box_columns .*give four columns"):
        CorpusOptions(box_columns=given)


def test_a_map_is_held_against_its_boxes(tiny_checkpoint: Path) -> None:
    test = load_corpus("phantom:patients=12,slices=2,size=64").dataset["test"]
    row = next(row for row, mask in enumerate(test["mask"]) if mask)
    boxes = ["10,20,29,39" if number == row else "" for number in range(len(test))]
    boxed: Dataset = test.remove_columns("mask").add_column("boxes", boxes)
    right = Answers(np.eye(4)[test["label"]])
    assert lesion_rows(boxed, right) == [row]
    classifier = Classifier.from_pretrained(tiny_checkpoint, gate=False)
    found = examine(classifier, boxed, [], [row]).pointings[row]
    mask = np.zeros((64, 64), bool)
    mask[20:40, 10:30] = True
    heat = explain(classifier, classifier.read(boxed[row]["image"]["path"])).attribution.map
    assert found == point(heat, mask, tolerance=NEAR * 64) and found.area == mask.mean()


def test_radiologists_boxes_are_read(request: pytest.FixtureRequest) -> None:
    from tests.conftest import SHARED

    root = SHARED / "corpora" / "lung-dx-dicom"
    if not root.is_dir():
        pytest.skip("radiologists' boxes are not on this machine (../shared/corpora/lung-dx-dicom)")
    options = CorpusOptions(box_columns="xmin,ymin,xmax,ymax", class_map={"A0001": "one", "A0002": "two"})
    train = load_corpus(root, options).dataset["train"]
    assert sum(bool(text) for text in train["boxes"]) == 19 and len(train) == 50
