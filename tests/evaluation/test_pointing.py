"""Which slices the pointing game is played on, what their maps are held against, and the figures of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from ct_xception.corpus.load import load_corpus
from ct_xception.evaluation.answers import Answers, Share
from ct_xception.evaluation.evaluation import Evaluation
from ct_xception.evaluation.explanations import (
    NEAR,
    Checked,
    check_heat_maps,
    examine,
    lesion_rows,
    pointing_figures,
)
from ct_xception.explain.explain import explain
from ct_xception.explain.faithfulness import Pointing, point
from ct_xception.serving.classifier import Classifier


@pytest.fixture(scope="module")
def phantom_test() -> Dataset:
    return load_corpus("phantom:patients=12,slices=2,size=64").dataset["test"]


def answers_of(labels: list[int], wrong: tuple[int, ...] = (), silent: tuple[int, ...] = ()) -> Answers:
    """Sure answers, right but for the rows named."""
    probabilities = np.eye(4)[[(label + (row in wrong)) % 4 for row, label in enumerate(labels)]]
    probabilities[list(silent)] = np.nan
    return Answers(probabilities)


def test_right_answers_with_a_lesion_are_played_on(phantom_test: Dataset) -> None:
    labels, normal = list(phantom_test["label"]), phantom_test.features["label"].str2int("normal")
    ill = [row for row, label in enumerate(labels) if label != normal]
    assert normal in labels and len(ill) > 3
    assert lesion_rows(phantom_test, answers_of(labels)) == ill
    assert lesion_rows(phantom_test, answers_of(labels, wrong=(ill[0],), silent=(ill[2],))) == [ill[1], *ill[3:]]
    assert lesion_rows(phantom_test.remove_columns("mask"), answers_of(labels)) == []


def test_a_map_is_held_against_its_own_mask(tiny_checkpoint: Path, phantom_test: Dataset, tmp_path: Path) -> None:
    rows = lesion_rows(phantom_test, answers_of(list(phantom_test["label"])))[:2]
    found = examine(Classifier.from_pretrained(tiny_checkpoint, gate=False), phantom_test, [], rows).pointings
    assert list(found) == rows
    classifier = Classifier.from_pretrained(tiny_checkpoint, gate=False)
    for row, pointing in found.items():
        item = phantom_test[row]
        mask = np.asarray(Image.open(item["mask"])) > 0
        heat = explain(classifier, classifier.read(item["image"]["path"])).attribution.map
        assert pointing == point(heat, mask, tolerance=NEAR * 64) and pointing.area == mask.mean()


def test_masks_that_went_bad_are_left_out(tiny_checkpoint: Path, phantom_test: Dataset, tmp_path: Path) -> None:
    row = lesion_rows(phantom_test, answers_of(list(phantom_test["label"])))[0]
    for name, pixels in (("empty", np.zeros((64, 64))), ("small", np.ones((32, 32)))):
        Image.fromarray(pixels.astype(np.uint8) * 255).save(tmp_path / f"{name}.png")
    (tmp_path / "torn.png").write_bytes(b"torn")
    classifier = Classifier.from_pretrained(tiny_checkpoint, gate=False)
    for name in ("empty", "small", "torn", "gone"):
        masks = [str(tmp_path / f"{name}.png")] * len(phantom_test)
        split = phantom_test.remove_columns("mask").add_column("mask", masks)
        assert examine(classifier, split, [], [row]).pointings == {}, name


def test_every_process_looks_at_its_share(
    tiny_checkpoint: Path, phantom_test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(_: object, __: object, rows: list[int], lesions: list[int], **___: object) -> Checked:
        return Checked(dict.fromkeys(rows, {}), dict.fromkeys(lesions))  # type: ignore[arg-type]

    monkeypatch.setattr("ct_xception.evaluation.explanations.examine", told)
    answers = answers_of(list(phantom_test["label"]))
    classifier = Classifier.from_pretrained(tiny_checkpoint, gate=False)
    asked = Evaluation(tiny_checkpoint, {"test": phantom_test}, explained=3, progress=False)
    whole = check_heat_maps(asked, classifier, answers)
    parts = [check_heat_maps(asked, classifier, answers, Share(turn, 2)) for turn in (0, 1)]
    assert all(part.pointings and part.evidence for part in parts)
    joined = Checked.join(parts)
    assert sorted(joined.evidence) == sorted(whole.evidence) and len(whole.evidence) == 3
    assert sorted(joined.pointings) == sorted(whole.pointings) == lesion_rows(phantom_test, answers)
    assert check_heat_maps(replace(asked, explained=0), classifier, answers).pointings == {}


def test_figures_count_hits_and_keep_an_interval_when_all_hit() -> None:
    def played(*hits: bool) -> list[Pointing]:
        return [Pointing(hit, True, 0.0, 0.5, 0.02, 0.1, 0.25) for hit in hits]

    figures = pointing_figures(played(True, True, False, True), ["a", "a", "b", "c"])
    assert figures["pointing_game"].value == 0.75 and figures["pointing_game"].n == 4
    assert figures["pointing_game_near"].value == 1 and figures["pointing_game_near"].low < 0.7
    assert figures["lesion_overlap"].value == 0.25 and figures["lesion_area"].value == 0.02
    assert figures["lesion_near_area"].value == pytest.approx(0.1)
    assert (figures["inside_lesion"].value, figures["inside_lesion"].n) == (0.5, 4)
    json.dumps({name: metric.to_json() for name, metric in figures.items()}, allow_nan=False)
    assert pointing_figures([], []) == {}
