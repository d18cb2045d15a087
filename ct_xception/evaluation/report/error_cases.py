"""Single answers worth looking at: the surest mistakes and the least certain hits, with the evidence drawn on them.

Each is shown with its heat map, drawn as anywhere: for a mistake, that of the class it named and that of the class
it should have named. Beside it stands the training image that looks most alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.evaluation.answers import read_rows
from ct_xception.explain.explain import explain
from ct_xception.explain.overlay import draw_overlay
from ct_xception.html import image_uri
from ct_xception.text import describe_window

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.imaging.windows import Window
    from ct_xception.serving.classifier import Classifier

MISTAKES_SHOWN, HITS_SHOWN = 12, 6
PICTURE_WIDTH = 340  # pixels: sharp at the width that a page gives it


@dataclass(frozen=True)
class Neighbour:
    """The training image most alike: its name, its class, the correlation of the two body crops, its picture."""

    source: str
    label: str
    likeness: float
    picture: str


@dataclass(frozen=True)
class Chosen:
    """A row of the answers, and how many more rows are the same file."""

    row: int
    copies: int = 0


@dataclass(frozen=True)
class Case:
    """One answer as the page shows it: `ranked` (class, probability), `pictures` (caption, data URI)."""

    source: str
    label: str
    predicted: str
    ranked: tuple[tuple[str, float], ...]
    pictures: tuple[tuple[str, str], ...]
    copies: int
    neighbour: Neighbour | None
    window: str

    @property
    def right(self) -> bool:
        """Whether the answer is the true class."""
        return self.label == self.predicted


def surest_mistakes(
    probabilities: NDArray[np.float64], labels: NDArray[np.intp], files: Sequence[str], count: int = MISTAKES_SHOWN
) -> list[Chosen]:
    """Wrong answers of probabilities (N, K), the surest first; rows with the same entry in `files` (N,) once."""
    wrong = probabilities.argmax(axis=1) != labels
    return _distinct(np.argsort(-probabilities.max(axis=1), kind="stable"), wrong, files, count)


def least_certain_hits(
    probabilities: NDArray[np.float64], labels: NDArray[np.intp], files: Sequence[str], count: int = HITS_SHOWN
) -> list[Chosen]:
    """Right answers, the least certain first; rows with the same entry in `files` (N,) once."""
    right = probabilities.argmax(axis=1) == labels
    return _distinct(np.argsort(probabilities.max(axis=1), kind="stable"), right, files, count)


def _distinct(order: NDArray, wanted: NDArray[np.bool_], files: Sequence[str], count: int) -> list[Chosen]:
    """The first `count` of the wanted rows in this order; an empty entry in `files` is like no other."""
    rows = [int(row) for row in order if wanted[row]]
    first: dict[str, int] = {}
    copies: dict[int, int] = {}
    for row in rows:
        kept = first.setdefault(files[row] or f"row {row}", row)
        copies[kept] = copies.get(kept, -1) + 1
    return [Chosen(row, more) for row, more in copies.items()][:count]


def draw_cases(
    classifier: Classifier,
    dataset: Dataset,
    chosen: Iterable[Chosen],
    probabilities: NDArray[np.float64],
    neighbours: Mapping[int, Neighbour],
    *,
    window: Window | None = None,
    frame: int | None = None,
) -> Iterator[Case]:
    """The chosen rows of a split, read and explained one by one by the classifier that answered them.

    `probabilities` (N, K) are the answers to all of the split. A file that can no longer be read is left out.
    """
    names, cases = classifier.label_names, {one.row: one for one in chosen}
    for row, item, slice_ in read_rows(classifier, dataset, list(cases), window=window, frame=frame):
        one, answer = cases[row], probabilities[row]
        best, true = int(answer.argmax()), int(item["label"])
        yield Case(
            source=str(item["source"]),
            label=names[true],
            predicted=names[best],
            ranked=tuple((names[k], float(answer[k])) for k in np.argsort(-answer, kind="stable")),
            pictures=tuple(_pictures(classifier, slice_, [best] if best == true else [best, true])),
            copies=one.copies,
            neighbour=neighbours.get(one.row),
            window=describe_window(slice_.window, slice_.bit_depth, slice_.is_hu),
        )


def _pictures(classifier: Any, slice_: Any, targets: Sequence[int]) -> Iterator[tuple[str, str]]:
    """The slice, and the evidence for each target on it."""
    yield "the slice", image_uri(slice_.pixels, PICTURE_WIDTH)
    for target in targets:
        explanation = explain(classifier, slice_, classifier.label_names[target])
        said = "evidence for" if explanation.attribution.strength > 0 else "nothing speaks for"
        yield f"{said} {explanation.attribution.label}", image_uri(draw_overlay(explanation), PICTURE_WIDTH)
