"""The classifier against stock transformers, and its promises about order, batches, errors and the input contract."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ct_xception.errors import InputError, SliceError
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.windows import Window
from ct_xception.serving.checkpoint import InputContract
from ct_xception.serving.classifier import Classifier, Prediction
from tests.closeness import ROUNDING


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    return Classifier.from_pretrained(tiny_checkpoint)


def test_without_body_crop_the_answer_is_that_of_stock_pipeline(
    classifier: Classifier, tiny_checkpoint: Path, sample_slices: list[Path]
) -> None:
    from transformers import pipeline

    stock = pipeline("image-classification", model=str(tiny_checkpoint), device="cpu")
    uncropped = Classifier(classifier.model, InputContract(body_crop=False))
    for path in sample_slices[:2]:
        theirs = {row["label"]: row["score"] for row in stock(str(path), top_k=4)}
        ours = uncropped(path).probabilities
        assert ours.keys() == theirs.keys()
        assert ours == pytest.approx(theirs, abs=ROUNDING)


def test_the_body_crop_is_on_by_default(classifier: Classifier, sample_slices: list[Path]) -> None:
    prepared = classifier.prepare(read_slice(sample_slices[0]))
    assert prepared.crop.found and prepared.pixel_values.shape == (3, 64, 64)
    uncropped = Classifier(classifier.model, InputContract(body_crop=False))
    whole = uncropped.prepare(read_slice(sample_slices[0]))
    assert (whole.crop.box.height, whole.crop.box.width) == (96, 112)
    assert not torch.equal(prepared.pixel_values, whole.pixel_values)


def test_a_batch_answers_in_order_as_single_calls_do(classifier: Classifier, sample_slices: list[Path]) -> None:
    together = classifier(sample_slices)
    assert [answer.source for answer in together] == [str(path) for path in sample_slices]
    assert len({round(max(answer.probabilities.values()), 6) for answer in together}) == len(sample_slices)
    for path, answer in zip(sample_slices, together, strict=True):
        assert answer.probabilities == pytest.approx(classifier(path).probabilities, abs=ROUNDING)


def test_probabilities_sum_to_one_and_come_ranked(classifier: Classifier, sample_slices: list[Path]) -> None:
    answer = classifier(sample_slices[0])
    values = list(answer.probabilities.values())
    assert sum(values) == pytest.approx(1, abs=1e-12)
    assert values == sorted(values, reverse=True) and answer.label == next(iter(answer.probabilities))
    assert set(answer.probabilities) == set(classifier.label_names)


def test_bytes_streams_pictures_and_slices_answer_alike(classifier: Classifier, sample_slices: list[Path]) -> None:
    path = sample_slices[1]
    wanted = classifier(path).probabilities
    data = path.read_bytes()
    for source in (data, io.BytesIO(data), Image.open(path), read_slice(path), str(path)):
        assert classifier(source).probabilities == wanted


def test_a_bad_file_takes_its_place_among_the_answers(
    classifier: Classifier, sample_slices: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    sources = [sample_slices[0], bad, sample_slices[1], tmp_path / "gone.png"]
    answers = list(classifier.predict_many(sources, batch_size=2))
    assert [type(answer) for answer in answers] == [Prediction, SliceError, Prediction, SliceError]
    assert answers[2].source == str(sample_slices[1])
    with pytest.raises(SliceError, match="bad.png"):
        classifier([sample_slices[0], bad])


def test_files_are_read_one_batch_at_a_time(classifier: Classifier, sample_slices: list[Path]) -> None:
    asked = []

    def sources() -> Iterator[Path]:
        for path in sample_slices:
            asked.append(path)
            yield path

    answers = classifier.predict_many(sources(), batch_size=2)
    next(answers)
    assert len(asked) == 2
    assert len(list(answers)) == 4


def test_no_slice_at_all_gives_no_answer(classifier: Classifier) -> None:
    assert classifier([]) == []
    with pytest.raises(InputError, match="batch_size is 0"):
        list(classifier.predict_many([], batch_size=0))


def test_the_window_of_the_call_goes_before_that_of_the_checkpoint(classifier: Classifier, tmp_path: Path) -> None:
    deep = tmp_path / "deep.png"
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(deep)
    windowed = Classifier(classifier.model, InputContract(window=Window(1000, 2000)))
    assert windowed(deep).slice.window == Window(1000, 2000)
    answer = windowed(deep, window=Window(3000, 500))
    assert answer.slice.window == Window(3000, 500)
    assert answer.to_dict()["window"] == {"centre": 3000, "width": 500}


def test_filters_of_the_contract_run_before_the_crop(classifier: Classifier, sample_slices: list[Path]) -> None:
    filtering = Classifier(classifier.model, InputContract(filters=("median",)))
    answer = filtering(sample_slices[0])
    assert answer.notes.index("median filter 3 x 3") < answer.notes.index("cropped to the body")
    assert answer.probabilities != classifier(sample_slices[0]).probabilities


def test_an_answer_becomes_json(classifier: Classifier, sample_slices: list[Path]) -> None:
    record = json.loads(json.dumps(classifier(sample_slices[0]).to_dict()))
    assert list(record) == ["source", "label", "probabilities", "window", "notes"]
    assert record["window"] is None and "cropped to the body" in record["notes"]


def test_an_unknown_class_is_answered_with_the_known_ones(classifier: Classifier) -> None:
    assert classifier.label_index("normal") == 2
    with pytest.raises(InputError, match="'benign' is unknown; this checkpoint knows adenocarcinoma, large"):
        classifier.label_index("benign")
