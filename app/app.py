"""The demo page: one slice in, an answer that can be weighed, and where on the slice it comes from.

    ct-xception demo runs/phantom/model                        # on this machine
    CT_XCEPTION_MODEL=user/repo python app.py                  # as the Space runs it

Nothing is preprocessed here. Uploads arrive as paths, so that Gradio never touches a pixel; the package's own reader
and classifier do the rest, the same as everywhere else.
"""

from __future__ import annotations

import html
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from ct_xception.errors import InputError
from ct_xception.explain.attribution import Attribution, attribute
from ct_xception.explain.overlay import METHOD_NAMES, overlay, palette
from ct_xception.imaging.slices import WINDOWS, Slice, read_slice
from ct_xception.serving.predictor import Classifier, Prediction, PreparedSlice
from ct_xception.serving.text import describe_decision
from ct_xception.wording import RESEARCH_USE, describe_window, percent

HERE = Path(__file__).resolve().parent
EXAMPLES = sorted(path for path in (HERE / "examples").glob("*") if path.suffix in {".png", ".dcm"})
AS_STORED = ""
MAX_FILE, MAX_QUEUE, KEPT_SECONDS = "64mb", 32, 15 * 60
SHOWN_SIDE = 1024  # pixels of the longer side on the page; the network sees the file, not this


@dataclass(frozen=True, eq=False)
class Answered:
    """What the page keeps of one visitor's slice between two clicks."""

    prediction: Prediction
    prepared: PreparedSlice
    attribution: Attribution


def build_demo(checkpoint: str | Path) -> gr.Blocks:
    """The page on one checkpoint: a folder or a Hub id. Raises CheckpointError before any page is built."""
    classifier = Classifier.from_pretrained(checkpoint)
    with gr.Blocks(title="ct-xception", analytics_enabled=False, delete_cache=(60, KEPT_SECONDS)) as demo:
        gr.HTML(_header(classifier), elem_id="head")
        with gr.Row(elem_id="page"):
            inputs = _build_inputs()
            outputs = _build_outputs(classifier)
        gr.HTML(f'<p role="note">{RESEARCH_USE}</p>', elem_id="notice")
        _connect(classifier, inputs, outputs)
    return demo


def launch(demo: gr.Blocks, *, host: str = "127.0.0.1", port: int = 7860, wait: bool = True) -> None:
    """Serve the page, until interrupted if `wait`, with limits on file size and queue, and without telemetry.

    Raises InputError when the port cannot be had.
    """
    demo.queue(max_size=MAX_QUEUE, default_concurrency_limit=1)
    try:
        demo.launch(
            server_name=host,
            server_port=port,
            theme=_theme(),
            css_paths=HERE / "style.css",
            max_file_size=MAX_FILE,
            state_session_capacity=MAX_QUEUE * 4,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise InputError(f"port {port} of {host} is taken or forbidden; choose another with --port.") from error
    if wait:
        print(f"The page is at {demo.local_url} (Ctrl-C stops it).", flush=True)
        demo.block_thread()


def _theme() -> gr.themes.Base:
    """Quiet colours and the reader's own fonts: none is fetched from elsewhere."""
    sans = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
    theme = gr.themes.Base(primary_hue="teal", neutral_hue="slate", radius_size="md", font=sans)
    # The theme's own greys for secondary text miss the contrast of 4.5 that WCAG asks for.
    return theme.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
    )


# What stands on the page


@dataclass(frozen=True)
class Inputs:
    """The controls on the left, and the path of the file in question."""

    file: gr.File
    window: gr.Dropdown
    frame: gr.Number
    examples: gr.Gallery
    source: gr.State


@dataclass(frozen=True)
class Outputs:
    """What an answer fills."""

    answer: gr.HTML
    slice: gr.Image
    heat: gr.Image
    target: gr.Dropdown
    opacity: gr.Slider
    legend: gr.HTML
    notes: gr.HTML
    kept: gr.State


def _build_inputs() -> Inputs:
    with gr.Column(scale=3, min_width=260, elem_id="inputs"):
        file = gr.File(label="CT slice: PNG, JPEG, TIFF or DICOM", height=150, elem_id="file")
        with gr.Row(elem_id="reading"):
            window = gr.Dropdown(
                [("as stored", AS_STORED), *((f"{name} {value}", name) for name, value in WINDOWS.items())],
                label="Window",
                info="DICOM and 16-bit files",
                scale=3,
                min_width=140,
                elem_id="window",
            )
            frame = gr.Number(
                0, label="Frame", info="from 0", precision=0, minimum=0, scale=1, min_width=80, elem_id="frame"
            )
        gr.HTML("<h2>Examples</h2><p>Generated by a program; no patient is shown.</p>", elem_id="examples-head")
        examples = gr.Gallery(
            [(read_slice(path).to_pil(), example_name(path)) for path in EXAMPLES],
            label="Examples",
            show_label=False,
            columns=2,
            height="auto",
            allow_preview=False,
            object_fit="cover",
            interactive=False,
            buttons=[],
            elem_id="examples",
        )
    return Inputs(file, window, frame, examples, gr.State(None, time_to_live=KEPT_SECONDS))


def _build_outputs(classifier: Classifier) -> Outputs:
    with gr.Column(scale=8, min_width=320, elem_id="outputs"):
        answer = gr.HTML(_waiting(), elem_id="answer")
        with gr.Row(elem_id="viewer"):
            slice_ = _picture("Slice", "The slice as it was read")
            heat = _picture("Evidence", "The slice under its heat map")
        with gr.Row(elem_id="controls", equal_height=True):
            names: list[str | int | float | tuple[str, str | int | float]] = [("…", ""), *classifier.label_names]
            target = gr.Dropdown(names, value="", label="Evidence for", scale=3, min_width=160, elem_id="target")
            opacity = gr.Slider(0, 1, 0.6, step=0.05, label="Opacity", scale=2, min_width=150, elem_id="opacity")
            legend = gr.HTML(_legend(None), elem_id="legend")
        notes = gr.HTML("", elem_id="notes")
    return Outputs(answer, slice_, heat, target, opacity, legend, notes, gr.State(None, time_to_live=KEPT_SECONDS))


def example_name(path: Path) -> str:
    """What stands under an example: its class, and that it is DICOM where it is."""
    return path.stem.replace("_", " ") + (" (DICOM)" if path.suffix == ".dcm" else "")


def _picture(label: str, alt: str) -> gr.Image:
    return gr.Image(
        label=label, alt_text=alt, interactive=False, format="png", type="pil", min_width=240, buttons=["fullscreen"]
    )


# What happens


def _connect(classifier: Classifier, inputs: Inputs, outputs: Outputs) -> None:
    """Tie events to actions. None of them is offered as an API: their inputs are this page's own."""
    shown = [outputs.answer, outputs.slice, outputs.heat, outputs.target, outputs.legend, outputs.notes, outputs.kept]
    asked = [inputs.source, inputs.window, inputs.frame, outputs.opacity]
    private: dict[str, Any] = {"api_visibility": "private", "show_progress_on": [outputs.answer, outputs.heat]}
    answer = partial(_answer, classifier)
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
        partial(_explain_other, classifier),
        [outputs.kept, outputs.target, outputs.opacity],
        [outputs.heat, outputs.legend, outputs.kept],
        **private,
    )
    outputs.opacity.change(
        _redraw,
        [outputs.kept, outputs.opacity],
        outputs.heat,
        trigger_mode="always_last",
        show_progress="hidden",
        concurrency_limit=4,
        api_visibility="private",
    )


def _choose_example(event: gr.SelectData) -> tuple[str, None]:
    return str(EXAMPLES[event.index]), None


def _answer(
    classifier: Classifier, source: str | None, preset: str, frame: float | None, opacity: float
) -> tuple[Any, ...]:
    """Fill the page for one file, or say in the reader's words why it is refused."""
    if source is None:
        return _page_without_answer(_waiting())
    try:
        slice_ = classifier.read(source, window=WINDOWS.get(preset), frame=int(frame or 0), name=Path(source).name)
    except InputError as error:
        return _page_without_answer(_refusal(str(error)))
    prediction, prepared = classifier(slice_), classifier.prepare(slice_)
    answered = Answered(prediction, prepared, _attribute(classifier, slice_, prepared, prediction.label))
    window = describe_window(slice_.window, slice_.bit_depth, slice_.is_hu)
    return (
        _verdict(prediction),
        gr.update(value=_shrink(slice_.to_pil()), label=f"Slice, {window}"),
        _redraw(answered, opacity),
        gr.update(value=prediction.label),
        _legend(answered.attribution),
        _notes(prediction),
        answered,
    )


def _page_without_answer(message: str) -> tuple[Any, ...]:
    return message, gr.update(value=None, label="Slice"), None, gr.update(value=""), _legend(None), "", None


def _attribute(classifier: Classifier, slice_: Slice, prepared: PreparedSlice, label: str) -> Attribution:
    target = classifier.label_index(label)
    pixels, box = prepared.pixel_values, prepared.crop.box
    return attribute(classifier.model, pixels, target, box=box, shape=slice_.pixels.shape)


def _explain_other(
    classifier: Classifier, kept: Answered | None, label: str, opacity: float
) -> tuple[Image.Image | None, str, Answered | None]:
    if kept is None or not label:
        return None, _legend(None), kept
    attribution = _attribute(classifier, kept.prediction.slice, kept.prepared, label)
    kept = Answered(kept.prediction, kept.prepared, attribution)
    return _redraw(kept, opacity), _legend(attribution), kept


def _redraw(kept: Answered | None, opacity: float) -> Image.Image | None:
    return None if kept is None else _shrink(overlay(kept.prediction.slice, kept.attribution.map, opacity=opacity))


def _shrink(picture: Image.Image) -> Image.Image:
    picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    return picture


# Words


def _header(classifier: Classifier) -> str:
    model = html.escape(_model_name(classifier))
    return f"<h1>ct-xception</h1><p>What Xception sees in a CT slice, and where. <code>{model}</code></p>"


def _model_name(classifier: Classifier) -> str:
    """The Hub id and commit, or the end of a local path: where a server keeps its files is its own affair."""
    local = Path(classifier.name)
    return "/".join(local.resolve().parts[-2:]) if local.is_dir() else classifier.name


def _waiting() -> str:
    return '<p class="waiting">Drop a CT slice into the box, or choose an example.</p>'


def _refusal(sentence: str) -> str:
    return f'<p class="refusal" role="alert"><strong>Not answered.</strong> {html.escape(sentence)}</p>'


def _verdict(prediction: Prediction) -> str:
    rows = "".join(_row(*pair) for pair in prediction.probabilities.items())
    first = percent(prediction.probabilities[prediction.label])
    return (
        f'<div class="verdict" role="status"><p class="first"><span>{html.escape(prediction.label)}</span> '
        f"<b>{html.escape(first)}</b></p><table><caption>Probability of each class</caption>{rows}</table>"
        f"{_rules(prediction)}</div>"
    )


def _rules(prediction: Prediction) -> str:
    """What the checkpoint's own rules say of the answer; nothing where it has none."""
    said = [html.escape(sentence[0].upper() + sentence[1:]) for sentence in describe_decision(prediction.decision)]
    items = "".join(f"<li>{sentence}</li>" for sentence in said)
    return f'<ul class="rules">{items}</ul>' if items else ""


def _row(label: str, probability: float) -> str:
    bar = f'<td class="bar" aria-hidden="true"><i style="width:{100 * probability:.1f}%"></i></td>'
    return f'<tr><th scope="row">{html.escape(label)}</th>{bar}<td>{html.escape(percent(probability))}</td></tr>'


def _legend(attribution: Attribution | None) -> str:
    stops = ", ".join(f"rgb({red},{green},{blue})" for red, green, blue in palette()[::32].tolist())
    bar = f'<i style="background:linear-gradient(to right, {stops})"></i>'
    if attribution is None:
        return f"<p>{bar}<span>none</span><span>most evidence</span></p>"
    label, method = html.escape(attribution.label), METHOD_NAMES[attribution.method]
    if attribution.strength == 0:
        return f"<p>Nothing in this slice speaks for {label} ({method}).</p>"
    return f"<p>{bar}<span>none</span><span>most evidence for {label} ({method})</span></p>"


def _notes(prediction: Prediction) -> str:
    items = "".join(f"<li>{html.escape(note)}</li>" for note in prediction.notes)
    return f"<h2>What was done to the file</h2><ul>{items}</ul>" if items else ""


def main() -> None:
    """Start as a Space does: the checkpoint comes from the environment."""
    checkpoint = os.environ.get("CT_XCEPTION_MODEL")
    if not checkpoint:
        sys.exit("Set the variable CT_XCEPTION_MODEL to a checkpoint: a Hub id (user/repo) or a folder.")
    launch(build_demo(checkpoint), host="0.0.0.0")


if __name__ == "__main__":
    main()
