"""What stands on the page, and where; what it does is in actions.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import gradio as gr
from ct_xception_app import scenes, words
from ct_xception_app.feedback import NO_CLASS, UNSURE
from ct_xception_app.limits import KEPT_SECONDS

from ct_xception.explain.budget import BUDGETS, DEFAULT_BUDGET, DEFAULT_METHOD
from ct_xception.explain.methods import METHODS
from ct_xception.explain.methods.base import Method
from ct_xception.files import dump_json
from ct_xception.imaging.modality import CT
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.windows import WINDOWS
from ct_xception.serving.decisions import Pooling
from ct_xception.serving.pooling import AGGREGATIONS
from ct_xception.serving.series import gather
from ct_xception.tabular import Tabular
from ct_xception.text import RESEARCH_USE

HERE = Path(__file__).resolve().parent
EXAMPLES = sorted(path for path in (HERE / "examples").glob("*") if path.suffix in {".png", ".dcm", ".zip"})
FIRST = HERE / "examples" / "squamous_cell_carcinoma_series.zip"  # answered at first sight
UPLOAD_CLOSED = "Tick the box above to upload"
UPLOAD_OPEN = "Slices, or a zipped series"
_WISHING = "globalThis.ctXceptionWish = (wish) => { props.value = wish; trigger('input'); };"


@dataclass(frozen=True)
class Inputs:
    """The controls on the left: files, examples; `source` is the paths in question."""

    consent: gr.Checkbox
    file: gr.File
    examples: gr.Gallery
    source: gr.State
    fields: tuple[gr.Number | gr.Dropdown, ...] = ()


@dataclass(frozen=True)
class Outputs:
    """What an answer fills, and what it can be asked further; `kept` is the visitor's case.

    `viewer` is told the scene and `wish` is what the viewer asks for: neither writes the other.
    """

    answer: gr.HTML
    status: gr.HTML
    stop: gr.Button
    which: gr.Radio
    pool: gr.Button
    viewer: gr.HTML
    wish: gr.HTML
    legend: gr.HTML
    series: gr.Column
    curve: gr.HTML
    aggregation: gr.Dropdown
    versus: gr.HTML
    detail: gr.HTML
    asking: gr.Accordion
    target: gr.Dropdown
    method: gr.Dropdown
    budget: gr.Radio
    every_map: gr.Button
    all_maps: gr.HTML
    evidence: gr.Column
    map_words: gr.HTML
    measure: gr.Button
    notes: gr.HTML
    make_files: gr.Button
    files: gr.File
    kept: gr.State
    history: gr.HTML
    past: gr.State


@dataclass(frozen=True)
class Reviewing:
    """What a reviewer fills in; there only where reviews are kept."""

    right: gr.Radio
    label: gr.Dropdown
    pixels: gr.Checkbox
    save: gr.Button
    said: gr.HTML


def build_inputs(columns: Tabular | None = None) -> Inputs:
    """The left column; with fields for the columns that the network takes beside the image."""
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
        fields = () if columns is None else _build_fields(columns)
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
    return Inputs(consent, file, examples, gr.State(None, time_to_live=KEPT_SECONDS), fields)


def _build_fields(columns: Tabular) -> tuple[gr.Number | gr.Dropdown, ...]:
    """A field for each column, empty where nothing is known; it holds for every slice that is given."""
    with gr.Group(elem_id="beside"):
        gr.HTML("<h2>Beside the image</h2><p>What is left empty counts as missing.</p>")
        return tuple(
            gr.Number(None, label=column.name, interactive=True)
            if column.kind == "number"
            else gr.Dropdown(["", *column.values], value="", label=column.name, interactive=True)
            for column in columns.rule.columns
        )


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


def build_outputs(
    label_names: list[str],
    modality: str = CT,
    methods: Mapping[str, Method] = METHODS,
    pooling: Pooling = Pooling(),  # noqa: B008 (frozen)
) -> Outputs:
    """The right column: the answer, the pictures, what is known of the map, the file, the downloads."""
    with gr.Row(elem_id="work", equal_height=True):
        status = gr.HTML(words.status("Ready."), elem_id="status")
        gr.HTML(f'<p role="note">{RESEARCH_USE}</p>', elem_id="notice")
        stop = gr.Button("Stop", size="sm", interactive=False, scale=0, min_width=80, elem_id="stop")
    which = gr.Radio([], label="One answer for each", visible=False, elem_id="which")
    answer = gr.HTML(words.waiting(modality), elem_id="answer")
    pool = gr.Button("They are slices of one scan: answer them together", size="sm", visible=False, elem_id="pool")
    viewer, wish = _build_viewer()
    legend = gr.HTML("", elem_id="legend")
    series, curve, aggregation = _build_series(pooling)
    versus = gr.HTML("", elem_id="versus")
    detail = gr.HTML("", elem_id="detail")
    evidence, map_words, measure, asking = _build_evidence()
    with asking:
        target, method, budget, every_map = _build_controls(label_names, methods)
    all_maps = gr.HTML("", elem_id="all-maps")
    notes = gr.HTML("", elem_id="notes")
    make_files, files = _build_downloads()
    kept, past = gr.State(None, time_to_live=KEPT_SECONDS), gr.State((), time_to_live=KEPT_SECONDS)
    history = gr.HTML("", elem_id="history")
    return Outputs(
        *(answer, status, stop, which, pool, viewer, wish, legend, series, curve, aggregation, versus, detail, asking),
        *(target, method, budget, every_map, all_maps, evidence, map_words, measure, notes, make_files, files, kept),
        *(history, past),
    )


def _build_viewer() -> tuple[gr.HTML, gr.HTML]:
    """The viewer, which runs in the browser, and the place where it says what it asks the server for."""
    presets = [{"name": name, "window": [window.centre, window.width]} for name, window in WINDOWS.items()]
    constants = f'const CONSTANTS = {{"palettes": {scenes.palettes()}, "presets": {dump_json(presets)}}};\n'
    script = (HERE / "viewer.js").read_text(encoding="utf-8")
    template = (HERE / "viewer.html").read_text(encoding="utf-8")
    viewer = gr.HTML("", html_template=template, js_on_load=constants + script, elem_id="viewer")
    wish = gr.HTML("", html_template="", js_on_load=_WISHING, visible="hidden", elem_id="wish")
    return viewer, wish


def _build_series(pooling: Pooling) -> tuple[gr.Column, gr.HTML, gr.Dropdown]:
    own = ", the model's own rule" if pooling.calibrated else ""
    with gr.Column(visible=False, elem_id="series") as series:
        curve = gr.HTML("", elem_id="curve")
        aggregation = gr.Dropdown(
            [(how.title + own * (name == pooling.method), name) for name, how in AGGREGATIONS.items()],
            value=pooling.method,
            label="Slices become one answer by",
            min_width=240,
            elem_id="aggregation",
        )
    return series, curve, aggregation


def _build_evidence() -> tuple[gr.Column, gr.HTML, gr.Button, gr.Accordion]:
    with gr.Column(visible=False, elem_id="evidence", elem_classes="sheet") as evidence:
        gr.HTML("<h2>What the map says, and how far to trust it</h2>", elem_id="evidence-head")
        map_words = gr.HTML("<p class='quiet'>No map yet.</p>", elem_id="map-words")
        measure = gr.Button("Measure the evidence", size="sm", interactive=False, elem_id="measure")
        asking = gr.Accordion("Another class, another method, all classes", open=False, elem_id="asking")
    return evidence, map_words, measure, asking


def _build_controls(
    label_names: list[str], methods: Mapping[str, Method]
) -> tuple[gr.Dropdown, gr.Dropdown, gr.Radio, gr.Button]:
    with gr.Row(elem_id="controls"):
        names: list[str | int | float | tuple[str, str | int | float]] = [("the answer's own", ""), *label_names]
        target = gr.Dropdown(names, value="", label="Evidence for", scale=3, min_width=210, elem_id="target")
        method = gr.Dropdown(
            [(found.title[0].upper() + found.title[1:], name) for name, found in methods.items()],
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
    every_map = gr.Button("Maps of all classes side by side", size="sm", elem_id="every-map")
    return target, method, budget, every_map


def _build_downloads() -> tuple[gr.Button, gr.File]:
    with gr.Accordion("Downloads", open=False, elem_id="downloads"):
        gr.HTML(
            "<p>Figure (PNG), one page to print (PDF), data (JSON, CSV) and a report (HTML), each naming the model.</p>"
        )
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
