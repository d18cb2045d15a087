"""What the page does when something on it is touched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from ct_xception_app import words
from ct_xception_app.layout import EXAMPLES, Inputs, Outputs
from ct_xception_app.limits import SHOWN_SIDE
from PIL import Image

from ct_xception.errors import InputError
from ct_xception.explain.attribution import Attribution, attribute
from ct_xception.explain.overlay import overlay
from ct_xception.imaging.slices import WINDOWS, Slice
from ct_xception.serving.predictor import Classifier, Prediction, PreparedSlice
from ct_xception.wording import describe_window


@dataclass(frozen=True, eq=False)
class Answered:
    """What the page keeps of one visitor's slice between two clicks."""

    prediction: Prediction
    prepared: PreparedSlice
    attribution: Attribution


def connect(classifier: Classifier, inputs: Inputs, outputs: Outputs) -> None:
    """Tie events to actions. None of them is offered as an API: their inputs are this page's own."""
    shown = [outputs.answer, outputs.slice, outputs.heat, outputs.target, outputs.legend, outputs.notes, outputs.kept]
    asked = [inputs.source, inputs.window, inputs.frame, outputs.opacity]
    private: dict[str, Any] = {"api_visibility": "private", "show_progress_on": [outputs.answer, outputs.heat]}
    answer = partial(answer_file, classifier)
    chosen = (
        inputs.file.upload(lambda path: path, inputs.file, inputs.source, **private),
        inputs.examples.select(_choose_example, None, [inputs.source, inputs.file], **private),
    )
    for event in chosen:
        event.then(answer, asked, shown, **private)
    for change in (inputs.window.input, inputs.frame.submit, inputs.frame.blur):
        change(answer, asked, shown, **private)
    inputs.file.clear(lambda: None, None, inputs.source, **private).then(answer, asked, shown, **private)
    outputs.target.input(
        partial(explain_other, classifier),
        [outputs.kept, outputs.target, outputs.opacity],
        [outputs.heat, outputs.legend, outputs.kept],
        **private,
    )
    outputs.opacity.change(
        redraw,
        [outputs.kept, outputs.opacity],
        outputs.heat,
        trigger_mode="always_last",
        show_progress="hidden",
        concurrency_limit=4,
        api_visibility="private",
    )


def _choose_example(event: gr.SelectData) -> tuple[str, None]:
    return str(EXAMPLES[event.index]), None


def answer_file(
    classifier: Classifier, source: str | None, preset: str, frame: float | None, opacity: float
) -> tuple[Any, ...]:
    """Fill the page for one file, or say in the reader's words why it is refused."""
    if source is None:
        return _page_without_answer(words.waiting())
    try:
        slice_ = classifier.read(source, window=WINDOWS.get(preset), frame=int(frame or 0), name=Path(source).name)
    except InputError as error:
        return _page_without_answer(words.refusal(str(error)))
    prediction, prepared = classifier(slice_), classifier.prepare(slice_)
    answered = Answered(prediction, prepared, _attribute(classifier, slice_, prepared, prediction.label))
    window = describe_window(slice_.window, slice_.bit_depth, slice_.is_hu)
    return (
        words.verdict(prediction),
        gr.update(value=_shrink(slice_.to_pil()), label=f"Slice, {window}"),
        redraw(answered, opacity),
        gr.update(value=prediction.label),
        words.legend(answered.attribution),
        words.notes(prediction),
        answered,
    )


def _page_without_answer(message: str) -> tuple[Any, ...]:
    return message, gr.update(value=None, label="Slice"), None, gr.update(value=""), words.legend(None), "", None


def _attribute(classifier: Classifier, slice_: Slice, prepared: PreparedSlice, label: str) -> Attribution:
    target = classifier.label_index(label)
    pixels, box = prepared.pixel_values, prepared.crop.box
    return attribute(classifier.model, pixels, target, box=box, shape=slice_.pixels.shape)


def explain_other(
    classifier: Classifier, kept: Answered | None, label: str, opacity: float
) -> tuple[Image.Image | None, str, Answered | None]:
    if kept is None or not label:
        return None, words.legend(None), kept
    attribution = _attribute(classifier, kept.prediction.slice, kept.prepared, label)
    kept = Answered(kept.prediction, kept.prepared, attribution)
    return redraw(kept, opacity), words.legend(attribution), kept


def redraw(kept: Answered | None, opacity: float) -> Image.Image | None:
    return None if kept is None else _shrink(overlay(kept.prediction.slice, kept.attribution.map, opacity=opacity))


def _shrink(picture: Image.Image) -> Image.Image:
    picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    return picture
