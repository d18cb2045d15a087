"""Reviews follow a Hub dataset: what is kept on disk is committed there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ct_xception_app.downloads import Origin
from ct_xception_app.feedback import FeedbackFolder, Review

from ct_xception.serving.classifier import Classifier
from tests.hub.local_hub import LocalHub


def test_reviews_are_committed_to_a_private_dataset(
    hub: LocalHub,
    log_in: Callable[[str | None], None],
    tiny_checkpoint: Path,
    sample_slices: list[Path],
    tmp_path: Path,
) -> None:
    classifier = Classifier.from_pretrained(tiny_checkpoint)
    prediction = classifier(sample_slices[0])
    kept = FeedbackFolder(tmp_path / "reviews", hub_dataset="alice/reviews")
    path = kept.add(Review(True, prediction.label, with_pixels=True), prediction, Origin.of(classifier))
    kept.close()
    repository = hub["datasets/alice/reviews"]
    assert repository.private
    assert set(repository.at("main").files) >= {"README.md", f"data/{path.name}"}
    assert hub.read("datasets/alice/reviews", f"data/{path.name}") == path.read_bytes()
