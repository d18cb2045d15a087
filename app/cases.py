"""One visitor's case: what was given, what each slice was answered, and the one slice that is shown with its map.

Nothing here knows the page; a case is what the page keeps between two clicks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from ct_xception_app.downloads import Findings, Origin, operating_sentence
from ct_xception_app.scenes import SliceStore
from PIL import Image

from ct_xception.errors import InputError, printable
from ct_xception.explain.budget import DEFAULT_BUDGET, DEFAULT_METHOD, Cancelled
from ct_xception.explain.explain import Explanation, explain
from ct_xception.explain.faithfulness import evidence
from ct_xception.explain.location import find_ink
from ct_xception.explain.overlay import draw_figure, draw_overlay
from ct_xception.explain.summary import explanation_record, explanation_sentences
from ct_xception.imaging.body.crop import body_of
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window
from ct_xception.serving.classifier import Classifier, Prediction
from ct_xception.serving.pooling import SeriesAnswer, SliceAnswer, answer_series, answer_together
from ct_xception.serving.series import Series, gather
from ct_xception.serving.text import describe_abstention
from ct_xception.text import RESEARCH_USE

FOOT_LETTERS = 150  # in a line under the figure
MIN_MARKS = 3  # bright marks beside the body from which the page warns of letters

Progress = Callable[[float], None]
Asked = Callable[[], bool]


@dataclass(frozen=True)
class MapChoice:
    """Whose evidence to map, how, and with how much work; `target` None means the answer's own class."""

    target: str | None = None
    method: str = DEFAULT_METHOD
    budget: str = DEFAULT_BUDGET


@dataclass(frozen=True, eq=False)
class View:
    """The slice that is shown: its answer, and its map with what is known of it.

    `explained` is None where the gate refused the slice, or where the map was stopped. `found` is the measured
    evidence, None until it is asked for.
    """

    prediction: Prediction
    has_ink: bool
    explained: Explanation | None = None
    record: Mapping[str, Any] | None = None
    sentences: tuple[str, ...] = ()
    found: Mapping[str, Any] | None = None

    def with_map(self, explained: Explanation, found: Mapping[str, Any] | None = None) -> View:
        """The same slice with a map, and its evidence where it was measured."""
        record, sentences = explanation_record(explained, found), tuple(explanation_sentences(explained, found))
        return replace(self, explained=explained, record=record, sentences=sentences, found=found)

    def picture(self, opacity: float) -> Image.Image:
        """The slice under its map; the slice alone where there is none."""
        return self.prediction.slice.to_pil() if self.explained is None else draw_overlay(self.explained, opacity)


@dataclass(frozen=True, eq=False)
class Case:
    """The series in what was given, the one chosen answered through one window, and the view of its slice `index`.

    `window` is the one that the network was asked to look through instead of its own, None where it was not. `token` is
    what the viewer asks for the slices with.
    """

    paths: tuple[str, ...]
    found: tuple[Series, ...]
    chosen: int
    answers: tuple[SliceAnswer, ...]
    together: SeriesAnswer | None
    window: Window | None
    index: int
    view: View
    token: str = ""

    @property
    def series(self) -> Series:
        """The series that is answered, of one slice or more."""
        return self.found[self.chosen]

    @property
    def is_series(self) -> bool:
        """Whether there is more than one slice, and they may have one answer."""
        return len(self.series) > 1 and self.series.related

    @property
    def is_separate(self) -> bool:
        """Whether there are several files that nothing ties together: each has its own answer."""
        return len(self.series) > 1 and not self.series.related

    def at(self, index: int, view: View) -> Case:
        """The same case with another slice, or another map of it, shown."""
        return replace(self, index=index, view=view)

    def pooled(self, together: SeriesAnswer | None) -> Case:
        """The same case with another series answer."""
        return replace(self, together=together)

    @property
    def name(self) -> str:
        """What the visitor gave: the first file, and how many more."""
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return f"{printable(Path(self.paths[0]).name)}{more}"

    @property
    def in_short(self) -> str:
        """The answer in a word or two; of separate files how many there are."""
        if self.is_separate:
            return f"{len(self.series)} separate files"
        prediction = self.view.prediction
        if self.together is not None:
            return self.together.label
        return "not answered" if prediction.refusal else describe_abstention(prediction) or prediction.label

    @property
    def unanswered(self) -> list[str]:
        """A sentence for each slice without a vote."""
        refused = "{name}: refused by the input gate."
        return [
            answer.error or refused.format(name=answer.name) for answer in self.answers if answer.probabilities is None
        ]

    @property
    def window_warning(self) -> str:
        """What to know of an answer through another window than the network's own; empty where there is none."""
        if self.window is None or self.view.prediction.slice.window is None:
            return ""
        return (
            f"The network looked through the window {self.window}, as you asked, and not through its own: what it was "
            "trained and measured on says nothing of this answer."
        )


class Study:
    """Makes cases, views and maps with one classifier. Of a visitor it holds where the slices lie, in `store`."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.origin = Origin.of(classifier)
        self.store = SliceStore(classifier)
        self._examples: dict[str, Case] = {}
        self._answering = threading.Lock()

    def example(self, path: Path, aggregation: str) -> Case:
        """An example of the page's own, answered once for all visitors. Raises InputError."""
        with self._answering:
            key = f"{path} {aggregation}"
            if key not in self._examples:
                case = self.open_case([str(path)], window=None, choice=MapChoice(), aggregation=aggregation)
                self._examples[key] = replace(case, token=self.store.put(case.series, for_ever=True))
            return self._examples[key]

    def open_case(
        self,
        paths: Sequence[str],
        *,
        window: Window | None,
        choice: MapChoice,
        aggregation: str,
        chosen: int = 0,
        before: Case | None = None,
        related: bool = False,
        progress: Progress | None = None,
        cancelled: Asked | None = None,
    ) -> Case:
        """Read what was given and answer one series of it, by `chosen` the largest; `before` is the case before.

        `related` says that files which nothing ties together are slices of one series all the same. The slice shown is
        the one in which the series' class is most probable, or the one shown before. Raises
        InputError where nothing can be read, Stopped and Cancelled.
        """
        before = before if before is not None and before.paths == tuple(paths) and not related else None
        found = before.found if before is not None else gather([Path(path) for path in paths], related=related)
        series = found[chosen]
        same = before is not None and before.chosen == chosen
        token = before.token if before is not None and same else self.store.put(series)
        if len(series) == 1:
            view = self.look(series, 0, window, choice, progress, cancelled)
            alone = (SliceAnswer(series.members[0].name, view.prediction.to_dict()),)
            return Case(tuple(paths), found, chosen, alone, None, window, 0, view, token)
        answers = answer_series(self.classifier, series, window=window, progress=progress, cancelled=cancelled)
        together = answer_together(answers, aggregation) if series.related else None
        index = before.index if before is not None and same else _first_shown(answers, together)
        if answers[index].record is None:
            index = _first_shown(answers, together)
        view = self.look(series, index, window, choice, progress, cancelled)
        return Case(tuple(paths), found, chosen, tuple(answers), together, window, index, view, token)

    def look(
        self,
        series: Series,
        index: int,
        window: Window | None,
        choice: MapChoice,
        progress: Progress | None = None,
        cancelled: Asked | None = None,
    ) -> View:
        """One slice with its answer and its map; without the map where that is stopped. Raises SliceError."""
        slice_ = series.members[index].read(self.classifier, window)
        prediction = self.classifier(slice_)
        view = View(prediction, _has_ink(slice_))
        if prediction.refusal:
            return view
        try:
            return self.map(view, choice, progress, cancelled)
        except Cancelled:
            return view

    def map(
        self, view: View, choice: MapChoice, progress: Progress | None = None, cancelled: Asked | None = None
    ) -> View:
        """The same slice with another map. Raises InputError for an unknown choice, and Cancelled."""
        explanation = explain(
            self.classifier,
            view.prediction.slice,
            choice.target or view.prediction.label,
            choice.method,
            budget=choice.budget,
            progress=progress,
            cancelled=cancelled,
        )
        return view.with_map(explanation)

    def all_maps(
        self, view: View, choice: MapChoice, progress: Progress | None = None, cancelled: Asked | None = None
    ) -> list[Explanation]:
        """The same slice's map for each class, the most probable first. Raises InputError and Cancelled."""
        names, maps = list(view.prediction.probabilities), list[Explanation]()
        for number, name in enumerate(names):
            if progress is not None:
                progress(number / len(names))
            one = replace(choice, target=name)
            found = self.map(view, one, cancelled=cancelled).explained
            assert found is not None
            maps.append(found)
        return maps

    def measure(
        self, view: View, budget: str, progress: Progress | None = None, cancelled: Asked | None = None
    ) -> View:
        """The same map with the evidence for and against it. Raises InputError without a map, and Cancelled."""
        if view.explained is None:
            raise InputError("there is no map to measure; draw one first.")
        found = evidence(view.explained, budget=budget, progress=progress, cancelled=cancelled)
        return view.with_map(view.explained, found)

    def findings(self, case: Case) -> Findings:
        """What the downloads tell of a case."""
        view = case.view
        return Findings(
            origin=self.origin,
            prediction=view.prediction,
            sentences=view.sentences,
            explanation=view.record,
            picture=_side_by_side(view),
            answers=case.answers if len(case.answers) > 1 else (),
            together=case.together,
            order=case.series.order,
            series=case.series.name,
            warning=case.window_warning,
        )

    def figure(self, view: View, path: Path) -> None:
        """Write the figure of slice and map as PNG, with the model, the thresholds and the research-use line."""
        assert view.explained is not None
        prediction, attribution = view.prediction, view.explained.attribution
        probability = prediction.probabilities[attribution.label]
        figure = draw_figure(prediction.slice, attribution, probability=probability)
        lines = [RESEARCH_USE, f"{self.origin.model}  revision {self.origin.revision or 'none (a local folder)'}"]
        if self.origin.weights_sha256:
            lines.append(f"weights SHA-256 {self.origin.weights_sha256}")
        points = operating_sentence(prediction.to_dict())
        foot = "\n".join([*lines, *wrap(points, FOOT_LETTERS)])
        figure.supxlabel(foot, fontsize=7, color="0.25", parse_math=False)
        figure.savefig(path, dpi=150, facecolor="white", metadata={"Description": " ".join(lines), "Comment": points})


def _first_shown(answers: Sequence[SliceAnswer], together: SeriesAnswer | None) -> int:
    """The slice that speaks most for the series' class; else the first that could be read. Raises InputError."""
    if together is not None:
        return together.strongest
    for index, answer in enumerate(answers):
        if answer.record is not None:
            return index
    raise InputError(f"none of the {len(answers)} slices could be read. {answers[0].error}")


def _has_ink(slice_: Slice) -> bool:
    """Whether letters seem to stand beside the body: several bright marks there, above its lower third (the table)."""
    from scipy import ndimage

    body = body_of(slice_)
    rows = np.flatnonzero(body.any(axis=1))
    if body.all() or not rows.size:
        return False
    beside = find_ink(slice_.pixels, body) & ~body
    beside[rows[0] + 2 * len(rows) // 3 :] = False
    return int(ndimage.label(beside, np.ones((3, 3)))[1]) >= MIN_MARKS


def _side_by_side(view: View) -> Image.Image:
    """Slice and map in one picture, or the slice alone."""
    first = view.prediction.slice.to_pil()
    if view.explained is None:
        return first
    both = Image.new("RGB", (2 * first.width + 8, first.height), "white")
    both.paste(first, (0, 0))
    both.paste(view.picture(0.6), (first.width + 8, 0))
    return both
