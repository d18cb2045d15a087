"""Markdown from templates: what comes from outside is shown letter by letter, and figures carry their intervals.

    fill_template("{{ corpus.name }} has {{ n | count }} images", {...})

Every value that a template prints is escaped, unless it is `Markup` already: `code`, `verbatim` and macros make such.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from ct_xception.checkpoint_files import Metric
from ct_xception.errors import InputError
from ct_xception.text import percent

_SHARES = {"accuracy", "balanced_accuracy", "recall", "precision", "specificity", "sensitivity", "coverage"}


def plain(text: object) -> Markup:
    """Text from outside as Markdown that shows it letter by letter, on one line."""
    return Markup(re.sub(r"\s+", " ", re.sub(r"[\\`*_\[\]<>|#]", r"\\\g<0>", str(text))))


def code(text: object) -> Markup:
    """Text from outside as inline code, or nothing for no text."""
    return Markup(f"`{' '.join(str(text).replace('`', chr(39)).replace('|', '/').split())}`" if text else "")


def metric_text(metric: Metric, name: str = "") -> str:
    """A metric as a table shows it: `95.2 % (92.3–97.1)`, `0.998 (0.994–1.000)`, or `none`; `name` says if a share."""
    scale, places, unit = (100, 1, " %") if name in _SHARES else (1, 3, "")
    if metric.value is None:
        return "none"
    value, low, high = (
        None if part is None else f"{scale * part:z.{places}f}".replace("-", "−")
        for part in (metric.value, metric.low, metric.high)
    )
    if low is None:
        return f"{value}{unit} (no interval)"
    between = " to " if (metric.low or 0) < 0 else "–"  # no dash beside a minus
    return f"{value}{unit} ({low}{between}{high})"


def points_text(metric: Metric | Mapping[str, Any]) -> str:
    """A difference of shares in percentage points: `+3.2 points (−1.0 to +7.4)`."""
    metric = metric if isinstance(metric, Metric) else Metric.of(metric)
    if metric.value is None:
        return "none"
    value, low, high = (
        "" if part is None else f"{100 * part:+.1f}".replace("-", "−")
        for part in (metric.value, metric.low, metric.high)
    )
    return f"{value} points ({low} to {high})" if low else f"{value} points (no interval)"


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """A Markdown table; the cells are Markdown already."""
    return Markup("\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)))


def _answered(checklist: str) -> Markup:
    """The lines of a checklist, "item | answer", that have an answer, as a table."""
    lines = [line.strip().partition(" |") for line in checklist.splitlines() if line.strip()]
    return markdown_table(["Item", "Answer"], [[item, answer.strip()] for item, _, answer in lines if answer.strip()])


def _unanswered(checklist: str) -> Markup:
    """The items of the lines without an answer."""
    return Markup("; ".join(line.strip().removesuffix(" |") for line in checklist.splitlines() if line[-2:] == " |"))


_FILTERS: dict[str, Callable[..., Any]] = {
    "answered": _answered,
    "code": code,
    "count": lambda number: f"{number:,}",
    "percent": lambda share: f"{100 * share:.1f}",
    "points": points_text,
    "probability": percent,
    "metric": metric_text,
    "share": lambda metric: metric_text(metric, "coverage"),
    "unanswered": _unanswered,
    "verbatim": Markup,
}


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(packaged_template),
        undefined=jinja2.StrictUndefined,
        autoescape=True,  # by which macros give Markup; what HTML would escape, `finalize` has made Markdown of before
        finalize=lambda value: value if isinstance(value, (Markup, jinja2.Undefined)) else plain(value),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= _FILTERS
    return environment


def packaged_template(name: str = "model_card.md") -> str:
    """A template of the package; model_card.md is, in a checkout, the one at its top, which the package links to."""
    folder = resources.files("ct_xception.publish.card")
    return (folder if name == "model_card.md" else folder / "templates").joinpath(name).read_text(encoding="utf-8")


def fill_template(template: str, values: Mapping[str, Any]) -> str:
    """The template filled, without the gaps that empty slots leave. Raises InputError for an unknown slot."""
    try:
        text = str(_environment().from_string(template).render(values))
    except jinja2.TemplateError as error:
        raise InputError(f"The card's template cannot be filled ({error}); mend the slot.") from error
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip("\n") + "\n"
