"""The starting network's features: those of the network itself, by the run's own reading, computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict

from ct_xception.audit.survey import Survey, survey_corpus
from ct_xception.evaluation import frozen_features as module
from ct_xception.evaluation.frozen_features import frozen_features
from ct_xception.serving.checkpoint import InputContract
from ct_xception.serving.classifier import Classifier
from tests.closeness import assert_near

Compute = Callable[..., tuple[Any, dict[str, str]]]


@pytest.fixture(scope="module")
def splits(picture_split: Dataset) -> DatasetDict:
    """Six items to train on and two to test; the last test item is the first train item once more."""
    twin = dict(picture_split[0]) | {"source": "test/twin.png"}
    test = Dataset.from_list([picture_split[6], twin], features=picture_split.features)
    return DatasetDict({"train": picture_split.select(range(6)), "test": test})


@pytest.fixture(scope="module")
def survey(splits: DatasetDict) -> Survey:
    return survey_corpus(splits, processes=1, progress=False)


@pytest.fixture
def compute(splits: DatasetDict, survey: Survey, tiny_checkpoint: Path, tmp_path: Path) -> Compute:
    def call(found: Survey = survey, **options: Any) -> tuple[Any, dict[str, str]]:
        given = {"weights": str(tiny_checkpoint), "backbone": "legacy_xception", "image_size": 64, "batch_size": 3}
        return frozen_features(
            splits, found, **given | {"contract": InputContract(), "cache": tmp_path, "progress": False} | options
        )

    return call


def test_features_are_the_networks_own_in_the_surveys_order(
    compute: Compute, splits: DatasetDict, tiny_checkpoint: Path
) -> None:
    features, skipped = compute()
    classifier = Classifier.from_pretrained(tiny_checkpoint)
    files = [item["image"]["bytes"] for split in splits.values() for item in split]
    values = torch.stack([classifier.prepare(classifier.read(file)).pixel_values for file in files])
    with torch.no_grad():
        wanted = classifier.model.timm_model.forward_head(classifier.model.features(values), pre_logits=True)
    assert skipped == {}
    assert features.shape == (8, 2048) and features.dtype == np.float32
    assert_near(features, wanted)
    assert not np.allclose(features[0], features[1], atol=1e-3)


def test_a_file_is_looked_at_once_and_never_again(compute: Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    pooled = module._pooled

    def counting(classifier: Classifier, batch: list[dict[str, Any]], frame: int | None) -> np.ndarray:
        seen.extend(item["source"] for item in batch)
        return pooled(classifier, batch, frame)

    monkeypatch.setattr(module, "_pooled", counting)
    first = compute()[0]
    assert len(seen) == 7  # the twin is the same bytes
    assert np.array_equal(first[0], first[7])
    assert np.array_equal(compute()[0], first) and len(seen) == 7
    compute(contract=InputContract(body_crop=False))  # another reading is another result
    assert len(seen) == 14


@pytest.mark.parametrize(("weights", "words"), [("none", "random"), (None, "not known"), ("absent", "is not a file")])
def test_without_starting_weights_the_reason_is_given(compute: Compute, weights: str | None, words: str) -> None:
    features, skipped = compute(weights=weights)
    assert features is None and words in skipped["frozen_features"]


def test_an_item_that_could_not_be_read_has_zeros(compute: Compute, survey: Survey) -> None:
    features, _ = compute(replace(survey, failed={survey.sources[1]: "empty"}))
    assert (features[1] == 0).all() and features[2].any()
