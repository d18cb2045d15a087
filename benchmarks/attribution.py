"""How good a phantom-trained network's heat maps are, where the lesions are known.

    python -m benchmarks.attribution runs/phantom/model [--patients 120] [--method gradcam] [--evidence 12]
    python -m benchmarks.attribution runs/reference/model --lesions DIR --label adenocarcinoma

The phantom is drawn anew: with the seed of training its test split was not trained on, and with another seed nothing of
it was. The pointing game is played on correctly classified slices with a lesion; a hit means that the map's peak lies
inside the mask. With `--lesions` it is played on the slices of a folder whose boxes.csv (path, xmin, ymin, xmax, ymax)
says where a reader saw one, for the class of `--label`, whatever is answered, and without the gate; a patient is a
folder.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ct_xception.evaluation.explanations import NEAR, MapEvidence, evidence_figures, pointing_figures
from ct_xception.explain.budget import BUDGETS, DEFAULT_BUDGET, DEFAULT_METHOD
from ct_xception.explain.explain import Explanation, explain
from ct_xception.explain.faithfulness import Pointing, evidence, point
from ct_xception.explain.methods import METHODS
from ct_xception.imaging.windows import as_window
from ct_xception.serving.classifier import Classifier
from ct_xception.statistics.intervals import mean_figure


@dataclass(frozen=True, eq=False)
class Case:
    """A correctly classified phantom slice with its map, its lesion's mask (None for a healthy one) and its patient."""

    explanation: Explanation
    lesion: np.ndarray | None
    patient: str


def main() -> int:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attribution", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0, help="of the phantom, as in training")
    parser.add_argument("--method", choices=METHODS, default=DEFAULT_METHOD)
    parser.add_argument("--budget", choices=BUDGETS, default=DEFAULT_BUDGET)
    parser.add_argument("--evidence", type=int, default=12, metavar="N", help="slices to gather all evidence on")
    parser.add_argument("--lesions", type=Path, metavar="DIR", help="slices with boxes.csv, in place of the phantom")
    parser.add_argument("--label", help="the class of --lesions")
    parser.add_argument("--window", help="of --lesions: a preset or CENTRE/WIDTH (default: the file's)")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    if options.lesions and not options.label:
        parser.error("--lesions needs --label, the class that its lesions are of")
    print(json.dumps((measure_lesions if options.lesions else measure)(options), indent=2))
    return 0


def measure_lesions(options: argparse.Namespace) -> dict[str, Any]:
    """What `main` prints of `--lesions`."""
    classifier = Classifier.from_pretrained(options.checkpoint, gate=False)
    with open(options.lesions / "boxes.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    answers, pointings = [], []
    for row in rows:
        prediction = classifier(options.lesions / row["path"], window=as_window(options.window))
        answers.append(prediction.label)
        explanation = explain(classifier, prediction.slice, options.label, options.method, budget=options.budget)
        pointings.append(
            _point(Case(explanation, _box(row, prediction.slice.pixels.shape), Path(row["path"]).parts[0]))
        )
    patients = [Path(row["path"]).parts[0] for row in rows]
    figures = pointing_figures(pointings, patients)
    return {
        "checkpoint": options.checkpoint,
        "method": options.method,
        "slices": len(rows),
        "patients": len(set(patients)),
        "answered": dict(Counter(answers)),
        "evidence": {name: metric.to_json() for name, metric in figures.items()},
        "hits by patient": {
            name: [sum(one.hit for one in own), len(own)]
            for name in sorted(set(patients))
            for own in [[one for one, patient in zip(pointings, patients, strict=True) if patient == name]]
        },
    }


def _box(row: dict[str, str], shape: tuple[int, int]) -> np.ndarray:
    """The box of a row, its ends counted, as a mask (H, W) bool."""
    mask = np.zeros(shape, dtype=bool)
    left, top, right, bottom = (int(float(row[name])) for name in ("xmin", "ymin", "xmax", "ymax"))
    mask[top : bottom + 1, left : right + 1] = True
    return mask


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that `main` prints."""
    from ct_xception.phantom.corpus import generate_phantom

    classifier = Classifier.from_pretrained(options.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        phantom = generate_phantom(Path(folder) / "phantom", patients=options.patients, seed=options.seed)
        right, cases = [], []
        for correct, case in explain_test_split(classifier, phantom, options.method, options.budget):
            right.append((float(correct), case.patient))
            if correct:
                cases.append(case)
    ill = [case for case in cases if case.lesion is not None]
    pointings = [_point(case) for case in ill]
    step = max(1, len(cases) // max(options.evidence, 1))
    chosen = cases[::step][: options.evidence]
    records = [MapEvidence.of(evidence(case.explanation, budget="fast")) for case in chosen]
    found = evidence_figures(records, [case.patient for case in chosen])
    found |= pointing_figures(pointings, [case.patient for case in ill])
    return {
        "checkpoint": options.checkpoint,
        "method": options.method,
        "accuracy": mean_figure([value for value, _ in right], [name for _, name in right], "no slice").to_json(),
        "evidence": {name: metric.to_json() for name, metric in found.items()},
    }


def explain_test_split(classifier: Classifier, phantom: Path, method: str, budget: str) -> Iterator[tuple[bool, Case]]:
    """Whether each test slice's answer is right, and the map of its true class."""
    with open(phantom / "metadata.csv", newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["split"] == "test"]
    for row in rows:
        prediction = classifier(phantom / row["file_name"])
        explanation = explain(classifier, prediction.slice, row["label"], method, budget=budget)
        lesion = np.asarray(Image.open(phantom / row["mask"])) > 0 if row["mask"] else None
        case = Case(
            explanation,
            lesion if lesion is not None and lesion.any() else None,
            row["patient"],
        )
        yield prediction.label == row["label"], case


def _point(case: Case) -> Pointing:
    assert case.lesion is not None
    return point(case.explanation.attribution.map, case.lesion, tolerance=NEAR * min(case.lesion.shape))


if __name__ == "__main__":
    raise SystemExit(main())
