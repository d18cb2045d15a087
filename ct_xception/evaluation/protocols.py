"""The ways in which one network is tested, side by side: its own split, that split without twins, and out of fold.

The audit says which test images training has seen; cross-validation leaves one answer an image in the run folder; the
simple rules answer the same images. Here they become `Part`s, which the evaluator measures alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

from ct_xception.audit.twins.twins import twin_of_other_split
from ct_xception.checkpoint import FOLD_PLAN, PREDICTIONS
from ct_xception.checkpoint_files import PoolingRule
from ct_xception.corpus.cells import tabular_of
from ct_xception.corpus.split import deduplicated_test
from ct_xception.errors import CheckpointError
from ct_xception.evaluation.answers import PREDICTOR, Answers, Items
from ct_xception.evaluation.baselines import out_of_fold_baselines, run_baselines
from ct_xception.evaluation.labels_at_odds import Held, hold_answers
from ct_xception.files import read_record
from ct_xception.metrics import PooledBy

if TYPE_CHECKING:
    from datasets import DatasetDict

    from ct_xception.audit.report import Audit

DEDUPLICATED, GROUPED = "deduplicated", "grouped"
TITLES = {
    DEDUPLICATED: "the test split without images that have a twin in training or validation",
    GROUPED: "cross-validation by group, every image answered by a network that saw none of its group",
}
NO_AUDIT = "the corpus was not audited"

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Part:
    """N items, what each path answered, and what the simple rules did: {name: probabilities (N, K)}.

    `traits` {name: N values} part the items into subgroups, of window, size or scanner, where these are known.
    Of a cross-validation, `fold` (N,) says whose network answered, from 1, and `pooling` how it pools: {fold: rule}.
    """

    items: Items
    paths: Mapping[str, Answers]
    baselines: Mapping[str, Floats] = field(default_factory=dict)
    fold: NDArray[np.intp] | None = None
    pooling: Mapping[int, PoolingRule | PooledBy | None] = field(default_factory=dict)
    traits: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def select(self, mask: NDArray[np.bool_]) -> Part:
        """The items where `mask` (N,) is true."""
        items = self.items.select(mask)
        paths = {path: answers.select(mask, items.sources) for path, answers in self.paths.items()}
        baselines = {name: values[mask] for name, values in self.baselines.items()}
        traits = {name: np.asarray(values)[mask].tolist() for name, values in self.traits.items()}
        return Part(items, paths, baselines, None if self.fold is None else self.fold[mask], self.pooling, traits)

    def answered(self) -> tuple[Floats, NDArray[np.intp], list[str]]:
        """Probabilities (M, K), labels (M,) and groups of the M items that the predictor answered."""
        kept = self.paths[PREDICTOR].answered
        items = self.items.select(kept)
        return self.paths[PREDICTOR].probabilities[kept], items.labels, items.groups


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """A cross-validation: every item with the answer of the fold that left it out.

    `record` is folds.json: name, k, seed, groups_origin, folds.
    """

    part: Part
    record: Mapping[str, Any]

    @property
    def fold(self) -> NDArray[np.intp]:
        """The fold of each item (N,), from 1."""
        assert self.part.fold is not None
        return self.part.fold


@dataclass(frozen=True, eq=False)
class Protocols:
    """What is known beside the answers to the test split.

    `has_twin` (M,) marks the test items with a twin in training or validation, and `deduplicated` describes the split
    without them. `baselines` {name: (M, K)} are the simple rules on the test split, `skipped` {name: reason} says which
    there are none of. `audit` may be published. `held` are answers to hold the whole corpus's labels against.
    """

    has_twin: NDArray[np.bool_] | None = None
    deduplicated: Mapping[str, Any] | None = None
    out_of_fold: OutOfFold | None = None
    baselines: Mapping[str, Floats] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    audit: Mapping[str, Any] | None = None
    held: Held | None = None


def find_protocols(
    audit: Audit | None,
    splits: DatasetDict,
    *,
    folds: Path | None = None,
    features: NDArray | None = None,
    skipped: Mapping[str, str] | None = None,
    seed: int = 0,
    elsewhere: NDArray[np.bool_] | None = None,
) -> Protocols:
    """Everything that is to be measured beside the own test split.

    `splits` are those of training, with settled groups. `folds` is the folder of a cross-validation that is done.
    `elsewhere` (M,) marks test items with a twin in what else was trained on.
    `features` (N, C) of the frozen starting network, in the order of the audit's survey, and `skipped` why not.
    """
    out_of_fold = read_out_of_fold(folds, splits["test"].features["label"].names) if folds is not None else None
    grouped = None if out_of_fold is None else (out_of_fold.part.items, out_of_fold.part.paths[PREDICTOR])
    if audit is None:
        held = hold_answers(grouped, None, {}, None, seed)
        return Protocols(out_of_fold=out_of_fold, skipped={"all": NO_AUDIT}, held=held)
    has_twin = twin_mask(audit, splits) | (False if elsewhere is None else elsewhere)
    return Protocols(
        has_twin=has_twin,
        deduplicated=deduplicated_test(splits, has_twin)[1],
        out_of_fold=_with_baselines(out_of_fold, audit, splits, features, seed),
        baselines=_own_baselines(audit, splits, features, seed),
        skipped=dict(skipped or {}),
        audit=audit.public(),
        held=hold_answers(grouped, audit.survey, audit.patients, features, seed),
    )


def twin_mask(audit: Audit, splits: DatasetDict) -> NDArray[np.bool_]:
    """Which items of the test split (M,) have a twin in training or validation, by the splits that training used.

    The audit saw the splits that the corpus came with; a split that was carved since is told to it here.
    """
    split_of = {source: split for split, part in splits.items() for source in part["source"]}
    survey = dataclasses.replace(audit.survey, splits=[split_of[source] for source in audit.survey.sources])
    found = twin_of_other_split(audit.twins, survey, wanted="test", others=("train", "validation"))
    marked = dict(zip(survey.sources, np.asarray(found, bool).tolist(), strict=True))
    return np.array([marked[source] for source in splits["test"]["source"]], dtype=bool)


def _rows(audit: Audit, sources: Sequence[str]) -> NDArray[np.intp]:
    """The survey's rows of these sources, in their order."""
    place = {source: row for row, source in enumerate(audit.survey.sources)}
    return np.array([place[source] for source in sources], dtype=np.intp)


def _patients(audit: Audit) -> list[str]:
    return [audit.patients[source] for source in audit.survey.sources]


def _own_baselines(audit: Audit, splits: DatasetDict, features: NDArray | None, seed: int) -> dict[str, Floats]:
    """The simple rules, fitted on train and asked about test (M,)."""
    train, test = (_rows(audit, list(splits[name]["source"])) for name in ("train", "test"))
    told: dict[str, Any] = {"features": features, "rows": _beside(audit, splits)}
    return run_baselines(audit.survey, train, test, groups=_patients(audit), seed=seed, **told)


def _beside(audit: Audit, splits: DatasetDict) -> list[dict[str, str]]:
    """The rows of the table beside the images, in the survey's order; empty where there are none."""
    rows = {
        row["source"]: tabular_of(row)
        for part in splits.values()
        if "tabular" in part.column_names
        for row in part.select_columns(["source", "tabular"])
    }
    return [rows.get(source, {}) for source in audit.survey.sources] if rows else []


def _with_baselines(
    out_of_fold: OutOfFold | None, audit: Audit, splits: DatasetDict, features: NDArray | None, seed: int
) -> OutOfFold | None:
    """The cross-validation with the simple rules beside it, each image answered by rules that saw none of its fold."""
    if out_of_fold is None:
        return None
    rows, fold = _rows(audit, out_of_fold.part.items.sources), out_of_fold.fold
    pairs = [(rows[fold != number], rows[fold == number]) for number in np.unique(fold)]
    told: dict[str, Any] = {"features": features, "rows": _beside(audit, splits)}
    found = out_of_fold_baselines(audit.survey, pairs, groups=_patients(audit), seed=seed, **told)
    part = dataclasses.replace(out_of_fold.part, baselines={name: values[rows] for name, values in found.items()})
    return dataclasses.replace(out_of_fold, part=part)


def read_out_of_fold(folder: Path, label_names: Sequence[str]) -> OutOfFold:
    """The answers of a finished cross-validation, from its folder. Raises `CheckpointError` where it is not whole."""
    try:
        record = read_record(folder / FOLD_PLAN)
        table = pyarrow.parquet.read_table(folder / PREDICTIONS).to_pydict()
        probabilities = np.array([table[f"p {name}"] for name in label_names], dtype=float).T  # None becomes NaN
        labels = np.array([list(label_names).index(label) for label in table["label"]], np.intp)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: the cross-validation cannot be read ({error}); run it again.") from error
    reasons = {source: why for source, why in zip(table["source"], table["refused"], strict=True) if why is not None}
    items = Items(labels, table["group"], table["source"], table.get("series", []))
    stated = {number: fold.get("pooling") for number, fold in enumerate(record["folds"], 1)}
    pooling = {number: PoolingRule.of(rule) if rule else None for number, rule in stated.items()}
    fold = np.array(table["fold"], np.intp)
    told = np.array(table.get("attention", []), dtype=float)  # of folds before it was learnt there is none
    attention = told if np.isfinite(told).any() else None
    answers = Answers(probabilities, reasons, attention=attention)
    part = Part(items, {PREDICTOR: answers}, fold=fold, pooling=pooling)
    return OutOfFold(part, record)
