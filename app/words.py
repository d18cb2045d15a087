"""The page's words: answers, refusals, legends and notes as HTML, everything from outside escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from ct_xception_app.downloads import Origin, unanswered
from ct_xception_app.limits import KEPT_SECONDS, MAX_FILE

from ct_xception.explain.explain import Attribution
from ct_xception.explain.methods import METHODS
from ct_xception.explain.overlay import opposing_palette, palette
from ct_xception.imaging.modality import CT, ONE
from ct_xception.imaging.slice import doubts_in
from ct_xception.serving.classifier import Prediction
from ct_xception.serving.decisions import Decision
from ct_xception.serving.gate import DOUBTFUL
from ct_xception.serving.patients import UnitAnswer, why_left_out
from ct_xception.serving.pooling import SeriesAnswer, SliceAnswer
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


# Terms of art, and what stands behind each where it is met.
TERMS = {
    "prediction set": "All classes that cannot be ruled out: in the stated share of cases like those of validation, "
    "the right one is among them. Several classes mean that the model cannot tell them apart here.",
    "operating points": "A yes or no to one question, such as 'cancer?': the probability is held against a threshold "
    "that was chosen on validation for a stated sensitivity or specificity.",
    "calibrated": "Made to mean what they say: of slices answered with 80 %, about 80 % should be right.",
    "temperature": "The number by which the network's scores are divided to calibrate them: above 1 it was too sure of "
    "itself, below 1 not sure enough.",
    "rank correlation": "How alike two maps order the places of the slice: 1 the same order, 0 none in common.",
    "pooled": "Made one from several: the answers of single slices become one answer of the series or patient.",
    "log-probabilities": "Logarithms are averaged, so that slices which agree weigh more than one that stands alone.",
}


def with_terms(sentence: str) -> str:
    """A sentence of HTML with the first of each term in it explained where it stands."""
    for term, meaning in TERMS.items():
        place = sentence.lower().find(term.lower())
        if place >= 0:
            end = place + len(term)
            told = f'<details class="term"><summary>{sentence[place:end]}</summary><span>{meaning}</span></details>'
            sentence = sentence[:place] + told + sentence[end:]
    return sentence


def header(origin: Origin, label_names: Sequence[str], modality: str = CT, second: Origin | None = None) -> str:
    """The page's title, the model that answers, what it knows, its limits in a line; a second model beside it."""
    model, names = html.escape(origin.name), [f"<b>{html.escape(name)}</b>" for name in label_names]
    model += "" if second is None else f"</code> beside <code>{html.escape(second.name)}"
    return (
        f"<h1>ct-xception</h1><p>What Xception sees in {a(ONE[modality])}, and where. <code>{model}</code></p>"
        f"<p>It knows {', '.join(names[:-1])} and {names[-1]}, and can name nothing else; its figures hold for images "
        "like those it was measured on (see <i>About this model</i>).</p>"
    )


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


def answer(prediction: Prediction, title: str = "", warning: str = "") -> str:
    """A slice's answer: the first class and every probability, under a title and a warning where there are any."""
    if prediction.refusal:
        return title + gate_refusal(prediction.refusal)
    none = html.escape(describe_abstention(prediction))
    first = f'<p class="first"><span>{none}</span></p>' if none else _first(prediction.label, prediction.probabilities)
    return (
        f'<div class="verdict" role="status">{title}{_warned(warning)}{_doubt(prediction)}{first}'
        f"{_table(prediction.probabilities, 'Probability of each class')}</div>"
    )


def _warned(warning: str) -> str:
    if not warning:
        return ""
    return f'<p class="doubt" role="alert"><strong>Another window.</strong> {html.escape(warning)}</p>'


def in_short(answer: SliceAnswer) -> str:
    """A slice's answer in a few words, such as `normal 98.2 %`."""
    if answer.error:
        return "not read"
    if not answer.probabilities:
        return "refused by the input gate"
    label = str((answer.record or {}).get("label"))
    share = f"{label} {percent(answer.probabilities[label])}"
    return f"no answer ({share} is too little)" if (answer.record or {}).get("abstained") else share


def _first(label: str, probabilities: Mapping[str, float]) -> str:
    share = html.escape(percent(probabilities[label]))
    return f'<p class="first"><span>{html.escape(label)}</span> <b>{share}</b></p>'


def _table(probabilities: Mapping[str, float], caption: str) -> str:
    rows = "".join(_row(*pair) for pair in probabilities.items())
    return f"<table><caption>{caption}</caption><tbody>{rows}</tbody></table>"


def _row(label: str, probability: float) -> str:
    bar = f'<td class="bar" aria-hidden="true"><i style="width:{100 * probability:.1f}%"></i></td>'
    return f'<tr><th scope="row">{html.escape(label)}</th>{bar}<td>{html.escape(percent(probability))}</td></tr>'


def rules(prediction: Prediction) -> str:
    """What the checkpoint's own rules say of a slice's answer; nothing where it has none, or was not answered."""
    said = ruled(prediction)
    return f'<div class="sheet"><h2>What the model\'s rules say of this slice</h2>{said}</div>' if said else ""


def _ruled(decision: Decision) -> str:
    """What a checkpoint's rules make of an answer, as a list; nothing where there are none."""
    said = [html.escape(sentence[0].upper() + sentence[1:]) for sentence in describe_decision(decision)]
    items = "".join(f"<li>{with_terms(sentence)}</li>" for sentence in said)
    points = _points(decision)
    return f'<ul class="rules">{items}{points}</ul>' if items or points else ""


def _points(decision: Decision) -> str:
    """The operating point of each class, one against the rest; groups stand among the rules already."""
    found = {name: point for name, point in decision.operating.items() if point["kind"] != "group"}
    if not found:
        return ""
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(name)}</th><td>{'yes' if point['positive'] else 'no'}</td>"
        f"<td>{html.escape(percent(point['score']))}</td><td>{html.escape(percent(point['threshold']))}</td></tr>"
        for name, point in found.items()
    )
    heads = "".join(f"<th scope='col'>{head}</th>" for head in ("question", "answer", "probability", "threshold"))
    return (
        "<li><details><summary>Operating points of single classes</summary>"
        f"<p>{TERMS['operating points']}</p><table class='points'><thead><tr>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></details></li>"
    )


# A series


def together(unit: UnitAnswer, series: Series, how: str, example: str = "", warning: str = "") -> str:
    """The answer of a series or patient: what it is, how its slices became one, the rules, and what carries it."""
    found, left_out = unit.together, _left_out(unit)
    name = html.escape(f"{example}{series.name}{f': {series.facts}' if series.facts else ''}")
    title = f"<h2>{name[0].upper()}{name[1:]}</h2>"
    if found is None:
        none = "<strong>Not answered: each of its slices was refused.</strong>"
        return f'<div class="refusal" role="alert">{title}{none}{left_out}</div>'
    said = f"{how[0].upper()}{how[1:]}. n = {found.answered} of {found.slices} slices, {series.order}; "
    counted = f"{found.agreeing} of them {'has' if found.agreeing == 1 else 'have'} {html.escape(found.label)} first."
    return (
        f'<div class="verdict series" role="status">{title}{_warned(warning)}{_pooled(found)}'
        f'<div class="how"><div>{_carriers(unit)}</div><div>{with_terms(html.escape(said))}{counted}</div></div>'
        f"{_ruled(found.decision)}{left_out}</div>"
    )


def _pooled(found: SeriesAnswer) -> str:
    """The class, or that there is none, and every probability."""
    none = html.escape(describe_abstention(found))
    first = f'<p class="first"><span>{none}</span></p>' if none else _first(found.label, found.probabilities)
    return first + _table(found.probabilities, "Probability of each class, all slices together")


def pooled(unit: UnitAnswer) -> str:
    """The answer of a series or patient, and its rules, in short."""
    if unit.together is None:
        return '<div class="refusal"><strong>Not answered: each of its slices was refused.</strong></div>'
    return f'<div class="verdict">{_pooled(unit.together)}{_ruled(unit.together.decision)}</div>'


def ruled(prediction: Prediction) -> str:
    """What the rules say of a slice's answer, as a list; nothing of one that was refused."""
    return "" if prediction.refusal else _ruled(prediction.decision)


def unit_in_short(unit: UnitAnswer | None) -> str:
    """The answer of a series or patient in a few words."""
    found = None if unit is None else unit.together
    if unit is None:
        return "not reached"
    if found is None:
        return unanswered(unit)
    return describe_abstention(found) or f"{found.label} {percent(found.probabilities[found.label])}"


def _carriers(unit: UnitAnswer) -> str:
    """The slices that carry the answer, each to be gone to."""
    found = unit.together
    if found is None or not found.carriers:
        return ""
    shares = [(unit.slices[index].probabilities or {}).get(found.label, 0.0) for index in found.carriers]
    told = [
        f'<button type="button" data-go="{index}">slice {index + 1}</button> ({html.escape(percent(share))})'
        for index, share in zip(found.carriers, shares, strict=True)
    ]
    return f"Carried by {', '.join(told)}."


def _left_out(unit: UnitAnswer) -> str:
    """The slices that are not answered, and why."""
    said = [f"{name}: {why.removeprefix(f'{name}: ')}" for name, why in unit.left_out]
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in said[:5])
    more = f"<li>and {len(said) - 5} more not answered</li>" if len(said) > 5 else ""
    return f'<ul class="rules">{items}{more}</ul>' if said else ""


def units(answers: Sequence[UnitAnswer | None], found: Sequence[Series], chosen: int) -> str:
    """A row for each series or patient that was given: what it holds, its own answer, and what the rules say of it."""
    heads = "".join(f"<th scope='col'>{head}</th>" for head in ("", "what it holds", "answer", "probability"))
    rows = "".join(_unit_row(*row, chosen) for row in enumerate(zip(answers, found, strict=True)))
    return (
        f'<div class="verdict files units" role="status"><h2>{len(found)} answers, one for each</h2>'
        "<div class='scroll' tabindex='0' role='region' aria-label='Answers, one by one'><table class='listing'>"
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></div>"
    )


def _unit_row(number: int, row: tuple[UnitAnswer | None, Series], chosen: int) -> str:
    unit, series = row
    told, share = _unit_answer(unit, series)
    left = len(unit.left_out) if unit is not None else 0
    mark = f' <span class="mark">{left} of {len(series)} not answered</span>' if left else ""
    holds = series.facts if series.related else f"{len(series)} files"
    here = " class='shown' aria-current='true'" if number == chosen else ""
    name = f'<button type="button" data-unit="{number}">{html.escape(series.name)}</button>'
    cells = f"<td>{name}</td><td>{html.escape(holds)}{mark}</td><td>{told}</td><td class='number'>{share}</td>"
    return f"<tr{here}>{cells}</tr>"


def _unit_answer(unit: UnitAnswer | None, series: Series) -> tuple[str, str]:
    """What a row says of the answer, and the probability in it."""
    if unit is None:
        return "<em>Not reached yet:</em> choose it to have it answered.", ""
    if not series.related:
        return "<em>File by file</em>", ""
    found = unit.together
    if found is None:
        return "<em>Not answered:</em> each of its slices was refused.", ""
    kept = found.prediction_set or ()
    more = f"<br><small>cannot be ruled out: {html.escape(', '.join(kept))}</small>" if len(kept) > 1 else ""
    said = describe_abstention(found) or found.label
    return html.escape(said) + more, "" if found.abstained else html.escape(percent(found.probabilities[found.label]))


def separate(answers: Sequence[SliceAnswer], warning: str = "") -> str:
    """A table of files that nothing ties together: each with its picture, and its own answer."""
    heads = ("", "file", "answer", "probability")
    rows = "".join(_file_row(index, one) for index, one in enumerate(answers))
    return (
        f'<div class="verdict files" role="status"><h2>{len(answers)} separate files, each answered by itself</h2>'
        f'{_warned(warning)}<p class="how">Nothing in them says that they are slices of one scan, so they have no '
        "answer together. Choose a file to see it.</p><div class='scroll' tabindex='0' role='region' "
        "aria-label='Answers, file by file'><table class='listing'><thead><tr>"
        + "".join(f"<th scope='col'>{head or '<span>picture</span>'}</th>" for head in heads)
        + f"</tr></thead><tbody>{rows}</tbody></table></div></div>"
    )


def _file_row(index: int, found: SliceAnswer) -> str:
    record, values = found.record or {}, found.probabilities
    told, share = "", ""
    if values:
        label = str(record.get("label"))
        told = html.escape(f"No answer (most for {label})" if record.get("abstained") else label)
        share = html.escape(percent(values[label]))
    else:
        why = why_left_out(found).removeprefix(f"{found.name}: ")
        told = f"<em>Not answered:</em> {html.escape(why.removesuffix('.'))}."
    doubtful = ' <span class="mark">doubtful input</span>' if found.gate == DOUBTFUL else ""
    name = html.escape(found.name)
    return (
        f'<tr data-row="{index}"><td><canvas width="56" height="56" data-slice="{index}" data-go="{index}" '
        f'aria-hidden="true"></canvas></td><td><button type="button" data-go="{index}">{name}</button></td>'
        f"<td>{told}{doubtful}</td><td class='number'>{share}</td></tr>"
    )


def history(cases: Sequence[tuple[str, str]]) -> str:
    """What was answered in this session, the latest first, to be seen again; nothing for a single case."""
    if len(cases) < 2:
        return ""
    items = "".join(
        f'<li><button type="button" data-past="{number}">{html.escape(name)}</button> {html.escape(answer)}</li>'
        for number, (name, answer) in reversed(list(enumerate(cases)))
    )
    return f"<h2>In this session</h2><ul>{items}</ul>"


def slice_title(number: int, count: int, name: str, noun: str = "Slice") -> str:
    """What stands above the answer of one slice of a series, or file of several."""
    return f"<h2>{noun} {number} of {count}: {html.escape(name)}</h2>" if count > 1 else ""


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
    """What is known of the map: the verdict, warnings, its place, and the figures where they were measured."""
    if record is None:
        return '<p class="quiet">No map is shown.</p>'
    warned = "".join(f"<p>{html.escape(one)}</p>" for one in record["warnings"])
    if warned:
        verdict = f'<div class="doubt" role="alert"><strong>Do not trust this map as it stands.</strong>{warned}</div>'
    else:
        verdict = f'<p class="map-verdict">{_map_verdict(record)}</p>'
    rest = [html.escape(one) for one in sentences if one not in record["warnings"]]
    places, figures = (rest, []) if record["evidence"] is None else (rest[:2], rest[2:])
    items = "".join(f"<li>{with_terms(one)}</li>" for one in places)
    measured = "".join(f"<li>{with_terms(one)}</li>" for one in figures)
    folded = f"<details><summary>The figures behind it</summary><ul>{measured}</ul></details>" if measured else ""
    return f"{verdict}<ul>{items}</ul>{folded}"


def _map_verdict(record: Mapping[str, Any]) -> str:
    if record["strength"] == 0:
        return "<strong>There is nothing to see:</strong> no place of this slice speaks for this class."
    if record["evidence"] is None:
        return (
            "<strong>Not yet tested:</strong> this is where the map points; whether the network used that place is "
            "what measuring the evidence tells."
        )
    kept = record["evidence"].get("insertion") or {}
    if kept and kept["area"] <= kept["random_area"]:
        return (
            "<strong>Half of this map holds:</strong> without these places the answer falls faster than without random "
            "ones, but shown alone they do not bring it back faster than random ones. Weigh it with care."
        )
    return (
        "<strong>This map points at what the network used:</strong> without these places the answer falls faster than "
        "without random ones, shown alone they bring it back faster, and networks with random weights point elsewhere."
    )


def all_maps(pictures: Sequence[tuple[Attribution, str, str]]) -> str:
    """Maps of every class side by side: (map, the class's probability, picture as a data URI)."""
    items = "".join(
        f'<figure><img src="{uri}" alt="Evidence for {html.escape(one.label)}"><figcaption><b>{html.escape(one.label)}'
        f"</b> {html.escape(share)}{'' if one.strength else '<br>nothing here speaks for it'}</figcaption></figure>"
        for one, share, uri in pictures
    )
    told = "Each map is scaled to its own strongest place: compare where they point, not how bright they are."
    return f'<div class="all-maps">{items}</div><p class="quiet">{told}</p>' if items else ""


# The file, and the work


def notes(prediction: Prediction | None, others: Sequence[str] = (), *, has_ink: bool = False) -> str:
    """What the reader and the classifier did to the file; what was passed over; a warning of drawn letters."""
    if prediction is None:
        return ""
    ink = f'<p class="doubt" role="alert"><strong>Burnt-in text?</strong> {INK}</p>' if has_ink else ""
    doubts = doubts_in(prediction.notes)
    said = "".join(
        f'<p class="doubt" role="alert"><strong>{html.escape(one[:1].upper() + one[1:])}.</strong></p>'
        for one in doubts
    )
    sentences = [*(note for note in prediction.notes if note not in doubts), *others]
    items = "".join(f"<li>{html.escape(note)}</li>" for note in sentences)
    told = f"<h2>What was done to the file</h2><ul>{items}</ul>" if items else ""
    return f"{ink}{said}{told}"


def status(text: str, share: float | None = None) -> str:
    """What is going on, for eyes and for screen readers."""
    if share is None:
        return f'<p role="status">{html.escape(text)}</p>'
    done = round(100 * share)
    return (
        f'<p role="status">{html.escape(text)} <progress max="100" value="{done}" aria-label="{html.escape(text)}">'
        f"</progress> {done} %</p>"
    )
