"""Which items' heat maps are checked, and what is kept of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from ct_xception.evaluation.answers import Items
from ct_xception.evaluation.evaluation import Evaluation, Outputs
from ct_xception.evaluation.explanations import (
    Checked,
    Explanations,
    MapEvidence,
    describe,
    examine,
    explanation_figures,
    pointing_figures,
    sample,
)
from ct_xception.evaluation.measure import evaluate
from ct_xception.evaluation.predictions import Names
from ct_xception.explain.faithfulness import Pointing
from ct_xception.metrics import ABSENT
from ct_xception.serving.classifier import Classifier
from tests.evaluation.conftest import LABEL_NAMES, draw_nothing, make_split


def test_the_sample_is_even_over_classes_answered_and_seeded() -> None:
    labels = np.array([0] * 50 + [1] * 3 + [2] * 20)
    answered = np.ones(73, bool)
    answered[50] = False
    rows = sample(labels, answered, 12, seed=4)
    assert rows == sorted(set(rows)) and rows == sample(labels, answered, 12, seed=4) != sample(labels, answered, 12, 5)
    assert np.bincount(labels[rows]).tolist() == [5, 2, 5]  # class 1 has no more, and the others share the rest
    assert 50 not in rows
    assert sample(labels, answered, 0, seed=4) == [] and len(sample(labels, answered, 500, seed=4)) == 72


@pytest.fixture(scope="module")
def found(tiny_checkpoint: Path, picture_split: Dataset) -> dict[int, MapEvidence]:
    return dict(examine(Classifier.from_pretrained(tiny_checkpoint, gate=False), picture_split, [1, 4], []).evidence)


def test_what_is_kept_is_of_the_class_put_first_and_holds_no_place(
    found: dict[int, MapEvidence], tiny_checkpoint: Path, picture_split: Dataset
) -> None:
    classifier = Classifier.from_pretrained(tiny_checkpoint)
    for row, evidence in found.items():
        image = picture_split[row]["image"]["bytes"]
        record = evidence.to_json()
        assert record["target"] == classifier(image).label
        assert set(record["deletion"]) == set(record["insertion"]) == {"area", "random_area"}
        assert "regions" not in record and set(record["agreement"]) == {"integrated_gradients", "occlusion"}
        json.dumps(record)
    assert list(found) == [1, 4]


def test_figures_are_those_of_the_records(found: dict[int, MapEvidence], picture_split: Dataset) -> None:
    items = Items.of(picture_split)
    names = Names(items.sources, anonymous=True)
    stated = describe(Checked(found), items, LABEL_NAMES, names)
    assert [(r.source, r.group, r.label) for r in stated.records] == [
        ("item 000001", "group 000000", "large cell carcinoma"),
        ("item 000004", "group 000002", "adenocarcinoma"),
    ]
    figures = explanation_figures(Explanations.from_json(json.dumps(stated.to_json())))
    areas = [found[row].deletion.area for row in (1, 4)]
    assert figures.deletion_area.value == pytest.approx(np.mean(areas)) and figures.deletion_area.n == 2
    assert figures.warned.value == np.mean([bool(found[row].warnings) for row in (1, 4)])
    assert "lesions" not in stated.to_json() and figures.pointing_game == ABSENT
    pointings = {4: Pointing(True, True, 0.0, 0.4, 0.1, 0.2, 0.3), 1: Pointing(False, True, 2.0, 0.2, 0.1, 0.2, 0.1)}
    stated = describe(Checked(found, pointings), items, LABEL_NAMES, names)
    assert [(lesion.source, lesion.hit) for lesion in stated.lesions] == [
        ("item 000001", False),
        ("item 000004", True),
    ]
    lesions = pointing_figures(stated.lesions, ["group 000000", "group 000002"])
    assert explanation_figures(stated) == figures.model_copy(update=lesions)
    assert lesions["pointing_game"].value == 0.5


def test_a_file_that_is_gone_is_left_out(tiny_checkpoint: Path, picture_split: Dataset) -> None:
    torn = make_split([b"torn", picture_split[0]["image"]["bytes"]], [0, 1])
    classifier = Classifier.from_pretrained(tiny_checkpoint, gate=False)
    assert examine(classifier, torn, [0], []).evidence == examine(classifier, torn, [], []).evidence == {}


def test_an_evaluation_checks_as_many_as_asked_and_none_without(
    tiny_checkpoint: Path, picture_split: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct_xception.evaluation.measure.draw_evaluation", draw_nothing)
    asked: list[list[int]] = []

    def nothing(_: object, __: object, rows: list[int], ___: object, **____: object) -> Checked:
        asked.append(rows)
        return Checked()

    monkeypatch.setattr("ct_xception.evaluation.explanations.examine", nothing)
    for count in (3, 0):
        outputs = Outputs(folder=tmp_path / str(count))
        options = {"stock": False, "progress": False, "outputs": outputs, "explained": count}
        metrics = evaluate(Evaluation(tiny_checkpoint, {"test": picture_split}, **options))
        assert metrics.explanations is None and not (tmp_path / str(count) / "explanations.json").exists()
    assert [len(rows) for rows in asked] == [3, 0]
