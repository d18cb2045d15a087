"""Answers that show themselves: one with its picture and its bars, many as a table or a data frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from ct_xception.errors import InputError, SliceError, printable
from ct_xception.html import image_uri, picture_html
from ct_xception.serving import classifier as serving
from ct_xception.serving.comparison import Comparison, compare
from ct_xception.serving.patients import UnitAnswer
from ct_xception.serving.text import describe_abstention, describe_decision, describe_gate
from ct_xception.text import RESEARCH_USE, did_you_mean, lacking, percent

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

THUMBNAIL, MOST_ROWS = 72, 50
BAR = '<div style="background:#1f5fbf;height:.6em;min-width:1px;width:{:.1f}px;display:inline-block"></div>'


_SCORE, _SCORES, _TABLE = "answer.probability", "answer.probabilities", "answers.to_frame()"
ANSWER_HINTS = {
    **dict.fromkeys(("score", "confidence", "prob", "proba"), _SCORE),
    **dict.fromkeys(("scores", "probs", "predict_proba", "items"), _SCORES),
    **dict.fromkeys(("prediction", "predicted", "class_name", "label_name", "predicted_class"), "answer.label"),
    **dict.fromkeys(("as_dict", "json", "to_json", "dict", "keys"), "answer.to_dict()"),
    **dict.fromkeys(("explain", "heat_map", "heatmap", "gradcam", "attribute"), "c.explain(answer)"),
    **dict.fromkeys(("pixels", "image", "array"), "answer.slice.pixels"),
    "logits": "answer.outputs.logits",
    "features": "answer.outputs.features",
    "embedding": "answer.outputs.features",
    "window": "answer.slice.window",
    "show": "answer.plot()",
    "show_results": "answer.plot()",
    "save": 'c.explain(answer).save("why.png")',
    "to_csv": "answer.to_frame().to_csv(path)",
}
ANSWERS_HINTS = {
    **dict.fromkeys(("df", "frame", "to_pandas", "probabilities", "scores", "to_dict", "to_json"), _TABLE),
    **dict.fromkeys(("label", "labels", "predictions"), "[one.label for one in answers.answered]"),
    **dict.fromkeys(("plot", "show"), "answers.show_results()"),
    **dict.fromkeys(("errors", "failed"), "answers.refused"),
    "explain": "[c.explain(one) for one in answers.answered]",
    "to_csv": "answers.to_frame().to_csv(path)",
    "save": "answers.to_frame().to_csv(path)",
}


class Prediction(serving.Prediction):
    """The answer to one slice, as `ct_xception.serving.classifier.Prediction`; it shows itself in a notebook.

    `answer["normal"]` is a class's probability, `answer.probability` that of the answer.
    """

    @property
    def probability(self) -> float:
        """Of the most probable class, in [0, 1]."""
        return self.probabilities[self.label]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(lacking("Prediction", name, ANSWER_HINTS, dir(type(self))))

    def __getitem__(self, name: str) -> float:
        if name in self.probabilities:
            return self.probabilities[name]
        guess = did_you_mean(str(name), self.probabilities)
        raise InputError(
            f"{printable(name)!r} is no class{guess or ' of this answer;'} its parts are answer.label, "
            "answer.probabilities and answer.to_dict()."
        )

    @property
    def headline(self) -> str:
        """The answer in a few words: a class with its probability, that there is none, or the refusal."""
        if self.refusal:
            return f"refused: {'; '.join(self.refusal)}"
        return describe_abstention(self) or f"{self.label} {percent(self.probability)}"

    def __repr__(self) -> str:
        return f"Prediction({self.source!r}: {self.headline})"

    def _repr_html_(self) -> str:
        """The slice, the answer, a bar for each class, and what the rules and the reader say; every text escaped."""
        said = [] if self.refusal else [*describe_decision(self.decision), *self.notes]
        lines = [self.headline, self.source, *describe_gate(self.gate), *said, RESEARCH_USE]
        return picture_html(self.slice.pixels, lines, first="" if self.refusal else self._bars())

    def _bars(self) -> str:
        rows = "".join(
            f'<tr><td style="text-align:left">{escape(name)}</td><td>{percent(value)}</td>'
            f'<td style="text-align:left">{BAR.format(200 * value)}</td></tr>'
            for name, value in self.probabilities.items()
        )
        return f"<table>{rows}</table>"

    def to_frame(self) -> pandas.DataFrame:
        """One row, as `Answers.to_frame` gives it."""
        return Answers([self]).to_frame()

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the slice under its answer; into `axes`, or a new figure."""
        from matplotlib import pyplot

        axes = axes or pyplot.subplots(figsize=(4, 4.4), layout="constrained")[1]
        axes.imshow(self.slice.pixels, cmap="gray", vmin=0, vmax=255)
        axes.set_title(self.headline, fontsize=9, parse_math=False, wrap=True)
        axes.set_axis_off()
        return axes


class Answers(list["Prediction | SliceError"]):
    """Answers in the order of what was asked; in the place of what could not be read stands its SliceError.

    `notes` say what was passed over.
    """

    def __init__(self, answers: Iterable[Prediction | SliceError] = (), notes: Sequence[str] = ()) -> None:
        super().__init__(answers)
        self.notes = tuple(notes)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(lacking("Answers", name, ANSWERS_HINTS, dir(type(self))))

    @overload
    def __getitem__(self, place: SupportsIndex, /) -> Prediction | SliceError: ...
    @overload
    def __getitem__(self, place: slice, /) -> Answers: ...
    def __getitem__(self, place: Any, /) -> Any:
        found = super().__getitem__(place)
        return Answers(found, self.notes) if isinstance(place, slice) else found

    @property
    def answered(self) -> list[Prediction]:
        """Those that have an answer: read, and not refused by the input gate."""
        return [one for one in self if isinstance(one, Prediction) and not one.refusal]

    @property
    def refused(self) -> dict[str, str]:
        """{source: why} of those without one."""
        read = {one.source: one.headline for one in self if isinstance(one, Prediction) and one.refusal}
        return read | {one.file: str(one) for one in self if isinstance(one, SliceError)}

    def __repr__(self) -> str:
        counts: dict[str, int] = {}
        for one in self.answered:
            label = "no answer" if one.abstained else one.label
            counts[label] = counts.get(label, 0) + 1
        if refused := len(self) - len(self.answered):
            counts["refused"] = refused
        said = ", ".join(f"{number} {label}" for label, number in counts.items())
        return f"Answers({len(self)}{': ' + said if said else ''})"

    def to_frame(self) -> pandas.DataFrame:
        """A row an answer: source, label, a column `p CLASS` for each class, what the rules and the gate say, refused.

        The columns are those of `ct-xception score`; label and figures are empty where `refused` says why.
        """
        import pandas

        names = list(dict.fromkeys(name for one in self.answered for name in sorted(one.probabilities)))
        return pandas.DataFrame([_row(one, names) for one in self], columns=_columns(names))

    def _repr_html_(self) -> str:
        """The first of them with thumbnails, every text escaped."""
        rows = "".join(map(_html_row, self[:MOST_ROWS]))
        more = f"<div>… and {len(self) - MOST_ROWS:,} more: .to_frame() has them all</div>" * (len(self) > MOST_ROWS)
        notes = "".join(f"<div>{escape(note)}</div>" for note in self.notes)
        head = f"<div><b>{escape(repr(self)[8:-1])}</b></div>"
        return f"{head}<table>{rows}</table>{more}{notes}<div>{RESEARCH_USE}</div>"

    def show_results(self, number: int = 9) -> None:
        """Draw the first of them, three a row."""
        from matplotlib import pyplot

        shown = self.answered[:number]
        if not shown:
            raise InputError("none of these was answered: .refused says why.")
        rows = -(-len(shown) // 3)
        _, axes = pyplot.subplots(rows, 3, figsize=(9, 3.3 * rows), layout="constrained", squeeze=False)
        for place in axes.flat:
            place.set_axis_off()
        for answer, place in zip(shown, axes.flat, strict=False):
            answer.plot(place)


class UnitAnswers(list[UnitAnswer]):
    """The answers of series or patients, by the first slice of each; `notes` say what was taken for one."""

    def __init__(self, answers: Iterable[UnitAnswer] = (), notes: Sequence[str] = ()) -> None:
        super().__init__(answers)
        self.notes = tuple(notes)

    def __repr__(self) -> str:
        counts: dict[str, int] = {}
        for one in self:
            label = "refused" if one.together is None else one.together.label
            counts[label] = counts.get(label, 0) + 1
        said = ", ".join(f"{number} {label}" for label, number in counts.items())
        return f"UnitAnswers({len(self)}{': ' + said if said else ''})"

    def to_frame(self) -> pandas.DataFrame:
        """A row each: name, source, label (none where refused), `p CLASS` for each, slices, answered, carried_by."""
        import pandas

        found = [
            ({}, None) if one.together is None else (one.together.probabilities, one.together.label) for one in self
        ]
        names = sorted({name for probabilities, _ in found for name in probabilities})
        return pandas.DataFrame(
            {
                "name": [one.name for one in self],
                "source": [one.place for one in self],
                "label": [label for _, label in found],
                **{f"p {name}": [probabilities.get(name) for probabilities, _ in found] for name in names},
                "slices": [len(one.slices) for one in self],
                "answered": [len(one.slices) - len(one.left_out) for one in self],
                "carried_by": ["; ".join(each["source"] for each in one.carried_by) for one in self],
            }
        )


_RULES = ("prediction_set", "abstained", "gate", "gate_reasons", "notes", "refused")


def _columns(names: Sequence[str]) -> list[str]:
    return ["source", "label", *(f"p {name}" for name in names), *_RULES]


def _row(one: Prediction | SliceError, names: Sequence[str]) -> Mapping[str, Any]:
    if isinstance(one, SliceError):
        return {"source": one.file, "refused": str(one)}
    gate = one.gate
    seen = {
        "source": one.source,
        "gate": None if gate is None else gate.verdict,
        "gate_reasons": None if gate is None else "; ".join(gate.reasons),
        "notes": "; ".join(one.notes),
    }
    if one.refusal:
        return seen | {"refused": one.headline}
    kept = None if one.prediction_set is None else "; ".join(one.prediction_set)
    values = {f"p {name}": one.probabilities[name] for name in names}
    return seen | values | {"label": one.label, "prediction_set": kept, "abstained": one.abstained}


def _html_row(one: Prediction | SliceError) -> str:
    if isinstance(one, SliceError):
        return f'<tr><td></td><td style="text-align:left">{escape(str(one))}</td></tr>'
    picture = f'<img alt="" src="{image_uri(one.slice.pixels, THUMBNAIL)}" style="max-width:{THUMBNAIL}px">'
    said = f"<b>{escape(one.headline)}</b><br>{escape(one.source)}"
    return f'<tr><td>{picture}</td><td style="text-align:left">{said}</td></tr>'


def shown(answers: Iterable[serving.Prediction | SliceError]) -> Iterator[Prediction | SliceError]:
    """The same answers, able to show themselves."""
    for one in answers:
        yield one if isinstance(one, SliceError) else Prediction(**vars(one))


class Comparisons(list[Comparison]):
    """Two checkpoints' answers to the same slices; what one of them cannot read is held as not answered.

    `sources` are the slices' names; `disagreements` those that both answer, and differently.
    """

    def __init__(self, first: Answers, second: Answers, names: tuple[str, str]) -> None:
        read = [[one if isinstance(one, Prediction) else None for one in answers] for answers in (first, second)]
        super().__init__(compare(mine, theirs, names) for mine, theirs in zip(*read, strict=True))
        self.sources = [one.source if isinstance(one, Prediction) else one.file for one in first]

    @property
    def disagreements(self) -> dict[str, str]:
        """{source: sentence} where they disagree."""
        return {name: one.sentence for name, one in zip(self.sources, self, strict=True) if one.agree is False}

    def to_frame(self) -> pandas.DataFrame:
        """A row a slice: its source, both labels and their probabilities, whether they agree, and the sentence."""
        import pandas

        rows = []
        for source, found in zip(self.sources, self, strict=True):
            row: dict[str, Any] = {"source": source}
            for name, answer in zip(("first", "second"), (found.first, found.second), strict=True):
                row[name] = None if answer is None else answer.label
                row[f"{name} probability"] = None if answer is None else answer.probabilities[answer.label]
            rows.append(row | {"agree": found.agree, "sentence": found.sentence})
        return pandas.DataFrame(rows)

    def _repr_html_(self) -> str:
        """The sentences, a line each."""
        lines = (
            f"<li>{escape(source)}: {escape(one.sentence)}</li>" for source, one in zip(self.sources, self, strict=True)
        )
        return f"<ul>{''.join(lines)}</ul><p>{RESEARCH_USE}</p>"
