"""A request and its answer in the words of the Hub's image-classification API."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ct_xception.errors import InputError, SliceError
from ct_xception.imaging.body.crop import BodyCrop
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.decisions import Decisions
from ct_xception.serving.gate import Gate, GateVerdict
from ct_xception.serving.inference_api import (
    Asked,
    NotAnswered,
    classify,
    decode_file,
    read_json_request,
)
from tests.imaging.builders import ct


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    return Classifier.from_pretrained(tiny_checkpoint)


class Doorkeeper(Gate):
    """A gate that says the same of every slice."""

    def __init__(self, verdict: GateVerdict) -> None:
        self.verdict = verdict

    def judge(self, slice_: Slice, crop: BodyCrop, features: np.ndarray) -> GateVerdict:
        return self.verdict


def test_the_answer_is_the_predictor_s_in_the_hub_s_words(classifier: Classifier, sample_slices: list[Path]) -> None:
    answer, expected = classify(classifier, sample_slices[0].read_bytes(), Asked()), classifier(sample_slices[0])
    assert [item["label"] for item in answer] == list(expected.probabilities)
    assert {item["label"]: item["score"] for item in answer} == expected.probabilities
    assert classify(classifier, sample_slices[0], Asked(top_k=2)) == answer[:2]


def test_a_bad_file_is_refused_by_the_name_given(classifier: Classifier) -> None:
    with pytest.raises(SliceError, match="the posted file: neither DICOM nor one of PNG"):
        classify(classifier, b"no picture", Asked())


def test_parameters_are_read_from_numbers_and_from_text() -> None:
    assert Asked.of({}) == Asked.of({"top_k": None, "function_to_apply": "softmax"}) == Asked()
    asked = Asked.of({"top_k": "2", "window": "-600/1500", "frame": 0})
    assert asked == Asked(2, Window(-600, 1500), 0)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"topk": 2}, "parameter 'topk' is unknown; there are top_k, function_to_apply, window, frame"),
        ({"top_k": 0}, "top_k: '0' is no whole number from 1 on"),
        ({"top_k": True}, "top_k: 'True' is no whole number"),
        ({"top_k": 1.5}, "top_k: '1.5' is no whole number"),
        ({"frame": -1}, "frame: '-1' is no whole number from 0 on"),
        ({"frame": "٣"}, "frame: '٣' is no whole number"),
        ({"window": "wide"}, "wide"),
        ({"function_to_apply": "sigmoid"}, "function_to_apply: 'sigmoid' is not to be had"),
    ],
)
def test_parameters_that_cannot_be_met_are_named(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Asked.of(parameters)


def test_a_file_in_base64_comes_back_byte_for_byte() -> None:
    content = bytes(range(256))
    text = base64.b64encode(content).decode()
    assert (
        decode_file(text) == decode_file(f"data:image/png;base64,{text}") == decode_file(text[:70] + "\n" + text[70:])
    )
    body = json.dumps({"inputs": text, "parameters": {"top_k": 1}}).encode()
    assert read_json_request(body) == (content, Asked(top_k=1))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "the body is not JSON, as its content type says"),
        (b"[" * 100_000, "the body is not JSON, as its content type says"),
        (b"[1]", 'the JSON has no "inputs"'),
        (b'{"inputs": "QUJD", "parameters": {"top_k": NaN}}', "NaN is no number"),
        (b'{"inputs": "QUJD", "inputs": "REVG"}', "a key is given twice"),
        (b'{"inputs": "QUJD", "parameters": {"tabular": "[[1]"}}', "tabular: is no JSON object"),
        (b'{"inputs": "QUJD", "parameters": {"tabular": "' + b"[" * 2000 + b'"}}', "tabular: is no JSON object"),
        (b'{"inputs": "QUJD", "parameters": {"tabular": "{}{}"}}', "tabular: is no JSON object"),
        (b'{"inputs": 7}', '"inputs" is int, not text'),
        (b'{"inputs": "/etc/passwd!"}', '"inputs" is not base64; encode the file'),
        (b'{"inputs": "QUJD", "parameters": [1]}', '"parameters" is no JSON object'),
    ],
)
def test_what_is_no_request_is_said(body: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_json_request(body)


def test_a_refused_slice_is_not_answered(classifier: Classifier, sample_slices: list[Path]) -> None:
    reasons = ("a colour photograph", "no body outline")
    refusing = Classifier(classifier.model, gate=Doorkeeper(GateVerdict("refused", reasons, 2.0)))
    with pytest.raises(NotAnswered, match="^not answered: a colour photograph; no body outline.$") as caught:
        classify(refusing, sample_slices[0], Asked())
    assert caught.value.reasons == reasons == refusing(sample_slices[0]).refusal
    doubting = Classifier(classifier.model, gate=Doorkeeper(GateVerdict("doubtful", ("small",), 0.9)))
    first, *others = classify(doubting, sample_slices[0], Asked())
    assert first.pop("doubtful") == ["small"] and [first, *others] == classify(classifier, sample_slices[0], Asked())
    assert classifier(sample_slices[0]).refusal == ()


def test_an_abstention_and_what_was_done_to_the_file_are_said(classifier: Classifier) -> None:
    """Who reads the first label alone must meet them."""
    content = ct(np.full((32, 32), 900, np.int16) + np.eye(32, dtype=np.int16) * 500, PatientPosition="HFP")
    careful = Classifier(classifier.model, decisions=Decisions(abstain_below=0.999))
    first, *others = classify(careful, content, Asked(window=Window(-600, 1500)))
    assert first["abstained"] is True and any("prone" in note for note in first["notes"])
    assert all(set(other) == {"label", "score"} for other in others)
    assert "abstained" not in classify(classifier, content, Asked())[0]
