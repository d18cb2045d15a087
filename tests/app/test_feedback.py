"""Reviews: `datasets` reads the folder as it is, pixels are kept only with leave, and nothing names a file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from ct_xception_app.downloads import Origin
from ct_xception_app.feedback import NO_CLASS, FeedbackFolder, Review

from ct_xception.errors import InputError
from ct_xception.serving.classifier import Classifier, Prediction


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    return Classifier.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def prediction(classifier: Classifier, sample_slices: list[Path]) -> Prediction:
    return classifier(classifier.read(sample_slices[0], name="Doe^Jane.png"))


def test_datasets_reads_what_was_kept(classifier: Classifier, prediction: Prediction, tmp_path: Path) -> None:
    from datasets import load_dataset

    kept, origin = FeedbackFolder(tmp_path / "reviews"), Origin.of(classifier)
    kept.add(Review(True, prediction.label, with_pixels=True), prediction, origin)
    kept.add(Review(False, NO_CLASS), prediction, origin)
    rows = load_dataset(str(tmp_path / "reviews"), split="train", cache_dir=str(tmp_path / "cache"))
    with_pixels, without = sorted(rows, key=lambda row: row["image"] is None)
    assert np.array_equal(np.asarray(with_pixels["image"]), prediction.slice.pixels)
    assert with_pixels["image"].info == {} and with_pixels["right"] is True and without["right"] is False
    assert (with_pixels["label"], without["label"], without["image"]) == (prediction.label, NO_CLASS, None)
    assert json.loads(without["probabilities"]) == pytest.approx(prediction.probabilities)
    assert without["weights_sha256"] == origin.weights_sha256 and without["answered"] == prediction.label
    assert without["pixels_sha256"] == hashlib.sha256(prediction.slice.pixels.tobytes()).hexdigest()


def test_no_byte_of_a_file_name_is_kept(classifier: Classifier, prediction: Prediction, tmp_path: Path) -> None:
    path = FeedbackFolder(tmp_path).add(Review(True, prediction.label, True), prediction, Origin.of(classifier))
    assert path.parent == tmp_path / "data" and path.suffix == ".parquet"
    assert b"Doe" not in path.read_bytes() and "Doe" not in path.name
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_an_unknown_label_is_refused_and_nothing_written(
    classifier: Classifier, prediction: Prediction, tmp_path: Path
) -> None:
    folder = FeedbackFolder(tmp_path)
    with pytest.raises(InputError, match="label 'flu' is unknown; choose from adenocarcinoma"):
        folder.add(Review(False, "flu"), prediction, Origin.of(classifier))
    assert not list((tmp_path / "data").iterdir())


def test_a_place_that_cannot_be_written_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file: reviews cannot be kept there"):
        FeedbackFolder(tmp_path / "file")


def test_a_hub_dataset_that_cannot_be_reached_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """The tests are offline, as the Hub's client is told by its switch."""
    with pytest.raises(InputError, match="alice/reviews: reviews cannot be sent to this Hub dataset"):
        FeedbackFolder(tmp_path, hub_dataset="alice/reviews")
