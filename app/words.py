"""The page's words: answers, refusals, legends and notes as HTML, everything from outside escaped."""

from __future__ import annotations

import html
from pathlib import Path

from ct_xception.explain.attribution import Attribution
from ct_xception.explain.overlay import METHOD_NAMES, palette
from ct_xception.serving.predictor import Classifier, Prediction
from ct_xception.serving.text import describe_decision
from ct_xception.wording import percent


def header(classifier: Classifier) -> str:
    model = html.escape(model_name(classifier))
    return f"<h1>ct-xception</h1><p>What Xception sees in a CT slice, and where. <code>{model}</code></p>"


def model_name(classifier: Classifier) -> str:
    """The Hub id and commit, or the end of a local path: where a server keeps its files is its own affair."""
    local = Path(classifier.name)
    return "/".join(local.resolve().parts[-2:]) if local.is_dir() else classifier.name


def waiting() -> str:
    return '<p class="waiting">Drop a CT slice into the box, or choose an example.</p>'


def refusal(sentence: str) -> str:
    return f'<p class="refusal" role="alert"><strong>Not answered.</strong> {html.escape(sentence)}</p>'


def verdict(prediction: Prediction) -> str:
    rows = "".join(_row(*pair) for pair in prediction.probabilities.items())
    first = percent(prediction.probabilities[prediction.label])
    return (
        f'<div class="verdict" role="status"><p class="first"><span>{html.escape(prediction.label)}</span> '
        f"<b>{html.escape(first)}</b></p><table><caption>Probability of each class</caption>{rows}</table>"
        f"{_rules(prediction)}</div>"
    )


def _rules(prediction: Prediction) -> str:
    """What the checkpoint's own rules say of the answer; nothing where it has none."""
    said = [html.escape(sentence[0].upper() + sentence[1:]) for sentence in describe_decision(prediction.decision)]
    items = "".join(f"<li>{sentence}</li>" for sentence in said)
    return f'<ul class="rules">{items}</ul>' if items else ""


def _row(label: str, probability: float) -> str:
    bar = f'<td class="bar" aria-hidden="true"><i style="width:{100 * probability:.1f}%"></i></td>'
    return f'<tr><th scope="row">{html.escape(label)}</th>{bar}<td>{html.escape(percent(probability))}</td></tr>'


def legend(attribution: Attribution | None) -> str:
    stops = ", ".join(f"rgb({red},{green},{blue})" for red, green, blue in palette()[::32].tolist())
    bar = f'<i style="background:linear-gradient(to right, {stops})"></i>'
    if attribution is None:
        return f"<p>{bar}<span>none</span><span>most evidence</span></p>"
    label, method = html.escape(attribution.label), METHOD_NAMES[attribution.method]
    if attribution.strength == 0:
        return f"<p>Nothing in this slice speaks for {label} ({method}).</p>"
    return f"<p>{bar}<span>none</span><span>most evidence for {label} ({method})</span></p>"


def notes(prediction: Prediction) -> str:
    items = "".join(f"<li>{html.escape(note)}</li>" for note in prediction.notes)
    return f"<h2>What was done to the file</h2><ul>{items}</ul>" if items else ""
