"""How a checkpoint answers when its test slices are changed as other scanners would change them.

    tried = try_changes(evaluation, classifier, answers, share)
    block = robustness_figures(tried, label_names, rule, seed)

Some test slices, evenly over the classes, are each changed in every way of `changes`, at five severities, and in those
of `value_changes` where their files hold what these need. The one number is the accuracy over all of `changes` and
severities as a share of that on the same slices unchanged; it can be compared between checkpoints of one test split
where seed and number of slices are the same.
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
from ct_xception.evaluation.shift.value_changes import VALUE_CHANGES, Behind, Behinds, ValueChange
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
VALUE_KEYS = tuple((name, severity) for name in VALUE_CHANGES for severity in SEVERITIES)
NOT_CHANGED = "its file does not hold what this change needs"
BATCH = 16  # changed slices answered at once

Floats = NDArray[np.float64]
_Said = tuple[Sequence[float], str | None]  # probabilities, and the gate's verdict


@dataclass(frozen=True, eq=False)
class Tried:
    """N items, and what was answered to each unchanged and changed: {(change, severity): answers}; CLEAN has 0.

    Of `value_changes` only those that some item allowed are there; to the others the item has no answer.
    """

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
    reading: dict[str, Any] = {"window": evaluation.window, "frame": evaluation.frame}
    contract = classifier.contract
    window = evaluation.window or contract.window
    behinds = Behinds(evaluation.dataset, window=window, frame=evaluation.frame, modality=contract.modality)
    found = {
        row: _ask(classifier, slice_, behinds.of(row), _seed(evaluation.seed, items.sources[row]))
        for row, _, slice_ in read_rows(classifier, evaluation.dataset, rows, **reading, progress=title)
    }
    gathered = {row: said for part in share.gather(found) for row, said in part.items() if said is not None}
    kept = sorted(gathered)
    chosen = items.select(np.isin(np.arange(len(items.sources)), kept))
    asked = [*KEYS, *(key for key in VALUE_KEYS if any(key in said for said in gathered.values()))]
    k = len(classifier.label_names)
    return Tried(chosen, {key: _answers([gathered[row].get(key) for row in kept], chosen, k) for key in asked})


def _seed(seed: int, source: str) -> list[int]:
    """A slice's own seed, so that it is changed alike whatever others are chosen with it."""
    return [seed, zlib.crc32(source.encode("utf-8", "surrogateescape"))]


def _answers(said: Sequence[_Said | None], items: Items, k: int) -> Answers:
    """The answers to one change; what an item's file does not hold is no answer, with the reason."""
    pairs = list(zip(items.sources, said, strict=True))
    verdicts = {source: one[1] for source, one in pairs if one is not None and one[1] is not None}
    silent = {source: NOT_CHANGED for source, one in pairs if one is None}
    return Answers(np.array([[np.nan] * k if one is None else one[0] for one in said], np.float64), silent, verdicts)


def _ask(
    classifier: Classifier, slice_: Slice, behind: Behind | None, seed: Sequence[int]
) -> dict[tuple[str, int], _Said] | None:
    """(probabilities, the gate's verdict) unchanged and by (change, severity); None where any is not answered."""
    keys, found = list[tuple[str, int]](), dict[tuple[str, int], _Said]()

    def told() -> Iterator[Slice]:
        for key, one in _variants(slice_, behind, seed):
            keys.append(key)
            yield one

    for number, answer in enumerate(classifier.predict_many(told(), batch_size=BATCH)):
        if isinstance(answer, SliceError):
            return None
        scores = [answer.probabilities[name] for name in classifier.label_names]
        found[keys[number]] = (scores, None if answer.gate is None else answer.gate.verdict)
    return found


def _variants(slice_: Slice, behind: Behind | None, seed: Sequence[int]) -> Iterator[tuple[tuple[str, int], Slice]]:
    """The slice as it is, and changed in every way that its file allows, lazily: they are many."""
    yield (CLEAN, 0), slice_
    for number, (name, change) in enumerate(CHANGES.items()):
        for severity in SEVERITIES:
            # One draw a change: severities differ by their amount, not by their direction.
            rng = np.random.default_rng([*seed, number])
            yield (name, severity), changed_slice(slice_, change, severity, rng)
    if behind is not None:
        yield from _behind_variants(slice_, behind, seed)


def _behind_variants(slice_: Slice, behind: Behind, seed: Sequence[int]) -> Iterator[tuple[tuple[str, int], Slice]]:
    """The changes of values that can be made at every severity."""
    for number, (name, change) in enumerate(VALUE_CHANGES.items(), len(CHANGES)):
        made = [change(behind, severity, np.random.default_rng([*seed, number])) for severity in SEVERITIES]
        whole = [pixels for pixels in made if pixels is not None]
        if len(whole) == len(SEVERITIES):
            for severity, pixels in zip(SEVERITIES, whole, strict=True):
                yield (name, severity), slice_.replace_pixels(pixels)


def changed_slice(slice_: Slice, change: Named, severity: int, rng: np.random.Generator) -> Slice:
    changed = slice_.replace_pixels(change(slice_.pixels, severity, rng))
    return replace(changed, body=None) if change.moves else changed  # the mask from HU says where the body was


def robustness_figures(
    tried: Tried, label_names: Sequence[str], rule: ConformalRule | None, seed: int
) -> RobustnessMetrics:
    """The block `robustness` of metrics.json. `rule` is the checkpoint's conformal one, None where it promises no sets.

    `clean` and each of `changes` hold accuracy, calibration error (`ece`), coverage of the sets and the share that the
    input gate refused, the latter three lists by severity; `relative` is the accuracy over the severities as a share of
    that on the same slices unchanged, of each change and, at the top, of all of `changes`. Changes of values count the
    slices that allowed them, and stand in `not_measurable` where none did. Intervals keep groups whole.
    """
    cells = {key: _cell(one, tried.items, label_names, rule, seed) for key, one in tried.answers.items()}
    changes = dict[str, ChangeMetrics]()
    every: dict[str, Named | ValueChange] = {**CHANGES, **VALUE_CHANGES}
    for name, change in every.items():
        if (name, SEVERITIES[0]) not in cells:
            continue
        own = [cells[name, severity] for severity in SEVERITIES]
        changes[name] = ChangeMetrics(
            title=change.title,
            amounts=tuple(change.amounts),
            unit=change.unit,
            **{key: tuple(cell[key] for cell in own) for key in own[0]},
            relative=_relative(tried, [(name, one) for one in SEVERITIES], seed),
        )
    lacking = {change.title: change.lacks for name, change in VALUE_CHANGES.items() if name not in changes}
    return RobustnessMetrics(
        n=len(tried.items.groups),
        n_groups=len(set(tried.items.groups)),
        seed=seed,
        relative=_relative(tried, KEYS[1:], seed),
        clean=CleanMetrics(**cells[CLEAN, 0]),
        changes=changes,
        not_measurable=lacking,
    )


def _cell(
    answers: Answers,
    items: Items,
    label_names: Sequence[str],
    rule: ConformalRule | None,
    seed: int,
) -> dict[str, Any]:
    """The figures of one change at one severity, of the items that allowed it."""
    items, scores = items.select(answers.answered), answers.probabilities[answers.answered]
    labels, group = items.labels, group_indices(items.groups, len(items.groups))
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


def _relative(tried: Tried, keys: Sequence[tuple[str, int]], seed: int) -> Metric:
    """Accuracy over several changes as a share of that on the same slices unchanged; both move in each resample."""
    kept = tried.answers[keys[0]].answered
    items = tried.items.select(kept)
    group = group_indices(items.groups, len(items.groups))

    def hits(key: tuple[str, int]) -> Floats:
        return (tried.answers[key].probabilities[kept].argmax(axis=1) == items.labels).astype(float)

    clean, changed = hits((CLEAN, 0)), np.mean([hits(key) for key in keys], axis=0)

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
