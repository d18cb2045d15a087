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
from tests.imaging.builders import ct, disc, encode, tiff


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


def grained(seed: int, levels: int) -> np.ndarray:
    """A body (64, 64) of as many levels at most, with grain that tells one picture from another; air around it is 0."""
    grain = np.random.default_rng(seed).integers(levels // 4, levels, (64, 64))
    return np.where(disc(64, 26) > 0, grain, 0)


def logits(classifier: Classifier, *contents: bytes, window: Window | None = None) -> np.ndarray:
    """(N, K) of files answered one by one."""
    found = [classifier(content, window=window).outputs for content in contents]
    return np.stack([outputs.logits for outputs in found if outputs is not None])


@pytest.mark.parametrize("seed", range(4))
def test_one_array_has_one_answer_however_it_is_stored(classifier: Classifier, seed: int) -> None:
    grey = grained(seed, 255).astype(np.uint8)
    picture = Image.fromarray(grey)
    stored = [encode(picture, kind) for kind in ("PNG", "TIFF", "BMP")]
    plain = {"RescaleSlope": None, "RescaleIntercept": None}
    found = logits(classifier, *stored, encode(picture.convert("RGB")), tiff(grey), ct(grey, **plain))
    assert np.array_equal(found, np.broadcast_to(found[0], found.shape))
    deep = grained(seed, 3000).astype(np.uint16)
    stored = [encode(Image.fromarray(deep)), encode(Image.fromarray(deep), "TIFF"), tiff(deep), ct(deep, **plain)]
    others = logits(classifier, *stored, window=Window(1500, 3000))
    assert np.array_equal(others, np.broadcast_to(others[0], others.shape))
    assert not np.array_equal(others[0], logits(classifier, *stored[:1], window=Window(1500, 2000))[0])


@pytest.mark.parametrize("seed", range(4))
def test_one_patient_in_hu_has_one_answer_however_it_is_written(classifier: Classifier, seed: int) -> None:
    hu = np.where(disc(64, 26) > 0, np.random.default_rng(seed).integers(-100, 200, (64, 64)), -1000).astype(np.int16)
    written = [
        ct(hu, RescaleIntercept=0), ct(hu + 1024), ct((hu + 1024).astype(np.uint16)),
        ct(hu * 2, RescaleSlope=0.5, RescaleIntercept=0), ct(-hu, RescaleSlope="-1", RescaleIntercept=0),
    ]  # fmt: skip
    window = Window(40, 400)
    assert classifier(written[0], window=window).slice.body is not None
    found = logits(classifier, *written[:4], window=window)
    assert np.array_equal(found, np.broadcast_to(found[0], found.shape))
    with pytest.raises(SliceError, match="a rescale slope of -1"):
        classifier(written[4])
    # Shown through a window, white as the lowest value is black as the highest of the complement.
    plain = {"RescaleSlope": None, "RescaleIntercept": None}
    grey = grained(seed, 255).astype(np.uint8)
    mirrored = ct(255 - grey, PhotometricInterpretation="MONOCHROME1", **plain)
    pair = logits(classifier, ct(grey, **plain), mirrored)
    assert np.array_equal(pair[0], pair[1])
