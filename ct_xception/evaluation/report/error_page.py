"""Where the network errs, as one page that opens offline: its surest mistakes, its least certain hits, and by whom,
by window, by size, by scanner.

    write_error_page(evaluation, classifier, answers, know_items(evaluation), metrics.subgroups)

leaves errors.html in the run folder. It shows pictures of the corpus and names of files: it never goes into a published
checkpoint, unless the corpus is the phantom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ct_xception.checkpoint import ERRORS, LABELS_AT_ODDS, WEIGHTS
from ct_xception.checkpoint_files import Metric
from ct_xception.errors import InputError
from ct_xception.evaluation.answers import PREDICTOR, Answers, Items
from ct_xception.evaluation.evaluation import Evaluation
from ct_xception.evaluation.labels_at_odds import (
    AtOdds,
    Held,
    LabelsAtOdds,
    find_labels_at_odds,
    write_labels_at_odds,
)
from ct_xception.evaluation.patients import PATIENT, knows_patients
from ct_xception.evaluation.protocols import GROUPED, TITLES
from ct_xception.evaluation.report.error_cases import Case, draw_cases, least_certain_hits, surest_mistakes
from ct_xception.evaluation.report.item_traits import Known, Neighbours
from ct_xception.evaluation.report.plots import MOST_CONFUSED
from ct_xception.evaluation.report.subgroups import (
    LEAST_ITEMS,
    Patient,
    Subgroup,
    Trait,
    confusions_of,
    describe_subgroups,
    subgroup_figures,
    worst_groups,
)
from ct_xception.files import sha256_file, write_atomically
from ct_xception.html import image_uri, render_page
from ct_xception.metrics import SubgroupMetrics
from ct_xception.statistics.intervals import group_indices, proportion_figure
from ct_xception.statistics.metrics import confusion_matrix
from ct_xception.text import RESEARCH_USE

if TYPE_CHECKING:
    from ct_xception.audit.survey import Survey
    from ct_xception.serving.classifier import Classifier

LABELS_SHOWN = 24  # of those at odds
SURE = 0.9  # probability from which a mistake is called sure
_TITLES = TITLES | {
    "published": "the test split as the corpus was published",
    "made": "a test split that was set aside before training",
    "unstated": "a split whose origin is not stated",
}


@dataclass(frozen=True, eq=False)
class _Section:
    """One protocol's answers, parted.

    `recalls` {figure} by class, `traits` (name, note, subgroups), `alike` (name, the one value that all items have),
    `worst` a sentence on the subgroup furthest below the rest.
    """

    protocol: str
    title: str
    n: int
    n_groups: int
    accuracy: Metric
    matrix: list[list[int]]
    confusions: tuple[tuple[str, str, int], ...]
    sure: int
    recalls: list[Metric]
    traits: list[tuple[str, str, list[Subgroup]]]
    alike: list[tuple[str, str]]
    patients: list[Patient]
    refused: dict[str, str]
    worst: str = ""

    @property
    def mistakes(self) -> int:
        """Wrong answers."""
        return sum(count for *_, count in self.confusions)

    @property
    def low(self) -> list[tuple[str, Subgroup]]:
        """(trait, subgroup) of those whose whole interval lies below the accuracy of all."""
        return [(name, row) for name, _, rows in self.traits for row in rows if row.low]

    @property
    def compared(self) -> int:
        """How many subgroups there are."""
        return sum(len(rows) for *_, rows in self.traits)


@dataclass(frozen=True, eq=False)
class _AtOdds:
    """The labels at odds, and the first of them with their pictures, as data URIs."""

    all: LabelsAtOdds
    shown: tuple[tuple[AtOdds, str | None], ...]


def write_error_page(
    evaluation: Evaluation,
    classifier: Classifier,
    answers: Answers,
    known: Known,
    subgroups: Mapping[str, SubgroupMetrics] | None = None,
) -> Path:
    """Write errors.html of the predictor's `answers` to the evaluated split, and say where it is.

    `known` is of the evaluation, and `subgroups` of its metrics. Raises InputError when answers and split do not fit.
    """
    given, folder = evaluation, evaluation.outputs.errors or evaluation.folder
    names, items, protocols = given.label_names, Items.of(given.dataset), given.protocols
    _check(answers, items, names)
    kept = np.flatnonzero(answers.answered)
    survey, neighbours = known.survey, None if known.neighbours is None else known.neighbours.select(kept)
    split, told = given.split or {}, describe_subgroups(subgroups or {}, knows_patients(given.corpus))
    own = [trait.select(kept) for trait in known.own_traits(items.sources)]
    sections = [_section(split.get("protocol", "unstated"), items, answers, names, own, told)]
    if protocols.out_of_fold is not None:
        part = protocols.out_of_fold.part
        found = part.paths[PREDICTOR]
        traits = known.traits(part.items.select(found.answered).sources)
        sections.append(_section(GROUPED, part.items, found, names, traits, told))
    cases = _draw(given, classifier, answers, items, survey, neighbours)
    truth, predicted = items.labels[kept], answers.probabilities[kept].argmax(axis=1)
    echoed = neighbours.echoed(survey, truth, predicted) if neighbours else None
    at_odds = _labels_at_odds(protocols.held, names, known, folder)
    stamp = f"weights {sha256_file(given.checkpoint / WEIGHTS)[:16]}, split {split.get('name') or 'unnamed'}"
    unit = PATIENT if knows_patients(given.corpus) else "group"
    page = _render(folder.resolve().name, names, sections, cases, echoed, at_odds, stamp, unit)
    write_atomically(folder / ERRORS, page)
    return folder / ERRORS


def _labels_at_odds(held: Held | None, names: Sequence[str], known: Known, folder: Path) -> _AtOdds | None:
    """The labels at odds with answers out of fold, written as JSON too; None where there are no such answers."""
    (folder / LABELS_AT_ODDS).unlink(missing_ok=True)
    if held is None:
        return None
    found = find_labels_at_odds(held, names)
    write_labels_at_odds(folder, found)
    shown = found.found[:LABELS_SHOWN]
    seen = set(known.survey.sources)
    sources = [one.source for one in shown if one.source in seen]
    pictures = {
        source: image_uri(known.survey.aligned[row]) for source, row in zip(sources, known.rows(sources), strict=True)
    }
    return _AtOdds(found, tuple((one, pictures.get(one.source)) for one in shown))


def _check(answers: Answers, items: Items, names: Sequence[str]) -> None:
    wanted = (len(items.sources), len(names))
    if answers.probabilities.shape != wanted:
        raise InputError(
            f"The error page needs the answers {wanted} to this very split, got {answers.probabilities.shape}; "
            "evaluate it again."
        )


def _section(
    protocol: str,
    items: Items,
    answers: Answers,
    names: Sequence[str],
    traits: Sequence[Trait],
    told: Mapping[str, str],
) -> _Section:
    """One protocol's answers to its items, by the `traits` of those answered; `told` {protocol: its worst subgroup}."""
    known = items.select(answers.answered)
    scores = answers.probabilities[answers.answered]
    predicted = scores.argmax(axis=1) if len(scores) else np.empty(0, np.intp)
    wrong, group = predicted != known.labels, group_indices(known.groups, len(scores))
    parted = [trait for trait in traits if len(set(trait.values)) > 1]
    return _Section(
        protocol=protocol,
        title=_TITLES.get(protocol, protocol),
        n=len(known.sources),
        n_groups=len(set(known.groups)),
        accuracy=proportion_figure(~wrong, group, "no file was read"),
        matrix=confusion_matrix(known.labels, predicted, len(names)).tolist() if len(names) <= MOST_CONFUSED else [],
        confusions=confusions_of(known.labels[wrong], predicted[wrong], names),
        sure=int((wrong & (scores.max(axis=1, initial=0) >= SURE)).sum()),
        recalls=[
            proportion_figure(~wrong[own], group[own], "no image of this class")
            for own in (known.labels == k for k in range(len(names)))
        ],
        traits=[
            (trait.name, trait.note, subgroup_figures(trait, known.labels, predicted, names, known.groups))
            for trait in parted
        ],
        alike=[(trait.name, trait.values[0]) for trait in traits if len(set(trait.values)) == 1],
        patients=worst_groups(known.labels, predicted, names, known.groups),
        refused={source: reason.removeprefix(f"{source}: ") for source, reason in answers.refused.items()},
        worst=told.get(protocol, ""),
    )


def _draw(
    given: Evaluation,
    classifier: Classifier,
    answers: Answers,
    items: Items,
    survey: Survey,
    neighbours: Neighbours | None,
) -> list[Case]:
    """The chosen answers, read and explained: mistakes, then hits."""
    kept = np.flatnonzero(answers.answered)
    if not kept.size:
        return []
    files = dict(zip(survey.sources, survey.byte_hash, strict=True))
    hashes = [files.get(items.sources[row], "") for row in kept]
    scores, labels = answers.probabilities[kept], items.labels[kept]
    chosen = [*surest_mistakes(scores, labels, hashes), *least_certain_hits(scores, labels, hashes)]
    beside = {int(kept[one.row]): neighbours.shown(survey, one.row) for one in chosen} if neighbours else {}
    placed = [type(one)(int(kept[one.row]), one.copies) for one in chosen]
    drawn = draw_cases(
        classifier, given.dataset, placed, answers.probabilities, beside, window=given.window, frame=given.frame
    )
    return list(tqdm(drawn, "errors", len(placed), unit="image", dynamic_ncols=True, disable=not given.progress))


def _render(
    run: str,
    names: Sequence[str],
    sections: Sequence[_Section],
    cases: Sequence[Case],
    echoed: int | None,
    at_odds: _AtOdds | None,
    stamp: str,
    unit: str,
) -> str:
    own = sections[0]
    return render_page(
        "Where the network errs",
        Path(__file__).with_name(ERRORS).read_text(encoding="utf-8"),
        run=run,
        names=list(names),
        own=own,
        sections=list(sections),
        mistakes=[case for case in cases if not case.right],
        hits=[case for case in cases if case.right],
        unit=unit,
        echoed=echoed,
        at_odds=at_odds,
        least=LEAST_ITEMS,
        stamp=stamp,
        surely=f"{100 * SURE:.0f} %",
        research_use=RESEARCH_USE,
    )
