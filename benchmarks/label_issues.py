"""Are planted flips of labels found: on new patients of the phantom, by features of a network that saw none of them.

    python -m benchmarks.label_issues --model runs/phantom/model [--store]

One label in twenty is changed, in each of five draws. A logistic regression on the network's features answers every
image, in folds that keep patients whole and learn the flips with the rest; confident learning ranks the labels by its
answers.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from benchmarks.results import store
from ct_xception.corpus.cells import slice_source
from ct_xception.corpus.load import load_corpus
from ct_xception.evaluation.answers import Items
from ct_xception.evaluation.labels_at_odds import feature_answers
from ct_xception.phantom.corpus import generate_phantom
from ct_xception.serving.classifier import Classifier, Prediction
from ct_xception.statistics.label_issues import find_label_issues

DRAWS, SHARE = 5, 0.05
HEADS = ("Draw", "Right answers", "k", "Flips among the first k", "Held for wrong", "Flips among those", "Flips held")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--size", type=int, default=256, help="side of the pictures in pixels")
    parser.add_argument("--store", action="store_true", help="write the table into RESULTS.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "phantom"
        generate_phantom(corpus, patients=arguments.patients, slices_per_patient=2, size=arguments.size, seed=4711)
        data = concatenate_datasets(list(load_corpus(str(corpus)).dataset.values()))
        features, classes = _features(Classifier.from_pretrained(arguments.model, gate=False), data)
    items = Items.of(data)
    rows = [_draw(items, features, classes, seed) for seed in range(DRAWS)]
    means = [
        "mean",
        *(f"{np.mean([float(row[k]) for row in rows]):.3f}" if k != 2 else "" for k in range(1, len(HEADS))),
    ]
    lines = [f"| {' | '.join(cells)} |" for cells in (HEADS, ["---"] * len(HEADS), *rows, means)]
    command = f"`python -m benchmarks.label_issues {shlex.join(sys.argv[1:])}`, n = {len(items.sources)}"
    table = "\n".join([f"{command} images of {len(set(items.groups))} patients.", "", *lines])
    print(table)
    if arguments.store:
        store("labels at odds", table.replace(" --store", ""))
    return 0


def _features(classifier: Classifier, data: Dataset) -> tuple[np.ndarray, int]:
    """Pooled features (N, C) of every image, and how many classes there are."""
    if data.features["label"].names != classifier.label_names:
        raise SystemExit("the network's classes are not the phantom's")
    found: list[Any] = [answer for answer in classifier.predict_many(slice_source(item) for item in data)]
    assert all(isinstance(answer, Prediction) and answer.outputs is not None for answer in found)
    return np.array([answer.outputs.features for answer in found]), len(classifier.label_names)


def _draw(items: Items, features: np.ndarray, classes: int, seed: int) -> list[str]:
    """Flip labels, hold them against answers that kept patients apart, and count what comes first."""
    rng, n = np.random.default_rng(seed), len(items.sources)
    flipped = rng.choice(n, round(SHARE * n), replace=False)
    labels = items.labels.copy()
    labels[flipped] = (labels[flipped] + rng.integers(1, classes, len(flipped))) % classes
    answers = feature_answers(Items(labels, items.groups, items.sources), features, classes, seed)
    assert answers is not None
    found, k = find_label_issues(answers, labels), len(flipped)
    held = np.flatnonzero(found.at_odds)
    shares = (
        np.isin(found.order[:k], flipped).mean(),
        held.size,
        np.isin(held, flipped).mean() if held.size else 0.0,
        found.at_odds[flipped].mean(),
    )
    right = (answers.argmax(axis=1) == items.labels).mean()
    said = [f"{value:.3f}" if isinstance(value, float) else str(value) for value in shares]
    return [str(seed), f"{right:.3f}", str(k), *said]


if __name__ == "__main__":
    sys.exit(main())
