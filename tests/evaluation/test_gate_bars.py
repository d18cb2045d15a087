"""What the input gate of a phantom-trained network refuses: foreign pictures, and not the phantom's own slices."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.foreign import foreign_pictures
from ct_xception.evaluation.gate_fit import fit_gate, see_slices
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import WINDOWS, apply_window
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.phantom.corpus import REFERENCE_CLASSES, phantom_slice
from ct_xception.serving.classifier import Classifier, Prediction
from ct_xception.serving.gate import Gate, GateVerdict, Signs
from ct_xception.serving.text import bars, json_object, tab_separated, table

COUNTS = {"train": 144, "validation": 48, "test": 64}
EPOCHS = 3


def draw_slices(name: str) -> tuple[list[Slice], torch.Tensor]:
    """Phantom slices, each of a patient of its own, the classes and the two usual windows in turn; and labels."""
    rng, slices = np.random.default_rng([7, *name.encode()]), []
    for number in range(COUNTS[name]):
        hu = phantom_slice(rng, REFERENCE_CLASSES[number % 4], size=160).hu
        window = WINDOWS["lung" if number // 4 % 2 else "mediastinal"]
        slices.append(Slice(apply_window(hu, window), f"{name} {number}", 16, True, window))
    return slices, torch.arange(COUNTS[name]) % 4


def train_classifier(slices: list[Slice], labels: torch.Tensor) -> Classifier:
    """A network of 64 px, from random weights, after a few steps: the gate may not need a good one."""
    model = CTXceptionForImageClassification.from_backbone("legacy_xception", REFERENCE_CLASSES, 64, seed=1)
    classifier = Classifier(model)
    pixels = torch.stack([classifier.prepare(one).pixel_values for one in slices])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    order = torch.Generator().manual_seed(3)
    with torch.random.fork_rng(devices=[]):
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(slices), generator=order).split(16):
                loss = model.train()(pixel_values=pixels[rows], labels=labels[rows]).loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    model.eval()
    return classifier


@pytest.fixture(scope="module")
def own() -> dict[str, tuple[list[Slice], torch.Tensor]]:
    return {name: draw_slices(name) for name in COUNTS}


@pytest.fixture(scope="module")
def classifier(own: dict[str, tuple[list[Slice], torch.Tensor]]) -> Classifier:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trained = train_classifier(*own["train"])
    finally:
        torch.set_num_threads(threads)
    train, validation = (see_slices(trained, own[name][0]) for name in ("train", "validation"))
    rule, arrays = fit_gate(train, validation, weights_sha256="")
    trained.gate = Gate.read(rule, arrays)
    return trained


@pytest.fixture(scope="module")
def answers(
    classifier: Classifier, own: dict[str, tuple[list[Slice], torch.Tensor]]
) -> dict[str, list[tuple[str, Prediction]]]:
    """What the predictor says of test slices and of foreign pictures, each with its name."""
    foreign = foreign_pictures()
    return {
        "own": [(one.source, one) for one in classifier(own["test"][0])],
        "foreign": list(zip([one.name for one in foreign], classifier([one.source for one in foreign]), strict=True)),
    }


@pytest.fixture(scope="module")
def verdicts(answers: dict[str, list[tuple[str, Prediction]]]) -> dict[str, list[GateVerdict]]:
    return {name: [answer.gate for _, answer in said if answer.gate] for name, said in answers.items()}


def test_foreign_pictures_score_above_the_corpus(verdicts: dict[str, list[GateVerdict]]) -> None:
    scores = {name: [verdict.score for verdict in said] for name, said in verdicts.items()}
    truth = np.repeat([0, 1], [len(scores["own"]), len(scores["foreign"])])
    assert len(scores["foreign"]) >= 140 and len(scores["own"]) == COUNTS["test"]
    assert roc_auc_score(truth, scores["own"] + scores["foreign"]) >= 0.98


def test_foreign_pictures_are_refused_with_a_reason(verdicts: dict[str, list[GateVerdict]]) -> None:
    said = verdicts["foreign"]
    assert np.mean([verdict.refused for verdict in said]) >= 0.95
    assert all(verdict.reasons for verdict in said if verdict.refused)


def test_the_corpus_is_not_refused(verdicts: dict[str, list[GateVerdict]]) -> None:
    assert np.mean([verdict.refused for verdict in verdicts["own"]]) <= 0.03
    assert np.mean([verdict.verdict == "accepted" for verdict in verdicts["own"]]) >= 0.8


def test_a_photograph_is_never_answered_surely(
    classifier: Classifier, answers: dict[str, list[tuple[str, Prediction]]]
) -> None:
    """What a network says of a photograph may be sure; what is shown of it may not."""
    cat = dict(answers["foreign"][::-1])["chelsea.png"]
    assert cat.gate is not None and cat.gate.refused
    shown = [*bars([cat]), *table([cat], ["cat"], classifier.label_names, 200, gated=True)]
    shown += tab_separated([cat], classifier.label_names, gated=True)
    assert "%" not in re.sub("% of (its pixels|pixels coloured|the picture)", "", "".join(shown))
    assert shown[1].strip().startswith("refused: ") and any("of its pixels are coloured" in line for line in shown)
    assert "probabilities" in "".join(json_object([cat], "m"))


def test_signs_and_distance_are_both_needed(
    classifier: Classifier, answers: dict[str, list[tuple[str, Prediction]]]
) -> None:
    assert classifier.gate is not None
    gates = {
        "whole": classifier.gate,
        "distance alone": replace(classifier.gate, signs=Signs()),
        "signs alone": replace(classifier.gate, doubtful=1e9, refused=1e9),
    }
    refused = dict.fromkeys(gates, 0)
    for _, answer in answers["foreign"][::3]:
        crop = classifier.prepare(answer.slice).crop
        for name, gate in gates.items():
            assert answer.outputs is not None
            refused[name] += gate.judge(answer.slice, crop, answer.outputs.features).refused
    assert refused["whole"] > max(refused["distance alone"], refused["signs alone"])
