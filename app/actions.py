"""What the page does when something on it is touched."""

from __future__ import annotations

import html
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from ct_xception_app import layout, scenes, words
from ct_xception_app.cases import Case, MapChoice, Study, View
from ct_xception_app.comparing import versus
from ct_xception_app.curve import draw_curve
from ct_xception_app.downloads import as_csv, as_json, as_report
from ct_xception_app.feedback import NO_CLASS, FeedbackFolder, Review
from ct_xception_app.jobs import Job, Jobs, Replaced
from ct_xception_app.layout import EXAMPLES, FIRST, Inputs, Outputs, Reviewing
from ct_xception_app.limits import LONGEST_SECONDS
from ct_xception_app.one_page import save_pdf

from ct_xception.errors import InputError
from ct_xception.explain.budget import Cancelled
from ct_xception.explain.methods import METHODS
from ct_xception.explain.overlay import draw_overlay
from ct_xception.files import dump_json
from ct_xception.html import image_uri
from ct_xception.imaging.modality import CT
from ct_xception.imaging.windows import Window
from ct_xception.serving.pooling import Stopped
from ct_xception.text import percent

# On a narrow screen the answer stands far below what was touched; once it is there, unless a hand has moved on.
_TO_THE_ANSWER = """() => { if (window.innerWidth >= 720) return;
    document.getElementById('outputs').scrollIntoView({block: 'start'}); window.ctLeftAt = window.scrollY; }"""
_BACK_TO_THE_ANSWER = """() => { if (window.innerWidth < 720 && Math.abs(window.scrollY - window.ctLeftAt) < 60)
    document.getElementById('outputs').scrollIntoView({block: 'start'}); }"""

# Gradio gives its empty places a label, but no role that may carry one.
NAME_EMPTY_PLACES = """() => {
    const mend = () => document.querySelectorAll('.empty[aria-label]:not([role])').forEach(
        (place) => place.setAttribute('role', 'img'));
    mend(); new MutationObserver(mend).observe(document.body, {childList: true, subtree: true}); }"""

SMALL_MAP = 280  # pixels of one of the maps side by side
MOST_PAST = 8  # cases of a session that can be seen again

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

    def connect(self, demo: gr.Blocks) -> None:
        """Tie events to actions. None of them is offered as an API: their inputs are this page's own."""
        show = self.outputs
        everything = {value for part in (self.inputs, show) for value in vars(part).values() if _is_told(value)}
        everything |= set(self.inputs.fields)
        told = {**_QUIET, "inputs": everything | {show.wish}, "outputs": list(vars(show).values())}
        answering = {**told, "concurrency_id": "answer", "concurrency_limit": 1, "trigger_mode": "always_last"}
        # Maps and their evidence may take minutes: other visitors' answers do not wait for them.
        explaining = {**answering, "concurrency_id": "explain"}

        self._connect_inputs(answering)
        # What is asked for next makes way for itself first: the work before it ends at once, and is not shown.
        asked: tuple[tuple[Any, Any], ...] = (
            (show.which.input, self.choose_reading),
            (show.wish.input, self.follow),
            (show.pool.click, self.pool_files),
        )
        for field in self.inputs.fields:
            asked += (((field.blur if isinstance(field, gr.Number) else field.input), self.answer_with_row),)
            asked += ((field.submit, self.answer_with_row),) if isinstance(field, gr.Number) else ()
        for event, action in asked:
            event(self.make_way, None, None, **_QUIET, queue=False).then(action, **answering)
        for choice in (show.target, show.method, show.budget):
            choice.input(self.make_way, None, None, **_QUIET, queue=False).then(self.explain, **explaining)
        show.aggregation.input(self.pool_again, **{**told, "concurrency_limit": 4, "trigger_mode": "always_last"})
        show.every_map.click(self.explain_all, **explaining)
        show.measure.click(self.measure, **explaining)
        show.make_files.click(self.make_files, **answering)
        show.stop.click(self.stop, None, show.stop, **_QUIET, queue=False)
        if self.reviewing is not None:
            said = {show.kept, *(part for part in vars(self.reviewing).values() if _is_told(part))}
            self.reviewing.save.click(self.keep_review, said, self.reviewing.said, **_QUIET)
        demo.load(self.greet, **answering)

    def _connect_inputs(self, answering: dict[str, Any]) -> None:
        ask, which = self.inputs, self.outputs.which
        ask.consent.change(_open_upload, ask.consent, ask.file, **_QUIET)
        chosen = (
            ask.file.upload(_take_upload, [ask.file, ask.consent], [ask.source, which], **_QUIET),
            ask.file.delete(_take_upload, [ask.file, ask.consent], [ask.source, which], **_QUIET),
            ask.examples.select(_choose_example, None, [ask.source, which, ask.file], **_QUIET),
            ask.file.clear(lambda: (None, _no_choice()), None, [ask.source, which], **_QUIET),
        )
        for event in chosen:
            ready = event.then(self.make_way, None, None, **_QUIET, queue=False).then(None, js=_TO_THE_ANSWER)
            ready.then(self.answer, **answering).then(None, js=_BACK_TO_THE_ANSWER)

    def greet(self, request: gr.Request, data: Data) -> Iterator[Shown]:
        """At first sight: an example, answered; the address may name another (`?example=adenocarcinoma`)."""
        if data[self.inputs.source] or self.study.classifier.contract.modality != CT:
            return

        asked = dict(getattr(request, "query_params", {})).get("example")
        path = next((path for path in EXAMPLES if path.stem == asked), FIRST)

        def work(job: Job) -> Case:
            job.title = "Answering an example"
            return self.study.example(path)

        yield from self._follow(request, work, lambda case: self._show_case(case, data, new=True))

    def make_way(self, request: gr.Request) -> None:
        """What this visitor asked for next makes what is under way needless."""
        self.jobs.make_way(_session(request))

    # Answers

    def answer(self, request: gr.Request, data: Data) -> Iterator[Shown]:
        """Answer what was given, or say in the reader's words why it is refused."""
        paths = data[self.inputs.source]
        if not paths:
            self.jobs.stop(_session(request))
            yield self._empty(words.waiting(self.study.classifier.contract.modality))
            return
        yield from self._answer(request, data, tuple(paths))

    def choose_reading(self, request: gr.Request, data: Data) -> Iterator[Shown]:
        """One answer a patient, or one a series."""
        case: Case | None = data[self.outputs.kept]
        if case is not None:
            yield from self._answer(request, data, case.paths, window=case.window, by=data[self.outputs.which])

    def answer_with_row(self, request: gr.Request, data: Data) -> Iterator[Shown]:
        """The visitor said something else beside the images."""
        case: Case | None = data[self.outputs.kept]
        if case is not None and case.row != self._row(data):
            yield from self._answer(request, data, case.paths, window=case.window, by=case.by, chosen=case.chosen)

    def _row(self, data: Data) -> dict[str, Any] | None:
        """What is said beside the images; None where the network takes nothing, or nothing is said."""
        columns = self.study.classifier.columns
        names = () if columns is None else columns.names
        row = {name: data[field] for name, field in zip(names, self.inputs.fields, strict=True)}
        return {name: value for name, value in row.items() if value not in (None, "")} or None

    def pool_files(self, request: gr.Request, data: Data) -> Iterator[Shown]:
        """The visitor says that separate files are slices of one scan."""
        case: Case | None = data[self.outputs.kept]
        if case is not None:
            yield from self._answer(request, data, case.paths, related=True)

    def _answer(
        self,
        request: gr.Request,
        data: Data,
        paths: tuple[str, ...],
        *,
        window: Window | None = None,
        by: str | None = None,
        chosen: int = 0,
        related: bool = False,
    ) -> Iterator[Shown]:
        before: Case | None = data[self.outputs.kept]
        same = before is not None and before.paths == paths and not related
        same = same and before is not None and (before.by, before.chosen) == (by or before.by, chosen)
        choice = self._choice(data, before if same else None)
        if before is not None and before.window != window:  # another answer may have another class
            choice = replace(choice, target=(same and data[self.outputs.target]) or None)

        def work(job: Job) -> Case:
            job.title = "Answering"
            return self.study.open_case(
                paths,
                window=window,
                choice=choice,
                by=by,
                chosen=chosen,
                before=before,
                related=related,
                row=self._row(data),
                progress=job.progress,
                cancelled=job.cancelled,
            )

        yield from self._follow(request, work, lambda case: self._show_case(case, data, new=not same), refuse=True)

    def follow(self, request: gr.Request, data: Data) -> Iterator[Shown]:
        """The viewer's hand rests on another slice, or asks the network to look through another window."""
        case: Case | None = data[self.outputs.kept]
        if (number := scenes.read_past(data[self.outputs.wish])) is not None:
            yield from self._show_past(data, number)
            return
        try:
            wish = scenes.read_wish(data[self.outputs.wish])
        except InputError as error:
            yield {self.outputs.status: words.status(str(error))}
            return
        if case is None or wish is None or wish.token != case.token:
            return
        asked: dict[str, Any] = {"by": case.by, "chosen": case.chosen, "window": wish.window}
        if wish.unit is not None:
            if 0 <= wish.unit < len(case.found):
                yield from self._answer(
                    request, data, case.paths, **asked | {"chosen": wish.unit, "window": case.window}
                )
        elif wish.window != case.window:
            at = case.at(min(max(wish.index, 0), len(case.series) - 1), case.view)
            yield from self._answer(request, {**data, self.outputs.kept: at}, case.paths, **asked)
        elif wish.index != case.index and 0 <= wish.index < len(case.series):
            yield from self._show_slice(request, data, case, wish.index)

    def _show_past(self, data: Data, number: int) -> Iterator[Shown]:
        """A case of this session again, as it was answered."""
        past: tuple[Case, ...] = data[self.outputs.past] or ()
        if 0 <= number < len(past):
            yield {self.outputs.status: words.status("Ready."), **self._show_case(past[number], data, new=True)}

    def _show_slice(self, request: gr.Request, data: Data, case: Case, index: int) -> Iterator[Shown]:
        def work(job: Job) -> Case:
            job.title = f"Looking at slice {index + 1}"
            choice = self._choice(data, case)
            return self.study.move(case, index, choice, job.progress, job.cancelled)

        yield from self._follow(request, work, self._show_view)

    def pool_again(self, request: gr.Request, data: Data) -> Shown:
        """The series' answer by another aggregation; no slice is answered again."""
        case: Case | None = data[self.outputs.kept]
        if case is None or not case.is_series:
            return {self.outputs.curve: ""}
        case = self.study.pool(case, data[self.outputs.aggregation])
        return {**self._show_answers(case), self.outputs.kept: case}

    # Maps

    def explain(self, request: gr.Request, data: Data) -> Iterator[Shown]:
        """Another class, method or effort on the same slice."""
        show = self.outputs
        case: Case | None = data[show.kept]
        yield {show.method: gr.update(info=words.method_sentence(data[show.method]))}
        if case is None or case.view.prediction.refusal:
            return
        choice = self._choice(data, case)

        def work(job: Job) -> Case:
            job.title = METHODS[choice.method].title
            return self.study.remap(case, choice, job.progress, job.cancelled)

        yield from self._follow(request, work, self._show_view)

    def explain_all(self, request: gr.Request, data: Data) -> Iterator[Shown]:
        """The maps of every class, side by side."""
        case: Case | None = data[self.outputs.kept]
        if case is None or case.view.prediction.refusal:
            yield {self.outputs.status: words.status("There is no answer to map yet.")}
            return

        def work(job: Job) -> str:
            job.title = "Mapping every class"
            choice = self._choice(data, case)
            maps = self.study.all_maps(case.view, choice, job.progress, job.cancelled)
            told = case.view.prediction.probabilities
            drawn = [(one.attribution, image_uri(draw_overlay(one), SMALL_MAP)) for one in maps]
            return words.all_maps([(one, percent(told[one.label]).replace(" ", "\u00a0"), uri) for one, uri in drawn])

        yield from self._follow(request, work, lambda maps: {self.outputs.all_maps: maps})

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

    def _choice(self, data: Data, case: Case | None) -> MapChoice:
        """What map is asked for: the class chosen, else that of the series; of a new case its own answer."""
        show = self.outputs
        target = None
        if case is not None:
            target = data[show.target] or (case.together.label if case.together is not None else None)
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

    def _show_case(self, case: Case, data: Data, *, new: bool) -> Shown:
        """A case's answers, and its slice; a `new` one starts without what was chosen for the one before."""
        show = self.outputs
        others = [one for one in data[show.past] or () if one.token != case.token]
        past = (*others, case)[-MOST_PAST:]
        return {
            show.past: past,
            show.history: words.history([(one.name, one.in_short) for one in past]),
            **self._show_answers(case),
            **self._show_view(case),
            show.which: self._show_choice(case),
            show.make_files: gr.update(interactive=True),
            **({show.target: ""} if new else {}),
        }

    def _show_answers(self, case: Case) -> Shown:
        """The headline: the series' answer, a table of files, or the one slice's; and the curve."""
        show = self.outputs
        return {
            show.answer: self._headline(case),
            show.series: gr.update(visible=case.is_series),
            show.curve: draw_curve(case.answers, case.together, case.index) if case.is_series else "",
            show.pool: gr.update(visible=case.is_separate),
        }

    def _headline(self, case: Case) -> str:
        warning = case.window_warning
        example = "Example, drawn by a program: " if case.paths[0] in map(str, EXAMPLES) else ""
        listed = words.units(case.units, case.found, case.chosen) if len(case.found) > 1 else ""
        if case.is_separate:
            return listed + words.separate(case.answers, warning)
        if case.is_series:
            how = case.pooling_sentence(self.study.classifier.decisions.pooling)
            return listed + words.together(case.unit, case.series, how, example, warning)
        title = f"<h2>{example}{html.escape(case.view.prediction.source)}</h2>" if example else ""
        return words.answer(case.view.prediction, title, warning)

    def _show_view(self, case: Case) -> Shown:
        """The slice that is shown: its own answer, its map, and what was done to its file."""
        show, view, prediction = self.outputs, case.view, case.view.prediction
        explained, several = view.explained, len(case.series) > 1
        noun = "File" if case.is_separate else "Slice"
        title = words.slice_title(case.index + 1, len(case.series), prediction.source, noun)
        own = words.answer(prediction, title, case.window_warning) if several else ""
        others = case.series.notes if several else ()
        return {
            show.viewer: self._scene(case),
            show.detail: own + words.rules(prediction),
            show.legend: "" if prediction.refusal else words.legend(explained and explained.attribution),
            show.evidence: gr.update(visible=not prediction.refusal),
            show.map_words: words.map_words(view.record, view.sentences),
            show.all_maps: "",
            show.versus: versus(case, self.study.origin.name),
            show.measure: gr.update(interactive=explained is not None),
            show.every_map: gr.update(interactive=not prediction.refusal),
            show.notes: words.notes(prediction, others, has_ink=view.has_ink),
            show.kept: case,
            **self._no_files(),
        }

    def _scene(self, case: Case) -> str:
        """What the viewer is told, as JSON: the case, an answer for each slice, and the map of the one that is shown.

        `choice` is the same for maps that may stand beside one another; `unread` says why a slice has no picture.
        """
        view, window = case.view, case.window
        told = None if window is None else [window.centre, window.width]
        scene: dict[str, Any] = {
            "case": case.token,
            "count": len(case.series),
            "noun": "File" if case.is_separate else "Slice",
            "index": case.index,
            "window": told,
            "answers": [words.in_short(answer) for answer in case.answers] if len(case.series) > 1 else [""],
            "unread": {index: answer.error for index, answer in enumerate(case.answers) if answer.error},
            "choice": "",
            "map": None,
            "refused": bool(view.prediction.refusal),
        }
        if view.explained is not None:
            attribution, method = view.explained.attribution, METHODS[view.explained.attribution.method].title
            scene["choice"] = dump_json([attribution.label, method, attribution.budget, told])
            scene["map"] = {**scenes.pack_map(view.explained), "title": method}
        return dump_json(scene)

    def _show_choice(self, case: Case) -> Any:
        names = [(f"{by} ({len(found)})", by) for by, found in case.readings.items()]
        return gr.update(choices=names, value=case.by, visible=len(names) > 1)

    def _empty(self, message: str) -> Shown:
        show = self.outputs
        return {
            show.answer: message,
            show.status: words.status("Ready."),
            show.stop: gr.update(interactive=False),
            show.viewer: "",
            show.series: gr.update(visible=False),
            show.pool: gr.update(visible=False),
            show.detail: "",
            show.target: "",
            show.legend: "",
            show.evidence: gr.update(visible=False),
            show.map_words: words.map_words(None, ()),
            show.all_maps: "",
            show.versus: "",
            show.measure: gr.update(interactive=False),
            show.make_files: gr.update(interactive=False),
            show.notes: "",
            show.kept: None,
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
        findings, stem = self.study.findings(case), _stem(case)
        folder.mkdir(parents=True)
        written = []
        if case.view.explained is not None:
            self.study.figure(case.view, folder / f"{stem}.png")
            written.append(f"{stem}.png")
        for suffix, write in ((".json", as_json), (".csv", as_csv), (".html", as_report)):
            (folder / f"{stem}{suffix}").write_text(write(findings), encoding="utf-8")
            written.append(f"{stem}{suffix}")
        save_pdf(findings, folder / f"{stem}.pdf")
        return [str(folder / name) for name in (*written, f"{stem}.pdf")]

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


def _stem(case: Case) -> str:
    """What the downloads are called: the case's first file, how many more there are, and the slice that is shown."""
    first = re.sub(r"[^\w.-]+", "-", Path(case.paths[0]).stem, flags=re.ASCII).strip("-.")[:60] or "answer"
    more = f"-and-{len(case.paths) - 1}-more" if len(case.paths) > 1 else ""
    shown = f"-slice-{case.index + 1}" if len(case.series) > 1 else ""
    return f"{first}{more}{shown}-ct-xception"


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
