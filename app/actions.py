"""What the page does when something on it is touched."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from ct_xception_app import layout, words
from ct_xception_app.cases import Case, MapChoice, Study, View
from ct_xception_app.curve import draw_curve
from ct_xception_app.downloads import as_csv, as_json, as_report
from ct_xception_app.feedback import NO_CLASS, FeedbackFolder, Review
from ct_xception_app.jobs import Job, Jobs, Replaced
from ct_xception_app.layout import EXAMPLES, Inputs, Outputs, Reviewing
from ct_xception_app.limits import LONGEST_SECONDS, SHOWN_SIDE
from PIL import Image

from ct_xception.errors import InputError
from ct_xception.explain.budget import Cancelled
from ct_xception.explain.methods import METHODS
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import WINDOWS, Window
from ct_xception.serving.pooling import Stopped, answer_together
from ct_xception.text import describe_window

# On a narrow screen the answer stands far below what was touched.
_TO_THE_ANSWER = """() => { if (window.innerWidth < 720)
    document.getElementById('outputs').scrollIntoView({block: 'start'}); }"""

# Gradio gives its empty places a label, but no role that may carry one.
NAME_EMPTY_PLACES = """() => {
    const mend = () => document.querySelectorAll('.empty[aria-label]:not([role])').forEach(
        (place) => place.setAttribute('role', 'img'));
    mend(); new MutationObserver(mend).observe(document.body, {childList: true, subtree: true}); }"""

_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

Shown = dict[Any, Any]
Data = dict[Any, Any]


class Page:
    """The actions of one page: each takes what the browser sent, {component: value}, and gives what to show."""

    def __init__(
        self,
        study: Study,
        inputs: Inputs,
        outputs: Outputs,
        reviewing: Reviewing | None,
        reviews: FeedbackFolder | None,
    ) -> None:
        self.study, self.inputs, self.outputs = study, inputs, outputs
        self.reviewing, self.reviews = reviewing, reviews
        self.jobs = Jobs()

    def connect(self) -> None:
        """Tie events to actions. None of them is offered as an API: their inputs are this page's own."""
        show = self.outputs
        everything = {value for part in (self.inputs, show) for value in vars(part).values() if _is_told(value)}
        filled = [*vars(show).values(), self.inputs.preset, self.inputs.centre, self.inputs.width]
        told = {**_QUIET, "inputs": everything, "outputs": filled}
        answering = {**told, "concurrency_id": "answer", "concurrency_limit": 1}
        # Maps and their evidence may take minutes: other visitors' answers do not wait for them.
        explaining = {**told, "concurrency_id": "explain", "concurrency_limit": 1}
        drawing = {**told, "concurrency_limit": 4, "trigger_mode": "always_last"}

        self._connect_inputs(answering, drawing)
        show.which.input(self.answer, **answering, trigger_mode="always_last")
        show.number.input(self.show_slice, **answering, trigger_mode="always_last")
        show.aggregation.input(self.pool_again, **drawing)
        for choice in (show.target, show.method, show.budget):
            choice.input(self.explain, **explaining, trigger_mode="always_last")
        show.opacity.input(self.draw, **drawing)
        show.view.input(self.turn, **drawing)
        show.measure.click(self.measure, **explaining)
        show.make_files.click(self.make_files, **answering)
        show.stop.click(self.stop, None, show.stop, **_QUIET, queue=False)
        if self.reviewing is not None:
            said = {show.kept, *(part for part in vars(self.reviewing).values() if _is_told(part))}
            self.reviewing.save.click(self.keep_review, said, self.reviewing.said, **_QUIET)

    def _connect_inputs(self, answering: dict[str, Any], drawing: dict[str, Any]) -> None:
        ask, which = self.inputs, self.outputs.which
        ask.consent.change(_open_upload, ask.consent, ask.file, **_QUIET)
        chosen = (
            ask.file.upload(_take_upload, [ask.file, ask.consent], [ask.source, which], **_QUIET),
            ask.file.delete(_take_upload, [ask.file, ask.consent], [ask.source, which], **_QUIET),
            ask.examples.select(_choose_example, None, [ask.source, which, ask.file], **_QUIET),
            ask.file.clear(lambda: (None, _no_choice()), None, [ask.source, which], **_QUIET),
        )
        for event in chosen:
            event.then(None, js=_TO_THE_ANSWER).then(self.answer, **answering)
        ask.preset.input(self.choose_preset, **drawing).then(self.answer, **answering, trigger_mode="always_last")
        for slider in (ask.centre, ask.width):
            slider.input(self.draw_window, **drawing).then(self.answer, **answering, trigger_mode="always_last")

    # Answers

    def answer(self, request: gr.Request, data: Data) -> Iterator[Shown]:
        """Answer what was given, or say in the reader's words why it is refused."""
        paths, before = data[self.inputs.source], data[self.outputs.kept]
        if not paths:
            self.jobs.stop(_session(request))
            yield self._empty(words.waiting(self.study.classifier.contract.modality))
            return
        try:
            window = self._window(data)
        except InputError as error:
            yield self._empty(words.refusal(str(error)))
            return

        def work(job: Job) -> Case:
            job.title = "Answering"
            return self.study.open_case(
                paths,
                window=window,
                choice=self._choice(data, same=before is not None and before.paths == tuple(paths)),
                aggregation=data[self.outputs.aggregation],
                chosen=data[self.outputs.which] or 0,
                before=before,
                progress=job.progress,
                cancelled=job.cancelled,
            )

        yield from self._follow(request, work, lambda case: self._show_case(case, data), refuse=True)

    def show_slice(self, request: gr.Request, data: Data) -> Iterator[Shown]:
        """Another slice of the same series."""
        case: Case | None = data[self.outputs.kept]
        if case is None:
            yield {self.outputs.status: words.status("Ready.")}
            return
        index = min(max(int(data[self.outputs.number]), 1), len(case.series)) - 1

        def work(job: Job) -> Case:
            job.title = f"Reading slice {index + 1}"
            choice = self._choice(data, same=True)
            view = self.study.look(case.series, index, case.window, choice, job.progress, job.cancelled)
            return case.at(index, view)

        yield from self._follow(request, work, lambda found: self._show_case(found, data))

    def pool_again(self, request: gr.Request, data: Data) -> Shown:
        """The series' answer by another aggregation; no slice is answered again."""
        case: Case | None = data[self.outputs.kept]
        if case is None or not case.is_series:
            return {self.outputs.together: ""}
        case = case.pooled(answer_together(case.answers, data[self.outputs.aggregation]))
        return {**self._show_series(case), self.outputs.kept: case}

    # Windows

    def choose_preset(self, request: gr.Request, data: Data) -> Shown:
        """The sliders go where the preset is; the picture follows at once, the answer after it."""
        window = WINDOWS.get(data[self.inputs.preset])
        if window is None:
            return {self.outputs.status: words.status("Ready.")}
        data = {**data, self.inputs.centre: window.centre, self.inputs.width: window.width}
        case: Case | None = data[self.outputs.kept]
        moved = self._move_sliders(window, None if case is None else case.view.prediction.slice)
        return {**moved, **self._draw_through(request, data)}

    def draw_window(self, request: gr.Request, data: Data) -> Shown:
        """The slice through the sliders' window, at once; its answer comes after."""
        data = {**data, self.inputs.preset: layout.BY_SLIDER}
        return {self.inputs.preset: layout.BY_SLIDER, **self._draw_through(request, data)}

    def _draw_through(self, request: gr.Request, data: Data) -> Shown:
        case: Case | None = data[self.outputs.kept]
        self.jobs.stop(_session(request))
        if case is None or case.view.prediction.slice.window is None:
            return {self.outputs.status: words.status("Ready.")}
        try:
            slice_ = case.series.members[case.index].read(self.study.classifier, self._window(data))
        except InputError as error:
            return {self.outputs.status: words.status(str(error))}
        label = f"Slice, {_window_words(slice_)}, not yet answered"
        return {self.outputs.slice: gr.update(value=_shrink(slice_.to_pil()), label=label)}

    def _window(self, data: Data) -> Window | None:
        """What the visitor asks for; None leaves it to the file. Raises InputError."""
        preset = data[self.inputs.preset]
        if preset == layout.BY_SLIDER:
            return Window(float(data[self.inputs.centre] or 0), float(data[self.inputs.width] or 0))
        return WINDOWS.get(preset)

    # Maps

    def explain(self, request: gr.Request, data: Data) -> Iterator[Shown]:
        """Another class, method or effort on the same slice."""
        show = self.outputs
        case: Case | None = data[show.kept]
        told = {show.method: gr.update(info=words.method_sentence(data[show.method]))}
        if case is None or case.view.prediction.refusal:
            yield told
            return
        yield told
        choice = self._choice(data, same=True)

        def work(job: Job) -> View:
            job.title = METHODS[choice.method].title
            return self.study.map(case.view, choice, job.progress, job.cancelled)

        def shown(view: View) -> Shown:
            return {**self._show_view(view, data), show.kept: case.at(case.index, view), **self._no_files()}

        yield from self._follow(request, work, shown)

    def measure(self, request: gr.Request, data: Data) -> Iterator[Shown]:
        """The evidence for and against the map that is shown."""
        case: Case | None = data[self.outputs.kept]
        if case is None or case.view.explained is None:
            yield {self.outputs.status: words.status("There is no map to measure yet.")}
            return

        def work(job: Job) -> View:
            job.title = "Measuring the evidence"
            return self.study.measure(case.view, data[self.outputs.budget], job.progress, job.cancelled)

        def shown(view: View) -> Shown:
            told = words.map_words(view.record, view.sentences)
            return {self.outputs.map_words: told, self.outputs.kept: case.at(case.index, view), **self._no_files()}

        yield from self._follow(request, work, shown)

    def draw(self, request: gr.Request, data: Data) -> Shown:
        """The same map with another opacity."""
        case: Case | None = data[self.outputs.kept]
        return self._show_pictures(None if case is None else case.view, data)

    def turn(self, request: gr.Request, data: Data) -> Shown:
        """The same map in the other view.

        This alone says which view is seen: an answer that was asked for before comes late, and would turn it back.
        """
        show, swiping = self.outputs, data[self.outputs.view] == layout.SWIPE
        drawn = self.draw(request, data)
        filled = {"value": drawn.pop(show.swipe)} if show.swipe in drawn else {}
        return {**drawn, show.pair: gr.update(visible=not swiping), show.swipe: gr.update(visible=swiping, **filled)}

    def _choice(self, data: Data, *, same: bool) -> MapChoice:
        """What map is asked for; a new file is explained for its own answer."""
        show = self.outputs
        target = data[show.target] if same and data[show.target] else None
        return MapChoice(target, data[show.method], data[show.budget])

    # Work that takes its time

    def _follow(
        self, request: gr.Request, work: Callable[[Job], Any], shown: Callable[[Any], Shown], *, refuse: bool = False
    ) -> Iterator[Shown]:
        """Do some work with its progress in sight and Stop at hand, then show what came of it.

        A user's mistake is said in the status line; with `refuse`, in place of the answer.
        """
        show, ended = self.outputs, {self.outputs.stop: gr.update(interactive=False)}
        yield {show.stop: gr.update(interactive=True), show.status: words.status("Working …")}
        try:
            for title, share, result in self.jobs.follow(_session(request), work):
                if result is None:
                    yield {show.status: words.status(f"{title} …", share)}
                else:
                    yield {show.status: words.status("Ready."), **shown(result), **ended}
        except Replaced:
            return  # what came after it has the page now
        except (Stopped, Cancelled):
            yield {show.status: words.status(f"Stopped (by you, or after {LONGEST_SECONDS} seconds)."), **ended}
        except InputError as error:
            failed = self._empty(words.refusal(str(error))) if refuse else {show.status: words.status(str(error))}
            yield {**failed, **ended}

    def stop(self, request: gr.Request) -> Any:
        """Stop this visitor's job."""
        self.jobs.stop(_session(request))
        return gr.update(interactive=False)

    # What is shown

    def _show_case(self, case: Case, data: Data) -> Shown:
        show, prediction = self.outputs, case.view.prediction
        others = case.series.notes if case.is_series else ()
        title = words.slice_title(case.index + 1, len(case.series), prediction.source)
        mapped = case.view.explained
        target = mapped.attribution.label if mapped is not None else ""
        return {
            show.answer: title + words.answer(prediction),
            **self._show_view(case.view, data),
            show.target: target,
            show.notes: words.notes(prediction, others, has_ink=case.view.has_ink),
            show.measure: gr.update(interactive=mapped is not None),
            show.make_files: gr.update(interactive=True),
            **self._no_files(),
            **self._show_window(prediction.slice),
            show.which: self._show_choice(case),
            **self._show_series(case),
            show.kept: case,
        }

    def _show_view(self, view: View, data: Data) -> Shown:
        show, explained = self.outputs, view.explained
        return {
            **self._show_pictures(view, data),
            show.legend: words.legend(None if explained is None else explained.attribution),
            show.map_words: words.map_words(view.record, view.sentences),
        }

    def _show_pictures(self, view: View | None, data: Data) -> Shown:
        """Slice and overlay beside each other, or under one swipe; the view that is not chosen stays as it is."""
        show = self.outputs
        if view is None:
            return {show.slice: gr.update(value=None, label="Slice"), show.heat: None, show.swipe: None}
        slice_ = view.prediction.slice
        first, second = _shrink(slice_.to_pil()), _shrink(view.picture(data[show.opacity]))
        if data[show.view] == layout.SWIPE:
            return {show.swipe: (first, second)}
        label = f"Slice, {_window_words(slice_)}"
        # Without a map its place stays empty: a bare slice named evidence would say that there is none.
        return {show.slice: gr.update(value=first, label=label), show.heat: second if view.explained else None}

    def _show_window(self, slice_: Slice) -> Shown:
        """The sliders at the window in use; without one they rest, and the reason stands beside them."""
        ask, window = self.inputs, slice_.window
        if window is None:
            reason = f"{slice_.bit_depth}-bit picture: its window is fixed"
            rest = gr.update(interactive=False)
            return {ask.preset: gr.update(info=reason, interactive=False), ask.centre: rest, ask.width: rest}
        units = "in HU" if slice_.is_hu else "in stored units"
        return {ask.preset: gr.update(info=units, interactive=True), **self._move_sliders(window, slice_)}

    def _move_sliders(self, window: Window, slice_: Slice | None) -> Shown:
        """The sliders at a window, their ends wide enough for it: gradio refuses a value beyond them."""
        (lowest, highest), widest = layout.CENTRES, layout.WIDTHS[1]
        if slice_ is not None and not slice_.is_hu:
            lowest, highest, widest = 0, 2**slice_.bit_depth, 2**slice_.bit_depth
        ends = {"minimum": min(lowest, window.centre), "maximum": max(highest, window.centre)}
        return {
            self.inputs.centre: gr.update(**ends, value=window.centre, interactive=True),
            self.inputs.width: gr.update(
                minimum=1, maximum=max(widest, window.width), value=window.width, interactive=True
            ),
        }

    def _show_choice(self, case: Case) -> Any:
        names = [(f"{one.name}: {one.facts}", number) for number, one in enumerate(case.found)]
        return gr.update(choices=names, value=case.chosen, visible=len(names) > 1)

    def _show_series(self, case: Case) -> Shown:
        show = self.outputs
        if not case.is_series:
            return {show.series: gr.update(visible=False), show.together: "", show.curve: ""}
        return {
            show.series: gr.update(visible=True),
            show.together: words.together(case.together, case.series, case.unanswered),
            show.curve: draw_curve(case.answers, case.together, case.index),
            show.number: gr.update(minimum=1, maximum=len(case.series), value=case.index + 1),
        }

    def _empty(self, message: str) -> Shown:
        show = self.outputs
        return {
            show.answer: message,
            show.status: words.status("Ready."),
            show.stop: gr.update(interactive=False),
            show.series: gr.update(visible=False),
            show.slice: gr.update(value=None, label="Slice"),
            show.heat: None,
            show.swipe: None,
            show.target: "",
            show.legend: words.legend(None),
            show.map_words: words.map_words(None, ()),
            show.measure: gr.update(interactive=False),
            show.make_files: gr.update(interactive=False),
            show.notes: "",
            show.kept: None,
            self.inputs.preset: gr.update(info=layout.NO_WINDOW, interactive=True),
            **self._no_files(),
        }

    def _no_files(self) -> Shown:
        return {self.outputs.files: gr.update(value=None, visible=False)}

    # What is taken away, and what is said

    def make_files(self, request: gr.Request, data: Data) -> Iterator[Shown]:
        """Write the downloads into the page's own cache, from which they are deleted with the uploads."""
        case: Case | None = data[self.outputs.kept]
        if case is None:
            yield {self.outputs.status: words.status("There is no answer to download yet.")}
            return
        folder = Path(self.outputs.files.GRADIO_CACHE) / secrets.token_hex(16)

        def work(job: Job) -> list[str]:
            job.title = "Writing the files"
            return self._write_files(case, folder)

        def shown(paths: list[str]) -> Shown:
            return {self.outputs.files: gr.update(value=paths, visible=True)}

        yield from self._follow(request, work, shown)

    def _write_files(self, case: Case, folder: Path) -> list[str]:
        findings, stem = self.study.findings(case), "ct-xception-answer"
        folder.mkdir(parents=True)
        written = []
        if case.view.explained is not None:
            self.study.figure(case.view, folder / f"{stem}.png")
            written.append(f"{stem}.png")
        for suffix, write in ((".json", as_json), (".csv", as_csv), (".html", as_report)):
            (folder / f"{stem}{suffix}").write_text(write(findings), encoding="utf-8")
            written.append(f"{stem}{suffix}")
        return [str(folder / name) for name in written]

    def keep_review(self, data: Data) -> str:
        """Keep a reviewer's word on the slice shown."""
        assert self.reviewing is not None and self.reviews is not None
        case: Case | None = data[self.outputs.kept]
        right, label = data[self.reviewing.right], data[self.reviewing.label]
        if case is None:
            return words.status("There is no answer to review yet.")
        if not right or not label:
            return words.status("Say whether the answer is right, and what the slice shows.")
        prediction = case.view.prediction
        if (right == "right") != (label == (NO_CLASS if prediction.refusal else prediction.label)):
            return words.status("The two do not go together: right means that the slice shows the answer's class.")
        review = Review(right == "right", label, bool(data[self.reviewing.pixels]))
        try:
            self.reviews.add(review, prediction, self.study.origin)
        except (InputError, OSError) as error:
            return words.status(f"The review could not be kept ({error}).")
        return words.status(f"Kept: {right}, {label}. Thank you.")


def _is_told(component: object) -> bool:
    """Whether a component's value is sent to the actions: what is only filled is not."""
    return isinstance(component, gr.Dropdown | gr.Slider | gr.Radio | gr.State | gr.Checkbox)


def _open_upload(agreed: bool) -> Any:
    return gr.update(interactive=agreed, label=layout.UPLOAD_OPEN if agreed else layout.UPLOAD_CLOSED)


def _take_upload(paths: list[str] | None, agreed: bool) -> tuple[tuple[str, ...] | None, Any]:
    return tuple(paths) if paths and agreed else None, _no_choice()


def _choose_example(event: gr.SelectData) -> tuple[tuple[str, ...], Any, None]:
    return (str(EXAMPLES[event.index]),), _no_choice(), None


def _no_choice() -> Any:
    """Other files: the series chosen among the last ones says nothing of them."""
    return gr.update(choices=[], value=None, visible=False)


def _session(request: gr.Request | None) -> str:
    return getattr(request, "session_hash", None) or ""


def _window_words(slice_: Slice) -> str:
    return describe_window(slice_.window, slice_.bit_depth, slice_.is_hu)


def _shrink(picture: Image.Image) -> Image.Image:
    picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    return picture
