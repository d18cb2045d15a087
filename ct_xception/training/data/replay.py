"""The corpora that a checkpoint was trained on before, loaded again: what is mixed into training, and tested once more.

A network that goes on with new slices alone forgets the old ones (catastrophic forgetting; replay is the plain remedy,
Rolnick et al. 2019, arXiv:1811.11682). Each old corpus gets the very splits that it was trained by, so that no image
of its old test part is learnt now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.audit.audit import look_over
from ct_xception.audit.overlap import SplitCorpus
from ct_xception.corpus.load import load_corpus, public_report
from ct_xception.corpus.split import PSEUDO_PATIENTS, split_corpus
from ct_xception.errors import InputError, printable
from ct_xception.serving.checkpoint import open_checkpoint, read_provenance
from ct_xception.training.data.cache import CachedSlices, prepare_slices

if TYPE_CHECKING:
    from ct_xception.audit.survey import Survey
    from ct_xception.corpus.load import Corpus
    from ct_xception.training.options import TrainConfig


@dataclass(frozen=True, eq=False)
class OldCorpus(SplitCorpus):
    """A corpus of before with its splits and the reports on them, as a checkpoint carries them.

    `known`: whether the starting checkpoint says that it was trained on just this corpus by just these splits.
    """

    known: bool = False


def load_old(config: TrainConfig, label_names: Sequence[str], cache: Path) -> tuple[OldCorpus, ...]:
    """The corpora of `--replay`, in order. Raises `InputError` where classes or splits are not those of before.

    What the first process had to look for in the images, the others find under `cache`, as does a run that goes on.
    """
    if not config.replay:
        return ()
    assert config.init is not None  # --replay is refused without it
    past = known_splits(read_provenance(open_checkpoint(config.init).folder))
    return tuple(_load(config, source, label_names, past, cache) for source in config.replay)


def known_splits(provenance: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """{hash of a corpus: how it was split} of every version that a checkpoint's provenance tells of."""
    versions = [*provenance.get("lineage", []), provenance]
    told = [version for version in versions if version.get("corpus", {}).get("hash")]
    return {version["corpus"]["hash"]: version.get("split", {}) for version in told}


def _load(
    config: TrainConfig, source: str, label_names: Sequence[str], past: Mapping[str, Mapping[str, Any]], cache: Path
) -> OldCorpus:
    # The names of classes and splits that the options settle are the new corpus's.
    own = replace(config.corpus_options, class_map={}, split_map={}, exclude=(), excludable=False, class_level=None)
    corpus = load_corpus(source, own)
    if list(corpus.label_names) != list(label_names):
        raise InputError(
            f"--replay: {printable(source)} has the classes {', '.join(corpus.label_names)}, and --corpus has "
            f"{', '.join(label_names)}; replay a corpus of the same classes."
        )
    stated = past.get(corpus.report["hash"], {})
    fractions = stated.get("fractions") or (
        1 - config.valid_fraction - config.test_fraction,
        config.valid_fraction,
        config.test_fraction,
    )
    survey, patients = _pseudo_patients(config, corpus, stated, cache)
    splits, split, report = split_corpus(corpus, patients, fractions=fractions, seed=stated.get("seed", config.seed))
    if stated and stated.get("name") != split["name"]:
        raise InputError(
            f"--replay: {printable(source)} cannot be split again as --init was trained by (split {split['name']}, not "
            f"{stated.get('name')}), so its test images may have been trained on; give the same columns and patterns."
        )
    return OldCorpus(splits, public_report(report), split, survey, bool(stated))


def _pseudo_patients(
    config: TrainConfig, corpus: Corpus, stated: Mapping[str, Any], cache: Path
) -> tuple[Survey | None, Mapping[str, str] | None]:
    """The survey and the pseudo-patients by which the split was drawn; neither where it was drawn otherwise."""
    if stated.get("groups_origin") != PSEUDO_PATIENTS:
        return None, None
    survey, twins = look_over(corpus, window=config.reading.window, frame=config.frame, cache=cache, keep=True)
    return survey, dict(zip(survey.sources, twins.patients, strict=True))


def split_of(split: Mapping[str, Any], old: Sequence[OldCorpus]) -> str:
    """What names the splits of all corpora that a run trains on together."""
    return "+".join([split["name"], *(one.split["name"] for one in old)])


def mix_in(
    own: CachedSlices, old: Sequence[OldCorpus], name: str, directory: Path, config: TrainConfig
) -> CachedSlices:
    """The split `name` of the new corpus with as many slices of the old ones as `--replay_share` asks for.

    Which ones is drawn once, by the seed, each at most once, so a share that the old corpora cannot fill is not filled.
    """
    if not old or not config.replay_share:
        return own
    pools = [
        prepare_slices(one.splits[name], directory, config.reading, description=f"reading {name} of before")
        for one in old
    ]
    sizes = [len(pool) for pool in pools]
    chosen = np.random.default_rng([config.seed, len(own)]).permutation(sum(sizes))[
        : replayed(len(own), sum(sizes), config)
    ]
    starts = np.cumsum([0, *sizes])
    parts = [own]
    for pool, start, stop in zip(pools, starts[:-1], starts[1:], strict=True):
        rows = np.sort(chosen[(chosen >= start) & (chosen < stop)]) - start
        parts += [pool.take(rows.tolist())] if rows.size else []
    return CachedSlices.join(parts)


def replayed(new: int, available: int, config: TrainConfig) -> int:
    """How many old slices stand beside `new` new ones."""
    return min(available, round(config.replay_share / (1 - config.replay_share) * new))


def replay_record(splits: Mapping[str, Any], old: Sequence[OldCorpus], config: TrainConfig) -> dict[str, Any]:
    """What the provenance says of the replay: from which corpora, and how many of their training slices."""
    new, available = len(splits["train"]), sum(len(one.splits["train"]) for one in old)
    count = replayed(new, available, config) if old else 0
    corpora = [
        {
            "corpus": {key: one.corpus.get(key) for key in ("source", "kind", "hash")},
            "split": {key: value for key, value in one.split.items() if key != "sources"},
            "known": one.known,
        }
        for one in old
    ]
    return {"corpora": corpora, "images": count, "available": available, "share": count / (new + count)}
