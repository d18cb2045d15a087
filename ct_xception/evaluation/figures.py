"""Which figures an evaluation leaves behind, and where: pictures of a corpus are published only if they may be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint import CONFUSION, CURVES, EXAMPLES, RELIABILITY, ROC
from ct_xception.corpus.summary import is_generated
from ct_xception.errors import InputError, SliceError
from ct_xception.evaluation import plots as report
from ct_xception.evaluation.answers import PREDICTOR, Answers, Items, file_of

if TYPE_CHECKING:
    from datasets import Dataset
    from matplotlib.figure import Figure

EXAMPLES_SHOWN = 12
_DPI = 200


@dataclass(frozen=True)
class Outputs:
    """Where an evaluation goes, and what may go with it.

    `folder`: by default the checkpoint's `evaluation`. `history`: history.jsonl of the run, for the learning curves.
    `examples`: a folder outside the checkpoint for examples.png, which shows pictures of the corpus; None
    draws none. Those of the phantom, which are nobody's, go into `folder` as well.
    `names`: the file outside the checkpoint that says which image a published "item 000123" is; None writes none.
    """

    folder: Path | None = None
    history: Path | None = None
    examples: Path | None = None
    names: Path | None = None


def draw_evaluation(
    folder: Path,
    dataset: Dataset,
    items: Items,
    answers: Mapping[str, Answers],
    metrics: Mapping[str, Any],
    outputs: Outputs,
    reading: Mapping[str, Any] | None = None,
) -> list[str]:
    """Draw the predictor's figures into `folder`, remove those of an older evaluation, and name the ones drawn.

    `metrics` is metrics.json so far: its paths, class names, corpus and split sizes. `reading` holds the window and
    frame that files were read with.
    """
    drawn: dict[str, Figure] = {}
    if metrics["paths"].get(PREDICTOR, {"n": 0})["n"]:
        drawn |= _draw_answers(items, answers[PREDICTOR], metrics)
    if calibration := metrics.get("calibration"):
        drawn[RELIABILITY] = report.reliability_figure(
            calibration["before"], calibration["after"], temperature=calibration["temperature"]
        )
    if outputs.history is not None:
        drawn[CURVES] = report.curves_figure(
            read_history(outputs.history), best_epoch=metrics["best_epoch"], counts=metrics["split_sizes"]
        )
    publish = is_phantom(metrics["corpus"])
    if PREDICTOR in answers and (outputs.examples is not None or publish):
        examples = _draw_examples(dataset, items, answers[PREDICTOR], metrics, reading or {})
        if examples is not None and outputs.examples is not None:
            report.save_figure(examples, outputs.examples / EXAMPLES, dpi=_DPI)
        drawn |= {EXAMPLES: examples} if examples is not None and publish else {}
    for name in (CONFUSION, ROC, RELIABILITY, CURVES, EXAMPLES):
        (folder / name).unlink(missing_ok=True)
    for name, figure in drawn.items():
        report.save_figure(figure, folder / name, dpi=_DPI)
    return list(drawn)


def is_phantom(corpus: Mapping[str, Any]) -> bool:
    """Whether the corpus is the procedural phantom, whose pictures are nobody's."""
    return is_generated(corpus)


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of history.jsonl, one an epoch; InputError where it cannot be read."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the training history cannot be read ({error}); evaluate without it.") from error


def choose_examples(
    probabilities: NDArray[np.float64], labels: NDArray[np.intp], *, seed: int, count: int = EXAMPLES_SHOWN
) -> list[int]:
    """Rows to show: hits drawn from each class in turn, then the surest mistakes, half of all at most if hits suffice.

    Refused rows (NaN) are never chosen.
    """
    known = np.all(np.isfinite(probabilities), axis=1)
    scores = np.where(known[:, None], probabilities, 0)
    wrong = known & (scores.argmax(axis=1) != labels)
    surest = np.flatnonzero(wrong)[np.argsort(-scores.max(axis=1)[wrong], kind="stable")]
    hits = np.random.default_rng(seed).permutation(np.flatnonzero(known & ~wrong))
    turn = np.zeros(len(hits), int)  # how many hits of the same class come before
    for k in np.unique(labels):
        turn[labels[hits] == k] = np.arange((labels[hits] == k).sum())
    hits = hits[np.lexsort((labels[hits], turn))]
    mistakes = surest[: max(count // 2, count - len(hits))]
    return [int(row) for row in (*hits[: count - len(mistakes)], *mistakes)]


def _draw_answers(items: Items, answers: Answers, metrics: Mapping[str, Any]) -> dict[str, Figure]:
    block, names, kept = metrics["paths"][PREDICTOR], metrics["label_names"], answers.answered
    areas = {name: figures["auroc"] for name, figures in block["per_class"].items()}
    return {
        CONFUSION: report.confusion_figure(block["confusion_matrix"], names),
        ROC: report.roc_figure(answers.probabilities[kept], items.labels[kept], names, areas),
    }


def _draw_examples(
    dataset: Dataset, items: Items, answers: Answers, metrics: Mapping[str, Any], reading: Mapping[str, Any]
) -> Figure | None:
    """A figure of chosen items as the reader shows them; None when none can be read."""
    from ct_xception.imaging.reader import read_slice

    names, examples = metrics["label_names"], []
    for row in choose_examples(answers.probabilities, items.labels, seed=metrics["intervals"]["seed"]):
        probabilities = answers.probabilities[row]
        try:
            pixels = read_slice(file_of(dataset[row]), **reading).pixels
        except SliceError:
            continue  # it has gone or changed since it was answered; another example does as well
        predicted = int(probabilities.argmax())
        examples.append(
            report.Example(pixels, names[items.labels[row]], names[predicted], float(probabilities[predicted]))
        )
    return report.examples_figure(examples) if examples else None
