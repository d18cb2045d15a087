"""Which slices of a pool to label next, for a checkpoint: as rows, as a table, and as a section of the audit's page.

chosen = choose_slices(classifier, waiting, 40, most_each=2)
chosen.write(folder); chosen.section()
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.errors import InputError, SliceError, printable
from ct_xception.evaluation.shift.site_slices import SiteSlices, Waiting, look_at
from ct_xception.files import write_atomically
from ct_xception.html import image_uri, render_page, render_part
from ct_xception.statistics.acquisition import choose_next
from ct_xception.text import RESEARCH_USE, percent, shorten

if TYPE_CHECKING:
    from ct_xception.imaging.windows import Window
    from ct_xception.serving.classifier import Classifier

TABLE = "next.csv"
COLUMNS = ("rank", "source", "patient", "answer", "probability", "uncertainty", "novelty", "gate")
THUMBNAIL, CAPTION = 220, 44
TEMPLATE = Path(__file__).parents[1] / "next_labels.html"
PAGE = """<header class="top">
  <p class="quiet small">CT-Xception · slices without labels</p>
  <h1>{{ name }}</h1>
</header>
<main>{{ section | safe }}</main>
<footer><p>The images are the corpus's own and may not be published. {{ research_use }}</p></footer>
"""


@dataclass(frozen=True, eq=False)
class NextLabels:
    """The slices to label next, a row of COLUMNS each and its thumbnail's `uri`, and what they were chosen among."""

    rows: tuple[dict[str, Any], ...]
    checkpoint: str
    looked: int
    units: int
    patients_known: bool
    most_each: int
    notes: tuple[str, ...]

    @property
    def noun(self) -> str:
        """What no more than `most_each` slices are taken of."""
        return "patients" if self.patients_known else "groups of look-alikes"

    def table(self) -> str:
        """As CSV. A cell that a spreadsheet would take for a formula begins with an apostrophe."""
        stream = io.StringIO()
        writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in self.rows)
        return stream.getvalue()

    def section(self) -> str:
        """As a section of a page, with thumbnails."""
        told = {"chosen": self.rows, "looked": self.looked, "units": self.units, "noun": self.noun, "table": TABLE}
        more = {"checkpoint": self.checkpoint, "most_each": self.most_each, "notes": self.notes}
        return render_part(TEMPLATE.read_text("utf-8"), **told, **more)

    def write(self, folder: Path) -> None:
        """Write the table into a folder, which is made where it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / TABLE, self.table())

    def page(self, name: str) -> str:
        """The section as a page of its own, where there are no labels and so no audit."""
        return render_page(
            f"To label next in {name}", PAGE, name=name, section=self.section(), research_use=RESEARCH_USE
        )

    def lines(self) -> list[str]:
        """For the terminal: a line a slice."""
        width = max((len(str(row["source"])) for row in self.rows), default=0)
        head = f"to label next, {len(self.rows):,} of {self.looked:,} slices of {self.units:,} {self.noun}:"
        return [head] + [
            f"  {row['rank']:>3}  {row['source']:<{min(width, 60)}}  {row['answer']} {percent(row['probability'])}, "
            f"uncertainty {row['uncertainty']:.2f}, new {row['novelty']:.2f}"
            for row in self.rows
        ]


def _cell(value: object) -> object:
    text = value if isinstance(value, str) else ""
    return f"'{value}" if text.startswith(("=", "+", "-", "@")) else value


def choose_slices(
    classifier: Classifier,
    waiting: Sequence[Waiting],
    count: int,
    *,
    most_each: int = 1,
    window: Window | None = None,
    batch_size: int = 16,
    progress: str | None = None,
) -> NextLabels:
    """At most `count` slices to label next, `most_each` of a patient; labels are not looked at.

    What the input gate refuses whatever the network sees in it (another modality, no body, colour) is left out; a slice
    that is merely far from training is just what to label. Where patients are not known, look-alikes stand for them.
    Raises InputError where nothing is left.
    """
    slices = look_at(classifier, waiting, window=window, batch_size=batch_size, progress=progress)
    notes = [f"{len(slices.unreadable):,} slices cannot be read, and are left out"] if slices.unreadable else []
    if gone := int(slices.foreign.sum()):
        notes.append(f"{gone:,} slices are left out: they show no body, are of another modality or coloured")
    notes += [slices.window_hint] if slices.window_hint is not None else []
    kept = slices.select(~slices.foreign)
    if not len(kept):
        raise InputError(
            f"none of {len(slices):,} slices is one such as {classifier.name} was trained on: in all, no body stands "
            "out, or they are of another modality or coloured; look at one with ct-xception predict."
        )
    units = kept.units
    scores = kept.probabilities(classifier.decisions.output_temperature)
    chosen = choose_next(kept.seen.features, scores, units, count, most_each=most_each)
    reading = {one.name: one for one in waiting}
    rows = []
    for rank, one in enumerate(chosen, 1):
        row = _row(kept, one.row, scores, classifier.label_names, units)
        uri = _thumbnail(reading[row["source"]], classifier, window)
        told = {"rank": rank, "uncertainty": one.uncertainty, "novelty": one.novelty, "uri": uri}
        rows.append(row | told | {"name": shorten(printable(row["source"]).rsplit("/", 1)[-1], CAPTION)})
    known = kept.patients_known
    return NextLabels(tuple(rows), classifier.name, len(kept), len(set(units)), known, most_each, tuple(notes))


def _row(
    slices: SiteSlices, row: int, scores: np.ndarray, label_names: Sequence[str], units: Sequence[str]
) -> dict[str, Any]:
    best = int(scores[row].argmax())
    return {
        "source": slices.names[row],
        "patient": units[row].partition("\0")[0],
        "answer": label_names[best],
        "probability": round(float(scores[row, best]), 4),
        "gate": slices.verdicts[row] or "",
    }


def _thumbnail(one: Waiting, classifier: Classifier, window: Window | None) -> str:
    """Read again, since a pool's pixels are not all kept; a file that is gone meanwhile is shown black."""
    try:
        return image_uri(one.read(classifier, window).pixels, THUMBNAIL)
    except (SliceError, OSError):
        return image_uri(np.zeros((8, 8), np.uint8))
