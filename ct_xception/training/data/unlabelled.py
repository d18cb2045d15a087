"""The corpora of --unlabelled: which of their slices may be learnt from, and what is said of them.

A slice that has a say in no label still shows the network what it will be tested on. So the slices that are copies or
look-alikes of validation or test images, and all those of their patients, are left out, of each fold anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasets import DatasetDict

from ct_xception.audit.overlap import TWIN, SplitCorpus, find_kin
from ct_xception.corpus.load import UNREADABLE, load_corpus, public_report
from ct_xception.errors import CorpusError, InputError, printable
from ct_xception.imaging.source import describe_passed_over
from ct_xception.training.data.cache import CachedSlices, prepare_slices
from ct_xception.training.semi_supervised import KEPT, THRESHOLD

if TYPE_CHECKING:
    from pathlib import Path

    from ct_xception.training.loop import Trained
    from ct_xception.training.options import TrainConfig

Held = Iterable[tuple[int, str]]  # images that are held out: the number of their labelled corpus, and their source


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """The corpora of --unlabelled, each of one split, and of all corpora, the labelled ones first, who shares what.

    `kin` are `find_kin`'s names; `alike` is whether look-alikes were looked for.
    """

    corpora: tuple[SplitCorpus, ...]
    kin: Sequence[Mapping[str, Sequence[str]]] = ()
    alike: bool = True

    def apart_from(self, held: Held) -> Chosen:
        """The slices of patients that share nothing with the images held out. Raises InputError where none is left."""
        labelled = len(self.kin) - len(self.corpora)
        known = {name for number, source in held for name in self.kin[number][source]}
        rows, left = list[list[int]](), Counter[str]()
        for corpus, names in zip(self.corpora, self.kin[labelled:], strict=True):
            columns = corpus.splits["train"].select_columns(["source", "group"])[:]
            shared = [known.intersection(names[source]) for source in columns["source"]]
            patients = {group for group, one in zip(columns["group"], shared, strict=True) if one}
            rows.append([row for row, group in enumerate(columns["group"]) if group not in patients])
            twins = sum(any(name.startswith(TWIN) for name in one) for one in shared)
            left += Counter(twins=twins, patients=len(shared) - len(rows[-1]) - twins)
        if not any(rows):
            raise InputError(
                f"--unlabelled: nothing is left of {left.total():,} images, all of which are in validation or test, or "
                "of patients there; give images of others."
            )
        return Chosen(self, rows, {why: left[why] for why in ("twins", "patients")})


@dataclass(frozen=True, eq=False)
class Chosen:
    """The rows of each corpus that may be learnt from, and how many images were left out as `twins`, or `patients`."""

    unlabelled: Unlabelled
    rows: list[list[int]]
    left_out: dict[str, int]

    @property
    def groups(self) -> int:
        """How many patients they are of."""
        pairs = zip(self.unlabelled.corpora, self.rows, strict=True)
        return sum(len(set(one.splits["train"].select(rows)["group"])) for one, rows in pairs)

    def prepare(self, directory: Path, config: TrainConfig) -> CachedSlices:
        """The slices, decoded once for all folds; those that cannot be read are left out."""
        parts = []
        for one, rows in zip(self.unlabelled.corpora, self.rows, strict=True):
            split = one.splits["train"]
            whole = prepare_slices(split, directory, config.reading, description="reading without labels", strict=False)
            wanted = {split[row]["source"] for row in rows} if len(rows) < len(split) else set(whole.sources)
            parts.append(whole.take([row for row, source in enumerate(whole.sources) if source in wanted]))
        found = CachedSlices.join(part for part in parts if len(part))
        if not len(found):
            raise InputError("--unlabelled: none of its images can be read; look at the files.")
        return found

    def record(self, slices: CachedSlices, trained: Trained, config: TrainConfig) -> dict[str, Any]:
        """What the provenance says (`UnlabelledRecord`)."""
        best = trained.history[trained.best_epoch - 1]
        reports = [one.corpus for one in self.unlabelled.corpora]
        return {
            "corpora": [{key: report.get(key) for key in ("source", "kind", "hash")} for report in reports],
            "images": len(slices),
            "groups": self.groups if all(report["groups"]["origin"] for report in reports) else None,
            "left_out": self.left_out | {"unreadable": self.unreadable(slices)},
            "alike": self.unlabelled.alike,
            "ratio": config.unlabelled_ratio,
            "weight": config.unlabelled_weight,
            "kept": best[KEPT],
            "threshold": trained.history[trained.best_epoch - 2].get(THRESHOLD) if trained.best_epoch > 1 else None,
        }

    def unreadable(self, slices: CachedSlices) -> int:
        """How many images could not be opened, or decoded."""
        opened = sum(one.corpus["passed_over"].get(UNREADABLE, 0) for one in self.unlabelled.corpora)
        return opened + sum(map(len, self.rows)) - len(slices)

    def describe(self, slices: CachedSlices) -> str:
        """What is learnt from without labels and what is left out, for the terminal."""
        names = ", ".join(printable(one.name) for one in self.unlabelled.corpora)
        lines = [f"without labels: {len(slices):,} images of {self.groups:,} groups ({names}); no label is looked at"]
        clauses = {
            "that are, or look like, images of validation or test"
            if self.unlabelled.alike
            else "whose files are those of validation or test images (look-alikes were not looked for)": "twins",
            "more of patients of validation or test": "patients",
        }
        lines += [f"  left out: {self.left_out[key]:,} {said}" for said, key in clauses.items() if self.left_out[key]]
        if unreadable := self.unreadable(slices):
            lines.append(f"  left out: {unreadable:,} {UNREADABLE}")
        others = Counter[str]()
        for one in self.unlabelled.corpora:
            others += Counter({kind: n for kind, n in one.corpus["passed_over"].items() if kind != UNREADABLE})
        return "\n".join([*lines, *([f"  passed over: {describe_passed_over(others)}"] if others else [])])


def load_unlabelled(config: TrainConfig) -> tuple[SplitCorpus, ...]:
    """The corpora of --unlabelled, in order, read as the corpus is. Raises InputError or CorpusError, naming which."""
    return tuple(_load(source, config) for source in config.unlabelled)


def _load(source: str, config: TrainConfig) -> SplitCorpus:
    try:
        corpus = load_corpus(source, config.corpus_options.without_labels())
    except CorpusError as error:
        raise CorpusError([f"--unlabelled {printable(source)}: {problem}" for problem in error.problems]) from error
    except InputError as error:
        raise InputError(f"--unlabelled: {error}") from error
    return SplitCorpus(DatasetDict(corpus.dataset), public_report(corpus.report), {"name": ""})


def settle_unlabelled(
    corpora: Sequence[SplitCorpus], labelled: Sequence[SplitCorpus], config: TrainConfig, cache: Path
) -> Unlabelled:
    """The corpora with what they share with the labelled ones."""
    reading = config.reading
    how: dict[str, Any] = {"window": reading.window, "frame": reading.frame, "modality": config.modality}
    kin = find_kin([*labelled, *corpora], cache=cache, alike=config.audit, **how)
    return Unlabelled(tuple(corpora), kin, config.audit)


def held_out(number: int, splits: Mapping[str, Any]) -> list[tuple[int, str]]:
    """The validation and test images of a labelled corpus, of which nothing may be learnt."""
    return [(number, source) for name in ("validation", "test") for source in splits[name]["source"]]
