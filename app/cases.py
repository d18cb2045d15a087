"""One visitor's case: what was given, what each series or patient of it was answered, and the slice shown with its map.

Nothing here knows the page; a case is what the page keeps between two clicks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ct_xception_app.downloads import Findings, Origin, operating_sentence
from ct_xception_app.scenes import SliceStore
from ct_xception_app.uploads import read_owners
from PIL import Image

from ct_xception.errors import InputError, printable
from ct_xception.explain.budget import DEFAULT_BUDGET, DEFAULT_METHOD, Cancelled
from ct_xception.explain.explain import Explanation, explain
from ct_xception.explain.faithfulness import evidence
from ct_xception.explain.location import find_ink
from ct_xception.explain.methods import methods_for
from ct_xception.explain.overlay import draw_figure, draw_overlay
from ct_xception.explain.summary import explanation_record, explanation_sentences
from ct_xception.imaging.body.crop import body_of
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window
from ct_xception.serving.classifier import Classifier, Prediction
from ct_xception.serving.comparison import Comparison, compare
from ct_xception.serving.decisions import Pooling
from ct_xception.serving.patients import UnitAnswer
from ct_xception.serving.pooling import SeriesAnswer, SliceAnswer, Stopped, answer_series, answer_together
from ct_xception.serving.series import PATIENT, SERIES, Series, gather_readings
from ct_xception.serving.text import describe_abstention
from ct_xception.serving.unit_text import describe_pooling
from ct_xception.text import RESEARCH_USE

TABLES = {".csv", ".tsv"}  # of path and patient, among the files given
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
class Second:
    """What the second model, of this `name`, answers to a case: each series or patient, and the slice that is shown."""

    name: str
    units: tuple[UnitAnswer | None, ...]
    view: View


@dataclass(frozen=True, eq=False)
class Case:
    """What was given, read `by` series or patients, the one `chosen` of them, and the view of its slice `index`.

    `readings` are the series, and the patients where that is another reading; `units` the answer of each by this one,
    None of what was not reached. `window` is the one that the network was asked to look through instead of its own,
    None where it was not. `token` is what the viewer asks for the slices with. `second` is what a second model says of
    the same, where there is one. `row` is what was said beside the images, None where nothing was.
    """

    paths: tuple[str, ...]
    readings: Mapping[str, tuple[Series, ...]]
    by: str
    units: tuple[UnitAnswer | None, ...]
    chosen: int
    window: Window | None
    index: int
    view: View
    token: str = ""
    second: Second | None = None
    row: Mapping[str, Any] | None = None

    @property
    def found(self) -> tuple[Series, ...]:
        """The series or patients in what was given."""
        return self.readings[self.by]

    @property
    def unit(self) -> UnitAnswer:
        """The answer of the one that is chosen."""
        unit = self.units[self.chosen]
        assert unit is not None
        return unit

    @property
    def answers(self) -> tuple[SliceAnswer, ...]:
        """Those of its slices."""
        return self.unit.slices

    @property
    def together(self) -> SeriesAnswer | None:
        """Its answer as a whole; None of a single slice, of separate files, or where no slice has an answer."""
        return self.unit.together

    @property
    def series(self) -> Series:
        """The series that is answered, of one slice or more."""
        return self.found[self.chosen]

    @property
    def is_series(self) -> bool:
        """Whether its slices, or the one that a patient has, may have one answer together."""
        return self.series.related and len(self.series) + len(self.found) > 2

    @property
    def is_separate(self) -> bool:
        """Whether there are several files that nothing ties together: each has its own answer."""
        return len(self.series) > 1 and not self.series.related

    def at(self, index: int, view: View) -> Case:
        """The same case with another slice, or another map of it, shown."""
        return replace(self, index=index, view=view)

    def pooled(self, together: SeriesAnswer | None) -> Case:
        """The same case with another answer of what is chosen."""
        units = list(self.units)
        units[self.chosen] = replace(self.unit, together=together)
        return replace(self, units=tuple(units))

    @property
    def name(self) -> str:
        """What the visitor gave: the first file, and how many more."""
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return f"{printable(Path(self.paths[0]).name)}{more}"

    @property
    def in_short(self) -> str:
        """The answer in a word or two; of separate files how many there are."""
        if len(self.found) > 1:
            known = all(series.related for series in self.found)  # else separate files are one of them
            return f"{len(self.found)} {('patients' if self.by == PATIENT else 'series') if known else 'answers'}"
        if self.is_separate:
            return f"{len(self.series)} separate files"
        prediction = self.view.prediction
        if self.together is not None:
            return describe_abstention(self.together) or self.together.label
        return "not answered" if prediction.refusal else describe_abstention(prediction) or prediction.label

    def pooling_sentence(self, pooling: Pooling) -> str:
        """How its slices became one answer, and on what that was calibrated; empty where there is none."""
        return "" if self.together is None else describe_pooling(self.together, pooling)

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


def compare_case(case: Case, name: str) -> Comparison | None:
    """Both models' answers to what is chosen, or of separate files to the one shown; None where there is one model.

    `name` is the first model's.
    """
    if case.second is None:
        return None
    theirs = case.second.units[case.chosen]
    names = (name, case.second.name)
    if case.is_series:
        return compare(case.together, None if theirs is None else theirs.together, names)
    return compare(case.view.prediction, case.second.view.prediction, names)


class Study:
    """Makes cases, views and maps with one classifier. Of a visitor it holds where the slices lie, in `store`."""

    def __init__(self, classifier: Classifier, second: Study | None = None) -> None:
        self.classifier = classifier
        self.second = second
        self.origin = Origin.of(classifier)
        self.store = SliceStore(classifier)
        self._examples: dict[Path, Case] = {}
        self._answering = threading.Lock()

    def example(self, path: Path) -> Case:
        """An example of the page's own, answered once for all visitors. Raises InputError."""
        with self._answering:
            if path not in self._examples:
                case = self.open_case([str(path)], window=None, choice=MapChoice())
                self._examples[path] = replace(case, token=self.store.put(case.series, for_ever=True))
            return self._examples[path]

    def open_case(
        self,
        paths: Sequence[str],
        *,
        window: Window | None,
        choice: MapChoice,
        by: str | None = None,
        chosen: int = 0,
        before: Case | None = None,
        related: bool = False,
        row: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        cancelled: Asked | None = None,
    ) -> Case:
        """Read what was given and answer each series or patient of it; `chosen`, by itself the largest, is looked at.

        `by` is one of the readings, the checkpoint's own unit where it is None. `before` is the case before: of the
        same files nothing is read or answered twice. `related` says that files which nothing ties together are slices
        of one series all the same. The slice shown is the one in which the class is most probable, or the one shown
        before. Raises InputError where nothing can be read, Stopped and Cancelled.
        """
        same_given = before is not None and (before.paths, before.row) == (tuple(paths), row) and not related
        before = before if same_given else None
        readings = _with_row(_readings(paths, related), row) if before is None else before.readings
        by = by if by is not None and by in readings else self._usual(readings)
        series = readings[by][chosen]
        same = before is not None and (before.by, before.chosen) == (by, chosen)
        token = before.token if before is not None and same else self.store.put(series)
        case = partial(Case, tuple(paths), readings, by, chosen=chosen, window=window, token=token, row=row)
        beside = partial(self._beside, before=before, choice=choice, progress=progress, cancelled=cancelled)
        if len(series) == len(readings[by]) == 1:
            view = self.look(series, 0, window, choice, progress, cancelled)
            return beside(case((_alone(series, view),), index=0, view=view))
        known = before.units if before is not None and (before.by, before.window) == (by, window) else ()
        units = self._answer_all(readings[by], known, chosen, window, progress, cancelled)
        unit = units[chosen]
        assert unit is not None
        index = before.index if before is not None and same else _first_shown(unit)
        if unit.slices[index].record is None:
            index = _first_shown(unit)
        if unit.together is not None and choice.target is None:
            choice = replace(choice, target=unit.together.label)
        return beside(case(units, index=index, view=self.look(series, index, window, choice, progress, cancelled)))

    def move(
        self,
        case: Case,
        index: int,
        choice: MapChoice,
        progress: Progress | None = None,
        cancelled: Asked | None = None,
    ) -> Case:
        """The same case with another of its slices shown. Raises SliceError."""
        at = case.at(index, self.look(case.series, index, case.window, choice, progress, cancelled))
        return self._beside(at, before=case, choice=choice, progress=progress, cancelled=cancelled)

    def remap(
        self, case: Case, choice: MapChoice, progress: Progress | None = None, cancelled: Asked | None = None
    ) -> Case:
        """The same case with another map. Raises InputError for an unknown choice, and Cancelled."""
        at = case.at(case.index, self.map(case.view, choice, progress, cancelled))
        return self._beside(at, before=case, choice=choice, progress=progress, cancelled=cancelled)

    def _own(self, choice: MapChoice) -> MapChoice:
        """A choice that another model was asked for, as far as this one knows its class and method."""
        checkpoint, known = self.classifier.checkpoint, choice.target in self.classifier.label_names
        methods = methods_for(checkpoint.config if checkpoint else {})
        method = choice.method if choice.method in methods else DEFAULT_METHOD
        return replace(choice, target=choice.target if known else None, method=method)

    def _beside(
        self,
        case: Case,
        *,
        before: Case | None,
        choice: MapChoice,
        progress: Progress | None,
        cancelled: Asked | None,
    ) -> Case:
        """The same case with the second model's answers, where there is one; what is known is not asked again."""
        if self.second is None:
            return case
        own = self.second._own(choice)
        view = self.second.look(case.series, case.index, case.window, own, progress, cancelled)
        if len(case.series) == len(case.found) == 1:
            return replace(case, second=Second(self.second.origin.name, (_alone(case.series, view),), view))
        same = before is not None and (before.by, before.window, before.paths) == (case.by, case.window, case.paths)
        known = before.second.units if same and before is not None and before.second is not None else ()
        units = self.second._answer_all(case.found, known, case.chosen, case.window, progress, cancelled)
        return replace(case, second=Second(self.second.origin.name, units, view))

    def _usual(self, readings: Mapping[str, tuple[Series, ...]]) -> str:
        """The reading by the unit that the checkpoint's pooling was fitted on; by series where nothing was fitted."""
        unit = self.classifier.decisions.pooling.unit or SERIES
        return unit if unit in readings else next(iter(readings))

    def _answer_all(
        self,
        found: Sequence[Series],
        known: Sequence[UnitAnswer | None],
        chosen: int,
        window: Window | None,
        progress: Progress | None,
        cancelled: Asked | None,
    ) -> tuple[UnitAnswer | None, ...]:
        """The answer of each, `chosen` first; None of those that were stopped before, once there is that one."""
        units = dict(enumerate(known)) or dict[int, UnitAnswer | None]()
        order = sorted(range(len(found)), key=lambda number: number != chosen)
        left = [number for number in order if units.get(number) is None]
        total, done = sum(len(found[number]) for number in left), 0
        for number in left:
            told = None if progress is None else partial(_tell_share, progress, done, len(found[number]), total)
            try:
                units[number] = self._answer_unit(found[number], window, told, cancelled)
            except Stopped:
                if units.get(chosen) is None:
                    raise
                break
            done += len(found[number])
        return tuple(units.get(number) for number in range(len(found)))

    def _answer_unit(
        self, series: Series, window: Window | None, progress: Progress | None, cancelled: Asked | None
    ) -> UnitAnswer:
        answers = answer_series(self.classifier, series, window=window, progress=progress, cancelled=cancelled)
        together = answer_together(answers, pooling=self.classifier.decisions.pooling) if series.related else None
        return UnitAnswer(series.name, series.facts, together, tuple(answers))

    def pool(self, case: Case, aggregation: str) -> Case:
        """The same case, what is chosen pooled by another aggregation; no slice is answered again."""
        return case.pooled(answer_together(case.answers, aggregation, self.classifier.decisions.pooling))

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
            pooled=case.pooling_sentence(self.classifier.decisions.pooling),
            units=case.units if len(case.units) > 1 else (),
            comparison=compare_case(case, self.origin.name),
            warning=case.window_warning,
        )

    def figure(self, view: View, path: Path) -> None:
        """Write slice and map as PNG, above the model and the research-use line; a tag holds the thresholds."""
        assert view.explained is not None
        prediction, attribution = view.prediction, view.explained.attribution
        probability = prediction.probabilities[attribution.label]
        figure = draw_figure(prediction.slice, attribution, probability=probability)
        lines = [RESEARCH_USE, f"{self.origin.model}  revision {self.origin.revision or 'none (a local folder)'}"]
        if self.origin.weights_sha256:
            lines.append(f"weights SHA-256 {self.origin.weights_sha256}")
        points = operating_sentence(prediction.to_dict())
        figure.supxlabel("\n".join(lines), fontsize=7, color="0.25", parse_math=False)
        figure.savefig(path, dpi=150, facecolor="white", metadata={"Description": " ".join(lines), "Comment": points})


def _readings(paths: Sequence[str], related: bool) -> dict[str, tuple[Series, ...]]:
    """The series and patients in what was given; whose the slices are, by the one table among the files if there is."""
    tables = [path for path in map(Path, paths) if path.suffix.lower() in TABLES]
    files = [Path(path) for path in paths if Path(path) not in tables]
    if len(tables) > 1:
        raise InputError(f"{len(tables)} tables of patients; give one, of path and patient.")
    if not tables or not files:
        return gather_readings([Path(path) for path in paths], related=related)
    return gather_readings(files, related=related, owners=read_owners(tables[0]))


def _with_row(readings: dict[str, tuple[Series, ...]], row: Mapping[str, Any] | None) -> dict[str, tuple[Series, ...]]:
    """The readings with what is said beside every slice of them."""
    if row is None:
        return readings
    return {
        by: tuple(replace(one, members=tuple(replace(member, tabular=row) for member in one.members)) for one in found)
        for by, found in readings.items()
    }


def _alone(series: Series, view: View) -> UnitAnswer:
    """The answer of a single slice, which is that of its view."""
    answer = SliceAnswer(series.members[0].name, view.prediction.to_dict())
    return UnitAnswer(series.name, series.facts, None, (answer,))


def _tell_share(progress: Progress, done: int, own: int, total: int, share: float) -> None:
    progress((done + own * share) / total)


def _first_shown(unit: UnitAnswer) -> int:
    """The slice that speaks most for its class; else the first that could be read. Raises InputError."""
    if unit.together is not None:
        return unit.together.strongest
    for index, answer in enumerate(unit.slices):
        if answer.record is not None:
            return index
    raise InputError(f"none of the {len(unit.slices)} slices could be read. {unit.slices[0].error}")


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
