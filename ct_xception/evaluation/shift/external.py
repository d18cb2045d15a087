"""Other corpora, whole, as tests of a network that never saw them: which images, which question, what was left out.

    plan = plan_external("clinic", corpus, question, learnt)      what of it may be asked: the main process's work
    external = External.of(plan, corpus)

An external corpus is one of its own, with its own patients and perhaps its own classes. Images that the network's own
corpus holds too are no evidence from elsewhere, so they are left out and counted, as are classes that no question of
the network is about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import concatenate_datasets

from ct_xception.audit.drift import Drift, Sample, compare_corpora, sample_of
from ct_xception.audit.overlap import SplitCorpus, find_shared, is_counted
from ct_xception.audit.survey import survey_corpus
from ct_xception.audit.twins.twins import find_twins
from ct_xception.corpus.external_options import prefix_of, told_of
from ct_xception.corpus.load import Corpus, load_corpus, public_report
from ct_xception.corpus.split import PSEUDO_PATIENTS
from ct_xception.errors import InputError
from ct_xception.evaluation.answers import (
    AnswerBatch,
    Answers,
    Items,
    Share,
    answer_share,
)
from ct_xception.evaluation.protocols import Part
from ct_xception.evaluation.shift.questions import Question, match_question

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.corpus.listing import CorpusOptions
    from ct_xception.imaging.windows import Window


@dataclass(frozen=True, eq=False)
class Plan:
    """What of an external corpus is asked: sources by the name of their patient, and the record of it all.

    `groups` {source: patient} of the images that are asked, in their order; `record` is what metrics.json says.
    """

    groups: Mapping[str, str]
    question: Question
    record: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class External:
    """An external corpus as it is asked: `dataset` holds what is asked, `items` their labels as alternatives.

    `window` and `frame` are those that its slices are read with.
    """

    name: str
    dataset: Dataset
    items: Items
    question: Question
    record: Mapping[str, Any]
    window: Window | None = None
    frame: int | None = None

    @classmethod
    def of(cls, name: str, plan: Plan, corpus: Corpus, options: CorpusOptions) -> External:
        """The images of a plan, from the corpus that it is of; `options` are those of the own one."""
        whole = whole_of(corpus)
        names, alternatives = corpus.label_names, list(plan.question.alternatives)
        rows = [row for row, source in enumerate(whole["source"]) if source in plan.groups]
        asked = whole.select(rows)
        labels = [alternatives.index(plan.question.answers[names[label]]) for label in asked["label"]]
        sources = list(asked["source"])
        series = list(asked["series"]) if "series" in asked.column_names else []
        items = Items(np.asarray(labels, np.intp), [plan.groups[source] for source in sources], sources, series)
        own = options.for_external(name)
        return cls(name, asked, items, plan.question, plan.record, own.window, own.frame)

    def ask(
        self,
        answerers: Mapping[str, AnswerBatch],
        label_names: Sequence[str],
        share: Share,
        *,
        batch_size: int,
        progress: bool,
    ) -> Part:
        """What each path answers to its images, as answers to the question; each process has asked its share."""
        paths = {}
        for path, answer in answerers.items():
            title = f"{self.name}, {path.replace('_', ' ')}" if progress else None
            found: Answers = answer_share(
                self.dataset, answer, share, label_names=label_names, batch_size=batch_size, progress=title
            )
            paths[path] = self.question.collapse_answers(found, label_names)
        return Part(self.items, paths)


def whole_of(corpus: Corpus) -> Dataset:
    """All images of a corpus, whatever its splits, in their order."""
    return concatenate_datasets(list(corpus.dataset.values()))


def load_external(name: str, source: str, options: CorpusOptions) -> Corpus:
    """Load an external corpus; `options` are those of the own one. Raises InputError or CorpusError, naming which."""
    with told_of(f"--external {name}", prefix_of(name)):
        return load_corpus(source, options.for_external(name))


def plan_external(
    name: str,
    corpus: Corpus,
    label_names: Sequence[str],
    *,
    class_groups: Mapping[str, Sequence[str]] | None,
    class_map: Mapping[str, str],
    learnt: Sequence[SplitCorpus] | None,
    options: CorpusOptions,
    progress: bool = True,
) -> Plan:
    """Which images may be asked which question, and what is left out.

    `learnt` are the network's own corpora with their splits, None where there is nothing to compare with. Raises
    InputError where nothing is left to ask.
    """
    # "NAME/label" entries are settled by the load; of the others those count that are labels here.
    general = {key: one for key, one in class_map.items() if key in corpus.label_names}
    question = match_question(corpus.label_names, label_names, class_groups, general, name=name)
    whole = whole_of(corpus).select_columns(["source", "label", "group"])[:]
    label_of = {
        source: corpus.label_names[label] for source, label in zip(whole["source"], whole["label"], strict=True)
    }
    _refuse_own(name, corpus, learnt)
    named = dict(zip(whole["source"], whole["group"], strict=True))
    shared, patients, origin = _compare(name, corpus, named, learnt, options, progress)
    left = {} if shared is None else shared.left_out
    asked = [source for source, label in label_of.items() if label in question.answers and source not in left]
    if not asked:
        raise InputError(
            f"--external {name}: nothing is left to ask: {len(left):,} of its {len(label_of):,} images are in the "
            "network's own corpus, too, or of its patients; name a corpus of another source."
        )
    record = _record(corpus, question, Counter(label_of.values()), Counter(label_of[one] for one in asked), origin)
    record |= {"n": len(asked), "n_groups": len({patients[one] for one in asked})}
    record |= {"overlap": None if shared is None else shared.counts}
    if (window := options.for_external(name).window) is not None:
        record["window"] = str(window)
    if shared is not None:
        record["drift"] = shared.drift.summary().to_json()
    return Plan({source: patients[source] for source in asked}, question, record)


def _refuse_own(name: str, corpus: Corpus, learnt: Sequence[SplitCorpus] | None) -> None:
    if any(one.corpus.get("hash") == corpus.report["hash"] for one in learnt or ()):
        raise InputError(
            f"--external {name}: this is the very corpus that the network was trained on; name another one."
        )


def _record(
    corpus: Corpus, question: Question, found: Mapping[str, int], asked: Mapping[str, int], origin: str | None
) -> dict[str, Any]:
    """What metrics.json says of an external corpus, but for its figures."""
    report = public_report(corpus.report)
    return {
        "corpus": {key: report[key] for key in ("source", "kind", "hash")},
        "images": int(sum(found.values())),
        "groups_origin": origin,
        "alternatives": {name: list(members) for name, members in question.alternatives.items()},
        "classes": {
            label: {"images": found[label], "asked": asked.get(label, 0), "as": question.answers.get(label)}
            for label in corpus.label_names
        },
    }


@dataclass(frozen=True)
class Shared:
    """What a corpus shares with those learnt: `left_out` sources, and how many of them why; and how it differs."""

    left_out: frozenset[str]
    counts: Mapping[str, int]
    drift: Drift


def _compare(
    name: str,
    corpus: Corpus,
    named: Mapping[str, str],
    learnt: Sequence[SplitCorpus] | None,
    options: CorpusOptions,
    progress: bool,
) -> tuple[Shared | None, Mapping[str, str], str]:
    """What is shared with the learnt corpora (None where these are not known), patients by source, and whence known."""
    origin = corpus.report["groups"]["origin"]
    if learnt is None and origin is not None:
        return None, named, origin
    theirs = options.for_external(name)
    survey = survey_corpus(
        corpus.dataset, modality=corpus.modality, window=theirs.window, frame=theirs.frame, progress=progress
    )
    if learnt is None:
        alike = find_twins(survey, progress=progress).patients
        return None, dict(zip(survey.sources, alike, strict=True)), PSEUDO_PATIENTS
    reading: dict[str, Any] = {"window": options.window, "frame": options.frame, "progress": progress}
    surveyed = [_surveyed(one, reading, corpus.modality) for one in learnt]
    other = SplitCorpus(corpus.dataset, corpus.report, {}, survey)
    overlap, whole = find_shared(surveyed, other, progress=progress)
    alike = whole[-len(survey) :]
    counted = {source for source in overlap.namesakes if is_counted(named[source])}
    namesakes = set(overlap.namesakes) - counted
    counts = {"exact": len(overlap.exact), "near": len(overlap.near)}
    counts |= {"namesakes": len(namesakes), "counted_alike": len(counted)}
    patients = named if origin else dict(zip(survey.sources, alike, strict=True))
    there = sample_of(name, [survey], [patients[source] for source in survey.sources])
    drift = compare_corpora(_learnt_sample(surveyed, whole), there)
    shared = Shared(frozenset({*overlap.exact, *overlap.near, *namesakes}), counts, drift)
    return shared, patients, origin or PSEUDO_PATIENTS


def _learnt_sample(surveyed: Sequence[SplitCorpus], alike: Sequence[str]) -> Sample:
    """The corpora of training as one, by their own patients, or by look-alikes where one of them knows none."""
    surveys = [one.survey for one in surveyed if one.survey is not None]
    known = all(one.corpus["groups"]["origin"] for one in surveyed)
    own = [f"{number} {group}" for number, survey in enumerate(surveys) for group in survey.groups]
    return sample_of("the corpus of training", surveys, own if known else alike[: len(own)])


def _surveyed(one: SplitCorpus, reading: Mapping[str, Any], modality: str) -> SplitCorpus:
    if one.survey is not None:
        return one
    return replace(one, survey=survey_corpus(one.splits, modality=modality, **reading))


def describe_plan(name: str, plan: Plan) -> str:
    """What will be asked of an external corpus, and what is left out, for the terminal."""
    record, question = plan.record, plan.question
    asked = " or ".join(f"{one}" for one in question.alternatives)
    said = [f"external corpus {name}: {record['n']:,} of {record['images']:,} images, {asked}?"]
    said += [f"  left out: {clause}" for clause in left_out(record["overlap"], record["classes"])]
    if record["overlap"] is None:
        said.append("  what it shares with the corpus of training was not looked for")
    return "\n".join(said)


def patients_word(groups_origin: str | None) -> str:
    """What the groups of an external corpus are: patients, or look-alikes that stand for them."""
    return "pseudo-patients" if str(groups_origin).startswith(PSEUDO_PATIENTS) else "patients"


def left_out(overlap: Mapping[str, int] | None, classes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Why images of an external corpus are not asked, a clause each."""
    overlap, said = overlap or {}, list[str]()
    if seen := overlap.get("exact", 0) + overlap.get("near", 0):
        said.append(f"{seen:,} that are, or look like, images of the network's own corpus")
    if overlap.get("namesakes"):
        said.append(f"{overlap['namesakes']:,} of patients whose identifiers are in the network's own corpus")
    nowhere = [(label, one["images"]) for label, one in classes.items() if one["as"] is None]
    return [*said, *(f"{images:,} of {label}, which the network cannot be asked about" for label, images in nowhere)]
