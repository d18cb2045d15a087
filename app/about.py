"""The About tab: the checkpoint's own card, with its figures inside."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from ct_xception.checkpoint import CARD
from ct_xception.errors import CheckpointError
from ct_xception.serving.checkpoint import fetch_card
from ct_xception.serving.classifier import Classifier

MAX_FIGURE = 2**20  # bytes; a card's figures have a tenth of that
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_FIGURE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<path>[\w./-]+\.png)\)")
_HEADING = re.compile(r"#{1,5} ")
_FILE_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?!https?:|#|data:)[^)]*\)")

NO_CARD = """## No card

This checkpoint comes without a model card, so nothing is known here of its figures, its limits or the corpus that it
was trained on. Take its answers as those of an unknown.
"""


def card_text(classifier: Classifier) -> str:
    """The card as Markdown: without its front matter, its figures as data URIs, links to its files as plain text.

    Where the checkpoint has no card, a sentence that says so.
    """
    if classifier.checkpoint is None:
        return NO_CARD
    try:
        folder = fetch_card(classifier.checkpoint)
    except CheckpointError:  # the page answers without it
        folder = classifier.checkpoint.folder
    if not (folder / CARD).is_file():
        return NO_CARD
    text = _FRONT_MATTER.sub("", (folder / CARD).read_text(encoding="utf-8", errors="replace"))
    text = _FIGURE.sub(lambda match: _inline(folder, match), text)
    return _FILE_LINK.sub(r"\g<text>", _demote(text))


def _demote(text: str) -> str:
    """Headings one level down, as the page has its own title; lines of code are left alone."""
    lines, in_code = [], False
    for line in text.splitlines():
        in_code ^= line.startswith("```")
        lines.append(line if in_code or not _HEADING.match(line) else f"#{line}")
    return "\n".join(lines)


def _inline(folder: Path, match: re.Match[str]) -> str:
    """A figure of the checkpoint as a data URI; its description alone where the file is not there, or not its own."""
    named = Path(match["path"])
    path = folder / named
    elsewhere = named.is_absolute() or ".." in named.parts
    if elsewhere or not path.is_file() or path.stat().st_size > MAX_FIGURE:
        return f"*{match['alt']}*"
    return f"![{match['alt']}](data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()})"
