"""The demo page: one slice in, an answer that can be weighed, and where on the slice it comes from.

    ct-xception demo runs/phantom/model                        # on this machine
    ct-xception demo runs/phantom/model user/other             # two models side by side
    CT_XCEPTION_MODEL=user/repo python app.py                  # as the Space runs it; CT_XCEPTION_SECOND names another

Nothing is preprocessed here. Uploads arrive as paths, so that Gradio never touches a pixel; the package's own reader
and classifier do the rest, the same as everywhere else.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import gradio as gr
from ct_xception_app import about, api, scenes, words
from ct_xception_app.actions import NAME_EMPTY_PLACES, Page
from ct_xception_app.cases import Study
from ct_xception_app.feedback import FOLDER_VARIABLE, HUB_VARIABLE, FeedbackFolder
from ct_xception_app.guard import Guard, Punctual
from ct_xception_app.layout import HERE, build_inputs, build_outputs, build_review, show_examples
from ct_xception_app.limits import DECODERS, KEPT_SECONDS, MAX_FILE, MAX_QUEUE, SWEEP_SECONDS
from ct_xception_app.uploads import take_no_addresses
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware

from ct_xception.errors import InputError
from ct_xception.explain.methods import methods_for
from ct_xception.imaging.reader import isolate_decoding
from ct_xception.serving.classifier import Classifier


def build_demo(
    checkpoint: str | Path, second: str | Path | None = None, *, reviews: FeedbackFolder | None = None
) -> gr.Blocks:
    """The page on one checkpoint, or on two side by side: folders or Hub ids. Reviews are kept where there is a folder.

    Raises CheckpointError before any page is built.
    """
    classifier = Classifier.from_pretrained(checkpoint)
    config = classifier.checkpoint.config if classifier.checkpoint else {}
    beside = None if second is None else Study(Classifier.from_pretrained(second))
    study = Study(classifier, beside)
    with gr.Blocks(title="ct-xception", analytics_enabled=False, delete_cache=(SWEEP_SECONDS, KEPT_SECONDS)) as demo:
        modality = classifier.contract.modality
        gr.HTML(words.header(study.origin, classifier.label_names, modality, beside and beside.origin), elem_id="head")
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Answer", elem_id="answer-tab"), gr.Row(elem_id="page"):
                inputs = build_inputs(classifier.columns)
                with gr.Column(scale=8, min_width=320, elem_id="outputs"):
                    pooling, methods = classifier.decisions.pooling, methods_for(config)
                    outputs = build_outputs(classifier.label_names, modality, methods, pooling)
                    reviewing = build_review(classifier.label_names) if reviews is not None else None
            with gr.Tab("About this model", elem_id="about-tab"):
                gr.Markdown(about.card_text(classifier), latex_delimiters=[], elem_id="about")
            if beside is not None:
                with gr.Tab("About the second model"):
                    gr.Markdown(about.card_text(beside.classifier), latex_delimiters=[], elem_id="about-second")
        api.add_api(demo, classifier, beside and beside.classifier)
        scenes.add_slices(demo, study.store)
        Page(study, inputs, outputs, reviewing, reviews).connect(demo)
        demo.load(None, js=NAME_EMPTY_PLACES)
        demo.load(show_examples, None, inputs.examples, api_visibility="private", show_progress="hidden", queue=False)
    return demo


def open_reviews(folder: str | Path | None = None) -> FeedbackFolder | None:
    """Where reviews are kept: the folder given, else the environment's, if any; a Hub dataset follows it if one is set.

    Raises InputError where that cannot be.
    """
    place, dataset = folder or os.environ.get(FOLDER_VARIABLE), os.environ.get(HUB_VARIABLE)
    if not place and not dataset:
        return None
    return FeedbackFolder(place or "reviews", hub_dataset=dataset or None)


def launch(demo: gr.Blocks, *, host: str = "127.0.0.1", port: int = 7860, wait: bool = True) -> None:
    """Serve the page, until interrupted if `wait`, with limits on file size and queue, and without telemetry.

    Files are decoded in a limited process of its own. Raises InputError when the port cannot be had.
    """
    isolate_decoding(DECODERS)
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
            app_kwargs={"routes": [*api.routes(demo), *scenes.slice_routes(demo)], "middleware": [_guard(host)]},
            mcp_server=api.has_mcp(),
        )
    except OSError as error:
        raise InputError(f"port {port} of {host} is taken or forbidden; choose another with --port.") from error
    # Each connection makes its protocol by the settings of that moment; gradio itself offers no way to give them.
    demo.server.config.http_protocol_class = Punctual
    take_no_addresses(demo)
    if wait:
        print(f"The page is at {demo.local_url} (Ctrl-C stops it).", flush=True)
        if not api.has_mcp():
            print(api.WITHOUT_MCP, flush=True)
        demo.block_thread()


def _guard(host: str) -> Middleware:
    public = not (host == "localhost" or host.startswith("127.") or host.strip("[]") == "::1")
    return Middleware(Guard, public=public, folder=Path(get_upload_folder()))


def _theme() -> gr.themes.Base:
    """Quiet colours and the reader's own fonts: none is fetched from elsewhere."""
    sans = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
    theme = gr.themes.Base(primary_hue="teal", neutral_hue="slate", radius_size="md", font=sans)
    # The theme's own greys for secondary text and for boxes miss the contrast that WCAG asks for (4.5 and 3).
    return theme.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        link_text_color_visited="*primary_700",
        link_text_color_visited_dark="*primary_300",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
    )


def main() -> None:
    """Start as a Space does: the checkpoint comes from the environment."""
    checkpoint = os.environ.get("CT_XCEPTION_MODEL")
    if not checkpoint:
        sys.exit("Set the variable CT_XCEPTION_MODEL to a checkpoint: a Hub id (user/repo) or a folder.")
    second = os.environ.get("CT_XCEPTION_SECOND") or None
    launch(build_demo(checkpoint, second, reviews=open_reviews()), host="0.0.0.0")


if __name__ == "__main__":
    main()
