"""Which test images training has seen, told by the splits that training used."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from ct_xception.audit.survey import Survey
from ct_xception.audit.twins.twins import Twins
from ct_xception.evaluation.protocols import NO_AUDIT, find_protocols, twin_mask

FEATURES = Features({"label": ClassLabel(names=["a", "b"]), "group": Value("string"), "source": Value("string")})


def part(sources: str) -> Dataset:
    columns = {"label": [ord(one) % 2 for one in sources], "group": list(sources), "source": list(sources)}
    return Dataset.from_dict(columns, features=FEATURES)


def audit_of(sources: str, splits: list[str], clusters: list[int]) -> SimpleNamespace:
    """An audit of unread images: what it knows are the splits it saw, and which images show one picture."""
    rng = np.random.default_rng(0)
    numbers = {"number": rng.random(len(sources))}
    pictures = rng.integers(0, 255, (2, len(sources), 4, 4), dtype=np.uint8)
    known = {"sources": list(sources), "splits": splits, "groups": list(sources), "label_names": ["a", "b"]}
    known |= {"labels": np.array([ord(one) % 2 for one in sources]), "aligned": pictures[0], "raw": pictures[1]}
    known |= {"attributes": numbers, "statistics": numbers, "border": numbers, "failed": {}}
    survey = Survey(**{field.name: known.get(field.name) for field in fields(Survey)})
    twins = Twins([], [], list(sources), np.array(clusters))
    return SimpleNamespace(
        survey=survey, twins=twins, patients=dict(zip(sources, sources, strict=True)), public=lambda: {"findings": []}
    )


@pytest.fixture
def splits() -> DatasetDict:
    """In another order than the audit's; `h` is a twin of `a` (train), `g` of `e` (validation), `i` of `f` (test)."""
    return DatasetDict(train=part("dcba"), validation=part("e"), test=part("ihgf"))


@pytest.fixture
def audit() -> SimpleNamespace:
    """It saw a corpus without splits: all is train."""
    return audit_of("abcdefghi", ["train"] * 9, [0, 1, 2, 3, 4, 5, 4, 0, 5])


def test_twins_are_looked_for_in_the_splits_that_training_used(splits: DatasetDict, audit: SimpleNamespace) -> None:
    assert twin_mask(audit, splits).tolist() == [False, True, True, False]  # i h g f


def test_twins_in_what_was_trained_on_before_are_left_out_as_well(splits: DatasetDict, audit: SimpleNamespace) -> None:
    found = find_protocols(audit, splits, elsewhere=np.array([True, True, False, False]))
    assert found.has_twin is not None and found.has_twin.tolist() == [True, True, True, False]
    assert found.deduplicated is not None and (found.deduplicated["n"], found.deduplicated["removed"]) == (1, 3)


def test_what_is_measured_beside_the_own_split(splits: DatasetDict, audit: SimpleNamespace) -> None:
    found = find_protocols(audit, splits, skipped={"frozen_features": "random"})
    assert found.deduplicated is not None and found.out_of_fold is None
    assert (found.deduplicated["n"], found.deduplicated["removed"]) == (2, 2)
    assert found.audit == {"findings": []} and found.skipped == {"frozen_features": "random"}
    assert found.baselines["majority"].shape == (4, 2)
    nearest = found.baselines["nearest_raw"].argmax(axis=1)  # of train alone: no test image answers for another
    pictures = {source: audit.survey.raw[row].ravel() for row, source in enumerate("abcdefghi")}
    for asked, answer in zip("ihgf", nearest, strict=True):
        alike = max("dcba", key=lambda one: np.corrcoef(pictures[asked], pictures[one])[0, 1])
        assert answer == ord(alike) % 2


def test_without_an_audit_nothing_is_claimed(splits: DatasetDict) -> None:
    found = find_protocols(None, splits)
    assert found.has_twin is None and not found.baselines and found.skipped == {"all": NO_AUDIT}
