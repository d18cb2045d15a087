"""An answer as one printed page: A4 as PDF, with the pictures, the bars, the rules and which weights answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from ct_xception_app.downloads import Findings, operating_sentence, unanswered
from ct_xception_app.words import in_short

from ct_xception.serving.text import describe_abstention, describe_decision
from ct_xception.text import RESEARCH_USE, percent, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ct_xception.serving.patients import UnitAnswer

A4 = (8.27, 11.69)  # inches
LEFT, WIDTH = 0.09, 0.82  # of the page
LETTERS, SMALL_LETTERS = 108, 132  # a line, and one of small print
MOST_BARS, MOST_FILES = 8, 12
LINE, SMALL_LINE = 0.0155, 0.0122  # of the page's height
FOOT = 0.062  # where the small print ends


def save_pdf(findings: Findings, path: Path) -> None:
    """Write one page; what does not fit on it is counted, and stands in the other files."""
    figure = draw_page(findings)
    told = {"Title": findings.prediction.source, "Subject": RESEARCH_USE, "CreationDate": findings.created}
    figure.savefig(path, format="pdf", metadata=told)


def draw_page(findings: Findings) -> Figure:
    """The page, not yet saved; drawn without pyplot, so that no global state changes."""
    from matplotlib.figure import Figure

    figure, prediction = Figure(figsize=A4), findings.prediction
    top = _write(figure, 0.955, [shorten(prediction.source, 70)], size=14, weight="bold")
    created = findings.created.strftime("%Y-%m-%d %H:%M UTC")
    top = _write(figure, top, [f"{created}   {findings.window}"], colour="0.35")
    top = _write(figure, top, [RESEARCH_USE], weight="bold")
    top = _write(figure, top, _lines([findings.warning] if findings.warning else []), weight="bold")
    top = _headline(figure, top - LINE, findings)
    top = _picture(figure, top - LINE / 2, findings)
    said, room = _said(findings), int((top - LINE / 2 - FOOT) / SMALL_LINE)
    if len(said) > room:
        said = [*said[: room - 1], f"and {len(said) - room + 1} lines more in the other files"]
    _write(figure, top - LINE / 2, said, size=7, line=SMALL_LINE)
    origin = findings.origin
    foot = [f"{origin.model}   revision {origin.revision or 'none (a local folder)'}"]
    foot += [f"weights SHA-256 {origin.weights_sha256}"] if origin.weights_sha256 else []
    _write(figure, 0.05, [*foot, RESEARCH_USE], size=7, colour="0.35")
    return figure


def _write(
    figure: Figure,
    top: float,
    lines: Sequence[str],
    *,
    size: float = 8.5,
    weight: str = "normal",
    colour: str = "black",
    line: float | None = None,
) -> float:
    """Lines from `top` downwards; gives where the next may begin."""
    for text in lines:
        figure.text(LEFT, top, text, size=size, weight=weight, color=colour, va="top", parse_math=False)
        top -= LINE * max(1.0, size / 9) if line is None else line
    return top


def _headline(figure: Figure, top: float, findings: Findings) -> float:
    """The answer and its bars: the series' where there is one, else the slice's; of what was refused, why."""
    prediction, together = findings.prediction, findings.together
    if together is not None:
        said = describe_abstention(together) or together.label
        title = f"{findings.series.capitalize()}: {said} ({together.answered} of {together.slices} slices)"
        return _bars(figure, _write(figure, top, wrap(title, 60), size=13, weight="bold"), together.probabilities)
    if prediction.refusal:
        top = _write(figure, top, ["Not answered: this is no slice for this model."], size=13, weight="bold")
        return _write(figure, top, _lines(prediction.refusal))
    title = describe_abstention(prediction) or prediction.label
    return _bars(figure, _write(figure, top, wrap(title, 60), size=13, weight="bold"), prediction.probabilities)


def _bars(figure: Figure, top: float, probabilities: Mapping[str, float]) -> float:
    shown = list(probabilities.items())[:MOST_BARS]
    height = LINE * 1.15 * len(shown)
    axes = figure.add_axes((LEFT + 0.27, top - height, WIDTH - 0.35, height))
    places = range(len(shown))
    axes.barh(places, [1.0] * len(shown), color="0.92", height=0.6)
    axes.barh(places, [value for _, value in shown], color="#0f766e", height=0.6)
    for place, (name, value) in zip(places, shown, strict=True):
        axes.text(-0.02, place, shorten(name, 34), ha="right", va="center", size=8.5, parse_math=False)
        axes.text(1.02, place, percent(value), ha="left", va="center", size=8.5, parse_math=False)
    axes.set(xlim=(0, 1), ylim=(len(shown) - 0.5, -0.5))
    axes.set_axis_off()
    return top - height - LINE / 2


def _picture(figure: Figure, top: float, findings: Findings) -> float:
    if findings.picture is None:
        return top
    width, height = findings.picture.size
    share = min(WIDTH * A4[0] / A4[1] * height / width, 0.34)
    axes = figure.add_axes((LEFT, top - share, WIDTH, share))
    axes.imshow(findings.picture, interpolation="nearest")
    axes.set_anchor("NW")
    axes.set_axis_off()
    return top - share


def _said(findings: Findings) -> list[str]:
    """The small print, what matters most first: rules, other models and patients, the map, thresholds, file, slices."""
    prediction, together = findings.prediction, findings.together
    rules = [] if prediction.refusal else describe_decision(prediction.decision)
    whole = []
    if together is not None:
        whole = [f"{findings.series}: {findings.pooled}, {findings.order}", *describe_decision(together.decision)]
        rules = [f"of the slice shown: {'; '.join(rules)}"] if rules else []
    compared = [] if findings.comparison is None else [f"two models: {findings.comparison.sentence}"]
    units = [_unit_line(unit) for unit in findings.units if unit is not None]
    points = "" if prediction.refusal else operating_sentence(prediction.to_dict())
    sentences = [*whole, *compared, *units, *rules, *_of_the_map(findings)]
    sentences += [f"operating points: {points}"] if points else []
    return _lines([*sentences, *prediction.notes, *_of_the_slices(findings)], SMALL_LETTERS)


def _of_the_map(findings: Findings) -> list[str]:
    sentences = [] if findings.prediction.refusal else list(findings.sentences)
    if findings.explanation is not None:
        sentences.append(f"map: evidence for {findings.explanation['target']}, {findings.explanation['method']}")
    return sentences


def _of_the_slices(findings: Findings) -> list[str]:
    """The first of several slices or files."""
    answers = findings.answers if len(findings.answers) > 1 else ()
    more = [f"and {len(answers) - MOST_FILES} more: see the CSV"] if len(answers) > MOST_FILES else []
    first = enumerate(answers[:MOST_FILES], 1)
    return [*(f"{number}. {one.name}: {one.error or in_short(one)}" for number, one in first), *more]


def _unit_line(unit: UnitAnswer) -> str:
    found = unit.together
    if found is None:
        return f"{unit.name}: {unanswered(unit)}"
    said = describe_abstention(found) or f"{found.label} {percent(found.probabilities[found.label])}"
    return f"{unit.name}: {said}, {found.answered} of {found.slices} slices"


def _lines(sentences: Sequence[str], letters: int = LETTERS) -> list[str]:
    return [line for one in sentences for line in wrap(f"{one[0].upper()}{one[1:]}", letters, subsequent_indent="   ")]
