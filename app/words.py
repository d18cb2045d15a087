"""The page's words: answers, refusals, legends and notes as HTML, everything from outside escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from ct_xception_app.downloads import Origin
from ct_xception_app.limits import KEPT_SECONDS, MAX_FILE

from ct_xception.explain.explain import Attribution
from ct_xception.explain.methods import METHODS
from ct_xception.explain.overlay import opposing_palette, palette
from ct_xception.imaging.modality import CT, ONE
from ct_xception.serving.classifier import Prediction
from ct_xception.serving.gate import DOUBTFUL
from ct_xception.serving.pooling import AGGREGATIONS, SeriesAnswer
from ct_xception.serving.series import Series
from ct_xception.serving.text import describe_abstention, describe_decision
from ct_xception.text import a, percent

CONSENT = "No name or date is drawn into these images, and I may use them for research."
PRIVACY = (
    f"Up to {MAX_FILE >> 20} MiB; deleted after {KEPT_SECONDS // 60} minutes, never logged. "
    "Of DICOM tags only those of the picture, its place and its series are read; text in the pixels cannot be removed "
    "here."
)
INK = (
    "Lines or letters seem to be drawn into this picture. If they name somebody, take the file back; an answer may "
    "rest on them too."
)


def header(origin: Origin, modality: str = CT) -> str:
    """The page's title, and the model that answers."""
    model = html.escape(origin.name)
    return f"<h1>ct-xception</h1><p>What Xception sees in {a(ONE[modality])}, and where. <code>{model}</code></p>"


def waiting(modality: str = CT) -> str:
    """In place of an answer, before there is anything to answer."""
    return (
        '<p class="waiting" role="status"><span>Choose an example, or tick the box and drop '
        f"{a(ONE[modality])}, several, or a zipped series.</span></p>"
    )


def refusal(sentence: str) -> str:
    """A file that could not be read, in the reader's words."""
    return f'<p class="refusal" role="alert"><strong>Not answered.</strong> {html.escape(sentence)}</p>'


def gate_refusal(reasons: Sequence[str]) -> str:
    """A slice that the input gate refused: its reasons, and no percentage."""
    items = "".join(f"<li>{html.escape(reason)}</li>" for reason in reasons)
    return (
        '<div class="refusal" role="alert"><strong>Not answered: this does not look like a slice that the model '
        f"knows.</strong><ul>{items}</ul></div>"
    )


def _doubt(prediction: Prediction) -> str:
    gate = prediction.gate
    if gate is None or gate.verdict != DOUBTFUL:
        return ""
    reasons = "; ".join(html.escape(reason) for reason in gate.reasons)
    return f'<p class="doubt" role="alert"><strong>Doubtful input.</strong> {reasons}</p>'


def answer(prediction: Prediction) -> str:
    """A slice's answer: the first class, every probability, and what the checkpoint's own rules say of them."""
    if prediction.refusal:
        return gate_refusal(prediction.refusal)
    none = html.escape(describe_abstention(prediction))
    first = f'<p class="first"><span>{none}</span></p>' if none else _first(prediction.label, prediction.probabilities)
    return (
        f'<div class="verdict" role="status">{_doubt(prediction)}{first}'
        f"{_table(prediction.probabilities, 'Probability of each class')}{_rules(prediction)}</div>"
    )


def _first(label: str, probabilities: Mapping[str, float]) -> str:
    share = html.escape(percent(probabilities[label]))
    return f'<p class="first"><span>{html.escape(label)}</span> <b>{share}</b></p>'


def _table(probabilities: Mapping[str, float], caption: str) -> str:
    rows = "".join(_row(*pair) for pair in probabilities.items())
    return f"<table><caption>{caption}</caption><tbody>{rows}</tbody></table>"


def _row(label: str, probability: float) -> str:
    bar = f'<td class="bar" aria-hidden="true"><i style="width:{100 * probability:.1f}%"></i></td>'
    return f'<tr><th scope="row">{html.escape(label)}</th>{bar}<td>{html.escape(percent(probability))}</td></tr>'


def _rules(prediction: Prediction) -> str:
    """What the checkpoint's own rules say of the answer; nothing where it has none."""
    said = [html.escape(sentence[0].upper() + sentence[1:]) for sentence in describe_decision(prediction.decision)]
    items = "".join(f"<li>{sentence}</li>" for sentence in said)
    points = _points(prediction)
    return f'<ul class="rules">{items}{points}</ul>' if items or points else ""


def _points(prediction: Prediction) -> str:
    """The operating point of each class, one against the rest; groups stand among the rules already."""
    found = {name: point for name, point in prediction.operating.items() if point["kind"] != "group"}
    if not found:
        return ""
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(name)}</th><td>{'yes' if point['positive'] else 'no'}</td>"
        f"<td>{html.escape(percent(point['score']))}</td><td>{html.escape(percent(point['threshold']))}</td></tr>"
        for name, point in found.items()
    )
    heads = "".join(f"<th scope='col'>{head}</th>" for head in ("question", "answer", "probability", "threshold"))
    return (
        "<li><details><summary>Operating points of single classes</summary><table class='points'>"
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></details></li>"
    )


# A series


def together(found: SeriesAnswer | None, series: Series, unanswered: Sequence[str]) -> str:
    """The series' answer, with the name of its aggregation and how many slices voted."""
    missing = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in unanswered[:5])
    more = f"<li>and {len(unanswered) - 5} more</li>" if len(unanswered) > 5 else ""
    left_out = f'<ul class="rules">{missing}{more}</ul>' if missing else ""
    if found is None:
        none = "<strong>No slice of this series was answered.</strong>"
        return f'<div class="refusal" role="alert">{none}{left_out}</div>'
    how, title = AGGREGATIONS[found.aggregation], f"<h2>{series.name.capitalize()}</h2>"
    return (
        f'<div class="verdict series" role="status">{title}{_first(found.label, found.probabilities)}'
        f"{_table(found.probabilities, 'Probability of each class over the series')}"
        f'<p class="how">{how.title[0].upper()}{how.title[1:]} over n = {found.answered} of {found.slices} slices, '
        f"{series.order}; {found.agreeing} of them have {html.escape(found.label)} first. Not calibrated: "
        f"calibration was fitted on single slices.</p>{left_out}</div>"
    )


def slice_title(number: int, count: int, name: str) -> str:
    """What stands above the answer of one slice of a series."""
    return f"<h2>Slice {number} of {count}</h2><p>{html.escape(name)}</p>" if count > 1 else ""


# The map


def legend(attribution: Attribution | None) -> str:
    """The colours, and whose evidence by which method they show."""
    if attribution is None:
        return f"<p>{_ramp(False)}<span>none</span><span>most evidence</span></p>"
    label, method = html.escape(attribution.label), METHODS[attribution.method].title
    if attribution.strength == 0:
        return f"<p class='none'>Nothing in this slice speaks for {label} ({method}).</p>"
    ends = ("against", f"for {label} ({method})") if attribution.signed else ("none", f"most for {label} ({method})")
    return f"<p>{_ramp(attribution.signed)}<span>{ends[0]}</span><span>{ends[1]}</span></p>"


def _ramp(signed: bool) -> str:
    colours = [*(opposing_palette()[::-32].tolist() if signed else []), *palette()[::32].tolist()]
    stops = ", ".join(f"rgb({red},{green},{blue})" for red, green, blue in colours)
    return f'<i aria-hidden="true" style="background:linear-gradient(to right, {stops})"></i>'


def method_sentence(method: str) -> str:
    """What a method does."""
    return METHODS[method].sentence


def map_words(record: Mapping[str, Any] | None, sentences: Sequence[str]) -> str:
    """What is known of the map: warnings first, then its place, and the evidence where it was measured."""
    if record is None:
        return '<p class="quiet">No map is shown.</p>'
    warned = "".join(
        f'<p class="doubt" role="alert"><strong>Look twice.</strong> {html.escape(one)}</p>'
        for one in record["warnings"]
    )
    items = "".join(f"<li>{html.escape(one)}</li>" for one in sentences if one not in record["warnings"])
    return f"{warned}<ul>{items}</ul>"


# The file, and the work


def notes(prediction: Prediction | None, others: Sequence[str] = (), *, has_ink: bool = False) -> str:
    """What the reader and the classifier did to the file; what was passed over; a warning of drawn letters."""
    if prediction is None:
        return ""
    ink = f'<p class="doubt" role="alert"><strong>Burnt-in text?</strong> {INK}</p>' if has_ink else ""
    sentences = [*(prediction.notes), *others]
    items = "".join(f"<li>{html.escape(note)}</li>" for note in sentences)
    return f"{ink}<h2>What was done to the file</h2><ul>{items}</ul>" if items else ink


def status(text: str, share: float | None = None) -> str:
    """What is going on, for eyes and for screen readers."""
    if share is None:
        return f'<p role="status">{html.escape(text)}</p>'
    done = round(100 * share)
    return (
        f'<p role="status">{html.escape(text)} <progress max="100" value="{done}" aria-label="{html.escape(text)}">'
        f"</progress> {done} %</p>"
    )
