"""What is known of the items beside their labels: what a survey of their files tells, and what they are like.

known = know_items(evaluation)
traits = known.traits(items.sources)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.audit.survey import survey_corpus
from ct_xception.corpus.labels import SPLITS
from ct_xception.evaluation.baselines import nearest_neighbours
from ct_xception.evaluation.report.error_cases import Neighbour
from ct_xception.evaluation.report.subgroups import Trait, likeness_trait, published_traits, survey_traits
from ct_xception.html import image_uri
from ct_xception.imaging.modality import CT

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.audit.survey import Survey
    from ct_xception.evaluation.evaluation import Evaluation


@dataclass(frozen=True, eq=False)
class Neighbours:
    """For M items the survey's row of the most alike training image, and the correlation of the body crops."""

    rows: NDArray[np.intp]
    likeness: NDArray[np.float32]

    def select(self, kept: NDArray[np.intp]) -> Neighbours:
        """Those of the items `kept`."""
        return Neighbours(self.rows[kept], self.likeness[kept])

    def echoed(self, survey: Survey, labels: NDArray[np.intp], predicted: NDArray[np.intp]) -> int:
        """Mistakes that name the class of the most alike training image."""
        return int(((predicted != labels) & (survey.labels[self.rows] == predicted)).sum())

    def shown(self, survey: Survey, place: int) -> Neighbour:
        """That of item `place`, as a page shows it."""
        row = int(self.rows[place])
        label = survey.label_names[survey.labels[row]]
        return Neighbour(survey.sources[row], label, float(self.likeness[place]), image_uri(survey.aligned[row]))


@dataclass(frozen=True, eq=False)
class Known:
    """The survey of all items; of the M evaluated ones those of training most alike, None without a training split.

    `has_twin` (M,) marks those with a twin in training or validation, None where that was not looked for.
    """

    survey: Survey
    neighbours: Neighbours | None
    has_twin: NDArray[np.bool_] | None

    def rows(self, sources: Iterable[str]) -> NDArray[np.intp]:
        """The survey's rows of these sources, in their order; one that it does not know is an error of the caller's."""
        return _rows(self.survey, sources)

    def traits(self, sources: Sequence[str]) -> list[Trait]:
        """What parts any items of the corpus."""
        return survey_traits(self.survey, self.rows(sources)) if len(sources) else []

    def own_traits(self, sources: Sequence[str]) -> list[Trait]:
        """What parts the M evaluated items, `sources`: how alike training they are, too."""
        found = [likeness_trait(self.neighbours.likeness)] if self.neighbours else []
        if self.has_twin is not None:
            twins = ["yes" if twin else "no" for twin in self.has_twin]
            found.append(Trait("twin in training or validation", twins, ("yes", "no")))
        return [*found, *self.traits(sources)]

    def published(self, sources: Sequence[str], *, own: bool = True) -> dict[str, list[str]]:
        """`Part.traits` of the evaluated items, or of any others."""
        return published_traits(self.own_traits(sources) if own else self.traits(sources))


def know_items(given: Evaluation) -> Known:
    """What is known of the items of an evaluation, by its survey; one is made where there is none."""
    survey = _survey(given) if given.survey is None else given.survey
    sources = given.dataset.select_columns(["source"])[:]["source"]
    neighbours = _neighbours(survey, given.splits, sources, given.split_name)
    return Known(survey, neighbours, given.protocols.has_twin)


def _survey(given: Evaluation) -> Survey:
    from datasets import DatasetDict

    # A corpus taken whole is no split, and a survey passes over what is none.
    named = {name if name in SPLITS else "test": part for name, part in given.splits.items()}
    more: dict[str, Any] = {"modality": given.modality or CT, "progress": given.progress}
    return survey_corpus(DatasetDict(named), window=given.window, frame=given.frame, **more)


def _rows(survey: Survey, sources: Iterable[str]) -> NDArray[np.intp]:
    place = {source: row for row, source in enumerate(survey.sources)}
    return np.array([place[source] for source in sources], dtype=np.intp)


def _neighbours(
    survey: Survey, splits: Mapping[str, Dataset], sources: Sequence[str], split_name: str
) -> Neighbours | None:
    """The most alike images of train, or None where there is no train to be like."""
    if split_name == "train" or "train" not in splits:
        return None
    train = _rows(survey, splits["train"].select_columns(["source"])[:]["source"])
    train = train[survey.readable[train]]
    if not train.size:
        return None
    places, likeness = nearest_neighbours(survey.aligned, train, _rows(survey, sources))
    return Neighbours(train[places], likeness)
