"""Pages that stand alone: one HTML file with its style and its pictures inside, which opens offline on any screen."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from jinja2 import Environment
    from PIL import Image

JPEG_FROM = 96  # pixels of width: below, a PNG is as small and keeps its greys


def image_uri(picture: Image.Image | np.ndarray, width: int | None = None) -> str:
    """A data URI of a Pillow picture, or of grey (H, W) or RGB (H, W, 3) uint8, shrunk to at most `width` pixels."""
    from PIL import Image

    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    if width is not None and image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    buffer, small = io.BytesIO(), image.width < JPEG_FROM
    if small:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=82)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def picture_html(picture: Image.Image | np.ndarray, lines: Sequence[str], *, first: str = "", width: int = 320) -> str:
    """A picture with lines of text beside it, every one escaped, as a notebook shows it: the first in bold.

    `first` is HTML that stands below the bold line.
    """
    said = first + "".join(f"<div>{escape(line)}</div>" for line in lines[1:])
    return (
        '<div style="display:flex;gap:1em;align-items:flex-start;flex-wrap:wrap">'
        f'<img alt="" src="{image_uri(picture, width)}" style="max-width:{width}px">'
        f'<div style="flex:1 1 18em;min-width:0"><b>{escape(lines[0])}</b>{said}</div></div>'
    )


def render_page(title: str, body_template: str, **slots: Any) -> str:
    """A whole HTML page: the shared style around a jinja2 body; every slot is escaped, and an unknown one raises."""
    return _environment().from_string(PAGE).render(title=title, style=STYLE, body=render_part(body_template, **slots))


def render_part(template: str, **slots: Any) -> str:
    """A part of a page's body, which goes into another's template as it is (`| safe`)."""
    return str(_environment().from_string(template).render(**slots))


def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["thousands"] = lambda number: f"{number:,}"
    return environment


PAGE = """<!doctype html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}</title>
<style>{{ style | safe }}</style>
</head>
<body>
{{ body | safe }}
</body>
</html>
"""

STYLE = """
:root {
  --ground: #f6f7f9; --card: #ffffff; --ink: #17202b; --quiet: #5a6675; --line: #dde2e9; --accent: #1f5fbf;
  --critical: #b3261e; --critical-ground: #fdecea; --warning: #8a5a00; --warning-ground: #fdf3df;
  --note: #40566f; --note-ground: #e9eff6; --good: #1b6e3c; --good-ground: #e5f4ea;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0f1419; --card: #182029; --ink: #e6ebf1; --quiet: #97a4b3; --line: #2b3642; --accent: #7fb2ff;
    --critical: #ff9b92; --critical-ground: #3a1a18; --warning: #f2c46d; --warning-ground: #35290f;
    --note: #a9c0da; --note-ground: #1d2937; --good: #7fd6a0; --good-ground: #15301f;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main, header.top, footer { max-width: 72rem; margin: 0 auto; padding: 0 1.25rem; }
header.top { padding-top: 2.25rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .75rem; }
h3 { font-size: 1rem; margin: 0 0 .3rem; }
p { margin: .3rem 0 .6rem; max-width: 46rem; }
p, h2, h3, li, nav a span { overflow-wrap: anywhere; }
a { color: var(--accent); }
.quiet { color: var(--quiet); }
.small { font-size: .85rem; }
.mono { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .82em;
  overflow-wrap: anywhere; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.1rem 1.25rem;
  margin: 0 0 1rem; }
.badge { display: inline-block; border-radius: 999px; padding: .05rem .65rem; font-size: .78rem; font-weight: 600;
  white-space: nowrap; }
.critical { color: var(--critical); background: var(--critical-ground); }
.warning { color: var(--warning); background: var(--warning-ground); }
.note { color: var(--note); background: var(--note-ground); }
.good { color: var(--good); background: var(--good-ground); }
.tint-critical { color: var(--critical); }
.tint-warning { color: var(--warning); }
.tint-note { color: var(--note); }
.tint-good { color: var(--good); }
.verdict { border-left: 5px solid var(--critical); }
.verdict.fine { border-left-color: var(--good); }
.title { margin-top: .5rem; font-weight: 600; max-width: 52rem; }
.names { max-height: 16rem; overflow-y: auto; max-width: none; }
.bars { display: grid; grid-template-columns: max-content minmax(4rem, 22rem) max-content; gap: .3rem .8rem;
  align-items: center; margin: .6rem 0; }
.bar { height: .7rem; background: var(--line); border-radius: 4px; overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--accent); }
.spread { display: flex; justify-content: space-between; align-items: baseline; max-width: none; margin: 0; }
.histogram { display: grid; grid-template-columns: minmax(5rem, 12rem) minmax(8rem, 26rem); gap: .4rem .8rem;
  align-items: end; margin: .6rem 0; }
.histogram > p { grid-column: 1 / -1; margin: 0; }
.columns { display: flex; align-items: flex-end; gap: 1px; height: 2.6rem; border-bottom: 1px solid var(--quiet); }
.columns i { flex: 1; min-width: 0; background: var(--accent); }
.ends { display: flex; justify-content: space-between; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1.25rem 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .75rem 1rem; }
.tile b { display: block; font-size: 1.45rem; line-height: 1.25; white-space: nowrap;
  font-variant-numeric: tabular-nums; letter-spacing: -.02em; }
.tile span { display: block; line-height: 1.35; }
/* A shadow at the right tells that a table goes on there, until its end lies over it. */
.scroll { overflow-x: auto; background: linear-gradient(to left, var(--card) 1rem, transparent) right / 2rem 100% local,
  linear-gradient(to left, color-mix(in srgb, var(--ink) 25%, transparent), transparent) right / .7rem 100%;
  background-repeat: no-repeat; }
.card.scroll { background-color: var(--card); }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--quiet); font-weight: 600; }
td.number, th.number { text-align: right; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .75rem;
  margin-top: .75rem; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); gap: .75rem;
  margin-top: .75rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .4rem; border: 1px solid var(--line); border-radius: 8px;
  padding: .5rem; }
.pair .joint { grid-column: 1 / -1; }
figure { margin: 0; min-width: 0; }
figure img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #000; border-radius: 6px; display: block; }
figcaption { font-size: .76rem; line-height: 1.35; margin-top: .3rem; color: var(--quiet); overflow-wrap: anywhere; }
figcaption b { color: var(--ink); font-weight: 600; }
details > summary { cursor: pointer; color: var(--accent); margin-top: .6rem; }
nav ul { list-style: none; padding: 0; margin: 0; }
nav li { padding: .3rem 0; border-bottom: 1px solid var(--line); }
nav li:last-child { border-bottom: 0; }
nav a { text-decoration: none; color: var(--ink); display: grid; grid-template-columns: 5rem 1fr; gap: .75rem;
  align-items: start; }
nav .badge { text-align: center; padding-inline: .2rem; }
nav a:hover { text-decoration: underline; }
:target { scroll-margin-top: 1rem; }
footer { padding-top: 1.5rem; padding-bottom: 2.5rem; color: var(--quiet); font-size: .85rem; }
@media (max-width: 34rem) {
  header.top { padding-top: 1.25rem; }
  h1 { font-size: 1.4rem; }
  .card { padding: .9rem; }
  nav a { grid-template-columns: 1fr; gap: .25rem; }
  nav .badge { justify-self: start; padding-inline: .65rem; }
}
@media print { body { background: #fff; } .card { break-inside: avoid; } }
"""
