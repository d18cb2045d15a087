"""What stands on the page, and where; what it does is in actions.py."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import gradio as gr
from ct_xception_app import words
from ct_xception_app.feedback import NO_CLASS, UNSURE
from ct_xception_app.limits import KEPT_SECONDS

from ct_xception.explain.budget import BUDGETS, DEFAULT_BUDGET, DEFAULT_METHOD
from ct_xception.explain.methods import METHODS
from ct_xception.imaging.modality import CT
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.windows import WINDOWS
from ct_xception.serving.pooling import AGGREGATIONS
from ct_xception.serving.series import gather

HERE = Path(__file__).resolve().parent
EXAMPLES = sorted(path for path in (HERE / "examples").glob("*") if path.suffix in {".png", ".dcm", ".zip"})
AS_STORED, BY_SLIDER = "as stored", "by the sliders"
SIDE_BY_SIDE, SWIPE = "side by side", "swipe"
CENTRES, WIDTHS = (-1000, 1000), (1, 4000)  # HU, on the sliders; presets and files may go beyond
UPLOAD_CLOSED = "Tick the box above to upload"
UPLOAD_OPEN = "Slices, or a zipped series"
NO_WINDOW = "for DICOM and 16-bit files"


@dataclass(frozen=True)
class Inputs:
    """The controls on the left: files, examples, window; `source` is the paths in question."""

    consent: gr.Checkbox
    file: gr.File
    preset: gr.Dropdown
    centre: gr.Slider
    width: gr.Slider
    examples: gr.Gallery
    source: gr.State


@dataclass(frozen=True)
class Outputs:
    """What an answer fills, and what it can be asked further; `kept` is the visitor's case."""

    answer: gr.HTML
    status: gr.HTML
    stop: gr.Button
    which: gr.Radio
    series: gr.Column
    together: gr.HTML
    curve: gr.HTML
    number: gr.Slider
    aggregation: gr.Dropdown
    pair: gr.Row
    slice: gr.Image
    heat: gr.Image
    swipe: gr.ImageSlider
    legend: gr.HTML
    view: gr.Radio
    target: gr.Dropdown
    method: gr.Dropdown
    budget: gr.Radio
    opacity: gr.Slider
    map_words: gr.HTML
    measure: gr.Button
    notes: gr.HTML
    make_files: gr.Button
    files: gr.File
    kept: gr.State


@dataclass(frozen=True)
class Reviewing:
    """What a reviewer fills in; there only where reviews are kept."""

    right: gr.Radio
    label: gr.Dropdown
    pixels: gr.Checkbox
    save: gr.Button
    said: gr.HTML


def build_inputs() -> Inputs:
    """The left column."""
    with gr.Column(scale=3, min_width=280, elem_id="inputs"):
        with gr.Group(elem_id="giving"):
            consent = gr.Checkbox(False, label=words.CONSENT, info=words.PRIVACY, elem_id="consent")
            file = gr.File(
                label=UPLOAD_CLOSED,
                file_count="multiple",
                height=150,
                interactive=False,
                elem_id="file",
            )
        gr.HTML("<h2>Examples</h2><p>Drawn by a program; no patient is shown.</p>", elem_id="examples-head")
        examples = gr.Gallery(
            label="Examples",
            show_label=False,
            columns=3,
            height="auto",
            allow_preview=False,
            object_fit="cover",
            interactive=False,
            buttons=[],
            elem_id="examples",
        )
        preset, centre, width = _build_window()
    return Inputs(consent, file, preset, centre, width, examples, gr.State(None, time_to_live=KEPT_SECONDS))


def _build_window() -> tuple[gr.Dropdown, gr.Slider, gr.Slider]:
    with gr.Group(elem_id="window"):
        preset = gr.Dropdown(
            [AS_STORED, *((f"{name} {value}", name) for name, value in WINDOWS.items()), BY_SLIDER],
            value=AS_STORED,
            label="Window",
            info=NO_WINDOW,
            elem_id="preset",
        )
        lung = WINDOWS["lung"]
        centre = gr.Slider(*CENTRES, lung.centre, step=5, label="Centre", interactive=False, elem_id="centre")
        width = gr.Slider(*WIDTHS, lung.width, step=5, label="Width", interactive=False, elem_id="width")
    return preset, centre, width


def show_examples() -> list[tuple[object, str]]:
    """The examples' pictures and names, given when a page loads: a page's settings would tell where they are kept."""
    return [(_thumbnail(path), example_name(path)) for path in EXAMPLES]


def example_name(path: Path) -> str:
    """What stands under an example: its class in short, and what it is where it is no picture."""
    if path.suffix == ".zip":
        return "series (zip)"
    name = path.stem.replace("_", " ").removesuffix(" carcinoma")
    return f"{name} (DICOM)" if path.suffix == ".dcm" else name


@cache
def _thumbnail(path: Path) -> object:
    if path.suffix != ".zip":
        return read_slice(path).to_pil()
    members = gather([path])[0].members
    return read_slice(members[len(members) // 2].source(), name=path.name).to_pil()


def build_outputs(label_names: list[str], modality: str = CT) -> Outputs:
    """The right column: the answer, the pictures, what is known of the map, the file, the downloads."""
    with gr.Row(elem_id="work", equal_height=True):
        status = gr.HTML(words.status("Ready."), elem_id="status")
        stop = gr.Button("Stop", size="sm", interactive=False, scale=0, min_width=80, elem_id="stop")
    which = gr.Radio([], label="Several series were given: which to answer", visible=False, elem_id="which")
    series, together, curve, number, aggregation = _build_series()
    answer = gr.HTML(words.waiting(modality), elem_id="answer")
    pair, slice_, heat, swipe = _build_viewer()
    view, target, method, budget, opacity, legend = _build_controls(label_names)
    map_words, measure = _build_evidence()
    notes = gr.HTML("", elem_id="notes")
    make_files, files = _build_downloads()
    kept = gr.State(None, time_to_live=KEPT_SECONDS)
    return Outputs(
        *(answer, status, stop, which, series, together, curve, number, aggregation, pair, slice_, heat, swipe, legend),
        *(view, target, method, budget, opacity, map_words, measure, notes, make_files, files, kept),
    )


def _build_series() -> tuple[gr.Column, gr.HTML, gr.HTML, gr.Slider, gr.Dropdown]:
    with gr.Column(visible=False, elem_id="series") as series:
        together = gr.HTML("", elem_id="together")
        curve = gr.HTML("", elem_id="curve")
        with gr.Row():
            number = gr.Slider(1, 2, 1, step=1, label="Slice shown", scale=3, min_width=240, elem_id="number")
            aggregation = gr.Dropdown(
                [(how.title, name) for name, how in AGGREGATIONS.items()],
                value="mean_log",
                label="Series answer by",
                scale=2,
                min_width=240,
                elem_id="aggregation",
            )
    return series, together, curve, number, aggregation


def _build_viewer() -> tuple[gr.Row, gr.Image, gr.Image, gr.ImageSlider]:
    with gr.Row(elem_id="viewer", elem_classes="viewer") as pair:
        slice_ = _picture("Slice", "The slice as it was read")
        heat = _picture("Evidence", "The slice under its heat map")
    swipe = gr.ImageSlider(
        label="Slice and evidence",
        interactive=False,
        format="png",
        type="pil",
        visible=False,
        buttons=["fullscreen"],
        max_height=720,
        elem_id="swipe",
        elem_classes="viewer",
    )
    return pair, slice_, heat, swipe


def _picture(label: str, alt: str) -> gr.Image:
    return gr.Image(
        label=label, alt_text=alt, interactive=False, format="png", type="pil", min_width=240, buttons=["fullscreen"]
    )


def _build_controls(
    label_names: list[str],
) -> tuple[gr.Radio, gr.Dropdown, gr.Dropdown, gr.Radio, gr.Slider, gr.HTML]:
    with gr.Group(elem_id="controls"):
        with gr.Row():
            names: list[str | int | float | tuple[str, str | int | float]] = [("…", ""), *label_names]
            target = gr.Dropdown(names, value="", label="Evidence for", scale=3, min_width=210, elem_id="target")
            method = gr.Dropdown(
                [(found.title[0].upper() + found.title[1:], name) for name, found in METHODS.items()],
                value=DEFAULT_METHOD,
                label="Method",
                info=METHODS[DEFAULT_METHOD].sentence,
                scale=3,
                min_width=190,
                elem_id="method",
            )
            budget = gr.Radio(
                list(BUDGETS),
                value=DEFAULT_BUDGET,
                label="Effort",
                info="of slow methods, and of the evidence",
                scale=4,
                min_width=290,
                elem_id="budget",
            )
        with gr.Row():
            view = gr.Radio(
                [SIDE_BY_SIDE, SWIPE], value=SIDE_BY_SIDE, label="View", scale=3, min_width=220, elem_id="view"
            )
            opacity = gr.Slider(0, 1, 0.6, step=0.05, label="Opacity", scale=4, min_width=220, elem_id="opacity")
        legend = gr.HTML(words.legend(None), elem_id="legend")
    return view, target, method, budget, opacity, legend


def _build_evidence() -> tuple[gr.HTML, gr.Button]:
    with gr.Column(elem_id="evidence", elem_classes="sheet"):
        gr.HTML("<h2>What the map says, and how far to trust it</h2>", elem_id="evidence-head")
        map_words = gr.HTML("<p class='quiet'>No map yet.</p>", elem_id="map-words")
        measure = gr.Button("Measure the evidence", size="sm", interactive=False, elem_id="measure")
    return map_words, measure


def _build_downloads() -> tuple[gr.Button, gr.File]:
    with gr.Accordion("Downloads", open=False, elem_id="downloads"):
        gr.HTML("<p>Figure (PNG), data (JSON, CSV) and a report of one page (HTML), each naming the model.</p>")
        make_files = gr.Button("Make the files", size="sm", interactive=False, elem_id="make-files")
        files = gr.File(
            label="Files", file_count="multiple", interactive=False, visible=False, height=290, elem_id="files"
        )
    return make_files, files


def build_review(label_names: list[str]) -> Reviewing:
    """What a reviewer may say of the slice shown."""
    with gr.Accordion("Review this answer", open=False, elem_id="review"):
        gr.HTML("<p>For reviewers: what you say is kept without name or file name, for later training.</p>")
        with gr.Row():
            right = gr.Radio(["right", "wrong"], label="The answer is", scale=1, elem_id="review-right")
            label = gr.Dropdown(
                [*label_names, NO_CLASS, UNSURE], value=None, label="The slice shows", scale=2, elem_id="review-label"
            )
        pixels = gr.Checkbox(False, label="Keep the slice's pixels with my review (8 bits, without tags)")
        save = gr.Button("Save the review", size="sm", elem_id="review-save")
        said = gr.HTML("", elem_id="review-said")
    return Reviewing(right, label, pixels, save, said)
