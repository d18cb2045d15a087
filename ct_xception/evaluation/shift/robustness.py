"""How a checkpoint answers when its test slices are changed as other scanners would change them.

    tried = try_changes(evaluation, classifier, answers, share)
    block = robustness_figures(tried, label_names, rule, seed)

Some test slices, evenly over the classes, are each changed in every way of `changes`, at five severities. The one
number is the accuracy over all changes and severities as a share of that on the same slices unchanged; it can be
compared between checkpoints of one test split where seed and number of slices are the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint_files import ConformalRule, Metric
from ct_xception.errors import SliceError
from ct_xception.evaluation.answers import ALONE, Answers, Items, Share, read_rows
from ct_xception.evaluation.explanations import sample
from ct_xception.evaluation.predictions import Names, prediction_table, write_tables
from ct_xception.evaluation.protocols import Part
from ct_xception.evaluation.shift.changes import CHANGES, SEVERITIES, Named
from ct_xception.metrics import ChangeMetrics, CleanMetrics, RobustnessMetrics
from ct_xception.serving.gate import REFUSED
from ct_xception.statistics.calibration import calibration_figures
from ct_xception.statistics.conformal import set_members
from ct_xception.statistics.intervals import bootstrap, group_indices, proportion_figure

if TYPE_CHECKING:
    from ct_xception.evaluation.evaluation import Evaluation
    from ct_xception.imaging.slice import Slice
    from ct_xception.serving.classifier import Classifier

CLEAN = "clean"
KEYS = ((CLEAN, 0), *((name, severity) for name in CHANGES for severity in SEVERITIES))
BATCH = 16  # changed slices answered at once

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tried:
    """N items, and what was answered to each unchanged and changed: {(change, severity): answers}; CLEAN has 0."""

    items: Items
    answers: Mapping[tuple[str, int], Answers] = field(default_factory=dict)


def try_changes(evaluation: Evaluation, classifier: Classifier, answers: Answers, share: Share = ALONE) -> Tried | None:
    """Change some of the slices that were answered, and ask again; None where none is to be tried.

    `evaluation.robustness` is how many. Each process changes its share, and is told what all found.
    """
    if not evaluation.robustness:
        return None
    items = Items.of(evaluation.dataset)
    rows = sample(items.labels, answers.answered, evaluation.robustness, evaluation.seed)[share.number :: share.count]
    title = "changed slices" if evaluation.progress else None
    reading: dict[str, Any] = {"window": evaluation.window, "frame": evaluation.frame, "progress": title}
    found = {
        row: _ask(classifier, slice_, _seed(evaluation.seed, items.sources[row]))
        for row, _, slice_ in read_rows(classifier, evaluation.dataset, rows, **reading)
    }
    gathered = {row: said for part in share.gather(found) for row, said in part.items()}
    kept = sorted(row for row in gathered if gathered[row] is not None)
    mask = np.isin(np.arange(len(items.sources)), kept)
    chosen = items.select(mask)
    return Tried(chosen, {key: _answers([gathered[row][k] for row in kept], chosen) for k, key in enumerate(KEYS)})


def _seed(seed: int, source: str) -> list[int]:
    """A slice's own seed, so that it is changed alike whatever others are chosen with it."""
    return [seed, zlib.crc32(source.encode("utf-8", "surrogateescape"))]


def _answers(said: Sequence[tuple[Sequence[float], str | None]], items: Items) -> Answers:
    verdicts = {source: one[1] for source, one in zip(items.sources, said, strict=True) if one[1] is not None}
    return Answers(np.array([one[0] for one in said], np.float64), {}, verdicts)


def _ask(classifier: Classifier, slice_: Slice, seed: Sequence[int]) -> list[tuple[list[float], str | None]] | None:
    """(probabilities, the gate's verdict) unchanged, then by change and severity; None where any is not answered."""
    found: list[tuple[list[float], str | None]] = []
    for answer in classifier.predict_many(_variants(slice_, seed), batch_size=BATCH):
        if isinstance(answer, SliceError):
            return None
        told = [answer.probabilities[name] for name in classifier.label_names]
        found.append((told, None if answer.gate is None else answer.gate.verdict))
    return found


def _variants(slice_: Slice, seed: Sequence[int]) -> Iterator[Slice]:
    yield slice_
    for number, change in enumerate(CHANGES.values()):
        for severity in SEVERITIES:
            # One draw a change: severities differ by their amount, not by their direction.
            rng = np.random.default_rng([*seed, number])
            yield changed_slice(slice_, change, severity, rng)


def changed_slice(slice_: Slice, change: Named, severity: int, rng: np.random.Generator) -> Slice:
    changed = slice_.replace_pixels(change(slice_.pixels, severity, rng))
    return replace(changed, body=None) if change.moves else changed  # the mask from HU says where the body was


def robustness_figures(
    tried: Tried, label_names: Sequence[str], rule: ConformalRule | None, seed: int
) -> RobustnessMetrics:
    """The block `robustness` of metrics.json. `rule` is the checkpoint's conformal one, None where it promises no sets.

    `clean` and each of `changes` hold accuracy, calibration error (`ece`), coverage of the sets and the share that the
    input gate refused, the latter three lists by severity; `relative` is the accuracy over the severities as a share of
    that on the unchanged slices, of each change and, at the top, of all. Intervals keep groups whole.
    """
    labels, groups = tried.items.labels, tried.items.groups
    group = group_indices(groups, len(groups))
    hits = {key: one.probabilities.argmax(axis=1) == labels for key, one in tried.answers.items()}
    cells = {key: _cell(one, tried.items, label_names, group, rule, seed) for key, one in tried.answers.items()}
    changes = dict[str, ChangeMetrics]()
    for name, change in CHANGES.items():
        own = [cells[name, severity] for severity in SEVERITIES]
        changes[name] = ChangeMetrics(
            title=change.title,
            amounts=tuple(change.amounts),
            unit=change.unit,
            **{key: tuple(cell[key] for cell in own) for key in own[0]},
            relative=_relative(hits, [(name, one) for one in SEVERITIES], group, seed),
        )
    return RobustnessMetrics(
        n=len(groups),
        n_groups=len(set(groups)),
        seed=seed,
        relative=_relative(hits, KEYS[1:], group, seed),
        clean=CleanMetrics(**cells[CLEAN, 0]),
        changes=changes,
    )


def _cell(
    answers: Answers,
    items: Items,
    label_names: Sequence[str],
    group: NDArray[np.intp],
    rule: ConformalRule | None,
    seed: int,
) -> dict[str, Any]:
    scores, labels = answers.probabilities, items.labels
    hits = scores.argmax(axis=1) == labels
    found = {"accuracy": proportion_figure(hits, group, "no item")}
    found["ece"] = calibration_figures(scores, labels, items.groups, seed=seed, resamples=300).ece
    if rule is not None and (rule.threshold is not None or rule.thresholds is not None):
        inside = set_members(scores, rule, label_names)[np.arange(labels.size), labels]
        found["coverage"] = proportion_figure(inside, group, "no item")
    if answers.verdicts:
        refused = np.array([answers.verdicts.get(source) == REFUSED for source in items.sources], bool)
        found["refused"] = proportion_figure(refused, group, "no item")
    return found


def _relative(
    hits: Mapping[tuple[str, int], NDArray[np.bool_]],
    keys: Sequence[tuple[str, int]],
    group: NDArray[np.intp],
    seed: int,
) -> Metric:
    """Accuracy over several changes as a share of that on the unchanged slices; both move in each resample."""
    clean, changed = hits[CLEAN, 0].astype(float), np.mean([hits[key] for key in keys], axis=0)

    def share(weights: Floats) -> Floats:
        right = weights @ clean
        return np.divide(weights @ changed, right, out=np.full(len(weights), np.nan), where=right > 0)

    return bootstrap(share, group, "no unchanged slice was answered right", seed=seed)


def write_tried(path: Path, tried: Tried, label_names: Sequence[str], names: Names) -> None:
    """One row an item, change and severity: as predictions.parquet, with the change as `path`, and `severity`."""
    n = len(tried.items.sources)
    tables = [
        prediction_table(Part(tried.items, {name: one}), label_names, names, severity=np.full(n, severity, np.int64))
        for (name, severity), one in tried.answers.items()
    ]
    write_tables(path, tables)
