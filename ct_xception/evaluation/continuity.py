"""Is a network that goes on from another one no worse? Both answer the same tests, the old ones and the new.

A test is passed if the new network is not inferior to the one it began with: the 95 % interval of the difference of
their accuracies (paired bootstrap by group, comparison.py) does not lie below zero, and does not reach below minus a
margin that was stated beforehand (Piaggio et al. 2012, CONSORT for non-inferiority, doi:10.1001/jama.2012.87802). A
test too small to tell is not passed.

    evaluation/continuity.json       what was compared, and what follows
    evaluation/continuity.parquet    both answers to every item, numbers for names
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas
from numpy.typing import NDArray

from ct_xception.audit.overlap import sentences
from ct_xception.checkpoint import CONTINUITY, CONTINUITY_ANSWERS
from ct_xception.checkpoint_files import Count, Share, Stated, Text
from ct_xception.corpus.cells import digest_of
from ct_xception.evaluation.answers import Answers, Items
from ct_xception.files import atomic_path, write_json
from ct_xception.metrics import Comparison
from ct_xception.statistics.comparison import compare
from ct_xception.statistics.intervals import CONFIDENCE, describe_metric, group_indices, wilson_interval

if TYPE_CHECKING:
    from datasets import Dataset
    from pandas import DataFrame

    from ct_xception.audit.overlap import Overlap, SplitCorpus

WITHOUT_TWINS = "new, deduplicated"  # the one trial that is part of another
Verdict = Literal["no worse", "worse", "not shown"]
NO_WORSE: Verdict = "no worse"
WORSE: Verdict = "worse"
NOT_SHOWN: Verdict = "not shown"
_COMPARED = ("n", "n_groups", "first", "second", "difference")
NOTHING = "no item that both answered, and that neither was trained on"


@dataclass(frozen=True, eq=False)
class Trial:
    """A test split, what the new network and the one it began with answered, and the items not to be counted.

    `seen` (N,) marks images that another corpus has in training or validation. `about` is what the record says of the
    test: its split's hash and its corpus.
    """

    title: str
    items: Items
    new: Answers
    start: Answers
    seen: NDArray[np.bool_]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def counted(self) -> NDArray[np.bool_]:
        """The items (N,) that are compared."""
        return self.new.answered & self.start.answered & ~self.seen

    def without(self, mask: NDArray[np.bool_], title: str) -> Trial:
        """The same test without the items where `mask` (N,) is true."""
        kept = self.items.select(~mask)
        answers = [one.select(~mask, kept.sources) for one in (self.new, self.start)]
        return replace(self, title=title, items=kept, new=answers[0], start=answers[1], seen=self.seen[~mask])


def pair_up(
    tests: Sequence[SplitCorpus],
    answers: Sequence[Sequence[Answers]],
    *,
    has_twin: NDArray[np.bool_] | None = None,
    overlaps: Sequence[Overlap] | None = None,
) -> dict[str, Trial]:
    """{name: trial} of the new corpus, the first of `tests`, and of the old ones, with (new, start) answers to each.

    `has_twin` (N,) marks images of the new test that have a twin in their own training split: without them it is a
    trial more. `overlaps` are those of `tests`; without them only files that are the same byte for byte are known.
    """
    trials = {}
    for number, one in enumerate(tests):
        new, start = answers[number]
        about = {"split_hash": one.split.get("name"), "corpus": {"source": one.name, "hash": one.corpus.get("hash")}}
        title = f"the test split of {one.name}" if number else f"the new test split ({one.name})"
        test = one.splits["test"]
        others = (part.splits[name] for part in tests if part is not one for name in ("train", "validation"))
        seen = seen_elsewhere(test, others) if overlaps is None else overlaps[number].mask(test["source"])
        trials[f"old {number}" if number else "new"] = Trial(title, Items.of(test), new, start, seen, about)
    if has_twin is not None and has_twin.any():
        trials[WITHOUT_TWINS] = trials["new"].without(has_twin, "the same without twins in training")
    return trials


def seen_elsewhere(test: Dataset, others: Iterable[Dataset]) -> NDArray[np.bool_]:
    """Which items (N,) of a test are byte for byte in one of the other data sets."""
    known = {digest for other in others for digest in _digests(other)}
    return np.array([digest in known for digest in _digests(test)], dtype=bool)


def _digests(items: Dataset) -> list[str]:
    columns = [name for name in ("image", "frame") if name in items.column_names]
    return [digest_of(item) for item in items.select_columns(columns)]


class LeftOut(Stated):
    """The items of a test that were not compared: `seen` in another corpus's training, or `refused`."""

    seen: Count
    refused: Count


class JudgedTest(Stated):
    """One test: both networks on it, the new one first (None without items), and what follows.

    Beside these the split's hash and the corpus, as `Trial.about` has them.
    """

    title: str
    left_out: LeftOut
    comparison: Comparison | None
    verdict: Verdict


class Judgement(Stated):
    """continuity.json: every test, and whether the new network is no worse on all of them.

    `overlaps` are the summaries of what the corpora share, None where that was not looked for.
    """

    format: Literal[1]
    margin: float
    confidence: Share
    seed: int
    passed: bool
    protocols: dict[Text, JudgedTest]
    weights_sha256: Text | None = None
    overlaps: tuple[dict[str, Any], ...] | None = None

    def summary(self) -> dict[str, Any]:
        """What the side file keeps: without the parts of each comparison that only this file needs."""
        protocols = {name: _summarised(test) for name, test in self.protocols.items()}
        kept = {"margin": self.margin, "confidence": self.confidence, "protocols": protocols}
        return kept | ({} if self.overlaps is None else {"overlaps": list(self.overlaps)})


def _summarised(test: JudgedTest) -> dict[str, Any]:
    stated = test.to_json()
    kept = {key: stated[key] for key in ("title", "left_out", "verdict", "comparison")}
    if test.comparison is not None:
        kept["comparison"] = {key: kept["comparison"][key] for key in _COMPARED}
    return kept


def judge(
    trials: Mapping[str, Trial], label_names: Sequence[str], *, margin: float, seed: int = 0
) -> tuple[Judgement, DataFrame]:
    """Compare the answers to every test; the record, and the answers behind it."""
    tables, protocols = [], dict[str, JudgedTest]()
    for name, trial in trials.items():
        table = _table(name, trial, label_names)
        tables.append(table)
        left_out = LeftOut(seen=int(trial.seen.sum()), refused=int((~trial.counted & ~trial.seen).sum()))
        found, said = judge_table(table, margin=margin, seed=seed)
        about = dict(trial.about)
        protocols[name] = JudgedTest(title=trial.title, **about, left_out=left_out, comparison=found, verdict=said)
    passed = all(test.verdict == NO_WORSE for test in protocols.values())
    told: dict[str, Any] = {"margin": margin, "confidence": CONFIDENCE, "seed": seed, "passed": passed}
    return Judgement(format=1, protocols=protocols, **told), pandas.concat(tables, ignore_index=True)


def _table(name: str, trial: Trial, label_names: Sequence[str]) -> DataFrame:
    """One row an item that counts: protocol, source, group, label, predicted, predicted_before; numbers for names."""
    kept = np.flatnonzero(trial.counted)
    items, classes = trial.items.select(trial.counted), np.asarray(label_names, dtype=object)
    groups: list[int] = group_indices(items.groups, len(kept)).tolist() if len(kept) else []
    return pandas.DataFrame(
        {
            "protocol": [name] * len(kept),
            "source": [f"item {number:06d}" for number in kept],
            "group": [f"group {number:06d}" for number in groups],
            "label": classes[items.labels],
            "predicted": classes[trial.new.probabilities[kept].argmax(axis=1)] if len(kept) else [],
            "predicted_before": classes[trial.start.probabilities[kept].argmax(axis=1)] if len(kept) else [],
        }
    )


def judge_table(table: DataFrame, *, margin: float, seed: int) -> tuple[Comparison | None, Verdict]:
    """The comparison and the verdict of the rows of one protocol: what `judge` says, and a reader can find again."""
    if table.empty:
        return None, NOT_SHOWN
    labels, now, before = (table[column].to_numpy(object) for column in ("label", "predicted", "predicted_before"))
    found = compare(labels, now, before, table["group"].tolist(), seed=seed)
    return found, verdict(found, margin)


def verdict(comparison: Comparison, margin: float) -> Verdict:
    """NO_WORSE, WORSE (the interval of new minus start lies below 0) or NOT_SHOWN (it reaches below -margin).

    A resample holds nothing that no item showed, so few items that all agree would prove too much: beyond the interval,
    so many groups can differ as may have been missed (`missed_by`).
    """
    difference, value = comparison.difference, comparison.difference.value or 0.0
    missed = missed_by(comparison.n_groups)
    ends = [end for end in (difference.low, difference.high) if end is not None]
    low, high = min([*ends, value - missed]), max([*ends, value + missed])
    if high < 0:
        return WORSE
    return NO_WORSE if low >= -margin else NOT_SHOWN


def missed_by(groups: int) -> float:
    """The share of all groups that may differ though none of `groups` does: the upper end of Wilson's interval of 0."""
    return wilson_interval(0.0, groups)[1]


def too_few_to_judge(tests: Sequence[SplitCorpus], margin: float) -> list[str]:
    """A sentence for each test of so few groups that a network just as good would not be shown to be no worse."""
    told = []
    for one in tests:
        items = Items.of(one.splits["test"])
        groups = len(np.unique(group_indices(items.groups, len(items.labels)))) if len(items.labels) else 0
        if groups and missed_by(groups) > margin:
            told.append(
                f"among the {groups:,} groups (patients) of the test split of {one.name} a loss of "
                f"{missed_by(groups):.3f} can go unseen: by --margin {margin:.3f}, only a network that is better by "
                f"{missed_by(groups) - margin:.3f} will be taken for no worse; test more patients, or state another "
                "--margin now"
            )
    return told


def write_judgement(folder: Path, judgement: Judgement, answers: DataFrame) -> None:
    """Write both files into a checkpoint's evaluation folder."""
    with atomic_path(folder / CONTINUITY_ANSWERS) as temporary:
        answers.to_parquet(temporary, index=False)
    write_json(folder / CONTINUITY, judgement.to_json())


def read_judgement(folder: Path) -> Judgement:
    """That of an evaluation folder. Raises OSError, and CheckpointError where it is of another format or form."""
    return Judgement.from_json((folder / CONTINUITY).read_bytes(), CONTINUITY)


def describe_judgement(judgement: Judgement) -> list[str]:
    """The record in lines for the terminal: a test a line, what the corpora share, what follows last."""
    lines = [f"  {test.title}: {_line(test)}" for test in judgement.protocols.values()]
    lines += [f"  {said}" for one in judgement.overlaps or () for said in sentences(one)]
    margin = f"{judgement.margin:.3f}"
    if judgement.passed:
        return [*lines, f"No test got worse (margin {margin}): this is a new version."]
    return [*lines, f"Not every test is shown to be no worse by the margin of {margin}: this is no new version."]


def _line(test: JudgedTest) -> str:
    found = test.comparison
    if found is None:
        return f"{test.verdict}: {NOTHING}"
    change = f"accuracy {found.second.value:.3f} before, {found.first.value:.3f} now"
    difference = f"difference {describe_metric(found.difference)}, {found.n_groups:,} groups"
    seen = test.left_out.seen
    without = f", without {seen:,} that another corpus trains on" if seen else ""
    low, missed = found.difference.low, missed_by(found.n_groups)
    if test.verdict == NOT_SHOWN and (low is None or (found.difference.value or 0.0) - missed < low):
        without += f", among which a loss of {missed:.3f} can go unseen"
    return f"{test.verdict}: {change}, {difference}{without}"


def reason(judgement: Judgement) -> str:
    """Why a network is no new version, as one clause: every test that was not passed."""
    failed = [test for test in judgement.protocols.values() if test.verdict != NO_WORSE]
    told = "; ".join(f"{test.title}: {_line(test)}" for test in failed)
    return f"by a margin of {judgement.margin:.3f} it is not shown to be no worse than the checkpoint before ({told})"
