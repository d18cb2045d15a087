"""Answers as text: an aligned table for a terminal, tab-separated columns for a pipe, JSON for a program.

Each function takes the predictions as they come and yields lines, so that a folder of thousands needs no more memory
than one slice and its first row shows at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ct_xception.wording import RESEARCH_USE, describe_window, percent, shorten

if TYPE_CHECKING:
    from ct_xception.serving.predictor import Prediction

_BAR = 28
_PERCENT = len(percent(1.0))


def answer_record(prediction: Prediction, model: str) -> dict[str, Any]:
    """One answer as a JSON object, with the checkpoint that gave it and the research-use line."""
    return {**prediction.to_dict(), "model": model, "notice": RESEARCH_USE}


def json_object(predictions: Iterable[Prediction], model: str) -> Iterator[str]:
    """The only prediction as one JSON object; nothing when there is none."""
    for prediction in predictions:
        yield json.dumps(answer_record(prediction, model), indent=2, ensure_ascii=False)


def json_list(predictions: Iterable[Prediction], model: str) -> Iterator[str]:
    """The predictions as one JSON list, an object a line."""
    opening = "["
    for prediction in predictions:
        yield opening + json.dumps(answer_record(prediction, model), ensure_ascii=False)
        opening = ","
    yield "]" if opening == "," else "[]"


def tab_separated(predictions: Iterable[Prediction], label_names: Sequence[str]) -> Iterator[str]:
    """A header and one row a prediction: source, label, then the probability of every class in index order."""
    yield "\t".join(["source", "label", *label_names])
    for prediction in predictions:
        values = [f"{prediction.probabilities[name]:.6f}" for name in label_names]
        yield "\t".join([prediction.source, prediction.label, *values])


def bars(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Every class of each prediction with a bar; below, what was done to the file."""
    for prediction in predictions:
        yield f"{prediction.source} ({_window(prediction)})"
        width = max(map(len, prediction.probabilities))
        for name, probability in prediction.probabilities.items():
            bar = "█" * round(probability * _BAR)
            yield f"  {name:<{width}}  {percent(probability):>{_PERCENT}}  {bar}".rstrip()
        for note in prediction.notes:
            yield f"  - {note}"


def _window(prediction: Prediction) -> str:
    slice_ = prediction.slice
    return describe_window(slice_.window, slice_.bit_depth, slice_.is_hu)


def table(
    predictions: Iterable[Prediction], sources: Sequence[str], label_names: Sequence[str], width: int
) -> Iterator[str]:
    """An aligned row a prediction: file, answer, probability, and the runner-up; file names give way to `width`."""
    answer = max(len("answer"), *map(len, label_names))
    runner_up = answer + 1 + _PERCENT
    room = max(16, width - (2 + answer) - (2 + _PERCENT) - (2 + runner_up))
    file = min(room, max(len("file"), *map(len, sources)))
    yield f"{'file':<{file}}  {'answer':<{answer}}  {'':>{_PERCENT}}  next".rstrip()
    for prediction in predictions:
        (first, p_first), (second, p_second) = list(prediction.probabilities.items())[:2]
        name = shorten(prediction.source, file)
        yield f"{name:<{file}}  {first:<{answer}}  {percent(p_first):>{_PERCENT}}  {second} {percent(p_second)}"

