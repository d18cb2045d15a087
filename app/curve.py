"""The probability of each class along a series, as a drawing in SVG that follows the page's theme."""

from __future__ import annotations

import html
from collections.abc import Sequence

from ct_xception.serving.pooling import SeriesAnswer, SliceAnswer
from ct_xception.text import percent

WIDTH, HEIGHT = 720, 150
LEFT, RIGHT, TOP, BOTTOM = 70, 10, 12, 24
MOST_LINES = 6


def draw_curve(answers: Sequence[SliceAnswer], together: SeriesAnswer | None, index: int) -> str:
    """A line a class over the slices, the series' class first and strongest; a mark at slice `index` (from 0).

    Slices without an answer leave a gap. Empty for a single slice, or where no slice was answered.
    """
    if len(answers) < 2 or together is None:
        return ""
    names = list(together.probabilities)[:MOST_LINES]
    lines = "".join(_line(answers, name, number) for number, name in reversed(list(enumerate(names))))
    keys = "".join(f'<li><i class="class-{number}"></i>{html.escape(name)}</li>' for number, name in enumerate(names))
    strongest = answers[together.strongest].probabilities or {}
    said = (
        f"Probability of each class over {len(answers)} slices. {together.label} is highest on slice "
        f"{together.strongest + 1}, at {percent(strongest.get(together.label, 0.0))}. Slice {index + 1} is shown."
    )
    x = _x(index, len(answers))
    return (
        f'<figure class="curve"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(said)}" '
        f'data-count="{len(answers)}" data-left="{LEFT}" data-right="{WIDTH - RIGHT}" data-width="{WIDTH}">'
        f'{_axes(len(answers))}<line class="here" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f"{lines}</svg><ul>{keys}</ul></figure>"
    )


def _x(index: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * index / max(count - 1, 1)


def _y(probability: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - probability)


def _line(answers: Sequence[SliceAnswer], name: str, number: int) -> str:
    """One class: a path for every run of answered slices, and a dot for a run of one."""
    count, runs = len(answers), list[list[tuple[float, float]]]([[]])
    for index, answer in enumerate(answers):
        if answer.probabilities is None:
            runs.append([])
        else:
            runs[-1].append((_x(index, count), _y(answer.probabilities[name])))
    drawn = []
    for run in filter(None, runs):
        if len(run) == 1:
            drawn.append(f'<circle class="class-{number}" cx="{run[0][0]:.1f}" cy="{run[0][1]:.1f}" r="2.5"/>')
        else:
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
            drawn.append(f'<polyline class="class-{number}" points="{points}"/>')
    return "".join(drawn)


def _axes(count: int) -> str:
    lines = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(value):.1f}" y2="{_y(value):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{_y(value) + 4:.1f}" text-anchor="end">{100 * value:.0f} %</text>'
        for value in (0.0, 0.5, 1.0)
    )
    base = HEIGHT - 6
    return (
        f'{lines}<text x="{LEFT}" y="{base}">slice 1</text>'
        f'<text x="{WIDTH - RIGHT}" y="{base}" text-anchor="end">{count}</text>'
    )
