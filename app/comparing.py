"""Two models side by side on one case: what each answers, where each looks, and whether they agree in a sentence."""

from __future__ import annotations

import html

from ct_xception_app import words
from ct_xception_app.cases import Case, View, compare_case

from ct_xception.html import image_uri
from ct_xception.serving.patients import UnitAnswer
from ct_xception.serving.pooling import SliceAnswer

MAP_WIDTH, OPACITY = 420, 0.6


def versus(case: Case, name: str) -> str:
    """The two models side by side, as HTML; empty where there is one."""
    found, second = compare_case(case, name), case.second
    if found is None or second is None:
        return ""
    sides = _side(name, case.view, case.unit, case), _side(second.name, second.view, second.units[case.chosen], case)
    mark = {True: "agree", False: "differ", None: "neither"}[found.agree]
    return (
        f'<section class="versus sheet" aria-labelledby="versus-head"><h2 id="versus-head">Two models side by side</h2>'
        f'<p class="said {mark}" role="status">{html.escape(found.sentence)}</p>'
        f'<div class="two">{"".join(sides)}</div>{_each(case, name)}'
        '<p class="quiet">Neither is known to be right here: how often each is stands in its card.</p></section>'
    )


def _side(name: str, view: View, unit: UnitAnswer | None, case: Case) -> str:
    """One model's answer, its rules and its map."""
    title = f"<h3>{html.escape(name)}</h3>"
    if case.is_series and unit is not None:
        answered = words.pooled(unit)
    else:
        answered = words.answer(view.prediction) + words.ruled(view.prediction)
    return f"<div>{title}<div>{answered}</div>{_map(view, case)}</div>"


def _map(view: View, case: Case) -> str:
    if view.explained is None:
        return ""
    label = view.explained.attribution.label
    where = f", slice {case.index + 1}" if case.is_series else ""
    told = html.escape(f"Evidence for {label}{where}")
    picture = f'<img src="{image_uri(view.picture(OPACITY), MAP_WIDTH)}" alt="{told}">'
    return f"<figure>{picture}<figcaption>{told}</figcaption></figure>"


def _each(case: Case, name: str) -> str:
    """A row for each of several patients, series or files: both answers, and a mark where they differ."""
    assert case.second is not None
    rows = list[tuple[str, str, str]]()
    if len(case.found) > 1:
        pairs = zip(case.found, case.units, case.second.units, strict=True)
        rows = [(series.name, words.unit_in_short(mine), words.unit_in_short(theirs)) for series, mine, theirs in pairs]
    elif case.is_separate:
        theirs = _slices(case.second.units[0])
        rows = [
            (one.name, words.in_short(one), words.in_short(other))
            for one, other in zip(case.answers, theirs, strict=True)
        ]
    if not rows:
        return ""
    heads = "".join(f"<th scope='col'>{html.escape(head)}</th>" for head in ("", name, case.second.name))
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    table = f"<table class='listing'><thead><tr>{heads}</tr></thead><tbody>{cells}</tbody></table>"
    return f"<div class='scroll' tabindex='0' role='region' aria-label='Both models, one by one'>{table}</div>"


def _slices(unit: UnitAnswer | None) -> tuple[SliceAnswer, ...]:
    assert unit is not None  # the one that is chosen is answered
    return unit.slices
