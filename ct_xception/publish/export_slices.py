"""The slices that an export is measured on, and those that int8 is calibrated on: never the same ones.

The checkpoint's own corpus where it is at hand, split again as training split it: the test split measures, the training
split calibrates. Whether a file gives the network's logits can be seen on any slices, and so on the phantom's, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import concatenate_datasets

from ct_xception.audit.audit import audit_corpus
from ct_xception.corpus.load import load_corpus
from ct_xception.corpus.split import PSEUDO_PATIENTS, split_corpus
from ct_xception.corpus.summary import is_generated
from ct_xception.errors import InputError, printable

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from ct_xception.corpus.load import Corpus, CorpusOptions

CHECKED = 200  # slices, or as many as the corpus has, on which the logits are compared
CALIBRATED = 256  # training slices, or as many as there are
PHANTOM = "phantom:patients=50"  # 200 slices


@dataclass(frozen=True, eq=False)
class ExportSlices:
    """`checked` are the items that every runtime answers, of which the first `tested` are the test split.

    `calibration` are training items, None where the corpus is not the checkpoint's. `title` says what `checked` are.
    `sources` are the names of all items of the corpus, which are published only if not `anonymous`; `split` is the
    name of its split, `label_names` are its classes. `options` hold the window and frame that all are read with.
    """

    checked: Dataset
    tested: int
    calibration: Dataset | None
    title: str
    sources: tuple[str, ...]
    split: str | None
    anonymous: bool
    label_names: list[str]
    options: CorpusOptions


def find_slices(
    provenance: Mapping[str, Any],
    label_names: Sequence[str],
    corpus: str | None,
    options: CorpusOptions,
    *,
    calibrate: bool,
) -> ExportSlices:
    """The slices for a checkpoint of this provenance and classes; `corpus` None takes its own where it is a phantom.

    Raises InputError where `calibrate` asks for training slices and the corpus at hand has none of the checkpoint's.
    """
    trained = provenance.get("corpus", {})
    drawn = is_generated(trained)
    if corpus is None and calibrate and not drawn:
        raise InputError("int8: is calibrated on the slices of training; name the corpus of training with --corpus.")
    source = corpus or (str(trained["source"]) if drawn else PHANTOM)
    loaded = load_corpus(source, options)
    same = trained.get("hash") in (None, loaded.report["hash"]) and loaded.label_names == list(label_names)
    if same and (drawn or corpus is not None):
        return _of_training(loaded, provenance, options, drawn)
    if calibrate:
        raise InputError(
            f"{printable(source)}: is not the corpus that the checkpoint was trained on, whose training slices int8 is "
            "calibrated on; name that one with --corpus and the options of training."
        )
    return _of_another(loaded, options, f"slices of {printable(source)}")


def _of_another(corpus: Corpus, options: CorpusOptions, title: str) -> ExportSlices:

    items = concatenate_datasets(list(corpus.dataset.values()))
    chosen = _spread(items, CHECKED)
    return ExportSlices(chosen, 0, None, title, tuple(chosen["source"]), None, True, corpus.label_names, options)


def _of_training(corpus: Corpus, provenance: Mapping[str, Any], options: CorpusOptions, drawn: bool) -> ExportSlices:

    splits, split = _split_as_training_did(corpus, provenance, options)
    tested = len(splits["test"])
    every = concatenate_datasets([splits[name] for name in ("test", "validation", "train")])
    checked = every.select(range(min(len(every), max(tested, CHECKED))))
    title = "test slices" if len(checked) == tested else "test, validation and training slices"
    sources = tuple(source for names in split["sources"].values() for source in names)
    calibration = _spread(splits["train"], CALIBRATED)
    names = corpus.label_names
    return ExportSlices(checked, tested, calibration, title, sources, split["name"], not drawn, names, options)


def _split_as_training_did(
    corpus: Corpus, provenance: Mapping[str, Any], options: CorpusOptions
) -> tuple[DatasetDict, dict[str, Any]]:
    """The splits with the name that the checkpoint states; an audit is run only where they cannot be had without."""
    stated = provenance.get("split", {})
    fractions, seed = stated.get("fractions", (0.7, 0.15, 0.15)), stated.get("seed", 0)
    splits, split, _ = split_corpus(corpus, None, fractions=fractions, seed=seed)
    wanted = stated.get("name", split["name"])
    if split["name"] != wanted and stated.get("groups_origin") == PSEUDO_PATIENTS:
        audit = audit_corpus(corpus, window=options.window, frame=options.frame)
        splits, split, _ = split_corpus(corpus, audit.patients, fractions=fractions, seed=seed)
    if split["name"] != wanted:
        raise InputError(
            "--corpus: its split cannot be made again as training made it, so its test slices may have been trained "
            "on; give the columns and patterns of training."
        )
    return splits, split


def _spread(items: Dataset, count: int) -> Dataset:
    """So many items, evenly spread over the whole."""
    return items.select(np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)))
