"""The input gate on the reference corpus, with ImageNet features alone: its test slices pass, its pelvis does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ct_xception.evaluation.gate_fit import Seen, fit_gate, see_slices
from ct_xception.imaging.reader import read_slice
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.gate import Gate

pytestmark = pytest.mark.real_corpus
PELVIS = "004007_01_01_519"


@pytest.fixture(scope="module")
def classifier(reference_corpus: Path, reference_weights: Path) -> Classifier:
    """ImageNet's network at 64 px with a gate fitted to every fifth training and every second validation slice."""
    names = sorted(path.name for path in (reference_corpus / "test").iterdir())
    weights = str(reference_weights)
    model = CTXceptionForImageClassification.from_backbone("legacy_xception", names, 64, weights=weights)
    classifier = Classifier(model)
    seen = [see_split(classifier, reference_corpus / split, step) for split, step in (("train", 5), ("valid", 2))]
    rule, arrays = fit_gate(*seen, weights_sha256="")
    classifier.gate = Gate.read(rule, arrays)
    return classifier


def see_split(classifier: Classifier, folder: Path, step: int) -> Seen:
    paths = [path for path in sorted(folder.rglob("*.png")) if PELVIS not in path.name][::step]
    return Seen.join([see_slices(classifier, [read_slice(path)]) for path in paths])


def test_test_slices_pass(classifier: Classifier, reference_corpus: Path) -> None:
    paths = sorted((reference_corpus / "test").rglob("*.png"))[::5]
    verdicts = [classifier(path).gate for path in paths]
    assert len(verdicts) == 63 and np.mean([verdict is not None and verdict.refused for verdict in verdicts]) <= 0.03


def test_the_pelvis_among_the_normals_is_flagged(classifier: Classifier, reference_corpus: Path) -> None:
    (path,) = (reference_corpus / "valid").rglob(f"{PELVIS}.png")
    verdict = classifier(path).gate
    assert verdict is not None and verdict.verdict != "accepted"
    assert "no lungs stand out in it" in verdict.reasons
